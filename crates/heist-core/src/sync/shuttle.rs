//! Shuttle's primitives. Its threads are coroutines on one thread of the system, so whatever can
//! block, or is kept for each thread, must be one of these.
//!
//! There is no clock. A wait with a time limit may end by it whenever the scheduler likes: it gives
//! the others a turn and then the time is over.

#![forbid(unsafe_code)]

use shuttle::rand::Rng;
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use shuttle::thread_local;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// Shuttle's mutex with the signatures of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Empty only inside of a wait.
    inner: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let inner = self.0.lock().expect("a model never panics under a lock");
        MutexGuard {
            mutex: self,
            inner: Some(inner),
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        let inner = self.0.get_mut();
        inner.expect("a model never panics under a lock")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.inner.as_ref().expect("nobody waits with it")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("nobody waits with it")
    }
}

/// Shuttle's, with the signatures of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

/// Whether the time was over.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.inner.take().expect("nobody waits with it");
        let back = self.0.wait(inner);
        guard.inner = Some(back.expect("a model never panics under a lock"));
    }

    /// Waits, or the time is over at once: one or the other, as chance has it.
    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _: Instant,
    ) -> WaitTimeoutResult {
        let is_over = shuttle::rand::thread_rng().r#gen();
        if is_over {
            guard.inner = None;
            thread::yield_now();
            guard.inner = guard.mutex.lock().inner;
        } else {
            self.wait(guard);
        }
        WaitTimeoutResult(is_over)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Whoever waits for another thread in a loop must let it run: there is one processor.
pub(crate) fn spin_loop() {
    thread::yield_now();
}

/// See `real.rs`.
#[path = "own.rs"]
pub(crate) mod own;

/// Threads that park on tokens of their own: shuttle's `park` may wake without a reason, which would
/// hide every lost wake-up.
pub(crate) mod thread {
    use super::{Condvar, Mutex};
    pub(crate) use shuttle::thread::yield_now;
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use std::thread::Result;
    use std::time::Duration;

    shuttle::thread_local! {
        static CURRENT: RefCell<Thread> = RefCell::default();
    }

    std::thread_local! {
        /// How many threads the next calls of `Builder::spawn` fail to start.
        static REFUSED: Cell<usize> = const { Cell::new(0) };
    }

    /// The system has no thread for the next `count` who ask.
    #[cfg(test)]
    pub(crate) fn refuse(count: usize) {
        REFUSED.set(count);
    }

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Thread(Arc<Parker>);

    #[derive(Debug, Default)]
    struct Parker {
        token: Mutex<bool>,
        given: Condvar,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct ThreadId(*const Parker);

    impl Thread {
        pub(crate) fn unpark(&self) {
            *self.0.token.lock() = true;
            self.0.given.notify_one();
        }

        pub(crate) fn id(&self) -> ThreadId {
            ThreadId(Arc::as_ptr(&self.0))
        }
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(|current| current.borrow().clone())
    }

    pub(crate) fn park() {
        let thread = current();
        let mut token = thread.0.token.lock();
        while !*token {
            thread.0.given.wait(&mut token);
        }
        *token = false;
    }

    /// How long nobody waits in a model, in nanoseconds: whoever would is woken, or the model hangs.
    pub(crate) const PATIENCE: u64 = 500_000_000;

    pub(crate) fn park_timeout(limit: Duration) {
        if limit >= Duration::from_nanos(PATIENCE) {
            return park();
        }
        yield_now();
        *current().0.token.lock() = false;
    }

    pub(crate) fn sleep(_: Duration) {
        yield_now();
    }

    #[derive(Debug, Default)]
    pub(crate) struct Builder(shuttle::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder::default()
        }

        pub(crate) fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        pub(crate) fn stack_size(self, size: usize) -> Builder {
            Builder(self.0.stack_size(size))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            body: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let refused = REFUSED.get();
            if refused > 0 {
                REFUSED.set(refused - 1);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let thread = Thread::default();
            let finished = Arc::new(AtomicBool::new(false));
            let inner = self.0.spawn({
                let (thread, finished) = (thread.clone(), finished.clone());
                move || {
                    CURRENT.with(|current| current.replace(thread));
                    let output = body();
                    finished.store(true, Ordering::Relaxed);
                    output
                }
            })?;
            Ok(JoinHandle {
                inner,
                thread,
                finished,
            })
        }
    }

    #[derive(Debug)]
    pub(crate) struct JoinHandle<T> {
        inner: shuttle::thread::JoinHandle<T>,
        thread: Thread,
        finished: Arc<AtomicBool>,
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn thread(&self) -> &Thread {
            &self.thread
        }

        pub(crate) fn is_finished(&self) -> bool {
            self.finished.load(Ordering::Relaxed)
        }

        pub(crate) fn join(self) -> Result<T> {
            self.inner.join()
        }
    }
}
