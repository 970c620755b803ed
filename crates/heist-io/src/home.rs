//! Where a source lives, and how it moves to where it is waited for.
//!
//! A source is registered with one shard at a time, its *home*. New sources gather in few shards. When
//! the tasks that wait for one keep running on another shard's worker, each of its events crosses
//! from the one to the other; then it moves there.
//!
//! # When
//!
//! A *turn* is a wait that was begun: a waker was left, after "would block" or a short read. Whoever
//! runs the task says on which shard's worker ([`Source::awaited_from`](crate::Source::awaited_from)).
//! [`MOVE_AFTER`] turns in a row on one and the same foreign shard are due for a move. A turn at
//! home, on a third shard or on a thread that is no shard's ends the row.
//!
//! Each attempt to move, also one that fails, doubles the number for this source, up to
//! [`MOVE_AFTER_MOST`]. So a source whose tasks go to and fro moves a few times and then stays, and
//! a system that refuses is not asked again and again. In a long life a source costs at most one
//! move for every `MOVE_AFTER_MOST` waits.
//!
//! The row is counted in one relaxed word, by a load and a store. Two waiters may lose each other's
//! turn; then the move comes later. Nothing but the time of a move depends on it.
//!
//! # How
//!
//! The lock of the *lease* (key and registration, and who may change the shard) makes moves, `deregister` and re-arming follow
//! each other. A move from shard A to shard B, in [`Source::move_to`](crate::Source::move_to):
//!
//! ```text
//!            m1 lock      m2 enter      m3 add        m4 forget     m5 remove     m6 unlock
//!   at A ──────────▶ at A ──────▶ at A ──────▶ at both ──────▶ at both ──────▶ at B ──────▶ at B
//!                     ▲             │            │
//!                     └── refused ──┴── failed ──┘
//! ```
//!
//! | step | what                                                        | A's poller | A's registry | B's poller | B's registry |
//! |------|-------------------------------------------------------------|------------|--------------|------------|--------------|
//! | m1   | lock the lease; has the source ended? then leave            | yes        | yes          | –          | –            |
//! | m2   | the same record gets a key in B's registry, a new generation | yes       | yes          | –          | yes          |
//! | m3   | add the descriptor to B's poller under that key             | yes        | yes          | yes        | yes          |
//! | m4   | the lease names B; the key of A is given back               | yes        | –            | yes        | yes          |
//! | m5   | take the descriptor out of A's poller                       | –          | –            | yes        | yes          |
//! | m6   | unlock                                                      | –          | –            | yes        | yes          |
//!
//! m2 fails on a closed shard; m3 fails when the system has no memory, no watches or (for B's first
//! source) no descriptors left. Then B's key is given back, and nothing has changed at A, where the
//! source was registered all the time. There is no state in which it is registered nowhere, and so no
//! error that its waiters would have to be told.
//!
//! An error of m5 says that the descriptor is not in A's poller, so somebody replaced it behind our
//! back. If A's poller still has the old one, it reports it under a key that is dead.
//!
//! # Invariants
//!
//! 1. From registration to the end, at each moment some shard has the record in its registry *and* the
//!    descriptor in its poller (A's from before m1 until m4, B's from m3 on).
//! 2. The descriptor is in a poller only while its key is in that shard's registry, but for m4 to m5.
//! 3. The record, and so the readiness word and all wakers, is the same before and after.
//!
//! # No wake-up is lost
//!
//! *Waiters.* By invariant 3 they stay where they are. The event that wakes them may be applied by the
//! holder of either shard's turn, also by both at once: all do it by read-modify-writes of the one word.
//!
//! *Events.* Let something happen to the descriptor.
//!
//! - *After m3:* B's poller reports it. By m2 the key is known before the first event can come.
//! - *Before m3, and still so at m3:* a poller reports at `add` what is ready at that moment (epoll and
//!   kqueue do, and a registration that fires once is added armed for everything).
//! - *Before m3, and no longer so at m3:* somebody has made use of it since. Whoever comes now finds
//!   nothing, and need not be woken to find that.
//!
//! So no report of A is needed after m3. One that is in a batch A's holder has fetched, and applies
//! late, either finds A's key (before m4) and says something that is true or was: it costs one
//! attempt at most, and by the tick cancels no later event and lets no clear through. Or it finds the
//! key given back (after m4) and is dropped, like that of a descriptor that was closed and reused.
//!
//! *Close* visits the shards in the order of their numbers, under each registry's lock. B's key is
//! there (m2) before A's goes (m4). If m2 was refused, the record is still in A, whose close comes or
//! has come. If not, B's close is still to come and finds it there, or m3 failed, and A's key was
//! there all the time.
//!
//! *Deregister* first marks the word, then takes the lease. A move that has looked at the word
//! before the mark has the lease, and is waited for; what is undone then is the registration at B. A
//! move that comes later finds the mark (m1) and leaves. Dropping the source needs it alone.
//!
//! *Release* waits for m3 and m5 by the lock of each poller, as for every use.
//!
//! # Locks
//!
//! lease → registry; lease → poller. Nobody who holds a turn or a registry takes a lease.

