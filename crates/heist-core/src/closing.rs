//! The end of a loop, as numbered steps.
//!
//! 1. Spawns are refused: every list of tasks is closed.
//! 2. Every task is asked to end; workers drop the futures. A task that catches the request, or is
//!    in cleanup already, goes on until `cancel_grace` is over, then it is dropped too. A list that is
//!    closed and empty tells whoever waits here. When no task is in cleanup any more, a poll or
//!    destructor that outlasts `poll_grace` is given up.
//! 3. The blocking pool is closed: closures that have not begun end as cancelled, those that run
//!    get `blocking_grace`.
//! 4. Guests leave.
//! 5. The driver is closed: whoever still waits for it gets an error.
//! 6. `OVER` is announced, and every thread of the runtime is joined. (In a simulation, which has none,
//!    all that would be threads are stepped to their ends.)
//! 7. The driver gives its file descriptors back.
//!
//! The thread that does this owns a slot if one is vacant, so that a runtime without threads can
//! drop its tasks too. It is the caller of `run` or `close`; or, if a `Runtime` is dropped in
//! async code, which must not block, one of the runtime's own threads.

#![forbid(unsafe_code)]

use crate::config::{JOIN_GRACE, REMINDER, STEPS_PER_LOOK};
use crate::context::{self, Context, Role};
use crate::graces::{Graces, Stopwatch};
use crate::hooks::Report;
use crate::pinned::Pinned;
use crate::shared::{MayStart, Shared};
use crate::sim::Simulation;
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{AtomicU8, AtomicUsize, Condvar, Mutex, Ordering};
use crate::task::{AnyLeft, GivenUp, Id, JoinError, Kind, Label, TaskList};
use crate::worker::{Ran, Step, Worker, run_task};
use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What the end of a loop found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that were still going on and were cancelled: their futures were dropped.
    pub cancelled: usize,
    /// Tasks that caught the cancellation, or were cleaning up after an earlier one, and ended within
    /// `cancel_grace`. One that let the cancellation go on, or was asked to end once more, is among the
    /// `cancelled` as well.
    pub finished_cleanup: Vec<Label>,
    /// Tasks that were still cleaning up when `cancel_grace` was over, and were dropped. They are
    /// among the `cancelled`.
    pub dropped_after_grace: Vec<DroppedTask>,
    /// Detached tasks, and tasks whose destructors panicked while they were cancelled.
    pub panicked: Vec<Label>,
    /// Tasks of `spawn_fallible` that ended with an `Err` during the end of the loop, with nobody to
    /// take it.
    pub failed: Vec<Label>,
    /// Tasks whose poll or destructor outlasted `poll_grace`; they may still run.
    pub abandoned: Vec<Label>,
    /// Blocking closures that had not begun and never will.
    pub blocking_cancelled: usize,
    /// Blocking closures that outlasted `blocking_grace`; they may still run.
    pub blocking_abandoned: Vec<Label>,
    /// Threads left behind, because of abandoned tasks or closures.
    pub threads_left: usize,
    /// How long the end took.
    pub took: Duration,
}

/// A task that was dropped in its cleanup.
///
/// Dereferences to the [`Label`] that says which one it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DroppedTask {
    /// Which one.
    pub task: Label,
    /// What it waited on at that moment, as far as heist's own futures know, in words: `"a timer"`,
    /// `"task 1024"`, `"reading fd 9"`. Empty if it did not wait, or waited on something else.
    pub waited_on: Vec<String>,
}

impl std::ops::Deref for DroppedTask {
    type Target = Label;
    fn deref(&self) -> &Label {
        &self.task
    }
}

impl std::fmt::Display for DroppedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.task.fmt(f)?;
        for (nth, wait) in self.waited_on.iter().enumerate() {
            let word = if nth == 0 { ", waited on" } else { " and" };
            write!(f, "{word} {wait}")?;
        }
        Ok(())
    }
}

impl ShutdownReport {
    /// Whether nothing had to be cancelled or left behind, and nothing panicked or failed unseen.
    pub fn is_clean(&self) -> bool {
        self.cancelled == 0
            && self.finished_cleanup.is_empty()
            && self.dropped_after_grace.is_empty()
            && self.panicked.is_empty()
            && self.failed.is_empty()
            && self.abandoned.is_empty()
            && self.blocking_cancelled == 0
            && self.blocking_abandoned.is_empty()
            && self.threads_left == 0
    }
}

