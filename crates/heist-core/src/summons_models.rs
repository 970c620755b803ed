//! Models of those who ask for the end of `main` against the thread that polls it.

#![forbid(unsafe_code)]

use super::Summons;
use crate::models::model;
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// The thread of `run`, from one park to the next: it looks twice, and takes a wake of its own in
/// between as a `main` that yields does. True if it saw the request.
fn turns(main: &Summons) -> bool {
    let mut own = true;
    for _ in 0..2 {
        // Bitwise: a wake of one kind must not leave the other for later.
        if std::mem::take(&mut own) | main.take_woken() && main.is_requested() {
            return true;
        }
    }
    false
}

/// A request comes while `main` yields. Either a turn sees it, or a wake is left that keeps the
/// thread from parking, and the turn that takes it sees the request.
///
/// Bites: with `wake` made Relaxed; with `wake` before `request`; with a plain store of WOKEN by the
/// thread of `run` in place of `own`.
#[test]
fn models_a_request_is_seen_by_whoever_takes_its_wake() {
    // Counted: 37.
    model(18, || {
        let main = Arc::new(Summons::new());
        assert!(main.take_woken());
        let asker = thread::spawn({
            let main = main.clone();
            move || {
                assert!(main.request());
                // Whether somebody must unpark is the parker's business.
                let _ = main.wake();
            }
        });
        let seen = turns(&main);
        // What a look finds without the help of `join`, which would order everything.
        let late = !seen && main.take_woken();
        assert!(!late || main.is_requested(), "a wake without its request");
        asker.join().expect("it does not panic");
        assert!(
            seen || late || (main.is_woken() && main.is_requested()),
            "the request is lost"
        );
    });
}

/// Two ask at once, and a third wakes for another reason. One of the two was first.
///
/// Bites: with `request` as a load and a store.
#[test]
fn models_one_of_two_requests_is_the_first() {
    // Counted: 27.
    model(13, || {
        let main = Arc::new(Summons::new());
        let firsts = Arc::new(AtomicUsize::new(0));
        let ask = |main: &Summons, firsts: &AtomicUsize| {
            if main.request() {
                firsts.fetch_add(1, Ordering::Relaxed);
            }
            let _ = main.wake();
        };
        let other = thread::spawn({
            let (main, firsts) = (main.clone(), firsts.clone());
            move || ask(&main, &firsts)
        });
        ask(&main, &firsts);
        assert!(main.take_woken());
        assert!(main.is_requested());
        other.join().expect("it does not panic");
        assert_eq!(firsts.load(Ordering::Relaxed), 1);
    });
}

/// `main` ends while somebody asks: the request was the first, or came too late, and is never both.
///
/// Bites: with the two flags in words of their own.
#[test]
fn models_a_request_is_before_or_after_the_end() {
    // Counted: 14.
    model(7, || {
        let main = Arc::new(Summons::new());
        let asker = thread::spawn({
            let main = main.clone();
            move || main.request()
        });
        let noticed = main.take_woken() && main.is_requested();
        main.end();
        assert!(main.has_ended());
        let first = asker.join().expect("it does not panic");
        assert!(first || !noticed, "it was seen before the end, and refused");
        assert!(!main.request(), "the end is an end");
    });
}

/// `main` ends, and somebody looks whether it has: whoever sees so sees what its destructor did.
///
/// Bites: with `end`, or `has_ended`, made Relaxed.
#[test]
fn models_who_sees_the_end_sees_what_came_before() {
    // Counted: 6.
    model(3, || {
        let main = Arc::new((Summons::new(), AtomicUsize::new(0)));
        let looker = thread::spawn({
            let main = main.clone();
            move || {
                let ended = main.0.has_ended();
                assert!(
                    !ended || main.1.load(Ordering::Relaxed) == 1,
                    "it is still there"
                );
            }
        });
        main.1.store(1, Ordering::Relaxed);
        main.0.end();
        looker.join().expect("it does not panic");
    });
}

/// The proof that nobody can reach `main` (`deadlock.rs`, d5 and d6): a foreign thread uses the only waker
/// while the thread of `main` rests, and may return from its rest for no reason. Whoever looks and finds
/// no waker, no wake and one rest all the time, must not have overlooked the wake: `main` has had its turn
/// for it. `count` plays the count of the `Arc` that wakers are.
///
/// Bites: without the fence; with the decrement Relaxed; with the rest ended after `take_woken`.
#[test]
fn models_the_last_waker_of_main_is_not_overlooked() {
    let looks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let proven = looks.clone();
    // Counted: 237.
    model(110, move || {
        let main = Arc::new((Summons::new(), Mutex::new((1, true)), AtomicUsize::new(1)));
        assert!(main.0.take_woken());
        let foreign = thread::spawn({
            let main = main.clone();
            move || {
                let _ = main.0.wake();
                main.2.fetch_sub(1, Ordering::Release);
            }
        });
        let thread_of_main = thread::spawn({
            let main = main.clone();
            move || {
                main.1.lock().unwrap().1 = false;
                let ran = main.0.take_woken();
                *main.1.lock().unwrap() = (2 + u64::from(ran), true);
            }
        });
        let rest = || {
            let rest = main.1.lock().unwrap();
            rest.1.then_some(rest.0)
        };
        let first = rest();
        let none_left = main.2.load(Ordering::Relaxed) == 0;
        fence(Ordering::Acquire);
        let unwoken = !main.0.is_woken();
        if first.is_some() && none_left && unwoken && rest() == first {
            assert_eq!(first, Some(3), "a wake was overlooked");
            proven.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        foreign.join().unwrap();
        thread_of_main.join().unwrap();
    });
    let proven = looks.load(std::sync::atomic::Ordering::Relaxed);
    assert!(proven > 0, "the model never came to a proof");
}
