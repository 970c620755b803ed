//! The handles users hold: waiting for a task's output, and asking for its end.

use super::error::{JoinError, Label};
use super::id::Id;
use super::keeper::Keeper;
use super::raw::{Header, Kind, Runnable, free};
use super::region::Why;
use super::state::{Close, JoinCell, Outcome, State, Wake};
use super::wait::Wait;
use super::waker;
use crate::budget;
use crate::context::{self, Current};
use crate::hooks::{Report, report_to_stderr};
use crate::pinned::Pinned;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Waits for the end of a task and gives its output.
///
/// A future of `Result<T, JoinError>`. When it is ready, the task's future and all it captured
/// are gone. Dropping the handle *detaches* the task: it goes on, and its output is dropped on the
/// thread that completes it. If a detached task panics, `on_error` is told.
///
/// # Cancel safety
///
/// Polling takes nothing until it is ready, so a handle can be polled in a `select` by reference
/// again and again.
///
/// # Panics
///
/// Polling again after it was ready panics.
#[must_use = "dropping a JoinHandle detaches the task; say so with `drop`, or await it"]
pub struct JoinHandle<T> {
    task: Target<T>,
}

enum Target<T> {
    /// The JOIN reference.
    Task(NonNull<Header>, PhantomData<T>),
    /// A task that no runtime took.
    Refused(Box<Refused>),
}

/// In a box, so that a handle is two words: most are moved more often than they are polled.
struct Refused {
    error: Option<JoinError>,
    label: Label,
}

const _: () = assert!(size_of::<JoinHandle<()>>() == 2 * size_of::<usize>());

