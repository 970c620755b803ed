//! The waker functions, the exact count of wakers, and the way from a waker to the scheduler.
//!
//! A waker is a counted reference to the task and nothing else: it holds no reference to the
//! scheduler. The header's `owner` is a bare pointer, and this is why it is alive when it is used:
//!
//! * It is read only by a thread that has just made edge 5 (idle → queued). Until the task is
//!   pushed and received it is not done, and the end of the loop frees the owner only when every
//!   task is done. If a `poll_grace` ends that wait with such a task left, the owner is leaked.
//! * A thread of the runtime that pushes is joined before the owner is freed. Any other thread
//!   counts itself in as a guest *before* it pushes; the end of the loop waits for guests after
//!   the last task was done (`guests.rs` has the proof).
//! * After DONE no edge 5 exists, so a waker that outlives the runtime touches the header alone.

use super::raw::{Header, Kind, Runnable, free};
use super::state::Wake;
use crate::context;
use crate::hooks::drop_payload;
use crate::pinned::Pinned;
use crate::shared::Shared;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// A waker that is not counted.
pub(super) struct Borrowed(ManuallyDrop<Waker>);

impl Deref for Borrowed {
    type Target = Waker;
    fn deref(&self) -> &Waker {
        &self.0
    }
}

/// # Safety
///
/// 1. The task outlives the result.
pub(super) unsafe fn borrowed(task: NonNull<Header>) -> Borrowed {
    // SAFETY: the vtable's functions expect a pointer to a live header: (1). It is never dropped,
    // so no count is missing.
    Borrowed(ManuallyDrop::new(unsafe {
        Waker::from_raw(RawWaker::new(task.as_ptr().cast(), &VTABLE))
    }))
}

/// # Safety
///
/// 1. `data` is that of one of our wakers, which the caller borrows or owns: the count keeps the
///    header alive.
unsafe fn header<'a>(data: *const ()) -> (NonNull<Header>, &'a Header) {
    // SAFETY: (1). The pointer came from a `NonNull` in `borrowed`.
    let task = unsafe { NonNull::new_unchecked(data.cast_mut().cast::<Header>()) };
    // SAFETY: (1); the header is never borrowed mutably while a reference exists.
    (task, unsafe { task.as_ref() })
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the contract of `RawWakerVTable`: the caller borrows a waker.
    unsafe { header(data) }.1.state.clone_waker();
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the caller owns a waker, used up by this call.
    let (task, header) = unsafe { header(data) };
    // SAFETY: the answer comes from this very transition.
    unsafe { act(task, header.state.wake()) }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the caller borrows a waker.
    let (task, header) = unsafe { header(data) };
    // SAFETY: the answer comes from this very transition.
    unsafe { act(task, header.state.wake_by_ref()) }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: the caller owns a waker, used up by this call.
    let (task, header) = unsafe { header(data) };
    // SAFETY: the answer comes from this very transition.
    unsafe { act(task, header.state.drop_waker()) }
}

/// Does what a transition has asked for.
///
/// # Safety
///
/// 1. `todo` is the answer of a transition of `task` that the caller has just made.
pub(super) unsafe fn act(task: NonNull<Header>, todo: Wake) {
    match todo {
        Wake::Noted => {}
        // SAFETY: (1) that was edge 5, and this is its one `Runnable`.
        Wake::Push => schedule(unsafe { Runnable::from_raw(task) }),
        // SAFETY: (1) no reference is left.
        Wake::Free => unsafe { free(task) },
    }
}

/// Sends a task that has just become queued to where it will be run.
pub(super) fn schedule(task: Runnable) {
    #[cfg(heist_bug_21)]
    if task.header().state.snapshot().must_drop() {
        return context::with(|cx| drop(crate::worker::run_task(cx.expect("inside"), None, task)));
    }
    let owner = task.header().owner;
    match task.header().kind() {
        Kind::Send => {
            // SAFETY: the owner of a Send task is a `Shared`, and alive by the module's header:
            // we hold the task's `Runnable`, and `wake_task` keeps to the rule of guests.
            let shared = unsafe { owner.cast::<Shared>().as_ref() };
            context::with(|cx| shared.wake_task(cx, task));
        }
        Kind::Local => {
            // SAFETY: likewise; the owner of a local task is a `Pinned`.
            let pinned = unsafe { owner.cast::<Pinned>().as_ref() };
            context::with(|cx| pinned.wake_task(cx, task));
        }
        Kind::Blocking => unreachable!("a closure is queued once, when it is spawned"),
    }
}

/// Wakes a waker that may be somebody else's: user code, which may panic in `wake` and again when
/// it is dropped. The two are kept apart, because the second on top of the first would end the
/// process.
pub fn wake_foreign(waker: Waker) {
    if std::ptr::eq(waker.vtable(), &VTABLE) {
        return waker.wake();
    }
    #[cfg(heist_bug_17)]
    return waker.wake();
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake_by_ref())) {
        drop_payload(payload);
    }
    drop_foreign(waker);
}

/// Drops somebody else's waker, which is user code and may panic.
pub fn drop_foreign(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(waker))) {
        drop_payload(payload);
    }
}

/// Whether `waker` is the task's own.
pub(crate) fn is_of(waker: &Waker, task: NonNull<Header>) -> bool {
    waker.data() == task.as_ptr().cast_const().cast() && std::ptr::eq(waker.vtable(), &VTABLE)
}
