//! Models of the sleep protocol: no task is left while everybody sleeps unclaimed.
//!
//! The queue is a counter whose looks are Relaxed loads: it orders nothing between "push, then look
//! for sleepers" and "announce sleep, then look for work". Only the fences do.
//!
//! A worker that parks leaves its thread. Whoever was unparked in the meantime is played to its end
//! after the threads have joined; what is left in the queue then is lost.

#![forbid(unsafe_code)]

use super::{Idle, Left};
use crate::models::model;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

struct World {
    idle: Idle,
    /// Tasks in the injector.
    queue: AtomicUsize,
    /// The unpark tokens of the slots.
    tokens: [AtomicBool; 3],
    /// What the monitor was told.
    monitor_woken: AtomicBool,
    claims: AtomicUsize,
}

impl World {
    fn new() -> Arc<World> {
        let flag = || AtomicBool::new(false);
        Arc::new(World {
            idle: Idle::new(),
            queue: AtomicUsize::new(0),
            tokens: [flag(), flag(), flag()],
            monitor_woken: flag(),
            claims: AtomicUsize::new(0),
        })
    }

    fn push(&self) {
        // Release, as the deque's push ends; no more.
        self.queue.fetch_add(1, Ordering::Release);
    }

    fn sees_work(&self) -> bool {
        self.queue.load(Ordering::Relaxed) > 0
    }

