//! Promise 9 at the end of the loop: tasks that catch their cancellation have time to clean up.
#![forbid(unsafe_code)]

use crate::support::{Drops, Gate, LIMIT, Name, Reports, Signal, eventually, within};
use heist::task::{cancelling, uncancel};
use heist::time::{Duration, Instant, sleep, timeout};
use heist::{Runtime, ShutdownReport, catch_cancel, yield_now};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

/// What becomes of tasks at the end of a loop with this grace: one that cleans up in `takes`, one that
/// never does, one that catches nothing.
fn close_with(
    runtime: &mut Runtime,
    takes: Duration,
    close: impl FnOnce(&mut Runtime) -> ShutdownReport,
) -> [usize; 3] {
    let drops = Drops::default();
    let began = Signal::new();
    runtime.run(async {
        let (in_time, late) = (began.clone(), began.clone());
        let named = |name: &str| heist::task::Builder::new().name(name);
        let guard = drops.guard();
        drop(named("in time").spawn(async move {
            let _guard = guard;
            let caught = catch_cancel(in_time.hold::<()>()).await.unwrap_err();
            assert!(caught.by().file().ends_with("cleanup.rs"));
            assert_eq!((cancelling(), uncancel()), (1, 1));
            sleep(takes).await;
            // Spawning is over, as for everybody.
            assert!(heist::spawn(async {}).await.unwrap_err().is_closed());
            assert_eq!(heist::spawn_blocking(|| 5).await.unwrap(), 5);
        }));
        let guard = drops.guard();
        drop(named("late").spawn(async move {
            let _guard = guard;
            loop {
                assert!(catch_cancel(late.clone().hold::<()>()).await.is_err());
                yield_now().await;
            }
        }));
        let guard = drops.guard();
        drop(named("plain").spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        }));
        began.wait().await;
        began.wait().await;
    });
    let report = close(runtime);
    assert_eq!(drops.count(), 3);
    assert!(!report.is_clean());
    let text = report.to_string();
    let dropped: Vec<_> = report
        .dropped_after_grace
        .iter()
        .map(|dropped| dropped.task.clone())
        .collect();
    for label in report.finished_cleanup.iter().chain(&dropped) {
        assert!(label.site.file().ends_with("cleanup.rs"));
        assert!(text.contains(&format!("{label}")), "{text}");
    }
    let count = |name: &str, labels: &[heist::task::Label]| {
        labels
            .iter()
            .filter(|label| label.name.as_deref() == Some(name))
            .count()
    };
    assert_eq!(
        count("plain", &report.finished_cleanup) + count("plain", &dropped),
        0
    );
    for late in &report.dropped_after_grace {
        assert!(text.contains(&late.to_string()), "{text}");
    }
    assert!(
        report.panicked.is_empty() && report.abandoned.is_empty(),
        "{report}"
    );
    [
        count("in time", &report.finished_cleanup),
        count("late", &dropped),
        report.cancelled,
    ]
}

/// Tasks in cleanup go on for the grace; others are dropped at once.
#[test]
fn the_end_of_the_loop_waits_for_cleanup() {
    for workers in [1, 2] {
        within(move || {
            let name = Name::new();
            let builder = name.builder().workers(workers);
            let mut runtime = builder.cancel_grace(100 * MS).build().unwrap();
            let begin = Instant::now();
            assert_eq!(
                close_with(&mut runtime, MS, |runtime| runtime.close()),
                [1, 1, 2]
            );
            assert!(begin.elapsed() >= 100 * MS);
            name.assert_gone();
        });
    }
}

/// Without a grace nothing is waited for, and everybody is dropped.
#[test]
fn a_grace_of_zero_drops_everybody() {
    within(|| {
        let mut runtime = Runtime::builder()
            .cancel_grace(Duration::ZERO)
            .build()
            .unwrap();
        let [finished, dropped, cancelled] =
            close_with(&mut runtime, HOUR, |runtime| runtime.close());
        assert_eq!((finished, dropped, cancelled), (0, 1, 3));
    });
}

