//! Promise 9 in timeouts: rows T and W of asyncio's table, named by their ids, and what that table
//! does not have.
#![forbid(unsafe_code)]

use crate::support::{
    Drops, Gate, LIMIT, Signal, Tally, in_a_task, panic_text, with_own_handle, within,
};
use futures::future::{Either, join};
use futures::stream::{FuturesUnordered, StreamExt};
use heist::sim::Explore;
use heist::task::{AbortHandle, cancelling, uncancel};
use heist::time::{DeadlineState, Duration, Elapsed, Instant, Timeout, sleep, timeout, timeout_at};
use heist::{JoinError, JoinHandle, TaskGroup, catch_cancel, shield, yield_now};
use std::future::{Future, pending, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

// ---- T: timeouts ----

/// The deadline comes: the answer says so, and so does the handle, which knows the deadline exactly.
#[test]
fn t01_t02_a_timeout_expires_at_its_deadline() {
    in_a_task(async {
        let deadline = Instant::now() + 5 * MS;
        let mut limited = timeout_at(deadline, pending::<()>());
        let handle = limited.handle();
        assert_eq!(
            (handle.when(), handle.is_expired()),
            (Some(deadline), false)
        );
        assert!(limited.await.is_err());
        assert!(Instant::now() >= deadline);
        assert_eq!((handle.when(), handle.is_expired()), (Some(deadline), true));
    });
}

/// Two timeouts with one deadline, with nothing inside that catches and with something that lets the
/// cancellation go on: the outer one answers, and what is inside has seen one cancellation before.
#[test]
fn t03_nested_timeouts_with_one_deadline() {
    in_a_task(async {
        for catches in [false, true] {
            let deadline = Instant::now() + 5 * MS;
            let (drops, caught) = (Drops::default(), Drops::default());
            let (guard, catch) = (drops.guard(), caught.clone());
            let inside = async move {
                let _guard = guard;
                if !catches {
                    return pending::<()>().await;
                }
                let ended = catch_cancel(pending::<()>()).await;
                drop(catch.guard());
                match ended {
                    Ok(()) => unreachable!("it is pending"),
                    Err(cancelled) => match cancelled.resume().await {},
                }
            };
            let mut inner = timeout_at(deadline, inside);
            let inner_handle = inner.handle();
            let mut outer = timeout_at(deadline, async move {
                let _ = inner.await;
                pending::<()>().await;
            });
            let outer_handle = outer.handle();
            assert!(outer.await.is_err());
            assert!(
                inner_handle.is_expired() && outer_handle.is_expired(),
                "{catches}"
            );
            assert_eq!((drops.count(), caught.count()), (1, catches.into()));
        }
    });
}

/// What is inside has seen the cancellation before the timeout answers.
#[test]
fn t04_the_cancellation_is_seen_before_the_answer() {
    in_a_task(async {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let limited = timeout(MS, async move {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            assert_eq!(cancelled.reason(), None);
            assert_eq!(cancelled.by().file(), file!());
            sleep(2 * MS).await;
            count.fetch_add(1, Ordering::SeqCst);
            match cancelled.resume().await {}
        });
        assert!(limited.await.is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    });
}

/// The future is ready in time: nothing expires, and the handle says that it is over.
#[test]
fn t05_t08_a_future_that_is_ready_in_time() {
    in_a_task(async {
        let mut limited = timeout(HOUR, catch_cancel(async { Err::<(), _>("its own error") }));
        let handle = limited.handle();
        assert_eq!(limited.await.unwrap().unwrap(), Err("its own error"));
        assert_eq!(handle.state(), DeadlineState::Finished);
        assert!(handle.when().unwrap() > Instant::now() && !handle.is_expired());
    });
}

/// No limit is no limit.
#[test]
fn t06_a_timeout_can_be_switched_off() {
    in_a_task(async {
        let mut limited = timeout(MS, sleep(10 * MS));
        limited.handle().reschedule(None).unwrap();
        assert_eq!(limited.handle().when(), None);
        assert_eq!(limited.await, Ok(()));
        assert_eq!(timeout(Duration::MAX, ready(1)).await, Ok(1));
    });
}

/// A limit of zero, or in the past, fires at the first suspension point, and a region inside is
/// cancelled by it.
#[test]
fn t07_a_limit_of_zero() {
    in_a_task(async {
        assert!(timeout(Duration::ZERO, yield_now()).await.is_err());
        let past = Instant::now() - HOUR;
        assert!(timeout_at(past, sleep(Duration::ZERO)).await.is_ok());
        let caught = timeout_at(past, catch_cancel(pending::<()>())).await;
        assert!(caught.unwrap().is_err());
    });
}

/// The error names its timeout, and the deadline that was missed: the last one that was set, and not
/// the end of the cleanup. It has no cause, since a cleanup that fails takes its place (T10).
#[test]
fn t09_an_expired_timeout_says_where_it_was_made() {
    in_a_task(async {
        let stubborn = async {
            let _ = catch_cancel(pending::<()>()).await;
            pending::<()>().await
        };
        let (line, limited) = (line!(), timeout(HOUR, stubborn));
        let mut limited = limited.cleanup_within(MS);
        let deadline = Instant::now() + MS;
        limited.handle().reschedule(deadline).unwrap();
        let late = limited.await.unwrap_err();
        let site = late.site();
        assert_eq!((site.file(), site.line()), (file!(), line));
        assert_eq!((late.deadline(), late.is_closed()), (deadline, false));
        assert!(late.to_string().contains(&site.to_string()), "{late}");
        assert!(std::error::Error::source(&late).is_none());
        let wrapped = std::io::Error::from(late).into_inner().unwrap();
        assert_eq!(*wrapped.downcast::<Elapsed>().unwrap(), late);

        let inner = timeout(MS, pending::<()>()).await.unwrap_err();
        assert_ne!(inner.site(), late.site());
    });
}

/// What the cleanup answers, be it an error of its own, is the answer of the timeout.
#[test]
fn t10_w07_the_answer_of_the_cleanup_wins() {
    in_a_task(async {
        let mut limited = timeout(MS, async {
            let _ = catch_cancel(pending::<()>()).await;
            sleep(MS).await;
            Err::<(), _>("the cleanup failed")
        });
        let handle = limited.handle();
        assert_eq!(limited.await, Ok(Err("the cleanup failed")));
        assert!(handle.is_expired());
    });
}

/// The task is cancelled while it is in a timeout: the region inside receives that request, and the
/// timeout has not expired.
#[test]
fn t11_a_cancelled_task_is_not_out_of_time() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(async move {
            let mut limited = timeout(HOUR, catch_cancel(held.hold::<()>()));
            let handle = limited.handle();
            let caught = limited.await.unwrap().unwrap_err();
            (
                caught.reason().map(String::from),
                handle.is_expired(),
                cancelling(),
            )
        });
        began.wait().await;
        let ended = task.cancel_with("from outside").await.unwrap();
        assert_eq!(ended, (Some("from outside".into()), false, 1));

        // With nothing inside that catches, both end, and the time was not up.
        let mut limited = timeout(HOUR, began.clone().hold::<()>());
        let handle = limited.handle();
        let task = heist::spawn(limited);
        began.wait().await;
        assert!(task.cancel().await.unwrap_err().is_cancelled());
        assert_eq!(handle.state(), DeadlineState::Finished);
    });
}

