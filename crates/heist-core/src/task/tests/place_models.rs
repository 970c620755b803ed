//! Models of the LIFO slot, with numbers for tasks.

#![forbid(unsafe_code)]

use super::Place;
use crate::models::model;
use crate::task::Runnable;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

fn run(sum: &AtomicUsize, task: Option<Runnable>) {
    if let Some(task) = task {
        sum.fetch_add(task.run(), Ordering::Relaxed);
    }
}

/// The owner puts two tasks while two others empty the place, as a worker that looks for work and the
/// monitor may. Each task comes out once, with what its spawner wrote.
///
/// Fails when `put` is a load and a store (a task is lost or comes out twice), when its swap is Relaxed
/// or Acquire alone, and when the swap of `take` is Relaxed, or a load and a store. (The Acquire of `put`
/// is for a task that an earlier owner has left, and the slot's `home` orders those as well.)
#[test]
fn models_place_gives_each_task_once() {
    // Counted: 1423.
    model(710, || {
        let world = Arc::new((Place::new(), AtomicUsize::new(0)));
        let thieves = [(), ()].map(|()| {
            let world = world.clone();
            thread::spawn(move || run(&world.1, world.0.take()))
        });
        for task in [1, 10] {
            run(&world.1, world.0.put(Runnable::new(task)));
        }
        run(&world.1, world.0.take());
        for thief in thieves {
            thief.join().unwrap();
        }
        assert!(!world.0.is_full());
        assert_eq!(world.1.load(Ordering::Relaxed), 11);
    });
}
