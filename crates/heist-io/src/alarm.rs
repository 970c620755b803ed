//! The alarm: who must be woken when a timer is armed in a shard whose owner sleeps.
//!
//! Two atomics per shard. `next` is the earliest deadline in the shard's wheel, written only under
//! the wheel's lock; it may be too early (the timer was cancelled since), never too late.
//! `sleeping` is the time until which the owner sleeps at most: 0 while it is awake.
//!
//! ```text
//!   whoever arms (Alarm::lower)            the owner parks (Alarm::announce)
//!   ───────────────────────────            ─────────────────────────────────
//!   a1  next := deadline                   p1  until := min(limit, next)
//!   a2  fence                              p2  sleeping := until
//!   a3  sleeping > deadline ?              p3  fence
//!        yes: unpark the owner             p4  next < until ?
//!                                               yes: again from p1
//!                                               no: sleep until `until`
//! ```
//!
//! **No timer is overslept.** The fences are `SeqCst`, so one of them is first. If a2 comes before
//! p3, then p4 sees a1 (or something earlier) and the owner's `until` is not later than the
//! deadline. If p3 comes before a2, then a3 sees p2 (or something later): if that is this sleep and
//! it is too long, the owner is unparked; if it is 0 or a later announcement, the owner has woken
//! up since, and p1 of the later announcement is again in one of the two cases.
//!
//! Only a deadline that *lowers* `next` needs a2 and a3: an equal or earlier one is in `next`
//! already, and whoever put it there has taken these steps for it.
//!
//! An owner that arms a timer of its own shard is awake, finds `sleeping` 0, and makes no system
//! call.

#![forbid(unsafe_code)]

use crate::clock::NEVER;
use crate::sync::{AtomicU64, Ordering, fence};

/// `sleeping` of an owner that is awake: no deadline is earlier than that.
const AWAKE: u64 = 0;

/// Whether the owner of the shard must be unparked, by whoever armed a timer in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Rouse {
    No,
    Owner,
}

pub(crate) struct Alarm {
    next: AtomicU64,
    sleeping: AtomicU64,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(NEVER),
            sleeping: AtomicU64::new(AWAKE),
        }
    }

    /// The earliest deadline, or one that was and has been cancelled.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        // Ordering: Relaxed: a hint; it is looked at again under the wheel's lock (`fire`), or
        // between fences (`announce`).
        self.next.load(Ordering::Relaxed)
    }

    /// Corrects `next` after timers were fired or cancelled. Under the wheel's lock.
    pub(crate) fn set(&self, next: u64) {
        // Ordering: Relaxed: the lock orders the writers among themselves, and a reader that sees
        // the old, earlier value wakes up once too often.
        self.next.store(next, Ordering::Relaxed);
    }

    /// Step a1, for a deadline that is earlier than `next`. Under the wheel's lock.
    pub(crate) fn lower(&self, deadline: u64) {
        // Ordering: Relaxed: `must_rouse` has the fence.
        self.next.store(deadline, Ordering::Relaxed);
    }

    /// Steps a2 and a3, after `lower`, with or without the lock.
    pub(crate) fn must_rouse(&self, deadline: u64) -> Rouse {
        // Ordering: SeqCst fence, partner of the one in `announce`; see the module.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) > deadline && !cfg!(heist_bug_22) {
            Rouse::Owner
        } else {
            Rouse::No
        }
    }

    /// Steps p1 to p4: answers until when the owner may sleep, `limit` at the latest. Owner only.
    pub(crate) fn announce(&self, limit: u64) -> u64 {
        loop {
            let until = limit.min(self.next());
            self.sleeping.store(until, Ordering::Relaxed);
            // Ordering: SeqCst fence, partner of the one in `must_rouse`; see the module.
            fence(Ordering::SeqCst);
            if self.next() >= until {
                return until;
            }
        }
    }

    /// The owner no longer sleeps. Owner only.
    pub(crate) fn awake(&self) {
        // Ordering: Relaxed: whoever still sees the old value unparks an owner that is awake.
        self.sleeping.store(AWAKE, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_that_sleeps_too_long_is_roused() {
        let alarm = Alarm::new();
        alarm.lower(100);
        assert_eq!(alarm.must_rouse(100), Rouse::No, "awake");
        assert_eq!(alarm.announce(NEVER), 100);
        alarm.lower(100);
        assert_eq!(alarm.must_rouse(100), Rouse::No, "wakes in time anyway");
        alarm.lower(99);
        assert_eq!(alarm.must_rouse(99), Rouse::Owner);
        alarm.awake();
        assert_eq!(alarm.must_rouse(99), Rouse::No);
        assert_eq!(alarm.announce(50), 50);
    }
}