/// A timeout cancels what is inside it. The task around it, and regions around it, hear nothing.
#[test]
fn t12_the_task_around_a_timeout_is_not_cancelled() {
    in_a_task(async {
        let around = catch_cancel(async {
            let limited = timeout(MS, async {
                match catch_cancel(pending::<()>()).await {
                    Ok(()) => unreachable!("it is pending"),
                    Err(cancelled) => match cancelled.resume().await {},
                }
            });
            assert!(limited.await.is_err());
            sleep(MS).await;
            assert_eq!(cancelling(), 0);
            "unharmed"
        });
        assert_eq!(around.await.unwrap(), "unharmed");
    });
}

/// Both an inner and an outer timeout are over when a poll that blocked comes back. The inner one
/// answers, and the outer one still ends what follows.
#[test]
fn t13_nested_timeouts_that_expire_during_a_blocking_section() {
    in_a_task(async {
        for catches in [false, true] {
            let passed = Arc::new(AtomicUsize::new(0));
            let count = passed.clone();
            let outer = timeout(2 * MS, async move {
                let inner = timeout(MS, async move {
                    let work = async {
                        thread::sleep(5 * MS);
                        pending::<()>().await;
                    };
                    if !catches {
                        return work.await;
                    }
                    match catch_cancel(work).await {
                        Ok(()) => unreachable!("it is pending"),
                        Err(cancelled) => match cancelled.resume().await {},
                    }
                });
                assert!(inner.await.is_err());
                count.fetch_add(1, Ordering::SeqCst);
                pending::<()>().await;
            });
            let limit = timeout(LIMIT / 2, outer);
            assert!(limit.await.expect("the outer one is in time").is_err());
            assert_eq!(passed.load(Ordering::SeqCst), 1, "{catches}");
        }
    });
}

/// A deadline is put off, and set to now, from another thread while the timeout is awaited; being
/// cancelled still works.
#[test]
fn t14_reschedule() {
    in_a_task(async {
        let (began, gate) = (Signal::new(), Gate::new());
        let mut limited = timeout(HOUR, catch_cancel(began.clone().hold::<()>()));
        let (handle, open) = (limited.handle(), gate.clone());
        let thread = thread::spawn(move || {
            gate.wait();
            handle.reschedule(Instant::now() + 2 * HOUR).unwrap();
            handle.reschedule(None).unwrap();
            handle.reschedule(Instant::now() + MS).unwrap();
            handle
        });
        let task = heist::spawn(limited);
        began.wait().await;
        open.open();
        assert!(task.await.unwrap().unwrap().is_err());
        assert!(thread.join().unwrap().is_expired());

        // Later than it was, by what it is for: the first deadline does not count.
        let (hand, handed) = async_channel::bounded(1);
        let mut limited = timeout(50 * MS, async move {
            let handle: heist::time::Deadline = handed.recv().await.unwrap();
            handle.reschedule(Instant::now() + HOUR).unwrap();
            sleep(60 * MS).await;
        });
        hand.send(limited.handle()).await.unwrap();
        assert_eq!(limited.await, Ok(()));

        let mut limited = timeout(MS, catch_cancel(began.clone().hold::<()>()));
        limited.handle().reschedule(None).unwrap();
        let task = heist::spawn(limited);
        began.wait().await;
        let caught = task.cancel_with("late").await.unwrap().unwrap();
        assert_eq!(caught.unwrap_err().reason(), Some("late"));
    });
}

/// The state of a timeout can be printed.
#[test]
fn t15_the_state_can_be_printed() {
    in_a_task(async {
        let mut limited = timeout(HOUR, ready(()));
        let handle = limited.handle();
        assert!(format!("{handle:?}").contains("Active"), "{handle:?}");
        assert!(format!("{limited:?}").contains("Running"), "{limited:?}");
        assert_eq!(limited.await, Ok(()));
        assert!(format!("{handle:?}").contains("Finished"), "{handle:?}");

        let mut limited = timeout(MS, pending::<()>());
        let handle = limited.handle();
        assert!(limited.await.is_err());
        assert!(format!("{handle:?}").contains("Expired"), "{handle:?}");

        let mut limited = timeout(MS, ready(()));
        let handle = limited.handle();
        handle.reschedule(None).unwrap();
        let text = format!("{handle:?}");
        assert!(text.contains("Active") && text.contains("None"), "{text}");
        assert_eq!(limited.await, Ok(()));
    });
}

/// In cleanup, timeouts work as ever, and a second request is delivered to a region entered since.
#[test]
fn t16_timeouts_and_a_second_request_in_cleanup() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(async move {
            assert!(catch_cancel(held.clone().hold::<()>()).await.is_err());
            assert!(timeout(MS, pending::<()>()).await.is_err());
            let limited = timeout(MS, catch_cancel(pending::<()>())).await;
            assert!(limited.unwrap().is_err());
            let again = timeout(HOUR, catch_cancel(held.hold::<()>())).await;
            let reason = again.unwrap().unwrap_err().reason().map(String::from);
            (reason, cancelling())
        });
        began.wait().await;
        task.abort_with("first");
        began.wait().await;
        let ended = task.cancel_with("second").await.unwrap();
        assert_eq!(ended, (Some("second".into()), 2));
    });
}

