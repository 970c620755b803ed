//! Promise 9: cancellation can be caught. Rows K of asyncio's table are named by their ids; tests
//! without one are about what that table does not have.
#![forbid(unsafe_code)]

use crate::support::{
    Drops, Gate, Reports, Signal, in_a_task, panic_text, poll_once, with_own_handle, within,
};
use async_channel::Sender;
use futures::future::{Either, join, select};
use futures::stream::{FuturesUnordered, StreamExt};
use heist::task::{AbortHandle, cancelling, uncancel};
use heist::time::{Duration, sleep, timeout};
use heist::{Cancelled, JoinHandle, Runtime, catch_cancel, shield, yield_now};
use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MS: Duration = Duration::from_millis(1);

// ---- K: tasks ----

/// The reason and the place of a request reach the region that catches it, and, if none does, whoever
/// awaits the task. The first reason counts.
#[test]
fn k01_a_request_carries_a_reason_and_its_place() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(async move { catch_cancel(held.hold::<()>()).await });
        began.wait().await;
        let line = line!() + 1;
        let caught = task.cancel_with("the user has left").await.unwrap();
        let caught: Cancelled = caught.unwrap_err();
        assert_eq!(caught.reason(), Some("the user has left"));
        assert_eq!((caught.by().file(), caught.by().line()), (file!(), line));
        let text = caught.to_string();
        assert!(
            text.contains("the user has left") && text.contains("regions.rs"),
            "{text}"
        );

        let task = heist::spawn(pending::<()>());
        task.abort_handle().abort_with("the first");
        task.abort_with("the second");
        let line = line!() - 2;
        let error = task.await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.reason(), "the first");
        let text = error.to_string();
        assert!(text.contains(&format!("regions.rs:{line}")), "{text}");

        // A first request without a reason says nothing.
        let error = heist::spawn(pending::<()>()).cancel().await.unwrap_err();
        assert_eq!(error.reason(), "cancelled");
    });
}

/// Requests are counted while the task lives, delivered or not; a request after its end does nothing.
#[test]
fn k02_requests_are_counted() {
    in_a_task(async {
        assert_eq!(cancelling(), 0);
        let task = with_own_handle(|own| async move {
            let mut seen = vec![cancelling()];
            let work = async {
                for _ in 0..3 {
                    own.abort();
                    seen.push(cancelling());
                }
                pending::<()>().await;
            };
            assert!(catch_cancel(work).await.is_err());
            seen.push(cancelling());
            (seen, uncancel(), uncancel(), uncancel(), uncancel())
        });
        let abort = task.abort_handle();
        assert_eq!(task.await.unwrap(), (vec![0, 1, 2, 3, 3], 2, 1, 0, 0));
        abort.abort_with("too late");
        assert!(abort.is_finished());
    });
}

/// A task catches, takes the request back, and works on; it can be cancelled again and again.
#[test]
fn k03_a_request_that_was_dealt_with_is_over() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(async move {
            for round in 0..3 {
                let caught = catch_cancel(held.clone().hold::<()>()).await.unwrap_err();
                assert_eq!(caught.reason(), Some(&*round.to_string()));
                assert_eq!((cancelling(), uncancel()), (1, 0));
                // Not in cleanup any more, and nobody asks: it may wait.
                yield_now().await;
            }
            held.hold::<()>().await;
        });
        for round in 0..3 {
            began.wait().await;
            task.abort_with(round.to_string());
        }
        began.wait().await;
        assert!(task.cancel().await.unwrap_err().is_cancelled());
    });
}

/// A timeout inside a task counts no request and takes none back.
#[test]
fn k04_a_timeout_is_no_request_to_the_task() {
    in_a_task(async {
        let task = with_own_handle(|own| async move {
            let first = catch_cancel(async {
                own.abort();
                pending::<()>().await;
            });
            assert!(first.await.is_err());
            assert_eq!(cancelling(), 1);
            let limited = timeout(MS, catch_cancel(pending::<()>())).await;
            assert!(limited.unwrap().is_err());
            assert_eq!(cancelling(), 1);
            assert_eq!(uncancel(), 0);
            let limited = timeout(MS, catch_cancel(pending::<()>())).await;
            assert!(limited.unwrap().is_err());
            assert_eq!(cancelling(), 0);
            yield_now().await;
            42
        });
        assert_eq!(task.await.unwrap(), 42);
    });
}

