//! A model of a worker that seems to be blocked: the monitor, another one who looks for work, and the owner who
//! comes back, all three at once. `monitor_models.rs` has the same with the code of the monitor and the workers, which
//! is too large for more than two of them. It is played here, with the same calls.

#![forbid(unsafe_code)]

use super::{BLOCKED, DRIVER_DUE, Slot};
use crate::deque::{Injector, Steal};
use crate::idle::Idle;
use crate::models::model;
use crate::task::Runnable;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;

/// The slot of whose owner the models are about, and the other worker.
const OWNER: u32 = 0;
const OTHER: u32 = 1;

struct World {
    slot: Slot,
    idle: Idle,
    injector: Injector<Runnable>,
    /// As `Shared::blocked`.
    blocked: AtomicUsize,
    /// The sum of the numbers of tasks that were run.
    sum: AtomicUsize,
    claims: AtomicUsize,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            slot: Slot::new(),
            idle: Idle::new(),
            injector: Injector::new(),
            blocked: AtomicUsize::new(0),
            sum: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
        })
    }

    fn run(&self, task: Runnable) {
        self.sum.fetch_add(task.run(), Ordering::Relaxed);
    }

    fn notify(&self) {
        if self.idle.claim().is_some() {
            self.claims.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As `Shared::mark_blocked`.
    fn mark_blocked(&self) {
        self.blocked.fetch_add(1, Ordering::Relaxed);
        if !self.slot.note(BLOCKED) {
            self.no_longer_blocked();
        }
    }

    fn no_longer_blocked(&self) {
        let before = self.blocked.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "more came back than were blocked");
    }

    /// As `monitor::rescue`, of a worker that was in the turn before at the last look.
    fn rescue(&self) {
        let Some((turn, _)) = self.slot.in_poll() else {
            return;
        };
        self.mark_blocked();
        fence(Ordering::SeqCst);
        if self.slot.in_poll().is_none_or(|(now, _)| now != turn) {
            if self.slot.take_note(BLOCKED) {
                self.no_longer_blocked();
            }
            return;
        }
        if let Some(task) = self.slot.lifo.take() {
            self.injector.push(task);
            self.notify();
        }
    }

    /// As `worker::heed`.
    fn heed(&self, notes: u8) {
        if notes & BLOCKED != 0 {
            self.no_longer_blocked();
        }
    }

    /// As the owner's loop from the end of a poll to its park. What it finds in the injector it runs.
    fn end_poll_and_park(&self) {
        self.heed(self.slot.end_poll());
        loop {
            if let Some(task) = self.slot.lifo.take().or_else(|| self.steal()) {
                self.run(task);
                continue;
            }
            let notes = self.slot.take_notes();
            if notes != 0 {
                self.heed(notes);
                continue;
            }
            self.idle.announce(OWNER, false);
            if self.injector.is_empty() && !self.slot.has_note(BLOCKED | DRIVER_DUE) {
                return;
            }
            let _ = self.idle.leave(OWNER);
        }
    }

    fn steal(&self) -> Option<Runnable> {
        match self.injector.steal() {
            Steal::Success(task) => Some(task),
            _ => None,
        }
    }

    /// As another worker that looks for work: in the injector, then in the LIFO slot of the blocked
    /// one. Parks (returns) when there is none.
    fn search_and_park(&self) {
        loop {
            let from_slot = || {
                let open = self.slot.has_note(BLOCKED);
                open.then(|| self.slot.lifo.take()).flatten()
            };
            if let Some(task) = self.steal().or_else(from_slot) {
                self.run(task);
                continue;
            }
            self.idle.announce(OTHER, false);
            let sees_work = !self.injector.is_empty()
                || (self.slot.has_note(BLOCKED) && self.slot.lifo.is_full());
            if !sees_work {
                return;
            }
            let _ = self.idle.leave(OTHER);
        }
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The owner comes back and takes its next task itself, while another worker that looks for work takes
/// it for blocked, and the monitor moves the task: one of the three gets it.
///
/// Fails when `Place::take` is a load and a store; when a note is taken, or taken back, by a load and a
/// store; when `mark_blocked` counts after the note; when `rescue` wakes nobody.
#[test]
fn models_three_want_the_next_task() {
    // Counted: 11929.
    model(5900, || {
        let world = World::new();
        world.slot.begin_poll(1);
        assert!(world.slot.lifo.put(Runnable::new(1)).is_none());
        world.mark_blocked();
        let other = spawn(&world, World::search_and_park);
        let monitor = spawn(&world, World::rescue);
        world.end_poll_and_park();
        other.join().unwrap();
        monitor.join().unwrap();
        if let Some(task) = world.steal() {
            assert!(world.claims.load(Ordering::Relaxed) > 0, "nobody comes");
            world.run(task);
        }
        assert_eq!(world.sum.load(Ordering::Relaxed), 1);
        assert_eq!(world.blocked.load(Ordering::Relaxed), 0);
    });
}