/// A deadline is not moved once it has come, nor when the future was ready.
#[test]
fn t18_reschedule_is_refused_when_it_is_too_late() {
    in_a_task(async {
        let mut limited = timeout(HOUR, ready(()));
        let handle = limited.handle();
        limited.await.unwrap();
        assert_eq!(handle.reschedule(None), Err(DeadlineState::Finished));

        let mut limited = timeout(MS, pending::<()>());
        let handle = limited.handle();
        assert!(limited.await.is_err());
        assert_eq!(
            handle.reschedule(Instant::now() + HOUR),
            Err(DeadlineState::Expired)
        );

        let (hand, handed) = async_channel::bounded(1);
        let mut limited = timeout(MS, async move {
            let handle: heist::time::Deadline = handed.recv().await.unwrap();
            assert!(catch_cancel(pending::<()>()).await.is_err());
            handle.reschedule(None)
        });
        hand.send(limited.handle()).await.unwrap();
        assert_eq!(limited.await, Ok(Err(DeadlineState::Expiring)));

        let mut dropped = timeout(HOUR, ready(()));
        let handle = dropped.handle();
        drop(dropped);
        assert_eq!(handle.state(), DeadlineState::Finished);
    });
}

/// A timeout around a group ends the body and the children, and waits for both. If a child fails in
/// its cleanup, the group's error comes out, with the child in it, and the handle of the timeout says
/// that its time was over; if nothing fails, the timeout answers.
#[test]
fn t19_a_timeout_around_a_group() {
    in_a_task(async {
        for cleanup_fails in [true, false] {
            let drops = Drops::default();
            let (guards, began) = (drops.clone(), Signal::new());
            let group = TaskGroup::run::<_, _, ()>(async |g| {
                for child in 0..2 {
                    let (guard, began) = (guards.guard(), began.clone());
                    g.spawn(async move {
                        let _guard = guard;
                        let cancelled = catch_cancel(began.hold::<()>()).await.unwrap_err();
                        sleep(MS).await;
                        if cleanup_fails && child == 1 {
                            return Err::<(), _>("the cleanup failed");
                        }
                        match cancelled.resume().await {}
                    });
                }
                pending().await
            });
            let mut limited = timeout(HOUR, group);
            let handle = limited.handle();
            let expires = async {
                began.wait().await;
                began.wait().await;
                handle.reschedule(Instant::now()).unwrap();
            };
            let (ended, ()) = futures::join!(limited, expires);
            // Both children have ended, whatever the answer is.
            assert_eq!(drops.count(), 2);
            assert!(handle.is_expired());
            assert_eq!(ended.is_ok(), cleanup_fails);
            if let Ok(ended) = ended {
                let error = ended.unwrap_err();
                assert_eq!(error.leaves().len(), 1);
                assert_eq!(error.leaves()[0].to_string(), "the cleanup failed");
            }
            // The task around is not cancelled, also not later.
            yield_now().await;
            assert_eq!(cancelling(), 0);
        }
    });
}

// ---- W: waiting with a limit for a task ----

/// asyncio's `wait_for` does not begin a coroutine when its limit is zero, or in the past; ours polls
/// once, see T07. Who wants the other asks the clock first, and nothing is begun.
#[test]
fn w03_with_a_limit_of_zero_the_future_is_polled_once() {
    in_a_task(async {
        let polls = Tally::default();
        let limited = timeout(Duration::ZERO, polls.wrap(pending::<()>()));
        assert!(limited.await.is_err());
        assert_eq!(polls.polls(), 1);

        let polls = Tally::default();
        let past = timeout_at(Instant::now() - HOUR, polls.wrap(pending::<()>()));
        assert!(past.await.is_err());
        assert_eq!(polls.polls(), 1);
    });
}

/// As asyncio's `wait_for` with a task: when the time is over, or the waiter is cancelled, the task is
/// cancelled and waited for, and its answer counts.
async fn wait_for<T>(limit: Duration, mut task: JoinHandle<T>) -> Option<T> {
    let waiting = async {
        match catch_cancel(&mut task).await {
            Ok(ended) => ended.ok(),
            Err(cancelled) => match task.cancel().await {
                Ok(output) => Some(output),
                Err(_) => match cancelled.resume().await {},
            },
        }
    };
    timeout(limit, waiting).await.ok().flatten()
}

/// The task takes its time to clean up, and is waited for.
#[test]
fn w01_w06_a_timeout_waits_for_the_cleanup_of_a_task() {
    in_a_task(async {
        for limit in [Duration::ZERO, MS] {
            let began = Signal::new();
            let held = began.clone();
            let ended = Arc::new(AtomicUsize::new(0));
            let count = ended.clone();
            let task = heist::spawn(async move {
                let cancelled = catch_cancel(held.hold::<()>()).await.unwrap_err();
                sleep(5 * MS).await;
                count.fetch_add(1, Ordering::SeqCst);
                match cancelled.resume().await {}
            });
            began.wait().await;
            let abort = task.abort_handle();
            let none: Option<()> = wait_for(limit, task).await;
            assert_eq!((none, ended.load(Ordering::SeqCst)), (None, 1));
            assert!(abort.is_finished());
        }
    });
}

/// What is ready at once is answered, even with a limit of zero.
#[test]
fn w02_w05_a_result_in_the_last_moment_is_not_lost() {
    in_a_task(async {
        assert_eq!(
            timeout(Duration::ZERO, catch_cancel(ready(1)))
                .await
                .unwrap()
                .unwrap(),
            1
        );
        let task = heist::spawn(async { 2 });
        while !task.is_finished() {
            yield_now().await;
        }
        assert_eq!(wait_for(Duration::ZERO, task).await, Some(2));
        // Ready in the very poll in which the deadline is found passed.
        let deadline = Instant::now() + MS;
        let late = poll_fn(move |_| {
            while Instant::now() <= deadline {
                thread::yield_now();
            }
            Poll::Ready(3)
        });
        assert_eq!(
            timeout_at(deadline, catch_cancel(late))
                .await
                .unwrap()
                .unwrap(),
            3
        );
    });
}

/// A task that is running when the time is over is cancelled, and is gone when the waiter goes on.
#[test]
fn w04_a_running_task_is_cancelled() {
    in_a_task(async {
        let drops = Drops::default();
        let guard = drops.guard();
        let task = heist::spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        assert_eq!(wait_for(MS, task).await, None);
        assert_eq!(drops.count(), 1);
    });
}

/// The waiter is cancelled, and with it the task: the guard asks when it is dropped.
#[test]
fn w08_cancelling_the_waiter_cancels_the_task() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let inner = heist::spawn(pending::<()>());
        let abort = inner.abort_handle();
        let outer = heist::spawn(async move {
            let inner = inner.cancel_on_drop();
            assert!(!inner.get_ref().is_finished());
            held.set();
            inner.await
        });
        began.wait().await;
        assert!(outer.cancel().await.unwrap_err().is_cancelled());
        timeout(LIMIT / 2, async {
            while !abort.is_finished() {
                yield_now().await;
            }
        })
        .await
        .expect("the guard has asked");
        // One that has ended, or was untied, is left alone.
        let done = heist::spawn(async { 1 }).cancel_on_drop();
        assert_eq!(done.await.unwrap(), 1);
        let untied = heist::spawn(async { 2 }).cancel_on_drop().into_inner();
        assert_eq!(untied.await.unwrap(), 2);
    });
}

