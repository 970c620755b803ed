//! What a group, its body and its children share, and the rules of its life.
//!
//! | phase    | begins                                         | children may be added | ends with                  |
//! |----------|------------------------------------------------|-----------------------|----------------------------|
//! | open     | with the first poll of `run`                   | yes                   | aborting; closed           |
//! | aborting | a failure, `cancel`, a request to the owner    | no                    | closed                     |
//! | closed   | the body has ended and the last child's task; or `run`'s future was dropped | no |             |
//!
//! # Invariants
//!
//! 1. A child is in `children` from before its task is spawned until its future has been dropped, and
//!    counts in `ending` from then until its task has ended: its handle is ready, and an output that
//!    nobody wants is destroyed.
//! 2. Each child that is in `children` when the group begins to abort is asked to end: by the abort
//!    if its handle is there, and otherwise by `spawn`, which brings the handle and finds the phase.
//! 3. `closed` by `take_end` is decided in one critical section with "no child is left, and none ends", so
//!    no child comes after it.
//! 4. A child has its turn (it counts in `free`) or is in `waiting`, from its entry until it goes.
//!    While somebody is in `waiting`, `free` is 0.
//! 5. Nothing that is the user's runs under the lock: wakers, errors, payloads and handles are moved
//!    out of it before they are woken or dropped, and cloned before it is taken.

#![forbid(unsafe_code)]

use super::BoxError;
use super::child::ChildError;
use super::error::Panicked;
use crate::Handle;
use crate::task::{AbortHandle, Label};
use heist_core::{abort_along, abort_at, drop_foreign, drop_payload, wake_foreign};
use parking_lot::{Mutex, MutexGuard};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Why a group ends early, as those are told who are asked to end.
#[derive(Clone, Debug)]
pub(super) struct Why {
    pub(super) reason: Option<Arc<str>>,
    pub(super) by: &'static Location<'static>,
}

/// What a builder says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// How many children run at a time.
    pub(super) concurrency: usize,
    pub(super) supervise: bool,
    pub(super) collect_panics: bool,
}

/// Names a child in its group; in the order of spawning.
pub(super) type Key = u64;

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    options: Options,
    pub(super) runtime: Handle,
    pub(super) site: &'static Location<'static>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    children: BTreeMap<Key, Entry>,
    /// How many have gone whose tasks have not ended.
    ending: usize,
    next: Key,
    /// Turns that nobody has.
    free: usize,
    waiting: BTreeSet<Key>,
    errors: Vec<Failure>,
    /// The first panic, unless panics are errors.
    panic: Option<Box<dyn Any + Send>>,
    /// The owner's: woken by an abort, and when the last child has ended.
    owner: Option<Waker>,
}

#[derive(Clone, Debug)]
enum Phase {
    Open,
    Aborting(Why),
    Closed,
}

#[derive(Debug)]
struct Entry {
    /// `None` while `spawn` is at it.
    task: Option<AbortHandle>,
    /// That of a child in `waiting` that was polled.
    turn: Option<Waker>,
}

/// What has failed.
pub(super) enum Who {
    Body,
    Child(Key, Option<Label>),
}

impl Who {
    fn label(&self) -> Option<Label> {
        match self {
            Who::Body => None,
            Who::Child(_, label) => label.clone(),
        }
    }
}

/// An error, and whose it is; `None` is the body.
#[derive(Debug)]
struct Failure {
    task: Option<Label>,
    error: BoxError,
}

/// How a group has ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) errors: Vec<BoxError>,
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

impl State {
    pub(super) fn new(
        options: Options,
        runtime: Handle,
        site: &'static Location<'static>,
    ) -> Arc<State> {
        Arc::new(State {
            options,
            runtime,
            site,
            inner: Mutex::new(Inner {
                phase: Phase::Open,
                children: BTreeMap::new(),
                ending: 0,
                next: 0,
                free: options.concurrency,
                waiting: BTreeSet::new(),
                errors: Vec::new(),
                panic: None,
                owner: None,
            }),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.inner.lock().children.len()
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.inner.lock().phase, Phase::Open)
    }

    // ---- children ----

    /// A child is about to be spawned; whether it has its turn. `None`: none may.
    pub(super) fn enter(&self) -> Option<(Key, bool)> {
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Open) {
            return None;
        }
        let key = inner.next;
        inner.next += 1;
        let entry = Entry {
            task: None,
            turn: None,
        };
        inner.children.insert(key, entry);
        let now = inner.free > 0;
        if now {
            inner.free -= 1;
        } else {
            inner.waiting.insert(key);
        }
        Some((key, now))
    }

