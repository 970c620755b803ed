//! Whether `main` can ever go on: the proof that it cannot, or silence.
//!
//! A false alarm would end a program that works, so nothing is concluded from what merely looks
//! still. The monitor looks, and only if [`Config::detect_deadlock`](crate::Config) says so, when
//! every worker has been asleep for some looks. It knows two proofs. For both, in one *look*:
//!
//! | step | what is read                                            | how it is exact                        |
//! |------|---------------------------------------------------------|----------------------------------------|
//! | d1   | `main` rests, in its rest number r                      | the lock of [`Resting`]                |
//! | d2   | all workers sleep, and d have ever left the list of sleepers | the lock of the list              |
//! | d3   | threads of the process and signals it catches           | the system answers                     |
//! | d4   | every live task is idle after poll p; wakers, handles   | the task's word, by a read-modify-write |
//! | d5   | references to `main`; then: `main` is not woken         | Acquire fence, see below               |
//! | d6   | d2 and d1 again: the same d and r                       | the locks                              |
//!
//! # Proof A: there is nobody
//!
//! The process has no other threads than the sleepers of d2, the thread of `main` and the monitor
//! (d3), and catches no signal but those of the standard library and of libc. Nothing of this runtime
//! waits for the system: no timer, no source, no closure of the pool, no thread that is to be started
//! later. Then no code runs in this process but ours. (A worker leaves the list before it calls the wakers
//! of what has ended its sleep, and a timer counts as armed until then.) Between d2 and d6 no worker has left the list and
//! `main` has rested, so none of our threads ran a task; the others did not exist at d3. Whoever existed
//! before has ended, and the system's answer to d3 comes after that: what it queued or woke is seen by
//! d4 and d5. So every task is idle, `main` is not woken, and no code is left that could change that,
//! wherever wakers and handles may lie. A spurious return from a sleep finds nothing to run.
//!
//! # Proof B: nobody has anything
//!
//! With other threads in the process (as in a test harness) something may still wake `main` unless
//! nobody else *can reach* it. Of every task and of `main`: no waker exists, no abort handle, no join
//! handle; and there is no `Handle` to spawn more, no thread in `block_on`, no closure of the pool. This
//! is silent about two tasks that wait for each other: who awaits a handle may have shared it with
//! another thread, which may still abort.
//!
//! It takes two looks, L and M, 2 ms apart, with the same r, the same d, and the same tasks with the same
//! p. (L reads p before the word, and M after it. A poll that began after L's word was read is counted
//! in M's p, since the word's read-modify-writes order them; so each task has been idle from L's word
//! to M's.) Let T be a moment between the two. For each task x, L has found no waker and no handle of
//! it, and a new one could come from a poll of x alone, from an old one, or, for a handle, from the
//! join handle, which is gone. Had a waker existed and been used before L's word, x would be queued,
//! running, or one poll further. So at T nothing of x is anywhere, and will never be.
//!
//! `main` has no word. Its references are counted by the `Arc` they all are: ours are the loop's two,
//! that of `closing` while `main` works on a slot, and the one the monitor looks with; any other is a
//! waker, an abort handle or a region. One that was dropped may have been used before. Its wake comes
//! before its decrement (Release), which d5 reads before the fence (Acquire): so the look at WOKEN after
//! the fence finds it set, or taken. Who takes it has ended its rest before. The look has then read what
//! was written after that end, so its own turn at the lock, in d6, cannot come before it: d6 finds no
//! rest, or another r.
//!
//! # What is never found
//!
//! A deadlock that comes about while the monitor sleeps (a foreign thread drops the last waker), one
//! beside idle threads of the pool, or beside a socket that nobody awaits. That is the price.

#![forbid(unsafe_code)]

use crate::closing::Closing;
use crate::inspect::{self, TaskSnapshot};
use crate::pinned::Pinned;
use crate::seam::NEVER;
use crate::shared::Shared;
use crate::sync::{Mutex, Ordering, fence};
use crate::task::{Header, Id, TaskList, Wait};
use std::sync::Arc;

/// Why `main` can never go on: what is left, all of it waiting.
#[derive(Clone, Debug)]
pub struct Deadlock {
    /// What `main` said that it waits on.
    pub main: Vec<Wait>,
    /// The tasks that were alive.
    pub tasks: Vec<TaskSnapshot>,
}

/// The sleep of `main`, for the monitor. Written by its thread, around every park, before it looks at
/// anything that others have told it.
#[derive(Debug, Default)]
pub(crate) struct Resting(Mutex<Rest>);

#[derive(Debug, Default)]
struct Rest {
    number: u64,
    asleep: bool,
    waits: Vec<Wait>,
    verdict: Option<Deadlock>,
}

impl Resting {
    pub(crate) fn begin(&self, waits: &[Wait]) {
        let mut rest = self.0.lock();
        rest.number += 1;
        rest.asleep = true;
        rest.waits.clear();
        rest.waits.extend_from_slice(waits);
    }

    /// Gives the monitor's verdict, if it came to one.
    pub(crate) fn end(&self) -> Option<Deadlock> {
        let mut rest = self.0.lock();
        rest.asleep = false;
        rest.verdict.take()
    }

    /// The number of the rest that goes on.
    fn number(&self) -> Option<u64> {
        let rest = self.0.lock();
        rest.asleep.then_some(rest.number)
    }

