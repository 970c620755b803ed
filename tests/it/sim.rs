//! Deterministic runtimes: one seed is one run, on one thread, under a time of its own.
#![forbid(unsafe_code)]

use crate::support::{alone, within};
use futures::channel::oneshot;
use heist::time::{Duration, Instant, interval, sleep, sleep_until, timeout};
use heist::{Builder, MainThread, RunError, Runtime, ShutdownReport};
use std::collections::HashSet;
use std::future::{Future, pending};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

const ALONE: &str = env!("CARGO_BIN_EXE_alone");
const HOUR: Duration = Duration::from_secs(3600);
const SEEDS: std::ops::Range<u64> = 0..30;

fn builder(seed: u64) -> Builder {
    Runtime::builder().deterministic(seed)
}

fn runtime(seed: u64) -> Runtime {
    builder(seed).build().expect("no thread is needed")
}

/// Runs `main` under some seeds.
fn under_all_seeds<F: Future>(configure: impl Fn(Builder) -> Builder, main: impl Fn() -> F)
where
    F::Output: std::fmt::Debug,
{
    under_seeds(SEEDS, configure, main);
}

fn under_seeds<F: Future>(
    seeds: std::ops::Range<u64>,
    configure: impl Fn(Builder) -> Builder,
    main: impl Fn() -> F,
) where
    F::Output: std::fmt::Debug,
{
    for seed in seeds {
        let mut runtime = configure(builder(seed)).build().expect("a runtime");
        if let Err(error) = runtime.try_run(main()) {
            panic!("seed {seed}: {error}\n{}", runtime.trace());
        }
    }
}

