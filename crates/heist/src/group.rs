//! Groups of tasks that end together.
//!
//! [`TaskGroup::run`] runs a body that spawns children, and answers when the body and every child have
//! ended. The first failure cancels all the rest.
//!
//! # How it ends
//!
//! 1. The body runs inside of a region (`catch_cancel`), so that a request to the task around it does
//!    not drop the children unawaited, and inside of a limit, so that the group can end it without
//!    ending the task (`group/body.rs`).
//! 2. The children are waited for, in a region of its own for each request that comes meanwhile.
//!    The first request of somebody else's makes the group abort, unless it does already; each further one
//!    is passed on to the children, as a second request to a task that cleans up is.
//! 3. The answer is, in this order: a panic; the errors; the cancellation of the task around it; the
//!    body's value; "cancelled". If there are errors, a request to the task is made again, and is met
//!    at its next suspension point. So is one that the body has caught, unless the body has ended with
//!    its value or taken it back with `uncancel`.

#![forbid(unsafe_code)]

mod body;
mod child;
mod error;
mod state;

use crate::Handle;
use crate::task::{self, catch_cancel};
use body::Body;
use child::{Member, Place};
use heist_core::{Cancelled, Spawn, drop_beside_panic};
use state::{Options, State, Who, Why};
use std::error::Error;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::panic::{Location, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

pub use child::{Child, ChildError, GroupClosed};
pub use error::{GroupError, Iter, Panicked};

/// What the errors of children and bodies become in a group.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A group of tasks that end together: structured concurrency.
///
/// [`run`](TaskGroup::run) gives one of these to its body, which spawns children with it. It is cheap
/// to clone, and may go into the children, which may spawn into the group as well.
///
/// ```
/// use heist::TaskGroup;
///
/// async fn length(word: &'static str) -> Result<usize, String> {
///     if word.is_empty() { Err("no word".into()) } else { Ok(word.len()) }
/// }
///
/// heist::run(async {
///     let sum = TaskGroup::run(async |g| {
///         let first = g.spawn(length("to"));
///         let second = g.spawn(length("steal"));
///         Ok(first.await? + second.await?)
///     });
///     assert_eq!(sum.await.unwrap(), 7);
///
///     let failed = TaskGroup::run(async |g| {
///         g.spawn(length(""));
///         // Is cancelled when the other one fails.
///         g.spawn(std::future::pending::<Result<(), String>>());
///         Ok(())
///     });
///     let error = failed.await.unwrap_err();
///     assert_eq!(error.leaves()[0].to_string(), "no word");
/// });
/// ```
#[derive(Clone)]
pub struct TaskGroup {
    state: Arc<State>,
}

impl TaskGroup {
    /// Runs `body`, and waits for it and for every child that was spawned into the group. See
    /// [`Builder`] for a group with options.
    ///
    /// A child has ended when its handle is ready. An output that nobody wants is destroyed before that; so
    /// its destructor must not wait for the group.
    ///
    /// The body runs in place, as part of the task that awaits this: it may borrow, and need not be
    /// `Send` where that need not be. It is an async closure, or a function that returns a future.
    /// Children are tasks of their own. The group is given to the body by value, and there is no other
    /// way to have one: so it is never entered twice, nor used before.
    ///
    /// ```compile_fail,E0433
    /// // There is no group before it runs.
    /// let group = heist::TaskGroup::new();
    /// ```
    ///
    /// # When something fails
    ///
    /// If a child or the body gives an error, the other children and the body are cancelled: a future
    /// inside of a [`catch_cancel`](crate::catch_cancel()) may clean up, any other is dropped. No child
    /// is spawned any more. When all have ended, the answer is a [`GroupError`] with that error, and
    /// with those that came after it.
    ///
    /// A panic does the same, and goes on from here when all have ended. Of several, the first one
    /// does; the others are reported to [`on_error`](crate::Builder::on_error), and so are the errors of
    /// children.
    ///
    /// A child that is aborted by its handle has not failed.
    ///
    /// # When the task around it is cancelled
    ///
    /// The body and the children are cancelled, with the same reason. When all have ended, the
    /// cancellation goes on. A `catch_cancel` in the body receives it first, and keeps it from the
    /// group if the body then ends with a value. If there are errors nevertheless, they are the answer, and the task is cancelled at its next
    /// suspension point. A second request to the task is passed on to the children.
    ///
    /// ```
    /// use heist::TaskGroup;
    /// use heist::time::{timeout, Duration};
    ///
    /// heist::run(async {
    ///     let task = heist::spawn(timeout(
    ///         Duration::from_millis(5),
    ///         TaskGroup::run(async |g| {
    ///             g.spawn(std::future::pending::<Result<(), String>>());
    ///             Ok(())
    ///         }),
    ///     ));
    ///     assert!(task.await.unwrap().is_err());
    ///     // The child has ended, too.
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// A [`GroupError`] with what the children and the body failed with; an empty one, for which
    /// [`is_cancelled`](GroupError::is_cancelled) is true, if [`cancel`](TaskGroup::cancel) ended the
    /// body before it had a value.
    ///
    /// # Panics
    ///
    /// On a thread that is inside no runtime. With the first panic of a child or of the body.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the body and asks the children to end, which nobody then waits for:
    /// they go on until their next suspension point, or until they have cleaned up. Their errors are
    /// reported. Cancelling the task, or a `timeout`, does not drop it, but waits. The same is true at
    /// the end of the loop, until [`cancel_grace`](crate::Builder::cancel_grace) is over.
    ///
    /// In [`Handle::block_on`] and in the loser of a `select`, there is nobody who
    /// could ask: there, it is dropped.
    #[track_caller]
    pub fn run<F, Fut, T>(body: F) -> impl Future<Output = Result<T, GroupError>>
    where
        F: FnOnce(TaskGroup) -> Fut,
        Fut: Future<Output = Result<T, BoxError>>,
    {
        TaskGroup::builder().run(body)
    }

    /// Runs all `futures` as children, and gives their outputs in the order of the futures.
    ///
    /// ```
    /// heist::run(async {
    ///     let squares = (1..4).map(async |n: u32| Ok::<_, String>(n * n));
    ///     assert_eq!(heist::TaskGroup::all(squares).await.unwrap(), [1, 4, 9]);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`run`](TaskGroup::run), and so for panics and cancel safety.
    #[track_caller]
    pub fn all<I, T, E>(futures: I) -> impl Future<Output = Result<Vec<T>, GroupError>>
    where
        I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static>,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        TaskGroup::builder().all(futures)
    }

    /// A group with options.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::builder().concurrency(2).run(async |_| Ok(1));
    ///     assert_eq!(ended.await.unwrap(), 1);
    /// });
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Spawns a child.
    ///
    /// The group waits for it, whether or not the handle is awaited. Its error, whatever type it has,
    /// is the group's. A child that cannot fail says so with
    /// `Ok::<_, std::convert::Infallible>(value)`.
    ///
    /// Works from any thread, and while the group waits for its children. Once the group aborts or has
    /// ended, the future is dropped in the call, and the handle resolves to a [`ChildError`] with
    /// `is_closed()`.
    ///
    /// ```
    /// heist::run(async {
    ///     let sum = heist::TaskGroup::run(async |g| {
    ///         let inner = g.clone();
    ///         let child = g.spawn(async move {
    ///             // A child may spawn, too.
    ///             inner.spawn(async { Ok::<_, std::io::Error>(1) }).await
    ///         });
    ///         Ok(child.await? + 1)
    ///     });
    ///     assert_eq!(sum.await.unwrap(), 2);
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F, T, E>(&self, future: F) -> Child<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.spawn_as(Spawn::at(Location::caller()), future)
    }

    pub(crate) fn spawn_as<F, T, E>(&self, spawn: Spawn, future: F) -> Child<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.place(spawn, future)
            .unwrap_or_else(|_| Child::refused(Arc::downgrade(&self.state)))
    }

    /// Like [`spawn`](TaskGroup::spawn), but gives the future back if the group does not take it.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         g.cancel();
    ///         let refused = g.try_spawn(async { Ok::<_, String>(1) }).unwrap_err();
    ///         Ok(refused.future.await?)
    ///     });
    ///     assert_eq!(ended.await.unwrap(), 1);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// The future, if the group is aborting or has ended, or its runtime takes no tasks.
    #[track_caller]
    pub fn try_spawn<F, T, E>(&self, future: F) -> Result<Child<T>, GroupClosed<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.place(Spawn::at(Location::caller()), future)
    }

    fn place<F, T, E>(&self, spawn: Spawn, future: F) -> Result<Child<T>, GroupClosed<F>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let Some((key, begun)) = self.state.enter() else {
            return Err(GroupClosed {
                future,
                error: None,
            });
        };
        let member = Member {
            future: Some(future),
            place: Place {
                state: self.state.clone(),
                key,
                site: spawn.site,
            },
            begun,
        };
        match self.state.runtime.try_spawn_at(spawn, member) {
            Ok(task) => {
                self.state.spawned(key, task.abort_handle());
                Ok(Child::new(task, Arc::downgrade(&self.state)))
            }
            Err(mut refused) => Err(GroupClosed {
                future: refused.future.future.take().expect("it was never polled"),
                error: Some(refused.error),
            }),
        }
    }

    /// Ends the group early, without an error: cancels the children and the body, and takes no more
    /// children.
    ///
    /// The body goes on until its next suspension point. If it has ended, or ends before that one, the
    /// group still answers with its value; otherwise with an empty [`GroupError`]. Called again, or after
    /// the end, it does nothing.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         g.spawn(std::future::pending::<Result<(), String>>());
    ///         g.cancel();
    ///         Ok("enough")
    ///     });
    ///     assert_eq!(ended.await.unwrap(), "enough");
    /// });
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.state.abort(Why {
            reason: Some("the group was cancelled".into()),
            by: Location::caller(),
        });
    }

    /// Whether it takes children: it neither aborts nor has ended.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         assert!(g.is_open());
    ///         g.cancel();
    ///         Ok(g.is_open())
    ///     });
    ///     assert!(!ended.await.unwrap());
    /// });
    /// ```
    pub fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// How many children there are, those included that wait for their turn. A child is forgotten when
    /// its future has been dropped, which is before its handle is ready.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         g.spawn(std::future::pending::<Result<(), String>>());
    ///         let live = g.live();
    ///         g.cancel();
    ///         Ok(live)
    ///     });
    ///     assert_eq!(ended.await.unwrap(), 1);
    /// });
    /// ```
    pub fn live(&self) -> usize {
        self.state.len()
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("site", &format_args!("{}", self.state.site))
            .field("live", &self.live())
            .field("open", &self.is_open())
            .finish()
    }
}