// SAFETY: the handle reaches the header, which is shared by the rules of the module `task`, and
// takes or drops a `T` on its own thread: like sending the `T`. Without `T: Send`, thread B could
// drop an `Rc` that thread A still has clones of.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: `&JoinHandle` gives access to atomic operations on the header only; no `&T` comes of it.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// 1. `task` was just made by `create` with `F::Output = T`, and its JOIN reference goes to
    ///    this handle.
    #[inline]
    pub(crate) unsafe fn new(task: NonNull<Header>) -> JoinHandle<T> {
        JoinHandle {
            task: Target::Task(task, PhantomData),
        }
    }

    /// A handle of a task that was not taken.
    pub(crate) fn refused(label: Label, error: JoinError) -> JoinHandle<T> {
        JoinHandle {
            task: Target::Refused(Box::new(Refused {
                error: Some(error),
                label,
            })),
        }
    }

    fn header(&self) -> Option<&Header> {
        match &self.task {
            // SAFETY: JOIN is ours until `drop` and keeps the header alive.
            Target::Task(pointer, _) => Some(unsafe { pointer.as_ref() }),
            Target::Refused(_) => None,
        }
    }

    /// Asks for the end of the task and returns at once. The future is dropped by the runtime,
    /// not inside this call, at its next suspension point; a task that completes before that keeps
    /// its output. A closure of `spawn_blocking` that is running already is not interrupted.
    ///
    /// If the task is inside a `catch_cancel`, that receives the request, and the task goes on.
    #[track_caller]
    pub fn abort(&self) {
        self.request(Why::task(None, Location::caller()));
    }

    /// Like [`abort`](JoinHandle::abort), and says why: for whoever catches the request, and for the
    /// [`JoinError`] of the task. Of several requests that are made before the first is delivered,
    /// the first one's reason counts.
    #[track_caller]
    pub fn abort_with(&self, reason: impl Into<Box<str>>) {
        self.request(Why::task(Some(reason.into().into()), Location::caller()));
    }

    fn request(&self, why: Why) {
        if let Target::Task(pointer, _) = &self.task {
            // SAFETY: JOIN keeps the header alive.
            unsafe { TaskRef::request(*pointer, why) }
        }
    }

    /// Asks for the end of the task, in this call, and gives the handle back, to wait for it: when
    /// that is ready, the future is gone.
    ///
    /// # Errors
    ///
    /// [`JoinError::is_cancelled`] if the request was what ended the task; a task that completed or
    /// panicked first, or that caught the request, gives that result.
    ///
    /// # Cancel safety
    ///
    /// If the handle is dropped, the request stands, and the task is detached.
    #[track_caller]
    pub fn cancel(self) -> JoinHandle<T> {
        self.abort();
        self
    }

    /// Like [`cancel`](JoinHandle::cancel), and says why; see [`abort_with`](JoinHandle::abort_with).
    ///
    /// # Errors
    ///
    /// As for `cancel`; [`JoinError::reason`] is the one given here.
    ///
    /// # Cancel safety
    ///
    /// As for `cancel`.
    #[track_caller]
    pub fn cancel_with(self, reason: impl Into<Box<str>>) -> JoinHandle<T> {
        self.abort_with(reason);
        self
    }

    /// Ties the task to the handle: when what this returns is dropped before the task has ended, the
    /// task is asked to end, as by [`abort`](JoinHandle::abort), and goes on to its end unobserved.
    #[track_caller]
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop {
            handle: Some(self),
            site: Location::caller(),
        }
    }

    /// Whether the task has ended: the next poll of the handle is ready.
    pub fn is_finished(&self) -> bool {
        self.header()
            .is_none_or(|header| header.state.outcome() != Outcome::Pending)
    }

    /// The task's identity.
    pub fn id(&self) -> Id {
        match &self.task {
            // SAFETY: JOIN keeps the header alive.
            Target::Task(pointer, _) => unsafe { pointer.as_ref() }.id(),
            Target::Refused(refused) => refused.label.id,
        }
    }

    /// The name given with `task::Builder`.
    pub fn name(&self) -> Option<&str> {
        match &self.task {
            // SAFETY: JOIN keeps the header alive; the name never changes.
            Target::Task(pointer, _) => unsafe { pointer.as_ref() }.name(),
            Target::Refused(refused) => refused.label.name.as_deref(),
        }
    }

    /// A handle that can ask for the end of the task but not wait for it.
    pub fn abort_handle(&self) -> AbortHandle {
        match &self.task {
            Target::Task(pointer, _) => AbortHandle {
                // SAFETY: JOIN keeps the header alive.
                aim: Aim::Task(unsafe { TaskRef::new(*pointer) }),
                id: self.id(),
            },
            Target::Refused(_) => AbortHandle {
                aim: Aim::Nobody,
                id: self.id(),
            },
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let pointer = match &mut self.task {
            Target::Task(pointer, _) => *pointer,
            Target::Refused(refused) => {
                return Poll::Ready(Err(refused.error.take().expect(POLLED_AGAIN)));
            }
        };
        // SAFETY: JOIN keeps the header alive.
        let header = unsafe { pointer.as_ref() };
        assert!(!header.is_taken(), "{POLLED_AGAIN}");
        let charge = std::task::ready!(budget::poll_proceed(cx));
        let mut outcome = header.state.outcome();
        // SAFETY: we are the join handle.
        if outcome == Outcome::Pending && !unsafe { register(header, cx.waker()) } {
            outcome = header.state.outcome();
        }
        let output = match outcome {
            Outcome::Pending => {
                context::waits_on(|| match header.kind() {
                    Kind::Blocking => Wait::Blocking(header.id()),
                    Kind::Send | Kind::Local => Wait::Task(header.id()),
                });
                return Poll::Pending;
            }
            Outcome::Done => {
                let mut output = MaybeUninit::<Result<T, JoinError>>::uninit();
                let out = NonNull::from(&mut output).cast();
                // SAFETY: DONE with our JOIN set: the stage is ours (invariant 7). `out` is of the type
                // of its output.
                unsafe { (header.vtable.take_output)(pointer, out) };
                header.set_taken();
                // SAFETY: `take_output` has written it.
                unsafe { output.assume_init() }
            }
            Outcome::Abandoned => {
                // The stage is still the runner's, who will find JOIN clear after our drop and
                // destroy the output, or leave it to our drop if DONE comes first.
                let label = header.label();
                let gone = Target::Refused(Box::new(Refused {
                    error: None,
                    label: label.clone(),
                }));
                drop(JoinHandle {
                    task: std::mem::replace(&mut self.task, gone),
                });
                Err(JoinError::abandoned(&label))
            }
        };
        charge.progress();
        Poll::Ready(output)
    }
}

