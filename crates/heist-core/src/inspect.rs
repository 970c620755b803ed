//! What people see of a runtime from outside, while it runs.
//!
//! Nothing here stops anybody: counters are read one after another, and each list of tasks is looked
//! at under its own lock. So the parts of an answer are of slightly different moments. In a forked
//! child, where those locks may be held for ever, there is nothing to see.

#![forbid(unsafe_code)]

use crate::shared::Shared;
use crate::slot::{BLOCKED, Slot};
use crate::sync::{Ordering, fence};
use crate::task::{Header, Id, Kind, Label, TaskList, Wait};

/// What a runtime has done and has to do.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// One for each slot: the workers, then the spare ones.
    pub workers: Vec<WorkerMetrics>,
    /// Tasks that have not ended, closures of the blocking pool among them.
    pub live_tasks: usize,
    /// Tasks in the queue of those that were woken or spawned outside the workers.
    pub injector: usize,
    /// Threads of the blocking pool, idle ones and those being started among them.
    pub blocking_threads: usize,
    /// Closures that wait for a thread.
    pub blocking_queue: usize,
    /// Workers and spares that are there.
    pub workers_started: usize,
    /// Slots of spares that somebody works on.
    pub spares_active: usize,
    /// Workers that look for work in the queues of others.
    pub searching: usize,
    /// Workers that sleep.
    pub sleeping: usize,
}

/// What the owners of one slot have done and have to do.
#[derive(Clone, Debug, Default)]
pub struct WorkerMetrics {
    /// Polls of tasks and of `main`, and the ends of tasks that were cancelled.
    pub polls: u64,
    /// Tasks taken from the LIFO slot.
    pub lifo_hits: u64,
    /// Tasks taken from other workers.
    pub stolen: u64,
    /// Tasks taken from the injector.
    pub injected: u64,
    /// How often the worker went to sleep.
    pub parks: u64,
    /// Tasks in the front of the queue, and in the LIFO slot.
    pub queue: usize,
    /// Tasks in what overflowed from it.
    pub overflow: usize,
    /// Whether a thread works on the slot.
    pub occupied: bool,
    /// Whether that thread is known to be blocked.
    pub blocked: bool,
}

pub(crate) fn metrics(shared: &Shared) -> Metrics {
    if shared.is_forked() {
        return Metrics::default();
    }
    let workers: Vec<WorkerMetrics> = shared.slots.iter().map(|slot| worker(slot)).collect();
    let spares = &workers[shared.config.workers..];
    let counts = shared.idle.counts();
    let (blocking_threads, blocking_queue) = shared.blocking.counts();
    Metrics {
        live_tasks: live_tasks(shared),
        injector: shared.injector.len(),
        blocking_threads,
        blocking_queue,
        workers_started: shared.threads.working(),
        spares_active: spares.iter().filter(|spare| spare.occupied).count(),
        searching: counts.searching as usize,
        sleeping: counts.sleeping as usize,
        workers,
    }
}

fn worker(slot: &Slot) -> WorkerMetrics {
    let (queue, overflow) = slot.queue.depths();
    WorkerMetrics {
        polls: slot.polls(),
        lifo_hits: slot.work.lifo_hits.get(),
        stolen: slot.work.stolen.get(),
        injected: slot.work.injected.get(),
        parks: slot.work.parks.get(),
        queue: queue + usize::from(slot.lifo.is_full()),
        overflow,
        occupied: !slot.is_vacant(),
        blocked: slot.has_note(BLOCKED),
    }
}

fn live_tasks(shared: &Shared) -> usize {
    let mut live = 0;
    for_each_list(shared, |list| live += list.len());
    live
}

/// Gives `look` every list of tasks of the runtime, the local ones of the present run among them.
fn for_each_list(shared: &Shared, mut look: impl FnMut(&TaskList)) {
    shared.tasks.iter().for_each(&mut look);
    look(&shared.blocking.tasks);
    // The lock is released before the list's is taken.
    let local = shared.present.lock().upgrade();
    if let Some(pinned) = local {
        look(&pinned.tasks);
    }
}

