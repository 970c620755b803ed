//! The wheel against a sorted map: random sequences of everything that can be done to it.
//!
//! `PROPTEST_CASES=20000 cargo test -p heist-io --release --lib wheel::fuzz -- --nocapture` is the longer run; it says
//! how many operations there were.

#![forbid(unsafe_code)]

use super::tests::Bench;
use super::{BUCKETS, EntryId, LEVELS, TICK_BITS};
use crate::clock::NEVER;
use crate::random::with_random;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A moment, as it is chosen when the present is known.
#[derive(Clone, Copy, Debug)]
enum When {
    /// So far from now: spans of all magnitudes, so that all levels are met.
    After(u64),
    /// About the next edge of a bucket of this level: before it, on it, after it.
    Edge(usize, i64),
    /// About the deadline of one of the entries, in the same way.
    Beside(usize, i64),
    /// So long before the last moment of the clock.
    BeforeEnd(u64),
    /// That of a deadline which never comes.
    Never,
}

#[derive(Clone, Debug)]
enum Op {
    Insert(When),
    /// By a thread that has read the clock so much earlier.
    InsertLate(u64, When),
    Remove(usize),
    Reschedule(usize, When),
    Replace(usize),
    /// The clock goes on.
    Advance(When),
    /// Sleeps until the next deadline that the wheel names, as a worker does.
    Sleep,
    /// The shard is closed.
    Drain,
}

fn span() -> impl Strategy<Value = u64> {
    (0_u32..64, any::<u64>()).prop_map(|(bits, x)| x & ((1 << bits) - 1))
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        4 => span().prop_map(When::After),
        2 => (0..LEVELS + 2, -1_i64..=1).prop_map(|(level, by)| When::Edge(level, by)),
        2 => (any::<usize>(), -1_i64..=1).prop_map(|(nth, by)| When::Beside(nth, by)),
        1 => (0_u64..3).prop_map(When::BeforeEnd),
        1 => Just(When::Never),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        50 => when().prop_map(Op::Insert),
        5 => (span(), when()).prop_map(|(early, when)| Op::InsertLate(early, when)),
        20 => any::<usize>().prop_map(Op::Remove),
        15 => (any::<usize>(), when()).prop_map(|(nth, when)| Op::Reschedule(nth, when)),
        5 => any::<usize>().prop_map(Op::Replace),
        // Mostly small steps: a jump to the end of the clock leaves nothing to do.
        20 => (0_u32..44, any::<u64>()).prop_map(|(bits, x)| Op::Advance(When::After(x & ((1 << bits) - 1)))),
        5 => when().prop_map(Op::Advance),
        15 => Just(Op::Sleep),
        1 => Just(Op::Drain),
    ]
}

/// The wheel, and the map that it must agree with.
struct Pair {
    bench: Bench,
    /// By deadline and by a number of its own.
    map: BTreeMap<(u64, u64), EntryId>,
    numbers: u64,
    now: u64,
    /// Entries that went before their time: each may cost one look for nothing.
    taken: u64,
    looks_for_nothing: u64,
}

impl Pair {
    fn new() -> Pair {
        Pair {
            bench: Bench::new(),
            map: BTreeMap::new(),
            numbers: 0,
            now: 0,
            taken: 0,
            looks_for_nothing: 0,
        }
    }

    fn moment(&self, when: When) -> u64 {
        match when {
            When::After(span) => self.now.saturating_add(span),
            When::Edge(level, by) => {
                let width = 1_u64 << TICK_BITS << (BUCKETS.ilog2() as usize * level);
                let edge = (self.now / width).saturating_add(1).saturating_mul(width);
                edge.saturating_add_signed(by)
            }
            When::Beside(nth, by) => {
                let deadline = self
                    .nth(nth)
                    .map_or(self.now, |((deadline, _), _)| deadline);
                deadline.saturating_add_signed(by)
            }
            When::BeforeEnd(span) => NEVER - 1 - span,
            When::Never => NEVER,
        }
    }

    fn nth(&self, nth: usize) -> Option<((u64, u64), EntryId)> {
        let at = nth.checked_rem(self.map.len())?;
        self.map.iter().nth(at).map(|(key, id)| (*key, *id))
    }

