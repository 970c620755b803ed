//! `RunError::Deadlock`: what is proven, and above all what is not taken for one.
//!
//! Here the process has other threads, those of the other tests, so only a main future that nobody can
//! reach is found. What a process of its own finds is in `alone/deadlock.rs`.
#![forbid(unsafe_code)]

use crate::support::{alone, within};
use futures::channel::oneshot;
use heist::{Report, RunError, Runtime};
use std::future::pending;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

fn debugging() -> Runtime {
    let builder = Runtime::builder().debug(true).workers(2).on_error(|_| {});
    builder.build().expect("it starts no thread")
}

/// In a process that has no threads but the runtime's, all of which sleep, every deadlock is found: joins
/// in a circle, a channel whose sender the receiver has, an answer that was forgotten, and others.
#[test]
fn deadlocks_are_found_where_nobody_else_is() {
    let ended = alone(ALONE, &[], "found", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// Timers, threads with wakers or handles, closures, sockets, signals: each of them may come late, and
/// does.
#[test]
fn what_may_still_come_is_waited_for() {
    let ended = alone(ALONE, &[], "not_found", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// Nobody has a waker of main, nor a waker or a handle of its task: whatever other threads do, it can never
/// go on.
#[test]
fn a_main_that_nobody_can_reach_ends_beside_other_threads() {
    within(|| {
        let mut runtime = debugging();
        let ended = runtime.try_run(async {
            drop(heist::spawn(pending::<()>()));
            pending::<()>().await;
        });
        let Err(RunError::Deadlock(deadlock)) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(deadlock.tasks().len(), 1);
        assert!(deadlock.tasks()[0].is_stranded());
        assert_eq!(runtime.close().cancelled, 1);
    });
}

/// `run` answers with a panic that says what waits on what.
#[test]
#[should_panic(expected = "deadlock: the main future can never go on")]
fn run_panics_with_the_deadlock() {
    within(|| debugging().run(pending::<()>()));
}

/// Each of many foreign threads has the only waker of main, keeps it while everything sleeps, and uses
/// or hands it on at a moment of its own. There is no false alarm, whenever the monitor looks.
#[test]
fn a_waker_that_wanders_is_never_overlooked() {
    within(|| {
        let mut runtime = debugging();
        for round in 0..30_u64 {
            let ended = runtime.try_run(async {
                let mut woken = false;
                std::future::poll_fn(|cx| {
                    if std::mem::replace(&mut woken, true) {
                        return Poll::Ready(());
                    }
                    wander(cx.waker().clone(), round, 3);
                    Poll::Pending
                })
                .await;
            });
            ended.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    });
}

/// Keeps a waker around the time of a look, hands a clone on, and drops its own.
fn wander(waker: Waker, round: u64, hops: u64) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_micros(
            3_000 + (round * 7 + hops) * 331 % 5_000,
        ));
        match hops {
            0 => waker.wake(),
            _ => wander(waker.clone(), round, hops - 1),
        }
    });
}

/// The same of a task that main awaits, where the thread has the task's waker.
#[test]
fn a_task_with_a_waker_elsewhere_keeps_main_alive() {
    within(|| {
        for round in 0..10 {
            let (send, receive) = oneshot::channel();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(10 + round));
                send.send(round)
            });
            let ended = debugging().try_run(async {
                let task = heist::spawn(async move { receive.await.expect("it comes") });
                task.await.expect("it ends")
            });
            assert_eq!(ended.expect("no deadlock"), round);
            thread.join().expect("it ends").expect("it was received");
        }
    });
}

/// Two tasks that wait for each other cannot be proven dead where another thread may have a handle of
/// them: this one does, and ends them.
#[test]
fn a_circle_that_a_thread_can_break_is_left_alone() {
    within(|| {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let first: heist::task::AbortHandle = told.recv().expect("it comes");
            std::thread::sleep(Duration::from_millis(100));
            first.abort();
        });
        let ended = debugging().try_run(async move {
            let (give, take) = oneshot::channel::<heist::JoinHandle<bool>>();
            let first = heist::spawn(async move {
                let second = take.await.expect("it comes");
                second.await.is_ok()
            });
            tell.send(first.abort_handle()).expect("it is taken");
            let second = heist::spawn(async move { first.await.is_err() });
            assert!(give.send(second).is_ok());
            // The circle is alone with the thread now.
            let mut turns = pin!(heist::sleep(Duration::from_millis(200)));
            turns.as_mut().await;
        });
        ended.expect("no deadlock");
        thread.join().expect("it ends");
    });
}

/// A task that can never run again is named once in debug mode, while main goes on.
#[test]
fn a_task_that_can_never_run_again_is_reported_once() {
    within(|| {
        let (tell, told) = mpsc::channel();
        let mut names: Vec<String> = Vec::new();
        let mut runtime = Runtime::builder()
            .debug(true)
            .workers(2)
            .on_error(move |report| {
                if let Report::Stuck { task } = report {
                    let _ = tell.send(task.to_string());
                }
            })
            .build()
            .expect("it starts no thread");
        runtime.run(async {
            drop(
                heist::task::Builder::new()
                    .name("lost")
                    .spawn(pending::<()>()),
            );
            // Of this one there is a handle.
            let kept = heist::spawn(pending::<()>());
            // Long enough for the monitor to be sure, and again: it does not say so twice.
            for _ in 0..100 {
                heist::sleep(Duration::from_millis(100)).await;
                if !names.is_empty() {
                    break;
                }
                names.extend(told.try_iter());
            }
            drop(kept);
        });
        runtime.close();
        names.extend(told.try_iter());
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(names[0].contains("lost"), "{names:?}");
    });
}
