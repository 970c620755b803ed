//! The module `task` as loom's models see it: the state word, the record of regions, the place for one
//! task, and stand-ins for what is around them.
//!
//! The whole cell is too large for loom, so under `--cfg heist_loom` only these are compiled. The
//! models put loom's cells where the future, the output and the join waker are, and make the same
//! calls as `raw.rs`, `join.rs` and `list.rs`. Shuttle's models run all of it.

mod id;
mod place;
#[path = "model_raw.rs"]
pub(crate) mod raw;
pub(crate) mod region;
pub(crate) mod state;

pub(crate) use place::Place;
pub(crate) use raw::Runnable;

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
