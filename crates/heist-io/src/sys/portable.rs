//! Every other system: registers and waits through [`polling`] itself.
//!
//! Where edges are supported (kqueue, and epoll when this file is forced by
//! `--cfg heist_portable_io`) a source is registered once. Elsewhere a registration fires once:
//! each event wakes all waiters of its source, and a waiter that goes on waiting arms the
//! registration again with everything that is waited for.
//!
//! `polling` must never see a descriptor that was closed before it was deleted. It is given a
//! duplicate that belongs to the [`Registration`], so that this depends on nobody else. The price is
//! a second descriptor for each source.
//!
//! A source that moves to another shard gets a registration and a duplicate of its own there before
//! the old ones go. It is armed for everything, so what is ready already is reported.
//!
//! # Arming again
//!
//! Two waiters of one source may arm at the same time. Each has set its bit in the readiness word
//! before, and each reads the bits of both and arms under the registration's lock, so the one that
//! comes last arms for both. An event that disarms the registration clears the bits and wakes
//! both, and they come back.

#![expect(
    unsafe_code,
    reason = "registering with polling is unsafe; see `Poller::add`"
)]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use polling::{PollMode, Poller as Inner};

use super::{BorrowedIo, Event, Interest, Limit};
use crate::clock::NEVER;
use crate::clock::now;
use crate::readiness::Occurred;
use crate::sync::Mutex;

pub(crate) const BACKEND: &str = "polling";

/// `polling` does not tell the end of a stream from readable data, so a short read may still be
/// followed by an end that was reported in the same event.
pub(crate) const SHORT_READ_DRAINS: bool = false;

/// As in `epoll.rs`.
const EVENTS: NonZeroUsize = NonZeroUsize::new(512).unwrap();

#[cfg(unix)]
type OwnedIo = std::os::fd::OwnedFd;
#[cfg(windows)]
type OwnedIo = std::os::windows::io::OwnedSocket;

#[derive(Debug)]
pub(crate) struct Poller {
    inner: Inner,
    mode: PollMode,
}

impl Poller {
    /// Makes the descriptors of a shard.
    ///
    /// # Errors
    /// What the system answers, usually that there are no descriptors left. Nothing is left behind.
    pub(crate) fn new() -> io::Result<Self> {
        let inner = Inner::new()?;
        let mode = if inner.supports_edge() {
            PollMode::Edge
        } else {
            PollMode::Oneshot
        };
        Ok(Self { inner, mode })
    }

    /// One that registers as systems without edges do.
    #[cfg(test)]
    pub(crate) fn firing_once() -> io::Result<Self> {
        Ok(Self {
            mode: PollMode::Oneshot,
            ..Self::new()?
        })
    }

    pub(crate) fn add(&self, io: BorrowedIo<'_>, key: u64) -> io::Result<Registration> {
        let own = io.try_clone_to_owned()?;
        // SAFETY: `polling` asks that the source is deleted from the poller before it is dropped.
        // `own` is in nobody else's hands. It is dropped by `Registration::take_out` after the
        // deletion; or by `discard` when this poller itself is gone; or with the `Registration`, whose
        // owner (`Source`) has called `remove` or `abandon` before, which end in one of the two.
        unsafe {
            self.inner
                .add_with_mode(&own, polling::Event::all(key as usize), self.mode)?;
        }
        Ok(Registration {
            own: Mutex::new(Some(own)),
            fires_once: matches!(self.mode, PollMode::Oneshot),
        })
    }

    pub(crate) fn remove(&self, registration: &Registration, _: BorrowedIo<'_>) -> io::Result<()> {
        registration.take_out(self)
    }

    /// The source goes without its descriptor at hand.
    pub(crate) fn abandon(&self, registration: &Registration) {
        // Nobody is left to be told of an error.
        let _ = registration.take_out(self);
    }

    /// Arms a registration that fires once for what `interest` answers. It is asked under the
    /// registration's lock.
    pub(crate) fn rearm(
        &self,
        registration: &Registration,
        key: u64,
        interest: impl FnOnce() -> Interest,
    ) -> io::Result<()> {
        let own = registration.own.lock();
        let Interest { read, write } = interest();
        match &*own {
            Some(own) if read || write => {
                let event = polling::Event::new(key as usize, read, write);
                self.inner.modify_with_mode(own, event, self.mode)
            }
            _ => Ok(()),
        }
    }

    /// Ends the wait that runs, or the next one.
    pub(crate) fn ring(&self) {
        // What could fail is a write to a descriptor that is open and not full.
        let _ = self.inner.notify();
    }

    /// Waits and fills `batch`. Only for the holder of the turn.
    pub(crate) fn wait(&self, batch: &mut Batch, limit: Limit) -> io::Result<()> {
        let timeout = match limit {
            Limit::Now => Some(Duration::ZERO),
            Limit::Until(NEVER) => None,
            Limit::Until(until) => Some(Duration::from_nanos(until.saturating_sub(now()))),
        };
        let events = batch
            .events
            .get_or_insert_with(|| polling::Events::with_capacity(EVENTS));
        events.clear();
        batch.common = match self.mode {
            PollMode::Oneshot => Occurred::DISARMED,
            _ => Occurred::NOTHING,
        };
        self.inner.wait(events, timeout).map(|_| ())
    }
}

/// Our own duplicate of the source's descriptor, until it is taken out of the poller.
pub(crate) struct Registration {
    own: Mutex<Option<OwnedIo>>,
    fires_once: bool,
}

