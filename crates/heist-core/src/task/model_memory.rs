//! What models put where memory is that somebody frees.

/// Memory that somebody frees: every use reads it, the free writes it, and loom finds the two that
/// are not ordered.
#[derive(Debug)]
pub(crate) struct Memory(loom::cell::UnsafeCell<bool>);

// SAFETY: loom checks every access, which is the point of the models.
unsafe impl Sync for Memory {}
// SAFETY: as for `Sync`.
unsafe impl Send for Memory {}

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
