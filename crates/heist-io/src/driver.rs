//! The driver: the shards of one runtime, by number.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::clock::Clock;
use crate::fork::{Generation, forked_error};
use crate::home::{Home, Patience};
use crate::shard::Shard;
use crate::source::{Record, Source};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::sys::{self, BorrowedIo};
use crate::timer::Timer;

/// The answer to everything that is asked of a driver after it was closed.
///
/// # Examples
/// ```
/// let error = heist_io::closed_error();
/// assert!(error.get_ref().is_some_and(|e| e.is::<heist_io::Closed>()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the heist runtime of this socket is closed")
    }
}

impl Error for Closed {}

/// [`Closed`] as an `io::Error` of kind `NotConnected`.
///
/// # Examples
/// ```
/// assert_eq!(heist_io::closed_error().kind(), std::io::ErrorKind::NotConnected);
/// ```
pub fn closed_error() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, Closed)
}

/// The answer to a descriptor in a simulation.
///
/// # Examples
/// ```
/// # use std::{os::fd::AsFd, os::unix::net::UnixStream, sync::Arc};
/// let driver = Arc::new(heist_io::Driver::simulated(1));
/// let (near, _far) = UnixStream::pair()?;
/// let error = driver.register(near.as_fd(), 0).unwrap_err();
/// assert!(error.get_ref().is_some_and(|e| e.is::<heist_io::Simulated>()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulated;

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this heist runtime is deterministic and takes no sockets or other descriptors of the \
             system; use the streams of `heist::sim`",
        )
    }
}

impl Error for Simulated {}

/// Waits for events and time, for the threads of one runtime.
///
/// It consists of shards, each with an *owner*, the one thread that parks on it. A shard has a poller
/// only once a source was registered with it; before that parking uses no file descriptor. A shard
/// number beyond the last one means shard 0.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use heist_io::{Driver, NEVER};
///
/// let driver = Arc::new(Driver::new(1));
/// driver.attach(0);
/// driver.unpark(0); // one token
/// driver.park(0, NEVER); // consumes it and returns
/// driver.close();
/// driver.release();
/// ```
pub struct Driver {
    shards: Box<[Arc<Shard>]>,
    clock: Clock,
    closed: AtomicBool,
    /// When sources move, see `home.rs`.
    pub(crate) patience: Patience,
    moves: AtomicU64,
    generation: Generation,
}

impl Driver {
    /// Makes a driver with `shards` shards, at least one. Opens no file descriptor.
    pub fn new(shards: usize) -> Driver {
        Driver::with_clock(shards, Clock::System)
    }

    /// Makes a driver for a simulation, in which nobody parks. Its time stands still but for
    /// [`advance`](Driver::advance), at a number that is the same in every process, and it takes no sources,
    /// whose events come when the system likes.
    ///
    /// # Examples
    /// ```
    /// let driver = std::sync::Arc::new(heist_io::Driver::simulated(1));
    /// let began = driver.now();
    /// driver.advance(began + 5);
    /// assert_eq!(driver.now(), began + 5);
    /// ```
    pub fn simulated(shards: usize) -> Driver {
        Driver::with_clock(shards, Clock::at_the_beginning())
    }

    fn with_clock(shards: usize, clock: Clock) -> Driver {
        let shard = |_| Arc::new(Shard::new(clock.clone()));
        Driver {
            shards: (0..shards.max(1)).map(shard).collect(),
            clock: clock.clone(),
            closed: AtomicBool::new(false),
            patience: Patience::new(),
            moves: AtomicU64::new(0),
            generation: Generation::now(),
        }
    }

    #[inline]
    pub(crate) fn shard(&self, shard: usize) -> &Arc<Shard> {
        // Panic: `new` made at least one.
        self.shards.get(shard).unwrap_or_else(|| &self.shards[0])
    }

    /// The number that `shard` means.
    pub(crate) fn number(&self, shard: usize) -> usize {
        if shard < self.shards.len() { shard } else { 0 }
    }

    /// The time that its timers go by.
    #[inline]
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// It is `time` now, if the driver is [`simulated`](Driver::simulated) and it is not later already.
    pub fn advance(&self, time: u64) {
        self.clock.advance(time);
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The way events are waited for: `"epoll"` or `"polling"`.
    pub fn backend(&self) -> &'static str {
        sys::BACKEND
    }

    /// Whether a read or write that did less than it was asked for has drained the socket: an end
    /// of stream that came together with the data is then known separately.
    pub fn short_read_drains(&self) -> bool {
        sys::SHORT_READ_DRAINS
    }

    /// Makes the calling thread the owner of `shard`: from now on it is the one that parks there.
    pub fn attach(&self, shard: usize) {
        self.shard(shard).attach();
    }

    /// Blocks the owner of `shard` until it is unparked, an event or a due timer comes, `deadline` is
    /// reached, or spuriously.
    ///
    /// [`unpark`](Driver::unpark) leaves one token: if it was called since the last park returned, this
    /// returns at once. Wakers of events and due timers have been run when it returns. Only the owner
    /// may call it.
    pub fn park(&self, shard: usize, deadline: u64) {
        self.park_then(shard, deadline, &mut |_| {});
    }

