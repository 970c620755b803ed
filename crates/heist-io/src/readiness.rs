//! The readiness word: what is known about one source, and who waits for more.
//!
//! One `AtomicU64` per source. This file owns it; elsewhere nobody sees a bit.
//!
//! | bits   | content                                                                          |
//! |--------|----------------------------------------------------------------------------------|
//! | 0–4    | readiness: readable, writable, read closed, write closed, error                  |
//! | 5–6    | ends: driver closed, deregistered                                                |
//! | 7–10   | waiters: slot and list, for each direction                                       |
//! | 16–31  | the low half of the first registration's generation; a move does not change it   |
//! | 32–63  | the event tick: bumped by *every* event, also when no other bit changes; wraps   |
//!
//! ```text
//!                      1 apply (event)
//!          ┌──────────────────────────────────────┐
//!          │                                      ▼
//!   not ready ──2 wait──▶ not ready, waited for   ready (waiters woken, their bits cleared)
//!          ▲                      │ 1             │
//!          │                      └──────────────▶│
//!          └──────────────3 clear (same tick)─────┘          any ──4 finish──▶ ended
//! ```
//!
//! | edge | who                                         | method                               |
//! |------|---------------------------------------------|--------------------------------------|
//! | 1    | the holder of the shard's turn              | [`Word::apply`]                      |
//! | 2    | a waiter, after it stored its waker         | [`Word::wait`]                       |
//! | 3    | whoever got "would block", or a short read  | [`Word::clear`], [`Word::clear_blocked`] |
//! | 4    | `close`, `deregister`                       | [`Word::finish`]                     |
//!
//! # Edge-triggered, so nothing may be forgotten
//!
//! The system reports a change once. Two things could lose it.
//!
//! **A clear that comes too late.** A task loads the word ([`Ready`]), tries its system call, is told
//! "would block", and clears readiness. An event between the call and the clear must survive. It
//! bumped the tick, the clear compares the tick with that of the load, and does nothing. The
//! comparison and the clear are one compare-exchange. A tick that wraps around needs 2³² events
//! between one load and its clear.
//!
//! **A wake-up between look and sleep.** Both sides act on the word by read-modify-writes, so one of
//! them comes first:
//!
//! ```text
//!   a waiter                                  the holder of the turn
//!   w1  stores its waker (slot or list)       e1  word: readiness on, tick + 1, waiter bits off
//!   w2  word: waiter bit on                   e2  was a waiter bit on? takes those wakers
//!       was it ready? do not sleep            e3  (turn let go) runs them
//! ```
//!
//! If w2 comes first, e1 sees the bit, and by acquire e2 finds the waker of w1. If e1 comes first,
//! w2 sees readiness, unless a clear came between, which is then by another user of the same
//! direction who has seen "would block" after e1; the waiter's bit stays for the next event.
//! Between e1 and e2 a new waiter may set the bit and lose its waker to e2: it is woken for
//! nothing, and comes back.
//!
//! # What stays
//!
//! *Read closed* and *write closed* survive [`Word::clear`]: data and FIN that arrive together are
//! one event, and after the short read that takes the data the end of the stream must still be
//! ready. They do not survive [`Word::clear_blocked`]: a call that would block on a direction
//! reported closed proves that it is open (a FIFO with a new writer, a socket registered before
//! it was connected), and a bit that stayed would make its user spin. *Error* is information only:
//! it comes with both directions ready, which clear as usual. (A UDP socket gets one for each ICMP
//! answer, and goes on working.)

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::BitOr;

use crate::sync::{AtomicU64, Ordering};

/// Set by an event that says a read would not block; cleared by a user whose read did block, or
/// was short.
const READABLE: u64 = 1 << 0;
/// The same for writes.
const WRITABLE: u64 = 1 << 1;
/// The peer will send no more. Implies that a read does not block. See "What stays".
const READ_CLOSED: u64 = 1 << 2;
/// Writes will fail. See "What stays".
const WRITE_CLOSED: u64 = 1 << 3;
/// An error condition was reported at some time. Never cleared, and by itself no readiness.
const ERROR: u64 = 1 << 4;
/// The driver closed. Never cleared; every wait answers with an error.
const DRIVER_CLOSED: u64 = 1 << 5;
/// The source was deregistered. Never cleared; every wait answers with an error.
const DEREGISTERED: u64 = 1 << 6;
/// The waker slot of the readers may hold a waker. Set after the waker was stored, cleared by the
/// event (or end) that takes it. May be set over an empty slot, never clear over one that counts.
const SLOT_READ: u64 = 1 << 7;
/// The same for writers.
const SLOT_WRITE: u64 = 1 << 8;
/// The list may hold wakers of readers, as `SLOT_READ`.
const LIST_READ: u64 = 1 << 9;
/// The same for writers.
const LIST_WRITE: u64 = 1 << 10;

