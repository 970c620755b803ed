//! What the models stand on: how they are run, a seam without a driver, and what threads wait for.

#![forbid(unsafe_code)]

use crate::config::START_BACKOFF;
use crate::sync::{Condvar, Mutex, thread};
use crate::testing::Event;
use crate::{Config, Runtime, Seam};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use std::any::Any;
use std::collections::HashSet;
use std::panic::Location;
use std::sync::Arc;
use std::sync::Mutex as Plain;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a model is run, unless `HEIST_SHUTTLE_SCHEDULES` says otherwise.
const SCHEDULES: usize = 2000;
/// Where the schedules begin, unless `HEIST_SHUTTLE_SEED` says otherwise. The same each time, so that
/// whoever broke something sees it, and not whoever comes next.
const SEED: u64 = 0x4e15_7000;
/// How many things must come in an order of their own for the bugs that priorities are made to find.
const DEPTH: usize = 3;
/// A model that takes more steps runs in circles.
const STEPS: usize = 200_000;
/// Room for a thread: the frames of a poll inside of a poll.
const STACK: usize = 256 * 1024;

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => default,
    }
}

/// Runs a model, one half of the schedules as random walks, in which no thread gets far ahead of the
/// others; the other half by priorities, in which most do.
///
/// Demands that at least so many of the schedules were not alike, told by the number of context
/// switches: a model in which nothing can be interrupted checks nothing. The demand is about half of
/// what was counted, and the count stands beside it.
pub(super) fn model(lengths: usize, body: impl Fn() + Sync + Send + 'static) {
    let schedules = from_environment("HEIST_SHUTTLE_SCHEDULES", SCHEDULES as u64) as usize;
    let seed = from_environment("HEIST_SHUTTLE_SEED", SEED);
    let (runs, seen) = (AtomicUsize::new(0), Plain::new(HashSet::new()));
    let counted = Arc::new((body, runs, seen));
    let half = schedules / 2;
    run(RandomScheduler::new_from_seed(seed, half), &counted);
    run(PctScheduler::new_from_seed(seed, DEPTH, half), &counted);
    let runs = counted.1.load(Ordering::Relaxed);
    let different = counted.2.lock().unwrap().len();
    println!("{runs} schedules, {different} lengths");
    assert_eq!(runs, 2 * half);
    assert!(
        different >= lengths || schedules < SCHEDULES,
        "only {different} lengths of {runs} schedules"
    );
}

type Counting<F> = Arc<(F, AtomicUsize, Plain<HashSet<usize>>)>;

fn run(scheduler: impl Scheduler + 'static, counted: &Counting<impl Fn() + Sync + Send + 'static>) {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    let counted = counted.clone();
    shuttle::Runner::new(scheduler, config).run(move || {
        let (body, runs, seen) = &*counted;
        thread::refuse(0);
        body();
        runs.fetch_add(1, Ordering::Relaxed);
        let switches = shuttle::current::context_switches();
        seen.lock().unwrap().insert(switches);
    });
}

/// Parks threads on tokens. The clock goes on with every look at it.
#[derive(Debug)]
pub(super) struct Tokens {
    looks: AtomicU64,
    tick: u64,
    slots: Vec<(Mutex<bool>, Condvar)>,
}

/// How far the clock goes on: two looks are longer apart than a busy worker gathers.
const TICK: u64 = 100_000;
/// The same, where the pauses after two failed starts in a row are over at the next look.
const HASTY_TICK: u64 = 2 * START_BACKOFF.0.as_nanos() as u64;

impl Tokens {
    fn sleep(&self, slot: usize, deadline: u64) {
        let (token, unparked) = &self.slots[slot];
        if deadline < self.now().saturating_add(thread::PATIENCE) {
            // The time is over as soon as the others have had a turn.
            thread::yield_now();
            *token.lock() = false;
            return;
        }
        let mut token = token.lock();
        while !*token {
            unparked.wait(&mut token);
        }
        *token = false;
    }
}

impl Seam for Tokens {
    fn now(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed) * self.tick
    }
    fn seed(&self) -> u64 {
        7
    }
    fn attach(&self, _: usize) {}
    fn park(&self, slot: usize, deadline: u64, awake: &mut dyn FnMut(bool)) {
        self.sleep(slot, deadline);
        awake(false);
    }
    fn poll(&self, _: usize) -> usize {
        0
    }
    fn unpark(&self, slot: usize) {
        let (token, unparked) = &self.slots[slot];
        *token.lock() = true;
        unparked.notify_one();
    }
    fn is_used(&self, _: usize) -> bool {
        false
    }
    fn close(&self) {}
    fn release(&self) {}
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Nothing is given up in a model, however slow the machine is.
pub(super) fn config(workers: usize, spare_workers: usize) -> Config {
    Config {
        workers,
        spare_workers,
        blocking_threads: 2,
        cancel_grace: Duration::MAX,
        blocking_grace: Duration::MAX,
        ..Config::default()
    }
}

/// A runtime, and what it stands on: held by nobody else once the runtime is freed.
pub(super) fn runtime(config: Config) -> (Runtime, Arc<Tokens>) {
    runtime_at(TICK, config)
}

/// The same, where nobody has to wait before a failed start is tried again.
pub(super) fn hasty_runtime(config: Config) -> (Runtime, Arc<Tokens>) {
    runtime_at(HASTY_TICK, config)
}

fn runtime_at(tick: u64, config: Config) -> (Runtime, Arc<Tokens>) {
    let slots = config.workers + config.spare_workers;
    let seam = Arc::new(Tokens {
        looks: AtomicU64::new(0),
        tick,
        slots: (0..slots).map(|_| Default::default()).collect(),
    });
    let runtime = Runtime::new(config, seam.clone(), Location::caller()).expect("a runtime");
    (runtime, seam)
}

/// Nobody has the runtime any more: no thread, no task, no waker that could still use it.
pub(super) fn assert_freed(seam: &Arc<Tokens>) {
    assert_eq!(Arc::strong_count(seam), 1, "the runtime is still there");
}

/// What a thread waits for that is not the runtime's: a number of things that are to happen.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    pub(super) fn of(things: usize) -> Gate {
        Gate(Arc::new((Mutex::new(things), Condvar::new())))
    }
    /// One of them has.
    pub(super) fn pass(&self) {
        *self.0.0.lock() -= 1;
        self.0.1.notify_all();
    }
    pub(super) fn wait(&self) {
        let mut left = self.0.0.lock();
        while *left > 0 {
            self.0.1.wait(&mut left);
        }
    }
}

impl Event {
    /// Keeps the thread busy until it is set, as a task does that blocks its worker.
    pub(super) fn block(&self) {
        while !self.0.lock().0 {
            thread::yield_now();
        }
    }
}
