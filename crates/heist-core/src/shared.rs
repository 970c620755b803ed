//! What all threads of a runtime share, and where a task goes.

#![forbid(unsafe_code)]

use crate::blocking::Pool;
use crate::closing::Closing;
use crate::config::{Config, MainThread, NOTES_FOR};
use crate::context::Context;
use crate::deque::{self, Injector, Steal};
use crate::fork::Generation;
use crate::guests::Guests;
use crate::idle::Idle;
use crate::monitor::Monitor;
use crate::pinned::Pinned;
use crate::seam::{NEVER, Seam};
use crate::sim::Simulation;
use crate::slot::{BLOCKED, Slot};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, fence};
use crate::task::{Id, JoinHandle, Kind, Label, New, Runnable, TaskLists, Unseen, create};
use crate::threads::Threads;
use crossbeam_utils::CachePadded;
use std::future::Future;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// See the module.
pub(crate) struct Shared {
    /// For threads to be started by whoever has no counted reference at hand.
    pub(crate) me: Weak<Shared>,
    pub(crate) config: Config,
    pub(crate) seam: Arc<dyn Seam>,
    pub(crate) slots: Box<[CachePadded<Slot>]>,
    pub(crate) injector: Injector<Runnable>,
    pub(crate) idle: CachePadded<Idle>,
    /// Foreign threads that are inside for a moment.
    pub(crate) guests: CachePadded<Guests>,
    /// Workers that are known to be blocked: inside `block_in_place`, or found by the monitor.
    pub(crate) blocked: AtomicUsize,
    /// Foreign threads inside `block_on`.
    visitors: AtomicUsize,
    /// Handles to the runtime that users have.
    handles: AtomicUsize,
    pub(crate) tasks: TaskLists,
    pub(crate) blocking: Pool,
    pub(crate) threads: Threads,
    pub(crate) monitor: Monitor,
    pub(crate) closing: Closing,
    /// The thread of the present run, or of the last one: for those who list its tasks. Not counted,
    /// since it counts us.
    pub(crate) present: Mutex<Weak<Pinned>>,
    /// Whether and how long it is noted down what tasks wait on.
    looks: Looks,
    /// Where the runtime was made.
    pub(crate) site: &'static Location<'static>,
    /// If one thread steps all workers.
    pub(crate) sim: Option<Simulation>,
    /// In which process.
    generation: Generation,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("made_at", &format_args!("{}", self.site))
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

/// What is said of a task when it is spawned.
#[derive(Debug)]
pub struct Spawn {
    /// Its name, for errors and reports.
    pub name: Option<Box<str>>,
    /// Where.
    pub site: &'static Location<'static>,
}

impl Spawn {
    /// Without a name.
    pub fn at(site: &'static Location<'static>) -> Spawn {
        Spawn { name: None, site }
    }
}

impl Shared {
    pub(crate) fn new(
        mut config: Config,
        seam: Arc<dyn Seam>,
        site: &'static Location<'static>,
    ) -> Arc<Shared> {
        // Before the runtime has threads: see `fork.rs`.
        deque::prepare();
        let sim = Simulation::of(&seam, &mut config.hooks);
        let slots = config.workers + config.spare_workers;
        // Which tasks share a list depends on how many there were before in the process, and so would
        // the order in which a simulation closes them.
        let tasks = match sim {
            Some(_) => TaskLists::single(),
            None => TaskLists::new(config.workers),
        };
        Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            slots: (0..slots).map(|_| CachePadded::new(Slot::new())).collect(),
            injector: Injector::new(),
            idle: CachePadded::new(Idle::new()),
            guests: CachePadded::new(Guests::new()),
            blocked: AtomicUsize::new(0),
            visitors: AtomicUsize::new(0),
            handles: AtomicUsize::new(0),
            tasks,
            blocking: Pool::new(),
            threads: Threads::new(),
            monitor: Monitor::new(),
            closing: Closing::new(sim.is_some()),
            present: Mutex::default(),
            looks: Looks::new(config.debug || config.detect_deadlock),
            config,
            seam,
            site,
            sim,
            generation: Generation::now(),
        })
    }

    /// The owner of `slot` sleeps: see [`Seam::park`].
    pub(crate) fn park(&self, slot: usize, deadline: u64, awake: &mut dyn FnMut(bool)) {
        let simulated = |sim| Some((sim, self.seam.simulated()?));
        match self.sim.as_ref().and_then(simulated) {
            Some((sim, seam)) => {
                let is_woken =
                    || seam.is_unparked(slot) || seam.next_deadline(slot) <= self.seam.now();
                let until = || seam.next_deadline(slot).min(deadline);
                sim.wait(self, until, is_woken);
                seam.take_unpark(slot);
                let wakes = seam.next_deadline(slot) <= self.seam.now();
                awake(wakes);
                if wakes {
                    self.seam.poll(slot);
                }
            }
            None => self.seam.park(slot, deadline, awake),
        }
    }

    /// Whether this process is a child of the one that the runtime belongs to.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.generation.has_gone_by()
    }

    /// Whether the caller of `run` takes part in running Send tasks.
    pub(crate) fn main_works(&self) -> bool {
        self.config.main_thread == MainThread::Worker
    }

    /// Whether it may have to be noted down what tasks wait on.
    #[inline]
    pub(crate) fn is_looked_at(&self) -> bool {
        self.looks.may_last()
    }

    /// Whether it really is, if the above was true.
    #[cold]
    pub(crate) fn is_still_looked_at(&self) -> bool {
        self.looks.last(|| self.seam.now())
    }

    /// Somebody wants to know what tasks wait on.
    pub(crate) fn look_at(&self) {
        self.looks.look(self.seam.now());
    }

    /// At most half the workers search, and one at least.
    pub(crate) fn search_limit(&self) -> u32 {
        (self.config.workers as u32 / 2).max(1)
    }

    /// Spawns a Send task from the thread whose context is `cx`; gives the future
    /// back if the runtime is closed.
    #[inline]
    pub(crate) fn spawn<F>(
        &self,
        cx: Option<&Context<'_>>,
        spawn: Spawn,
        future: F,
        unseen: Unseen<F>,
    ) -> Result<JoinHandle<F::Output>, (F, Label)>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let cx = cx.filter(|cx| cx.is_inside(self));
        let new = self.new_task(cx, spawn, Kind::Send, NonNull::from(self).cast());
        let list = self.tasks.of(new.id);
        let (handle, task) = create(new, future, unseen).inheriting().publish(list)?;
        self.monitor.wanted(self);
        if let Some(worker) = cx.and_then(|cx| cx.worker) {
            worker.push_new(task);
            return Ok(handle);
        }
        if cx.is_some() {
            self.wake_task(cx, task);
        } else if !self.is_forked() {
            // From outside. No guest, unlike a wake: the caller holds a counted reference, so nothing is
            // freed under it, and the end of the loop waits for the task, which is in its list. And it may
            // start a thread, which can run the user's error handler.
            self.injector.push(task);
            self.notify(MayStart::Yes);
        }
        Ok(handle)
    }

    #[inline]
    pub(crate) fn new_task(
        &self,
        cx: Option<&Context<'_>>,
        spawn: Spawn,
        kind: Kind,
        owner: NonNull<()>,
    ) -> New {
        let id = Id::next();
        self.config.hooks.task_spawn(id);
        New {
            id,
            name: spawn.name,
            site: spawn.site,
            parent: cx.and_then(Context::task_id),
            kind,
            owner,
        }
    }

    /// Sends a Send task that has just become queued to where it will be run. `cx` is the context
    /// of the calling thread.
    pub(crate) fn wake_task(&self, cx: Option<&Context<'_>>, task: Runnable) {
        match cx.filter(|cx| cx.is_inside(self)) {
            Some(Context {
                worker: Some(worker),
                ..
            }) => worker.push(task),
            Some(_) => {
                self.injector.push(task);
                self.notify(MayStart::Yes);
            }
            // In the child of a fork nobody would run it, and the injector may be held for ever.
            None if self.is_forked() => {}
            None => {
                let guest = self.guests.enter_held();
                self.injector.push(task);
                self.notify(MayStart::No);
                drop(guest);
            }
        }
    }

    /// One task of the injector.
    pub(crate) fn take_injected(&self) -> Option<Runnable> {
        if self.injector.is_empty() {
            return None;
        }
        loop {
            match self.injector.steal() {
                Steal::Success(task) => return Some(task),
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    /// Somebody should look for work that was just published: wakes a sleeping worker, or starts
    /// one, unless somebody searches already.
    pub(crate) fn notify(&self, may_start: MayStart) {
        if self.is_forked() {
            return;
        }
        if let Some(slot) = self.idle.claim() {
            self.seam.unpark(slot as usize);
        } else if may_start == MayStart::Yes {
            self.start_if_nobody_is_free();
        }
    }

    fn start_if_nobody_is_free(&self) {
        let counts = self.idle.counts();
        if counts.searching == 0 && counts.sleeping == 0 && self.can_start() {
            self.threads.start_worker(self);
        }
    }

    /// The owner of a slot is blocked, as far as somebody knows. It takes the note back itself. False
    /// if that was known.
    pub(crate) fn mark_blocked(&self, slot: &Slot) -> bool {
        if slot.has_note(BLOCKED) {
            return false;
        }
        // Counted before the note can be found, so that the count never falls below zero.
        self.blocked.fetch_add(1, Ordering::Relaxed);
        let marked = slot.note(BLOCKED);
        if !marked {
            self.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        marked
    }

    /// Takes that back, unless the owner has.
    pub(crate) fn unmark_blocked(&self, slot: &Slot) {
        if slot.take_note(BLOCKED) {
            self.blocked.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A foreign thread is in `block_on`: somebody must work as long as it is.
    pub(crate) fn visit(&self) -> Visit<'_> {
        // Its sockets and timers are on the shard of a worker that `main` may block.
        self.monitor.wanted(self);
        self.visitors.fetch_add(1, Ordering::Relaxed);
        // Ordering: SeqCst, the counterpart of the one in `needs_worker`: either the thread that
        // gives its slot back sees the visitor, or the visitor sees that nobody works.
        fence(Ordering::SeqCst);
        Visit(self)
    }

    /// Whether a foreign thread is in `block_on`.
    pub(crate) fn is_visited(&self) -> bool {
        // Ordering: Acquire, as in `handles`.
        self.visitors.load(Ordering::Acquire) > 0
    }

    /// Somebody has a handle more, or one less.
    pub(crate) fn count_handle(&self) {
        // Ordering: Relaxed, as for an `Arc`: the new one is made from the runtime or from another one.
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// See `count_handle`.
    pub(crate) fn uncount_handle(&self) {
        // Ordering: Release pairs with the Acquire in `handles`: what was done with it is visible.
        self.handles.fetch_sub(1, Ordering::Release);
    }

    /// How many handles to the runtime there are.
    pub(crate) fn handles(&self) -> usize {
        self.handles.load(Ordering::Acquire)
    }

    /// Whether somebody must work on a slot: for tasks, closures or visitors, or because of what
    /// the slots' shards wait for. Asked after a slot was given back.
    pub(crate) fn needs_worker(&self) -> bool {
        // Ordering: SeqCst, see `visit`; and likewise for a source that is registered.
        fence(Ordering::SeqCst);
        self.visitors.load(Ordering::Relaxed) > 0
            || !self.tasks.is_empty()
            || self.blocking.tasks.len() > 0
            || (0..self.slots.len()).any(|slot| self.seam.is_used(slot))
    }

    /// After a slot was given back: somebody must take over its shard, if that is used, and the
    /// tasks, if that was the last worker.
    pub(crate) fn worker_has_left(&self, index: usize) {
        if self.closing.has_begun() || self.is_forked() {
            return;
        }
        let needed = self.needs_worker();
        self.threads.attend(self, index);
        if needed && !self.threads.any_worker() {
            self.monitor.wanted(self);
            self.threads.start_worker(self);
        }
    }

    /// After a source or a timer was given to the shard of a slot that is not the caller's: its
    /// owner may have left since the shard was chosen.
    pub(crate) fn attend(&self, index: usize) {
        // Ordering: SeqCst, the counterpart of the one in `needs_worker`: either whoever leaves the
        // slot sees that its shard is used, or we see that the slot is vacant. (The lock of its `home` orders
        // that as well.)
        fence(Ordering::SeqCst);
        if !self.closing.has_begun() && !self.is_forked() {
            self.threads.attend(self, index);
        }
    }

    /// How many workers there should be at most: a spare one for each that is blocked.
    pub(crate) fn needed_workers(&self) -> usize {
        // Ordering: Relaxed, a count that the monitor corrects every 2 ms.
        let blocked = self.blocked.load(Ordering::Relaxed);
        self.config.workers + blocked.min(self.config.spare_workers)
    }

    /// Whether a thread could be started for more work.
    pub(crate) fn can_start(&self) -> bool {
        self.threads.startable(self.needed_workers())
    }

    /// Whether more than one worker can ever run.
    pub(crate) fn is_parallel(&self) -> bool {
        self.slots.len() > 1
    }
}

/// See [`Shared::visit`].
#[derive(Debug)]
pub(crate) struct Visit<'a>(&'a Shared);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a call may start a thread: those of the runtime may, a foreign `wake` may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayStart {
    Yes,
    No,
}

/// For how long somebody looks at what tasks wait on: until [`NOTES_FOR`] after the last look. Nobody
/// measures that time but whoever is about to leave a note.
#[derive(Debug)]
struct Looks {
    /// The end, by the clock of the seam. 0: nobody looks.
    until: AtomicU64,
}

impl Looks {
    /// `always`: the notes are needed without a look.
    fn new(always: bool) -> Looks {
        let until = if always { NEVER } else { 0 };
        Looks {
            until: AtomicU64::new(until),
        }
    }

    #[inline]
    fn may_last(&self) -> bool {
        // Ordering: Relaxed, here and below: nothing depends on it but how soon notes begin and end.
        self.until.load(Ordering::Relaxed) != 0
    }

    /// Ends it when its time has come.
    fn last(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == NEVER || now() < until {
            return true;
        }
        // A look of this moment is not ended: then it has another value.
        let (old, ended) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.until.compare_exchange(until, 0, old, ended);
        false
    }

    fn look(&self, now: u64) {
        let until = now.saturating_add(NOTES_FOR.as_nanos() as u64);
        self.until.fetch_max(until, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// Notes end some time after the last look, and begin again with the next.
    #[test]
    fn looks_end() {
        const LAST: u64 = NOTES_FOR.as_nanos() as u64;
        let looks = Looks::new(false);
        assert!(!looks.may_last());
        looks.look(5);
        assert!(looks.may_last() && looks.last(|| 5 + LAST - 1));
        looks.look(LAST);
        assert!(looks.last(|| 5 + LAST), "there was another look");
        // An older one changes nothing.
        looks.look(7);
        assert!(looks.last(|| 2 * LAST - 1) && looks.may_last());
        assert!(!looks.last(|| 2 * LAST));
        assert!(!looks.may_last(), "it costs a load from now on");
        looks.look(3 * LAST);
        assert!(looks.may_last() && looks.last(|| 3 * LAST));
    }

    /// What is noted without a look has no end, and asks no clock.
    #[test]
    fn looks_of_debug_mode_do_not_end() {
        let looks = Looks::new(true);
        looks.look(1);
        assert!(looks.may_last() && looks.last(|| unreachable!("no clock")));
    }
}

#[cfg(all(test, heist_loom))]
#[path = "shared_models.rs"]
mod models;
