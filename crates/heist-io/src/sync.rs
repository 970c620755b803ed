//! The only door to atomics, locks and threads.
//!
//! Under `--cfg heist_loom` every name here becomes a stand-in that the model checker can see, so
//! that [`models`](crate) run the very code that ships. What differs from the real thing:
//!
//! - [`park`] with a timeout returns at once, as if the time had passed. Models have no clock.

#![forbid(unsafe_code)]

#[cfg(not(heist_loom))]
pub(crate) use self::real::*;

#[cfg(heist_loom)]
pub(crate) use self::modelled::*;

#[cfg(not(heist_loom))]
mod real {
    use std::time::Duration;

    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::thread::{Thread, current};

    /// Sleeps until the thread is unparked, the time is over, or spuriously.
    pub(crate) fn park(timeout: Option<Duration>) {
        match timeout {
            Some(timeout) => std::thread::park_timeout(timeout),
            None => std::thread::park(),
        }
    }
}

#[cfg(heist_loom)]
mod modelled {
    use std::sync::Arc;
    use std::time::Duration;

    pub(crate) use loom::sync::Condvar;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };

    loom::thread_local! {
        static CURRENT: Thread = Thread(Arc::new(Parker {
            token: Mutex::new(false),
            given: Condvar::new(),
        }));
    }

    /// A thread with a token of its own. (Loom's `unpark` loses its token when the thread waits for a
    /// lock, and then reports deadlocks that are none.)
    #[derive(Clone)]
    pub(crate) struct Thread(Arc<Parker>);

    pub(crate) struct Parker {
        token: Mutex<bool>,
        given: Condvar,
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(Thread::clone)
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            *self.0.token.lock() = true;
            self.0.given.notify_one();
        }
    }

    pub(crate) fn park(timeout: Option<Duration>) {
        let thread = current();
        let mut token = thread.0.token.lock();
        while timeout.is_none() && !*token {
            token = thread
                .0
                .given
                .wait(token)
                .unwrap_or_else(|poison| poison.into_inner());
        }
        *token = false;
    }

    /// A lock without poisoning, like the real one.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poison| poison.into_inner())
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0
                .get_mut()
                .unwrap_or_else(|poison| poison.into_inner())
        }
    }

    /// A reader-writer lock without poisoning. Modelled as a plain lock: no reader here waits for
    /// another reader, so the runs are the same and there are far fewer of them.
    pub(crate) struct RwLock<T>(Mutex<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn read(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }

        pub(crate) fn write(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }
    }
}
