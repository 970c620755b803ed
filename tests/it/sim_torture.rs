//! Random programs in a simulation, and that what is wrong in one is found: see `alone/torture.rs`.
#![forbid(unsafe_code)]

use crate::support::alone;
use heist::sim::Explore;
use heist::time::{Duration, sleep};
use heist::{Runtime, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// Every task ends exactly once, nothing leaks, nobody is forgotten, and the same seed makes the same run.
#[test]
fn random_programs_end_with_their_books_in_order() {
    let ended = alone(ALONE, &[], "random_programs", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// A fault that is planted in each of the programs is found in one of them, with this complaint and the seed.
#[track_caller]
fn is_found(fault: &str, complaint: &str) {
    let ended = alone(
        ALONE,
        &[],
        "random_programs",
        &[("HEIST_TORTURE_FAULT", fault)],
    );
    assert!(!ended.ok, "{fault} was not found");
    let named = ended.output.contains("again with HEIST_SEED=");
    let found = ended.output.contains(complaint);
    assert!(named && found, "{fault}: {}", ended.output);
}

#[test]
fn a_forgotten_wake_is_found() {
    is_found("ForgetsToWake", "main did not end: heist: deadlock");
}

#[test]
fn a_late_wake_is_found() {
    is_found("WakesLate", "who waits for a bell went on");
}

#[test]
fn a_leaked_output_is_found() {
    is_found("Leaks", "outputs: 1, output_drops: 0");
}

#[test]
fn an_end_that_counts_twice_is_found() {
    is_found("CountsTwice", "ends: [Completed, Completed]");
}

#[test]
fn a_program_that_depends_on_more_than_its_seed_is_found() {
    is_found("DependsOnMore", "a second run went another way");
}

// ---- what they have found ----

/// Closures that the end of the loop finds queued are dropped by whoever comes first, a thread of the pool or
/// the end itself. In either case the report counts them as closures and not as tasks.
#[test]
fn closures_that_never_began_are_no_cancelled_tasks() {
    for seed in 0..100 {
        let builder = Runtime::builder().deterministic(seed);
        let mut runtime = builder.blocking_threads(1).build().unwrap();
        let called = Arc::new(AtomicUsize::new(0));
        runtime.run(async {
            for _ in 0..3 {
                let called = called.clone();
                drop(heist::spawn_blocking(move || {
                    called.fetch_add(1, Ordering::Relaxed);
                }));
            }
        });
        let report = runtime.close();
        let closures = called.load(Ordering::Relaxed) + report.blocking_cancelled;
        assert_eq!((report.cancelled, closures), (0, 3), "seed {seed}");
    }
}

/// A main future that is woken in each of its polls lets the tasks of its only worker have their turns, and
/// its timers.
#[test]
fn a_busy_main_does_not_starve_its_worker() {
    let explore = Explore::new().seeds(20).workers(1);
    let explore = explore.configure(|builder| builder.spare_workers(0));
    explore.run(async || {
        let task = heist::spawn(sleep(Duration::from_millis(1)));
        let mut polls = 0;
        while !task.is_finished() {
            polls += 1;
            assert!(polls < 100_000, "the task has no turn");
            yield_now().await;
        }
        task.await.unwrap();
    });
}
