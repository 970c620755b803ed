//! Random programs in a simulation, one a seed: see `program.rs` for what they do and `ledger.rs` for what
//! must hold.
//!
//! `HEIST_TORTURE_SEEDS` says how many, `HEIST_SEED` which one alone, and `HEIST_TORTURE_FAULT` which fault
//! is planted in the program, which must then be found.
#![forbid(unsafe_code)]

mod ledger;
mod program;

use heist::{RunError, Runtime, ShutdownReport};
use heist_tests::dice::Dice;
use ledger::{Count, End, Ledger, OnPurpose};
use program::World;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Seeds, unless the environment says otherwise.
const SEEDS: u64 = 200;

/// One in so many seeds is run twice, to see whether it goes the same way.
const TWICE_ONE_IN: u64 = 50;

/// The most tasks of one program.
const ROOM: usize = 120;

/// Whoever goes on later than this after it could was woken late, if no worker stalls: a turn takes a few
/// microseconds, so this is some hundred turns.
const LATE: Duration = Duration::from_millis(1);

/// The same where workers stall, for up to 8 ms each: two of them, one after the other.
const LATE_IN_STALLS: Duration = Duration::from_millis(20);

/// A seed takes some milliseconds of real time. One that takes this long hangs.
const HANGS: Duration = Duration::from_secs(20);

/// What can be planted, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Somebody is not woken.
    ForgetsToWake,
    /// Somebody is woken too late.
    WakesLate,
    /// An output is not dropped.
    Leaks,
    /// An end counts twice.
    CountsTwice,
    /// A program depends on more than its seed.
    DependsOnMore,
}

const FAULTS: [Fault; 5] = [
    Fault::ForgetsToWake,
    Fault::WakesLate,
    Fault::Leaks,
    Fault::CountsTwice,
    Fault::DependsOnMore,
];

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<u64> {
    let number = |text: String| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    };
    variable(name).map(number)
}

fn planted() -> Option<Fault> {
    let name = variable("HEIST_TORTURE_FAULT")?;
    let fault = FAULTS
        .into_iter()
        .find(|fault| format!("{fault:?}") == name);
    Some(fault.unwrap_or_else(|| panic!("there is no fault {name:?}; there are {FAULTS:?}")))
}

/// Every program comes to its end with its books in order, and the same seed makes the same run.
pub(crate) fn random_programs() {
    quiet_panics_on_purpose();
    let fault = planted();
    if let Some(seed) = number("HEIST_SEED") {
        look_at(seed, true, fault);
        return;
    }
    let seeds = number("HEIST_TORTURE_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let tasks = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let begun: Vec<_> = (0..threads).map(|_| Mutex::new(None)).collect();
    let work = |begun: &Mutex<Option<(u64, Instant)>>| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            *begun.lock().unwrap() = Some((seed, Instant::now()));
            let twice = seed % TWICE_ONE_IN == 0;
            let looked = catch_unwind(AssertUnwindSafe(|| look_at(seed, twice, fault)));
            *begun.lock().unwrap() = None;
            let spawned = looked.unwrap_or_else(|payload| {
                // The others need not go on.
                next.store(seeds, Ordering::Relaxed);
                resume_unwind(payload)
            });
            tasks.fetch_add(spawned, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = begun
            .iter()
            .map(|begun| scope.spawn(|| work(begun)))
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            thread::sleep(Duration::from_millis(10));
            begun.iter().for_each(give_up_what_hangs);
        }
    });
    let tasks = tasks.into_inner();
    println!("{seeds} seeds, {tasks} tasks");
    // A torture that spawns next to nothing tests next to nothing.
    assert!(tasks as u64 > 10 * seeds, "{tasks} tasks in {seeds} seeds");
}

/// A run that has no end cannot be ended, so the process is.
fn give_up_what_hangs(begun: &Mutex<Option<(u64, Instant)>>) {
    if let Some((seed, at)) = *begun.lock().unwrap() {
        if at.elapsed() > HANGS {
            eprintln!("seed {seed} hangs, again with HEIST_SEED={seed}");
            std::process::exit(1);
        }
    }
}

