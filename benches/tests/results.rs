//! Every shape, in small, on every runtime that plays it: a process each, as in a comparison, whose workload checks its
//! own results and whose answer has the right number of operations.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use heist_benches::one::{One, SKIPPED};
use heist_benches::peers::tokio::HAS_EAGER;
use heist_benches::rounds::{players, run};
use heist_benches::{Figures, RuntimeId, Shape};

const COMPARE: &str = env!("CARGO_BIN_EXE_compare");
const MEMORY: &str = env!("CARGO_BIN_EXE_memory");
/// Processes at once. Most of them wait for timetables.
const AT_ONCE: usize = 8;

/// What a process with one batch of the shape in small answers.
fn answer(one: &One) -> Result<String, String> {
    let program = if one.shape.counts_memory() {
        MEMORY
    } else {
        COMPARE
    };
    run(&[], Path::new(program), &one.to_args()).map(|(out, _)| out)
}

/// Plays all of `ones`, a few at a time; the complaints about them.
fn complaints(ones: &[One], check: impl Fn(&One) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let check_some = || {
        let mut found = Vec::new();
        // Ordering: Relaxed. A number that each thread gets once.
        while let Some(one) = ones.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(complaint) = check(one) {
                found.push(format!("{one}: {complaint}"));
            }
        }
        found
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(check_some)).collect();
        let found = threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread of the test panicked"));
        found.flatten().collect()
    })
}

fn small(runtime: RuntimeId, shape: Shape, workers: usize) -> One {
    One {
        batches: Some(1),
        small: true,
        ..One::new(runtime, shape, workers)
    }
}

#[test]
fn every_runtime_gets_every_shape_right() {
    let mut ones = Vec::new();
    for &shape in Shape::ALL {
        for workers in [1, 2] {
            let runtimes = players(shape, workers, RuntimeId::ALL);
            ones.extend(
                runtimes
                    .into_iter()
                    .map(|runtime| small(runtime, shape, workers)),
            );
        }
    }
    assert!(ones.len() > 400, "only {} processes", ones.len());
    let complaints = complaints(&ones, |one| {
        let answer = answer(one)?;
        if one.runtime == RuntimeId::Eager && !HAS_EAGER {
            let says_why = answer.starts_with(SKIPPED) && answer.contains("tokio_unstable");
            return says_why.then_some(()).ok_or(answer);
        }
        let figures: Figures = answer.trim().parse()?;
        let headline = figures.headline(one.shape.headline());
        // Nothing at all is a fine number of wake-ups, and little CPU time may be none on a coarse clock.
        if headline.is_nan() || headline < 0.0 || figures.wall <= 0.0 {
            return Err(format!("nothing was measured: {answer}"));
        }
        match one.shape.small().operations() {
            Some(wanted) if figures.ops != wanted as f64 => {
                Err(format!("{} operations, wanted {wanted}", figures.ops))
            }
            _ if figures.ops < 1.0 => Err("no operations".into()),
            _ => Ok(()),
        }
    });
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// A task that waits holds memory, less than a kilobyte, and no less as the allocator gives it than as it was asked.
#[test]
fn the_memory_of_a_task_is_counted() {
    let shape = Shape::named("idle_task_bytes").expect("it is in the list");
    let ones: Vec<_> = players(shape, 2, RuntimeId::ALL)
        .into_iter()
        .map(|runtime| small(runtime, shape, 2))
        .collect();
    let complaints = complaints(&ones, |one| {
        let answer = answer(one)?;
        let figures: Figures = answer.trim().parse()?;
        let is_right = (1.0..1000.0).contains(&figures.asked) && figures.given >= figures.asked;
        is_right.then_some(()).ok_or(answer)
    });
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    let without = One::new(RuntimeId::Tokio, shape, 2);
    let error = run(&[], Path::new(COMPARE), &without.to_args());
    assert!(
        error.is_err_and(|error| error.contains("allocator")),
        "a program that does not count says so"
    );
}

/// A server for more connections than there may be descriptors is left out, with the reason.
#[test]
fn too_many_connections_are_skipped() {
    let shape = Shape::named("echo_4096").expect("it is in the list");
    let one = One::new(RuntimeId::Tokio, shape, 1);
    let limited = ["sh", "-c", "ulimit -n 200 && exec \"$@\"", "sh"];
    let (answer, _) = run(&limited, Path::new(COMPARE), &one.to_args()).expect("it ends well");
    assert!(
        answer.starts_with(SKIPPED) && answer.contains("4096 connections"),
        "{answer}"
    );
}
