//! The task cell: allocation, layout, vtable. All work on the future through pointers is here.

use super::error::{JoinError, Label};
use super::id::Id;
use super::join::JoinHandle;
use super::keeper::Keeper;
use super::list::{Links, TaskList};
use super::region::{Record, Why};
use super::state::{Complete, Park, Start, State, Wake};
use super::waker;
use crate::hooks::{drop_beside_panic, drop_payload};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::values::{self, Values};
use std::cell::UnsafeCell;
use std::fmt::Debug;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What all tasks have in common; the first field of the allocation.
///
/// 96 bytes: no field is there twice, nothing is padded to a cache line.
#[repr(C)]
pub(crate) struct Header {
    pub(super) state: State,
    pub(super) vtable: &'static Vtable,
    /// A `Shared` for Send and blocking tasks, a `Pinned` for local ones. Not counted: see
    /// `waker.rs` for why it is alive whenever it is used.
    pub(super) owner: NonNull<()>,
    pub(super) links: UnsafeCell<Links>,
    pub(super) join_waker: UnsafeCell<Option<Waker>>,
    site: &'static Location<'static>,
    id: Id,
    parent: Option<Id>,
    /// What few tasks have.
    side: SideCell,
    polls: AtomicU32,
    kind: Kind,
    /// For the join handle alone: it has taken the output.
    taken: AtomicBool,
}

// The stand-ins of models are larger than what they stand for.
#[cfg(not(any(heist_loom, heist_shuttle)))]
const _: () = assert!(mem::size_of::<usize>() != 8 || mem::size_of::<Header>() <= 96);

/// The rarely used part of a header, made only for tasks that need it: when one has a name or values
/// of context variables, when it is asked to end, and when a region is polled in it. The main future
/// has one for the last reason.
///
/// Counted, because a region may be carried out of its task and outlive it.
#[derive(Debug)]
pub(crate) struct Side {
    name: Option<Box<str>>,
    /// For the runner alone.
    pub(crate) values: Values,
    pub(crate) record: Record<Keeper>,
}

impl Side {
    pub(crate) fn new(name: Option<Box<str>>) -> Arc<Side> {
        Arc::new(Side {
            name,
            values: Values::new(),
            record: Record::new(),
        })
    }
}

/// A place for one `Side`, filled once, by whoever needs it first.
#[derive(Debug)]
struct SideCell(AtomicPtr<Side>);

impl SideCell {
    fn new(side: Option<Arc<Side>>) -> SideCell {
        let pointer = side.map_or(std::ptr::null(), Arc::into_raw);
        SideCell(AtomicPtr::new(pointer.cast_mut()))
    }

    /// Null, or what `Arc::into_raw` gave.
    fn pointer(&self) -> *const Side {
        // Ordering: Acquire pairs with the Release of `make`: the fields are visible.
        self.0.load(Ordering::Acquire)
    }

    fn get(&self) -> Option<&Side> {
        // SAFETY: a pointer that is not null came from `Arc::into_raw` with the count that is
        // given back in `drop` alone, and is never replaced: valid as long as `self`.
        unsafe { self.pointer().as_ref() }
    }

    fn counted(&self) -> Option<Arc<Side>> {
        // Not by way of a `&Side`: that may be used for the `Side` alone, and not for the counts beside it.
        let side = self.pointer();
        if side.is_null() {
            return None;
        }
        // SAFETY: as in `get`; the count is for the `Arc` of the next line.
        unsafe { Arc::increment_strong_count(side) };
        // SAFETY: from `Arc::into_raw`, with the count added above.
        Some(unsafe { Arc::from_raw(side) })
    }

