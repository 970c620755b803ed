//! The driver as a whole, on real descriptors and threads.

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Closed, Direction, Driver, NEVER, Source, now};
use Direction::{Read as R, Write as W};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// Ends the process with a message when a test hangs.
pub(crate) struct Watchdog(
    #[expect(dead_code, reason = "its drop is the signal")] mpsc::Sender<()>,
);

pub(crate) fn watchdog(what: &'static str) -> Watchdog {
    let (alive, gone) = mpsc::channel();
    thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("hangs: {what}");
            std::process::abort();
        }
    });
    Watchdog(alive)
}

/// Counts wakes, and unparks the shard it is told.
pub(crate) struct Bell {
    rung: AtomicUsize,
    unparks: Option<(Arc<Driver>, usize)>,
}

impl Bell {
    pub(crate) fn silent() -> Arc<Bell> {
        Arc::new(Bell {
            rung: AtomicUsize::new(0),
            unparks: None,
        })
    }
    pub(crate) fn count(&self) -> usize {
        self.rung.load(SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, SeqCst);
        if let Some((driver, shard)) = &self.unparks {
            driver.unpark(*shard);
        }
    }
}

/// Runs a future on the calling thread, which parks on `shard`.
pub(crate) fn drive<F: Future>(driver: &Arc<Driver>, shard: usize, future: F) -> F::Output {
    driver.attach(shard);
    let bell = Arc::new(Bell {
        rung: AtomicUsize::new(1),
        unparks: Some((driver.clone(), shard)),
    });
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if bell.rung.swap(0, SeqCst) > 0 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
        } else {
            driver.park(shard, NEVER);
        }
    }
}

fn driver(shards: usize) -> Arc<Driver> {
    Arc::new(Driver::new(shards))
}

fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// What a socket's `read` does: try, and wait only after "would block" or, where that is enough,
/// after a short read.
pub(crate) async fn read(source: &Source, mut io: impl Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        let seen = poll_fn(|cx| source.poll_ready(R, cx)).await?;
        match io.read(buf) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => source.clear_blocked(R, seen),
            Ok(n) => {
                if n > 0 && n < buf.len() && source.driver().short_read_drains() {
                    source.clear(R, seen);
                }
                return Ok(n);
            }
            Err(e) => return Err(e),
        }
    }
}

pub(crate) async fn write_all(
    source: &Source,
    mut io: impl Write,
    mut buf: &[u8],
) -> io::Result<()> {
    while !buf.is_empty() {
        let seen = poll_fn(|cx| source.poll_ready(W, cx)).await?;
        match io.write(buf) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => source.clear_blocked(W, seen),
            Ok(n) => buf = &buf[n..],
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn poll_slot(source: &Source, d: Direction, bell: &Arc<Bell>) -> Poll<io::Result<crate::Ready>> {
    let waker = Waker::from(bell.clone());
    source.poll_ready(d, &mut Context::from_waker(&waker))
}

fn is_closed<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(e) if e.get_ref().is_some_and(|e| e.is::<Closed>()))
}

// --- Parking ---

/// A shard that is not there means the first one, also for who asks where a timer or a source is.
#[test]
fn a_shard_beyond_the_last_is_the_first() {
    let driver = driver(2);
    assert_eq!((driver.timer(1).shard(), driver.timer(7).shard()), (1, 0));
    let (a, _b) = pair();
    let source = driver.register(a.as_fd(), 7).unwrap();
    assert_eq!(source.shard(), 0);
    source.deregister(a.as_fd()).unwrap();
}

/// An unpark before the park is one token, however many there were.
#[test]
fn unparks_are_one_token() {
    let _dog = watchdog("unparks_are_one_token");
    let driver = driver(1);
    driver.attach(0);
    driver.unpark(0);
    driver.unpark(0);
    driver.park(0, NEVER);
    let start = Instant::now();
    driver.park(0, now() + 20 * MILLI);
    assert!(start.elapsed() >= Duration::from_millis(20), "one token");
}

/// The same in the poller, with a source registered.
#[test]
fn unparks_are_one_token_in_the_poller_too() {
    let _dog = watchdog("unparks_are_one_token_in_the_poller_too");
    let driver = driver(1);
    driver.attach(0);
    let (a, _b) = pair();
    let _source = driver.register(a.as_fd(), 0).unwrap();
    driver.park(0, NEVER); // the token of the new poller
    driver.park(0, NEVER); // the first event: writable
    driver.unpark(0);
    driver.unpark(0);
    driver.park(0, NEVER);
    let start = now();
    driver.park(0, start + 20 * MILLI);
    assert!(now() >= start + 20 * MILLI, "one token");
}

/// Who parks was told that no waker will be called, and goes by that. A timer whose time comes in this very moment is
/// for the next look.
#[test]
fn no_waker_is_called_that_was_not_told_of() {
    // Its clock goes on when it is told to.
    let driver = Arc::new(Driver::simulated(1));
    driver.attach(0);
    let deadline = driver.now() + 5;
    let (mut timer, bell) = (driver.timer(0), Bell::silent());
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(timer.poll_at(deadline, &mut cx).is_pending());
    for told in [false, true] {
        let mut calls = 0;
        driver.park_then(0, NEVER, &mut |wakes| {
            calls += 1;
            assert_eq!((wakes, bell.count()), (told, 0));
            driver.advance(deadline);
        });
        assert_eq!((calls, bell.count()), (1, usize::from(told)));
    }
}

