//! A child of a group: the future around the user's, and the handle to wait for it.

#![forbid(unsafe_code)]

use super::BoxError;
use super::state::{Key, State, Who};
use crate::task::{self, Id, Label};
use crate::{JoinError, JoinHandle};
use heist_core::{abort_at, drop_payload};
use pin_project_lite::pin_project;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

pin_project! {
    /// The future of a child's task.
    pub(super) struct Member<F> {
        // `None`: it was given back, or its destructor runs.
        #[pin]
        pub(super) future: Option<F>,
        pub(super) place: Place,
        // Its turn has come.
        pub(super) begun: bool,
    }

    impl<F> PinnedDrop for Member<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let is_task = this.future.is_some();
            let dropped = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
            let unseen = dropped.err().and_then(|payload| this.place.panicked(payload).err());
            this.place.state.gone(this.place.key);
            // What was never a task's has ended with this.
            let ends = Waker::from(this.place.state.clone());
            if !is_task || heist_core::wake_at_end(ends).is_err() {
                this.place.state.ended();
            }
            if let Some(payload) = unseen {
                // As a destructor of any task: the runtime catches and reports it.
                if std::thread::panicking() {
                    drop_payload(payload);
                } else {
                    resume_unwind(payload);
                }
            }
        }
    }
}

/// Where a child belongs.
pub(super) struct Place {
    pub(super) state: Arc<State>,
    pub(super) key: Key,
    pub(super) site: &'static Location<'static>,
}

impl Place {
    /// The child, as it is called in errors; known while it is polled.
    fn who(&self) -> Who {
        let label = task::try_id().map(|id| Label {
            id,
            name: task::name().map(Box::from),
            site: self.site,
        });
        Who::Child(self.key, label)
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) -> Result<(), Box<dyn Any + Send>> {
        self.state.panicked(self.who(), payload)
    }
}

impl<F, T, E> Future for Member<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, Ended>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !*this.begun {
            std::task::ready!(this.place.state.poll_turn(this.place.key, cx));
            *this.begun = true;
        }
        let future = this.future.as_pin_mut().expect("it is polled to its end");
        // To turn an error into a boxed one is the user's code, too.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.poll(cx).map(|output| output.map_err(E::into))
        }));
        let error = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(output))) => return Poll::Ready(Ok(output)),
            Ok(Poll::Ready(Err(error))) => error,
            Err(payload) => {
                if let Err(payload) = this.place.panicked(payload) {
                    // Nobody in the group will see it: it is one of the task's.
                    resume_unwind(payload);
                }
                return Poll::Ready(Err(Ended::Panicked));
            }
        };
        this.place.state.failed(this.place.who(), error);
        Poll::Ready(Err(Ended::Failed))
    }
}

/// How a child has ended without an output, if the group has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Failed,
    Panicked,
}

/// Waits for a child of a [`TaskGroup`](crate::TaskGroup) and gives its output.
///
/// A future of `Result<T, ChildError>`. It need not be awaited: the group waits for the child in any
/// case, and has its error. So dropping it does nothing.
///
/// # Cancel safety
///
/// Polling takes nothing until it is ready, so a handle can be polled in a `select` by reference
/// again and again.
///
/// # Panics
///
/// Polling again after it was ready panics.
pub struct Child<T> {
    task: Option<JoinHandle<Result<T, Ended>>>,
    state: Weak<State>,
}

impl<T> Child<T> {
    pub(super) fn new(task: JoinHandle<Result<T, Ended>>, state: Weak<State>) -> Child<T> {
        Child {
            task: Some(task),
            state,
        }
    }

    /// Of a child that the group did not take.
    pub(super) fn refused(state: Weak<State>) -> Child<T> {
        Child { task: None, state }
    }

