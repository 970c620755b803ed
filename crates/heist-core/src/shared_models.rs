//! Models of a slot that is given back while somebody counts on a worker.

#![forbid(unsafe_code)]

use crate::models::model;
use crate::models::world::{shared, worker};
use crate::seam::NEVER;
use crate::sync::thread::refuse;
use crate::{Spawn, Unseen};
use loom::thread;
use std::panic::Location;

/// The last worker leaves while a thread comes to `block_on`. The thread sees that nobody works and starts one,
/// or the worker sees the thread, and does. (The system has none, so that both that they try and that is all.)
///
/// Fails when either fence is left out, or is AcqRel; when `worker_has_left` asks before the worker is counted out.
#[test]
fn models_the_last_worker_leaves_while_a_thread_visits() {
    // Counted: 32.
    model(16, || {
        let (shared, _) = shared(1, 0);
        let worker = worker(&shared, 0);
        refuse(usize::MAX);
        let leaver = thread::spawn(move || {
            worker.leave_loop();
            worker.end();
        });
        let visit = shared.visit();
        let came = shared.threads.ensure_worker(&shared);
        leaver.join().unwrap();
        assert_eq!(shared.threads.working(), 0);
        assert!(
            came.is_err() || shared.threads.retry_at() != NEVER,
            "nobody works, and nobody tries to"
        );
        drop(visit);
    });
}

/// The owner of a slot leaves while somebody arms a timer in its shard, and another worker goes on. One of the two has a
/// thread look after it.
///
/// Fails when `worker_has_left` looks before the slot is given back, and when it or `attend` does not look. (That `attend` fences is
/// not seen: the lock of the slot's `home` orders the two.)
#[test]
fn models_a_worker_leaves_while_a_timer_is_armed() {
    // Counted: 31.
    model(15, || {
        let (shared, beds) = shared(2, 0);
        let (worker, _other) = (worker(&shared, 0), worker(&shared, 1));
        refuse(usize::MAX);
        let leaver = thread::spawn(move || {
            worker.leave_loop();
            worker.end();
        });
        beds.arm(0);
        shared.attend(0);
        leaver.join().unwrap();
        assert!(
            shared.threads.retry_at() != NEVER,
            "nobody looks after the timer"
        );
    });
}

/// The last worker leaves while a task comes from outside. Whoever spawns it starts a worker, or the one who leaves does.
///
/// Fails when `worker_has_left` asks before the worker is counted out, or leaves the tasks out.
#[test]
fn models_the_last_worker_leaves_while_a_task_is_spawned() {
    // Counted: 155.
    model(75, || {
        let (shared, _) = shared(1, 0);
        let worker = worker(&shared, 0);
        refuse(usize::MAX);
        let leaver = thread::spawn(move || {
            worker.leave_loop();
            worker.end();
        });
        let spawn = Spawn::at(Location::caller());
        let task = shared.spawn(None, spawn, async {}, Unseen::dropped());
        leaver.join().unwrap();
        assert!(shared.threads.retry_at() != NEVER, "nobody runs it");
        std::mem::forget(task);
    });
}
