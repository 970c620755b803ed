//! Where the thread of `run` parks, and so where it is to be woken: on a slot, or on a token of its own.
//!
//! That changes while others wake the thread. Each of them has set a flag for it before (`summons.rs`, the
//! inbox), and the thread looks at the flags after a change and before each park.
//!
//! | step | the thread of `run`               | whoever wakes it               |
//! |------|-----------------------------------|--------------------------------|
//! | 1    | `change`: writes the place; fence | sets a flag                    |
//! | 2    | looks at the flags                | `find`: fence; reads the place |
//! | 3    | parks there, if none is set       | wakes whoever parks there      |
//!
//! *No wake-up goes to the old place alone.* The fences are `SeqCst`, so one of them is first. If it is the
//! thread's, step 2 finds the new place. If it is the other one, the thread sees the flag, and does not park.

#![forbid(unsafe_code)]

use crate::sync::{AtomicUsize, Ordering, fence};

const NO_SLOT: usize = usize::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Address(AtomicUsize);

impl Address {
    /// The thread's own token.
    pub(crate) fn new() -> Address {
        Address(AtomicUsize::new(NO_SLOT))
    }

    /// The thread parks on `slot` from now on, or on its own token.
    pub(crate) fn change(&self, slot: Option<usize>) {
        // Ordering: Relaxed, the fence below orders it.
        self.0.store(slot.unwrap_or(NO_SLOT), Ordering::Relaxed);
        // Ordering: SeqCst, the counterpart of the one in `find`; see the module.
        fence(Ordering::SeqCst);
    }

    /// The slot that the thread parks on, if it does: a hint for others.
    pub(crate) fn slot(&self) -> Option<usize> {
        // Ordering: Relaxed, the number alone is looked at.
        Some(self.0.load(Ordering::Relaxed)).filter(|slot| *slot != NO_SLOT)
    }

    /// The same for whoever has set a flag and wakes the thread.
    pub(crate) fn find(&self) -> Option<usize> {
        // Ordering: SeqCst, the counterpart of the one in `change`; see the module.
        fence(Ordering::SeqCst);
        self.slot()
    }
}

#[cfg(all(test, heist_loom))]
#[path = "address_models.rs"]
mod models;
