//! What the current thread is doing for which runtime.
//!
//! A thread-local pointer to a [`Context`] that lives on the stack of whoever called [`enter`].
//! It is how `spawn` finds its runtime, how a wake on a worker stays on that worker, and how a
//! nested `run` is noticed. There is no destructor and no lazy initialisation: reading it is one
//! load.

use crate::config::BUDGET;
use crate::pinned::{Local, Pinned};
use crate::shared::Shared;
use crate::sync::thread_local;
use crate::task::state::State;
use crate::task::{Header, Id, Keeper, Kind, Side, TaskRef, Wait};
use crate::values::Values;
use crate::worker::Worker;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// What kind of thread this is for the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs tasks: a worker thread, or the caller of `run`.
    Worker,
    /// A foreign thread inside `Handle::block_on`.
    BlockOn,
    /// Runs a blocking closure.
    Blocking,
    /// The monitor, or whoever ends a closure that will not run.
    Service,
}

impl Role {
    /// Threads that the end of the loop joins, or is run by, or whose closure it waits for: they need no
    /// guest count.
    fn is_of_runtime(self) -> bool {
        self != Role::BlockOn
    }
}

/// What runs on the thread at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Current {
    Nothing,
    Main,
    Task(NonNull<Header>),
}

/// See the module.
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) role: Role,
    pub(crate) worker: Option<&'a Worker>,
    /// On the thread of `run`.
    pub(crate) local: Option<&'a Local>,
    /// Those of the main future, or of the future in `block_on`.
    pub(crate) values: Option<&'a Values>,
    /// Where the runtime was entered.
    pub(crate) site: &'static Location<'static>,
    pub(crate) current: Cell<Current>,
    /// What is left of the present poll's budget.
    pub(crate) budget: Cell<u32>,
    /// What the present poll has left to be done after it: `YIELDED`, `NOTED`. One field, so that
    /// looking at it costs the same for both.
    pub(crate) left: Cell<u8>,
    /// What the present poll waits on; valid with `NOTED`.
    pub(crate) waits: RefCell<Vec<Wait>>,
    /// Woken when the task that has just been polled has ended: see `wake_at_end`.
    pub(crate) at_end: Cell<Option<Waker>>,
}

/// The present poll asked for another turn.
pub(crate) const YIELDED: u8 = 1;
/// The present poll has said what it waits on, and somebody looks.
pub(crate) const NOTED: u8 = 2;
/// How many things one poll may say it waits on. What a task waits on beyond that is not told.
const MAX_WAITS: usize = 64;

