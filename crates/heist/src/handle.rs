//! A reference to a runtime, and the functions that use the one of this thread.

#![forbid(unsafe_code)]

use crate::inspect::{Dump, RuntimeMetrics, TaskInfo};
use crate::run::{Entering, check_nested};
use crate::{Deadlock, JoinError, JoinHandle, RunError};
use heist_core::{Label, NotEntered, NotLocal, Spawn, Unseen};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::Location;

/// A reference to a runtime: cheap to clone, usable from any thread, and safe to use after the
/// runtime has ended.
///
/// ```
/// let mut runtime = heist::Runtime::new()?;
/// let handle = runtime.handle();
/// let thread = std::thread::spawn(move || handle.block_on(async { 7 }));
/// assert_eq!(thread.join().unwrap(), 7);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A handle keeps no loop going: a runtime ends when its [`Runtime`](crate::Runtime) is closed or
/// dropped, or its `run` returns, however many handles there are.
#[derive(Clone, Debug)]
pub struct Handle {
    core: heist_core::Handle,
}

const _: fn() = || {
    fn is_shared<T: Clone + Send + Sync>() {}
    is_shared::<Handle>();
    // A task's handle goes where its output may go. That it goes nowhere else is an example of
    // `spawn_local` that must not compile.
    fn is_send<T: Send>() {}
    is_send::<JoinHandle<std::cell::Cell<u8>>>();
};

impl Handle {
    pub(crate) fn from_core(core: heist_core::Handle) -> Handle {
        Handle { core }
    }

    /// The runtime of this thread.
    ///
    /// ```
    /// heist::run(async {
    ///     let handle = heist::Handle::current();
    ///     assert!(!handle.is_closed());
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is none. [`Handle::try_current`] does not.
    #[track_caller]
    pub fn current() -> Handle {
        Handle::of_this_thread("Handle::current")
    }

    /// The runtime of this thread; panics where there is none, in the name of `call`.
    #[track_caller]
    pub(crate) fn of_this_thread(call: &str) -> Handle {
        Handle::try_current().unwrap_or_else(|| no_runtime(call))
    }

    /// The runtime of this thread, if there is one. In the child of a `fork` the runtime of its parent
    /// is none.
    ///
    /// ```
    /// assert!(heist::Handle::try_current().is_none());
    /// heist::run(async { assert!(heist::Handle::try_current().is_some()) });
    /// ```
    pub fn try_current() -> Option<Handle> {
        let core = heist_core::Handle::try_current().filter(|core| !core.is_forked());
        core.map(Handle::from_core)
    }