    /// Like [`park`](Driver::park), and calls `awake` once, when the thread sleeps no more and before it
    /// runs any waker. It is told whether there may be wakers to run.
    pub fn park_then(&self, shard: usize, deadline: u64, awake: &mut dyn FnMut(bool)) {
        self.shard(shard).park(deadline, awake);
    }

    /// Runs the wakers of what has happened on `shard` so far, without waiting, and says how many.
    ///
    /// The owner and any other thread may call it. Events are left alone while another thread looks
    /// for them or waits; due timers are fired in any case. On a shard without sources and due timers
    /// it makes no system call.
    pub fn poll(&self, shard: usize) -> usize {
        self.shard(shard).poll()
    }

    /// Wakes the owner of `shard`, or makes its next park return at once.
    ///
    /// Any thread may call it at any time, also after [`release`](Driver::release). It never panics and
    /// makes one system call at most, and only if the owner is asleep.
    #[inline]
    pub fn unpark(&self, shard: usize) {
        self.shard(shard).unpark();
    }

    /// Whether `shard` has a registered source or an armed timer. A hint.
    pub fn is_used(&self, shard: usize) -> bool {
        let shard = self.shard(shard);
        shard.live() != 0 || shard.timers.alarm.next() != crate::NEVER
    }

    /// The earliest deadline in `shard`, or [`NEVER`](crate::NEVER). A hint: it may name a timer that
    /// was cancelled since.
    pub fn next_deadline(&self, shard: usize) -> u64 {
        self.shard(shard).timers.alarm.next()
    }

    /// Ends the driver logically: wakes every waiter, which then gets [`Closed`], as does whatever is
    /// registered or armed later, and unparks all owners. Idempotent; only the first call does the work.
    ///
    /// In the child of a fork it does nothing.
    pub fn close(&self) {
        if self.is_forked() {
            return;
        }
        // Ordering: AcqRel: with `is_closed`. The shards have flags of their own under their locks.
        if !self.closed.swap(true, Ordering::AcqRel) {
            for shard in &self.shards {
                shard.close();
            }
        }
    }

    /// Closes every file descriptor of the driver. Idempotent; closes the driver first if need be.
    ///
    /// For when no thread parks any more; it waits for whoever still does. Calls that come later are
    /// answered with [`Closed`], or go without descriptors. In the child of a fork it does nothing.
    pub fn release(&self) {
        if self.is_forked() {
            return;
        }
        self.close();
        for shard in &self.shards {
            shard.release();
        }
    }

    /// Whether the driver was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether this process is a child of the one that the driver was made in: see [`forked`](crate::forked).
    pub fn is_forked(&self) -> bool {
        self.generation.has_gone_by()
    }

    /// Registers `io`, which must be non-blocking, with `shard`.
    ///
    /// A stream socket is registered after its `connect` was started: before, the system reports it as
    /// hung up.
    ///
    /// # Errors
    /// [`Closed`] after [`close`](Driver::close); what the system answers if it has no descriptors or
    /// memory left or cannot watch this kind of descriptor; `NotConnected` in the child of a fork;
    /// `Unsupported`, with [`Simulated`] inside, in a simulation.
    /// Nothing is left behind then.
    pub fn register(self: &Arc<Self>, io: BorrowedIo<'_>, shard: usize) -> io::Result<Source> {
        if self.is_forked() {
            return Err(forked_error());
        }
        if matches!(self.clock, Clock::Virtual(_)) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, Simulated));
        }
        let shard = self.number(shard);
        let make = |key| Arc::new(Record::new(key, Home::new(shard, key, &self.patience)));
        let (record, _, registration) = self.shards[shard].admit(io, make)?;
        Ok(Source::new(record, registration, self.clone()))
    }

    /// How many turns in a row on one foreign shard move a source, for the first time and at most, both
    /// at least 1. For tests that want many moves; `most` holds for moves from now on, `first` for sources
    /// that are registered from now on. The default is [`MOVE_AFTER`](crate::MOVE_AFTER), doubled for each
    /// move of the source up to 16,384.
    ///
    /// # Examples
    /// ```
    /// # use std::{io, os::fd::AsFd, os::unix::net::UnixStream, sync::Arc};
    /// # fn main() -> io::Result<()> {
    /// let driver = Arc::new(heist_io::Driver::new(2));
    /// driver.set_patience(2, 2);
    /// let (near, _far) = UnixStream::pair()?;
    /// let source = driver.register(near.as_fd(), 0)?;
    /// assert!(!source.awaited_from(Some(1)));
    /// assert!(source.awaited_from(Some(1)));
    /// # source.deregister(near.as_fd())
    /// # }
    /// ```
    pub fn set_patience(&self, first: u16, most: u16) {
        self.patience.set(first, most);
    }

    /// How often a source has moved from one shard to another.
    pub fn moves(&self) -> u64 {
        // Ordering: Relaxed: a figure.
        self.moves.load(Ordering::Relaxed)
    }

    pub(crate) fn count_move(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// A timer of `shard`, unarmed.
    pub fn timer(self: &Arc<Self>, shard: usize) -> Timer {
        Timer::new(self.shard(shard).clone(), self.number(shard))
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("backend", &self.backend())
            .field("closed", &self.is_closed())
            .field("moves", &self.moves())
            .field("shards", &self.shards)
            .finish()
    }
}