    /// Asks for the end of this child alone, as [`JoinHandle::abort`] does. The others and the group
    /// are not affected.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let child = g.spawn(std::future::pending::<Result<(), String>>());
    ///         child.abort();
    ///         assert!(child.await.unwrap_err().is_cancelled());
    ///         Ok(5)
    ///     });
    ///     assert_eq!(ended.await.unwrap(), 5);
    /// });
    /// ```
    #[track_caller]
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            abort_at(&task.abort_handle(), None, Location::caller());
        }
    }

    /// Like [`abort`](Child::abort), and says why.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let child = g.spawn(std::future::pending::<Result<(), String>>());
    ///         child.abort_with("not needed");
    ///         Ok(child.await.unwrap_err().to_string())
    ///     });
    ///     assert!(ended.await.unwrap().contains("not needed"));
    /// });
    /// ```
    #[track_caller]
    pub fn abort_with(&self, reason: impl Into<Box<str>>) {
        if let Some(task) = &self.task {
            let reason = Arc::from(reason.into());
            abort_at(&task.abort_handle(), Some(reason), Location::caller());
        }
    }

    /// Asks for the end of the child, in this call, and gives the handle back, to wait for it.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let child = g.spawn(std::future::pending::<Result<(), String>>());
    ///         Ok(child.cancel().await.is_err())
    ///     });
    ///     assert!(ended.await.unwrap());
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`ChildError::is_cancelled`] if the request was what ended the child.
    ///
    /// # Cancel safety
    ///
    /// If the handle is dropped, the request stands.
    #[track_caller]
    #[must_use = "`abort` asks and does not wait"]
    pub fn cancel(self) -> Child<T> {
        self.abort();
        self
    }

    /// Whether the child has ended.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let mut child = g.spawn(async { Ok::<_, String>(1) });
    ///         while !child.is_finished() {
    ///             heist::yield_now().await;
    ///         }
    ///         Ok(child.await?)
    ///     });
    ///     assert_eq!(ended.await.unwrap(), 1);
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The identity of its task. `None` if the group did not take it.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let child = g.spawn(async { Ok::<_, String>(heist::task::id()) });
    ///         let id = child.id();
    ///         assert_eq!(id, Some(child.await?));
    ///         Ok(())
    ///     });
    ///     ended.await.unwrap();
    /// });
    /// ```
    pub fn id(&self) -> Option<Id> {
        self.task.as_ref().map(JoinHandle::id)
    }

    /// The name given with [`task::Builder`].
    ///
    /// ```
    /// use heist::task;
    ///
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let child = task::Builder::new().name("a").spawn_in(&g, async { Ok::<_, String>(()) });
    ///         assert_eq!(child.name(), Some("a"));
    ///         Ok(())
    ///     });
    ///     ended.await.unwrap();
    /// });
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.task.as_ref().and_then(JoinHandle::name)
    }
}

impl<T> Future for Child<T> {
    type Output = Result<T, ChildError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let kind = match &mut self.task {
            None => Kind::Refused,
            Some(task) => match std::task::ready!(Pin::new(task).poll(cx)) {
                Ok(Ok(output)) => return Poll::Ready(Ok(output)),
                Ok(Err(ended)) => Kind::Ended(ended),
                Err(error) => Kind::Task(error),
            },
        };
        let state = self.state.clone();
        Poll::Ready(Err(ChildError { kind, state }))
    }
}

impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// Why a child of a group has no output, as told to who awaits its handle. What it failed with is in
/// the [`GroupError`](crate::GroupError) of its group.
///
/// If the body or another child gives this error on, as its own, it is not added to those of the
/// group: what it speaks of is there already.
///
/// ```
/// heist::run(async {
///     let ended = heist::TaskGroup::run::<_, _, ()>(async |g| {
///         let child = g.spawn(async { Err::<(), _>("no route") });
///         child.await?;
///         unreachable!("the child fails")
///     });
///     let error = ended.await.unwrap_err();
///     assert_eq!((error.len(), error.leaves()[0].to_string()), (1, "no route".into()));
/// });
/// ```
pub struct ChildError {
    kind: Kind,
    state: Weak<State>,
}

#[derive(Debug)]
enum Kind {
    Ended(Ended),
    Task(JoinError),
    Refused,
}

