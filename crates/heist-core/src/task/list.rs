//! The list of live tasks: who must know all of them walks it (the end of the loop, `tasks()`).
//!
//! Intrusive and doubly linked, so that linking allocates nothing and unlinking searches nothing.
//! There are many lists, each behind its own mutex, and a task's identity says in which one it is
//! (see [`TaskLists`]). No user code runs under the lock: a task is only looked at, or asked to end.
//!
//! A listed task is alive (LISTED is a reference), and it leaves the list before its last edge, so
//! whoever holds the lock may use every header in the list.

use super::id::Id;
use super::join::TaskRef;
use super::keeper::Keeper;
use super::raw::{Header, Runnable, Running};
use super::region::Effects;
use super::state::{Abandon, Close, Wake};
use super::wait::{Notes, Wait};
use crate::closing::DroppedTask;
use crate::sync::Mutex;
use crossbeam_utils::CachePadded;
use std::panic::Location;
use std::ptr::NonNull;
use std::task::Waker;

/// The neighbours of a task. Touched under the lock of its list only.
#[derive(Debug)]
pub(super) struct Links {
    previous: Option<NonNull<Header>>,
    next: Option<NonNull<Header>>,
}

impl Links {
    pub(super) fn new() -> Links {
        Links {
            previous: None,
            next: None,
        }
    }
}

/// What leaving the list means for the end of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum LastOut {
    /// Others are left, or the list is open.
    No,
    /// The list is closed and empty now: tell whoever waits for that.
    Yes,
}

/// What closing a list leaves to be done outside of its lock.
#[derive(Default)]
#[must_use]
pub(crate) struct Closed {
    /// Tasks that have time to clean up.
    cleaning: Vec<super::Label>,
    effects: Vec<(Keeper, Effects<Keeper>)>,
}

impl Closed {
    /// Does it: wakes the regions that were told. Returns the tasks that have time to clean up.
    pub(crate) fn run(self) -> Vec<super::Label> {
        for (_alive, effects) in self.effects {
            effects.run();
        }
        self.cleaning
    }
}

/// How many lists there are at most: each run makes them and walks them several times.
const MAX_LISTS: usize = 64;
/// How many identities in a row share a list: as many as a thief takes tasks at a time, or more.
const RUN: u64 = 128;
/// How many lists there are for each worker.
const LISTS_PER_WORKER: usize = 8;

/// Whether a task is alive that was not given up: it is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub(crate) enum AnyLeft {
    #[default]
    No,
    Yes,
}

/// What [`TaskList::abandon`] leaves to be done outside of the lock.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct GivenUp {
    pub(crate) labels: Vec<super::Label>,
    /// Who awaits one of these.
    pub(crate) wakers: Vec<Waker>,
    pub(crate) left: AnyLeft,
}

/// All live Send tasks of a runtime.
///
/// Identities are given to each thread in blocks, in order, and each run of [`RUN`] of them belongs
/// to the next list. What a thief steals was spawned in one go, so while it ends those tasks it needs
/// the lock, and the neighbours in the list, of a run that the spawner has left behind. With one list
/// per spawner the two of them took the same lock, and each other's cache lines, for every task.
#[derive(Debug)]
pub(crate) struct TaskLists(Box<[CachePadded<TaskList>]>);

impl TaskLists {
    pub(crate) fn new(workers: usize) -> TaskLists {
        let count = (workers * LISTS_PER_WORKER).next_power_of_two();
        TaskLists::of_length(count.min(MAX_LISTS))
    }

    /// One list for all.
    pub(crate) fn single() -> TaskLists {
        TaskLists::of_length(1)
    }

    fn of_length(count: usize) -> TaskLists {
        let list = || CachePadded::new(TaskList::new());
        TaskLists(std::iter::repeat_with(list).take(count).collect())
    }

