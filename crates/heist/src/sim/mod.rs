//! Running a program in a simulation, where time is virtual and a seed decides what happens.
//!
//! A runtime that is [deterministic](crate::Builder::deterministic) has any number of workers and one
//! thread. Which worker goes on next, who steals from whom, and which worker is held up for some
//! milliseconds are decided by a number, the *seed*. A step takes a few microseconds of virtual time, and when
//! nothing can run, time jumps to the next timer. So an hour of sleeping takes no time, and the same seed brings
//! about the same run, however the machine is loaded.
//!
//! * `#[heist::test(seed = 7)]`, `#[heist::test(virtual_time)]`, `#[heist::test(seeds = 100)]`: tests in
//!   a simulation.
//! * [`explore()`], [`Explore`]: one program under many seeds; a [`Failure`] says which, and how to replay it.
//! * [`duplex()`], [`Duplex`]: in-memory streams whose partial reads and writes, delays and resets the seed
//!   decides.
//! * [`random`]: what the program itself wants to leave to the seed. [`seed`] is which one it is.
//! * [`stall`]: a poll that lasts too long.
//! * [`Trace`]: what happened, to compare and to read; [`note`] adds a line to it.
//!
//! ```
//! use heist::time::{sleep, Duration, Instant};
//!
//! heist::sim::explore(20, async || {
//!     let begin = Instant::now();
//!     sleep(Duration::from_secs(3600)).await;
//!     assert!(begin.elapsed() >= Duration::from_secs(3600));
//! });
//! ```
//!
//! What is not of the runtime is not simulated: threads that the program starts itself, the clock of
//! `std`, sockets of the system. The order of a `HashMap` and the numbers of tasks differ from run to run, too.
//! Timers are made inside the run: one made before it has a deadline of the real clock.

#![forbid(unsafe_code)]

mod draw;
mod duplex;
mod explore;
mod pipe;

pub use duplex::{Duplex, DuplexStream, duplex};
pub use explore::{Cause, Explore, Explored, Failure, Outcome, explore};
pub(crate) use explore::{Replay, seed_of_the_environment, simulated};
pub use heist_core::sim::{Event, Trace, note};

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The seed of the simulation that the caller is inside of; `None` outside of one.
///
/// ```
/// let mut runtime = heist::Runtime::builder().deterministic(7).build()?;
/// assert_eq!(runtime.run(async { heist::sim::seed() }), Some(7));
/// assert_eq!(heist::run(async { heist::sim::seed() }), None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn seed() -> Option<u64> {
    heist_core::sim::seed()
}

/// Blocks the calling thread for so long, as code does that computes or waits without `.await`.
///
/// In a simulation it is the caller's worker that is blocked, for that much virtual time, and the other workers
/// go on meanwhile. So a test can see what a poll that lasts too long does to the rest of the program. Elsewhere
/// it is [`std::thread::sleep`].
///
/// Virtual time ends after 584 years and stands still there, however long the stall is: then no deadline comes any more,
/// nor the end of a grace.
///
/// ```
/// use heist::time::{Duration, Instant};
///
/// heist::sim::explore(20, async || {
///     let blocked = heist::spawn(async {
///         let begin = Instant::now();
///         let other = heist::spawn(async move { begin.elapsed() });
///         heist::sim::stall(Duration::from_secs(60));
///         other.await.unwrap()
///     });
///     // Another worker has taken it over.
///     assert!(blocked.await.unwrap() < Duration::from_secs(1));
/// });
/// ```
pub fn stall(length: Duration) {
    if !heist_core::sim::stall(length) {
        std::thread::sleep(length);
    }
}

/// A random number: of the seed in a simulation, of the system elsewhere.
///
/// A program that takes all its randomness from here (the jitter of a retry, a sample) can be replayed in
/// a simulation. It is not for secrets.
///
/// ```
/// let draw = || {
///     let mut runtime = heist::Runtime::builder().deterministic(7).build().unwrap();
///     runtime.run(async { (heist::sim::random(), heist::sim::random()) })
/// };
/// assert_eq!(draw(), draw());
/// assert_ne!(draw().0, draw().1);
/// ```
#[must_use]
pub fn random() -> u64 {
    // The keys of the standard library's hasher come from the operating system's randomness.
    heist_core::sim::random().unwrap_or_else(|| RandomState::new().hash_one(0))
}