/// A request that is taken back before the next suspension point is never delivered, with a region
/// and without.
#[test]
fn k05_a_request_taken_back_in_time_is_never_delivered() {
    in_a_task(async {
        let task = with_own_handle(|own| async move {
            own.abort();
            assert_eq!((cancelling(), uncancel()), (1, 0));
            yield_now().await;
            let inside = catch_cancel(async {
                own.abort();
                own.abort();
                assert_eq!((uncancel(), uncancel()), (1, 0));
                for _ in 0..3 {
                    yield_now().await;
                }
                7
            });
            inside.await
        });
        assert_eq!(task.await.unwrap().unwrap(), 7);
    });
}

/// What a task waits for is cancelled, the task itself, and both at once.
#[test]
fn k06_the_task_or_what_it_waits_for() {
    in_a_task(async {
        for (inner_too, outer_too) in [(true, false), (false, true), (true, true)] {
            let began = Signal::new();
            let held = began.clone();
            let inner = heist::spawn(pending::<()>());
            let abort = inner.abort_handle();
            let outer = heist::spawn(async move {
                let work = async {
                    held.set();
                    inner.await.is_err_and(|error| error.is_cancelled())
                };
                catch_cancel(work).await
            });
            began.wait().await;
            if outer_too {
                outer.abort();
            }
            if inner_too {
                abort.abort();
            }
            match outer.await.unwrap() {
                Ok(inner_cancelled) => assert!(inner_too && inner_cancelled),
                Err(_) => assert!(outer_too),
            }
            abort.abort();
        }
    });
}

/// A task catches its cancellation and answers: that is its output.
#[test]
fn k07_cancel_task_catching() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let drops = Drops::default();
        let guard = drops.guard();
        let task = heist::spawn(async move {
            let work = async move {
                let _guard = guard;
                held.hold::<()>().await;
            };
            let caught = catch_cancel(work).await;
            assert!(caught.is_err());
            42
        });
        began.wait().await;
        assert_eq!(drops.count(), 0);
        assert_eq!(task.cancel().await.unwrap(), 42);
        assert_eq!(drops.count(), 1);
    });
}

/// A task catches its cancellation and goes on waiting for other things: it comes to its own end.
#[test]
fn k08_cancel_task_ignoring() {
    in_a_task(async {
        let (began, go) = (Signal::new(), Signal::new());
        let (held, goes) = (began.clone(), go.clone());
        let task = heist::spawn(async move {
            assert!(catch_cancel(held.clone().hold::<()>()).await.is_err());
            held.set();
            goes.wait().await;
            sleep(MS).await;
            for _ in 0..200 {
                yield_now().await;
            }
            "done"
        });
        began.wait().await;
        task.abort();
        began.wait().await;
        assert!(!task.is_finished());
        go.set();
        assert_eq!(task.await.unwrap(), "done");
    });
}

