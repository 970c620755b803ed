//! The surface of the scheduler: a runtime, a handle to it, and what works from inside tasks.

#![forbid(unsafe_code)]

use crate::closing::{self, ShutdownReport};
use crate::config::Config;
use crate::context::{self, Context, Current, Role, YIELDED};
use crate::deadlock::Deadlock;
use crate::hooks::{Report, drop_before, drop_payload, report_to_stderr};
use crate::inspect::{self, Metrics, TaskSnapshot};
use crate::main_loop::{MainLoop, Outcome};
use crate::pinned::Asked;
use crate::seam::Seam;
use crate::shared::{Shared, Spawn};
use crate::sim::{Simulation, Trace};
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicBool, Ordering};
use crate::task::{Id, JoinError, JoinHandle, Kind, Label, Unseen, create, is_of};
use crate::values::{self, Values};
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{Location, resume_unwind};
use std::pin::{Pin, pin};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

/// Where and how the current thread is inside a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// What the thread does for the runtime.
    pub role: Role,
    /// Where the runtime was entered or made.
    pub site: &'static Location<'static>,
    /// Whether it belongs to the parent of this process.
    pub is_forked: bool,
}

/// The runtime the current thread is inside of.
pub fn entered() -> Option<Entered> {
    context::with(|cx| {
        cx.map(|cx| Entered {
            role: cx.role,
            site: cx.site,
            is_forked: cx.shared.is_forked(),
        })
    })
}

/// A scheduler and its threads. Dropping it ends the loop.
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    /// Those of the main futures; begun with the first run.
    values: Option<Arc<Values>>,
    report: Option<ShutdownReport>,
}

impl Runtime {
    /// Makes a runtime. It starts no thread unless `config.start_threads` says so.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a number that is out of its range; with `start_threads`, the error of the
    /// thread that could not be started, after those that could were joined.
    pub fn new(
        config: Config,
        seam: Arc<dyn Seam>,
        site: &'static Location<'static>,
    ) -> io::Result<Runtime> {
        config.check()?;
        let start = config.start_threads;
        let shared = Shared::new(config, seam, site);
        let mut runtime = Runtime {
            shared,
            values: None,
            report: None,
        };
        if start {
            runtime
                .start_threads()
                .inspect_err(|_| runtime.close_now(site, None))?;
        }
        Ok(runtime)
    }

    /// Starts all threads: with `main` as worker 0, one less than there are workers.
    fn start_threads(&self) -> io::Result<()> {
        let shared = &self.shared;
        shared.monitor.start(shared)?;
        let first = usize::from(shared.main_works());
        for index in first..shared.config.workers {
            shared.threads.start_worker_at(shared, index)?;
        }
        Ok(())
    }

    /// Runs `main` on this thread. Send tasks that it leaves go on.
    pub fn run<F: Future>(
        &mut self,
        site: &'static Location<'static>,
        main: F,
    ) -> Outcome<F::Output> {
        let shared = self.shared.clone();
        let _inside = shared.sim.as_ref().map(Simulation::enter);
        let mut main_loop = self.main_loop(site);
        let outcome = main_loop.run(main);
        main_loop.finish();
        outcome
    }

    /// Runs `main` on this thread, then ends the loop.
    pub fn run_and_close<F: Future>(
        mut self,
        site: &'static Location<'static>,
        main: F,
    ) -> (Outcome<F::Output>, ShutdownReport) {
        let shared = self.shared.clone();
        let _inside = shared.sim.as_ref().map(Simulation::enter);
        let mut main_loop = self.main_loop(site);
        let outcome = main_loop.run(main);
        let report = main_loop.finish_and_close();
        self.report = Some(report.clone());
        (outcome, report)
    }

    fn main_loop(&mut self, site: &'static Location<'static>) -> MainLoop {
        let values = self.values.get_or_insert_with(|| {
            let inherited = context::with(values::inherited);
            Arc::new(Values::from(inherited))
        });
        MainLoop::new(&self.shared, values.clone(), site)
    }

