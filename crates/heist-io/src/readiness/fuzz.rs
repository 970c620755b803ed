//! The readiness word against a table of what may follow what.
//!
//! `PROPTEST_CASES=20000 cargo test -p heist-io --release --lib readiness::fuzz -- --nocapture` is the longer run; it
//! says how many operations there were.

#![forbid(unsafe_code)]

use super::*;
use crate::random::with_random;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;

/// What one direction is, as its users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An attempt would block.
    Blocked,
    /// One would not, as far as is known.
    Open,
    /// The direction was closed: the next attempt tells, whether or not there is something left before that.
    Over,
}
use Phase::{Blocked, Open, Over};

/// What happens to one direction.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// An event that says nothing about it, or nothing at all.
    None = 0,
    /// An event: an attempt would not block.
    Ready = 1,
    /// An event: the direction is over.
    Close = 2,
    /// A short read or write, told with a ticket that no event has come after.
    Clear = 3,
    /// "Would block", told with such a ticket.
    ClearBlocked = 4,
    /// One of the two, told with a ticket that is too old.
    Stale = 5,
}

/// The table: what each phase becomes by each act.
#[rustfmt::skip]
const NEXT: [(Phase, [Phase; 6]); 3] = [
    //         None     Ready  Close  Clear    ClearBlocked  Stale
    (Blocked, [Blocked, Open,  Over,  Blocked, Blocked,      Blocked]),
    (Open,    [Open,    Open,  Over,  Blocked, Blocked,      Open]),
    (Over,    [Over,    Over,  Over,  Over,    Blocked,      Over]),
];

/// Which entries of the table were met.
type Met = [[bool; 6]; 3];

impl Phase {
    fn next(self, act: Act, met: &mut Met) -> Phase {
        let row = NEXT.iter().position(|(phase, _)| *phase == self);
        let row = row.expect("a row for each phase");
        met[row][act as usize] = true;
        NEXT[row].1[act as usize]
    }

    fn is_ready(self) -> bool {
        self != Blocked
    }

    fn is_closed(self) -> bool {
        self == Over
    }
}

/// Each event: what it does to the reader and the writer, and whether it wakes them.
const EVENTS: [(Occurred, Act, Act, bool, bool); 7] = [
    (Occurred::NOTHING, Act::None, Act::None, false, false),
    (Occurred::READABLE, Act::Ready, Act::None, true, false),
    (Occurred::WRITABLE, Act::None, Act::Ready, false, true),
    // A writer hears of it and is none the readier.
    (Occurred::READ_CLOSED, Act::Close, Act::None, true, true),
    (Occurred::HANGUP, Act::Close, Act::Close, true, true),
    (Occurred::ERROR, Act::Ready, Act::Ready, true, true),
    (Occurred::DISARMED, Act::None, Act::None, true, true),
];

const DIRECTIONS: [Direction; 2] = [Direction::Read, Direction::Write];
const PLACES: [Place; 2] = [Place::Slot, Place::List];

#[derive(Clone, Copy, Debug)]
enum Op {
    /// One of the events, or two of them at once.
    Event(usize, usize),
    /// Somebody takes a ticket before an attempt.
    Snapshot,
    /// Somebody shows a ticket, the newest or an older one: by direction, after "would block" or not.
    Clear(Direction, bool, usize),
    /// Somebody leaves a waker. What it is told is a ticket as well.
    Wait(Direction, Place),
    /// The driver closes, or the source goes.
    Finish(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let direction = prop_oneof![Just(Direction::Read), Just(Direction::Write)];
    let place = prop_oneof![Just(Place::Slot), Just(Place::List)];
    // Mostly the newest.
    let age = prop_oneof![3 => Just(0_usize), 1 => 0_usize..20];
    let events = 0..EVENTS.len();
    prop_oneof![
        30 => events.clone().prop_map(|event| Op::Event(event, 0)),
        6 => (events.clone(), events).prop_map(|(one, other)| Op::Event(one, other)),
        10 => Just(Op::Snapshot),
        30 => (direction.clone(), any::<bool>(), age)
            .prop_map(|(direction, blocked, age)| Op::Clear(direction, blocked, age)),
        30 => (direction, place).prop_map(|(direction, place)| Op::Wait(direction, place)),
        1 => any::<bool>().prop_map(Op::Finish),
    ]
}

/// What is expected of a word.
struct Model {
    phases: [Phase; 2],
    /// By direction and place: whether somebody waits there.
    waits: [[bool; 2]; 2],
    error: bool,
    closed: bool,
    deregistered: bool,
    events: u64,
    met: Met,
}

/// A word and what is expected of it, with the tickets that were given out.
struct Pair {
    word: Word,
    model: Model,
    /// With the number of events before each.
    tickets: Vec<(Ready, u64)>,
}

impl Pair {
    /// With a tick that wraps around soon, or not.
    fn new(generation: u32, tick: u32) -> Pair {
        let word = Word::new(generation);
        word.0.fetch_or(u64::from(tick) << 32, Ordering::Relaxed);
        Pair {
            tickets: vec![(word.load(), 0)],
            word,
            model: Model {
                phases: [Blocked; 2],
                waits: [[false; 2]; 2],
                error: false,
                closed: false,
                deregistered: false,
                events: 0,
                met: Met::default(),
            },
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Event(one, other) => self.event(EVENTS[one], EVENTS[other]),
            Op::Snapshot => {
                let ticket = (self.word.load(), self.model.events);
                self.tickets.push(ticket);
            }
            Op::Clear(direction, blocked, age) => self.clear(direction, blocked, age),
            Op::Wait(direction, place) => self.wait(direction, place),
            Op::Finish(by_driver) => self.finish(by_driver),
        }
        self.check(self.word.load());
    }

