//! A slot: what a worker has while it works, as others see it.
//!
//! There are `workers + spare_workers` slots. A thread that works owns one and keeps it until it
//! leaves the worker loop; nothing of a slot moves during a poll. What only the owner may touch is
//! in `Worker`; the owner's end of the deque rests in `home` while nobody owns the slot.

#![forbid(unsafe_code)]

use crate::deque::Worker as Deque;
use crate::queue::Queue;
use crate::sync::{AtomicU8, AtomicU64, Mutex, Ordering};
use crate::task::{Place, Runnable};
use crossbeam_utils::CachePadded;

/// The owner is blocked: it has said so, or the monitor has found it in the same poll at two looks.
pub(crate) const BLOCKED: u8 = 1;
/// The owner should poll its shard before its next task, and look whether its queue is worth a second
/// worker.
pub(crate) const DRIVER_DUE: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The task that runs next: put by the owner, taken by the owner, or by somebody who found
    /// the owner blocked.
    pub(crate) lifo: Place,
    /// The local queue.
    pub(crate) queue: Queue,
    home: Mutex<Option<Deque<Runnable>>>,
    /// What the owner writes for others to read, in a cache line of its own: those who look for work
    /// in the slot do not have it taken from them with every poll.
    pub(crate) work: CachePadded<Work>,
    /// What others ask of the owner: `BLOCKED`, `DRIVER_DUE`.
    notes: AtomicU8,
}

/// What the owners of a slot have done so far, and do now.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Counts the begins and ends of polls: odd while the owner is inside one.
    turns: Count,
    /// The task of the present poll, with a mark if it is pinned (`worker::PINNED`); the mark alone
    /// is `main`.
    current: AtomicU64,
    /// How many of these turns were no polls.
    others: Count,
    /// Tasks taken from the LIFO slot.
    pub(crate) lifo_hits: Count,
    /// Tasks taken from other slots.
    pub(crate) stolen: Count,
    /// Tasks taken from the injector.
    pub(crate) injected: Count,
    /// How often the owner went to sleep.
    pub(crate) parks: Count,
}

/// A number that the owner of a slot counts and anybody reads.
///
/// Ordering: Relaxed throughout. It guards nothing, and one thread at a time writes it, so that a
/// load and a store do; from owner to owner it is handed over by the lock of the slot's `home`.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// The owner alone calls it.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0
            .store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Slot {
    pub(crate) fn new() -> Slot {
        let (queue, deque) = Queue::new();
        Slot {
            lifo: Place::new(),
            queue,
            home: Mutex::new(Some(deque)),
            work: CachePadded::default(),
            notes: AtomicU8::new(0),
        }
    }

    /// Takes the slot, if nobody owns it.
    pub(crate) fn occupy(&self) -> Option<Deque<Runnable>> {
        self.home.lock().take()
    }

    /// Gives the slot back. The deque must be empty.
    pub(crate) fn vacate(&self, deque: Deque<Runnable>) {
        debug_assert!(self.queue.is_empty() && !self.lifo.is_full());
        *self.home.lock() = Some(deque);
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.home.lock().is_some()
    }

    /// The owner begins a poll of the task `id`.
    pub(crate) fn begin_poll(&self, id: u64) {
        // Ordering: Relaxed, here and in `in_poll`: the monitor compares what it sees 2 ms apart, and
        // nothing but its judgement depends on it.
        self.work.current.store(id, Ordering::Relaxed);
        self.work.turns.add(1);
    }

    /// The owner begins to run user code that is no poll: a hook, or wakers.
    pub(crate) fn begin_other(&self) {
        self.work.others.add(1);
        self.begin_poll(0);
    }

    /// The owner's poll has ended. Returns the notes left meanwhile, if any.
    pub(crate) fn end_poll(&self) -> u8 {
        self.work.turns.add(1);
        self.take_notes()
    }

    /// The number of the turn the owner is in, and of which task; `None` if it is in none.
    pub(crate) fn in_poll(&self) -> Option<(u64, u64)> {
        let turn = self.turns();
        (turn % 2 == 1).then(|| (turn, self.work.current.load(Ordering::Relaxed)))
    }

    /// The task of the last poll, as `begin_poll` has it.
    pub(crate) fn last_polled(&self) -> u64 {
        self.work.current.load(Ordering::Relaxed)
    }

    /// Where the owner's count of begins and ends of polls stands.
    pub(crate) fn turns(&self) -> u64 {
        self.work.turns.get()
    }

    /// How many polls its owners have begun.
    pub(crate) fn polls(&self) -> u64 {
        let turns = self.turns().div_ceil(2);
        turns.saturating_sub(self.work.others.get())
    }

    /// Leaves a note; false if it was there.
    pub(crate) fn note(&self, note: u8) -> bool {
        // Ordering: Relaxed, a request; what it is about is synchronised by the queues.
        self.notes.fetch_or(note, Ordering::Relaxed) & note == 0
    }

    /// Takes one note back; false if it was not there.
    pub(crate) fn take_note(&self, note: u8) -> bool {
        self.notes.fetch_and(!note, Ordering::Relaxed) & note != 0
    }

    pub(crate) fn has_note(&self, note: u8) -> bool {
        self.notes.load(Ordering::Relaxed) & note != 0
    }

    /// Takes the notes left, if any.
    pub(crate) fn take_notes(&self) -> u8 {
        // The load saves the swap: notes are rare.
        if self.notes.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.notes.swap(0, Ordering::Relaxed)
    }
}

#[cfg(all(test, heist_loom))]
#[path = "slot_models.rs"]
mod models;
