//! One program under many seeds.

#![forbid(unsafe_code)]

use super::Trace;
use crate::run::check_nested;
use crate::{Builder, Handle, RunError, Runtime, ShutdownReport};
use std::any::Any;
use std::fmt;
use std::ops::AsyncFn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The environment variable with the one seed to run.
const VARIABLE: &str = "HEIST_SEED";

/// Workers of a simulation that does not say how many.
///
/// Two, as in `#[heist::test]`: a program should meet a second worker.
const WORKERS: usize = 2;

/// Seeds that are tried unless [`Explore::seeds`] says otherwise.
const SEEDS: u64 = 100;

/// Runs `program` once under each of `seeds` seeds, from 0 on, in a [simulation](crate::sim) of two
/// workers.
///
/// A seed fails if the program panics, answers an `Err`, can never go on, or leaves tasks behind. The
/// first one that does ends the exploration, with a panic that names it. A panic of a task stays in it, and
/// is a failure only if the program makes one of it: await the handle. [`Explore`] has options.
///
/// With the environment variable `HEIST_SEED` set to a number, that seed alone is run.
///
/// ```
/// use futures::channel::oneshot;
///
/// heist::sim::explore(100, async || {
///     let (tell, told) = oneshot::channel();
///     let task = heist::spawn(async move { tell.send(1) });
///     assert_eq!(told.await, Ok(1));
///     assert_eq!(task.await.unwrap(), Ok(()));
/// });
/// ```
///
/// # Panics
///
/// If a seed fails, if `seeds` is zero, if `HEIST_SEED` is no number, and inside of a running runtime.
#[track_caller]
pub fn explore<T: Outcome>(seeds: u64, program: impl AsyncFn() -> T) {
    Explore::new().seeds(seeds).run(program);
}

/// Explores the ways in which a program may go: see [`explore`].
///
/// ```
/// use heist::sim::Explore;
/// use std::time::Duration;
///
/// let explored = Explore::new()
///     .first_seed(1000)
///     .seeds(50)
///     .workers(3)
///     .time_limit(Duration::from_secs(10))
///     .run(async || {
///         let tasks = [1, 2, 3].map(|n| heist::spawn(async move { n }));
///         let mut sum = 0;
///         for task in tasks {
///             sum += task.await.unwrap();
///         }
///         assert_eq!(sum, 6);
///     });
/// assert!(explored.seeds >= 1);
/// ```
#[must_use = "an exploration does nothing until `run`"]
pub struct Explore {
    seeds: u64,
    first_seed: u64,
    workers: usize,
    time_limit: Option<Duration>,
    run_twice_one_in: u64,
    configure: Box<dyn Fn(Builder) -> Builder>,
}

impl Default for Explore {
    fn default() -> Explore {
        Explore::new()
    }
}

impl fmt::Debug for Explore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explore")
            .field("seeds", &self.seeds)
            .field("first_seed", &self.first_seed)
            .field("workers", &self.workers)
            .field("time_limit", &self.time_limit)
            .field("run_twice_one_in", &self.run_twice_one_in)
            .finish_non_exhaustive()
    }
}

impl Explore {
    /// The default options.
    ///
    /// ```
    /// let explored = heist::sim::Explore::new().run(async || {});
    /// # let _ = explored;
    /// ```
    pub fn new() -> Explore {
        Explore {
            seeds: SEEDS,
            first_seed: 0,
            workers: WORKERS,
            time_limit: None,
            run_twice_one_in: 0,
            configure: Box::new(|builder| builder),
        }
    }

    /// How many seeds are tried. Default: 100. Range: 1 or more.
    ///
    /// ```
    /// heist::sim::Explore::new().seeds(10).run(async || {});
    /// ```
    ///
    /// # Panics
    ///
    /// If `seeds` is zero: an exploration that tries nothing would never fail.
    #[track_caller]
    pub fn seeds(mut self, seeds: u64) -> Explore {
        assert!(
            seeds > 0,
            "heist: an exploration that tries no seed explores nothing: `seeds(1)` or more"
        );
        self.seeds = seeds;
        self
    }

    /// The first seed; the others follow it one by one, and after `u64::MAX` comes 0. Default: 0.
    ///
    /// ```
    /// heist::sim::Explore::new().first_seed(1000).seeds(10).run(async || {});
    /// ```
    pub fn first_seed(mut self, first_seed: u64) -> Explore {
        self.first_seed = first_seed;
        self
    }

    /// How many workers the simulation has, all of them on the calling thread. Default: 2. Range: as
    /// [`Builder::workers`].
    ///
    /// ```
    /// heist::sim::Explore::new().seeds(10).workers(4).run(async || {});
    /// ```
    pub fn workers(mut self, workers: usize) -> Explore {
        self.workers = workers;
        self
    }

    /// Begins no further seed once so much time has passed, of the real clock. Default: none. Zero leaves
    /// time for no seed at all, and nothing fails: [`Explored::seeds`] says how many were tried.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let limit = Duration::from_millis(20);
    /// heist::sim::Explore::new().seeds(u64::MAX).time_limit(limit).run(async || {});
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Explore {
        self.time_limit = Some(limit);
        self
    }