    /// The list of the task `id`.
    #[inline]
    pub(crate) fn of(&self, id: Id) -> &TaskList {
        // A power of two, so this is a mask.
        &self.0[(id.as_u64() / RUN) as usize & (self.0.len() - 1)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TaskList> {
        self.0.iter().map(|list| &**list)
    }

    /// How many tasks there are. Each list is asked under its own lock, so they may never all have been
    /// there at once.
    pub(crate) fn len(&self) -> usize {
        self.iter().map(TaskList::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.iter().all(|list| list.len() == 0)
    }
}

/// Live tasks behind one lock.
#[derive(Debug)]
pub(crate) struct TaskList(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    first: Option<NonNull<Header>>,
    len: usize,
    /// No task is linked any more.
    closed: bool,
    /// What the tasks wait on, if somebody looks.
    notes: Notes,
}

// SAFETY: the pointers are followed under the lock only, to headers that are `Sync` by the rules
// of the module `task`.
unsafe impl Send for Inner {}

impl TaskList {
    pub(crate) fn new() -> TaskList {
        TaskList(Mutex::new(Inner {
            first: None,
            len: 0,
            closed: false,
            notes: Notes::default(),
        }))
    }

    /// Takes a new task in; false if the list is closed.
    #[must_use]
    #[inline]
    pub(crate) fn link(&self, task: &Runnable) -> bool {
        let task = task.pointer();
        let mut inner = self.0.lock();
        if inner.closed {
            return false;
        }
        // SAFETY: links are touched under this lock only, and the new task is in no list.
        unsafe { (*task.as_ref().links.get()).next = inner.first };
        if let Some(first) = inner.first {
            // SAFETY: as above; a listed task is alive.
            unsafe { (*first.as_ref().links.get()).previous = Some(task) };
        }
        inner.first = Some(task);
        inner.len += 1;
        true
    }

    /// Takes a task out whose runner is about to complete it.
    pub(crate) fn unlink(&self, task: &Running) -> LastOut {
        let task = task.pointer();
        let mut inner = self.0.lock();
        // SAFETY: links are touched under this lock only; the task and its neighbours are listed,
        // so they are alive.
        unsafe {
            let Links { previous, next } = *task.as_ref().links.get();
            match previous {
                Some(previous) => (*previous.as_ref().links.get()).next = next,
                None => inner.first = next,
            }
            if let Some(next) = next {
                (*next.as_ref().links.get()).previous = previous;
            }
        }
        inner.len -= 1;
        // SAFETY: `task` is a `Running`, which keeps it alive.
        inner.notes.remove(unsafe { task.as_ref() }.id());
        if inner.closed && inner.len == 0 {
            LastOut::Yes
        } else {
            LastOut::No
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len
    }

    /// Closes the list, and requests the end of every task in it. `by` is who is said to have asked.
    ///
    /// What is to be done outside of the lock is handed out: tasks that this call has made queued
    /// for `push`, which runs no user code, and the wakers of regions in what is returned.
    pub(crate) fn close(
        &self,
        by: &'static Location<'static>,
        mut push: impl FnMut(Runnable),
    ) -> Closed {
        let mut closed = Closed::default();
        let mut inner = self.0.lock();
        inner.closed = true;
        let mut next = inner.first;
        while let Some(task) = next {
            // SAFETY: listed, so alive; the links are read before the task is pushed, and it
            // cannot leave the list while we hold the lock.
            let header = unsafe { task.as_ref() };
            // SAFETY: links are touched under this lock only.
            next = unsafe { (*header.links.get()).next };
            let close = header.state().request_close();
            match close {
                Close::Noted => continue,
                // SAFETY: that was edge 5, and this is its one `Runnable`.
                Close::Push => push(unsafe { Runnable::from_raw(task) }),
                Close::Cleanup => closed.cleaning.push(header.label()),
                Close::Region => {
                    // SAFETY: listed, so alive, and the list has the pointer of the whole cell.
                    let owner = Keeper::Task(unsafe { TaskRef::new(task) });
                    let effects = header.make_side().record.close(&owner, by);
                    closed.effects.push((owner, effects));
                    closed.cleaning.push(header.label());
                }
            }
        }
        drop(inner);
        closed
    }

    /// The grace for cleanup is over: every task is dropped at its next suspension point. Returns
    /// those that had it.
    pub(crate) fn doom(&self, mut push: impl FnMut(Runnable)) -> Vec<DroppedTask> {
        let mut had_time = Vec::new();
        let inner = self.0.lock();
        let mut next = inner.first;
        while let Some(task) = next {
            // SAFETY: listed, so alive while we hold the lock.
            let header = unsafe { task.as_ref() };
            // SAFETY: links are touched under this lock only, and read before the push.
            next = unsafe { (*header.links.get()).next };
            let (todo, had) = header.state().doom();
            if had {
                let waits = inner.notes.get(header.id(), header.polls());
                had_time.push(DroppedTask {
                    task: header.label(),
                    waited_on: waits.iter().map(Wait::to_string).collect(),
                });
            }
            if todo == Wake::Push {
                // SAFETY: that was edge 5, and this is its one `Runnable`.
                push(unsafe { Runnable::from_raw(task) });
            }
        }
        had_time
    }

    /// Whether a task has time to clean up.
    pub(crate) fn is_cleaning(&self) -> bool {
        let mut any = false;
        self.for_each(|header| any |= header.state().snapshot().is_cleaning());
        any
    }

    /// Notes what a task waits on since its last poll, which its runner is about to end.
    pub(crate) fn note(&self, task: &Running, waits: &[Wait]) {
        let header = task.header();
        let waits = waits.into();
        let old = self.0.lock().notes.set(header.id(), header.polls(), waits);
        drop(old);
    }

    /// Looks at every task. `look` runs no user code.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Header)) {
        self.look(|header, _, _| look(header));
    }

    /// Looks at every task, at the number of its last poll, and at what it waits on since that one, as
    /// far as that was noted. A task may be polled again meanwhile, so the number is read once. `look`
    /// runs no user code.
    pub(crate) fn look(&self, mut look: impl FnMut(&Header, u32, &[Wait])) {
        let inner = self.0.lock();
        let mut next = inner.first;
        while let Some(task) = next {
            // SAFETY: listed, so alive while we hold the lock.
            let header = unsafe { task.as_ref() };
            // SAFETY: links are touched under this lock only.
            next = unsafe { (*header.links.get()).next };
            let polls = header.polls();
            look(header, polls, inner.notes.get(header.id(), polls));
        }
    }

    /// Gives every poll up that is still going on.
    pub(crate) fn abandon(&self) -> GivenUp {
        let mut given_up = GivenUp::default();
        self.for_each(|header| match header.state().abandon() {
            Abandon::Over => {}
            Abandon::Idle => given_up.left = AnyLeft::Yes,
            Abandon::GivenUp { with_waker } => {
                given_up.labels.push(header.label());
                if with_waker {
                    // SAFETY: `abandon` gave us the cell (invariant 6), and the lock that
                    // `for_each` holds keeps the task listed, so alive.
                    let waker = unsafe { (*header.join_waker.get()).take() };
                    given_up.wakers.extend(waker);
                }
            }
        });
        given_up
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// The numbers of the lists that tasks with these identities are in.
    fn lists_of(lists: &TaskLists, ids: impl Iterator<Item = u64>) -> Vec<usize> {
        let number = |id| {
            let list = lists.of(Id::from_u64(id).expect("not 0"));
            let found = lists.iter().position(|other| std::ptr::eq(list, other));
            found.expect("each of them is among all")
        };
        let mut numbers: Vec<usize> = ids.map(number).collect();
        numbers.dedup();
        numbers
    }

    #[test]
    fn a_run_of_tasks_shares_a_list_and_the_next_runs_have_others() {
        for workers in [1, 2, 3, 64] {
            let lists = TaskLists::new(workers);
            let runs = lists.iter().count() as u64;
            let ids = (RUN..RUN * (runs + 1)).step_by(RUN as usize / 2);
            let mut seen = lists_of(&lists, ids);
            assert_eq!(seen.len() as u64, runs, "{workers} workers: {seen:?}");
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len() as u64, runs, "{workers} workers: {seen:?}");
            assert!(runs as usize >= (workers * LISTS_PER_WORKER).min(MAX_LISTS));
        }
    }
}
