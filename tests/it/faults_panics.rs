//! Panics in code of the user's that is inside of something else: a region, a time limit, a group, a
//! scope, a `block_on`, an operation of a socket, a scope of a context variable, a closure, a destructor of
//! a thread's. `panics.rs` has those of tasks and of `main`.
//!
//! Two panics at once end a process, by the rules of the language, where the second happens while the
//! first one unwinds the user's own code. Where it is heist that drops the second thing, both are caught.
#![forbid(unsafe_code)]

use crate::support::{
    Drops, Name, Reports, ThreadCount, panic_text, poll_once, rests, text_of, within,
};
use heist::net::{TcpListener, UdpSocket};
use heist::time::{sleep, timeout};
use heist::{ContextVar, Handle, Runtime, TaskGroup, catch_cancel, yield_now};
use std::cell::RefCell;
use std::future::{Future, IntoFuture, Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Panics when it is dropped, with its text.
#[derive(Debug)]
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(self.0);
    }
}

/// A payload that panics once more when it is dropped, and counts that.
struct Payload(Arc<AtomicUsize>);

impl Drop for Payload {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic_any("a payload");
    }
}

/// Comes to this end at its first poll, or to none, and panics when it is dropped. By hand, because a
/// compiler-made future drops its variables before it is ready.
#[must_use]
struct Armed<T: Unpin> {
    end: Option<Result<T, &'static str>>,
    _bomb: Bomb,
}

impl<T: Unpin> Armed<T> {
    fn ready(output: T) -> Armed<T> {
        Armed {
            end: Some(Ok(output)),
            _bomb: Bomb("future"),
        }
    }

    fn pending() -> Armed<T> {
        Armed {
            end: None,
            _bomb: Bomb("future"),
        }
    }
}

impl<T: Unpin> Future for Armed<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        match self.end.take() {
            Some(Ok(output)) => Poll::Ready(output),
            Some(Err(text)) => panic_any(text),
            None => Poll::Pending,
        }
    }
}

/// Runs `test` on a runtime of two workers, from `main`. Afterwards the runtime must still work, have all
/// of its threads, and have reported exactly so many unseen panics.
fn on_runtime<F>(unseen: usize, test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    within(move || {
        let (name, count, reports) = (Name::new(), ThreadCount::default(), Reports::default());
        let builder = reports
            .of(count.count(name.builder()))
            .workers(crate::support::workers());
        let mut runtime = builder.build().unwrap();
        runtime.run(test());
        let works = runtime.run(async { heist::spawn(async { 1 }).await.unwrap() });
        assert_eq!(works, 1);
        runtime.close();
        assert_eq!(count.started(), count.ended());
        assert_eq!(reports.count("Panicked"), unseen, "{:?}", reports.all());
        name.assert_gone();
    });
}

#[track_caller]
fn assert_panicked<T>(result: Result<T, heist::JoinError>, text: &str) {
    let Err(error) = result else {
        panic!("it did not panic")
    };
    assert!(error.is_panic(), "{error}");
    assert_eq!(text_of(&*error.into_panic()), text);
}

// ---- regions, limits ----

/// What is inside of a region panics: in its poll, when it is dropped because it is ready, over an output
/// that panics as well, and when it is dropped because it is cancelled. Each time it is a panic of the
/// task, and the next task knows nothing of the region.
#[test]
fn inside_of_a_region() {
    on_runtime(0, || async {
        let polled = heist::spawn(catch_cancel(async { panic_any("poll") }));
        assert_panicked(polled.await.map(drop), "poll");
        let ended = heist::spawn(catch_cancel(Armed::ready(1)));
        assert_panicked(ended.await.map(drop), "future");
        let both = heist::spawn(catch_cancel(Armed::ready(Bomb("output"))));
        assert_panicked(both.await.map(std::mem::forget), "future");
        let cut = heist::spawn(catch_cancel(Armed::<()>::pending()));
        rests(cut.id()).await;
        let cut = cut.cancel().await;
        assert_panicked(cut.map(drop), "future");
        let nested = heist::spawn(catch_cancel(async {
            let _ = catch_cancel(Armed::<()>::pending()).await;
        }));
        rests(nested.id()).await;
        assert_panicked(nested.cancel().await.map(drop), "future");
        let caught = heist::spawn(async { catch_cancel(pending::<()>()).await.is_err() });
        rests(caught.id()).await;
        assert!(caught.cancel().await.unwrap());
    });
}

