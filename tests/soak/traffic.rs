//! What both sides count: requests, how long they took, what went wrong, and what is alive.
#![forbid(unsafe_code)]

use crate::wire::Kind;
use hdrhistogram::Histogram;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Up to a minute in microseconds, with three figures.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds")
}

/// Durations since the last look, and of the whole run.
struct Times {
    recent: Histogram<u64>,
    whole: Histogram<u64>,
}

impl Times {
    fn new() -> Times {
        Times {
            recent: histogram(),
            whole: histogram(),
        }
    }

    fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.recent.saturating_record(micros);
        self.whole.saturating_record(micros);
    }
}

/// The median, the 99th percentile and the greatest of some durations, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl From<&Histogram<u64>> for Spread {
    fn from(times: &Histogram<u64>) -> Spread {
        Spread {
            count: times.len(),
            p50: times.value_at_quantile(0.5) as f64,
            p99: times.value_at_quantile(0.99) as f64,
            max: times.max() as f64,
        }
    }
}

/// A clock that runs beside the traffic and notes how late it is woken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// An interval of the server's runtime.
    Timer = 0,
    /// A thread of no runtime: the machine's own part.
    Thread = 1,
}

/// The counters of a run.
pub(crate) struct Traffic {
    exchanges: Mutex<Vec<Times>>,
    clocks: Mutex<[Times; 2]>,
    unexpected: Mutex<Vec<String>>,
    failures: AtomicU64,
    given_up: AtomicU64,
    connections: AtomicU64,
    alive: AtomicI64,
    is_over: AtomicBool,
}

/// How many unexpected failures are kept as text.
const KEPT: usize = 20;

impl Traffic {
    pub(crate) fn new() -> Arc<Traffic> {
        Arc::new(Traffic {
            exchanges: Mutex::new(Kind::ALL.iter().map(|_| Times::new()).collect()),
            clocks: Mutex::new([Times::new(), Times::new()]),
            unexpected: Mutex::default(),
            failures: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            alive: AtomicI64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    /// A request has got its reply, and the reply was right.
    pub(crate) fn exchanged(&self, kind: Kind, took: Duration) {
        lock(&self.exchanges)[kind.index()].note(took);
    }

    /// A clock was woken so much too late.
    pub(crate) fn late(&self, clock: Clock, by: Duration) {
        lock(&self.clocks)[clock as usize].note(by);
    }

    /// A request was given up on purpose, or is one that the server may give up.
    pub(crate) fn gave_up(&self) {
        // Ordering: Relaxed, as for all counters here: nothing is published by them.
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Something went wrong that should not.
    pub(crate) fn failed(&self, what: impl FnOnce() -> String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut unexpected = lock(&self.unexpected);
        if unexpected.len() < KEPT {
            unexpected.push(what());
        }
    }

    /// Counts something that must be dropped some day.
    pub(crate) fn guard(self: &Arc<Traffic>) -> Guard {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Guard(self.clone())
    }

    /// Tells everybody to finish what they do.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Exchanges since the last call: all of them, and the lateness of the clocks.
    pub(crate) fn take_recent(&self) -> (Spread, [Spread; 2]) {
        let mut all = histogram();
        for times in lock(&self.exchanges).iter_mut() {
            all.add(&times.recent).expect("histograms of one kind");
            times.recent.reset();
        }
        let clocks = [Clock::Timer, Clock::Thread].map(|clock| {
            let times = &mut lock(&self.clocks)[clock as usize];
            let spread = Spread::from(&times.recent);
            times.recent.reset();
            spread
        });
        (Spread::from(&all), clocks)
    }

    /// The whole run, with the names of what was measured.
    pub(crate) fn whole(&self) -> Vec<(String, Spread)> {
        let mut rows = Vec::new();
        for (kind, times) in Kind::ALL.iter().zip(lock(&self.exchanges).iter()) {
            rows.push((kind.name().to_owned(), Spread::from(&times.whole)));
        }
        let clocks = lock(&self.clocks);
        for (name, clock) in [
            ("lateness of a timer", Clock::Timer),
            ("lateness of a bare thread", Clock::Thread),
        ] {
            rows.push((name.to_owned(), Spread::from(&clocks[clock as usize].whole)));
        }
        rows
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            exchanged: lock(&self.exchanges).iter().map(|t| t.whole.len()).sum(),
            given_up: self.given_up.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            alive: self.alive.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn unexpected(&self) -> Vec<String> {
        lock(&self.unexpected).clone()
    }
}

/// How much has happened so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) exchanged: u64,
    pub(crate) given_up: u64,
    pub(crate) connections: u64,
    pub(crate) failures: u64,
    pub(crate) alive: i64,
}

/// Is in a future, and counted until that is dropped.
pub(crate) struct Guard(Arc<Traffic>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a peer that goes away in the middle brings this about.
pub(crate) fn is_parting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
