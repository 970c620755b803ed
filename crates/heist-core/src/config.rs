//! Every tuning number of the scheduler: its name, its reason, and the bench that guards it.

#![forbid(unsafe_code)]

use crate::hooks::Hooks;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many tasks in a row come from the LIFO slot before the queue gets its turn. Bounds how long
/// two tasks that wake each other keep a third from running. Bench: `ping_pong`.
pub const LIFO_STREAK: u32 = 3;

/// Every so many polls the injector goes before the local queue, so that work from outside is
/// reached however busy a worker is with its own. A power of two less one. Bench: `yield_now`.
pub const INJECTOR_INTERVAL: u32 = 31;

/// How many tasks a busy worker takes from the injector then, at most. Test: `fairness`.
pub(crate) const INJECTOR_BATCH: usize = 8;

/// Every so many polls a busy worker polls its shard. Bench: `echo`.
pub const DRIVER_INTERVAL: u32 = 61;

/// How many tasks the deque of a worker holds; more are in the queue's overflow. What a deque of
/// `crossbeam-deque` holds without ever growing: a larger buffer is an allocation of a kilobyte and
/// more, after which glibc's `malloc` joins all the small blocks that tasks were just freed from, and
/// takes them apart again. Bench: `spawn_join`.
#[cfg(not(heist_loom))]
pub const LOCAL_QUEUE: usize = 64;
/// So few that a model gets beyond it.
#[cfg(heist_loom)]
pub const LOCAL_QUEUE: usize = 4;

/// How long the oldest task waits in a busy worker's queue before a second worker is woken for it.
/// Waking a thread on another processor costs 5 to 40 µs, by machine; less waiting than that is not
/// worth a wake-up. Bench: `ping_pong` with two workers (50 µs: 282 ns, 200 µs: 353 ns, 1 ms: 402 ns).
pub const SPREAD_AFTER: Duration = Duration::from_micros(50);

/// The same where some of what waits is a batch of the driver's and polls are short: `spread.rs` says
/// why. Bench: `echo_50` with two workers, CPU per request (50 µs: 5.1 µs, 1 ms: 4.75 µs, 2 ms: 4.7 µs).
pub const GATHER_FOR: Duration = Duration::from_millis(1);

/// Most polls between two looks at how long the queue has not been empty: while polls are short.
pub(crate) const SPREAD_LOOKS: u32 = 8;

/// Operations on our own sockets, timers and join handles that one poll may complete before they
/// answer "pending" once. Bench: `echo`.
pub const BUDGET: u32 = 128;

/// The least stack of a thread, in bytes. In a debug build the monitor has overflowed 28 KiB, where it takes tasks
/// from a blocked worker's queue and frees what others have left there; the least of the system is 16 KiB on Linux.
/// Test: `input`.
pub(crate) const MIN_STACK: usize = 64 * 1024;

/// How often the monitor looks while any worker is awake. A worker found in the same poll twice is
/// blocked, so a block is noticed after 2 to 4 ms. Test: `blocked`.
pub(crate) const MONITOR_INTERVAL: Duration = Duration::from_millis(2);

/// After so many looks with every worker asleep the monitor sleeps too, without a timeout: 100 ms.
/// Test: `idle`.
pub(crate) const MONITOR_LOOKS: u32 = 50;

/// After so many looks with every worker asleep, and again after as many, the monitor looks for a
/// deadlock, if it is to: 10 ms.
pub(crate) const DEADLOCK_LOOKS: u32 = 5;

/// How long after the last look at the tasks it is noted down what they wait on: whoever looks now and
/// then, by hand or once a minute, finds the notes of all, and who has looked once pays no longer for it.
/// Test: `looks` in `shared.rs`.
pub(crate) const NOTES_FOR: Duration = Duration::from_secs(90);

/// How long threads may take to end after the end of a loop that has left others behind. Without
/// any left behind it waits for all of them.
pub(crate) const JOIN_GRACE: Duration = Duration::from_millis(200);

/// How often the end of the loop tells whom it waits for.
pub(crate) const REMINDER: Duration = Duration::from_secs(1);

