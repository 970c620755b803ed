//! Starting threads, on demand, and joining them all.
//!
//! Promise: a thread that cannot be created never loses work. A failed start is reported once,
//! tried again with growing pauses by whoever next finds a reason to, and the runtime goes on with
//! the threads it has. Only threads of the runtime, `Handle::spawn` and `Handle::block_on` start
//! threads; a foreign `wake` starts none.

#![forbid(unsafe_code)]

use crate::config::{MIN_STACK, START_BACKOFF};
use crate::hooks::Report;
use crate::seam::NEVER;
use crate::shared::{MayStart, Shared};
use crate::sim::Part;
use crate::sync::thread::{self, Builder, JoinHandle};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::worker::{self, Worker};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All threads of a runtime.
#[derive(Debug)]
pub(crate) struct Threads {
    /// Slots whose threads are there, workers and spares together.
    working: AtomicUsize,
    /// When what could not be started is tried again, before which nobody else need try; `NEVER` if there is
    /// nothing.
    retry_at: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    running: Vec<JoinHandle<()>>,
    /// How long to wait after the next failed start, and after the last one.
    pause: Duration,
    paused: Duration,
    /// The first failure of a series has not been reported yet.
    unreported: bool,
    closed: bool,
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Worker(usize),
    Blocking,
    Monitor,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Worker(_) => "worker",
            Purpose::Blocking => "blocking",
            Purpose::Monitor => "monitor",
        }
    }
}

impl Threads {
    pub(crate) fn new() -> Threads {
        Threads {
            working: AtomicUsize::new(0),
            retry_at: AtomicU64::new(NEVER),
            inner: Mutex::new(Inner {
                running: Vec::new(),
                pause: START_BACKOFF.0,
                paused: START_BACKOFF.0,
                unreported: false,
                closed: false,
            }),
        }
    }

    /// Whether fewer than `needed` workers are there.
    pub(crate) fn startable(&self, needed: usize) -> bool {
        // Ordering: Relaxed, a hint; `try_start_worker` decides under the slots' own locks.
        self.working.load(Ordering::Relaxed) < needed
    }

    /// Whether more than `needed` workers are there.
    pub(crate) fn are_more_than(&self, needed: usize) -> bool {
        // Ordering: Relaxed, a hint; `try_leave` decides.
        self.working.load(Ordering::Relaxed) > needed
    }

