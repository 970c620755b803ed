//! The packed counters and their decoded copy.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU32, Ordering};

const SEARCHING: u32 = 1;
const SLEEPING: u32 = 1 << 16;
/// Each half counts slots, of which there are at most [`crate::config::MAX_SLOTS`].
const HALF: u32 = SLEEPING - 1;

/// How many workers search and how many sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) searching: u32,
    pub(crate) sleeping: u32,
}

impl Counts {
    fn decode(word: u32) -> Counts {
        Counts {
            searching: word & HALF,
            sleeping: word >> 16,
        }
    }
}

/// The word. Changes of `sleeping` are made under the lock of the sleepers.
#[derive(Debug)]
pub(crate) struct Counters(AtomicU32);

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters(AtomicU32::new(0))
    }

    /// A look without any order: the callers bring their own fence.
    pub(crate) fn read(&self) -> Counts {
        // Ordering: Relaxed; `Idle::claim` and `Idle::announce` hold the `SeqCst` fences.
        Counts::decode(self.0.load(Ordering::Relaxed))
    }

    /// Edge 1, if fewer than `limit` search.
    pub(crate) fn try_add_searcher(&self, limit: u32) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen & HALF >= limit {
                return false;
            }
            // Ordering: Relaxed. The count guards no data; the bound is exact because it is a
            // compare-exchange.
            match self.0.compare_exchange_weak(
                seen,
                seen + SEARCHING,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Counts a searcher in who was not asleep: a thread that is being started.
    pub(crate) fn add_searcher(&self) {
        self.0.fetch_add(SEARCHING, Ordering::Relaxed);
    }

    /// Edge 2. Whether it was the last one.
    pub(crate) fn remove_searcher(&self) -> bool {
        // Ordering: Relaxed; `Idle::end_search` fences.
        let before = Counts::decode(self.0.fetch_sub(SEARCHING, Ordering::Relaxed));
        debug_assert!(before.searching > 0, "{before:?}");
        before.searching == 1
    }

    /// Edges 3 and 4.
    pub(crate) fn add_sleeper(&self, was_searching: bool) {
        let delta = if was_searching {
            SLEEPING - SEARCHING
        } else {
            SLEEPING
        };
        let before = Counts::decode(self.0.fetch_add(delta, Ordering::Relaxed));
        debug_assert!(!was_searching || before.searching > 0, "{before:?}");
    }

    /// Edge 5.
    pub(crate) fn sleeper_to_searcher(&self) {
        let before = Counts::decode(self.0.fetch_sub(SLEEPING - SEARCHING, Ordering::Relaxed));
        debug_assert!(before.sleeping > 0, "{before:?}");
    }

    /// Edge 6.
    pub(crate) fn remove_sleeper(&self) {
        let before = Counts::decode(self.0.fetch_sub(SLEEPING, Ordering::Relaxed));
        debug_assert!(before.sleeping > 0, "{before:?}");
    }
}
