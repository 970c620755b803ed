//! Promise 1: `run` owns the loop's whole life. When it returns or unwinds, no task and no thread of
//! that runtime is left; what cannot be taken away is named in the report.
//!
//! Descriptors, and a thousand runs in a row, are counted in a process of their own.
#![forbid(unsafe_code)]

use crate::support::{
    Drops, Gate, Name, OpenOnDrop, Reports, Tally, ThreadCount, alone, panic_text, within,
};
use heist::{Handle, Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{IntoFuture, pending, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// The main future suspends, borrows from the caller's stack and is not `Send`. `run` must poll it
/// on the calling thread and hand out what it gives.
#[test]
fn r01_run_gives_the_output_of_a_main_that_borrows_and_is_not_send() {
    let caller = thread::current().id();
    let seen = RefCell::new(Vec::new());
    let shared = Rc::new(Cell::new(1));
    let output = heist::run(async {
        for _ in 0..3 {
            seen.borrow_mut().push(thread::current().id());
            shared.set(shared.get() * 2);
            yield_now().await;
        }
        shared.get()
    });
    assert_eq!(output, 8);
    assert_eq!(*seen.borrow(), [caller; 3]);
}

/// Anything that can become a future may be run: one that is ready at once, and one that is made by
/// `IntoFuture`, which must happen exactly once.
#[test]
fn r18_r19_run_takes_whatever_can_become_a_future() {
    struct Recipe<'a>(&'a Cell<u32>);
    impl IntoFuture for Recipe<'_> {
        type Output = &'static str;
        type IntoFuture = std::future::Ready<&'static str>;
        fn into_future(self) -> Self::IntoFuture {
            self.0.set(self.0.get() + 1);
            ready("made")
        }
    }
    let made = Cell::new(0);
    assert_eq!(heist::run(ready(7)), 7);
    assert_eq!(heist::run(Recipe(&made)), "made");
    assert_eq!(made.get(), 1);
    // Neither `Debug` nor anything else is asked of the output.
    struct Opaque(u8);
    assert_eq!(heist::run(async { Opaque(9) }).0, 9);
    let failed: Result<(), &str> = heist::run(async { Err("as it is") });
    assert_eq!(failed, Err("as it is"));
}

/// Tasks of every kind are left behind: never polled, suspended, local, waiting for one another.
/// When the runtime has been closed, each future must have been dropped, once, on a thread of the
/// runtime.
#[test]
fn every_future_is_dropped_on_a_thread_of_the_runtime_before_run_returned() {
    within(|| {
        let name = Name::new();
        let drops = Drops::default();
        let tally = Tally::default();
        let mut runtime = name.builder().workers(2).build().unwrap();
        runtime.run(async {
            for n in 0..300 {
                let guard = drops.guard();
                drop(heist::spawn(tally.wrap(async move {
                    for _ in 0..n % 3 {
                        yield_now().await;
                    }
                    pending::<()>().await;
                    drop(guard);
                })));
            }
            for _ in 0..100 {
                let guard = drops.guard();
                drop(heist::spawn_local(tally.wrap(async move {
                    pending::<()>().await;
                    drop(guard);
                })));
            }
            let mut last = heist::spawn(pending::<()>());
            for _ in 0..100 {
                let guard = drops.guard();
                last = heist::spawn(tally.wrap(async move {
                    let _ = last.await;
                    drop(guard);
                }));
            }
            drop(last);
            yield_now().await;
        });
        let report = runtime.close();
        assert_eq!(drops.count(), 500);
        assert_eq!(tally.drops(), 500);
        drops.assert_on(&name, thread::current().id());
        tally.assert_sound();
        // Local tasks ended with their run, before the loop did. Of the chain, those whose
        // predecessor was dropped first may have completed instead.
        assert!(report.cancelled >= 301, "{report}");
        assert!(report.abandoned.is_empty(), "{report}");
        name.assert_gone();
    });
}

