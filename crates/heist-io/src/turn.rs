//! The slot word: how a thread that parks on a shard is woken, exactly when it sleeps.
//!
//! Each shard has one *owner*, the thread that parks on it. Any thread may unpark it, at any time
//! and as often as it likes; a wake-up that finds the owner awake is kept as one token and makes
//! the next park return at once. A system call is made only for an owner that really sleeps.
//!
//! The owner has two beds: its own thread parker while the shard has no poller, and the poller's
//! wait once it has one. In the second it sleeps while it holds the **turn**, the exclusive right
//! to wait on the shard's poller. Others (*helpers*) take the turn only by `try_lock` and wait
//! with timeout zero.
//!
//! | word            | the owner                          | holds the turn | an unparker must        |
//! |-----------------|------------------------------------|----------------|-------------------------|
//! | `EMPTY`         | is awake                           | perhaps        | do nothing more         |
//! | `PARKED_THREAD` | sleeps on its thread, or is about to | no           | unpark the thread       |
//! | `PARKED_POLLER` | sleeps in the poller, or is about to | yes          | ring the poller's bell  |
//! | `NOTIFIED`      | will see the token before it sleeps  | perhaps      | do nothing more         |
//!
//! ```text
//!             1 announce                  3 leave
//!   EMPTY ───────────────▶ PARKED_* ───────────────▶ EMPTY
//!     │                       │
//!     │ 2 notify              │ 2 notify (then thread unpark or bell)
//!     ▼                       ▼
//!   NOTIFIED ◀────────────────┘
//!     │
//!     └── 4 announce finds the token, or leave after 2: back to EMPTY, do not sleep
//! ```
//!
//! | edge | who                          | method           |
//! |------|------------------------------|------------------|
//! | 1, 4 | the owner, before its sleep  | [`Slot::announce`] |
//! | 2    | anyone                       | [`Slot::notify`] |
//! | 3    | the owner, after its sleep   | [`Slot::leave`]  |
//!
//! # Invariants
//!
//! 1. Only the owner leaves `NOTIFIED`, and only it enters `PARKED_*` or leaves it towards `EMPTY`.
//! 2. While the word is `PARKED_POLLER` the owner holds the turn: it announces after it has taken
//!    the turn, and leaves before it lets go.
//! 3. For each passage `PARKED_* → NOTIFIED` exactly one unparker wakes the bed.
//!
//! # No wake-up is lost
//!
//! Let U be a `notify` and consider the order of operations on the word, all of which are
//! read-modify-writes.
//!
//! - U finds `EMPTY`: the next `announce` finds `NOTIFIED` (invariant 1) and the owner does not sleep.
//! - U finds `NOTIFIED`: an earlier `notify` left the token; as above.
//! - U finds `PARKED_THREAD`: U unparks the thread, whose parker keeps a token of its own.
//! - U finds `PARKED_POLLER`: U rings the bell. By invariant 2 nobody but the owner can be in the
//!   poller's wait between its announcement and its `leave`, so the ring either ends this very
//!   wait, or comes after it has ended for another reason, and then `leave` has found the token.
//!   A ring that comes so late is swallowed by a helper or ends a later wait: a spurious return.
//!
//! What the unparker wrote before `notify` is visible to the owner after `park`: `notify` releases
//! by its swap, and `announce` (edge 4) and `leave` acquire by theirs. A chain of swaps is one
//! release sequence, so the token of several unparkers carries all their writes.
//!
//! A poller can appear while the owner sleeps in its first bed. Whoever makes the poller publishes
//! it and *then* notifies: an owner that looked for it too early either finds the token in its
//! `announce` or is woken from the bed, comes back, and finds the poller.
//!
//! The token is in the word before the bell is rung, so the ring itself says nothing new: a helper
//! that swallows one has nothing to record, and must not leave a second token for it.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU8, Ordering};