    fn make(&self) -> Arc<Side> {
        if let Some(side) = self.counted() {
            return side;
        }
        let side = Side::new(None);
        let pointer = Arc::into_raw(side.clone());
        // Ordering: Release pairs with the Acquire of `get`. On failure `counted` loads it again.
        let set = self.0.compare_exchange(
            std::ptr::null_mut(),
            pointer.cast_mut(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        match set {
            Ok(_) => side,
            Err(_) => {
                // SAFETY: from `Arc::into_raw` above; nobody else got it.
                drop(unsafe { Arc::from_raw(pointer) });
                self.counted()
                    .expect("it is set, as the exchange has found")
            }
        }
    }
}

impl Drop for SideCell {
    fn drop(&mut self) {
        let side = *self.0.get_mut();
        if !side.is_null() {
            // SAFETY: the count that `new` or `make` left here, given back once.
            drop(unsafe { Arc::from_raw(side) });
        }
    }
}

/// Who runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any worker.
    Send,
    /// The thread it was spawned on.
    Local,
    /// A thread of the blocking pool, once.
    Blocking,
}

/// What a spawner says of the new task.
pub(crate) struct New {
    pub(crate) id: Id,
    pub(crate) name: Option<Box<str>>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) parent: Option<Id>,
    pub(crate) kind: Kind,
    pub(crate) owner: NonNull<()>,
}

pub(super) struct Vtable {
    /// Polls; true when the output is in the stage. Never unwinds.
    poll: unsafe fn(NonNull<Header>) -> bool,
    /// Drops the future and puts the error in its place. Never unwinds.
    refuse: unsafe fn(NonNull<Header>, JoinError),
    /// Destroys the output; gives back a panic, or an error, that nobody has seen. Never unwinds.
    drop_output: unsafe fn(NonNull<Header>) -> Option<JoinError>,
    /// Moves the output to a `Result<T, JoinError>` and leaves the stage empty.
    pub(super) take_output: unsafe fn(NonNull<Header>, NonNull<()>),
    /// Frees the allocation. Never unwinds.
    dealloc: unsafe fn(NonNull<Header>),
}

#[repr(C)]
struct Cell<F: Future> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

enum Stage<F: Future> {
    Future(F),
    Output(Result<F::Output, JoinError>),
    Gone,
}

/// A task that nobody has seen yet.
pub(crate) struct Fresh<F: Future>(Box<Cell<F>>);

/// What becomes of an output that nobody takes.
///
/// It goes along with the future as a value, and not as one more function around each that spawns:
/// every function that a future goes through may copy it.
pub struct Unseen<F>(&'static Vtable, PhantomData<fn(F)>);

impl<F> Clone for Unseen<F> {
    fn clone(&self) -> Unseen<F> {
        *self
    }
}

impl<F> Copy for Unseen<F> {}

impl<F> std::fmt::Debug for Unseen<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unseen")
    }
}

impl<F: Future> Unseen<F> {
    /// It is dropped.
    pub fn dropped() -> Unseen<F> {
        let vtable = &Vtable {
            poll: poll::<F>,
            refuse: refuse::<F>,
            drop_output: drop_output::<F>,
            take_output: take_output::<F>,
            dealloc: dealloc::<F>,
        };
        Unseen(vtable, PhantomData)
    }

    /// It is dropped, and an `Err` is reported: only the destructor of the output differs.
    pub fn reported<T, E>() -> Unseen<F>
    where
        F: Future<Output = Result<T, E>>,
        E: Debug,
    {
        let vtable = &Vtable {
            poll: poll::<F>,
            refuse: refuse::<F>,
            drop_output: drop_fallible::<F, T, E>,
            take_output: take_output::<F>,
            dealloc: dealloc::<F>,
        };
        Unseen(vtable, PhantomData)
    }
}

/// Makes a task: queued, listed, with a join handle.
#[inline]
pub(crate) fn create<F: Future>(new: New, future: F, unseen: Unseen<F>) -> Fresh<F> {
    // Allocated first, so that the fields are written where they stay: a cell that is made on the stack
    // and moved costs the moved bytes, and more if they were written in smaller pieces.
    let mut cell = Box::<Cell<F>>::new_uninit();
    let header = Header {
        state: State::queued(),
        // The functions of this very type: `Unseen<F>` has no others.
        vtable: unseen.0,
        owner: new.owner,
        links: UnsafeCell::new(Links::new()),
        join_waker: UnsafeCell::new(None),
        site: new.site,
        id: new.id,
        parent: new.parent,
        side: SideCell::new(new.name.map(|name| Side::new(Some(name)))),
        polls: AtomicU32::new(0),
        kind: new.kind,
        taken: AtomicBool::new(false),
    };
    let memory = cell.as_mut_ptr();
    // SAFETY: in the memory of the box, which is large enough and aligned for a `Cell<F>`; nothing that is
    // there is read. The two are all of its fields.
    unsafe {
        (&raw mut (*memory).header).write(header);
        UnsafeCell::raw_get(&raw const (*memory).stage).write(Stage::Future(future));
    }
    // SAFETY: both fields were written above.
    Fresh(unsafe { cell.assume_init() })
}