/// Says more of a group before it runs; made by [`TaskGroup::builder`].
///
/// It has no children yet, and runs once:
///
/// ```compile_fail,E0599
/// heist::TaskGroup::builder().spawn(async { Ok::<(), String>(()) });
/// ```
///
/// ```compile_fail,E0382
/// let group = heist::TaskGroup::builder();
/// drop(group.run(async |_| Ok(())));
/// drop(group.run(async |_| Ok(())));
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `run`"]
pub struct Builder {
    options: Options,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            options: Options {
                concurrency: usize::MAX,
                supervise: false,
                collect_panics: false,
            },
        }
    }
}

impl Builder {
    /// How many children run at a time, at most. The others wait, and begin in the order of spawning.
    /// Default: no limit.
    ///
    /// A child has its turn until it ends, also while it waits. So children that wait for one another
    /// need as many turns.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// static RUNNING: AtomicUsize = AtomicUsize::new(0);
    ///
    /// heist::run(async {
    ///     let jobs = (0..10).map(async |_| {
    ///         let others = RUNNING.fetch_add(1, Ordering::SeqCst);
    ///         heist::yield_now().await;
    ///         RUNNING.fetch_sub(1, Ordering::SeqCst);
    ///         Ok::<_, String>(others < 3)
    ///     });
    ///     let done = heist::TaskGroup::builder().concurrency(3).all(jobs).await;
    ///     assert_eq!(done.unwrap(), [true; 10]);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// If `children` is 0.
    #[track_caller]
    pub fn concurrency(mut self, children: usize) -> Builder {
        assert!(
            children > 0,
            "heist: a group with a concurrency of 0 would never run a child"
        );
        self.options.concurrency = children;
        self
    }

