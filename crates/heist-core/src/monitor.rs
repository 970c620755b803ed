//! The monitor: one thread that notices when a worker is stuck.
//!
//! Workers run user code, and user code blocks. While any worker is awake the monitor looks at
//! all of them every [`MONITOR_INTERVAL`]. One that is inside the same poll at two looks is
//! *blocked*: what waits in its LIFO slot and in its queue goes to the injector, its shard is polled, and
//! somebody is woken or started for that. One that is inside another poll than at the last look is asked to
//! poll its shard, and to look at its queue (`spread.rs`).
//!
//! After [`MONITOR_LOOKS`] looks with every worker asleep the monitor sleeps too, without a
//! timeout; the first worker that leaves the list of sleepers wakes it. Both sides decide under
//! the lock of that list, so neither can miss the other.

#![forbid(unsafe_code)]

use crate::closing;
use crate::config::{DEADLOCK_LOOKS, LOCAL_QUEUE, MONITOR_INTERVAL, MONITOR_LOOKS};
use crate::context::{self, Context, Role};
use crate::deadlock::Look;
use crate::hooks::Report;
use crate::seam::NEVER;
use crate::shared::{MayStart, Shared};
use crate::sim::Part;
use crate::slot::{DRIVER_DUE, Slot};
use crate::sync::thread::{Thread, current, park, park_timeout};
use crate::sync::{AtomicBool, Ordering, fence};
use crate::task::{Header, Id};
use crate::threads::Purpose;
use crate::worker::PINNED;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The monitor as others see it.
#[derive(Debug)]
pub(crate) struct Monitor {
    started: AtomicBool,
    sleeper: OnceLock<Sleeper>,
}

/// How the monitor is woken.
#[derive(Debug)]
enum Sleeper {
    Thread(Thread),
    /// A part of the simulation, which looks at this.
    Actor(Arc<AtomicBool>),
}

impl Monitor {
    pub(crate) fn new() -> Monitor {
        Monitor {
            started: AtomicBool::new(false),
            sleeper: OnceLock::new(),
        }
    }

    /// There is a task besides `main`: somebody must watch over it.
    #[inline]
    pub(crate) fn wanted(&self, shared: &Shared) {
        // Ordering: Relaxed, nothing but uniqueness hangs on the flag.
        if !self.started.load(Ordering::Relaxed) && shared.threads.may_try(shared) {
            // A failure has been reported, and is tried again.
            let _ = self.start(shared);
        }
    }

    /// Whether the monitor's thread exists, or is being started.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Starts the thread, if it was not.
    pub(crate) fn start(&self, shared: &Shared) -> io::Result<()> {
        let Some(me) = shared.me.upgrade() else {
            return Ok(());
        };
        if self.started.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(sim) = &shared.sim {
            let unparked = Arc::new(AtomicBool::new(false));
            let _ = self.sleeper.set(Sleeper::Actor(unparked.clone()));
            // Refused, it is as a monitor that has ended.
            let _ = sim.activate(Part::monitor(shared, unparked));
            return Ok(());
        }
        shared
            .threads
            .start(shared, Purpose::Monitor, move || thread(&me))
            .inspect_err(|error| {
                self.started.store(false, Ordering::Relaxed);
                shared.threads.try_later(shared);
                shared
                    .threads
                    .report_failure(shared, Purpose::Monitor, error);
            })
    }

    /// Ends the monitor's sleep.
    pub(crate) fn unpark(&self) {
        match self.sleeper.get() {
            Some(Sleeper::Thread(thread)) => thread.unpark(),
            // Ordering: Relaxed. The thread that simulates sets it, and looks at it.
            Some(Sleeper::Actor(unparked)) => unparked.store(true, Ordering::Relaxed),
            None => {}
        }
    }
}

