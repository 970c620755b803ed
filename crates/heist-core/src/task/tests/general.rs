//! The cell over the real scheduler: who drops what, how often, and where panics go; what wakers
//! and handles may do that outlive everything.

#![forbid(unsafe_code)]

use super::support::{
    Bomb, Count, Event, block_on, config, go, here, message, reports, run, run_outcome, runtime,
    with_workers, within,
};
use crate::{
    BUDGET, Handle, JoinHandle, NotLocal, Report, Unseen, block_in_place, entered, spawn_local,
    task_id, yield_now,
};
use std::cell::RefCell;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

/// Rounds of a test whose threads race.
const ROUNDS: usize = if cfg!(miri) { 3 } else { 300 };

// Who drops what.

/// The handle is ready: the future is gone, the output is the joiner's.
#[test]
fn a_ready_handle_means_the_future_is_gone() {
    with_workers("join", |workers| {
        let (future, output) = (Count::default(), Count::default());
        let (futures, outputs) = (future.clone(), output.clone());
        let ((), report) = run(workers, async move {
            let (captured, result) = (future.on_drop(), output.on_drop());
            let handle = go(async move {
                yield_now().await;
                let _captured = captured;
                result
            });
            let result = handle.await.expect("an output");
            assert_eq!((future.get(), output.get()), (1, 0));
            drop(result);
        });
        assert_eq!((futures.get(), outputs.get()), (1, 1));
        assert!(report.is_clean(), "{report}");
    });
}

/// A detached task's output is dropped once, by the worker that completes it.
#[test]
fn a_detached_task_goes_on_and_its_output_is_dropped() {
    with_workers("detach", |workers| {
        let output = Count::default();
        let outputs = output.clone();
        let ((), report) = run(workers, async move {
            let (event, ended) = (Event::default(), Event::default());
            let (start, told, result) = (event.clone(), ended.clone(), output.on_drop());
            drop(go(async move {
                start.await;
                told.set();
                result
            }));
            yield_now().await;
            assert_eq!(output.get(), 0);
            event.set();
            ended.await;
            while output.get() == 0 {
                yield_now().await;
            }
        });
        assert_eq!(outputs.get(), 1);
        assert_eq!(report.cancelled, 0, "{report}");
    });
}

/// A handle dropped after the end drops the output, there and then.
#[test]
fn a_handle_dropped_late_drops_the_output() {
    with_workers("late drop", |workers| {
        let ((), _) = run(workers, async {
            let output = Count::default();
            let result = output.on_drop();
            let handle = go(async move { result });
            while !handle.is_finished() {
                yield_now().await;
            }
            assert_eq!(output.get(), 0);
            drop(handle);
            assert_eq!(output.get(), 1);
        });
    });
}

/// Handles are dropped on one thread while the tasks complete on another: every output is dropped
/// once, whoever comes first.
#[test]
fn handles_dropped_during_completion_drop_each_output_once() {
    with_workers("drop against completion", |workers| {
        let output = Count::default();
        for round in 0..ROUNDS {
            let result = output.on_drop();
            let ((), _) = run(workers, async move {
                let handle = go(async move { result });
                if round % 2 == 0 {
                    yield_now().await;
                }
                let dropper = thread::spawn(move || drop(handle));
                yield_now().await;
                dropper.join().expect("dropping does not panic");
            });
            assert_eq!(output.get(), round + 1);
        }
    });
}

/// The end of the loop drops every future once, whatever its task was doing.
#[test]
fn the_end_drops_every_future_once() {
    with_workers("the end", |workers| {
        let future = Count::default();
        let futures = future.clone();
        let (handles, report) = run(workers, async move {
            let mut handles = Vec::new();
            for polled in [true, false] {
                let captured = future.on_drop();
                handles.push(go(async move {
                    let _captured = captured;
                    pending::<()>().await;
                }));
                if polled {
                    yield_now().await;
                }
            }
            handles
        });
        assert_eq!(futures.get(), 2);
        assert_eq!(report.cancelled, 2, "{report}");
        for handle in handles {
            let error = block_on(handle).expect_err("it never ends by itself");
            assert!(error.is_cancelled(), "{error}");
        }
    });
}

// Panics.

