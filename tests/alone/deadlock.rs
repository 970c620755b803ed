//! Deadlocks in a process that has no threads but those of the runtime: there it can be known that
//! nobody is left. And whatever may still come there must not be taken for one.
#![forbid(unsafe_code)]

use futures::channel::{mpsc, oneshot};
use futures::future::{join, select};
use futures::{SinkExt, StreamExt};
use heist::{Builder, Deadlock, MainThread, RunError, Runtime};
use heist_tests::support::Drops;
use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

fn debugging() -> Builder {
    Runtime::builder().debug(true).workers(2).on_error(|_| {})
}

/// Runs `main` to its deadlock. The runtime goes on afterwards.
#[track_caller]
fn deadlock_of<F: Future>(builder: Builder, main: F) -> Deadlock {
    let mut runtime = builder.build().expect("it starts no thread");
    let deadlock = match runtime.try_run(main) {
        Err(RunError::Deadlock(deadlock)) => deadlock,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("main is ready"),
    };
    assert_eq!(runtime.run(async { 5 }), 5);
    runtime.close();
    deadlock
}

pub(crate) fn found() {
    // Nothing at all.
    let alone = deadlock_of(debugging(), pending::<()>());
    assert!(alone.tasks().is_empty() && alone.main_waits_on().is_empty());

    // Two tasks that wait for each other, and main for one of them. What they own is dropped.
    let drops = Drops::default();
    let guard = drops.guard();
    let circle = deadlock_of(debugging(), async move {
        let (give, take) = oneshot::channel::<heist::JoinHandle<()>>();
        let first = heist::task::Builder::new().name("first").spawn(async move {
            let _guard = guard;
            let second = take.await.expect("it is sent");
            second.await.expect("it ends");
        });
        let id = first.id();
        let second = heist::task::Builder::new()
            .name("second")
            .spawn(async move {
                first.await.expect("it ends");
            });
        assert_ne!(second.id(), id);
        give.send(second).expect("it is taken");
        pending::<()>().await
    });
    assert_eq!((circle.tasks().len(), drops.count()), (2, 1));
    let text = circle.to_string();
    assert!(
        text.contains("'first'") && text.contains("'second'"),
        "{text}"
    );
    assert!(text.contains("waits on task"), "{text}");

    // A loop over a channel whose sender main itself has.
    deadlock_of(debugging(), async {
        let (mut send, mut receive) = mpsc::channel::<u32>(4);
        send.send(1).await.expect("there is room");
        while receive.next().await.is_some() {}
        drop(send);
    });

    // An answer that nobody will give, awaited by a local task; main awaits that.
    let local = deadlock_of(debugging(), async {
        let (answer, question) = oneshot::channel::<u32>();
        std::mem::forget(answer);
        heist::spawn_local(async { question.await.is_ok() })
            .await
            .is_ok()
    });
    assert_eq!((local.tasks().len(), local.main_waits_on().len()), (1, 1));

    // With a thread of its own for main, and after a timer that was due.
    let builder = debugging().main_thread(MainThread::Dedicated);
    deadlock_of(builder, async {
        heist::sleep(Duration::from_millis(30)).await;
        heist::spawn(pending::<()>()).await.is_ok()
    });

    // A scope, whose body waits for a task of it.
    let scope = std::panic::catch_unwind(|| {
        debugging().scope(async |s| s.spawn(pending::<()>()).await.is_ok())
    });
    let payload = scope
        .expect_err("it panics")
        .downcast::<String>()
        .expect("a message");
    assert!(payload.contains("deadlock"), "{payload}");
}

/// Longer than it takes to find a deadlock, several times.
const LATE: Duration = Duration::from_millis(150);

/// A waker that is late.
struct Slow(Waker);

impl Wake for Slow {
    fn wake(self: Arc<Slow>) {
        std::thread::sleep(LATE);
        self.0.wake_by_ref();
    }
}