    fn take(&self) -> bool {
        let mut seen = self.queue.load(Ordering::Relaxed);
        while seen > 0 {
            match self
                .queue
                .compare_exchange(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// As `Shared::notify` on a foreign thread.
    fn notify(&self) {
        if let Some(slot) = self.idle.claim() {
            self.claims.fetch_add(1, Ordering::Relaxed);
            self.tokens[slot as usize].store(true, Ordering::Relaxed);
        }
    }

    fn produce(&self) {
        self.push();
        self.notify();
    }

    /// As `Worker::stop_searching`.
    fn stop_searching(&self, searching: bool) {
        if searching && self.idle.end_search() && self.sees_work() {
            self.notify();
        }
    }

    /// As the loop of a worker: takes at most `appetite` tasks, after which it is busy for ever;
    /// parks (returns) when it finds none.
    fn work(&self, slot: u32, mut searching: bool, mut appetite: usize) {
        while appetite > 0 {
            if self.take() {
                self.stop_searching(searching);
                searching = false;
                appetite -= 1;
                continue;
            }
            self.idle.announce(slot, searching);
            if !self.sees_work() {
                // Parked: if a token comes, `play` goes on from here.
                return;
            }
            let (left, monitor) = self.idle.leave(slot);
            searching = left == Left::Claimed;
            if monitor {
                self.monitor_woken.store(true, Ordering::Relaxed);
            }
        }
        self.stop_searching(searching);
    }

    /// All threads have parked or are busy: those with a token wake, and work for as long as they
    /// find something.
    fn play(&self) {
        while let Some(slot) = (0..3).find(|slot| self.tokens[*slot].swap(false, Ordering::Relaxed))
        {
            let (left, _) = self.idle.leave(slot as u32);
            self.work(slot as u32, left == Left::Claimed, usize::MAX);
        }
    }

    fn assert_nothing_is_lost(&self) {
        self.play();
        assert_eq!(
            self.queue.load(Ordering::Relaxed),
            0,
            "a task is left and nobody was woken for it: {:?}",
            self.idle
        );
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// One producer; one worker goes to sleep from being busy (edge 4). The producer sees it, or it sees the
/// task.
///
/// Fails without the fence in `announce`, and without the one in `claim`.
#[test]
fn a_worker_falls_asleep_while_a_task_is_pushed() {
    // Counted: 33.
    model(16, || {
        let world = World::new();
        let worker = spawn(&world, |world| world.work(0, false, usize::MAX));
        world.produce();
        worker.join().unwrap();
        world.assert_nothing_is_lost();
    });
}

/// One producer and two workers that go to sleep, one of them as a searcher (edges 3 and 4).
///
/// Fails without the fence in `announce`, and without the one in `claim`.
#[test]
fn a_producer_and_two_workers() {
    // Counted: 1286.
    model(640, || {
        let world = World::new();
        assert!(world.idle.begin_search(1));
        let searcher = spawn(&world, |world| world.work(0, true, usize::MAX));
        let busy = spawn(&world, |world| world.work(1, false, usize::MAX));
        world.produce();
        searcher.join().unwrap();
        busy.join().unwrap();
        world.assert_nothing_is_lost();
    });
}

/// The only searcher finds a task, and stays busy with it, while a producer pushes another one and
/// relies on the searcher. It must hand the search over to the sleeper.
///
/// Fails when `end_search` has no fence, and when `stop_searching` does not look or claim.
#[test]
fn the_last_searcher_hands_over() {
    // Counted: 33.
    model(16, || {
        let world = World::new();
        world.idle.announce(1, false);
        assert!(world.idle.begin_search(1));
        world.push();
        let searcher = spawn(&world, |world| world.work(0, true, 1));
        world.produce();
        searcher.join().unwrap();
        world.assert_nothing_is_lost();
    });
}

/// Two producers push one task each with two sleepers: both tasks are taken in the end, and the
/// second producer wakes nobody while the first one's sleeper is on its way.
///
/// Fails when `claim` does not count the sleeper as a searcher (two wake-ups for the first task),
/// and when the second look under the lock is left out.
#[test]
fn two_producers_wake_one_sleeper_at_a_time() {
    // Counted: 16.
    model(8, || {
        let world = World::new();
        world.idle.announce(0, false);
        world.idle.announce(1, false);
        let other = spawn(&world, World::produce);
        world.produce();
        other.join().unwrap();
        assert_eq!(world.claims.load(Ordering::Relaxed), 1, "{:?}", world.idle);
        world.assert_nothing_is_lost();
    });
}

/// A worker that wakes by its own event is claimed at the same time: it learns of it, and stands
/// for the work.
///
/// Fails when `leave` answers `Free` without having been in the list.
#[test]
fn leave_against_claim() {
    // Counted: 67.
    model(33, || {
        let world = World::new();
        world.idle.announce(0, false);
        let worker = spawn(&world, |world| {
            // Its own event: a timer, say.
            let (left, _) = world.idle.leave(0);
            world.work(0, left == Left::Claimed, usize::MAX);
        });
        world.produce();
        worker.join().unwrap();
        world.play();
        // Nobody searches any more, so the next task finds the sleeper again.
        world.produce();
        world.assert_nothing_is_lost();
    });
}

/// A thread that is being started counts as a searcher, so a producer relies on it; the start
/// fails. Somebody else must be woken.
///
/// Fails when the failing starter leaves `end_search` or its notification out.
#[test]
fn a_failed_start_hands_over() {
    // Counted: 12.
    model(6, || {
        let world = World::new();
        world.idle.announce(0, false);
        world.idle.starting();
        let starter = spawn(&world, |world| {
            // As `Threads::start_worker_at` when the thread cannot be had.
            if world.idle.end_search() {
                world.notify();
            }
        });
        world.produce();
        starter.join().unwrap();
        world.assert_nothing_is_lost();
    });
}

/// The monitor goes to sleep while the last sleeping worker is claimed and wakes: the monitor
/// stays awake, or is woken by that worker.
///
/// Fails when `leave` takes the monitor's flag only in the branch of `Free`.
#[test]
fn the_monitor_never_sleeps_over_a_worker() {
    // Counted: 5.
    model(2, || {
        let world = World::new();
        assert!(!world.idle.started());
        world.idle.announce(0, false);
        let worker = spawn(&world, |world| {
            world.produce();
            let (left, monitor) = world.idle.leave(0);
            if monitor {
                world.monitor_woken.store(true, Ordering::Relaxed);
            }
            // Then it is busy for ever.
            world.stop_searching(left == Left::Claimed);
        });
        let slept = world.idle.monitor_sleeps();
        worker.join().unwrap();
        assert!(!slept || world.monitor_woken.load(Ordering::Relaxed));
    });
}