fn thread(shared: &Arc<Shared>) {
    let _ = shared.monitor.sleeper.set(Sleeper::Thread(current()));
    let cx = Context::new(shared, Role::Service, shared.site);
    context::enter(&cx, || {
        let mut watch = Watch::new(shared);
        loop {
            match watch.next(&cx) {
                Next::Sleep => park(),
                Next::Nap => {
                    park_timeout(MONITOR_INTERVAL);
                    watch.look(shared);
                }
                Next::Over => return,
                Next::Forked => {
                    // The runtime is the parent's, and is leaked.
                    std::mem::forget(shared.clone());
                    return;
                }
            }
        }
    });
}

/// What the monitor is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// Sleep until it is unparked.
    Sleep,
    /// Sleep for [`MONITOR_INTERVAL`] at most, then look.
    Nap,
    /// End.
    Over,
    /// End without touching anything: this is the child of a fork.
    Forked,
}

/// How many tasks in the injector looks at blocked workers bring it to. The owner may be back
/// meanwhile, or may never have been blocked: the system may have taken its processor away. And a
/// worker that is never out of work takes no more than
/// `INJECTOR_BATCH` from the injector in an interval.
const RESCUED: usize = 4096;
/// How many tasks one look takes from a blocked worker's queue, however many the injector has.
const RESCUED_AT_LEAST: usize = LOCAL_QUEUE;

/// What the monitor remembers from one look to the next.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Vec<Seen>,
    quiet_looks: u32,
    /// The first of two looks for a deadlock.
    earlier: Option<Look>,
    /// Tasks that were reported as stuck.
    told: HashSet<Id>,
}

/// What was seen of a slot.
#[derive(Clone, Debug, Default)]
struct Seen {
    turn: u64,
    /// Since when the present poll has been seen, and whether it was reported.
    since: u64,
    reported: bool,
}

impl Watch {
    pub(crate) fn new(shared: &Shared) -> Watch {
        Watch {
            seen: vec![Seen::default(); shared.slots.len()],
            quiet_looks: 0,
            earlier: None,
            told: HashSet::new(),
        }
    }

    /// Between two looks.
    pub(crate) fn next(&mut self, cx: &Context<'_>) -> Next {
        let (closing, idle) = (&cx.shared.closing, &cx.shared.idle);
        if !closing.is_over() && closing.is_requested() && !closing::close_as_asked(cx) {
            return Next::Forked;
        }
        if closing.is_over() {
            return Next::Over;
        }
        if self.quiet_looks >= MONITOR_LOOKS && idle.monitor_sleeps() {
            self.quiet_looks = 0;
            return Next::Sleep;
        }
        Next::Nap
    }

    /// One look at everything.
    pub(crate) fn look(&mut self, shared: &Shared) {
        shared.threads.retry(shared);
        if shared.idle.all_asleep() {
            let retries = shared.threads.retry_at() != NEVER;
            self.quiet_looks = if retries { 0 } else { self.quiet_looks + 1 };
            if shared.config.detect_deadlock || shared.config.debug {
                self.look_for_the_end(shared);
            }
            return;
        }
        self.quiet_looks = 0;
        self.earlier = None;
        for (index, slot) in shared.slots.iter().enumerate() {
            self.look_at(shared, index, slot);
        }
    }

    /// Everybody sleeps. Twice in a row now and then: whether somebody does so for ever.
    #[cold]
    fn look_for_the_end(&mut self, shared: &Shared) {
        match self.quiet_looks % DEADLOCK_LOOKS {
            0 if self.quiet_looks > 0 => self.earlier = Look::take(shared),
            1 => {
                let (Some(earlier), Some(now)) = (self.earlier.take(), Look::take(shared)) else {
                    return;
                };
                if shared.config.debug {
                    self.tell(shared, &now.stuck(&earlier));
                }
                if shared.config.detect_deadlock {
                    now.conclude(&earlier, shared);
                }
            }
            _ => {}
        }
    }