#![forbid(unsafe_code)]

use std::fmt;

use crate::registry::Key;
use crate::sync::{AtomicBool, AtomicU16, AtomicU32, Mutex, MutexGuard, Ordering};
use crate::sys::Registration;

/// How many turns in a row on one foreign shard move a source for the first time. A move itself is
/// cheap, two system calls; what must be rare is a wrong one, after a task was stolen now and then,
/// since it splits the batches of a shard. Guarded by the echo bench with 50 connections and two
/// workers.
///
/// # Examples
/// ```
/// assert_eq!(heist_io::MOVE_AFTER, 16);
/// ```
pub const MOVE_AFTER: u16 = 16;

/// To how many turns that grows for a source that has moved often: ten doublings.
pub(crate) const MOVE_AFTER_MOST: u16 = MOVE_AFTER << 10;

/// A row's word has the foreign shard's number plus one in the upper half, the turns in the lower.
const SHARD_SHIFT: u32 = 16;
const TURNS: u32 = u16::MAX as u32;

/// The thresholds of a driver; tests set them low.
pub(crate) struct Patience {
    first: AtomicU16,
    most: AtomicU16,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self {
            first: AtomicU16::new(MOVE_AFTER),
            most: AtomicU16::new(MOVE_AFTER_MOST),
        }
    }

    pub(crate) fn set(&self, first: u16, most: u16) {
        // Ordering: Relaxed: numbers that guard nothing.
        self.first.store(first.max(1), Ordering::Relaxed);
        self.most.store(most.max(1), Ordering::Relaxed);
    }

    fn first(&self) -> u16 {
        self.first.load(Ordering::Relaxed)
    }

    fn after(&self, patience: u16) -> u16 {
        let most = self.most.load(Ordering::Relaxed);
        patience.saturating_mul(2).min(most)
    }
}

/// The present registration of a source.
pub(crate) struct Lease {
    pub(crate) key: Key,
    pub(crate) registration: Registration,
}

/// See the module.
pub(crate) struct Home {
    /// The number of the shard. Written under the lease's lock, and read there by who acts on it.
    shard: AtomicU32,
    /// The present row, 0 for none.
    row: AtomicU32,
    /// How many turns make a row that is due. Written under the lease's lock.
    patience: AtomicU16,
    /// Whether waits must be announced to the poller: the same in all shards of a driver. Written before
    /// there is a `Source`.
    needs_rearm: AtomicBool,
    lease: Mutex<Lease>,
}

impl Home {
    /// The home of a source that is about to be registered with `shard`.
    pub(crate) fn new(shard: usize, key: Key, patience: &Patience) -> Self {
        let lease = Lease {
            key,
            registration: Registration::none(),
        };
        Self {
            shard: AtomicU32::new(shard as u32),
            row: AtomicU32::new(0),
            patience: AtomicU16::new(patience.first()),
            needs_rearm: AtomicBool::new(false),
            lease: Mutex::new(lease),
        }
    }

    #[inline]
    pub(crate) fn shard(&self) -> usize {
        // Ordering: Relaxed: under the lease's lock it is exact by that; else it may be out of date
        // at once.
        self.shard.load(Ordering::Relaxed) as usize
    }

    /// It is registered now.
    pub(crate) fn begin(&self, registration: Registration) {
        // Ordering: Relaxed: the `Source` that lets others ask is made after this.
        self.needs_rearm
            .store(registration.needs_rearm(), Ordering::Relaxed);
        self.lease.lock().registration = registration;
    }

    #[inline]
    pub(crate) fn needs_rearm(&self) -> bool {
        // Ordering: Relaxed, see `begin`.
        self.needs_rearm.load(Ordering::Relaxed)
    }

