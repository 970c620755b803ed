//! Guests: foreign threads that are inside the scheduler for a moment.
//!
//! A waker may fire on a thread the runtime does not own. Between making a task queued and having
//! told somebody about it, that thread uses shared state which the end of the loop frees. It holds
//! no counted reference to that state: one per waker would cost every task two atomic operations.
//! Instead it counts itself in, here.
//!
//! | step | guest                                        | the end of the loop                     |
//! |------|----------------------------------------------|-----------------------------------------|
//! | 1    | makes the task queued (edge 5 of the word)   | cancels every task, runs all to the end |
//! | 2    | `enter_held`: count + 1                      | …cannot finish: the task of step 1 is   |
//! | 3    | pushes the task, notifies                    | queued and was not received             |
//! | 4    | leaves: count − 1, its **last touch**        | all done → `close`, `wait_empty` → frees|
//!
//! *Why it holds.* Let a guest be between its steps 1 and 4. Before step 3 its task is not done, so
//! the loop's end still waits for tasks. Once the task was received, the guest's step 2 happens
//! before the receipt (program order, then the queue's release to acquire), the receipt happens
//! before the task is done, and that before `wait_empty`, which therefore reads a count that
//! includes the guest until its step 4. After step 4 the guest touches nothing.
//!
//! *The exception.* With a `poll_grace` the end does not wait for ever, and may pass while a guest is
//! between its steps 1 and 2. Then a task is left that nobody runs, and `closing.rs` leaks the shared
//! state instead of freeing it.
//!
//! Who holds an `Arc` of the shared state (a `Handle`, the waker of `main`) needs no task to hold
//! the door: it uses [`Guests::enter`], which refuses once `close` was called. Both live in one
//! word, so that every `enter` is ordered before or after `close`.
//!
//! A `Handle` that spawns is no guest at all. Its task is in a list before that is closed, so the loop's end
//! waits until the task was received, but for the exception; and what the spawner touches after its push, to
//! wake or start somebody, the handle keeps.
//!
//! A guest never blocks and runs no user code, so `wait_empty` spins politely.

#![forbid(unsafe_code)]

use crate::sync::{AtomicUsize, Ordering, thread};

const CLOSED: usize = 1;
const GUEST: usize = 2;

/// The count, and whether the door is closed.
#[derive(Debug)]
pub(crate) struct Guests(AtomicUsize);

/// Somebody inside. Dropping it is their last touch of the shared state.
#[derive(Debug)]
pub(crate) struct Guest<'a>(&'a Guests);

impl Guests {
    pub(crate) fn new() -> Guests {
        Guests(AtomicUsize::new(0))
    }

    /// Counts in a thread that holds an owned reference; `None` once closed.
    pub(crate) fn enter(&self) -> Option<Guest<'_>> {
        let guest = self.count_in();
        // Ordering: Relaxed. The answer of the addition would do as well; CLOSED is never cleared
        // and comes before us or after us in the word's own order, which `count_in` fixed.
        if self.0.load(Ordering::Relaxed) & CLOSED != 0 {
            None
        } else {
            Some(guest)
        }
    }

    /// Counts in a thread whose own queued task keeps the door open (step 2).
    pub(crate) fn enter_held(&self) -> Guest<'_> {
        self.count_in()
    }

    fn count_in(&self) -> Guest<'_> {
        // Ordering: Relaxed. For `enter_held` the push that follows publishes it; for `enter` the
        // word's modification order suffices.
        self.0.fetch_add(GUEST, Ordering::Relaxed);
        Guest(self)
    }

    /// Refuses further `enter`s.
    pub(crate) fn close(&self) {
        // Ordering: Relaxed. It is before or after each `enter` in the word's own order, which is all that is
        // asked: who is refused looks at nothing.
        self.0.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Returns when nobody is inside. Only after `close`, and only when all tasks are done.
    pub(crate) fn wait_empty(&self) {
        // Ordering: Acquire pairs with the Release of `Guest::drop`: what the guest did happens
        // before what the caller frees. Liveness: a guest is a few instructions and one system
        // call long.
        while self.0.load(Ordering::Acquire) & !CLOSED != 0 && !cfg!(heist_bug_07) {
            thread::yield_now();
        }
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire of `wait_empty`.
        self.0.0.fetch_sub(GUEST, Ordering::Release);
    }
}

#[cfg(all(test, heist_loom))]
#[path = "guests_models.rs"]
mod models;
