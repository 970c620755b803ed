//! The state word of a task. This file owns it: nobody else sees a bit.
//!
//! # Phases
//!
//! | phase    | QUEUED | RUNNING | DONE | who may touch the future | handles that can exist       |
//! |----------|--------|---------|------|--------------------------|------------------------------|
//! | idle     |   0    |    0    |  0   | nobody                   | join, abort, wakers          |
//! | queued   |   1    |    0    |  0   | nobody                   | the same, and one `Runnable` |
//! | running  |   0    |    1    |  0   | the runner               | the same, and one `Running`  |
//! | notified |   1    |    1    |  0   | the runner               | the same, and one `Running`  |
//! | waking   |   0    |    1    |  1   | future gone; output: join| the same, and one `Running`  |
//! | done     |   0    |    0    |  1   | future gone; output: join| join, abort, wakers          |
//!
//! ```text
//!          ┌───────────────4 requeue──────────────┐
//!          ▼                                      │
//!  1 ──▶ queued ──2──▶ running ──6 wake──▶ notified
//!          ▲            │  ▲  │               │
//!          5            3  └──┼───2 (from queued)
//!          │            ▼     │               │
//!          └────────── idle   └──7──▶ done ◀──┴──7
//!                              └─7w─▶ waking ──8──▶ done
//! ```
//!
//! | edge        | who                         | method                  | what it obliges to                        |
//! |-------------|-----------------------------|-------------------------|-------------------------------------------|
//! | 1 spawn     | the spawner                 | [`State::queued`]       | push the task once                        |
//! | 2 start     | who took it from a queue    | [`State::start_run`]    | poll it, or drop it when `Start::Drop`    |
//! | 3 park      | the runner                  | [`State::park`]         | nothing: the task may be gone already     |
//! | 4 requeue   | the runner                  | [`State::park`], [`State::yield_run`] | push the task once          |
//! | 5 wake      | any waker, any canceller    | [`State::wake_by_ref`], [`State::wake`], [`State::request_cancel`] | push the task once |
//! | 6 notify    | any waker, any canceller    | the same                | nothing                                   |
//! | 7 complete  | the runner                  | [`State::complete`]     | free it if told so; 7w: wake the joiner   |
//! | 8 woken     | the runner                  | [`State::finish_waking`]| free it if told so                        |
//!
//! # References
//!
//! The allocation lives while any of these is set: QUEUED, RUNNING, LISTED, JOIN, a counted abort
//! handle, a counted waker. There is no other count. The list of tasks holds LISTED, which is
//! *not* a waker, so that the number of wakers is an upper bound of those who can still wake the
//! task. LISTED is cleared by edge 7 or 8 alone; hence **invariant 1: a task that is not done is
//! never freed**, whatever wakers and handles do, and only the runner's last edge, a handle or a
//! waker can be the one that frees.
//!
//! # Invariants
//!
//! 2. QUEUED without RUNNING: exactly one `Runnable` exists or is about to be pushed by the thread
//!    that made edge 1, 4 or 5. So a thread between edge 5 and its push may still use the
//!    scheduler: whoever ends the runtime waits until every task is done, and this one cannot
//!    become done before it was pushed and received. After its push a waker is a *guest*
//!    (see `guests.rs`), and a spawner holds a handle.
//! 3. RUNNING: exactly one thread, the runner, touches the future. It gets there by edge 2 only.
//! 4. DONE is never cleared. After it, wakers touch this word alone.
//! 5. Every wake that returns before DONE was set happens before a later poll: each wake is a
//!    read-modify-write with Release even if QUEUED was set already, and edge 2 is an Acquire
//!    read-modify-write on the same word, so it synchronises with all of them.
//! 6. The join waker cell belongs to the join handle while JOIN_WAKER is clear and to the runner
//!    after it set DONE with JOIN_WAKER set. Both may *read* it while JOIN_WAKER is set and DONE
//!    clear. The handle clears JOIN_WAKER only in a transition that fails once DONE or ABANDONED
//!    is set.
//! 7. The output belongs to the runner before DONE; after it to the join handle if JOIN was set at
//!    that moment. JOIN is cleared once and never set again, so a runner that sees it clear
//!    destroys the output before edge 7.
//!
//! # Cancellation: the rules of delivery
//!
//! A request sets CANCEL and otherwise behaves like a wake (edges 5, 6). The future is dropped by
//! a runner, never inside the call that asks for it:
//!
//! * idle or queued: the next edge 2 answers `Start::Drop` and the runner drops the future;
//! * running: the poll goes on. If it answers Ready, Ready wins; otherwise edge 4 queues the task
//!   again and the following edge 2 answers `Start::Drop`;
//! * done: nothing.
//!
//! A request is delivered at most once: `Start::Drop` leads to edge 7 without a further poll.
//! Requests are idempotent.
//!
//! While REGION is set, a live region of `catch_cancel` inside the future is who receives requests,
//! and edge 2 answers `Start::Poll`. Which regions there are, and what has been asked of them, is in
//! the record of `region.rs`, behind a lock. This word has a summary of it:
//!
//! 1. A request goes to every live region that has none inside it. It wakes the waker of that
//!    region's last poll, which need not be the task's own.
//! 2. Delivery drops the region's inner future, makes the region answer "cancelled", and *consumes*
//!    the request: CLEANUP is set by the runner, and the task is in cleanup from then on.
//! 3. A region that is dropped before it received the request leaves it to the region around it;
//!    the outermost clears REGION, and the request is the task's again: CANCEL, `Start::Drop`.
//! 4. In cleanup, a further request goes to a region entered since, or else drops the task. The
//!    end of the loop sends none until its grace for cleanup is over.
//! 5. REGION, and CANCEL where a region is involved, change under the lock of the record, so a
//!    request made under it finds either a live region or REGION clear.
//!
//! | edge         | who                          | method                     | under the lock | needs              |
//! |--------------|------------------------------|----------------------------|----------------|--------------------|
//! | c1 request   | an explicit canceller        | [`State::request_cancel`]  | yes            | REGION clear       |
//! | c2 close     | the end of the loop          | [`State::request_close`]   | no             | nothing            |
//! | c3 enter     | the runner, first live region| [`State::enter_region`]    | yes            | not DOOMED         |
//! | c4 deliver   | the runner                   | [`State::deliver`]         | yes            | REGION             |
//! | c5 leave     | who drops the last region    | [`State::leave_region`]    | yes            | REGION             |
//! | c6 withdraw  | the runner, by `uncancel`    | [`State::withdraw`]        | yes            | CLOSING clear      |
//! | c7 doom      | the end of the loop          | [`State::doom`]            | no             | nothing            |
//!
//! The end of the loop asks all tasks of a runtime and must not allocate for each, so edge c2 is
//! one read-modify-write: it leaves a task in cleanup alone, sets CANCEL on a task without a
//! region, and takes the lock only if REGION says that there is a record. Edge c3 finds a CANCEL that
//! came just before it and hands it to the region. A CANCEL of edge c2 is never withdrawn, because
//! CLOSING is set with it. Edge c7 ends the game: REGION is cleared and never set again.
//!
//! ABANDONED is set by the end of the loop on a task whose poll outlasts its grace, and on one that
//! a foreign thread has queued and not pushed by then. The join handle answers at once, as if DONE
//! were set. A running future still belongs to the runner, who drops it when the poll comes back;
//! a queued one is never run, and what its header points to is leaked with it.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};
use std::fmt;