/// A task cancels itself: it goes on to its next suspension point, inside a region or before one
/// that it enters in the same poll.
#[test]
fn k09_cancel_current_task() {
    in_a_task(async {
        for before in [false, true] {
            let passed = Arc::new(AtomicUsize::new(0));
            let count = passed.clone();
            let task = with_own_handle(move |own| async move {
                if before {
                    own.abort();
                }
                let work = async {
                    if !before {
                        own.abort();
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    yield_now().await;
                    count.fetch_add(100, Ordering::SeqCst);
                };
                catch_cancel(work).await.is_err()
            });
            assert!(task.await.unwrap());
            assert_eq!(passed.load(Ordering::SeqCst), 1, "{before}");
        }
    });
}

/// A task cancels itself and is ready in the same poll: it is ready. So is a region, and the request
/// then waits for the task's next suspension point.
#[test]
fn k10_ready_wins() {
    in_a_task(async {
        let task = with_own_handle(|own| async move {
            own.abort();
            12
        });
        assert_eq!(task.await.unwrap(), 12);
        let task = with_own_handle(|own| async move {
            let inside = catch_cancel(async {
                own.abort();
                12
            });
            inside.await.unwrap()
        });
        assert_eq!(task.await.unwrap(), 12);
        let passed = Arc::new(AtomicUsize::new(0));
        let count = passed.clone();
        let task = with_own_handle(|own| async move {
            assert_eq!(catch_cancel(async { own.abort() }).await.ok(), Some(()));
            count.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
            count.fetch_add(100, Ordering::SeqCst);
        });
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(passed.load(Ordering::SeqCst), 1);
    });
}

/// A panic while the cancellation is dealt with is what the task ends with: in the cleanup, and in a
/// destructor that the delivery runs.
#[test]
fn k12_a_panic_in_cleanup_wins() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a destructor");
        }
    }
    in_a_task(async {
        for bomb in [false, true] {
            let began = Signal::new();
            let held = began.clone();
            let task = heist::spawn(async move {
                let work = async move {
                    let _bomb = bomb.then(|| Bomb);
                    held.hold::<()>().await;
                };
                let _ = catch_cancel(work).await;
                yield_now().await;
                panic!("the cleanup");
            });
            began.wait().await;
            let error = task.cancel().await.unwrap_err();
            assert!(error.is_panic(), "{error}");
            assert_eq!(
                error.reason(),
                if bomb { "a destructor" } else { "the cleanup" }
            );
        }
    });
}

/// A shield: the waiter is cancelled and the inner task lives; the inner task is cancelled and the
/// waiter hears of it; a late panic is reported once, a late output never; one that is done answers.
#[test]
fn k16_shield() {
    within(|| {
        let reports = Reports::default();
        let mut runtime = reports.of(Runtime::builder()).build().unwrap();
        runtime.run(async {
            for panics in [false, true] {
                let (began, go, gone) = (Signal::new(), Signal::new(), Signal::new());
                let (goes, ends) = (go.clone(), gone.clone());
                let inner = heist::spawn(async move {
                    goes.wait().await;
                    ends.set();
                    assert!(!panics, "late");
                });
                let abort = inner.abort_handle();
                let held = began.clone();
                let outer = heist::spawn(async move {
                    held.set();
                    shield(inner).await
                });
                began.wait().await;
                assert!(outer.cancel().await.unwrap_err().is_cancelled());
                assert!(!abort.is_finished());
                go.set();
                gone.wait().await;
                while !abort.is_finished() {
                    yield_now().await;
                }
            }
            let inner = heist::spawn(pending::<()>());
            inner.abort();
            assert!(shield(inner).await.unwrap_err().is_cancelled());
            let done = heist::spawn(async { 5 });
            while !done.is_finished() {
                yield_now().await;
            }
            assert_eq!(shield(done).await.unwrap(), 5);
            let both = (
                shield(heist::spawn(async { 1 })),
                shield(heist::spawn(async { 2 })),
            );
            let (one, two) = join(both.0, both.1).await;
            assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
            let back = shield(heist::spawn(async { 3 })).into_inner();
            assert_eq!(back.await.unwrap(), 3);
        });
        runtime.close();
        assert_eq!(reports.count("Panicked"), 1, "{:?}", reports.all());
    });
}

/// A request is made for a task that never was polled: nothing is caught.
#[test]
fn a_task_that_has_not_begun_catches_nothing() {
    within(|| {
        let caught = Arc::new(AtomicUsize::new(0));
        let count = caught.clone();
        let mut runtime = Runtime::builder()
            .workers(1)
            .spare_workers(0)
            .build()
            .unwrap();
        runtime.run(async {
            let task = heist::spawn_local(async move {
                let _ = catch_cancel(pending::<()>()).await;
                count.fetch_add(1, Ordering::SeqCst);
            });
            assert!(task.cancel().await.unwrap_err().is_cancelled());
        });
        assert_eq!(caught.load(Ordering::SeqCst), 0);
    });
}

// ---- who receives a request ----