/// What was seen of a task.
#[derive(Clone, Debug)]
pub struct TaskSnapshot {
    /// How it is called.
    pub label: Label,
    /// The task that spawned it.
    pub parent: Option<Id>,
    /// Who runs it.
    pub kind: Kind,
    /// What it was doing.
    pub phase: TaskPhase,
    /// How many polls have begun, modulo 2³².
    pub polls: u32,
    /// How many wakers there were: an upper bound of those who could still wake it.
    pub wakers: u64,
    /// What it waited on, if it said so; empty unless it was idle after the last of these polls.
    pub waits: Vec<Wait>,
}

/// What a task was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskPhase {
    /// It could go on.
    Queued,
    /// It was inside its poll, or its destructor.
    Running,
    /// It waited to be woken.
    Idle,
}

/// How many more tasks than there were a moment before find room without an allocation under the
/// lock.
const ROOM: usize = 16;

/// All live tasks. Each list is looked at under its own lock, one after the other, so a task that
/// ends or is spawned meanwhile may or may not be there; none is there twice.
pub(crate) fn tasks(shared: &Shared) -> Vec<TaskSnapshot> {
    if shared.is_forked() {
        return Vec::new();
    }
    shared.look_at();
    let mut tasks = Vec::new();
    for_each_list(shared, |list| {
        tasks.reserve(list.len() + ROOM);
        list.look(|header, polls, waits| tasks.push(task(header, polls, waits)));
    });
    tasks
}

fn task(header: &Header, polls: u32, waits: &[Wait]) -> TaskSnapshot {
    // Ordering: Acquire fence, so that the state is read after the number of polls: two looks that
    // find a task idle, and the same number, have found it idle all the time in between. Phase and
    // wakers are of one load: an idle task without a waker has none it could get another from.
    fence(Ordering::Acquire);
    let state = header.state().snapshot();
    let phase = if state.is_running() {
        TaskPhase::Running
    } else if state.is_queued() {
        TaskPhase::Queued
    } else {
        TaskPhase::Idle
    };
    // Polled since `polls` was read, it rests for another reason than the one that was noted.
    let idle = phase == TaskPhase::Idle && header.polls() == polls;
    TaskSnapshot {
        label: header.label(),
        parent: header.parent(),
        kind: header.kind(),
        phase,
        polls,
        wakers: state.wakers(),
        waits: if idle { waits.to_vec() } else { Vec::new() },
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::task::{JoinError, LastOut, New, Runnable, Running, Started, Unseen, create};
    use std::future::pending;
    use std::panic::Location;
    use std::ptr::NonNull;

    fn started(task: Runnable) -> Running {
        match task.start() {
            Started::Poll(running) | Started::Drop(running) => running,
        }
    }

    /// A task is looked at, and runs and rests once more between the look at its note and the look at
    /// its state. What it waited on before is not what it waits on now; and it has not rested since the
    /// poll that the snapshot tells of.
    #[test]
    fn a_task_that_runs_while_it_is_looked_at_does_not_wait_on_what_it_did_before() {
        let list = TaskList::new();
        let new = New {
            id: Id::next(),
            name: None,
            site: Location::caller(),
            parent: None,
            kind: Kind::Send,
            owner: NonNull::dangling(),
        };
        let fresh = create(new, pending::<()>(), Unseen::dropped());
        let Ok((handle, runnable)) = fresh.publish(&list) else {
            panic!("the list is open")
        };
        let mut running = started(runnable);
        assert!(!running.poll());
        list.note(&running, &[Wait::Timer(5)]);
        let mut queued = running.yield_run().ok();
        let mut snapshot = None;
        list.look(|header, polls, waits| {
            assert_eq!(waits, [Wait::Timer(5)]);
            let mut running = started(queued.take().expect("one task"));
            assert!(!running.poll());
            assert!(matches!(running.park(), Ok(None)));
            snapshot = Some(task(header, polls, waits));
        });
        let snapshot = snapshot.expect("one task");
        assert_eq!((snapshot.phase, snapshot.polls), (TaskPhase::Idle, 1));
        assert_eq!(snapshot.waits, []);

        let mut end = None;
        assert!(
            list.close(Location::caller(), |task| end = Some(task))
                .run()
                .is_empty()
        );
        let mut running = started(end.expect("it was idle"));
        let label = running.header().label();
        running.cancel(JoinError::cancelled(&label, None));
        assert_eq!(list.unlink(&running), LastOut::Yes);
        assert!(running.complete(true).is_none());
        drop(handle);
    }
}