/// A task in its list, or the future of one that was refused.
pub(crate) type Published<F> = Result<(JoinHandle<<F as Future>::Output>, Runnable), (F, Label)>;

impl<F: Future> Fresh<F> {
    /// Gives the task the values of context variables of what runs on this thread, its spawner.
    #[inline]
    pub(crate) fn inheriting(self) -> Fresh<F> {
        values::hand_over(&self.0.header);
        self
    }

    /// Gives the task's first references to `list`, a join handle and a runnable; or the future
    /// and its label back if the list is closed.
    #[inline]
    pub(crate) fn publish(self, list: &TaskList) -> Published<F> {
        // The pointer to the header keeps the provenance of the whole cell.
        let task = NonNull::from(Box::leak(self.0)).cast::<Header>();
        let runnable = Runnable(task);
        if list.link(&runnable) {
            // SAFETY: `task` was just made, and the state word counts one JOIN.
            return Ok((unsafe { JoinHandle::new(task) }, runnable));
        }
        // SAFETY: no list, no queue and no handle took the task: it is the box that was leaked
        // above, and nobody else has a pointer to it.
        let cell = unsafe { Box::from_raw(task.cast::<Cell<F>>().as_ptr()) };
        let label = cell.header.label();
        match cell.stage.into_inner() {
            // It was never polled, so it may still be moved.
            Stage::Future(future) => Err((future, label)),
            _ => unreachable!("the stage of a new task is its future"),
        }
    }
}

impl Header {
    pub(crate) fn id(&self) -> Id {
        self.id
    }
    pub(crate) fn site(&self) -> &'static Location<'static> {
        self.site
    }
    /// Whether `owner` is what the task was made for. Only the address is looked at.
    pub(crate) fn is_owned_by<T>(&self, owner: *const T) -> bool {
        std::ptr::eq(self.owner.as_ptr().cast_const(), owner.cast())
    }
    /// The task that spawned it.
    pub(crate) fn parent(&self) -> Option<Id> {
        self.parent
    }
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
    pub(crate) fn name(&self) -> Option<&str> {
        self.side.get()?.name.as_deref()
    }
    /// The rarely used part, if it was ever needed.
    pub(crate) fn side(&self) -> Option<&Side> {
        self.side.get()
    }
    /// The rarely used part, to keep.
    pub(crate) fn make_side(&self) -> Arc<Side> {
        self.side.make()
    }
    /// Who asked for the end of the task, and why, as far as that is known.
    pub(crate) fn why(&self) -> Option<Why> {
        self.side()?.record.why()
    }
    pub(crate) fn polls(&self) -> u32 {
        // Ordering: Relaxed, a hint for people.
        self.polls.load(Ordering::Relaxed)
    }
    pub(crate) fn state(&self) -> &State {
        &self.state
    }
    /// Whether the join handle has taken the output. Asked by the handle alone.
    pub(super) fn is_taken(&self) -> bool {
        // Ordering: Relaxed here and in `set_taken`: only the handle comes here, on one thread at a time.
        self.taken.load(Ordering::Relaxed)
    }
    pub(super) fn set_taken(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }
    /// How the task is called in errors.
    pub(crate) fn label(&self) -> Label {
        Label {
            id: self.id,
            name: self.name().map(Into::into),
            site: self.site,
        }
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("parent", &self.parent)
            .field("site", &format_args!("{}", self.site))
            .field("state", &self.state)
            .field("polls", &self.polls())
            .finish()
    }
}

/// The QUEUED reference of a task: the right, and the duty, to have it run.
///
/// There is no `Drop`: a `Runnable` that is forgotten keeps its task queued for ever.
#[derive(Debug)]
#[must_use]
pub(crate) struct Runnable(NonNull<Header>);

// SAFETY: a `Runnable` gives access to the header, whose fields are shared by the rules of the
// module `task`, and to the right of polling. A future that is not `Send` is only ever in a
// `Runnable` of kind `Local`, which the pinned queues hand to no other thread than its own: the
// inbox receives it from elsewhere, but a waker only moves the pointer and never the future.
unsafe impl Send for Runnable {}