/// A thread sleeps on its parker, and in the poller; each time another one wakes it.
#[test]
fn a_sleeping_owner_is_woken_from_both_beds() {
    let _dog = watchdog("a_sleeping_owner_is_woken_from_both_beds");
    for with_source in [false, true] {
        let driver = driver(1);
        let (a, _b) = pair();
        let _source = with_source.then(|| driver.register(a.as_fd(), 0).unwrap());
        let rounds = 200;
        let (ready, wait) = mpsc::channel();
        let stop = Arc::new(AtomicUsize::new(0));
        let owner = thread::spawn({
            let (driver, stop) = (driver.clone(), stop.clone());
            move || {
                driver.attach(0);
                for round in 1..=rounds {
                    ready.send(()).unwrap();
                    while stop.load(SeqCst) < round {
                        driver.park(0, NEVER);
                    }
                }
            }
        });
        for round in 1..=rounds {
            wait.recv().unwrap();
            stop.store(round, SeqCst);
            driver.unpark(0);
        }
        owner.join().unwrap();
    }
}

/// A deadline ends the sleep, not before it is reached and not long after.
#[test]
fn a_park_ends_at_its_deadline() {
    let _dog = watchdog("a_park_ends_at_its_deadline");
    let driver = driver(1);
    driver.attach(0);
    let (a, _b) = pair();
    for with_source in [false, true] {
        let source = with_source.then(|| {
            let source = driver.register(a.as_fd(), 0).unwrap();
            driver.park(0, NEVER);
            driver.park(0, NEVER);
            source
        });
        for after in [0, 1, 3 * MILLI, 300_000] {
            let deadline = now() + after;
            while now() < deadline {
                driver.park(0, deadline);
            }
            let late = now() - deadline;
            assert!(late < 200 * MILLI, "{late} ns late");
        }
        driver.park(0, 0); // long past
        drop(source);
    }
}