    /// Whether the loop has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.closing.has_begun()
    }

    /// Whether it belongs to the parent of this process. Then it must not be run; closing and
    /// dropping it leaks it.
    pub fn is_forked(&self) -> bool {
        self.shared.is_forked()
    }

    /// Ends the loop; a second call gives the same report.
    ///
    /// In async code, where waiting would block a worker, one of the runtime's own threads ends the
    /// loop, and the report is empty.
    pub fn close(&mut self, site: &'static Location<'static>) -> ShutdownReport {
        if self.report.is_none() {
            self.close_now(site, None);
        }
        self.report.clone().unwrap_or_default()
    }

    /// Ends the loop within `whole`: what does not end by itself in that time is dropped, and what
    /// cannot be dropped is abandoned.
    pub fn close_within(
        &mut self,
        site: &'static Location<'static>,
        whole: Duration,
    ) -> ShutdownReport {
        if self.report.is_none() {
            self.close_now(site, Some(whole));
        }
        self.report.clone().unwrap_or_default()
    }

    fn close_now(&mut self, site: &'static Location<'static>, whole: Option<Duration>) {
        let shared = &self.shared;
        if shared.is_forked() {
            // Its threads are not here to be joined, and wakers of its tasks may point to it.
            std::mem::forget(shared.clone());
            self.report = Some(ShutdownReport::default());
            return;
        }
        self.report = context::with(|cx| match cx {
            Some(cx) if !may_block(cx, shared) => {
                closing::close_later(shared, cx, site, whole);
                None
            }
            _ => Some(closing::close(shared, site, whole)),
        });
    }

    /// What has happened so far, if the runtime is simulated; else an empty trace.
    pub fn trace(&self) -> Trace {
        self.shared
            .sim
            .as_ref()
            .map_or_else(Trace::empty, Simulation::trace)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }
}

/// A blocking closure of another runtime may wait; one of our own would wait for itself.
fn may_block(cx: &Context<'_>, shared: &Arc<Shared>) -> bool {
    cx.role == Role::Blocking && !Arc::ptr_eq(cx.shared, shared)
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.report.is_none() {
            self.close_now(self.shared.site, None);
        }
    }
}

