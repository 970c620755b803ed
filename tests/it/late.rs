//! Promise 3: nothing panics because of where a `Runtime` is dropped, or because something is used
//! while or after the runtime closes. Late users get a typed "closed".
#![forbid(unsafe_code)]

use crate::support::{
    CountingWaker, Drops, Gate, Name, Reports, Tally, eventually, poll_once, within,
};
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{Closed, Instant as HeistInstant, Interval, Sleep, interval, sleep, timeout};
use heist::{Handle, Runtime, yield_now};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// How long dropping a runtime may take, wherever it happens.
const AT_ONCE: Duration = Duration::from_secs(1);

const SLEEPERS: usize = 10_000;

/// A runtime with this many tasks asleep on its own threads.
fn with_sleepers(name: &Name, reports: &Reports, drops: &Drops) -> Runtime {
    let runtime = reports
        .of(name.builder())
        .workers(crate::support::workers())
        .build()
        .unwrap();
    let handle = runtime.handle();
    let asleep = Arc::new(AtomicUsize::new(0));
    for _ in 0..SLEEPERS {
        let (guard, asleep) = (drops.guard(), asleep.clone());
        drop(handle.spawn(async move {
            let _guard = guard;
            let mut sleep = sleep(Duration::from_secs(3600));
            poll_fn(|cx| {
                let polled = Pin::new(&mut sleep).poll(cx);
                asleep.fetch_add(1, Ordering::SeqCst);
                polled
            })
            .await;
        }));
    }
    eventually("all tasks sleep", || {
        asleep.load(Ordering::SeqCst) >= SLEEPERS
    });
    runtime
}

#[track_caller]
fn assert_all_gone(name: &Name, reports: &Reports, drops: &Drops) {
    name.assert_gone();
    assert_eq!(drops.count(), SLEEPERS);
    assert_eq!(reports.all(), Vec::<String>::new());
}

/// A runtime whose tasks all sleep is dropped on a thread that is outside.
#[test]
fn dropped_while_ten_thousand_tasks_sleep() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let runtime = with_sleepers(&name, &reports, &drops);
        let begin = Instant::now();
        drop(runtime);
        assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
        assert_eq!(drops.count(), SLEEPERS, "dropped when the runtime was");
        assert_all_gone(&name, &reports, &drops);
    });
}

/// The same, inside a task of another runtime: its worker must not wait, and the `run` around it
/// must not return before all is gone.
#[test]
fn dropped_inside_a_task_of_another_runtime() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let runtime = with_sleepers(&name, &reports, &drops);
        let begin = Instant::now();
        crate::support::run(async move {
            heist::spawn(async move { drop(runtime) }).await.unwrap();
        });
        assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
        assert_eq!(
            drops.count(),
            SLEEPERS,
            "the outer run waited for the inner end"
        );
        assert_all_gone(&name, &reports, &drops);
    });
}

/// The same in the main future of another runtime, and by `close`, whose report is empty there.
#[test]
fn closed_inside_the_main_future_of_another_runtime() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let mut runtime = with_sleepers(&name, &reports, &drops);
        let begin = Instant::now();
        crate::support::run(async {
            assert!(runtime.close().is_clean());
            drop(runtime);
        });
        assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
        assert_eq!(
            drops.count(),
            SLEEPERS,
            "the outer run waited for the inner end"
        );
        assert_all_gone(&name, &reports, &drops);
    });
}

/// A task owns the runtime it runs on, and drops it. The runtime must end itself: nobody else can.
#[test]
fn r31_dropped_inside_a_task_of_its_own() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let runtime = with_sleepers(&name, &reports, &drops);
        let handle = runtime.handle();
        let begin = Instant::now();
        drop(handle.spawn(async move { drop(runtime) }));
        eventually("the runtime ends itself", || drops.count() == SLEEPERS);
        assert!(begin.elapsed() < AT_ONCE, "it took {:?}", begin.elapsed());
        assert!(handle.is_closed());
        assert_all_gone(&name, &reports, &drops);
    });
}

/// A task owns its runtime and never ends: the runtime is dropped by the destructor of a cancelled
/// task of its own.
#[test]
fn dropped_in_a_destructor_of_its_own_task() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let runtime = with_sleepers(&name, &reports, &drops);
        let handle = runtime.handle();
        let task = handle.spawn(async move {
            let _runtime = runtime;
            pending::<()>().await;
        });
        task.abort();
        eventually("the runtime ends itself", || drops.count() == SLEEPERS);
        assert_all_gone(&name, &reports, &drops);
    });
}

