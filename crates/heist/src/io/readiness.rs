//! Attempts and waits: the protocol between an operation and the readiness word of its source.
//!
//! Invariants:
//!
//! 1. The word is loaded *before* the system call, and what is cleared afterwards is what was
//!    loaded, never what is there now.
//! 2. Every operation asks the cooperative budget first, and gives the unit back unless it
//!    completed.
//! 3. `poll_*` functions wait in the one waker slot of their direction (the last caller is woken);
//!    `async` functions wait in the list (all are woken). Neither holds a lock between polls.
//! 4. A closed driver ends every wait with its error. An attempt that needs no wait may still
//!    succeed.
//! 5. Every wait that was begun is told to the source ([`follow`]), after the waker is in its
//!    place: a source moves to the shard of the worker where it is waited for (`heist-io`, `home.rs`).

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use heist_io::{Direction, Ready, ReadyFuture, Source};

use super::sys::{self, AsIo};
use crate::context::{self, Wait as Waits, poll_budget};

/// The readiness of one registered descriptor, and the two ways to wait for it.
#[derive(Debug)]
pub(super) struct Readiness {
    source: Source,
    /// No write has met a full buffer yet, so one may be tried before the first event has come.
    /// Written by whoever meets the first `WouldBlock`; a hint, so a lost race costs one call.
    untried: AtomicBool,
}

/// What an attempt led to.
#[must_use]
enum Attempt<R> {
    Done(io::Result<R>),
    /// Not ready, and the readiness word says so too.
    Wait,
}

