//! Models of what others tell the thread of `run`.

#![forbid(unsafe_code)]

use super::Local;
use crate::main_loop::{MainLoop, Outcome};
use crate::models::model;
use crate::models::world::{shared, worker};
use crate::seam::NEVER;
use crate::task::Runnable;
use crate::values::Values;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// The thread of a run, after a look at everything.
fn looked() -> Local {
    let (shared, _) = shared(1, 0);
    let local = Local::new(&shared, Arc::new(Values::new()));
    assert!(local.pinned.take_attention() && local.take_main_woken());
    local
}

/// `main` is woken, and a local task is, while the thread goes on with Send tasks and looks once whether there is
/// anything pinned. What that look misses calls for another one.
///
/// Fails when `take_attention` or `call_attention` is Relaxed, and when either is a store. (That mail is announced by
/// Release, and taken by Acquire, is not seen: the lock of the inbox orders the two.)
#[test]
fn models_what_a_look_misses_calls_for_another() {
    // Counted: 167.
    model(80, || {
        let local = looked();
        let waker = Waker::from(local.pinned.clone());
        let wakes = thread::spawn(move || waker.wake());
        let pinned = local.pinned.clone();
        let delivers = thread::spawn(move || pinned.wake_task(None, Runnable::new(1)));
        // As the loop of `main`.
        let (mut woken, mut task) = (false, None);
        if local.pinned.take_attention() {
            woken = local.take_main_woken();
            task = local.next();
            local.looked();
        }
        wakes.join().unwrap();
        delivers.join().unwrap();
        let missed = !woken || task.is_none();
        assert!(!missed || local.pinned.take_attention(), "it looks no more");
        assert!(woken || local.take_main_woken());
        let task = task.or_else(|| local.next()).expect("it was delivered");
        assert_eq!(task.run(), 1);
    });
}

/// The thread parks without a slot while `main` is woken. It returns, and sees what it was woken for.
///
/// Fails when `park` takes the token Relaxed. (That `unpark` gives it Release is not seen: `find` has fenced.)
#[test]
fn models_who_returns_from_a_park_sees_why() {
    // Counted: 10.
    model(5, || {
        let local = looked();
        let waker = Waker::from(local.pinned.clone());
        let wakes = thread::spawn(move || waker.wake());
        local.pinned.park(NEVER);
        assert!(local.has_work(), "it parks again");
        assert!(local.pinned.take_attention(), "it does not look");
        wakes.join().unwrap();
    });
}

/// A whole run, on a slot and without one: `main` waits for another thread, which says what it has to, and wakes it.
/// It ends.
///
/// Fails when `wake_main` unparks nobody, when `Summons::wake` or `take_woken` is Relaxed, and when `park` takes the token
/// Relaxed: it sleeps for ever, as loom says.
#[test]
fn models_main_is_woken_where_it_parks() {
    for on_slot in [true, false] {
        // Counted: 126 and 126.
        model(60, move || {
            let (shared, _) = shared(1, 0);
            let _other = (!on_slot).then(|| worker(&shared, 0));
            let mut main = MainLoop::new(&shared, Arc::new(Values::new()), shared.site);
            assert_eq!(shared.closing.main().is_some(), on_slot);
            let said = loom::sync::Arc::new(AtomicBool::new(false));
            let mut other = None;
            let outcome = main.run(poll_fn(|cx| {
                if other.is_none() {
                    let (said, waker) = (said.clone(), cx.waker().clone());
                    other = Some(thread::spawn(move || {
                        said.store(true, Ordering::Relaxed);
                        waker.wake();
                    }));
                }
                match said.load(Ordering::Relaxed) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }));
            assert!(matches!(outcome, Outcome::Output(())));
            main.finish();
            other.expect("it was polled").join().unwrap();
        });
    }
}
