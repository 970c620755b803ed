//! Linux: one registration per source, one system call per wait.
//!
//! A [`polling::Poller`] owns the epoll descriptor, but we register and wait on that descriptor
//! ourselves: `Poller::wait` makes five system calls where one does, and its registrations do not
//! ask for `EPOLLRDHUP`. Its `wait` and `notify` are never called here; they do not mix with ours.
//!
//! - **Sources** are registered once, and once more when they move to another shard, edge-triggered,
//!   for everything. The steady state of a connection makes no `epoll_ctl`.
//! - **The bell** is an eventfd, registered edge-triggered and never read: each write is a new edge.
//!   Its counter holds 2⁶⁴ − 2 rings.
//! - **The alarm clock** is a timerfd, also edge-triggered and never read: timeouts of `epoll_wait`
//!   have millisecond grain. It is set by how much is left, since only the standard library's clock
//!   is read (`clock.rs`), and only when a wait needs an earlier
//!   time than the one that it is set to; a time that nobody needs any more costs one wait that
//!   ends for nothing.
//!
//! # The alarm clock never misses
//!
//! [`Batch::armed`] is the time the timerfd will fire at, [`NEVER`] if it has fired or was never set. It
//! is written under the turn only. It becomes `NEVER` when the timerfd's event is taken out, by
//! whichever holder of the turn; such an event always belongs to the present setting, because
//! setting a timerfd anew discards its expirations, and an event without one is not reported. So
//! a wait that finds `armed` not later than its own limit will be ended in time.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::{BorrowedIo, Event, Interest, Limit};
use crate::clock::NEVER;
use crate::clock::now;
use crate::readiness::Occurred;

pub(crate) const BACKEND: &str = "epoll";

/// Data and end of stream that arrive together are reported as such (`EPOLLRDHUP`), so a read
/// that does not fill its buffer has drained the socket.
pub(crate) const SHORT_READ_DRAINS: bool = true;

/// Events taken out by one wait, 3 KiB of stack. Larger batches delay the first waker of a batch;
/// smaller ones cost more waits per event. Guarded by the echo bench with 500 connections.
const EVENTS: usize = 256;

/// Keys that no source has (`registry` keeps below).
const BELL: u64 = u64::MAX - 1;
const ALARM: u64 = u64::MAX - 2;
/// `polling` registers descriptors of its own under `u64::MAX`.
const FIRST_RESERVED: u64 = ALARM;

pub(crate) struct Poller {
    epoll: polling::Poller,
    bell: OwnedFd,
    alarm: OwnedFd,
}

impl Poller {
    /// Makes the descriptors of a shard.
    ///
    /// # Errors
    /// What the system answers, usually that there are no descriptors left. Nothing is left behind.
    pub(crate) fn new() -> io::Result<Self> {
        use epoll::EventFlags as Flags;
        let poller = Self {
            epoll: polling::Poller::new()?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            alarm: timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?,
        };
        for (fd, key) in [(&poller.bell, BELL), (&poller.alarm, ALARM)] {
            let data = epoll::EventData::new_u64(key);
            epoll::add(&poller.epoll, fd, data, Flags::IN | Flags::ET)?;
        }
        Ok(poller)
    }

    pub(crate) fn add(&self, io: BorrowedIo<'_>, key: u64) -> io::Result<Registration> {
        use epoll::EventFlags as Flags;
        debug_assert!(key < FIRST_RESERVED);
        let all = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::PRI | Flags::ET;
        epoll::add(&self.epoll, io, epoll::EventData::new_u64(key), all)?;
        Ok(Registration)
    }

    pub(crate) fn remove(&self, _: &Registration, io: BorrowedIo<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, io)?)
    }

    /// The source goes without its descriptor at hand. The kernel forgets the registration when the
    /// descriptor is closed; until then its events carry a dead key.
    pub(crate) fn abandon(&self, _: &Registration) {}

    /// Never needed: edge-triggered registrations stay armed.
    pub(crate) fn rearm(
        &self,
        _: &Registration,
        _: u64,
        _: impl FnOnce() -> Interest,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Ends the wait that runs, or the next one. One system call.
    pub(crate) fn ring(&self) {
        // It fails only when the counter is full; then the bell has been rung 2⁶⁴ times.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Waits and fills `batch`. Only for the holder of the turn.
    pub(crate) fn wait(&self, batch: &mut Batch, limit: Limit) -> io::Result<()> {
        let timeout = match limit {
            Limit::Until(until) if self.set_alarm(batch, until)? => None,
            _ => Some(Timespec::default()),
        };
        // On the stack and not written to before the kernel does.
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS];
        match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => batch.take(events),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Sees to it that a wait ends at `until`. Answers whether there is anything to wait for.
    fn set_alarm(&self, batch: &mut Batch, until: u64) -> io::Result<bool> {
        // Covers `NEVER` as well, and an alarm that will ring early enough, without a clock reading.
        if until >= batch.armed {
            return Ok(true);
        }
        let left = until.saturating_sub(now());
        if left == 0 {
            return Ok(false);
        }
        let after = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: (left / 1_000_000_000) as _,
                tv_nsec: (left % 1_000_000_000) as _,
            },
        };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &after)?;
        batch.armed = until;
        Ok(true)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.epoll.fmt(f)
    }
}

/// Nothing to keep: the kernel goes by the descriptor.
#[derive(Debug)]
pub(crate) struct Registration;

impl Registration {
    /// Not in a poller yet.
    pub(crate) fn none() -> Self {
        Registration
    }

    /// Whether a wait must be announced to the poller.
    #[inline]
    pub(crate) fn needs_rearm(&self) -> bool {
        false
    }

    /// The poller is gone.
    pub(crate) fn discard(&self) {}
}

/// The events of one wait, decoded, and the state of the alarm clock.
pub(crate) struct Batch {
    list: Vec<Event>,
    /// See the module.
    armed: u64,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            armed: NEVER,
        }
    }

    /// Decodes what the kernel reported; the bell has done its work by ringing.
    fn take(&mut self, events: &[epoll::Event]) {
        for event in events {
            match event.data.u64() {
                key if key < FIRST_RESERVED => self.list.push(Event {
                    key,
                    occurred: occurred(event.flags),
                }),
                ALARM => self.armed = NEVER,
                // The bell, and descriptors of `polling`'s own.
                _ => {}
            }
        }
    }

    /// Calls `each` with every event of a source, once.
    pub(crate) fn drain(&mut self, each: impl FnMut(Event)) {
        self.list.drain(..).for_each(each);
    }
}

#[inline]
fn occurred(flags: epoll::EventFlags) -> Occurred {
    use epoll::EventFlags as Flags;
    let mut occurred = Occurred::NOTHING;
    if flags.intersects(Flags::IN | Flags::PRI) {
        occurred = occurred | Occurred::READABLE;
    }
    if flags.contains(Flags::OUT) {
        occurred = occurred | Occurred::WRITABLE;
    }
    if flags.contains(Flags::RDHUP) {
        occurred = occurred | Occurred::READ_CLOSED;
    }
    if flags.contains(Flags::HUP) {
        occurred = occurred | Occurred::HANGUP;
    }
    if flags.contains(Flags::ERR) {
        occurred = occurred | Occurred::ERROR;
    }
    occurred
}