/// `close_within` bounds the whole end, whatever the graces are.
#[test]
fn r31_close_within_bounds_the_end() {
    within(|| {
        let mut runtime = Runtime::builder().cancel_grace(HOUR).build().unwrap();
        let close = |runtime: &mut Runtime| runtime.close_within(100 * MS);
        assert_eq!(close_with(&mut runtime, MS, close), [1, 1, 2]);
        assert!(runtime.close_within(HOUR).took < LIMIT / 2);
    });
    // A closure and a poll that do not come back.
    within(|| {
        let go = Gate::new();
        let _open = crate::support::OpenOnDrop(go.clone());
        let mut runtime = Runtime::builder().on_error(|_| ()).build().unwrap();
        let handle = runtime.handle();
        let (closure, poll) = (go.clone(), go.clone());
        let (inside, both) = (Gate::new(), Gate::new());
        let (first, second) = (inside.clone(), both.clone());
        let _closure = handle.spawn_blocking(move || {
            first.open();
            closure.wait();
        });
        let _poll = handle.spawn(async move {
            second.open();
            poll.wait();
        });
        inside.wait();
        both.wait();
        let report = runtime.close_within(50 * MS);
        assert_eq!(
            (report.abandoned.len(), report.blocking_abandoned.len()),
            (1, 1)
        );
        assert!(report.took < LIMIT / 2, "{report}");
    });
}

/// A task that is in cleanup already when the loop ends is not asked again before the grace is over.
/// One whose time is up is dropped in the middle of it.
#[test]
fn the_end_of_the_loop_does_not_ask_a_task_in_cleanup() {
    within(|| {
        let mut runtime = Runtime::builder().cancel_grace(HOUR).build().unwrap();
        let began = Signal::new();
        runtime.run(async {
            let held = began.clone();
            let task = heist::spawn(async move {
                assert!(catch_cancel(held.clone().hold::<()>()).await.is_err());
                held.set();
                // A region that would catch the request of the end.
                assert!(catch_cancel(sleep(20 * MS)).await.is_ok());
            });
            began.wait().await;
            task.abort();
            began.wait().await;
            drop(task);
        });
        let report = runtime.close();
        assert_eq!(
            (report.finished_cleanup.len(), report.cancelled),
            (1, 0),
            "{report}"
        );
    });
}

/// Row R07: a panic in the cleanup at the end of the loop is reported, and the rest goes on.
#[test]
fn r07_a_panic_in_cleanup_is_reported() {
    within(|| {
        let reports = Reports::default();
        let mut runtime = reports.of(Runtime::builder()).build().unwrap();
        let began = Signal::new();
        let answer = runtime.run(async {
            let held = began.clone();
            drop(heist::spawn(async move {
                let _ = catch_cancel(held.hold::<()>()).await;
                sleep(MS).await;
                panic!("division by zero");
            }));
            began.wait().await;
            123
        });
        let report = runtime.close();
        assert_eq!((answer, report.panicked.len()), (123, 1));
        assert_eq!(reports.count("Panicked"), 1, "{:?}", reports.all());
        assert!(reports.all()[0].contains("division by zero"));
    });
}

/// Local tasks clean up on their own thread, at the end of their run, also if that needs Send tasks
/// and timers; those that do not end in time are dropped there.
#[test]
fn local_tasks_clean_up_on_their_thread() {
    for (workers, close) in [(1, false), (2, false), (1, true), (2, true)] {
        within(move || {
            let builder = || Runtime::builder().workers(workers).spare_workers(0);
            let mut runtime = builder().cancel_grace(50 * MS).build().unwrap();
            let drops = Drops::default();
            let cleaned = Arc::new(AtomicUsize::new(0));
            let began = Signal::new();
            let main = || async {
                let (held, count, guard) = (began.clone(), cleaned.clone(), drops.guard());
                let (ask, asked) = async_channel::bounded::<()>(1);
                let (answer, answered) = async_channel::bounded::<()>(1);
                let helper = heist::spawn(async move {
                    // In a run that ends the runtime, Send tasks are cancelled after the local ones.
                    asked.recv().await.unwrap();
                    answer.send(()).await.unwrap();
                });
                drop(heist::spawn_local(async move {
                    let _guard = (guard, std::rc::Rc::new(()));
                    assert!(catch_cancel(held.hold::<()>()).await.is_err());
                    sleep(MS).await;
                    ask.send(()).await.unwrap();
                    answered.recv().await.unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                }));
                let (held, guard) = (began.clone(), drops.guard());
                drop(heist::spawn_local(async move {
                    let _guard = guard;
                    let _ = catch_cancel(held.hold::<()>()).await;
                    // `run` has the default grace, which is too long for a test.
                    if !close {
                        pending::<()>().await;
                    }
                }));
                began.wait().await;
                began.wait().await;
                drop(helper);
            };
            if close {
                crate::support::run(main());
            } else {
                runtime.run(main());
            }
            assert_eq!(cleaned.load(Ordering::SeqCst), 1);
            assert_eq!(drops.threads(), [thread::current().id(); 2]);
        });
    }
}

