//! Models of the whole scheduler: its threads, its pool, its end. They run what ships, over shuttle's
//! threads and locks (`sync/shuttle.rs`), with a seam that parks on tokens.
//!
//! ```text
//! RUSTFLAGS="--cfg heist_shuttle -C debug-assertions" cargo test -p heist-core --release --lib models
//! ```
//!
//! A model is run with many schedules, each chosen at random. There is no clock: whoever waits with a
//! time limit may find it over at once. Atomics are sequentially consistent here; what rests on weaker
//! orders has its models under loom. Nobody else wakes a thread that parks, so a wake-up that is lost
//! is a deadlock, and shuttle says so; a worker that is blocked for good makes the model run in circles,
//! until its steps are used up.
//!
//! Each model says by which change of the code it *fails*; each was tried by hand.

#![forbid(unsafe_code)]

mod world;

use crate::sync::thread;
use crate::testing::{Count, Event, go, here};
use crate::{Handle, block_in_place, yield_now};
use std::panic::Location;
use std::task::Waker;
use world::{Gate, assert_freed, config, hasty_runtime, model, runtime};

/// A thread that is not the runtime's, and that can always be had.
fn spawn(body: impl FnOnce() + Send + 'static) -> shuttle::thread::JoinHandle<()> {
    shuttle::thread::spawn(body)
}

/// Two foreign threads spawn, wait until that was run and spawn again, while workers come into being,
/// search, steal and fall asleep: every task is run.
///
/// Fails when a push from outside wakes nobody (`Shared::spawn`); when a worker looks for work before
/// it announces its sleep and not after, or leaves the injector out of that look; when the end wakes no
/// worker (step 6 of `closing.rs`). A spawn has two ways to get a thread, and either will do.
#[test]
fn models_what_comes_from_outside_is_run() {
    // Counted: 475.
    model(230, || {
        let (mut runtime, seam) = runtime(config(2, 0));
        let callers = [(), ()].map(|()| {
            let handle = runtime.handle();
            spawn(move || {
                for tasks in [2, 1] {
                    let ran = Gate::of(tasks);
                    for _ in 0..tasks {
                        let ran = ran.clone();
                        let _detached = handle.spawn(here(), async move {
                            yield_now().await;
                            ran.pass();
                        });
                    }
                    ran.wait();
                }
            })
        });
        for caller in callers {
            caller.join().unwrap();
        }
        // The last poll may be cut off after its task has passed the gate.
        let report = runtime.close(Location::caller());
        assert_eq!((report.threads_left, report.abandoned.len()), (0, 0));
        drop(runtime);
        assert_freed(&seam);
    });
}

