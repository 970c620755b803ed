//! What the environment switches on, and what goes to standard error.
#![forbid(unsafe_code)]

use heist::{Builder, Runtime};
use heist_tests::support::{Reports, eventually};
use std::panic::panic_any;
use std::time::Duration;

/// Whether a poll of 20 ms and more is reported.
fn reports_stalls(builder: Builder) -> bool {
    let reports = Reports::default();
    let builder = reports
        .of(builder)
        .workers(2)
        .stall_threshold(Duration::from_millis(20));
    let runtime = builder.build().expect("a runtime");
    let (seen, handle) = (reports.clone(), runtime.handle());
    let stalled = handle.block_on(handle.spawn(async move {
        // Until it is reported, or for long enough to be sure that it never will be.
        let begin = std::time::Instant::now();
        while seen.count("Stalled") == 0 && begin.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }));
    stalled.expect("it ends");
    drop(runtime);
    reports.count("Stalled") > 0
}

/// One word for both directions, with patience where a report is wanted.
fn assert_reports(wanted: bool, builder: impl Fn() -> Builder) {
    if wanted {
        eventually("a stall is reported", || reports_stalls(builder()));
    } else {
        assert!(!reports_stalls(builder()), "a stall was reported");
    }
}

pub(crate) fn stalls_are_reported() {
    assert_reports(true, Runtime::builder);
}

pub(crate) fn stalls_are_not_reported() {
    assert_reports(false, Runtime::builder);
}

pub(crate) fn stalls_are_not_reported_when_debug_is_off() {
    assert_reports(false, || Runtime::builder().debug(false));
}

pub(crate) fn stalls_are_reported_when_debug_is_on() {
    assert_reports(true, || Runtime::builder().debug(true));
}

/// The error handler panics each time it is told something, with a payload that panics as well.
pub(crate) fn a_handler_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload");
        }
    }
    let builder = Runtime::builder().on_error(|_| panic_any(Bomb));
    let mut runtime = builder.build().expect("a runtime");
    runtime.run(async {
        for name in ["first", "second"] {
            let builder = heist::task::Builder::new().name(name);
            let task = builder.spawn(async { panic_any("unseen") });
            while !task.is_finished() {
                heist::yield_now().await;
            }
            drop(task);
        }
    });
}
