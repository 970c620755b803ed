//! The end of a loop, as numbered steps.
//!
//! 1. Spawns are refused: every list of tasks is closed.
//! 2. Every task is asked to end; workers drop the futures. A list that is closed and empty tells
//!    whoever waits here. A poll or destructor that outlasts `poll_grace` is given up.
//! 3. The blocking pool is closed: closures that have not begun end as cancelled, those that run
//!    get `blocking_grace`.
//! 4. Guests leave.
//! 5. The driver is closed: whoever still waits for it gets an error.
//! 6. `OVER` is announced, and every thread of the runtime is joined.
//! 7. The driver gives its file descriptors back.
//!
//! The thread that does this owns a slot if one is vacant, so that a runtime without threads can
//! drop its tasks too. It is the caller of `run` or `close`; or, if a `Runtime` is dropped in
//! async code, which must not block, one of the runtime's own threads.

#![forbid(unsafe_code)]

use crate::config::JOIN_GRACE;
use crate::context::{self, Context, Role};
use crate::hooks::Report;
use crate::pinned::Pinned;
use crate::seam::NEVER;
use crate::shared::{MayStart, Shared};
use crate::task::{JoinError, Label};
use crate::worker::{Ran, Step, Worker, run_task};
use parking_lot::{Condvar, Mutex};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// What the end of a loop found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that were still going on and were cancelled: their futures were dropped.
    pub cancelled: usize,
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

