//! A place for one runnable task that others may empty: the LIFO slot of a worker.
//!
//! What it holds is the task's `Runnable`, as a pointer. Each swap takes out what was there, so that of
//! several threads exactly one gets it.

use super::raw::{Header, Runnable};
use crate::sync::{AtomicPtr, Ordering};
use std::ptr::NonNull;

/// See the module.
#[derive(Debug)]
pub(crate) struct Place(AtomicPtr<Header>);

impl Place {
    pub(crate) fn new() -> Place {
        Place(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Puts a task in; gives back the one that was there.
    pub(crate) fn put(&self, task: Runnable) -> Option<Runnable> {
        // Ordering: AcqRel. Release pairs with the Acquire of whoever takes this task: the header
        // and what the spawner wrote are visible. Acquire pairs with the Release of the `put` of
        // the task we get. A swap and not a store: a thief may empty the place at any time, and
        // exactly one of us must get the old task.
        taken_out(self.0.swap(task.pointer().as_ptr(), Ordering::AcqRel))
    }

    /// Takes the task out.
    pub(crate) fn take(&self) -> Option<Runnable> {
        // Ordering: Relaxed. For the owner an exact answer as far as its own puts go; for a thief a hint.
        if self.0.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Ordering: Acquire pairs with the Release of `put`.
        taken_out(self.0.swap(std::ptr::null_mut(), Ordering::Acquire))
    }

    /// Whether a task is there: a hint.
    pub(crate) fn is_full(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }
}

/// What a swap has given.
fn taken_out(task: *mut Header) -> Option<Runnable> {
    // SAFETY: (1) what is not null was put in by `put`, which used up the one `Runnable` of that edge,
    // and a swap takes it out once.
    NonNull::new(task).map(|task| unsafe { Runnable::from_raw(task) })
}

#[cfg(all(test, heist_loom))]
#[path = "tests/place_models.rs"]
mod models;