/// Not in the word: a mark on an event that took its registration's arms, see [`Occurred::DISARMED`].
const DISARMED: u64 = 1 << 11;

const ENDED: u64 = DRIVER_CLOSED | DEREGISTERED;
const WAITERS_READ: u64 = SLOT_READ | LIST_READ;
const WAITERS_WRITE: u64 = SLOT_WRITE | LIST_WRITE;

const GENERATION_SHIFT: u32 = 16;
const TICK: u64 = 1 << 32;
/// Generation and tick together: what `clear` compares.
const MOMENT: u64 = !0 << GENERATION_SHIFT;

/// One of the two directions of a source.
///
/// # Examples
/// ```
/// use heist_io::Direction;
/// assert_ne!(Direction::Read, Direction::Write);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reading, receiving, accepting.
    Read,
    /// Writing, sending, connecting.
    Write,
}

impl Direction {
    /// The bits by which this direction is ready.
    fn ready(self) -> u64 {
        match self {
            Direction::Read => READABLE | READ_CLOSED,
            Direction::Write => WRITABLE | WRITE_CLOSED,
        }
    }

    /// The bit that `clear` takes away.
    fn open(self) -> u64 {
        match self {
            Direction::Read => READABLE,
            Direction::Write => WRITABLE,
        }
    }

    fn waiter(self, place: Place) -> u64 {
        match (self, place) {
            (Direction::Read, Place::Slot) => SLOT_READ,
            (Direction::Write, Place::Slot) => SLOT_WRITE,
            (Direction::Read, Place::List) => LIST_READ,
            (Direction::Write, Place::List) => LIST_WRITE,
        }
    }
}

/// Where a waiter left its waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Slot,
    List,
}

/// What a system reported about a source in one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occurred(u64);

#[allow(dead_code, reason = "not every system can tell all of them apart")]
impl Occurred {
    pub(crate) const NOTHING: Occurred = Occurred(0);
    pub(crate) const READABLE: Occurred = Occurred(READABLE);
    pub(crate) const WRITABLE: Occurred = Occurred(WRITABLE);
    /// The peer has shut down its writing side. A writer may want to know as well.
    pub(crate) const READ_CLOSED: Occurred = Occurred(READABLE | READ_CLOSED);
    /// Both directions are over.
    pub(crate) const HANGUP: Occurred = Occurred(READABLE | WRITABLE | READ_CLOSED | WRITE_CLOSED);
    pub(crate) const ERROR: Occurred = Occurred(READABLE | WRITABLE | ERROR);

    /// The registration fires once and has: whoever waits must come back and arm it again.
    #[allow(
        dead_code,
        reason = "not every system has registrations that fire once"
    )]
    pub(crate) const DISARMED: Occurred = Occurred(DISARMED);

    /// The waiters that this event wakes.
    fn wakes(self) -> u64 {
        let mut waiters = 0;
        if self.0 & (READABLE | READ_CLOSED | ERROR | DISARMED) != 0 {
            waiters |= WAITERS_READ;
        }
        if self.0 & (WRITABLE | READ_CLOSED | WRITE_CLOSED | ERROR | DISARMED) != 0 {
            waiters |= WAITERS_WRITE;
        }
        waiters
    }
}

impl BitOr for Occurred {
    type Output = Occurred;
    fn bitor(self, other: Occurred) -> Occurred {
        Occurred(self.0 | other.0)
    }
}

/// Who must be woken after an edge 1 or 4: the waiter bits that it cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Waiting(u64);

impl Waiting {
    /// Whether a waker of this direction may be in this place.
    #[inline]
    pub(crate) fn has(self, direction: Direction, place: Place) -> bool {
        self.0 & direction.waiter(place) != 0
    }

    /// Whether there may be one in the list.
    #[inline]
    pub(crate) fn has_listed(self) -> bool {
        self.0 & (LIST_READ | LIST_WRITE) != 0
    }
}

/// Why a source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    DriverClosed,
    Deregistered,
}

/// What was known about a source at one moment: readiness, and the event it was seen after.
///
/// Taken before an attempt ([`Source::snapshot`](crate::Source::snapshot)) or given by a wait, and
/// shown when the attempt would have blocked ([`Source::clear`](crate::Source::clear)), so that an
/// event that came between is not cleared.
///
/// # Examples
/// ```no_run
/// # fn attempt(source: &heist_io::Source) {
/// use heist_io::Direction;
/// let seen = source.snapshot();
/// // … the system call answers "would block" …
/// source.clear_blocked(Direction::Read, seen);
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ready(u64);

