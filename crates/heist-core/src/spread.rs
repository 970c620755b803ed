//! When a busy worker wakes a second one: not for every task that waits, since to wake a thread
//! costs more than to run a short task, and not too late.
//!
//! The worker asks [`Spread`] after every poll. Most answers cost one subtraction; now and then it
//! takes a look, which reads the clock. A second worker is due when the queue has not been empty for
//! longer than the worker has *patience*:
//!
//! | what waits                                       | patience         |
//! |--------------------------------------------------|------------------|
//! | tasks that were spawned, or woken by others      | [`SPREAD_AFTER`] |
//! | some of it came in a batch of the driver, and polls are short | [`GATHER_FOR`] |
//! | the same, and polls are long                     | [`SPREAD_AFTER`] |
//!
//! A batch of events is as a rule as many short polls, which one thread with a warm cache does for
//! less than two that wake each other. Whoever has long polls does not wait for the end of a batch.
//!
//! The *pace*, how many polls there are between two looks, follows from how short the last ones were. Where
//! long ones come next, the look would be late by as many of them; the monitor, which comes by every 2 ms,
//! brings it forward.
//!
//! The queue is known to be empty when a look finds it so, or when the worker parks: what waited
//! before that says nothing of what comes later.

#![forbid(unsafe_code)]

use crate::config::{GATHER_FOR, SPREAD_AFTER, SPREAD_LOOKS};
use std::cell::Cell;

const PATIENCE: u64 = SPREAD_AFTER.as_nanos() as u64;
const PATIENCE_WITH_EVENTS: u64 = GATHER_FOR.as_nanos() as u64;
/// A poll this long is worth a second worker as soon as anything waits behind it.
const LONG_POLL: u64 = PATIENCE / 2;
/// Looks that follow each other faster than this are made after more polls.
const QUICK: u64 = PATIENCE / 8;
/// Every so many pushes there is a look as well: a long poll may be what fills the queue.
const PUSHES: u32 = 16;

/// What a worker remembers of its queue. All times are nanoseconds of the seam's clock.
#[derive(Debug)]
pub(crate) struct Spread {
    /// Since when the queue has not been empty; `None` while it is, or while nobody could be woken.
    waiting_since: Cell<Option<u64>>,
    /// Some of what waits came from the driver.
    gathered: Cell<bool>,
    /// How many polls to go until the next look, and how many there were between the last two.
    until_look: Cell<u32>,
    pace: Cell<u32>,
    looked_at: Cell<u64>,
    pushes: Cell<u32>,
}

impl Spread {
    pub(crate) fn new() -> Spread {
        Spread {
            waiting_since: Cell::new(None),
            gathered: Cell::new(false),
            until_look: Cell::new(0),
            pace: Cell::new(1),
            looked_at: Cell::new(0),
            pushes: Cell::new(0),
        }
    }

    /// After a poll: whether it is time for a look.
    #[inline]
    pub(crate) fn polled(&self) -> bool {
        match self.until_look.get() {
            0 => true,
            polls => {
                self.until_look.set(polls - 1);
                false
            }
        }
    }

    /// After a push: the same.
    #[inline]
    pub(crate) fn pushed(&self) -> bool {
        let pushes = self.pushes.get().wrapping_add(1);
        self.pushes.set(pushes);
        pushes % PUSHES == 0
    }

    /// The driver has brought a task.
    #[inline]
    pub(crate) fn gathered(&self) {
        self.gathered.set(true);
    }

    /// The monitor has been by: the next poll is followed by a look, whatever the pace.
    pub(crate) fn look_soon(&self) {
        self.until_look.set(0);
    }

    /// The queue is empty.
    pub(crate) fn rest(&self) {
        self.until_look.set(self.pace.get() - 1);
        self.waiting_since.set(None);
        self.gathered.set(false);
    }