/// What starting a task gave.
pub(crate) enum Started {
    /// Poll it.
    Poll(Running),
    /// A cancel request is delivered: [`Running::cancel`] it.
    Drop(Running),
}

impl Runnable {
    /// # Safety
    ///
    /// 1. The caller has made edge 1, 4 or 5 of `task`, and makes one `Runnable` of it.
    pub(super) unsafe fn from_raw(task: NonNull<Header>) -> Runnable {
        Runnable(task)
    }

    /// With the provenance of the whole cell, which a reference to the header has not.
    pub(super) fn pointer(&self) -> NonNull<Header> {
        self.0
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: QUEUED is ours and keeps the allocation; the header is never borrowed mutably.
        unsafe { self.0.as_ref() }
    }

    /// Edge 2.
    pub(crate) fn start(self) -> Started {
        match self.header().state.start_run() {
            Start::Poll => Started::Poll(Running(self.0, PhantomData)),
            Start::Drop => Started::Drop(Running(self.0, PhantomData)),
        }
    }
}

/// The RUNNING reference of a task: the exclusive right to its future.
pub(crate) struct Running(NonNull<Header>, PhantomData<*const ()>);

impl Running {
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: RUNNING is ours and keeps the allocation.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn pointer(&self) -> NonNull<Header> {
        self.0
    }