impl Ready {
    /// Whether a read would not block, as far as is known.
    pub fn is_readable(self) -> bool {
        self.0 & Direction::Read.ready() != 0
    }

    /// Whether a write would not block, as far as is known.
    pub fn is_writable(self) -> bool {
        self.0 & Direction::Write.ready() != 0
    }

    /// Whether the peer will send no more.
    pub fn is_read_closed(self) -> bool {
        self.0 & READ_CLOSED != 0
    }

    /// Whether writes will fail.
    pub fn is_write_closed(self) -> bool {
        self.0 & WRITE_CLOSED != 0
    }

    /// Whether an error condition has ever been reported.
    pub fn is_error(self) -> bool {
        self.0 & ERROR != 0
    }

    /// Whether the driver was closed.
    pub fn is_closed(self) -> bool {
        self.0 & DRIVER_CLOSED != 0
    }

    /// Why no more readiness will come, if so.
    pub(crate) fn end(self) -> Option<End> {
        if self.0 & ENDED == 0 {
            None
        } else if self.is_closed() {
            Some(End::DriverClosed)
        } else {
            Some(End::Deregistered)
        }
    }

    /// Whether a wait for `direction` is over.
    #[inline]
    pub(crate) fn satisfies(self, direction: Direction) -> bool {
        self.0 & (direction.ready() | ENDED) != 0
    }

    /// Whether somebody waits in `direction`.
    pub(crate) fn is_awaited(self, direction: Direction) -> bool {
        let waiters = match direction {
            Direction::Read => WAITERS_READ,
            Direction::Write => WAITERS_WRITE,
        };
        self.0 & waiters != 0
    }

    fn tick(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u64, &str); 11] = [
            (READABLE, "readable"),
            (WRITABLE, "writable"),
            (READ_CLOSED, "read closed"),
            (WRITE_CLOSED, "write closed"),
            (ERROR, "error"),
            (DRIVER_CLOSED, "driver closed"),
            (DEREGISTERED, "deregistered"),
            (SLOT_READ, "reader waits"),
            (SLOT_WRITE, "writer waits"),
            (LIST_READ, "readers listed"),
            (LIST_WRITE, "writers listed"),
        ];
        write!(f, "Ready(tick {}", self.tick())?;
        for (bit, name) in NAMES {
            if self.0 & bit != 0 {
                write!(f, ", {name}")?;
            }
        }
        f.write_str(")")
    }
}

/// The word itself.
pub(crate) struct Word(AtomicU64);

impl Word {
    pub(crate) fn new(generation: u32) -> Self {
        Self(AtomicU64::new(
            u64::from(generation as u16) << GENERATION_SHIFT,
        ))
    }

    /// The present state.
    #[inline]
    pub(crate) fn load(&self) -> Ready {
        // Ordering: Acquire, with the Release of `apply` and `finish`: a waiter that finds the source
        // ended sees what `close` wrote before.
        Ready(self.0.load(Ordering::Acquire))
    }

    /// Edge 1: an event. Answers whose wakers are to be taken.
    pub(crate) fn apply(&self, occurred: Occurred) -> Waiting {
        let wakes = occurred.wakes();
        let set = occurred.0 & !DISARMED;
        let before = self.exchange(|word| (word | set).wrapping_add(TICK) & !wakes);
        Waiting(before & wakes)
    }

    /// Edge 4. Answers whose wakers are to be taken, or `None` if this end had come before.
    pub(crate) fn finish(&self, end: End) -> Option<Waiting> {
        let bit = match end {
            End::DriverClosed => DRIVER_CLOSED,
            End::Deregistered => DEREGISTERED,
        };
        let wakes = WAITERS_READ | WAITERS_WRITE;
        let before = self.exchange(|word| (word | bit) & !wakes);
        (before & bit == 0).then_some(Waiting(before & wakes))
    }