impl ChildError {
    /// The child gave an error.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::builder().supervise().run(async |g| {
    ///         let child = g.spawn(async { Err::<(), _>("no route") });
    ///         assert!(child.await.unwrap_err().is_failed());
    ///         Ok(())
    ///     });
    ///     // The error itself is the group's.
    ///     assert_eq!(ended.await.unwrap_err().leaves()[0].to_string(), "no route");
    /// });
    /// ```
    pub fn is_failed(&self) -> bool {
        matches!(self.kind, Kind::Ended(Ended::Failed))
    }

    /// The child was aborted: alone, with its group, or by the end of its runtime.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         let child = g.spawn(std::future::pending::<Result<(), String>>());
    ///         Ok(child.cancel().await.unwrap_err().is_cancelled())
    ///     });
    ///     assert!(ended.await.unwrap());
    /// });
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(&self.kind, Kind::Task(error) if error.is_cancelled())
    }

    /// The child panicked.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::builder().supervise().collect_panics().run(async |g| {
    ///         let child = g.spawn(async { if true { panic!("boom") } else { Ok::<(), String>(()) } });
    ///         assert!(child.await.unwrap_err().is_panic());
    ///         Ok(())
    ///     });
    ///     assert!(ended.await.unwrap_err().to_string().contains("boom"));
    /// });
    /// ```
    pub fn is_panic(&self) -> bool {
        match &self.kind {
            Kind::Ended(ended) => *ended == Ended::Panicked,
            Kind::Task(error) => error.is_panic(),
            Kind::Refused => false,
        }
    }

    /// The child was not started: the group, or its runtime, took no more.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         g.cancel();
    ///         let refused = g.spawn(async { Ok::<_, String>(1) });
    ///         Ok(refused.await.unwrap_err().is_closed())
    ///     });
    ///     assert!(ended.await.unwrap());
    /// });
    /// ```
    pub fn is_closed(&self) -> bool {
        match &self.kind {
            Kind::Refused => true,
            Kind::Task(error) => error.is_closed(),
            Kind::Ended(_) => false,
        }
    }

    /// Whether it tells nothing that the group does not know.
    pub(super) fn is_echo_in(&self, group: &Arc<State>) -> bool {
        let here = std::ptr::eq(self.state.as_ptr(), Arc::as_ptr(group));
        here && match &self.kind {
            Kind::Ended(_) => true,
            Kind::Task(_) | Kind::Refused => !group.is_open(),
        }
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Ended(Ended::Failed) => f.write_str("a task of the group failed"),
            Kind::Ended(Ended::Panicked) => f.write_str("a task of the group panicked"),
            Kind::Task(error) => error.fmt(f),
            Kind::Refused => f.write_str(CLOSED),
        }
    }
}

impl fmt::Debug for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildError").field(&self.kind).finish()
    }
}

impl Error for ChildError {
    // The text is that of the task's error, so the next thing to tell is what stands behind it.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            Kind::Task(error) => error.source(),
            Kind::Ended(_) | Kind::Refused => None,
        }
    }
}

const CLOSED: &str = "the task was not started: its group has ended, or is ending";

/// A future that a group did not take, and why.
///
/// ```
/// use heist::TaskGroup;
///
/// heist::run(async {
///     let mut outside = None;
///     let ended = TaskGroup::run(async |g| {
///         outside = Some(g);
///         Ok(())
///     });
///     ended.await.unwrap();
///     let refused = outside.unwrap().try_spawn(async { Ok::<_, String>(1) }).unwrap_err();
///     assert!(refused.to_string().contains("has ended"));
///     assert_eq!(refused.future.await, Ok(1));
/// });
/// ```
pub struct GroupClosed<F> {
    /// The future, as it was.
    pub future: F,
    /// The runtime's reason, if it is that which took no task.
    pub(super) error: Option<JoinError>,
}

impl<F> fmt::Debug for GroupClosed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupClosed")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for GroupClosed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str(CLOSED),
        }
    }
}

impl<F> Error for GroupClosed<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref().and_then(Error::source)
    }
}