    /// Nobody could be woken, or somebody looks for work already.
    pub(crate) fn helpless(&self) {
        self.until_look.set(self.pace.get() - 1);
        self.waiting_since.set(None);
        self.pace.set(SPREAD_LOOKS);
    }

    /// A look, with something in the queue and somebody to wake: whether to wake it.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let polls = self.pace.get();
        let took = now.saturating_sub(self.looked_at.replace(now));
        let pace = match took {
            ..QUICK => (polls * 2).min(SPREAD_LOOKS),
            _ => 1,
        };
        self.pace.set(pace);
        self.until_look.set(pace - 1);
        let since = self.waiting_since.get().unwrap_or(now);
        let short = took / u64::from(polls) < LONG_POLL;
        let patience = match self.gathered.get() && short {
            true => PATIENCE_WITH_EVENTS,
            false => PATIENCE,
        };
        let due = now.saturating_sub(since) >= patience;
        self.waiting_since.set(Some(if due { now } else { since }));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every `poll` nanoseconds until a second worker is due: after how long.
    fn due_after(spread: &Spread, start: u64, poll: u64) -> u64 {
        let mut now = start;
        loop {
            if spread.polled() && spread.is_due(now) {
                return now - start;
            }
            now += poll;
            assert!(now - start < 10 * PATIENCE_WITH_EVENTS, "never due");
        }
    }

    #[test]
    fn short_tasks_wait_for_spread_after() {
        for poll in [100, 1_000, 10_000] {
            let after = due_after(&Spread::new(), 1 << 40, poll);
            let slack = u64::from(SPREAD_LOOKS) * poll;
            assert!((PATIENCE..=PATIENCE + slack).contains(&after), "{after}");
        }
    }

    #[test]
    fn short_polls_of_a_batch_wait_for_gather_for() {
        let spread = Spread::new();
        spread.rest();
        spread.gathered();
        let after = due_after(&spread, 1 << 40, 5_000);
        let slack = u64::from(SPREAD_LOOKS) * 5_000;
        let range = PATIENCE_WITH_EVENTS..=PATIENCE_WITH_EVENTS + slack;
        assert!(range.contains(&after), "{after}");
    }

    #[test]
    fn long_polls_of_a_batch_do_not() {
        let spread = Spread::new();
        spread.gathered();
        assert!(due_after(&spread, 1 << 40, 30_000) <= PATIENCE + 30_000);
    }

    /// What waited before the worker slept is long done: the first look after the sleep is not late.
    #[test]
    fn a_rest_begins_the_wait_anew() {
        let spread = Spread::new();
        assert!(!spread.is_due(1_000));
        spread.rest();
        assert!(!spread.is_due(1_000 + 10 * PATIENCE));
    }

    /// Long polls follow upon short ones, and the look is not to come before the last of them.
    #[test]
    fn a_look_is_brought_forward() {
        let spread = Spread::new();
        let mut now = 1 << 40;
        while spread.pace.get() < SPREAD_LOOKS {
            now += 1;
            if spread.polled() {
                assert!(!spread.is_due(now));
            }
        }
        assert!(!spread.polled(), "a look of every so many polls");
        spread.look_soon();
        let polls = (1..=SPREAD_LOOKS).filter(|_| {
            now += 2 * PATIENCE;
            spread.polled() && spread.is_due(now)
        });
        assert_eq!(polls.count() as u32, SPREAD_LOOKS, "one after each");
    }

    #[test]
    fn one_worker_is_woken_per_patience() {
        let spread = Spread::new();
        assert!(!spread.is_due(1));
        assert!(spread.is_due(1 + PATIENCE));
        assert!(!spread.is_due(2 + PATIENCE));
        assert!(spread.is_due(1 + 2 * PATIENCE));
    }

    #[test]
    fn a_burst_of_pushes_is_looked_at() {
        let spread = Spread::new();
        let looks = (0..64).filter(|_| spread.pushed()).count();
        assert_eq!(looks, 64 / PUSHES as usize);
    }
}
