//! Promise 9, its first half: a cancelled task is dropped at its next suspension point, by a
//! thread of the runtime, never inside the call that asked.
#![forbid(unsafe_code)]

use crate::support::{Drops, Gate, Name, Tally, eventually, within};
use heist::time::{Duration, timeout};
use heist::{Handle, Runtime, yield_now};
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

thread_local! {
    /// Set while this thread is inside a call of `abort`.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
}

/// Counts drops, and those inside of a call of `abort` apart.
#[derive(Clone, Default)]
struct Watch {
    drops: Drops,
    in_call: Arc<AtomicUsize>,
}

struct Watched(
    Watch,
    #[expect(dead_code, reason = "counts when dropped")] crate::support::DropGuard,
);

impl Watch {
    fn guard(&self) -> Watched {
        Watched(self.clone(), self.drops.guard())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if IN_CALL.get() {
            self.0.in_call.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn calling<R>(call: impl FnOnce() -> R) -> R {
    let outer = IN_CALL.replace(true);
    let result = call();
    IN_CALL.set(outer);
    result
}

/// Aborts from every place there is: `main`, another task, a foreign thread, a blocking closure, a
/// destructor, the task itself. None of the calls may drop the future; a thread of the runtime must.
#[test]
fn aborting_never_drops_the_task_inside_the_call() {
    struct AbortsOnDrop(heist::task::AbortHandle);
    impl Drop for AbortsOnDrop {
        fn drop(&mut self) {
            calling(|| self.0.abort());
        }
    }
    within(|| {
        let (name, watch) = (Name::new(), Watch::default());
        let mut runtime = name
            .builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let new = |watch: &Watch| {
            let guard = watch.guard();
            heist::spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            })
        };
        runtime.run(async {
            for round in 0..50 {
                let tasks: Vec<_> = (0..6).map(|_| new(&watch)).collect();
                for _ in 0..round % 3 {
                    yield_now().await;
                }
                let aborts: Vec<_> = tasks.iter().map(heist::JoinHandle::abort_handle).collect();
                calling(|| tasks[0].abort());
                let abort = aborts[1].clone();
                drop(heist::spawn(async move { calling(|| abort.abort()) }));
                let abort = aborts[2].clone();
                thread::spawn(move || calling(|| abort.abort()))
                    .join()
                    .unwrap();
                let abort = aborts[3].clone();
                drop(heist::spawn_blocking(move || calling(|| abort.abort())));
                let on_drop = AbortsOnDrop(aborts[4].clone());
                drop(heist::spawn(async move { drop(on_drop) }));
                let abort = aborts[5].clone();
                drop(heist::spawn_local(async move { calling(|| abort.abort()) }));
                for task in tasks {
                    assert!(task.await.unwrap_err().is_cancelled());
                }
                assert_eq!(watch.drops.count(), 6 * (round + 1));
            }
        });
        assert_eq!(
            watch.in_call.load(Ordering::SeqCst),
            0,
            "drops inside of a call"
        );
        watch.drops.assert_on(&name, thread::current().id());
    });
}

/// A task aborts itself in the middle of a poll. It goes on until its next suspension point, and is
/// dropped there; if it completes before that, it keeps its output.
#[test]
fn a_task_that_aborts_itself_ends_at_its_next_suspension_point() {
    within(|| {
        crate::support::run(async {
            let watch = Watch::default();
            let passed = Arc::new(AtomicUsize::new(0));
            for suspends in [true, false] {
                let (hand, handed) = async_channel::bounded::<heist::task::AbortHandle>(1);
                let (guard, passed) = (watch.guard(), passed.clone());
                let task = heist::spawn(async move {
                    let _guard = guard;
                    let own = handed.recv().await.unwrap();
                    calling(|| own.abort());
                    passed.fetch_add(1, Ordering::SeqCst);
                    if suspends {
                        yield_now().await;
                        passed.fetch_add(100, Ordering::SeqCst);
                    }
                    "output"
                });
                hand.send(task.abort_handle()).await.unwrap();
                let ended = task.await;
                assert_eq!(
                    ended.as_ref().is_err_and(heist::JoinError::is_cancelled),
                    suspends
                );
                assert_eq!(ended.ok(), (!suspends).then_some("output"));
            }
            assert_eq!(passed.load(Ordering::SeqCst), 2);
            assert_eq!(
                (watch.drops.count(), watch.in_call.load(Ordering::SeqCst)),
                (2, 0)
            );
        });
    });
}

/// A task is aborted by another thread while it is inside a poll, which then suspends, or completes.
#[test]
fn a_task_aborted_during_its_poll_is_dropped_after_it() {
    within(|| {
        let runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        for completes in [false, true] {
            let (inside, go) = (Gate::new(), Gate::new());
            let (begins, waits) = (inside.clone(), go.clone());
            let tally = Tally::default();
            let task = handle.spawn(tally.wrap(poll_fn(move |_| {
                begins.open();
                waits.wait();
                if completes {
                    Poll::Ready(5)
                } else {
                    Poll::Pending
                }
            })));
            inside.wait();
            task.abort();
            task.abort();
            assert!(!task.is_finished());
            assert_eq!(tally.drops(), 0);
            go.open();
            let ended = handle.block_on(task);
            assert_eq!(ended.is_ok(), completes);
            assert_eq!((tally.polls(), tally.drops()), (1, 1));
        }
    });
}

/// A task is aborted before it was polled for the first time. It must never be polled, and its
/// future be dropped all the same.
#[test]
fn a_task_aborted_before_its_first_poll_is_never_polled() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(1)
            .spare_workers(0)
            .build()
            .unwrap();
        runtime.run(async {
            let tally = Tally::default();
            // Nobody else runs tasks while this poll of `main` lasts.
            let task = heist::spawn(tally.wrap(async {}));
            let local = heist::spawn_local(tally.wrap(async {}));
            task.abort();
            local.abort();
            assert_eq!(tally.drops(), 0);
            assert!(local.await.unwrap_err().is_cancelled());
            let ended = task.await;
            // Unless the monitor took this thread for blocked.
            if let Err(error) = ended {
                assert!(error.is_cancelled());
                assert_eq!(tally.polls(), 0);
            }
            assert_eq!(tally.drops(), 2);
        });
    });
}