/// A task waits for an event that a foreign thread brings, while the workers fall asleep.
///
/// Fails when a push from outside wakes nobody; when a worker looks for work before it announces its
/// sleep and not after, or leaves the injector out of that look; when the end of a task does not wake
/// whoever awaits it; when the end of a run leaves a reference to `main` in `closing.rs`.
#[test]
fn models_a_foreign_wake_is_not_lost() {
    // Counted: 325.
    model(160, || {
        let (runtime, seam) = runtime(config(2, 0));
        let event = Event::default();
        let foreign = spawn({
            let event = event.clone();
            move || event.set()
        });
        let (outcome, report) = runtime.run_and_close(Location::caller(), async {
            let waits = go(event.clone());
            let more = go(async { yield_now().await });
            waits.await.expect("nobody ends it");
            more.await.expect("nobody ends it");
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        assert!(report.is_clean(), "{report}");
        foreign.join().unwrap();
        drop(event);
        assert_freed(&seam);
    });
}

/// A task wakes another one and then blocks its worker until that one has run. The monitor takes it out
/// of the LIFO slot, or a worker does that is about to park.
///
/// Fails when the monitor leaves the LIFO slot alone, or wakes nobody for what it has moved, and when a
/// spawn starts no monitor. That a worker about to park looks into the slot is a short cut: it comes
/// 2 ms before the monitor's second look, and without it nothing is lost.
#[test]
fn models_the_next_task_of_a_blocked_worker_is_run() {
    // Counted: 358.
    model(170, || {
        let (runtime, seam) = runtime(config(2, 0));
        let (outcome, report) = runtime.run_and_close(Location::caller(), async {
            let done = Event::default();
            let blocks = go({
                let done = done.clone();
                async move {
                    let next = go({
                        let done = done.clone();
                        async move { done.set() }
                    });
                    done.block();
                    next.await.expect("nobody ends it");
                }
            });
            blocks.await.expect("nobody ends it");
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        assert!(report.is_clean(), "{report}");
        assert_freed(&seam);
    });
}

/// The only worker blocks, twice, and says so; what it has in its queue meanwhile needs a spare, which
/// is started, or is still there from the first time, or is just about to retire.
///
/// Fails when `needed_workers` does not count who is blocked; when a spare that retires counts itself out
/// twice; when a worker that leaves its loop goes on searching. That `block` wakes somebody itself, and
/// empties the LIFO slot, spares the wait for the monitor, which this model cannot tell apart.
#[test]
fn models_a_spare_comes_and_goes() {
    // Counted: 486.
    model(240, || {
        let (runtime, seam) = runtime(config(1, 1));
        let (outcome, report) = runtime.run_and_close(Location::caller(), async {
            for _ in 0..2 {
                let done = Event::default();
                let next = go({
                    let done = done.clone();
                    async move { done.set() }
                });
                block_in_place(|| done.block());
                next.await.expect("nobody ends it");
                for _ in 0..30 {
                    yield_now().await;
                }
                let metrics = Handle::try_current().expect("a runtime").metrics();
                assert!((1..=2).contains(&metrics.workers_started), "{metrics:?}");
            }
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        assert!(report.is_clean(), "{report}");
        assert_freed(&seam);
    });
}

/// The first threads that are asked for cannot be had, while two foreign threads want something. Who
/// is told so tries again; nothing that was accepted is left lying.
///
/// Fails when the slot of a thread that could not be started stays taken, and when that thread goes on
/// counting as a searcher.
#[test]
fn models_a_failed_start_loses_no_task() {
    // Counted: 319.
    model(150, || {
        thread::refuse(3);
        let (mut runtime, seam) = runtime(config(2, 0));
        let ran = Count::default();
        let callers = [(), ()].map(|()| {
            let (handle, ran) = (runtime.handle(), ran.clone());
            spawn(move || {
                loop {
                    let ran = ran.clone();
                    let task = handle.spawn(here(), async move { _ = ran.add() });
                    match handle.block_on(Location::caller(), task) {
                        Ok(Ok(())) => break,
                        Ok(Err(error)) => assert!(error.is_closed(), "{error}"),
                        Err(_) => {}
                    }
                    thread::yield_now();
                }
            })
        });
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(ran.get() >= 2);
        let _ = runtime.close(Location::caller());
        drop(runtime);
        assert_freed(&seam);
    });
}

/// Foreign threads spawn while the loop ends. Each future is run, or dropped, once, by the time that the
/// end is over and the spawner has its handle; the handle says which.
///
/// Fails when a closed list takes a task in; when the last task that ends does not tell who waits for
/// that; when the end does not wait for tasks; when step 6 wakes no worker; when a thread that cannot be
/// had because of the end is an error (`Threads::ensure_worker`).
#[test]
fn models_spawn_against_the_end() {
    // Counted: 386.
    model(190, || {
        let (mut runtime, seam) = runtime(config(2, 0));
        let (ran, dropped) = (Count::default(), Count::default());
        let spawners = [(), ()].map(|()| {
            let (handle, ran, dropped) = (runtime.handle(), ran.clone(), dropped.clone());
            spawn(move || {
                let task = handle.spawn(here(), {
                    let (ran, guard) = (ran.clone(), dropped.on_drop());
                    async move {
                        yield_now().await;
                        drop(guard);
                        ran.add();
                    }
                });
                let before = ran.get();
                match handle.block_on(Location::caller(), task) {
                    Ok(Ok(())) => assert!(ran.get() > 0 && before <= ran.get()),
                    Ok(Err(error)) => assert!(error.is_closed() || error.is_cancelled()),
                    Err(error) => panic!("{error:?}"),
                }
            })
        });
        let report = runtime.close(Location::caller());
        assert_eq!(report.threads_left, 0);
        for spawner in spawners {
            spawner.join().unwrap();
        }
        assert_eq!(dropped.get(), 2);
        drop(runtime);
        assert_freed(&seam);
    });
}

/// A foreign thread wakes a task while the loop ends, and keeps a waker for later. The future is dropped
/// once, before the end is over; the late waker does no harm, and keeps nothing of the runtime.
///
/// Fails when the end does not queue a task that sleeps.
/// What a guest may touch, and that the end waits for it, is in `guests_models.rs`: shuttle does not see
/// memory that is freed too early. Here it is the count of drops, and who holds on to what.
#[test]
fn models_foreign_wake_against_the_end_of_a_runtime() {
    // Counted: 131.
    model(60, || {
        let (runtime, seam) = runtime(config(2, 0));
        let (event, dropped) = (Event::default(), Count::default());
        let (kept, waker) = (
            Event::default(),
            std::sync::Arc::new(std::sync::Mutex::new(None)),
        );
        let foreign = spawn({
            let event = event.clone();
            move || event.set()
        });
        let (outcome, report) = runtime.run_and_close(Location::caller(), {
            let (event, kept, waker, guard) = (
                event.clone(),
                kept.clone(),
                waker.clone(),
                dropped.on_drop(),
            );
            async move {
                let _detached = go(async move {
                    let _guard = guard;
                    std::future::poll_fn(|cx| {
                        *waker.lock().unwrap() = Some(cx.waker().clone());
                        std::task::Poll::Ready(())
                    })
                    .await;
                    event.await;
                    kept.await;
                });
                yield_now().await;
            }
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        assert_eq!(dropped.get(), 1, "{report}");
        foreign.join().unwrap();
        drop(event);
        assert_freed(&seam);
        kept.set();
        let late: Option<Waker> = waker.lock().unwrap().take();
        late.into_iter().for_each(Waker::wake);
    });
}

/// The last handle, a join handle and an abort handle are used and dropped by a foreign thread while
/// the runtime is dropped. Whoever comes last frees it, once.
///
/// Fails when the end does not wait for tasks, and when an output that nobody wants is left.
#[test]
fn models_the_last_handle_against_the_end() {
    // Counted: 232.
    model(110, || {
        let (mut runtime, seam) = runtime(config(1, 1));
        let dropped = Count::default();
        let handle = runtime.handle();
        let guard = dropped.on_drop();
        let task = handle.spawn(here(), async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        let foreign = spawn(move || {
            let abort = task.abort_handle();
            abort.abort();
            drop(task);
            drop(handle);
            drop(abort);
        });
        let _ = runtime.run(Location::caller(), async { yield_now().await });
        drop(runtime);
        assert_eq!(dropped.get(), 1);
        foreign.join().unwrap();
        assert_freed(&seam);
    });
}

/// Closures that need each other: with two threads allowed, neither may wait for a thread that the
/// other one has. Idle threads end whenever they like.
///
/// Fails when the spawner leaves the thread that it wakes in `idle`; when a thread that was woken leaves
/// `notified`; when one whose time is over leaves `idle`, or goes without looking whether it was counted
/// on; when a thread that ends stays in `threads`, or one that has come in `starting`.
#[test]
fn models_two_closures_get_two_threads() {
    // Counted: 209.
    model(100, || {
        let (mut runtime, seam) = runtime(config(1, 0));
        let callers = [(), ()].map(|()| {
            let handle = runtime.handle();
            spawn(move || {
                let first = handle.spawn_blocking(here(), || 1);
                assert_eq!(
                    handle.block_on(Location::caller(), first).unwrap().unwrap(),
                    1
                );
            })
        });
        for caller in callers {
            caller.join().unwrap();
        }
        let handle = runtime.handle();
        let (here_first, there_first) = (Event::default(), Event::default());
        let pair = [
            (here_first.clone(), there_first.clone()),
            (there_first, here_first),
        ];
        let pair = pair.map(|(mine, other)| {
            handle.spawn_blocking(here(), move || {
                mine.set();
                other.block();
            })
        });
        let both = async {
            for closure in pair {
                closure.await.expect("nobody ends it");
            }
        };
        handle
            .block_on(Location::caller(), both)
            .expect("it is open");
        assert!(runtime.close(Location::caller()).is_clean());
        drop((runtime, handle));
        assert_freed(&seam);
    });
}

/// Closures are spawned by foreign threads while the loop ends: each is run or ends as cancelled, and
/// is dropped once.
///
/// Fails when `close` wakes no idle thread, and when a thread that cannot be had because of the end is an
/// error (`Threads::ensure_worker`).
#[test]
fn models_closures_against_the_end() {
    // Counted: 227.
    model(110, || {
        let (mut runtime, seam) = runtime(config(1, 0));
        let (ran, dropped) = (Count::default(), Count::default());
        let callers = [(), ()].map(|()| {
            let (handle, ran, dropped) = (runtime.handle(), ran.clone(), dropped.clone());
            spawn(move || {
                let tasks = [(), ()].map(|()| {
                    let (ran, guard) = (ran.clone(), dropped.on_drop());
                    handle.spawn_blocking(here(), move || {
                        drop(guard);
                        ran.add();
                    })
                });
                for task in tasks {
                    match handle.block_on(Location::caller(), task) {
                        Ok(Ok(())) => assert!(ran.get() > 0),
                        Ok(Err(error)) => assert!(error.is_closed() || error.is_cancelled()),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        });
        let report = runtime.close(Location::caller());
        assert_eq!(report.threads_left, 0);
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(dropped.get(), 4);
        drop(runtime);
        assert_freed(&seam);
    });
}

/// No thread can be had for the pool when the first closures come: their handles say so, or another
/// thread of the pool gets to them. Later there are as many as are allowed.
///
/// Fails when the queue is left to nobody, and when a thread that could not be started stays in `threads`.
#[test]
fn models_closures_without_a_thread_are_told() {
    // Counted: 310.
    model(150, || {
        let (mut runtime, seam) = runtime(config(1, 0));
        let dropped = Count::default();
        // The worker and the monitor, which `block_on` needs, are there.
        let handle = runtime.handle();
        let ready = handle.spawn(here(), async {});
        handle.block_on(Location::caller(), ready).unwrap().unwrap();
        thread::refuse(2);
        let callers = [(), ()].map(|()| {
            let (handle, dropped) = (runtime.handle(), dropped.clone());
            spawn(move || {
                let guard = dropped.on_drop();
                let task = handle.spawn_blocking(here(), move || drop(guard));
                if let Err(error) = handle.block_on(Location::caller(), task).unwrap() {
                    assert!(error.is_closed(), "{error}");
                }
            })
        });
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(dropped.get(), 2);
        thread::refuse(0);
        let both = Gate::of(2);
        for _ in 0..2 {
            let both = both.clone();
            let _detached = handle.spawn_blocking(here(), move || {
                both.pass();
                both.wait();
            });
        }
        both.wait();
        let report = runtime.close(Location::caller());
        assert_eq!(
            (report.threads_left, report.blocking_abandoned.len()),
            (0, 0)
        );
        drop((runtime, handle));
        assert_freed(&seam);
    });
}

/// A closure waits for another one, for which no thread can be had at first. The worker and the monitor try
/// again as soon as they are told to: there is a thread for it.
///
/// Fails when they are told (`Threads::try_later`) before the thread that is not there has left the count of
/// the pool: whoever tries again sees no room for one, and nobody tries a third time.
#[test]
fn models_a_closure_gets_its_thread_later() {
    // Counted: 308.
    model(150, || {
        let (mut runtime, seam) = hasty_runtime(config(1, 0));
        // The worker and the monitor are there.
        let handle = runtime.handle();
        let ready = handle.spawn(here(), async {});
        handle.block_on(Location::caller(), ready).unwrap().unwrap();
        let first = handle.spawn_blocking(here(), {
            let handle = handle.clone();
            move || {
                let ran = Gate::of(1);
                thread::refuse(1);
                let _detached = handle.spawn_blocking(here(), {
                    let ran = ran.clone();
                    move || ran.pass()
                });
                ran.wait();
            }
        });
        handle.block_on(Location::caller(), first).unwrap().unwrap();
        assert!(runtime.close(Location::caller()).is_clean());
        drop((runtime, handle));
        assert_freed(&seam);
    });
}

/// `run` returns while a task that it has spawned goes on, and no thread can be had for that at first. The
/// monitor tries again as soon as it is told to: the task is run.
///
/// Fails when it is told (`Threads::try_later`) before the thread that is not there has stopped counting as a
/// searcher: whoever tries again starts nobody beside a searcher, and nobody tries another time.
#[test]
fn models_a_worker_comes_later() {
    // Counted: 266.
    model(130, || {
        let (mut runtime, seam) = hasty_runtime(config(1, 0));
        let ran = Gate::of(1);
        let outcome = runtime.run(Location::caller(), async {
            let ran = ran.clone();
            let _detached = go(async move { ran.pass() });
            // The monitor is there. The thread that leaves its slot tries twice.
            thread::refuse(2);
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        ran.wait();
        let report = runtime.close(Location::caller());
        assert_eq!((report.threads_left, report.abandoned.len()), (0, 0));
        drop(runtime);
        assert_freed(&seam);
    });
}

/// `run` returns while a task that it has spawned goes on, and a foreign thread wakes that: somebody
/// takes over the slot of the thread that leaves.
///
/// Fails when whoever leaves the last slot starts nobody (`Shared::worker_has_left`).
#[test]
fn models_a_task_outlives_the_run_that_spawned_it() {
    // Counted: 166.
    model(80, || {
        let (mut runtime, seam) = runtime(config(1, 0));
        let (event, ran) = (Event::default(), Gate::of(1));
        let foreign = spawn({
            let event = event.clone();
            move || event.set()
        });
        let outcome = runtime.run(Location::caller(), async {
            let (event, ran) = (event.clone(), ran.clone());
            let _detached = go(async move {
                event.await;
                ran.pass();
            });
            // It has had its turn, and waits, before the run ends.
            yield_now().await;
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        foreign.join().unwrap();
        ran.wait();
        let report = runtime.close(Location::caller());
        assert_eq!((report.threads_left, report.abandoned.len()), (0, 0));
        drop((runtime, event));
        assert_freed(&seam);
    });
}

/// A runtime is dropped by a task of another one, which must not wait, while one of its own tasks runs:
/// its own threads end it, and the outer one waits for that.
///
/// Fails when nobody is asked to close the inner one, and when the outer one does not wait for that.
#[test]
fn models_a_runtime_is_dropped_by_a_task() {
    // Counted: 269.
    model(130, || {
        let (outer, outer_seam) = runtime(config(1, 0));
        let (inner, inner_seam) = runtime(config(1, 0));
        let dropped = Count::default();
        let guard = dropped.on_drop();
        let (outcome, report) = outer.run_and_close(Location::caller(), async move {
            let ran = Event::default();
            let task = inner.handle().spawn(here(), {
                let ran = ran.clone();
                async move {
                    let _guard = guard;
                    ran.set();
                    std::future::pending::<()>().await;
                }
            });
            ran.await;
            drop(inner);
            assert!(task.await.unwrap_err().is_cancelled());
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        assert_eq!((dropped.get(), report.threads_left), (1, 0));
        assert_freed(&inner_seam);
        assert_freed(&outer_seam);
    });
}

/// A task is woken, aborted and awaited from outside at once, and its handle is dropped half-way in the
/// one case and polled to the end in the other. Its future is dropped once, and so is its output.
///
/// Fails when the end of a task does not wake whoever awaits it, and when an output that nobody wants is
/// left.
#[test]
fn models_a_task_ends_while_it_is_aborted_and_awaited() {
    // Counted: 311.
    model(150, || {
        let (mut runtime, seam) = runtime(config(1, 0));
        let (event, futures, outputs) = (Event::default(), Count::default(), Count::default());
        let handle = runtime.handle();
        let task = |event: &Event| {
            let (event, guard, output) = (event.clone(), futures.on_drop(), outputs.on_drop());
            handle.spawn(here(), async move {
                let _guard = guard;
                event.await;
                output
            })
        };
        let (awaited, detached) = (task(&event), task(&event));
        let aborts = [awaited.abort_handle(), detached.abort_handle()];
        let waker = spawn(move || event.set());
        let aborter = spawn(move || aborts.iter().for_each(crate::AbortHandle::abort));
        let dropper = spawn(move || drop(detached));
        match handle.block_on(Location::caller(), awaited).unwrap() {
            Ok(output) => drop(output),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
        for thread in [waker, aborter, dropper] {
            thread.join().unwrap();
        }
        let _ = runtime.close(Location::caller());
        assert_eq!((futures.get(), outputs.get()), (2, 2));
        drop((runtime, handle));
        assert_freed(&seam);
    });
}

/// The end of the loop comes while a task enters its region, while it waits there, or not at all, and
/// somebody else asks for its end, too. A region that was entered catches one of the two; the cleanup
/// goes on to its end, unless the other was a second explicit request.
///
/// Fails when the grace is over from the start; when the last task that ends does not tell who waits for
/// that; when a thread that cannot be had because of the end is an error (`Threads::ensure_worker`).
#[test]
fn models_cleanup_against_the_end() {
    // Counted: 451.
    model(220, || {
        let (mut runtime, seam) = runtime(config(2, 0));
        let (entered, cleaned, dropped) = (Count::default(), Count::default(), Count::default());
        let handle = runtime.handle();
        let task = handle.spawn(here(), {
            let (entered, cleaned, guard) = (entered.clone(), cleaned.clone(), dropped.on_drop());
            async move {
                let _guard = guard;
                entered.add();
                let caught = crate::catch_cancel(std::future::pending::<()>()).await;
                assert!(caught.is_err());
                yield_now().await;
                cleaned.add();
            }
        });
        let closer = spawn(move || {
            let report = runtime.close(Location::caller());
            assert_eq!(report.threads_left, 0);
        });
        let ended = handle
            .block_on(Location::caller(), task)
            .expect("it is open");
        closer.join().unwrap();
        assert_eq!(ended.is_ok(), entered.get() == 1);
        assert_eq!(entered.get(), cleaned.get());
        assert_eq!(dropped.get(), 1);
        drop(handle);
        assert_freed(&seam);
    });
}

/// Everybody sleeps for so long that the monitor does, too. Then a foreign thread wakes a task, which
/// wakes another one and blocks its worker until that one has run: the monitor is awake again.
///
/// Fails when a worker that wakes leaves the monitor asleep.
#[test]
fn models_the_monitor_wakes_with_the_workers() {
    // Counted: 301.
    model(150, || {
        let (runtime, seam) = runtime(config(2, 0));
        let event = Event::default();
        let foreign = spawn({
            let event = event.clone();
            move || {
                for _ in 0..300 {
                    thread::yield_now();
                }
                event.set();
            }
        });
        let (outcome, report) = runtime.run_and_close(Location::caller(), async {
            let woken = go({
                let event = event.clone();
                async move {
                    event.await;
                    let done = Event::default();
                    let next = go({
                        let done = done.clone();
                        async move { done.set() }
                    });
                    done.block();
                    next.await.expect("nobody ends it");
                }
            });
            woken.await.expect("nobody ends it");
        });
        assert!(matches!(outcome, crate::Outcome::Output(())));
        assert!(report.is_clean(), "{report}");
        foreign.join().unwrap();
        drop(event);
        assert_freed(&seam);
    });
}
