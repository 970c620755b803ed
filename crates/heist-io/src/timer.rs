//! Timers: a wheel per shard behind one lock, and the handle that a sleeping future holds.
//!
//! # Who has an entry
//!
//! ```text
//!              1 poll_at, deadline ahead
//!   idle ─────────────────────────────────▶ armed (an entry in the wheel)
//!    ▲                                        │ 2 poll_at, other deadline: rescheduled in place
//!    │                                        │ 3 poll_at, other waker: replaced in place
//!    ├──────── 4 cancel, drop ────────────────┤
//!    └──────── 5 poll_at after it fired ◀── fired or closed (no entry; the waker is being run)
//! ```
//!
//! The wheel forgets an entry when it fires it. The handle finds out in edge 4 or 5: either by
//! `swept`, a copy of the time up to which the wheel has fired everything, which spares it the lock,
//! or because its id is dead.
//!
//! # The lock is not contended
//!
//! Timers are armed by tasks, which run on the shard's owner unless they were stolen; helpers fire
//! them only while the owner is blocked. Under the lock there are a few list operations, never
//! user code: wakers are cloned before, moved under, and run or dropped after it.
//!
//! # No wake-up is lost
//!
//! *Arming against parking*: see `alarm.rs`.
//! *Arming against firing*: both under the lock. A deadline that the wheel has swept is refused, and
//! the arming future is ready. So `swept` covers every entry that is not in the wheel.
//! *Arming against closing*: `close` sets its flag under the lock and takes out all wakers. Whoever
//! comes before is among them; whoever comes after sees the flag.
//! *A second poll with the same waker* takes no lock: the entry holds a clone of that waker unless it
//! has fired, and then either the deadline has passed by the clock (the clock does not go backwards
//! between threads), or the driver was closed, which is looked at first. While the entry holds
//! the clone, no other waker can have the same data and vtable, which is how the handle knows it.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::alarm::{Alarm, Rouse};
use crate::clock::{Clock, NEVER};
use crate::driver::Closed;
use crate::shard::Shard;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::wakers::{WakeList, let_go};
use crate::wheel::{EntryId, Wheel};

/// How many timers are fired under one lock. Bounds how long the lock is held, and the latency of
/// the first waker when very many are due at once. Guarded by the timers bench.
const FIRE_BATCH: usize = 256;

/// The timers of one shard.
pub(crate) struct Timers {
    wheel: Mutex<Wheel>,
    pub(crate) alarm: Alarm,
    /// No entry at or before this time is in the wheel. Written under the lock.
    swept: AtomicU64,
    /// Written under the lock, once.
    closed: AtomicBool,
}

/// What became of an attempt to arm.
enum Armed {
    /// There is an entry.
    Yes(EntryId, Rouse),
    /// The deadline has gone by.
    Due,
    /// The driver is closed.
    Closed,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            wheel: Mutex::new(Wheel::new()),
            alarm: Alarm::new(),
            swept: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    fn is_closed(&self) -> bool {
        // Ordering: Acquire, with the Release in `close`: a future that is told of the end sees what came before
        // it. That one which is woken by it sees the flag at all is its waker's doing.
        self.closed.load(Ordering::Acquire)
    }

    fn has_swept(&self, deadline: u64) -> bool {
        // Ordering: Relaxed: the value only grows, and says that an entry is gone, which is then
        // simply not looked for. Too small a value costs the lock.
        deadline <= self.swept.load(Ordering::Relaxed)
    }

    fn arm(&self, now: u64, deadline: u64, waker: Waker) -> Armed {
        let mut wheel = self.wheel.lock();
        // Ordering: Relaxed: written under this lock.
        if self.closed.load(Ordering::Relaxed) {
            drop(wheel);
            let_go(waker);
            return Armed::Closed;
        }
        match wheel.insert(now, deadline, waker) {
            Ok(id) => {
                let lowered = self.lower(deadline);
                drop(wheel);
                Armed::Yes(id, self.rouse(lowered, deadline))
            }
            Err(waker) => {
                drop(wheel);
                let_go(waker);
                Armed::Due
            }
        }
    }

