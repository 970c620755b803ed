//! Loom's primitives. It cannot see into `parking_lot`; the lock below keeps its signatures over
//! loom's mutex.
//!
//! There is no clock: a wait with a time limit gives the others a turn, and is over.

#![forbid(unsafe_code)]

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::time::Instant;

/// Loom's macro is of an edition that has no constant blocks.
macro_rules! local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const $value:block;) => {
        loom::thread_local! {
            $(#[$attribute])*
            static $name: $type = $value;
        }
    };
}
pub(crate) use local as thread_local;

/// Loom's, with the `get_mut` that it lacks.
#[derive(Debug)]
pub(crate) struct AtomicPtr<T> {
    inner: loom::sync::atomic::AtomicPtr<T>,
    /// What `get_mut` lends. Writes to it are lost: it is for looks before the end.
    copy: Copied<T>,
}

/// A pointer that nobody uses through a shared reference.
#[derive(Debug)]
struct Copied<T>(std::sync::atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        AtomicPtr {
            inner: loom::sync::atomic::AtomicPtr::new(pointer),
            copy: Copied(std::sync::atomic::AtomicPtr::new(pointer)),
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut *mut T {
        let copy = self.copy.0.get_mut();
        *copy = self.inner.with_mut(|pointer| *pointer);
        copy
    }
}

impl<T> Deref for AtomicPtr<T> {
    type Target = loom::sync::atomic::AtomicPtr<T>;
    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

/// loom's mutex with the signatures of `parking_lot`.
///
/// Loom's cannot be made in a constant, so it is made with the first lock.
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    inner: OnceLock<loom::sync::Mutex<T>>,
    value: std::sync::Mutex<Option<T>>,
}

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Empty only inside of a wait.
    inner: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex {
            inner: OnceLock::new(),
            value: std::sync::Mutex::new(Some(value)),
        }
    }

    fn inner(&self) -> &loom::sync::Mutex<T> {
        self.inner.get_or_init(|| {
            let value = self.value.lock().expect("nobody panics under it").take();
            loom::sync::Mutex::new(value.expect("it is made once"))
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let inner = self
            .inner()
            .lock()
            .expect("a model never panics under a lock");
        MutexGuard {
            mutex: self,
            inner: Some(inner),
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        let _ = self.inner();
        let inner = self.inner.get_mut().expect("it was just made");
        inner.get_mut().expect("a model never panics under a lock")
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
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

/// Loom's, with the signatures of `parking_lot`.
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

/// Whether the time was over.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.inner.take().expect("nobody waits with it");
        let back = self.0.wait(inner);
        guard.inner = Some(back.expect("a model never panics under a lock"));
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _: Instant,
    ) -> WaitTimeoutResult {
        guard.inner = None;
        thread::yield_now();
        guard.inner = guard.mutex.lock().inner;
        WaitTimeoutResult(true)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// See `real.rs`.
#[path = "own.rs"]
pub(crate) mod own;

/// Loom's threads, which park on tokens of their own, and a system that may have none. (To loom's `unpark` a thread
/// that waits in a `join` is one that is parked.)
pub(crate) mod thread {
    use loom::sync::{Condvar, Mutex};
    pub(crate) use loom::thread::yield_now;
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use std::thread::Result;
    use std::time::Duration;

    loom::thread_local! {
        static CURRENT: RefCell<Option<Thread>> = RefCell::new(None);
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
            *self.0.token.lock().expect("nobody panics under it") = true;
            self.0.given.notify_one();
        }

        pub(crate) fn id(&self) -> ThreadId {
            ThreadId(Arc::as_ptr(&self.0))
        }
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(|current| current.borrow_mut().get_or_insert_default().clone())
    }

    pub(crate) fn park() {
        let thread = current();
        let mut token = thread.0.token.lock().expect("nobody panics under it");
        while !*token {
            token = thread.0.given.wait(token).expect("nobody panics under it");
        }
        *token = false;
    }

    pub(crate) fn park_timeout(_: Duration) {
        yield_now();
    }

    pub(crate) fn sleep(_: Duration) {
        yield_now();
    }

    #[derive(Debug)]
    pub(crate) struct Builder(loom::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder(loom::thread::Builder::new())
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
            // Of the standard library: whoever looks at it orders nothing by that.
            let finished = Arc::new(AtomicBool::new(false));
            let thread = Thread::default();
            let inner = self.0.spawn({
                let (thread, finished) = (thread.clone(), finished.clone());
                move || {
                    CURRENT.with(|current| current.replace(Some(thread)));
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
        inner: loom::thread::JoinHandle<T>,
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