/// A blocking closure of the runtime itself drops it. It would wait for itself if it waited.
#[test]
fn dropped_inside_a_blocking_closure_of_its_own() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let runtime = with_sleepers(&name, &reports, &drops);
        let handle = runtime.handle();
        drop(handle.spawn_blocking(move || drop(runtime)));
        eventually("the runtime ends itself", || drops.count() == SLEEPERS);
        assert_all_gone(&name, &reports, &drops);
    });
}

/// A blocking closure of another runtime may wait, so there the drop is a full end.
#[test]
fn dropped_inside_a_blocking_closure_of_another_runtime() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let runtime = with_sleepers(&name, &reports, &drops);
        crate::support::run(async {
            let count = drops.clone();
            heist::spawn_blocking(move || {
                drop(runtime);
                assert_eq!(count.count(), SLEEPERS);
            })
            .await
            .unwrap();
        });
        assert_all_gone(&name, &reports, &drops);
    });
}

/// A runtime that was never used, and so has no thread, is dropped in async code, on a foreign
/// thread and in a thread-local destructor.
#[test]
fn an_unused_runtime_can_be_dropped_anywhere() {
    within(|| {
        crate::support::run(async {
            drop(Runtime::new().unwrap());
            heist::spawn(async { drop(Runtime::new().unwrap()) })
                .await
                .unwrap();
        });
        let runtime = Runtime::new().unwrap();
        thread::spawn(move || drop(runtime)).join().unwrap();
        thread_local! {
            static KEPT: std::cell::RefCell<Option<Runtime>> = const { std::cell::RefCell::new(None) };
        }
        let name = Name::new();
        let mut runtime = name
            .builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let drops = Drops::default();
        let guard = drops.guard();
        thread::spawn(move || {
            runtime.run(async move {
                drop(heist::spawn(async move {
                    let _guard = guard;
                    pending::<()>().await;
                }));
            });
            KEPT.set(Some(runtime));
        })
        .join()
        .unwrap();
        assert_eq!(drops.count(), 1);
        name.assert_gone();
    });
}

/// A handle is used after its runtime has ended. Everything it offers must answer "closed", and what
/// it was given must be dropped or given back.
#[test]
fn r16_l01_l13_a_handle_of_a_closed_runtime_answers_closed() {
    within(|| {
        let (tally, drops) = (Tally::default(), Drops::default());
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        drop(runtime);
        assert!(handle.is_closed());
        let mut task = handle.spawn(tally.wrap(async {}));
        assert_eq!(
            (tally.polls(), tally.drops()),
            (0, 1),
            "dropped in the call"
        );
        assert!(task.is_finished());
        task.abort();
        let Poll::Ready(Err(error)) = poll_once(&mut task) else {
            panic!("it is not ready")
        };
        assert!(
            error.is_closed() && !error.is_cancelled() && !error.is_panic(),
            "{error}"
        );
        assert!(error.to_string().contains("closed"), "{error}");

        let refused = handle.try_spawn(tally.wrap(async { 3 })).unwrap_err();
        assert!(refused.error.is_closed());
        assert_eq!(tally.drops(), 1, "it was given back");
        assert_eq!(crate::support::run(refused.future), 3);

        let guard = drops.guard();
        let mut call = handle.spawn_blocking(move || drop(guard));
        assert_eq!(drops.count(), 1);
        let Poll::Ready(Err(error)) = poll_once(&mut call) else {
            panic!("it is not ready")
        };
        assert!(error.is_closed(), "{error}");
        assert!(matches!(
            handle.try_block_on(async {}),
            Err(heist::RunError::Closed)
        ));
    });
}