impl std::fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "the loop ended within {:?}", self.took)?;
        writeln!(f, "  tasks cancelled:              {}", self.cancelled)?;
        writeln!(
            f,
            "  blocking closures not begun:  {}",
            self.blocking_cancelled
        )?;
        write!(f, "  threads left behind:          {}", self.threads_left)?;
        for label in &self.finished_cleanup {
            write!(f, "\n  finished its cleanup: {label}")?;
        }
        for task in &self.dropped_after_grace {
            write!(f, "\n  dropped after its grace: {task}")?;
        }
        for (what, labels) in [
            ("panicked unseen", &self.panicked),
            ("failed unseen", &self.failed),
            ("task abandoned", &self.abandoned),
            ("closure abandoned", &self.blocking_abandoned),
        ] {
            for label in labels {
                write!(f, "\n  {what}: {label}")?;
            }
        }
        Ok(())
    }
}

/// The tasks that got time to clean up at the end of a loop.
#[derive(Debug, Default)]
pub(crate) struct Cleanup {
    given: Vec<Label>,
    dropped: Vec<DroppedTask>,
}

impl Cleanup {
    /// These tasks have time.
    pub(crate) fn give(&mut self, labels: Vec<Label>) {
        self.given.extend(labels);
    }

    /// These have it no more.
    pub(crate) fn drop(&mut self, tasks: Vec<DroppedTask>) {
        self.dropped.extend(tasks);
    }

    fn tell(self, report: &mut ShutdownReport) {
        let dropped = self.dropped.iter().map(|task| task.id);
        let abandoned = report.abandoned.iter().map(|label| label.id);
        let ended_otherwise: BTreeSet<Id> = dropped.chain(abandoned).collect();
        let given = self.given.into_iter();
        let finished = given.filter(|label| !ended_otherwise.contains(&label.id));
        report.finished_cleanup = finished.collect();
        report.dropped_after_grace = self.dropped;
    }
}

/// Somebody who must not block has asked for the end.
const ASKED: u8 = 1;
/// One thread steps all workers, and has others to step as well.
const SIMULATED: u8 = 2;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const OVER: u8 = 2;

/// Where the end of the loop stands.
#[derive(Debug)]
pub(crate) struct Closing {
    phase: AtomicU8,
    /// Why the loops of threads are to look up between two steps: `ASKED`, `SIMULATED`.
    requested: AtomicU8,
    inner: Mutex<Inner>,
    over: Condvar,
    cancelled: AtomicUsize,
    /// Closures of the blocking pool among them are counted apart.
    closures_cancelled: AtomicUsize,
    /// Who ends the loop: where that was asked for.
    site: OnceLock<&'static Location<'static>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How long the whole end may take, as whoever asked for it later has said.
    whole: Option<Duration>,
    /// Who waits for the tasks to end.
    waiter: Option<Waiter>,
    panicked: Vec<Label>,
    failed: Vec<Label>,
    /// Runtimes that were dropped inside tasks of this one and are ending.
    children: Vec<Arc<Shared>>,
    /// Set when all steps are done.
    report: Option<ShutdownReport>,
    /// The thread that closed the runtime although it is one of its own.
    closer: Option<JoinHandle<()>>,
    /// The present run's thread, and the slot it works on.
    main: Option<(Arc<Pinned>, usize)>,
}

#[derive(Debug)]
struct Waiter {
    slot: Option<usize>,
    thread: Thread,
}

impl Closing {
    pub(crate) fn new(simulated: bool) -> Closing {
        Closing {
            phase: AtomicU8::new(OPEN),
            requested: AtomicU8::new(if simulated { SIMULATED } else { 0 }),
            inner: Mutex::default(),
            over: Condvar::new(),
            cancelled: AtomicUsize::new(0),
            closures_cancelled: AtomicUsize::new(0),
            site: OnceLock::new(),
        }
    }

    /// Where the end was asked for, once it has begun.
    pub(crate) fn site(&self) -> Option<&'static Location<'static>> {
        self.site.get().copied()
    }