/// The same through `run`, whose runtime nobody else sees: the drops are counted when it returns.
#[test]
fn run_leaves_no_future_behind() {
    within(|| {
        let drops = Drops::default();
        let handle = heist::run(async {
            for _ in 0..1000 {
                let guard = drops.guard();
                drop(heist::spawn(async move {
                    heist::sleep(Duration::from_secs(3600)).await;
                    drop(guard);
                }));
            }
            Handle::current()
        });
        assert_eq!(drops.count(), 1000);
        assert!(handle.is_closed());
    });
}

/// A leftover is still asleep when `main` returns. `run` must cancel it and not wait for the hour.
#[test]
fn r06_a_task_that_sleeps_does_not_keep_the_loop_alive() {
    within(|| {
        let begin = Instant::now();
        let handle = heist::run(async {
            let task = heist::spawn(heist::sleep(Duration::from_secs(3600)));
            yield_now().await;
            task
        });
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(handle.is_finished());
        assert!(heist::run(handle).unwrap_err().is_cancelled());
    });
}

/// Workers and blocking threads have started. When the runtime is closed each of them must have
/// ended: not be about to end.
#[test]
fn every_thread_has_ended_when_the_runtime_is_closed() {
    within(|| {
        for _ in 0..20 {
            let (name, count) = (Name::new(), ThreadCount::default());
            let mut runtime = count.count(name.builder()).workers(3).build().unwrap();
            runtime.run(async {
                let calls: Vec<_> = (0..4).map(|_| heist::spawn_blocking(|| ())).collect();
                // One of them runs elsewhere, whatever happens to the others.
                let gate = Gate::new();
                let opener = gate.clone();
                let waits = heist::spawn_blocking(move || gate.wait());
                let task = heist::Handle::current().spawn(async move { opener.open() });
                task.await.unwrap();
                waits.await.unwrap();
                for call in calls {
                    call.await.unwrap();
                }
            });
            let report = runtime.close();
            assert!(report.is_clean(), "{report}");
            assert!(count.started() >= 1);
            assert_eq!(count.started(), count.ended());
            name.assert_gone();
        }
    });
}

/// A program that only computes needs no second thread, and must not pay for one.
#[test]
fn a_main_without_tasks_starts_no_thread() {
    let (name, count) = (Name::new(), ThreadCount::default());
    let mut runtime = count.count(name.builder()).workers(2).build().unwrap();
    let (sum, threads) = runtime.run(async {
        yield_now().await;
        (1 + 1, name.threads())
    });
    assert_eq!(sum, 2);
    assert_eq!(threads, Vec::<String>::new());
    assert!(runtime.close().is_clean());
    assert_eq!(count.started(), 0);
}

/// `main` panics while tasks are left. The panic must come out with its payload, after everything
/// has ended, and must win over what goes wrong while it ends.
#[test]
fn r02_r08_a_panic_of_main_comes_out_after_everything_has_ended() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("a leftover, on purpose");
        }
    }
    within(|| {
        let drops = Drops::default();
        let inside = drops.clone();
        let payload = std::panic::catch_unwind(move || {
            heist::run(async {
                for _ in 0..50 {
                    let guard = inside.guard();
                    drop(heist::spawn(async move {
                        pending::<()>().await;
                        drop(guard);
                    }));
                }
                drop(heist::spawn(async move {
                    let _fails = Fails;
                    pending::<()>().await;
                }));
                yield_now().await;
                std::panic::panic_any(4711_u32);
            })
        });
        assert_eq!(payload.unwrap_err().downcast_ref::<u32>(), Some(&4711));
        assert_eq!(drops.count(), 50);
        // The thread is as it was before.
        assert!(Handle::try_current().is_none());
        assert_eq!(heist::run(async { 1 }), 1);
    });
}