    /// The failure of a child cancels nobody: all run to their ends, and then their errors are the
    /// answer. Default: the first failure cancels the rest.
    ///
    /// A failure of the body does cancel the children, and so does a panic, unless panics are
    /// [collected](Builder::collect_panics). The errors are kept until the end: a group that is never to
    /// end has children that deal with theirs.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::builder().supervise().run(async |g| {
    ///         g.spawn(async { Err::<(), _>("one") });
    ///         g.spawn(async { Err::<(), _>("two") });
    ///         Ok(())
    ///     });
    ///     assert_eq!(ended.await.unwrap_err().len(), 2);
    /// });
    /// ```
    pub fn supervise(mut self) -> Builder {
        self.options.supervise = true;
        self
    }

    /// A panic of a child or of the body is an error like any other: a [`Panicked`] in the
    /// [`GroupError`]. Default: the first one goes on from [`TaskGroup::run`].
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::builder()
    ///         .collect_panics()
    ///         .run::<_, _, ()>(async |_| panic!("boom"));
    ///     assert!(ended.await.unwrap_err().to_string().contains("boom"));
    /// });
    /// ```
    pub fn collect_panics(mut self) -> Builder {
        self.options.collect_panics = true;
        self
    }

    /// See [`TaskGroup::run`].
    ///
    /// ```
    /// heist::run(async {
    ///     assert_eq!(heist::TaskGroup::builder().run(async |_| Ok(1)).await.unwrap(), 1);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`TaskGroup::run`], and so for panics and cancel safety.
    #[track_caller]
    pub fn run<F, Fut, T>(self, body: F) -> impl Future<Output = Result<T, GroupError>>
    where
        F: FnOnce(TaskGroup) -> Fut,
        Fut: Future<Output = Result<T, BoxError>>,
    {
        let (options, site) = (self.options, Location::caller());
        async move {
            let state = State::new(options, Handle::of_this_thread("TaskGroup::run"), site);
            run(state, body).await
        }
    }