/// Regions in one another: the innermost one receives the request. When the cancellation is let go
/// on, the next one around does, and at last the task.
#[test]
fn the_innermost_region_receives_the_request() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let order = Arc::new(AtomicUsize::new(0));
        let count = order.clone();
        let task = heist::spawn(async move {
            let outer = catch_cancel(async {
                let inner = catch_cancel(held.hold::<()>()).await.unwrap_err();
                sleep(MS).await;
                count.fetch_add(1, Ordering::SeqCst);
                match inner.resume().await {}
            });
            let outer = match outer.await {
                Ok(()) => unreachable!("it lets the cancellation go on"),
                Err(outer) => outer,
            };
            assert_eq!(outer.reason(), Some("why"));
            count.fetch_add(10, Ordering::SeqCst);
            match outer.resume().await {}
        });
        began.wait().await;
        let ended: Result<(), _> = task.cancel_with("why").await;
        let error = ended.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.reason(), "why");
        assert_eq!(order.load(Ordering::SeqCst), 11);
    });
}

/// A region that is asked and then dropped before it is polled leaves the request to the one around
/// it, and with none around it to the task.
#[test]
fn a_region_dropped_undelivered_leaves_the_request() {
    in_a_task(async {
        for around in [false, true] {
            let task = with_own_handle(move |own| async move {
                let body = async move {
                    let mut region = Box::pin(catch_cancel(pending::<()>()));
                    assert!(futures::poll!(region.as_mut()).is_pending());
                    own.abort();
                    drop(region);
                    pending::<()>().await;
                };
                if around {
                    catch_cancel(body).await.is_err()
                } else {
                    body.await;
                    false
                }
            });
            match task.await {
                Ok(caught) => assert!(around && caught),
                Err(error) => assert!(!around && error.is_cancelled()),
            }
        }
    });
}

/// All branches of a `join` are told; each region answers for itself, and the request is consumed
/// once.
#[test]
fn every_branch_of_a_join_is_told() {
    in_a_task(async {
        let began = Signal::new();
        let (one, two) = (began.clone(), began.clone());
        let task = heist::spawn(async move {
            let both = join(
                catch_cancel(one.hold::<()>()),
                catch_cancel(two.hold::<()>()),
            );
            let both = both.await;
            yield_now().await;
            (both.0.is_err(), both.1.is_err(), cancelling())
        });
        began.wait().await;
        began.wait().await;
        assert_eq!(task.cancel().await.unwrap(), (true, true, 1));
    });
}

/// The loser of a `select` is dropped undelivered after the winner has received the request: that
/// is consumed, and nothing is left to the task.
#[test]
fn the_loser_of_a_select_leaves_nothing() {
    in_a_task(async {
        let began = Signal::new();
        let (one, two) = (began.clone(), began.clone());
        let task = heist::spawn(async move {
            let (one, two) = (
                catch_cancel(one.hold::<()>()),
                catch_cancel(two.hold::<()>()),
            );
            let caught = match select(pin!(one), pin!(two)).await {
                Either::Left((first, _)) => first.is_err(),
                Either::Right((second, _)) => second.is_err(),
            };
            sleep(MS).await;
            caught
        });
        began.wait().await;
        began.wait().await;
        assert!(task.cancel().await.unwrap());
    });
}

/// `FuturesUnordered` polls only those whose own waker was woken. A region in it must be woken by the
/// waker it was polled with, also one that was asked in its first poll.
#[test]
fn a_region_is_woken_by_its_own_waker() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(async move {
            let mut all: FuturesUnordered<_> = (0..40)
                .map(|_| catch_cancel(held.clone().hold::<()>()))
                .collect();
            let mut caught = 0;
            while let Some(ended) = all.next().await {
                caught += usize::from(ended.is_err());
            }
            caught
        });
        for _ in 0..40 {
            began.wait().await;
        }
        assert_eq!(task.cancel().await.unwrap(), 40);

        let task = with_own_handle(|own| async move {
            own.abort();
            let mut all: FuturesUnordered<_> =
                [catch_cancel(pending::<()>())].into_iter().collect();
            all.next().await.map(|ended| ended.is_err())
        });
        assert_eq!(task.await.unwrap(), Some(true));
    });
}

