//! The timing wheel: which waker is due, in order, at a nanosecond.
//!
//! Pure data: no clock, no lock, no I/O. Entries live in a slab and are linked by index.
//!
//! # Where an entry is
//!
//! Time is cut into ticks of 2¹⁶ ns (65.5 µs). `tick` is how far the wheel has turned. A deadline is
//! placed by the highest group of six bits in which its tick differs from `tick`:
//!
//! | differs in                | place                 | one bucket spans       |
//! |---------------------------|-----------------------|------------------------|
//! | nothing (or is behind)    | the heap              | the tick itself        |
//! | group 0 … 5               | level 0 … 5, 64 buckets each | 65.5 µs · 64^level: up to 19.5 h |
//! | a group beyond (52 days)  | the overflow          | everything further off, and "never" |
//!
//! Buckets and overflow are doubly linked lists: insert and remove are O(1). The heap is a small
//! binary heap over the entries of one tick, with each entry's position kept, so that firing is
//! exact to the nanosecond and in order.
//!
//! # Invariants
//!
//! 1. Every entry of a lower level is earlier than every entry of a higher level, those of the heap
//!    are the earliest and those of the overflow the latest. Within a level lower buckets are earlier.
//! 2. All buckets of a level that are not empty lie after the one `tick` itself is in.
//! 3. A bucket's `earliest` is not later than the deadline of any entry in it, and after `swept`. It is
//!    too early after the earliest entry was removed. Whoever then looks at that time opens the bucket, for
//!    it begins no later, and each bucket that gets its entries has the right one.
//! 4. No entry's deadline is at or before `swept`, the time up to which all entries were popped, nor does a
//!    bucket begin there that is not empty.
//!
//! So the next bucket to open is found by two bit scans. To open it, `tick` is set to its start and
//! its entries are placed again, one level lower or more; an entry moves at most seven times in its
//! life. Turning `tick` forward to a time before the start of every full bucket (and within the same
//! 52 days) changes no placement: all groups in which such a time differs from `tick` are below the
//! group in which the earliest entry differs from it.

#![forbid(unsafe_code)]

use std::task::Waker;

use crate::clock::NEVER;

/// Nanoseconds per tick, as a power of two. Finer ticks cost more moves per entry, coarser ones
/// larger heaps; 2¹⁶ is near the precision a sleeping thread wakes up with. Guarded by the timers bench.
const TICK_BITS: u32 = 16;
/// Bits per level: a level is one word of occupancy.
const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = 6;
/// Bits of a tick that the levels can tell apart.
const WINDOW_BITS: u32 = LEVEL_BITS * LEVELS as u32;
/// An empty wheel whose slab once grew beyond this many entries gives the memory back.
const KEEP: usize = 1024;

/// End of a list.
const NIL: u32 = u32::MAX;

// Values of `Entry::place`; below are `level * BUCKETS + bucket`.
const OVERFLOW: u16 = (LEVELS * BUCKETS) as u16;
const HEAP: u16 = OVERFLOW + 1;
const FREE: u16 = OVERFLOW + 2;

/// Names an entry; dead once the entry was popped or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId {
    index: u32,
    /// Tells entries apart that had the same index one after the other. Never repeats.
    serial: u64,
}

struct Entry {
    deadline: u64,
    serial: u64,
    /// `None` in a free entry only.
    waker: Option<Waker>,
    /// In a list: the neighbours. In the heap: `prev` is the position. Free: `next` is the next one.
    prev: u32,
    next: u32,
    place: u16,
}

#[derive(Clone, Copy)]
struct Bucket {
    head: u32,
    /// See invariant 3; [`NEVER`] if empty.
    earliest: u64,
}

const EMPTY: Bucket = Bucket {
    head: NIL,
    earliest: NEVER,
};

pub(crate) struct Wheel {
    tick: u64,
    swept: u64,
    serial: u64,
    len: usize,
    entries: Vec<Entry>,
    free: u32,
    heap: Vec<u32>,
    occupied: [u64; LEVELS],
    /// All buckets and the overflow; made when the first entry needs one.
    buckets: Vec<Bucket>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            tick: 0,
            swept: 0,
            serial: 0,
            len: 0,
            entries: Vec::new(),
            free: NIL,
            heap: Vec::new(),
            occupied: [0; LEVELS],
            buckets: Vec::new(),
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Up to when everything was popped (invariant 4).
    pub(crate) fn swept(&self) -> u64 {
        self.swept
    }