/// `cancel` asks and waits: when it returns, the future is gone. A task that has completed gives its
/// output.
#[test]
fn cancel_returns_when_the_future_is_gone() {
    within(|| {
        crate::support::run(async {
            for n in 0..300 {
                let shared = Arc::new(());
                let inside = shared.clone();
                let task = heist::spawn(async move {
                    let _inside = inside;
                    for _ in 0..n % 5 {
                        yield_now().await;
                    }
                    pending::<()>().await;
                });
                if n % 2 == 0 {
                    yield_now().await;
                }
                assert!(task.cancel().await.unwrap_err().is_cancelled());
                assert_eq!(Arc::strong_count(&shared), 1);
            }
            let done = heist::spawn(async { 7 });
            while !done.is_finished() {
                yield_now().await;
            }
            done.abort();
            assert_eq!(done.cancel().await.unwrap(), 7);
        });
    });
}

/// The future of `cancel` is dropped before it is ready: the request stands.
#[test]
fn a_request_stands_when_nobody_waits_for_it() {
    within(|| {
        crate::support::run(async {
            let drops = Drops::default();
            let guard = drops.guard();
            let task = heist::spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
            let mut cancel = Box::pin(task.cancel());
            let _ = cancel
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            drop(cancel);
            while drops.count() == 0 {
                yield_now().await;
            }
        });
    });
}

/// A local task is aborted from another thread. Only the thread of `run` may drop it: it holds what
/// is not `Send`.
#[test]
fn a_local_task_is_dropped_on_its_own_thread() {
    within(|| {
        let drops = Drops::default();
        crate::support::run(async {
            for n in 0..20 {
                let (guard, not_send) = (drops.guard(), std::rc::Rc::new(()));
                let task = heist::spawn_local(async move {
                    let _both = (guard, not_send);
                    pending::<()>().await;
                });
                if n % 2 == 0 {
                    yield_now().await;
                }
                let abort = task.abort_handle();
                thread::spawn(move || abort.abort()).join().unwrap();
                assert!(task.await.unwrap_err().is_cancelled());
            }
        });
        assert_eq!(drops.threads(), [thread::current().id(); 20]);
    });
}

/// Every thread aborts every task while the tasks complete by themselves: each must end exactly
/// once, and its handle give what its future's fate was.
#[test]
fn aborting_races_with_completing() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle: Handle = runtime.handle();
        runtime.run(async {
            let (mut completed, mut cancelled) = (0, 0);
            for _ in 0..40 {
                let tally = Tally::default();
                let tasks: Vec<_> = (0..50)
                    .map(|n| {
                        handle.spawn(tally.wrap(async move {
                            for _ in 0..n % 7 {
                                yield_now().await;
                            }
                            n
                        }))
                    })
                    .collect();
                let aborts: Vec<_> = tasks.iter().map(heist::JoinHandle::abort_handle).collect();
                let threads: Vec<_> = (0..2)
                    .map(|_| {
                        let aborts = aborts.clone();
                        thread::spawn(move || {
                            aborts.iter().for_each(heist::task::AbortHandle::abort)
                        })
                    })
                    .collect();
                for (n, task) in tasks.into_iter().enumerate() {
                    match task.await {
                        Ok(output) => {
                            assert_eq!(output, n);
                            completed += 1;
                        }
                        Err(error) => {
                            assert!(error.is_cancelled(), "{error}");
                            cancelled += 1;
                        }
                    }
                }
                for thread in threads {
                    thread.join().unwrap();
                }
                assert_eq!(tally.drops(), 50);
                tally.assert_sound();
                assert!(aborts.iter().all(heist::task::AbortHandle::is_finished));
            }
            assert_eq!(completed + cancelled, 2000);
        });
        assert!(runtime.close().is_clean() || runtime.close().cancelled == 0);
    });
}