thread_local! {
    static CURRENT: Cell<*const Context<'static>> = const { Cell::new(std::ptr::null()) };
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        role: Role,
        site: &'static Location<'static>,
    ) -> Context<'a> {
        Context {
            shared,
            role,
            worker: None,
            local: None,
            values: None,
            site,
            current: Cell::new(Current::Nothing),
            budget: Cell::new(BUDGET),
            left: Cell::new(0),
            waits: RefCell::new(Vec::new()),
            at_end: Cell::new(None),
        }
    }

    /// Whether this thread works for `shared`, and so is no guest there.
    #[inline]
    pub(crate) fn is_inside(&self, shared: &Shared) -> bool {
        std::ptr::eq(&**self.shared, shared) && self.role.is_of_runtime()
    }

    /// Whether a task belongs to this thread's runtime.
    pub(crate) fn owns(&self, task: &Header) -> bool {
        task.is_owned_by(&**self.shared)
            || self
                .local
                .is_some_and(|local| task.is_owned_by(&*local.pinned))
    }

    /// The identity of the task that is being polled.
    #[inline]
    pub(crate) fn task_id(&self) -> Option<Id> {
        match self.current.get() {
            // SAFETY: `current` names a task only while its runner polls it (`Worker::poll`),
            // and the runner's reference keeps it alive.
            Current::Task(task) => Some(unsafe { task.as_ref() }.id()),
            Current::Main | Current::Nothing => None,
        }
    }

    /// Its name.
    pub(crate) fn task_name(&self) -> Option<String> {
        match self.current.get() {
            // SAFETY: as in `task_id`.
            Current::Task(task) => unsafe { task.as_ref() }.name().map(String::from),
            Current::Main | Current::Nothing => None,
        }
    }

    /// Gives `f` the side record of the task that is being polled, if there is a task and it has one.
    #[inline]
    pub(crate) fn task_side<R>(&self, f: impl FnOnce(Option<&Side>) -> R) -> R {
        match self.current.get() {
            // SAFETY: as in `task_id`; the reference ends with the call.
            Current::Task(task) => f(unsafe { task.as_ref() }.side()),
            Current::Main | Current::Nothing => f(None),
        }
    }

    /// The side record of the task that is being polled, to keep.
    pub(crate) fn make_task_side(&self) -> Option<Arc<Side>> {
        match self.current.get() {
            // SAFETY: as in `task_id`.
            Current::Task(task) => Some(unsafe { task.as_ref() }.make_side()),
            Current::Main | Current::Nothing => None,
        }
    }

    /// Whether what runs here may move to another thread.
    pub(crate) fn is_polling_send_task(&self) -> bool {
        match self.current.get() {
            // SAFETY: as in `task_id`.
            Current::Task(task) => unsafe { task.as_ref() }.kind() != crate::task::Kind::Local,
            Current::Main | Current::Nothing => false,
        }
    }

    /// Has the worker do something after the present poll: `YIELDED` or `NOTED`.
    pub(crate) fn leave(&self, what: u8) {
        self.left.set(self.left.get() | what);
    }

    /// Notes what the present poll waits on.
    #[cold]
    fn note(&self, wait: Wait) {
        if !self.shared.is_still_looked_at() {
            return;
        }
        let mut waits = self.waits.borrow_mut();
        if self.left.get() & NOTED == 0 {
            waits.clear();
            self.leave(NOTED);
        }
        if waits.len() < MAX_WAITS && !waits.contains(&wait) {
            waits.push(wait);
        }
    }

    /// Runs `poll` with `current` as what runs here, with a full budget.
    pub(crate) fn polling<R>(&self, current: Current, poll: impl FnOnce() -> R) -> R {
        let outer = self.current.replace(current);
        self.budget.set(BUDGET);
        self.left.set(0);
        let result = poll();
        self.current.set(outer);
        result
    }
}

/// Makes `cx` the thread's context for the length of `f`, also if it unwinds.
pub(crate) fn enter<R>(cx: &Context<'_>, f: impl FnOnce() -> R) -> R {
    let pointer: *const Context<'_> = cx;
    switch(pointer.cast(), f)
}

/// Runs `f` as on a thread that is inside no runtime.
pub(crate) fn outside<R>(f: impl FnOnce() -> R) -> R {
    switch(std::ptr::null(), f)
}

/// Runs `f` with this as the thread's context.
fn switch<R>(context: *const Context<'static>, f: impl FnOnce() -> R) -> R {
    struct Restore(*const Context<'static>);
    impl Drop for Restore {
        fn drop(&mut self) {
            #[cfg(heist_bug_28)]
            if std::thread::panicking() {
                return;
            }
            CURRENT.with(|current| current.set(self.0));
        }
    }
    let _restore = Restore(CURRENT.with(|current| current.replace(context)));
    // What is polled in this context is not inside of what an outer one polls.
    crate::catch::hide_frames(f)
}

/// Gives `f` the thread's context.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Context<'_>>) -> R) -> R {
    // A thread that is being torn down has no context: `try_with` fails there.
    let pointer = CURRENT.try_with(Cell::get).unwrap_or(std::ptr::null());
    // SAFETY: a pointer that is set points to the `cx` of an `enter` that has not returned, since
    // `Restore` takes it away first, also on unwinding. It is this thread's own stack frame, so
    // nobody else frees it, and it is borrowed shared only. The closure's lifetime is shorter than
    // that frame because the closure runs above it on the same stack.
    f(unsafe { pointer.as_ref() })
}

/// What is being polled on this thread, for the regions inside it.
pub(crate) struct Polling<'a> {
    cx: &'a Context<'a>,
    who: Who<'a>,
}

enum Who<'a> {
    Task(NonNull<Header>),
    Main(&'a Arc<Pinned>),
}