    /// See [`TaskGroup::all`].
    ///
    /// ```
    /// heist::run(async {
    ///     let jobs = (1..4).map(async |n: u32| Ok::<_, String>(n * n));
    ///     let squares = heist::TaskGroup::builder().concurrency(1).all(jobs).await;
    ///     assert_eq!(squares.unwrap(), [1, 4, 9]);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`TaskGroup::run`], and so for panics and cancel safety.
    #[track_caller]
    pub fn all<I, T, E>(self, futures: I) -> impl Future<Output = Result<Vec<T>, GroupError>>
    where
        I: IntoIterator<Item: Future<Output = Result<T, E>> + Send + 'static>,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let site = Location::caller();
        self.run(async move |group| {
            let spawn = |future| group.spawn_as(Spawn::at(site), future);
            let children: Vec<_> = futures.into_iter().map(spawn).collect();
            let mut outputs = Vec::with_capacity(children.len());
            let mut missing = None;
            for child in children {
                match child.await {
                    Ok(output) => outputs.push(output),
                    // Those of a supervised group go on.
                    Err(error) => missing = Some(error),
                }
            }
            match missing {
                None => Ok(outputs),
                Some(error) => Err(error.into()),
            }
        })
    }
}

/// See the module.
async fn run<F, Fut, T>(state: Arc<State>, body: F) -> Result<T, GroupError>
where
    F: FnOnce(TaskGroup) -> Fut,
    Fut: Future<Output = Result<T, BoxError>>,
{
    let mut guard = Orphan(Some(state.clone()));
    let group = TaskGroup {
        state: state.clone(),
    };
    let mut output = None;
    let level = task::cancelling();
    // The request to the task around the group, to be made again.
    let mut outside: Option<Cancelled> = None;

    // The body's own call is part of it: it may panic, too.
    let body = Body::new(async move { body(group).await }, state.clone());
    match catch_cancel(body).await {
        Ok(Some(Ok(value))) => output = Some(value),
        Ok(Some(Err(error))) => state.failed(Who::Body, error),
        Ok(None) => {}
        Err(cancelled) => {
            state.abort(why(&cancelled));
            outside = Some(cancelled);
        }
    }
    let end = loop {
        match catch_cancel(state.end()).await {
            Ok(end) => break end,
            Err(cancelled) if outside.is_none() => {
                state.abort(why(&cancelled));
                outside = Some(cancelled);
            }
            Err(cancelled) => state.abort_again(&why(&cancelled)),
        }
    };
    guard.0 = None;

    if let Some(payload) = end.panic {
        drop_beside_panic(output);
        resume_unwind(payload);
    }
    let failed = !end.errors.is_empty();
    match outside {
        Some(cancelled) if !failed => {
            drop(output);
            match cancelled.resume().await {}
        }
        Some(cancelled) => {
            ask_again(cancelled).await;
            // A timeout around may have asked together with the task, and now gets an answer that is not for both.
            if task::cancelling() > level {
                heist_core::cancel_again();
            }
        }
        // The body has caught one, and could not let it go on, or did not.
        None if (failed || output.is_none()) && task::cancelling() > level => {
            heist_core::cancel_again();
            if !failed {
                pending::<()>().await;
            }
        }
        None => {}
    }
    match output {
        Some(output) if !failed => Ok(output),
        _ => Err(GroupError::new(end.errors, state.site)),
    }
}

fn why(cancelled: &Cancelled) -> Why {
    Why {
        reason: cancelled.reason().map(Arc::from),
        by: cancelled.by(),
    }
}

/// Lets a cancellation go on, from the next suspension point.
async fn ask_again(cancelled: Cancelled) {
    let mut resume = pin!(cancelled.resume());
    poll_fn(|cx| {
        // It has asked when it is pending.
        let _: Poll<_> = resume.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// Notices that the future of `run` is dropped.
struct Orphan(Option<Arc<State>>);

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.orphan();
        }
    }
}

impl task::Builder {
    /// Like [`TaskGroup::spawn`].
    ///
    /// ```
    /// use heist::{TaskGroup, task};
    ///
    /// heist::run(async {
    ///     let ended = TaskGroup::run(async |g| {
    ///         let child = task::Builder::new()
    ///             .name("answer")
    ///             .spawn_in(&g, async { Ok::<_, String>(task::name()) });
    ///         Ok(child.await?)
    ///     });
    ///     assert_eq!(ended.await.unwrap().as_deref(), Some("answer"));
    /// });
    /// ```
    #[track_caller]
    pub fn spawn_in<F, T, E>(self, group: &TaskGroup, future: F) -> Child<T>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<BoxError> + 'static,
    {
        group.spawn_as(self.at(Location::caller()), future)
    }
}
