//! What people see of a runtime from outside, while it runs.
//!
//! Nothing here stops anybody: counters are read one after another, and each list of tasks is looked
//! at under its own lock. So the parts of an answer are of slightly different moments. In a forked
//! child, where those locks may be held for ever, there is nothing to see.

#![forbid(unsafe_code)]

use crate::shared::Shared;
use crate::slot::{BLOCKED, Slot};

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
    let local = shared.present.lock().upgrade();
    shared.lists().map(|list| list.len()).sum::<usize>()
        + shared.blocking.tasks.len()
        + local.map_or(0, |pinned| pinned.tasks.len())
}
