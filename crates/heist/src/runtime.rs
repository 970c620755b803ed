//! A loop that outlives one call.

#![forbid(unsafe_code)]

use crate::interrupt::{Interrupt, give_up, is_deadly};
use crate::run::{Entering, check_nested};
use crate::{Builder, Handle, RunError, ShutdownReport};
use heist_core::sim::Trace;
use std::future::{Future, IntoFuture};
use std::io;
use std::panic::Location;
use std::time::Duration;

/// A loop that can be run several times: for tests and for services with phases.
///
/// It is lazy: a runtime that was only made has no thread and no file descriptor. Send tasks that
/// one `run` leaves go on, on threads of the runtime, until they end or the runtime is closed.
///
/// ```
/// let mut runtime = heist::Runtime::new()?;
/// let task = runtime.run(async { heist::spawn(async { 6 * 7 }) });
/// let answer = runtime.run(task).unwrap();
/// assert_eq!(answer, 42);
/// let report = runtime.close();
/// assert!(report.is_clean());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Dropping
///
/// Dropping a runtime closes it, anywhere, and never panics. In async code, where waiting would
/// block a worker, one of its own threads ends the loop instead, and the drop returns at once. If
/// it has no thread and can start none, it is ended in the drop: nothing can be running in it. The
/// runtime around it waits at its own end until that of the inner one is over, for its
/// `blocking_grace` at most.
///
/// ```
/// heist::run(async {
///     let inner = heist::Runtime::new().unwrap();
///     let task = inner.handle().spawn(std::future::pending::<()>());
///     drop(inner);
///     assert!(task.await.unwrap_err().is_cancelled());
/// });
/// ```
///
/// # Threads
///
/// A runtime may be sent to another thread and run there.
///
/// ```
/// let mut runtime = heist::Runtime::new()?;
/// let thread = std::thread::spawn(move || runtime.run(async { 3 }));
/// assert_eq!(thread.join().unwrap(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    core: heist_core::Runtime,
    cancel_on_ctrl_c: bool,
}

const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Runtime>();
};

impl Runtime {
    /// A runtime with the default configuration.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.run(async { 1 + 1 }), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None with the default configuration; see [`Builder::build`].
    #[track_caller]
    pub fn new() -> io::Result<Runtime> {
        Runtime::builder().build()
    }