    /// Spawns a task on the runtime, from any thread, before, between and during its runs.
    ///
    /// If the runtime is closed, or has no thread and can start none, the future is dropped in the
    /// call and the handle resolves to a [`JoinError`] with `is_closed()`. In the second case its
    /// `source()` is the error of the thread.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// let handle = runtime.handle();
    /// let task = handle.spawn(async { 1 });
    /// assert_eq!(handle.block_on(task).unwrap(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.core.spawn(Spawn::at(Location::caller()), future)
    }

    pub(crate) fn spawn_at<F>(&self, spawn: Spawn, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.core.spawn(spawn, future)
    }

    /// Like [`Handle::spawn`], but gives the future back if the runtime does not take it.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// let handle = runtime.handle();
    /// runtime.close();
    /// let refused = handle.try_spawn(async { 1 }).unwrap_err();
    /// assert!(refused.error.is_closed());
    /// assert_eq!(heist::run(refused.future), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The future, and a [`JoinError`] for which `is_closed()` is true. There are two reasons:
    ///
    /// - The runtime has ended, or is ending.
    /// - It has no thread and can start none; the error's `source()` is that of the thread.
    ///
    /// In the child of a `fork` there is a third: the runtime belongs to the parent.
    #[track_caller]
    pub fn try_spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>, SpawnError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.try_spawn_at(Spawn::at(Location::caller()), future)
    }

    pub(crate) fn try_spawn_at<F>(
        &self,
        spawn: Spawn,
        future: F,
    ) -> Result<JoinHandle<F::Output>, SpawnError<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.core
            .try_spawn(spawn, future, Unseen::dropped())
            .map_err(|(future, error)| SpawnError { future, error })
    }

    /// Spawns a task whose `Err` is reported if nobody takes it; see [`spawn_fallible`].
    ///
    /// Where the runtime does not take the task, as with [`Handle::spawn`].
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// let handle = runtime.handle();
    /// let task = handle.spawn_fallible(async { "7".parse::<u32>() });
    /// assert_eq!(handle.block_on(task).unwrap(), Ok(7));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_fallible<F, T, E>(&self, future: F) -> JoinHandle<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        self.core
            .spawn_fallible(Spawn::at(Location::caller()), future)
    }

    /// Runs a closure on the runtime's blocking pool, from any thread; see [`spawn_blocking`].
    ///
    /// If the runtime is closed, the closure is dropped in the call and the handle resolves to a
    /// [`JoinError`] with `is_closed()`.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// let handle = runtime.handle();
    /// let sum = handle.spawn_blocking(|| (1..=10).sum::<u32>());
    /// assert_eq!(handle.block_on(sum).unwrap(), 55);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_blocking<F, T>(&self, call: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.core
            .spawn_blocking(Spawn::at(Location::caller()), call)
    }

    /// Polls a future on this thread, inside the runtime, while the runtime's threads run its
    /// tasks. The future need not be `Send`. This thread runs no tasks, so [`spawn_local`] does not
    /// work in it.
    ///
    /// Like the main future of [`run`](crate::run()), it is made, polled and dropped inside the
    /// runtime.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// let answer = runtime.handle().block_on(async { heist::spawn(async { 42 }).await.unwrap() });
    /// assert_eq!(answer, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With the message of [`RunError`] where [`Handle::try_block_on`] would answer it. A panic of
    /// the future goes on.
    #[track_caller]
    pub fn block_on<M: IntoFuture>(&self, future: M) -> M::Output {
        match self.try_block_on(future) {
            Ok(output) => output,
            Err(error) => panic!("{error}"),
        }
    }

    /// Like [`Handle::block_on`], with an error instead of a panic.
    ///
    /// ```
    /// heist::run(async {
    ///     let nested = heist::Handle::current().try_block_on(async {});
    ///     assert!(matches!(nested, Err(heist::RunError::Nested { .. })));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// - [`RunError::Nested`] inside a running runtime.
    /// - [`RunError::Closed`] if the runtime has ended, or is ending.
    /// - [`RunError::Start`] if the runtime has no thread and can start none.
    /// - [`RunError::Forked`] if the runtime belongs to the parent of this process.
    /// - [`RunError::Deadlock`] in a [`deterministic`](crate::Builder::deterministic) runtime, if nobody is
    ///   left who could wake the future. When the call is made inside of a run, by a blocking closure, the
    ///   main future is nobody in this sense, and so is a closure or task that is itself inside such a call,
    ///   begun before.
    ///
    /// In each case but the last the future is dropped in the call and has not been polled, unless it is the
    /// future itself that has forked: then `Forked` comes in the child when it is pending there.
    ///
    /// `Closed` is what this call finds when it begins. If the end of the runtime begins later, the
    /// future is polled to its own end nevertheless: what it spawns is refused, and the sockets and
    /// timers it waits for answer "closed".
    ///
    /// # Panics
    ///
    /// A panic of the future goes on.
    #[track_caller]
    pub fn try_block_on<M: IntoFuture>(&self, future: M) -> Result<M::Output, RunError> {
        let site = Location::caller();
        check_nested("Handle::block_on")?;
        if self.core.is_forked() {
            return Err(RunError::Forked);
        }
        if self.is_closed() {
            return Err(RunError::Closed);
        }
        self.core
            // The wrapper makes the future inside the runtime, and not here.
            .block_on(site, Entering::new(future))
            .map_err(|error| match error {
                NotEntered::NoThread(error) => RunError::Start(error),
                NotEntered::Forked => RunError::Forked,
                NotEntered::Deadlock(core) => RunError::Deadlock(Deadlock::from_core(core)),
            })
    }

    /// Whether the runtime has ended, or is ending. For a child of its process it has.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// let handle = runtime.handle();
    /// assert!(!handle.is_closed());
    /// runtime.close();
    /// assert!(handle.is_closed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.is_closed() || self.core.is_forked()
    }

    /// Numbers about the runtime and each of its workers, from any thread, at any time.
    ///
    /// It stops nobody: it reads counters, and takes the locks of a few queues for a moment.
    ///
    /// ```
    /// heist::run(async {
    ///     heist::spawn(async {}).await.unwrap();
    ///     let metrics = heist::Handle::current().metrics();
    ///     assert_eq!(metrics.live_tasks(), 0);
    ///     assert!(metrics.workers_started() >= 1);
    /// });
    /// ```
    #[must_use]
    pub fn metrics(&self) -> RuntimeMetrics {
        RuntimeMetrics::from_core(self.core.metrics())
    }

    /// Lists the live tasks: those of [`spawn`], closures of [`spawn_blocking`] that have not ended,
    /// and, while a `run` goes on, its local tasks. The main future is no task.
    ///
    /// The runtime goes on meanwhile: a task that is spawned or ends at this moment may be listed or
    /// not. Each group of tasks is looked at under a lock that spawning needs, so with millions of
    /// tasks a spawn may wait for some milliseconds.
    ///
    /// From the first call on, and until 90 seconds after the last one, tasks note down what they wait
    /// on, at their next poll; see [`TaskInfo::waits_on`].
    ///
    /// ```
    /// heist::run(async {
    ///     let sleeper = heist::task::Builder::new()
    ///         .name("sleeper")
    ///         .spawn(heist::sleep(std::time::Duration::from_secs(60)));
    ///     for task in heist::Handle::current().tasks() {
    ///         println!("{:?}, spawned at {}: {}", task.name(), task.spawned_at(), task.state());
    ///     }
    ///     sleeper.abort();
    /// });
    /// ```
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let tasks = self.core.tasks();
        tasks.into_iter().map(TaskInfo::from_core).collect()
    }

    /// All tasks as a tree, and those among them that will not go on: for the day the program hangs.
    ///
    /// As [`Handle::tasks`], it can be called from any thread, such as one that waits for a signal, or
    /// serves a page of its own.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut runtime = heist::Runtime::builder().debug(true).build()?;
    /// runtime.run(async {
    ///     let server = heist::task::Builder::new().name("server").spawn(async {
    ///         let client = heist::spawn(heist::sleep(Duration::from_secs(60)));
    ///         client.await
    ///     });
    ///     heist::sleep(Duration::from_millis(10)).await;
    ///
    ///     let dump = heist::Handle::current().dump();
    ///     // 2 tasks
    ///     //   task 1024 'server' spawned at src/main.rs:5:72: idle, 1 poll, waits on task 2048
    ///     //     task 2048 spawned at src/main.rs:6:22: idle, 1 poll, waits on a timer due in 60.0s
    ///     println!("{dump}");
    ///     assert!(dump.to_json().starts_with(r#"{"tasks":[{"id":"#));
    ///     assert!(dump.cycles().is_empty());
    ///     server.abort();
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn dump(&self) -> Dump {
        Dump::take(|| self.tasks())
    }

    #[cfg_attr(
        not(feature = "futures-task"),
        expect(dead_code, reason = "used by an adapter")
    )]
    pub(crate) fn is_same(&self, other: &Handle) -> bool {
        self.core.is_same(&other.core)
    }

    pub(crate) fn report_failed(&self, task: Label, error: &str) {
        self.core.report_failed(task, error);
    }

    pub(crate) fn report_panicked(
        &self,
        name: &str,
        site: &'static Location<'static>,
        payload: Box<dyn std::any::Any + Send>,
    ) {
        self.core.report_panicked(name, site, payload);
    }

    pub(crate) fn live_tasks(&self) -> usize {
        self.core.live_tasks()
    }
}

