//! Models of a worker that is blocked, or seems to be: the monitor, another worker who looks for work, and the owner
//! who comes back.

#![forbid(unsafe_code)]

use super::{Monitor, rescue};
use crate::context::{Context, Current};
use crate::models::model;
use crate::models::world::{Beds, shared, work, worker};
use crate::shared::Shared;
use crate::slot::BLOCKED;
use crate::sync::Ordering;
use crate::worker::{Turn, Worker, watched};
use crate::{Spawn, Unseen};
use loom::thread::{self, JoinHandle};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;

impl Monitor {
    /// Nobody starts it.
    pub(crate) fn takes_itself_for_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }
}

/// The slot of whose owner the models are about, and the other worker.
const OWNER: usize = 0;
const OTHER: usize = 1;

struct World {
    shared: Arc<Shared>,
    beds: Arc<Beds>,
    /// How many tasks have run. Of the standard library: counting orders nothing.
    ran: Arc<Count>,
}

impl World {
    fn new() -> World {
        let (shared, beds) = shared(2, 0);
        World {
            shared,
            beds,
            ran: Arc::default(),
        }
    }

    /// Both, so that nobody starts a thread.
    fn workers(&self) -> (Worker, Worker) {
        (worker(&self.shared, OWNER), worker(&self.shared, OTHER))
    }

    /// Spawns a task: to the LIFO slot of the worker whose thread this is.
    fn spawn_task(&self, cx: &Context<'_>) {
        let ran = self.ran.clone();
        let task = async move {
            ran.fetch_add(1, Ordering::Relaxed);
        };
        let spawn = Spawn::at(Location::caller());
        let Ok(handle) = self.shared.spawn(Some(cx), spawn, task, Unseen::dropped()) else {
            panic!("the loop goes on");
        };
        drop(handle);
    }

    /// The monitor looks at the owner, who is in the same poll as at the last look, at this moment.
    fn monitor(&self) -> impl FnOnce() + use<> {
        let shared = self.shared.clone();
        let seen = shared.slots[OWNER].in_poll().expect("it is in a poll");
        move || rescue(&shared, OWNER, &shared.slots[OWNER], seen)
    }

    /// The other worker, from its next turn until it sleeps.
    fn other(&self, worker: Worker) -> JoinHandle<()> {
        let shared = self.shared.clone();
        thread::spawn(move || {
            work(&shared, &worker, |cx| until_asleep(&worker, cx));
        })
    }

    fn is_anybody_woken(&self) -> bool {
        [OWNER, OTHER]
            .iter()
            .any(|slot| self.beds.is_unparked(*slot))
    }

    fn ran(&self) -> usize {
        self.ran.load(Ordering::Relaxed)
    }
}

/// The loop of a worker until it is in the list of sleepers and would park.
fn until_asleep(worker: &Worker, cx: &Context<'_>) {
    loop {
        match worker.turn(cx) {
            Turn::Again => {}
            Turn::Park(_) if worker.lie_down(cx) => return,
            Turn::Park(_) => {}
            Turn::Over | Turn::Forked => panic!("the loop goes on"),
        }
    }
}

/// A poll ends just when the monitor has found it blocked. The note is taken back by one of the two, so
/// that a worker that sleeps does not count as blocked; and the task in its LIFO slot is run once.
///
/// Fails without the fence in `rescue`, without the one in `announce`; when `rescue` does not look a second time whether
/// the poll goes on; when the owner does not look for notes after it has announced its sleep; when the monitor moves
/// the task and wakes nobody for it.
#[test]
fn models_a_worker_that_comes_back_is_not_blocked() {
    // Counted: 2692.
    model(1300, || {
        let world = World::new();
        let (worker, _other) = world.workers();
        world.shared.idle.announce(OTHER as u32, false);
        work(&world.shared, &worker, |cx| {
            let monitor = watched(cx, Some(worker.slot()), 1, Current::Nothing, || {
                world.spawn_task(cx);
                thread::spawn(world.monitor())
            });
            until_asleep(&worker, cx);
            monitor.join().unwrap();
            assert_eq!(world.shared.blocked.load(Ordering::Relaxed), 0);
            assert!(
                !worker.slot().has_note(BLOCKED),
                "it sleeps, and is blocked"
            );
            if !world.shared.injector.is_empty() {
                assert!(world.is_anybody_woken(), "nobody comes");
                worker.get_up();
                until_asleep(&worker, cx);
            }
        });
        assert_eq!(world.ran(), 1);
    });
}

/// A worker is blocked for good, and has woken a task before, which is in its LIFO slot. The other one falls asleep,
/// while the monitor looks twice. The task is taken out of the slot, by either, and run, or somebody is woken for it.
///
/// Fails when `rescue` wakes nobody; when the last look of the one that falls asleep leaves the injector out.
/// (The lock in place of the injector orders what the fences of `claim` and `announce` are
/// for; `idle/models.rs` has those.)
#[test]
fn models_a_blocked_workers_next_task_is_taken_from_it() {
    // Counted: 38259.
    model(19000, || {
        let world = World::new();
        let (worker, other) = world.workers();
        work(&world.shared, &worker, |cx| {
            watched(cx, Some(worker.slot()), 1, Current::Nothing, || {
                let monitor = thread::spawn(world.monitor());
                let other = world.other(other);
                world.spawn_task(cx);
                monitor.join().unwrap();
                world.monitor()();
                other.join().unwrap();
                assert!(world.ran() == 1 || world.is_anybody_woken(), "nobody comes");
                assert!(!worker.slot().lifo.is_full(), "it is where nobody looks");
            });
            until_asleep(&worker, cx);
        });
        assert_eq!(world.ran(), 1);
    });
}
