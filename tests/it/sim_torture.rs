//! Random programs in a simulation, and that what is wrong in one is found: see `alone/torture.rs`.
#![forbid(unsafe_code)]

use crate::support::alone;

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
