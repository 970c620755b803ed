//! What the tests of the core stand on: a seam without a driver, things that count, and a watchdog.

#![forbid(unsafe_code)]

use crate::shared::Shared;
pub(crate) use crate::testing::{Count, Event, go, here};
use crate::{Config, JoinError, JoinHandle, NEVER, Outcome, Report, Runtime, Seam, ShutdownReport};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a test may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(if cfg!(miri) { 300 } else { 20 });

/// Parks threads on tokens and waits for nothing else.
#[derive(Debug)]
pub(crate) struct Threads {
    began: Instant,
    slots: Vec<(Mutex<bool>, Condvar)>,
}

impl Threads {
    pub(crate) fn new(config: &Config) -> Arc<Threads> {
        let slots = config.workers + config.spare_workers;
        Arc::new(Threads {
            began: Instant::now(),
            slots: (0..slots).map(|_| Default::default()).collect(),
        })
    }
}

impl Threads {
    fn sleep(&self, slot: usize, deadline: u64) {
        let (token, unparked) = &self.slots[slot];
        let mut token = token.lock();
        while !*token {
            if deadline == NEVER {
                unparked.wait(&mut token);
                continue;
            }
            let left = Duration::from_nanos(deadline.saturating_sub(self.now()));
            if left.is_zero() || unparked.wait_for(&mut token, left).timed_out() {
                break;
            }
        }
        *token = false;
    }
}

impl Seam for Threads {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
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

/// Runs a test on a thread of its own; one that hangs fails with `what`.
pub(crate) fn within(what: &str, test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done;
        test();
    });
    match ended.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        _ => {
            if let Err(payload) = thread.join() {
                resume_unwind(payload);
            }
        }
    }
}

/// The same for one worker and for two.
pub(crate) fn with_workers(what: &str, test: impl Fn(usize) + Send + Clone + 'static) {
    for workers in [1, 2] {
        let test = test.clone();
        within(&format!("{what} (workers: {workers})"), move || {
            test(workers)
        });
    }
}

pub(crate) fn config(workers: usize) -> Config {
    Config {
        workers,
        spare_workers: workers - 1,
        ..Config::default()
    }
}

pub(crate) fn runtime(config: Config) -> Runtime {
    let seam = Threads::new(&config);
    Runtime::new(config, seam, Location::caller()).expect("a runtime")
}

/// A scheduler without a thread, and what it reports.
pub(crate) fn bare(mut config: Config) -> (Arc<Shared>, mpsc::Receiver<String>) {
    let reports = reports(&mut config);
    let seam = Threads::new(&config);
    (Shared::new(config, seam, Location::caller()), reports)
}

/// What a handle has that must be ready.
#[track_caller]
pub(crate) fn joined<T>(mut handle: JoinHandle<T>) -> Result<T, JoinError> {
    match Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the handle is not ready"),
    }
}

/// What a runtime reports, in words.
pub(crate) fn reports(config: &mut Config) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    config.hooks.on_error = Some(Arc::new(move |report: &Report<'_>| {
        let _ = send.send(report.to_string());
    }));
    receive
}

/// Runs `main` on a runtime of its own, then closes it.
pub(crate) fn run<F: Future>(workers: usize, main: F) -> (F::Output, ShutdownReport) {
    let (outcome, report) = run_outcome(workers, main);
    (outcome.expect("main is ready"), report)
}

impl<T> Outcome<T> {
    /// The output; a panic of `main` goes on.
    #[track_caller]
    pub(crate) fn expect(self, what: &str) -> T {
        match self {
            Outcome::Output(output) => output,
            Outcome::Panicked(payload) => resume_unwind(payload),
            Outcome::Cancelled | Outcome::Deadlock(_) | Outcome::Forked => {
                panic!("{what}, and it was ended")
            }
        }
    }

    /// The payload of the panic.
    #[track_caller]
    pub(crate) fn expect_err(self, what: &str) -> Box<dyn std::any::Any + Send> {
        match self {
            Outcome::Panicked(payload) => payload,
            Outcome::Output(_) => panic!("{what}, and it was ready"),
            Outcome::Cancelled | Outcome::Deadlock(_) | Outcome::Forked => {
                panic!("{what}, and it was ended")
            }
        }
    }
}

pub(crate) fn run_outcome<F: Future>(
    workers: usize,
    main: F,
) -> (Outcome<F::Output>, ShutdownReport) {
    runtime(config(workers)).run_and_close(Location::caller(), main)
}

/// Panics when it is dropped, once counted.
#[derive(Debug)]
pub(crate) struct Bomb(pub(crate) Count, pub(crate) &'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.add();
        panic!("{}", self.1);
    }
}

impl Event {
    /// The wakers left so far.
    pub(crate) fn wakers(&self) -> Vec<Waker> {
        self.0.lock().1.clone()
    }
    /// Blocks the thread until somebody waits.
    pub(crate) fn wait_for_waiter(&self) {
        while self.0.lock().1.is_empty() {
            thread::yield_now();
        }
    }
}

/// Another executor, as small as can be.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::park();
    }
}

pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not text")
}