impl Registration {
    /// Not in a poller yet.
    pub(crate) fn none() -> Self {
        Registration {
            own: Mutex::new(None),
            fires_once: false,
        }
    }

    /// Whether a wait must be announced to the poller.
    #[inline]
    pub(crate) fn needs_rearm(&self) -> bool {
        self.fires_once
    }

    /// The poller is gone: only the duplicate is left to be closed.
    pub(crate) fn discard(&self) {
        drop(self.own.lock().take());
    }

    fn take_out(&self, poller: &Poller) -> io::Result<()> {
        let own = self.own.lock().take();
        own.map_or(Ok(()), |own| poller.inner.delete(&own))
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("fires_once", &self.fires_once)
            .finish_non_exhaustive()
    }
}

/// The events of one wait.
pub(crate) struct Batch {
    events: Option<polling::Events>,
    /// What every event of this poller means.
    common: Occurred,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            events: None,
            common: Occurred::NOTHING,
        }
    }

    /// Calls `each` with every event of a source, once.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Event)) {
        let Some(events) = &mut self.events else {
            return;
        };
        for event in events.iter() {
            each(Event {
                key: event.key as u64,
                occurred: occurred(&event) | self.common,
            });
        }
        events.clear();
    }
}

fn occurred(event: &polling::Event) -> Occurred {
    let mut occurred = Occurred::NOTHING;
    if event.readable || event.is_priority() {
        occurred = occurred | Occurred::READABLE;
    }
    if event.writable {
        occurred = occurred | Occurred::WRITABLE;
    }
    if event.is_interrupt() {
        occurred = occurred | Occurred::HANGUP;
    }
    if event.is_err() == Some(true) {
        occurred = occurred | Occurred::ERROR;
    }
    occurred
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::tests::{Bell, drive, read, watchdog, write_all};
    use crate::{Direction, Driver, Ready, Source, now};
    use std::future::{Future, poll_fn};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    /// A writer waits, then a reader: arming for the reader must not disarm the writer, whose event comes
    /// first.
    #[test]
    fn a_reader_that_arms_keeps_the_writer_armed() {
        let driver = Arc::new(Driver::new(1));
        driver.shard(0).install(Poller::firing_once().unwrap());
        let (a, mut b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let source = driver.register(a.as_fd(), 0).unwrap();
        let writer = Bell::silent();
        // The buffers are full.
        while (&a).write(&[7; 4096]).is_ok() {}
        source.clear_blocked(Direction::Write, source.snapshot());
        assert!(poll(&source, Direction::Write, &writer).is_pending());
        assert!(poll(&source, Direction::Read, &Bell::silent()).is_pending());
        // And now they are empty.
        let mut bytes = [0; 4096];
        while b.read(&mut bytes).is_ok() {}
        driver.poll(0);
        assert_eq!(writer.count(), 1);
        source.deregister(a.as_fd()).unwrap();
    }

    fn poll(source: &Source, direction: Direction, bell: &Arc<Bell>) -> Poll<io::Result<Ready>> {
        let waker = Waker::from(bell.clone());
        source.poll_ready(direction, &mut Context::from_waker(&waker))
    }

    /// Systems without edges, played on this one: both directions wait at once, again and again.
    #[test]
    fn a_registration_that_fires_once_serves_both_directions() {
        let _dog = watchdog("a_registration_that_fires_once_serves_both_directions");
        let driver = Arc::new(Driver::new(1));
        driver.shard(0).install(Poller::firing_once().unwrap());
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        let (here, there) = (
            driver.register(a.as_fd(), 0).unwrap(),
            driver.register(b.as_fd(), 0).unwrap(),
        );
        assert!(here.registration_needs_rearm());
        let data = vec![7u8; 1 << 19];
        // Each side sends and receives half a megabyte, more than the buffers hold.
        let exchange = |source, io| {
            let data = &data;
            async move {
                let mut send = pin!(write_all(source, io, data));
                let mut receive = pin!(async {
                    let (mut buf, mut left) = (vec![0; 4000], data.len());
                    while left > 0 {
                        left -= read(source, io, &mut buf).await.unwrap();
                    }
                });
                let (mut sent, mut received) = (false, false);
                poll_fn(|cx| {
                    sent = sent || send.as_mut().poll(cx).is_ready();
                    received = received || receive.as_mut().poll(cx).is_ready();
                    if sent && received {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            }
        };
        {
            let (mut left, mut right) = (pin!(exchange(&here, &a)), pin!(exchange(&there, &b)));
            let mut done = (false, false);
            let both = poll_fn(|cx| {
                done.0 = done.0 || left.as_mut().poll(cx).is_ready();
                done.1 = done.1 || right.as_mut().poll(cx).is_ready();
                if done.0 && done.1 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            drive(&driver, 0, both);
        }
        // A peer that hangs up must not make a disarmed registration fire for ever.
        here.clear_blocked(Direction::Write, here.snapshot());
        let mut cx = Context::from_waker(Waker::noop());
        let _ = here.poll_ready(Direction::Read, &mut cx);
        there.deregister(b.as_fd()).unwrap();
        drop(b);
        drive(
            &driver,
            0,
            poll_fn(|cx| here.poll_ready(Direction::Read, cx)),
        )
        .unwrap();
        let start = now();
        driver.park(0, start + 5_000_000);
        driver.park(0, start + 5_000_000);
        assert!(
            now() >= start + 5_000_000,
            "an event without anybody waiting"
        );
        here.deregister(a.as_fd()).unwrap();
    }
}
