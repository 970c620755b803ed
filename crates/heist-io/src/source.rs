//! A registered source: its record in the driver, and the two ways to wait for it.
//!
//! The [`Record`] is shared by the [`Source`] of the user and the registry of the shard (of two while
//! the source moves from one to the other, see `home.rs`). It holds
//! the readiness word (see `readiness.rs` for its protocol) and the places where wakers wait:
//!
//! - one **slot** per direction for [`Source::poll_ready`]: the waker of the last poller. This is
//!   what a socket's `poll_read` and `poll_write` use; it does not allocate;
//! - one **list** for [`Source::ready`], for any number of tasks at once.
//!
//! A waker is put into its place first, then the word is told (edge 2), and the answer of that one
//! operation decides whether to sleep.
//!
//! Readiness is a level, kept in the word: an event wakes *all* waiters of its direction, and one
//! that is dropped before it looked takes nothing away from the others.
//!
//! # Order of locks
//!
//! turn → registry → waiter list, or slot. No user code runs under any of them: wakers are cloned before,
//! moved under, and dropped or run after.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::driver::{Driver, closed_error};
use crate::fork::{Generation, forked_error};
use crate::home::{Home, Lease};
use crate::readiness::{Direction, End, Occurred, Place, Ready, Waiting, Word};
use crate::registry::Key;
use crate::shard::Shard;
use crate::sync::{Mutex, MutexGuard};
use crate::sys::{BorrowedIo, Interest, Registration};
use crate::waiters::{NOWHERE, Waiters};
use crate::wakers::{self, WakeList};

/// What driver and user share about a source.
pub(crate) struct Record {
    word: Word,
    reader: wakers::WakerPlace,
    writer: wakers::WakerPlace,
    /// Locked only by waiters of the list, and by an event that finds one announced.
    list: Mutex<Waiters>,
    /// No business of events. Here and not in the `Source`, which is part of many tasks.
    home: Home,
}

impl Record {
    pub(crate) fn new(key: Key, home: Home) -> Self {
        Self {
            word: Word::new(key.generation()),
            reader: wakers::WakerPlace::new(),
            writer: wakers::WakerPlace::new(),
            list: Mutex::new(Waiters::new()),
            home,
        }
    }

    fn slot(&self, direction: Direction) -> &wakers::WakerPlace {
        match direction {
            Direction::Read => &self.reader,
            Direction::Write => &self.writer,
        }
    }

    /// Applies an event and collects the wakers it wakes.
    pub(crate) fn apply(&self, occurred: Occurred, wakers: &mut WakeList) {
        let waiting = self.word.apply(occurred);
        self.collect(waiting, wakers);
    }

    /// Ends the source. Answers whether this call did, and not an earlier one.
    pub(crate) fn finish(&self, end: End, wakers: &mut WakeList) -> bool {
        let waiting = self.word.finish(end);
        if let Some(waiting) = waiting {
            self.collect(waiting, wakers);
        }
        waiting.is_some()
    }

    fn collect(&self, waiting: Waiting, wakers: &mut WakeList) {
        for direction in [Direction::Read, Direction::Write] {
            if waiting.has(direction, Place::Slot) {
                if let Some(waker) = self.slot(direction).take() {
                    wakers.push(waker);
                }
            }
        }
        if waiting.has_listed() {
            self.list.lock().collect(waiting, wakers);
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("state", &self.word.load())
            .finish_non_exhaustive()
    }
}

/// A registration of a file descriptor with the driver: owns the registration, not the descriptor.
///
/// Call [`deregister`](Source::deregister) before the descriptor is closed or handed out. A `Source`
/// that is dropped without that gives its key back, so that late events go nowhere, but the kernel
/// keeps reporting them until the descriptor is closed.
///
/// # Examples
/// ```no_run
/// # use std::{io, sync::Arc, net::TcpStream, os::fd::AsFd, io::Read};
/// # use heist_io::{Direction, Driver};
/// async fn read(driver: &Arc<Driver>, stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
///     stream.set_nonblocking(true)?;
///     let source = driver.register(stream.as_fd(), 0)?;
///     loop {
///         let seen = source.ready(Direction::Read).await?;
///         match (&*stream).read(buf) {
///             Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
///                 source.clear_blocked(Direction::Read, seen);
///             }
///             done => {
///                 source.deregister(stream.as_fd())?;
///                 return done;
///             }
///         }
///     }
/// }
/// ```
pub struct Source {
    record: Arc<Record>,
    generation: Generation,
    driver: Arc<Driver>,
}

impl Source {
    pub(crate) fn new(
        record: Arc<Record>,
        registration: Registration,
        driver: Arc<Driver>,
    ) -> Self {
        record.home.begin(registration);
        Self {
            record,
            generation: Generation::now(),
            driver,
        }
    }

    /// The shard, and the lease that it was read under.
    fn lease(&self) -> (&Shard, MutexGuard<'_, Lease>) {
        let lease = self.record.home.lease();
        (self.driver.shard(self.shard()), lease)
    }

