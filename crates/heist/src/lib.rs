//! A multi-threaded work-stealing async executor.
//!
//! One call, [`run()`], makes the loop, runs the main future to its end, cancels and finishes what is
//! left, and gives the thread back as it found it. Nothing of a runtime outlives it: no task, no
//! thread, no file descriptor.
//!
//! heist is an executor with sockets and timers. It has no channels, no async locks and no file
//! system: `async-channel`, `async-lock` and `futures` run on any executor, and blocking calls go to
//! [`spawn_blocking`].
//!
//! # A program
//!
//! ```
//! use futures::io::{AsyncReadExt, AsyncWriteExt};
//! use heist::net::{TcpListener, TcpStream};
//!
//! fn main() -> std::io::Result<()> {
//!     heist::run(async {
//!         let listener = TcpListener::bind("127.0.0.1:0").await?;
//!         let address = listener.local_addr()?;
//!         let server = heist::spawn(async move {
//!             let (mut stream, _) = listener.accept().await?;
//!             let mut line = [0; 5];
//!             stream.read_exact(&mut line).await?;
//!             AsyncWriteExt::write_all(&mut stream, &line).await
//!         });
//!
//!         let mut client = TcpStream::connect(address).await?;
//!         AsyncWriteExt::write_all(&mut client, b"hello").await?;
//!         let mut answer = String::new();
//!         client.read_to_string(&mut answer).await?;
//!         assert_eq!(answer, "hello");
//!         server.await?
//!     })
//! }
//! ```
//!
//! # The main types, in the order you meet them
//!
//! * [`run()`], [`try_run`]: the loop's whole life in one call. `#[heist::main]` and `#[heist::test]`
//!   write it for you.
//! * [`spawn`], [`JoinHandle`], [`JoinError`]: tasks. [`spawn_local`] for those that are not `Send`,
//!   [`spawn_fallible`] for those whose errors must not go unseen, [`spawn_blocking`] and [`block_in_place`] for code that blocks.
//! * [`catch_cancel`], [`Cancelled`], [`shield`]: what a cancelled task may still do.
//! * [`ContextVar`]: values that tasks inherit from their spawners.
//! * [`TaskGroup`], [`GroupError`]: tasks that end together, and what failed in them.
//! * [`scope()`]: tasks that borrow from the caller's stack.
//! * [`net`], [`time`], [`io`], [`signal`]: what tasks wait for.
//! * [`Runtime`], [`Builder`], [`Handle`]: a loop that outlives one call, its options, and a
//!   reference to it from anywhere.
//! * [`inspect`]: what a runtime is doing, from outside.
//! * [`sim`]: a program in a simulation, where a seed decides and time is virtual.
//!
//! # Features
//!
//! * `hyper`: [hyper](https://docs.rs/hyper)'s runtime traits and `serve`, in `heist::hyper`.
//! * `futures-task`: the `Spawn` and `LocalSpawn` traits of
//!   [`futures_task`](https://docs.rs/futures-task).
//!
//! Neither is on by default.
//!
//! # Environment
//!
//! * `HEIST_DEBUG=1` turns [debug mode](Builder::debug) on in programs that do not say otherwise.
//! * `HEIST_SEED=41` has tests in a [simulation](sim) run that seed alone.

mod builder;
mod compat;
mod context;
mod context_var;
mod deadlock;
mod fork;
pub mod group;
mod handle;
pub mod inspect;
mod interrupt;
pub mod io;
pub mod net;
mod run;
mod runtime;
mod scope;
mod seam;
pub mod signal;
pub mod sim;
pub mod task;
pub mod time;

pub use builder::Builder;
#[cfg(feature = "futures-task")]
pub use compat::LocalHandle;
#[cfg(feature = "hyper")]
pub use compat::hyper;
pub use context_var::ContextVar;
pub use deadlock::Deadlock;
pub use group::{GroupError, TaskGroup};
pub use handle::{Handle, SpawnError, spawn, spawn_blocking, spawn_fallible, spawn_local};
pub use heist_core::{DroppedTask, MainThread};
pub use heist_macros::{main, test};
pub use run::{RunError, run, try_run};
pub use runtime::Runtime;
pub use scope::{Scope, ScopedHandle, scope};
pub use task::{catch_cancel, shield};
pub use time::{interval, sleep, sleep_until, timeout, timeout_at};

// The core has no runtime to show its types in, so their examples are here.

/// The handle of a task, as [`spawn`] gives it.
///
/// ```
/// heist::run(async {
///     let task = heist::task::Builder::new().name("sum").spawn(async { 1 + 2 });
///     assert_eq!(task.name(), Some("sum"));
///     while !task.is_finished() {
///         heist::yield_now().await;
///     }
///     assert_eq!(task.await.unwrap(), 3);
///
///     // Asks for its end; awaiting it then waits for that.
///     let task = heist::spawn(std::future::pending::<()>());
///     let id = task.id();
///     task.abort_with("not needed");
///     let error = task.await.unwrap_err();
///     assert_eq!((error.id(), error.reason()), (id, "not needed"));
///
///     // The same in one.
///     let task = heist::spawn(std::future::pending::<()>());
///     assert!(task.cancel().await.unwrap_err().is_cancelled());
/// });
/// ```
pub use heist_core::JoinHandle;

