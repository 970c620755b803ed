//! Promise 2: a runtime is never entered twice. A call of `run` inside a running runtime is refused
//! before the new future is polled, with a message that names the place of the outer call and says
//! what to write instead.
#![forbid(unsafe_code)]

use crate::support::{Gate, Name, Tally, panic_text, within};
use heist::{Handle, RunError, Runtime, yield_now};
use std::future::pending;
use std::sync::{Arc, Mutex};

/// Every way to enter a runtime from here. Each must be refused, with a message that names `line`
/// of this file, and drop its future without a poll.
#[track_caller]
fn assert_refused(place: &str, line: u32) {
    let tally = Tally::default();
    let future = || tally.wrap(async { 1 });
    let mut other = Runtime::new().expect("a runtime can be made anywhere");
    let handle = other.handle();
    let refused: Vec<(&str, Option<RunError>)> = vec![
        ("run", heist::try_run(future()).err()),
        ("Runtime::run", other.try_run(future()).err()),
        ("Handle::block_on", handle.try_block_on(future()).err()),
        (
            "Handle::block_on",
            Handle::current().try_block_on(future()).err(),
        ),
    ];
    for (call, error) in refused {
        let Some(RunError::Nested {
            call: named,
            entered_at,
            ..
        }) = &error
        else {
            panic!("{place}: `{call}` was not refused: {error:?}");
        };
        assert_eq!(*named, call, "{place}");
        assert_eq!(
            (entered_at.file(), entered_at.line()),
            (file!(), line),
            "{place}: {call}"
        );
        let text = error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(
            text.contains(&format!("nested.rs:{line}:")),
            "{place}: {text}"
        );
        assert!(text.contains("`.await`"), "{place}: {text}");
        assert!(text.contains(&format!("`{call}`")), "{place}: {text}");
    }
    let text = panic_text(|| heist::run(future()));
    assert!(
        text.contains("`.await`") && text.contains("nested.rs"),
        "{place}: {text}"
    );
    assert_eq!(
        (tally.polls(), tally.drops()),
        (0, 5),
        "{place}: polls and drops"
    );
}

/// The message is checked as a reader sees it: from the main future of `run`.
#[test]
fn r05_r24_inside_main() {
    within(|| {
        let line = line!() + 1;
        let output = heist::run(async {
            assert_refused("main", line);
            yield_now().await;
            // The outer one goes on as if nothing had happened.
            heist::spawn(async { 5 }).await.unwrap()
        });
        assert_eq!(output, 5);
    });
}

/// A Send task runs on a worker's own thread, or on that of `run`. Both are inside.
#[test]
fn r05_r24_inside_a_task_on_any_worker() {
    within(|| {
        let line = line!() + 1;
        heist::run(async {
            // Two tasks that wait for each other on two threads.
            let (here, there) = (Gate::new(), Gate::new());
            let (a, b) = (here.clone(), there.clone());
            let first = heist::spawn(async move {
                a.open();
                b.wait();
                assert_refused("one task", line);
            });
            let second = heist::spawn(async move {
                there.open();
                here.wait();
                assert_refused("another task", line);
            });
            first.await.unwrap();
            second.await.unwrap();
            heist::spawn_local(async move { assert_refused("a local task", line) })
                .await
                .unwrap();
        });
    });
}

/// The thread of `block_on` runs no tasks, but it is inside.
#[test]
fn r05_inside_block_on() {
    within(|| {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let line = line!() + 1;
        handle.block_on(async {
            assert_refused("block_on", line);
        });
        assert_eq!(handle.block_on(async { 3 }), 3);
    });
}

