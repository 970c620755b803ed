//! Models of threads that cannot be had.

#![forbid(unsafe_code)]

use crate::models::model;
use crate::models::world::{shared, work, worker};
use crate::seam::NEVER;
use crate::sync::thread::refuse;
use crate::worker::Step;
use loom::thread;

/// A thread cannot be had while a worker goes to sleep, who was searching or was not. It sleeps until the start is
/// tried again at most, or is woken. (There is no monitor.)
fn falls_asleep_while_a_start_fails(searches: bool) {
    let (shared, beds) = shared(2, 0);
    let worker = worker(&shared, 0);
    if searches {
        let step = work(&shared, &worker, |cx| worker.step(cx));
        assert_eq!(step, Step::WouldPark);
    }
    refuse(1);
    let sleeper = thread::spawn({
        let shared = shared.clone();
        move || {
            shared.seam.attach(0);
            work(&shared, &worker, |cx| worker.rest(cx, NEVER));
        }
    });
    let started = shared.threads.start_worker_at(&shared, 1);
    assert!(started.is_err());
    beds.end();
    sleeper.join().unwrap();
    assert!(!beds.were_overslept(), "nobody tries again");
}

/// Who was not searching: the thread that is not there was the last searcher.
///
/// Fails when `try_later` tells nobody, and when it sets the time after it has told.
#[test]
fn models_who_falls_asleep_hears_of_a_failed_start() {
    // Counted: 63.
    model(31, || falls_asleep_while_a_start_fails(false));
}

/// Who was searching, and may be the last searcher by then, or not.
///
/// Fails when nobody is told but by the last searcher.
#[test]
fn models_who_searched_hears_of_a_failed_start() {
    // Counted: 72.
    model(36, || falls_asleep_while_a_start_fails(true));
}

/// The same where the searcher finds work, which may block it, while another worker sleeps: that one is told.
///
/// Fails as the model before.
#[test]
fn models_who_sleeps_hears_of_a_failed_start() {
    // Counted: 38.
    model(19, || {
        let (shared, beds) = shared(3, 0);
        let (finder, _sleeper) = (worker(&shared, 0), worker(&shared, 2));
        shared.idle.announce(2, false);
        let step = work(&shared, &finder, |cx| finder.step(cx));
        assert_eq!(step, Step::WouldPark);
        refuse(1);
        let finds = thread::spawn(move || finder.stop_searching());
        let started = shared.threads.start_worker_at(&shared, 1);
        assert!(started.is_err());
        finds.join().unwrap();
        assert!(beds.is_unparked(2), "nobody tries again");
    });
}