    /// Whether the end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        // Ordering: Acquire pairs with `close`; who sees it sees what led to it.
        self.phase.load(Ordering::Acquire) != OPEN
    }

    /// Whether threads should end: step 6.
    pub(crate) fn is_over(&self) -> bool {
        // Ordering: Acquire pairs with the Release of step 6.
        self.phase.load(Ordering::Acquire) == OVER
    }

    /// Makes this thread's loop look why; in a signal handler too. For the child of a fork.
    pub(crate) fn ask_for_a_look(&self) {
        // Ordering: Relaxed, this thread alone is there.
        self.requested.fetch_or(ASKED, Ordering::Relaxed);
    }

    /// Whether the loop of a thread is to look up: see `close_as_asked`.
    #[inline]
    pub(crate) fn is_requested(&self) -> bool {
        // Ordering: Relaxed, a hint; `close` decides.
        self.requested.load(Ordering::Relaxed) != 0
    }

    /// Whether the end was asked for, and not begun by anybody since.
    fn take_request(&self) -> bool {
        // Ordering: Acquire, see `close_later`.
        self.requested.fetch_and(!ASKED, Ordering::Acquire) & ASKED != 0
    }

    pub(crate) fn count_cancelled(&self, kind: Kind) {
        self.cancelled_of(kind).fetch_add(1, Ordering::Relaxed);
    }

    fn cancelled_of(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Blocking => &self.closures_cancelled,
            _ => &self.cancelled,
        }
    }

    pub(crate) fn count_unseen(&self, error: &JoinError) {
        if self.has_begun() {
            let mut inner = self.inner.lock();
            let list = match error.failure() {
                Some(_) => &mut inner.failed,
                None => &mut inner.panicked,
            };
            list.push(error.label());
        }
    }

    /// A closed list has become empty.
    pub(crate) fn unpark(&self, shared: &Shared) {
        if let Some(waiter) = &self.inner.lock().waiter {
            match waiter.slot {
                Some(slot) => shared.seam.unpark(slot),
                None => waiter.thread.unpark(),
            }
        }
    }

    /// The present run's thread works on `slot`, or on none.
    pub(crate) fn set_main(&self, main: Option<(Arc<Pinned>, usize)>) {
        self.inner.lock().main = main;
    }

    /// Whether a reference to this `main` is kept here.
    pub(crate) fn has_main(&self, pinned: &Arc<Pinned>) -> bool {
        let inner = self.inner.lock();
        inner
            .main
            .as_ref()
            .is_some_and(|main| Arc::ptr_eq(&main.0, pinned))
    }

    /// The present run's thread, while it works on a slot.
    pub(crate) fn main(&self) -> Option<Arc<Pinned>> {
        self.inner.lock().main.as_ref().map(|main| main.0.clone())
    }

    /// The owner of `slot` is blocked. If it is the thread of `run` and pinned work waits for it,
    /// it is asked to leave its slot when it can.
    pub(crate) fn evict_main_from(&self, slot: usize) -> bool {
        match &self.inner.lock().main {
            Some((pinned, at)) if *at == slot && pinned.is_waiting() => {
                pinned.evict();
                true
            }
            _ => false,
        }
    }

    /// A runtime was dropped inside a task of this one, which waits for it at the end. Answers those that have
    /// ended meanwhile and are let go of: a task may make and drop as many as it likes. The last one to have a
    /// runtime drops the user's hooks.
    #[must_use]
    fn adopt(&self, child: Arc<Shared>) -> Vec<Arc<Shared>> {
        let mut ended = self.inner.lock().children.clone();
        // Not under the lock: two runtimes may be dropped inside each other.
        ended.retain(|child| child.closing.has_ended());
        let mut inner = self.inner.lock();
        let is_kept = |child: &Arc<Shared>| !ended.iter().any(|other| Arc::ptr_eq(child, other));
        inner.children.retain(is_kept);
        inner.children.push(child);
        drop(inner);
        ended
    }

    /// Whether all steps are done, and the thread that took them is gone.
    fn has_ended(&self) -> bool {
        let inner = self.inner.lock();
        let closer = inner.closer.as_ref();
        inner.report.is_some() && closer.is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end that somebody else brings about, and gives its report; `None` if it did not
    /// come in time.
    fn wait_finished(&self, until: Option<Instant>) -> Option<ShutdownReport> {
        let mut inner = self.inner.lock();
        while inner.report.is_none() {
            match until {
                None => self.over.wait(&mut inner),
                Some(until) if self.over.wait_until(&mut inner, until).timed_out() => break,
                Some(_) => {}
            }
        }
        let report = inner.report.clone()?;
        let closer = inner.closer.take();
        drop(inner);
        if let Some(closer) = closer {
            let _ = closer.join();
        }
        Some(report)
    }
}