    fn event(
        &mut self,
        one: (Occurred, Act, Act, bool, bool),
        other: (Occurred, Act, Act, bool, bool),
    ) {
        let waiting = self.word.apply(one.0 | other.0);
        self.model.events += 1;
        for (_, reads, writes, _, _) in [one, other] {
            let [reader, writer] = self.model.phases;
            let met = &mut self.model.met;
            self.model.phases = [reader.next(reads, met), writer.next(writes, met)];
        }
        self.model.error |= [one.0, other.0].contains(&Occurred::ERROR);
        self.woken(waiting, [one.3 || other.3, one.4 || other.4]);
    }

    fn clear(&mut self, direction: Direction, blocked: bool, age: usize) {
        let nth = self.tickets.len().saturating_sub(age + 1);
        let (ticket, events) = self.tickets[nth];
        let act = match (events == self.model.events, blocked) {
            (false, _) => Act::Stale,
            (true, true) => Act::ClearBlocked,
            (true, false) => Act::Clear,
        };
        if blocked {
            self.word.clear_blocked(direction, ticket);
        } else {
            self.word.clear(direction, ticket);
        }
        let phase = &mut self.model.phases[direction as usize];
        *phase = phase.next(act, &mut self.model.met);
    }

    fn wait(&mut self, direction: Direction, place: Place) {
        let told = self.word.wait(direction, place);
        // What was the case before, and so it does not count itself.
        self.check(told);
        self.tickets.push((told, self.model.events));
        self.model.waits[direction as usize][place as usize] = true;
    }

    fn finish(&mut self, by_driver: bool) {
        let (end, before) = if by_driver {
            (End::DriverClosed, &mut self.model.closed)
        } else {
            (End::Deregistered, &mut self.model.deregistered)
        };
        let was_first = !std::mem::replace(before, true);
        match self.word.finish(end) {
            Some(waiting) => {
                assert!(was_first, "an end that had come before");
                self.woken(waiting, [true; 2]);
            }
            None => {
                assert!(!was_first);
                // Whoever has left a waker since has been told that it is over.
                self.model.waits = [[false; 2]; 2];
            }
        }
    }

    /// Of the directions that were to be woken exactly those who wait are, and no longer wait.
    fn woken(&mut self, waiting: Waiting, wakes: [bool; 2]) {
        let mut listed = false;
        for direction in DIRECTIONS {
            for place in PLACES {
                let waits = &mut self.model.waits[direction as usize][place as usize];
                let wanted = *waits && wakes[direction as usize];
                assert_eq!(
                    waiting.has(direction, place),
                    wanted,
                    "{direction:?} {place:?}"
                );
                *waits &= !wanted;
                listed |= wanted && place == Place::List;
            }
        }
        assert_eq!(waiting.has_listed(), listed);
    }

    /// Everything that can be asked of a word.
    fn check(&self, seen: Ready) {
        let model = &self.model;
        let [reads, writes] = model.phases;
        let ended = model.closed || model.deregistered;
        assert_eq!(seen.is_readable(), reads.is_ready(), "{seen:?}");
        assert_eq!(seen.is_writable(), writes.is_ready(), "{seen:?}");
        assert_eq!(seen.is_read_closed(), reads.is_closed(), "{seen:?}");
        assert_eq!(seen.is_write_closed(), writes.is_closed(), "{seen:?}");
        assert_eq!(seen.is_error(), model.error, "{seen:?}");
        assert_eq!(seen.is_closed(), model.closed, "{seen:?}");
        let end = match (model.closed, model.deregistered) {
            (true, _) => Some(End::DriverClosed),
            (false, true) => Some(End::Deregistered),
            (false, false) => None,
        };
        assert_eq!(seen.end(), end, "{seen:?}");
        for direction in DIRECTIONS {
            let (phase, waits) = (
                model.phases[direction as usize],
                model.waits[direction as usize],
            );
            assert_eq!(
                seen.satisfies(direction),
                phase.is_ready() || ended,
                "{seen:?}"
            );
            assert_eq!(
                seen.is_awaited(direction),
                waits.contains(&true),
                "{seen:?}"
            );
        }
    }
}

/// Whatever happens in whatever order, each direction goes from phase to phase as the table says, an old ticket
/// clears nothing, and whoever waits is woken by the first event that is about it, or by the end.
#[test]
fn follows_the_table() {
    let met = Cell::new(Met::default());
    let tick = prop_oneof![Just(0), u32::MAX - 5..=u32::MAX];
    let all = (any::<u32>(), tick, vec(op(), 1..200));
    with_random(all, |(generation, tick, ops)| {
        let count = ops.len();
        let mut pair = Pair::new(generation, tick);
        ops.into_iter().for_each(|op| pair.apply(op));
        let mut all = met.get();
        for (row, more) in all.iter_mut().zip(pair.model.met) {
            for (entry, more) in row.iter_mut().zip(more) {
                *entry |= more;
            }
        }
        met.set(all);
        count
    });
    let met = met.get();
    assert!(
        cfg!(miri) || met == [[true; 6]; 3],
        "these entries were met: {met:?}"
    );
}
