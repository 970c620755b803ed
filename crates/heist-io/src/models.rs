//! The protocols of this crate under loom: the code that ships, over a fake poller (`sys/fake.rs`)
//! and the stand-ins of `sync.rs`.
//!
//! ```text
//! RUSTFLAGS="--cfg heist_loom -C debug-assertions" LOOM_MAX_PREEMPTIONS=2 \
//!     cargo test -p heist-io --release --lib models
//! ```
//!
//! Nobody in a model waits with a time limit, so a lost wake-up is a deadlock, and loom reports it.
//! Every model says by which weakening of the code it was seen to fail.
//!
//! Flags that a model itself uses to tell "done" are `Relaxed`: what makes them visible is the
//! protocol under test, or nothing.

#![forbid(unsafe_code)]

use std::future::Future;
use std::io::{self, Stdin};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use crate::readiness::Occurred;
use crate::sync::{AtomicBool, Ordering::Relaxed, Thread, current, park};
use crate::{Closed, Direction, Driver, NEVER, Source, now};

/// The models are small enough for more preemptions than the usual two.
const PREEMPTIONS: usize = 4;

/// Runs a model, and demands that it had at least `floor` interleavings: a model that runs once
/// checks nothing.
fn model(floor: usize, body: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(Count::new(0));
    let counter = runs.clone();
    let mut builder = loom::model::Builder::new();
    let asked = builder.preemption_bound.unwrap_or(PREEMPTIONS);
    builder.preemption_bound = Some(asked.max(PREEMPTIONS));
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        body();
    });
    let runs = runs.load(Relaxed);
    println!("{runs} interleavings");
    assert!(runs >= floor, "only {runs} interleavings");
}

fn driver() -> Arc<Driver> {
    Arc::new(Driver::new(1))
}

/// Any descriptor will do for the fake poller.
fn register(driver: &Arc<Driver>, stdin: &Stdin) -> io::Result<Source> {
    driver.register(stdin.as_fd(), 0)
}

/// The waker of a task that is a thread of its own, and how that thread waits for it.
struct Task {
    thread: Thread,
    woken: AtomicBool,
}

impl Task {
    fn new() -> Arc<Task> {
        Arc::new(Task {
            thread: current(),
            woken: AtomicBool::new(false),
        })
    }

