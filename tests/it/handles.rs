//! Promise 10: a handle that is ready means that the future and all it captured are gone; an
//! abandoned one says so (`lifetime.rs`). And what else handles are good for.
#![forbid(unsafe_code)]

use crate::support::{CountingWaker, Drops, LIMIT, Name, Tally, eventually, panic_text, within};
use heist::{Handle, JoinHandle, Runtime, yield_now};
use std::future::{Future, pending};
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

/// What a task ends with.
#[derive(Clone, Copy)]
enum End {
    Output,
    Panic,
    Abort,
}

/// A future that holds something beyond its last poll: only its own drop gives it back.
struct Holds(End, #[expect(dead_code, reason = "held")] Arc<()>);

impl Future for Holds {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0 {
            End::Output => Poll::Ready(()),
            End::Panic => std::panic::resume_unwind(Box::new("quietly")),
            End::Abort => Poll::Pending,
        }
    }
}

/// Thousands of tasks end on one thread while another waits for the handle, by polling and by
/// looking. The moment it is ready, nothing of the future may be left.
#[test]
fn a_ready_handle_means_that_the_future_is_gone() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        runtime.run(async {
            let begin = Instant::now();
            for n in 0..6000 {
                // Each of them is handed from thread to thread, which takes long where all are busy.
                if n > 600 && begin.elapsed() > LIMIT / 4 {
                    break;
                }
                let shared = Arc::new(());
                let seen: Weak<()> = Arc::downgrade(&shared);
                let end = [End::Output, End::Panic, End::Abort][n % 3];
                let task = match n % 4 {
                    // From outside, so that another worker takes it while this thread goes on.
                    0..3 => handle.spawn(Holds(end, shared)),
                    _ => heist::spawn_local(Holds(end, shared)),
                };
                if matches!(end, End::Abort) {
                    task.abort();
                }
                if n % 2 == 0 {
                    while !task.is_finished() {
                        yield_now().await;
                    }
                    assert_eq!(
                        seen.strong_count(),
                        0,
                        "finished, and its future is still there"
                    );
                }
                let ended = task.await;
                assert_eq!(
                    seen.strong_count(),
                    0,
                    "ready, and its future is still there"
                );
                assert_eq!(ended.is_ok(), matches!(end, End::Output));
            }
        });
    });
}

/// The same for a closure, and for who waits on a foreign thread.
#[test]
fn a_ready_handle_of_a_closure_means_that_its_captures_are_gone() {
    within(|| {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        for n in 0..300 {
            let shared = Arc::new(());
            let inside = shared.clone();
            let call = handle.spawn_blocking(move || {
                if n % 3 == 0 {
                    std::panic::resume_unwind(Box::new(()));
                }
                Arc::strong_count(&inside)
            });
            let ended = futures::executor::block_on(call);
            assert_eq!(ended.is_ok(), n % 3 != 0);
            assert_eq!(Arc::strong_count(&shared), 1);
        }
    });
}

/// The output goes to whoever awaits it, once, wherever that is; unwanted, it is dropped on the
/// thread that makes it.
#[test]
fn an_output_is_given_out_or_dropped_exactly_once() {
    within(|| {
        let (name, drops) = (Name::new(), Drops::default());
        let runtime = name
            .builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        let new = || {
            let guard = drops.guard();
            handle.spawn(async move { guard })
        };
        // Taken: dropped by the caller.
        drop(handle.block_on(new()).unwrap());
        assert_eq!(drops.threads(), [thread::current().id()]);
        // Finished, then dropped: by who drops the handle.
        let task = new();
        eventually("the task ends", || task.is_finished());
        assert_eq!(drops.count(), 1);
        drop(task);
        assert_eq!(drops.threads()[1], thread::current().id());
        // Detached before: by the runtime.
        let (go, gone) = async_channel::bounded::<()>(1);
        let guard = drops.guard();
        drop(handle.spawn(async move {
            gone.recv().await.unwrap();
            guard
        }));
        go.send_blocking(()).unwrap();
        eventually("the output is dropped", || drops.count() == 3);
        assert_ne!(drops.threads()[2], thread::current().id());
        // Raced, many times.
        for _ in 0..2000 {
            drop(new());
        }
        eventually("every output is dropped", || drops.count() == 2003);
        drop(runtime);
        assert_eq!(drops.count(), 2003);
    });
}