    /// A deadline can be put in exactly if it has not been swept.
    fn insert(&mut self, read: u64, deadline: u64) {
        let swept = self.bench.wheel.swept();
        match self.bench.insert(read, deadline) {
            Ok(id) => {
                assert!(deadline > swept, "a deadline in the past was taken");
                self.numbers += 1;
                self.map.insert((deadline, self.numbers), id);
            }
            Err(_) => assert!(deadline <= swept, "a deadline to come was refused"),
        }
    }

    fn remove(&mut self, nth: usize) {
        if let Some((key, id)) = self.nth(nth) {
            self.map.remove(&key);
            self.taken += 1;
            assert!(self.bench.wheel.remove(id).is_some());
            assert!(self.bench.wheel.remove(id).is_none(), "it is gone");
            assert!(!self.bench.wheel.reschedule(self.now, id, NEVER));
        }
    }

    fn reschedule(&mut self, nth: usize, when: When) {
        let deadline = self.moment(when);
        if let Some((key, id)) = self.nth(nth) {
            let moved = self.bench.wheel.reschedule(self.now, id, deadline);
            assert_eq!(moved, deadline > self.bench.wheel.swept());
            if moved {
                self.map.remove(&key);
                self.map.insert((deadline, key.1), id);
                self.taken += 1;
                self.replace_waker(id, deadline, key.0);
            }
        }
    }

    /// Its waker now writes `deadline` down, and gives back the one that wrote the other.
    fn replace_waker(&mut self, id: EntryId, deadline: u64, before: u64) {
        let waker = self.bench.waker(deadline);
        let old = self.bench.wheel.replace(id, waker);
        old.expect("the entry is there").wake();
        assert_eq!(self.bench.take_fired(), [before], "the waker of that entry");
    }

    fn advance(&mut self, now: u64) -> usize {
        // Nobody's clock reads NEVER.
        let now = now.min(NEVER - 1);
        let due: Vec<u64> = self
            .map
            .range(..=(now, u64::MAX))
            .map(|(key, _)| key.0)
            .collect();
        self.map.retain(|key, _| key.0 > now);
        assert_eq!(
            self.bench.advance(now),
            due,
            "what is due, once each and in order"
        );
        self.now = self.now.max(now);
        assert_eq!(self.bench.wheel.swept(), self.now);
        due.len()
    }

    /// Whoever sleeps until the deadline that is named finds something due, or pays for one that was taken.
    fn sleep(&mut self) {
        let next = self.bench.wheel.next_deadline();
        if next != NEVER && self.advance(next) == 0 {
            self.looks_for_nothing += 1;
        }
    }

    fn drain(&mut self) {
        let mut count = 0;
        self.bench.wheel.drain(|_| count += 1);
        assert_eq!(count, self.map.len());
        self.map.clear();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert(when) => self.insert(self.now, self.moment(when)),
            Op::InsertLate(early, when) => {
                self.insert(self.now.saturating_sub(early), self.moment(when));
            }
            Op::Remove(nth) => self.remove(nth),
            Op::Reschedule(nth, when) => self.reschedule(nth, when),
            Op::Replace(nth) => {
                if let Some(((deadline, _), id)) = self.nth(nth) {
                    self.replace_waker(id, deadline, deadline);
                }
            }
            Op::Advance(when) => {
                let moment = self.moment(when);
                self.advance(moment);
            }
            Op::Sleep => self.sleep(),
            Op::Drain => self.drain(),
        }
        self.check();
    }

    fn check(&mut self) {
        self.bench.check();
        assert_eq!(self.bench.wheel.len(), self.map.len());
        let next = self.bench.wheel.next_deadline();
        let earliest = self.map.keys().next().map_or(NEVER, |key| key.0);
        assert!(next <= earliest, "nobody would wake up in time");
        assert!(
            next > self.bench.wheel.swept(),
            "somebody would wake up at once, again and again"
        );
        assert!(self.looks_for_nothing <= self.taken);
    }
}

/// The same deadlines fire as in a sorted map, in order and at their time; none early, late, twice or never. The
/// deadline to sleep until is never too late, and too early once for each entry that was taken out, at most.
#[test]
fn behaves_as_a_sorted_map() {
    with_random(vec(op(), 1..200), |ops| {
        let count = ops.len();
        let mut pair = Pair::new();
        ops.into_iter().for_each(|op| pair.apply(op));
        // At the end of the clock all that can come has come.
        pair.advance(NEVER - 1);
        pair.check();
        assert!(pair.map.keys().all(|key| key.0 == NEVER));
        count
    });
}