/// A region that is kept and not polled makes the request wait, until it is polled or dropped.
#[test]
fn a_region_that_nobody_polls_makes_the_request_wait() {
    in_a_task(async {
        for polls in [false, true] {
            let (began, go) = (Signal::new(), Signal::new());
            let (held, goes) = (began.clone(), go.clone());
            let task = heist::spawn(async move {
                let mut region = Box::pin(catch_cancel(pending::<()>()));
                assert!(futures::poll!(region.as_mut()).is_pending());
                held.set();
                goes.wait().await;
                held.set();
                if polls {
                    return region.await.is_err();
                }
                drop(region);
                pending().await
            });
            began.wait().await;
            task.abort();
            sleep(MS).await;
            assert!(!task.is_finished(), "the region has the request");
            go.set();
            began.wait().await;
            match task.await {
                Ok(caught) => assert!(polls && caught),
                Err(error) => assert!(!polls && error.is_cancelled()),
            }
        }
    });
}

/// A region is polled in one task, and then in another: it belongs to the second.
#[test]
fn a_region_belongs_to_the_task_that_polled_it_last() {
    in_a_task(async {
        let began = Signal::new();
        let region = Box::pin(catch_cancel(began.clone().hold::<()>()));
        let (give, given) = async_channel::bounded(1);
        let first = heist::spawn(async move {
            let mut region = region;
            assert!(futures::poll!(region.as_mut()).is_pending());
            give.send(region).await.unwrap();
            pending::<()>().await;
        });
        began.wait().await;
        let held = began.clone();
        let second = heist::spawn(async move {
            let mut region = given.recv().await.unwrap();
            assert!(futures::poll!(region.as_mut()).is_pending());
            held.set();
            region.await.is_err()
        });
        began.wait().await;
        assert!(first.cancel().await.unwrap_err().is_cancelled());
        assert!(!second.is_finished());
        assert!(second.cancel().await.unwrap());
    });
}

/// A region that was carried out of its task keeps the request until it is dropped, elsewhere and on
/// another thread: then the task is dropped. It may also outlive its task.
#[test]
fn a_region_dropped_on_another_thread_leaves_the_request() {
    in_a_task(async {
        let (give, given) = async_channel::bounded(1);
        let new = |give: Sender<_>| {
            heist::spawn(async move {
                let mut region = Box::pin(catch_cancel(pending::<()>()));
                assert!(futures::poll!(region.as_mut()).is_pending());
                give.send(region).await.unwrap();
                pending::<()>().await;
            })
        };
        let task = new(give.clone());
        let region = given.recv().await.unwrap();
        task.abort();
        yield_now().await;
        assert!(!task.is_finished());
        thread::spawn(move || drop(region)).join().unwrap();
        assert!(task.await.unwrap_err().is_cancelled());

        // The task ends first.
        let (go, goes) = (Signal::new(), Signal::new());
        let waits = go.clone();
        let task = heist::spawn(async move {
            let mut region = Box::pin(catch_cancel(goes.hold::<()>()));
            assert!(futures::poll!(region.as_mut()).is_pending());
            waits.wait().await;
            region
        });
        go.set();
        let mut region = task.await.unwrap();
        assert!(futures::poll!(region.as_mut()).is_pending());
        thread::spawn(move || drop(region)).join().unwrap();
    });
}

/// A request that was caught and let go on waits for a region that was carried out of the task. Another
/// thread drops that, which has the task dropped, though it sleeps.
#[test]
fn a_region_dropped_on_another_thread_ends_the_wait_for_it() {
    in_a_task(async {
        let (give, given) = async_channel::bounded(1);
        let (began, caught) = (Signal::new(), Signal::new());
        let (held, told) = (began.clone(), caught.clone());
        let task = heist::spawn(async move {
            let mut beside = Box::pin(catch_cancel(pending::<()>()));
            assert!(futures::poll!(beside.as_mut()).is_pending());
            give.send(beside).await.unwrap();
            let Err(cancelled) = catch_cancel(held.hold::<()>()).await else {
                unreachable!("it is pending")
            };
            told.set();
            cancelled.resume().await
        });
        began.wait().await;
        let beside = given.recv().await.unwrap();
        task.abort();
        caught.wait().await;
        yield_now().await;
        assert!(!task.is_finished());
        thread::spawn(move || drop(beside)).join().unwrap();
        assert!(task.await.unwrap_err().is_cancelled());
    });
}