/// Handles are polled with one waker, then with another: only the last one may be woken, once.
#[test]
fn a_handle_wakes_the_last_waker_it_was_polled_with() {
    within(|| {
        let runtime = Runtime::new().unwrap();
        let (go, gone) = async_channel::bounded::<()>(1);
        let mut task = runtime
            .handle()
            .spawn(async move { gone.recv().await.unwrap() });
        let (first, first_waker) = CountingWaker::new();
        let (last, last_waker) = CountingWaker::new();
        for waker in [&first_waker, &first_waker, &last_waker] {
            assert!(
                Pin::new(&mut task)
                    .poll(&mut Context::from_waker(waker))
                    .is_pending()
            );
        }
        go.send_blocking(()).unwrap();
        eventually("the waiter is woken", || last.wakes() > 0);
        assert_eq!((first.wakes(), last.wakes()), (0, 1));
        assert!(
            Pin::new(&mut task)
                .poll(&mut Context::from_waker(&last_waker))
                .is_ready()
        );
        // Nothing of ours is kept: the test's own references are the last.
        drop((first_waker, last_waker, task));
        eventually("the wakers are let go", || {
            Arc::strong_count(&first) == 1 && Arc::strong_count(&last) == 1
        });
    });
}

/// A handle is awaited by a task of another runtime, by `block_on` and by another executor.
#[test]
fn l08_l25_a_handle_can_be_awaited_anywhere() {
    within(|| {
        let first = Runtime::new().unwrap();
        let handle = first.handle();
        let in_other = crate::support::run(async {
            let task = handle.spawn(async {
                yield_now().await;
                1
            });
            heist::spawn(async move { task.await.unwrap() + 1 })
                .await
                .unwrap()
        });
        assert_eq!(in_other, 2);
        assert_eq!(
            futures::executor::block_on(handle.spawn(async { 3 })).unwrap(),
            3
        );
        assert_eq!(handle.block_on(handle.spawn(async { 4 })).unwrap(), 4);
    });
}

/// Ten threads spawn and wait at once, and drop their last reference to the runtime's tasks there.
#[test]
fn l24_l25_ten_threads_spawn_and_wait_at_once() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let tally = Tally::default();
        let threads: Vec<_> = (0..10_u64)
            .map(|n| {
                let (handle, tally): (Handle, _) = (runtime.handle(), tally.clone());
                thread::spawn(move || {
                    (0..100)
                        .map(|i| {
                            handle
                                .block_on(handle.spawn(tally.wrap(async move { n * i })))
                                .unwrap()
                        })
                        .sum::<u64>()
                })
            })
            .collect();
        let sum: u64 = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert_eq!(sum, 45 * 4950);
        assert_eq!((tally.polls(), tally.drops()), (1000, 1000));
        assert!(runtime.close().is_clean());
    });
}

/// A thread waits for what it has submitted, and hears of a failure, of a cancellation by somebody else,
/// and, after as long as it wants to wait, that the time is up: then the task is cancelled.
#[test]
fn l25_a_thread_hears_of_failures_cancellations_and_limits() {
    within(|| {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let failed: Result<(), _> = handle.block_on(handle.spawn(async { panic_any("a bug") }));
        let error = failed.unwrap_err();
        assert!(error.is_panic() && error.reason() == "a bug", "{error}");

        let task = handle.spawn(pending::<()>());
        let abort = task.abort_handle();
        let elsewhere = thread::spawn(move || abort.abort_with("elsewhere"));
        let error = handle.block_on(task).unwrap_err();
        assert!(error.is_cancelled() && error.reason() == "elsewhere");
        elsewhere.join().unwrap();

        let drops = Drops::default();
        let guard = drops.guard();
        let task = handle.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        let abort = task.abort_handle();
        let limit = std::time::Duration::from_millis(5);
        let limited = heist::time::timeout(limit, task.cancel_on_drop());
        assert!(handle.block_on(limited).is_err());
        eventually("the task is cancelled", || abort.is_finished());
        assert_eq!(drops.count(), 1);
    });
}

/// Identities are unique, names are kept, and a task knows both of itself.
#[test]
fn l12_k21_k22_tasks_know_their_identity_and_name() {
    within(|| {
        let spawned = Arc::new(std::sync::Mutex::new(Vec::new()));
        let ids = spawned.clone();
        let hook = move |id| ids.lock().unwrap().push(id);
        let mut runtime = Runtime::builder().on_task_spawn(hook).build().unwrap();
        let seen = runtime.run(async {
            assert_eq!((heist::task::try_id(), heist::task::name()), (None, None));
            let mut seen = Vec::new();
            let own = || async { (heist::task::id(), heist::task::name()) };
            for n in 0..20 {
                let name = format!("task {n}");
                let builder = heist::task::Builder::new().name(name.clone());
                let task = if n % 2 == 0 {
                    builder.spawn(own())
                } else {
                    builder.spawn_local(own())
                };
                assert_eq!(task.name(), Some(&*name));
                let id = task.id();
                assert_eq!(task.abort_handle().id(), id);
                assert_eq!(task.await.unwrap(), (id, Some(name)));
                seen.push(id);
            }
            let unnamed = heist::spawn(own());
            assert_eq!(unnamed.name(), None);
            let id = unnamed.id();
            assert_eq!(unnamed.await.unwrap(), (id, None));
            seen.push(id);
            let call = heist::task::Builder::new()
                .name("call")
                .spawn_blocking(heist::task::name);
            seen.push(call.id());
            assert_eq!(call.await.unwrap().as_deref(), Some("call"));
            seen
        });
        assert_eq!(
            *spawned.lock().unwrap(),
            seen,
            "the hook saw every spawn, in order"
        );
        let unique: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len());
    });
}

