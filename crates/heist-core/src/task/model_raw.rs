//! What the queues of a model hold in place of tasks: numbers in allocations of their own, which the
//! maker writes and whoever runs them reads and frees. Loom finds a queue that does not order the two.

use loom::cell::UnsafeCell;
use std::ptr::NonNull;

/// In place of the header of a task.
#[derive(Debug)]
pub(crate) struct Header(UnsafeCell<usize>);

/// In place of the right, and the duty, to have a task run.
#[derive(Debug)]
#[must_use]
pub(crate) struct Runnable(NonNull<Header>);

// SAFETY: there is one for each header, and loom checks that accesses to that are ordered.
unsafe impl Send for Runnable {}

impl Runnable {
    pub(crate) fn new(number: usize) -> Runnable {
        // Written after it was made: loom does not count the value that a cell is made with.
        let header = Box::new(Header(UnsafeCell::new(0)));
        // SAFETY: nobody else has it.
        header.0.with_mut(|place| unsafe { *place = number });
        Runnable(NonNull::from(Box::leak(header)))
    }

    /// # Safety
    ///
    /// 1. The pointer is that of a `Runnable` that was given up for it.
    pub(super) unsafe fn from_raw(task: NonNull<Header>) -> Runnable {
        Runnable(task)
    }

    pub(super) fn pointer(&self) -> NonNull<Header> {
        self.0
    }

    /// The number; it can be run once.
    pub(crate) fn run(self) -> usize {
        // SAFETY: the box that `new` has leaked, and there is one `Runnable` of it.
        let header = unsafe { Box::from_raw(self.0.as_ptr()) };
        // SAFETY: loom checks that the write is ordered before.
        header.0.with_mut(|number| unsafe { *number })
    }
}