    /// Counts a worker out if more than `needed` are there. One read-modify-write, so that two
    /// spares do not both count on the other to stay.
    pub(crate) fn try_leave(&self, needed: usize) -> bool {
        // Ordering: Relaxed, the number alone decides.
        let leave = |working: usize| (working > needed).then(|| working - 1);
        self.working
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave)
            .is_ok()
    }

    /// Whether somebody runs tasks.
    pub(crate) fn any_worker(&self) -> bool {
        // Ordering: Relaxed. Who asks because it is about to rely on a worker has a `SeqCst` fence
        // before (`visit`), as has the worker that leaves after its subtraction (`needs_worker`).
        self.working.load(Ordering::Relaxed) > 0
    }

    /// How many workers are there.
    pub(crate) fn working(&self) -> usize {
        // Ordering: Relaxed, for people.
        self.working.load(Ordering::Relaxed)
    }

    pub(crate) fn worker_arrived(&self) {
        self.working.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn worker_left(&self) {
        self.working.fetch_sub(1, Ordering::Relaxed);
    }

    /// Starts a worker on the lowest vacant slot; quietly does nothing if there is none, or if a
    /// failed start is too recent.
    pub(crate) fn start_worker(&self, shared: &Shared) {
        if self.may_try(shared) {
            let _ = self.try_start_worker(shared);
        }
    }

    /// Starts a worker, and the monitor, if nobody works.
    pub(crate) fn ensure_worker(&self, shared: &Shared) -> io::Result<()> {
        while !self.any_worker() {
            match self.try_start_worker(shared) {
                Ok(true) => {
                    shared.monitor.wanted(shared);
                    return Ok(());
                }
                Ok(false) => {}
                // The loop has ended since the caller looked: what it wants is refused, or ends, without
                // a worker.
                Err(_) if shared.closing.has_begun() => return Ok(()),
                Err(error) => return Err(error),
            }
            // Every slot is taken for a thread that somebody else is starting, and whose start may
            // still fail.
            thread::yield_now();
        }
        Ok(())
    }

    /// The same, but tries in any case and tells the error. `Ok(false)`: every slot is owned.
    pub(crate) fn try_start_worker(&self, shared: &Shared) -> io::Result<bool> {
        for index in 0..shared.needed_workers() {
            if self.start_worker_at(shared, index)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Starts a worker on a slot; `Ok(false)` if somebody owns it.
    pub(crate) fn start_worker_at(&self, shared: &Shared, index: usize) -> io::Result<bool> {
        let Some(me) = shared.me.upgrade() else {
            return Ok(false);
        };
        if shared.sim.is_some() && shared.closing.is_over() {
            // Nobody would step it. Threads are refused in `start`.
            return Err(closed());
        }
        let Some(worker) = Worker::occupy(&me, index) else {
            return Ok(false);
        };
        // The new thread stands for the work it is started for from now on.
        shared.idle.starting();
        if let Some(sim) = &shared.sim {
            worker.arrive();
            let is_open = sim.activate(Part::worker(worker));
            if !is_open {
                // Nobody is left to hand the search over to.
                let _ = shared.idle.end_search();
            }
            return is_open.then_some(true).ok_or_else(closed);
        }
        let handed = Arc::new(Mutex::new(Some(worker)));
        let taken = handed.clone();
        let started = self.start(shared, Purpose::Worker(index), move || {
            let worker = taken.lock().take();
            if let Some(worker) = worker {
                worker::thread(me, worker);
            }
        });
        if let Err(error) = &started {
            if let Some(worker) = handed.lock().take() {
                worker.vacate();
            }
            #[cfg(heist_bug_38)]
            self.try_later(shared);
            // The search was taken for the thread, too: whoever tries again starts nobody beside a searcher.
            // And whoever pushed meanwhile has counted on it: who is told of the start looks for that as well.
            let _ = shared.idle.end_search();
            #[cfg(not(heist_bug_38))]
            self.try_later(shared);
            self.report_failure(shared, Purpose::Worker(index), error);
        }
        started.map(|()| true)
    }

    /// Whether no failed start is too recent.
    pub(crate) fn may_try(&self, shared: &Shared) -> bool {
        let retry_at = self.retry_at();
        retry_at == NEVER || shared.seam.now() >= retry_at
    }

    /// When a failed start should be tried again, or `NEVER`.
    pub(crate) fn retry_at(&self) -> u64 {
        // Ordering: Relaxed, a time to look at; the decision is taken in `start`.
        self.retry_at.load(Ordering::Relaxed)
    }

    /// Whether it is time to try again what could not be started.
    pub(crate) fn is_retry_due(&self, shared: &Shared) -> bool {
        self.due_retry(shared).is_some()
    }

    fn due_retry(&self, shared: &Shared) -> Option<u64> {
        let retry_at = self.retry_at();
        let is_due = retry_at != NEVER && shared.seam.now() >= retry_at;
        is_due.then_some(retry_at)
    }

    /// Tries again what could not be started, when its time has come.
    pub(crate) fn retry(&self, shared: &Shared) {
        let Some(due) = self.due_retry(shared) else {
            return;
        };
        // Ordering: Relaxed, the exchange only chooses one thread. If nothing is wanted any more, nobody
        // shall wake for it again.
        let (taken, missed) = (Ordering::Relaxed, Ordering::Relaxed);
        let exchange = self.retry_at.compare_exchange(due, NEVER, taken, missed);
        if exchange.is_err() {
            return;
        }
        shared.monitor.wanted(shared);
        if !shared.injector.is_empty() || (!self.any_worker() && shared.needs_worker()) {
            shared.notify(MayStart::Yes);
        }
        shared.blocking.call_again(shared);
        for index in 0..shared.slots.len() {
            self.attend(shared, index);
        }
    }

    /// Starts a worker on a vacant slot whose shard has sources or timers: nobody else would look
    /// after them.
    pub(crate) fn attend(&self, shared: &Shared, index: usize) {
        if shared.seam.is_used(index) && shared.slots[index].is_vacant() && self.may_try(shared) {
            // A failure has been reported, and is tried again.
            let _ = self.start_worker_at(shared, index);
        }
    }

    /// Tells the error handler that a thread could not be started, once for a series of failures.
    /// Called when everything that was taken for the thread has been given back.
    pub(crate) fn report_failure(&self, shared: &Shared, purpose: Purpose, error: &io::Error) {
        let unreported = std::mem::take(&mut self.inner.lock().unreported);
        if unreported {
            let role = purpose.name();
            shared
                .config
                .hooks
                .report(&Report::ThreadNotStarted { error, role });
        }
    }

    /// Starts a thread. Whoever calls it calls [`Threads::try_later`] after a failure, and reports it.
    pub(crate) fn start(
        &self,
        shared: &Shared,
        purpose: Purpose,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let mut builder = Builder::new().name(thread_name(&shared.config.thread_name, purpose));
        if let Some(size) = shared.config.thread_stack_size {
            builder = builder.stack_size(size.max(MIN_STACK));
        }
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(closed());
        }
        // Threads that have ended by themselves (spares, idle blocking threads) are let go here,
        // so that the list stays as long as the threads that run.
        inner.running.retain(|thread| !thread.is_finished());
        match builder.spawn(body) {
            Ok(thread) => {
                inner.running.push(thread);
                inner.pause = START_BACKOFF.0;
                self.bring_retry_forward(shared);
                Ok(())
            }
            Err(error) => {
                inner.unreported |= inner.pause == START_BACKOFF.0;
                inner.paused = inner.pause;
                inner.pause = (inner.pause * 2).min(START_BACKOFF.1);
                Err(error)
            }
        }
    }

    /// After a failed start: what it was for is tried again, and somebody is told that it is to be. Called when
    /// everything that was taken for the thread has been given back, or whoever tries again would not see it.
    pub(crate) fn try_later(&self, shared: &Shared) {
        let inner = self.inner.lock();
        if !inner.closed {
            let pause = inner.paused.as_nanos() as u64;
            let retry_at = shared.seam.now().saturating_add(pause);
            // Ordering: Relaxed, a time to look at. What was given back is behind locks of its own. Whoever
            // falls asleep either sees the time, or is among the sleepers that `notify` finds, as with a task
            // that was pushed.
            self.retry_at.store(retry_at, Ordering::Relaxed);
        }
        drop(inner);
        shared.notify(MayStart::No);
        // It may have fallen asleep since the last worker left, and nobody else may be there to try again.
        shared.monitor.unpark();
    }

    /// A thread could be had: what could not be started before is not forgotten for that, and need not wait.
    fn bring_retry_forward(&self, shared: &Shared) {
        let retry_at = self.retry_at();
        if retry_at != NEVER {
            let now = shared.seam.now().min(retry_at);
            // Ordering: Relaxed, as in `retry`, which may have taken it up meanwhile.
            let (set, missed) = (Ordering::Relaxed, Ordering::Relaxed);
            let _ = self.retry_at.compare_exchange(retry_at, now, set, missed);
        }
    }

    /// Refuses further starts and joins every thread but the calling one; those still running at
    /// `until` are left behind and counted.
    /// Gives the calling thread's own handle back, if it is one of them.
    pub(crate) fn join_all(&self, until: Option<Instant>) -> (usize, Option<JoinHandle<()>>) {
        let mut threads = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            std::mem::take(&mut inner.running)
        };
        let me = thread::current().id();
        let own = threads.iter().position(|thread| thread.thread().id() == me);
        let own = own.map(|at| threads.swap_remove(at));
        let mut left_behind = 0;
        for thread in threads {
            if let Some(until) = until {
                if !finished_by(&thread, until) {
                    left_behind += 1;
                    continue;
                }
            }
            // A panic of a thread's body is a bug of ours that its own output has told.
            let _ = thread.join();
        }
        (left_behind, own)
    }

    /// Whether the runtime has no thread of its own.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner
            .lock()
            .running
            .iter()
            .all(JoinHandle::is_finished)
    }
}