/// The memory of what was asked, and of the tasks, is given back: wakers and regions that go round
/// in circles would keep it.
#[test]
fn k24_nothing_is_kept_after_the_end() {
    struct Holds(#[expect(dead_code, reason = "is dropped")] Arc<()>);
    impl Future for Holds {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
    within(|| {
        let held = Arc::new(());
        let inside = held.clone();
        let name = Name::new();
        let mut runtime = name
            .builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(async {
            for n in 0..100 {
                let began = Signal::new();
                let (region, holds) = (began.clone(), Holds(inside.clone()));
                let task = heist::spawn(async move {
                    let work = async {
                        region.set();
                        holds.await;
                    };
                    let limited = timeout(HOUR, catch_cancel(work)).await;
                    assert!(limited.unwrap().is_err());
                    if n % 2 == 0 {
                        pending::<()>().await;
                    }
                });
                began.wait().await;
                task.abort();
                if n % 4 == 0 {
                    task.abort();
                }
                drop(task);
            }
        });
        let report = runtime.close_within(200 * MS);
        assert!(report.abandoned.is_empty(), "{report}");
        drop((runtime, inside));
        eventually("everything is dropped", || Arc::strong_count(&held) == 1);
    });
}

/// The report says what a task waited on whose cleanup was cut off, although nobody has looked before: the
/// end of the loop does.
#[test]
fn the_report_says_what_a_dropped_cleanup_waited_on() {
    within(|| {
        let grace = Duration::from_millis(30);
        let builder = Runtime::builder().workers(2).cancel_grace(grace);
        let mut runtime = builder.debug(false).build().expect("a runtime");
        runtime.run(async {
            let (began, begun) = futures::channel::oneshot::channel();
            drop(heist::spawn(async move {
                let _ = heist::catch_cancel(async {
                    began.send(()).expect("main waits");
                    pending::<()>().await
                })
                .await;
                heist::sleep(Duration::from_secs(60)).await;
            }));
            begun.await.expect("it begins");
        });
        let report = runtime.close();
        assert_eq!(report.dropped_after_grace.len(), 1, "{report}");
        assert_eq!(report.dropped_after_grace[0].waited_on, ["a timer"]);
        assert!(report.to_string().contains("waited on a timer"), "{report}");
    });
}

/// A task whose destructor takes its time.
struct Slow(Duration);

impl Drop for Slow {
    fn drop(&mut self) {
        thread::sleep(self.0);
    }
}

/// A poll outlasts `poll_grace`, and begins a cleanup while the thread that closes is busy with a last
/// destructor: the task has its time all the same, and is not left behind.
#[test]
fn a_poll_that_is_late_may_begin_its_cleanup() {
    within(|| {
        for _ in 0..5 {
            let builder = Runtime::builder().workers(2).spare_workers(0);
            let builder = builder.poll_grace(Some(Duration::ZERO)).cancel_grace(LIMIT);
            let mut runtime = builder.build().unwrap();
            let (drops, waker) = (Drops::default(), Arc::new(Mutex::new(None::<Waker>)));
            let (blocked, blocks) = std::sync::mpsc::channel();
            runtime.run(async {
                let (kept, slow) = (waker.clone(), Slow(30 * MS));
                drop(heist::spawn(async move {
                    let _slow = slow;
                    poll_fn(|cx| -> Poll<()> {
                        *kept.lock().unwrap() = Some(cx.waker().clone());
                        Poll::Pending
                    })
                    .await;
                }));
                while waker.lock().unwrap().is_none() {
                    yield_now().await;
                }
            });
            let cleaned = Drops::default();
            let (kept, guard, clean) = (waker.clone(), drops.guard(), cleaned.clone());
            let handle = runtime.handle();
            let late = handle.spawn(async move {
                let _guard = guard;
                // To the slot of this worker, which nobody empties before it counts as blocked.
                kept.lock().unwrap().take().expect("it waits").wake();
                blocked.send(()).unwrap();
                thread::sleep(10 * MS);
                assert!(catch_cancel(pending::<()>()).await.is_err());
                sleep(30 * MS).await;
                drop(clean.guard());
            });
            blocks.recv().unwrap();
            let report = runtime.close();
            // If it was given up, it was still inside of its first poll. So is the other one if the other
            // worker had it before the end began.
            let given_up = report.abandoned.iter().any(|task| task.id == late.id());
            assert_eq!(cleaned.count() + usize::from(given_up), 1, "{report}");
            eventually("it is dropped", || drops.count() == 1);
        }
    });
}