/// How many tasks the end of the loop runs between two looks at the clock.
pub(crate) const STEPS_PER_LOOK: u32 = 64;

/// How long polls and destructors may take at the least, once the last task was in cleanup, when
/// the end of the loop has a limit as a whole: what was dropped at the last moment ends in order.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

/// How long an idle spare worker sleeps before it looks whether it is still needed. It exists only
/// while a worker is blocked, so this does not disturb an idle runtime. Test: `blocked`.
pub(crate) const SPARE_NAP: Duration = Duration::from_millis(10);

/// First and longest pause between attempts to start a thread that could not be started.
pub(crate) const START_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(1));

/// Most slots of a runtime, workers and spares together: each half of the idle word must
/// hold the number.
pub(crate) const MAX_SLOTS: usize = 1 << 12;

/// Where `main` and pinned tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MainThread {
    /// The calling thread is worker 0 as well: it runs `main`, local tasks and Send tasks.
    #[default]
    Worker,
    /// The calling thread runs `main` and local tasks alone; Send tasks run on other threads.
    Dedicated,
}

/// What a runtime is made with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// Workers, at least 1.
    pub workers: usize,
    /// Slots that are used only while another worker is blocked.
    pub spare_workers: usize,
    /// Where `main` runs.
    pub main_thread: MainThread,
    /// Start all threads at once, and fail if one cannot be had.
    pub start_threads: bool,
    /// The names of threads.
    pub thread_name: String,
    /// The stacks of threads, in bytes, at least `MIN_STACK`; `None` is the standard library's default.
    pub thread_stack_size: Option<usize>,
    /// The bound of the blocking pool.
    pub blocking_threads: usize,
    /// How long a thread of the pool waits for work before it ends.
    pub blocking_keep_alive: Duration,
    /// How long the end of the loop lets tasks go on that catch their cancellation.
    pub cancel_grace: Duration,
    /// How long the end of the loop waits for a poll; `None` is for ever.
    pub poll_grace: Option<Duration>,
    /// How long the end of the loop waits for running blocking closures.
    pub blocking_grace: Duration,
    /// From which length on a poll is reported as a stall.
    pub stall_threshold: Duration,
    /// Report stalls.
    pub debug: bool,
    /// End `main` when it is proven that it can never go on.
    pub detect_deadlock: bool,
    /// User callbacks.
    pub hooks: Hooks,
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a number that is out of its range.
    pub fn check(&self) -> io::Result<()> {
        let invalid = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if self.workers == 0 {
            return invalid("heist: a runtime needs at least one worker");
        }
        if self.blocking_threads == 0 {
            return invalid("heist: the blocking pool needs at least one thread");
        }
        if self.workers.saturating_add(self.spare_workers) > MAX_SLOTS {
            return invalid("heist: workers and spare workers together are limited to 4096");
        }
        Ok(())
    }
}

/// How many processors the process may use. Asked once: on Linux the answer costs a dozen system
/// calls, which is more than the rest of making a runtime.
fn processors() -> usize {
    /// 0: not asked yet. No lock of the process's: see `fork.rs`.
    static PROCESSORS: AtomicUsize = AtomicUsize::new(0);
    // Ordering: Relaxed, both. The number is all there is; two threads that ask at once get the same one.
    match PROCESSORS.load(Ordering::Relaxed) {
        0 => {
            let found = std::thread::available_parallelism().map_or(1, |n| n.get());
            let found = found.min(MAX_SLOTS / 2);
            PROCESSORS.store(found, Ordering::Relaxed);
            found
        }
        found => found,
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: processors(),
            spare_workers: 4,
            main_thread: MainThread::Worker,
            start_threads: false,
            thread_name: "heist".into(),
            thread_stack_size: None,
            blocking_threads: 512,
            blocking_keep_alive: Duration::from_secs(10),
            cancel_grace: Duration::from_secs(5),
            poll_grace: None,
            blocking_grace: Duration::from_secs(10),
            stall_threshold: Duration::from_millis(100),
            debug: false,
            detect_deadlock: false,
            hooks: Hooks::default(),
        }
    }
}