/// Handles of tasks that the end cancelled are awaited, aborted, cloned and dropped afterwards; the
/// task that waited for them elsewhere must have been woken.
#[test]
fn join_and_abort_handles_outlive_their_runtime() {
    within(|| {
        let mut runtime = Runtime::new().unwrap();
        let mut task = runtime.run(async { heist::spawn(pending::<()>()) });
        let abort = task.abort_handle();
        let (wakes, waker) = CountingWaker::new();
        assert!(
            Pin::new(&mut task)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(runtime);
        assert_eq!(wakes.wakes(), 1);
        assert!(task.is_finished() && abort.is_finished());
        task.abort();
        abort.clone().abort();
        let Poll::Ready(Err(error)) = poll_once(&mut task) else {
            panic!("it is not ready")
        };
        assert!(error.is_cancelled(), "{error}");
        drop(task);
        abort.abort();
    });
}

/// Wakers outlive the runtime. Waking, cloning and dropping them must do nothing, from any thread.
#[test]
fn wakers_outlive_their_runtime() {
    within(|| {
        let (sender, wakers) = async_channel::unbounded::<Waker>();
        let tally = Tally::default();
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(async {
            let take = |sender: async_channel::Sender<Waker>| {
                poll_fn(move |cx| {
                    sender.try_send(cx.waker().clone()).unwrap();
                    Poll::<()>::Pending
                })
            };
            for _ in 0..10 {
                drop(heist::spawn(tally.wrap(take(sender.clone()))));
                drop(heist::spawn_local(tally.wrap(take(sender.clone()))));
            }
            // That of `main`.
            let mut main = take(sender.clone());
            poll_fn(|cx| {
                assert!(Pin::new(&mut main).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            while sender.len() < 21 {
                yield_now().await;
            }
        });
        drop(runtime);
        assert_eq!((tally.polls(), tally.drops()), (20, 20));
        let mut threads = Vec::new();
        while let Ok(waker) = wakers.try_recv() {
            waker.wake_by_ref();
            waker.clone().wake();
            threads.push(thread::spawn(move || {
                waker.wake_by_ref();
                waker.wake();
            }));
        }
        assert_eq!(threads.len(), 21);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(tally.polls(), 20, "no poll after the end");
    });
}

/// Fails unless `error` is that of a closed runtime.
#[track_caller]
fn assert_closed(what: &str, error: &io::Error) {
    let inner = error.get_ref().is_some_and(|inner| inner.is::<Closed>());
    assert!(
        inner,
        "{what}: not the error of a closed runtime: {error:?}"
    );
}

/// Timers and sockets of a runtime are taken out of it, with somebody waiting for them. When it
/// closes, the waiters must be woken, and every later use must answer "closed" at once.
#[test]
fn l18_timers_and_sockets_outlive_their_runtime() {
    within(|| {
        let (wakes, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let (mut timer, listener, client, server, udp) = runtime.run(async {
            let mut timer = sleep(Duration::from_secs(3600));
            assert!(poll_once(&mut timer).is_pending());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, server) = futures::join!(TcpStream::connect(address), listener.accept());
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            (timer, listener, client.unwrap(), server.unwrap().0, udp)
        });
        assert!(Pin::new(&mut timer).poll(&mut cx).is_pending());
        let mut buffer = [0; 8];
        let mut reading = Box::pin(client.read(&mut buffer));
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        let mut accepting = Box::pin(listener.accept());
        assert!(accepting.as_mut().poll(&mut cx).is_pending());
        let woken = wakes.wakes();
        runtime.close();
        assert_eq!(
            wakes.wakes(),
            woken + 3,
            "each of the three waiters was woken once"
        );

        assert_eq!(Pin::new(&mut timer).poll(&mut cx), Poll::Ready(()));
        assert!(timer.is_closed() && !timer.is_elapsed());
        let Poll::Ready(Err(error)) = reading.as_mut().poll(&mut cx) else {
            panic!("read")
        };
        assert_closed("read", &error);
        drop(reading);
        let Poll::Ready(Err(error)) = accepting.as_mut().poll(&mut cx) else {
            panic!("accept")
        };
        assert_closed("accept", &error);
        drop(accepting);

        // New waits, from outside and from inside another runtime.
        let Poll::Ready(Err(error)) = Box::pin(udp.recv_from(&mut buffer)).as_mut().poll(&mut cx)
        else {
            panic!("recv_from")
        };
        assert_closed("recv_from", &error);
        crate::support::run(async {
            let mut buffer = [0; 8];
            let read = timeout(Duration::from_secs(5), server.read(&mut buffer)).await;
            assert_closed("read elsewhere", &read.expect("no hang").unwrap_err());
            let accept = timeout(Duration::from_secs(5), listener.accept()).await;
            assert_closed("accept elsewhere", &accept.expect("no hang").unwrap_err());
            assert_eq!(timer.checked().await, Err(Closed));
            // Set anew, a timer works on the runtime it is polled in.
            timer.reset(HeistInstant::now() + Duration::from_millis(1));
            assert_eq!(timer.checked().await, Ok(()));
        });
        drop((timer, listener, client, server, udp));
    });
}

/// Everything is used from a destructor that runs while the loop ends. None of it may panic, hang
/// or succeed in outliving the end.
#[test]
fn a_destructor_at_the_end_may_use_everything() {
    struct Late(async_channel::Sender<&'static str>, Sleep, Interval, Handle);
    impl Drop for Late {
        fn drop(&mut self) {
            let says = |what| self.0.try_send(what).unwrap();
            let mut cx = Context::from_waker(Waker::noop());
            drop(heist::spawn(pending::<()>()));
            drop(heist::spawn_blocking(|| ()));
            drop(self.3.spawn(pending::<()>()));
            says("spawned");
            // They may say "closed", or wait: the driver is closed only after the last destructor.
            let _ = Pin::new(&mut self.1).poll(&mut cx);
            let _ = Pin::new(&mut sleep(Duration::from_secs(9))).poll(&mut cx);
            let _ = Pin::new(&mut Box::pin(self.2.tick())).poll(&mut cx);
            let _ = Box::pin(timeout(Duration::from_secs(9), pending::<()>()))
                .as_mut()
                .poll(&mut cx);
            says("slept");
            let _ = Box::pin(TcpListener::bind("127.0.0.1:0"))
                .as_mut()
                .poll(&mut cx);
            let _ = Box::pin(TcpStream::connect("127.0.0.1:9"))
                .as_mut()
                .poll(&mut cx);
            says("connected");
            assert!(heist::try_run(async {}).is_err());
            drop(Runtime::new().unwrap());
            let mut used = Runtime::new().unwrap();
            drop(used.handle().spawn(pending::<()>()));
            used.close();
            drop(used);
            heist::block_in_place(|| ());
            drop(yield_now());
            let _ = (
                heist::task::try_id(),
                heist::task::name(),
                Handle::current(),
            );
            says("ran");
        }
    }
    within(|| {
        let (sender, said) = async_channel::unbounded();
        let name = Name::new();
        let reports = Reports::default();
        let mut runtime = reports
            .of(name.builder())
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(async {
            for n in 0..4 {
                let mut late = Late(
                    sender.clone(),
                    sleep(Duration::from_secs(9)),
                    interval(Duration::from_secs(9)),
                    Handle::current(),
                );
                let future = async move {
                    poll_fn(|cx| {
                        let _ = Pin::new(&mut late.1).poll(cx);
                        Poll::<()>::Pending
                    })
                    .await;
                    drop(late);
                };
                if n == 0 {
                    drop(heist::spawn_local(future));
                } else {
                    drop(heist::spawn(future));
                }
            }
            yield_now().await;
        });
        let report = runtime.close();
        assert_eq!(reports.all(), Vec::<String>::new());
        assert!(
            report.abandoned.is_empty() && report.panicked.is_empty(),
            "{report}"
        );
        assert_eq!(said.len(), 16);
        name.assert_gone();
    });
}

/// Threads spawn, wake and block on a runtime without a pause while it closes. Each spawned future
/// must end or be dropped, each handle must resolve, nobody may panic or hang.
#[test]
fn foreign_threads_race_with_the_end() {
    within(|| {
        for _ in 0..60 {
            let tally = Tally::default();
            let mut runtime = Runtime::builder()
                .workers(crate::support::workers())
                .build()
                .unwrap();
            let begun = Gate::new();
            let threads: Vec<_> = (0..3)
                .map(|n| {
                    let (handle, tally, begun) = (runtime.handle(), tally.clone(), begun.clone());
                    thread::spawn(move || {
                        let (mut spawned, mut refused) = (0, 0);
                        while refused < 3 {
                            let task = match n {
                                0 => handle.spawn(tally.wrap(pending::<()>())),
                                1 => handle.spawn(tally.wrap(yield_now())),
                                _ => handle.spawn(tally.wrap(sleep(Duration::from_secs(60)))),
                            };
                            spawned += 1;
                            begun.open();
                            if task.is_finished() {
                                match futures::executor::block_on(task) {
                                    Err(error) if error.is_closed() => refused += 1,
                                    Ok(()) => {}
                                    Err(error) => assert!(error.is_cancelled(), "{error}"),
                                }
                            }
                        }
                        spawned
                    })
                })
                .collect();
            begun.wait();
            let report = runtime.close();
            let spawned: usize = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum();
            assert_eq!(tally.drops(), spawned);
            tally.assert_sound();
            assert!(
                report.abandoned.is_empty() && report.panicked.is_empty(),
                "{report}"
            );
        }
    });
}

/// A thread is inside `block_on` while the runtime is closed. What it waits for is cancelled, so it
/// must come back.
#[test]
fn block_on_comes_back_when_the_runtime_closes() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        let inside = Gate::new();
        let begun = inside.clone();
        let thread = thread::spawn(move || {
            handle.block_on(async move {
                let task = heist::spawn(pending::<()>());
                let mut timer = sleep(Duration::from_secs(3600));
                assert!(poll_once(&mut timer).is_pending());
                begun.open();
                let joined = task.await;
                let slept = timer.checked().await;
                (joined.unwrap_err().is_cancelled(), slept)
            })
        });
        inside.wait();
        runtime.close();
        assert_eq!(thread.join().unwrap(), (true, Err(Closed)));
    });
}