/// Tasks that spawn, yield, sleep, block and wait for each other. Gives the order in which they ended.
async fn busy() -> Vec<u64> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|task| {
            let order = order.clone();
            heist::spawn(async move {
                let child = heist::spawn(async move {
                    for _ in 0..task % 5 {
                        heist::yield_now().await;
                    }
                });
                if task % 3 == 0 {
                    sleep(Duration::from_millis(task)).await;
                }
                if task % 4 == 0 {
                    heist::block_in_place(|| ());
                }
                child.await.expect("the child ends");
                let call = move || order.lock().unwrap().push(task);
                heist::spawn_blocking(call).await.expect("the closure ends");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    Arc::into_inner(order).unwrap().into_inner().unwrap()
}

/// What `busy` does under a seed, to its last event.
fn run_busy(seed: u64) -> (Vec<u64>, String) {
    let mut runtime = runtime(seed);
    let order = runtime.run(busy());
    let report = runtime.close();
    assert!(report.is_clean(), "{report}");
    assert!(runtime.trace().count() > 100);
    (order, runtime.trace().to_string())
}

// ---- seeds ----

#[test]
fn one_seed_is_one_run() {
    within(|| {
        for seed in SEEDS {
            assert_eq!(run_busy(seed), run_busy(seed), "seed {seed}");
        }
    });
}

#[test]
fn another_seed_is_another_run() {
    within(|| {
        let runs: Vec<_> = SEEDS.map(run_busy).collect();
        let orders: HashSet<_> = runs.iter().map(|run| &run.0).collect();
        let traces: HashSet<_> = runs.iter().map(|run| &run.1).collect();
        assert!(orders.len() > runs.len() / 2, "{} orders", orders.len());
        assert_eq!(traces.len(), runs.len());
    });
}

/// Nothing of a process shows in a trace: neither addresses nor threads nor the time of day.
#[test]
fn one_seed_is_one_run_in_every_process() {
    let [first, second] = [(); 2].map(|()| alone(ALONE, &[], "traces", &[]));
    assert!(
        first.ok && first.output.contains("seed 7: trace "),
        "{}",
        first.output
    );
    assert_eq!(first.output, second.output);
}

/// Two at once do not see each other, whatever threads they are on.
#[test]
fn one_seed_is_one_run_beside_others() {
    within(|| {
        let threads: Vec<_> = [3, 3, 4, 3]
            .map(|seed| std::thread::spawn(move || run_busy(seed)))
            .into_iter()
            .collect();
        let runs: Vec<_> = threads.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(runs[0] == runs[1] && runs[0] == runs[3] && runs[0] != runs[2]);
    });
}

#[test]
fn only_a_deterministic_runtime_has_a_trace() {
    let mut real = Runtime::new().unwrap();
    real.run(async { heist::spawn(async {}).await.unwrap() });
    assert_eq!(
        (real.trace().count(), real.trace().recent().count()),
        (0, 0)
    );
    let mut simulated = runtime(0);
    assert_eq!(simulated.trace(), real.trace(), "nothing has happened");
    assert_eq!(simulated.trace(), real.trace(), "nothing has happened");
    simulated.run(async { heist::spawn(async {}).await.unwrap() });
    let text = simulated.trace().to_string();
    assert!(
        text.contains(" spawns task 1") && text.contains(" is activated"),
        "{text}"
    );
}

// ---- time ----

#[test]
fn an_hour_of_sleep_costs_nothing() {
    within(|| {
        under_all_seeds(
            |builder| builder,
            || async {
                let began = Instant::now();
                let task = heist::spawn(async {
                    sleep(HOUR).await;
                    Instant::now()
                });
                let late = task.await.unwrap().duration_since(began) - HOUR;
                assert!(late < Duration::from_millis(50), "{late:?}");
                assert!(timeout(HOUR, pending::<()>()).await.is_err());
                let mut ticks = interval(HOUR);
                for _ in 0..24 {
                    ticks.tick().await;
                }
                assert!(began.elapsed() >= HOUR * 25);
            },
        );
    });
}

/// A task that never rests waits for a time as well.
#[test]
fn time_goes_on_under_a_task_that_yields() {
    within(|| {
        under_all_seeds(
            |builder| builder.workers(1),
            || async {
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(20) {
                    heist::yield_now().await;
                }
            },
        );
    });
}

/// Sleeps end in their order, however many workers are late.
#[test]
fn sleeps_end_in_order() {
    within(|| {
        under_all_seeds(
            |builder| builder,
            || async {
                let ended = Arc::new(Mutex::new(Vec::new()));
                let tasks: Vec<_> = (0..50_u32)
                    .map(|task| {
                        let ended = ended.clone();
                        heist::spawn(async move {
                            sleep(Duration::from_secs(u64::from(task * 37 % 50))).await;
                            ended.lock().unwrap().push(task * 37 % 50);
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                assert!(ended.lock().unwrap().is_sorted());
            },
        );
    });
}

/// The end of the loop waits for cleanup by the same clock.
#[test]
fn graces_are_virtual() {
    const GRACE: Duration = Duration::from_secs(60);
    let close = |cleanup| -> ShutdownReport {
        let mut runtime = builder(1).cancel_grace(GRACE).build().unwrap();
        runtime.run(async {
            let (began, begun) = oneshot::channel();
            drop(heist::spawn(async move {
                let work = async {
                    began.send(()).unwrap();
                    pending::<()>().await;
                };
                let _ = heist::catch_cancel(work).await;
                sleep(cleanup).await;
            }));
            begun.await.unwrap();
        });
        runtime.close()
    };
    within(move || {
        let report = close(GRACE / 2);
        assert_eq!(
            (report.finished_cleanup.len(), report.cancelled),
            (1, 0),
            "{report}"
        );
        assert!(report.took >= GRACE / 2 && report.took < GRACE, "{report}");
        let report = close(GRACE * 2);
        assert_eq!(
            (report.dropped_after_grace.len(), report.cancelled),
            (1, 1),
            "{report}"
        );
        assert!(
            report.took >= GRACE && report.took < GRACE + GRACE / 2,
            "{report}"
        );
    });
}

// ---- the scheduler ----

#[test]
fn workers_steal_and_no_thread_is_started() {
    within(|| {
        let mut stolen = 0;
        for seed in SEEDS {
            let mut runtime = runtime(seed);
            let here = std::thread::current().id();
            runtime.run(async {
                let tasks: Vec<_> = (0..200)
                    .map(|_| {
                        heist::spawn(async {
                            heist::yield_now().await;
                            std::thread::current().id()
                        })
                    })
                    .collect();
                for task in tasks {
                    assert_eq!(task.await.unwrap(), here);
                }
            });
            let metrics = runtime.handle().metrics();
            stolen += metrics
                .workers()
                .iter()
                .map(|worker| worker.steals())
                .sum::<u64>();
        }
        assert!(stolen > 1000, "{stolen} stolen");
    });
}

/// Under some seeds a worker seems to be blocked; then the monitor finds it, and spares are activated.
#[test]
fn the_monitor_strikes() {
    within(|| {
        let (mut struck, mut spares) = (0, 0);
        for seed in SEEDS {
            let mut runtime = builder(seed).workers(2).build().unwrap();
            runtime.run(async {
                let spin = || async {
                    for _ in 0..300 {
                        heist::yield_now().await;
                    }
                };
                let tasks: Vec<_> = (0..8).map(|_| heist::spawn(spin())).collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
            let trace = runtime.trace().to_string();
            struck += usize::from(trace.contains("monitor looks: 1 blocked"));
            spares += usize::from(trace.contains("worker 2"));
        }
        assert!(
            struck > 0 && spares > 0,
            "{struck} seeds, {spares} with a spare"
        );
    });
}

/// What the monitor fires for a blocked worker wakes a thread of `run` that has no slot.
#[test]
fn the_monitor_wakes_main() {
    within(|| {
        let shape = |builder: Builder| builder.workers(2).main_thread(MainThread::Dedicated);
        under_seeds(0..10, shape, || async {
            let began = Instant::now();
            let done = Arc::new(AtomicBool::new(false));
            let yields = || {
                let done = done.clone();
                heist::spawn(async move {
                    while !done.load(SeqCst) && began.elapsed() < Duration::from_millis(300) {
                        heist::yield_now().await;
                    }
                })
            };
            let busy = [(); 3].map(|()| yields());
            let ticks = heist::spawn(async {
                let mut ticks = interval(Duration::from_millis(50));
                for _ in 0..100 {
                    ticks.tick().await;
                }
            });
            let local = heist::spawn_local(async {
                for _ in 0..40 {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            for _ in 0..60 {
                let due = Instant::now() + Duration::from_millis(1);
                sleep_until(due).await;
                let late = Instant::now().duration_since(due);
                assert!(late < Duration::from_millis(30), "{late:?}");
            }
            local.await.unwrap();
            done.store(true, SeqCst);
            for task in busy {
                task.await.unwrap();
            }
            ticks.abort();
        });
    });
}

/// As on a thread of its own, which is not inside the runtime yet or any more.
#[test]
fn hooks_are_outside_of_the_runtime() {
    within(|| {
        for seed in SEEDS {
            let calls = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
            let count = |at: usize| {
                let calls = calls[at].clone();
                move || {
                    let inside = heist::Handle::try_current().is_some();
                    calls.fetch_add(if inside { 1000 } else { 1 }, SeqCst);
                }
            };
            let hooked = builder(seed)
                .on_thread_start(count(0))
                .on_thread_stop(count(1));
            let mut runtime = hooked.build().unwrap();
            runtime.run(busy());
            drop(runtime);
            let [starts, stops] = calls.map(|calls| calls.load(SeqCst));
            assert!(starts > 0 && starts < 1000, "{starts}");
            assert_eq!(starts, stops, "seed {seed}");
        }
    });
}

/// Others go on while a task blocks in place, and what it had before it is taken over.
#[test]
fn others_run_during_block_in_place() {
    within(|| {
        let mut during = 0;
        for seed in SEEDS {
            during += runtime(seed).run(async {
                let ran = Arc::new(AtomicUsize::new(0));
                let blocker = heist::spawn({
                    let ran = ran.clone();
                    async move {
                        drop(heist::spawn({
                            let ran = ran.clone();
                            async move { ran.fetch_add(1, SeqCst) }
                        }));
                        heist::block_in_place(|| ran.load(SeqCst))
                    }
                });
                blocker.await.unwrap()
            });
        }
        assert!(during > SEEDS.end as usize / 2, "{during}");
    });
}

#[test]
fn closures_run_in_an_order_of_the_seed() {
    within(|| {
        let mut orders = HashSet::new();
        for seed in SEEDS {
            let order = Arc::new(Mutex::new(Vec::new()));
            runtime(seed).run(async {
                let call = |number| {
                    let order = order.clone();
                    heist::spawn_blocking(move || order.lock().unwrap().push(number))
                };
                for closure in [1, 2, 3].map(call) {
                    closure.await.unwrap();
                }
            });
            orders.insert(Arc::into_inner(order).unwrap().into_inner().unwrap());
        }
        assert!(orders.len() > 3, "{orders:?}");
    });
}

#[test]
fn local_tasks_and_every_shape_of_runtime() {
    let shapes: [fn(Builder) -> Builder; 4] = [
        |builder| builder.workers(1).spare_workers(0),
        |builder| builder.workers(8),
        |builder| builder.main_thread(MainThread::Dedicated),
        |builder| builder.start_threads(true).blocking_threads(1),
    ];
    within(move || {
        for shape in shapes {
            under_all_seeds(shape, || async {
                let local = heist::spawn_local(async {
                    sleep(Duration::from_millis(3)).await;
                    heist::spawn(busy()).await.unwrap().len()
                });
                assert_eq!(local.await.unwrap(), 20);
            });
        }
    });
}

// ---- the end ----

#[track_caller]
fn assert_deadlock<T: std::fmt::Debug>(ended: Result<T, RunError>, tasks: usize) {
    match ended {
        Err(RunError::Deadlock(deadlock)) => assert_eq!(deadlock.tasks().len(), tasks),
        other => panic!("{other:?}"),
    }
}

/// Where nobody can go on, the run ends, also where a real one would have to go on waiting.
#[test]
fn a_run_never_hangs() {
    within(|| {
        for seed in SEEDS {
            assert_deadlock(runtime(seed).try_run(pending::<()>()), 0);
            // A circle, with handles everywhere.
            let mut runtime = runtime(seed);
            let _handle = runtime.handle();
            let (send, receive) = oneshot::channel::<heist::JoinHandle<()>>();
            let ended = runtime.try_run(async {
                let first = heist::spawn(async { receive.await.unwrap().await.unwrap() });
                let second = heist::spawn(async { first.await.unwrap() });
                send.send(second).unwrap();
                pending::<()>().await;
            });
            assert_deadlock(ended, 2);
            // It is as good as before, and so is its end.
            assert_eq!(
                runtime.run(async { heist::spawn(async { 5 }).await.unwrap() }),
                5
            );
            assert_eq!(runtime.close().cancelled, 2);
        }
    });
}

/// What a run leaves stands still until the next one, and the end of the loop drops it.
#[test]
fn tasks_go_on_in_the_next_run() {
    within(|| {
        for seed in SEEDS {
            let mut runtime = runtime(seed);
            let done = Arc::new(AtomicBool::new(false));
            let left = runtime.run(async {
                let done = done.clone();
                heist::spawn(async move {
                    sleep(HOUR).await;
                    done.store(true, SeqCst);
                })
            });
            assert!(!done.load(SeqCst));
            runtime.run(left).unwrap();
            assert!(done.load(SeqCst));
            drop(runtime.handle().spawn(pending::<()>()));
            assert_eq!(runtime.close().cancelled, 1, "seed {seed}");
            assert_eq!(runtime.close().threads_left, 0);
        }
    });
}

#[test]
fn a_panic_stays_in_its_task() {
    within(|| {
        for seed in SEEDS {
            let mut runtime = runtime(seed);
            let joined = runtime.run(async { heist::spawn(async { panic!("on purpose") }).await });
            assert!(joined.unwrap_err().is_panic());
        }
    });
}

/// It may be dropped where nobody may wait: inside a real one, inside another, inside itself.
#[test]
fn it_is_dropped_anywhere() {
    within(|| {
        let with_tasks = |seed| {
            let mut runtime = runtime(seed);
            runtime.run(async { drop(heist::spawn(pending::<()>())) });
            runtime
        };
        heist::run(async move { drop(with_tasks_in_closure(with_tasks).await) });
        let inner = with_tasks(1);
        runtime(2).run(async { heist::spawn(async { drop(inner) }).await.unwrap() });
        let own = runtime(3);
        let handle = own.handle();
        let task = handle.spawn(async move { drop(own) });
        assert!(handle.try_block_on(task).is_ok());
    });
}

/// Workers and the runtime hold each other; none of them is left at the end, also if that has come inside of
/// the turn of one.
#[test]
fn nothing_of_it_is_left() {
    within(|| {
        for seed in SEEDS {
            let kept = Arc::new(());
            let keeping = || {
                let held = kept.clone();
                let builder = builder(seed).on_error(move |_| _ = &held);
                builder.build().expect("a runtime")
            };
            keeping().run(busy());
            assert_eq!(Arc::strong_count(&kept), 1, "seed {seed}");
            let own = keeping();
            let handle = own.handle();
            let task = handle.spawn(async move { drop(own) });
            handle.block_on(task).expect("it ends before the loop does");
            drop(handle);
            assert_eq!(
                Arc::strong_count(&kept),
                1,
                "seed {seed}, dropped inside of itself"
            );
        }
    });
}

/// A runtime can be run in a closure of another one alone.
async fn with_tasks_in_closure(make: impl Fn(u64) -> Runtime + Send + 'static) -> Runtime {
    heist::spawn_blocking(move || make(0)).await.unwrap()
}

// ---- the outside ----

#[test]
fn block_on_steps_the_others() {
    within(|| {
        for seed in SEEDS {
            let runtime = runtime(seed);
            let task = runtime.handle().spawn(sleep(HOUR));
            runtime.handle().block_on(task).unwrap();
            assert_deadlock(runtime.handle().try_block_on(pending::<()>()), 0);
        }
    });
}

/// A closure may wait for tasks and timers, and is told that it waits for `main` in vain.
#[test]
fn closures_may_block_on_tasks() {
    within(|| {
        for seed in SEEDS {
            runtime(seed).run(async {
                let handle = heist::Handle::current();
                let closure = heist::spawn_blocking(move || {
                    handle.block_on(async {
                        let task = heist::spawn(sleep(HOUR));
                        sleep(HOUR).await;
                        task.await.unwrap();
                    });
                    let (_send, receive) = oneshot::channel::<()>();
                    handle.try_block_on(receive).map(drop)
                });
                assert_deadlock(closure.await.unwrap(), 1);
            });
        }
    });
}

/// That a closure has waited in vain says nothing of `main`, which what comes next wakes.
#[test]
fn a_deadlock_of_a_closure_is_not_one_of_main() {
    within(|| {
        let shape = |builder: Builder| builder.workers(1).spare_workers(0);
        under_all_seeds(shape, || async {
            let handle = heist::Handle::current();
            let task = heist::spawn(async {
                let waits = move || handle.try_block_on(pending::<()>());
                let waited = heist::spawn_blocking(waits).await.unwrap();
                assert!(matches!(waited, Err(RunError::Deadlock(_))), "{waited:?}");
                heist::yield_now().await;
            });
            task.await.unwrap();
        });
    });
}

/// Here `main` blocks its worker, and what waits inside of that waits in vain. The spare that is there for as long as
/// a worker is blocked looks now and then whether its time is over, which is no reason to go on waiting.
#[test]
fn a_spare_that_naps_does_not_hide_a_deadlock() {
    within(|| {
        let shape = |builder: Builder| builder.workers(1).spare_workers(1);
        under_all_seeds(shape, || async {
            let handle = heist::Handle::current();
            let closure = heist::spawn_blocking(move || handle.try_block_on(pending::<()>()));
            heist::block_in_place(|| heist::sim::stall(HOUR));
            let waited = closure.await.unwrap();
            assert!(matches!(waited, Err(RunError::Deadlock(_))), "{waited:?}");
        });
    });
}

/// Each of them waits inside the turn of another one, so that the stack bounds how many may.
#[test]
fn hundreds_of_closures_may_block() {
    within(|| {
        under_seeds(0..4, std::convert::identity, || async {
            let due = Instant::now() + HOUR;
            let closures: Vec<_> = (0..400)
                .map(|_| {
                    let handle = heist::Handle::current();
                    heist::spawn_blocking(move || handle.block_on(sleep_until(due)))
                })
                .collect();
            for closure in closures {
                closure.await.unwrap();
            }
        });
    });
}

/// Also those of the threads that closures would have.
#[test]
fn a_thread_of_the_pool_has_its_hooks() {
    within(|| {
        for seed in SEEDS {
            let calls = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
            let count = |at: usize| {
                let calls = calls[at].clone();
                move || _ = calls.fetch_add(1, SeqCst)
            };
            let hooked = builder(seed)
                .on_thread_start(count(0))
                .on_thread_stop(count(1));
            let mut runtime = hooked.build().unwrap();
            runtime.run(async { heist::spawn_blocking(|| ()).await.unwrap() });
            let trace = runtime.trace().to_string();
            drop(runtime);
            let activated = trace.lines().filter(|line| line.ends_with(" is activated"));
            let threads = activated.filter(|line| !line.contains(" monitor ")).count();
            let calls = calls.map(|calls| calls.load(SeqCst));
            assert_eq!(calls, [threads; 2], "seed {seed}: {trace}");
        }
    });
}

#[test]
fn sockets_are_refused() {
    within(|| {
        let refused = runtime(0).run(heist::net::TcpListener::bind("127.0.0.1:0"));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("deterministic"), "{error}");
    });
}

/// A thread in `block_on` stalls while another one is inside: that has time go on for both.
#[test]
fn who_stalls_outside_leaves_the_inside_alone() {
    within(|| {
        for seed in 0..5 {
            let mut runtime = runtime(seed);
            let handle = runtime.handle();
            let (begun, begins) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                handle.block_on(async {
                    let begin = Instant::now();
                    begun.send(()).unwrap();
                    heist::sim::stall(Duration::from_millis(20));
                    begin.elapsed()
                })
            });
            runtime.run(async {
                begins.recv().unwrap();
                while !thread.is_finished() {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            assert!(thread.join().unwrap() >= Duration::from_millis(20));
        }
    });
}

/// Threads may spawn and wake; when they do is not the seed's.
#[test]
fn threads_may_wake_tasks() {
    within(|| {
        for seed in 0..5 {
            let mut runtime = runtime(seed);
            let handle = runtime.handle();
            let (send, mut receive) = oneshot::channel();
            let thread = std::thread::spawn(move || {
                send.send(handle.block_on(handle.spawn(async { 7 })))
                    .unwrap();
            });
            let received = runtime.run(async {
                loop {
                    // Somebody must have a deadline.
                    sleep(Duration::from_millis(1)).await;
                    if let Some(received) = receive.try_recv().unwrap() {
                        return received.unwrap();
                    }
                }
            });
            assert_eq!(received, 7);
            thread.join().unwrap();
        }
    });
}
