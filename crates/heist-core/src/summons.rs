//! What other threads tell `main`: that it was woken, and that it is to end.
//!
//! `main` is no task and has no state word. Two flags tell it what a task's word would:
//!
//! | flag      | set by                          | cleared by                      |
//! |-----------|---------------------------------|---------------------------------|
//! | WOKEN     | 1 `wake`, any other thread      | 2 `take_woken`, before a poll   |
//! | REQUESTED | 3 `request`, any thread, once   | never                           |
//! | ENDED     | 4 `end`, when `main` is gone    | never                           |
//!
//! | step | who asks for the end            | the thread of `run`                               |
//! |------|---------------------------------|---------------------------------------------------|
//! | 1    | `request`: REQUESTED            | `take_woken`: if it was set, goes on with 2       |
//! | 2    | `wake`, and unpark if told so   | `is_requested`: drops `main` instead of polling it|
//!
//! *No request is lost.* The asker sets REQUESTED before WOKEN. Whoever takes a WOKEN that some
//! `wake` has set reads from that `wake` or from a later one, all of which are read-modify-writes
//! and so continue the release sequence of the first. So the thread of `run` sees the REQUESTED of
//! every asker whose WOKEN it takes, and a WOKEN that it has not taken keeps it from parking. This
//! is why nobody may *store* WOKEN: a store would cut the sequence. The thread of `run` wakes its
//! own `main` all the time, and keeps that to itself (`Local::woken`).
//!
//! *Ready wins.* The question is asked before a poll and never during one. A poll that was going on
//! when the request came is followed by another turn of the loop, unless it was ready: the output
//! is there then, and nobody asks any more.
//!
//! *Only one is the first.* REQUESTED and ENDED are in one word, so every request is either the
//! first, or after it, or after the end.

#![forbid(unsafe_code)]

use crate::sync::{AtomicBool, AtomicU32, Ordering};

const REQUESTED: u32 = 1;
const ENDED: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Summons {
    woken: AtomicBool,
    end: AtomicU32,
}

impl Summons {
    /// Woken: the first poll needs no waker.
    pub(crate) fn new() -> Summons {
        Summons {
            woken: AtomicBool::new(true),
            end: AtomicU32::new(0),
        }
    }

    /// Edge 1. True if the thread must be unparked.
    #[must_use]
    pub(crate) fn wake(&self) -> bool {
        // Ordering: Release pairs with the Acquire in `take_woken`: the poll sees what the waker
        // did. A read-modify-write also where nothing changes: see the module.
        !self.woken.swap(true, Ordering::Release)
    }

    /// Edge 2.
    pub(crate) fn take_woken(&self) -> bool {
        // Ordering: the load is a hint that saves the swap; Acquire pairs with `wake`.
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Acquire)
    }

    /// Whether there is a wake to take: exact for the thread of `run` after a fence or a park, a
    /// hint for others.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// Edge 3. True for the one request that came first and before the end. The caller then wakes.
    #[must_use]
    pub(crate) fn request(&self) -> bool {
        // Ordering: Relaxed. The `wake` that follows publishes it.
        self.end.fetch_or(REQUESTED, Ordering::Relaxed) == 0
    }

    /// Whether the end was asked for; to be looked at after `take_woken`.
    pub(crate) fn is_requested(&self) -> bool {
        // Ordering: Relaxed, ordered by `take_woken`.
        self.end.load(Ordering::Relaxed) & REQUESTED != 0
    }

    /// Edge 4.
    pub(crate) fn end(&self) {
        // Ordering: Release pairs with the Acquire in `has_ended`: whoever sees it sees what the
        // destructor of `main` did.
        self.end.fetch_or(ENDED, Ordering::Release);
    }

    /// Whether `main` is gone.
    pub(crate) fn has_ended(&self) -> bool {
        // Ordering: Acquire, see `end`.
        self.end.load(Ordering::Acquire) & ENDED != 0
    }
}

#[cfg(all(test, heist_loom))]
#[path = "summons_models.rs"]
mod models;

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_edge() {
        let main = Summons::new();
        assert!(main.is_woken() && main.take_woken());
        assert!(!main.is_woken() && !main.take_woken());
        assert!(main.wake(), "the first wake unparks");
        assert!(!main.wake(), "the second has nothing to do");
        assert!(main.take_woken());
        assert!(!main.is_requested());
        assert!(main.request(), "the first request");
        assert!(!main.request(), "the second");
        assert!(main.is_requested() && !main.has_ended());
        main.end();
        assert!(main.has_ended());
    }

    #[test]
    fn a_request_after_the_end_is_not_the_first() {
        let main = Summons::new();
        main.end();
        assert!(!main.request());
    }
}
