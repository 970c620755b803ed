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

use crate::clock;
use crate::readiness::Occurred;
use crate::sync::{AtomicBool, Ordering::Relaxed, Thread, current, park};
use crate::sys::Kernel;
use crate::{Closed, Direction, Driver, NEVER, Source, now};

/// The models are small enough for more preemptions than the usual two.
const PREEMPTIONS: usize = 4;

/// Runs a model, and demands that it had at least `floor` interleavings: a model that runs once
/// checks nothing. Floors are about half of what was counted, and the count stands beside each.
fn model(floor: usize, body: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(Count::new(0));
    let counter = runs.clone();
    let mut builder = loom::model::Builder::new();
    let asked = builder.preemption_bound.unwrap_or(PREEMPTIONS);
    builder.preemption_bound = Some(asked.max(PREEMPTIONS));
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        clock::model::set(0);
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
    // Counted: 2394.
    model(1100, || {
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
    // Counted: 10572.
    model(5200, || {
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
    // Counted: 1105.
    model(550, || {
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
    // Counted: 66.
    model(33, || event_against_wait(Place::Slot));
}

/// The same through the list, with a second waiter that is dropped at some point.
///
/// Fails when `enlist` comes after `sleep`, when `Word::wait` sets no bit, and when `Word::apply` reads
/// the waiter bits before it sets readiness.
#[test]
fn models_readiness_is_not_missed_by_the_list() {
    // Counted: 420.
    model(210, || event_against_wait(Place::List));
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
    // Counted: 249.
    model(120, || {
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
        // Counted: 63.
        model(31, move || {
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
    // Counted: 181.
    model(90, || {
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
    // Counted: 75.
    model(37, || {
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
/// on without a poller, and is still woken. Another thread unparks the owner meanwhile, if it is `unparked`.
fn release_while_an_owner_parks(unparked: bool) {
    let driver = driver();
    let stdin = io::stdin();
    let source = register(&driver, &stdin).unwrap();
    driver.attach(0);
    let unparker = unparked.then(|| {
        let driver = driver.clone();
        thread::spawn(move || driver.unpark(0))
    });
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
    unparker.into_iter().for_each(|it| it.join().unwrap());
    drop(source);
}

/// Fails when `release` does not unpark, or sets its flag after it has unparked.
#[test]
fn models_release_gets_the_turn() {
    // Counted: 3806.
    model(1900, || release_while_an_owner_parks(false));
}

/// The unparker has left the token, and is about to ring when the poller is taken away.
///
/// Fails when `release` does not ring itself.
#[test]
fn models_release_rings_for_who_cannot() {
    // Counted: 167948.
    model(80_000, || release_while_an_owner_parks(true));
}

/// A task that runs on the owner of a shard: both are the calling thread.
struct Resident {
    woken: AtomicBool,
    driver: Arc<Driver>,
    shard: usize,
}

impl Wake for Resident {
    fn wake(self: Arc<Self>) {
        self.woken.swap(true, std::sync::atomic::Ordering::Release);
        self.driver.unpark(self.shard);
    }
}

impl Resident {
    /// Polls until ready; between polls parks on `shard`.
    fn drive<T>(
        driver: &Arc<Driver>,
        shard: usize,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> T {
        driver.attach(shard);
        let task = Arc::new(Resident {
            woken: AtomicBool::new(true),
            driver: driver.clone(),
            shard,
        });
        let waker = Waker::from(task.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if task.woken.swap(false, std::sync::atomic::Ordering::Acquire) {
                if let Poll::Ready(output) = poll(&mut cx) {
                    return output;
                }
            } else {
                driver.park(shard, NEVER);
            }
        }
    }
}

/// Reads what arrives at a source of shard 0, on the owner of shard 1. Where it has to wait for the
/// first time it moves the source to shard 1, and answers the outcome of that.
fn read_and_move(driver: &Arc<Driver>, source: &Source, stdin: &Stdin) -> Option<io::Result<()>> {
    let mut moved = None;
    Resident::drive(driver, 1, |cx| {
        loop {
            match source.poll_ready(Direction::Read, cx) {
                Poll::Pending => {
                    moved.get_or_insert_with(|| source.move_to(stdin.as_fd(), 1));
                    return Poll::Pending;
                }
                Poll::Ready(_) if Kernel::attempt() => return Poll::Ready(()),
                Poll::Ready(seen) => source.clear_blocked(Direction::Read, seen.unwrap()),
            }
        }
    });
    moved
}

/// Bytes arrive while a waiting task moves its source. The old shard is polled once, so the event is
/// in a batch of the old one, lost with the removal from it, or reported by the new one, as it comes.
/// With a stale readiness before, the task also clears against it.
///
/// Fails when the fake's `add` reports later changes only, and when `admit` makes a record of its own.
#[test]
fn models_a_move_against_an_event_of_the_old_shard() {
    for stale in [false, true] {
        // Counted: 982.
        model(490, move || {
            let driver = Arc::new(Driver::new(2));
            let stdin = io::stdin();
            let source = register(&driver, &stdin).unwrap();
            if stale {
                driver.shard(0).inject(&source, Occurred::READABLE);
                driver.poll(0);
            }
            let owner = thread::spawn({
                let driver = driver.clone();
                move || {
                    Kernel::arrive(Occurred::READABLE);
                    driver.poll(0);
                }
            });
            let moved = read_and_move(&driver, &source, &stdin);
            assert!(matches!(moved, None | Some(Ok(()))));
            owner.join().unwrap();
            drop(source);
        });
    }
}

/// The same while a helper polls the new shard, so that its first event may be taken out, and be
/// applied, before the move is over.
///
/// Fails when `admit` enters the key after the `add`, and when it makes a record of its own.
#[test]
fn models_a_move_against_an_event_of_the_new_shard() {
    // Counted: 7102.
    model(3500, || {
        let driver = Arc::new(Driver::new(2));
        let stdin = io::stdin();
        let source = register(&driver, &stdin).unwrap();
        let helper = thread::spawn({
            let driver = driver.clone();
            move || {
                Kernel::arrive(Occurred::READABLE);
                driver.poll(1);
                // If the task was too slow to move, or found it without waiting: shard 0 has an owner.
                driver.poll(0);
            }
        });
        let moved = read_and_move(&driver, &source, &stdin);
        assert!(matches!(moved, None | Some(Ok(()))));
        helper.join().unwrap();
        drop(source);
    });
}

/// The new poller takes nothing in, while bytes arrive. The source stays, and the old shard reports.
///
/// Fails when the source is taken out of the old shard before it is added to the new one.
#[test]
fn models_a_move_that_fails_loses_nothing() {
    // Counted: 361.
    model(180, || {
        let driver = Arc::new(Driver::new(2));
        let stdin = io::stdin();
        let source = register(&driver, &stdin).unwrap();
        Kernel::refuse();
        let owner = thread::spawn({
            let driver = driver.clone();
            move || {
                Kernel::arrive(Occurred::READABLE);
                driver.poll(0);
            }
        });
        let moved = read_and_move(&driver, &source, &stdin);
        assert!(matches!(moved, None | Some(Err(_))));
        assert_eq!(source.shard(), 0);
        owner.join().unwrap();
        drop(source);
    });
}

/// The driver is closed while a waiting task moves its source, towards the shard that is closed last
/// and the one that is closed first. The task gets the error.
///
/// Fails when the key of the old shard is given back before the one of the new shard is entered, and
/// when `Registry::insert` does not look at the closed flag.
#[test]
fn models_a_move_against_close() {
    for (from, to) in [(0, 1), (1, 0)] {
        // Counted: 2442.
        model(1200, move || {
            let driver = Arc::new(Driver::new(2));
            let stdin = io::stdin();
            let source = driver.register(stdin.as_fd(), from).unwrap();
            let closer = thread::spawn({
                let driver = driver.clone();
                move || driver.close()
            });
            let mut tried = false;
            let end = Resident::drive(&driver, to, |cx| {
                let polled = source.poll_ready(Direction::Read, cx);
                if polled.is_pending() && !std::mem::replace(&mut tried, true) {
                    let _ = source.move_to(stdin.as_fd(), to);
                }
                polled
            });
            assert!(end.unwrap_err().get_ref().unwrap().is::<Closed>());
            closer.join().unwrap();
            drop(source);
        });
    }
}

/// A source is taken out of the driver while another thread moves it. Nothing of it is left anywhere.
///
/// Fails when `deregister` marks the word after it has taken the lease and let it go, and when
/// `move_to` does not look at the mark, or looks before it has the lease.
#[test]
fn models_a_move_against_deregister() {
    // Counted: 21.
    model(10, || {
        let driver = Arc::new(Driver::new(2));
        let stdin = io::stdin();
        let source = Arc::new(register(&driver, &stdin).unwrap());
        let mover = thread::spawn({
            let source = source.clone();
            move || {
                let _ = source.move_to(io::stdin().as_fd(), 1);
            }
        });
        source.deregister(stdin.as_fd()).unwrap();
        mover.join().unwrap();
        assert_eq!(Kernel::watchers(), 0);
        assert!(!driver.is_used(0) && !driver.is_used(1));
        drop(source);
    });
}

/// A source is closed and another one registered, whose descriptor has the number of the first, as
/// likely as not. An event of the first is still under way in a batch. It must not reach the second.
///
/// Fails when `Registry::get` does not compare the generation, and when that does not go up.
#[test]
fn models_a_late_event_of_a_closed_source_reaches_nobody() {
    // Counted: 249.
    model(120, || {
        let driver = driver();
        let stdin = io::stdin();
        let first = register(&driver, &stdin).unwrap();
        driver.shard(0).inject(&first, Occurred::READABLE);
        let turn = thread::spawn({
            let driver = driver.clone();
            move || driver.poll(0)
        });
        first.deregister(stdin.as_fd()).unwrap();
        let second = register(&driver, &stdin).unwrap();
        turn.join().unwrap();
        assert!(!second.snapshot().is_readable(), "it is the first one's");
        drop((first, second));
    });
}

/// A task waits for a source while its event comes and another task takes it out of the driver. It is
/// told one or the other; afterwards nothing but the end is told.
///
/// Fails when `deregister` does not run the wakers, when `Record::finish` collects nobody, and when a wait
/// goes by the state of before it.
#[test]
fn models_a_wait_against_an_event_and_deregister() {
    // Counted: 32747.
    model(16300, || {
        let driver = driver();
        let stdin = io::stdin();
        let source = Arc::new(register(&driver, &stdin).unwrap());
        driver.shard(0).inject(&source, Occurred::READABLE);
        let turn = thread::spawn({
            let driver = driver.clone();
            move || driver.poll(0)
        });
        let closer = thread::spawn({
            let source = source.clone();
            move || source.deregister(io::stdin().as_fd()).unwrap()
        });
        let task = Task::new();
        match task.drive(|cx| source.poll_ready(Direction::Read, cx)) {
            Ok(seen) => assert!(seen.is_readable()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotConnected),
        }
        turn.join().unwrap();
        closer.join().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(error)) = source.poll_ready(Direction::Read, &mut cx) else {
            panic!("it is there no more");
        };
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert!(!driver.is_used(0));
    });
}

/// The owner of a shard at these times, one after another. Then it parks until it is told to end.
struct Owner {
    driver: Arc<Driver>,
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Owner {
    fn at(driver: &Arc<Driver>, hours: &'static [u64]) -> Owner {
        let ends = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (driver, ends) = (driver.clone(), ends.clone());
            move || {
                driver.attach(0);
                for hour in hours {
                    // A place to be interrupted at: setting the clock is none.
                    let _ = ends.load(Relaxed);
                    clock::model::set(*hour);
                    driver.poll(0);
                }
                while !ends.load(Relaxed) {
                    driver.park(0, NEVER);
                }
            }
        });
        Owner {
            driver: driver.clone(),
            ends,
            thread,
        }
    }

    fn end(self) {
        self.ends.store(true, Relaxed);
        self.driver.unpark(0);
        self.thread.join().unwrap();
    }
}

/// So late that the model itself does not get there.
fn hour(hours: u64) -> u64 {
    now() + hours * 3_600_000_000_000
}

/// A timer fires while its task moves it to a later time, which comes as well; or it would never have
/// come, and its owner sleeps for ever when the task moves it to an earlier time. The task is woken for
/// the second one, whatever has become of the first.
///
/// Fails when `rearm` answers that an entry was there which is not; when a reset rouses nobody; when
/// `arm` does not lower the alarm, and when `pop` sets it too late.
#[test]
fn models_a_timer_fires_against_a_reset() {
    for comes in [true, false] {
        // Counted: 2975.
        model(1400, move || {
            let driver = driver();
            let (first, second) = (if comes { hour(1) } else { NEVER }, hour(2));
            let mut timer = driver.timer(0);
            let task = Task::new();
            let waker = Waker::from(task.clone());
            let mut cx = Context::from_waker(&waker);
            assert!(timer.poll_at(first, &mut cx).is_pending());
            let owner = Owner::at(&driver, &[1, 2]);
            assert_eq!(task.drive(|cx| timer.poll_at(second, cx)), Ok(()));
            assert!(now() >= second, "too early");
            owner.end();
            assert!(!driver.is_used(0), "an entry is left");
        });
    }
}

/// A timer fires while its task polls it with another waker: that one is woken, or the poll is ready.
///
/// Fails when `replace` answers that the entry was there which is not, and when a second poll is
/// spared although the waker is another.
#[test]
fn models_a_timer_fires_against_another_waker() {
    // Counted: 170.
    model(85, || {
        let driver = driver();
        let deadline = hour(1);
        let mut timer = driver.timer(0);
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(timer.poll_at(deadline, &mut nobody).is_pending());
        let owner = Owner::at(&driver, &[1]);
        let task = Task::new();
        assert_eq!(task.drive(|cx| timer.poll_at(deadline, cx)), Ok(()));
        owner.end();
        assert!(!driver.is_used(0), "an entry is left");
    });
}

/// A timer fires while it is given up, and another one takes its place in the wheel. The second is not
/// given up with it, and its task is woken. Nothing is left.
///
/// Fails when an id is good for whatever is in its place; when `cancel` silences the alarm although there
/// are others; when `arm` rouses nobody.
#[test]
fn models_a_timer_fires_against_its_cancellation() {
    // Counted: 46617.
    model(23300, || {
        let driver = driver();
        let (first, second) = (hour(1), hour(2));
        let mut given_up = driver.timer(0);
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(given_up.poll_at(first, &mut nobody).is_pending());
        let other = thread::spawn({
            let driver = driver.clone();
            move || {
                let mut timer = driver.timer(0);
                let task = Task::new();
                assert_eq!(task.drive(|cx| timer.poll_at(second, cx)), Ok(()));
            }
        });
        let owner = Owner::at(&driver, &[1, 2]);
        given_up.cancel();
        other.join().unwrap();
        owner.end();
        assert!(!driver.is_used(0), "an entry is left");
        drop(given_up);
    });
}

/// The driver is closed while a task polls the timer that it waits for, which takes no lock. If it is told of the end,
/// it sees what came before.
///
/// Fails when `is_closed` or `Timers::close` is Relaxed.
#[test]
fn models_who_is_told_of_the_end_sees_what_came_before() {
    // Counted: 6.
    model(3, || {
        let driver = driver();
        let before = Arc::new(AtomicBool::new(false));
        let mut cx = Context::from_waker(Waker::noop());
        let mut timer = driver.timer(0);
        assert!(timer.poll_at(NEVER, &mut cx).is_pending());
        let closer = thread::spawn({
            let (driver, before) = (driver.clone(), before.clone());
            move || {
                before.store(true, Relaxed);
                driver.close();
            }
        });
        if timer.poll_at(NEVER, &mut cx).is_ready() {
            assert!(before.load(Relaxed), "it is told too early");
        }
        closer.join().unwrap();
    });
}