/// In exactly one queue, or about to be pushed. Set by edges 1, 4, 5, 6; cleared by 2 and 7.
const QUEUED: u64 = 1 << 0;
/// A runner has the exclusive right to the future. Set by edge 2, cleared by 3, 4, 7, 8.
/// `RUNNING - QUEUED == 1`, so that edge 2 is a single addition.
const RUNNING: u64 = 1 << 1;
/// The future is gone and the result final. Set by edge 7, never cleared.
const DONE: u64 = 1 << 2;
/// The end of the task is asked for, and no region is there to receive it. Set by edges 5 and 6 of
/// a canceller (c1, c2, c5, c7), cleared by c3 and c6; see the rules.
const CANCEL: u64 = 1 << 3;
/// A live region receives requests instead of the task. Set by c3, cleared by c4, c5 and c7.
const REGION: u64 = 1 << 4;
/// The `JoinHandle` exists and may want the output. Cleared once, by the handle.
const JOIN: u64 = 1 << 5;
/// The join waker cell is filled. See invariant 6.
const JOIN_WAKER: u64 = 1 << 6;
/// The list of live tasks holds the allocation. Cleared by edges 7 and 8.
const LISTED: u64 = 1 << 7;
/// The end of the loop has given the running poll up; see the rules above.
const ABANDONED: u64 = 1 << 8;
/// A region has received a request, and nobody has called `uncancel` since. Set by c4, cleared by
/// c6. The end of the loop relies on it: it gives such a task its grace.
const CLEANUP: u64 = 1 << 9;
/// The end of the loop has asked for the end. Set by c2, never cleared; c6 relies on it.
const CLOSING: u64 = 1 << 10;
/// The grace for cleanup is over: regions receive nothing any more. Set by c7, never cleared, and
/// REGION is never set after it.
const DOOMED: u64 = 1 << 11;
/// One abort handle: bits 12..32.
const HANDLE: u64 = 1 << 12;
const HANDLES: u64 = (1 << 32) - HANDLE;
/// One waker: bits 32..64.
const WAKER: u64 = 1 << 32;
const WAKERS: u64 = !(WAKER - 1);
/// What keeps the allocation alive.
const REFERENCES: u64 = QUEUED | RUNNING | LISTED | JOIN | HANDLES | WAKERS;