    /// Waits until `d` is ready; the waker of the last call for `d` is the one that is woken.
    ///
    /// Answers with the ticket for [`clear`](Source::clear) and
    /// [`clear_blocked`](Source::clear_blocked).
    ///
    /// # Errors
    /// [`Closed`](crate::Closed) when the driver was closed; `NotConnected` when the source was
    /// deregistered, and in the child of a fork; what the system answers where waiting takes a system call.
    #[inline]
    pub fn poll_ready(&self, d: Direction, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.check_process()?;
        let seen = self.record.word.load();
        if seen.satisfies(d) {
            return Poll::Ready(answer(seen));
        }
        self.poll_wait(d, seen, cx)
    }

    fn poll_wait(&self, d: Direction, seen: Ready, cx: &Context<'_>) -> Poll<io::Result<Ready>> {
        // An event takes the waker out and the word says so; else the task has polled once more.
        let waits = seen.is_awaited(d);
        self.record.slot(d).put(cx.waker(), waits);
        self.sleep(d, Place::Slot)
    }

    /// Fails in the child of a fork: the descriptor may be used there, but what is known of it is for
    /// the parent, and nobody would be woken.
    ///
    /// # Errors
    /// `NotConnected` there.
    #[inline]
    pub fn check_process(&self) -> io::Result<()> {
        if self.generation.has_gone_by() {
            return Err(forked_error());
        }
        Ok(())
    }

    /// The end of every wait: the waker is in its place.
    fn sleep(&self, d: Direction, place: Place) -> Poll<io::Result<Ready>> {
        let seen = self.record.word.wait(d, place);
        if seen.satisfies(d) {
            return Poll::Ready(answer(seen));
        }
        if self.record.home.needs_rearm() {
            self.rearm()?;
        }
        Poll::Pending
    }

    #[cold]
    fn rearm(&self) -> io::Result<()> {
        let (shard, lease) = self.lease();
        shard.rearm(&lease.registration, lease.key.pack(), || {
            let state = self.record.word.load();
            Interest {
                read: state.is_awaited(Direction::Read),
                write: state.is_awaited(Direction::Write) && !cfg!(heist_bug_08),
            }
        })
    }

    #[cfg(all(test, heist_portable_io))]
    pub(crate) fn registration_needs_rearm(&self) -> bool {
        self.record.home.needs_rearm()
    }

    #[cfg(all(test, heist_loom))]
    pub(crate) fn key(&self) -> u64 {
        self.record.home.lease().key.pack()
    }

    /// Waits until `d` is ready; any number of tasks may wait at once.
    ///
    /// # Errors
    /// As [`poll_ready`](Source::poll_ready).
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: readiness stays until somebody clears it.
    pub fn ready(&self, d: Direction) -> ReadyFuture<'_> {
        ReadyFuture {
            source: self,
            direction: d,
            place: NOWHERE,
        }
    }

    /// What is known at the moment: to be taken before an attempt.
    #[inline]
    pub fn snapshot(&self) -> Ready {
        self.record.word.load()
    }

    /// Takes readiness away after an attempt that took less than it could have (a short read), unless
    /// an event has come since `seen`. That a direction is closed stays.
    #[inline]
    pub fn clear(&self, d: Direction, seen: Ready) {
        self.record.word.clear(d, seen);
    }

    /// Takes readiness away after an attempt that would have blocked, unless an event has come since
    /// `seen`. That a direction is closed goes too, for the attempt has just disproved it.
    #[inline]
    pub fn clear_blocked(&self, d: Direction, seen: Ready) {
        self.record.word.clear_blocked(d, seen);
    }

    /// The shard whose owner reports this source's events. It may have moved before this returns.
    pub fn shard(&self) -> usize {
        self.record.home.shard()
    }

    /// Notes that a wait was begun by a task that runs on the owner of `shard`, or on a thread that
    /// owns none, and answers whether the source should move there now.
    ///
    /// It should after [`MOVE_AFTER`](crate::MOVE_AFTER) waits in a row from one and the same foreign
    /// shard; after each move, of twice as many. The row begins anew when the answer is yes.
    #[inline]
    pub fn awaited_from(&self, shard: Option<usize>) -> bool {
        self.record.home.awaited_from(shard)
    }

