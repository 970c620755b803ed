//! More about tasks: names, identities, what a task knows of itself, and how it is cancelled.

#![forbid(unsafe_code)]

use crate::handle::{spawn_at, spawn_blocking_at, spawn_fallible_at, spawn_local_at};
use heist_core::Spawn;
use std::fmt;
use std::future::Future;
use std::panic::Location;

pub use crate::context_var::ContextScope;
pub use heist_core::{
    Cancelled, CatchCancel, JoinError, JoinHandle, Label, Resume, Shield, YieldNow,
};

// The core has no runtime to show its types in, so their examples are here.

/// The handle that only ends a task, as [`JoinHandle::abort_handle`] gives it.
///
/// ```
/// use heist::task::AbortHandle;
///
/// heist::run(async {
///     let task = heist::spawn(std::future::pending::<()>());
///     let handle = task.abort_handle();
///     assert_eq!(handle.id(), task.id());
///     handle.abort_with("enough");
///     assert_eq!(task.await.unwrap_err().reason(), "enough");
///     assert!(handle.is_finished());
///
///     // The main future has one as well.
///     assert!(!AbortHandle::current().is_finished());
/// });
/// // Here is neither a task nor a main future.
/// assert!(AbortHandle::try_current().is_none());
/// ```
pub use heist_core::AbortHandle;

/// The handle that owns its task, as [`JoinHandle::cancel_on_drop`] gives it.
///
/// ```
/// heist::run(async {
///     let owner = heist::spawn(std::future::pending::<()>()).cancel_on_drop();
///     let task = owner.get_ref().abort_handle();
///     drop(owner);
///     while !task.is_finished() {
///         heist::yield_now().await;
///     }
///
///     let owner = heist::spawn(async { 7 }).cancel_on_drop();
///     // It owns the task no more.
///     let handle = owner.into_inner();
///     assert_eq!(handle.await.unwrap(), 7);
/// });
/// ```
pub use heist_core::CancelOnDrop;

/// The number of a task, as [`JoinHandle::id`] and [`id()`] give it.
///
/// ```
/// heist::run(async {
///     let (first, second) = (heist::spawn(async {}), heist::spawn(async {}));
///     assert_ne!(first.id(), second.id());
///     println!("task {}, or {:#x}", first.id(), first.id().as_u64());
/// });
/// ```
pub use heist_core::Id;

/// Says more of a task before it is spawned.
///
/// ```
/// heist::run(async {
///     let task = heist::task::Builder::new()
///         .name("answer")
///         .spawn(async { heist::task::name() });
///     assert_eq!(task.name(), Some("answer"));
///     assert_eq!(task.await.unwrap().as_deref(), Some("answer"));
/// });
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until one of its `spawn` methods"]
pub struct Builder {
    name: Option<Box<str>>,
}

impl Builder {
    /// Says nothing yet.
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().spawn(async { 1 });
    ///     assert_eq!(task.name(), None);
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The task's name, for errors and reports. Any text; names need not differ.
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().name("clock").spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert_eq!(task.await.unwrap_err().name(), Some("clock"));
    /// });
    /// ```
    pub fn name(mut self, name: impl Into<Box<str>>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Like [`heist::spawn`](crate::spawn).
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().name("sum").spawn(async { 1 + 2 });
    ///     assert_eq!(task.await.unwrap(), 3);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no runtime, as `spawn` does.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_at(self.at(Location::caller()), future)
    }

    /// Like [`heist::spawn_fallible`](crate::spawn_fallible).
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new()
    ///         .name("number")
    ///         .spawn_fallible(async { "7".parse::<u32>() });
    ///     assert_eq!(task.await.unwrap(), Ok(7));
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no runtime, as `spawn_fallible` does.
    #[track_caller]
    pub fn spawn_fallible<F, T, E>(self, future: F) -> JoinHandle<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        spawn_fallible_at(self.at(Location::caller()), future)
    }

    /// Like [`heist::spawn_local`](crate::spawn_local).
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// heist::run(async {
    ///     let shared = Rc::new(5);
    ///     let task = heist::task::Builder::new().name("local").spawn_local(async move { *shared });
    ///     assert_eq!(task.await.unwrap(), 5);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no thread the task could stay on, as `spawn_local` does.
    #[track_caller]
    pub fn spawn_local<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_local_at(self.at(Location::caller()), future)
    }

    /// Like [`heist::spawn_blocking`](crate::spawn_blocking).
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().name("disk").spawn_blocking(heist::task::name);
    ///     assert_eq!(task.await.unwrap().as_deref(), Some("disk"));
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no runtime, as `spawn_blocking` does.
    #[track_caller]
    pub fn spawn_blocking<F, T>(self, call: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_blocking_at(self.at(Location::caller()), call)
    }

    pub(crate) fn at(self, site: &'static Location<'static>) -> Spawn {
        let mut spawn = Spawn::at(site);
        spawn.name = self.name;
        spawn
    }
}