/// A future that no runtime took, and why.
///
/// As text it is its `error`; its source is that of `error`.
///
/// ```
/// let mut runtime = heist::Runtime::new()?;
/// let handle = runtime.handle();
/// runtime.close();
/// let refused = handle.try_spawn(async {}).unwrap_err();
/// assert_eq!(refused.to_string(), refused.error.to_string());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SpawnError<F> {
    /// The future, as it was.
    pub future: F,
    /// Why.
    pub error: JoinError,
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> std::error::Error for SpawnError<F> {
    // The text is that of `error`, so the next thing to tell is what stands behind it.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Spawns a task on the runtime of this thread.
///
/// The task starts by itself, whether or not the handle is awaited. On a runtime that is ending the
/// future is dropped in the call, and the handle resolves to a [`JoinError`] with `is_closed()`.
///
/// ```
/// heist::run(async {
///     let task = heist::spawn(async { "done" });
///     assert_eq!(task.await.unwrap(), "done");
/// });
/// ```
///
/// The future must be `Send`, because it may move between threads at each `.await`:
///
/// ```compile_fail,E0277
/// heist::run(async {
///     let shared = std::rc::Rc::new(5);
///     drop(heist::spawn(async move { *shared }));
/// });
/// ```
///
/// # Panics
///
/// Where there is no runtime: outside of `run`, on a thread that the program made itself. The future
/// is dropped. Use [`Handle::spawn`] there.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_at(Spawn::at(Location::caller()), future)
}