/// An error says which task it is about and where that was spawned.
#[test]
fn k21_an_error_names_its_task() {
    within(|| {
        crate::support::run(async {
            let line = line!() + 3;
            let task = heist::task::Builder::new()
                .name("doomed")
                .spawn(pending::<()>());
            let id = task.id();
            let error = task.cancel().await.unwrap_err();
            assert_eq!((error.id(), error.name()), (id, Some("doomed")));
            assert_eq!(
                (error.spawned_at().file(), error.spawned_at().line()),
                (file!(), line)
            );
            for part in ["doomed", "handles.rs", "cancelled"] {
                assert!(error.to_string().contains(part), "{error}");
            }
            let text = format!("{}", std::io::Error::from(error));
            assert!(text.contains("doomed"), "{text}");
            let error = heist::spawn(pending::<()>()).cancel().await.unwrap_err();
            let text = panic_text(|| error.into_panic());
            assert!(text.contains("not a panic"), "{text}");
        });
    });
}

/// A handle that has given its output is polled again: a documented panic, in the caller alone.
#[test]
fn polling_a_handle_after_its_output_is_a_documented_panic() {
    within(|| {
        crate::support::run(async {
            let mut task = heist::spawn(async { 1 });
            assert_eq!((&mut task).await.unwrap(), 1);
            assert!(task.is_finished());
            let text = panic_text(|| crate::support::poll_once(&mut task));
            assert!(text.contains("polled after"), "{text}");
            // Also when this poll may do no more.
            let others: Vec<_> = (0..200).map(|_| heist::spawn(async {})).collect();
            while !others.iter().all(JoinHandle::is_finished) {
                heist::yield_now().await;
            }
            let mut others = others.into_iter();
            assert!(others.any(|mut other| crate::support::poll_once(&mut other).is_pending()));
            let text = panic_text(|| crate::support::poll_once(&mut task));
            assert!(text.contains("polled after"), "{text}");
            assert_eq!(heist::spawn(async { 2 }).await.unwrap(), 2);
        });
    });
}

/// A handle is forgotten, or sits in the output of its own task: neither may hang the end.
#[test]
fn handles_that_are_never_dropped_do_not_hang_the_end() {
    within(|| {
        let drops = Drops::default();
        let mut runtime = Runtime::new().unwrap();
        runtime.run(async {
            let guard = drops.guard();
            std::mem::forget(heist::spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
            let (hand, handed) = async_channel::bounded::<JoinHandle<()>>(1);
            let guard = drops.guard();
            let own = heist::spawn(async move {
                let _guard = guard;
                let own = handed.recv().await.unwrap();
                let _ = own.await;
            });
            hand.send(own).await.unwrap();
            yield_now().await;
        });
        assert_eq!(runtime.close().cancelled, 2);
        assert_eq!(drops.count(), 2);
    });
}

/// Whoever waits for a task that panics is woken by it, also when it waits on another thread at the
/// very moment.
#[test]
fn waiting_races_with_the_end_of_the_task() {
    within(|| {
        let runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        for n in 0..2000 {
            let task = handle.spawn(async move {
                if n % 2 == 0 {
                    std::panic::resume_unwind(Box::new(n));
                }
                n
            });
            match futures::executor::block_on(task) {
                Ok(output) => assert_eq!(output, n),
                Err(error) => assert_eq!(error.into_panic().downcast_ref(), Some(&n)),
            }
        }
        let error = handle
            .block_on(handle.spawn(async { panic_any(0_u8) }))
            .unwrap_err();
        assert!(error.is_panic());
    });
}

/// Local tasks are begun in the order in which they were spawned, and those that one poll wakes go on in
/// the order of the wakes.
#[test]
fn l04_local_tasks_take_turns_in_order() {
    within(|| {
        let order = crate::support::run(async {
            let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let (go, tasks): (Vec<_>, Vec<_>) = (0..5)
                .map(|n| {
                    let order = order.clone();
                    let (go, gone) = futures::channel::oneshot::channel::<()>();
                    let task = heist::spawn_local(async move {
                        order.borrow_mut().push(n);
                        gone.await.unwrap();
                        order.borrow_mut().push(10 + n);
                    });
                    (go, task)
                })
                .unzip();
            while order.borrow().len() < 5 {
                heist::yield_now().await;
            }
            for go in go.into_iter().rev() {
                go.send(()).unwrap();
            }
            for task in tasks {
                task.await.unwrap();
            }
            order.take()
        });
        assert_eq!(order, [0, 1, 2, 3, 4, 14, 13, 12, 11, 10]);
    });
}