/// Likewise inside of a time limit.
#[test]
fn inside_of_a_timeout() {
    on_runtime(0, || async {
        let long = Duration::from_secs(60);
        let short = Duration::from_millis(2);
        let polled = heist::spawn(timeout(long, async { panic_any("poll") }));
        assert_panicked(polled.await.map(drop), "poll");
        let both = heist::spawn(timeout(long, Armed::ready(Bomb("output"))));
        assert_panicked(both.await.map(std::mem::forget), "future");
        let late = heist::spawn(timeout(short, Armed::<()>::pending()));
        assert_panicked(late.await.map(drop), "future");
        let cleanup = async {
            let _ = catch_cancel(pending::<()>()).await;
            panic_any("cleanup")
        };
        let cleanup = heist::spawn(timeout(short, cleanup));
        assert_panicked(cleanup.await.map(drop), "cleanup");
        let limited = timeout(short, pending::<()>());
        assert!(heist::spawn(limited).await.unwrap().is_err());
    });
}

// ---- block_on, run ----

/// The future of a `block_on` panics when it is dropped, over an output that panics as well.
#[test]
fn inside_of_block_on() {
    within(|| {
        let mut runtime = Runtime::builder().workers(1).build().unwrap();
        let handle = runtime.handle();
        let both = || handle.block_on(Armed::ready(Bomb("output")));
        assert_eq!(panic_text(both), "future");
        let drops = Drops::default();
        let output = drops.guard();
        assert_eq!(
            panic_text(|| handle.block_on(Armed::ready(output))),
            "future"
        );
        assert_eq!(drops.count(), 1);
        let poll = || handle.block_on(async { panic_any("poll") });
        assert_eq!(panic_text(poll), "poll");
        assert_eq!(handle.block_on(async { 5 }), 5);
        assert!(runtime.close().is_clean());
    });
}

/// What is to become the future of `main` panics on the way. Nothing of a runtime is left.
#[test]
fn on_the_way_to_a_main_future() {
    struct Never;
    impl IntoFuture for Never {
        type Output = ();
        type IntoFuture = Ready<()>;
        fn into_future(self) -> Ready<()> {
            panic_any("into_future")
        }
    }
    within(|| {
        assert_eq!(panic_text(|| crate::support::run(Never)), "into_future");
        let mut runtime = Runtime::builder().workers(1).build().unwrap();
        assert_eq!(panic_text(|| runtime.run(Never)), "into_future");
        let handle = runtime.handle();
        assert_eq!(panic_text(|| handle.block_on(Never)), "into_future");
        assert_eq!(runtime.run(async { 1 }), 1);
        assert!(runtime.close().is_clean());
        assert_eq!(crate::support::run(async { 2 }), 2);
    });
}

// ---- scopes ----

/// The body of a scope panics: before it is a future, in its poll, in its destructor. Every task of the
/// scope is gone when the panic comes out.
#[test]
fn in_the_body_of_a_scope() {
    within(|| {
        let drops = Drops::default();
        let body = || {
            heist::scope(async |s| {
                let guard = drops.guard();
                drop(s.spawn(async move {
                    let _guard = guard;
                    pending::<()>().await;
                }));
                yield_now().await;
                panic_any("body")
            })
        };
        assert_eq!(panic_text(body), "body");
        assert_eq!(drops.count(), 1);
        let destructor = || heist::scope(async |_| Armed::ready(()).await);
        assert_eq!(panic_text(destructor), "future");
        assert!(Handle::try_current().is_none());
        assert_eq!(
            heist::scope(async |s| s.spawn(async { 1 }).await.unwrap()),
            1
        );
    });
}

/// Tasks of a scope panic in their polls and in the destructors of their futures and outputs. The first
/// panic comes out, all tasks are gone.
#[test]
fn in_tasks_of_a_scope() {
    within(|| {
        let polled =
            || heist::scope(async |s| s.spawn(async { panic_any("poll") }).await.map(drop));
        assert_eq!(panic_text(polled), "poll");
        let ended = || heist::scope(async |s| s.spawn(Armed::ready(1)).await.map(drop));
        assert_eq!(panic_text(ended), "future");
        // An output whose handle is gone, and one that is dropped by the body.
        let unseen = heist::scope(async |s| {
            drop(s.spawn(async { Bomb("output") }));
            5
        });
        assert_eq!(unseen, 5);
        let seen = || heist::scope(async |s| drop(s.spawn(async { Bomb("output") }).await));
        assert_eq!(panic_text(seen), "output");
    });
}

/// Several tasks of a scope panic, with payloads that panic when they are dropped. One payload comes
/// out; the others are dropped while that is on its way, and must not end the process.
#[test]
fn several_payloads_in_a_scope() {
    within(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            heist::Builder::new()
                .workers(crate::support::workers())
                .scope(async |s| {
                    for _ in 0..4 {
                        let payload = Payload(drops.clone());
                        drop(s.spawn(async move { panic_any(payload) }));
                    }
                    // All of them panic before `main` is polled again.
                    heist::block_in_place(|| std::thread::sleep(Duration::from_millis(50)));
                    yield_now().await;
                });
        }));
        let payload = panicked.expect_err("it comes out");
        assert!(payload.is::<Payload>());
        let last = catch_unwind(AssertUnwindSafe(|| drop(payload))).expect_err("it panics");
        assert_eq!(text_of(&*last), "a payload");
        assert!(drops.load(Ordering::SeqCst) <= 4);
        assert!(Handle::try_current().is_none());
    });
}

