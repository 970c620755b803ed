//! `run` and `try_run`: the loop's whole life in one call, and the guard against nested calls.

#![forbid(unsafe_code)]

use crate::interrupt::give_up;
use crate::{Deadlock, Runtime};
use heist_core::{Outcome, Role};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `main` to its end on a runtime of its own, and ends that runtime.
///
/// The calling thread is worker 0: `main` runs on it, so it need not be `Send` nor `'static`. When
/// `run` returns, every task has ended, every future has been dropped, every thread has been joined
/// and every file descriptor of the runtime is closed.
///
/// A program calls `run` once, from `fn main`. Inside it, futures are awaited; `run` is not called
/// again.
///
/// `main` is anything that can be awaited. It is turned into its future, polled and dropped inside
/// the runtime, so its `into_future` may already spawn tasks and make sockets.
///
/// ```
/// let answer = heist::run(async {
///     let task = heist::spawn(async { 40 });
///     task.await.unwrap() + 2
/// });
/// assert_eq!(answer, 42);
/// ```
///
/// # Panics
///
/// With the message of [`RunError`] where [`try_run`] would answer it. If `main` panics, in its
/// `into_future`, a poll or its destructor, the runtime is ended first and then the panic goes on.
#[track_caller]
pub fn run<M: IntoFuture>(main: M) -> M::Output {
    match try_run(main) {
        Ok(output) => output,
        Err(error) => give_up(&error),
    }
}

/// Like [`run`], with an error instead of a panic where the loop cannot be entered.
///
/// ```
/// heist::run(async {
///     let nested = heist::try_run(async { 1 });
///     assert!(matches!(nested, Err(heist::RunError::Nested { .. })));
/// });
/// ```
///
/// # Errors
///
/// - [`RunError::Nested`] inside a running runtime. A closure of
///   [`spawn_blocking`](crate::spawn_blocking) is not inside in this sense: it may run a loop of its
///   own.
/// - [`RunError::Start`] if the runtime could not be made. The default configuration starts no
///   thread beforehand and opens no descriptor, so it gives no cause for this today.
/// - [`RunError::Forked`] in the child of a `fork` that was called inside a running runtime, as long
///   as the thread is inside of the copy. From the outer call it comes out when `main` is not ready
///   at its next suspension point in the child. The parent is not affected.
/// - [`RunError::Cancelled`] if `main` was cancelled: see
///   [`AbortHandle::current`](crate::task::AbortHandle::current).
/// - [`RunError::Deadlock`] in debug mode, if `main` can never go on: see [`Deadlock`].
///
/// In the first two cases, and inside a copy, `main` is dropped in the call, as it was given: neither turned into its
/// future nor polled.
///
/// A thread that cannot be started later on is no error. The calling thread is a worker itself, so
/// `main` and its tasks go on there.
///
/// # Panics
///
/// A panic of `main` goes on after the runtime has ended.
#[track_caller]
pub fn try_run<M: IntoFuture>(main: M) -> Result<M::Output, RunError> {
    let site = Location::caller();
    check_nested("run")?;
    let runtime = Runtime::builder().build_at(site).map_err(RunError::Start)?;
    // The wrapper makes the future inside the runtime, and not here.
    runtime.run_and_close(site, Entering::new(main))
}