/// A reference to a runtime, from any thread. Counted, because as long as there is one somebody may
/// spawn.
pub struct Handle {
    shared: Arc<Shared>,
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle::new(self.shared.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.uncount_handle();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("made_at", &format_args!("{}", self.shared.site))
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl Handle {
    fn new(shared: Arc<Shared>) -> Handle {
        shared.count_handle();
        Handle { shared }
    }

    /// The runtime the current thread is inside of.
    pub fn try_current() -> Option<Handle> {
        context::with(|cx| cx.map(|cx| Handle::new(cx.shared.clone())))
    }

    /// Whether the loop has ended, or is ending.
    pub fn is_closed(&self) -> bool {
        self.shared.closing.has_begun()
    }

    /// Whether the runtime belongs to the parent of this process: it takes no tasks here.
    pub fn is_forked(&self) -> bool {
        self.shared.is_forked()
    }

    /// Whether both refer to the same runtime.
    pub fn is_same(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Tells of an error of a task that nobody will see: the runtime's handler, if this thread is
    /// inside of the runtime; otherwise that may be gone, and standard error is told.
    pub fn report_failed(&self, task: Label, error: &str) {
        self.report(&Report::Failed { task, error });
    }

    /// The same of a panic that belongs to no task: it is called `name`, and began at `site`.
    pub fn report_panicked(
        &self,
        name: &str,
        site: &'static Location<'static>,
        payload: Box<dyn Any + Send>,
    ) {
        let label = Label {
            id: Id::next(),
            name: Some(name.into()),
            site,
        };
        let error = JoinError::panic(&label, payload);
        self.shared.closing.count_unseen(&error);
        self.report(&Report::unseen(&error));
        drop_payload(error.into_panic());
    }

    fn report(&self, report: &Report<'_>) {
        context::with(|cx| match cx {
            Some(cx) if Arc::ptr_eq(cx.shared, &self.shared) => {
                self.shared.config.hooks.report(report);
            }
            _ => report_to_stderr(report),
        });
    }

    /// What the runtime stands on.
    pub fn seam(&self) -> &Arc<dyn Seam> {
        &self.shared.seam
    }

    /// Spawns a Send task. Starts a thread if the runtime has none.
    ///
    /// # Errors
    ///
    /// The future back, with the reason, if the runtime is closed or has no thread and can start
    /// none.
    pub fn try_spawn<F>(
        &self,
        spawn: Spawn,
        future: F,
        unseen: Unseen<F>,
    ) -> Result<JoinHandle<F::Output>, (F, JoinError)>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let shared = &self.shared;
        if shared.is_forked() {
            return Err((future, JoinError::forked(&unborn(spawn))));
        }
        if !shared.closing.has_begun() {
            if let Err(error) = self.ensure_worker() {
                return Err((future, JoinError::no_thread(&unborn(spawn), error)));
            }
        }
        let spawned = context::with(|cx| shared.spawn(cx, spawn, future, unseen));
        spawned.map_err(|(future, label)| (future, JoinError::closed(&label)))
    }

    /// Spawns a Send task; where `try_spawn` errs, the future is dropped in the call and the handle
    /// resolves to the error.
    pub fn spawn<F>(&self, spawn: Spawn, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.try_spawn(spawn, future, Unseen::dropped())
            .unwrap_or_else(|(future, error)| {
                drop(future);
                JoinHandle::refused(error.label(), error)
            })
    }

    /// The same, for a task whose `Err` is reported if nobody takes it.
    pub fn spawn_fallible<F, T, E>(&self, spawn: Spawn, future: F) -> JoinHandle<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        self.try_spawn(spawn, future, Unseen::reported())
            .unwrap_or_else(|(future, error)| {
                drop(future);
                JoinHandle::refused(error.label(), error)
            })
    }

    /// Runs a closure on the blocking pool.
    pub fn spawn_blocking<F, T>(&self, spawn: Spawn, call: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.shared.is_forked() {
            drop(call);
            return refused_forked(spawn);
        }
        context::with(|cx| self.shared.blocking.spawn(&self.shared, cx, spawn, call))
    }

    /// Polls `future` on this thread while the runtime's threads run its tasks. Needs no slot.
    ///
    /// # Errors
    ///
    /// If the runtime has no thread and can start none. In the child of a fork that the future has
    /// made, when it is pending.
    pub fn block_on<F: Future>(
        &self,
        site: &'static Location<'static>,
        future: F,
    ) -> Result<F::Output, NotEntered> {
        if self.is_forked() {
            return Err(NotEntered::Forked);
        }
        /// Also if the future panics.
        struct Leave<'a>(&'a Handle, &'static Location<'static>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                closing::close_before_leaving(&self.0.shared, self.1);
            }
        }
        let _leave = Leave(self, site);
        // While we are here somebody must work: the thread of a `run` that ends sees to it.
        let _visit = self.shared.visit();
        if !self.shared.closing.has_begun() {
            self.ensure_worker().map_err(NotEntered::NoThread)?;
        }
        let values = Values::from(context::with(values::inherited));
        let mut cx = Context::new(&self.shared, Role::BlockOn, site);
        cx.values = Some(&values);
        let thread = thread::current();
        let parker = Arc::new(ThreadWaker {
            thread,
            woken: AtomicBool::new(false),
        });
        let waker = Waker::from(parker.clone());
        // The future is pinned inside the closure, so that it is dropped in the context as well.
        context::enter(&cx, || {
            let mut future = pin!(Some(future));
            let mut task = std::task::Context::from_waker(&waker);
            loop {
                let polled = future.as_mut().as_pin_mut().expect("not ready yet");
                match cx.polling(Current::Main, || polled.poll(&mut task)) {
                    Poll::Ready(output) => {
                        let output = drop_before(future, output);
                        return Ok(output.unwrap_or_else(|payload| resume_unwind(payload)));
                    }
                    Poll::Pending if self.is_forked() => return Err(NotEntered::Forked),
                    Poll::Pending if !parker.rest(&self.shared) => {
                        // A task that a simulation has stepped meanwhile may have forked.
                        if self.is_forked() {
                            return Err(NotEntered::Forked);
                        }
                        return Err(NotEntered::Deadlock(Deadlock {
                            main: Vec::new(),
                            tasks: inspect::tasks(&self.shared),
                        }));
                    }
                    Poll::Pending => {}
                }
            }
        })
    }

    fn ensure_worker(&self) -> io::Result<()> {
        self.shared.threads.ensure_worker(&self.shared)
    }

    /// Numbers for people who watch the runtime.
    pub fn metrics(&self) -> Metrics {
        inspect::metrics(&self.shared)
    }

    /// All live tasks: Send ones, closures of the blocking pool, and local tasks of the present run.
    /// From the first call on, tasks note down what they wait on.
    pub fn tasks(&self) -> Vec<TaskSnapshot> {
        inspect::tasks(&self.shared)
    }

    /// Counts: tasks that are alive, for tests and reports.
    pub fn live_tasks(&self) -> usize {
        if self.is_forked() {
            // The lists may be locked for ever.
            return 0;
        }
        self.shared.tasks.len() + self.shared.blocking.tasks.len()
    }
}

