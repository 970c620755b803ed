//! Every option of a runtime.

#![forbid(unsafe_code)]

use crate::scope::{Scope, scope_on};
use crate::seam::{Real, Virtual};
use crate::{Report, Runtime, task};
use heist_core::{Config, MainThread, Seam};
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// How many workers a deterministic runtime has by default: the same number on every machine.
const SIMULATED_WORKERS: usize = 4;

/// Configures a [`Runtime`].
///
/// Every option has a default that is meant to be right. Numbers are checked in
/// [`build`](Builder::build).
///
/// ```
/// use std::time::Duration;
///
/// let mut runtime = heist::Runtime::builder()
///     .workers(2)
///     .thread_name("web")
///     .blocking_grace(Duration::from_secs(1))
///     .build()?;
/// assert_eq!(runtime.run(async { 1 }), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    config: Config,
    debug: Option<bool>,
    cancel_on_ctrl_c: bool,
    seed: Option<u64>,
    /// `workers` was called.
    has_workers: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// The default configuration.
    ///
    /// ```
    /// let mut runtime = heist::Builder::new().build()?;
    /// assert_eq!(runtime.run(async { 1 }), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> Builder {
        Builder {
            config: Config::default(),
            debug: None,
            cancel_on_ctrl_c: false,
            seed: None,
            has_workers: false,
        }
    }

    /// How many threads run tasks at a time, the caller of `run` included. Default: the number of
    /// processors that the process may use. Range: 1 to 4096, together with the spare workers.
    ///
    /// With one worker, `main` and all tasks share one thread.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().workers(1).build()?;
    /// let (main, task) = runtime.run(async {
    ///     let task = heist::spawn(async { std::thread::current().id() });
    ///     (std::thread::current().id(), task.await.unwrap())
    /// });
    /// assert_eq!(main, task);
    ///
    /// let none = heist::Runtime::builder().workers(0).build();
    /// assert_eq!(none.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn workers(mut self, workers: usize) -> Builder {
        self.config.workers = workers;
        self.has_workers = true;
        self
    }

    /// How many workers more may run while others are blocked. Default: 4. Range: 0 to 4095,
    /// together with the workers at most 4096.
    ///
    /// With 0, a blocked worker is helped by those that are free, and by nobody if there are none.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// // One worker and one spare: the second task runs although the first blocks.
    /// let runtime = heist::Runtime::builder().workers(1).spare_workers(1).build()?;
    /// let (send, receive) = mpsc::channel();
    /// let blocked = runtime.handle().spawn(async move { receive.recv() });
    /// let rescuer = runtime.handle().spawn(async move { send.send(5) });
    /// let received = runtime.handle().block_on(async {
    ///     rescuer.await.unwrap().unwrap();
    ///     blocked.await.unwrap()
    /// });
    /// assert_eq!(received, Ok(5));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spare_workers(mut self, spare_workers: usize) -> Builder {
        self.config.spare_workers = spare_workers;
        self
    }

    /// Whether the thread of `run` also runs Send tasks. Default: [`MainThread::Worker`].
    ///
    /// With [`MainThread::Dedicated`] no Send task can block `main` or a local task. If no other
    /// thread can be started, the thread of `run` works all the same, so that nothing hangs.
    ///
    /// ```
    /// use heist::MainThread;
    ///
    /// let mut runtime = heist::Runtime::builder().main_thread(MainThread::Dedicated).build()?;
    /// let (main, task) = runtime.run(async {
    ///     let task = heist::spawn(async { std::thread::current().id() });
    ///     (std::thread::current().id(), task.await.unwrap())
    /// });
    /// assert_ne!(main, task);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn main_thread(mut self, main_thread: MainThread) -> Builder {
        self.config.main_thread = main_thread;
        self
    }

    /// Starts all worker threads, and the monitor, in [`build`](Builder::build), which then fails if
    /// one cannot be had. Default: false, threads start when there is work for them.
    ///
    /// Spare workers and the threads of the blocking pool start on demand in either case.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().workers(2).start_threads(true).build()?;
    /// assert_eq!(runtime.run(async { 1 }), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start_threads(mut self, start_threads: bool) -> Builder {
        self.config.start_threads = start_threads;
        self
    }

    /// The beginning of the names of threads. Default: `heist`.
    ///
    /// Workers are called `heist-0`, `heist-1` and so on, the others `heist-blocking` and
    /// `heist-monitor`. Any text will do; a NUL in it is left out, since thread names cannot have
    /// one. Systems may show less of a long name: Linux, 15 bytes. The thread of `run` keeps its
    /// name.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().thread_name("web").build()?;
    /// let name = || std::thread::current().name().map(String::from);
    /// let closure = runtime.run(async { heist::spawn_blocking(name).await.unwrap() });
    /// assert_eq!(closure.as_deref(), Some("web-blocking"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        self.config.thread_name = name.into();
        self
    }

    /// The stack of every thread the runtime starts, in bytes. Default: the standard library's, 2
    /// MiB unless `RUST_MIN_STACK` says otherwise, which should not say less than 64 KiB.
    ///
    /// Any number may be given. Less than 64 KiB means 64 KiB, which is what the runtime's own code is
    /// sure to get along with in a debug build; futures and closures that need more have to have more. With more than
    /// the system can give, threads cannot be started: [`build`](Builder::build) says so with
    /// [`start_threads`](Builder::start_threads), and [`on_error`](Builder::on_error) is told
    /// otherwise. The stack of the thread that calls `run` is not ours to change.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().thread_stack_size(256 * 1024).build()?;
    /// assert_eq!(runtime.run(async { heist::spawn_blocking(|| 1).await.unwrap() }), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_stack_size(mut self, bytes: usize) -> Builder {
        self.config.thread_stack_size = Some(bytes);
        self
    }

    /// The most threads of the blocking pool; closures beyond it wait in a queue without a bound.
    /// Default: 512. At least 1.
    ///
    /// ```
    /// // Two closures, one after the other, on the one thread that there may be.
    /// let mut runtime = heist::Runtime::builder().blocking_threads(1).build()?;
    /// runtime.run(async {
    ///     let first = heist::spawn_blocking(|| std::thread::current().id());
    ///     let second = heist::spawn_blocking(|| std::thread::current().id());
    ///     assert_eq!(first.await.unwrap(), second.await.unwrap());
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn blocking_threads(mut self, max: usize) -> Builder {
        self.config.blocking_threads = max;
        self
    }

    /// How long a thread of the blocking pool waits for a closure before it ends. Default: 10 s. Any
    /// length; zero ends it as soon as the queue is empty, `Duration::MAX` keeps it for the life of
    /// the runtime.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut runtime =
    ///     heist::Runtime::builder().blocking_keep_alive(Duration::from_secs(60)).build()?;
    /// assert_eq!(runtime.run(async { heist::spawn_blocking(|| 1).await.unwrap() }), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn blocking_keep_alive(mut self, keep_alive: Duration) -> Builder {
        self.config.blocking_keep_alive = keep_alive;
        self
    }

    /// How long the end of the loop lets tasks go on that catch their cancellation with
    /// [`catch_cancel`](crate::catch_cancel), or are cleaning up already. When it is over they are
    /// dropped like all others. Default: 5 s. Any length; zero drops them at once, `Duration::MAX`
    /// waits for ever.
    ///
    /// Meanwhile they can do everything but spawn tasks. It is counted from the begin of the end, for
    /// local tasks and Send tasks together.
    ///
    /// ```
    /// use heist::time::{sleep, Duration};
    ///
    /// let mut runtime = heist::Runtime::builder().cancel_grace(Duration::from_secs(60)).build()?;
    /// runtime.run(async {
    ///     let (began, begun) = futures::channel::oneshot::channel();
    ///     drop(heist::spawn(async {
    ///         let work = async {
    ///             began.send(()).unwrap();
    ///             std::future::pending::<()>().await
    ///         };
    ///         let _ = heist::catch_cancel(work).await;
    ///         sleep(Duration::from_millis(1)).await;
    ///     }));
    ///     begun.await.unwrap();
    /// });
    /// let report = runtime.close();
    /// assert_eq!((report.cancelled, report.finished_cleanup.len()), (0, 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn cancel_grace(mut self, grace: Duration) -> Builder {
        self.config.cancel_grace = grace;
        self
    }

    /// How long the end of the loop waits for a task that is inside `poll` or `drop`, from when no
    /// task is cleaning up any more. After it the
    /// task is *abandoned*: its handle resolves with `is_abandoned()`, its name is in the
    /// [`ShutdownReport`](crate::ShutdownReport), its thread is left behind. Default: `None`, for
    /// ever; who is waited for is reported once a second. Any length.
    ///
    /// It is for Send tasks alone. Work that is pinned to the thread of `run` (`main` and local
    /// tasks) is waited for without a limit, since that thread cannot leave it behind. So are the
    /// tasks of [`scope`](crate::scope()), since they borrow.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// let mut runtime = heist::Runtime::builder().poll_grace(Duration::from_millis(10)).build()?;
    /// let (inside, is_inside) = mpsc::channel();
    /// let (_never, wait) = mpsc::channel::<()>();
    /// let stuck = runtime.handle().spawn(async move {
    ///     inside.send(()).unwrap();
    ///     wait.recv()
    /// });
    /// is_inside.recv().unwrap();
    /// let report = runtime.close();
    /// assert_eq!(report.abandoned.len(), 1);
    /// assert!(heist::run(stuck).unwrap_err().is_abandoned());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn poll_grace(mut self, grace: impl Into<Option<Duration>>) -> Builder {
        self.config.poll_grace = grace.into();
        self
    }

    /// How long the end of the loop waits for blocking closures that are running. Those that outlast
    /// it are abandoned, by name. Default: 10 s. Any length; zero does not wait, `Duration::MAX`
    /// waits for ever.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// let mut runtime = heist::Runtime::builder()
    ///     .blocking_grace(Duration::ZERO)
    ///     .on_error(|_| ()) // It would tell of the closure on standard error.
    ///     .build()?;
    /// let (inside, is_inside) = mpsc::channel();
    /// let (_never, wait) = mpsc::channel::<()>();
    /// let _stuck = runtime.handle().spawn_blocking(move || {
    ///     inside.send(()).unwrap();
    ///     wait.recv()
    /// });
    /// is_inside.recv().unwrap();
    /// assert_eq!(runtime.close().blocking_abandoned.len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn blocking_grace(mut self, grace: Duration) -> Builder {
        self.config.blocking_grace = grace;
        self
    }

    /// From which length on a poll is reported as a stall, in debug mode. Default: 100 ms. Any
    /// length.
    ///
    /// The monitor looks every 2 ms and sees only polls that are there at two looks. So a stall is
    /// reported up to 4 ms late, and with zero every poll is reported that the monitor saw twice.
    ///
    /// ```
    /// use heist::Report;
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let mut runtime = heist::Runtime::builder()
    ///     .debug(true)
    ///     .stall_threshold(Duration::ZERO)
    ///     .on_error(move |report| {
    ///         if let Report::Stalled { id, .. } = report {
    ///             let _ = tell.send(*id);
    ///         }
    ///     })
    ///     .build()?;
    /// runtime.run(async {
    ///     // A poll that lasts until it is reported.
    ///     let task = heist::spawn(async move { told.recv().unwrap() });
    ///     let id = task.id();
    ///     assert_eq!(task.await.unwrap(), Some(id));
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stall_threshold(mut self, threshold: Duration) -> Builder {
        self.config.stall_threshold = threshold;
        self
    }

    /// Debug mode. Default: `None`, on if the environment variable `HEIST_DEBUG` is set to something
    /// other than `0` or nothing. It is read in [`build`](Builder::build).
    ///
    /// With it:
    ///
    /// - A poll that is longer than [`stall_threshold`](Builder::stall_threshold) is reported while it
    ///   lasts, as [`Report::Stalled`].
    /// - A task that was aborted, or met the end of the loop, before anybody has polled it once is
    ///   reported, as [`Report::NeverPolled`]: it has done nothing, and
    ///   perhaps somebody counted on it.
    /// - A task that can never run again is named, as [`Report::Stuck`].
    /// - A run whose main future can never go on ends with
    ///   [`RunError::Deadlock`](crate::RunError::Deadlock), instead of hanging: see [`Deadlock`](crate::Deadlock).
    /// - What each task waits on is noted from the beginning, and not only from the first
    ///   [`dump`](crate::Handle::dump) on.
    ///
    /// Panics and errors that nobody sees are reported without it, too.
    ///
    /// ```
    /// use heist::Report;
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let mut runtime = heist::Runtime::builder()
    ///     .debug(true)
    ///     .on_error(move |report| {
    ///         if let Report::NeverPolled { task } = report {
    ///             let _ = tell.send(task.id);
    ///         }
    ///     })
    ///     .build()?;
    /// // The loop ends before the task has had a turn.
    /// let id = runtime.run(async { heist::spawn_local(async {}).id() });
    /// assert_eq!(told.recv(), Ok(id));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn debug(mut self, debug: impl Into<Option<bool>>) -> Builder {
        self.debug = debug.into();
        self
    }

    /// Whether Ctrl-C (`SIGINT`) cancels the main future. Default: false, Ctrl-C does what it does
    /// without heist.
    ///
    /// With `true`, while a run is on:
    ///
    /// 1. The first Ctrl-C asks for the end of `main`, as
    ///    [`AbortHandle::abort`](crate::task::AbortHandle::abort) does: `main` is dropped at its next
    ///    suspension point, and its run ends as always. [`Runtime::try_run`] then answers
    ///    [`RunError::Interrupted`](crate::RunError::Interrupted). [`Runtime::run`] closes the
    ///    runtime and then ends the process by `SIGINT`, so that a shell sees what it expects (a
    ///    status of 130). A `main` that gives its output before it suspends has not been interrupted,
    ///    and one that somebody else had cancelled before answers
    ///    [`RunError::Cancelled`](crate::RunError::Cancelled). If `main` has caught that and goes on, the
    ///    Ctrl-C is a further request: it goes to a [`catch_cancel`](crate::catch_cancel()) that has been
    ///    entered since, and otherwise `main` is dropped.
    /// 2. A second Ctrl-C before that end is reached ends the process at once.
    ///
    /// Once `main` has ended without a Ctrl-C, the next one ends the process, also while the runtime
    /// is closing.
    ///
    /// The signal is that of the whole process, so this works on any thread, and with several runs at
    /// once each of them is cancelled. `run` waits for the others before it ends the process. In a
    /// closure of [`spawn_blocking`](crate::spawn_blocking) it panics instead: the runtime around it
    /// ends the process, if anybody does.
    ///
    /// It is a wish. If the process has a handler for `SIGINT` already, or ignores it, that is left
    /// alone and the run goes on without; so it does where no descriptor is left. When the run ends,
    /// the default comes back, unless somebody has installed a handler meanwhile.
    ///
    /// A listener ([`ctrl_c`](crate::signal::ctrl_c)) is told of every Ctrl-C as well, and changes
    /// nothing of this. A program that wants to decide for itself listens, and leaves this off.
    ///
    /// On systems other than Unix it has no effect yet.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().cancel_on_ctrl_c(true).build()?;
    /// match runtime.try_run(async { 42 }) {
    ///     Err(heist::RunError::Interrupted) => println!("somebody pressed Ctrl-C"),
    ///     answer => assert_eq!(answer.unwrap(), 42),
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn cancel_on_ctrl_c(mut self, cancel_on_ctrl_c: bool) -> Builder {
        self.cancel_on_ctrl_c = cancel_on_ctrl_c;
        self
    }

    /// Runs everything on the thread that calls, in an order that the seed decides, under a time of its
    /// own. For tests. Default: off.
    ///
    /// It is the same scheduler, with as many workers as [`workers`](Builder::workers) says (4 if it
    /// does not say, on every machine), but no thread is started. The calling thread steps the workers, the
    /// monitor and blocking closures one at a time, and the seed decides who is next, who steals
    /// from whom, which worker seems to be blocked for some milliseconds, and when the monitor looks. So
    /// one seed is one run, again and again, and many seeds are many orders of the same program.
    /// [`Runtime::trace`] tells two runs apart.
    ///
    /// *Time* inside a run ([`Instant::now`](crate::time::Instant::now), sleeps, timeouts, graces) is
    /// virtual: it takes a few microseconds for a step, and when nobody can go on it jumps to the next
    /// deadline. An hour of sleep costs nothing. Outside of the run, and in
    /// [`std::time::Instant`], time is the system's. So make timers inside the run: `sleep`, `timeout` and
    /// `interval` look at the clock when they are made. One that was made before the run, or as an argument
    /// of it, or from a `std::time::Instant`, has a deadline of the system's clock, and no two runs are the same.
    ///
    /// *A run cannot hang* by waiting: if nobody can go on and no deadline is left, it ends with
    /// [`RunError::Deadlock`](crate::RunError::Deadlock), and says who waits on what.
    ///
    /// What it does not do:
    ///
    /// - Sockets and other descriptors are refused, with an error of kind
    ///   [`Unsupported`](std::io::ErrorKind::Unsupported); [`sim`](crate::sim) has streams for it, and runs a
    ///   program with many seeds.
    /// - Code that blocks the thread blocks all workers. A closure may not wait for what a task sends,
    ///   unless by [`Handle::block_on`](crate::Handle::block_on), and then not for `main`, nor for a closure
    ///   or task that is itself inside such a call: of several calls only the last one that began can
    ///   return. They nest on one stack, so at most 64 closures begin inside one another.
    /// - A lock of the standard library that is held across `block_on` or
    ///   [`block_in_place`](crate::block_in_place()) blocks for ever whoever else takes it meanwhile, since
    ///   the holder is further down on the same stack.
    /// - Between runs tasks stand still.
    /// - Other threads may spawn and wake, but then a run depends on when they do, and a run that waits for
    ///   nothing else ends with a deadlock.
    /// - What a program takes from elsewhere (addresses, the hasher of `HashMap`) is not decided by the
    ///   seed; nor are the numbers in [`task::id`], which go on from one run of the process to the next.
    /// - Options that are about threads have no effect, nor has
    ///   [`cancel_on_ctrl_c`](Builder::cancel_on_ctrl_c). The hooks for starts and stops are called for each
    ///   worker and each thread of the pool that there would be, outside of the runtime as always, where
    ///   time is the system's.
    ///
    /// ```
    /// use heist::time::{Duration, Instant, sleep};
    ///
    /// let run = |seed| {
    ///     let mut runtime = heist::Runtime::builder().deterministic(seed).build().unwrap();
    ///     let order = runtime.run(async {
    ///         let began = Instant::now();
    ///         let (send, receive) = futures::channel::mpsc::unbounded();
    ///         for task in 0..8 {
    ///             let send = send.clone();
    ///             drop(heist::spawn(async move { send.unbounded_send(task).unwrap() }));
    ///         }
    ///         sleep(Duration::from_secs(3600)).await;
    ///         assert!(began.elapsed() >= Duration::from_secs(3600));
    ///         drop(send);
    ///         futures::StreamExt::collect::<Vec<i32>>(receive).await
    ///     });
    ///     (order, runtime.trace())
    /// };
    /// assert_eq!(run(7), run(7));
    /// assert!((0..20).any(|seed| run(seed) != run(7)));
    /// ```
    pub fn deterministic(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Called on every worker and blocking thread that the runtime starts, before its first work.
    /// Default: nothing.
    ///
    /// It runs on the new thread, and on several at once when several start. The thread is not yet
    /// inside the runtime: [`spawn`](crate::spawn()) panics there. The thread that calls `run` and
    /// the monitor do not call it.
    ///
    /// A hook that panics is caught, and [`on_error`](Builder::on_error) is told; the thread goes on.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let mut runtime = heist::Runtime::builder()
    ///     .on_thread_start(move || drop(tell.send(std::thread::current().id())))
    ///     .build()?;
    /// let id = runtime.run(async {
    ///     heist::spawn_blocking(|| std::thread::current().id()).await.unwrap()
    /// });
    /// drop(runtime);
    /// assert!(told.iter().any(|started| started == id));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_thread_start = Some(Arc::new(hook));
        self
    }

    /// Called on every worker and blocking thread that the runtime started, after its last work.
    /// Default: nothing.
    ///
    /// It runs on the thread that ends, outside the runtime, as
    /// [`on_thread_start`](Builder::on_thread_start) does; the end of the loop waits for it. A
    /// thread that was left behind calls it when it comes back, which may be after the runtime has
    /// ended, or never.
    ///
    /// A hook that panics is caught, and [`on_error`](Builder::on_error) is told.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// static THREADS: AtomicUsize = AtomicUsize::new(0);
    /// let mut runtime = heist::Runtime::builder()
    ///     .on_thread_start(|| _ = THREADS.fetch_add(1, Relaxed))
    ///     .on_thread_stop(|| _ = THREADS.fetch_sub(1, Relaxed))
    ///     .build()?;
    /// runtime.run(async { heist::spawn_blocking(|| 1).await.unwrap() });
    /// runtime.close();
    /// assert_eq!(THREADS.load(Relaxed), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_thread_stop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_thread_stop = Some(Arc::new(hook));
        self
    }

    /// Called in every spawning call, with the new task's identity, before the task can run.
    /// Default: nothing.
    ///
    /// It runs on the thread that spawns, on several at once when several do; local tasks and
    /// blocking closures are announced too, and so are tasks that a closed runtime then refuses. It
    /// must not spawn on the same runtime: that would call it again, without an end.
    ///
    /// A hook that panics is caught, and [`on_error`](Builder::on_error) is told; the task is
    /// spawned.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let mut runtime = heist::Runtime::builder()
    ///     .on_task_spawn(move |id| drop(tell.send(id)))
    ///     .build()?;
    /// runtime.run(async move {
    ///     let task = heist::spawn(async {});
    ///     assert_eq!(told.recv(), Ok(task.id()));
    ///     task.await.unwrap();
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_task_spawn(mut self, hook: impl Fn(task::Id) + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_task_spawn = Some(Arc::new(hook));
        self
    }

    /// Receives what no return value can tell: a panic of a detached task, a thread that could not
    /// be started. Default: a line on standard error. [`Report`] lists all of it.
    ///
    /// It runs on the thread that noticed, whichever that is: a worker, a blocking thread, the
    /// monitor, the thread that ends the loop, or one that spawns; and on several at once. It never
    /// runs under a lock of the runtime, but it holds up what that thread does. A panic that is found
    /// only when a handle is dropped on a thread outside of the runtime, which may have ended, goes
    /// to standard error.
    ///
    /// If the handler itself panics, that is caught, and the report goes to standard error.
    ///
    /// ```
    /// use heist::Report;
    /// use std::sync::mpsc;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let mut runtime = heist::Runtime::builder()
    ///     .on_error(move |report| drop(tell.send(matches!(report, Report::Panicked(_)))))
    ///     .build()?;
    /// runtime.run(async {
    ///     drop(heist::spawn(async { panic!("nobody waits for me") }));
    ///     heist::yield_now().await;
    /// });
    /// drop(runtime);
    /// assert_eq!(told.recv(), Ok(true));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_error(mut self, handler: impl Fn(&Report<'_>) + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_error = Some(Arc::new(handler));
        self
    }

    /// Makes the runtime. It has no thread and no descriptor yet, unless
    /// [`start_threads`](Builder::start_threads) asks for threads.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().build()?;
    /// assert_eq!(runtime.run(async { 6 * 7 }), 42);
    ///
    /// let refused = heist::Runtime::builder().blocking_threads(0).build();
    /// assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - `InvalidInput` for a number outside its range: no workers, no blocking threads, more than
    ///   4096 workers and spare workers together.
    /// - With [`start_threads`](Builder::start_threads), the error of a thread that could not be
    ///   started; those that were started have been joined.
    #[track_caller]
    pub fn build(self) -> io::Result<Runtime> {
        self.build_at(Location::caller())
    }

    /// Like [`scope()`](crate::scope()), on a runtime with these options.
    ///
    /// With [`cancel_on_ctrl_c`](Builder::cancel_on_ctrl_c), Ctrl-C cancels the body and the tasks of
    /// the scope, and when all of them are gone ends the process as [`Runtime::run`] does.
    ///
    /// [`poll_grace`](Builder::poll_grace) has no effect: tasks that borrow are never left behind.
    ///
    /// ```
    /// let words = ["one", "two"];
    /// let total: usize = heist::Builder::new().workers(2).scope(async |s| {
    ///     let first = s.spawn(async { words[0].len() });
    ///     first.await.unwrap() + words[1].len()
    /// });
    /// assert_eq!(total, 6);
    /// ```
    ///
    /// # Panics
    ///
    /// As `scope` does, and with the error where [`build`](Builder::build) would answer one.
    #[track_caller]
    pub fn scope<'env, F, T>(mut self, body: F) -> T
    where
        F: for<'scope> AsyncFnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        self.config.poll_grace = None;
        scope_on(self, Location::caller(), body)
    }

    /// A run that can never go on ends with an error, also without debug mode.
    pub(crate) fn detecting_deadlock(mut self) -> Builder {
        self.config.detect_deadlock = true;
        self
    }

    pub(crate) fn build_at(mut self, site: &'static Location<'static>) -> io::Result<Runtime> {
        self.config.debug = self.debug.unwrap_or_else(|| {
            std::env::var_os("HEIST_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
        });
        self.config.detect_deadlock |= self.config.debug || self.seed.is_some();
        if self.seed.is_some() && !self.has_workers {
            self.config.workers = SIMULATED_WORKERS;
        }
        self.config.check()?;
        crate::fork::watch();
        let slots = self.config.workers + self.config.spare_workers;
        let seam: Arc<dyn Seam> = match self.seed {
            Some(seed) => Arc::new(Virtual::new(slots, seed)),
            None => Arc::new(Real::new(slots)),
        };
        let core = heist_core::Runtime::new(self.config, seam, site)?;
        Ok(Runtime::from_core(core, self.cancel_on_ctrl_c))
    }
}