/// A closure runs when `main` ends, and ends within its grace. `run` must wait for it.
#[test]
fn a_running_blocking_closure_is_waited_for() {
    within(|| {
        let ended = Arc::new(AtomicUsize::new(0));
        let (begun, go) = (Gate::new(), Gate::new());
        let mut runtime = Runtime::new().unwrap();
        let handle = runtime.run(async {
            let (count, inside, begins) = (ended.clone(), go.clone(), begun.clone());
            let handle = heist::spawn_blocking(move || {
                begins.open();
                inside.wait();
                count.fetch_add(1, Ordering::SeqCst);
                "done"
            });
            begun.wait();
            handle
        });
        let opener = thread::spawn({
            let rt = runtime.handle();
            move || {
                // The end has begun: from here on it waits for the closure.
                crate::support::eventually("the runtime is closing", || rt.is_closed());
                go.open();
            }
        });
        let report = runtime.close();
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        assert!(report.is_clean(), "{report}");
        assert_eq!(heist::run(handle).unwrap(), "done");
        opener.join().unwrap();
    });
}

/// A closure outlasts its grace. The end must go on without it, name it, tell it once, and resolve
/// its handle; the closure itself must be able to end later.
#[test]
fn l03_a_blocking_closure_that_outlasts_its_grace_is_abandoned_by_name() {
    within(|| {
        let (name, reports, drops) = (Name::new(), Reports::default(), Drops::default());
        let (begun, go) = (Gate::new(), Gate::new());
        let _open = OpenOnDrop(go.clone());
        let builder = reports
            .of(name.builder())
            .blocking_grace(Duration::from_millis(20));
        let mut runtime = builder.build().unwrap();
        let handle = runtime.run(async {
            let (inside, begins, guard) = (go.clone(), begun.clone(), drops.guard());
            let handle = heist::task::Builder::new()
                .name("stubborn")
                .spawn_blocking(move || {
                    begins.open();
                    inside.wait();
                    drop(guard);
                });
            begun.wait();
            handle
        });
        let begin = Instant::now();
        let report = runtime.close();
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            begin.elapsed()
        );
        let names: Vec<_> = report
            .blocking_abandoned
            .iter()
            .map(|l| l.name.as_deref())
            .collect();
        assert_eq!(names, [Some("stubborn")], "{report}");
        assert_eq!(report.threads_left, 1, "{report}");
        assert!(report.to_string().contains("stubborn"), "{report}");
        assert!(!report.is_clean());
        assert_eq!(reports.count("BlockingAbandoned"), 1, "{:?}", reports.all());
        assert!(handle.is_finished());
        let error = heist::run(handle).unwrap_err();
        assert!(error.is_abandoned(), "{error}");
        assert_eq!(error.name(), Some("stubborn"));
        assert_eq!(
            drops.count(),
            0,
            "what an abandoned closure can touch was freed under it"
        );
        assert_eq!(
            runtime.close().blocking_abandoned.len(),
            1,
            "the same report again"
        );
        go.open();
        name.assert_gone();
        assert_eq!(drops.count(), 1);
    });
}

/// One blocking thread, which is busy: closures wait in the queue. At the end they must be dropped
/// unrun, counted, and their handles resolve as cancelled.
#[test]
fn blocking_closures_that_have_not_begun_are_cancelled() {
    within(|| {
        let drops = Drops::default();
        let (begun, go) = (Gate::new(), Gate::new());
        let mut runtime = Runtime::builder().blocking_threads(1).build().unwrap();
        let (running, queued) = runtime.run(async {
            let (inside, begins) = (go.clone(), begun.clone());
            let running = heist::spawn_blocking(move || {
                begins.open();
                inside.wait();
            });
            begun.wait();
            let queued: Vec<_> = (0..10)
                .map(|_| {
                    let guard = drops.guard();
                    heist::spawn_blocking(move || drop(guard))
                })
                .collect();
            (running, queued)
        });
        assert_eq!(drops.count(), 0);
        let handle = runtime.handle();
        let opener = thread::spawn(move || {
            crate::support::eventually("the runtime is closing", || handle.is_closed());
            go.open();
        });
        let report = runtime.close();
        // The thread of the pool may have come to some of them before the pool was closed.
        assert_eq!(drops.count(), 10);
        opener.join().unwrap();
        heist::run(async {
            running.await.unwrap();
            let mut cancelled = 0;
            for handle in queued {
                match handle.await {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(error.is_cancelled(), "{error}");
                        cancelled += 1;
                    }
                }
            }
            assert_eq!(cancelled, report.blocking_cancelled);
        });
    });
}