    /// Starts to configure a runtime.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().workers(2).build()?;
    /// assert_eq!(runtime.run(async { 2 }), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn from_core(core: heist_core::Runtime, cancel_on_ctrl_c: bool) -> Runtime {
        Runtime {
            core,
            cancel_on_ctrl_c,
        }
    }

    /// Runs `main` to its end on this thread.
    ///
    /// When `main` ends, the local tasks it left are dropped; Send tasks go on.
    ///
    /// As with [`run`](crate::run()), `main` is turned into its future inside the runtime, and the
    /// calling thread is a worker while it runs.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.run(async { "once" }), "once");
    /// assert_eq!(runtime.run(async { "again" }), "again");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With the message of [`RunError`] where [`Runtime::try_run`] would answer it. A panic of
    /// `main` goes on after its run has ended; the runtime can be run again.
    ///
    /// # Ctrl-C
    ///
    /// Where `try_run` would answer [`RunError::Interrupted`], `run` ends the runtime as
    /// [`close`](Runtime::close) does, and then the process, by `SIGINT`: see
    /// [`Builder::cancel_on_ctrl_c`].
    #[track_caller]
    pub fn run<M: IntoFuture>(&mut self, main: M) -> M::Output {
        match self.try_run(main) {
            Ok(output) => output,
            Err(error) => {
                if is_deadly(&error) {
                    // What follows ends the process, and no destructor would end the loop.
                    self.close();
                }
                give_up(&error)
            }
        }
    }

    /// Like [`Runtime::run`], with an error instead of a panic.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// runtime.close();
    /// assert!(matches!(runtime.try_run(async {}), Err(heist::RunError::Closed)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::Nested`] inside a running runtime, [`RunError::Closed`] after
    /// [`Runtime::close`], [`RunError::Forked`] in a child of the process that made it. `main` is dropped
    /// in the call, neither turned into its future nor polled.
    ///
    /// [`RunError::Interrupted`] if Ctrl-C ended `main`: see [`Builder::cancel_on_ctrl_c`].
    /// [`RunError::Cancelled`] if something else did: see
    /// [`AbortHandle::current`](crate::task::AbortHandle::current). In both cases Send tasks go on, and the
    /// runtime can be run again. [`RunError::Deadlock`] in debug mode and in a
    /// [`deterministic`](Builder::deterministic) runtime, if `main` can never go on: see
    /// [`Deadlock`](crate::Deadlock).
    ///
    /// A thread that cannot be started is no error: the calling thread works itself, with
    /// [`MainThread::Dedicated`](crate::MainThread::Dedicated) too if there is no other.
    ///
    /// # Panics
    ///
    /// A panic of `main` goes on after its run has ended.
    #[track_caller]
    pub fn try_run<M: IntoFuture>(&mut self, main: M) -> Result<M::Output, RunError> {
        let site = Location::caller();
        check_nested("Runtime::run")?;
        if self.core.is_forked() {
            return Err(RunError::Forked);
        }
        if self.core.is_closed() {
            return Err(RunError::Closed);
        }
        // The wrapper makes the future inside the runtime, and not here.
        let interrupt = Interrupt::new(self.cancel_on_ctrl_c, site);
        let main = interrupt.around(Entering::new(main));
        let outcome = self.core.run(site, main);
        interrupt.finished(outcome)
    }

    /// Runs `main`, then ends the loop on this thread, whatever `main` does.
    pub(crate) fn run_and_close<M: Future>(
        self,
        site: &'static Location<'static>,
        main: M,
    ) -> Result<M::Output, RunError> {
        let interrupt = Interrupt::new(self.cancel_on_ctrl_c, site);
        let (outcome, _report) = self.core.run_and_close(site, interrupt.around(main));
        interrupt.finished(outcome)
    }

    /// A handle for other threads.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// let handle = runtime.handle();
    /// let task = handle.spawn(async { 5 });
    /// assert_eq!(runtime.run(task).unwrap(), 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::from_core(self.core.handle())
    }

    /// What has happened so far in a [`deterministic`](Builder::deterministic) runtime: with the same seed
    /// the same program has an equal one. It is empty for all others.
    ///
    /// It is a hash over all that was done in the order it was done, and the last 256 events in words.
    ///
    /// ```
    /// let trace = |seed| {
    ///     let mut runtime = heist::Runtime::builder().deterministic(seed).build().unwrap();
    ///     runtime.run(async { heist::spawn(async {}).await.unwrap() });
    ///     runtime.close();
    ///     runtime.trace()
    /// };
    /// assert_eq!(trace(1), trace(1));
    /// assert_ne!(trace(1).hash(), trace(2).hash());
    /// println!("{}", trace(1));
    /// ```
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.core.trace()
    }

    /// Ends the loop: refuses spawns, cancels every task and waits until its future is dropped,
    /// waits for blocking closures, joins every thread, closes every file descriptor.
    ///
    /// Once there is a report, calling it again gives the same one.
    ///
    /// In a child of the process that made the runtime it does nothing, and the report is empty: the
    /// parent's loop goes on. The same is true of the drop.
    ///
    /// In async code it must not wait. There it returns at once with an empty report, and one of
    /// the runtime's own threads ends the loop; if the runtime has no thread and can start none, it
    /// is ended in the call. A later call from where waiting is allowed waits for that end and gives
    /// its report.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// runtime.run(async { drop(heist::spawn(std::future::pending::<()>())) });
    /// assert_eq!(runtime.close().cancelled, 1);
    /// assert_eq!(runtime.close().cancelled, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn close(&mut self) -> ShutdownReport {
        self.core.close(Location::caller())
    }

    /// Like [`Runtime::close`], and takes about this long at most. Any length; zero gives nobody time to
    /// clean up.
    ///
    /// None of the graces is longer than what is left of `limit`: tasks that clean up then are
    /// dropped, and what cannot be dropped, a poll that does not come back or a running blocking
    /// closure, is abandoned by name. What is dropped at the last moment gets 50 ms more for its
    /// destructors.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut runtime = heist::Runtime::new()?;
    /// runtime.run(async {
    ///     let (began, begun) = futures::channel::oneshot::channel();
    ///     drop(heist::spawn(async {
    ///         let work = async {
    ///             began.send(()).unwrap();
    ///             std::future::pending::<()>().await
    ///         };
    ///         let _ = heist::catch_cancel(work).await;
    ///         // A cleanup that takes too long.
    ///         std::future::pending::<()>().await
    ///     }));
    ///     begun.await.unwrap();
    /// });
    /// let report = runtime.close_within(Duration::from_millis(20));
    /// assert_eq!(report.dropped_after_grace.len(), 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn close_within(&mut self, limit: Duration) -> ShutdownReport {
        self.core.close_within(Location::caller(), limit)
    }
}