    /// The child has been spawned; it may have gone already.
    pub(super) fn spawned(&self, key: Key, task: AbortHandle) {
        let mut inner = self.inner.lock();
        let late = match &inner.phase {
            Phase::Open => None,
            // Invariant 2. `orphan` leaves no reason behind; the owner's place is one.
            Phase::Aborting(why) => Some(why.clone()),
            Phase::Closed => Some(self.because(DROPPED)),
        };
        let Some(entry) = inner.children.get_mut(&key) else {
            drop(inner);
            return drop(task);
        };
        entry.task = Some(task.clone());
        drop(inner);
        if let Some(why) = late {
            abort_at(&task, why.reason, why.by);
        }
    }

    /// Whether it is the child's turn. Leaves its waker for when it is.
    pub(super) fn poll_turn(&self, key: Key, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut inner = self.inner.lock();
        if !inner.waiting.contains(&key) {
            drop(inner);
            return Poll::Ready(());
        }
        let old = inner
            .children
            .get_mut(&key)
            .and_then(|entry| entry.turn.replace(waker));
        drop(inner);
        old.into_iter().for_each(drop_foreign);
        Poll::Pending
    }

    /// The child's future has been dropped. `ended` is to be called when its task has ended.
    pub(super) fn gone(&self, key: Key) {
        let mut inner = self.inner.lock();
        inner.ending += 1;
        let entry = inner.children.remove(&key);
        let mut turn = None;
        if !inner.waiting.remove(&key) {
            match inner.waiting.pop_first() {
                Some(next) => {
                    turn = inner
                        .children
                        .get_mut(&next)
                        .and_then(|next| next.turn.take());
                }
                None => inner.free += 1,
            }
        }
        drop(inner);
        let own = entry.and_then(|entry| entry.turn);
        own.into_iter().for_each(drop_foreign);
        turn.into_iter().for_each(wake_foreign);
    }

    /// A child that has gone has ended.
    pub(super) fn ended(&self) {
        let mut inner = self.inner.lock();
        inner.ending -= 1;
        let owner = if inner.nobody_is_left() {
            inner.owner.take()
        } else {
            None
        };
        drop(inner);
        owner.into_iter().for_each(wake_foreign);
    }

    // ---- failures ----

    /// A child, or the body, has given an error.
    pub(super) fn failed(self: &Arc<State>, who: Who, error: BoxError) {
        let echo = error.downcast_ref::<ChildError>();
        if echo.is_some_and(|error| error.is_echo_in(self)) {
            // Why the other child has ended is known, or asked for.
            drop(error);
        } else {
            self.push(who.label(), error);
        }
        match who {
            Who::Child(..) if self.options.supervise => {}
            Who::Child(key, _) => self.abort_except(Some(key), self.because(SIBLING)),
            Who::Body => self.abort(self.because(BODY)),
        }
    }

    fn push(&self, task: Option<Label>, error: BoxError) {
        let mut inner = self.inner.lock();
        if matches!(inner.phase, Phase::Closed) {
            drop(inner);
            return self.report(task, error);
        }
        inner.errors.push(Failure { task, error });
    }

    /// A child, or the body, has panicked. Gives the payload back if nobody in the group will see it.
    pub(super) fn panicked(
        self: &Arc<State>,
        who: Who,
        payload: Box<dyn Any + Send>,
    ) -> Result<(), Box<dyn Any + Send>> {
        if self.options.collect_panics {
            let error = Panicked::new(payload, who.label());
            self.failed(who, error.into());
            return Ok(());
        }
        let mut inner = self.inner.lock();
        if matches!(inner.phase, Phase::Closed) || inner.panic.is_some() {
            drop(inner);
            return Err(payload);
        }
        inner.panic = Some(payload);
        drop(inner);
        let failed = match who {
            Who::Child(key, _) => Some(key),
            Who::Body => None,
        };
        self.abort_except(failed, self.because(PANIC));
        Ok(())
    }

    // ---- ending early ----

    fn because(&self, reason: &str) -> Why {
        Why {
            reason: Some(reason.into()),
            by: self.site,
        }
    }

    /// Asks all children and the body to end; once.
    pub(super) fn abort(&self, why: Why) {
        self.abort_except(None, why);
    }

