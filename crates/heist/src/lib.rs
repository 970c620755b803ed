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
pub use heist_core::{
    Cancelled, DroppedTask, JoinError, JoinHandle, MainThread, Report, ShutdownReport,
    block_in_place, yield_now,
};
pub use heist_macros::{main, test};
pub use run::{RunError, run, try_run};
pub use runtime::Runtime;
pub use scope::{Scope, ScopedHandle, scope};
pub use task::{catch_cancel, shield};
pub use time::{interval, sleep, sleep_until, timeout, timeout_at};

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