    /// Runs the first and then every so many-th seed a second time, and fails if it goes another way.
    /// Default: 0, none of them.
    ///
    /// A program that does not depend on the seed alone, but on the real clock, on other threads, on
    /// addresses, on the ids of tasks, or on the order of a `HashMap`, cannot be replayed. This finds out.
    ///
    /// ```
    /// heist::sim::Explore::new().seeds(10).run_twice_one_in(5).run(async || {
    ///     heist::sleep(std::time::Duration::from_secs(1)).await;
    /// });
    /// ```
    pub fn run_twice_one_in(mut self, seeds: u64) -> Explore {
        self.run_twice_one_in = seeds;
        self
    }

    /// Sets further options of the runtime, for each seed anew.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// heist::sim::Explore::new()
    ///     .seeds(10)
    ///     .configure(|builder| builder.cancel_grace(Duration::from_secs(60)))
    ///     .run(async || {});
    /// ```
    pub fn configure(mut self, configure: impl Fn(Builder) -> Builder + 'static) -> Explore {
        self.configure = Box::new(configure);
        self
    }

    /// Runs the program under one seed after the other.
    ///
    /// ```
    /// let explored = heist::sim::Explore::new().seeds(10).run(async || {
    ///     heist::yield_now().await;
    /// });
    /// # if std::env::var_os("HEIST_SEED").is_none() {
    /// assert_eq!(explored.seeds, 10);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// With the text of the [`Failure`] if a seed fails. If `HEIST_SEED` is no number, if the runtime
    /// cannot be built with these options, and inside of a running runtime.
    #[track_caller]
    pub fn run<T: Outcome>(self, program: impl AsyncFn() -> T) -> Explored {
        match self.try_run(program) {
            Ok(explored) => explored,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// Like [`run`](Explore::run), with the seed that failed instead of a panic.
    ///
    /// ```
    /// use futures::channel::mpsc;
    /// use futures::StreamExt;
    /// use heist::sim::Explore;
    ///
    /// let explored = Explore::new().seeds(1000).try_run(async || {
    ///     let (tell, told) = mpsc::unbounded();
    ///     let tasks = [1, 2, 3].map(|n| {
    ///         let tell = tell.clone();
    ///         heist::spawn(async move {
    ///             heist::yield_now().await;
    ///             tell.unbounded_send(n).unwrap()
    ///         })
    ///     });
    ///     drop(tell);
    ///     for task in tasks {
    ///         task.await.unwrap();
    ///     }
    ///     // Nobody has promised that, and under some seed it is not so.
    ///     assert_eq!(told.collect::<Vec<i32>>().await, [1, 2, 3], "they end in order");
    /// });
    /// assert!(explored.unwrap_err().to_string().contains("they end in order"));
    /// ```
    ///
    /// # Errors
    ///
    /// The first seed that fails.
    ///
    /// # Panics
    ///
    /// If `HEIST_SEED` is no number, if the runtime cannot be built with these options, and inside of a
    /// running runtime.
    #[track_caller]
    pub fn try_run<T: Outcome>(self, program: impl AsyncFn() -> T) -> Result<Explored, Failure> {
        if let Err(error) = check_nested("sim::explore") {
            panic!("{error}");
        }
        let begin = Instant::now();
        let (first, count) = match seed_of_the_environment() {
            Some(seed) => (seed, 1),
            None => (self.first_seed, self.seeds),
        };
        for nth in 0..count {
            if self
                .time_limit
                .is_some_and(|limit| begin.elapsed() >= limit)
            {
                return Ok(Explored { seeds: nth });
            }
            let seed = first.wrapping_add(nth);
            let mut ran = self.run_one(seed, &program);
            let is_twice = self.run_twice_one_in != 0 && nth % self.run_twice_one_in == 0;
            if is_twice && ran.cause.is_none() {
                let again = self.run_one(seed, &program);
                if again.trace != ran.trace {
                    ran = Ran {
                        cause: Some(Cause::NotReplayed),
                        trace: again.trace,
                    };
                }
            }
            let Ran { cause, trace } = ran;
            if let Some(cause) = cause {
                return Err(Failure(Box::new(Failed {
                    seed,
                    nth,
                    cause,
                    trace,
                })));
            }
        }
        Ok(Explored { seeds: count })
    }

    fn run_one<T: Outcome>(&self, seed: u64, program: &impl AsyncFn() -> T) -> Ran {
        let builder = (self.configure)(Runtime::builder().workers(self.workers));
        let mut runtime = simulated(builder, seed);
        let main = async {
            let output = program().await;
            let tasks = Handle::current().live_tasks();
            // Here, since it is the program's own code: if it panics, this seed does.
            (output.failure(), tasks)
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.try_run(main)));
        let report = runtime.close();
        Ran {
            cause: Cause::of(outcome, report),
            trace: runtime.trace(),
        }
    }
}

/// One run, and how it failed, if it did.
struct Ran {
    cause: Option<Cause>,
    trace: Trace,
}

/// The runtime of a simulation.
pub(crate) fn simulated(builder: Builder, seed: u64) -> Runtime {
    builder.deterministic(seed).build().unwrap_or_else(|error| {
        panic!("heist: the runtime of a simulation cannot be built: {error}")
    })
}

/// What `HEIST_SEED` says.
pub(crate) fn seed_of_the_environment() -> Option<u64> {
    let text = std::env::var_os(VARIABLE)?;
    let seed = text.to_str().and_then(|text| text.trim().parse().ok());
    Some(seed.unwrap_or_else(|| panic!("heist: {VARIABLE} is no whole number: {text:?}")))
}

/// What an [exploration](Explore) without a failure has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explored {
    /// How many seeds were tried.
    pub seeds: u64,
}