impl ShutdownReport {
    /// Whether nothing had to be cancelled or left behind, and nothing panicked or failed unseen.
    pub fn is_clean(&self) -> bool {
        self.cancelled == 0
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

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const OVER: u8 = 2;

/// Where the end of the loop stands.
#[derive(Debug)]
pub(crate) struct Closing {
    phase: AtomicU8,
    /// Somebody who must not block has asked for the end.
    requested: AtomicBool,
    inner: Mutex<Inner>,
    over: Condvar,
    cancelled: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
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
    pub(crate) fn new() -> Closing {
        Closing {
            phase: AtomicU8::new(OPEN),
            requested: AtomicBool::new(false),
            inner: Mutex::default(),
            over: Condvar::new(),
            cancelled: AtomicUsize::new(0),
        }
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
        self.requested.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_requested(&self) -> bool {
        // Ordering: Relaxed, a hint; `close` decides.
        self.requested.load(Ordering::Relaxed)
    }

    pub(crate) fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
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

    /// A runtime was dropped inside a task of this one.
    fn adopt(&self, child: Arc<Shared>) {
        self.inner.lock().children.push(child);
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
pub(crate) fn close(shared: &Arc<Shared>, site: &'static Location<'static>) -> ShutdownReport {
    if shared.closing.has_begun() {
        return shared.closing.wait_finished(None).unwrap_or_default();
    }
    let worker = (0..shared.slots.len()).find_map(|index| Worker::occupy(shared, index));
    if let Some(worker) = &worker {
        worker.arrive();
        worker.enter_loop();
    }
    let mut cx = Context::new(shared, Role::Worker, site);
    cx.worker = worker.as_ref();
    let report = context::enter(&cx, || close_here(&cx));
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
) {
    if shared.closing.has_begun() {
        return;
    }
    if shared.threads.is_empty() {
        close(shared, site);
        return;
    }
    // The monitor will do it, if no worker does. Without either, this thread must.
    let _ = shared.monitor.start(shared);
    if !shared.monitor.is_started() && !shared.threads.any_worker() {
        close(shared, site);
        return;
    }
    if !std::ptr::eq(&**cx.shared, &**shared) {
        cx.shared.closing.adopt(shared.clone());
    }
    shared.closing.requested.store(true, Ordering::Release);
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
    if cx.shared.closing.requested.swap(false, Ordering::Acquire) {
        // `None` if the dropper's own thread has begun meanwhile.
        let _ = close_here(cx);
    }
    true
}

/// The steps. The thread's context is `cx`. `None` if somebody else has begun them, or in the child
/// of a destructor that has forked.
pub(crate) fn close_here(cx: &Context<'_>) -> Option<ShutdownReport> {
    let shared = cx.shared;
    let closing = &shared.closing;
    let began = Instant::now();
    // Ordering: AcqRel; the winner of this exchange is the only one who goes on.
    if closing
        .phase
        .compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        return None;
    }
    let already = closing.cancelled.load(Ordering::Relaxed);
    let mut report = ShutdownReport::default();

    closing.inner.lock().waiter = Some(Waiter {
        slot: cx.worker.map(Worker::index),
        thread: std::thread::current(),
    });
    // 1 and 2.
    for list in shared.lists() {
        list.close(|task| shared.injector.push(task));
    }
    shared.notify(MayStart::No);
    report.abandoned = wait_for_tasks(cx, began);
    if shared.is_forked() {
        return None;
    }
    if !report.abandoned.is_empty() && any_queued(shared) {
        // A foreign thread has queued a task and is on its way to the injector. The task's header
        // points here without a count, so this is never freed. (A task inside its poll needs no
        // such care: the thread that polls it holds a count.)
        std::mem::forget(shared.clone());
    }

    // 3.
    shared
        .blocking
        .tasks
        .close(|_| unreachable!("a closure is never idle"));
    report.blocking_cancelled = shared.blocking.close(shared);
    report.blocking_abandoned = wait_for_closures(cx);

    // The runtimes that were dropped in our tasks.
    let children = std::mem::take(&mut closing.inner.lock().children);
    let until = Instant::now().checked_add(shared.config.blocking_grace);
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
    let left = !report.abandoned.is_empty() || !report.blocking_abandoned.is_empty();
    let until = left.then(|| Instant::now() + JOIN_GRACE);
    let (threads_left, own) = shared.threads.join_all(until);
    report.threads_left += threads_left;

    // 7.
    shared.seam.release();

    report.cancelled = closing.cancelled.load(Ordering::Relaxed) - already;
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
fn wait_for_tasks(cx: &Context<'_>, began: Instant) -> Vec<Label> {
    let shared = cx.shared;
    let mut told = Duration::from_secs(1);
    loop {
        let step = match cx.worker {
            Some(worker) => worker.step(cx),
            None => run_anything(cx),
        };
        if shared.is_forked() {
            return Vec::new();
        }
        if step == Step::Ran {
            continue;
        }
        if shared.lists().all(|list| list.len() == 0) {
            return Vec::new();
        }
        let waited = began.elapsed();
        if shared
            .config
            .poll_grace
            .is_some_and(|grace| waited >= grace)
        {
            // What is queued behind the stuck polls ends here.
            while run_anything(cx) == Step::Ran {}
            return abandon(shared);
        }
        if waited >= told {
            told += Duration::from_secs(1);
            tell_who_is_waited_for(shared, waited);
        }
        let until = shared
            .config
            .poll_grace
            .map_or(told, |grace| grace.min(told));
        park(cx, until.saturating_sub(waited));
    }
}

/// A step of a thread without a slot, or of one that empties the slots of others.
fn run_anything(cx: &Context<'_>) -> Step {
    let shared = cx.shared;
    let task = shared.take_injected().or_else(|| {
        let slots = &mut shared.slots.iter();
        slots.find_map(|slot| slot.queue.steal().or_else(|| slot.lifo.take()))
    });
    let Some(task) = task else {
        return Step::WouldPark(NEVER);
    };
    if let Ran::Requeue(task) = run_task(cx, None, task) {
        shared.injector.push(task);
    }
    Step::Ran
}

/// Whether a task is left that nobody runs.
fn any_queued(shared: &Shared) -> bool {
    let mut any = false;
    for list in shared.lists() {
        list.for_each(|header| any |= !header.state().snapshot().is_running());
    }
    any
}

fn abandon(shared: &Shared) -> Vec<Label> {
    let mut abandoned = Vec::new();
    for list in shared.lists() {
        let (labels, wakers) = list.abandon();
        abandoned.extend(labels);
        wakers.into_iter().for_each(crate::task::wake_foreign);
    }
    abandoned
}

fn tell_who_is_waited_for(shared: &Shared, waited: Duration) {
    let mut running = Vec::new();
    for list in shared.lists() {
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
fn wait_for_closures(cx: &Context<'_>) -> Vec<Label> {
    let shared = cx.shared;
    // A grace beyond the clock's range has no end.
    let began = Instant::now();
    loop {
        if shared.blocking.tasks.len() == 0 {
            return Vec::new();
        }
        let left = shared.config.blocking_grace.saturating_sub(began.elapsed());
        if left.is_zero() {
            let (labels, wakers) = shared.blocking.tasks.abandon();
            wakers.into_iter().for_each(crate::task::wake_foreign);
            if !labels.is_empty() {
                shared.config.hooks.report(&Report::BlockingAbandoned {
                    count: labels.len(),
                });
            }
            return labels;
        }
        park(cx, left);
    }
}

/// Sleeps until a list has become empty, or for this long.
fn park(cx: &Context<'_>, at_most: Duration) {
    match cx.worker {
        Some(worker) => {
            let now = cx.shared.seam.now();
            worker.park(
                cx,
                now.saturating_add(at_most.as_nanos().min(u128::from(u64::MAX)) as u64),
            );
        }
        None => std::thread::park_timeout(at_most),
    }
}