/// Half of what fits: as with `Arc`, the rest is room for threads that race past the check.
const MAX_HANDLES: u64 = 1 << 19;
const MAX_WAKERS: u64 = 1 << 31;

/// What the taker of a task must do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Start {
    /// Poll the future.
    Poll,
    /// Drop the future: a cancel request is delivered.
    Drop,
}

/// What the runner must do after a pending poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Park {
    /// Nothing, and touch nothing: the task is somebody else's now.
    Idle,
    /// Push the task: it was woken while it ran.
    Requeue,
    /// The loop has given this poll up: drop the future and complete. Still running.
    Abandoned,
}

/// What a waker or canceller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Wake {
    /// Push the task: this call made it queued.
    Push,
    /// Nothing.
    Noted,
    /// Free the allocation: this was the last reference.
    Free,
}

/// What the first region of a task finds: edge c3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Entered {
    /// The task is past catching anything: the region must not count as live.
    Refused,
    /// REGION is set.
    Clear,
    /// REGION is set in the place of CANCEL: a request waits.
    Requested,
}

/// What the end of the loop must do for a task: edge c2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Close {
    /// Push the task: this call made it queued.
    Push,
    /// Nothing: somebody runs it, or will.
    Noted,
    /// Nothing: it is in cleanup, and has its grace.
    Cleanup,
    /// Ask through the record: a region is live, or was a moment ago.
    Region,
}

/// What the end of the loop has found at a task that may outlast its grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Abandon {
    /// It has ended, or was given up before.
    Over,
    /// Nobody runs it or will, unless somebody wakes it: nothing was done.
    Idle,
    /// It was given up. The caller owns the join waker cell now if there is a waker in it, and wakes it.
    GivenUp {
        /// Whether there is.
        with_waker: bool,
    },
}

/// How edge 7 went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Complete {
    /// Nobody will ask for the output: destroy it, then call again.
    Unwanted,
    /// Edge 7w: take the join waker, wake it, then `finish_waking`.
    WakeJoiner,
    /// Nothing more to do, and nothing may be touched.
    Finished,
    /// Free the allocation.
    Free,
}