/// A panic in a poll reaches the joiner with its payload; the future is dropped once.
#[test]
fn a_panic_in_poll_reaches_the_joiner() {
    with_workers("panic in poll", |workers| {
        let ((), report) = run(workers, async {
            let future = Count::default();
            let captured = future.on_drop();
            let error = go(async move {
                let _captured = captured;
                panic!("in poll");
            })
            .await
            .expect_err("it panics");
            assert!(error.is_panic() && error.reason() == "in poll", "{error}");
            assert_eq!(message(&*error.into_panic()), "in poll");
            assert_eq!(future.get(), 1);
        });
        assert!(report.is_clean(), "{report}");
    });
}

/// A future whose destructor panics after it was ready: the panic takes the output's place.
#[test]
fn a_panic_in_the_futures_destructor_takes_the_outputs_place() {
    with_workers("panic in drop", |workers| {
        let ((), _) = run(workers, async {
            let (future, output) = (Count::default(), Count::default());
            let (bomb, mut result) = (Bomb(future.clone(), "in drop"), Some(output.on_drop()));
            let error = go(poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(result.take())
            }))
            .await
            .map(|_| ())
            .expect_err("its destructor panics");
            assert_eq!(message(&*error.into_panic()), "in drop");
            assert_eq!((future.get(), output.get()), (1, 1));
        });
    });
}

/// A panic in poll and another one in the destructor: the first is the one that is told.
#[test]
fn a_panic_on_top_of_a_panic_is_swallowed() {
    with_workers("two panics", |workers| {
        let ((), _) = run(workers, async {
            let future = Count::default();
            let bomb = Bomb(future.clone(), "second");
            let error = go(poll_fn(move |_| -> Poll<()> {
                let _ = &bomb;
                panic!("first")
            }))
            .await
            .expect_err("it panics");
            assert_eq!(message(&*error.into_panic()), "first");
            assert_eq!(future.get(), 1);
        });
    });
}

/// Nobody wants the output, and its destructor panics: reported once, the worker goes on. The
/// handler may ask which task is being polled: none, since the task may be freed already.
#[test]
fn a_panic_nobody_will_see_is_reported_once() {
    with_workers("unseen panic", |workers| {
        let mut config = config(workers);
        let (send, told) = mpsc::channel();
        let (reported, output) = (Count::default(), Count::default());
        let counts = reported.clone();
        config.hooks.on_error = Some(Arc::new(move |report: &Report<'_>| {
            let _ = send.send((report.to_string(), task_id()));
            counts.add();
        }));
        let (outcome, _) = runtime(config).run_and_close(Location::caller(), async move {
            let bomb = Bomb(output.clone(), "of the output");
            drop(go(async move { bomb }));
            drop(go(async { panic!("of the poll") }));
            while reported.get() < 2 {
                yield_now().await;
            }
            assert_eq!(go(async { 1 }).await.expect("the worker goes on"), 1);
            assert_eq!(output.get(), 1, "the output was dropped once");
        });
        outcome.expect("main does not panic");
        let mut told: Vec<_> = told.try_iter().collect();
        told.sort_by(|a, b| {
            a.0.contains("of the poll")
                .cmp(&b.0.contains("of the poll"))
        });
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].0.contains("of the output") && told[1].0.contains("of the poll"));
        assert!(told.iter().all(|(_, id)| id.is_none()), "{told:?}");
    });
}

/// A payload whose own destructor panics hurts nobody.
#[test]
fn a_payload_that_panics_when_dropped_is_contained() {
    /// The payload of its own panic is leaked, by design; this one takes no memory.
    struct Payload(Count);
    impl Drop for Payload {
        fn drop(&mut self) {
            self.0.add();
            std::panic::panic_any(());
        }
    }
    with_workers("payload", |workers| {
        let payload = Count::default();
        let payloads = payload.clone();
        let ((), _) = run(workers, async move {
            let bomb = Payload(payload);
            let error = go(async move { std::panic::panic_any(bomb) })
                .await
                .expect_err("it panics");
            assert!(error.is_panic());
            drop(error);
        });
        assert_eq!(payloads.get(), 1);
    });
}

/// A panic of main comes back after the loop has ended; one of its destructor takes the output's
/// place.
#[test]
fn a_panic_of_main_comes_after_the_end() {
    with_workers("main panics", |workers| {
        let future = Count::default();
        let captured = future.on_drop();
        let (outcome, report) = run_outcome(workers, async move {
            drop(go(async move {
                let _captured = captured;
                pending::<()>().await;
            }));
            panic!("main");
        });
        assert_eq!(message(&*outcome.expect_err("main panics")), "main");
        assert_eq!((future.get(), report.cancelled), (1, 1), "{report}");

        let bomb = Bomb(Count::default(), "main's destructor");
        let (outcome, _) = run_outcome(
            workers,
            poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(())
            }),
        );
        assert_eq!(
            message(&*outcome.expect_err("its destructor panics")),
            "main's destructor"
        );
    });
}

