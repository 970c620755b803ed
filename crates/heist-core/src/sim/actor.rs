//! The actors of a simulation: what would have been threads, one turn at a time.

#![forbid(unsafe_code)]

use super::Simulation;
use super::trace::{What, Who};
use crate::config::MONITOR_INTERVAL;
use crate::context::{self, Context, Role};
use crate::monitor::{self, Watch};
use crate::seam::{NEVER, Simulated};
use crate::shared::Shared;
use crate::sync::{AtomicBool, Ordering};
use crate::task::Runnable;
use crate::worker::{Turn, Worker, heed, run_task};
use std::sync::Arc;

/// One of the cast.
#[derive(Debug)]
pub(super) struct Actor {
    /// In the order of activation.
    pub(super) number: u32,
    part: Part,
}

/// What an actor does.
#[derive(Debug)]
pub(crate) enum Part {
    /// `None` after its end.
    Worker(Option<Worker>, Mood),
    Monitor {
        watch: Watch,
        /// Set by `Monitor::unpark`.
        unparked: Arc<AtomicBool>,
        /// Until when it sleeps, and that a look follows; `None` before its first turn.
        nap: Option<u64>,
    },
    /// A thread of the blocking pool. It has nothing to keep it alive for: it ends when no closure is
    /// left.
    Closures(Hand),
}

/// What a thread of the blocking pool has in hand.
#[derive(Debug)]
pub(crate) enum Hand {
    /// It has not begun.
    New,
    Empty,
    Closure(Runnable),
}

/// Where a worker is in its loop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// Before it.
    New,
    Awake,
    /// It has found nothing, and will lie down until this time.
    Drowsy(u64),
    Asleep(u64),
    /// In its turn, as others see it, until this time.
    Stalled(u64),
}

/// What becomes of an actor after its turn.
pub(super) enum Next {
    Again,
    Over,
    /// It must be leaked.
    Forked,
}

impl Part {
    pub(crate) fn worker(worker: Worker) -> Part {
        Part::Worker(Some(worker), Mood::New)
    }

    pub(crate) fn monitor(shared: &Shared, unparked: Arc<AtomicBool>) -> Part {
        Part::Monitor {
            watch: Watch::new(shared),
            unparked,
            nap: None,
        }
    }

    pub(crate) fn closures() -> Part {
        Part::Closures(Hand::New)
    }

    /// It will have no turn.
    pub(super) fn refuse(self) {
        if let Part::Worker(Some(worker), _) = self {
            worker.vacate();
        }
    }
}

impl Actor {
    pub(super) fn new(number: u32, part: Part) -> Actor {
        Actor { number, part }
    }

    pub(super) fn who(&self) -> Who {
        match &self.part {
            Part::Worker(Some(worker), _) => Who::Worker(worker.index() as u32),
            Part::Worker(None, _) => Who::Host,
            Part::Monitor { .. } => Who::Monitor,
            Part::Closures(_) => Who::Pool(self.number),
        }
    }

    /// Whether it is about to run a closure.
    pub(super) fn is_call(&self) -> bool {
        matches!(&self.part, Part::Closures(Hand::Closure(_)))
    }

    /// Until when it stalls, if it does; also if that time has come.
    pub(super) fn stalled_until(&self) -> Option<u64> {
        match &self.part {
            Part::Worker(_, Mood::Stalled(until)) => Some(*until),
            _ => None,
        }
    }

    /// When it can go on.
    pub(super) fn ready_at(&self, seam: &dyn Simulated) -> u64 {
        match &self.part {
            Part::Worker(Some(worker), Mood::Asleep(until)) => {
                let slot = worker.index();
                if seam.is_unparked(slot) {
                    return 0;
                }
                seam.next_deadline(slot).min(*until)
            }
            Part::Worker(_, Mood::Stalled(until)) => *until,
            // Ordering: Relaxed, see `Monitor::unpark`.
            Part::Monitor { unparked, .. } if unparked.load(Ordering::Relaxed) => 0,
            Part::Monitor { nap, .. } => nap.unwrap_or(0),
            Part::Worker(..) | Part::Closures(_) => 0,
        }
    }

    pub(super) fn turn(&mut self, sim: &Simulation, shared: &Arc<Shared>) -> Next {
        match &mut self.part {
            Part::Worker(worker, mood) => worker_turn(sim, shared, worker, mood),
            Part::Monitor {
                watch,
                unparked,
                nap,
            } => {
                unparked.store(false, Ordering::Relaxed);
                monitor_turn(sim, shared, watch, nap)
            }
            Part::Closures(hand) => closures_turn(sim, shared, hand, Who::Pool(self.number)),
        }
    }
}

