//! `sim::explore`: what it runs, what it takes for a failure, and how a failure is replayed.
#![forbid(unsafe_code)]

use crate::support::{alone, panic_text, within};
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use heist::sim::{self, Cause, Explore, explore};
use heist::time::{Instant, sleep};
use heist::{RunError, Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// The order in which three tasks come to run.
async fn order() -> Vec<u32> {
    let (tell, told) = mpsc::unbounded();
    let tasks = [1, 2, 3].map(|n| {
        let tell = tell.clone();
        heist::spawn(async move {
            yield_now().await;
            tell.unbounded_send(n).unwrap();
        })
    });
    drop(tell);
    for task in tasks {
        task.await.unwrap();
    }
    told.collect().await
}

/// Each seed is run once, and another seed is another run: three tasks on two workers run in several
/// orders.
#[test]
fn many_seeds_bring_about_many_orders() {
    let runs = Cell::new(0);
    let orders = RefCell::new(BTreeSet::new());
    let explored = Explore::new().seeds(100).run(async || {
        runs.set(runs.get() + 1);
        let order = order().await;
        assert_eq!(order.len(), 3);
        orders.borrow_mut().insert(order);
    });
    assert_eq!((runs.get(), explored.seeds), (100, 100));
    assert!(orders.borrow().len() > 1, "{orders:?}");
}

/// The same seeds bring about the same orders.
#[test]
fn the_same_seeds_go_the_same_ways() {
    let orders = || {
        let orders = RefCell::new(Vec::new());
        let seeds = Explore::new().first_seed(1_000_000).seeds(30).workers(3);
        seeds.run(async || {
            let order = order().await;
            orders.borrow_mut().push((order, sim::random()));
        });
        orders.into_inner()
    };
    assert_eq!(orders(), orders());
}

/// A failure in one of many seeds is found; the text names the seed, and that seed alone fails again.
#[test]
fn a_failing_seed_is_named_and_fails_again() {
    let program = async || assert_eq!(order().await, [1, 2, 3], "they run in order");
    let failure = Explore::new().seeds(1000).try_run(program).unwrap_err();
    let text = failure.to_string();
    assert!(
        text.contains(&format!("seed {} fails", failure.seed())),
        "{text}"
    );
    assert!(
        text.contains(&format!("HEIST_SEED={}", failure.seed())),
        "{text}"
    );
    assert!(text.contains("they run in order"), "{text}");
    let Cause::Panicked(cause) = failure.cause() else {
        panic!("{failure:?}")
    };
    let one = Explore::new().first_seed(failure.seed()).seeds(1);
    let again = one.try_run(program).unwrap_err();
    let Cause::Panicked(same) = again.cause() else {
        panic!("{again:?}")
    };
    assert_eq!(same, cause);
    assert_eq!(again.trace(), failure.trace());
}

/// The whole way of a user: the test fails and names a seed, `HEIST_SEED` runs that one alone, and
/// another seed is fine.
#[test]
fn a_failing_seed_is_replayed_by_the_environment() {
    let seed_of = |output: &str| -> u64 {
        let (_, rest) = output.split_once("HEIST_SEED=").expect(output);
        let digits = rest.find(|one: char| !one.is_ascii_digit());
        rest[..digits.unwrap_or(rest.len())].parse().expect(output)
    };
    let line = |output: &str| {
        let found = output
            .lines()
            .find(|line| line.contains("the third is last"));
        found.expect(output).to_owned()
    };
    let first = alone(ALONE, &[], "fails_under_a_seed", &[]);
    assert!(!first.ok, "{}", first.output);
    let seed = seed_of(&first.output);
    assert!(seed > 0, "the scenario makes sure that 0 is fine");
    let again = alone(
        ALONE,
        &[],
        "fails_under_a_seed",
        &[("HEIST_SEED", &seed.to_string())],
    );
    assert!(!again.ok, "{}", again.output);
    assert_eq!(seed_of(&again.output), seed);
    assert_eq!(line(&again.output), line(&first.output));
    let fine = alone(ALONE, &[], "fails_under_a_seed", &[("HEIST_SEED", "0")]);
    assert!(fine.ok, "{}", fine.output);
    let none = alone(ALONE, &[], "fails_under_a_seed", &[("HEIST_SEED", "seven")]);
    assert!(
        none.output.contains("HEIST_SEED is no whole number"),
        "{}",
        none.output
    );
}

/// A program that can never go on, that answers an error, or that leaves tasks behind fails.
#[test]
fn each_kind_of_failure_is_told() {
    let deadlock = Explore::new().seeds(3).try_run(async || {
        let (_tell, told) = oneshot::channel::<()>();
        told.await.unwrap();
    });
    let failure = deadlock.unwrap_err();
    assert!(
        matches!(failure.cause(), Cause::NotEnded(RunError::Deadlock(_))),
        "{failure}"
    );

    let error = Explore::new()
        .try_run(async || Err::<(), _>("no luck"))
        .unwrap_err();
    assert!(
        matches!(error.cause(), Cause::Failed(text) if text == "\"no luck\""),
        "{error}"
    );

    let left = Explore::new().try_run(async || drop(heist::spawn(pending::<()>())));
    let left = left.unwrap_err();
    assert!(
        matches!(left.cause(), Cause::Left { tasks: 1, report } if report.cancelled == 1),
        "{left}"
    );
    assert!(left.to_string().contains("left 1 tasks behind"), "{left}");
}

/// The text of an error is made by the program's own code. A panic of that is a failure of the seed, and not one
/// of the exploration.
#[test]
fn an_error_that_panics_is_a_failure() {
    struct Unspeakable;
    impl std::fmt::Debug for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words");
        }
    }
    let ended = Explore::new().try_run(async || Err::<(), _>(Unspeakable));
    let failure = ended.unwrap_err();
    assert!(
        matches!(failure.cause(), Cause::Panicked(text) if text == "no words"),
        "{failure}"
    );
}

