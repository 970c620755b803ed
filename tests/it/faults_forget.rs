//! `mem::forget` of everything that can be forgotten, also in the middle. What was forgotten is leaked and
//! nothing else: everybody around it works on, and the runtime comes to its end, with all tasks gone.
#![forbid(unsafe_code)]

use crate::support::{Drops, Name, in_a_task, own_pair, poll_once, within};
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{interval, sleep, timeout};
use heist::{ContextVar, Runtime, TaskGroup, catch_cancel, yield_now};
use std::future::{Future, pending, poll_fn};
use std::mem::forget;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(3600);

/// Polls a future once, with the waker of the task that is running, and forgets it.
async fn forget_midway<F: Future>(future: F) {
    let mut future = Box::pin(future);
    let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
    assert!(polled, "it is to be forgotten before it is ready");
    forget(future);
}

/// The same, for what may be ready: some drivers find out only by the next attempt that there is no more.
fn forget_polled<F: Future>(future: F) {
    let mut future = Box::pin(future);
    let _ = poll_once(&mut future);
    forget(future);
}

/// Runs `test` as a task of a runtime that has other things to do, and closes it: that must not take
/// longer for it, and every future that was spawned must be gone, those that `test` may leave as well.
fn on_runtime<F>(test: impl FnOnce(Drops) -> F + Send + 'static)
where
    F: Future<Output = usize> + Send + 'static,
{
    within(|| {
        let (name, drops) = (Name::new(), Drops::default());
        let mut runtime = name
            .builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        let given = drops.clone();
        let spawned = runtime.run(async {
            let spawned = heist::spawn(async move { test(given).await })
                .await
                .unwrap();
            // Everything else works.
            sleep(Duration::from_millis(2)).await;
            let (client, server) = own_pair().await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
            assert_eq!(heist::spawn_blocking(|| 3).await.unwrap(), 3);
            spawned
        });
        let begin = Instant::now();
        let report = runtime.close();
        assert!(report.abandoned.is_empty(), "{report}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert_eq!(drops.count(), spawned);
        assert_eq!(handle.metrics().live_tasks(), 0);
        drop(runtime);
        name.assert_gone();
    });
}

/// A task that never ends by itself and counts its drop.
fn endless(drops: &Drops) -> impl Future<Output = ()> + Send + 'static {
    let guard = drops.guard();
    async move {
        let _guard = guard;
        pending().await
    }
}

/// Every handle of a task, of one that waits and of one that has ended.
#[test]
fn handles_of_tasks() {
    on_runtime(|drops| async move {
        forget(heist::spawn(endless(&drops)));
        forget(heist::spawn(endless(&drops)).abort_handle());
        forget(heist::spawn(endless(&drops)).cancel_on_drop());
        forget(heist::spawn(endless(&drops)).cancel());
        forget(heist::task::shield(heist::spawn(endless(&drops))));
        forget_midway(heist::spawn(endless(&drops))).await;
        forget_midway(heist::task::shield(heist::spawn(endless(&drops)))).await;
        let ended = heist::spawn(async {});
        while !ended.is_finished() {
            yield_now().await;
        }
        forget(ended);
        forget(heist::spawn_blocking(|| ()));
        // The output of a forgotten handle is leaked with it.
        let guard = drops.guard();
        let output = heist::spawn(async move { guard });
        while !output.is_finished() {
            yield_now().await;
        }
        forget(output);
        7
    });
}

/// Timers and limits, before their first poll and in the middle. Their entries stay in the wheel, and
/// wake a task that may be gone.
#[test]
fn timers() {
    on_runtime(|_| async move {
        for wait in [LONG, Duration::from_millis(1)] {
            forget(sleep(wait));
            forget_midway(sleep(wait)).await;
            forget_midway(timeout(wait, pending::<()>())).await;
            forget_midway(timeout(LONG, sleep(wait))).await;
            let mut ticks = interval(wait);
            ticks.tick().await;
            forget_midway(ticks.tick()).await;
            forget(ticks);
            let mut limited = Box::pin(timeout(wait, pending::<()>()));
            let deadline = limited.handle();
            // On a busy machine the short one may be over.
            assert!(poll_once(&mut limited).is_pending() || wait < LONG);
            forget(limited);
            let _ = deadline.reschedule(heist::time::Instant::now());
            forget(deadline);
        }
        // So that those are due while the task goes on, and while it is gone.
        sleep(Duration::from_millis(1)).await;
        0
    });
}

/// A region that is forgotten stays in the tree of its task: a request goes to it, where nobody receives
/// it, and the task goes on. The end of the loop gives it its grace and drops it.
#[test]
fn regions() {
    within(|| {
        let drops = Drops::default();
        let builder = Runtime::builder().workers(crate::support::workers());
        let mut runtime = builder
            .cancel_grace(Duration::from_millis(50))
            .build()
            .unwrap();
        runtime.run(async {
            let guard = drops.guard();
            let task = heist::spawn(async move {
                let _guard = guard;
                forget_midway(catch_cancel(pending::<()>())).await;
                let inner = catch_cancel(async {
                    forget_midway(catch_cancel(pending::<()>())).await;
                    pending::<()>().await;
                });
                let _ = timeout(Duration::from_millis(2), inner).await;
                pending::<()>().await;
            });
            sleep(Duration::from_millis(5)).await;
            task.abort();
            sleep(Duration::from_millis(5)).await;
            assert!(!task.is_finished());
            forget(task);
        });
        let report = runtime.close();
        assert!(report.abandoned.is_empty(), "{report}");
        assert_eq!(drops.count(), 1);
    });
}

/// Sockets, their halves, and operations in the middle: each leaves a waker with the socket, which
/// works on for others.
#[test]
fn sockets_and_their_operations() {
    on_runtime(|_| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        forget_midway(listener.accept()).await;
        forget_midway(poll_fn(|cx| listener.poll_accept(cx).map(drop))).await;
        let (client, server) = futures::join!(TcpStream::connect(address), listener.accept());
        let (client, server) = (client.unwrap(), server.unwrap().0);
        let mut lost = [0; 8];
        forget_midway(server.read(&mut lost)).await;
        forget_midway(server.readable()).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
        forget_polled(server.readable());
        let (reader, writer) = server.into_split();
        let mut lost = [0; 8];
        forget_midway(reader.read(&mut lost)).await;
        forget(reader);
        writer.write_all(b"y").await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 1);
        forget(writer);
        forget(client);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut lost = [0; 8];
        forget_midway(socket.recv_from(&mut lost)).await;
        forget(socket);
        forget_midway(listener.accept()).await;
        forget(listener);
        forget_midway(TcpStream::connect("192.0.2.1:9")).await;
        0
    });
}

