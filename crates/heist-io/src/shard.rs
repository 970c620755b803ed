//! One shard: a poller, its sources, its timers, and the thread that parks on it.
//!
//! # One turn
//!
//! 1. Take the turn (owner: lock; helper: try, and go away if it is held).
//! 2. Owner only: announce the sleep in the slot word (`turn.rs`), then until when (`alarm.rs`).
//! 3. Wait for events: the owner as long as it may, a helper not at all.
//! 4. Owner only: leave, so that no later unparker makes a system call for nothing.
//! 5. Apply the whole batch to the readiness words (`readiness.rs`), collecting wakers.
//! 6. Let the turn go.
//! 7. Run the wakers, then those of due timers. The driver is never held while user code runs.
//!
//! # The life of the poller
//!
//! ```text
//!   none ──1──▶ made ──2──▶ released          1 the first source is registered
//!     └─────────2──────────────▲              2 release, once, after close
//! ```
//!
//! Every use holds on to it: a holder of the turn has its own reference inside the turn; unparkers,
//! `admit` and `deregister` hold the `poller` lock for reading during their one system call.
//! `release` takes the lock for writing and the turn, so it waits for all of them, and then the
//! descriptors are closed. Nobody keeps a descriptor's number.
//!
//! Readers of that lock never wait for each other, and for a writer only during 1 and 2. Edge 1
//! happens before the owner can be in the poller, so no unparker wants the lock then.
//!
//! # Closing
//!
//! `close` marks and empties the registry and the wheel, each under its lock, and runs all wakers;
//! then it unparks the owner. A registration or arming that comes earlier under the lock is among
//! those that are woken, a later one is refused. Parking, polling and unparking go on working until
//! `release` and, on the thread parker, after it: the threads of the runtime still have tasks to end.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::alarm::Rouse;
use crate::clock::{Clock, NEVER, now};
use crate::driver::closed_error;
use crate::fork::{Generation, forked_error};
use crate::readiness::End;
use crate::registry::{Key, Refused, Registry};
use crate::source::Record;
use crate::sync::{self, AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, RwLock, Thread};
use crate::sys::{Batch, BorrowedIo, Interest, Limit, Poller, Registration};
use crate::timer::Timers;
use crate::turn::{Announced, Bed, Slot, Wake};
use crate::wakers::WakeList;

/// How long an owner sleeps when the system refuses to let it wait. Such an error is not expected
/// at all; it must not become a busy loop.
const BROKEN_WAIT: Duration = Duration::from_millis(1);

/// The life of the poller, see the module.
enum Os {
    None,
    Made(Arc<Poller>),
    Released,
}

/// What belongs to the holder of the turn.
struct Turn {
    /// The holder's own reference, fetched when it is first needed.
    poller: Option<Arc<Poller>>,
    batch: Batch,
}

impl Turn {
    fn wait(&mut self, limit: Limit) -> io::Result<()> {
        match &self.poller {
            Some(poller) => poller.wait(&mut self.batch, limit),
            None => Ok(()),
        }
    }
}

pub(crate) struct Shard {
    /// Written by the owner at every park and by whoever unparks it.
    slot: CachePadded<Slot>,
    /// Held by the owner while it sleeps in the poller, by helpers for one wait without timeout.
    turn: CachePadded<Mutex<Turn>>,
    /// Locked once per batch, and by `admit` and `deregister`.
    registry: CachePadded<Mutex<Registry>>,
    /// Registered sources. Written under the registry's lock, read as a hint.
    live: AtomicUsize,
    pub(crate) timers: CachePadded<Timers>,
    /// What the timers go by. The thread parks by the system's clock in any case.
    pub(crate) clock: Clock,
    /// Read by unparkers that found the owner in the poller, and per registration.
    poller: RwLock<Os>,
    /// Set once, before the poller is taken away.
    released: AtomicBool,
    /// The owner's thread. Locked by unparkers that found it asleep there.
    owner: Mutex<Option<Thread>>,
    /// The process that all of this belongs to.
    generation: Generation,
}