    /// Polls the future once; true when the task has its output.
    pub(crate) fn poll(&mut self) -> bool {
        let polls = &self.header().polls;
        // Ordering: Relaxed; only the runner writes.
        polls.store(
            polls.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        // SAFETY: RUNNING gives us the stage (invariant 3), and it holds the future: it is
        // replaced only by `poll` answering true or by `cancel`, after which the owner of this
        // `Running` goes on to `complete`.
        unsafe { (self.header().vtable.poll)(self.0) }
    }

    /// Drops the future and puts an error in its place.
    pub(crate) fn cancel(&mut self, error: JoinError) {
        // SAFETY: as in `poll`.
        unsafe { (self.header().vtable.refuse)(self.0, error) }
    }

    /// Edges 3 and 4. `Err` gives an abandoned task back.
    pub(crate) fn park(self) -> Result<Option<Runnable>, Running> {
        match self.header().state.park() {
            Park::Idle => Ok(None),
            // SAFETY: (1) that was edge 4.
            Park::Requeue => Ok(Some(unsafe { Runnable::from_raw(self.0) })),
            Park::Abandoned => Err(self),
        }
    }

    /// Edge 4 for a task that yields.
    pub(crate) fn yield_run(self) -> Result<Runnable, Running> {
        match self.header().state.yield_run() {
            // SAFETY: (1) that was edge 4.
            Park::Requeue | Park::Idle => Ok(unsafe { Runnable::from_raw(self.0) }),
            Park::Abandoned => Err(self),
        }
    }

    /// Destroys the output if nobody will ask for it. Before the task leaves its list, so that
    /// the end of the loop still sees a task that is inside this destructor.
    #[must_use]
    pub(crate) fn drop_unwanted(&mut self, kept: &mut bool) -> Option<JoinError> {
        if *kept && !self.header().state.snapshot().is_wanted() {
            *kept = false;
            // SAFETY: we are the runner, the output is in the stage (`kept`), and the handle is
            // gone for good (invariant 7).
            return unsafe { (self.header().vtable.drop_output)(self.0) };
        }
        None
    }

    /// Edges 7 and 8, the last of a task's life. The task must have left its list. `kept` says
    /// whether the output is still in the stage. Returns a panic that nobody has seen.
    #[must_use]
    pub(crate) fn complete(mut self, mut kept: bool) -> Option<JoinError> {
        let mut unseen = None;
        loop {
            match self.header().state.complete(kept) {
                Complete::Unwanted => {
                    let dropped = self.drop_unwanted(&mut kept);
                    unseen = unseen.or(dropped);
                }
                Complete::Finished => return unseen,
                Complete::WakeJoiner => {
                    // SAFETY: DONE is set with JOIN_WAKER: the cell is the runner's
                    // (invariant 6), and RUNNING keeps the allocation.
                    let waker = unsafe { (*self.header().join_waker.get()).take() };
                    if let Some(waker) = waker {
                        waker::wake_foreign(waker);
                    }
                    if self.header().state.finish_waking() == Wake::Free {
                        // SAFETY: that was the last reference.
                        unsafe { free(self.0) }
                    }
                    return unseen;
                }
                Complete::Free => {
                    // SAFETY: that was the last reference.
                    unsafe { free(self.0) }
                    return unseen;
                }
            }
        }
    }
}

/// Destroys the output of a task that is done; gives back a panic nobody has seen.
///
/// # Safety
///
/// 1. The caller is the join handle, DONE was set while its JOIN was, and it has not taken the
///    output.
pub(super) unsafe fn drop_output_of(task: NonNull<Header>) -> Option<JoinError> {
    // SAFETY: (1) gives the right to the stage (invariant 7).
    unsafe { (task.as_ref().vtable.drop_output)(task) }
}

/// Frees a task.
///
/// # Safety
///
/// 1. The caller's transition answered `Free`: no reference is left.
pub(super) unsafe fn free(task: NonNull<Header>) {
    // SAFETY: (1) no reference is left, so nobody else reads the header now or later. The
    // transition's Acquire makes every other holder's last use happen before this.
    unsafe { (task.as_ref().vtable.dealloc)(task) }
}

/// # Safety
///
/// 1. `task` was made by `create::<F>`.
/// 2. The caller has the right to the stage (invariants 3 and 7), or nobody else has the task.
unsafe fn stage<'a, F: Future>(task: NonNull<Header>) -> &'a mut Stage<F> {
    // SAFETY: (1) the header is the first field of a `Cell<F>` and the pointer has the cell's
    // provenance. (2) the right is exclusive; the header is not part of the borrow.
    unsafe { &mut *task.cast::<Cell<F>>().as_ref().stage.get() }
}

/// # Safety
///
/// Those of `stage`, and the stage is `Future`.
unsafe fn poll<F: Future>(task: NonNull<Header>) -> bool {
    // SAFETY: RUNNING keeps the task alive for the length of this call, which is longer than the
    // borrowed waker lives; whoever wants it longer clones it, which counts.
    let waker = unsafe { waker::borrowed(task) };
    let polled = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the caller's promise.
        let Stage::Future(future) = (unsafe { stage::<F>(task) }) else {
            unreachable!("a task without its future is not polled")
        };
        // SAFETY: the future is in a cell that is never moved, and is dropped in place.
        unsafe { Pin::new_unchecked(future) }.poll(&mut Context::from_waker(&waker))
    }));
    let output = match polled {
        Ok(Poll::Pending) => return false,
        Ok(Poll::Ready(output)) => Ok(output),
        // SAFETY: RUNNING keeps the header.
        Err(payload) => Err(JoinError::panic(&unsafe { task.as_ref() }.label(), payload)),
    };
    // SAFETY: the caller's promise.
    unsafe { finish::<F>(task, output) };
    true
}

/// # Safety
///
/// Those of `stage`, and the stage is `Future`.
unsafe fn refuse<F: Future>(task: NonNull<Header>, error: JoinError) {
    // SAFETY: the caller's promise.
    unsafe { finish::<F>(task, Err(error)) }
}

/// Drops the future, then stores the output: whoever sees the output knows that the future and
/// all it captured are gone. A panic of the future's destructor takes the output's place, unless
/// that is a panic already.
///
/// # Safety
///
/// Those of `stage`, and the stage is `Future`.
unsafe fn finish<F: Future>(task: NonNull<Header>, output: Result<F::Output, JoinError>) {
    // SAFETY: the caller's promise.
    let stage = unsafe { stage::<F>(task) };
    let dropped = drop_in_place_caught(stage);
    let output = match dropped {
        Ok(()) => output,
        Err(payload) if output.as_ref().is_err_and(JoinError::is_panic) => {
            drop_payload(payload);
            output
        }
        Err(payload) => {
            drop_beside_panic(output);
            // SAFETY: RUNNING keeps the header.
            Err(JoinError::panic(&unsafe { task.as_ref() }.label(), payload))
        }
    };
    *stage = Stage::Output(output);
}

