//! A whole runtime for a model that makes a few calls in it: what it stands on, and its threads' places.

#![forbid(unsafe_code)]

use crate::context::{self, Context, Role};
use crate::seam::{NEVER, Seam};
use crate::shared::Shared;
use crate::sync::thread::{self, Thread};
use crate::task::{Id, Memory};
use crate::worker::Worker;
use crate::{Config, Hooks, Report};
use loom::sync::atomic::{AtomicBool, Ordering};
use std::any::Any;
use std::panic::Location;
use std::sync::{Arc, Mutex as Plain};

/// A seam without a driver. Who parks sleeps until it is unparked. A time to wake at comes as soon as
/// the others have had a turn.
#[derive(Debug)]
pub(crate) struct Beds {
    beds: Vec<Bed>,
    /// Nothing will happen any more: who sleeps would do so for ever, and goes on.
    is_over: AtomicBool,
    overslept: std::sync::atomic::AtomicBool,
    /// What a runtime frees at its end. Whoever unparks uses it last of all.
    memory: Memory,
}

#[derive(Debug)]
struct Bed {
    /// Whether the slot waits for a timer.
    used: AtomicBool,
    unparked: AtomicBool,
    /// Of the standard library: it orders nothing.
    sleeper: Plain<Option<Thread>>,
}

impl Beds {
    fn new(slots: usize) -> Beds {
        let bed = |_| Bed {
            used: AtomicBool::new(false),
            unparked: AtomicBool::new(false),
            sleeper: Plain::new(None),
        };
        Beds {
            beds: (0..slots).map(bed).collect(),
            is_over: AtomicBool::new(false),
            overslept: std::sync::atomic::AtomicBool::new(false),
            memory: Memory::new(),
        }
    }

    /// A timer was armed in the shard of a slot.
    pub(crate) fn arm(&self, slot: usize) {
        // Ordering: Relaxed. Whoever relies on it brings the order.
        self.beds[slot].used.store(true, Ordering::Relaxed);
    }

    /// Whether the owner of a slot was unparked and has not heeded it.
    pub(crate) fn is_unparked(&self, slot: usize) -> bool {
        self.beds[slot].unparked.load(Ordering::Relaxed)
    }

    /// The runtime is freed.
    pub(crate) fn free(&self) {
        self.memory.free();
    }

    /// Whoever was to wake somebody has done so.
    pub(crate) fn end(&self) {
        // Ordering: Release pairs with the Acquire in `park`: who sees it sees every unpark.
        self.is_over.store(true, Ordering::Release);
        self.beds.iter().for_each(Bed::rouse);
    }

    /// Whether somebody slept whom nobody would have woken. After all threads were joined.
    pub(crate) fn were_overslept(&self) -> bool {
        self.overslept.load(Ordering::Relaxed)
    }
}

impl Bed {
    fn rouse(&self) {
        let sleeper = self.sleeper.lock().expect("nobody panics under it").clone();
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
    }
}

impl Seam for Beds {
    fn now(&self) -> u64 {
        0
    }
    fn seed(&self) -> u64 {
        7
    }
    fn attach(&self, slot: usize) {
        let mut sleeper = self.beds[slot]
            .sleeper
            .lock()
            .expect("nobody panics under it");
        *sleeper = Some(thread::current());
    }
    fn park(&self, slot: usize, deadline: u64, awake: &mut dyn FnMut(bool)) {
        let wakes = || self.beds[slot].unparked.swap(false, Ordering::Acquire);
        if deadline != NEVER {
            thread::yield_now();
        }
        while !wakes() && deadline == NEVER {
            if self.is_over.load(Ordering::Acquire) {
                if !wakes() {
                    self.overslept.store(true, Ordering::Relaxed);
                }
                break;
            }
            thread::park();
        }
        awake(false);
    }
    fn poll(&self, _: usize) -> usize {
        0
    }
    fn unpark(&self, slot: usize) {
        // Ordering: Release pairs with the Acquire in `park`. A swap: loom lets a plain store slip in before a swap
        // that it did not see.
        self.beds[slot].unparked.swap(true, Ordering::Release);
        self.beds[slot].rouse();
        self.memory.touch();
    }
    fn is_used(&self, slot: usize) -> bool {
        self.beds[slot].used.load(Ordering::Relaxed)
    }
    fn close(&self) {}
    fn release(&self) {}
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What all threads of the runtime of a model share, and what that stands on. It has no monitor, and takes itself
/// for one that has.
pub(crate) fn shared(workers: usize, spare_workers: usize) -> (Arc<Shared>, Arc<Beds>) {
    let beds = Arc::new(Beds::new(workers + spare_workers));
    let config = Config {
        workers,
        spare_workers,
        hooks: Hooks {
            // What is reported is meant.
            on_error: Some(Arc::new(|_: &Report<'_>| {})),
            ..Hooks::default()
        },
        ..Config::default()
    };
    let shared = Shared::new(config, beds.clone(), Location::caller());
    shared.monitor.takes_itself_for_started();
    begin_the_first_list(&shared);
    (shared, beds)
}

/// Which list a task is in depends on how many identities there were before. A model must find it in the same one each
/// time.
fn begin_the_first_list(shared: &Shared) {
    let is_first = |id| {
        let first = shared.tasks.iter().next();
        first.is_some_and(|first| std::ptr::eq(first, shared.tasks.of(id)))
    };
    while is_first(Id::next()) {}
    while !is_first(Id::next()) {}
}

/// A worker on a slot that nobody owns, in its loop.
pub(crate) fn worker(shared: &Arc<Shared>, slot: usize) -> Worker {
    let worker = Worker::occupy(shared, slot).expect("nobody owns it");
    worker.arrive();
    worker.enter_loop();
    worker
}

/// Runs `body` as the thread of a worker.
pub(crate) fn work<R>(
    shared: &Arc<Shared>,
    worker: &Worker,
    body: impl FnOnce(&Context<'_>) -> R,
) -> R {
    let mut cx = Context::new(shared, Role::Worker, shared.site);
    cx.worker = Some(worker);
    context::enter(&cx, || body(&cx))
}