// Cancellation.

/// Aborted before its first poll: never polled, its future dropped by the runtime, not in the call.
#[test]
fn abort_of_a_queued_task() {
    with_workers("abort queued", |_| {
        let ((), _) = run(1, async {
            let (future, polls) = (Count::default(), Count::default());
            let (captured, polled) = (future.on_drop(), polls.clone());
            let handle = go(async move {
                let _captured = captured;
                polled.add();
            });
            handle.abort();
            handle.abort();
            assert_eq!(future.get(), 0, "not inside the call");
            assert!(handle.await.expect_err("aborted").is_cancelled());
            assert_eq!((future.get(), polls.get()), (1, 0));
        });
    });
}

/// Aborted while it waits: its future is gone when `cancel` returns, and it was not polled again.
#[test]
fn abort_of_an_idle_task() {
    with_workers("abort idle", |workers| {
        let ((), _) = run(workers, async {
            let (future, polls) = (Count::default(), Count::default());
            let event = Event::default();
            let (captured, polled, waits) = (future.on_drop(), polls.clone(), event.clone());
            let handle = go(async move {
                let _captured = captured;
                let mut waits = waits;
                poll_fn(move |cx| {
                    polled.add();
                    std::pin::Pin::new(&mut waits).poll(cx)
                })
                .await;
            });
            while polls.get() == 0 {
                yield_now().await;
            }
            let abort = handle.abort_handle();
            assert!(handle.cancel().await.expect_err("aborted").is_cancelled());
            assert_eq!((future.get(), polls.get()), (1, 1));
            // Late requests and late wakes do nothing.
            abort.abort();
            assert!(abort.is_finished());
            event.set();
        });
    });
}

/// Whoever aborts a task does not run its destructor: the task is dropped where it would be polled.
#[test]
fn abort_drops_nothing_on_the_aborting_thread() {
    let future = Count::default();
    let captured = future.on_drop();
    let ((), _) = run(1, async {
        let event = Event::default();
        let waits = event.clone();
        let handle = go(async move {
            let _captured = captured;
            waits.await;
        });
        while event.wakers().is_empty() {
            yield_now().await;
        }
        handle.abort();
        assert_eq!(future.get(), 0, "abort has dropped the future itself");
        assert!(handle.await.expect_err("aborted").is_cancelled());
        assert_eq!(future.get(), 1);
    });
}

/// A context whose code unwinds is left as one whose code returns.
#[test]
fn a_context_is_left_when_its_code_panics() {
    use crate::context::{self, Context, Role};
    let ((), _) = run(1, async {
        context::with(|outer| {
            let outer = outer.expect("inside");
            let inner = Context::new(outer.shared, Role::BlockOn, Location::caller());
            let code = || context::enter(&inner, || panic!("on purpose"));
            catch_unwind(AssertUnwindSafe(code)).expect_err("it panics");
            context::with(|now| {
                let now = now.expect("still inside");
                assert!(std::ptr::eq(now, outer), "the inner context stays");
            });
        });
    });
}

/// A task that aborts itself ends at its next suspension point; if it is ready first, ready wins.
#[test]
fn abort_of_a_running_task() {
    with_workers("abort running", |workers| {
        let ((), _) = run(workers, async {
            for suspends in [true, false] {
                let (send, own) = mpsc::channel::<crate::AbortHandle>();
                let handle = go(async move {
                    own.recv().expect("its own handle").abort();
                    if suspends {
                        yield_now().await;
                    }
                    7
                });
                send.send(handle.abort_handle()).expect("it listens");
                match handle.await {
                    Ok(output) => assert!(!suspends && output == 7),
                    Err(error) => assert!(suspends && error.is_cancelled(), "{error}"),
                }
            }
        });
    });
}

/// A task that is done keeps its output in spite of a request.
#[test]
fn abort_of_a_finished_task() {
    with_workers("abort done", |workers| {
        let ((), _) = run(workers, async {
            let handle = go(ready(3));
            while !handle.is_finished() {
                yield_now().await;
            }
            handle.abort();
            assert_eq!(handle.await.expect("its output"), 3);
        });
    });
}