/// Outside of a task a region catches nothing: in `block_on`, in a blocking closure, on a thread of
/// nobody.
#[test]
fn outside_of_a_task_a_region_is_transparent() {
    within(|| {
        let mut runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        assert_eq!(handle.block_on(catch_cancel(ready(2))).unwrap(), 2);
        assert!(
            handle
                .block_on(timeout(MS, catch_cancel(pending::<()>())))
                .is_err()
        );
        runtime.run(async {
            assert_eq!((cancelling(), uncancel()), (0, 0));
            let (inside, go) = (Gate::new(), Gate::new());
            let (begins, waits) = (inside.clone(), go.clone());
            let closure = heist::spawn_blocking(move || {
                futures::executor::block_on(catch_cancel(async {
                    begins.open();
                    waits.wait();
                    yield_now().await;
                    3
                }))
            });
            inside.wait();
            closure.abort();
            go.open();
            assert_eq!(closure.await.unwrap().unwrap(), 3);
        });
        assert_eq!(
            futures::executor::block_on(catch_cancel(ready(4))).unwrap(),
            4
        );
        let mut region = Box::pin(catch_cancel(pending::<()>()));
        assert!(poll_once(&mut region).is_pending());
        let text = panic_text(|| {
            // One that was caught in a task is carried out of it.
            let caught = crate::support::run(async {
                let task = with_own_handle(|own| async move {
                    catch_cancel(async {
                        own.abort();
                        pending::<()>().await;
                    })
                    .await
                    .unwrap_err()
                });
                task.await.unwrap()
            });
            match futures::executor::block_on(caught.resume()) {}
        });
        assert!(text.contains("nothing to cancel"), "{text}");
    });
}

/// A runtime is run in a blocking closure, below a timeout and a region that another executor polls
/// there: its tasks are not inside of those.
#[test]
fn a_nested_runtime_is_inside_of_nothing() {
    within(|| {
        crate::support::run(async {
            let closure = heist::spawn_blocking(|| {
                futures::executor::block_on(catch_cancel(async {
                    let mut outer = Box::pin(timeout(Duration::ZERO, async {
                        crate::support::run(async {
                            let task = heist::spawn(async {
                                timeout(MS, catch_cancel(pending::<()>()))
                                    .await
                                    .unwrap()
                                    .is_err()
                            });
                            task.await.unwrap()
                        })
                    }));
                    poll_fn(|cx| outer.as_mut().poll(cx)).await.unwrap()
                }))
            });
            assert!(closure.await.unwrap().unwrap());
        });
    });
}

/// An executor that is run inside of a poll of a task: the region in it is the task's, and a request
/// wakes it.
#[test]
fn a_region_in_an_executor_inside_of_a_task() {
    within(|| {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let began = Signal::new();
        let held = began.clone();
        let task = runtime.handle().spawn(async move {
            futures::executor::block_on(catch_cancel(held.hold::<()>())).is_err()
        });
        let caught = runtime.handle().block_on(async {
            began.wait().await;
            task.cancel().await
        });
        assert!(caught.unwrap());
    });
}