    fn abort_except(&self, failed: Option<Key>, why: Why) {
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Open) {
            return;
        }
        inner.phase = Phase::Aborting(why.clone());
        let tasks = inner.tasks(failed);
        let owner = inner.owner.take();
        drop(inner);
        take_along(&tasks, &why);
        owner.into_iter().for_each(wake_foreign);
    }

    /// Asks all children once more.
    pub(super) fn abort_again(&self, why: &Why) {
        let tasks = self.inner.lock().tasks(None);
        for task in &tasks {
            abort_at(task, why.reason.clone(), why.by);
        }
    }

    /// Why the body is to end, if it is. Leaves the owner's waker for when that changes.
    pub(super) fn aborting(&self, cx: &Context<'_>) -> Option<Why> {
        let (inner, old) = self.look(cx);
        let why = match &inner.phase {
            Phase::Aborting(why) => Some(why.clone()),
            Phase::Open | Phase::Closed => None,
        };
        drop(inner);
        old.into_iter().for_each(drop_foreign);
        why
    }

    fn look(&self, cx: &Context<'_>) -> (MutexGuard<'_, Inner>, Option<Waker>) {
        let waker = cx.waker().clone();
        let mut inner = self.inner.lock();
        let old = inner.owner.replace(waker);
        (inner, old)
    }

    // ---- the end ----

    /// Waits until no child is left, and closes.
    pub(super) async fn end(&self) -> End {
        poll_fn(|cx| {
            let (mut inner, old) = self.look(cx);
            let end = inner.take_end();
            drop(inner);
            old.into_iter().for_each(drop_foreign);
            match end {
                None => Poll::Pending,
                Some((failures, None)) => {
                    let errors = failures.into_iter().map(|failure| failure.error);
                    Poll::Ready(End {
                        errors: errors.collect(),
                        panic: None,
                    })
                }
                Some((failures, panic)) => {
                    // The panic goes on, and the errors with nobody.
                    self.report_all(failures);
                    Poll::Ready(End {
                        errors: Vec::new(),
                        panic,
                    })
                }
            }
        })
        .await
    }

    /// `run`'s future is dropped before its end: nobody waits for the children any more, nor for
    /// their errors.
    pub(super) fn orphan(&self) {
        let mut inner = self.inner.lock();
        let asked = matches!(inner.phase, Phase::Aborting(_));
        inner.phase = Phase::Closed;
        let failures = std::mem::take(&mut inner.errors);
        let panic = inner.panic.take();
        let owner = inner.owner.take();
        let tasks = if asked { Vec::new() } else { inner.tasks(None) };
        drop(inner);
        take_along(&tasks, &self.because(DROPPED));
        owner.into_iter().for_each(drop_foreign);
        self.report_all(failures);
        panic
            .into_iter()
            .for_each(|payload| self.report_panic(payload));
    }

    /// Tells `on_error` of a panic that has no task to be told of by.
    pub(super) fn report_panic(&self, payload: Box<dyn Any + Send>) {
        self.runtime
            .report_panicked("a task group's panic", self.site, payload);
    }

    fn report_all(&self, failures: Vec<Failure>) {
        for failure in failures {
            self.report(failure.task, failure.error);
        }
    }

    fn report(&self, task: Option<Label>, error: BoxError) {
        let Some(task) = task else {
            // The body's own: its owner has dropped it, or the panic is the better news.
            return;
        };
        // The user's code, both of it.
        let shown = catch_unwind(AssertUnwindSafe(|| {
            let text = format!("{error:?}");
            drop(error);
            text
        }));
        let text = shown.unwrap_or_else(|payload| {
            drop_payload(payload);
            String::from("an error whose `Debug` or destructor panicked")
        });
        self.runtime.report_failed(task, &text);
    }
}

/// Called when the task of a child that has gone has ended.
impl Wake for State {
    fn wake(self: Arc<State>) {
        self.ended();
    }
}

impl Inner {
    fn tasks(&self, except: Option<Key>) -> Vec<AbortHandle> {
        let others = self
            .children
            .iter()
            .filter(|(key, _)| Some(**key) != except);
        others.filter_map(|(_, entry)| entry.task.clone()).collect()
    }

    fn nobody_is_left(&self) -> bool {
        self.children.is_empty() && self.ending == 0
    }

    /// Closes, if no child is left (invariant 3).
    #[expect(clippy::type_complexity, reason = "named by its only caller")]
    fn take_end(&mut self) -> Option<(Vec<Failure>, Option<Box<dyn Any + Send>>)> {
        if !self.nobody_is_left() {
            return None;
        }
        self.phase = Phase::Closed;
        Some((std::mem::take(&mut self.errors), self.panic.take()))
    }
}

fn take_along(tasks: &[AbortHandle], why: &Why) {
    for task in tasks {
        abort_along(task, why.reason.clone(), why.by);
    }
}

const SIBLING: &str = "another task of the group has failed";
const BODY: &str = "the body of the group has failed";
const PANIC: &str = "a panic in the group";
const DROPPED: &str = "the group was dropped";

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
