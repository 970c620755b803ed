//! A descriptor together with its registration.
//!
//! The one promise of this file: **the registration is undone before the descriptor is closed or
//! handed out**, whichever way the pair comes to its end (drop, `into_inner`, a failure half-way).
//! The driver relies on it where the system keeps descriptors by number: a registration that
//! outlives its descriptor would speak of whatever is opened next under that number.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use heist_io::{Direction, Driver, Ready};

use super::readiness::Readiness;
use super::sys::{self, AsIo};

/// Owns a non-blocking `T` and its registration with a driver.
pub(crate) struct Registered<T: AsIo> {
    readiness: Readiness,
    /// `None` only inside `take`, which ends the life of the pair.
    io: Option<T>,
}

/// No transfer, however short, says anything about what is left.
fn never_short<R>(_: &R) -> bool {
    false
}

impl<T: AsIo> Registered<T> {
    /// Registers `io`, which must be in non-blocking mode, with the runtime of this thread.
    pub(crate) fn new(io: T) -> io::Result<Registered<T>> {
        let (driver, shard) = crate::context::driver()?;
        Registered::with_driver(io, &driver, shard)
    }

    /// Registers `io` on the shard of `other`: connections join their listener.
    pub(crate) fn beside<U: AsIo>(io: T, other: &Registered<U>) -> io::Result<Registered<T>> {
        let source = other.readiness.source();
        Registered::with_driver(io, source.driver(), source.shard())
    }

    /// Registers `io` on `shard` of `driver`.
    pub(crate) fn with_driver(
        io: T,
        driver: &Arc<Driver>,
        shard: usize,
    ) -> io::Result<Registered<T>> {
        let source = driver.register(sys::borrow(&io), shard)?;
        crate::context::attend(shard);
        Ok(Registered {
            readiness: Readiness::new(source),
            io: Some(io),
        })
    }

    /// The driver and shard of the registration, for a timer that belongs to it.
    pub(crate) fn driver(&self) -> (&Arc<Driver>, usize) {
        let source = self.readiness.source();
        (source.driver(), source.shard())
    }

    #[inline]
    pub(crate) fn get_ref(&self) -> &T {
        self.io.as_ref().expect("only `take` empties it")
    }

    /// The descriptor must stay the same one; see [`Async::get_mut`](super::Async::get_mut).
    #[inline]
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.io.as_mut().expect("only `take` empties it")
    }

    /// Both parts, for an operation that needs `&mut T`.
    #[inline]
    pub(super) fn parts_mut(&mut self) -> (&Readiness, &mut T) {
        let io = self.io.as_mut().expect("only `take` empties it");
        (&self.readiness, io)
    }

    /// Undoes the registration and hands `T` out, whatever the system said to it.
    pub(crate) fn into_inner(mut self) -> T {
        self.take().expect("taken once").0
    }

    /// Undoes the registration and hands `T` out if the system agreed.
    ///
    /// It refuses only if the descriptor is not the one that was registered: somebody closed or
    /// replaced it behind our back.
    pub(crate) fn try_into_inner(mut self) -> io::Result<T> {
        let (io, left) = self.take().expect("taken once");
        left.map(|()| io)
    }

    fn take(&mut self) -> Option<(T, io::Result<()>)> {
        let io = self.io.take()?;
        let left = self.readiness.source().deregister(sys::borrow(&io));
        Some((io, left))
    }

    // Operations of which only `WouldBlock` says that nothing is left: datagrams, accept, peek,
    // and whatever the user does with an `Async`.

    pub(crate) fn poll_op<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let io = self.get_ref();
        self.readiness
            .poll_op(direction, cx, io, |io| op(io), never_short)
    }

    pub(crate) async fn op<R>(
        &self,
        direction: Direction,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let io = self.get_ref();
        self.readiness
            .op(direction, io, |io| op(io), never_short)
            .await
    }

    pub(crate) fn try_op<R>(
        &self,
        direction: Direction,
        mut op: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let io = self.get_ref();
        self.readiness.try_op(direction, || op(io), never_short)
    }

    pub(super) fn poll_op_mut<R>(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&mut T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let (readiness, io) = self.parts_mut();
        readiness.poll_op(direction, cx, io, |io| op(io), never_short)
    }

    pub(super) async fn op_mut<R>(
        &mut self,
        direction: Direction,
        mut op: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        let (readiness, io) = self.parts_mut();
        readiness.op(direction, io, |io| op(io), never_short).await
    }

    // Plain reads and writes on a byte stream, asking for `len` bytes. One that comes back short
    // has emptied the receive buffer (filled the send buffer), which saves the call that would
    // only answer `WouldBlock`. A transfer of nothing is over at once, as in the standard library.

    pub(crate) fn poll_transfer(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        len: usize,
        mut op: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let io = self.get_ref();
        self.readiness
            .poll_op(direction, cx, io, |io| op(io), |n| is_short(*n, len))
    }

    pub(crate) async fn transfer(
        &self,
        direction: Direction,
        len: usize,
        mut op: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if len == 0 {
            return Ok(0);
        }
        let io = self.get_ref();
        self.readiness
            .op(direction, io, |io| op(io), |n| is_short(*n, len))
            .await
    }

    pub(crate) fn try_transfer(
        &self,
        direction: Direction,
        len: usize,
        mut op: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if len == 0 {
            return Ok(0);
        }
        let io = self.get_ref();
        self.readiness
            .try_op(direction, || op(io), |n| is_short(*n, len))
    }

    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.readiness.poll_ready(direction, cx, self.get_ref())
    }

    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<Ready> {
        self.readiness.ready(direction, self.get_ref()).await
    }

    /// Takes the readiness `seen` back: what it promised did not hold.
    pub(crate) fn blocked(&self, direction: Direction, seen: Ready) {
        self.readiness.blocked(direction, seen);
    }
}

/// A transfer of nothing is not short: it is the end of the stream, and stays readable.
#[inline]
fn is_short(n: usize, len: usize) -> bool {
    0 < n && n < len
}

impl<T: AsIo> Drop for Registered<T> {
    fn drop(&mut self) {
        // A refusal means that the registration is gone already, which is all we want here.
        drop(self.take());
    }
}

impl<T: AsIo + fmt::Debug> fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("io", &self.io)
            .field("source", self.readiness.source())
            .finish()
    }
}