/// A task that swallows the cancellation and answers: the answer counts, however late.
#[test]
fn w09_a_value_in_spite_of_the_cancellation() {
    in_a_task(async {
        let swallows = |began: Signal| async move {
            assert!(catch_cancel(began.hold::<()>()).await.is_err());
            sleep(2 * MS).await;
            42
        };
        let began = Signal::new();
        let task = heist::spawn(swallows(began.clone()));
        began.wait().await;
        assert_eq!(wait_for(MS, task).await, Some(42));
        assert_eq!(timeout(MS, swallows(began)).await, Ok(42));
    });
}

/// The waiter is cancelled when what it waits for has just ended: the waiter is cancelled, and the
/// result is still there.
#[test]
fn w10_cancelled_when_the_inner_task_ends() {
    in_a_task(async {
        let began = Signal::new();
        let (held, go) = (began.clone(), Signal::new());
        let goes = go.clone();
        let outer = heist::spawn(async move {
            let mut inner = heist::spawn(async move {
                goes.wait().await;
                7
            });
            let caught = catch_cancel(async {
                held.set();
                // Registers, and suspends.
                (&mut inner).await
            })
            .await;
            (caught.is_err(), inner.await.unwrap())
        });
        began.wait().await;
        outer.abort();
        go.set();
        assert_eq!(outer.await.unwrap(), (true, 7));
    });
}

/// A shield in a timeout: the waiter goes, the inner task comes to its end.
#[test]
fn w11_a_shield_in_a_timeout() {
    in_a_task(async {
        for limit in [Duration::ZERO, 2 * MS] {
            let (go, gone) = (Signal::new(), Signal::new());
            let (goes, ends) = (go.clone(), gone.clone());
            let inner = heist::spawn(async move {
                goes.wait().await;
                ends.set();
            });
            assert!(timeout(limit, shield(inner)).await.is_err());
            go.set();
            gone.wait().await;
        }
    });
}

// ---- what a timeout waits for ----

/// A region that is kept and not polled makes a timeout around it wait as well, unless that has a
/// bound for cleanup.
#[test]
fn cleanup_within_bounds_what_a_timeout_waits_for() {
    in_a_task(async {
        let drops = Drops::default();
        let guard = drops.guard();
        let limited = timeout(MS, async move {
            let _guard = guard;
            let mut region = Box::pin(catch_cancel(pending::<()>()));
            assert!(futures::poll!(region.as_mut()).is_pending());
            pending::<()>().await;
        });
        assert!(limited.cleanup_within(5 * MS).await.is_err());
        assert_eq!(drops.count(), 1);

        let begin = Instant::now();
        let limited = timeout(MS, async {
            let _ = catch_cancel(pending::<()>()).await;
            pending::<()>().await;
        });
        assert!(limited.cleanup_within(5 * MS).await.is_err());
        assert!(begin.elapsed() >= 6 * MS);
        // In time: its answer counts.
        let limited = timeout(MS, async {
            let _ = catch_cancel(pending::<()>()).await;
            7
        });
        assert_eq!(limited.cleanup_within(HOUR).await, Ok(7));
    });
}

/// The regions inside a timeout are dropped at the very moment it asks them, by another branch of its
/// future: there is nobody to wait for.
#[test]
fn a_timeout_whose_regions_are_dropped_is_over() {
    in_a_task(async {
        let limited = timeout(MS, async {
            let mut region = Some(Box::pin(catch_cancel(pending::<()>())));
            let mut first = true;
            poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    let region = region.as_mut().expect("it is there");
                    assert!(region.as_mut().poll(cx).is_pending());
                } else {
                    drop(region.take());
                }
                Poll::<()>::Pending
            })
            .await;
        });
        assert!(timeout(LIMIT / 2, limited).await.expect("it ends").is_err());
    });
}

/// In the main future a timeout asks the regions inside it, as in a task, and waits; a cancellation
/// that is let go on ends there, and nowhere else.
#[test]
fn a_timeout_in_the_main_future_waits_for_cleanup() {
    within(|| {
        let carried_out = crate::support::run(async {
            let cleaned = std::cell::Cell::new(0);
            let both = futures::future::join(
                timeout(MS, async {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    sleep(MS).await;
                    cleaned.set(cleaned.get() + 1);
                    match cancelled.resume().await {}
                }),
                timeout(2 * MS, async {
                    let _ = catch_cancel(pending::<()>()).await;
                    sleep(MS).await;
                    42
                }),
            );
            let (resumed, answered) = both.await;
            assert!(resumed.is_err());
            assert_eq!((answered, cleaned.get()), (Ok(42), 1));
            assert_eq!((cancelling(), uncancel()), (0, 0));
            let stubborn = timeout(MS, async {
                let _ = catch_cancel(pending::<()>()).await;
                pending::<()>().await;
            });
            assert!(stubborn.cleanup_within(MS).await.is_err());
            let region = Box::pin(catch_cancel(pending::<()>()));
            let (region, caught) = timeout(MS, async {
                let mut region = region;
                assert!(futures::poll!(region.as_mut()).is_pending());
                (region, catch_cancel(pending::<()>()).await.unwrap_err())
            })
            .await
            .unwrap();
            assert_eq!(caught.by().file(), file!());
            // Of nobody's any more, and dropped when the loop has ended.
            (region, caught)
        });
        drop(carried_out);
    });
    // Carried out of its timeout, the cancellation is that of the main future.
    within(|| {
        let ended = heist::try_run(async {
            let caught = timeout(MS, catch_cancel(pending::<()>())).await;
            match caught.unwrap().unwrap_err().resume().await {}
        });
        let ended: Result<(), _> = ended;
        assert!(matches!(ended, Err(heist::RunError::Cancelled)));
    });
}

/// A task catches what the timeout of another one asked: to let it go on is a request to the task that
/// does, and what is around there catches it.
#[test]
fn a_cancellation_carried_to_another_task_is_that_tasks() {
    in_a_task(async {
        let helper = heist::spawn(async {
            let caught = timeout(MS, catch_cancel(pending::<()>())).await;
            caught.expect("it was asked to end").unwrap_err()
        });
        let caught = catch_cancel(async {
            let carried = helper.await.unwrap();
            match carried.resume().await {}
        });
        let Err(caught) = caught.await;
        assert_eq!(caught.by().file(), file!());
    });
}