/// The identity of the task that is being polled on this thread. A closure of `spawn_blocking` is a
/// task in this sense, with an identity of its own.
///
/// ```
/// heist::run(async {
///     let task = heist::spawn(async { heist::task::id() });
///     let id = task.id();
///     assert_eq!(task.await.unwrap(), id);
///
///     let closure = heist::spawn_blocking(heist::task::id);
///     let id = closure.id();
///     assert_eq!(closure.await.unwrap(), id);
/// });
/// ```
///
/// # Panics
///
/// Outside of a task; the main future of `run` is none.
#[track_caller]
pub fn id() -> Id {
    try_id().unwrap_or_else(|| {
        panic!("heist: `task::id` was called outside of a task; the main future is none")
    })
}

/// The identity of the task that is being polled on this thread, if there is one.
///
/// ```
/// assert_eq!(heist::task::try_id(), None);
/// heist::run(async {
///     // The main future is no task.
///     assert_eq!(heist::task::try_id(), None);
///     let task = heist::spawn(async { heist::task::try_id() });
///     let id = task.id();
///     assert_eq!(task.await.unwrap(), Some(id));
/// });
/// ```
pub fn try_id() -> Option<Id> {
    heist_core::task_id()
}

/// The name of the task that is being polled on this thread, if there is a task and it has one.
///
/// ```
/// assert_eq!(heist::task::name(), None);
/// heist::run(async {
///     let task = heist::task::Builder::new().name("a").spawn(async { heist::task::name() });
///     assert_eq!(task.await.unwrap().as_deref(), Some("a"));
/// });
/// ```
pub fn name() -> Option<String> {
    heist_core::task_name()
}

/// Runs a future where a request to cancel the task can be caught.
///
/// While the future runs, a request does not end the task. It ends the future: it is dropped at its
/// next suspension point, the answer is `Err(Cancelled)`, and the task goes on, with time to clean up
/// and to `.await`.
///
/// ```
/// use futures::channel::oneshot;
/// use heist::time::{sleep, Duration};
///
/// heist::run(async {
///     let (began, begun) = oneshot::channel();
///     let task = heist::spawn(async {
///         let work = async {
///             began.send(()).unwrap();
///             std::future::pending::<()>().await
///         };
///         match heist::catch_cancel(work).await {
///             Ok(()) => unreachable!("it is pending"),
///             Err(cancelled) => {
///                 sleep(Duration::from_millis(1)).await;
///                 format!("tidied up: {}", cancelled.reason().unwrap_or("no reason"))
///             }
///         }
///     });
///     begun.await.unwrap();
///     let output = task.cancel_with("the user has left").await;
///     assert_eq!(output.unwrap(), "tidied up: the user has left");
/// });
/// ```
///
/// A request may come from [`JoinHandle::abort`] and [`JoinHandle::cancel`], from the end of the
/// loop, and from a [`timeout`](crate::timeout()) around the call, which then leaves the rest of the
/// task alone.
///
/// # Who receives a request
///
/// Every `catch_cancel` that is *live* and has no live one inside it: one that was polled, is not
/// ready and was not dropped. So with several in a `select` or a `join`, each of them does. One that
/// is dropped before its next poll leaves the request to the one around it if no other is left
/// inside of that, and with none around it to the task, which is then dropped. If one of them has
/// received the request, nothing is left to anybody.
///
/// It is delivered when the `catch_cancel` is polled again. One that is kept without being polled, as
/// in a stream of futures that nobody asks for the next, makes the request wait.
///
/// Before its first poll it is not live: a task that is cancelled before it begins is never polled.
/// One that becomes live in a task that is asked already, in the same poll, receives the request at
/// its second poll.
///
/// It belongs to the task that polled it last, or to the main future of `run`. That one receives one
/// request at most. Elsewhere, in [`Handle::block_on`](crate::Handle::block_on), in a blocking
/// closure, and on threads that are not of a runtime, it catches nothing and is as transparent as the
/// future inside.
///
/// # In cleanup
///
/// A request is consumed by its delivery. From then on the task is in cleanup, until it ends or
/// takes the request back with [`uncancel`]. A further explicit request goes to the next
/// `catch_cancel`, or drops the task if there is none. The end of the loop sends none until
/// [`cancel_grace`](crate::Builder::cancel_grace) is over, and then drops it.
///
/// # Panics
///
/// The future panics when it is polled again after it was ready. A panic of the inner future's
/// destructor goes on through it.
///
/// # Cancel safety
///
/// Dropping it drops the future inside.
pub fn catch_cancel<F: IntoFuture>(future: F) -> CatchCancel<F::IntoFuture> {
    heist_core::catch_cancel(future.into_future())
}