/// What a [`JoinHandle`] answers if there is no output.
///
/// ```
/// heist::run(async {
///     let error = heist::spawn(async { panic!("boom") }).await.unwrap_err();
///     assert!(error.is_panic() && !error.is_cancelled() && !error.is_closed());
///     assert_eq!(error.reason(), "boom");
///     assert_eq!(error.spawned_at().file(), file!());
///     assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"boom"));
///
///     let task = heist::spawn(std::future::pending::<()>());
///     let error = task.cancel().await.unwrap_err();
///     assert!(error.is_cancelled() && !error.is_abandoned());
///     assert!(error.try_into_panic().is_err());
/// });
/// ```
pub use heist_core::JoinError;

/// What [`catch_cancel`] answers if it was asked to end.
///
/// ```
/// use futures::channel::oneshot;
///
/// heist::run(async {
///     let (began, begun) = oneshot::channel();
///     let task = heist::spawn(async {
///         let work = async {
///             began.send(()).unwrap();
///             std::future::pending::<()>().await
///         };
///         let cancelled = heist::catch_cancel(work).await.unwrap_err();
///         assert_eq!(cancelled.reason(), Some("enough"));
///         assert_eq!(cancelled.by().file(), file!());
///         // Here it would clean up.
///         cancelled.resume().await
///     });
///     begun.await.unwrap();
///     assert!(task.cancel_with("enough").await.unwrap_err().is_cancelled());
/// });
/// ```
pub use heist_core::Cancelled;

/// What [`Builder::on_error`] is told.
///
/// ```
/// use heist::Report;
///
/// let mut runtime = heist::Runtime::builder()
///     .on_error(|report| match report {
///         Report::Panicked(error) => eprintln!("{:?} is gone: {}", error.name(), error.reason()),
///         // As text, each of them says everything.
///         other => eprintln!("{other}"),
///     })
///     .build()?;
/// runtime.run(async { drop(heist::spawn(async { panic!("nobody waits") })) });
/// # Ok::<(), std::io::Error>(())
/// ```
pub use heist_core::Report;

/// What [`Runtime::close`] answers.
///
/// ```
/// let mut runtime = heist::Runtime::new()?;
/// runtime.run(async { drop(heist::spawn(std::future::pending::<()>())) });
/// let report = runtime.close();
/// assert_eq!((report.cancelled, report.threads_left), (1, 0));
/// assert!(!report.is_clean());
/// println!("{report}");
/// # Ok::<(), std::io::Error>(())
/// ```
pub use heist_core::ShutdownReport;

/// For code that blocks in the middle of a task and needs what the task has borrowed. What can be moved
/// goes to [`spawn_blocking`].
///
/// ```
/// heist::run(async {
///     let text = String::from("borrowed");
///     let length = heist::block_in_place(|| text.len());
///     assert_eq!(length, 8);
/// });
/// ```
pub use heist_core::block_in_place;

/// Lets others run first, in the middle of what takes long.
///
/// ```
/// heist::run(async {
///     for _ in 0..3 {
///         // A piece of a long computation goes here.
///         heist::yield_now().await;
///     }
/// });
/// ```
pub use heist_core::yield_now;

#[doc(hidden)]
pub mod __private {
    //! What the macros call.

    use crate::sim::{self, Outcome};
    use crate::{Builder, Handle, Runtime};
    use std::future::Future;

    /// Runs a test on a runtime of its own, and fails it if it leaves tasks behind.
    #[track_caller]
    pub fn run_test<F: Future>(configure: impl FnOnce(Builder) -> Builder, body: F) -> F::Output {
        let runtime = configure(Runtime::builder()).detecting_deadlock().build();
        run_on(
            runtime.expect("heist: the runtime of a test could not be built"),
            body,
        )
    }

    /// Runs a test in a simulation with this seed, or with the one of the environment.
    #[track_caller]
    pub fn simulate_test<F: Future>(
        configure: impl FnOnce(Builder) -> Builder,
        seed: u64,
        body: F,
    ) -> F::Output {
        let seed = sim::seed_of_the_environment().unwrap_or(seed);
        // Shown if the test fails, in whichever way.
        println!(
            "heist: this test runs with the seed {seed}; {}",
            sim::Replay(seed)
        );
        run_on(sim::simulated(configure(Runtime::builder()), seed), body)
    }

    /// Runs a test in a simulation with many seeds.
    #[track_caller]
    pub fn explore_test<T: Outcome>(
        configure: impl Fn(Builder) -> Builder + 'static,
        seeds: u64,
        body: impl AsyncFn() -> T,
    ) {
        sim::Explore::new()
            .seeds(seeds)
            .configure(configure)
            .run(body);
    }

    #[track_caller]
    fn run_on<F: Future>(mut runtime: Runtime, body: F) -> F::Output {
        let (output, left) = runtime.run(async {
            let output = body.await;
            (output, Handle::current().live_tasks())
        });
        let report = runtime.close();
        assert!(
            left == 0 || report.is_clean(),
            "heist: the test left {left} tasks behind; await or abort them\n{report}"
        );
        output
    }
}