/// The deadline and a request to the task come together and are delivered as one; the timeout answers
/// that its time is up, and is kept. The task is cancelled all the same.
#[test]
fn a_timeout_that_is_kept_leaves_the_request_to_the_task() {
    in_a_task(async {
        let (began, begun) = async_channel::bounded(1);
        let task = heist::spawn(async move {
            // Polled at the begin, and again when the deadline has been found passed.
            let mut polls = 0;
            let asks = poll_fn(move |_| {
                polls += 1;
                match polls {
                    1 => thread::sleep(2 * MS),
                    _ => AbortHandle::current().abort(),
                }
                Poll::<()>::Pending
            });
            let catches = async {
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                match caught.resume().await {}
            };
            let mut limited = Box::pin(timeout(MS, futures::future::join(asks, catches)));
            let ended: Result<((), ()), _> = limited.as_mut().await;
            began.try_send(ended.is_err()).unwrap();
            pending::<()>().await;
            drop(limited);
        });
        let task = timeout(LIMIT / 2, task).await.expect("it ends");
        assert!(task.unwrap_err().is_cancelled());
        assert_eq!(begun.try_recv(), Ok(true));
    });
}

// ---- a timeout that another task polls ----

/// Polls `limited` in a task of its own until `begun` is set, and has another task poll it to its end.
async fn moved<F>(
    limited: Timeout<F>,
    begun: Signal,
) -> Result<Result<F::Output, Elapsed>, JoinError>
where
    F: Future<Output: Send> + Send + 'static,
{
    let first = heist::spawn(async move {
        let mut limited = Box::pin(limited);
        let mut begun = Box::pin(begun.wait());
        let both = poll_fn(|cx| {
            assert!(limited.as_mut().poll(cx).is_pending());
            begun.as_mut().poll(cx)
        });
        both.await;
        drop(begun);
        limited
    });
    let limited = first.await.expect("it is only moved");
    let ended = timeout(LIMIT / 2, heist::spawn(limited)).await;
    ended.expect("it ends")
}

/// It moves while its future cleans up: the cleanup is waited for, its answer counts, and to let the
/// cancellation go on is to time out, and no request to the task that does.
#[test]
fn a_timeout_that_moves_in_its_cleanup_waits_for_it() {
    in_a_task(async {
        for resumes in [false, true] {
            let begun = Signal::new();
            let began = begun.clone();
            let limited = timeout(MS, async move {
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                began.set();
                sleep(20 * MS).await;
                if resumes {
                    match caught.resume().await {}
                }
                42
            });
            let ended = moved(limited, begun)
                .await
                .expect("nobody cancels the task");
            match resumes {
                false => assert_eq!(ended, Ok(42)),
                true => assert!(ended.is_err()),
            }
        }
    });
}

/// It moves after it has asked, and before what it asked was polled: that is delivered in the other task.
#[test]
fn a_timeout_that_moves_takes_its_request_along() {
    in_a_task(async {
        let begun = Signal::new();
        let began = begun.clone();
        let limited = timeout(MS, async move {
            let mut region = Box::pin(catch_cancel(pending::<()>()));
            let (mut first, mut polled) = (None, false);
            // Once at the begin, not when the deadline has come, and again in the other task.
            let caught = poll_fn(|cx| {
                let here = heist::task::id();
                if *first.get_or_insert(here) == here && std::mem::replace(&mut polled, true) {
                    began.set();
                    return Poll::Pending;
                }
                region.as_mut().poll(cx)
            });
            caught.await.is_err()
        });
        assert_eq!(moved(limited, begun).await.unwrap(), Ok(true));
    });
}

/// It moves before its deadline, and what is inside it was polled where it was: it is asked all the same,
/// wakes, and cleans up.
#[test]
fn a_timeout_that_moves_asks_what_was_polled_before() {
    in_a_task(async {
        let begun = Signal::new();
        let began = begun.clone();
        let limited = timeout(20 * MS, async move {
            let mut all = FuturesUnordered::new();
            for _ in 0..3 {
                all.push(async {
                    let caught = catch_cancel(pending::<()>()).await;
                    sleep(MS).await;
                    caught.is_err()
                });
            }
            assert!(futures::poll!(all.next()).is_pending());
            began.set();
            // Polls only those that were woken.
            all.filter(|caught| ready(*caught)).count().await
        });
        assert_eq!(moved(limited, begun).await.unwrap(), Ok(3));
    });
}

/// It moves while code inside it has let the cancellation go on, and another region there is live. Neither is
/// polled by its move alone. It times out when that region has ended.
#[test]
fn a_timeout_that_moves_takes_along_what_was_put_off() {
    in_a_task(async {
        let (begun, entered) = (Signal::new(), Signal::new());
        let (began, enters, ends) = (begun.clone(), entered.clone(), Signal::new());
        let end = ends.clone();
        let limited = timeout(MS, async move {
            let mut all = FuturesUnordered::new();
            let resumes = async move {
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                enters.set();
                yield_now().await;
                yield_now().await;
                began.set();
                match caught.resume().await {}
            };
            let beside = async move {
                entered.wait().await;
                let _ = catch_cancel(ends.wait()).await;
            };
            all.push(Either::Left(resumes));
            all.push(Either::Right(beside));
            while all.next().await.is_some() {}
        });
        let ender = heist::spawn(async move {
            sleep(20 * MS).await;
            end.set();
        });
        assert!(moved(limited, begun).await.unwrap().is_err());
        ender.await.unwrap();
    });
}

/// It moves to another task and comes back, before its deadline: it is where it was.
#[test]
fn a_timeout_that_comes_back_asks_as_ever() {
    in_a_task(async {
        let inside = async { catch_cancel(pending::<()>()).await.is_err() };
        let mut limited = Box::pin(timeout(20 * MS, inside));
        assert!(futures::poll!(limited.as_mut()).is_pending());
        let other = heist::spawn(async move {
            assert!(futures::poll!(limited.as_mut()).is_pending());
            limited
        });
        let limited = other.await.unwrap();
        assert_eq!(limited.await, Ok(true));
    });
}

