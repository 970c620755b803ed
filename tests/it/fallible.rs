//! Promise 7, the part about errors: an `Err` of a task of `spawn_fallible` that nobody will ever see is
//! reported once, and one that somebody sees is not.
#![forbid(unsafe_code)]

use crate::support::{Drops, Gate, Reports, within};
use heist::{Runtime, yield_now};
use std::fmt;
use std::future::pending;
use std::panic::panic_any;
use std::thread;

/// An error whose drops are counted.
struct Failure(
    &'static str,
    #[expect(dead_code, reason = "counts")] crate::support::DropGuard,
);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

/// A runtime that reports here.
fn runtime(reports: &Reports) -> Runtime {
    reports
        .of(Runtime::builder().workers(crate::support::workers()))
        .build()
        .unwrap()
}

/// The lines about errors that nobody saw.
fn failures(reports: &Reports) -> Vec<String> {
    let mut all = reports.all();
    all.retain(|line| line.starts_with("Failed"));
    all
}

/// The handle is dropped before the task has begun, while it waits, and when it has ended. Each time
/// there is one report, and one drop of the error.
#[test]
fn l10_an_error_that_nobody_sees_is_reported_once() {
    within(|| {
        let (reports, drops) = (Reports::default(), Drops::default());
        let mut runtime = runtime(&reports);
        runtime.run(async {
            let fails = |text| {
                let guard = drops.guard();
                async move {
                    yield_now().await;
                    Err::<u8, _>(Failure(text, guard))
                }
            };
            drop(heist::spawn_fallible(fails("before")));

            let waiting = heist::spawn_fallible(fails("while it waits"));
            let ended = heist::task::Builder::new()
                .name("named")
                .spawn_fallible(fails("after"));
            yield_now().await;
            drop(waiting);
            while !ended.is_finished() {
                yield_now().await;
            }
            assert_eq!(
                failures(&reports)
                    .iter()
                    .filter(|l| l.contains("<after>"))
                    .count(),
                0
            );
            drop(ended);
            while drops.count() < 3 {
                yield_now().await;
            }
        });
        drop(runtime);
        let lines = failures(&reports);
        assert_eq!(lines.len(), 3, "{lines:?}");
        for text in ["<before>", "<while it waits>", "<after>"] {
            let line = lines.iter().filter(|line| line.contains(text)).count();
            assert_eq!(line, 1, "{text}: {lines:?}");
        }
        let named = lines.iter().find(|line| line.contains("<after>")).unwrap();
        assert!(
            named.contains("'named'") && named.contains("fallible.rs"),
            "{named}"
        );
        assert_eq!(
            reports.all().len(),
            3,
            "and nothing else: {:?}",
            reports.all()
        );
        assert_eq!(drops.count(), 3);
    });
}

/// Awaited, cancelled, closed, or no error at all: nothing is reported.
#[test]
fn what_somebody_sees_or_what_is_no_error_is_not_reported() {
    within(|| {
        let (reports, drops) = (Reports::default(), Drops::default());
        let mut runtime = runtime(&reports);
        let handle = runtime.handle();
        runtime.run(async {
            let guard = drops.guard();
            let task = heist::spawn_fallible(async { Err::<(), _>(Failure("seen", guard)) });
            assert_eq!(task.await.unwrap().unwrap_err().0, "seen");

            drop(heist::spawn_fallible(async { Ok::<_, Failure>(7) }));
            assert_eq!(
                heist::spawn_fallible(async { Ok::<_, Failure>(7) })
                    .await
                    .unwrap()
                    .unwrap(),
                7
            );

            let task = heist::spawn_fallible(pending::<Result<(), Failure>>());
            assert!(task.cancel().await.unwrap_err().is_cancelled());
            drop(heist::spawn_fallible(pending::<Result<(), Failure>>()));

            // An ordinary task says nothing of its output.
            let guard = drops.guard();
            drop(heist::spawn(async {
                Err::<(), _>(Failure("ordinary", guard))
            }));
            while drops.count() < 2 {
                yield_now().await;
            }
        });
        runtime.close();
        let late = handle.spawn_fallible(async { Err::<(), _>("late") });
        assert!(crate::support::run(late).unwrap_err().is_closed());
        drop(handle.spawn_fallible(async { Err::<(), _>("late") }));
        assert_eq!(reports.all(), [""; 0]);
    });
}

/// A panic of such a task is one panic, as always.
#[test]
fn a_panic_of_a_fallible_task_is_reported_as_a_panic() {
    within(|| {
        let reports = Reports::default();
        let mut runtime = runtime(&reports);
        let task = async {
            if true {
                panic_any("on purpose");
            }
            Err::<(), _>("not this")
        };
        drop(runtime.handle().spawn_fallible(task));
        runtime.run(async {
            while reports.count("Panicked") == 0 {
                yield_now().await;
            }
        });
        drop(runtime);
        assert_eq!((reports.count("Panicked"), reports.all().len()), (1, 1));
    });
}

/// `Debug` and the destructor of an error are the user's: they may panic, and call back. Neither kills
/// a worker, and there is still one report.
#[test]
fn an_error_that_panics_when_it_is_shown_or_dropped_is_reported_once() {
    struct Hostile {
        debug: bool,
        drop: bool,
    }
    impl fmt::Debug for Hostile {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // Under no lock of ours: this spawns.
            drop(heist::spawn(async {}));
            if self.debug {
                panic_any("in Debug");
            }
            f.write_str("hostile")
        }
    }
    impl Drop for Hostile {
        fn drop(&mut self) {
            if self.drop {
                panic_any("in the destructor");
            }
        }
    }
    within(|| {
        let reports = Reports::default();
        let mut runtime = runtime(&reports);
        runtime.run(async {
            for (debug, drop_) in [(true, false), (false, true), (true, true)] {
                let fails = || async move { Err::<(), _>(Hostile { debug, drop: drop_ }) };
                // By the worker that completes it, and by the handle.
                drop(heist::spawn_fallible(fails()));
                let ended = heist::spawn_fallible(fails());
                while !ended.is_finished() {
                    yield_now().await;
                }
                drop(ended);
            }
            while failures(&reports).len() < 6 {
                yield_now().await;
            }
            assert_eq!(heist::spawn(async { 4 }).await.unwrap(), 4);
        });
        drop(runtime);
        let lines = failures(&reports);
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert_eq!(count("`Debug` panicked"), 4, "{lines:?}");
        assert_eq!(count("its destructor panicked"), 4, "{lines:?}");
        assert_eq!(reports.all().len(), 6);
    });
}

/// The loop ends around a task whose destructor-side error nobody takes: the report of the shutdown
/// names it.
#[test]
fn the_report_of_the_shutdown_names_tasks_that_failed_during_it() {
    within(|| {
        let (reports, begun, go) = (Reports::default(), Gate::new(), Gate::new());
        let mut runtime = runtime(&reports);
        drop(runtime.handle().spawn_fallible({
            let (begun, go) = (begun.clone(), go.clone());
            async move {
                begun.open();
                go.wait();
                Err::<(), _>("at the end")
            }
        }));
        begun.wait();
        let handle = runtime.handle();
        // Inside its poll while the end begins.
        let opener = thread::spawn(move || {
            while !handle.is_closed() {
                thread::yield_now();
            }
            go.open();
        });
        let report = runtime.close();
        opener.join().unwrap();
        assert_eq!(report.failed.len(), 1, "{report}");
        assert!(!report.is_clean());
        assert!(report.to_string().contains("failed unseen"), "{report}");
        assert_eq!(failures(&reports).len(), 1);
    });
}