#[track_caller]
pub(crate) fn spawn_at<F>(spawn: Spawn, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match heist_core::spawn(spawn, future, Unseen::dropped()) {
        Ok(handle) => handle,
        Err(future) => {
            drop(future);
            no_runtime("spawn")
        }
    }
}

/// Spawns a task whose `Err` is reported if nobody takes it.
///
/// Otherwise it is [`spawn`]: the handle gives a `Result<Result<T, E>, JoinError>`. Whoever awaits it
/// has the error, and nothing is reported. If the handle is dropped, before the task has ended or
/// after, an `Err` is reported once, as [`Report::Failed`](crate::Report::Failed): with what the task
/// is called and what `Debug` shows of the error, as a `main` that returns an error is. An `Ok` is
/// dropped, and so is a task that is cancelled.
///
/// The report goes to [`Builder::on_error`](crate::Builder::on_error), or to standard error where
/// there is no handler, or where the handle of an ended task is dropped on a thread outside of the
/// runtime.
///
/// ```
/// use heist::Report;
/// use std::sync::mpsc;
///
/// let (tell, told) = mpsc::channel();
/// let mut runtime = heist::Runtime::builder()
///     .on_error(move |report| {
///         if let Report::Failed { error, .. } = report {
///             let _ = tell.send(error.to_string());
///         }
///     })
///     .build()?;
/// runtime.run(async {
///     // Nobody waits for this one.
///     drop(heist::spawn_fallible(async { Err::<(), _>("no route to host") }));
///     // This one's error is seen.
///     let task = heist::spawn_fallible(async { Err::<(), _>("refused") });
///     assert_eq!(task.await.unwrap(), Err("refused"));
/// });
/// drop(runtime);
/// assert_eq!(told.iter().collect::<Vec<_>>(), ["\"no route to host\""]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
///
/// Where there is no runtime, as `spawn` does.
#[track_caller]
pub fn spawn_fallible<F, T, E>(future: F) -> JoinHandle<Result<T, E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: fmt::Debug + Send + 'static,
{
    spawn_fallible_at(Spawn::at(Location::caller()), future)
}

