//! What a worker does between two steps, brought about by hand.

#![forbid(unsafe_code)]

use super::*;
use crate::config::SPREAD_LOOKS;
use crate::seam::Seam;
use crate::task::tests::support::config;
use parking_lot::Mutex;
use std::any::Any;
use std::panic::Location;
use std::sync::{OnceLock, Weak};

/// A driver with one waker to call whenever it is polled: it notes how many workers search meanwhile. It also notes
/// until when who parks, and who is unparked.
#[derive(Debug, Default)]
struct Driver {
    shared: OnceLock<Weak<Shared>>,
    searching: Mutex<Vec<u32>>,
    parked: Mutex<Vec<u64>>,
    unparked: Mutex<Vec<usize>>,
}

impl Seam for Driver {
    fn now(&self) -> u64 {
        0
    }
    fn seed(&self) -> u64 {
        7
    }
    fn attach(&self, _: usize) {}
    fn park(&self, _: usize, until: u64, awake: &mut dyn FnMut(bool)) {
        self.parked.lock().push(until);
        awake(false);
    }
    fn poll(&self, _: usize) -> usize {
        let shared = self.shared.get().and_then(Weak::upgrade);
        let counts = shared.expect("it is set").idle.counts();
        self.searching.lock().push(counts.searching);
        1
    }
    fn unpark(&self, slot: usize) {
        self.unparked.lock().push(slot);
    }
    fn is_used(&self, _: usize) -> bool {
        false
    }
    fn close(&self) {}
    fn release(&self) {}
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Gives `test` a worker in its loop, one of two that there may be.
fn with_worker(test: impl FnOnce(&Worker, &Context<'_>, &Driver)) {
    let driver = Arc::<Driver>::default();
    let shared = Shared::new(config(2), driver.clone(), Location::caller());
    let set = driver.shared.set(Arc::downgrade(&shared));
    assert!(set.is_ok());
    let worker = Worker::occupy(&shared, 0).expect("a vacant slot");
    worker.arrive();
    worker.enter_loop();
    let mut cx = Context::new(&shared, Role::Worker, shared.site);
    cx.worker = Some(&worker);
    context::enter(&cx, || test(&worker, &cx, &driver));
    worker.leave_loop();
    worker.vacate();
}

/// The monitor's note comes just after the last poll, and is found when the worker has searched in vain.
/// A waker that blocks must not keep others from being woken for new work, as a searcher would.
#[test]
fn no_waker_is_called_by_a_searcher() {
    with_worker(|worker, cx, driver| {
        assert_eq!(worker.step(cx), Step::WouldPark);
        assert_eq!(cx.shared.idle.counts().searching, 1);
        worker.slot().note(DRIVER_DUE);
        assert!(!worker.lie_down(cx), "it looks again");
        assert_eq!(*driver.searching.lock(), [0]);
    });
}

/// A thread could not be started. Who goes to sleep after a step wakes for that, as its next step tries again; who waits
/// for the end of others takes no step, and would not sleep at all from then on.
#[test]
fn a_worker_wakes_for_a_start_that_is_tried_again_if_it_will_try() {
    with_worker(|worker, cx, driver| {
        cx.shared.threads.try_later(cx.shared);
        let retry_at = cx.shared.threads.retry_at();
        assert_ne!(retry_at, NEVER);
        worker.rest(cx, NEVER);
        worker.rest(cx, retry_at - 1);
        worker.park(cx, NEVER);
        assert_eq!(*driver.parked.lock(), [retry_at, retry_at - 1, NEVER]);
    });
}

/// One sleeper is told of a start that has failed, finds a task, and may block in it: another one is told.
#[test]
fn who_finds_work_tells_another_of_a_start_that_has_failed() {
    with_worker(|worker, cx, driver| {
        for fails in [false, true] {
            cx.shared.idle.announce(1, false);
            assert_eq!(worker.step(cx), Step::WouldPark);
            if fails {
                cx.shared.threads.try_later(cx.shared);
            }
            worker.stop_searching();
            assert_eq!(*driver.unparked.lock(), vec![1; usize::from(fails)]);
            let (left, _) = cx.shared.idle.leave(1);
            assert_eq!(left == Left::Claimed, fails);
        }
        assert!(cx.shared.idle.end_search());
    });
}

/// Short polls are followed by a look every so often; when the monitor has been by, by one at once.
#[test]
fn the_monitor_brings_a_look_at_the_queue_forward() {
    with_worker(|worker, cx, _| {
        worker.spread.helpless();
        worker.spread.rest();
        let short = (0..SPREAD_LOOKS).find(|_| worker.spread.polled());
        assert_eq!(short, Some(SPREAD_LOOKS - 1));
        worker.spread.rest();
        heed(cx, DRIVER_DUE);
        assert!(worker.spread.polled());
    });
}