    fn exchange(&self, change: impl Fn(u64) -> u64) -> u64 {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            // Ordering: Acquire, with the Release of `wait`: the waker stored before the waiter bit.
            // Release, with the Acquire of `load` and `wait`: what the caller wrote before.
            match self.0.compare_exchange_weak(
                word,
                change(word),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(before) => return before,
                Err(found) => word = found,
            }
        }
    }

    /// Edge 2: the waiter's waker is stored in `place`. Answers the state at that moment; if it
    /// satisfies the wait, the waiter must not sleep.
    pub(crate) fn wait(&self, direction: Direction, place: Place) -> Ready {
        // Ordering: Release, with the Acquire of `apply` and `finish`: the waker stored before.
        // Acquire as in `load`. A read-modify-write and not a load, since it must come before or
        // after the event in one order with it.
        Ready(self.0.fetch_or(direction.waiter(place), Ordering::AcqRel))
    }

    /// Edge 3 after a short read or write: takes away readiness of `direction`, not its closing,
    /// unless an event has come since `seen`.
    pub(crate) fn clear(&self, direction: Direction, seen: Ready) {
        self.clear_bits(direction.open(), seen);
    }

    /// Edge 3 after "would block": takes away all that makes `direction` ready, unless an event has
    /// come since `seen`.
    pub(crate) fn clear_blocked(&self, direction: Direction, seen: Ready) {
        self.clear_bits(direction.ready(), seen);
    }

    fn clear_bits(&self, bits: u64, seen: Ready) {
        // Ordering: Relaxed throughout: no memory is published by the absence of readiness; the
        // operations on this one word have one order, and the tick says on which side of an event
        // this one is.
        let mut word = self.0.load(Ordering::Relaxed);
        while ((word ^ seen.0) & MOMENT == 0 || cfg!(heist_bug_09)) && word & bits != 0 {
            match self.0.compare_exchange_weak(
                word,
                word & !bits,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod fuzz;

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use Direction::{Read, Write};

    #[test]
    fn a_clear_with_an_old_ticket_does_nothing() {
        let word = Word::new(7);
        let _ = word.apply(Occurred::READABLE);
        let seen = word.load();
        let _ = word.apply(Occurred::READABLE); // no bit changes, the tick does
        word.clear(Read, seen);
        assert!(word.load().is_readable());
        word.clear(Read, word.load());
        assert!(!word.load().is_readable());
    }

    #[test]
    fn the_tick_wraps_without_touching_anything_else() {
        let word = Word::new(0xABCD_1234);
        word.0.fetch_or(!0 << 32, Ordering::Relaxed);
        let before = word.load();
        assert_eq!(before.tick(), u32::MAX);
        let _ = word.apply(Occurred::WRITABLE);
        let after = word.load();
        assert_eq!(after.tick(), 0);
        assert_eq!(after.0 as u32, 0x1234_0000 | WRITABLE as u32);
        word.clear(Write, before);
        assert!(after.is_writable() && word.load().is_writable());
    }

    #[test]
    fn closing_survives_a_short_read_but_not_would_block() {
        let word = Word::new(0);
        let _ = word.apply(Occurred::READ_CLOSED);
        word.clear(Read, word.load());
        assert!(word.load().satisfies(Read) && word.load().is_read_closed());
        word.clear_blocked(Read, word.load());
        assert!(!word.load().satisfies(Read));
    }

    #[test]
    fn an_error_is_not_a_readiness_for_ever() {
        let word = Word::new(0);
        let _ = word.apply(Occurred::ERROR);
        assert!(word.load().satisfies(Read) && word.load().satisfies(Write));
        word.clear(Read, word.load());
        word.clear(Write, word.load());
        assert!(!word.load().satisfies(Read) && !word.load().satisfies(Write));
        assert!(word.load().is_error());
    }

    #[test]
    fn each_event_wakes_its_directions() {
        let cases = [
            (Occurred::NOTHING, false, false),
            (Occurred::READABLE, true, false),
            (Occurred::WRITABLE, false, true),
            (Occurred::READ_CLOSED, true, true),
            (Occurred::HANGUP, true, true),
            (Occurred::ERROR, true, true),
            (Occurred::DISARMED, true, true),
        ];
        for (occurred, reader, writer) in cases {
            for place in [Place::Slot, Place::List] {
                let word = Word::new(0);
                assert!(!word.wait(Read, place).satisfies(Read));
                assert!(!word.wait(Write, place).satisfies(Write));
                let waiting = word.apply(occurred);
                assert_eq!(waiting.has(Read, place), reader, "{occurred:?}");
                assert_eq!(waiting.has(Write, place), writer, "{occurred:?}");
                assert_eq!(word.load().is_awaited(Read), !reader);
                assert_eq!(word.load().is_awaited(Write), !writer);
            }
        }
    }

    #[test]
    fn a_source_ends_once_for_each_reason() {
        let word = Word::new(0);
        let _ = word.wait(Read, Place::List);
        let waiting = word.finish(End::Deregistered).expect("first time");
        assert!(waiting.has(Read, Place::List) && waiting.has_listed());
        assert!(word.finish(End::Deregistered).is_none());
        assert_eq!(word.load().end(), Some(End::Deregistered));
        assert!(word.finish(End::DriverClosed).is_some());
        assert_eq!(word.load().end(), Some(End::DriverClosed));
        assert!(word.load().satisfies(Read) && word.load().satisfies(Write));
    }

    #[test]
    fn debug_names_the_parts() {
        let word = Word::new(0);
        let _ = word.apply(Occurred::READ_CLOSED);
        let text = format!("{:?}", word.load());
        assert_eq!(text, "Ready(tick 1, readable, read closed)");
    }
}