/// Why a loop was not run.
///
/// As text it says what to do instead.
///
/// ```
/// use heist::RunError;
///
/// heist::run(async {
///     match heist::try_run(async {}) {
///         Err(error @ RunError::Nested { call, .. }) => {
///             assert_eq!(call, "run");
///             assert!(error.to_string().contains(".await"));
///         }
///         other => panic!("{other:?}"),
///     }
/// });
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The thread is inside a running runtime already.
    Nested {
        /// What was called: `"run"`, `"block_on"`, …
        call: &'static str,
        /// Where the outer runtime was entered.
        entered_at: &'static Location<'static>,
    },
    /// The runtime has ended, or is ending.
    Closed,
    /// The runtime could not be made, or has no thread and could start none.
    Start(io::Error),
    /// The runtime belongs to the parent of this process, which `fork` has copied. In the child, a
    /// new thread, or this one once it has left the copied call, can run a loop of its own.
    Forked,
    /// `main` was asked to end by Ctrl-C, and was dropped before it was ready: see
    /// [`Builder::cancel_on_ctrl_c`](crate::Builder::cancel_on_ctrl_c).
    Interrupted,
    /// It was proven that `main` can never go on: in [debug mode](crate::Builder::debug), in
    /// `#[heist::test]`, and in a [`deterministic`](crate::Builder::deterministic) runtime alone. The
    /// text says what `main` and every task wait on.
    Deadlock(Deadlock),
    /// `main` was asked to end, by an [`AbortHandle`](crate::task::AbortHandle) to it, and was
    /// dropped before it was ready.
    Cancelled,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Nested { call, entered_at } => write!(
                f,
                "heist: `{call}` was called from inside a running runtime (entered at \
                 {entered_at}). A runtime is never entered twice: write `.await` after the future \
                 instead, or call it from a `spawn_blocking` closure"
            ),
            RunError::Closed => f.write_str("heist: the runtime is closed"),
            RunError::Start(error) => write!(f, "heist: the runtime could not be started: {error}"),
            RunError::Forked => f.write_str(
                "heist: the runtime belongs to the parent of this forked process; run one of your \
                 own, outside of the call that was copied",
            ),
            RunError::Interrupted => f.write_str("heist: the main future was ended by Ctrl-C"),
            RunError::Deadlock(deadlock) => write!(f, "heist: {deadlock}"),
            RunError::Cancelled => f.write_str("heist: the main future was cancelled"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Start(error) => Some(error),
            _ => None,
        }
    }
}