    /// Passes the sentence, if it is still the same rest.
    fn condemn(&self, number: u64, tasks: Vec<TaskSnapshot>) -> bool {
        let mut rest = self.0.lock();
        if !rest.asleep || rest.number != number {
            return false;
        }
        let main = rest.waits.clone();
        rest.verdict = Some(Deadlock { main, tasks });
        true
    }
}

/// What one look has found. See the module.
#[derive(Debug)]
pub(crate) struct Look {
    rest: u64,
    left: u64,
    tasks: Vec<Seen>,
    proof_a: bool,
    proof_b: bool,
}

/// What was seen of an idle task.
#[derive(Debug)]
struct Seen {
    id: Id,
    before: u32,
    after: u32,
    is_out_of_reach: bool,
}

impl Look {
    /// Looks at everything; `None` if something goes on.
    pub(crate) fn take(shared: &Shared) -> Option<Look> {
        let pinned = shared.present.lock().upgrade()?;
        if pinned.is_main_gone() || shared.closing.has_begun() || shared.is_forked() {
            return None;
        }
        let rest = pinned.resting.number()?;
        let sleep = shared.idle.sleep();
        let no_others = sleep.all && is_alone(shared, &pinned, sleep.sleeping);
        let tasks = idle_tasks(shared, &pinned)?;
        let main_is_out_of_reach = is_out_of_reach(&shared.closing, &pinned);
        // Ordering: Acquire, d5 of the module: after the count, before WOKEN.
        fence(Ordering::Acquire);
        if pinned.has_work() || !shared.injector.is_empty() || shared.expects_more() {
            return None;
        }
        let unwoken = no_others && !shared.waits_for_system();
        let again = shared.idle.sleep();
        if !again.all || again.left != sleep.left || pinned.resting.number() != Some(rest) {
            return None;
        }
        Some(Look {
            rest,
            left: sleep.left,
            proof_a: unwoken,
            proof_b: main_is_out_of_reach
                && shared.handles() == 0
                && tasks.iter().all(|task| task.is_out_of_reach),
            tasks,
        })
    }

    /// Whether nothing has happened since `earlier`.
    fn continues(&self, earlier: &Look) -> bool {
        let same = |(a, b): (&Seen, &Seen)| a.id == b.id && a.before == b.after;
        self.rest == earlier.rest
            && self.left == earlier.left
            && self.tasks.len() == earlier.tasks.len()
            && earlier.tasks.iter().zip(&self.tasks).all(same)
    }

    /// The tasks that nobody can ever wake or end but the end of the loop, by both looks.
    pub(crate) fn stuck(&self, earlier: &Look) -> Vec<Id> {
        if !self.continues(earlier) {
            return Vec::new();
        }
        let both = self.tasks.iter().zip(&earlier.tasks);
        let stuck = both.filter(|(now, then)| now.is_out_of_reach && then.is_out_of_reach);
        stuck.map(|(now, _)| now.id).collect()
    }

    /// Ends `main` if both looks prove that it can never go on.
    pub(crate) fn conclude(&self, earlier: &Look, shared: &Shared) {
        let proven = self.proof_a && earlier.proof_a || self.proof_b && earlier.proof_b;
        if !proven || !self.continues(earlier) {
            return;
        }
        let Some(pinned) = shared.present.lock().upgrade() else {
            return;
        };
        if pinned.resting.condemn(self.rest, inspect::tasks(shared)) {
            pinned.call_attention();
            pinned.unpark();
        }
    }
}

/// d3: whether the process has no threads but those that sleep here, that of `main` and the monitor.
fn is_alone(shared: &Shared, pinned: &Pinned, sleeping: usize) -> bool {
    let own = sleeping + usize::from(!pinned.has_slot()) + 1;
    shared.seam.threads() == Some(own)
}

/// d4: all live tasks, in the order of their lists; `None` if one is not idle.
fn idle_tasks(shared: &Shared, pinned: &Pinned) -> Option<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut all_idle = true;
    let mut look = |list: &TaskList| {
        list.look(|header, before, _| match idle_task(header, before) {
            Some(task) => seen.push(task),
            None => all_idle = false,
        });
    };
    shared.tasks.iter().for_each(&mut look);
    look(&shared.blocking.tasks);
    look(&pinned.tasks);
    all_idle.then_some(seen)
}

fn idle_task(header: &Header, before: u32) -> Option<Seen> {
    let word = header.state().latest();
    if word.is_queued() || word.is_running() || word.is_done() {
        return None;
    }
    Some(Seen {
        id: header.id(),
        before,
        after: header.polls(),
        is_out_of_reach: word.wakers() == 0 && word.handles() == 0 && !word.is_wanted(),
    })
}

/// d5: whether nobody but this runtime has a reference to `main`.
fn is_out_of_reach(closing: &Closing, pinned: &Arc<Pinned>) -> bool {
    // The loop's own two, and the one we look with.
    let own = 3 + usize::from(closing.has_main(pinned));
    Arc::strong_count(pinned) == own
}

impl Shared {
    /// Whether somebody is inside whom no list of tasks shows, or a thread is to be started later.
    fn expects_more(&self) -> bool {
        self.is_visited() || self.blocking.tasks.len() > 0 || self.threads.retry_at() != NEVER
    }

    /// Whether a timer or a source is registered.
    fn waits_for_system(&self) -> bool {
        (0..self.slots.len()).any(|slot| self.seam.is_used(slot))
    }
}
