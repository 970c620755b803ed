//! Models of a worker's queue against thieves and those who fall asleep. The deque is the stand-in of
//! `deque.rs`, whose lock orders more than the real one does; so what these find are wrong steps, and
//! wrong orders of the lengths of the overflow alone, which no lock guards.

#![forbid(unsafe_code)]

use super::{Order, Queue};
use crate::config::LOCAL_QUEUE;
use crate::deque::{Steal, Worker as Deque};
use crate::idle::Idle;
use crate::models::model;
use crate::task::Runnable;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// The owner pushes more than its deque holds, and takes what it can get, while a thief steals a batch
/// and works it off. Each task comes out once.
///
/// Fails when `take` does not hand over the rest of a batch, and when `pop` does not look at the overflow.
#[test]
fn models_each_task_of_a_queue_is_run_once() {
    // Counted: 784.
    model(390, || {
        let (queue, own) = Queue::new();
        let world = Arc::new((queue, AtomicUsize::new(0)));
        for task in 0..LOCAL_QUEUE + 3 {
            world
                .0
                .push(&own, Runnable::new(1 << (4 * task)), Order::Fair);
        }
        let thief = thread::spawn({
            let world = world.clone();
            move || {
                let (queue, sum) = &*world;
                let stolen = Deque::new_fifo();
                if let Steal::Success(task) = queue.steal_into(&stolen) {
                    sum.fetch_add(task.run(), Ordering::Relaxed);
                }
                while let Some(task) = stolen.pop() {
                    sum.fetch_add(task.run(), Ordering::Relaxed);
                }
            }
        });
        let (queue, sum) = &*world;
        while let Some(task) = queue.pop(&own) {
            sum.fetch_add(task.run(), Ordering::Relaxed);
        }
        thief.join().unwrap();
        assert!(queue.is_empty());
        assert_eq!(sum.load(Ordering::Relaxed), 0x111_1111);
    });
}

/// The owner moves what did not fit from the overflow to its deque. There is one task all the time, so
/// whoever looks at any moment must not find the queue empty.
///
/// Fails when `is_empty` looks at the deque first, when `refill` announces that the list is empty
/// before it moves the tasks, and when a length is announced, or looked at, Relaxed.
#[test]
fn models_a_task_that_moves_is_seen_in_one_of_two_places() {
    // Counted: 14.
    model(7, || {
        let (queue, own) = Queue::new();
        let queue = Arc::new(queue);
        for task in 0..LOCAL_QUEUE + 2 {
            queue.push(&own, Runnable::new(task), Order::Fair);
        }
        for _ in 0..LOCAL_QUEUE {
            let _ = own.pop().expect("it was full").run();
        }
        let looker = thread::spawn({
            let queue = queue.clone();
            move || queue.is_empty()
        });
        // One of the two in the overflow is taken, and the other one goes to the deque.
        let _ = queue.pop(&own).expect("two have overflown").run();
        assert!(!looker.join().unwrap(), "a task was overlooked");
        let _ = queue.pop(&own).expect("the other one").run();
    });
}

/// The owner pushes a task that goes to the overflow, and looks for a sleeper, while a worker falls
/// asleep: it is claimed, or sees the task.
///
/// Fails without the fence in `claim`, without the one in `announce`, and when `Locked` does not
/// announce the lengths.
#[test]
fn models_an_overflow_wakes_a_sleeper_or_is_seen() {
    // Counted: 14.
    model(7, || {
        let (queue, own) = Queue::new();
        let world = Arc::new((queue, Idle::new()));
        let mut tasks = (0..=LOCAL_QUEUE).map(Runnable::new);
        for task in tasks.by_ref().take(LOCAL_QUEUE) {
            world.0.push(&own, task, Order::Fair);
        }
        // Others have stolen them all, as far as the sleeper knows.
        for _ in 0..LOCAL_QUEUE {
            let _ = own.pop().expect("it was full").run();
        }
        let sleeper = thread::spawn({
            let world = world.clone();
            move || {
                world.1.announce(0, false);
                world.0.has_overflown()
            }
        });
        world
            .0
            .overflow(tasks.next().expect("one is left"), Order::Fair);
        let claimed = world.1.claim().is_some();
        let seen = sleeper.join().unwrap();
        assert!(
            claimed || seen,
            "a task is left and nobody was woken for it"
        );
        let _ = world.0.pop(&own).expect("it is there").run();
    });
}