// ---- groups ----

/// What makes the body of a group panics, and a child's future and output panic in their destructors
/// while the group is being cancelled. It is one panic of the group, and all children are gone. One more
/// panic of the same child is reported.
#[test]
fn in_a_group() {
    on_runtime(1, || async {
        let no_body = heist::spawn(async {
            TaskGroup::run(
                |_| -> Ready<Result<(), Box<dyn std::error::Error + Send + Sync>>> {
                    panic_any("no body")
                },
            )
            .await
        });
        assert_panicked(no_body.await.map(drop), "no body");
        let child = heist::spawn(async {
            TaskGroup::run(async |g| {
                drop(g.spawn(Armed::<Result<(), String>>::pending()));
                drop(g.spawn(pending::<Result<(), String>>()));
                yield_now().await;
                drop(g.spawn(async { Err::<(), _>("a failure") }));
                Ok(())
            })
            .await
        });
        assert_panicked(child.await.map(drop), "future");
        let both = heist::spawn(async {
            TaskGroup::run(async |g| {
                drop(g.spawn(Armed::ready(Ok::<_, String>(Bomb("output")))));
                Ok(())
            })
            .await
        });
        assert_panicked(both.await.map(drop), "future");
        // The body has an output when the panic of a child goes on.
        let body = heist::spawn(async {
            TaskGroup::run(async |g| {
                drop(g.spawn(async {
                    yield_now().await;
                    panic_any("child");
                    #[expect(unreachable_code, reason = "for its type")]
                    Ok::<_, String>(())
                }));
                Ok(Bomb("the body's output"))
            })
            .await
        });
        assert_panicked(body.await.map(std::mem::forget), "child");
    });
}

// ---- sockets ----

/// A closure that is an attempt at a socket panics, and so does one that waits beside others. The socket
/// works on.
#[test]
fn in_an_operation_of_a_socket() {
    on_runtime(0, || async {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let socket = Arc::new(heist::io::Async::new(socket).unwrap());
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer.send_to(b"x", address).await.unwrap();
        let bad = socket.clone();
        let bad = heist::spawn(async move {
            let op = |_: &std::net::UdpSocket| -> std::io::Result<()> { panic_any("an attempt") };
            bad.read_with(op).await
        });
        assert_panicked(bad.await.map(drop), "an attempt");
        let mut buffer = [0; 8];
        let got = socket.read_with(|socket| socket.recv(&mut buffer)).await;
        assert_eq!(got.unwrap(), 1);
        // One that panics at its second attempt, and another task that waits for the same.
        let (first, second) = (socket.clone(), socket.clone());
        let bad = heist::spawn(async move {
            let mut attempts = 0;
            let op = |_: &std::net::UdpSocket| -> std::io::Result<()> {
                attempts += 1;
                match attempts {
                    1 => Err(std::io::ErrorKind::WouldBlock.into()),
                    _ => panic_any("an attempt"),
                }
            };
            first.read_with(op).await
        });
        // Its first answer, which is not true, must not be about what comes next.
        rests(bad.id()).await;
        let good = heist::spawn(async move { second.read_with(|s| s.recv(&mut [0; 8])).await });
        rests(good.id()).await;
        peer.send_to(b"y", address).await.unwrap();
        assert_panicked(bad.await.map(drop), "an attempt");
        assert_eq!(good.await.unwrap().unwrap(), 1);
    });
}

// ---- context variables ----

static USER: ContextVar<&'static str> = ContextVar::new();

/// Code inside of a scope of a variable panics: the value of around it comes back.
#[test]
fn inside_of_a_variables_scope() {
    on_runtime(0, || async {
        USER.set("outer");
        let inner = panic_text(|| USER.sync_scope("inner", || panic_any("code")));
        assert_eq!((&*inner, USER.get()), ("code", Some("outer")));
        let look = panic_text(|| USER.with(|_| panic_any("look")));
        assert_eq!((&*look, USER.get()), ("look", Some("outer")));
        let mut scoped = Box::pin(USER.scope("inner", async { panic_any("future") }));
        let polled = panic_text(|| poll_once(&mut scoped));
        assert_eq!((&*polled, USER.get()), ("future", Some("outer")));
        let dropped = panic_text(|| drop(Box::pin(USER.scope("inner", Armed::<()>::pending()))));
        assert_eq!((&*dropped, USER.get()), ("future", Some("outer")));
    });
}