/// What the join handle finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// Still going on.
    Pending,
    /// The output is there and the handle's.
    Done,
    /// The loop gave the task up while it ran.
    Abandoned,
}

/// Whose the join waker cell is, as the join handle finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum JoinCell {
    /// The handle's: nothing was given to the runner, and nobody else will touch the cell.
    Empty,
    /// Given to the runner; `unset_join_waker` may get it back.
    Filled,
    /// The task has ended or was abandoned. Unless a waker was `given`, the cell is the handle's.
    TooLate {
        /// Somebody else takes, or has taken, the waker out.
        given: bool,
    },
}

/// The word. See the module's header.
pub(crate) struct State(AtomicU64);

impl State {
    /// Edge 1: queued, listed, with a join handle.
    #[inline]
    pub(crate) fn queued() -> State {
        State(AtomicU64::new(QUEUED | LISTED | JOIN))
    }

    /// Edge 2. The caller owns the one `Runnable` of this task.
    pub(crate) fn start_run(&self) -> Start {
        // Ordering: Acquire pairs with the Release of `park` (the last runner's writes to the
        // future) and of every wake (invariant 5). Nothing is published by taking the task.
        let before = Snapshot(self.0.fetch_add(RUNNING - QUEUED, Ordering::Acquire));
        debug_assert!(
            before.is_queued() && !before.is_running(),
            "start_run: {before:?}"
        );
        debug_assert!(!before.is_done(), "start_run: {before:?}");
        if before.0 & (CANCEL | REGION) == CANCEL && !cfg!(heist_bug_19) {
            Start::Drop
        } else {
            Start::Poll
        }
    }

    /// Edges 3 and 4, after a pending poll.
    pub(crate) fn park(&self) -> Park {
        // An abandoned task must not be let go of, so it is looked for before the subtraction.
        // The race with an `abandon` in between is harmless: it sets QUEUED too, and the task is
        // dropped when it is run next.
        // Ordering: Relaxed, only the flag is looked at.
        if self.0.load(Ordering::Relaxed) & ABANDONED != 0 {
            return Park::Abandoned;
        }
        // Ordering: Release pairs with the Acquire of the next `start_run`: it makes this poll's
        // writes to the future visible to the next runner. Acquire is not needed: if the task was
        // notified, its next `start_run` acquires.
        let before = Snapshot(self.0.fetch_sub(RUNNING, Ordering::Release));
        debug_assert!(before.is_running() && !before.is_done(), "park: {before:?}");
        if before.is_queued() {
            Park::Requeue
        } else {
            Park::Idle
        }
    }

