//! Tasks that borrow from the caller's stack.
//!
//! # The one lifetime argument
//!
//! A future that borrows for `'env` is handed to threads that know nothing of `'env`. That is sound
//! if the future is gone before [`scope()`] returns, and if nothing else of type `'env` is left where
//! somebody could reach it. It is so because:
//!
//! 1. `scope` owns its runtime and ends it on every path: `run_and_close` returns only after every
//!    task's future has been dropped. Its `poll_grace` is "for ever", whatever its builder was told
//!    ([`Builder::scope`](crate::Builder::scope)), so none is abandoned. A panic
//!    of the body or of a task is caught inside and raised again after the end.
//! 2. If the code between those two points unwinds nevertheless, which would be a bug of ours, the
//!    unwinding drops the runtime, and that ends it likewise: this thread polls for no other runtime
//!    (`check_nested`), so the drop waits. A panic on top of that one ends the process.
//! 3. A task's output does not stay in its cell, which a forgotten waker could keep: it goes to a
//!    slot shared by the task's future (gone by 1) and its [`ScopedHandle`]. The handle cannot
//!    outlive `'scope`. If it is forgotten, the output is leaked: never dropped, never reached.
//! 4. A task may hold the [`Scope`] itself. That is a local variable of the function `scope`, which
//!    outlives the runtime, and not of the main future, which does not outlive the tasks. And a task is
//!    spawned on the scope's own runtime, whatever runtime the calling thread is in.
//! 5. `'scope` and `'env` are invariant (`PhantomData` below), so that neither can be shrunk or
//!    grown to fit a future that borrows less long than they say.

use crate::interrupt::give_up;
use crate::run::check_nested;
use crate::{Builder, Handle, JoinError, JoinHandle, Runtime};
use heist_core::{Spawn, drop_beside_panic, drop_payload};
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Runs `body` to its end on a runtime of its own, and waits for every task that it has spawned in
/// its scope. The tasks may borrow what outlives the call.
///
/// Like [`run`](crate::run()) it blocks, and like `run` it is not called inside a running runtime.
/// Its runtime is a default one; [`Builder::scope`] has options.
///
/// If the body or a task of the scope panics, everything else is cancelled; when all of it is gone,
/// the panic goes on. If the body is cancelled (see
/// [`AbortHandle::current`](crate::task::AbortHandle::current)), so are the tasks, and when all of it
/// is gone, `scope` panics.
///
/// ```
/// let words = vec!["to", "steal", "or", "to", "wait"];
/// let mut longest = "";
/// let total: usize = heist::scope(async |s| {
///     let lengths: Vec<_> =
///         words.iter().map(|word| s.spawn(async move { word.len() })).collect();
///     longest = words.iter().max_by_key(|word| word.len()).unwrap();
///     let mut total = 0;
///     for length in lengths {
///         total += length.await.unwrap();
///     }
///     total
/// });
/// assert_eq!((total, longest), (15, "steal"));
/// ```
///
/// A task cannot borrow from the body itself, which may end before it:
///
/// ```compile_fail
/// heist::scope(async |s| {
///     let local = 5;
///     s.spawn(async { println!("{}", &local) });
/// });
/// ```
///
/// # Panics
///
/// With the message of a [`RunError`](crate::RunError): inside a running runtime with that of `Nested`, or
/// `Forked` in the child of a `fork`; when its body was cancelled with that of `Cancelled`; in
/// [debug mode](crate::Builder::debug), when it can never go on, with that of `Deadlock`. And with the
/// first panic of the body or of a task.
#[track_caller]
pub fn scope<'env, F, T>(body: F) -> T
where
    F: for<'scope> AsyncFnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    scope_on(Runtime::builder(), Location::caller(), body)
}

