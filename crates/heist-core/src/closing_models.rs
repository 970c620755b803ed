//! Models of the end of the loop against a worker. Where one of the two waits for ever, loom says so.

#![forbid(unsafe_code)]

use super::{close, close_later};
use crate::context::{Context, Role};
use crate::models::model;
use crate::models::world::{shared, work, worker};
use crate::shared::Shared;
use crate::worker::Turn;
use crate::{JoinHandle, Spawn, Unseen};
use loom::thread;
use std::future::{pending, poll_fn};
use std::panic::Location;
use std::sync::{Arc, Mutex as Plain};
use std::task::{Poll, Waker};

/// The loop ends while its one worker starts, or falls asleep: it is woken, and ends.
///
/// Fails when step 6 wakes nobody, and when it does so before it says that it is over.
#[test]
fn models_a_worker_falls_asleep_at_the_end() {
    // Counted: 470.
    model(230, || {
        let (shared, _) = shared(1, 1);
        shared
            .threads
            .start_worker_at(&shared, 0)
            .expect("a thread");
        let report = close(&shared, shared.site, None);
        assert!(report.is_clean(), "{report}");
        assert_eq!(shared.threads.working(), 0);
    });
}

/// The same with a task from outside, which the worker is started for, and which never ends by itself. One of the two
/// drops it.
///
/// Fails when step 6 wakes nobody, and when tasks are not asked to end.
#[test]
fn models_a_task_is_dropped_at_the_end() {
    // Counted: 2819.
    model(1400, || {
        let (shared, _) = shared(1, 1);
        let spawn = Spawn::at(Location::caller());
        let task = shared.spawn(None, spawn, pending::<()>(), Unseen::dropped());
        let Ok(handle) = task else {
            panic!("the loop goes on");
        };
        let report = close(&shared, shared.site, None);
        assert_eq!(report.cancelled, 1, "{report}");
        assert!(handle.is_finished());
        assert_eq!(shared.threads.working(), 0);
    });
}

/// The end is asked for by somebody who must not block, while the one worker starts, or falls asleep: it ends the loop.
///
/// Fails when nobody is woken for the request, and when a worker does not look for one.
#[test]
fn models_a_worker_falls_asleep_while_the_end_is_asked_for() {
    // Counted: 45.
    model(22, || {
        let (shared, _) = shared(1, 0);
        shared
            .threads
            .start_worker_at(&shared, 0)
            .expect("a thread");
        let cx = Context::new(&shared, Role::Service, shared.site);
        close_later(&shared, &cx, shared.site, None);
        let report = shared.closing.wait_finished(None).expect("it waits");
        assert!(report.is_clean(), "{report}");
    });
}

/// A task comes from outside while the loop ends. It is refused, or dropped before the end is over.
///
/// Fails when a closed list takes a task in.
#[test]
fn models_a_task_is_spawned_at_the_end() {
    // Counted: 902.
    model(450, || {
        let (shared, _) = shared(1, 0);
        let spawner = thread::spawn({
            let shared = shared.clone();
            move || {
                let spawn = Spawn::at(Location::caller());
                let task = shared.spawn(None, spawn, pending::<()>(), Unseen::dropped());
                task.ok()
            }
        });
        let report = close(&shared, shared.site, None);
        let task = spawner.join().unwrap();
        assert_eq!(report.cancelled, usize::from(task.is_some()), "{report}");
        assert!(task.is_none_or(|task| task.is_finished()));
    });
}

/// A foreign thread wakes a task that sleeps, while the loop ends and the runtime is freed.
///
/// Fails when a guest leaves Relaxed, and when `wait_empty` sees that Relaxed.
#[test]
fn models_a_task_is_woken_at_the_end() {
    // Counted: 40.
    model(20, || {
        let (shared, beds) = shared(1, 0);
        let (task, waker) = sleeping_task(&shared);
        let foreign = thread::spawn(move || waker.wake());
        let report = close(&shared, shared.site, None);
        assert_eq!(report.cancelled, 1, "{report}");
        assert!(task.is_finished());
        beds.free();
        foreign.join().unwrap();
    });
}

/// A task that was polled once and waits, and its one waker.
fn sleeping_task(shared: &Arc<Shared>) -> (JoinHandle<()>, Waker) {
    let worker = worker(shared, 0);
    let left = Arc::new(Plain::new(None));
    let waits = poll_fn({
        let left = left.clone();
        move |cx| {
            *left.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        }
    });
    let task = work(shared, &worker, |cx| {
        let spawn = Spawn::at(Location::caller());
        let task = shared.spawn(Some(cx), spawn, waits, Unseen::dropped());
        assert_eq!(worker.turn(cx), Turn::Again);
        let Ok(handle) = task else {
            panic!("the loop goes on");
        };
        handle
    });
    worker.leave_loop();
    worker.vacate();
    let waker = left.lock().unwrap().take();
    (task, waker.expect("it was polled"))
}