#[track_caller]
pub(crate) fn spawn_fallible_at<F, T, E>(spawn: Spawn, future: F) -> JoinHandle<Result<T, E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: fmt::Debug + Send + 'static,
{
    match heist_core::spawn(spawn, future, Unseen::reported()) {
        Ok(handle) => handle,
        Err(future) => {
            drop(future);
            no_runtime("spawn_fallible")
        }
    }
}

/// Spawns a task that stays on this thread, and so need not be `Send`.
///
/// ```
/// use std::rc::Rc;
///
/// heist::run(async {
///     let shared = Rc::new(5);
///     let task = heist::spawn_local({
///         let shared = shared.clone();
///         async move { *shared }
///     });
///     assert_eq!(task.await.unwrap(), 5);
/// });
/// ```
///
/// The task ends with the `run` it was spawned in.
///
/// Its handle stays on the thread as well, unless the output is `Send`:
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
///
/// fn is_send<T: Send>(_: &T) {}
/// heist::run(async {
///     let task = heist::spawn_local(async { Rc::new(5) });
///     is_send(&task);
/// });
/// ```
///
/// # Panics
///
/// Where there is no thread it could stay on: outside of `run`, and inside a task spawned with
/// [`spawn`], which may move from thread to thread.
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_local_at(Spawn::at(Location::caller()), future)
}

#[track_caller]
pub(crate) fn spawn_local_at<F>(spawn: Spawn, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match heist_core::spawn_local(spawn, future) {
        Ok(handle) => handle,
        Err(NotLocal::NoRuntime) => no_runtime("spawn_local"),
        Err(NotLocal::NotPinned) => panic!(
            "heist: `spawn_local` was called where a local task cannot stay: it works in the main \
             future of `run` and in local tasks; a task that may move between threads uses `spawn`"
        ),
    }
}

/// Runs a closure that blocks on a thread of the blocking pool.
///
/// The pool has up to [`blocking_threads`](crate::Builder::blocking_threads) threads. When all of
/// them are busy, closures wait in a queue that has no bound: whoever awaits one handle before it
/// spawns the next fills no queue.
///
/// A panic of the closure stays in it, and is in the [`JoinError`] with its payload.
///
/// A closure that has begun cannot be interrupted: the end of the runtime waits for it, up to
/// [`blocking_grace`](crate::Builder::blocking_grace). One that has not begun will not begin once it
/// is aborted or the runtime ends. It is dropped, an aborted one when its turn comes, and its handle
/// says `is_cancelled()`.
///
/// On a runtime that is ending already, the closure is dropped in the call and the handle says
/// `is_closed()`. So it does if the pool has no thread and can start none; `source()` is then the
/// error of the thread.
///
/// ```
/// heist::run(async {
///     let sum = heist::spawn_blocking(|| (1..=1000_u32).sum::<u32>());
///     assert_eq!(sum.await.unwrap(), 500_500);
///
///     let failed = heist::spawn_blocking(|| panic!("no such file"));
///     assert_eq!(failed.await.unwrap_err().reason(), "no such file");
/// });
/// ```
///
/// # Panics
///
/// Where there is no runtime; the closure is dropped. Use [`Handle::spawn_blocking`] there.
#[track_caller]
pub fn spawn_blocking<F, T>(call: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_blocking_at(Spawn::at(Location::caller()), call)
}

#[track_caller]
pub(crate) fn spawn_blocking_at<F, T>(spawn: Spawn, call: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match heist_core::Handle::try_current() {
        Some(handle) => handle.spawn_blocking(spawn, call),
        None => {
            drop(call);
            no_runtime("spawn_blocking")
        }
    }
}

#[track_caller]
fn no_runtime(call: &str) -> ! {
    panic!(
        "heist: `{call}` was called on a thread that is inside no runtime. Call it inside \
         `heist::run(async {{ .. }})`, or use a `Handle` of a runtime"
    )
}