// What outlives the runtime.

/// Wakers and handles that outlive the runtime can be used and dropped, on any thread.
#[test]
fn wakers_and_handles_outlive_the_runtime() {
    with_workers("late wakers", |workers| {
        let event = Event::default();
        let (waits, local) = (event.clone(), event.clone());
        let ((handle, abort), _) = run(workers, async move {
            let handle = go(waits);
            drop(spawn_local(here(), local).expect("main may"));
            // Main's own waker is among them.
            let mut own = event.clone();
            poll_fn(|cx| {
                let _ = std::pin::Pin::new(&mut own).poll(cx);
                Poll::Ready(())
            })
            .await;
            while event.wakers().len() < 3 {
                yield_now().await;
            }
            let (abort, wakers) = (handle.abort_handle(), event.wakers());
            ((handle, wakers), abort)
        });
        let (handle, wakers) = handle;
        assert_eq!(wakers.len(), 3);
        let late = thread::spawn(move || {
            for waker in wakers {
                waker.wake_by_ref();
                waker.wake();
            }
        });
        abort.clone().abort();
        assert!(abort.is_finished() && handle.is_finished());
        late.join().expect("late wakes do not panic");
        assert!(
            block_on(handle)
                .expect_err("ended by the runtime")
                .is_cancelled()
        );
    });
}

/// Foreign threads wake, clone, drop and abort while the loop ends and frees everything.
#[test]
fn foreign_wakes_during_the_end() {
    with_workers("wakes during the end", |workers| {
        let future = Count::default();
        for round in 0..ROUNDS {
            let (a, b) = (Event::default(), Event::default());
            let (send, receive) = mpsc::channel();
            let foreign = thread::spawn(move || {
                let (wakers, abort): (Vec<std::task::Waker>, crate::AbortHandle) =
                    receive.recv().expect("main sends");
                for turn in 0..20 {
                    wakers.iter().for_each(|waker| {
                        let clone = waker.clone();
                        clone.wake_by_ref();
                        clone.wake();
                    });
                    if turn == round % 20 {
                        abort.abort();
                    }
                }
            });
            let captured = [future.on_drop(), future.on_drop()];
            let ((), report) = run(workers, async move {
                let [first, second] = captured;
                let (waits, local) = (a.clone(), b.clone());
                let handle = go(async move {
                    let _first = first;
                    waits.await;
                });
                drop(spawn_local(here(), async move {
                    let _second = second;
                    local.await;
                }));
                while a.wakers().is_empty() || b.wakers().is_empty() {
                    yield_now().await;
                }
                let wakers = a.wakers().into_iter().chain(b.wakers()).collect();
                send.send((wakers, handle.abort_handle()))
                    .expect("it listens");
            });
            foreign.join().expect("wakes do not panic");
            assert_eq!(future.get(), 2 * (round + 1));
            assert_eq!(report.threads_left, 0);
        }
    });
}

/// Spawning on a closed runtime: the future is dropped in the call, the handle says why.
#[test]
fn spawn_after_the_end_is_refused() {
    with_workers("closed", |workers| {
        let (handle, _) = run(workers, async { Handle::try_current().expect("inside") });
        assert!(handle.is_closed());
        let future = Count::default();
        let captured = future.on_drop();
        let joined = handle.spawn(here(), async move { drop(captured) });
        assert_eq!(future.get(), 1);
        assert!(joined.is_finished());
        assert!(block_on(joined).expect_err("closed").is_closed());

        let captured = future.on_drop();
        let (_future, error) = handle
            .try_spawn(here(), async move { drop(captured) }, Unseen::dropped())
            .expect_err("closed");
        assert!(error.is_closed());
        assert_eq!(future.get(), 1, "it came back");

        let captured = future.on_drop();
        let joined = handle.spawn_blocking(here(), move || drop(captured));
        assert!(block_on(joined).expect_err("closed").is_closed());
        assert_eq!(future.get(), 2);
    });
}

/// Closing twice gives the same report; what runs in between is waited for.
#[test]
fn close_is_idempotent() {
    with_workers("close", |workers| {
        let mut runtime = runtime(config(workers));
        runtime
            .run(Location::caller(), async { drop(go(pending::<()>())) })
            .expect("no panic");
        let first = runtime.close(Location::caller());
        let second = runtime.close(Location::caller());
        assert_eq!((first.cancelled, second.cancelled), (1, 1));
        assert!(runtime.is_closed());
    });
}

