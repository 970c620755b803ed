//! The only door to the primitives of the model-checked protocols.
//!
//! The protocols that are model-checked (`task/state.rs`, `idle`, `guests.rs`, `summons.rs`) import these names
//! from here, so that `--cfg heist_loom` swaps the real primitives for loom's in one place. Loom cannot see into
//! `parking_lot`; the lock below keeps its signatures over loom's mutex.

#![forbid(unsafe_code)]

#[cfg(not(heist_loom))]
mod real {
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };

    /// Gives the processor to somebody else while a guest finishes.
    pub(crate) fn yield_thread() {
        std::thread::yield_now();
    }
}

#[cfg(heist_loom)]
mod real {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };

    /// loom's mutex with the signatures of `parking_lot`.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model never panics under a lock")
        }
    }

    pub(crate) fn yield_thread() {
        loom::thread::yield_now();
    }
}

pub(crate) use real::*;