/// A group in the middle, its children's handles, and what holds it. The children go on until the end
/// of the loop.
#[test]
fn groups() {
    on_runtime(|drops| async move {
        let mine = drops.clone();
        forget_midway(TaskGroup::run(async move |g| {
            forget(g.spawn(async move {
                endless(&mine).await;
                Ok::<_, String>(())
            }));
            forget(g.clone());
            pending::<()>().await;
            Ok(())
        }))
        .await;
        let mine = drops.clone();
        let ended = TaskGroup::run(async move |g| {
            let child = g.spawn(async move {
                drop(mine.guard());
                Ok::<_, String>(())
            });
            forget(child);
            Ok(5)
        });
        assert_eq!(ended.await.unwrap(), 5);
        2
    });
}

/// The handle of a scope's task: the scope waits for the task all the same, and the output is leaked.
#[test]
fn handles_of_a_scope() {
    within(|| {
        let (tasks, outputs) = (Drops::default(), Drops::default());
        heist::scope(async |s| {
            for _ in 0..3 {
                let (guard, output) = (tasks.guard(), outputs.guard());
                forget(s.spawn(async move {
                    yield_now().await;
                    drop(guard);
                    output
                }));
            }
            let guard = tasks.guard();
            let mut midway = Box::pin(s.spawn(async move { drop(guard) }));
            assert!(poll_once(&mut midway).is_pending());
            forget(midway);
        });
        assert_eq!((tasks.count(), outputs.count()), (4, 0));
    });
}

/// Wakers: those of a task that has ended and of one that has not. The task's memory is leaked, its
/// future is not.
#[test]
fn wakers() {
    on_runtime(|drops| async move {
        for waits in [true, false] {
            let guard = drops.guard();
            drop(heist::spawn(poll_fn(move |cx| {
                let _guard = &guard;
                forget(cx.waker().clone());
                if waits {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })));
        }
        forget_midway(yield_now()).await;
        // The resolver may be quick.
        forget_polled(heist::net::lookup_host("localhost:1"));
        2
    });
}

/// A scope of a context variable, in the middle: whoever polls next has its own value.
#[test]
fn scopes_of_variables() {
    static USER: ContextVar<u32> = ContextVar::new();
    on_runtime(|_| async move {
        USER.set(1);
        forget_midway(USER.scope(2, pending::<()>())).await;
        assert_eq!(USER.get(), Some(1));
        let inherits = heist::spawn(async { USER.get() });
        assert_eq!(inherits.await.unwrap(), Some(1));
        0
    });
}

/// A runtime itself, with tasks, a timer and a socket in it: it goes on, and so do its handles.
#[test]
fn a_runtime() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        let ticks = Arc::new(Mutex::new(0_u32));
        let counts = ticks.clone();
        runtime.run(async {
            drop(heist::spawn(async move {
                loop {
                    sleep(Duration::from_millis(1)).await;
                    *counts.lock().unwrap() += 1;
                }
            }));
        });
        forget(runtime);
        let seen = *ticks.lock().unwrap();
        crate::support::eventually("it goes on", || *ticks.lock().unwrap() > seen + 3);
        assert_eq!(handle.block_on(handle.spawn(async { 4 })).unwrap(), 4);
        forget(handle.clone());
        assert!(!handle.is_closed());
    });
}

/// A forgotten `block_on` future and a main future that forgets itself are nothing special: what is
/// inside is leaked. The task that holds a forgotten future is cancelled as any other.
#[test]
fn a_future_inside_of_a_task() {
    struct Forgetful(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);
    impl Drop for Forgetful {
        fn drop(&mut self) {
            forget(self.0.take());
        }
    }
    impl Future for Forgetful {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.0.as_mut().expect("it is there").as_mut().poll(cx)
        }
    }
    let forgetful = || {
        Forgetful(Some(Box::pin(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _ = futures::join!(listener.accept(), sleep(LONG));
        })))
    };
    in_a_task(async move {
        let task = heist::spawn(forgetful());
        for _ in 0..5 {
            yield_now().await;
        }
        assert!(task.cancel().await.unwrap_err().is_cancelled());
        forget(heist::spawn(forgetful()));
        let limited = timeout(Duration::from_millis(5), forgetful());
        assert!(limited.await.is_err());
    });
}