/// A task holds its own runtime and drops it. Nobody waits for himself.
#[test]
fn a_runtime_dropped_inside_its_own_task() {
    with_workers("drop inside", |workers| {
        let future = Count::default();
        let captured = future.on_drop();
        let runtime = runtime(config(workers));
        let handle = runtime.handle();
        drop(handle.spawn(here(), async move {
            let _captured = captured;
            pending::<()>().await;
        }));
        let joined = handle.spawn(here(), async move {
            drop(runtime);
            yield_now().await;
        });
        // Either it is cancelled at its suspension point, or it was quicker.
        match block_on(joined) {
            Ok(()) => {}
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
        while future.get() == 0 {
            thread::yield_now();
        }
        assert!(handle.is_closed());
    });
}

/// The same from one of its blocking closures, when the runtime has no other thread.
#[test]
fn a_runtime_dropped_inside_its_own_closure() {
    with_workers("drop inside a closure", |workers| {
        let runtime = runtime(config(workers));
        let handle = runtime.handle();
        let joined = handle.spawn_blocking(here(), move || drop(runtime));
        block_on(joined).expect("it was running already");
        while !handle.is_closed() {
            thread::yield_now();
        }
    });
}

/// A poll outlasts `poll_grace`: its handle says so, the report names it, and the future is dropped
/// when the poll comes back at last.
#[test]
#[cfg_attr(
    miri,
    ignore = "its graces are shorter than what Miri needs to join a thread"
)]
fn a_poll_that_outlasts_its_grace_is_abandoned() {
    within("abandon", || {
        let mut config = config(2);
        config.poll_grace = Some(Duration::from_millis(20));
        let future = Count::default();
        let captured = future.on_drop();
        let (release, blocked) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let mut runtime = runtime(config);
        let handle = runtime.handle();
        let stuck = handle.spawn(here(), async move {
            let _captured = captured;
            begun.send(()).expect("the test listens");
            let _ = blocked.recv();
            pending::<()>().await;
        });
        begins.recv().expect("it begins");
        let waits = thread::spawn(move || block_on(stuck));
        let behind = handle.spawn(here(), pending::<()>());
        let report = runtime.close(Location::caller());
        assert_eq!(report.abandoned.len(), 1, "{report}");
        assert_eq!(report.threads_left, 1, "{report}");
        assert!(block_on(behind).expect_err("ended").is_cancelled());
        let error = waits.join().expect("no panic").expect_err("abandoned");
        assert!(error.is_abandoned(), "{error}");
        assert_eq!(future.get(), 0, "still in its poll");
        drop(release);
        while future.get() == 0 {
            thread::yield_now();
        }
    });
}

// Pinned work.

/// Local tasks run on the thread of `run`, also when they are woken or aborted elsewhere.
#[test]
fn local_tasks_stay_on_their_thread() {
    with_workers("local", |workers| {
        let ((), _) = run(workers, async {
            let own = thread::current().id();
            let seen = Rc::new(RefCell::new(Vec::new()));
            let event = Event::default();
            let (notes, waits) = (seen.clone(), event.clone());
            let handle = spawn_local(here(), async move {
                notes.borrow_mut().push(thread::current().id());
                waits.await;
                notes.borrow_mut().push(thread::current().id());
            })
            .expect("main may");
            let wakes = thread::spawn(move || {
                event.wait_for_waiter();
                event.set();
            });
            handle.await.expect("it ends");
            wakes.join().expect("no panic");
            assert_eq!(*seen.borrow(), [own, own]);

            // Dropped here too, although the request comes from elsewhere.
            let captured = seen.clone();
            let handle = spawn_local(here(), async move {
                let _captured = captured;
                pending::<()>().await;
            })
            .expect("main may");
            yield_now().await;
            let abort = handle.abort_handle();
            let aborts = thread::spawn(move || abort.abort());
            assert!(handle.await.expect_err("aborted").is_cancelled());
            aborts.join().expect("no panic");
            assert_eq!(Rc::strong_count(&seen), 1);
        });
    });
}

/// A Send task may not spawn local ones, on whatever thread it runs; nor may a plain thread.
#[test]
fn spawn_local_is_refused_elsewhere() {
    with_workers("not local", |workers| {
        let ((), _) = run(workers, async {
            let refused = go(async { spawn_local(here(), ready(())).map(|_| ()) });
            assert_eq!(refused.await.expect("no panic"), Err(NotLocal::NotPinned));
        });
        assert_eq!(
            spawn_local(here(), ready(())).map(|_| ()),
            Err(NotLocal::NoRuntime)
        );
    });
}