/// Why a future was not run to its end.
#[derive(Debug)]
pub enum NotEntered {
    /// The runtime has no thread and can start none. The future was not polled.
    NoThread(io::Error),
    /// The runtime belongs to the parent of this process.
    Forked,
    /// In a simulation: nobody is left who could wake the future, or only those that wait for this
    /// very call.
    Deadlock(Deadlock),
}

/// The label of a task that was not made.
fn unborn(spawn: Spawn) -> Label {
    Label {
        id: Id::next(),
        name: spawn.name,
        site: spawn.site,
    }
}

/// The handle of a task that was not made, because the runtime is a parent's.
fn refused_forked<T>(spawn: Spawn) -> JoinHandle<T> {
    let label = unborn(spawn);
    let error = JoinError::forked(&label);
    JoinHandle::refused(label, error)
}

/// Wakes a thread in `block_on`. The thread's own parking token may be used up by user code inside
/// the poll; `woken` is the truth.
struct ThreadWaker {
    thread: Thread,
    woken: AtomicBool,
}

impl ThreadWaker {
    /// Blocks until the future is woken. False if it never will be, in a simulation.
    fn rest(&self, shared: &Arc<Shared>) -> bool {
        match &shared.sim {
            None => self.park(),
            Some(sim) => {
                let is_woken = || self.woken.load(Ordering::Relaxed);
                while !self.woken.swap(false, Ordering::Acquire) {
                    // If another thread is inside, that steps whoever will wake us.
                    if let Some(_inside) = sim.try_enter() {
                        sim.wait_inside(shared, is_woken);
                        if !is_woken() {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }

    fn park(&self) {
        // Ordering: Acquire pairs with the Release in `wake_by_ref`: the next poll sees what the
        // waker did.
        while !self.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: Release pairs with the Acquire in `park`. A swap and not a store, which would cut the
        // release sequence of another waker.
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// Spawns a Send task on the runtime of this thread; the future back if there is none.
///
/// # Errors
///
/// The future, if this thread is inside no runtime.
pub fn spawn<F>(spawn: Spawn, future: F, unseen: Unseen<F>) -> Result<JoinHandle<F::Output>, F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    context::with(|cx| match cx {
        None => Err(future),
        Some(cx) if cx.shared.is_forked() => {
            drop(future);
            Ok(refused_forked(spawn))
        }
        Some(cx) => Ok(cx
            .shared
            .spawn(Some(cx), spawn, future, unseen)
            .unwrap_or_else(|(future, label)| {
                drop(future);
                JoinHandle::refused(label.clone(), JoinError::closed(&label))
            })),
    })
}

/// Why a local task cannot be spawned here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLocal {
    /// The thread is inside no runtime.
    NoRuntime,
    /// The thread is not one of `run`, or a Send task is being polled on it.
    NotPinned,
}

/// Spawns a task that stays on this thread.
///
/// # Errors
///
/// If this thread is not inside `run`, or a Send task is being polled.
pub fn spawn_local<F>(spawn: Spawn, future: F) -> Result<JoinHandle<F::Output>, NotLocal>
where
    F: Future + 'static,
    F::Output: 'static,
{
    context::with(|cx| {
        let cx = cx.ok_or(NotLocal::NoRuntime)?;
        let local = cx.local.ok_or(NotLocal::NotPinned)?;
        if cx.is_polling_send_task() {
            return Err(NotLocal::NotPinned);
        }
        if cx.shared.is_forked() {
            drop(future);
            return Ok(refused_forked(spawn));
        }
        let pinned = &local.pinned;
        let owner = NonNull::from(&**pinned).cast();
        let new = cx.shared.new_task(Some(cx), spawn, Kind::Local, owner);
        Ok(
            match create(new, future, Unseen::dropped())
                .inheriting()
                .publish(&pinned.tasks)
            {
                Ok((handle, task)) => {
                    pinned.wake_task(Some(cx), task);
                    handle
                }
                Err((future, label)) => {
                    drop(future);
                    JoinHandle::refused(label.clone(), JoinError::closed(&label))
                }
            },
        )
    })
}

/// Runs a closure that blocks, on this thread, after the worker has handed its other work over.
/// For that time one more worker may be awake than `workers`. Outside a worker it just calls.
pub fn block_in_place<T>(call: impl FnOnce() -> T) -> T {
    context::with(|cx| match cx.and_then(|cx| cx.worker) {
        Some(worker) => worker.block(call),
        None => call(),
    })
}

/// Lets every other ready task of the worker run before this one goes on.
#[derive(Debug, Default)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

/// A future that is pending once.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        // The task's own waker need not be called: the worker is told directly, which saves a
        // read-modify-write. Inside a `select` the waker is another's, and is called.
        let told = context::with(|cx| match cx {
            Some(cx) => match cx.current.get() {
                Current::Task(current) if is_of(task.waker(), current) => {
                    cx.leave(YIELDED);
                    true
                }
                _ => false,
            },
            None => false,
        });
        if !told {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Asks for the end of the main future that is being polled on this thread; `site` is said to have
/// asked. `None` where no main future of a run is being polled.
pub fn cancel_main(site: &'static Location<'static>) -> Option<Asked> {
    context::with(|cx| match cx {
        Some(cx) if matches!(cx.current.get(), Current::Main) => {
            Some(cx.local?.pinned.request_own_cancel(site))
        }
        _ => None,
    })
}

/// The task that is being polled on this thread.
pub fn task_id() -> Option<Id> {
    context::with(|cx| cx.and_then(Context::task_id))
}

/// Its name.
pub fn task_name() -> Option<String> {
    context::with(|cx| cx.and_then(Context::task_name))
}

/// Gives `f` what the runtime of this thread stands on.
pub fn with_seam<R>(f: impl FnOnce(&Arc<dyn Seam>) -> R) -> Option<R> {
    context::with(|cx| cx.map(|cx| f(&cx.shared.seam)))
}

/// Which slot's driver shard a new source should join: the lowest one that somebody works on, so
/// that sockets gather.
///
/// # Errors
///
/// If this thread is inside no runtime, or nobody works on any slot and no thread can be started
/// to.
pub fn source_shard() -> io::Result<usize> {
    with_worker(|cx| {
        cx.shared
            .slots
            .iter()
            .position(|slot| !slot.is_vacant())
            .unwrap_or(0)
    })
}

/// Which slot's driver shard a new timer should join: this worker's own, which arms it without a
/// system call.
///
/// # Errors
///
/// As [`source_shard`].
pub fn timer_shard() -> io::Result<usize> {
    match context::with(|cx| Some(cx?.worker?.index())) {
        Some(index) => Ok(index),
        None => source_shard(),
    }
}

/// The slot that this thread works on, if sources may move to its shard: none outside the workers, and
/// none for a spare, which ends when it is no longer needed. It does not say of which runtime; compare
/// [`with_seam`] before acting on it.
#[inline]
pub fn current_slot() -> Option<usize> {
    context::with(|cx| {
        let cx = cx?;
        let slot = cx.worker?.index();
        (slot < cx.shared.config.workers).then_some(slot)
    })
}

/// To be called after a source or a timer was given to the shard of `slot`: sees to it that somebody
/// looks after it, if the owner of the slot has left since it was chosen.
pub fn attend(slot: usize) {
    context::with(|cx| {
        if let Some(cx) = cx.filter(|cx| cx.worker.is_none_or(|worker| worker.index() != slot)) {
            cx.shared.attend(slot);
        }
    });
}

fn with_worker<R>(f: impl FnOnce(&Context<'_>) -> R) -> io::Result<R> {
    context::with(|cx| {
        let cx = cx.ok_or_else(|| io::Error::other("this thread is inside no heist runtime"))?;
        // In the child of a fork the driver itself refuses.
        if !cx.shared.closing.has_begun() && !cx.shared.is_forked() {
            cx.shared.threads.ensure_worker(cx.shared)?;
        }
        Ok(f(cx))
    })
}
