#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

mod counters;
#[cfg(all(test, heist_loom))]
mod models;

use crate::sync::{Mutex, Ordering, fence};
use counters::Counters;
pub(crate) use counters::Counts;

/// How a worker left the list of sleepers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Left {
    /// By itself: it is busy.
    Free,
    /// A producer had claimed it: it is counted as searching.
    Claimed,
}

/// How the workers sleep, exact for a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleep {
    /// Whether every started worker does.
    pub(crate) all: bool,
    /// How many.
    pub(crate) sleeping: usize,
    /// How often one has woken, claimed or by itself: it does so before it runs anything.
    pub(crate) left: u64,
}

/// The moods of all workers of a runtime.
#[derive(Debug)]
pub(crate) struct Idle {
    counters: Counters,
    sleepers: Mutex<Sleepers>,
}

/// What the lock holds. The monitor's sleep is here because it depends on who else sleeps.
#[derive(Debug)]
struct Sleepers {
    /// Slots in the order in which they went to sleep; the last one is the warmest.
    stack: Vec<u32>,
    /// Slots whose thread is in its loop.
    started: u32,
    /// How often one has left the stack.
    left: u64,
    /// The monitor sleeps without a timeout and wants to hear of the first worker that wakes.
    monitor_asleep: bool,
}

impl Idle {
    pub(crate) fn new() -> Idle {
        Idle {
            counters: Counters::new(),
            sleepers: Mutex::new(Sleepers {
                stack: Vec::new(),
                started: 0,
                left: 0,
                monitor_asleep: false,
            }),
        }
    }

    /// A look at the counters: a hint.
    pub(crate) fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Edge 1. At most `limit` workers search at a time.
    pub(crate) fn begin_search(&self, limit: u32) -> bool {
        self.counters.try_add_searcher(limit)
    }

    /// Edge 2. True for the last searcher: it must look whether there is more work than it took,
    /// and `claim` somebody for it.
    #[must_use]
    pub(crate) fn end_search(&self) -> bool {
        let last = self.counters.remove_searcher();
        if last {
            // Ordering: SeqCst, the counterpart of the one in `claim`: between "searching − 1"
            // and the look at the queues that follows. See the proof, case "S leaves by edge 2".
            fence(Ordering::SeqCst);
        }
        last && !cfg!(heist_bug_03)
    }

    /// Edges 3 and 4. After it, the worker looks at every queue once more, then parks or leaves.
    pub(crate) fn announce(&self, slot: u32, was_searching: bool) {
        {
            let mut sleepers = self.sleepers.lock();
            debug_assert!(!sleepers.stack.contains(&slot));
            sleepers.stack.push(slot);
            self.counters.add_sleeper(was_searching);
        }
        // Ordering: SeqCst, w2 of the proof. The unlock is a Release only, and would let the
        // second look at the queues be satisfied before the announcement is visible.
        #[cfg(not(heist_bug_01))]
        fence(Ordering::SeqCst);
    }

    /// Edge 6, or the discovery that edge 5 has happened. The second answer is true when the
    /// monitor must be woken.
    pub(crate) fn leave(&self, slot: u32) -> (Left, bool) {
        let mut sleepers = self.sleepers.lock();
        let wake_monitor = std::mem::take(&mut sleepers.monitor_asleep);
        sleepers.left += 1;
        match sleepers.stack.iter().rposition(|s| *s == slot) {
            Some(at) => {
                sleepers.stack.remove(at);
                self.counters.remove_sleeper();
                (Left::Free, wake_monitor)
            }
            None => (Left::Claimed, wake_monitor),
        }
    }

    /// Edge 5: picks a sleeper for work that was just published, unless somebody searches already.
    /// The caller unparks it.
    pub(crate) fn claim(&self) -> Option<u32> {
        // Ordering: SeqCst, p2 of the proof: the push ends in a Release only.
        #[cfg(not(heist_bug_02))]
        fence(Ordering::SeqCst);
        let counts = self.counters.read();
        if counts.searching > 0 || counts.sleeping == 0 {
            return None;
        }
        let mut sleepers = self.sleepers.lock();
        if self.counters.read().searching > 0 {
            return None;
        }
        let slot = sleepers.stack.pop()?;
        self.counters.sleeper_to_searcher();
        Some(slot)
    }

    /// Counts in a thread that is about to start; it begins as a searcher.
    pub(crate) fn starting(&self) {
        self.counters.add_searcher();
    }

    /// A worker enters its loop. True when the monitor must be woken.
    #[must_use]
    pub(crate) fn started(&self) -> bool {
        let mut sleepers = self.sleepers.lock();
        sleepers.started += 1;
        std::mem::take(&mut sleepers.monitor_asleep)
    }

    /// A worker, busy, leaves its loop.
    pub(crate) fn stopped(&self) {
        self.sleepers.lock().started -= 1;
    }

    /// Whether every started worker sleeps.
    pub(crate) fn all_asleep(&self) -> bool {
        let sleepers = self.sleepers.lock();
        sleepers.stack.len() as u32 >= sleepers.started
    }

    /// How the workers sleep.
    pub(crate) fn sleep(&self) -> Sleep {
        let sleepers = self.sleepers.lock();
        Sleep {
            all: sleepers.stack.len() as u32 >= sleepers.started,
            sleeping: sleepers.stack.len(),
            left: sleepers.left,
        }
    }

    /// The monitor goes to sleep until a worker leaves the list; false if one is awake.
    pub(crate) fn monitor_sleeps(&self) -> bool {
        let mut sleepers = self.sleepers.lock();
        // A claimed worker is awake although it may still be about to return from its park, and
        // it will call `leave`, which is where the monitor is woken; so the list may be short.
        sleepers.monitor_asleep = sleepers.stack.len() as u32 >= sleepers.started;
        sleepers.monitor_asleep
    }
}
