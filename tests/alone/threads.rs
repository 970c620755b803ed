//! What a runtime does when threads cannot be created. Whoever starts these scenarios sees to it
//! that some attempts fail; here nobody knows which.
#![forbid(unsafe_code)]

use heist::{JoinError, Runtime, yield_now};
use heist_tests::support::{Drops, Gate, Reports, Tally, eventually, thread_names};
use std::future::pending;
use std::time::{Duration, Instant};

fn two_workers(reports: &Reports) -> heist::Builder {
    reports.of(Runtime::builder()).workers(2)
}

fn assert_one_thread_left() {
    // A joined thread stays in the system's list for a moment.
    eventually("one thread is left", || thread_names().len() == 1);
}

/// Tasks, timers, sockets and closures inside a `run`: all of it is done, whatever threads there are.
pub(crate) fn all_work_is_done() {
    let reports = Reports::default();
    let (tally, drops) = (Tally::default(), Drops::default());
    let mut runtime = two_workers(&reports)
        .build()
        .expect("no thread is started by `build`");
    for _ in 0..3 {
        runtime.run(async {
            let tasks: Vec<_> = (0..200_u64)
                .map(|n| {
                    heist::spawn(tally.wrap(async move {
                        for _ in 0..n % 5 {
                            yield_now().await;
                        }
                        if n % 50 == 0 {
                            heist::sleep(Duration::from_millis(2)).await;
                        }
                        n
                    }))
                })
                .collect();
            for (n, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.expect("every task runs"), n as u64);
            }
            let guard = drops.guard();
            drop(heist::spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
        });
    }
    assert_eq!(tally.drops(), 600);
    tally.assert_sound();
    let report = runtime.close();
    assert_eq!(drops.count(), 3);
    assert_eq!(report.cancelled, 3, "{report}");
    // A series of failures is told once, and a second series may have begun after a success.
    let told = reports.count("ThreadNotStarted");
    assert!(told <= 3, "{:?}", reports.all());
    assert_eq!(reports.all().len(), told, "{:?}", reports.all());
    assert_one_thread_left();
}

/// All threads at once: one of them cannot be had, so `build` fails, with the system's error, and
/// none is left.
pub(crate) fn build_fails() {
    let reports = Reports::default();
    // The monitor and three workers: every K up to 4 hits one of them.
    let built = reports
        .of(Runtime::builder())
        .workers(4)
        .start_threads(true)
        .build();
    let error = built.expect_err("a thread cannot be had");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    assert_one_thread_left();
    // And by itself: it is an error for `try_run`'s caller, too, who may go on with less.
    assert_eq!(heist::run(async { 1 }), 1);
    assert_one_thread_left();
}

/// Nobody is in `run` and no thread can be had: there is nobody who could ever do the work.
pub(crate) fn no_thread_at_all() {
    let reports = Reports::default();
    let drops = Drops::default();
    let mut runtime = two_workers(&reports)
        .build()
        .expect("no thread is started by `build`");
    let handle = runtime.handle();
    for n in 1..=3 {
        let guard = drops.guard();
        let task = handle.spawn(async move { drop(guard) });
        assert_eq!(drops.count(), n, "dropped in the call");
        let error: JoinError = futures::executor::block_on(task).expect_err("nobody can run it");
        assert!(error.is_closed(), "{error}");
        let source = std::error::Error::source(&error).expect("it says why");
        assert!(source.is::<std::io::Error>(), "{source}");
        let refused = handle
            .try_spawn(async { 7 })
            .expect_err("nobody can run it");
        assert_eq!(futures::executor::block_on(refused.future), 7);
        assert!(matches!(
            handle.try_block_on(async {}),
            Err(heist::RunError::Start(_))
        ));
        let call = handle.spawn_blocking(|| ());
        assert!(
            futures::executor::block_on(call)
                .expect_err("nobody can run it")
                .is_closed()
        );
    }
    // With `run` there is one thread, and it does everything that does not block.
    let output = runtime.run(async {
        let error = heist::spawn_blocking(|| ())
            .await
            .expect_err("there is no thread to block");
        assert!(error.is_closed(), "{error}");
        let task = heist::spawn(async {
            heist::sleep(Duration::from_millis(3)).await;
            5
        });
        let local = heist::spawn_local(async { 6 });
        // In place, with nobody to hand over to.
        heist::block_in_place(|| ());
        task.await.expect("main's thread runs it") + local.await.expect("main's thread runs it")
    });
    assert_eq!(output, 11);
    let begin = Instant::now();
    let report = runtime.close();
    assert!(report.is_clean(), "{report}");
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(
        reports.count("ThreadNotStarted"),
        1,
        "one series: {:?}",
        reports.all()
    );
    assert_one_thread_left();
}