impl Readiness {
    pub(super) fn new(source: Source) -> Readiness {
        Readiness {
            source,
            untried: AtomicBool::new(true),
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Runs `op` while the word says ready, until it completes or the readiness is used up.
    ///
    /// `short` tells of a completed transfer whether it was shorter than asked for, in a way that
    /// shows the descriptor drained (or filled up).
    fn attempt<R>(
        &self,
        direction: Direction,
        op: &mut impl FnMut() -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> Attempt<R> {
        if let Err(forked) = self.source.check_process() {
            return Attempt::Done(Err(forked));
        }
        loop {
            let seen = self.source.snapshot();
            if !self.may_try(direction, seen) {
                return Attempt::Wait;
            }
            match op() {
                Ok(done) => {
                    if short(&done) && self.short_means_drained(seen) {
                        self.source.clear(direction, seen);
                    }
                    return Attempt::Done(Ok(done));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.blocked(direction, seen),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Attempt::Done(Err(e)),
            }
        }
    }

    #[inline]
    fn may_try(&self, direction: Direction, seen: Ready) -> bool {
        match direction {
            Direction::Read => seen.is_readable(),
            // Ordering: Relaxed. A hint that guards no data; see the field.
            Direction::Write => seen.is_writable() || self.untried.load(Ordering::Relaxed),
        }
    }

    /// With the end of the stream or an error pending, another call has something to report even
    /// though this one came back short, and no further event will announce it.
    #[inline]
    fn short_means_drained(&self, seen: Ready) -> bool {
        !seen.is_read_closed() && !seen.is_error() && self.source.driver().short_read_drains()
    }

    pub(super) fn blocked(&self, direction: Direction, seen: Ready) {
        if direction == Direction::Write {
            // Ordering: Relaxed, as for the load in `may_try`.
            self.untried.store(false, Ordering::Relaxed);
        }
        self.source.clear_blocked(direction, seen);
    }

    /// Completes `op`, or leaves the waker of `cx` in the slot of `direction`.
    pub(super) fn poll_op<I: AsIo, R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut io: I,
        mut op: impl FnMut(&mut I) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> Poll<io::Result<R>> {
        let charge = ready!(poll_budget(cx));
        loop {
            let attempt = self.attempt(direction, &mut || op(&mut io), &short);
            if let Attempt::Done(done) = attempt {
                charge.progress();
                return Poll::Ready(done);
            }
            ready!(self.poll_wait(direction, cx, &io))?;
        }
    }

    fn poll_wait(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        io: &impl AsIo,
    ) -> Poll<io::Result<Ready>> {
        let polled = self.source.poll_ready(direction, cx);
        if polled.is_pending() {
            follow(&self.source, direction, io);
        }
        polled
    }

    /// Waits in the list.
    fn wait<'a, I: AsIo>(&'a self, direction: Direction, io: &'a I) -> Wait<'a, I> {
        Wait {
            ready: self.source.ready(direction),
            io,
        }
    }

    /// Completes `op`, waiting beside any number of others.
    ///
    /// Nothing is lost when the future is dropped while it waits: `op` has then either not run, or
    /// said `WouldBlock`.
    pub(super) async fn op<I: AsIo, R>(
        &self,
        direction: Direction,
        mut io: I,
        mut op: impl FnMut(&mut I) -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> io::Result<R> {
        loop {
            let attempt = poll_fn(|cx| {
                let charge = ready!(poll_budget(cx));
                let attempt = self.attempt(direction, &mut || op(&mut io), &short);
                if matches!(attempt, Attempt::Done(_)) {
                    charge.progress();
                }
                Poll::Ready(attempt)
            });
            if let Attempt::Done(done) = attempt.await {
                return done;
            }
            self.wait(direction, &io).await?;
        }
    }

    /// Completes `op` if that needs no waiting, else answers `WouldBlock`.
    pub(super) fn try_op<R>(
        &self,
        direction: Direction,
        mut op: impl FnMut() -> io::Result<R>,
        short: impl Fn(&R) -> bool,
    ) -> io::Result<R> {
        match self.attempt(direction, &mut op, short) {
            Attempt::Done(done) => done,
            Attempt::Wait if self.source.driver().is_closed() => Err(heist_io::closed_error()),
            Attempt::Wait => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits until the word says ready, in the waker slot of `direction`.
    pub(super) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        io: &impl AsIo,
    ) -> Poll<io::Result<()>> {
        let charge = ready!(poll_budget(cx));
        ready!(self.poll_wait(direction, cx, io))?;
        charge.progress();
        Poll::Ready(Ok(()))
    }

    /// Waits until the word says ready, beside any number of others.
    pub(super) async fn ready(&self, direction: Direction, io: &impl AsIo) -> io::Result<Ready> {
        poll_fn(|cx| {
            ready!(poll_budget(cx)).progress();
            Poll::Ready(())
        })
        .await;
        self.wait(direction, io).await
    }
}

/// A wait in the list. A type of its own, since it is part of most tasks that have a socket, and an
/// `async` block would be twice as large.
#[must_use = "futures do nothing unless they are polled"]
struct Wait<'a, I> {
    ready: ReadyFuture<'a>,
    io: &'a I,
}

impl<I: AsIo> Future for Wait<'_, I> {
    type Output = io::Result<Ready>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        let polled = Pin::new(&mut self.ready).poll(cx);
        if polled.is_pending() {
            follow(self.ready.source(), self.ready.direction(), self.io);
        }
        polled
    }
}

/// A wait for `source` was begun on this thread. Says so to whoever looks, and moves the registration of `io` to the shard of this
/// worker, if it has been waited for here often enough.
#[inline]
fn follow(source: &Source, direction: Direction, io: &impl AsIo) {
    context::waits_on(|| match direction {
        Direction::Read => Waits::Read(sys::number(io)),
        Direction::Write => Waits::Write(sys::number(io)),
    });
    let slot = context::current_slot();
    if source.awaited_from(slot) {
        if let Some(shard) = slot {
            move_to(source, io, shard);
        }
    }
}

#[cold]
fn move_to(source: &Source, io: &impl AsIo, shard: usize) {
    // A worker of another runtime has a slot as well, which means nothing here. If the move fails the
    // source stays where it was and works as before, and there is nobody who need know.
    if context::is_of(source.driver()) && source.move_to(sys::borrow(io), shard).is_ok() {
        context::attend(shard);
    }
}
