//! What the queues of a model hold in place of tasks: numbers in allocations of their own, which the
//! maker writes and whoever runs them reads and frees. Loom finds a queue that does not order the two.
//!
//! Queues and places move the pointer and never look behind it.

use super::{Header, Runnable};
use loom::cell::UnsafeCell;
use std::ptr::NonNull;

/// What a `Runnable` of a model points to, and no header.
struct Number(UnsafeCell<usize>);

impl Runnable {
    /// Not to be started, nor asked for its header: to be `run`.
    pub(crate) fn new(number: usize) -> Runnable {
        // Written after it was made: loom does not count the value that a cell is made with.
        let place = Box::new(Number(UnsafeCell::new(0)));
        // SAFETY: nobody else has it.
        place.0.with_mut(|place| unsafe { *place = number });
        Runnable(NonNull::from(Box::leak(place)).cast::<Header>())
    }

    /// The number; it can be run once.
    pub(crate) fn run(self) -> usize {
        // SAFETY: the box that `new` has leaked, and there is one `Runnable` of it: models make theirs by
        // `new` where they call this.
        let place = unsafe { Box::from_raw(self.0.cast::<Number>().as_ptr()) };
        // SAFETY: loom checks that the write is ordered before.
        place.0.with_mut(|number| unsafe { *number })
    }
}