/// A poll, and in a second round a destructor, outlasts `poll_grace`. The end must go on without
/// it, name it and resolve its handle; what it can touch must stay.
#[test]
fn a_task_that_does_not_come_back_is_abandoned_by_name() {
    struct Blocks(Gate, Gate);
    impl Drop for Blocks {
        fn drop(&mut self) {
            self.0.open();
            self.1.wait();
        }
    }
    for in_drop in [false, true] {
        within(move || {
            let (name, drops) = (Name::new(), Drops::default());
            let (begun, go) = (Gate::new(), Gate::new());
            let _open = OpenOnDrop(go.clone());
            let builder = name
                .builder()
                .workers(2)
                .poll_grace(Duration::from_millis(50));
            let mut runtime = builder.build().unwrap();
            let polled = Gate::new();
            let (polls, begins, inside) = (polled.clone(), begun.clone(), go.clone());
            let guard = drops.guard();
            // From outside: `main` is not there, so a thread of the runtime takes it.
            let task = runtime.handle().spawn(async move {
                let _guard = guard;
                if !in_drop {
                    begins.open();
                    inside.wait();
                    return;
                }
                let _blocks = Blocks(begins, inside);
                polls.open();
                pending::<()>().await;
            });
            if in_drop {
                polled.wait();
                task.abort();
            }
            begun.wait();
            let begin = Instant::now();
            let report = runtime.close();
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "it took {:?}",
                begin.elapsed()
            );
            assert_eq!(report.abandoned.len(), 1, "{report}");
            assert_eq!(report.abandoned[0].site.file(), file!());
            assert_eq!(report.threads_left, 1, "{report}");
            assert!(task.is_finished());
            let error = heist::run(task).unwrap_err();
            assert!(error.is_abandoned(), "{error}");
            go.open();
            name.assert_gone();
            assert_eq!(drops.count(), 1);
        });
    }
}

/// Without `poll_grace` the end waits for a poll as long as it takes, and says once a second for
/// whom.
#[test]
fn the_end_says_whom_it_waits_for() {
    within(|| {
        let reports = Reports::default();
        let (begun, go) = (Gate::new(), Gate::new());
        let mut runtime = reports.of(Runtime::builder()).workers(2).build().unwrap();
        let (begins, inside) = (begun.clone(), go.clone());
        let task = runtime.handle().spawn(async move {
            begins.open();
            inside.wait();
            "came back"
        });
        begun.wait();
        let opener = thread::spawn({
            let reports = reports.clone();
            move || {
                crate::support::eventually("two reports", || reports.count("ShutdownWaits") >= 2);
                go.open();
            }
        });
        let report = runtime.close();
        opener.join().unwrap();
        assert!(report.took >= Duration::from_secs(2), "{report}");
        assert!(report.abandoned.is_empty(), "{report}");
        assert!(
            reports.all()[0].contains("lifetime.rs"),
            "{:?}",
            reports.all()
        );
        assert_eq!(heist::run(task).unwrap(), "came back");
    });
}