    /// Puts a waker in for `deadline`. `now` lets an idle wheel catch up. Gives the waker back if the
    /// deadline has been swept already.
    pub(crate) fn insert(
        &mut self,
        now: u64,
        deadline: u64,
        waker: Waker,
    ) -> Result<EntryId, Waker> {
        if deadline <= self.swept {
            return Err(waker);
        }
        self.catch_up(now >> TICK_BITS);
        let index = self.allocate(deadline, waker);
        self.place(index);
        Ok(EntryId {
            index,
            serial: self.serial,
        })
    }

    /// Takes an entry out, if it is still there.
    pub(crate) fn remove(&mut self, id: EntryId) -> Option<Waker> {
        let entry = self.entry(id)?;
        match entry.place {
            HEAP => {
                let position = entry.prev as usize;
                self.heap_remove(position);
            }
            _ => self.unlink(id.index),
        }
        self.release(id.index)
    }

    /// Changes the deadline of an entry where it is, if it is still there and the new deadline has
    /// not been swept.
    pub(crate) fn reschedule(&mut self, now: u64, id: EntryId, deadline: u64) -> bool {
        let Some(entry) = self.entry(id) else {
            return false;
        };
        if deadline <= self.swept {
            return false;
        }
        match entry.place {
            HEAP => {
                let position = entry.prev as usize;
                self.heap_remove(position);
            }
            _ => self.unlink(id.index),
        }
        self.catch_up(now >> TICK_BITS);
        self.entries[id.index as usize].deadline = deadline;
        self.place(id.index);
        true
    }

    /// Replaces the waker of an entry and gives the old one back; or the new one, if the entry is gone.
    pub(crate) fn replace(&mut self, id: EntryId, waker: Waker) -> Result<Waker, Waker> {
        match self.entry_mut(id) {
            Some(Entry {
                waker: Some(old), ..
            }) => Ok(std::mem::replace(old, waker)),
            _ => Err(waker),
        }
    }

