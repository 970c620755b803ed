//! What a `Handle` tells of its runtime while that runs.
#![forbid(unsafe_code)]

use crate::support::{Gate, OpenOnDrop, eventually, within};
use heist::inspect::{RuntimeMetrics, WorkerMetrics};
use heist::{Handle, Runtime, yield_now};

fn sum(metrics: &RuntimeMetrics, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    metrics.workers().iter().map(of).sum()
}

/// One worker and nobody else: each poll is known. A task that yields `n` times is polled `n + 1`
/// times, and the main future at least once before and once after it.
#[test]
fn polls_are_counted_exactly() {
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.build().unwrap();
        let before = sum(&runtime.handle().metrics(), WorkerMetrics::polls);
        assert_eq!(before, 0);
        runtime.run(async {
            heist::spawn(async {
                for _ in 0..1000 {
                    yield_now().await;
                }
            })
            .await
            .unwrap();
        });
        let metrics = runtime.handle().metrics();
        // The polls of the task, two of `main`, and the drop of `main`.
        assert_eq!(metrics.workers()[0].polls(), 1001 + 2 + 1);
        assert_eq!(metrics.workers()[0].steals(), 0);
        // It was spawned on the worker, and no foreign thread woke it.
        assert_eq!(metrics.workers()[0].remote_wakes(), 0);
        assert_eq!(metrics.workers()[0].lifo_hits(), 1);
        assert_eq!(metrics.live_tasks(), 0);
    });
}

/// Two tasks that wake each other run from the LIFO slot, as often as its bound allows.
#[test]
fn lifo_hits_are_counted() {
    const ROUNDS: u64 = 1000;
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.build().unwrap();
        runtime.run(async {
            let (there, here) = async_channel::bounded(1);
            let (back, answers) = async_channel::bounded(1);
            let echo = heist::spawn(async move {
                while let Ok(n) = here.recv().await {
                    back.send(n).await.unwrap();
                }
            });
            heist::spawn(async move {
                for n in 0..ROUNDS {
                    there.send(n).await.unwrap();
                    assert_eq!(answers.recv().await.unwrap(), n);
                }
            })
            .await
            .unwrap();
            echo.await.unwrap();
        });
        let metrics = runtime.handle().metrics();
        let (polls, hits) = (
            metrics.workers()[0].polls(),
            metrics.workers()[0].lifo_hits(),
        );
        assert!(polls >= 2 * ROUNDS, "{polls} polls");
        assert!(
            hits >= ROUNDS && hits <= polls,
            "{hits} hits, {polls} polls"
        );
    });
}

/// What foreign threads spawn goes through the injector, each task once.
#[test]
fn remote_wakes_are_counted() {
    const TASKS: u64 = 100;
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        let tasks: Vec<_> = (0..TASKS).map(|_| handle.spawn(async {})).collect();
        handle.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        let metrics = handle.metrics();
        assert_eq!(metrics.workers()[0].remote_wakes(), TASKS);
        assert_eq!(
            metrics.workers()[0].polls(),
            TASKS + 1,
            "and the thread's start"
        );
        assert_eq!(metrics.injector_depth(), 0);
    });
}

/// With one worker held up, the other one takes what it has spawned: that is counted, and the one
/// that is held up says so.
#[test]
fn steals_and_blocked_workers_are_seen() {
    const TASKS: usize = 40;
    within(|| {
        let builder = Runtime::builder().workers(2).spare_workers(0);
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        let (gate, observer) = (Gate::new(), handle.clone());
        let opener = OpenOnDrop(gate.clone());
        let (done, all_done) = async_channel::bounded(TASKS);
        let blocker = handle.spawn(async move {
            for _ in 0..TASKS {
                let done = done.clone();
                drop(heist::spawn(async move { done.try_send(()).unwrap() }));
            }
            heist::block_in_place(|| gate.wait());
        });
        handle.block_on(async {
            for _ in 0..TASKS {
                all_done.recv().await.unwrap();
            }
        });
        let metrics = observer.metrics();
        let taken =
            sum(&metrics, WorkerMetrics::steals) + sum(&metrics, WorkerMetrics::remote_wakes);
        // All but those that were taken from the thief's own queue as it got them.
        assert!(taken > 1, "{metrics:#?}");
        assert!(
            metrics.workers().iter().any(WorkerMetrics::is_blocked),
            "{metrics:#?}"
        );
        assert_eq!(metrics.live_tasks(), 1, "{metrics:#?}");
        drop(opener);
        handle.block_on(blocker).unwrap();
        assert!(
            !observer
                .metrics()
                .workers()
                .iter()
                .any(WorkerMetrics::is_blocked)
        );
    });
}

/// A runtime without work sleeps, and every worker that sleeps has gone to sleep once at least.
#[test]
fn sleeping_workers_and_parks_are_counted() {
    within(|| {
        let builder = Runtime::builder().workers(2).start_threads(true);
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        handle.block_on(async { handle.spawn(async {}).await.unwrap() });
        eventually("every worker sleeps", || {
            let metrics = handle.metrics();
            metrics.workers_started() > 0
                && metrics.sleeping_workers() == metrics.workers_started()
                && metrics.searching_workers() == 0
        });
        let metrics = handle.metrics();
        let occupied = metrics
            .workers()
            .iter()
            .filter(|worker| worker.is_occupied());
        assert_eq!(occupied.count(), metrics.workers_started());
        assert!(sum(&metrics, WorkerMetrics::parks) >= 1, "{metrics:#?}");
        assert_eq!(metrics.spares_active(), 0);
    });
}

/// One thread in the pool, held up: the next closure waits in the queue. Local tasks count as live,
/// and queues have lengths.
#[test]
fn queues_and_the_blocking_pool_have_lengths() {
    const TASKS: usize = 1000;
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.blocking_threads(1).build().unwrap();
        runtime.run(async {
            let gate = Gate::new();
            let _opener = OpenOnDrop(gate.clone());
            let first = heist::spawn_blocking(move || gate.wait());
            let second = heist::spawn_blocking(|| ());
            eventually("one runs and one waits", || {
                let metrics = Handle::current().metrics();
                metrics.blocking_threads() == 1 && metrics.blocking_queue_depth() == 1
            });
            drop((first, second));
            let local = heist::spawn_local(std::future::pending::<()>());
            for _ in 0..TASKS {
                drop(heist::spawn(async {}));
            }
            let metrics = Handle::current().metrics();
            let worker = &metrics.workers()[0];
            assert_eq!(metrics.live_tasks(), TASKS + 3, "{metrics:#?}");
            assert_eq!(worker.queue_depth() + worker.overflow_depth(), TASKS);
            assert!(worker.overflow_depth() > 0, "{metrics:#?}");
            local.abort();
        });
        runtime.close();
        let metrics = runtime.handle().metrics();
        assert_eq!((metrics.live_tasks(), metrics.workers_started()), (0, 0));
    });
}