// ---- closures ----

/// A blocking closure that never began is dropped with what it has captured, and an output that nobody
/// takes is dropped on the pool: both panic, and both are reported once.
#[test]
fn around_a_blocking_closure() {
    within(|| {
        let reports = Reports::default();
        let builder = reports
            .of(Runtime::builder())
            .workers(crate::support::workers());
        let mut runtime = builder.blocking_threads(1).build().unwrap();
        runtime.run(async {
            let (go, gone) = std::sync::mpsc::channel::<()>();
            let first = heist::spawn_blocking(move || gone.recv().is_err());
            let bomb = Bomb("captured");
            let second = heist::spawn_blocking(move || drop(bomb));
            let second = second.cancel();
            drop(go);
            assert!(first.await.unwrap());
            assert_panicked(second.await, "captured");
            drop(heist::spawn_blocking(|| Bomb("output")));
            // The pool's only thread lives.
            assert_eq!(heist::spawn_blocking(|| 3).await.unwrap(), 3);
        });
        runtime.close();
        assert_eq!(reports.count("Panicked"), 1, "{:?}", reports.all());
    });
}

/// A runtime that is closed drops what it is given, in the call. What panics there panics to the caller
/// or to the handle, and to nobody else.
#[test]
fn what_a_closed_runtime_refuses() {
    within(|| {
        let mut runtime = Runtime::builder().workers(1).build().unwrap();
        let handle = runtime.handle();
        runtime.close();
        let (bomb, other) = (Bomb("captured"), Bomb("captured"));
        let refused = catch_unwind(AssertUnwindSafe(|| handle.spawn(Armed::<()>::pending())));
        if let Ok(task) = refused {
            assert!(crate::support::run(task).is_err());
        }
        let refused = catch_unwind(AssertUnwindSafe(|| {
            handle.spawn_blocking(move || drop(bomb))
        }));
        if let Ok(call) = refused {
            assert!(crate::support::run(call).is_err());
        }
        let refused = handle.try_spawn(async move { drop(other) }).unwrap_err();
        std::mem::forget(refused.future);
        assert!(handle.is_closed());
    });
}

// ---- destructors of threads ----

/// Uses everything when its thread ends.
struct AtTheEnd(Arc<AtomicUsize>, Option<Handle>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        // The runtime of the thread is not this thread's any more, or it is: either is well.
        let _ = Handle::try_current().map(|handle| handle.spawn(async {}));
        let _ = (heist::task::try_id(), heist::task::name());
        if let Some(handle) = self.1.take() {
            drop(handle.spawn(pending::<()>()));
            drop(handle.spawn_blocking(|| ()));
            let _ = handle.is_closed();
        }
        USER.set("at the end");
        let _ = USER.get();
        drop(catch_cancel(ready(1)));
        drop(poll_once(&mut Box::pin(catch_cancel(pending::<()>()))));
        drop(poll_once(&mut Box::pin(TcpListener::bind("127.0.0.1:0"))));
        drop(sleep(Duration::from_secs(1)));
        heist::block_in_place(|| ());
        assert_eq!(
            crate::support::run(async { heist::spawn(async { 4 }).await.unwrap() }),
            4
        );
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static AT_THE_END: RefCell<Vec<AtTheEnd>> = const { RefCell::new(Vec::new()) };
}

/// Destructors of thread-local values use the runtime while its workers, its blocking threads and the
/// thread of `run` end. (One that panics ends the process: that is the language's rule.)
#[test]
fn destructors_of_threads_may_use_everything() {
    within(|| {
        let ended = Arc::new(AtomicUsize::new(0));
        let count = ended.clone();
        let started = std::thread::spawn(move || {
            let started = Arc::new(AtomicUsize::new(0));
            let begun = started.clone();
            let keep = count.clone();
            let mut runtime = Runtime::builder()
                .workers(crate::support::workers())
                .on_thread_start(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let value = AtTheEnd(keep.clone(), Handle::try_current());
                    AT_THE_END.with_borrow_mut(|values| values.push(value));
                })
                .build()
                .unwrap();
            let handle = runtime.handle();
            runtime.run(async {
                heist::spawn_blocking(|| ()).await.unwrap();
                // Needs a second thread.
                let (go, gone) = std::sync::mpsc::channel();
                drop(heist::spawn(async move { go.send(()).unwrap() }));
                gone.recv().unwrap();
            });
            let value = AtTheEnd(count, Some(handle));
            AT_THE_END.with_borrow_mut(|values| values.push(value));
            runtime.close();
            started.load(Ordering::SeqCst) + 1
        })
        .join()
        .unwrap();
        assert!(started >= 3, "{started}");
        assert_eq!(ended.load(Ordering::SeqCst), started);
    });
}