/// What depends on more than the seed cannot be replayed, and is found out.
#[test]
fn a_program_that_depends_on_more_than_the_seed_is_found_out() {
    static RUNS: AtomicU64 = AtomicU64::new(1);
    let program = async || {
        let runs = RUNS.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(runs)).await;
    };
    let twice = || Explore::new().seeds(10).run_twice_one_in(4);
    let failure = twice().try_run(program).unwrap_err();
    assert!(matches!(failure.cause(), Cause::NotReplayed), "{failure}");
    let runs = Cell::new(0);
    let explored = twice().run(async || runs.set(runs.get() + 1));
    assert_eq!((explored.seeds, runs.get()), (10, 13), "0, 4 and 8 twice");
}

/// An hour of sleeping takes no time, and a limit of real time ends the exploration.
#[test]
fn time_is_virtual_and_the_limit_is_not() {
    let begin = std::time::Instant::now();
    let explored = Explore::new()
        .seeds(u64::MAX)
        .time_limit(Duration::from_millis(50))
        .run(async || {
            let begin = Instant::now();
            sleep(Duration::from_secs(3600)).await;
            assert!(begin.elapsed() >= Duration::from_secs(3600));
        });
    assert!(explored.seeds >= 1);
    assert!(begin.elapsed() < Duration::from_secs(3600));
    let none = Explore::new().time_limit(Duration::ZERO).run(async || ());
    assert_eq!(none.seeds, 0);
}

/// An exploration that tries nothing would never fail.
#[test]
fn no_seed_is_refused() {
    let text = panic_text(|| explore(0, async || ()));
    assert!(text.contains("no seed"), "{text}");
}

/// In a running runtime there is no room for a simulation, and the message says what to do.
#[test]
fn inside_of_a_runtime_it_is_refused() {
    let text = within(|| panic_text(|| heist::run(async { explore(1, async || ()) })));
    assert!(text.contains("sim::explore"), "{text}");
}