/// The total time is up, and what cleans up for that is cut by the time of its own attempt: the total timeout
/// answers, and there is no further attempt.
#[test]
fn a_cleanup_that_an_inner_timeout_cuts_does_not_lose_the_outer_one() {
    in_a_task(async {
        for hands_on in [false, true] {
            let (attempts, drops) = (Drops::default(), Drops::default());
            let (begun, guard) = (attempts.clone(), drops.clone());
            let total = timeout(10 * MS, async move {
                loop {
                    drop(begun.guard());
                    let _guard = guard.guard();
                    let _late = timeout(20 * MS, async {
                        let ended = match hands_on {
                            false => catch_cancel(pending::<()>()).await,
                            true => timeout(HOUR, catch_cancel(pending()))
                                .await
                                .expect("in time"),
                        };
                        sleep(HOUR).await;
                        match ended.unwrap_err().resume().await {}
                    })
                    .await;
                }
            });
            let begin = Instant::now();
            assert!(total.await.is_err());
            assert!(begin.elapsed() >= 20 * MS, "the cleanup had its time");
            assert_eq!((attempts.count(), drops.count()), (1, 1));
        }
    });
}

/// The same where the task is asked to end; and not if the request was taken back.
#[test]
fn an_abort_goes_on_when_a_timeout_cuts_its_cleanup() {
    in_a_task(async {
        for takes_back in [false, true] {
            let (tell, told) = async_channel::bounded(1);
            let task = heist::spawn(async move {
                let cleanup = async {
                    assert!(catch_cancel(pending::<()>()).await.is_err());
                    if takes_back {
                        assert_eq!(uncancel(), 0);
                    }
                    pending::<()>().await
                };
                let mut limited = Box::pin(timeout(20 * MS, cleanup));
                assert!(futures::poll!(limited.as_mut()).is_pending());
                tell.send(()).await.unwrap();
                assert!(limited.await.is_err());
                "went on"
            });
            told.recv().await.unwrap();
            task.abort_with("enough");
            match task.await {
                Ok(output) => assert!(takes_back, "{output}"),
                Err(error) => assert_eq!((error.reason(), takes_back), ("enough", false)),
            }
        }
    });
}

/// The same with two timeouts of one deadline around each attempt, whose cleanup swallows what it has caught: the outer
/// of them does not answer before the total one does, or the task ends.
#[test]
fn attempts_with_two_timeouts_of_one_deadline_end() {
    let attempts = |begun: Drops| async move {
        for _ in 0..100 {
            drop(begun.guard());
            let deadline = Instant::now() + 20 * MS;
            let attempt = timeout_at(deadline, stubborn());
            timeout_at(deadline, attempt).await.unwrap_err();
        }
    };
    Explore::new().seeds(10).run(async || {
        let begun = Drops::default();
        let total = timeout(10 * MS, attempts(begun.clone()));
        total.await.unwrap_err();
        assert_eq!(begun.count(), 1);

        let begun = Drops::default();
        let task = heist::spawn(attempts(begun.clone()));
        sleep(10 * MS).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(begun.count(), 1);
    });
}

/// The cleanup catches whatever comes, until it is given no more time: what it has caught goes on, and the outer timeout
/// answers.
#[test]
fn a_stubborn_cleanup_does_not_lose_the_outer_timeout() {
    in_a_task(async {
        let answered = Drops::default();
        let inner = answered.clone();
        let total = timeout(10 * MS, async move {
            let stubborn = async {
                loop {
                    let _ = catch_cancel(pending::<()>()).await;
                }
            };
            let limited: Result<(), _> = timeout(20 * MS, stubborn).cleanup_within(10 * MS).await;
            assert!(limited.is_err());
            drop(inner.guard());
            pending::<()>().await
        });
        assert!(total.await.is_err());
        assert_eq!(answered.count(), 0, "who has asked comes first");
    });
}

/// A loop of attempts without any other suspension point in it, each of which has to be cut in a cleanup that is inside
/// of a `catch_cancel`, or of a group whose children do not end. A timeout around it, or a request to the task, ends it.
#[test]
fn attempts_that_are_stuck_in_their_cleanup_do_not_lose_the_outer_timeout() {
    async fn caught() {
        loop {
            let _ = catch_cancel(pending::<()>()).await;
        }
    }
    async fn group() {
        let group = TaskGroup::run(async |g| {
            g.spawn(async {
                let _ = catch_cancel(pending::<()>()).await;
                sleep(30 * MS).await;
                Ok::<_, String>(())
            });
            Ok(())
        });
        drop(group.await);
    }
    /// One of two cleanups lets the cancellation go on, which waits for the other one.
    async fn beside() {
        let both = async {
            let cleans = async {
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                match caught.resume().await {}
            };
            let stuck = async {
                let _ = catch_cancel(pending::<()>()).await;
                let _ = catch_cancel(pending::<()>()).await;
                pending::<()>().await
            };
            join(stuck, cleans).await
        };
        let Err(caught) = catch_cancel(both).await;
        match caught.resume().await {}
    }
    async fn attempts(kind: usize, begun: Drops) {
        loop {
            drop(begun.guard());
            let attempt: Pin<Box<dyn Future<Output = ()> + Send>> = match kind {
                0 => Box::pin(caught()),
                1 => Box::pin(group()),
                _ => Box::pin(beside()),
            };
            let limited = timeout(4 * MS, attempt).cleanup_within(4 * MS).await;
            assert!(limited.is_err());
        }
    }
    // In the second attempt: before its time is up, or in its cleanup.
    for at in [10, 14] {
        for kind in 0..3 {
            Explore::new().seeds(10).run(async move || {
                let begun = Drops::default();
                let total = timeout(at * MS, attempts(kind, begun.clone()));
                total.await.unwrap_err();
                assert!(begun.count() <= 3, "{kind} at {at}: {}", begun.count());

                let begun = Drops::default();
                let task = heist::spawn(attempts(kind, begun.clone()));
                sleep(at * MS).await;
                let before = begun.count();
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
                assert!(begun.count() <= before + 1, "{kind} at {at}");
                // For the children, which nobody waits for any more.
                sleep(50 * MS).await;
            });
        }
    }
}

/// A timeout that has cut its future is kept: no request waits for what was in it. What the future only borrowed
/// catches as ever.
#[test]
fn what_a_timeout_has_cut_is_not_waited_for() {
    in_a_task(async {
        let task = heist::spawn(async {
            let stubborn: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async {
                loop {
                    let _ = catch_cancel(pending::<()>()).await;
                }
            });
            let mut limited = Box::pin(timeout(MS, stubborn).cleanup_within(MS));
            limited.as_mut().await.unwrap_err();
            pending::<()>().await
        });
        sleep(10 * MS).await;
        assert!(task.cancel().await.unwrap_err().is_cancelled());

        // What it only borrows is as live as before, and need not be polled for that.
        let begun = Signal::new();
        let goes_on = begun.clone();
        let task = heist::spawn(async move {
            let mut all = FuturesUnordered::new();
            all.push(async {
                let _ = catch_cancel(pending::<()>()).await;
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(MS).await;
                caught.reason().unwrap().to_owned()
            });
            let limited = timeout(MS, async { all.next().await }).cleanup_within(MS);
            limited.await.unwrap_err();
            goes_on.set();
            all.next().await
        });
        begun.wait().await;
        let cleaned = task.cancel_with("it ends").await.unwrap();
        assert_eq!(cleaned.as_deref(), Some("it ends"));
    });
}