/// Runs one seed, or that seed twice; panics if anything is wrong.
#[track_caller]
fn look_at(seed: u64, twice: bool, fault: Option<Fault>) -> usize {
    let first = run(seed, fault);
    let (mut wrong, mut trace) = (first.wrong, first.trace);
    if twice && wrong.is_empty() {
        let again = run(seed, fault);
        wrong = again.wrong;
        if again.trace != trace {
            wrong.push("a second run went another way".to_owned());
            trace = again.trace;
        }
    }
    assert!(
        wrong.is_empty(),
        "seed {seed}, again with HEIST_SEED={seed}:\n{}\n{trace}",
        wrong.join("\n")
    );
    first.count.spawned
}

/// What became of one run.
struct Ran {
    wrong: Vec<String>,
    count: Count,
    trace: heist::sim::Trace,
}

fn run(seed: u64, fault: Option<Fault>) -> Ran {
    let mut dice = Dice::seeded(seed);
    let ledger = Arc::new(Ledger::new(fault));
    let world = Arc::new(World::new(
        Arc::clone(&ledger),
        1 + dice.below(ROOM),
        dice.one_in(3),
    ));
    let mut runtime = runtime(seed, &mut dice);
    let mut wrong = Vec::new();
    UNEXPECTED.take();
    for _ in 0..=usize::from(dice.one_in(4)) {
        let main = program::main(Arc::clone(&world), dice.fork());
        match catch_unwind(AssertUnwindSafe(|| runtime.try_run(main))) {
            Ok(Ok(()) | Err(RunError::Cancelled)) => {}
            Ok(Err(error)) => wrong.push(format!("main did not end: {error}")),
            Err(payload) if payload.is::<OnPurpose>() => {}
            Err(_) => wrong.push("main panicked".to_owned()),
        }
    }
    let before = ledger.count();
    let report = runtime.close();
    let after = ledger.count();
    wrong.extend(disagreement(&report, &ledger, before, after));
    let trace = runtime.trace();
    drop(runtime);
    world.look_at_what_was_kept();
    wrong.extend(UNEXPECTED.take());
    let count = ledger.count();
    wrong.extend(ledger.audit());
    if Arc::strong_count(&world) != 1 {
        wrong.push("something that a task had is still there".to_owned());
    }
    Ran {
        wrong,
        count,
        trace,
    }
}

fn runtime(seed: u64, dice: &mut Dice) -> Runtime {
    Runtime::builder()
        .workers(1 + dice.below(4))
        .spare_workers(dice.below(2))
        .blocking_threads(1 + dice.below(2))
        .cancel_grace(dice.length(Duration::from_millis(40)))
        .on_error(|_| {})
        .deterministic(seed)
        .build()
        .expect("all numbers are in their ranges")
}

/// Where the report of the shutdown and the books do not agree.
fn disagreement(
    report: &ShutdownReport,
    ledger: &Ledger,
    before: Count,
    after: Count,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, reported: usize, booked: usize| {
        if reported != booked {
            wrong.push(format!(
                "the report says {reported} {what}, the books {booked}"
            ));
        }
    };
    same(
        "cancelled",
        report.cancelled,
        after.cancelled - before.cancelled,
    );
    same(
        "closures not begun",
        report.blocking_cancelled,
        after.closures_cancelled - before.closures_cancelled,
    );
    same(
        "abandoned",
        report.abandoned.len() + report.blocking_abandoned.len(),
        0,
    );
    same("threads left", report.threads_left, 0);
    let mut labels = |what: &str, label: &heist::task::Label, ends: &[End]| {
        let end = ledger.end_of(label.id);
        if !end.is_some_and(|end| ends.contains(&end)) {
            wrong.push(format!(
                "{label} {what}, says the report; the books say {end:?}"
            ));
        }
    };
    for label in &report.finished_cleanup {
        // The last is for those that let the cancellation go on, or were asked to end once more.
        let ends = [End::Completed, End::Panicked, End::Cancelled];
        labels("finished its cleanup", label, &ends);
    }
    for task in &report.dropped_after_grace {
        labels("was dropped in its cleanup", task, &[End::Cancelled]);
    }
    wrong
}

thread_local! {
    /// The first panic of this thread that nobody has meant.
    static UNEXPECTED: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics of the program go to nobody; others are remembered, since the runtime contains them.
fn quiet_panics_on_purpose() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<OnPurpose>() {
            UNEXPECTED.set(Some(info.to_string()));
            loud(info);
        }
    }));
}
