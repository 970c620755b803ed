//! Foreign wakers: made by hand, and each of their operations may panic.
//!
//! A waker is user code four times over: `clone`, `wake`, `wake_by_ref` and `drop`. Whatever heist
//! waits with is polled here with a waker of which one of these panics, and afterwards with a good one.
//! The panic may come out of the call that was made with the bad waker; it must not come out anywhere
//! else, must take no wake-up from anybody, and must leave nothing behind.
//!
//! Such a waker needs unsafe code, hence this program of its own.
#![expect(
    clippy::waker_clone_wake,
    reason = "each way to wake is a case of its own"
)]

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{Instant, interval, sleep, sleep_until, timeout};
use heist::{Handle, Runtime, TaskGroup, catch_cancel, yield_now};
use heist_tests::support::{
    Name, Reports, ThreadCount, eventually, own_pair, text_of, within, within_for,
};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::thread;
use std::time::Duration;

// ---- the waker ----

/// One of the things that are done with a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Clone,
    Wake,
    Drop,
}

/// What all clones of a bad waker share.
#[derive(Debug)]
struct Bad {
    panics: Option<Op>,
    /// Clones that are alive.
    live: AtomicIsize,
    wakes: AtomicUsize,
    /// How often it has panicked.
    panicked: AtomicUsize,
}

impl Bad {
    fn new(panics: Option<Op>) -> Arc<Bad> {
        Arc::new(Bad {
            panics,
            live: AtomicIsize::new(0),
            wakes: AtomicUsize::new(0),
            panicked: AtomicUsize::new(0),
        })
    }

    /// A waker of this kind.
    fn waker(self: &Arc<Bad>) -> Waker {
        self.live.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the functions keep to the contract of `RawWakerVTable`: the pointer is that of an
        // `Arc`, and each waker owns one count of it.
        unsafe { Waker::from_raw(raw(self.clone())) }
    }