/// A closure that waits for one that it sends itself, which needs a second thread.
pub(crate) fn closures_in_closures() {
    let reports = Reports::default();
    let mut runtime = two_workers(&reports).build().expect("lazy");
    runtime.run(async {
        for _ in 0..3 {
            let handle = heist::Handle::current();
            let outer = heist::spawn_blocking(move || {
                let (send, receive) = std::sync::mpsc::channel();
                drop(handle.spawn_blocking(move || send.send(7)));
                receive.recv_timeout(Duration::from_secs(20))
            });
            match outer.await {
                Ok(answer) => assert_eq!(answer, Ok(7), "{:?}", reports.all()),
                // There was no thread at all.
                Err(error) => assert!(error.is_closed(), "{error}"),
            }
        }
    });
    let report = runtime.close();
    assert!(report.is_clean(), "{report}");
    assert_one_thread_left();
}

/// Every closure runs, or its handle says that it did not; no handle waits for ever, and what a
/// closure captured is gone.
pub(crate) fn closures() {
    let reports = Reports::default();
    let drops = Drops::default();
    let mut runtime = two_workers(&reports)
        .blocking_threads(4)
        .build()
        .expect("lazy");
    let (ran, refused) = runtime.run(async {
        let calls: Vec<_> = (0..50_u32)
            .map(|n| {
                let guard = drops.guard();
                heist::spawn_blocking(move || {
                    drop(guard);
                    n
                })
            })
            .collect();
        let (mut ran, mut refused) = (0, 0);
        for (n, call) in calls.into_iter().enumerate() {
            match call.await {
                Ok(output) => {
                    assert_eq!(output, n as u32);
                    ran += 1;
                }
                Err(error) => {
                    assert!(error.is_closed(), "{error}");
                    refused += 1;
                }
            }
        }
        (ran, refused)
    });
    println!("{ran} closures ran, {refused} were refused");
    assert_eq!(ran + refused, 50);
    assert_eq!(drops.count(), 50);
    let report = runtime.close();
    assert!(report.is_clean(), "{report}");
    // One for a series, which ends with each start that succeeds. The system may let each thread start one.
    let threads = 7; // Two workers, the monitor and four of the pool.
    assert!(
        reports.count("ThreadNotStarted") <= threads,
        "{:?}",
        reports.all()
    );
    assert_one_thread_left();
}

/// The first attempts fail, later ones would not. A task blocks the thread of `run` until another
/// has run, which needs a second thread: the runtime must try again without being told to.
pub(crate) fn tried_again() {
    let reports = Reports::default();
    let mut runtime = two_workers(&reports).build().expect("lazy");
    let handle = runtime.handle();
    // What is spawned from outside tries each time, whatever the pause.
    let begin = Instant::now();
    let mut attempts = 0;
    while handle.try_spawn(async {}).is_err() {
        attempts += 1;
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "no attempt succeeded"
        );
    }
    assert!(attempts >= 1, "the first attempts fail");
    runtime.run(async {
        let gate = Gate::new();
        let opener = gate.clone();
        drop(heist::spawn(async move { opener.open() }));
        gate.wait();
    });
    assert!(runtime.close().is_clean());
    assert_one_thread_left();
}