    /// Edge 4 in one step, for a task that asks for nothing but another turn.
    pub(crate) fn yield_run(&self) -> Park {
        // Ordering: Relaxed, as in `park`.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & ABANDONED != 0 {
                return Park::Abandoned;
            }
            // Ordering: Release on success, as in `park`.
            match self.0.compare_exchange_weak(
                seen,
                (seen & !RUNNING) | QUEUED,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Park::Requeue,
                Err(now) => seen = now,
            }
        }
    }

    /// Edges 5 and 6 by a waker that stays.
    pub(crate) fn wake_by_ref(&self) -> Wake {
        self.notify(QUEUED, 0)
    }

    /// Edges 5 and 6 by a waker that is used up; QUEUED takes its place as a reference.
    pub(crate) fn wake(&self) -> Wake {
        self.notify(QUEUED, WAKER)
    }

    /// Edge c1: a cancel request to a task without a live region.
    pub(crate) fn request_cancel(&self) -> Wake {
        self.notify(QUEUED | CANCEL, 0)
    }

    /// Edge c2: the end of the loop asks.
    pub(crate) fn request_close(&self) -> Close {
        // Ordering: Acquire pairs with the Release of `enter_region`: who sees REGION sees the
        // record that the header points to. Of the answers, only `Region` leads to a read.
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let (set, answer) = match seen {
                s if s & DONE != 0 => return Close::Noted,
                s if s & CLEANUP != 0 => (CLOSING, Close::Cleanup),
                s if s & REGION != 0 => (CLOSING, Close::Region),
                s if s & (QUEUED | RUNNING) != 0 => (CLOSING | CANCEL | QUEUED, Close::Noted),
                _ => (CLOSING | CANCEL | QUEUED, Close::Push),
            };
            // Ordering: AcqRel on success, as in `notify`; Acquire on failure, as above.
            match self.0.compare_exchange_weak(
                seen,
                seen | set,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return answer,
                Err(now) => seen = now,
            }
        }
    }

    /// Edge c3. The caller is the runner and holds the lock of the record, which has no live region.
    pub(crate) fn enter_region(&self) -> Entered {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & (DONE | ABANDONED | DOOMED) != 0 {
                return Entered::Refused;
            }
            // Ordering: Release pairs with the Acquire of `request_close`: the record is there for
            // whoever finds REGION. A CANCEL found here says all there is to know of it.
            match self.0.compare_exchange_weak(
                seen,
                (seen | REGION) & !CANCEL,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) if seen & CANCEL != 0 && !cfg!(heist_bug_29) => return Entered::Requested,
                Ok(_) => return Entered::Clear,
                Err(now) => seen = now,
            }
        }
    }

    /// Edge c4. The caller is the runner and holds the lock of the record. `consumed` says that a
    /// request to the task was delivered (and not only one of a time limit), `last` that no live
    /// region is left.
    pub(crate) fn deliver(&self, consumed: bool, last: bool) {
        // Ordering: Relaxed on both. These are flags alone: what they stand for is under the lock of
        // the record, or is read by the runner, who is us.
        if consumed {
            self.0.fetch_or(CLEANUP, Ordering::Relaxed);
        }
        if last {
            self.0.fetch_and(!REGION, Ordering::Relaxed);
        }
    }

    /// Edge c5. The caller holds the lock of the record, which has no live region any more.
    /// `requested` says that a request waits there which no region has received: it is the task's
    /// now.
    pub(crate) fn leave_region(&self, requested: bool) -> Wake {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (after, answer) = match seen {
                s if s & DONE != 0 || !requested => (s & !REGION, Wake::Noted),
                s if s & (QUEUED | RUNNING) != 0 => ((s & !REGION) | CANCEL | QUEUED, Wake::Noted),
                s => ((s & !REGION) | CANCEL | QUEUED, Wake::Push),
            };
            // Ordering: AcqRel, as in `notify`: with a request this is edge 5 or 6. One step, or
            // the end of the loop could see neither the region nor its request.
            match self
                .0
                .compare_exchange_weak(seen, after, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return answer,
                Err(now) => seen = now,
            }
        }
    }

    /// Edge c6. The caller is the runner and holds the lock of the record. False if the end of the
    /// loop has asked: that is not taken back.
    #[must_use]
    pub(crate) fn withdraw(&self) -> bool {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & (CLOSING | ABANDONED) != 0 {
                return false;
            }
            // Ordering: Relaxed. The flags concern the runner, who is us, and edge c2, which
            // decides by this very word. QUEUED stays, which costs one poll.
            match self.0.compare_exchange_weak(
                seen,
                seen & !(CANCEL | CLEANUP),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Edge c7: the next edge 2 answers `Start::Drop`, whatever regions there are. The second
    /// answer is whether the task was given time to clean up.
    pub(crate) fn doom(&self) -> (Wake, bool) {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & DONE != 0 {
                return (Wake::Noted, false);
            }
            let after = (seen | DOOMED | CLOSING | CANCEL | QUEUED) & !REGION;
            // Ordering: AcqRel, as in `notify`: this is edge 5 or 6.
            match self
                .0
                .compare_exchange_weak(seen, after, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    let had_time = seen & (REGION | CLEANUP) != 0;
                    let idle = seen & (QUEUED | RUNNING) == 0;
                    return (if idle { Wake::Push } else { Wake::Noted }, had_time);
                }
                Err(now) => seen = now,
            }
        }
    }

    fn notify(&self, set: u64, give_up: u64) -> Wake {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let before = Snapshot(seen);
            if before.is_done() && !(cfg!(heist_bug_20) && set & CANCEL != 0) {
                return if give_up == 0 {
                    Wake::Noted
                } else {
                    self.release(give_up)
                };
            }
            #[cfg(heist_bug_05)]
            if before.is_queued() && give_up == 0 && seen & set == set {
                return Wake::Noted;
            }
            // Ordering: AcqRel even if nothing changes (invariant 5). Release: what the waker did
            // before is visible to the poll that `start_run` begins. Acquire: the one who pushes
            // hands the header on, and read fields of it that the spawner wrote.
            match self.0.compare_exchange_weak(
                seen,
                (seen | set) - give_up,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                #[cfg(heist_bug_18)]
                Ok(_) if before.is_running() && set & CANCEL != 0 => return Wake::Push,
                Ok(_) if before.is_queued() || before.is_running() => return Wake::Noted,
                Ok(_) => return Wake::Push,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes one counted reference back.
    fn release(&self, unit: u64) -> Wake {
        // Ordering: Release makes this holder's uses happen before the free; Acquire makes all
        // other holders' uses happen before it, if this is the last.
        let before = self.0.fetch_sub(unit, Ordering::AcqRel);
        debug_assert!(
            before & REFERENCES >= unit,
            "release: {:?}",
            Snapshot(before)
        );
        if (before - unit) & REFERENCES == 0 {
            Wake::Free
        } else {
            Wake::Noted
        }
    }

    /// Counts a waker in. The caller holds a reference.
    pub(crate) fn clone_waker(&self) {
        // Ordering: Relaxed, as for `Arc`: the caller's own reference keeps the word alive.
        let before = self.0.fetch_add(WAKER, Ordering::Relaxed);
        if before >> WAKER.trailing_zeros() >= MAX_WAKERS {
            // Two thousand million forgotten wakers; the next bits are not ours.
            std::process::abort();
        }
    }

    /// Counts a waker out: `Noted` or `Free`.
    pub(crate) fn drop_waker(&self) -> Wake {
        self.release(WAKER)
    }

    /// Counts an abort handle in. The caller holds a reference.
    pub(crate) fn clone_handle(&self) {
        // Ordering: Relaxed, as in `clone_waker`.
        let before = self.0.fetch_add(HANDLE, Ordering::Relaxed);
        if (before & HANDLES) >> HANDLE.trailing_zeros() >= MAX_HANDLES {
            std::process::abort();
        }
    }

    /// Counts an abort handle out: `Noted` or `Free`.
    pub(crate) fn drop_handle(&self) -> Wake {
        self.release(HANDLE)
    }

    /// Edge 7. `keeps_output` says whether the output is still in the cell.
    pub(crate) fn complete(&self, keeps_output: bool) -> Complete {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert!(
                seen & RUNNING != 0 && seen & DONE == 0,
                "complete: {:?}",
                Snapshot(seen)
            );
            if keeps_output && seen & JOIN == 0 {
                return Complete::Unwanted;
            }
            let wakes = seen & JOIN_WAKER != 0;
            let drops = if wakes && !cfg!(heist_bug_04) {
                QUEUED
            } else {
                QUEUED | RUNNING | LISTED
            };
            let after = (seen | DONE) & !drops;
            // Ordering: Release pairs with the Acquire of `outcome`: the output is visible to the
            // handle; and with that of `release`, for whoever frees. Acquire pairs with the
            // Release of `set_join_waker` (we read the waker next) and, when this is the last
            // reference, with every `release`.
            match self
                .0
                .compare_exchange_weak(seen, after, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if wakes => return Complete::WakeJoiner,
                Ok(_) if after & REFERENCES == 0 => return Complete::Free,
                Ok(_) => return Complete::Finished,
                Err(now) => seen = now,
            }
        }
    }

    /// Edge 8, after the join waker was taken and woken: `Noted` or `Free`.
    pub(crate) fn finish_waking(&self) -> Wake {
        let drops = RUNNING | LISTED | JOIN_WAKER;
        // Ordering: AcqRel, as in `release`.
        let before = self.0.fetch_and(!drops, Ordering::AcqRel);
        debug_assert!(
            before & (DONE | RUNNING) == DONE | RUNNING,
            "{:?}",
            Snapshot(before)
        );
        if before & !drops & REFERENCES == 0 {
            Wake::Free
        } else {
            Wake::Noted
        }
    }

    /// What the join handle may do now.
    #[inline]
    pub(crate) fn outcome(&self) -> Outcome {
        // Ordering: Acquire pairs with the Release of `complete`: the output is visible.
        let seen = self.0.load(Ordering::Acquire);
        match seen {
            s if s & DONE != 0 => Outcome::Done,
            s if s & ABANDONED != 0 => Outcome::Abandoned,
            _ => Outcome::Pending,
        }
    }

    /// Whose the join waker cell is; only the join handle asks.
    pub(crate) fn join_cell(&self) -> JoinCell {
        // Ordering: Acquire pairs with the Release of `complete`, `abandon` and `finish_waking`:
        // once the answer is `TooLate`, what they did to the cell has happened before. One load
        // for all three flags: JOIN_WAKER alone may have been cleared by `abandon`, whose caller
        // then owns the cell.
        let seen = self.0.load(Ordering::Acquire);
        if seen & (DONE | ABANDONED) != 0 {
            JoinCell::TooLate {
                given: seen & (JOIN_WAKER | ABANDONED) != 0,
            }
        } else if seen & JOIN_WAKER != 0 {
            JoinCell::Filled
        } else {
            JoinCell::Empty
        }
    }

    /// The handle filled the cell: hands it to the runner. False when it is too late, and then
    /// the cell is still the handle's.
    pub(crate) fn set_join_waker(&self) -> bool {
        // Ordering: Release pairs with the Acquire of `complete`: the waker in the cell is
        // visible to the runner.
        self.update_join(|seen| seen | JOIN_WAKER)
    }

    /// The handle takes the cell back. False when it is too late, and then the cell is the
    /// runner's.
    pub(crate) fn unset_join_waker(&self) -> bool {
        self.update_join(|seen| seen & !JOIN_WAKER)
    }

    /// Gives the handle's interest up before the end. False when the end has come: the output is
    /// the handle's to destroy first.
    pub(crate) fn detach(&self) -> bool {
        // Ordering: Relaxed, a first guess. ABANDONED does not stop it: the runner still owns the
        // output, and destroys it when it sees JOIN clear.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & DONE != 0 {
                return false;
            }
            // Ordering: Release, so that the handle's last use of the allocation happens before
            // the free. It cannot be the last reference itself: LISTED is set (invariant 1).
            match self.0.compare_exchange_weak(
                seen,
                seen & !JOIN,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives the handle's reference up after the end, the output being gone: `Noted` or `Free`.
    pub(crate) fn drop_join(&self) -> Wake {
        // The usual case: nobody else is left, and nobody can come, so nothing needs to be
        // written. Ordering: Acquire pairs with the Release of every `release`.
        if self.0.load(Ordering::Acquire) & REFERENCES == JOIN {
            return Wake::Free;
        }
        self.release(JOIN)
    }

    fn update_join(&self, change: impl Fn(u64) -> u64) -> bool {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & (DONE | ABANDONED) != 0 {
                return false;
            }
            // Ordering: Release for `set_join_waker`; see there.
            match self.0.compare_exchange_weak(
                seen,
                change(seen),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives up a task that outlasts its grace: inside its poll, or queued where nobody gets to it.
    pub(crate) fn abandon(&self) -> Abandon {
        // Ordering: Relaxed, a first guess that the compare-exchange checks.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & (DONE | ABANDONED) != 0 {
                return Abandon::Over;
            }
            if seen & (QUEUED | RUNNING) == 0 {
                return Abandon::Idle;
            }
            let after = (seen | ABANDONED | CANCEL | QUEUED) & !(JOIN_WAKER | REGION);
            // Ordering: Acquire pairs with the Release of `set_join_waker`: the cell is ours.
            match self
                .0
                .compare_exchange_weak(seen, after, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    let with_waker = seen & JOIN_WAKER != 0;
                    return Abandon::GivenUp { with_waker };
                }
                Err(now) => seen = now,
            }
        }
    }

    /// The last value there is, and not one that is still on its way to be overwritten: for proofs.
    pub(crate) fn latest(&self) -> Snapshot {
        // Ordering: AcqRel. A read-modify-write reads the last value in the order of modifications.
        // Acquire: what the last runner wrote, the number of polls among it, is visible. Release pairs
        // with the Acquire of the next `start_run`: a poll that begins later is not visible before.
        Snapshot(self.0.fetch_or(0, Ordering::AcqRel))
    }

    /// A copy to look at; nothing may be concluded from it but what the flags say of the past.
    pub(crate) fn snapshot(&self) -> Snapshot {
        // Ordering: Acquire, so that a reader who sees DONE sees the task's last writes.
        Snapshot(self.0.load(Ordering::Acquire))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// A decoded copy of the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    pub(crate) fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }
    pub(crate) fn is_running(self) -> bool {
        self.0 & RUNNING != 0
    }
    pub(crate) fn is_done(self) -> bool {
        self.0 & DONE != 0
    }
    #[cfg(test)]
    pub(crate) fn is_cancelled(self) -> bool {
        self.0 & CANCEL != 0
    }
    #[cfg(test)]
    pub(crate) fn is_abandoned(self) -> bool {
        self.0 & ABANDONED != 0
    }
    /// Whether the task has time to clean up: the end of the loop waits for it. Once it has been
    /// asked, true means that a region has the request or has delivered it.
    pub(crate) fn is_cleaning(self) -> bool {
        self.0 & (REGION | CLEANUP) != 0 && self.0 & (DONE | DOOMED) == 0
    }
    /// Whether edge 2 would answer `Start::Drop`; for `main`, which has no edge 2.
    pub(crate) fn must_drop(self) -> bool {
        self.0 & (CANCEL | REGION) == CANCEL
    }
    /// Whether the end of the loop has asked for the end of the task.
    pub(crate) fn is_closing(self) -> bool {
        self.0 & CLOSING != 0
    }
    /// Whether a join handle may still ask for the output. Once false, false for ever.
    pub(crate) fn is_wanted(self) -> bool {
        self.0 & JOIN != 0
    }
    /// Wakers that exist: an upper bound of those who may still wake the task.
    pub(crate) fn wakers(self) -> u64 {
        self.0 >> WAKER.trailing_zeros()
    }
    pub(crate) fn handles(self) -> u64 {
        (self.0 & HANDLES) >> HANDLE.trailing_zeros()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (QUEUED, "QUEUED"),
            (RUNNING, "RUNNING"),
            (DONE, "DONE"),
            (CANCEL, "CANCEL"),
            (REGION, "REGION"),
            (JOIN, "JOIN"),
            (JOIN_WAKER, "JOIN_WAKER"),
            (LISTED, "LISTED"),
            (ABANDONED, "ABANDONED"),
            (CLEANUP, "CLEANUP"),
            (CLOSING, "CLOSING"),
            (DOOMED, "DOOMED"),
        ];
        let mut list = f.debug_list();
        for (bit, name) in names {
            if self.0 & bit != 0 {
                list.entry(&format_args!("{name}"));
            }
        }
        list.entry(&format_args!("handles={}", self.handles()));
        list.entry(&format_args!("wakers={}", self.wakers()));
        list.finish()
    }
}