/// Ends the loop, from a thread that may block and is outside of it.
/// `whole` bounds how long that takes.
pub(crate) fn close(
    shared: &Arc<Shared>,
    site: &'static Location<'static>,
    whole: Option<Duration>,
) -> ShutdownReport {
    if shared.closing.has_begun() {
        return shared.closing.wait_finished(None).unwrap_or_default();
    }
    let _inside = shared.sim.as_ref().map(Simulation::enter);
    let worker = (0..shared.slots.len()).find_map(|index| Worker::occupy(shared, index));
    if let Some(worker) = &worker {
        worker.arrive();
        worker.enter_loop();
    }
    let mut cx = Context::new(shared, Role::Worker, site);
    cx.worker = worker.as_ref();
    let graces = Graces::new(shared, whole);
    let report = context::enter(&cx, || close_here(&cx, &graces, Cleanup::default()));
    if let Some(worker) = worker {
        worker.leave_loop();
        worker.vacate();
    }
    // Somebody else was faster: wait for that end, now that the slot is free again.
    report
        .or_else(|| shared.closing.wait_finished(None))
        .unwrap_or_default()
}

/// Ends the loop, from a thread that must not block: has one of the runtime's own threads do it.
/// A runtime that has none is ended at once, since nothing can be running in it.
pub(crate) fn close_later(
    shared: &Arc<Shared>,
    cx: &Context<'_>,
    site: &'static Location<'static>,
    whole: Option<Duration>,
) {
    if shared.closing.has_begun() {
        return;
    }
    // In a simulation this thread ends it, unless it is inside of it.
    let is_inside = shared.sim.is_some() && Arc::ptr_eq(cx.shared, shared);
    if shared.threads.is_empty() && !is_inside {
        close(shared, site, whole);
        return;
    }
    // The monitor will do it, if no worker does. Without either, this thread must.
    let _ = shared.monitor.start(shared);
    if !shared.monitor.is_started() && !shared.threads.any_worker() {
        close(shared, site, whole);
        return;
    }
    // Nobody in the child of a fork ends its parent's runtime, whose locks may be held for ever.
    let is_child = !std::ptr::eq(&**cx.shared, &**shared) && !cx.shared.is_forked();
    // Kept to the end of this function: what goes with them is user code, which may panic.
    let _ended = is_child.then(|| cx.shared.closing.adopt(shared.clone()));
    shared.closing.inner.lock().whole = whole;
    // Ordering: Release pairs with the Acquire in `take_request`: `whole`.
    let requested = &shared.closing.requested;
    requested.fetch_or(ASKED, Ordering::Release);
    shared.monitor.unpark();
    for slot in 0..shared.slots.len() {
        shared.seam.unpark(slot);
    }
}

/// One of the runtime's own threads does what it was asked for: usually by `close_later`. False if
/// that is to end without touching the runtime any more, in the child of a fork.
#[must_use]
pub(crate) fn close_as_asked(cx: &Context<'_>) -> bool {
    if cx.shared.is_forked() {
        return false;
    }
    if cx.shared.closing.take_request() {
        let whole = cx.shared.closing.inner.lock().whole;
        let graces = Graces::new(cx.shared, whole);
        // `None` if the dropper's own thread has begun meanwhile.
        let _ = close_here(cx, &graces, Cleanup::default());
    }
    true
}

/// The thread that stepped a simulation in `block_on` leaves it: nobody else would do what was asked for.
pub(crate) fn close_before_leaving(shared: &Arc<Shared>, site: &'static Location<'static>) {
    if shared.sim.is_none() || shared.is_forked() {
        return;
    }
    let is_inside = context::with(|cx| cx.is_some_and(|cx| Arc::ptr_eq(cx.shared, shared)));
    if !is_inside && shared.closing.take_request() {
        let whole = shared.closing.inner.lock().whole;
        close(shared, site, whole);
    }
}