    /// Takes out the earliest entry that is due at `now`. `None` when there is none; the wheel has then
    /// been swept up to `now`.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Waker> {
        let now_tick = now >> TICK_BITS;
        loop {
            if let Some(&index) = self.heap.first() {
                if self.entries[index as usize].deadline <= now {
                    self.heap_remove(0);
                    return self.release(index);
                }
                break;
            }
            match self.first_bucket() {
                Some((bucket, start)) if start <= now_tick => {
                    self.tick = start;
                    self.open(bucket);
                }
                None if self.overflow_in_reach(now_tick) => {
                    self.tick = now_tick;
                    self.open(OVERFLOW as usize);
                }
                _ => {
                    self.tick = self.tick.max(now_tick);
                    break;
                }
            }
        }
        self.swept = self.swept.max(now);
        None
    }

    /// The earliest deadline; may name one that was removed since, never too late.
    pub(crate) fn next_deadline(&self) -> u64 {
        if let Some(&index) = self.heap.first() {
            return self.entries[index as usize].deadline;
        }
        let bucket = match self.first_bucket() {
            Some((bucket, _)) => bucket,
            None => OVERFLOW as usize,
        };
        self.buckets.get(bucket).map_or(NEVER, |list| list.earliest)
    }

    /// Takes all entries out, in no order.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Waker)) {
        for waker in self.entries.iter_mut().filter_map(|e| e.waker.take()) {
            each(waker);
        }
        *self = Self {
            tick: self.tick,
            swept: self.swept,
            serial: self.serial,
            ..Self::new()
        };
    }

    // --- Turning ---

    /// Turns an idle wheel forward, so that new entries are placed relative to the present.
    fn catch_up(&mut self, now_tick: u64) {
        let same_window = (now_tick ^ self.tick) >> WINDOW_BITS == 0;
        if now_tick > self.tick
            && self.heap.is_empty()
            && self.first_bucket().is_none()
            && (same_window || self.len == 0)
        {
            self.tick = now_tick;
        }
    }

    /// The earliest full bucket and the tick it starts at.
    fn first_bucket(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = LEVEL_BITS * level as u32;
        let upper = self.tick >> (shift + LEVEL_BITS) << LEVEL_BITS | u64::from(slot);
        Some((level * BUCKETS + slot as usize, upper << shift))
    }

    fn overflow_in_reach(&self, now_tick: u64) -> bool {
        now_tick >> WINDOW_BITS > self.tick >> WINDOW_BITS
            && self
                .buckets
                .get(OVERFLOW as usize)
                .is_some_and(|overflow| overflow.head != NIL)
    }

    /// Empties a bucket and places its entries again, relative to the present `tick`.
    fn open(&mut self, bucket: usize) {
        let mut index = std::mem::replace(&mut self.buckets[bucket], EMPTY).head;
        self.mark(bucket, false);
        while index != NIL {
            let next = self.entries[index as usize].next;
            self.place(index);
            index = next;
        }
    }

    // --- Placement ---

    fn place(&mut self, index: u32) {
        let deadline = self.entries[index as usize].deadline;
        let tick = deadline >> TICK_BITS;
        if tick <= self.tick {
            return self.heap_push(index);
        }
        let group = (63 - (tick ^ self.tick).leading_zeros()) / LEVEL_BITS;
        let bucket = if group as usize >= LEVELS {
            OVERFLOW as usize
        } else {
            let slot = (tick >> (LEVEL_BITS * group)) as usize % BUCKETS;
            group as usize * BUCKETS + slot
        };
        self.link(index, bucket, deadline);
    }

    fn link(&mut self, index: u32, bucket: usize, deadline: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![EMPTY; OVERFLOW as usize + 1];
        }
        let list = &mut self.buckets[bucket];
        let head = std::mem::replace(&mut list.head, index);
        list.earliest = list.earliest.min(deadline);
        if head != NIL {
            self.entries[head as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.prev = NIL;
        entry.next = head;
        entry.place = bucket as u16;
        self.mark(bucket, true);
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            prev, next, place, ..
        } = self.entries[index as usize];
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        if prev != NIL {
            self.entries[prev as usize].next = next;
            return;
        }
        let bucket = place as usize;
        self.buckets[bucket].head = next;
        if next == NIL {
            self.buckets[bucket] = EMPTY;
            self.mark(bucket, false);
        }
    }

    /// Keeps the occupancy word of a bucket's level. The overflow has none.
    fn mark(&mut self, bucket: usize, full: bool) {
        if let Some(bits) = self.occupied.get_mut(bucket / BUCKETS) {
            let bit = 1 << (bucket % BUCKETS);
            *bits = if full { *bits | bit } else { *bits & !bit };
        }
    }

    // --- The slab ---

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        let entry = self.entries.get(id.index as usize)?;
        (entry.serial == id.serial && entry.place != FREE).then_some(entry)
    }

    fn entry_mut(&mut self, id: EntryId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.serial == id.serial && entry.place != FREE).then_some(entry)
    }

    fn allocate(&mut self, deadline: u64, waker: Waker) -> u32 {
        self.serial += 1;
        self.len += 1;
        let entry = Entry {
            deadline,
            serial: self.serial,
            waker: Some(waker),
            prev: NIL,
            next: NIL,
            place: FREE,
        };
        if self.free == NIL {
            // Panic: 2³² entries of 48 bytes do not fit into any memory of today.
            let index = u32::try_from(self.entries.len()).expect("too many timers in one shard");
            self.entries.push(entry);
            return index;
        }
        let index = self.free;
        self.free = self.entries[index as usize].next;
        self.entries[index as usize] = entry;
        index
    }

    fn release(&mut self, index: u32) -> Option<Waker> {
        let entry = &mut self.entries[index as usize];
        entry.place = FREE;
        entry.next = self.free;
        self.free = index;
        let waker = entry.waker.take();
        self.len -= 1;
        if self.len == 0 && self.entries.capacity() > KEEP {
            self.entries = Vec::new();
            self.heap = Vec::new();
            self.free = NIL;
        }
        waker
    }

    // --- The heap ---

    fn heap_push(&mut self, index: u32) {
        self.heap.push(index);
        self.entries[index as usize].place = HEAP;
        self.sift_up(self.heap.len() - 1);
    }

    fn heap_remove(&mut self, position: usize) {
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            let position = self.sift_down(position);
            self.sift_up(position);
        }
    }

    fn heap_deadline(&self, position: usize) -> u64 {
        self.entries[self.heap[position] as usize].deadline
    }

    fn heap_note(&mut self, position: usize) {
        self.entries[self.heap[position] as usize].prev = position as u32;
    }

    fn sift_up(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap_deadline(parent) <= self.heap_deadline(position) {
                break;
            }
            self.heap.swap(parent, position);
            self.heap_note(position);
            position = parent;
        }
        self.heap_note(position);
    }

    fn sift_down(&mut self, mut position: usize) -> usize {
        loop {
            let mut child = 2 * position + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len()
                && self.heap_deadline(child + 1) < self.heap_deadline(child)
            {
                child += 1;
            }
            if self.heap_deadline(position) <= self.heap_deadline(child) {
                break;
            }
            self.heap.swap(position, child);
            self.heap_note(position);
            position = child;
        }
        self.heap_note(position);
        position
    }
}