    /// Moves the registration of `io`, the descriptor that was registered, to `shard`. Who waits goes
    /// on waiting, and no event is lost.
    ///
    /// Makes two system calls, and those for a poller if it is the first source of `shard`. Whoever
    /// calls it sees to it that somebody parks on `shard` or polls it.
    ///
    /// # Errors
    /// What the system answers if it has no descriptors or memory left, and [`Closed`](crate::Closed)
    /// when the driver was closed: the source stays where it is and goes on working as before.
    /// `NotConnected` when the source was deregistered, and in the child of a fork.
    ///
    /// # Examples
    /// ```
    /// # use std::{io, os::fd::AsFd, os::unix::net::UnixStream, sync::Arc};
    /// # fn main() -> io::Result<()> {
    /// let driver = Arc::new(heist_io::Driver::new(2));
    /// let (near, _far) = UnixStream::pair()?;
    /// near.set_nonblocking(true)?;
    /// let source = driver.register(near.as_fd(), 0)?;
    /// source.move_to(near.as_fd(), 1)?;
    /// assert_eq!(source.shard(), 1);
    /// assert!(driver.is_used(1) && !driver.is_used(0));
    /// # source.deregister(near.as_fd())
    /// # }
    /// ```
    #[cold]
    pub fn move_to(&self, io: BorrowedIo<'_>, shard: usize) -> io::Result<()> {
        self.check_process()?;
        let shard = self.driver.number(shard);
        let (old_shard, mut lease) = self.lease();
        if let Some(end) = self.record.word.load().end() {
            return Err(ended(end));
        }
        if shard == self.shard() {
            return Ok(());
        }
        self.record.home.grow_patience(&self.driver.patience);
        let new_shard = self.driver.shard(shard);
        let (_, key, registration) = new_shard.admit(io, |_| self.record.clone())?;
        let old = std::mem::replace(&mut *lease, Lease { key, registration });
        self.record.home.settle(shard);
        // An error says that it is not there, which is what was wanted; see `home.rs`.
        let _ = old_shard.deregister(old.key, &old.registration, io);
        self.driver.count_move();
        Ok(())
    }

    /// The driver that this source is registered with.
    pub fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Takes `io`, the descriptor that was registered, out of the driver. Idempotent.
    ///
    /// Who still waits is woken and gets an error. In the child of a fork nothing is done: the parent
    /// keeps the registration.
    ///
    /// # Errors
    /// What the system answers, for instance when `io` is not the descriptor that was registered. The
    /// source counts as deregistered all the same.
    pub fn deregister(&self, io: BorrowedIo<'_>) -> io::Result<()> {
        if self.generation.has_gone_by() {
            return Ok(());
        }
        let mut wakers = WakeList::new();
        if !self.record.finish(End::Deregistered, &mut wakers) {
            return Ok(());
        }
        let (shard, lease) = self.lease();
        let removed = shard.deregister(lease.key, &lease.registration, io);
        drop(lease);
        wakers.run();
        removed
    }
}

/// What a satisfied wait answers.
#[inline]
fn answer(seen: Ready) -> io::Result<Ready> {
    match seen.end() {
        None => Ok(seen),
        Some(end) => Err(ended(end)),
    }
}

#[cold]
fn ended(end: End) -> io::Error {
    match end {
        End::DriverClosed => closed_error(),
        End::Deregistered => io::Error::new(
            io::ErrorKind::NotConnected,
            "this source was taken out of the driver",
        ),
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.generation.has_gone_by() {
            // The lease may be locked for ever, and the registration is the parent's.
            return;
        }
        if self.record.word.load().end() != Some(End::Deregistered) {
            let (shard, lease) = self.lease();
            shard.abandon(lease.key, &lease.registration);
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("home", &self.record.home)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// A wait for readiness, made by [`Source::ready`].
#[must_use = "futures do nothing unless they are polled"]
pub struct ReadyFuture<'a> {
    source: &'a Source,
    direction: Direction,
    /// Our place in the list once we had to wait, else [`NOWHERE`]. Not an `Option`, which would take
    /// 8 bytes more in every task that waits.
    place: usize,
}

impl<'a> ReadyFuture<'a> {
    /// What is waited for.
    pub fn source(&self) -> &'a Source {
        self.source
    }

    /// What it waits for.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

impl ReadyFuture<'_> {
    /// Puts the waker into the list, into the place we have or a new one.
    fn enlist(&mut self, waker: &Waker) {
        let waker = waker.clone();
        let mut list = self.source.record.list.lock();
        let (place, old) = list.put(self.place, self.direction, waker);
        self.place = place;
        drop(list);
        old.into_iter().for_each(wakers::let_go);
    }

    fn unlist(&mut self) {
        if self.place != NOWHERE {
            if self.source.generation.has_gone_by() {
                // The list may be locked for ever.
                return;
            }
            let place = std::mem::replace(&mut self.place, NOWHERE);
            let removed = self.source.record.list.lock().remove(place);
            removed.into_iter().for_each(wakers::let_go);
        }
    }
}

impl Future for ReadyFuture<'_> {
    type Output = io::Result<Ready>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.source.check_process()?;
        let mut seen = self.source.record.word.load();
        if !seen.satisfies(self.direction) {
            self.enlist(cx.waker());
            match self.source.sleep(self.direction, Place::List) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(now)) => seen = now,
                Poll::Ready(Err(error)) => {
                    self.unlist();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.unlist();
        Poll::Ready(answer(seen))
    }
}

impl Drop for ReadyFuture<'_> {
    fn drop(&mut self) {
        self.unlist();
    }
}

impl fmt::Debug for ReadyFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyFuture")
            .field("direction", &self.direction)
            .field("listed", &(self.place != NOWHERE))
            .finish_non_exhaustive()
    }
}