/// A seed under which the program failed, and how.
///
/// As text it says how to replay it.
///
/// ```
/// let failure = heist::sim::Explore::new()
///     .first_seed(7)
///     .seeds(1)
///     .try_run(async || assert_eq!(1 + 1, 3, "on purpose"))
///     .unwrap_err();
/// # if std::env::var_os("HEIST_SEED").is_none() {
/// assert_eq!(failure.seed(), 7);
/// # }
/// assert!(matches!(failure.cause(), heist::sim::Cause::Panicked(_)));
/// println!("{}", failure.trace());
/// assert!(failure.to_string().contains("on purpose"));
/// assert!(failure.to_string().contains("HEIST_SEED="));
/// ```
#[derive(Debug)]
pub struct Failure(Box<Failed>);

#[derive(Debug)]
struct Failed {
    seed: u64,
    /// How many seeds were fine before.
    nth: u64,
    cause: Cause,
    trace: Trace,
}

impl Failure {
    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// How it failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// What the simulation did, up to its end.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            seed, nth, cause, ..
        } = &*self.0;
        write!(
            f,
            "heist: seed {seed} fails, after {nth} that did not: {cause}\n  "
        )?;
        Replay(*seed).fmt(f)
    }
}

impl std::error::Error for Failure {}

/// How to replay a seed.
pub(crate) struct Replay(pub(crate) u64);

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is replayed with {VARIABLE}={}", self.0)?;
        // The threads of tests have the name of the test.
        match std::thread::current().name() {
            Some(name) if name != "main" => write!(f, " cargo test {name}"),
            _ => Ok(()),
        }
    }
}

/// How a seed failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The program panicked, with this text.
    Panicked(String),
    /// The program answered an error, which is this as text.
    Failed(String),
    /// The program did not come to its end: it can never go on, or was cancelled.
    NotEnded(RunError),
    /// The program left tasks behind.
    Left {
        /// How many.
        tasks: usize,
        /// What became of them.
        report: ShutdownReport,
    },
    /// A second run with the same seed went another way: the program depends on more than the seed.
    NotReplayed,
}

impl Cause {
    /// Of a program that answered an error, or not, and left so many tasks.
    fn of(
        outcome: std::thread::Result<Result<(Option<String>, usize), RunError>>,
        report: ShutdownReport,
    ) -> Option<Cause> {
        let (failure, tasks) = match outcome {
            Err(payload) => return Some(Cause::Panicked(text_of(payload))),
            Ok(Err(error)) => return Some(Cause::NotEnded(error)),
            Ok(Ok(ended)) => ended,
        };
        if let Some(text) = failure {
            return Some(Cause::Failed(text));
        }
        (tasks > 0 && !report.is_clean()).then_some(Cause::Left { tasks, report })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panicked(text) => write!(f, "it panicked: {text}"),
            Cause::Failed(text) => write!(f, "it answered an error: {text}"),
            Cause::NotEnded(error) => write!(f, "it did not end: {error}"),
            Cause::Left { tasks, report } => {
                write!(
                    f,
                    "it left {tasks} tasks behind; await or abort them\n{report}"
                )
            }
            Cause::NotReplayed => f.write_str(
                "a second run with the same seed went another way, so the program depends on more \
                 than the seed: the real clock, other threads, addresses, ids of tasks, the order of a \
                 `HashMap`",
            ),
        }
    }
}

/// The text of a panic's payload, which is dropped.
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    });
    heist_core::drop_payload(payload);
    text.unwrap_or_else(|| "with a payload that is not text".to_owned())
}

/// What a program of an [exploration](Explore) may answer: nothing, or a `Result`, whose `Err` is a
/// failure.
///
/// ```
/// use heist::sim::Outcome;
///
/// assert_eq!(().failure(), None);
/// assert_eq!(Ok::<(), u8>(()).failure(), None);
/// assert_eq!(Err::<(), u8>(7).failure().as_deref(), Some("7"));
/// ```
pub trait Outcome {
    /// The text of the error, if it is one.
    fn failure(&self) -> Option<String>;
}

impl Outcome for () {
    fn failure(&self) -> Option<String> {
        None
    }
}

impl<T: Outcome, E: fmt::Debug> Outcome for Result<T, E> {
    fn failure(&self) -> Option<String> {
        match self {
            Ok(output) => output.failure(),
            Err(error) => Some(format!("{error:?}")),
        }
    }
}
