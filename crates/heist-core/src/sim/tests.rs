//! What no run through the public surface brings about for certain.

#![forbid(unsafe_code)]

use super::actor::Mood;
use super::*;
use crate::Config;
use crate::idle::Counts;
use std::any::Any;
use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::{OnceLock, Weak};

/// A time that is set, and nothing to wait for, but for a timer that may be due.
#[derive(Debug, Default)]
struct Fake {
    now: AtomicU64,
    is_due: AtomicBool,
    /// Where it looks who sleeps when it is polled, and what it has seen.
    shared: OnceLock<Weak<Shared>>,
    seen: Mutex<Vec<Counts>>,
}

impl Seam for Fake {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
    fn seed(&self) -> u64 {
        7
    }
    fn attach(&self, _: usize) {}
    fn park(&self, _: usize, _: u64, _: &mut dyn FnMut(bool)) {}
    fn poll(&self, _: usize) -> usize {
        if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
            self.seen.lock().push(shared.idle.counts());
        }
        0
    }
    fn unpark(&self, _: usize) {}
    fn is_used(&self, _: usize) -> bool {
        false
    }
    fn simulated(&self) -> Option<&dyn Simulated> {
        Some(self)
    }
    fn close(&self) {}
    fn release(&self) {}
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Simulated for Fake {
    fn origin(&self) -> u64 {
        7
    }
    fn next_deadline(&self, _: usize) -> u64 {
        match self.is_due.load(Ordering::Relaxed) {
            true => 0,
            false => NEVER,
        }
    }
    fn is_unparked(&self, _: usize) -> bool {
        false
    }
    fn take_unpark(&self, _: usize) -> bool {
        false
    }
    fn advance(&self, time: u64) {
        self.now.store(time, Ordering::Relaxed);
    }
}

/// A scheduler and the simulation that is to step it.
fn simulated() -> Arc<Shared> {
    Shared::new(
        Config::default(),
        Arc::<Fake>::default(),
        Location::caller(),
    )
}

fn worker(shared: &Arc<Shared>) -> Worker {
    let worker = Worker::occupy(shared, 0).expect("a vacant slot");
    worker.arrive();
    worker
}

/// Somebody outside has looked for the end before it came, and starts a worker after it: nobody would
/// take the worker's hold of the runtime back.
#[test]
fn nobody_takes_part_after_the_end() {
    let shared = simulated();
    let sim = shared.sim.as_ref().expect("a simulation");
    sim.run_down(&shared);
    assert!(!sim.activate(Part::worker(worker(&shared))));
    assert!(!sim.activate(Part::closures()));
    assert!(sim.cast.lock().actors.is_empty());
    assert_eq!(shared.threads.working(), 0);
    assert!(Worker::occupy(&shared, 0).is_some(), "the slot is vacant");
    assert_eq!(Arc::strong_count(&shared), 1);
}

/// However long others have looked in vain, time goes to the end of a stall first, and then whoever has
/// stalled has a turn.
#[test]
fn a_stall_is_waited_for() {
    let shared = simulated();
    let sim = shared.sim.as_ref().expect("a simulation");
    assert!(sim.is_barren(IDLE) && sim.end_of_stalls() == NEVER);
    let stalled = Part::Worker(Some(worker(&shared)), Mood::Stalled(100));
    assert!(sim.activate(stalled));
    assert!(sim.is_barren(IDLE) && sim.end_of_stalls() == 100);
    sim.jump(100);
    assert!(!sim.is_barren(u32::MAX));
    // The worker holds the scheduler, which holds the worker.
    sim.cast.lock().actors.clear();
}

/// As on a thread of its own, where `Worker::park` sees to it: who is claimed, and then calls wakers, neither
/// sleeps any more nor searches.
#[test]
fn a_worker_is_awake_before_it_calls_wakers() {
    let shared = simulated();
    let sim = shared.sim.as_ref().expect("a simulation");
    let seam: &Fake = shared.seam.as_any().downcast_ref().expect("the fake");
    let worker = worker(&shared);
    worker.enter_loop();
    let cx = Context::new(&shared, Role::Worker, shared.site);
    assert!(worker.lie_down(&cx));
    assert_eq!(shared.idle.claim(), Some(0));
    seam.shared.set(Arc::downgrade(&shared)).expect("once");
    seam.is_due.store(true, Ordering::Relaxed);
    let mut actor = Actor::new(0, Part::Worker(Some(worker), Mood::Asleep(NEVER)));
    assert!(matches!(actor.turn(sim, &shared), Next::Again));
    let nobody = Counts {
        searching: 0,
        sleeping: 0,
    };
    assert_eq!(*seam.seen.lock(), [nobody]);
}

/// Time has an end, where it stands still. Nobody waits for a moment beyond it, and nobody's clock reads
/// [`NEVER`].
#[test]
fn time_stands_still_at_its_end() {
    let shared = simulated();
    let sim = shared.sim.as_ref().expect("a simulation");
    sim.jump(NEVER - 3);
    for now in [NEVER - 2, NEVER - 1, NEVER - 1] {
        sim.pass_turn();
        assert_eq!(sim.seam.now(), now);
    }
    assert_eq!(sim.after(5), NEVER - 1);
    sim.jump(NEVER);
    assert_eq!(sim.seam.now(), NEVER - 1);
}

/// A turn for each of a few hundred takes more than what is barren for a few.
#[test]
fn many_actors_have_time_for_a_turn() {
    let shared = simulated();
    let sim = shared.sim.as_ref().expect("a simulation");
    for _ in 0..300 {
        assert!(sim.activate(Part::closures()));
    }
    assert!(!sim.is_barren(IDLE + 1) && sim.is_barren(10 * 300));
}