    /// Moves an entry; `None` if it is gone, or the new deadline is.
    fn rearm(&self, now: u64, id: EntryId, deadline: u64) -> Option<Rouse> {
        let mut wheel = self.wheel.lock();
        if !wheel.reschedule(now, id, deadline) {
            return None;
        }
        let lowered = self.lower(deadline);
        drop(wheel);
        Some(self.rouse(lowered, deadline))
    }

    /// Under the lock. Whether `deadline` is the earliest now.
    fn lower(&self, deadline: u64) -> bool {
        let lowered = deadline < self.alarm.next();
        if lowered {
            self.alarm.lower(deadline);
        }
        lowered
    }

    fn rouse(&self, lowered: bool, deadline: u64) -> Rouse {
        if lowered {
            self.alarm.must_rouse(deadline)
        } else {
            Rouse::No
        }
    }

    fn replace(&self, id: EntryId, waker: Waker) -> bool {
        let replaced = self.wheel.lock().replace(id, waker);
        let is_there = replaced.is_ok();
        // The old waker, or ours.
        let_go(replaced.unwrap_or_else(|ours| ours));
        is_there
    }

    fn cancel(&self, id: EntryId) {
        let mut wheel = self.wheel.lock();
        let waker = wheel.remove(id);
        if wheel.len() == 0 {
            self.alarm.set(NEVER);
        }
        drop(wheel);
        waker.into_iter().for_each(let_go);
    }

    /// Whether `fire` has something to do.
    pub(crate) fn are_due(&self, clock: &Clock) -> bool {
        let next = self.alarm.next();
        next != NEVER && next <= clock.now()
    }

    /// Runs the wakers of all timers that are due. Answers how many.
    #[inline]
    pub(crate) fn fire(&self, clock: &Clock) -> usize {
        let next = self.alarm.next();
        if next == NEVER {
            return 0;
        }
        let now = clock.now();
        if next > now { 0 } else { self.fire_until(now) }
    }

    #[cold]
    fn fire_until(&self, now: u64) -> usize {
        let mut fired = 0;
        loop {
            let mut due = WakeList::new();
            let more = self.pop(now, &mut due);
            fired += due.run();
            if !more {
                return fired;
            }
        }
    }

    /// Pops one batch. Whether there is more.
    fn pop(&self, now: u64, due: &mut WakeList) -> bool {
        let mut wheel = self.wheel.lock();
        while due.len() < FIRE_BATCH {
            match wheel.pop_due(now) {
                Some(waker) => due.push(waker),
                None => break,
            }
        }
        let next = wheel.next_deadline();
        self.alarm.set(next);
        // Ordering: Relaxed, see `has_swept`.
        self.swept.store(wheel.swept(), Ordering::Relaxed);
        next <= now
    }

    /// Refuses timers from now on and collects the wakers of those that wait.
    pub(crate) fn close(&self, wakers: &mut WakeList) {
        let mut wheel = self.wheel.lock();
        // Ordering: Release, with the Acquire in `is_closed`.
        self.closed.store(true, Ordering::Release);
        wheel.drain(|waker| wakers.push(waker));
        self.alarm.set(NEVER);
    }

    #[cfg(all(test, not(heist_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.wheel.lock().len()
    }
}

/// Which waker an entry holds a clone of, without holding one itself.
#[derive(Clone, Copy, PartialEq, Eq)]
struct WakerIdentity {
    data: usize,
    vtable: usize,
}

impl WakerIdentity {
    fn of(waker: &Waker) -> Self {
        Self {
            data: waker.data().addr(),
            vtable: std::ptr::from_ref(waker.vtable()).addr(),
        }
    }
}

/// An entry in the wheel, as the handle remembers it.
struct Held {
    id: EntryId,
    deadline: u64,
    waker: WakerIdentity,
}