/// A runtime runs three futures one after the other. Send tasks must go on between the runs, local
/// tasks must end with theirs.
#[test]
fn a_runtime_that_is_run_again_keeps_send_tasks_and_ends_local_ones() {
    within(|| {
        let (drops, locals) = (Drops::default(), Drops::default());
        let mut runtime = Runtime::builder().workers(2).build().unwrap();
        let (sender, receiver) = async_channel::unbounded::<u32>();
        let (reply, replies) = async_channel::unbounded::<u32>();
        let task = runtime.run(async {
            let local = locals.guard();
            drop(heist::spawn_local(async move {
                pending::<()>().await;
                drop(local);
            }));
            let guard = drops.guard();
            heist::spawn(async move {
                let _guard = guard;
                while let Ok(n) = receiver.recv().await {
                    reply.send(n + 1).await.unwrap();
                }
                "the end"
            })
        });
        assert_eq!(locals.threads(), [thread::current().id()]);
        // Between two runs: the answer can only come from a thread of the runtime.
        sender.send_blocking(1).unwrap();
        assert_eq!(replies.recv_blocking(), Ok(2));
        assert_eq!(drops.count(), 0);
        assert_eq!(
            runtime.run(async {
                sender.send(10).await.unwrap();
                replies.recv().await
            }),
            Ok(11)
        );
        drop(sender);
        assert_eq!(runtime.run(task).unwrap(), "the end");
        let report = runtime.close();
        assert!(report.is_clean(), "{report}");
        assert_eq!(drops.count(), 1);
    });
}

/// A runtime is closed twice and then used. The second close must change nothing, and a future
/// given to a closed runtime must be dropped without a poll.
#[test]
fn r16_r20_r21_r22_l01_a_closed_runtime_refuses_to_run() {
    within(|| {
        let tally = Tally::default();
        let mut runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        runtime.run(async { drop(heist::spawn(pending::<()>())) });
        assert_eq!(runtime.close().cancelled, 1);
        assert_eq!(runtime.close().cancelled, 1);
        assert!(matches!(
            runtime.try_run(tally.wrap(async {})),
            Err(heist::RunError::Closed)
        ));
        assert_eq!((tally.polls(), tally.drops()), (0, 1));
        let text = panic_text(|| runtime.run(tally.wrap(async {})));
        assert!(text.contains("closed"), "{text}");
        assert!(matches!(
            handle.try_block_on(tally.wrap(async {})),
            Err(heist::RunError::Closed)
        ));
        assert_eq!((tally.polls(), tally.drops()), (0, 3));
    });
}

/// Inside a runtime every thread knows it: workers, `main`, blocking closures, `block_on`. Outside,
/// and after it, no thread does.
#[test]
fn r09_the_current_runtime_is_known_on_all_of_its_threads_and_nowhere_else() {
    within(|| {
        assert!(Handle::try_current().is_none());
        heist::run(async {
            assert!(Handle::try_current().is_some());
            let worker = heist::spawn(async { Handle::try_current().is_some() });
            let blocking = heist::spawn_blocking(|| Handle::try_current().is_some());
            let handle = Handle::current();
            let block_on = thread::spawn(move || {
                let inside = handle.block_on(async { Handle::try_current().is_some() });
                (inside, Handle::try_current().is_some())
            });
            assert!(worker.await.unwrap());
            assert!(blocking.await.unwrap());
            assert_eq!(block_on.join().unwrap(), (true, false));
        });
        assert!(Handle::try_current().is_none());
    });
}

/// Two threads run loops at the same time, again and again, so that one starts while another ends.
/// They must not see each other.
#[test]
fn r31_runs_in_several_threads_do_not_disturb_each_other() {
    within(|| {
        let runs = |n: u64| {
            thread::spawn(move || {
                for round in 0..50 {
                    let sum = heist::run(async move {
                        let tasks: Vec<_> = (0..20)
                            .map(|i| {
                                heist::spawn(async move {
                                    yield_now().await;
                                    n * i + round
                                })
                            })
                            .collect();
                        drop(heist::spawn(pending::<()>()));
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap();
                        }
                        sum
                    });
                    assert_eq!(sum, n * 190 + round * 20);
                }
            })
        };
        for thread in [runs(1), runs(7), runs(1000)] {
            thread.join().unwrap();
        }
    });
}