// Progress.

/// Two tasks that wake each other for ever do not keep a third one from running, with one worker. The
/// pair gives up after so many polls that nobody can call it a turn.
#[test]
fn a_pair_does_not_starve_a_third() {
    const FOR_EVER: usize = 10_000;
    within("starvation", || {
        let ((), _) = run(1, async {
            let stop = Arc::new(AtomicBool::new(false));
            let polls = Count::default();
            let events = Arc::new([const { parking_lot::Mutex::new(None::<std::task::Waker>) }; 2]);
            for own in [0, 1] {
                let (events, stop, polls) = (events.clone(), stop.clone(), polls.clone());
                drop(go(poll_fn(move |cx| {
                    if stop.load(Ordering::Relaxed) || polls.add() > FOR_EVER {
                        return Poll::Ready(());
                    }
                    *events[own].lock() = Some(cx.waker().clone());
                    if let Some(other) = events[1 - own].lock().take() {
                        other.wake();
                    }
                    Poll::Pending
                })));
            }
            for _ in 0..3 {
                go(yield_now()).await.expect("the third runs");
            }
            stop.store(true, Ordering::Relaxed);
            let polls = polls.get();
            assert!(polls < FOR_EVER, "the third ran when the pair had ended");
        });
    });
}

/// Main blocks its thread until a task has run that a foreign thread wakes: another worker must
/// take it, though this one may just have been searching.
#[test]
fn a_blocked_main_does_not_stop_the_others() {
    within("blocked main", || {
        let ((), _) = run(2, async {
            for round in 0..ROUNDS.min(30) {
                let event = Event::default();
                let (waits, (told, tells)) = (event.clone(), mpsc::channel());
                let task = go(async move {
                    waits.await;
                    told.send(()).expect("main listens");
                });
                while event.wakers().is_empty() {
                    yield_now().await;
                }
                for _ in 0..round % 3 {
                    yield_now().await;
                }
                let wakes = thread::spawn(move || event.set());
                tells.recv().expect("another worker runs it");
                wakes.join().expect("no panic");
                task.await.expect("it ends");
            }
        });
    });
}

/// A task blocks its worker until another one has run that it woke itself: it lies in the LIFO slot, and
/// must be rescued, with `block_in_place` or without.
#[test]
fn a_blocked_task_does_not_keep_what_it_woke() {
    within("blocked task", || {
        let ((), _) = run(2, async {
            for in_place in [true, false] {
                let blocker = go(async move {
                    let (told, tells) = mpsc::channel();
                    let woken = go(async move { told.send(()).expect("the blocker listens") });
                    let waits = move || tells.recv().expect("another worker runs it");
                    if in_place {
                        block_in_place(waits);
                    } else {
                        waits();
                    }
                    woken.await.expect("it ends");
                });
                blocker.await.expect("it ends");
            }
        });
    });
}

/// A run ends while a foreign thread is in `block_on`; what that spawns afterwards still runs.
#[test]
fn block_on_finds_a_worker_after_the_run() {
    with_workers("block_on", |workers| {
        for _ in 0..ROUNDS.min(50) {
            let mut runtime = runtime(config(workers));
            let handle = runtime.handle();
            let (inside, entered) = mpsc::channel();
            let visitor = thread::spawn(move || {
                handle.block_on(Location::caller(), async move {
                    inside.send(()).expect("the test listens");
                    go(async { 5 }).await.expect("it runs")
                })
            });
            let outcome = runtime.run(Location::caller(), async move {
                entered.recv().expect("it enters");
            });
            outcome.expect("no panic");
            assert_eq!(visitor.join().expect("no panic").expect("a worker"), 5);
        }
    });
}