/// A blocking closure that waits in the queue is cancelled; one that runs is not interrupted.
#[test]
fn a_blocking_closure_is_cancelled_only_before_it_begins() {
    within(|| {
        let mut runtime = Runtime::builder().blocking_threads(1).build().unwrap();
        runtime.run(async {
            let (begun, go, drops) = (Gate::new(), Gate::new(), Drops::default());
            let (begins, waits) = (begun.clone(), go.clone());
            let running = heist::spawn_blocking(move || {
                begins.open();
                waits.wait();
                1
            });
            begun.wait();
            let guard = drops.guard();
            let queued = heist::spawn_blocking(move || drop(guard));
            running.abort();
            queued.abort();
            assert!(!running.is_finished());
            go.open();
            assert_eq!(running.await.unwrap(), 1);
            assert!(queued.await.unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 1);
        });
    });
}

/// A timeout drops its future at the deadline, and the task around it goes on.
#[test]
fn a_timeout_drops_its_future() {
    within(|| {
        crate::support::run(async {
            let drops = Drops::default();
            let guard = drops.guard();
            let late = timeout(Duration::from_millis(5), async move {
                let _guard = guard;
                pending::<()>().await;
            });
            assert!(!late.await.unwrap_err().is_closed());
            assert_eq!(drops.count(), 1);
            // A handle in a timeout is only dropped, which detaches.
            let (go, gone) = async_channel::bounded::<()>(1);
            let task = heist::spawn(async move { gone.recv().await });
            let abort = task.abort_handle();
            assert!(timeout(Duration::from_millis(5), task).await.is_err());
            assert!(!abort.is_finished());
            go.send(()).await.unwrap();
            while !abort.is_finished() {
                yield_now().await;
            }
        });
    });
}

/// The end of the loop cancels a task that never suspends for long: it yields for ever.
#[test]
fn a_task_that_never_rests_is_cancelled_at_the_end() {
    within(|| {
        let drops = Drops::default();
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(async {
            for _ in 0..10 {
                let guard = drops.guard();
                drop(heist::spawn(async move {
                    let _guard = guard;
                    loop {
                        yield_now().await;
                    }
                }));
            }
            yield_now().await;
        });
        assert_eq!(runtime.close().cancelled, 10);
        assert_eq!(drops.count(), 10);
    });
}

/// A future whose destructor aborts its own task, and one whose destructor wakes it.
#[test]
fn a_destructor_may_abort_and_wake_its_own_task() {
    struct Meddles {
        own: Option<heist::task::AbortHandle>,
        waker: Option<Waker>,
    }
    impl Future for Meddles {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }
    impl Drop for Meddles {
        fn drop(&mut self) {
            if let Some(own) = &self.own {
                own.abort();
            }
            if let Some(waker) = self.waker.take() {
                waker.wake_by_ref();
                waker.wake();
            }
        }
    }
    within(|| {
        crate::support::run(async {
            for _ in 0..50 {
                let tally = Tally::default();
                let (hand, handed) = async_channel::bounded::<heist::task::AbortHandle>(1);
                let task = heist::spawn(tally.wrap(async move {
                    let own = handed.recv().await.ok();
                    Meddles { own, waker: None }.await;
                }));
                hand.send(task.abort_handle()).await.unwrap();
                let seen = tally.clone();
                while seen.polls() < 2 && !task.is_finished() && hand.is_full() {
                    yield_now().await;
                }
                assert!(task.cancel().await.unwrap_err().is_cancelled());
                assert_eq!(tally.drops(), 1);
                tally.assert_sound();
            }
        });
    });
}

/// An abort that comes after the end of the runtime does nothing, from any thread.
#[test]
fn an_abort_after_the_end_does_nothing() {
    within(|| {
        let task = crate::support::run(async { heist::spawn(pending::<()>()) });
        let abort = task.abort_handle();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let abort = abort.clone();
                thread::spawn(move || abort.abort())
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        eventually("finished", || abort.is_finished());
        assert!(crate::support::run(task).unwrap_err().is_cancelled());
    });
}