impl Shard {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            slot: CachePadded::new(Slot::new()),
            turn: CachePadded::new(Mutex::new(Turn {
                poller: None,
                batch: Batch::new(),
            })),
            registry: CachePadded::new(Mutex::new(Registry::new())),
            live: AtomicUsize::new(0),
            timers: CachePadded::new(Timers::new()),
            clock,
            poller: RwLock::new(Os::None),
            released: AtomicBool::new(false),
            owner: Mutex::new(None),
            generation: Generation::now(),
        }
    }

    // --- Parking ---

    /// The calling thread is the owner from now on.
    pub(crate) fn attach(&self) {
        let old = self.owner.lock().replace(sync::current());
        drop(old);
    }

    /// Sleeps until unparked, an event, a due timer, `deadline`, or spuriously. Calls `awake` after the
    /// sleep and before the wakers, with whether there are any. Owner only.
    pub(crate) fn park(&self, deadline: u64, awake: &mut dyn FnMut(bool)) {
        if self.is_forked() {
            // Spuriously: whoever parks here ends as soon as it looks.
            return awake(false);
        }
        let mut turn = self.turn.lock();
        if self.adopt(&mut turn) {
            self.park_in_poller(turn, deadline, awake);
        } else {
            drop(turn);
            self.park_on_thread(deadline);
            self.wake_up(None, awake);
        }
    }

    /// The owner sleeps no more, and says so before it calls wakers. A timer whose time comes after it has
    /// said that there are none is left to the next look.
    fn wake_up(&self, events: Option<WakeList>, awake: &mut dyn FnMut(bool)) {
        let wakes =
            events.as_ref().is_some_and(|list| list.len() > 0) || self.timers.are_due(&self.clock);
        awake(wakes);
        if let Some(list) = events {
            list.run();
        }
        if wakes {
            self.timers.fire(&self.clock);
        }
    }

    fn park_in_poller(
        &self,
        mut turn: MutexGuard<'_, Turn>,
        deadline: u64,
        awake: &mut dyn FnMut(bool),
    ) {
        if self.slot.announce(Bed::Poller) == Announced::Notified {
            drop(turn);
            return self.wake_up(None, awake);
        }
        let until = self.timers.alarm.announce(deadline);
        let waited = turn.wait(Limit::Until(until));
        self.timers.alarm.awake();
        self.slot.leave();
        let wakers = self.apply(&mut turn);
        drop(turn);
        self.wake_up(Some(wakers), awake);
        if waited.is_err() {
            sync::park(Some(BROKEN_WAIT));
        }
    }

    fn park_on_thread(&self, deadline: u64) {
        self.attach_first();
        if self.slot.announce(Bed::Thread) == Announced::Notified {
            return;
        }
        match self.timers.alarm.announce(deadline) {
            NEVER => sync::park(None),
            until => match until.saturating_sub(now()) {
                0 => {}
                left => sync::park(Some(Duration::from_nanos(left))),
            },
        }
        self.timers.alarm.awake();
        self.slot.leave();
    }

    /// An owner that forgot to attach could not be woken from its thread.
    fn attach_first(&self) {
        let mut owner = self.owner.lock();
        if owner.is_none() {
            *owner = Some(sync::current());
        }
    }

    /// Any thread. One system call at most.
    #[inline]
    pub(crate) fn unpark(&self) {
        match self.slot.notify() {
            Wake::Nothing => {}
            Wake::Thread => self.unpark_thread(),
            Wake::Poller => self.ring(),
        }
    }

    fn unpark_thread(&self) {
        if self.is_forked() {
            return;
        }
        // Not under the lock: the owner wants it for its next park, and on the same CPU it runs before
        // this thread has let go.
        let owner = self.owner.lock().clone();
        if let Some(thread) = owner {
            thread.unpark();
        }
    }

    fn ring(&self) {
        if self.is_forked() {
            return;
        }
        if let Os::Made(poller) = &*self.poller.read() {
            poller.ring();
        }
    }

    /// What the alarm asks for after a timer was armed.
    #[inline]
    pub(crate) fn rouse(&self, rouse: Rouse) {
        if rouse == Rouse::Owner {
            self.unpark();
        }
    }

    // --- Turns ---

    /// Sees what has happened, without waiting. Answers how many wakers were run.
    pub(crate) fn poll(&self) -> usize {
        if self.is_forked() {
            return 0;
        }
        let mut ran = 0;
        if self.live() != 0 {
            if let Some(turn) = self.turn.try_lock() {
                ran = self.look(turn);
            }
        }
        ran + self.timers.fire(&self.clock)
    }

    fn look(&self, mut turn: MutexGuard<'_, Turn>) -> usize {
        if !self.adopt(&mut turn) || turn.wait(Limit::Now).is_err() {
            return 0;
        }
        let wakers = self.apply(&mut turn);
        #[cfg(not(heist_bug_10))]
        drop(turn);
        wakers.run()
    }

    /// Makes sure that the turn has the poller, if there is one to be used.
    fn adopt(&self, turn: &mut Turn) -> bool {
        // Ordering: Relaxed: `release` stores it before it unparks, so an owner that comes back from
        // the poller for that reason sees it. Whoever sees it late is waited for.
        if self.released.load(Ordering::Relaxed) {
            return false;
        }
        if turn.poller.is_none() {
            if let Os::Made(poller) = &*self.poller.read() {
                turn.poller = Some(poller.clone());
            }
        }
        turn.poller.is_some()
    }

    /// Step 5. The wakers are to be run after the turn was let go.
    fn apply(&self, turn: &mut Turn) -> WakeList {
        let mut wakers = WakeList::new();
        let mut registry = None;
        turn.batch.drain(|event| {
            let registry = registry.get_or_insert_with(|| self.registry.lock());
            if let Some(record) = registry.get(event.key) {
                record.apply(event.occurred, &mut wakers);
            }
        });
        wakers
    }

    /// Whether all of this belongs to a parent of this process, and is not to be touched.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.generation.has_gone_by()
    }

    // --- Sources ---

    /// Registered sources, as a hint.
    #[inline]
    pub(crate) fn live(&self) -> usize {
        // Ordering: Relaxed: a hint. The thread that registered sees its own; the owner sees it after
        // it was unparked at the latest, and a sleeping owner is in the poller, not here.
        self.live.load(Ordering::Relaxed)
    }

    /// Registers a source: a new one, or in steps m2 and m3 of a move one that another shard has as well.
    pub(crate) fn admit(
        &self,
        io: BorrowedIo<'_>,
        make: impl FnOnce(Key) -> Arc<Record>,
    ) -> io::Result<(Arc<Record>, Key, Registration)> {
        // Into the registry first: the first event may come before `add` returns.
        let (key, record) = self.enter(make)?;
        match self.add(io, key.pack()) {
            Ok(registration) => Ok((record, key, registration)),
            Err(error) => {
                self.forget(key);
                Err(error)
            }
        }
    }

    fn enter(&self, make: impl FnOnce(Key) -> Arc<Record>) -> io::Result<(Key, Arc<Record>)> {
        let mut registry = self.registry.lock();
        let entered = registry.insert(make);
        self.live.store(registry.len(), Ordering::Relaxed);
        drop(registry);
        entered.map_err(|refused| match refused {
            Refused::Closed => closed_error(),
            Refused::Full => io::Error::new(io::ErrorKind::OutOfMemory, "too many sources"),
        })
    }

    fn add(&self, io: BorrowedIo<'_>, key: u64) -> io::Result<Registration> {
        loop {
            match &*self.poller.read() {
                Os::Made(poller) => return poller.add(io, key),
                Os::Released => return Err(closed_error()),
                Os::None => {}
            }
            self.make_poller()?;
        }
    }

    #[cold]
    fn make_poller(&self) -> io::Result<()> {
        let mut os = self.poller.write();
        if matches!(*os, Os::None) {
            *os = Os::Made(Arc::new(Poller::new()?));
        }
        drop(os);
        // The owner may sleep on its thread: it must come back and park in the poller.
        self.unpark();
        Ok(())
    }

    fn forget(&self, key: Key) {
        let mut registry = self.registry.lock();
        let record = registry.remove(key);
        self.live.store(registry.len(), Ordering::Relaxed);
        drop(registry);
        drop(record);
    }

    pub(crate) fn deregister(
        &self,
        key: Key,
        registration: &Registration,
        io: BorrowedIo<'_>,
    ) -> io::Result<()> {
        if self.is_forked() {
            return Ok(());
        }
        self.forget(key);
        match &*self.poller.read() {
            Os::Made(poller) => poller.remove(registration, io),
            _ => {
                registration.discard();
                Ok(())
            }
        }
    }

    pub(crate) fn abandon(&self, key: Key, registration: &Registration) {
        if self.is_forked() {
            return;
        }
        self.forget(key);
        match &*self.poller.read() {
            Os::Made(poller) => poller.abandon(registration),
            _ => registration.discard(),
        }
    }

    pub(crate) fn rearm(
        &self,
        registration: &Registration,
        key: u64,
        interest: impl FnOnce() -> Interest,
    ) -> io::Result<()> {
        if self.is_forked() {
            return Err(forked_error());
        }
        match &*self.poller.read() {
            Os::Made(poller) => poller.rearm(registration, key, interest),
            _ => Err(closed_error()),
        }
    }

    /// Gives the shard a poller of the test's choice.
    #[cfg(all(test, heist_portable_io))]
    pub(crate) fn install(&self, poller: Poller) {
        *self.poller.write() = Os::Made(Arc::new(poller));
    }

    /// What the kernel does in a model: an event of `source`.
    #[cfg(all(test, heist_loom))]
    pub(crate) fn inject(&self, source: &crate::Source, occurred: crate::readiness::Occurred) {
        if let Os::Made(poller) = &*self.poller.read() {
            poller.inject(source.key(), occurred);
        }
    }

    // --- The end ---

    /// Refuses sources and timers from now on and wakes all who wait.
    pub(crate) fn close(&self) {
        let mut registry = self.registry.lock();
        let records = registry.close();
        self.live.store(0, Ordering::Relaxed);
        drop(registry);
        let records: Vec<_> = records.collect();
        let mut wakers = WakeList::new();
        for record in &records {
            record.finish(End::DriverClosed, &mut wakers);
        }
        self.timers.close(&mut wakers);
        wakers.run();
        drop(records);
        self.unpark();
    }

    /// Closes the descriptors. Waits for every use of them that is going on.
    pub(crate) fn release(&self) {
        // An owner that parks against the rule is called back, and finds the flag by the edge that
        // `unpark` makes.
        self.released.store(true, Ordering::Relaxed);
        self.unpark();
        let os = std::mem::replace(&mut *self.poller.write(), Os::Released);
        if let Os::Made(poller) = &os {
            // An unparker that was before us has left the token, and may be about to ring: it finds no poller now.
            poller.ring();
        }
        let mut turn = self.turn.lock();
        turn.poller = None;
        turn.batch = Batch::new();
        drop(turn);
        drop(os);
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if self.is_forked() {
            // Its destructor would take registrations out of what is the parent's poller too. What
            // the shard has is the last but one reference at most: the turn has the other.
            if let Os::Made(poller) = &*self.poller.read() {
                std::mem::forget(poller.clone());
            }
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("owner", &self.slot.state())
            .field("sources", &self.live())
            .field("next_deadline", &self.timers.alarm.next())
            .finish_non_exhaustive()
    }
}