/// One poll may complete more operations than its budget: it is told to wait its turn, but an
/// executor inside the poll, or inside a blocking closure, gets on.
#[test]
fn the_budget_never_stops_a_poll_for_ever() {
    with_workers("budget", |workers| {
        // Miri takes its time.
        let many = BUDGET as usize + if cfg!(miri) { 1 } else { 300 };
        let ((), _) = run(workers, async move {
            let mut finished = Vec::new();
            for _ in 0..3 {
                let mut handles: Vec<JoinHandle<()>> = (0..many).map(|_| go(ready(()))).collect();
                for handle in &mut handles {
                    while !handle.is_finished() {
                        yield_now().await;
                    }
                }
                finished.push(handles);
            }
            let all = |handles: Vec<JoinHandle<()>>| async move {
                for handle in handles {
                    handle.await.expect("it has ended");
                }
            };
            go(all(finished.pop().expect("three")))
                .await
                .expect("in turns");
            let nested = all(finished.pop().expect("three"));
            go(async move { block_on(nested) }).await.expect("nested");
            let nested = all(finished.pop().expect("three"));
            let handle = Handle::try_current().expect("inside");
            handle
                .spawn_blocking(here(), move || block_on(nested))
                .await
                .expect("in a closure");
        });
    });
}

// The blocking pool.

/// Two closures, the first of which waits for the second, are sent while one thread is idle: the
/// second must not count on it as well.
#[test]
fn an_idle_thread_is_counted_on_once() {
    with_workers("two closures", |workers| {
        let ((), _) = run(workers, async {
            let handle = Handle::try_current().expect("inside");
            for _ in 0..ROUNDS.min(50) {
                // Leaves a thread that is idle, or about to be.
                handle.spawn_blocking(here(), || ()).await.expect("it runs");
                let (send, receive) = mpsc::channel();
                let first = handle.spawn_blocking(here(), move || receive.recv());
                let second = handle.spawn_blocking(here(), move || send.send(9));
                assert_eq!(first.await.expect("it runs"), Ok(9));
                second.await.expect("it runs").expect("it is heard");
            }
        });
    });
}

/// As many closures as there may be threads, none of which returns before all have begun: first
/// without a thread, then with some that are idle and others to be started.
#[test]
fn closures_that_wait_for_each_other_all_run() {
    within("closures that meet", || {
        let mut config = config(1);
        config.blocking_threads = 40;
        let (outcome, report) = runtime(config).run_and_close(Location::caller(), async {
            let handle = Handle::try_current().expect("inside");
            for together in [3, 40, 40] {
                let barrier = Arc::new(std::sync::Barrier::new(together));
                let joins: Vec<_> = (0..together)
                    .map(|_| {
                        let barrier = barrier.clone();
                        handle.spawn_blocking(here(), move || barrier.wait().is_leader())
                    })
                    .collect();
                let mut leaders = 0;
                for join in joins {
                    leaders += usize::from(join.await.expect("it runs"));
                }
                assert_eq!(leaders, 1);
            }
        });
        outcome.expect("no panic");
        assert!(report.is_clean(), "{report}");
    });
}

