//! Cancelling `main`: it is dropped at its next suspension point, an output that is ready first wins,
//! and the run says what happened.
#![forbid(unsafe_code)]

use crate::support::{Drops, Name, Tally, panic_text, within};
use heist::task::{AbortHandle, cancelling, uncancel};
use heist::{Handle, RunError, Runtime, catch_cancel, yield_now};
use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

/// A thread that asks for the end of what it is sent.
fn aborter() -> (mpsc::Sender<AbortHandle>, thread::JoinHandle<AbortHandle>) {
    let (send, receive) = mpsc::channel::<AbortHandle>();
    let thread = thread::spawn(move || {
        let handle = receive.recv().unwrap();
        handle.abort();
        handle
    });
    (send, thread)
}

/// `main` asks for its own end, goes on, and suspends. It is dropped then and there, not in the
/// call, and never polled again.
#[test]
fn main_that_aborts_itself_ends_at_its_next_suspension_point() {
    within(|| {
        let (drops, tally) = (Drops::default(), Tally::default());
        let after_the_call = Rc::new(Cell::new(false));
        let ended = heist::try_run(tally.wrap({
            let (guard, drops) = (drops.guard(), drops.clone());
            let after_the_call = after_the_call.clone();
            async move {
                let _guard = guard;
                AbortHandle::current().abort();
                assert_eq!(drops.count(), 0, "dropped inside the call");
                after_the_call.set(true);
                yield_now().await;
                panic!("it was polled again");
            }
        }));
        assert!(matches!(ended, Err(RunError::Cancelled)));
        assert!(after_the_call.get());
        assert_eq!((drops.count(), tally.polls(), tally.drops()), (1, 1, 1));
        tally.assert_sound();
        assert_eq!(drops.threads(), [thread::current().id()]);
    });
}

/// As for tasks: the request comes, and `main` ends without another suspension.
#[test]
fn an_output_of_main_that_is_ready_first_wins() {
    within(|| {
        let ended = heist::try_run(async {
            AbortHandle::current().abort();
            12
        });
        assert_eq!(ended.unwrap(), 12);
    });
}

/// Another thread asks, while `main` waits for ever beside local tasks and Send tasks. All of it is
/// gone when the call returns.
#[test]
fn main_is_cancelled_from_another_thread_while_it_waits() {
    within(|| {
        for workers in [1, 2, 4] {
            let (name, drops) = (Name::new(), Drops::default());
            let mut runtime = name.builder().workers(workers).build().unwrap();
            let (send, thread) = aborter();
            let ended = runtime.try_run(async {
                for _ in 0..4 {
                    let guard = drops.guard();
                    drop(heist::spawn_local(async move {
                        let _guard = guard;
                        pending::<()>().await;
                    }));
                }
                let _guard = drops.guard();
                send.send(AbortHandle::current()).unwrap();
                pending::<()>().await
            });
            assert!(matches!(ended, Err(RunError::Cancelled)));
            assert_eq!(drops.count(), 5, "main and the local tasks");
            assert!(thread.join().unwrap().is_finished());
            drops.assert_on(&name, thread::current().id());
            // A long-lived runtime goes on.
            assert_eq!(
                runtime.run(async { heist::spawn(async { 3 }).await.unwrap() }),
                3
            );
        }
    });
}

/// A busy `main` never waits, so nobody has to wake it. The request reaches it all the same.
#[test]
fn main_that_only_yields_is_cancelled() {
    within(|| {
        let (send, thread) = aborter();
        let ended: Result<(), RunError> = heist::try_run(async {
            send.send(AbortHandle::current()).unwrap();
            loop {
                yield_now().await;
            }
        });
        assert!(matches!(ended, Err(RunError::Cancelled)));
        thread.join().unwrap();
    });
}

/// Send tasks outlive the cancelled `main` of a long-lived runtime, as they outlive one that ends.
#[test]
fn tasks_go_on_when_main_is_cancelled() {
    within(|| {
        let mut runtime = Runtime::new().unwrap();
        let task = runtime.handle().spawn(async { 7 });
        let ended: Result<(), RunError> = runtime.try_run(async {
            AbortHandle::current().abort();
            pending().await
        });
        assert!(matches!(ended, Err(RunError::Cancelled)));
        assert_eq!(runtime.run(task).unwrap(), 7);
    });
}

#[test]
fn run_panics_with_the_message_when_main_was_cancelled() {
    within(|| {
        let cancelled = async {
            AbortHandle::current().abort();
            pending::<()>().await
        };
        let text = panic_text(|| crate::support::run(cancelled));
        assert!(text.contains("the main future was cancelled"), "{text}");
    });
}

/// A destructor of the cancelled `main` panics: that is what comes out, after the end.
#[test]
fn a_panic_while_main_is_dropped_takes_the_place_of_the_error() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    within(|| {
        let text = panic_text(|| {
            heist::try_run(async {
                let _bomb = Bomb;
                AbortHandle::current().abort();
                pending::<()>().await
            })
        });
        assert_eq!(text, "in the destructor");
    });
}