/// The steps. The thread's context is `cx`. `None` if somebody else has begun them, or in the child
/// of a destructor that has forked. `cleanup` tells of local tasks, which have ended before.
pub(crate) fn close_here(
    cx: &Context<'_>,
    graces: &Graces<'_>,
    mut cleanup: Cleanup,
) -> Option<ShutdownReport> {
    let shared = cx.shared;
    let closing = &shared.closing;
    let began = Stopwatch::start(shared);
    // Ordering: AcqRel; the winner of this exchange is the only one who goes on.
    if closing
        .phase
        .compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        return None;
    }
    // Set before any task is asked: regions say who has.
    let site = *closing.site.get_or_init(|| cx.site);
    // Before any user code: see edge 2 of the sleep protocol.
    cx.stop_searching();
    let cancelled = |kind| closing.cancelled_of(kind).load(Ordering::Relaxed);
    let already = [Kind::Send, Kind::Blocking].map(cancelled);
    let mut report = ShutdownReport::default();

    closing.inner.lock().waiter = Some(Waiter {
        slot: cx.worker.map(Worker::index),
        thread: thread::current(),
    });
    // What a task waits on in its cleanup is for the report.
    shared.look_at();
    // 1 and 2.
    let closed: Vec<_> = shared
        .tasks
        .iter()
        .map(|list| list.close(site, |task| shared.injector.push(task)))
        .collect();
    shared.notify(MayStart::No);
    // Wakers of regions are user code: after all lists are closed.
    closed
        .into_iter()
        .for_each(|closed| cleanup.give(closed.run()));
    report.abandoned = wait_for_tasks(cx, graces, &mut cleanup);
    if shared.is_forked() {
        return None;
    }
    cleanup.tell(&mut report);
    if any_queued(shared) {
        // A foreign thread has queued a task and is on its way to the injector. The task's header
        // points here without a count, so this is never freed. (A task inside its poll needs no
        // such care: the thread that polls it holds a count.)
        std::mem::forget(shared.clone());
    }

    // 3.
    let closed = shared
        .blocking
        .tasks
        .close(site, |_| unreachable!("a closure is never idle"));
    closed.run();
    shared.blocking.close(shared);
    report.blocking_abandoned = wait_for_closures(cx, graces.blocking());

    // The runtimes that were dropped in our tasks.
    let children = std::mem::take(&mut closing.inner.lock().children);
    let until = Instant::now().checked_add(graces.blocking());
    for child in children {
        if child.closing.wait_finished(until).is_none() {
            report.threads_left += 1;
        }
    }

    // 4.
    shared.guests.close();
    shared.guests.wait_empty();

    // 5.
    shared.seam.close();

    // 6. Ordering: Release pairs with `is_over`.
    closing.phase.store(OVER, Ordering::Release);
    for slot in 0..shared.slots.len() {
        shared.seam.unpark(slot);
    }
    shared.monitor.unpark();
    if let Some(sim) = &shared.sim {
        sim.run_down(shared);
    }
    let left = !report.abandoned.is_empty() || !report.blocking_abandoned.is_empty();
    let until = left.then(|| Instant::now() + JOIN_GRACE);
    let (threads_left, own) = shared.threads.join_all(until);
    report.threads_left += threads_left;

    // 7.
    shared.seam.release();

    report.cancelled = cancelled(Kind::Send) - already[0];
    report.blocking_cancelled = cancelled(Kind::Blocking) - already[1];
    report.took = began.elapsed();
    let mut inner = closing.inner.lock();
    report.panicked = std::mem::take(&mut inner.panicked);
    report.failed = std::mem::take(&mut inner.failed);
    inner.waiter = None;
    inner.report = Some(report.clone());
    inner.closer = own;
    closing.over.notify_all();
    Some(report)
}

/// Step 2: works, or waits, until every task is done. Returns those that were given up.
fn wait_for_tasks(cx: &Context<'_>, graces: &Graces<'_>, cleanup: &mut Cleanup) -> Vec<Label> {
    let shared = cx.shared;
    let mut told = graces.elapsed() + REMINDER;
    let mut doomed = false;
    // Since when no task is in cleanup.
    let mut calm = Stopwatch::start(shared);
    let mut steps = 0_u32;
    let mut abandoned = Vec::new();
    loop {
        if let Some(sim) = &shared.sim {
            sim.interleave(cx);
        }
        let step = match cx.worker {
            Some(worker) => worker.step(cx),
            None => run_anything(cx),
        };
        // What follows may call the error handler, or wakers. It may itself, and so fork.
        cx.stop_searching();
        if shared.is_forked() {
            return Vec::new();
        }
        steps = steps.wrapping_add(1);
        // A task in cleanup that never rests would keep us from asking.
        if step == Step::Ran && steps % STEPS_PER_LOOK != 0 {
            continue;
        }
        let cleanup_left = graces.cleanup_left();
        if !doomed && cleanup_left.is_zero() {
            doomed = true;
            calm = Stopwatch::start(shared);
            for list in shared.tasks.iter() {
                cleanup.drop(list.doom(|task| shared.injector.push(task)));
            }
            shared.notify(MayStart::No);
            continue;
        }
        if step == Step::Ran {
            continue;
        }
        if shared.tasks.is_empty() {
            return abandoned;
        }
        let waited = graces.elapsed();
        if waited >= told {
            tell_who_is_waited_for(shared, waited);
            told = graces.elapsed() + REMINDER;
            // The error handler may have waited for something, and so have used up the token of a thread
            // without a slot: what left it is looked for once more.
            continue;
        }
        let mut nap = told.saturating_sub(waited);
        if !doomed && shared.tasks.iter().any(TaskList::is_cleaning) {
            calm = Stopwatch::start(shared);
            nap = nap.min(cleanup_left);
        } else if let Some(left) = graces.poll_left(calm) {
            if left.is_zero() {
                // What is queued behind the stuck polls ends here, with one turn each. Whoever has more
                // turns has begun to clean up since the look.
                if (0..=shared.tasks.len()).all(|_| run_anything(cx) == Step::Ran) {
                    continue;
                }
                if abandon(shared, &mut abandoned) == AnyLeft::No {
                    return abandoned;
                }
                // One of the stuck polls has begun to clean up since the look, and rests now.
                calm = Stopwatch::start(shared);
                continue;
            }
            nap = nap.min(left);
        }
        park(cx, nap);
    }
}