    /// Reports tasks that can never run again, each once.
    fn tell(&mut self, shared: &Shared, stuck: &[Id]) {
        let mut labels = Vec::new();
        let new: HashSet<Id> = stuck
            .iter()
            .copied()
            .filter(|id| self.told.insert(*id))
            .collect();
        if new.is_empty() {
            return;
        }
        let find = |header: &Header| {
            if new.contains(&header.id()) {
                labels.push(header.label());
            }
        };
        for_each_task(shared, find);
        for task in labels {
            shared.config.hooks.report(&Report::Stuck { task });
        }
    }

    fn look_at(&mut self, shared: &Shared, index: usize, slot: &Slot) {
        let seen = &mut self.seen[index];
        let turn = slot.turns();
        match slot.in_poll() {
            Some((turn, task)) if turn == seen.turn => {
                rescue(shared, index, slot, (turn, task));
                seen.stalled(shared, task);
            }
            Some(_) => {
                slot.note(DRIVER_DUE);
                *seen = Seen {
                    turn,
                    since: shared.seam.now(),
                    reported: false,
                };
            }
            None => seen.turn = turn,
        }
    }
}

/// A worker is blocked: others get what waits for it.
fn rescue(shared: &Shared, index: usize, slot: &Slot, (turn, task): (u64, u64)) {
    shared.mark_blocked(slot);
    // Ordering: SeqCst, between the note and the second look; its counterpart is in `announce`,
    // between the end of the owner's poll and its last look at the notes before it parks. So if the
    // poll has ended meanwhile, either the owner heeds the note or we take it back.
    fence(Ordering::SeqCst);
    if slot.in_poll().is_none_or(|(now, _)| now != turn) {
        shared.unmark_blocked(slot);
        return;
    }
    let evicted = task & PINNED == 0 && shared.closing.evict_main_from(index);
    // Where nobody else can ever run them, tasks keep their places.
    let moved = shared.is_parallel() && to_injector(shared, slot) > 0;
    let woken = shared.seam.poll(index) > 0;
    if moved || woken || evicted || !shared.injector.is_empty() {
        shared.notify(MayStart::Yes);
    }
}

/// Moves what waits for a blocked worker to the injector. It is not left to thieves: those who are
/// never out of work look there only.
fn to_injector(shared: &Shared, slot: &Slot) -> usize {
    let room = RESCUED.saturating_sub(shared.injector.len());
    let queued = std::iter::from_fn(|| slot.queue.steal()).take(room.max(RESCUED_AT_LEAST));
    let left = slot.lifo.take().into_iter().chain(queued);
    left.map(|task| shared.injector.push(task)).count()
}

impl Seen {
    /// Reports a stall, once.
    fn stalled(&mut self, shared: &Shared, task: u64) {
        // Zero is no poll but a hook of the user's.
        if !shared.config.debug || self.reported || task == 0 {
            return;
        }
        let lasted = Duration::from_nanos(shared.seam.now().saturating_sub(self.since));
        if lasted < shared.config.stall_threshold {
            return;
        }
        self.reported = true;
        let id = Id::from_u64(task & !PINNED);
        let mut label = None;
        let mut find = |header: &Header| {
            if Some(header.id()) == id {
                label = Some(header.label());
            }
        };
        if task & PINNED == 0 {
            shared
                .tasks
                .iter()
                .for_each(|list| list.for_each(&mut find));
        } else if let Some(main) = shared.closing.main() {
            main.tasks.for_each(&mut find);
        }
        shared.config.hooks.report(&Report::Stalled {
            id,
            name: label.as_ref().and_then(|label| label.name.as_deref()),
            spawned_at: label.as_ref().map(|label| label.site),
            lasted,
        });
    }
}

/// Looks at all tasks, the local ones of the present run among them.
pub(crate) fn for_each_task(shared: &Shared, mut look: impl FnMut(&Header)) {
    shared
        .tasks
        .iter()
        .for_each(|list| list.for_each(&mut look));
    let local = shared.present.lock().upgrade();
    if let Some(pinned) = local {
        pinned.tasks.for_each(look);
    }
}

#[cfg(all(test, heist_loom))]
#[path = "monitor_models.rs"]
mod models;