/// One deadline that one task waits for. Made by [`Driver::timer`](crate::Driver::timer), unarmed.
///
/// Dropping it cancels, and frees its entry at once.
///
/// # Examples
/// ```
/// use std::{future::poll_fn, sync::Arc};
/// use heist_io::{Closed, Driver, now};
///
/// async fn sleep(driver: &Arc<Driver>, nanos: u64) -> Result<(), Closed> {
///     let deadline = now().saturating_add(nanos);
///     let mut timer = driver.timer(0);
///     poll_fn(|cx| timer.poll_at(deadline, cx)).await
/// }
/// ```
pub struct Timer {
    shard: Arc<Shard>,
    index: usize,
    held: Option<Held>,
}

impl Timer {
    pub(crate) fn new(shard: Arc<Shard>, index: usize) -> Self {
        Self {
            shard,
            index,
            held: None,
        }
    }

    /// The shard whose owner fires this timer.
    pub fn shard(&self) -> usize {
        self.index
    }

    /// Waits until `deadline`: ready once it has gone by, also if it had before the call.
    ///
    /// The waker of the last call is woken. Another `deadline` than that of the call before moves the
    /// timer. With [`NEVER`] only [`Driver::close`](crate::Driver::close) ends the wait.
    ///
    /// # Errors
    /// [`Closed`] when the driver is closed, or this is the child of a fork, and the deadline still
    /// lies ahead.
    pub fn poll_at(&mut self, deadline: u64, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        // In the child of a fork nobody would fire it.
        let closed = self.shard.is_forked() || self.shard.timers.is_closed();
        let now = self.shard.clock.now();
        if deadline <= now {
            self.cancel();
            return Poll::Ready(Ok(()));
        }
        if closed {
            self.held = None;
            return Poll::Ready(Err(Closed));
        }
        let waker = cx.waker();
        if self.is_held_for(deadline, waker) || self.adjust(now, deadline, waker) {
            return Poll::Pending;
        }
        self.arm(now, deadline, waker)
    }

    /// Whether the entry needs no change.
    fn is_held_for(&self, deadline: u64, waker: &Waker) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| held.deadline == deadline && held.waker == WakerIdentity::of(waker))
    }

    /// Edges 2 and 3. Whether the entry was still there and is now right.
    fn adjust(&mut self, now: u64, deadline: u64, waker: &Waker) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let identity = WakerIdentity::of(waker);
        if held.waker != identity {
            if !self.shard.timers.replace(held.id, waker.clone()) {
                return false;
            }
            held.waker = identity;
        }
        if held.deadline != deadline {
            let Some(rouse) = self.shard.timers.rearm(now, held.id, deadline) else {
                return false;
            };
            held.deadline = deadline;
            self.shard.rouse(rouse);
        }
        true
    }

    /// Edge 1.
    fn arm(&mut self, now: u64, deadline: u64, waker: &Waker) -> Poll<Result<(), Closed>> {
        self.cancel();
        let identity = WakerIdentity::of(waker);
        match self.shard.timers.arm(now, deadline, waker.clone()) {
            Armed::Yes(id, rouse) => {
                self.held = Some(Held {
                    id,
                    deadline,
                    waker: identity,
                });
                self.shard.rouse(rouse);
                Poll::Pending
            }
            Armed::Due => Poll::Ready(Ok(())),
            Armed::Closed => Poll::Ready(Err(Closed)),
        }
    }

    /// Gives the deadline up; nobody is woken. The timer can be used again.
    pub fn cancel(&mut self) {
        if let Some(held) = self.held.take() {
            if !self.shard.is_forked() && !self.shard.timers.has_swept(held.deadline) {
                self.shard.timers.cancel(held.id);
            }
        }
    }

    /// Whether a deadline was armed, and neither cancelled nor seen to be over.
    pub fn is_armed(&self) -> bool {
        self.held.is_some()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("deadline", &self.held.as_ref().map(|held| held.deadline))
            .finish_non_exhaustive()
    }
}