/// Gives `f` the task, or the main future of `run`, that is being polled on this thread. A blocking
/// closure is none in this sense: what is polled in one is not interrupted. Nor is the future in
/// `block_on`, which nobody can ask to end.
pub(crate) fn polling<R>(f: impl FnOnce(Option<&Polling<'_>>) -> R) -> R {
    with(|cx| {
        let polling = cx.and_then(|cx| {
            let who = match cx.current.get() {
                Current::Task(task) => {
                    // SAFETY: as in `task_id`.
                    let kind = unsafe { task.as_ref() }.kind();
                    (kind != Kind::Blocking).then_some(Who::Task(task))?
                }
                Current::Main => Who::Main(&cx.local?.pinned),
                Current::Nothing => return None,
            };
            Some(Polling { cx, who })
        });
        f(polling.as_ref())
    })
}

impl Polling<'_> {
    fn side(&self) -> Option<&Side> {
        match self.who {
            // SAFETY: as in `task_id`; `polling` gives this out for the length of a call inside of
            // the poll.
            Who::Task(task) => unsafe { task.as_ref() }.side(),
            Who::Main(pinned) => pinned.side(),
        }
    }

    fn state(&self) -> &State {
        match self.who {
            // SAFETY: as in `side`.
            Who::Task(task) => unsafe { task.as_ref() }.state(),
            Who::Main(pinned) => pinned.word(),
        }
    }

    /// A counted reference to it.
    pub(crate) fn owner(&self) -> Keeper {
        match self.who {
            // SAFETY: (1) the runner's reference, as in `task_id`; `current` has the pointer of the
            // whole cell.
            Who::Task(task) => Keeper::Task(unsafe { TaskRef::new(task) }),
            Who::Main(pinned) => Keeper::Main(pinned.clone()),
        }
    }

    /// Whether `side` is its own.
    pub(crate) fn has(&self, side: &Side) -> bool {
        self.side().is_some_and(|own| std::ptr::eq(own, side))
    }

    pub(crate) fn make_side(&self) -> Arc<Side> {
        match self.who {
            // SAFETY: as in `side`.
            Who::Task(task) => unsafe { task.as_ref() }.make_side(),
            Who::Main(pinned) => pinned.make_side(),
        }
    }

    /// Who is said to have asked when the loop ends.
    pub(crate) fn closed_by(&self) -> &'static Location<'static> {
        self.cx.shared.closing.site().unwrap_or(self.cx.site)
    }

    /// What was asked of `main` during this poll counts as well.
    fn hand_over(&self) {
        if let Who::Main(pinned) = self.who {
            pinned.hand_over(self.cx.site);
        }
    }

    pub(crate) fn cancelling(&self) -> usize {
        self.hand_over();
        match self.side() {
            Some(side) => side.record.cancelling(self.state()),
            None => usize::from(self.state().snapshot().is_closing()),
        }
    }

    pub(crate) fn uncancel(&self) -> usize {
        self.hand_over();
        match self.side() {
            Some(side) => side.record.uncancel(self.state()),
            None => usize::from(self.state().snapshot().is_closing()),
        }
    }
}

/// Says what the present poll is about to wait on, if anybody wants to know. To be called by a leaf
/// future before it answers pending; costs one load otherwise.
#[inline]
pub fn waits_on(wait: impl FnOnce() -> Wait) {
    with(|cx| {
        if let Some(cx) = cx.filter(|cx| cx.shared.is_looked_at()) {
            cx.note(wait());
        }
    });
}

/// To be called by the destructor of a task's own future: has `waker` woken when that task has ended, which
/// is when its handle is ready, it is in no list any more, and an output nobody wants is destroyed.
///
/// # Errors
///
/// The waker, if no task runs on this thread, or one has been left already.
pub fn wake_at_end(waker: Waker) -> Result<(), Waker> {
    with(|cx| match cx {
        Some(cx) if matches!(cx.current.get(), Current::Task(_)) => {
            let earlier = cx.at_end.take();
            if earlier.is_some() {
                cx.at_end.set(earlier);
                return Err(waker);
            }
            cx.at_end.set(Some(waker));
            Ok(())
        }
        _ => Err(waker),
    })
}

/// The present poll, if it said that it waits to read from `fd`, does so in order to accept.
#[inline]
pub fn reads_to_accept(fd: impl FnOnce() -> u64) {
    with(|cx| {
        if let Some(cx) = cx.filter(|cx| cx.left.get() & NOTED != 0) {
            let fd = fd();
            for wait in cx.waits.borrow_mut().iter_mut() {
                if *wait == Wait::Read(fd) {
                    *wait = Wait::Accept(fd);
                }
            }
        }
    });
}
