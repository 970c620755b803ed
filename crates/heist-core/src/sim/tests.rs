//! What no run through the public surface brings about for certain.

#![forbid(unsafe_code)]

use super::actor::Mood;
use super::*;
use crate::Config;
use crate::worker::Worker;
use std::any::Any;
use std::panic::Location;
use std::sync::atomic::AtomicU64;

/// A time that is set, and nothing to wait for.
#[derive(Debug, Default)]
struct Fake {
    now: AtomicU64,
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
        NEVER
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