/// A cancellation that is let go on waits in a `catch_cancel` for a cleanup beside. A timeout that only borrows that
/// `catch_cancel`, in a block of its own, takes nothing from it.
#[test]
fn what_waits_in_a_kept_future_is_not_lost_with_a_timeout() {
    async fn resumes() {
        let caught = catch_cancel(pending::<()>()).await.unwrap_err();
        sleep(6 * MS).await;
        match caught.resume().await {}
    }
    async fn cleans() {
        for _ in 0..3 {
            let _ = catch_cancel(sleep(20 * MS)).await;
        }
    }
    Explore::new().seeds(10).run(async || {
        let task = heist::spawn(async {
            let both: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>> =
                FuturesUnordered::new();
            both.push(Box::pin(resumes()));
            both.push(Box::pin(cleans()));
            let mut kept = Box::pin(catch_cancel(both.collect::<Vec<()>>()));
            let short = timeout(10 * MS, async { kept.as_mut().await }).cleanup_within(2 * MS);
            short.await.unwrap_err();
            kept.await.is_err()
        });
        sleep(5 * MS).await;
        assert!(timeout(200 * MS, task.cancel()).await.unwrap().unwrap());
    });
}

/// The future is dropped at the end of its `cleanup_within`, with what it holds, before the timeout answers.
#[test]
fn a_future_that_is_cut_in_its_cleanup_is_dropped_first() {
    in_a_task(async {
        let drops = Drops::default();
        let guard = drops.guard();
        let stubborn = async move {
            let _guard = guard;
            let _ = catch_cancel(pending::<()>()).await;
            catch_cancel(pending::<()>()).await
        };
        let mut limited = Box::pin(timeout(MS, stubborn).cleanup_within(MS));
        assert!(limited.as_mut().await.is_err());
        assert_eq!(drops.count(), 1);
        let text = panic_text(|| _ = limited.as_ref().get_ref().get_ref());
        assert!(text.contains("cleanup_within"), "{text}");
    });
}

/// A future that catches what comes, once, and goes on for ever.
async fn stubborn() {
    assert!(catch_cancel(pending::<()>()).await.is_err());
    pending::<()>().await
}

/// A timeout that has cut what cleans up for another one is kept, and polled on when that one has answered: it answers
/// as well, also where only those are polled that were woken.
#[test]
fn a_timeout_that_has_cut_a_cleanup_answers_whoever_waits_on() {
    in_a_task(async {
        let mut limited = Box::pin(timeout(20 * MS, stubborn()));
        assert!(timeout(10 * MS, limited.as_mut()).await.is_err());
        assert!(limited.await.is_err());

        let mut several = FuturesUnordered::new();
        several.push(timeout(20 * MS, stubborn()));
        assert!(timeout(10 * MS, several.next()).await.is_err());
        assert!(several.next().await.expect("it is kept").is_err());
    });
}