#[track_caller]
fn lives<F: Future<Output = u32>>(what: &str, main: F) {
    let ended = debugging()
        .build()
        .expect("it starts no thread")
        .try_run(main);
    assert_eq!(ended.unwrap_or_else(|error| panic!("{what}: {error}")), 7);
}

pub(crate) fn not_found() {
    lives("a timer", async {
        let waiter = heist::spawn(pending::<()>());
        heist::sleep(LATE).await;
        drop(waiter);
        7
    });
    // What the timer has ended is over only when its waker has been called.
    lives("a waker that takes its time", async {
        let mut sleep = pin!(heist::sleep(Duration::from_millis(30)));
        poll_fn(|cx| {
            let slow = Waker::from(Arc::new(Slow(cx.waker().clone())));
            sleep.as_mut().poll(&mut Context::from_waker(&slow))
        })
        .await;
        7
    });
    lives("a thread has the waker", async {
        let (send, receive) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(LATE);
            send.send(7)
        });
        heist::spawn(async { receive.await.expect("it comes") })
            .await
            .expect("it ends")
    });
    lives("a thread may abort", async {
        let task = heist::spawn(pending::<()>());
        let abort = task.abort_handle();
        std::thread::spawn(move || {
            std::thread::sleep(LATE);
            abort.abort();
        });
        task.await.expect_err("it is aborted");
        7
    });
    lives(
        "a thread may abort by a handle that was awaited before",
        async {
            let task = heist::spawn(pending::<()>());
            let (task, ()) = match select(task, Box::pin(heist::yield_now())).await {
                futures::future::Either::Right(((), task)) => (task, ()),
                futures::future::Either::Left(_) => panic!("it never ends"),
            };
            let (end, ended) = oneshot::channel::<()>();
            drop(heist::spawn(async move {
                let _end = end;
                pending::<()>().await;
            }));
            let second = heist::spawn(async move { ended.await.is_ok() });
            std::thread::spawn(move || {
                std::thread::sleep(LATE);
                task.abort();
                drop(second);
            });
            heist::sleep(LATE * 2).await;
            7
        },
    );
    lives("a thread may spawn", async {
        let (send, receive) = oneshot::channel();
        let handle = heist::Handle::current();
        std::thread::spawn(move || {
            std::thread::sleep(LATE);
            drop(handle.spawn(async move { send.send(7) }));
        });
        receive.await.expect("it comes")
    });
    lives("a closure", async {
        heist::spawn_blocking(|| {
            std::thread::sleep(LATE);
            7
        })
        .await
        .expect("it ends")
    });
    lives("a socket", async {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        far.set_nonblocking(true).expect("it can");
        let far = heist::net::unix::UnixStream::try_from(far).expect("registered");
        std::thread::spawn(move || {
            std::thread::sleep(LATE);
            near.write_all(&[7])
        });
        let mut byte = [0];
        far.read(&mut byte).await.expect("it comes");
        u32::from(byte[0])
    });
    lives("a visitor", async {
        let (send, receive) = oneshot::channel();
        let handle = heist::Handle::current();
        std::thread::spawn(move || {
            handle.block_on(async {
                heist::sleep(LATE).await;
                let _ = send.send(7);
            });
        });
        receive.await.expect("it comes")
    });
    lives("a signal", async {
        let pressed = heist::signal::ctrl_c();
        std::thread::spawn(|| {
            std::thread::sleep(LATE);
            let me = std::process::id().to_string();
            let kill = std::process::Command::new("kill")
                .args(["-INT", &me])
                .status();
            assert!(kill.expect("there is `kill`").success());
        });
        let (pressed, ()) = join(pressed, async {}).await;
        pressed.expect("it is heard");
        7
    });
    // Off without debug mode: it waits for as long as it takes, here for the thread.
    let (send, receive) = oneshot::channel::<u32>();
    let later = std::thread::spawn(move || {
        std::thread::sleep(LATE);
        drop(send);
    });
    let mut runtime = Runtime::builder().debug(false).build().expect("no thread");
    assert!(runtime.run(receive).is_err());
    later.join().expect("it ends");
}