/// Options that cannot be are refused with the reason, and those that can are taken.
#[test]
fn the_runtime_has_the_options_it_is_given() {
    let text = panic_text(|| Explore::new().workers(0).run(async || ()));
    assert!(text.contains("at least one worker"), "{text}");
    let seeds = Explore::new().seeds(3).workers(1);
    let seeds = seeds.configure(|builder| builder.workers(3));
    seeds.run(async || {
        let workers = heist::Handle::current().metrics().workers().len();
        assert!(workers >= 3, "{workers}");
    });
}

/// The draws of a program are those of its seed; outside of a simulation they are the system's.
#[test]
fn random_is_of_the_seed_or_of_the_system() {
    let draws = |seed| {
        let runtime = Runtime::builder().deterministic(seed).build();
        runtime
            .unwrap()
            .run(async { [sim::random(), sim::random()] })
    };
    assert_eq!(draws(7), draws(7));
    assert_ne!(draws(7), draws(8));
    let [first, second] = draws(7);
    assert_ne!(first, second);
    assert_ne!(sim::random(), sim::random());
}

/// A poll that blocks its worker for a second of virtual time holds nobody up: the task that it has spawned is
/// run by another worker, and a timer that it has armed fires, within 10 ms; 8 ms more where the seed holds up that
/// worker as well.
#[test]
fn who_stalls_holds_nobody_up() {
    let begin = std::time::Instant::now();
    Explore::new()
        .seeds(100)
        .workers(3)
        .run_twice_one_in(20)
        .run(async || {
            let task = heist::spawn(async {
                let begin = Instant::now();
                let other = heist::spawn(async move {
                    let begun = begin.elapsed();
                    sleep(Duration::from_millis(100)).await;
                    (begun, begin.elapsed())
                });
                sim::stall(Duration::from_secs(1));
                let blocked = begin.elapsed();
                (blocked, other.await.unwrap())
            });
            let (blocked, (begun, slept)) = task.await.unwrap();
            assert!(blocked >= Duration::from_secs(1), "{blocked:?}");
            assert!(begun < Duration::from_millis(18), "{begun:?}");
            assert!(slept < begun + Duration::from_millis(118), "{slept:?}");
        });
    assert!(
        begin.elapsed() < Duration::from_secs(100),
        "virtual seconds"
    );
}

/// However long polls last, the end of time is no new beginning, and work is done there as well.
#[test]
fn who_stalls_for_ever_gets_to_the_end_of_time() {
    Explore::new().seeds(20).run(async || {
        let begin = Instant::now();
        for _ in 0..3 {
            sim::stall(Duration::MAX);
        }
        assert!(begin.elapsed() > Duration::from_secs(500 * 365 * 24 * 3600));
        let tasks = [1, 2, 3].map(|n| {
            heist::spawn(async move {
                yield_now().await;
                n
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
    });
}

// ---- the attribute ----

#[heist::test(seed = 7)]
async fn a_test_with_a_seed_is_simulated() {
    assert!(sim::seed().is_some());
    let begin = Instant::now();
    sleep(Duration::from_secs(3600)).await;
    assert!(begin.elapsed() < Duration::from_secs(3601));
}

#[heist::test(virtual_time)]
async fn a_test_with_virtual_time_waits_for_nothing() {
    assert_eq!(sim::seed(), Some(0));
    let begin = std::time::Instant::now();
    sleep(Duration::from_secs(24 * 3600)).await;
    assert!(begin.elapsed() < Duration::from_secs(3600));
}

#[heist::test(seeds = 20)]
async fn a_test_with_seeds_is_run_with_each() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    assert_eq!(sim::seed(), Some(RUNS.fetch_add(1, Ordering::Relaxed)));
}

#[heist::test(seed = 3)]
#[should_panic(expected = "left 1 tasks behind")]
async fn a_test_with_a_seed_that_leaves_a_task_fails() {
    drop(heist::spawn(pending::<()>()));
}

#[heist::test(seed = 3)]
#[should_panic(expected = "deadlock")]
async fn a_test_with_a_seed_that_can_never_go_on_fails() {
    pending::<()>().await;
}

#[heist::test(seeds = 500)]
#[should_panic(expected = "HEIST_SEED=")]
async fn a_test_with_seeds_names_the_one_that_fails() {
    assert_eq!(order().await, [1, 2, 3]);
}