#[cfg(all(test, not(heist_loom)))]
mod fuzz;

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    /// A waker that writes its deadline down.
    struct Scribe {
        deadline: u64,
        fired: Arc<Mutex<Vec<u64>>>,
    }
    impl Wake for Scribe {
        fn wake(self: Arc<Self>) {
            self.fired.lock().unwrap().push(self.deadline);
        }
    }

    pub(super) struct Bench {
        pub(super) wheel: Wheel,
        fired: Arc<Mutex<Vec<u64>>>,
    }

    impl Bench {
        pub(super) fn new() -> Self {
            Self {
                wheel: Wheel::new(),
                fired: Arc::default(),
            }
        }
        pub(super) fn waker(&self, deadline: u64) -> Waker {
            Arc::new(Scribe {
                deadline,
                fired: self.fired.clone(),
            })
            .into()
        }
        pub(super) fn insert(&mut self, now: u64, deadline: u64) -> Result<EntryId, Waker> {
            let waker = self.waker(deadline);
            self.wheel.insert(now, deadline, waker)
        }
        pub(super) fn advance(&mut self, now: u64) -> Vec<u64> {
            while let Some(waker) = self.wheel.pop_due(now) {
                waker.wake();
            }
            self.check();
            self.take_fired()
        }
        /// The deadlines of the wakers that ran.
        pub(super) fn take_fired(&self) -> Vec<u64> {
            std::mem::take(&mut *self.fired.lock().unwrap())
        }

        /// The invariants of the module, by brute force.
        pub(super) fn check(&self) {
            let w = &self.wheel;
            let live = w.entries.iter().filter(|e| e.place != FREE).count();
            assert_eq!(live, w.len, "len counts the entries");
            for (position, &index) in w.heap.iter().enumerate() {
                let e = &w.entries[index as usize];
                assert_eq!((e.place, e.prev), (HEAP, position as u32));
                assert!(w.heap_deadline(position.saturating_sub(1) / 2) <= e.deadline);
            }
            let mut seen = w.heap.len();
            for (number, bucket) in w.buckets.iter().enumerate() {
                let (level, slot) = (number / BUCKETS, number % BUCKETS);
                if level < LEVELS {
                    let bit = w.occupied[level] >> slot & 1;
                    assert_eq!(bit == 1, bucket.head != NIL, "occupancy");
                }
                let (mut index, mut prev) = (bucket.head, NIL);
                while index != NIL {
                    let e = &w.entries[index as usize];
                    assert_eq!((e.prev, e.place as usize), (prev, number));
                    assert!(bucket.earliest <= e.deadline && bucket.earliest > w.swept);
                    let differs = (e.deadline >> TICK_BITS) ^ w.tick;
                    assert!(e.deadline >> TICK_BITS > w.tick, "lies ahead");
                    assert_eq!(
                        ((63 - differs.leading_zeros()) / LEVEL_BITS).min(LEVELS as u32),
                        level as u32,
                        "level"
                    );
                    (prev, index) = (index, e.next);
                    seen += 1;
                }
            }
            assert_eq!(seen, w.len, "every entry is in one place");
        }
    }

    const TICK: u64 = 1 << TICK_BITS;

    #[test]
    fn fires_at_the_nanosecond_and_not_before() {
        for deadline in [1, TICK - 1, TICK, 70 * TICK + 5, 1 << 40, (1 << 58) + 12345] {
            let mut b = Bench::new();
            b.insert(0, deadline).unwrap();
            assert_eq!(b.wheel.next_deadline(), deadline);
            assert_eq!(b.advance(deadline - 1), []);
            assert_eq!(b.wheel.next_deadline(), deadline);
            assert_eq!(b.advance(deadline), [deadline]);
            assert_eq!(b.wheel.next_deadline(), NEVER);
            assert_eq!(b.wheel.len(), 0);
        }
    }

    /// Every power of 64 ticks is the border between two levels; a deadline on each side of it fires
    /// in order.
    #[test]
    fn borders_between_levels() {
        let mut b = Bench::new();
        let mut all = Vec::new();
        for level in 1..8 {
            let border = TICK << (6 * level);
            all.extend([border - 1, border, border + 1]);
        }
        for &deadline in all.iter().rev() {
            b.insert(0, deadline).unwrap();
        }
        b.check();
        assert_eq!(b.advance(NEVER - 1), all);
    }

    #[test]
    fn never_is_kept_and_never_fires() {
        let mut b = Bench::new();
        let id = b.insert(5, NEVER).unwrap();
        assert_eq!(b.wheel.next_deadline(), NEVER);
        assert_eq!(b.advance(NEVER - 1), []);
        assert!(b.wheel.remove(id).is_some());
        assert_eq!(b.wheel.len(), 0);
    }

    #[test]
    fn a_swept_deadline_is_given_back() {
        let mut b = Bench::new();
        b.advance(1000);
        assert!(b.insert(0, 1000).is_err());
        assert!(b.insert(0, 1001).is_ok());
    }

    #[test]
    fn a_dead_id_does_nothing_to_its_successor() {
        let mut b = Bench::new();
        let old = b.insert(0, 1 << 30).unwrap();
        assert!(b.wheel.remove(old).is_some());
        let new = b.insert(0, 1 << 31).unwrap();
        assert_eq!(old.index, new.index);
        assert!(b.wheel.remove(old).is_none());
        assert!(!b.wheel.reschedule(0, old, 7));
        let waker = b.waker(0);
        assert!(b.wheel.replace(old, waker).is_err());
        assert!(b.wheel.remove(new).is_some());
    }

    /// The earliest of a bucket is removed. The hint stays early until that time has gone by, then it
    /// is exact again: one wake-up for nothing, not more.
    #[test]
    fn a_removed_earliest_costs_one_early_look() {
        let mut b = Bench::new();
        let base = 1 << 40;
        let first = b.insert(0, base + 10).unwrap();
        b.insert(0, base + 900).unwrap();
        b.wheel.remove(first);
        assert_eq!(b.wheel.next_deadline(), base + 10);
        assert_eq!(b.advance(base + 10), []);
        assert_eq!(b.wheel.next_deadline(), base + 900);
    }

    #[test]
    fn an_emptied_wheel_gives_its_memory_back() {
        let mut b = Bench::new();
        let ids: Vec<_> = (1..5000).map(|i| b.insert(0, i * TICK).unwrap()).collect();
        assert!(b.wheel.entries.capacity() >= 4999);
        for id in ids {
            b.wheel.remove(id);
        }
        assert_eq!(b.wheel.entries.capacity(), 0);
        b.insert(0, 5).unwrap();
        assert_eq!(b.advance(5), [5]);
    }

    #[test]
    fn draining_takes_everything() {
        let mut b = Bench::new();
        for deadline in [3, 1 << 20, 1 << 40, NEVER] {
            b.insert(0, deadline).unwrap();
        }
        let mut count = 0;
        b.wheel.drain(|_| count += 1);
        assert_eq!(
            (count, b.wheel.len(), b.wheel.next_deadline()),
            (4, 0, NEVER)
        );
        b.check();
    }

    /// The machine was suspended, for an hour, for years, up to the end of the clock: whatever is due
    /// fires in order, what is not stays, and what is inserted afterwards is placed right.
    #[test]
    fn a_jump_of_the_clock_loses_nothing() {
        const HOUR: u64 = 3600 * 1_000_000_000;
        for jump in [
            HOUR,
            24 * 365 * HOUR,
            100 * 24 * 365 * HOUR,
            NEVER - 3 * HOUR,
        ] {
            let mut b = Bench::new();
            let before: Vec<_> = (0..64).map(|bit| 1 << bit).collect();
            for &deadline in before.iter().rev() {
                b.insert(0, deadline).unwrap();
            }
            let (due, later): (Vec<u64>, Vec<u64>) = before.iter().partition(|at| **at <= jump);
            assert_eq!(b.advance(jump), due);
            b.check();
            let after = [jump + 1, jump + TICK, jump + HOUR];
            for deadline in after {
                b.insert(jump, deadline).unwrap();
            }
            b.check();
            let mut rest: Vec<u64> = later.into_iter().chain(after).collect();
            rest.sort_unstable();
            assert_eq!(b.wheel.next_deadline(), rest[0]);
            assert_eq!(b.advance(NEVER - 1), rest);
        }
    }

    /// A thread that read the clock before another did comes later: the wheel turns back nowhere, and
    /// gives what it was swept up to back.
    #[test]
    fn an_older_reading_of_the_clock_turns_nothing_back() {
        let mut b = Bench::new();
        b.insert(0, 1 << 40).unwrap();
        assert_eq!(b.advance(1 << 39), []);
        assert_eq!(b.advance(5), []);
        assert_eq!(b.wheel.swept(), 1 << 39);
        assert!(b.insert(3, 1 << 38).is_err());
        let moved = b.insert(3, (1 << 39) + 1).unwrap();
        assert!(!b.wheel.reschedule(3, moved, 1 << 39));
        assert!(b.wheel.reschedule(3, moved, NEVER));
        b.check();
        assert_eq!(b.advance(NEVER - 1), [1 << 40]);
        assert_eq!(b.wheel.len(), 1);
    }
}
