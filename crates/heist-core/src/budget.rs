//! The cooperative budget: a bound on what one poll may do through our own leaves.
//!
//! A task that reads from a socket which is never empty would hold its worker for ever. Every
//! operation of our sockets, timers and join handles takes a unit; when none is left it wakes the
//! task and answers "pending", so that others get their turn. The next poll has a full budget.

#![forbid(unsafe_code)]

use crate::config::BUDGET;
use crate::context::{self, Role};
use std::task::{Context, Poll};

/// A unit taken from the budget. It goes back if the operation turns out to be pending.
#[derive(Debug)]
#[must_use]
pub struct Charge {
    taken: bool,
}

impl Charge {
    /// The operation has made progress: the unit is spent.
    pub fn progress(mut self) {
        self.taken = false;
    }
}

impl Drop for Charge {
    #[inline]
    fn drop(&mut self) {
        if self.taken {
            context::with(|cx| {
                if let Some(cx) = cx {
                    cx.budget.set((cx.budget.get() + 1).min(BUDGET));
                }
            });
        }
    }
}

/// Takes a unit, or answers pending after waking the task. Outside a runtime, and in a blocking
/// closure, which holds nobody up, nothing is counted.
#[inline]
pub fn poll_proceed(task: &mut Context<'_>) -> Poll<Charge> {
    let left = context::with(|cx| {
        cx.filter(|cx| cx.role != Role::Blocking).map(|cx| {
            let left = cx.budget.get();
            // Refilled when it answers pending: an executor inside this very poll (`block_on` in a
            // task) would otherwise ask for ever.
            cx.budget.set(left.checked_sub(1).unwrap_or(BUDGET));
            left
        })
    });
    match left {
        None => Poll::Ready(Charge { taken: false }),
        Some(0) => {
            task.waker().wake_by_ref();
            Poll::Pending
        }
        Some(_) => Poll::Ready(Charge { taken: true }),
    }
}