    /// Polls until ready; between polls sleeps until woken.
    fn drive<T>(self: &Arc<Self>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let waker = Waker::from(self.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = poll(&mut cx) {
                return output;
            }
            while !self.woken.swap(false, std::sync::atomic::Ordering::Acquire) {
                park(None);
            }
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        // A swap: loom lets a plain store slip in before a swap that it did not see.
        self.woken.swap(true, std::sync::atomic::Ordering::Release);
        self.thread.unpark();
    }
}

/// The owner parks in the poller, a helper polls, a third thread publishes and unparks. The owner comes
/// back and sees what was published.
///
/// Fails when `Slot::notify` swaps `Relaxed`; when `announce` answers `Parked` over a token, or consumes
/// it by a plain store or a `Relaxed` swap; when `park_in_poller` lets the turn go before it waits (a
/// helper eats the ring).
#[test]
fn models_an_unpark_is_never_lost_to_a_helper() {
    model(1000, || {
        let driver = driver();
        let stdin = io::stdin();
        let source = register(&driver, &stdin).unwrap();
        driver.attach(0);
        let published = Arc::new(AtomicBool::new(false));
        let helper = thread::spawn({
            let driver = driver.clone();
            move || driver.poll(0)
        });
        let unparker = thread::spawn({
            let (driver, published) = (driver.clone(), published.clone());
            move || {
                published.store(true, Relaxed);
                driver.unpark(0);
            }
        });
        while !published.load(Relaxed) {
            driver.park(0, NEVER);
        }
        helper.join().unwrap();
        unparker.join().unwrap();
        drop(source);
    });
}

/// The owner parks twice on its thread, two others publish and unpark.
///
/// Fails when `notify` or `leave` swaps `Relaxed`, when `announce` consumes the token by a plain store or
/// a `Relaxed` swap, or answers `Parked` over it.
#[test]
fn models_two_unparkers_and_a_thread_bed() {
    model(100, || {
        let driver = driver();
        driver.attach(0);
        let published = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let unparkers = published.clone().map(|published| {
            let driver = driver.clone();
            thread::spawn(move || {
                published.store(true, Relaxed);
                driver.unpark(0);
            })
        });
        while !published.iter().all(|published| published.load(Relaxed)) {
            driver.park(0, NEVER);
        }
        for unparker in unparkers {
            unparker.join().unwrap();
        }
    });
}

/// The first source is registered, and its event comes, while the owner goes to sleep on its thread.
///
/// Fails when `make_poller` does not unpark.
#[test]
fn models_a_first_source_calls_the_owner_into_the_poller() {
    model(100, || {
        let driver = driver();
        driver.attach(0);
        let served = Task::new();
        let registrar = thread::spawn({
            let (driver, served) = (driver.clone(), served.clone());
            move || {
                let stdin = io::stdin();
                let source = register(&driver, &stdin).unwrap();
                driver.shard(0).inject(&source, Occurred::READABLE);
                let waker = Waker::from(served.clone());
                let mut cx = Context::from_waker(&waker);
                if source.poll_ready(Direction::Read, &mut cx).is_ready() {
                    // The owner was faster.
                    served.woken.swap(true, Relaxed);
                    driver.unpark(0);
                }
                source
            }
        });
        while !served.woken.load(Relaxed) {
            driver.park(0, NEVER);
        }
        drop(registrar.join().unwrap());
    });
}

/// A task waits for readiness while the event is applied.
///
/// Fails when `poll_wait` stores the waker after `sleep`; when `Word::wait` sets no bit, or answers the
/// state of a load before it; when `Word::apply` reads the waiter bits before it sets readiness.
#[test]
fn models_readiness_is_not_missed_by_the_slot() {
    model(30, || event_against_wait(Place::Slot));
}

/// The same through the list, with a second waiter that is dropped at some point.
///
/// Fails when `enlist` comes after `sleep`, when `Word::wait` sets no bit, and when `Word::apply` reads
/// the waiter bits before it sets readiness.
#[test]
fn models_readiness_is_not_missed_by_the_list() {
    model(30, || event_against_wait(Place::List));
}

enum Place {
    Slot,
    List,
}

fn event_against_wait(place: Place) {
    let driver = driver();
    let stdin = io::stdin();
    let source = register(&driver, &stdin).unwrap();
    driver.shard(0).inject(&source, Occurred::READABLE);
    let turn = thread::spawn({
        let driver = driver.clone();
        move || driver.poll(0)
    });
    let task = Task::new();
    let seen = match place {
        Place::Slot => task.drive(|cx| source.poll_ready(Direction::Read, cx)),
        Place::List => {
            let mut dropped = Box::pin(source.ready(Direction::Read));
            let _ = dropped
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            let mut wait = pin!(source.ready(Direction::Read));
            task.drive(|cx| {
                let polled = wait.as_mut().poll(cx);
                dropped = Box::pin(source.ready(Direction::Read));
                polled
            })
        }
    };
    assert!(seen.unwrap().is_readable());
    turn.join().unwrap();
}

/// A task is told "would block" and clears, while the bytes and their event arrive.
///
/// Fails when `clear_bits` does not compare the tick, and when `apply` does not bump it.
#[test]
fn models_a_clear_never_takes_a_fresher_event() {
    model(100, || {
        let driver = driver();
        let stdin = io::stdin();
        let source = Arc::new(register(&driver, &stdin).unwrap());
        // An event from before: the word is ready, the socket is not.
        driver.shard(0).inject(&source, Occurred::READABLE);
        driver.poll(0);
        let bytes = Arc::new(AtomicBool::new(false));
        let kernel_and_turn = thread::spawn({
            let (driver, source, bytes) = (driver.clone(), source.clone(), bytes.clone());
            move || {
                bytes.store(true, Relaxed);
                driver.shard(0).inject(&source, Occurred::READABLE);
                driver.poll(0)
            }
        });
        let task = Task::new();
        task.drive(|cx| {
            loop {
                match source.poll_ready(Direction::Read, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(seen) if !bytes.load(Relaxed) => {
                        source.clear_blocked(Direction::Read, seen.unwrap());
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            }
        });
        kernel_and_turn.join().unwrap();
    });
}

/// A thread arms a timer while the owner goes to sleep without a limit, on its thread and in the poller.
///
/// Fails when either fence of `alarm.rs` is removed, when `announce` does not look at `next` again,
/// and when `arm` never rouses.
#[test]
fn models_a_timer_is_never_overslept() {
    for with_source in [false, true] {
        model(50, move || {
            let driver = driver();
            let stdin = io::stdin();
            let source = with_source.then(|| {
                let source = register(&driver, &stdin).unwrap();
                driver.attach(0);
                driver.park(0, NEVER); // the token of the new poller
                source
            });
            driver.attach(0);
            let deadline = now() + 3_600_000_000_000;
            let armer = thread::spawn({
                let driver = driver.clone();
                move || {
                    let mut timer = driver.timer(0);
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(timer.poll_at(deadline, &mut cx).is_pending());
                    timer
                }
            });
            // A sleep that ends by the time limit ends at once in a model. So if this returns, it was
            // given the limit or was roused.
            driver.park(0, NEVER);
            drop(armer.join().unwrap());
            drop(source);
        });
    }
}

/// The driver is closed while a task registers and waits, and another arms a timer and waits.
///
/// Fails when `Registry::insert` or `Timers::arm` does not look at the closed flag under the lock, when
/// `Timers::close` sets it after the lock, and when `Word::finish` wakes nobody.
#[test]
fn models_close_ends_every_wait() {
    model(100, || {
        let driver = driver();
        let closer = thread::spawn({
            let driver = driver.clone();
            move || driver.close()
        });
        let stdin = io::stdin();
        let task = Task::new();
        if let Ok(source) = register(&driver, &stdin) {
            let end = task.drive(|cx| source.poll_ready(Direction::Write, cx));
            assert!(end.unwrap_err().get_ref().unwrap().is::<Closed>());
        }
        closer.join().unwrap();
    });
    model(40, || {
        let driver = driver();
        let closer = thread::spawn({
            let driver = driver.clone();
            move || driver.close()
        });
        let task = Task::new();
        let mut timer = driver.timer(0);
        let end = task.drive(|cx| timer.poll_at(NEVER, cx));
        assert_eq!(end, Err(Closed));
        closer.join().unwrap();
    });
}

/// `release` while an owner parks (against the rule), then an unpark: the owner gives the turn up, goes
/// on without a poller, and is still woken.
///
/// Fails when `release` does not unpark, or sets its flag after it has unparked.
#[test]
fn models_release_gets_the_turn() {
    model(100, || {
        let driver = driver();
        let stdin = io::stdin();
        let source = register(&driver, &stdin).unwrap();
        driver.attach(0);
        let released = Arc::new(AtomicBool::new(false));
        let releaser = thread::spawn({
            let (driver, released) = (driver.clone(), released.clone());
            move || {
                driver.shard(0).release();
                released.store(true, Relaxed);
                driver.unpark(0);
            }
        });
        while !released.load(Relaxed) {
            driver.park(0, NEVER);
        }
        releaser.join().unwrap();
        drop(source);
    });
}