/// Empties the stage. It is `Gone` afterwards even if the destructor panics.
fn drop_in_place_caught<F: Future>(
    stage: &mut Stage<F>,
) -> Result<(), Box<dyn std::any::Any + Send>> {
    #[cfg(heist_bug_13)]
    drop(mem::replace(stage, Stage::Gone));
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: dropped in place, since a future must not move; the value is not used again:
        // the write below replaces it without dropping, on both paths.
        unsafe { std::ptr::drop_in_place(stage) }
    }));
    // SAFETY: the reference is valid for writes; the old value was dropped, or its destructor
    // panicked, after which it must not be dropped again.
    unsafe { std::ptr::write(stage, Stage::Gone) };
    result
}

/// # Safety
///
/// Those of `stage`.
unsafe fn drop_output<F: Future>(task: NonNull<Header>) -> Option<JoinError> {
    // SAFETY: the caller's promise.
    let stage = unsafe { stage::<F>(task) };
    if let Stage::Output(Err(error)) = stage {
        if error.is_panic() {
            // Moved out, not dropped: an error's place is taken by the empty stage.
            let Stage::Output(Err(error)) = mem::replace(stage, Stage::Gone) else {
                unreachable!("it was an error a line ago")
            };
            return Some(error);
        }
    }
    #[cfg(heist_bug_16)]
    drop(mem::replace(stage, Stage::Gone));
    let payload = drop_in_place_caught(stage).err()?;
    // SAFETY: whoever has the right to the stage holds a reference.
    Some(JoinError::panic(&unsafe { task.as_ref() }.label(), payload))
}

/// # Safety
///
/// Those of `stage`.
unsafe fn drop_fallible<F, T, E>(task: NonNull<Header>) -> Option<JoinError>
where
    F: Future<Output = Result<T, E>>,
    E: Debug,
{
    // SAFETY: the caller's promise.
    let stage = unsafe { stage::<F>(task) };
    let Stage::Output(Ok(Err(error))) = stage else {
        // SAFETY: the caller's promise; the borrow of a line ago is over.
        return unsafe { drop_output::<F>(task) };
    };
    // The user's code, as a destructor is.
    let shown = catch_unwind(AssertUnwindSafe(|| format!("{error:?}")));
    let mut text = shown.unwrap_or_else(|payload| {
        drop_payload(payload);
        String::from("an error whose `Debug` panicked")
    });
    if let Err(payload) = drop_in_place_caught(stage) {
        drop_payload(payload);
        text.push_str(", and its destructor panicked");
    }
    // SAFETY: whoever has the right to the stage holds a reference.
    Some(JoinError::failed(&unsafe { task.as_ref() }.label(), text))
}

/// # Safety
///
/// Those of `stage`, and `out` is valid for a write of `Result<F::Output, JoinError>`.
unsafe fn take_output<F: Future>(task: NonNull<Header>, out: NonNull<()>) {
    // SAFETY: the caller's promise.
    let stage = unsafe { stage::<F>(task) };
    let Stage::Output(output) = stage else {
        panic!("a JoinHandle was polled after it had given its output")
    };
    // Not `mem::replace`, which moves as many bytes as the future had.
    // SAFETY: `out` by the caller's promise. The output is copied once: the stage is overwritten
    // without dropping it, and nothing in between panics.
    unsafe {
        out.cast()
            .copy_from_nonoverlapping(NonNull::from(output), 1);
        std::ptr::write(stage, Stage::Gone);
    }
}

/// # Safety
///
/// 1. `task` was made by `create::<F>` and nobody has a reference to it, now or later.
unsafe fn dealloc<F: Future>(task: NonNull<Header>) {
    // SAFETY: (1) this is the box that `create` leaked, and it is ours.
    let mut cell = unsafe { Box::from_raw(task.cast::<Cell<F>>().as_ptr()) };
    // The output left with the join handle, or was destroyed by the runner: no user code is left
    // in the stage, whatever thread this is.
    debug_assert!(matches!(cell.stage.get_mut(), Stage::Gone));
    let waker = cell.header.join_waker.get_mut().take();
    drop(cell);
    // A join waker is left only if the handle was forgotten. Its destructor is user code, so it
    // comes when the allocation is gone and nothing can be asked of the task any more.
    if let Some(waker) = waker {
        waker::drop_foreign(waker);
    }
}

#[cfg(all(test, heist_loom))]
#[path = "model_raw.rs"]
mod model_raw;