/// The body of a scope is cancelled. Its tasks, which borrow, are gone when `scope` panics.
#[test]
fn a_cancelled_scope_cancels_its_tasks_and_waits_for_them() {
    within(|| {
        let drops = Drops::default();
        let text = panic_text(|| {
            heist::scope(async |s| {
                for _ in 0..4 {
                    let guard = drops.guard();
                    drop(s.spawn(async move {
                        let _guard = guard;
                        pending::<()>().await;
                    }));
                }
                yield_now().await;
                AbortHandle::current().abort();
                pending::<()>().await
            })
        });
        assert!(text.contains("cancelled"), "{text}");
        assert_eq!(drops.count(), 4);
    });
}

/// Whose handle it is, in every place where code can be polled.
#[test]
fn the_current_handle_is_that_of_what_is_polled() {
    within(|| {
        assert!(AbortHandle::try_current().is_none());
        crate::support::run(async {
            let main = AbortHandle::current();
            assert_eq!(
                main.id(),
                AbortHandle::current().id(),
                "main keeps its name"
            );
            assert!(!main.is_finished());

            let task = heist::spawn(async {
                let own = AbortHandle::current();
                own.clone().abort();
                (own.id(), yield_now().await).0
            });
            let (id, handle) = (task.id(), task.abort_handle());
            assert_ne!(id, main.id());
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(handle.is_finished());

            let local = heist::spawn_local(async { AbortHandle::current().id() });
            let id = local.id();
            assert_eq!(local.await.unwrap(), id);

            let closure = heist::spawn_blocking(|| AbortHandle::current().id());
            let id = closure.id();
            assert_eq!(closure.await.unwrap(), id);

            let handle = Handle::current();
            let visitor = heist::spawn_blocking(move || {
                handle.block_on(async { AbortHandle::try_current().is_none() })
            });
            // A blocking closure of the same runtime may not enter it again.
            let _ = visitor.await;
        });
        let text = panic_text(|| drop(AbortHandle::current()));
        assert!(text.contains("AbortHandle::current"), "{text}");
    });
}

/// A handle to a `main` that ended long ago does nothing, also when its runtime is gone.
#[test]
fn a_handle_to_main_may_outlive_the_run() {
    within(|| {
        let late = crate::support::run(async { AbortHandle::current() });
        assert!(late.is_finished());
        late.abort();
        late.clone().abort();
        let mut runtime = Runtime::new().unwrap();
        let first = runtime.run(async { AbortHandle::current() });
        first.abort();
        assert_eq!(
            runtime.run(async {
                yield_now().await;
                5
            }),
            5,
            "it aimed at the first main"
        );
    });
}

/// `main` has caught a request and cleans up; a second one comes from another thread. Nothing catches it, so
/// `main` is dropped, as a task is.
#[test]
fn a_second_request_drops_main_in_its_cleanup() {
    within(|| {
        let drops = Drops::default();
        let (send, receive) = mpsc::channel::<AbortHandle>();
        let thread = thread::spawn(move || receive.into_iter().for_each(|main| main.abort()));
        let ended: Result<(), RunError> = heist::try_run(async {
            send.send(AbortHandle::current()).unwrap();
            assert!(catch_cancel(pending::<()>()).await.is_err());
            let _guard = drops.guard();
            // In cleanup: it may wait.
            yield_now().await;
            send.send(AbortHandle::current()).unwrap();
            pending().await
        });
        assert!(matches!(ended, Err(RunError::Cancelled)));
        assert_eq!(drops.count(), 1);
        assert_eq!(drops.threads(), [thread::current().id()]);
        drop(send);
        thread.join().unwrap();
    });
}

/// A region that `main` has entered in its cleanup catches the second request, with its reason; and so
/// does one after another.
#[test]
fn a_second_request_goes_to_a_region_in_the_cleanup_of_main() {
    within(|| {
        let (send, receive) = mpsc::channel::<AbortHandle>();
        let thread = thread::spawn(move || {
            for (number, main) in receive.into_iter().enumerate() {
                main.abort_with(number.to_string());
            }
        });
        let seen = crate::support::run(async {
            let mut seen = Vec::new();
            for _ in 0..4 {
                send.send(AbortHandle::current()).unwrap();
                let caught = catch_cancel(pending::<()>()).await.unwrap_err();
                seen.push((caught.reason().map(String::from), cancelling()));
                yield_now().await;
            }
            assert_eq!((uncancel(), uncancel()), (3, 2));
            seen
        });
        let expected = (0..4).map(|number: usize| (Some(number.to_string()), number + 1));
        assert!(seen.into_iter().eq(expected));
        drop(send);
        thread.join().unwrap();
    });
}

/// Requests that come before `main` has looked at the first are counted, and are delivered as one, with
/// the first reason.
#[test]
fn requests_to_main_are_counted() {
    within(|| {
        let caught = crate::support::run(async {
            let work = async {
                let main = AbortHandle::current();
                let others = thread::spawn(move || {
                    main.abort_with("the first");
                    main.abort_with("the second");
                });
                others.join().unwrap();
                AbortHandle::current().abort_with("the third");
                assert_eq!(cancelling(), 3);
                pending::<()>().await;
            };
            let caught = catch_cancel(work).await.unwrap_err();
            assert_eq!((cancelling(), uncancel(), uncancel()), (3, 2, 1));
            yield_now().await;
            assert_eq!(uncancel(), 0);
            yield_now().await;
            caught
        });
        assert_eq!(caught.reason(), Some("the first"));
    });
}
