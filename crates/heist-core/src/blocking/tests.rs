//! The counts of threads, those that come and go, and closures for which there is none.

#![forbid(unsafe_code)]

use crate::Handle;
use crate::context;
use crate::task::tests::support::{Count, bare, config, here, joined, run, runtime, within};
use parking_lot::Mutex;
use std::error::Error;
use std::panic::Location;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// One thread is idle, and two closures come, neither of which ends before the other has begun: the
/// first takes that thread, and the second must have one of its own.
#[test]
fn two_closures_do_not_count_on_one_idle_thread() {
    within("two closures", || {
        let ((), _) = run(1, async {
            let handle = Handle::try_current().expect("inside");
            handle.spawn_blocking(here(), || ()).await.expect("it runs");
            let counts = context::with(|cx| {
                let pool = &cx.expect("inside").shared.blocking;
                while pool.lock().idle == 0 {
                    thread::yield_now();
                }
                assert_eq!(pool.counts(), (1, 0));
                let gate = Arc::new(Mutex::new(()));
                let closed = gate.lock();
                for _ in 0..2 {
                    let gate = gate.clone();
                    drop(handle.spawn_blocking(here(), move || drop(gate.lock())));
                }
                // The thread that takes the first one calls for another before it runs it.
                let begin = Instant::now();
                while pool.counts() != (2, 0) && begin.elapsed() < Duration::from_secs(5) {
                    thread::yield_now();
                }
                let counts = pool.counts();
                drop(closed);
                counts
            });
            assert_eq!(counts, (2, 0), "threads, and closures that have none");
        });
    });
}

/// No thread can be had, and the pool has none: a closure that waited for one would wait for ever.
#[test]
#[cfg_attr(miri, ignore = "Miri has a thread of any size")]
fn a_closure_that_no_thread_can_be_had_for_says_so() {
    let mut config = config(1);
    config.thread_stack_size = Some(usize::MAX / 4);
    let (shared, reports) = bare(config);
    for _ in 0..2 {
        let handle = shared.blocking.spawn(&shared, None, here(), || ());
        assert_eq!(shared.blocking.counts(), (0, 0), "threads and closures");
        let error = joined(handle).expect_err("there is no thread");
        assert!(error.is_closed() && error.source().is_some(), "{error}");
    }
    let told: Vec<String> = reports.try_iter().collect();
    assert!(
        told.len() == 1 && told[0].starts_with("a blocking thread could not be started"),
        "one series of failures: {told:?}"
    );
}

/// Threads and closures that wait, of the pool of the runtime that this is inside of.
fn counts() -> (usize, usize) {
    context::with(|cx| cx.expect("inside").shared.blocking.counts())
}

/// Three closures come while there is no thread. Whoever comes first does not call for a fourth, however late
/// the others are.
#[test]
fn a_closure_gets_no_second_thread() {
    within("three closures", || {
        for _ in 0..50 {
            let (most, _) = run(1, async {
                let handle = Handle::try_current().expect("inside");
                for join in [(), (), ()].map(|()| handle.spawn_blocking(here(), || ())) {
                    join.await.expect("it runs");
                }
                counts().0
            });
            assert!(most <= 3, "{most} threads for three closures");
        }
    });
}

/// A thread without work has left the pool's count, and is still inside of the user's hook: the end of the
/// loop waits for it all the same.
#[test]
fn the_end_waits_for_the_hook_of_a_thread_that_has_left() {
    within("the hook", || {
        let mut config = config(1);
        config.blocking_keep_alive = Duration::ZERO;
        let (begun, begins) = mpsc::channel();
        let stopped = Count::default();
        let stops = stopped.clone();
        config.hooks.on_thread_stop = Some(Arc::new(move || {
            begun.send(()).expect("main listens");
            thread::sleep(Duration::from_millis(20));
            stops.add();
        }));
        let (outcome, report) = runtime(config).run_and_close(Location::caller(), async move {
            let handle = Handle::try_current().expect("inside");
            handle.spawn_blocking(here(), || ()).await.expect("it runs");
            begins.recv().expect("the thread ends");
            assert_eq!(counts(), (0, 0));
            begins
        });
        drop(outcome.expect("main is ready"));
        assert_eq!(stopped.get(), 1);
        assert!(report.is_clean(), "{report}");
    });
}
