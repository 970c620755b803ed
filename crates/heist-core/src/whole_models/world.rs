//! What the models stand on: how they are run, a seam without a driver, and events.

#![forbid(unsafe_code)]

use crate::sync::{Condvar, Mutex, thread};
use crate::{Config, JoinHandle, NEVER, Runtime, Seam, Spawn};
use shuttle::scheduler::RandomScheduler;
use std::any::Any;
use std::collections::HashSet;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex as Plain;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often a model is run, unless `HEIST_SHUTTLE_SCHEDULES` says otherwise.
const SCHEDULES: usize = 1000;
/// Where the schedules begin, unless `HEIST_SHUTTLE_SEED` says otherwise. The same each time, so that
/// whoever broke something sees it, and not whoever comes next.
const SEED: u64 = 0x4e15_7000;
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

/// Runs a model, and demands that no more than a few of its schedules were alike: it is told by the
/// number of context switches. A model in which nothing can be interrupted checks nothing.
pub(super) fn model(lengths: usize, body: impl Fn() + Sync + Send + 'static) {
    let schedules = from_environment("HEIST_SHUTTLE_SCHEDULES", SCHEDULES as u64) as usize;
    let seed = from_environment("HEIST_SHUTTLE_SEED", SEED);
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    let seen = Arc::new((AtomicUsize::new(0), Plain::new(HashSet::new())));
    let scheduler = RandomScheduler::new_from_seed(seed, schedules);
    shuttle::Runner::new(scheduler, config).run({
        let seen = seen.clone();
        move || {
            thread::refuse(0);
            body();
            seen.0.fetch_add(1, Ordering::Relaxed);
            let switches = shuttle::current::context_switches();
            seen.1.lock().unwrap().insert(switches);
        }
    });
    let (runs, different) = (seen.0.load(Ordering::Relaxed), seen.1.lock().unwrap().len());
    println!("{runs} schedules, {different} lengths");
    assert_eq!(runs, schedules);
    assert!(
        different >= lengths,
        "only {different} lengths of {runs} schedules"
    );
}

/// Parks threads on tokens. The clock goes on with every look at it.
#[derive(Debug)]
pub(super) struct Tokens {
    looks: AtomicU64,
    slots: Vec<(Mutex<bool>, Condvar)>,
}

/// How far the clock goes on: two looks are longer apart than a busy worker gathers.
const TICK: u64 = 100_000;

impl Seam for Tokens {
    fn now(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed) * TICK
    }
    fn seed(&self) -> u64 {
        7
    }
    fn attach(&self, _: usize) {}
    fn park(&self, slot: usize, deadline: u64) {
        let (token, unparked) = &self.slots[slot];
        if deadline != NEVER {
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
    let slots = config.workers + config.spare_workers;
    let seam = Arc::new(Tokens {
        looks: AtomicU64::new(0),
        slots: (0..slots).map(|_| Default::default()).collect(),
    });
    let runtime = Runtime::new(config, seam.clone(), Location::caller()).expect("a runtime");
    (runtime, seam)
}

/// Nobody has the runtime any more: no thread, no task, no waker that could still use it.
pub(super) fn assert_freed(seam: &Arc<Tokens>) {
    assert_eq!(Arc::strong_count(seam), 1, "the runtime is still there");
}

#[track_caller]
pub(super) fn here() -> Spawn {
    Spawn::at(Location::caller())
}

/// Spawns on the runtime of this thread.
#[track_caller]
pub(super) fn go<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let Ok(handle) = crate::spawn(here(), future, crate::Unseen::dropped()) else {
        panic!("no runtime here");
    };
    handle
}

/// Counts; of the standard library, so that it orders nothing and is no place to be interrupted.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// Counts when it is dropped.
    pub(super) fn on_drop(&self) -> Counted {
        Counted(self.clone())
    }
}

#[derive(Debug)]
pub(super) struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Somewhere to leave wakers, and a condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Event(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Event {
    pub(super) fn set(&self) {
        let wakers = {
            let mut inner = self.0.lock();
            inner.0 = true;
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
    pub(super) fn is_set(&self) -> bool {
        self.0.lock().0
    }
    /// Keeps the thread busy until it is set, as a task does that blocks its worker.
    pub(super) fn block(&self) {
        while !self.is_set() {
            thread::yield_now();
        }
    }
}

impl Future for Event {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.lock();
        if inner.0 {
            return Poll::Ready(());
        }
        inner.1.push(cx.waker().clone());
        Poll::Pending
    }
}