fn worker_turn(
    sim: &Simulation,
    shared: &Arc<Shared>,
    own: &mut Option<Worker>,
    mood: &mut Mood,
) -> Next {
    let Some(worker) = own.as_ref() else {
        return Next::Over;
    };
    let (index, slot) = (worker.index(), worker.slot());
    let who = Who::Worker(index as u32);
    if let Mood::New = mood {
        // As on a thread of its own, which is inside of nothing yet.
        if !context::outside(|| worker.begin()) {
            return Next::Forked;
        }
        sim.recorder.lock().skip(index, slot);
    }
    let mut cx = Context::new(shared, Role::Worker, shared.site);
    cx.worker = Some(worker);
    let turn = context::enter(&cx, || {
        let next = match *mood {
            Mood::New => {
                worker.enter_loop();
                Turn::Again
            }
            Mood::Stalled(_) => {
                heed(&cx, slot.end_poll());
                Turn::Again
            }
            Mood::Asleep(_) => {
                let unparked = sim.simulated().take_unpark(index);
                sim.record(who, What::Woke { unparked });
                worker.get_up();
                if sim.simulated().next_deadline(index) <= sim.seam.now() {
                    // As in `Worker::park`, before any waker.
                    worker.stop_searching();
                    worker.poll_driver();
                }
                Turn::Again
            }
            Mood::Drowsy(until) => {
                if worker.lie_down(&cx) {
                    *mood = Mood::Asleep(until);
                    sim.record(who, What::Slept);
                    return Turn::Park(until);
                }
                Turn::Again
            }
            Mood::Awake => worker.turn(&cx),
        };
        sim.observe(shared, who, Some(index));
        match next {
            Turn::Again => *mood = Mood::Awake,
            Turn::Park(until) => *mood = Mood::Drowsy(until),
            Turn::Over => worker.leave_loop_at_the_end(&cx),
            Turn::Forked => {}
        }
        next
    });
    match turn {
        Turn::Again => {
            if let Some(until) = sim.stall() {
                slot.begin_other();
                sim.record(who, What::Stalled { until });
                *mood = Mood::Stalled(until);
            }
            Next::Again
        }
        Turn::Park(_) => Next::Again,
        Turn::Forked => Next::Forked,
        Turn::Over => {
            if let Some(worker) = own.take() {
                context::outside(|| worker.end());
            }
            Next::Over
        }
    }
}

fn monitor_turn(
    sim: &Simulation,
    shared: &Arc<Shared>,
    watch: &mut Watch,
    nap: &mut Option<u64>,
) -> Next {
    let cx = Context::new(shared, Role::Service, shared.site);
    // The look too: what it fires must not be taken for a wake by who waits here, which sees to those
    // of its own without being unparked.
    let next = context::enter(&cx, || {
        if nap.is_some_and(|until| until != NEVER) {
            watch.look(shared);
            let blocked = shared.blocked.load(Ordering::Relaxed) as u64;
            sim.record(Who::Monitor, What::Looked { blocked });
        }
        watch.next(&cx)
    });
    match next {
        monitor::Next::Over => return Next::Over,
        monitor::Next::Forked => return Next::Forked,
        monitor::Next::Sleep => *nap = Some(NEVER),
        monitor::Next::Nap => {
            let interval = MONITOR_INTERVAL.as_nanos() as u64;
            *nap = Some(sim.after(interval + sim.below(interval)));
        }
    }
    Next::Again
}

fn closures_turn(sim: &Simulation, shared: &Arc<Shared>, hand: &mut Hand, who: Who) -> Next {
    let hooks = &shared.config.hooks;
    let task = match std::mem::replace(hand, Hand::Empty) {
        Hand::Closure(task) => task,
        before => {
            if let Hand::New = before {
                context::outside(|| hooks.thread_start());
            }
            if shared.is_forked() {
                return Next::Forked;
            }
            let Some(task) = shared.blocking.next_simulated() else {
                context::outside(|| hooks.thread_stop());
                return Next::Over;
            };
            *hand = Hand::Closure(task);
            return Next::Again;
        }
    };
    let call = sim.recorder.lock().number(task.header().id());
    sim.record(who, What::Called { task: call });
    let cx = Context::new(shared, Role::Blocking, shared.site);
    context::enter(&cx, || {
        let _ = run_task(&cx, None, task);
    });
    sim.observe(shared, who, None);
    if shared.is_forked() {
        Next::Forked
    } else {
        Next::Again
    }
}