/// The main future catches the request for its end: what it then answers is the answer of the run.
/// One that lets it go on, or drops its region undelivered, has been cancelled.
#[test]
fn the_main_future_catches_its_cancellation() {
    for goes_on in [false, true] {
        within(move || {
            let ended = heist::try_run(async {
                let own = AbortHandle::current();
                let began = Signal::new();
                let held = began.clone();
                let helper = heist::spawn(async move {
                    began.wait().await;
                    own.abort_with("why");
                });
                let caught = catch_cancel(held.hold::<()>()).await.unwrap_err();
                assert_eq!(caught.reason(), Some("why"));
                assert_eq!(cancelling(), 1);
                helper.await.unwrap();
                sleep(MS).await;
                if goes_on {
                    match caught.resume().await {}
                }
                7
            });
            match ended {
                Ok(answer) => assert!(!goes_on && answer == 7),
                Err(error) => assert!(goes_on && matches!(error, heist::RunError::Cancelled)),
            }
        });
    }
    within(|| {
        let ended: Result<(), _> = heist::try_run(async {
            let mut region = Box::pin(catch_cancel(pending::<()>()));
            assert!(futures::poll!(region.as_mut()).is_pending());
            let own = AbortHandle::current();
            let dropper = heist::spawn_blocking(move || {
                own.abort();
                drop(region);
            });
            dropper.await.unwrap();
            pending::<()>().await;
        });
        assert!(matches!(ended, Err(heist::RunError::Cancelled)));
    });
}

/// A region is polled again after it was ready.
#[test]
fn a_region_that_was_ready_panics() {
    within(|| {
        let mut region = Box::pin(catch_cancel(ready(1)));
        assert!(poll_once(&mut region).is_ready());
        let text = panic_text(|| poll_once(&mut region));
        assert!(text.contains("after it was ready"), "{text}");
    });
}

/// A further request in cleanup drops the task if it has entered no region since.
#[test]
fn a_second_request_drops_a_task_in_cleanup() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(async move {
            assert!(catch_cancel(held.clone().hold::<()>()).await.is_err());
            held.hold::<()>().await;
        });
        began.wait().await;
        task.abort_with("first");
        began.wait().await;
        assert!(!task.is_finished());
        let error = task.cancel_with("second").await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.reason(), "second");
    });
}

/// Every thread cancels every task while the tasks catch, clean up, take back, and go on: each ends
/// once, with as many deliveries as it can have.
#[test]
fn cancelling_races_with_catching() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        runtime.run(async {
            for round in 0..30 {
                let caught = Arc::new(AtomicUsize::new(0));
                let tasks: Vec<_> = (0..30)
                    .map(|n| {
                        let caught = caught.clone();
                        handle.spawn(async move {
                            for _ in 0..n % 3 {
                                yield_now().await;
                            }
                            for _ in 0..3 {
                                let both = join(
                                    catch_cancel(async {
                                        for _ in 0..n % 5 {
                                            yield_now().await;
                                        }
                                        if n % 2 == 0 {
                                            pending::<()>().await;
                                        }
                                    }),
                                    timeout(
                                        Duration::from_micros(n * 20),
                                        catch_cancel(yield_now()),
                                    ),
                                );
                                if both.await.0.is_err() {
                                    caught.fetch_add(1, Ordering::Relaxed);
                                    uncancel();
                                }
                            }
                            n
                        })
                    })
                    .collect();
                let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
                let threads: Vec<_> = (0..2)
                    .map(|_| {
                        let aborts = aborts.clone();
                        thread::spawn(move || {
                            while !aborts.iter().all(AbortHandle::is_finished) {
                                aborts.iter().for_each(AbortHandle::abort);
                                thread::yield_now();
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    if let Err(error) = task.await {
                        assert!(error.is_cancelled(), "{round}: {error}");
                    }
                }
                for thread in threads {
                    thread.join().unwrap();
                }
                assert!(caught.load(Ordering::Relaxed) <= 90);
            }
        });
        assert_eq!(runtime.close().abandoned.len(), 0);
    });
}

/// The main future asks for its own end: that counts at once, as in a task, and is taken back before
/// it is delivered.
#[test]
fn main_takes_its_own_request_back() {
    within(|| {
        let answer = heist::try_run(async {
            AbortHandle::current().abort_with("mine");
            assert_eq!(cancelling(), 1);
            assert_eq!((uncancel(), cancelling()), (0, 0));
            yield_now().await;
            // A further one is a request as the first was.
            let caught = catch_cancel(async {
                AbortHandle::current().abort_with("mine again");
                yield_now().await;
            })
            .await;
            assert_eq!(caught.unwrap_err().reason(), Some("mine again"));
            assert_eq!((cancelling(), uncancel()), (1, 0));
            yield_now().await;
            7
        });
        assert_eq!(answer.unwrap(), 7);
    });
}