/// A future that is borrowed is not cut when the time is up: it has been asked to end, and cleans up for as long as it
/// is polled on. Then the abort goes on.
#[test]
fn a_cleanup_that_is_kept_is_not_cut() {
    // In time that does not go on while a thread is held up: each attempt has its 20 ms.
    Explore::new().seeds(10).run(async || {
        let (slow, done) = (Arc::new(AtomicUsize::new(0)), Drops::default());
        let (count, cleaned) = (slow.clone(), done.clone());
        let (tell, told) = async_channel::bounded(1);
        let task = heist::spawn(async move {
            let mut kept = Box::pin(async move {
                let waits = async {
                    tell.send(()).await.unwrap();
                    pending::<()>().await
                };
                let cancelled = catch_cancel(waits).await.expect_err("it is pending");
                sleep(60 * MS).await;
                drop(cleaned.guard());
                match cancelled.resume().await {}
            });
            while timeout(20 * MS, kept.as_mut()).await.is_err() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        told.recv().await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(done.count(), 1, "it was cut");
        assert!(slow.load(Ordering::Relaxed) >= 1);
    });
}

/// Both branches have caught one request, of the timeout around or to the task. The one that swallows it answers, and
/// the time of the other one's timeout cuts its cleanup.
#[test]
fn one_of_two_branches_that_were_asked_is_cut() {
    in_a_task(async {
        for swallows_first in [false, true] {
            let swallows = || async {
                assert!(catch_cancel(pending::<()>()).await.is_err());
            };
            let total = timeout(10 * MS, async {
                if swallows_first {
                    let both = futures::future::join(swallows(), timeout(20 * MS, stubborn()));
                    let ((), late) = both.await;
                    late.unwrap_err();
                } else {
                    let both = futures::future::join(timeout(20 * MS, stubborn()), swallows());
                    let (late, ()) = both.await;
                    late.unwrap_err();
                }
                unreachable!("the timeout around comes first")
            });
            total.await.unwrap_err();
        }
    });
}

/// What cleans up in the body of a group is cut because a child fails: the timeout around that has asked it to answers,
/// and so does one between the two.
#[test]
fn a_cleanup_that_a_group_cuts_does_not_lose_the_timeout_around() {
    in_a_task(async {
        for between in [false, true] {
            let caught = Signal::new();
            let group = TaskGroup::run(async |g| {
                let fails = caught.clone();
                g.spawn(async move {
                    // Both at once would be one request, and the body is asked once.
                    fails.wait().await;
                    Err::<(), _>("broken")
                });
                assert!(catch_cancel(pending::<()>()).await.is_err());
                caught.set();
                pending::<()>().await;
                Ok(())
            });
            let total = timeout(10 * MS, async {
                let ended = match between {
                    false => group.await,
                    true => timeout(HOUR, group).await.expect("in time"),
                };
                assert!(ended.is_err());
                pending::<()>().await
            });
            total.await.unwrap_err();
        }
    });
}

/// The same beside something that cleans up in a `catch_cancel`: that was asked as well, and is not asked again.
#[test]
fn a_group_that_cuts_a_cleanup_leaves_the_one_beside_alone() {
    for limited in [false, true] {
        Explore::new().seeds(10).run(async move || {
            let cleaned = Drops::default();
            let guard = cleaned.clone();
            let both = async move {
                let group = TaskGroup::run(async |g| {
                    g.spawn(async {
                        sleep(20 * MS).await;
                        Err::<(), _>("broken")
                    });
                    stubborn().await;
                    Ok(())
                });
                let beside = async {
                    assert!(catch_cancel(pending::<()>()).await.is_err());
                    catch_cancel(sleep(50 * MS)).await.expect("asked once");
                    drop(guard.guard());
                };
                let (ended, ()) = futures::future::join(group, beside).await;
                assert_eq!(ended.unwrap_err().len(), 1);
                pending::<()>().await
            };
            let limit = if limited { 10 * MS } else { HOUR };
            let task = heist::spawn(timeout(limit, both));
            sleep(10 * MS).await;
            if !limited {
                task.abort();
            }
            match task.await {
                Ok(ended) => assert!(ended.is_err() && limited),
                Err(error) => assert!(error.is_cancelled() && !limited, "{error}"),
            }
            assert_eq!(cleaned.count(), 1);
        });
    }
}

/// A body has caught the abort of the task, and then the timeout around the group asks as well: the group, which has failed,
/// answers the timeout with its errors, and the abort goes on.
#[test]
fn an_abort_goes_on_when_a_group_that_fails_answers_a_timeout() {
    for cleans_up in [false, true] {
        Explore::new().seeds(10).run(async move || {
            let task = heist::spawn(async move {
                let group = TaskGroup::builder().supervise().run(async move |g| {
                    g.spawn(async { Err::<(), _>("broken") });
                    // Somebody to wait for.
                    g.spawn(async {
                        assert!(catch_cancel(pending::<()>()).await.is_err());
                        sleep(MS).await;
                        Ok::<_, String>(())
                    });
                    if !cleans_up {
                        stubborn().await;
                        return Ok(());
                    }
                    let group = g.clone();
                    g.spawn(async move {
                        sleep(30 * MS).await;
                        group.cancel();
                        Ok::<_, String>(())
                    });
                    // It cleans up for the timeout when the group cuts it.
                    let _ = catch_cancel(stubborn()).await;
                    pending::<()>().await;
                    Ok(())
                });
                let ended = timeout(20 * MS, group).await.expect("an answer");
                assert_eq!(ended.unwrap_err().len(), 1);
                sleep(MS).await;
            });
            sleep(10 * MS).await;
            task.abort();
            let error = task.await.expect_err("the abort is lost");
            assert!(error.is_cancelled(), "{error}");
        });
    }
}

/// A group moves to another task, with the timeout around it or alone, and its body is cut by the first poll there. What
/// that has caught of the timeout goes on, and of the task that is left, nothing.
#[test]
fn a_group_that_moves_and_cuts_a_cleanup_asks_where_it_is() {
    for limited in [false, true] {
        Explore::new().seeds(10).run(async move || {
            let (send, sent) = async_channel::bounded(1);
            let group = async {
                let group = TaskGroup::run(async |g| {
                    g.spawn(async {
                        sleep(30 * MS).await;
                        Err::<(), _>("broken")
                    });
                    stubborn().await;
                    Ok(())
                });
                assert_eq!(group.await.unwrap_err().len(), 1);
            };
            let limit = if limited { 10 * MS } else { HOUR };
            let total = timeout(limit, async move {
                group.await;
                sleep(MS).await;
            });
            let first = heist::spawn(async move {
                let mut total = Box::pin(total);
                let mut moves = Box::pin(sleep(20 * MS));
                let both = poll_fn(|cx| {
                    assert!(total.as_mut().poll(cx).is_pending());
                    moves.as_mut().poll(cx)
                });
                both.await;
                // The group has a reason to cut its body before it is polled again.
                sleep(20 * MS).await;
                send.send(total).await.unwrap();
                sleep(20 * MS).await;
            });
            sleep(10 * MS).await;
            if !limited {
                first.abort();
            }
            let total = sent.recv().await.unwrap();
            let ended = heist::spawn(total).await.expect("it was not asked");
            assert_eq!(ended.is_err(), limited);
            first.await.expect("it was asked before");
        });
    }
}

/// A future with two timeouts is bounded by a third, kept, and polled on: the one around the other times out when that
/// has given up.
#[test]
fn a_timeout_in_a_future_that_is_kept_times_out() {
    let task = async {
        let inner = timeout(5 * MS, async {
            let mut region = Box::pin(catch_cancel(pending::<()>()));
            assert!(futures::poll!(region.as_mut()).is_pending());
            sleep(50 * MS).await;
            let _ = region.await;
            pending::<()>().await
        })
        .cleanup_within(300 * MS);
        let mut middle = Box::pin(timeout(5 * MS, async {
            inner.await.unwrap_err();
            pending::<()>().await
        }));
        let outer = timeout(5 * MS, middle.as_mut()).cleanup_within(150 * MS);
        assert!(outer.await.is_err());
        middle.await.is_err()
    };
    in_a_task(async move {
        let ended = heist::spawn(task);
        sleep(LIMIT / 4).await;
        assert!(ended.is_finished(), "it ends");
    });
}

/// A task with ten thousand timeouts around regions, which are asked by requests again and again, costs what
/// ten with a thousand do, and not ten times that.
#[test]
fn requests_to_a_task_with_many_timeouts_cost_what_they_touch() {
    fn time(limits: usize) -> Duration {
        let begin = Instant::now();
        in_a_task(async move {
            let task = with_own_handle(move |own| async move {
                let mut all = FuturesUnordered::new();
                for _ in 0..limits {
                    all.push(timeout(HOUR, catch_cancel(pending::<()>())));
                }
                assert!(futures::poll!(all.next()).is_pending());
                let mut caught = 0;
                own.abort();
                while let Some(ended) = all.next().await {
                    caught += usize::from(ended.expect("in time").is_err());
                    // Each catches what it was told; another request has nobody new to tell.
                    own.abort();
                    assert_eq!(cancelling(), 2);
                    uncancel();
                }
                caught
            });
            assert_eq!(task.await.unwrap(), limits);
        });
        begin.elapsed()
    }
    // In the best of three: others use this machine as well.
    let times = (0..3).map(|_| {
        let few = (0..10).map(|_| time(1_000)).sum::<Duration>();
        (time(10_000), few)
    });
    let mut too_long = Vec::new();
    for (many, few) in times {
        if many < 4 * few {
            return;
        }
        too_long.push((many, few));
    }
    panic!("with many, and ten times with fewer: {too_long:?}");
}