/// How many requests to cancel this task were made explicitly and not taken back with [`uncancel`],
/// whether or not they have been delivered; and one more if the loop is ending.
///
/// 0 where [`catch_cancel`] catches nothing. A timeout does not count: it does not cancel the task.
///
/// ```
/// heist::run(async {
///     assert_eq!(heist::task::cancelling(), 0);
///     let (began, begun) = futures::channel::oneshot::channel();
///     let task = heist::spawn(async {
///         let work = async {
///             began.send(()).unwrap();
///             std::future::pending::<()>().await
///         };
///         let cancelled = heist::catch_cancel(work).await;
///         (cancelled.is_err(), heist::task::cancelling())
///     });
///     begun.await.unwrap();
///     task.abort();
///     assert_eq!(task.await.unwrap(), (true, 1));
/// });
/// ```
pub fn cancelling() -> usize {
    heist_core::cancelling()
}

/// Takes one explicit request to cancel this task back, and answers how many are left, as
/// [`cancelling`] counts them.
///
/// With the last one, what was not delivered yet never is, and the task is in cleanup no more: it
/// has dealt with the request and goes on as before. The end of the loop is not taken back.
///
/// ```
/// heist::run(async {
///     let (began, begun) = futures::channel::oneshot::channel();
///     let task = heist::spawn(async {
///         let work = async {
///             began.send(()).unwrap();
///             std::future::pending::<()>().await
///         };
///         assert!(heist::catch_cancel(work).await.is_err());
///         assert_eq!(heist::task::uncancel(), 0);
///         heist::task::cancelling()
///     });
///     begun.await.unwrap();
///     task.abort();
///     assert_eq!(task.await.unwrap(), 0);
/// });
/// ```
pub fn uncancel() -> usize {
    heist_core::uncancel()
}

/// Waits for a task, and lets it go on when the waiter is cancelled.
///
/// A future of `Result<T, JoinError>`, as the handle itself, which a cancelled waiter drops and so
/// detaches as well: this one says that it is meant. The task's output is then dropped when it ends,
/// and a panic is reported once, to [`on_error`](crate::Builder::on_error).
///
/// The opposite is [`JoinHandle::cancel_on_drop`].
///
/// ```
/// use futures::channel::oneshot;
/// use heist::time::{timeout, Duration};
///
/// heist::run(async {
///     let (go, gone) = oneshot::channel();
///     let (tell, told) = oneshot::channel();
///     let inner = heist::spawn(async move {
///         let word: &str = gone.await.unwrap();
///         tell.send(word).unwrap();
///     });
///     let outer = timeout(Duration::from_millis(5), heist::shield(inner));
///     assert!(outer.await.is_err());
///     go.send("it goes on").unwrap();
///     assert_eq!(told.await, Ok("it goes on"));
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping it detaches the task.
pub fn shield<T>(handle: JoinHandle<T>) -> Shield<T> {
    heist_core::shield(handle)
}
