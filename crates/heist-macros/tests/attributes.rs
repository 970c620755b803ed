//! The attributes at work: each function below is what a user would write.
#![forbid(unsafe_code)]

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of workers as a user might keep it.
const WORKERS: usize = 3;

/// Stands for a crate that re-exports heist under another name.
mod reexport {
    pub(crate) use heist as executor;
}

#[heist::test]
async fn a_test_body_runs_and_may_await() {
    let double = async |n: u32| n * 2;
    assert_eq!(double(21).await, 42);
}

#[heist::test]
async fn a_test_runs_inside_a_runtime() {
    assert_eq!(
        heist::spawn(async { 6 * 7 }).await.expect("the task ended"),
        42
    );
}

#[heist::test]
async fn a_test_may_fail_with_a_question_mark() -> Result<(), Box<dyn std::error::Error>> {
    let number: u32 = "17".parse()?;
    if number != 17 {
        return Err("the number is another".into());
    }
    Ok(())
}

#[heist::test]
#[should_panic(expected = "on purpose")]
async fn a_panic_of_the_body_comes_out_with_its_message() {
    panic!("on purpose");
}

#[heist::test]
#[ignore = "shows that the attribute is kept: it would fail if it ran"]
async fn an_ignored_test_does_not_run() {
    panic!("it ran");
}

#[heist::test(workers = 1)]
async fn one_worker_is_enough() {
    assert_eq!(heist::spawn(async { 1 }).await.expect("the task ended"), 1);
}

#[heist::test(workers = WORKERS)]
async fn workers_may_be_a_constant() {
    assert_eq!(
        heist::spawn(async { WORKERS })
            .await
            .expect("the task ended"),
        3
    );
}

#[heist::test(crate = crate::reexport::executor)]
async fn heist_may_have_another_path() {
    assert_eq!(
        reexport::executor::spawn(async { 2 })
            .await
            .expect("the task ended"),
        2
    );
}

#[heist::test(seed = 7)]
async fn a_test_in_a_simulation_may_await() -> Result<(), heist::JoinError> {
    heist::spawn(async {}).await
}

#[heist::test(virtual_time, workers = WORKERS)]
async fn an_hour_takes_no_time() {
    heist::sleep(std::time::Duration::from_secs(3600)).await;
}

#[heist::test(seeds = 20)]
async fn a_test_with_many_seeds_may_answer_a_result() -> Result<(), heist::JoinError> {
    heist::spawn(async {}).await
}

#[heist::test(seeds = 20)]
#[should_panic(expected = "seed 0 fails, after 0 that did not: it answered an error: 7")]
async fn an_error_under_one_of_many_seeds_names_it() -> Result<(), u8> {
    Err(7)
}

#[heist::main]
async fn entry() -> u32 {
    heist::spawn(async { 7 }).await.expect("the task ended")
}

#[heist::main(workers = 2)]
async fn entry_with_workers() -> Result<u32, std::num::ParseIntError> {
    let number = "x7".parse::<u32>()?;
    Ok(number)
}

#[heist::main]
async fn entry_with_an_opaque_output() -> impl std::fmt::Debug {
    #![expect(
        unused_variables,
        reason = "an inner attribute of the body must stay legal"
    )]
    let unused = ();
    "opaque"
}

#[test]
fn main_gives_the_output_of_the_body() {
    assert_eq!(entry(), 7);
    assert!(entry_with_workers().is_err());
    assert_eq!(format!("{:?}", entry_with_an_opaque_output()), "\"opaque\"");
}

/// The line of a panic is the line in the body, not that of the attribute.
#[test]
fn a_panic_names_the_line_of_the_body() {
    #[heist::main]
    async fn entry() {
        std::panic::panic_any(place());
    }
    let payload = std::panic::catch_unwind(entry).expect_err("the body panics");
    let line = *payload.downcast::<u32>().expect("the payload is the line");
    let panics = include_str!("attributes.rs")
        .lines()
        .position(|text| text.contains("panic_any(place()"))
        .expect("the line above");
    assert_eq!(line as usize, panics + 1);
}

#[track_caller]
fn place() -> u32 {
    std::panic::Location::caller().line()
}

/// The body must run once. A plain call counts, so that a second expansion of it would be seen.
#[test]
fn the_body_runs_once() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[heist::main]
    async fn entry() {
        RUNS.fetch_add(1, Ordering::Relaxed);
    }
    entry();
    assert_eq!(RUNS.load(Ordering::Relaxed), 1);
}

/// `main` need not be `Send`: it stays on the thread that called it.
#[test]
fn the_body_of_main_need_not_be_send() {
    #[heist::main]
    async fn entry() -> usize {
        let shared = std::rc::Rc::new(5);
        std::future::ready(()).await;
        *shared
    }
    assert_eq!(entry(), 5);
}

#[test]
fn a_recursive_call_is_the_async_function() {
    #[heist::main]
    async fn entry() -> usize {
        fn is_future<F: Future>(_: impl FnOnce() -> F) -> usize {
            1
        }
        is_future(entry)
    }
    assert_eq!(entry(), 1);
}
