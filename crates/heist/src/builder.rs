//! Every option of a runtime.

#![forbid(unsafe_code)]

use crate::seam::Real;
use crate::{Report, Runtime, task};
use heist_core::{Config, MainThread};
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Configures a [`Runtime`].
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
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// The default configuration.
    pub fn new() -> Builder {
        Builder {
            config: Config::default(),
            debug: None,
        }
    }

    /// How many threads run tasks at a time, the caller of `run` included. Default: the number of
    /// processors. Range: 1 to 4096 together with the spare workers.
    ///
    /// With one worker, `main` and all tasks share one thread.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.config.workers = workers;
        self
    }

    /// How many workers more may run while others are blocked. Default: 4. Range: 0 to 4095.
    pub fn spare_workers(mut self, spare_workers: usize) -> Builder {
        self.config.spare_workers = spare_workers;
        self
    }

    /// Whether the thread of `run` also runs Send tasks. Default: [`MainThread::Worker`].
    pub fn main_thread(mut self, main_thread: MainThread) -> Builder {
        self.config.main_thread = main_thread;
        self
    }

    /// Starts all worker threads in [`build`](Builder::build), which then fails if one cannot be
    /// had. Default: false, threads start when there is work for them.
    pub fn start_threads(mut self, start_threads: bool) -> Builder {
        self.config.start_threads = start_threads;
        self
    }

    /// The beginning of the names of threads. Default: `heist`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Builder {
        self.config.thread_name = name.into();
        self
    }

    /// The stack of every thread the runtime starts, in bytes. Default: the standard library's, 2
    /// MiB unless `RUST_MIN_STACK` says otherwise.
    pub fn thread_stack_size(mut self, bytes: usize) -> Builder {
        self.config.thread_stack_size = Some(bytes);
        self
    }

    /// The most threads of the blocking pool; closures beyond it wait. Default: 512. At least 1.
    pub fn blocking_threads(mut self, max: usize) -> Builder {
        self.config.blocking_threads = max;
        self
    }

    /// How long a thread of the blocking pool waits for a closure before it ends. Default: 10 s.
    pub fn blocking_keep_alive(mut self, keep_alive: Duration) -> Builder {
        self.config.blocking_keep_alive = keep_alive;
        self
    }

    /// How long the end of the loop waits for a task that is inside `poll` or `drop`. After it the
    /// task is *abandoned*: its handle resolves, its name is in the report, its thread is left
    /// behind. Default: `None`, for ever; who is waited for is reported once a second.
    pub fn poll_grace(mut self, grace: impl Into<Option<Duration>>) -> Builder {
        self.config.poll_grace = grace.into();
        self
    }

    /// How long the end of the loop waits for blocking closures that are running. Default: 10 s.
    pub fn blocking_grace(mut self, grace: Duration) -> Builder {
        self.config.blocking_grace = grace;
        self
    }

    /// From which length on a poll is reported as a stall, in debug mode. Default: 100 ms. Stalls
    /// are noticed in steps of 2 ms.
    pub fn stall_threshold(mut self, threshold: Duration) -> Builder {
        self.config.stall_threshold = threshold;
        self
    }

    /// Debug mode: stalls are reported. Default: `None`, on if the environment variable
    /// `HEIST_DEBUG` is set to something other than `0` or nothing.
    pub fn debug(mut self, debug: impl Into<Option<bool>>) -> Builder {
        self.debug = debug.into();
        self
    }

    /// Called on every worker and blocking thread that the runtime starts, before its first work.
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_thread_start = Some(Arc::new(hook));
        self
    }

    /// Called on every worker and blocking thread that the runtime started, after its last work.
    pub fn on_thread_stop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_thread_stop = Some(Arc::new(hook));
        self
    }

    /// Called in every spawning call, with the new task's identity.
    pub fn on_task_spawn(mut self, hook: impl Fn(task::Id) + Send + Sync + 'static) -> Builder {
        self.config.hooks.on_task_spawn = Some(Arc::new(hook));
        self
    }

    /// Receives what no return value can tell: a panic of a detached task, a thread that could not
    /// be started. Default: a line on standard error.
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

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a number outside its range. With
    /// [`start_threads`](Builder::start_threads), the error of a thread that could not be started;
    /// those that were started have been joined.
    #[track_caller]
    pub fn build(self) -> io::Result<Runtime> {
        self.build_at(Location::caller())
    }

    pub(crate) fn build_at(mut self, site: &'static Location<'static>) -> io::Result<Runtime> {
        self.config.debug = self.debug.unwrap_or_else(|| {
            std::env::var_os("HEIST_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
        });
        self.config.check()?;
        let seam = Arc::new(Real::new(self.config.workers + self.config.spare_workers));
        Ok(Runtime::from_core(heist_core::Runtime::new(
            self.config,
            seam,
            site,
        )?))
    }
}