const POLLED_AGAIN: &str = "a JoinHandle was polled after it had given its output";

/// Leaves `waker` for the runner that completes the task. False when it is too late.
///
/// # Safety
///
/// 1. The caller is the join handle, the only one, for the length of the call.
unsafe fn register(header: &Header, waker: &Waker) -> bool {
    match header.state.join_cell() {
        JoinCell::TooLate { .. } => return false,
        // The cell may not even be read while the runner could take the waker out.
        JoinCell::Filled if !header.state.unset_join_waker() => return false,
        JoinCell::Filled | JoinCell::Empty => {}
    }
    // SAFETY: JOIN_WAKER is clear and was not given away by `abandon`, so the cell is ours
    // (invariant 6).
    let cell = unsafe { &mut *header.join_waker.get() };
    if !cell.as_ref().is_some_and(|old| old.will_wake(waker)) {
        let new = waker.clone();
        if let Some(old) = cell.replace(new) {
            waker::drop_foreign(old);
        }
    }
    if header.state.set_join_waker() {
        return true;
    }
    // Too late, so nothing was given: the cell is still ours, and must not keep a waker that nobody
    // would take out.
    if let Some(waker) = cell.take() {
        waker::drop_foreign(waker);
    }
    false
}

/// Empties the join waker cell if it is the handle's, so that the waker does not live as long as
/// the task.
///
/// # Safety
///
/// 1. The caller is the join handle, the only one, for the length of the call.
unsafe fn unregister(header: &Header) {
    let ours = match header.state.join_cell() {
        JoinCell::Filled => header.state.unset_join_waker(),
        JoinCell::Empty => true,
        JoinCell::TooLate { given } => !given,
    };
    if ours {
        // SAFETY: JOIN_WAKER is clear and was never given, or was taken back: the cell is ours
        // (invariant 6).
        if let Some(waker) = unsafe { (*header.join_waker.get()).take() } {
            waker::drop_foreign(waker);
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Target::Task(pointer, _) = self.task else {
            return;
        };
        // SAFETY: JOIN keeps the header alive until we give it up below.
        let header = unsafe { pointer.as_ref() };
        if !header.is_taken() {
            // SAFETY: we are the join handle. (After the output was taken the cell is empty: a waker
            // that was given was woken, and one that came too late was taken back.)
            unsafe { unregister(header) };
            if header.state.detach() {
                return;
            }
            // Ordering: Acquire in `outcome` pairs with the Release of `complete`; `detach` found
            // DONE but read it relaxed.
            let outcome = header.state.outcome();
            debug_assert_eq!(outcome, Outcome::Done);
            // SAFETY: DONE with our JOIN set: the output is ours (invariant 7), and still there.
            if let Some(error) = unsafe { super::raw::drop_output_of(pointer) } {
                report_unseen(header, &error);
            }
        }
        if header.state.drop_join() == Wake::Free {
            // SAFETY: that was the last reference.
            unsafe { free(pointer) }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id())
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// A counted reference to a task, in the word a HANDLE: it keeps the header and nothing else.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: it reaches the header, which is shared by the rules of the module `task`, and never the
// output.
unsafe impl Send for TaskRef {}
// SAFETY: as for `Send`.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// # Safety
    ///
    /// 1. The caller has a reference to `task`, with the provenance of the whole cell.
    pub(crate) unsafe fn new(task: NonNull<Header>) -> TaskRef {
        // SAFETY: (1).
        unsafe { task.as_ref() }.state.clone_handle();
        TaskRef(task)
    }

    fn header(&self) -> &Header {
        // SAFETY: HANDLE keeps the header alive.
        unsafe { self.0.as_ref() }
    }

    /// Asks for the end of a task.
    ///
    /// # Safety
    ///
    /// Those of `new`.
    unsafe fn request(task: NonNull<Header>, why: Why) {
        // SAFETY: the caller's promise. Counted, because the record pushes the task after its lock is
        // released, when the caller's own reference may be the last.
        let task = unsafe { TaskRef::new(task) };
        if !task.state().snapshot().is_done() {
            let side = task.header().make_side();
            side.record.request(&Keeper::Task(task), why);
        }
    }

    /// Edge r5 by whoever takes the task along.
    fn request_along(&self, why: Why) {
        if !self.state().snapshot().is_done() {
            let side = self.header().make_side();
            side.record.request_along(&Keeper::Task(self.clone()), why);
        }
    }

    /// # Safety
    ///
    /// 1. `todo` is the answer of a transition of this task that the caller has just made.
    unsafe fn due(&self, todo: Wake) -> Option<Runnable> {
        // SAFETY: (1) that was edge 5, and this is its one `Runnable`.
        (todo == Wake::Push).then(|| unsafe { Runnable::from_raw(self.0) })
    }
}

impl TaskRef {
    pub(super) fn state(&self) -> &State {
        &self.header().state
    }

    /// Edge c1, with what is to be pushed.
    pub(super) fn request_cancel(&self) -> Option<Runnable> {
        let todo = self.state().request_cancel();
        // SAFETY: the transition of the line before.
        unsafe { self.due(todo) }
    }

    /// Edge c2, likewise.
    pub(super) fn request_close(&self) -> (Close, Option<Runnable>) {
        let close = self.state().request_close();
        let todo = match close {
            Close::Push => Wake::Push,
            Close::Noted | Close::Cleanup | Close::Region => Wake::Noted,
        };
        // SAFETY: the transition above; `Close::Push` says that it was edge 5.
        (close, unsafe { self.due(todo) })
    }

    /// Edge c5, likewise.
    pub(super) fn leave_region(&self, requested: bool) -> Option<Runnable> {
        let todo = self.state().leave_region(requested);
        // SAFETY: the transition of the line before.
        unsafe { self.due(todo) }
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> TaskRef {
        // SAFETY: (1) our own HANDLE; the pointer is that of `new`.
        unsafe { TaskRef::new(self.0) }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        let todo = self.header().state.drop_handle();
        // SAFETY: the answer comes from the transition.
        unsafe { waker::act(self.0, todo) }
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskRef").field(&self.header().id()).finish()
    }
}

/// Asks for the end of a task, from anywhere, without waiting for it.
///
/// Clones are cheap; a handle that outlives its task does nothing.
#[derive(Clone)]
pub struct AbortHandle {
    aim: Aim,
    id: Id,
}

/// Whose end an [`AbortHandle`] asks for.
#[derive(Clone)]
enum Aim {
    Task(TaskRef),
    /// The main future of a run.
    Main(Arc<Pinned>),
    /// A task that no runtime took.
    Nobody,
}

impl AbortHandle {
    /// The handle of what is being polled on this thread: a task, or the main future of `run`.
    ///
    /// # Panics
    ///
    /// Where there is none. [`AbortHandle::try_current`] does not.
    #[track_caller]
    pub fn current() -> AbortHandle {
        AbortHandle::try_current().unwrap_or_else(|| {
            panic!(
                "heist: `AbortHandle::current` was called where neither a task nor the main future \
                 of `run` is being polled"
            )
        })
    }

    /// The handle of what is being polled on this thread, if there is anything: a task, a blocking
    /// closure, or the main future of `run`. The future given to `Handle::block_on` is neither.
    pub fn try_current() -> Option<AbortHandle> {
        context::with(|cx| {
            let cx = cx?;
            match cx.current.get() {
                Current::Task(task) => {
                    // SAFETY: `current` names a task only while its runner polls it, and the
                    // runner's reference keeps it alive.
                    let task = unsafe { TaskRef::new(task) };
                    Some(AbortHandle {
                        id: task.header().id(),
                        aim: Aim::Task(task),
                    })
                }
                Current::Main => {
                    let pinned = cx.local?.pinned.clone();
                    Some(AbortHandle {
                        id: pinned.main_id(),
                        aim: Aim::Main(pinned),
                    })
                }
                Current::Nothing => None,
            }
        })
    }

    /// Asks for the end of the task and returns at once; see [`JoinHandle::abort`].
    ///
    /// A main future is dropped at its next suspension point too, and never inside this call. Its
    /// run then ends as always, and answers that it was cancelled. One that catches the request goes
    /// on; a further request, as one to a task in cleanup, goes to what catches it, or else drops it.
    #[track_caller]
    pub fn abort(&self) {
        self.request(Why::task(None, Location::caller()));
    }

    /// Like [`abort`](AbortHandle::abort), and says why; see [`JoinHandle::abort_with`].
    #[track_caller]
    pub fn abort_with(&self, reason: impl Into<Box<str>>) {
        self.request(Why::task(Some(reason.into().into()), Location::caller()));
    }

    fn request(&self, why: Why) {
        match &self.aim {
            // SAFETY: HANDLE keeps the header alive; the pointer is that of `TaskRef::new`.
            Aim::Task(task) => unsafe { TaskRef::request(task.0, why) },
            Aim::Main(pinned) => pinned.request_cancel_with(why),
            Aim::Nobody => {}
        }
    }

    /// Whether the task has ended; for a main future, whether it is gone.
    pub fn is_finished(&self) -> bool {
        match &self.aim {
            Aim::Task(task) => task.state().outcome() != Outcome::Pending,
            Aim::Main(pinned) => pinned.is_main_gone(),
            Aim::Nobody => true,
        }
    }

    /// The task's identity. A main future has one for its handles alone: it is that of no task.
    pub fn id(&self) -> Id {
        self.id
    }
}

/// Like [`AbortHandle::abort_with`], in the name of whoever asked at `by`.
pub fn abort_at(handle: &AbortHandle, reason: Option<Arc<str>>, by: &'static Location<'static>) {
    handle.request(Why::task(reason, by));
}

/// Like [`abort_at`], by somebody who is asked to end and takes the task along: does nothing if the end of
/// the loop has asked both.
pub fn abort_along(handle: &AbortHandle, reason: Option<Arc<str>>, by: &'static Location<'static>) {
    match &handle.aim {
        Aim::Task(task) => task.request_along(Why::task(reason, by)),
        Aim::Main(_) | Aim::Nobody => handle.request(Why::task(reason, by)),
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle").field("id", &self.id).finish()
    }
}

/// A [`JoinHandle`] that asks its task to end when it is dropped.
///
/// A future of `Result<T, JoinError>`, like the handle.
#[must_use = "dropping it cancels the task; keep it, or await it"]
#[derive(Debug)]
pub struct CancelOnDrop<T> {
    /// Gone only in `into_inner`.
    handle: Option<JoinHandle<T>>,
    site: &'static Location<'static>,
}

impl<T> CancelOnDrop<T> {
    /// The handle inside.
    pub fn get_ref(&self) -> &JoinHandle<T> {
        self.handle.as_ref().expect("only `into_inner` takes it")
    }

    /// Unties the task: gives the handle back, whose drop detaches.
    pub fn into_inner(mut self) -> JoinHandle<T> {
        self.handle.take().expect("only `into_inner` takes it")
    }
}

impl<T> Future for CancelOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let handle = self.handle.as_mut().expect("only `into_inner` takes it");
        Pin::new(handle).poll(cx)
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            if !handle.is_finished() {
                handle.request(Why::task(None, self.site));
            }
        }
    }
}

/// Waits for a task that is to outlive its waiter; made by [`shield`].
///
/// A future of `Result<T, JoinError>`.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Shield<T>(JoinHandle<T>);

/// Waits for a task, and lets it go on when the waiter is cancelled.
///
/// That is what awaiting a [`JoinHandle`] does as well; this one says that it is meant.
pub fn shield<T>(handle: JoinHandle<T>) -> Shield<T> {
    Shield(handle)
}

impl<T> Shield<T> {
    /// The handle inside.
    pub fn into_inner(self) -> JoinHandle<T> {
        self.0
    }
}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Tells the task's runtime of a panic nobody has seen, if this thread is inside of it; otherwise
/// the runtime may be gone, and standard error is told.
fn report_unseen(header: &Header, error: &JoinError) {
    let report = Report::unseen(error);
    context::with(|cx| match cx {
        Some(cx) if cx.owns(header) => cx.shared.config.hooks.report(&report),
        _ => report_to_stderr(&report),
    });
}
