//! A model of the thread of `run` that changes its slot while it is woken.

#![forbid(unsafe_code)]

use super::Address;
use crate::models::model;
use crate::summons::Summons;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

/// The thread of `run` leaves its slot while somebody wakes `main`. It sees the wake, or the unpark reaches
/// what it parks on from now on.
///
/// Fails when either fence is left out.
#[test]
fn models_unpark_against_a_change_of_slot() {
    // Counted: 11.
    model(5, || {
        let world = Arc::new((
            Address::new(),
            Summons::new(),
            [AtomicBool::new(false), AtomicBool::new(false)],
        ));
        world.0.change(Some(0));
        assert!(world.1.take_woken());
        let waker = thread::spawn({
            let world = world.clone();
            move || {
                assert!(world.1.wake());
                let slot = world.0.find().expect("it is on a slot all the time");
                world.2[slot].store(true, Ordering::Relaxed);
            }
        });
        world.0.change(Some(1));
        let seen = world.1.is_woken();
        waker.join().unwrap();
        assert!(
            seen || world.2[1].load(Ordering::Relaxed),
            "parks although main was woken"
        );
    });
}