pin_project! {
    /// `main`, turned into a future when it is first polled: inside the runtime.
    ///
    /// Not an `async` block around it: when the destructor of the awaited future panics, the block
    /// would leak the output it has in its hand.
    #[project = EnteringProjection]
    pub(crate) enum Entering<M: IntoFuture> {
        Outside { main: Option<M> },
        Inside { #[pin] future: M::IntoFuture },
    }
}

impl<M: IntoFuture> Entering<M> {
    pub(crate) fn new(main: M) -> Entering<M> {
        Entering::Outside { main: Some(main) }
    }
}

impl<M: IntoFuture> Future for Entering<M> {
    type Output = M::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<M::Output> {
        if let EnteringProjection::Outside { main } = self.as_mut().project() {
            // Empty only if `into_future` has panicked, after which nobody polls again.
            let main = main.take().expect("polled after a panic");
            let future = main.into_future();
            self.set(Entering::Inside { future });
        }
        match self.project() {
            EnteringProjection::Inside { future } => future.poll(cx),
            EnteringProjection::Outside { .. } => unreachable!("it was set a line ago"),
        }
    }
}

/// Refuses to enter a runtime where one is running, or was when this process was forked. A blocking
/// closure may: its thread runs no tasks, so nothing waits for it.
pub(crate) fn check_nested(call: &'static str) -> Result<(), RunError> {
    crate::fork::notice();
    match heist_core::entered() {
        Some(outer) if outer.role != Role::Blocking && outer.is_forked => Err(RunError::Forked),
        Some(outer) if outer.role != Role::Blocking => Err(RunError::Nested {
            call,
            entered_at: outer.site,
        }),
        _ => Ok(()),
    }
}

/// Lets a panic of `main` go on.
pub(crate) fn finished<T>(outcome: Outcome<T>) -> Result<T, RunError> {
    match outcome {
        Outcome::Output(output) => Ok(output),
        Outcome::Panicked(payload) => resume_unwind(payload),
        Outcome::Cancelled => Err(RunError::Cancelled),
        Outcome::Deadlock(core) => Err(RunError::Deadlock(Deadlock::from_core(core))),
        Outcome::Forked => Err(RunError::Forked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Handle;
    use std::future::{Ready, ready};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Something to await that counts what is done with it.
    #[derive(Clone, Default)]
    struct Counts {
        made: Arc<AtomicUsize>,
        dropped: Arc<AtomicUsize>,
    }

    impl Counts {
        #[track_caller]
        fn assert(&self, made: usize, dropped: usize) {
            let found = [&self.made, &self.dropped].map(|count| count.load(Ordering::SeqCst));
            assert_eq!(found, [made, dropped], "made, dropped as it was given");
        }
    }

    struct Main {
        counts: Counts,
        is_made: bool,
    }

    impl Main {
        fn new(counts: &Counts) -> Main {
            Main {
                counts: counts.clone(),
                is_made: false,
            }
        }
    }

    impl IntoFuture for Main {
        type Output = bool;
        type IntoFuture = Ready<bool>;

        fn into_future(mut self) -> Ready<bool> {
            self.is_made = true;
            self.counts.made.fetch_add(1, Ordering::SeqCst);
            ready(Handle::try_current().is_some())
        }
    }

    impl Drop for Main {
        fn drop(&mut self) {
            if !self.is_made {
                self.counts.dropped.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// What is given to a call that enters a runtime may need that runtime to become a future. So it
    /// becomes one inside, once, by each of the three ways in.
    #[test]
    fn main_becomes_a_future_inside_the_runtime() {
        let counts = Counts::default();
        assert!(run(Main::new(&counts)));
        counts.assert(1, 0);
        let mut runtime = Runtime::new().unwrap();
        assert!(runtime.run(Main::new(&counts)));
        counts.assert(2, 0);
        assert!(runtime.handle().block_on(Main::new(&counts)));
        counts.assert(3, 0);
    }

    /// A call that is refused, inside another runtime or because its own is closed, does nothing
    /// with what it was given but drop it, before it returns.
    #[test]
    fn a_refused_main_is_dropped_as_it_was_given() {
        let counts = Counts::default();
        let mut runtime = Runtime::new().unwrap();
        run(async {
            let nested = |refused: Result<bool, RunError>| {
                assert!(matches!(refused, Err(RunError::Nested { .. })));
            };
            nested(try_run(Main::new(&counts)));
            counts.assert(0, 1);
            nested(runtime.try_run(Main::new(&counts)));
            counts.assert(0, 2);
            nested(runtime.handle().try_block_on(Main::new(&counts)));
            counts.assert(0, 3);
        });
        runtime.close();
        let closed = |refused: Result<bool, RunError>| {
            assert!(matches!(refused, Err(RunError::Closed)));
        };
        closed(runtime.try_run(Main::new(&counts)));
        counts.assert(0, 4);
        closed(runtime.handle().try_block_on(Main::new(&counts)));
        counts.assert(0, 5);
    }

    /// A panic on the way to the future is one of `main`: it comes out after the end, and a runtime
    /// that outlives it can be run again.
    #[test]
    fn a_panic_in_into_future_is_a_panic_of_main() {
        struct Bomb;
        impl IntoFuture for Bomb {
            type Output = ();
            type IntoFuture = Ready<()>;
            fn into_future(self) -> Ready<()> {
                panic!("on purpose")
            }
        }
        let text = |payload: Box<dyn std::any::Any + Send>| *payload.downcast::<&str>().unwrap();
        let caught = std::panic::catch_unwind(|| run(Bomb));
        assert_eq!(text(caught.unwrap_err()), "on purpose");
        assert!(heist_core::entered().is_none());
        let mut runtime = Runtime::new().unwrap();
        let again = std::panic::AssertUnwindSafe(|| runtime.run(Bomb));
        assert_eq!(
            text(std::panic::catch_unwind(again).unwrap_err()),
            "on purpose"
        );
        assert_eq!(runtime.run(async { 1 }), 1);
    }
}