    /// A turn on the worker of `shard`, or on none. Answers whether the source is due to move there,
    /// and begins a new row then.
    #[inline]
    pub(crate) fn awaited_from(&self, shard: Option<usize>) -> bool {
        // Ordering: Relaxed throughout: a row guards nothing, see the module.
        let row = self.row.load(Ordering::Relaxed);
        match shard {
            Some(shard) if shard != self.shard() => self.count(row, shard),
            _ => {
                if row != 0 {
                    self.row.store(0, Ordering::Relaxed);
                }
                false
            }
        }
    }

    fn count(&self, row: u32, shard: usize) -> bool {
        let Ok(place) = u16::try_from(shard + 1) else {
            // A shard beyond what the word can name attracts nothing.
            return false;
        };
        let place = u32::from(place) << SHARD_SHIFT;
        let turns = if row & !TURNS == place {
            row & TURNS
        } else {
            0
        } + 1;
        let is_due = turns >= u32::from(self.patience.load(Ordering::Relaxed));
        let row = if is_due { 0 } else { place | turns };
        self.row.store(row, Ordering::Relaxed);
        is_due
    }

    /// Step m1.
    pub(crate) fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock()
    }

    /// The next row must be longer. Under the lease's lock.
    pub(crate) fn grow_patience(&self, patience: &Patience) {
        // Ordering: Relaxed: the lock orders the writers; who reads the old number moves too early.
        let present = self.patience.load(Ordering::Relaxed);
        self.patience
            .store(patience.after(present), Ordering::Relaxed);
    }

    /// The source is at `shard` from now on. Under the lease's lock.
    pub(crate) fn settle(&self, shard: usize) {
        // Ordering: Relaxed, see `shard`.
        self.shard.store(shard as u32, Ordering::Relaxed);
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home")
            .field("shard", &self.shard())
            .field("patience", &self.patience.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use crate::source::Record;
    use std::sync::Arc;

    fn home(shard: usize, patience: &Patience) -> Home {
        let make = |key| Arc::new(Record::new(key, Home::new(0, key, &Patience::new())));
        let key = Registry::new().insert(make).unwrap().0;
        Home::new(shard, key, patience)
    }

    /// How many turns from `shard` it takes until a move is due.
    fn turns(home: &Home, shard: usize) -> u32 {
        (1..).find(|_| home.awaited_from(Some(shard))).unwrap()
    }

    #[test]
    fn a_row_is_due_after_so_many_turns_and_begins_anew() {
        let home = home(0, &Patience::new());
        assert_eq!(turns(&home, 1), u32::from(MOVE_AFTER));
        assert_eq!(turns(&home, 1), u32::from(MOVE_AFTER));
        assert_eq!(turns(&home, 4095), u32::from(MOVE_AFTER));
    }

    #[test]
    fn a_turn_elsewhere_ends_the_row() {
        for other in [Some(0), Some(2), None] {
            let home = home(0, &Patience::new());
            for _ in 1..MOVE_AFTER {
                assert!(!home.awaited_from(Some(1)));
            }
            assert!(!home.awaited_from(other));
            assert_eq!(turns(&home, 1), u32::from(MOVE_AFTER), "{other:?}");
        }
    }

    #[test]
    fn a_source_that_moves_often_takes_longer_each_time() {
        let patience = Patience::new();
        let home = home(0, &patience);
        let mut expected = u32::from(MOVE_AFTER);
        for round in 0..20 {
            let to = 1 - home.shard();
            assert_eq!(turns(&home, to), expected, "round {round}");
            let lease = home.lease();
            home.grow_patience(&patience);
            home.settle(to);
            drop(lease);
            expected = (expected * 2).min(u32::from(MOVE_AFTER_MOST));
        }
        assert_eq!(expected, 16_384);
    }

    #[test]
    fn the_word_is_not_overrun() {
        let patience = Patience::new();
        patience.set(u16::MAX, u16::MAX);
        let home = home(0, &patience);
        home.grow_patience(&patience);
        let last = usize::from(u16::MAX) - 1;
        assert_eq!(turns(&home, last), u32::from(u16::MAX));
        for _ in 0..100_000 {
            assert!(!home.awaited_from(Some(last + 1)), "it cannot be named");
        }
        patience.set(0, 0);
        assert_eq!(patience.first(), 1);
    }
}