/// See [`scope()`] and [`Builder::scope`], which has taken the `poll_grace` away.
#[track_caller]
pub(crate) fn scope_on<'env, F, T>(builder: Builder, site: &'static Location<'static>, body: F) -> T
where
    F: for<'scope> AsyncFnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    if let Err(error) = check_nested("scope") {
        panic!("{error}");
    }
    let runtime = match builder.build_at(site) {
        Ok(runtime) => runtime,
        Err(error) => panic!("heist: the runtime of a scope could not be made: {error}"),
    };
    let state = Arc::new(State::default());
    // Tasks may hold a reference to the scope itself. It lives in this frame, and not in `main`'s
    // future, which is dropped before the tasks are.
    let scope = Scope {
        runtime: runtime.handle(),
        state: state.clone(),
        scope: PhantomData,
        env: PhantomData,
    };
    let main = async {
        let output = state.until_panic(body(&scope)).await?;
        state.until_panic(state.all_done()).await?;
        Ok(output)
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.run_and_close(site, main)));
    // The runtime has ended, whatever goes on now: a panic of the body or of a task, or Ctrl-C. A task
    // that panicked later than `main` has looked has left its payload.
    let late = state.inner.lock().panic.take();
    match (ended, late) {
        (Ok(Ok(Ok(output))), None) => output,
        (Ok(Ok(Ok(output))), Some(payload)) => {
            drop_beside_panic(output);
            resume_unwind(payload)
        }
        (Ok(Ok(Err(payload))) | Err(payload), late) => {
            late.into_iter().for_each(drop_payload);
            resume_unwind(payload)
        }
        // The body was cancelled, and with it the tasks.
        (Ok(Err(error)), late) => {
            late.into_iter().for_each(drop_payload);
            give_up(&error)
        }
    }
}

/// Where tasks that borrow are spawned; given to the body of [`scope()`].
pub struct Scope<'scope, 'env: 'scope> {
    /// The scope's own: a task must not land on that of whatever thread `spawn` is called on.
    runtime: Handle,
    state: Arc<State>,
    /// Invariant: `'scope` is exactly the time in which tasks may be spawned and run.
    scope: PhantomData<&'scope mut &'scope ()>,
    /// Invariant: `'env` is exactly what outlives the call of `scope`.
    env: PhantomData<&'env mut &'env ()>,
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("live", &self.state.inner.lock().live)
            .finish_non_exhaustive()
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a task that may borrow what outlives the scope.
    ///
    /// The scope waits for it, whether or not the handle is awaited. Once everything in the scope
    /// has ended, or been cancelled, the future is dropped in the call and the handle resolves to a
    /// [`JoinError`] with `is_closed()`.
    ///
    /// ```
    /// let numbers = [1, 2, 3];
    /// let sum: i32 = heist::scope(async |s| {
    ///     s.spawn(async { numbers.iter().sum() }).await.unwrap()
    /// });
    /// assert_eq!(sum, 6);
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, future: F) -> ScopedHandle<'scope, T>
    where
        F: Future<Output = T> + Send + 'scope,
        T: Send + 'scope,
    {
        let slot = Arc::new(Mutex::new(None));
        self.state.inner.lock().live += 1;
        let task: Pin<Box<dyn Future<Output = ()> + Send + 'scope>> = Box::pin(Scoped {
            future: Some(Box::pin(future)),
            slot: slot.clone(),
            state: self.state.clone(),
        });
        // SAFETY: only the lifetime changes. The task's future is dropped before `scope` returns,
        // so before `'scope` ends: points 1 and 2 of the module's lifetime argument. Its output
        // is `()`; the real one is covered by point 3.
        let task: Pin<Box<dyn Future<Output = ()> + Send + 'static>> =
            unsafe { mem::transmute(task) };
        let task = self.runtime.spawn_at(Spawn::at(Location::caller()), task);
        ScopedHandle {
            task,
            slot,
            scope: PhantomData,
        }
    }
}

/// What the tasks of a scope share.
#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Tasks whose futures exist.
    live: usize,
    /// The first panic of a task.
    panic: Option<Box<dyn Any + Send>>,
    /// `main`'s waker.
    waker: Option<Waker>,
}

