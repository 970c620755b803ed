//! Models of foreign threads against the end of the loop.

#![forbid(unsafe_code)]

use super::Guests;
use crate::models::model;
use crate::task::Memory;
use crate::task::state::{Complete, Park, Start, State, Wake};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

struct World {
    guests: Guests,
    task: State,
    /// The injector: one place is enough for one task.
    queue: AtomicBool,
    /// The list of tasks, which the end of the loop looks at until it is empty.
    listed: AtomicBool,
    /// The shared state, which the end of the loop frees.
    shared: Memory,
}

impl World {
    /// With an idle task and a waker on it.
    fn new() -> Arc<World> {
        let task = State::queued();
        assert_eq!(task.start_run(), Start::Poll);
        task.clone_waker();
        assert_eq!(task.park(), Park::Idle);
        Arc::new(World {
            guests: Guests::new(),
            task,
            queue: AtomicBool::new(false),
            listed: AtomicBool::new(true),
            shared: Memory::new(),
        })
    }

    /// As `waker::schedule` on a thread the runtime does not own.
    fn foreign_wake(&self) {
        match self.task.wake() {
            Wake::Push => {
                self.shared.touch();
                let guest = self.guests.enter_held();
                self.queue.store(true, Ordering::Release);
                // The notification.
                self.shared.touch();
                drop(guest);
            }
            Wake::Noted | Wake::Free => {}
        }
    }

    /// As a worker that takes the task from the injector, every time, until it is done.
    fn receive(&self) {
        loop {
            while !self.queue.load(Ordering::Acquire) {
                thread::yield_now();
            }
            self.queue.store(false, Ordering::Relaxed);
            while self.task.start_run() == Start::Poll {
                // Received before it was cancelled.
                if self.task.park() == Park::Idle {
                    break;
                }
            }
            if self.task.snapshot().is_running() {
                break;
            }
        }
        // As `TaskList::unlink`, under a lock.
        self.listed.store(false, Ordering::Release);
        assert!(matches!(self.task.complete(true), Complete::Finished));
    }

    /// As step 1 of the end of the loop.
    fn cancel(&self) {
        if self.task.request_cancel() == Wake::Push {
            self.queue.store(true, Ordering::Release);
        }
    }

    /// As step 4, and the free.
    fn end(&self) {
        self.guests.close();
        self.guests.wait_empty();
        self.shared.free();
    }
}

/// A foreign thread wakes a task while the loop ends: cancels, receives, completes, and frees. The
/// waker's last touch comes before the free.
///
/// Fails when the guest counts itself in after its push; when `Guest::drop` is Relaxed, or the load in
/// `wait_empty`; when the end of the loop does not wait for guests.
#[test]
fn models_foreign_wake_against_the_end() {
    // Counted: 42.
    model(21, || {
        let world = World::new();
        let foreign = {
            let world = world.clone();
            thread::spawn(move || world.foreign_wake())
        };
        world.cancel();
        world.receive();
        world.end();
        foreign.join().unwrap();
    });
}

/// The same with a worker that receives the task, on a thread that is not the one that frees.
///
/// Fails when `Guest::drop` is Relaxed, and when `notify` compares with Relaxed (the task is received
/// before the waker's writes).
#[test]
fn models_foreign_wake_a_worker_and_the_end() {
    // Counted: 3248.
    model(1600, || {
        let world = World::new();
        let foreign = {
            let world = world.clone();
            thread::spawn(move || world.foreign_wake())
        };
        let worker = {
            let world = world.clone();
            thread::spawn(move || world.receive())
        };
        world.cancel();
        while world.listed.load(Ordering::Acquire) {
            thread::yield_now();
        }
        world.end();
        foreign.join().unwrap();
        worker.join().unwrap();
    });
}

/// A holder of an owned reference enters while the door is closed: it is refused, or waited for.
///
/// Fails when `enter` looks at CLOSED before it counts itself in; when `wait_empty` comes before
/// `close`.
#[test]
fn models_enter_against_close() {
    // Counted: 643.
    model(320, || {
        let world = Arc::new((Guests::new(), Memory::new()));
        let guests = [(), ()].map(|()| {
            let world = world.clone();
            thread::spawn(move || {
                if let Some(guest) = world.0.enter() {
                    world.1.touch();
                    drop(guest);
                }
            })
        });
        world.0.close();
        world.0.wait_empty();
        world.1.free();
        assert!(world.0.enter().is_none());
        for guest in guests {
            guest.join().unwrap();
        }
    });
}