    fn live(&self) -> isize {
        self.live.load(Ordering::SeqCst)
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    fn panicked(&self) -> usize {
        self.panicked.load(Ordering::SeqCst)
    }

    fn may_panic(&self, op: Op) {
        // Not on top of another panic, which would be the user's abort and not ours.
        if self.panics == Some(op) && !thread::panicking() {
            self.panicked.fetch_add(1, Ordering::SeqCst);
            panic_any("a foreign waker");
        }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

fn raw(bad: Arc<Bad>) -> RawWaker {
    RawWaker::new(Arc::into_raw(bad).cast(), &VTABLE)
}

/// # Safety
///
/// 1. `data` is that of a waker which the caller owns, and gives up.
unsafe fn own(data: *const ()) -> Arc<Bad> {
    // SAFETY: (1) it owns one count.
    unsafe { Arc::from_raw(data.cast()) }
}

/// # Safety
///
/// 1. `data` is that of a waker which the caller borrows for `'a`.
unsafe fn borrow<'a>(data: *const ()) -> &'a Bad {
    // SAFETY: (1) its count keeps the value.
    unsafe { &*data.cast() }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the caller borrows a waker.
    let bad = unsafe { borrow(data) };
    bad.may_panic(Op::Clone);
    bad.live.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the caller borrows a waker, whose count keeps the value alive meanwhile.
    unsafe { Arc::increment_strong_count(data.cast::<Bad>()) };
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the caller owns a waker, used up by this call.
    let bad = unsafe { own(data) };
    bad.live.fetch_sub(1, Ordering::SeqCst);
    bad.wakes.fetch_add(1, Ordering::SeqCst);
    bad.may_panic(Op::Wake);
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the caller borrows a waker.
    let bad = unsafe { borrow(data) };
    bad.wakes.fetch_add(1, Ordering::SeqCst);
    bad.may_panic(Op::Wake);
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the caller owns a waker, used up by this call.
    let bad = unsafe { own(data) };
    bad.live.fetch_sub(1, Ordering::SeqCst);
    bad.may_panic(Op::Drop);
}

// ---- the places ----

/// Something that waits, and how to bring about what it waits for.
struct Place {
    waits: Pin<Box<dyn Future<Output = ()> + Send>>,
    bring_about: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Place {
    fn new(
        waits: impl Future<Output = ()> + Send + 'static,
        bring_about: impl Future<Output = ()> + Send + 'static,
    ) -> Place {
        Place {
            waits: Box::pin(waits),
            bring_about: Box::pin(bring_about),
        }
    }
}

const NAMES: [&str; 16] = [
    "JoinHandle",
    "JoinHandle of a closure",
    "sleep",
    "interval",
    "timeout",
    "poll_read",
    "poll_write",
    "read",
    "readable and poll_read",
    "accept",
    "incoming",
    "recv_from",
    "catch_cancel",
    "TaskGroup",
    "TaskGroup with a limit",
    "shield",
];

/// Writes until the other side must read.
async fn fill(stream: &TcpStream) {
    let full = async {
        loop {
            let wrote = (&mut &*stream).write(&[0; 1 << 16]).await;
            wrote.expect("the other side is open");
        }
    };
    assert!(timeout(Duration::from_millis(30), full).await.is_err());
}

const SHORT: Duration = Duration::from_millis(5);

async fn place(name: &str) -> Place {
    let (go, gone) = async_channel::bounded::<()>(1);
    let opens = async move { drop(go) };
    let closed = async move { while gone.recv().await.is_ok() {} };
    match name {
        "JoinHandle" => {
            let task = heist::spawn(closed);
            Place::new(async move { task.await.expect("it ends") }, opens)
        }
        "JoinHandle of a closure" => {
            let (go, gone) = std::sync::mpsc::channel::<()>();
            let task = heist::spawn_blocking(move || while gone.recv().is_ok() {});
            let waits = async move { task.await.expect("it ends") };
            Place::new(waits, async move { drop(go) })
        }
        "sleep" => Place::new(sleep(SHORT), async {}),
        "interval" => {
            let mut ticks = interval(SHORT);
            ticks.tick().await;
            Place::new(
                async move { assert!(ticks.tick().await <= Instant::now()) },
                async {},
            )
        }
        "timeout" => {
            let limited = timeout(SHORT, pending::<()>());
            Place::new(async move { assert!(limited.await.is_err()) }, async {})
        }
        "poll_read" => {
            let (client, server) = own_pair().await;
            let waits = async move {
                let read = (&mut &server).read(&mut [0; 8]).await;
                assert_eq!(read.expect("it is open"), 1);
                assert_eq!(server.read(&mut [0; 8]).await.expect("the end"), 0);
            };
            Place::new(waits, async move {
                client.write_all(b"x").await.expect("it is open");
            })
        }
        "poll_write" => {
            let (client, server) = own_pair().await;
            fill(&client).await;
            let waits = async move {
                let wrote = (&mut &client).write(b"x").await;
                assert_eq!(wrote.expect("it is open"), 1);
            };
            Place::new(waits, async move {
                let mut buffer = vec![0; 1 << 20];
                while let Ok(Ok(read)) = timeout(SHORT * 4, server.read(&mut buffer)).await {
                    if read == 0 {
                        break;
                    }
                }
            })
        }
        "read" => {
            let (client, server) = own_pair().await;
            let waits = async move {
                let read = server.read(&mut [0; 8]).await;
                assert_eq!(read.expect("it is open"), 1);
            };
            Place::new(waits, async move {
                client.write_all(b"x").await.expect("it is open");
                sleep(SHORT).await;
            })
        }
        "readable and poll_read" => {
            let (client, server) = own_pair().await;
            let waits = async move {
                let both = &server;
                let mut buffer = [0; 8];
                let read = both.read(&mut buffer);
                let (ready, read) = futures::join!(server.readable(), read);
                ready.expect("it is open");
                assert_eq!(read.expect("it is open"), 1);
            };
            Place::new(waits, async move {
                client.write_all(b"x").await.expect("it is open");
                sleep(SHORT).await;
            })
        }
        "accept" | "incoming" => {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let address = listener.local_addr().expect("an address");
            let connects = async move {
                let client = TcpStream::connect(address).await;
                sleep(SHORT).await;
                drop(client.expect("a client"));
            };
            if name == "accept" {
                let waits = async move { drop(listener.accept().await.expect("a connection")) };
                return Place::new(waits, connects);
            }
            let waits = async move {
                let next = listener.incoming().next().await;
                drop(next.expect("it never ends").expect("a connection"));
            };
            Place::new(waits, connects)
        }
        "recv_from" => {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let address = socket.local_addr().expect("an address");
            let waits = async move {
                let got = socket.recv_from(&mut [0; 8]).await;
                assert_eq!(got.expect("a datagram").0, 1);
            };
            Place::new(waits, async move {
                let other = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
                let sent = other.send_to(b"x", address).await;
                assert_eq!(sent.expect("it is sent"), 1);
            })
        }
        "catch_cancel" => {
            // Not the channel itself, which is somebody else's.
            let caught = catch_cancel(heist::spawn(closed));
            let waits = async move { caught.await.expect("no request").expect("it ends") };
            Place::new(waits, opens)
        }
        "TaskGroup" => {
            let group = TaskGroup::run(async move |g| {
                drop(g.spawn(async move {
                    closed.await;
                    Ok::<_, String>(())
                }));
                Ok(())
            });
            Place::new(async move { group.await.expect("no failure") }, opens)
        }
        "TaskGroup with a limit" => {
            let group = TaskGroup::builder().concurrency(1).run(async move |g| {
                drop(g.spawn(async move {
                    closed.await;
                    Ok::<_, String>(())
                }));
                // Waits for its turn.
                drop(g.spawn(async { Ok::<_, String>(()) }));
                Ok(())
            });
            Place::new(async move { group.await.expect("no failure") }, opens)
        }
        "shield" => {
            let shielded = heist::task::shield(heist::spawn(closed));
            Place::new(async move { shielded.await.expect("it ends") }, opens)
        }
        unknown => panic!("there is no place {unknown}"),
    }
}

/// Polls once with that waker. Whether it was pending; a panic is the waker's.
#[track_caller]
fn poll_with(future: &mut Pin<Box<dyn Future<Output = ()> + Send>>, waker: &Waker) -> Option<bool> {
    let poll = || {
        let mut cx = Context::from_waker(waker);
        future.as_mut().poll(&mut cx).is_pending()
    };
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(pending) => Some(pending),
        Err(payload) => {
            assert_eq!(text_of(&*payload), "a foreign waker");
            None
        }
    }
}

/// Drops a waker of which the drop may panic.
fn let_go(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
}

/// Whoever wakes one drops it a moment later.
async fn no_clone_is_left(bad: &Bad, name: &str, op: Op) {
    let gone = async {
        while bad.live() != 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let gone = timeout(Duration::from_secs(5), gone).await;
    assert!(
        gone.is_ok(),
        "{name}, {op:?}: {} clones are left",
        bad.live()
    );
}

// ---- the tests ----

/// Whatever waits is polled with a bad waker, twice, so that a waker takes the place of another, and
/// then what it waits for comes about. Nothing but the polls may panic, and no clone may be left.
async fn survives(name: &'static str, op: Op) {
    let mut place = place(name).await;
    let (first, second) = (Bad::new(Some(op)), Bad::new(Some(op)));
    let mut waits = true;
    for bad in [&first, &second] {
        let waker = bad.waker();
        // An `async` block that has panicked is at its end, and what it has had is gone. On a slow machine
        // a timer may be over.
        waits = waits && poll_with(&mut place.waits, &waker) == Some(true);
        let_go(waker);
    }
    if waits {
        place.bring_about.await;
        let woken = async {
            while second.wakes() == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let woken = timeout(Duration::from_secs(5), woken).await;
        assert!(woken.is_ok(), "{name}, {op:?}: a wake-up was lost");
    }
    drop(place.waits);
    // The waits that are over before their second poll have not shown anything.
    let panicked = first.panicked() + second.panicked();
    assert!(
        panicked > 0 || !waits,
        "{name}, {op:?}: it was never called"
    );
    for bad in [first, second] {
        no_clone_is_left(&bad, name, op).await;
    }
}

/// As above, for a future whose polls may panic and which is polled on: only a hand-made future can.
async fn goes_on<F>(name: &'static str, op: Op, mut poll: F, bring_about: impl Future<Output = ()>)
where
    F: FnMut(&mut Context<'_>) -> Poll<()> + Send,
{
    let mut bads: Vec<_> = (0..3).map(|_| Bad::new(Some(op))).collect();
    for bad in &bads {
        let waker = bad.waker();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            poll(&mut Context::from_waker(&waker)).is_pending()
        }));
        match polled {
            Ok(pending) => assert!(pending, "{name}, {op:?}"),
            Err(payload) => assert_eq!(text_of(&*payload), "a foreign waker"),
        }
        let_go(waker);
    }
    // With a good one, before it comes about: it must be woken, and not find it by chance.
    let good = Bad::new(None);
    let waker = good.waker();
    assert!(poll(&mut Context::from_waker(&waker)).is_pending());
    bring_about.await;
    let mut looks = 0;
    while good.wakes() == 0 {
        looks += 1;
        assert!(looks < 5000, "{name}, {op:?}: a wake-up was lost");
        sleep(Duration::from_millis(1)).await;
    }
    let ready = poll(&mut Context::from_waker(&waker));
    assert!(ready.is_ready(), "{name}, {op:?}: woken for nothing");
    drop(waker);
    drop(poll);
    bads.push(good);
    for bad in bads {
        no_clone_is_left(&bad, name, op).await;
    }
}

/// Runs `test` on a runtime, which must have neither lost a thread nor a task afterwards.
fn on_runtime<F>(test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    within_for(Duration::from_secs(100), || {
        let (name, count, reports) = (Name::new(), ThreadCount::default(), Reports::default());
        let builder = reports
            .of(count.count(name.builder()))
            .workers(heist_tests::support::workers());
        let mut runtime = builder.build().unwrap();
        runtime.run(test());
        assert_eq!(
            runtime.run(async { heist::spawn(async { 2 }).await.unwrap() }),
            2
        );
        let report = runtime.close();
        assert!(report.panicked.is_empty(), "{report}");
        assert_eq!(count.started(), count.ended());
        assert_eq!(reports.all(), Vec::<String>::new());
        name.assert_gone();
    });
}

/// Each operation panics in each place.
#[test]
fn a_bad_waker_harms_nobody_wherever_it_waits() {
    on_runtime(|| async {
        for op in [Op::Clone, Op::Wake, Op::Drop] {
            for name in NAMES {
                survives(name, op).await;
            }
        }
    });
}

/// A socket is polled with bad wakers in the slot of one direction. Whoever polls it next, with a
/// good one, must be woken: also if the bad one panicked while it was put into its place.
#[test]
fn a_socket_goes_on_after_a_bad_waker() {
    on_runtime(|| async {
        for op in [Op::Clone, Op::Wake, Op::Drop] {
            let (client, server) = own_pair().await;
            let poll = move |cx: &mut Context<'_>| {
                let mut buffer = [0; 8];
                let polled = futures::AsyncRead::poll_read(Pin::new(&mut &server), cx, &mut buffer);
                polled.map(|read| assert_eq!(read.unwrap(), 1))
            };
            goes_on("poll_read", op, poll, async {
                client.write_all(b"x").await.unwrap();
            })
            .await;

            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let poll =
                move |cx: &mut Context<'_>| listener.poll_accept(cx).map(|r| drop(r.unwrap()));
            goes_on("poll_accept", op, poll, async {
                let client = TcpStream::connect(address).await.unwrap();
                sleep(SHORT).await;
                drop(client);
            })
            .await;
        }
    });
}

/// The same for a timer, which keeps a clone of the waker it was polled with last.
#[test]
fn a_timer_goes_on_after_a_bad_waker() {
    on_runtime(|| async {
        for op in [Op::Clone, Op::Wake, Op::Drop] {
            let mut timer = Box::pin(sleep(Duration::from_millis(700)));
            let poll = move |cx: &mut Context<'_>| timer.as_mut().poll(cx);
            goes_on("sleep", op, poll, async {}).await;
        }
    });
}

/// And for a handle: the task must have its waiter's waker, whoever waited before.
#[test]
fn a_handle_goes_on_after_a_bad_waker() {
    on_runtime(|| async {
        for op in [Op::Clone, Op::Wake, Op::Drop] {
            let (go, gone) = async_channel::bounded::<()>(1);
            let mut task = heist::spawn(async move { while gone.recv().await.is_ok() {} });
            let poll = move |cx: &mut Context<'_>| Pin::new(&mut task).poll(cx).map(|r| r.unwrap());
            goes_on("JoinHandle", op, poll, async { drop(go) }).await;
        }
    });
}

/// Two hundred timers are due in the same moment, and every third waker panics when it is woken: all
/// the others must be woken.
#[test]
fn a_bad_waker_takes_no_wake_up_from_those_beside_it() {
    on_runtime(|| async {
        let deadline = Instant::now() + Duration::from_millis(400);
        let mut timers: Vec<_> = (0..200).map(|_| Box::pin(sleep_until(deadline))).collect();
        let bads: Vec<_> = (0..timers.len())
            .map(|n| Bad::new((n % 3 == 0).then_some(Op::Wake)))
            .collect();
        for (timer, bad) in timers.iter_mut().zip(&bads) {
            let waker = bad.waker();
            let polled = timer.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        sleep(Duration::from_millis(500)).await;
        for (n, bad) in bads.iter().enumerate() {
            no_clone_is_left(bad, "timers", Op::Wake).await;
            assert_eq!(bad.wakes(), 1, "{n}");
        }
    });
}

/// A task hands its wakers to threads that use them while the runtime ends, after it, and never: each
/// is cloned, woken and dropped there. Nothing may hang, and no future may be touched after its end.
#[test]
fn wakers_are_used_by_others_after_the_end() {
    within(|| {
        for round in 0..20 {
            let mut runtime = Runtime::builder()
                .workers(heist_tests::support::workers())
                .build()
                .unwrap();
            let (hand, handed) = async_channel::unbounded::<Waker>();
            let drops = heist_tests::support::Drops::default();
            let users: Vec<_> = (0..3)
                .map(|_| {
                    let handed = handed.clone();
                    thread::spawn(move || {
                        let mut kept = Vec::new();
                        while let Ok(waker) = handed.recv_blocking() {
                            waker.wake_by_ref();
                            waker.clone().wake();
                            kept.push(waker);
                        }
                        kept
                    })
                })
                .collect();
            runtime.run(async {
                for _ in 0..10 {
                    let (hand, guard) = (hand.clone(), drops.guard());
                    drop(heist::spawn(poll_fn(move |cx| -> Poll<()> {
                        let _guard = &guard;
                        let _ = hand.try_send(cx.waker().clone());
                        Poll::Pending
                    })));
                }
                for _ in 0..round {
                    yield_now().await;
                }
            });
            // While it ends they are still being woken.
            runtime.close();
            assert_eq!(drops.count(), 10);
            drop(hand);
            drop(handed);
            for user in users {
                for waker in user.join().unwrap() {
                    waker.wake_by_ref();
                    let other = waker.clone();
                    thread::spawn(move || other.wake()).join().unwrap();
                    std::mem::forget(waker.clone());
                    waker.wake();
                }
            }
        }
    });
}

/// A bad waker is left behind in everything, and the runtime closes: all of them are woken or
/// dropped by that, and it must come to its end.
#[test]
fn a_runtime_closes_with_bad_wakers_in_it() {
    for op in [Op::Clone, Op::Wake, Op::Drop] {
        within(move || {
            let name = Name::new();
            let mut runtime = name
                .builder()
                .workers(heist_tests::support::workers())
                .build()
                .unwrap();
            let bad = Bad::new(Some(op));
            let shared = bad.clone();
            let mut left = runtime.run(async move {
                let mut left = Vec::new();
                // The end would wait for the closure.
                for name in NAMES.into_iter().filter(|name| !name.contains("closure")) {
                    let mut place = place(name).await;
                    let waker = shared.waker();
                    let _ = poll_with(&mut place.waits, &waker);
                    let_go(waker);
                    left.push(place);
                }
                left
            });
            let report = runtime.close();
            assert!(report.abandoned.is_empty(), "{report}");
            name.assert_gone();
            for place in left.drain(..) {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(place)));
            }
            eventually("no clone is left", || bad.live() == 0);
            assert!(Handle::try_current().is_none());
        });
    }
}