/// The bound holds, and what waits beyond it gets its turn.
#[test]
fn the_pool_is_bounded() {
    within("the bound", || {
        let mut config = config(1);
        config.blocking_threads = 2;
        let (outcome, report) = runtime(config).run_and_close(Location::caller(), async {
            let handle = Handle::try_current().expect("inside");
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let joins: Vec<_> = (0..20)
                .map(|_| {
                    let (now, most) = (now.clone(), most.clone());
                    handle.spawn_blocking(here(), move || {
                        let inside = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(inside, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    })
                })
                .collect();
            for join in joins {
                join.await.expect("it runs");
            }
            assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
        });
        outcome.expect("no panic");
        assert!(report.is_clean(), "{report}");
    });
}

/// At the end of the loop a closure that runs is waited for, one that waits is cancelled, and both
/// are dropped once.
#[test]
fn the_end_waits_for_closures_that_run() {
    within("closures at the end", || {
        let mut config = config(1);
        config.blocking_threads = 1;
        let closure = Count::default();
        let (running, waiting) = (closure.on_drop(), closure.on_drop());
        let (outcome, report) = runtime(config).run_and_close(Location::caller(), async move {
            let handle = Handle::try_current().expect("inside");
            let (begun, begins) = mpsc::channel();
            let (release, released) = mpsc::channel::<()>();
            let first = handle.spawn_blocking(here(), move || {
                begun.send(()).expect("main listens");
                let _ = released.recv();
                drop(running);
            });
            // Cancelling the second one lets the first one go.
            let second = handle.spawn_blocking(here(), move || drop((waiting, release)));
            begins.recv().expect("it begins");
            (first, second)
        });
        let (first, second) = outcome.expect("no panic");
        block_on(first).expect("it was running");
        assert!(
            block_on(second)
                .expect_err("it had not begun")
                .is_cancelled()
        );
        assert_eq!(
            (closure.get(), report.blocking_cancelled),
            (2, 1),
            "{report}"
        );
    });
}

/// A closure that panics tells its joiner, and its thread goes on.
#[test]
fn a_closure_that_panics_leaves_its_thread_alive() {
    within("closure panics", || {
        let mut config = config(1);
        config.blocking_threads = 1;
        let told = reports(&mut config);
        let (outcome, _) = runtime(config).run_and_close(Location::caller(), async {
            let handle = Handle::try_current().expect("inside");
            let error = handle
                .spawn_blocking(here(), || panic!("in the closure"))
                .await
                .expect_err("it panics");
            assert_eq!(error.reason(), "in the closure");
            assert_eq!(
                handle.spawn_blocking(here(), || 4).await.expect("it runs"),
                4
            );
        });
        outcome.expect("no panic");
        assert_eq!(told.try_iter().count(), 0, "somebody awaited it");
    });
}

/// The thread's context comes and goes with `run`.
#[test]
fn the_context_is_restored() {
    with_workers("context", |workers| {
        assert!(entered().is_none() && task_id().is_none());
        let ((), _) = run(workers, async {
            assert!(entered().is_some() && task_id().is_none());
            let handle = go(async { task_id() });
            let id = handle.id();
            assert_eq!(handle.await.expect("it runs"), Some(id));
        });
        assert!(entered().is_none());
    });
}

/// Ending an idle runtime is quick: nobody sleeps through the end.
#[test]
fn the_end_wakes_every_sleeper() {
    with_workers("prompt end", |workers| {
        for _ in 0..ROUNDS.min(30) {
            let ((), report) = run(workers, async {
                go(yield_now()).await.expect("it runs");
            });
            assert_eq!(report.threads_left, 0);
        }
        let began = Instant::now();
        let ((), report) = run(workers, async { drop(go(pending::<()>())) });
        assert_eq!(report.cancelled, 1);
        // The next thing anybody would wake for by itself is the report after a second.
        assert!(cfg!(miri) || began.elapsed() < Duration::from_millis(900));
    });
}

/// Threads ask tasks to end while these enter, catch and leave regions, with a name or without one:
/// the side record is made once, by whoever is first, and given back once.
#[test]
fn the_side_record_is_made_by_whoever_needs_it_first() {
    with_workers("regions", |workers| {
        let caught = Count::default();
        let (ended, report) = run(workers, {
            let caught = caught.clone();
            async move {
                let mut ended = 0;
                for round in 0..ROUNDS {
                    let caught = caught.clone();
                    let mut spawn = here();
                    spawn.name = (round % 2 == 0).then(|| "named".into());
                    let task = crate::spawn(
                        spawn,
                        async move {
                            for _ in 0..round % 3 {
                                yield_now().await;
                            }
                            if crate::catch_cancel(std::future::pending::<()>())
                                .await
                                .is_err()
                            {
                                caught.add();
                            }
                        },
                        crate::Unseen::dropped(),
                    );
                    let Ok(task) = task else {
                        panic!("no runtime here");
                    };
                    let threads = [0, 1].map(|_| {
                        let abort = task.abort_handle();
                        thread::spawn(move || abort.abort_with("a thread"))
                    });
                    match task.await {
                        Ok(()) => {}
                        Err(error) => assert_eq!(error.reason(), "a thread"),
                    }
                    ended += 1;
                    for thread in threads {
                        thread.join().expect("it does not panic");
                    }
                }
                ended
            }
        });
        assert_eq!(ended, ROUNDS);
        assert!(caught.get() <= ROUNDS);
        assert!(report.is_clean(), "{report}");
    });
}

/// A region is carried out of its task, which ends, and is dropped on another thread afterwards: it
/// is what frees the task.
#[test]
fn a_region_outlives_its_task() {
    within("a region carried out", || {
        let (give, given) = mpsc::channel();
        let ((), report) = run(1, async {
            let mut region = Box::pin(crate::catch_cancel(pending::<()>()));
            let task = go(async move {
                poll_fn(|cx| {
                    assert!(region.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                give.send(region).expect("both ends are here");
            });
            task.await.expect("it is ready");
        });
        assert!(report.is_clean(), "{report}");
        let region = given.recv().expect("it was sent");
        thread::spawn(move || drop(region))
            .join()
            .expect("it does not panic");
    });
}