/// Why no thread is started after the end.
pub(crate) fn closed() -> io::Error {
    io::Error::other("the runtime is closed")
}

/// Waits for a thread, up to a time.
fn finished_by(thread: &JoinHandle<()>, until: Instant) -> bool {
    let mut pause = Duration::from_micros(50);
    while !thread.is_finished() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        // There is no timed join. Only a thread that outlasts everything else gets here.
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    true
}

fn thread_name(prefix: &str, purpose: Purpose) -> String {
    // A NUL would make the standard library panic.
    let prefix = prefix.replace('\0', "");
    match purpose {
        Purpose::Worker(index) => format!("{prefix}-{index}"),
        Purpose::Blocking => format!("{prefix}-blocking"),
        Purpose::Monitor => format!("{prefix}-monitor"),
    }
}

#[cfg(all(test, not(any(heist_loom, heist_shuttle))))]
mod tests {
    use super::*;
    use crate::task::tests::support::{bare, config};

    /// One thread cannot be had, and then another one can: the first is still to be tried again, and at once.
    #[test]
    #[cfg_attr(miri, ignore = "Miri has a thread of any size")]
    fn a_start_that_succeeds_forgets_none_that_failed() {
        let (good, _) = bare(config(1));
        let mut config = config(1);
        config.thread_stack_size = Some(usize::MAX / 4);
        let (bad, _) = bare(config);
        let threads = &good.threads;
        assert!(threads.start(&bad, Purpose::Blocking, || ()).is_err());
        threads.try_later(&bad);
        assert_ne!(threads.retry_at(), NEVER);
        let started = threads.start(&good, Purpose::Blocking, || ());
        started.expect("a thread");
        assert!(threads.is_retry_due(&good));
        assert_eq!(threads.join_all(None).0, 0, "threads left behind");
    }
}

#[cfg(all(test, heist_loom))]
#[path = "threads_models.rs"]
mod models;