/// A destructor that runs at the end spawns a task. That future must be dropped too, on the spot,
/// and the handle say that the runtime is closed.
#[test]
fn r31_l13_a_task_spawned_while_the_loop_ends_is_refused() {
    struct Spawns(Drops, async_channel::Sender<heist::JoinHandle<()>>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let guard = self.0.guard();
            let before = self.0.count();
            let task = heist::spawn(async move { drop(guard) });
            assert_eq!(
                self.0.count(),
                before + 1,
                "the future was dropped in the call"
            );
            self.1.try_send(task).unwrap();
        }
    }
    within(|| {
        let drops = Drops::default();
        let (sender, tasks) = async_channel::unbounded();
        heist::run(async {
            let spawns = Spawns(drops.clone(), sender);
            drop(heist::spawn(async move {
                let _spawns = spawns;
                pending::<()>().await;
            }));
            yield_now().await;
        });
        assert_eq!(drops.count(), 1);
        let task = tasks.try_recv().unwrap();
        assert!(heist::run(task).unwrap_err().is_closed());
    });
}

/// A program that does no I/O and spawns nothing has no more descriptors inside `run` than before.
#[test]
fn a_main_that_only_computes_opens_no_descriptor() {
    let ended = alone(ALONE, &[], "computes_only", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// A thousand runs with tasks, timers, sockets and blocking closures, ended in every way. Threads
/// and descriptors must be the same afterwards as before.
#[test]
fn r00_a_thousand_runs_leave_neither_threads_nor_descriptors() {
    let ended = alone(ALONE, &[], "a_thousand_runs", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// A builder's runtime is the one that runs: its handle reaches the same loop as what is inside `main`
/// sees, before a run, in it and after it.
#[test]
fn r11_r15_the_builders_runtime_is_the_one_that_runs() {
    within(|| {
        let name = Name::new();
        let mut runtime = name.builder().workers(2).build().unwrap();
        let thread = || thread::current().name().map(str::to_owned);
        let handle = runtime.handle();
        let before = handle.spawn_blocking(thread);
        let (inside, by_handle) = runtime.run(async {
            let inside = Handle::current().spawn_blocking(thread).await.unwrap();
            (inside, handle.spawn_blocking(thread).await.unwrap())
        });
        let before = runtime.run(before).unwrap();
        let own = name
            .builder()
            .workers(1)
            .build()
            .unwrap()
            .run(async move { heist::spawn_blocking(thread).await.unwrap() });
        assert!(own.is_some());
        assert_eq!([&before, &inside, &by_handle], [&own, &own, &own]);
        runtime.close();
        name.assert_gone();
    });
}

/// The threads of a runtime are started once: further runs use the same ones.
#[test]
fn r29_threads_are_started_once_for_all_runs() {
    within(|| {
        let threads = ThreadCount::default();
        let builder = Runtime::builder().workers(3).start_threads(true);
        // The thread of `run` is no worker, so none has to stand in for it between two runs.
        let builder = builder.main_thread(heist::MainThread::Dedicated);
        let mut runtime = threads.count(builder).build().unwrap();
        for _ in 0..3 {
            let task = async { heist::spawn(async { 1 }).await.unwrap() };
            assert_eq!(runtime.run(task), 1);
        }
        runtime.close();
        assert_eq!((threads.started(), threads.ended()), (3, 3));
    });
}

/// What `run` hands out is not looked at on its way: no `Debug`, no `Clone`, no `Send`.
#[test]
fn r30_an_output_needs_no_traits() {
    struct Opaque(Rc<u8>);
    within(|| {
        assert_eq!(*heist::run(async { Opaque(Rc::new(1)) }).0, 1);
        let Ok(output) = heist::try_run(async { Opaque(Rc::new(2)) }) else {
            panic!("it was refused");
        };
        assert_eq!(*output.0, 2);
        let mut runtime = Runtime::new().unwrap();
        assert_eq!(*runtime.run(async { Opaque(Rc::new(3)) }).0, 3);
    });
}