/// A destructor runs on a worker: of a future that is cancelled, and of one that completes.
#[test]
fn r05_inside_a_destructor_on_a_worker() {
    struct Enters(&'static str, u32, Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Enters {
        fn drop(&mut self) {
            assert_refused(self.0, self.1);
            self.2.lock().unwrap().push(self.0);
        }
    }
    within(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let line = line!() + 1;
        heist::run(async {
            let done = Enters("a completed task", line, seen.clone());
            heist::spawn(async move { drop(done) }).await.unwrap();
            let cancelled = Enters("a cancelled task", line, seen.clone());
            let task = heist::spawn(async move {
                let _cancelled = cancelled;
                pending::<()>().await;
            });
            assert!(task.cancel().await.unwrap_err().is_cancelled());
            let left = Enters("a task left to the end", line, seen.clone());
            drop(heist::spawn(async move {
                let _left = left;
                pending::<()>().await;
            }));
        });
        assert_eq!(
            *seen.lock().unwrap(),
            [
                "a completed task",
                "a cancelled task",
                "a task left to the end"
            ]
        );
    });
}

/// `block_in_place` blocks, but its thread is still inside a poll.
#[test]
fn inside_block_in_place() {
    within(|| {
        let line = line!() + 1;
        heist::run(async {
            heist::block_in_place(|| assert_refused("block_in_place in main", line));
            heist::spawn(async move {
                heist::block_in_place(|| assert_refused("block_in_place in a task", line));
            })
            .await
            .unwrap();
        });
    });
}

/// A hook runs inside the spawning call.
#[test]
fn inside_a_hook() {
    within(|| {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = errors.clone();
        let hook = move |_| seen.lock().unwrap().push(heist::try_run(async {}).err());
        let mut runtime = Runtime::builder().on_task_spawn(hook).build().unwrap();
        runtime.run(async { heist::spawn(async {}).await.unwrap() });
        let errors = errors.lock().unwrap();
        assert_eq!(errors.len(), 1);
        assert!(
            matches!(errors[0], Some(RunError::Nested { .. })),
            "{errors:?}"
        );
    });
}

/// The inner runtime is another one than the outer: that is as bad, since the outer one's worker
/// would be blocked. Both must be usable afterwards.
#[test]
fn r05_l20_across_two_runtimes() {
    within(|| {
        let mut outer = Runtime::new().unwrap();
        let mut inner = Runtime::new().unwrap();
        let line = line!() + 1;
        outer.run(async {
            match inner.try_run(async {}) {
                Err(RunError::Nested { entered_at, .. }) => assert_eq!(entered_at.line(), line),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(inner.run(async { 1 }), 1);
        assert_eq!(outer.run(async { 2 }), 2);
    });
}

/// A worker that was never inside a `run` names the place where its runtime was made.
#[test]
fn a_worker_without_a_run_names_the_place_the_runtime_was_made_at() {
    within(|| {
        let line = line!() + 1;
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let task = handle.spawn(async move { assert_refused("a task without run", line) });
        handle.block_on(task).unwrap();
    });
}

/// The thread of a blocking closure runs no tasks, so nobody is held up: `run` is allowed there, and
/// `block_on` of the same runtime as well. The closure is inside its own runtime again afterwards.
#[test]
fn a_blocking_closure_may_run_a_loop() {
    within(|| {
        let name = Name::new();
        let mut runtime = name.builder().workers(2).build().unwrap();
        runtime.run(async {
            let inner = heist::spawn_blocking(|| {
                let output = heist::run(async {
                    heist::spawn(async {
                        heist::sleep(std::time::Duration::from_millis(1)).await;
                        20
                    })
                    .await
                    .unwrap()
                });
                let outer = Handle::current();
                let same = outer.block_on(async { heist::spawn(async { 1 }).await.unwrap() });
                // Inside that inner loop the guard holds as everywhere.
                let nested = heist::run(async { heist::try_run(async {}).is_err() });
                assert!(nested);
                output + same + i32::from(!outer.is_closed())
            });
            assert_eq!(inner.await.unwrap(), 22);
        });
        assert!(runtime.close().is_clean());
        name.assert_gone();
    });
}

/// After a refusal, and after a run that panicked, the thread is outside again.
#[test]
fn the_guard_is_lifted_when_a_run_unwinds() {
    let text = panic_text(|| heist::run(async { panic!("main, on purpose") }));
    assert_eq!(text, "main, on purpose");
    let text = panic_text(|| heist::run(async { heist::run(async {}) }));
    assert!(text.contains("`.await`"), "{text}");
    assert_eq!(heist::run(async { 1 }), 1);
}