/// The owner is awake and no token is left.
const EMPTY: u8 = 0;
/// The owner announced that it sleeps on its thread parker. Set with the turn not held.
const PARKED_THREAD: u8 = 1;
/// The owner announced that it sleeps in the poller. Set and cleared under the turn.
const PARKED_POLLER: u8 = 2;
/// A token: the owner must not sleep before it has looked around once more.
const NOTIFIED: u8 = 3;

/// Where an owner is about to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bed {
    Thread,
    Poller,
}

/// What an owner may do after it tried to announce its sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Announced {
    /// It may sleep, and must `leave` afterwards.
    Parked,
    /// There was a token; it is consumed, and the owner must not sleep.
    Notified,
}

/// What an unparker must still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Wake {
    Nothing,
    Thread,
    Poller,
}

/// The slot word of one shard.
pub(crate) struct Slot {
    word: AtomicU8,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU8::new(EMPTY),
        }
    }

    /// Edges 1 and 4. Owner only; for [`Bed::Poller`] with the turn held.
    pub(crate) fn announce(&self, bed: Bed) -> Announced {
        let parked = match bed {
            Bed::Thread => PARKED_THREAD,
            Bed::Poller => PARKED_POLLER,
        };
        // Ordering: on success Relaxed: nothing of the owner's is read through the word. On
        // failure the swap below synchronises.
        match self
            .word
            .compare_exchange(EMPTY, parked, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Announced::Parked,
            Err(found) => {
                debug_assert_eq!(found, NOTIFIED, "two threads park on one shard");
                // Ordering: Acquire, with the Release of every `notify` so far. A plain store would
                // lose the edge from a `notify` between the failed exchange and the store.
                self.word.swap(EMPTY, Ordering::Acquire);
                Announced::Notified
            }
        }
    }

    /// Edge 3, and the end of edge 2. Owner only, after `announce` answered `Parked`.
    pub(crate) fn leave(&self) {
        // Ordering: Acquire, with the Release in `notify`: the owner now looks for what the
        // unparker produced.
        self.word.swap(EMPTY, Ordering::Acquire);
    }

    /// Edge 2. Any thread.
    pub(crate) fn notify(&self) -> Wake {
        // Ordering: Release, with the Acquire in `leave` and `announce`: the caller's writes. A load
        // that skips the swap when the token is there already would lose that edge.
        match self.word.swap(NOTIFIED, Ordering::Release) {
            PARKED_THREAD => Wake::Thread,
            PARKED_POLLER => Wake::Poller,
            NOTIFIED if cfg!(heist_bug_30) => Wake::Poller,
            _ => Wake::Nothing,
        }
    }

    /// The name of the state, for `Debug`.
    pub(crate) fn state(&self) -> &'static str {
        // Ordering: Relaxed: it is out of date at once.
        match self.word.load(Ordering::Relaxed) {
            EMPTY => "awake",
            PARKED_THREAD => "parked on its thread",
            PARKED_POLLER => "parked in the poller",
            _ => "notified",
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_edge_once() {
        let slot = Slot::new();
        assert_eq!(slot.state(), "awake");
        assert_eq!(slot.announce(Bed::Thread), Announced::Parked);
        assert_eq!(slot.notify(), Wake::Thread);
        assert_eq!(slot.notify(), Wake::Nothing, "one unparker wakes the bed");
        slot.leave();
        assert_eq!(slot.announce(Bed::Poller), Announced::Parked);
        assert_eq!(slot.notify(), Wake::Poller);
        slot.leave();
        assert_eq!(slot.state(), "awake");
    }

    #[test]
    fn many_notifications_are_one_token() {
        let slot = Slot::new();
        assert_eq!(slot.notify(), Wake::Nothing);
        assert_eq!(slot.notify(), Wake::Nothing);
        assert_eq!(slot.announce(Bed::Poller), Announced::Notified);
        assert_eq!(slot.announce(Bed::Poller), Announced::Parked);
    }
}