/// The owner sleeps on its thread when the first source appears. It must come back to look after it.
#[test]
fn a_source_registered_while_the_owner_sleeps_on_its_thread_is_served() {
    let _dog = watchdog("a_source_registered_while_the_owner_sleeps");
    let driver = driver(1);
    let (woken, wait) = mpsc::channel();
    struct Send1(mpsc::Sender<()>);
    impl Wake for Send1 {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    let owner = thread::spawn({
        let (driver, done) = (driver.clone(), done.clone());
        move || {
            driver.attach(0);
            while !done.load(SeqCst) {
                driver.park(0, NEVER);
            }
        }
    });
    while !format!("{driver:?}").contains("parked on its thread") {
        thread::yield_now();
    }
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    b.write_all(b"x").unwrap();
    let waker = Waker::from(Arc::new(Send1(woken)));
    if source
        .poll_ready(R, &mut Context::from_waker(&waker))
        .is_pending()
    {
        wait.recv_timeout(Duration::from_secs(5))
            .expect("nobody reported the event");
    }
    done.store(true, SeqCst);
    driver.unpark(0);
    owner.join().unwrap();
}

/// A shard that nobody uses costs nothing to poll; a helper leaves a sleeping owner's poller alone.
#[test]
fn helpers_take_the_turn_only_if_it_is_free() {
    let _dog = watchdog("helpers_take_the_turn_only_if_it_is_free");
    let driver = driver(2);
    assert_eq!((driver.poll(0), driver.poll(1)), (0, 0));
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 1).unwrap();
    assert!(driver.is_used(1) && !driver.is_used(0));
    let bell = Bell::silent();
    while driver.poll(1) == 0 && poll_slot(&source, R, &bell).is_pending() {
        // The owner of shard 1 is "blocked": this thread helps.
        if bell.count() == 0 {
            b.write_all(b"x").unwrap();
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let owner = thread::spawn({
        let (driver, stop) = (driver.clone(), stop.clone());
        move || {
            driver.attach(1);
            while !stop.load(SeqCst) {
                driver.park(1, NEVER);
            }
        }
    });
    while !format!("{driver:?}").contains("parked in the poller") {
        thread::yield_now();
    }
    for _ in 0..1000 {
        assert_eq!(driver.poll(1), 0);
    }
    stop.store(true, SeqCst);
    driver.unpark(1);
    owner.join().unwrap();
}

// --- Readiness ---

/// Bytes go back and forth; more than fits into the socket's buffer, so both directions wait.
#[test]
fn echo_of_a_megabyte() {
    let _dog = watchdog("echo_of_a_megabyte");
    let driver = driver(2);
    let (a, b) = tcp_pair();
    let data: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    let server = thread::spawn({
        let driver = driver.clone();
        move || {
            let source = driver.register(b.as_fd(), 1).unwrap();
            let echoed = drive(&driver, 1, async {
                let (mut buf, mut total) = (vec![0; 8192], 0);
                loop {
                    let n = read(&source, &b, &mut buf).await.unwrap();
                    if n == 0 {
                        return total;
                    }
                    write_all(&source, &b, &buf[..n]).await.unwrap();
                    total += n;
                }
            });
            source.deregister(b.as_fd()).unwrap();
            echoed
        }
    });
    let source = driver.register(a.as_fd(), 0).unwrap();
    // One task that sends and receives at once, through both slots.
    let received = drive(&driver, 0, async {
        let mut send = pin!(async {
            write_all(&source, &a, &data).await.unwrap();
            a.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut receive = pin!(async {
            let (mut buf, mut all) = (vec![0; 5000], Vec::new());
            loop {
                match read(&source, &a, &mut buf).await.unwrap() {
                    0 => return all,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        });
        let mut sent = false;
        poll_fn(|cx| {
            sent = sent || send.as_mut().poll(cx).is_ready();
            receive.as_mut().poll(cx)
        })
        .await
    });
    assert!(
        received == data,
        "{} bytes of {}",
        received.len(),
        data.len()
    );
    assert_eq!(server.join().unwrap(), data.len());
}

/// Data and the end of the stream arrive in one event. After the short read that takes the data the
/// reader must still find the end.
#[test]
fn data_and_end_together_give_both() {
    let _dog = watchdog("data_and_end_together_give_both");
    let driver = driver(1);
    for round in 0..20 {
        let (a, mut b) = tcp_pair();
        let source = driver.register(a.as_fd(), 0).unwrap();
        if round % 2 == 0 {
            driver.poll(0); // the first event is out of the way
        }
        b.write_all(b"last words").unwrap();
        drop(b);
        let (n, end) = drive(&driver, 0, async {
            let mut buf = [0; 64];
            let n = read(&source, &a, &mut buf).await.unwrap();
            (n, read(&source, &a, &mut buf).await.unwrap())
        });
        assert_eq!((n, end), (10, 0));
        source.deregister(a.as_fd()).unwrap();
    }
}

/// A peer that resets wakes readers and writers.
#[test]
fn a_hangup_wakes_both_directions() {
    let _dog = watchdog("a_hangup_wakes_both_directions");
    let driver = driver(1);
    let (a, b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    driver.attach(0);
    while !source.snapshot().is_writable() {
        driver.poll(0);
    }
    source.clear_blocked(W, source.snapshot());
    let (reader, writer) = (Bell::silent(), Bell::silent());
    assert!(poll_slot(&source, R, &reader).is_pending());
    assert!(poll_slot(&source, W, &writer).is_pending());
    drop(b);
    while reader.count() + writer.count() < 2 {
        driver.park(0, now() + SECOND);
    }
    assert_eq!((reader.count(), writer.count()), (1, 1));
    let seen = source.snapshot();
    assert!(seen.is_readable() && seen.is_writable());
    assert!(poll_slot(&source, R, &reader).is_ready());
}

/// Several tasks wait for one direction. One event wakes them all; one that is dropped, woken or not,
/// takes nothing from the others.
#[test]
fn listed_waiters_are_all_woken() {
    let _dog = watchdog("listed_waiters_are_all_woken");
    let driver = driver(1);
    driver.attach(0);
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    let bells: Vec<_> = (0..5).map(|_| Bell::silent()).collect();
    let mut waits: Vec<_> = bells
        .iter()
        .map(|bell| {
            let waker = Waker::from(bell.clone());
            let mut wait = Box::pin(source.ready(R));
            assert!(
                wait.as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            wait
        })
        .collect();
    drop(waits.remove(1));
    assert_eq!(Arc::strong_count(&bells[1]), 1, "its place is free");
    b.write_all(b"x").unwrap();
    while bells[4].count() == 0 {
        driver.park(0, now() + SECOND);
    }
    drop(waits.remove(0)); // woken, never looked
    let counts: Vec<_> = bells.iter().map(|bell| bell.count()).collect();
    assert_eq!(counts, [1, 0, 1, 1, 1]);
    for mut wait in waits {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(wait.as_mut().poll(&mut cx), Poll::Ready(Ok(seen)) if seen.is_readable()));
    }
    // The dropped one's readiness is still there for a late comer.
    let mut late = pin!(source.ready(R));
    assert!(
        late.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    );
}

/// The last poller's waker is the one that is woken.
#[test]
fn a_slot_wakes_its_last_poller() {
    let _dog = watchdog("a_slot_wakes_its_last_poller");
    let driver = driver(1);
    driver.attach(0);
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    let (first, second) = (Bell::silent(), Bell::silent());
    assert!(poll_slot(&source, R, &first).is_pending());
    assert!(poll_slot(&source, R, &second).is_pending());
    assert_eq!(Arc::strong_count(&first), 1);
    b.write_all(b"x").unwrap();
    while second.count() == 0 {
        driver.park(0, now() + SECOND);
    }
    assert_eq!((first.count(), second.count()), (0, 1));
}

/// A waker that is woken by the poller may take the turn itself: it is free again by then.
#[test]
fn the_turn_is_free_while_wakers_run() {
    struct Helper(Arc<Driver>, UnixStream, AtomicUsize);
    impl Wake for Helper {
        fn wake(self: Arc<Self>) {
            (&self.1).write_all(b"x").unwrap();
            self.2.store(self.0.poll(0), SeqCst);
        }
    }
    let _dog = watchdog("the_turn_is_free_while_wakers_run");
    let driver = driver(1);
    let ((a, mut b), (c, d)) = (pair(), pair());
    let source = driver.register(a.as_fd(), 0).unwrap();
    let other = driver.register(c.as_fd(), 0).unwrap();
    let (bell, helper) = (
        Bell::silent(),
        Arc::new(Helper(driver.clone(), d, 0.into())),
    );
    let waker = helper.clone().into();
    assert!(poll_slot(&other, R, &bell).is_pending());
    assert!(
        source
            .poll_ready(R, &mut Context::from_waker(&waker))
            .is_pending()
    );
    b.write_all(b"x").unwrap();
    assert_eq!(driver.poll(0), 1);
    assert_eq!(helper.2.load(SeqCst), 1, "somebody holds the turn");
    assert_eq!(bell.count(), 1);
}

/// A descriptor is closed, its number is taken again at once, and the old peer still acts: the new
/// source must not see it.
#[test]
fn a_reused_descriptor_gets_no_foreign_event() {
    let _dog = watchdog("a_reused_descriptor_gets_no_foreign_event");
    let driver = driver(1);
    let mut reused = 0;
    for _ in 0..50 {
        let (a, mut b) = pair();
        let number = a.as_raw_fd();
        let old = driver.register(a.as_fd(), 0).unwrap();
        b.write_all(b"for the old one").unwrap();
        old.deregister(a.as_fd()).unwrap();
        drop((a, old));
        let (c, _d) = pair();
        reused += usize::from(c.as_raw_fd() == number);
        let new = driver.register(c.as_fd(), 0).unwrap();
        drop(b);
        for _ in 0..3 {
            driver.poll(0);
        }
        let seen = new.snapshot();
        assert!(!seen.is_read_closed() && seen.is_writable(), "{seen:?}");
        let bell = Bell::silent();
        assert!(poll_slot(&new, R, &bell).is_pending());
        new.deregister(c.as_fd()).unwrap();
    }
    assert!(
        reused > 0 || cfg!(heist_portable_io),
        "the number was never taken again"
    );
}

/// The source is dropped without `deregister` while a duplicate keeps the description open, so that
/// the kernel goes on reporting a dead key. Its index is taken by another source.
#[test]
fn a_dead_key_goes_nowhere() {
    let _dog = watchdog("a_dead_key_goes_nowhere");
    let driver = driver(1);
    let (a, mut b) = pair();
    let duplicate = a.try_clone().unwrap();
    drop(driver.register(a.as_fd(), 0).unwrap());
    drop(a);
    let (c, _d) = pair();
    let source = driver.register(c.as_fd(), 0).unwrap();
    b.write_all(b"x").unwrap();
    for _ in 0..3 {
        driver.poll(0);
    }
    let seen = source.snapshot();
    assert!(seen.is_writable() && !seen.is_readable(), "{seen:?}");
    drop(duplicate);
}

#[test]
fn deregister_is_idempotent_and_wakes_who_waits() {
    let driver = driver(1);
    let (a, _b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    let bell = Bell::silent();
    assert!(poll_slot(&source, R, &bell).is_pending());
    source.deregister(a.as_fd()).unwrap();
    source.deregister(a.as_fd()).unwrap();
    assert_eq!(bell.count(), 1);
    let Poll::Ready(Err(error)) = poll_slot(&source, R, &bell) else {
        panic!("must not wait for ever");
    };
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(!is_closed::<()>(&Err(error)), "the driver is open");
    assert!(!driver.is_used(0));
    // And the descriptor can be registered anew.
    driver
        .register(a.as_fd(), 0)
        .unwrap()
        .deregister(a.as_fd())
        .unwrap();
}

/// What cannot be watched is refused with the system's error, and leaves nothing behind.
#[test]
fn a_plain_file_is_refused() {
    let driver = driver(1);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(driver.register(file.as_fd(), 0).is_err());
    assert!(!driver.is_used(0));
}

#[test]
fn a_shard_number_beyond_the_last_is_shard_0() {
    let driver = driver(0);
    assert_eq!(driver.shards(), 1);
    let (a, _b) = pair();
    let source = driver.register(a.as_fd(), 99).unwrap();
    assert_eq!(source.shard(), 0);
    driver.unpark(7);
    driver.attach(7);
    driver.park(7, NEVER);
    assert_eq!(driver.next_deadline(7), NEVER);
}

/// An ICMP error makes a UDP socket readable once, with an error. After that it must sleep again.
#[test]
fn an_error_does_not_make_a_reader_spin() {
    let _dog = watchdog("an_error_does_not_make_a_reader_spin");
    let driver = driver(1);
    driver.attach(0);
    let closed_port = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(closed_port).unwrap();
    let source = driver.register(socket.as_fd(), 0).unwrap();
    let bell = Bell::silent();
    assert!(poll_slot(&source, R, &bell).is_pending());
    socket.send(b"x").unwrap();
    let mut errors = 0;
    for _ in 0..100 {
        match poll_slot(&source, R, &bell) {
            Poll::Pending if errors > 0 => break,
            Poll::Pending => driver.park(0, now() + 10 * MILLI),
            Poll::Ready(seen) => match socket.recv(&mut [0; 8]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    source.clear_blocked(R, seen.unwrap());
                }
                Err(_) => errors += 1,
                Ok(_) => unreachable!("nobody sends"),
            },
        }
    }
    assert_eq!(errors, 1);
    assert!(poll_slot(&source, R, &bell).is_pending());
}

// --- Timers ---

fn poll_timer(timer: &mut crate::Timer, at: u64, bell: &Arc<Bell>) -> Poll<Result<(), Closed>> {
    let waker = Waker::from(bell.clone());
    timer.poll_at(at, &mut Context::from_waker(&waker))
}

/// A sleep ends after its deadline, and soon after.
#[test]
fn timers_are_never_early_and_seldom_late() {
    let _dog = watchdog("timers_are_never_early_and_seldom_late");
    for with_source in [false, true] {
        let driver = driver(1);
        let (a, _b) = pair();
        let _source = with_source.then(|| driver.register(a.as_fd(), 0).unwrap());
        let mut late: Vec<u64> = (0..40)
            .map(|i| {
                let deadline = now() + 500_000 + i * 70_000;
                let mut timer = driver.timer(0);
                let result = drive(&driver, 0, poll_fn(|cx| timer.poll_at(deadline, cx)));
                assert_eq!(result, Ok(()));
                assert!(!timer.is_armed());
                now().checked_sub(deadline).expect("early")
            })
            .collect();
        late.sort_unstable();
        assert!(
            late[late.len() / 2] < 20 * MILLI,
            "median {} ns late",
            late[20]
        );
        assert_eq!(driver.next_deadline(0), NEVER);
    }
}

/// Deadlines of all distances, armed in disorder, fire in order.
#[test]
fn timers_fire_in_order() {
    let _dog = watchdog("timers_fire_in_order");
    struct Mark(u64, mpsc::Sender<u64>);
    impl Wake for Mark {
        fn wake(self: Arc<Self>) {
            self.1.send(self.0).unwrap();
        }
    }
    let driver = driver(1);
    driver.attach(0);
    let (fired, order) = mpsc::channel();
    // Far enough for a slow build to arm them all before the first is due.
    let base = now() + 200 * MILLI;
    let mut timers: Vec<_> = (0..500u64)
        .map(|i| {
            let at = base + (i * 7919 % 500) * 20_011;
            let waker = Waker::from(Arc::new(Mark(at, fired.clone())));
            let mut timer = driver.timer(0);
            assert!(
                timer
                    .poll_at(at, &mut Context::from_waker(&waker))
                    .is_pending()
            );
            timer
        })
        .collect();
    drop(timers.drain(..100));
    let mut seen = Vec::new();
    while seen.len() < 400 {
        driver.park(0, NEVER);
        seen.extend(order.try_iter());
    }
    assert!(seen.is_sorted());
    assert_eq!(driver.next_deadline(0), NEVER);
}

#[test]
fn a_past_deadline_is_ready_without_an_entry() {
    let driver = driver(1);
    let bell = Bell::silent();
    let mut timer = driver.timer(0);
    assert_eq!(poll_timer(&mut timer, 0, &bell), Poll::Ready(Ok(())));
    assert_eq!(poll_timer(&mut timer, now(), &bell), Poll::Ready(Ok(())));
    assert!(!driver.is_used(0) && !timer.is_armed());
}

/// Cancelling and dropping free the entry and its waker at once.
#[test]
fn cancelled_timers_leave_nothing() {
    let driver = driver(1);
    let bell = Bell::silent();
    let timers: Vec<_> = (1..1000)
        .map(|i| {
            let mut timer = driver.timer(0);
            assert!(poll_timer(&mut timer, now() + i * SECOND, &bell).is_pending());
            timer
        })
        .collect();
    assert_eq!(Arc::strong_count(&bell), 1000);
    assert!(driver.is_used(0));
    assert_eq!(driver.shard(0).timers.len(), 999);
    drop(timers);
    assert_eq!(driver.shard(0).timers.len(), 0);
    assert_eq!(Arc::strong_count(&bell), 1);
    assert_eq!(driver.next_deadline(0), NEVER);
    assert_eq!(bell.count(), 0);
}

/// A second poll with the same waker changes nothing; another waker replaces it; another deadline
/// moves it, both ways.
#[test]
fn polling_again_refreshes_what_changed() {
    let _dog = watchdog("polling_again_refreshes_what_changed");
    let driver = driver(1);
    driver.attach(0);
    let (first, second) = (Bell::silent(), Bell::silent());
    let mut timer = driver.timer(0);
    let far = now() + 100 * SECOND;
    assert!(poll_timer(&mut timer, far, &first).is_pending());
    assert!(poll_timer(&mut timer, far, &first).is_pending());
    assert_eq!(Arc::strong_count(&first), 2);
    assert!(poll_timer(&mut timer, far, &second).is_pending());
    assert_eq!(
        (Arc::strong_count(&first), Arc::strong_count(&second)),
        (1, 2)
    );
    let near = now() + MILLI;
    assert!(poll_timer(&mut timer, far + SECOND, &second).is_pending());
    assert!(poll_timer(&mut timer, near, &second).is_pending() || now() >= near);
    assert_eq!(driver.shard(0).timers.len(), usize::from(timer.is_armed()));
    while second.count() == 0 && timer.is_armed() {
        driver.park(0, NEVER);
    }
    assert!(now() >= near);
    assert_eq!(poll_timer(&mut timer, near, &second), Poll::Ready(Ok(())));
    assert!(!timer.is_armed());
}

/// Another thread arms an earlier timer in a shard whose owner sleeps, on its thread or in the poller.
#[test]
fn a_foreign_timer_rouses_a_sleeping_owner() {
    let _dog = watchdog("a_foreign_timer_rouses_a_sleeping_owner");
    for (with_source, bed) in [
        (false, "parked on its thread"),
        (true, "parked in the poller"),
    ] {
        let driver = driver(1);
        let (a, _b) = pair();
        let _source = with_source.then(|| driver.register(a.as_fd(), 0).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let owner = thread::spawn({
            let (driver, stop) = (driver.clone(), stop.clone());
            move || {
                driver.attach(0);
                while !stop.load(SeqCst) {
                    driver.park(0, NEVER);
                }
            }
        });
        for _ in 0..20 {
            while !format!("{driver:?}").contains(bed) {
                thread::yield_now();
            }
            let (bell, mut timer) = (Bell::silent(), driver.timer(0));
            let deadline = now() + 200_000;
            if poll_timer(&mut timer, deadline, &bell).is_pending() {
                while bell.count() == 0 {
                    thread::yield_now();
                }
            }
            assert!(now() >= deadline);
        }
        stop.store(true, SeqCst);
        driver.unpark(0);
        owner.join().unwrap();
    }
}

/// An owner that arms a timer of its own makes no token for itself, so its next park sleeps.
#[test]
fn an_owner_does_not_rouse_itself() {
    let driver = driver(1);
    driver.attach(0);
    let (bell, mut timer) = (Bell::silent(), driver.timer(0));
    assert!(poll_timer(&mut timer, now() + SECOND, &bell).is_pending());
    assert!(format!("{driver:?}").contains("\"awake\""), "{driver:?}");
}

// --- The end ---

#[test]
fn close_wakes_every_waiter() {
    let _dog = watchdog("close_wakes_every_waiter");
    let driver = driver(2);
    driver.attach(0);
    let (a, _b) = pair();
    let source = driver.register(a.as_fd(), 1).unwrap();
    let bells: Vec<_> = (0..4).map(|_| Bell::silent()).collect();
    assert!(poll_slot(&source, R, &bells[0]).is_pending());
    let waker = Waker::from(bells[1].clone());
    let mut listed = pin!(source.ready(R));
    assert!(
        listed
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let (mut finite, mut never) = (driver.timer(0), driver.timer(1));
    let far = now() + 100 * SECOND;
    assert!(poll_timer(&mut finite, far, &bells[2]).is_pending());
    assert!(poll_timer(&mut never, NEVER, &bells[3]).is_pending());
    assert!(!driver.is_closed());

    driver.close();
    driver.close();
    assert!(driver.is_closed());
    let counts: Vec<_> = bells.iter().map(|bell| bell.count()).collect();
    assert_eq!(counts, [1, 1, 1, 1]);
    driver.park(0, NEVER); // unparked

    let Poll::Ready(result) = poll_slot(&source, R, &bells[0]) else {
        panic!("waits on a closed driver")
    };
    assert!(is_closed(&result));
    let Poll::Ready(result) = listed.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("waits on a closed driver")
    };
    assert!(is_closed(&result));
    assert_eq!(
        poll_timer(&mut finite, far, &bells[2]),
        Poll::Ready(Err(Closed))
    );
    assert_eq!(
        poll_timer(&mut never, NEVER, &bells[3]),
        Poll::Ready(Err(Closed))
    );
    assert_eq!(
        poll_timer(&mut driver.timer(0), far, &bells[3]),
        Poll::Ready(Err(Closed))
    );
    assert_eq!(
        poll_timer(&mut finite, 0, &bells[2]),
        Poll::Ready(Ok(())),
        "it has passed"
    );
    assert!(is_closed(&driver.register(a.as_fd(), 0)));
    assert!(source.snapshot().is_closed());
    source.deregister(a.as_fd()).unwrap();
}

/// After `release` everything that can be called still answers, and parking works without descriptors.
#[test]
fn everything_answers_after_release() {
    let _dog = watchdog("everything_answers_after_release");
    let driver = driver(1);
    driver.attach(0);
    let (a, _b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    driver.release();
    driver.release();
    driver.park(0, NEVER);
    driver.unpark(0);
    driver.park(0, NEVER);
    driver.park(0, now() + MILLI);
    assert_eq!(driver.poll(0), 0);
    assert!(is_closed(&driver.register(a.as_fd(), 0)));
    source.deregister(a.as_fd()).unwrap();
    drop(source);
}

/// `release` and `unpark` from several threads while an owner parks, which is against the rule: no hang
/// and no write to a descriptor that is gone.
#[test]
fn release_against_parking_does_not_hang() {
    let _dog = watchdog("release_against_parking_does_not_hang");
    for _ in 0..50 {
        let driver = driver(1);
        let (a, _b) = pair();
        let _source = driver.register(a.as_fd(), 0).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let owner = thread::spawn({
            let (driver, stop) = (driver.clone(), stop.clone());
            move || {
                driver.attach(0);
                while !stop.load(SeqCst) {
                    driver.park(0, NEVER);
                }
            }
        });
        let other = thread::spawn({
            let driver = driver.clone();
            move || (0..100).for_each(|_| driver.unpark(0))
        });
        driver.release();
        other.join().unwrap();
        stop.store(true, SeqCst);
        driver.unpark(0);
        owner.join().unwrap();
    }
}

/// Wakers that panic, and wakers that call back into the driver, are run with nothing held.
#[test]
fn wakers_may_do_as_they_like() {
    let _dog = watchdog("wakers_may_do_as_they_like");
    struct Rude(Arc<Driver>, AtomicUsize);
    impl Wake for Rude {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, SeqCst);
            self.0.poll(0);
            self.0.unpark(0);
            let (a, _b) = pair();
            drop(self.0.register(a.as_fd(), 0).unwrap());
            let mut timer = self.0.timer(0);
            let _ = timer.poll_at(now() + SECOND, &mut Context::from_waker(Waker::noop()));
            panic!("a waker's panic, expected here");
        }
    }
    let driver = driver(1);
    driver.attach(0);
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    let rude = Arc::new(Rude(driver.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(rude.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(source.poll_ready(R, &mut cx).is_pending());
    let mut timer = driver.timer(0);
    assert!(timer.poll_at(now() + 20 * MILLI, &mut cx).is_pending());
    b.write_all(b"x").unwrap();
    while rude.1.load(SeqCst) < 2 {
        driver.park(0, NEVER);
    }
    assert_eq!(rude.1.load(SeqCst), 2);
}

#[test]
fn the_public_types_can_be_shared() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    check::<Driver>();
    check::<Source>();
    check::<crate::Timer>();
    check::<crate::Ready>();
    check::<crate::ReadyFuture<'static>>();
}

// --- Moves ---

/// Fills the send buffer, so that a writer has to wait.
fn fill(source: &Source, mut io: impl Write) {
    while !source.snapshot().is_writable() {
        source.driver().poll(source.shard());
    }
    let seen = source.snapshot();
    while io.write(&[0; 4096]).is_ok() {}
    source.clear_blocked(W, seen);
}

/// A reader and a writer wait in the slots, two more in the list, while their source moves. Each event
/// that comes then is reported by the new shard alone, and wakes those of its direction.
#[test]
fn waiters_of_both_directions_survive_a_move() {
    let _dog = watchdog("waiters_of_both_directions_survive_a_move");
    let driver = driver(2);
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    fill(&source, &a);
    let bells: Vec<_> = (0..4).map(|_| Bell::silent()).collect();
    let wakers: Vec<_> = bells.iter().map(|bell| Waker::from(bell.clone())).collect();
    let (mut listed_r, mut listed_w) = (pin!(source.ready(R)), pin!(source.ready(W)));
    assert!(poll_slot(&source, R, &bells[0]).is_pending());
    assert!(poll_slot(&source, W, &bells[1]).is_pending());
    let mut cx = Context::from_waker(&wakers[2]);
    assert!(listed_r.as_mut().poll(&mut cx).is_pending());
    let mut cx = Context::from_waker(&wakers[3]);
    assert!(listed_w.as_mut().poll(&mut cx).is_pending());

    source.move_to(a.as_fd(), 1).unwrap();
    source.move_to(a.as_fd(), 1).unwrap();
    assert_eq!((source.shard(), driver.moves()), (1, 1));
    assert!(!driver.is_used(0) && driver.is_used(1));
    let counts = || -> Vec<_> { bells.iter().map(|bell| bell.count()).collect() };
    b.write_all(b"x").unwrap();
    assert_eq!(driver.poll(0), 0);
    driver.attach(1);
    while bells[0].count() == 0 {
        driver.park(1, now() + SECOND);
    }
    assert_eq!(counts()[..3], [1, 0, 1], "the readers");
    let mut buf = [0; 1 << 16];
    while bells[1].count() == 0 {
        let _ = b.read(&mut buf);
        driver.park(1, now() + SECOND);
    }
    assert_eq!(counts(), [1, 1, 1, 1]);
    assert_eq!(driver.poll(0), 0);
    source.deregister(a.as_fd()).unwrap();
    assert!(!driver.is_used(0) && !driver.is_used(1));
}

/// Bytes have arrived, and the old shard has not looked: the new one reports them. So it does when the
/// old one has, and nobody has read.
#[test]
fn what_came_before_a_move_is_reported_after_it() {
    let _dog = watchdog("what_came_before_a_move_is_reported_after_it");
    for looked in [false, true] {
        let driver = driver(2);
        let (a, mut b) = pair();
        let source = driver.register(a.as_fd(), 0).unwrap();
        let bell = Bell::silent();
        assert!(poll_slot(&source, R, &bell).is_pending());
        driver.poll(0); // the first event: writable
        b.write_all(b"x").unwrap();
        drop(b);
        if looked {
            driver.poll(0);
            source.clear_blocked(R, source.snapshot());
            assert!(poll_slot(&source, R, &bell).is_pending());
        }
        let before = bell.count();
        source.move_to(a.as_fd(), 1).unwrap();
        driver.attach(1);
        while bell.count() == before {
            driver.park(1, now() + SECOND);
        }
        let seen = source.snapshot();
        assert!(seen.is_readable());
        assert!(seen.is_read_closed() || !driver.short_read_drains());
        source.deregister(a.as_fd()).unwrap();
    }
}

/// The new shard cannot take the source in. It stays where it was and goes on working.
#[test]
fn a_source_that_cannot_move_stays_and_works() {
    let _dog = watchdog("a_source_that_cannot_move_stays_and_works");
    let driver = driver(2);
    if driver.backend() != "epoll" {
        // Elsewhere the poller gets a duplicate, and takes it in.
        return;
    }
    let (a, mut b) = pair();
    let source = driver.register(a.as_fd(), 0).unwrap();
    // One descriptor cannot be in a poller twice.
    let twin = driver.register(a.as_fd(), 1).unwrap();
    let bell = Bell::silent();
    assert!(poll_slot(&source, R, &bell).is_pending());
    let error = source.move_to(a.as_fd(), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!((source.shard(), driver.moves()), (0, 0));
    b.write_all(b"x").unwrap();
    driver.attach(0);
    while bell.count() == 0 {
        driver.park(0, now() + SECOND);
    }
    assert!(source.snapshot().is_readable());
    twin.deregister(a.as_fd()).unwrap();
    assert!(!driver.is_used(1), "nothing was left behind");
    source.move_to(a.as_fd(), 1).unwrap();
    source.deregister(a.as_fd()).unwrap();
    assert!(!driver.is_used(0) && !driver.is_used(1));
}

/// What has ended moves no more, and a source that moved is taken out of the shard where it is.
#[test]
fn a_source_that_has_ended_does_not_move() {
    let driver = driver(2);
    let (a, b) = pair();
    let (one, two) = (
        driver.register(a.as_fd(), 0).unwrap(),
        driver.register(b.as_fd(), 0).unwrap(),
    );
    one.deregister(a.as_fd()).unwrap();
    let error = one.move_to(a.as_fd(), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(!is_closed::<()>(&Err(error)));
    two.move_to(b.as_fd(), 7).unwrap();
    assert_eq!(two.shard(), 0, "a shard that is not there is shard 0");
    two.move_to(b.as_fd(), 1).unwrap();
    let bell = Bell::silent();
    assert!(poll_slot(&two, R, &bell).is_pending());
    driver.close();
    assert_eq!(bell.count(), 1);
    assert!(is_closed(&two.move_to(b.as_fd(), 0)));
    driver.release();
    assert!(is_closed(&two.move_to(b.as_fd(), 0)));
    assert_eq!((one.shard(), two.shard()), (0, 1));
    two.deregister(b.as_fd()).unwrap();
}

/// Sources move, and their descriptors are closed and opened anew under the same number. No event of
/// a predecessor reaches a successor, from either shard.
#[test]
fn a_reused_descriptor_gets_no_event_of_one_that_moved() {
    let _dog = watchdog("a_reused_descriptor_gets_no_event_of_one_that_moved");
    let driver = driver(2);
    let mut reused = 0;
    for round in 0..200 {
        let (a, mut b) = pair();
        let source = driver.register(a.as_fd(), round % 2).unwrap();
        b.write_all(b"x").unwrap();
        source.move_to(a.as_fd(), 1 - round % 2).unwrap();
        if round % 3 == 0 {
            drop(source); // without taking it out
        } else {
            source.deregister(a.as_fd()).unwrap();
        }
        let number = a.as_raw_fd();
        drop((a, b));
        let (c, _d) = pair();
        reused += usize::from(c.as_raw_fd() == number);
        let next = driver.register(c.as_fd(), round % 2).unwrap();
        driver.poll(0);
        driver.poll(1);
        assert!(!next.snapshot().is_readable(), "round {round}");
        next.deregister(c.as_fd()).unwrap();
    }
    assert!(reused > 0, "other tests took every number");
}

/// Two megabytes are echoed, again and again, while a third thread moves the echoing source to and fro as fast as it can,
/// and serves the shard that has no owner: until it has moved often enough, since on a busy machine that thread may have
/// no turn for a while.
#[test]
fn a_source_that_is_moved_all_the_time_loses_nothing() {
    let _dog = watchdog("a_source_that_is_moved_all_the_time_loses_nothing");
    let driver = driver(3);
    let (a, b) = tcp_pair();
    let stop = AtomicBool::new(false);
    let data: Vec<u8> = (0..2 << 20).map(|i| (i % 251) as u8).collect();
    let source = driver.register(b.as_fd(), 1).unwrap();
    let (echoed, sent) = thread::scope(|scope| {
        let mover = scope.spawn(|| {
            while !stop.load(SeqCst) {
                for shard in [2, 1] {
                    source.move_to(b.as_fd(), shard).unwrap();
                    driver.poll(2);
                }
            }
        });
        let client = scope.spawn(|| {
            a.set_nonblocking(false).unwrap();
            let mut sent = 0;
            while sent == 0 || driver.moves() <= 100 {
                let echo = thread::scope(|scope| {
                    scope.spawn(|| (&a).write_all(&data).unwrap());
                    let mut all = vec![0; data.len()];
                    (&a).read_exact(&mut all).unwrap();
                    all
                });
                assert!(echo == data, "what came back is not what was sent");
                sent += data.len();
            }
            a.shutdown(std::net::Shutdown::Write).unwrap();
            sent
        });
        let echoed = drive(&driver, 1, async {
            let (mut buf, mut total) = (vec![0; 1000], 0);
            loop {
                let n = read(&source, &b, &mut buf).await.unwrap();
                if n == 0 {
                    return total;
                }
                write_all(&source, &b, &buf[..n]).await.unwrap();
                total += n;
            }
        });
        let sent = client.join().unwrap();
        stop.store(true, SeqCst);
        mover.join().unwrap();
        (echoed, sent)
    });
    assert_eq!(echoed, sent);
    assert!(driver.moves() > 100);
    source.deregister(b.as_fd()).unwrap();
    assert!(!driver.is_used(1) && !driver.is_used(2));
}
