//! The module `task` as the models see it: the state word, the record of regions, and nothing around
//! them.
//!
//! Loom cannot see into the primitives that the cell, the lists and the handles are built on, so
//! under `--cfg heist_loom` only the word, the record of regions and the identities are compiled. The
//! models put loom's cells where the future, the output and the join waker are, and make the same
//! calls as `raw.rs`, `join.rs` and `list.rs`.

#![allow(
    dead_code,
    reason = "the models call what can race, not every method of the word"
)]

mod id;
pub(crate) mod region;
pub(crate) mod state;

#[cfg(test)]
#[path = "tests/models.rs"]
mod models;
#[cfg(test)]
#[path = "tests/region_models.rs"]
mod region_models;

/// Memory that somebody frees: every use reads it, the free writes it, and loom finds the two that
/// are not ordered.
#[cfg(test)]
pub(crate) struct Memory(loom::cell::UnsafeCell<bool>);

// SAFETY: loom checks every access, which is the point of the models.
#[cfg(test)]
unsafe impl Sync for Memory {}
// SAFETY: as for `Sync`.
#[cfg(test)]
unsafe impl Send for Memory {}

#[cfg(test)]
impl Memory {
    pub(crate) fn new() -> Memory {
        Memory(loom::cell::UnsafeCell::new(true))
    }

    /// A use.
    pub(crate) fn touch(&self) {
        // SAFETY: loom checks that no write is concurrent.
        self.0
            .with(|alive| assert!(unsafe { *alive }, "used after it was freed"));
    }

    pub(crate) fn free(&self) {
        self.0.with_mut(|alive| {
            // SAFETY: loom checks that no other access is concurrent.
            let alive = unsafe { &mut *alive };
            assert!(std::mem::replace(alive, false), "freed twice");
        });
    }
}