/// A step of a thread without a slot, or of one that empties the slots of others.
pub(crate) fn run_anything(cx: &Context<'_>) -> Step {
    let shared = cx.shared;
    let task = shared.take_injected().or_else(|| {
        let slots = &mut shared.slots.iter();
        slots.find_map(|slot| slot.queue.steal().or_else(|| slot.lifo.take()))
    });
    let Some(task) = task else {
        return Step::WouldPark;
    };
    if let Ran::Requeue(task) = run_task(cx, None, task) {
        shared.injector.push(task);
    }
    Step::Ran
}

/// Whether a task is left that nobody runs.
fn any_queued(shared: &Shared) -> bool {
    let mut any = false;
    for list in shared.tasks.iter() {
        list.for_each(|header| any |= !header.state().snapshot().is_running());
    }
    any
}

/// Gives up every poll that still goes on.
fn abandon(shared: &Shared, abandoned: &mut Vec<Label>) -> AnyLeft {
    let mut left = AnyLeft::No;
    for list in shared.tasks.iter() {
        let given_up = list.abandon();
        abandoned.extend(given_up.labels);
        given_up
            .wakers
            .into_iter()
            .for_each(crate::task::wake_foreign);
        left = left.max(given_up.left);
    }
    left
}

fn tell_who_is_waited_for(shared: &Shared, waited: Duration) {
    let mut running = Vec::new();
    for list in shared.tasks.iter() {
        list.for_each(|header| {
            if header.state().snapshot().is_running() {
                running.push((header.id(), header.site()));
            }
        });
    }
    for (id, spawned_at) in running {
        shared.config.hooks.report(&Report::ShutdownWaits {
            id,
            spawned_at,
            waited,
        });
    }
}

/// Step 3: waits for closures that run. Returns those that were given up.
fn wait_for_closures(cx: &Context<'_>, grace: Duration) -> Vec<Label> {
    let shared = cx.shared;
    // A grace beyond the clock's range has no end.
    let began = Stopwatch::start(shared);
    loop {
        if shared.blocking.tasks.len() == 0 {
            return Vec::new();
        }
        let left = grace.saturating_sub(began.elapsed());
        if left.is_zero() {
            let GivenUp { labels, wakers, .. } = shared.blocking.tasks.abandon();
            wakers.into_iter().for_each(crate::task::wake_foreign);
            if !labels.is_empty() {
                shared.config.hooks.report(&Report::BlockingAbandoned {
                    count: labels.len(),
                });
            }
            return labels;
        }
        park(cx, left);
        // It may have been called while it slept; what follows calls user code.
        cx.stop_searching();
    }
}

/// Sleeps until a list has become empty, or for this long.
fn park(cx: &Context<'_>, at_most: Duration) {
    let now = cx.shared.seam.now();
    let until = now.saturating_add(at_most.as_nanos().min(u128::from(u64::MAX)) as u64);
    match (cx.worker, &cx.shared.sim) {
        (Some(worker), _) => worker.park(cx, until),
        (None, Some(sim)) => sim.nap(cx.shared, until),
        (None, None) => thread::park_timeout(at_most),
    }
}

#[cfg(all(test, not(any(heist_loom, heist_shuttle))))]
mod tests;

#[cfg(all(test, heist_loom))]
#[path = "closing_models.rs"]
mod models;