impl State {
    /// Polls `future` until it is ready or a task has panicked. Its own panic passes through.
    async fn until_panic<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> Result<T, Box<dyn Any + Send>> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(payload) = self.look(cx).panic.take() {
                return Poll::Ready(Err(payload));
            }
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Waits until no task is left.
    async fn all_done(&self) {
        poll_fn(|cx| match self.look(cx).live {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
    }

    /// The state, with `main`'s waker left in it.
    fn look(&self, cx: &mut Context<'_>) -> parking_lot::MutexGuard<'_, Inner> {
        let waker = cx.waker().clone();
        let mut inner = self.inner.lock();
        // `main` has one waker for life, of a kind whose drop runs no user code.
        inner.waker = Some(waker);
        inner
    }

    fn task_gone(&self) {
        let mut inner = self.inner.lock();
        inner.live -= 1;
        let waker = if inner.live == 0 {
            inner.waker.take()
        } else {
            None
        };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn task_panicked(&self, payload: Box<dyn Any + Send>) {
        let mut inner = self.inner.lock();
        let (waker, late) = match inner.panic {
            None => {
                inner.panic = Some(payload);
                (inner.waker.take(), None)
            }
            Some(_) => (None, Some(payload)),
        };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        // Its destructor is user code: no lock is held any more, and what it throws goes nowhere, for
        // the one before is on its way.
        late.into_iter().for_each(drop_payload);
    }
}

/// The future of a scoped task.
struct Scoped<'scope, T> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send + 'scope>>>,
    slot: Arc<Mutex<Option<T>>>,
    state: Arc<State>,
}

// The inner future is boxed.
impl<T> Unpin for Scoped<'_, T> {}

impl<T> Future for Scoped<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                *self.slot.lock() = Some(output);
                Poll::Ready(())
            }
            Err(payload) => {
                // The scope is told, and cancels everybody who could ask this task's handle.
                self.state.task_panicked(payload);
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Scoped<'_, T> {
    fn drop(&mut self) {
        let dropped = catch_unwind(AssertUnwindSafe(|| self.future = None));
        if let Err(payload) = dropped {
            self.state.task_panicked(payload);
        }
        self.state.task_gone();
    }
}

/// Waits for a task of a [`scope()`] and gives its output.
///
/// A future of `Result<T, JoinError>`. If the task panics it never resolves: the scope cancels
/// whoever waits.
#[must_use = "the scope waits for its tasks in any case; await the handle for the output"]
pub struct ScopedHandle<'scope, T> {
    task: JoinHandle<()>,
    slot: Arc<Mutex<Option<T>>>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<T> ScopedHandle<'_, T> {
    /// Asks for the end of the task; see [`JoinHandle::abort`].
    ///
    /// ```
    /// heist::scope(async |s| {
    ///     let task = s.spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    #[track_caller]
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the task has ended.
    ///
    /// ```
    /// heist::scope(async |s| {
    ///     let task = s.spawn(async { 1 });
    ///     while !task.is_finished() {
    ///         heist::yield_now().await;
    ///     }
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Future for ScopedHandle<'_, T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::task::ready!(Pin::new(&mut self.task).poll(cx)) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) => match self.slot.lock().take() {
                Some(output) => Poll::Ready(Ok(output)),
                None => Poll::Pending,
            },
        }
    }
}

impl<T> fmt::Debug for ScopedHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedHandle")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts, through the borrow, how many were dropped while what they borrow was there.
    struct Guard<'a, 'scope, 'env>(&'a AtomicUsize, &'scope Scope<'scope, 'env>);

    impl Drop for Guard<'_, '_, '_> {
        fn drop(&mut self) {
            assert!(format!("{:?}", self.1).contains("live"));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The body panics while tasks that hold the scope go on spawning into it, and others hold it in
    /// destructors. The scope must be there until the last of them is gone.
    #[test]
    fn tasks_that_hold_the_scope_never_outlive_it() {
        let dropped = AtomicUsize::new(0);
        let begun = AtomicUsize::new(0);
        let count = &dropped;
        let begun = &begun;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            scope(async |s| {
                for _ in 0..4 {
                    let guard = Guard(count, s);
                    drop(s.spawn(async move {
                        let _guard = guard;
                        begun.fetch_add(1, Ordering::Relaxed);
                        loop {
                            drop(s.spawn(async {}));
                            crate::yield_now().await;
                        }
                    }));
                }
                while begun.load(Ordering::Relaxed) < 4 {
                    crate::yield_now().await;
                }
                panic_any("the body");
            })
        }));
        let payload = panicked.expect_err("the panic goes on");
        assert_eq!(payload.downcast_ref(), Some(&"the body"));
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
    }

    /// `spawn` is called on a thread that is inside another runtime, which lives longer. The task
    /// must end with the scope all the same.
    #[test]
    fn a_task_belongs_to_the_scope_wherever_it_is_spawned() {
        let other = Runtime::builder().workers(1).build().unwrap();
        let handle = other.handle();
        let dropped = AtomicUsize::new(0);
        let count = &dropped;
        scope(async |s| {
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    handle.block_on(async {
                        let guard = Guard(count, s);
                        let task = s.spawn(async move {
                            let _guard = guard;
                            std::future::pending::<()>().await;
                        });
                        task.abort();
                    });
                });
            });
        });
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert_eq!(handle.live_tasks(), 0);
        drop(other);
    }
}
