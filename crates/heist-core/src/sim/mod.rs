//! The simulation: one thread steps all workers of a runtime, in an order that a seed decides.
//!
//! It is a second way to run the scheduler, and not a second scheduler. What is stepped is the code that
//! threads run: `Worker::turn`, `Watch::look`, `run_task`, the steps of `closing`. A thread's loop blocks
//! between two turns; the loop here chooses who goes on instead.
//!
//! # Who takes part
//!
//! | actor          | is activated by           | a turn                                             |
//! |----------------|---------------------------|----------------------------------------------------|
//! | the *host*     | the call that is made     | up to its next look at the others, or its next sleep |
//! | a worker       | what starts a thread      | a step; or lying down, getting up, a stall's end   |
//! | the monitor    | the same                  | a look                                             |
//! | a pool thread  | the same                  | takes a closure; or runs the one it has taken      |
//!
//! The host is the thread itself, in `run`, `close` or `block_on`: `main` and its slot are at the bottom
//! of its stack, and all others are stepped from there. Wherever it would block ([`Simulation::wait`]), and
//! after every turn of its loop ([`Simulation::interleave`]), the others have turns. Its loop looks up
//! because the flag that asks a thread's loop to do so (`Closing::is_requested`) is always set; so a
//! runtime that is not simulated pays nothing for it.
//!
//! | what a thread does      | becomes                                                                |
//! |-------------------------|------------------------------------------------------------------------|
//! | start a thread          | [`Simulation::activate`]; it never fails                               |
//! | park, sleep, wait       | be no candidate until unparked, or until the deadline                  |
//! | unpark                  | a flag of the seam's, or of the monitor's                              |
//! | wait for an event       | `Seam::poll` after getting up                                          |
//! | join the threads        | [`Simulation::run_down`]                                               |
//! | be off the processor    | a *stall*: a worker is inside a poll, as others see it, for some milliseconds |
//!
//! # What the seed decides
//!
//! All of it comes from `Seam::seed`: who of those that can go on has the next turn; how long a turn
//! takes; whether a stall comes after it, and how long that lasts; when within its interval the monitor
//! looks; whom a thief visits first; and what code outside asks for ([`random`]). The generator is called
//! in an order that depends on itself alone, so one seed is one run.
//!
//! # Time
//!
//! A turn takes a few microseconds, so that a task that yields until a deadline gets there. When nobody
//! can go on, time jumps to the earliest deadline: of a timer, a grace, a nap of the monitor's. When for
//! long nobody did more than to look, it jumps to that of a timer or a grace, over all looks between.
//!
//! # Invariants
//!
//! 1. One thread at a time is inside ([`Simulation::enter`]); no lock is held during a turn.
//! 2. An actor that has a turn is not in the list, so it is not stepped inside itself. A turn inside
//!    another's is that of a third: code that blocks in a poll (`block_in_place`, `block_on` in a closure)
//!    steps those that are left. The host is none of them: what is queued for it is taken by others, or
//!    run by whoever waits ([`Simulation::wait_inside`]), and `main` does not go on.
//! 3. *No turn is lost.* An actor is asleep after `Worker::lie_down` has announced it, or has nothing to
//!    do; all that others do for it is what they do for a thread.
//! 4. If nobody can go on, or does more than to look, and no timer is armed, nobody ever will: only this
//!    thread wakes, unless a foreign thread holds a waker. `main` ends with a deadlock then.
//! 5. When the loop has ended, every actor has. One inside whose turn that happened ends with its turn.
//!
//! # What it does not show
//!
//! A turn is not interrupted: two workers are never inside the same function at once, and there is one
//! memory order. That is what the models under loom are for. What is found here is what an order of
//! *turns* can bring about. What comes from outside makes a run differ from the next: real time,
//! addresses, threads that wake tasks, closures that block on one.

#![forbid(unsafe_code)]

mod actor;
#[cfg(all(test, not(heist_loom), not(heist_shuttle)))]
mod tests;
mod trace;

use crate::closing::run_anything;
use crate::context::{self, Context, Role};
use crate::hooks::Hooks;
use crate::monitor;
use crate::seam::{NEVER, Seam, Simulated};
use crate::shared::Shared;
#[cfg(not(heist_loom))]
use crate::sync::AtomicUsize;
use crate::sync::{AtomicBool, Ordering};
use crate::worker::{Step, Worker, heed};
pub(crate) use actor::Part;
use actor::{Actor, Next};
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::sync::Arc;
// Loom's cannot be static. No model of loom's has a simulation.
#[cfg(heist_loom)]
use std::sync::atomic::AtomicUsize;
use std::thread::ThreadId;
use std::time::Duration;
pub use trace::{Event, Trace};
use trace::{Recorder, What, Who};

/// How many simulations there are in the process. So that who asks for the time elsewhere reads one
/// word more.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// The longest turn, in nanoseconds. Some twenty turns are then more than a busy worker's patience
/// with its queue.
const TURN: u64 = 8_000;
/// The shortest and the longest stall. The monitor finds a worker blocked after two looks, 2 ms apart.
const STALL: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(8));
/// One of so many turns is followed by a stall, under one of two seeds.
const STALLS: u64 = 128;
/// After so many turns in a row in which nobody did more than to look, nothing will be done before a timer
/// is due. The monitor may look for ever, and a spare worker nap: while a worker is inside a turn that
/// waits for this very one.
const IDLE: u32 = 500;
/// And so many for each actor. One of hundreds may have the only task, and not have been chosen.
const IDLE_EACH: usize = 8;
/// How many turns may be inside one another. Each is a few frames of the stack.
const DEPTH: usize = 16;
/// The same where a closure is about to begin. More, since it may be the one that a turn below waits for;
/// but each may wait in a `block_on`, and the stack of a test has 2 MiB.
const DEPTH_OF_CLOSURES: usize = 64;

/// See the module.
pub(crate) struct Simulation {
    seam: Arc<dyn Seam>,
    cast: Mutex<Cast>,
    /// The thread that is inside, and how many times.
    inside: Mutex<Option<(ThreadId, usize)>>,
    left: Condvar,
    recorder: Arc<Mutex<Recorder>>,
    /// One of so many turns is followed by a stall.
    stalls: Option<u64>,
    /// The last wait has ended because nobody can go on.
    is_stuck: AtomicBool,
}

/// The actors but the host, in the order in which they were activated.
#[derive(Debug, Default)]
struct Cast {
    actors: Vec<Actor>,
    activated: u32,
    /// How many have a turn, one inside the other.
    depth: usize,
    /// They were run down: whoever had a turn meanwhile has to end by itself.
    over: bool,
}

/// Who goes on.
enum Pick {
    Host,
    Actor(Actor),
    /// Nobody can before this time.
    Nobody(u64),
}

impl Simulation {
    /// The simulation that the seam asks for.
    pub(crate) fn of(seam: &Arc<dyn Seam>, hooks: &mut Hooks) -> Option<Simulation> {
        seam.simulated()?;
        // Ordering: Relaxed, here and below: the thread that simulates sees its own.
        ALIVE.fetch_add(1, Ordering::Relaxed);
        let recorder = Arc::new(Mutex::new(Recorder::new(seam.now())));
        let (spawned, of_user) = (recorder.clone(), hooks.on_task_spawn.take());
        hooks.on_task_spawn = Some(Arc::new(move |id| {
            spawned.lock().spawned(id);
            if let Some(hook) = &of_user {
                hook(id);
            }
        }));
        Some(Simulation {
            seam: seam.clone(),
            cast: Mutex::default(),
            inside: Mutex::new(None),
            left: Condvar::new(),
            recorder,
            stalls: (seam.seed() % 2 == 0).then_some(STALLS),
            is_stuck: AtomicBool::new(false),
        })
    }

    /// What has happened so far.
    pub(crate) fn trace(&self) -> Trace {
        self.recorder.lock().trace()
    }

    /// A number below `n`, which is not 0.
    fn below(&self, n: u64) -> u64 {
        ((u128::from(self.seam.seed()) * u128::from(n)) >> 64) as u64
    }

    fn simulated(&self) -> &dyn Simulated {
        // Panic: `of` has asked, and the answer of a seam does not change.
        self.seam.simulated().expect("a simulated seam")
    }

    // --- The thread ---

    /// The calling thread is inside until the answer is dropped. Waits while another one is.
    pub(crate) fn enter(&self) -> Inside<'_> {
        let mut inside = self.inside.lock();
        loop {
            if let Some(entered) = self.try_enter_locked(&mut inside) {
                return entered;
            }
            self.left.wait(&mut inside);
        }
    }

    /// The same, unless another thread is; waits for a moment for it to leave.
    pub(crate) fn try_enter(&self) -> Option<Inside<'_>> {
        let mut inside = self.inside.lock();
        self.try_enter_locked(&mut inside).or_else(|| {
            self.left.wait_for(&mut inside, Duration::from_millis(1));
            self.try_enter_locked(&mut inside)
        })
    }

    fn try_enter_locked(&self, inside: &mut Option<(ThreadId, usize)>) -> Option<Inside<'_>> {
        let me = std::thread::current().id();
        match inside {
            Some((thread, _)) if *thread != me => return None,
            Some((_, times)) => *times += 1,
            None => *inside = Some((me, 1)),
        }
        Some(Inside(self))
    }

    // --- The host ---

    /// What would have been a thread takes part from now on. False if the loop is over, and nobody would
    /// step it: somebody outside has looked before that, and come after it.
    #[must_use]
    pub(crate) fn activate(&self, part: Part) -> bool {
        let mut cast = self.cast.lock();
        if cast.over {
            drop(cast);
            part.refuse();
            return false;
        }
        let number = cast.activated;
        cast.activated += 1;
        let actor = Actor::new(number, part);
        let who = actor.who();
        cast.actors.push(actor);
        drop(cast);
        self.record(who, What::Activated);
        true
    }

    /// The host has had a turn. Returns when it has the next one.
    pub(crate) fn interleave(&self, cx: &Context<'_>) {
        let Some(_inside) = self.try_enter() else {
            return;
        };
        self.pass_turn();
        self.observe(cx.shared, Who::Host, cx.worker.map(Worker::index));
        match (cx.worker.map(Worker::slot), self.stall()) {
            (Some(slot), Some(until)) => {
                slot.begin_other();
                self.record(Who::Host, What::Stalled { until });
                self.wait(cx.shared, || until, || false);
                heed(cx, slot.end_poll());
            }
            _ => self.wait(cx.shared, || 0, || true),
        }
    }

    /// The host, or whoever blocks in its turn, sleeps until `is_woken` or the time `until`. Both are asked
    /// again and again.
    pub(crate) fn wait(
        &self,
        shared: &Shared,
        until: impl Fn() -> u64,
        is_woken: impl Fn() -> bool,
    ) {
        self.wait_or(shared, until, is_woken, || false);
    }

    /// The same, for `block_on` in a closure. Tasks may be queued for the host, which cannot go on because
    /// the closure is inside its wait. So they are run here, as at the end of a loop by a thread
    /// without a slot.
    pub(crate) fn wait_inside(&self, shared: &Arc<Shared>, is_woken: impl Fn() -> bool) {
        let stand_in = || {
            let cx = Context::new(shared, Role::Worker, shared.site);
            let ran = context::enter(&cx, || run_anything(&cx)) == Step::Ran;
            if ran {
                self.pass_turn();
                self.observe(shared, Who::Code, None);
            }
            ran
        };
        self.wait_or(shared, || NEVER, is_woken, stand_in);
    }

    /// When nobody can go on, `stand_in` may do something, and says whether it did.
    fn wait_or(
        &self,
        shared: &Shared,
        until: impl Fn() -> u64,
        is_woken: impl Fn() -> bool,
        stand_in: impl Fn() -> bool,
    ) {
        let is_stuck = self.wait_in_vain(shared, until, is_woken, stand_in);
        // A wait inside a turn of this one has left its own answer. Ordering: Relaxed, one thread at a
        // time is inside.
        self.is_stuck.store(is_stuck, Ordering::Relaxed);
        if is_stuck {
            // For whoever asks again because a foreign thread is about to do something.
            std::thread::yield_now();
        }
    }

    /// The same; whether it has ended because nobody can go on.
    fn wait_in_vain(
        &self,
        shared: &Shared,
        until: impl Fn() -> u64,
        is_woken: impl Fn() -> bool,
        stand_in: impl Fn() -> bool,
    ) -> bool {
        let mut idle = 0;
        while !shared.is_forked() {
            let until = until();
            let goes_on = until <= self.seam.now() || is_woken();
            let deadline = self.next_deadline(shared).min(until);
            if idle > IDLE && !goes_on && self.is_barren(idle) && !self.poll_all(shared) {
                // Whoever stalls may have work, and keep others from looking for it.
                let deadline = deadline.min(self.end_of_stalls());
                if deadline == NEVER {
                    return true;
                }
                self.jump(deadline);
                idle = 0;
                continue;
            }
            match self.pick(goes_on) {
                Pick::Host => return false,
                Pick::Actor(actor) => {
                    let was_idle = !self.step(shared, actor);
                    idle = if was_idle { idle + 1 } else { 0 };
                }
                Pick::Nobody(_) if self.poll_all(shared) || stand_in() => idle = 0,
                Pick::Nobody(next) if next.min(deadline) == NEVER => return true,
                Pick::Nobody(next) => self.jump(next.min(deadline)),
            }
        }
        false
    }

    /// Whether after so many idle turns everybody has had some, and nobody's stall is over unseen.
    fn is_barren(&self, idle: u32) -> bool {
        let now = self.seam.now();
        let cast = self.cast.lock();
        let mut stalls = cast.actors.iter().filter_map(Actor::stalled_until);
        idle as usize > IDLE_EACH * cast.actors.len() && stalls.all(|until| until > now)
    }

    /// When the first stall ends.
    fn end_of_stalls(&self) -> u64 {
        let cast = self.cast.lock();
        let stalls = cast.actors.iter().filter_map(Actor::stalled_until);
        stalls.min().unwrap_or(NEVER)
    }

    /// The earliest deadline of all timers.
    fn next_deadline(&self, shared: &Shared) -> u64 {
        let slots = 0..shared.slots.len();
        let deadlines = slots.map(|slot| self.simulated().next_deadline(slot));
        deadlines.min().unwrap_or(NEVER)
    }

    /// Looks after slots whose owners cannot go on because what waits here is inside their turns. Whether
    /// anything was due.
    ///
    /// Not in the context of who waits here: that one would take a wake of its own for something that it
    /// sees to when it is back from this wait, which it never is.
    fn poll_all(&self, shared: &Shared) -> bool {
        let Some(shared) = shared.me.upgrade() else {
            return false;
        };
        let cx = Context::new(&shared, Role::Service, shared.site);
        context::enter(&cx, || self.poll_due(&shared))
    }

    fn poll_due(&self, shared: &Shared) -> bool {
        let mut any = false;
        for slot in 0..shared.slots.len() {
            if self.simulated().next_deadline(slot) <= self.seam.now() {
                self.seam.poll(slot);
                any = true;
            }
        }
        any
    }

    /// One turn of somebody else, or a jump in time as far as `until`.
    pub(crate) fn nap(&self, shared: &Shared, until: u64) {
        match self.pick(false) {
            Pick::Host => {}
            Pick::Actor(actor) => _ = self.step(shared, actor),
            Pick::Nobody(next) => self.jump(next.min(until)),
        }
    }

    /// Whoever has a turn blocks in it for a while, during which others go on.
    pub(crate) fn interlude(&self, shared: &Shared) {
        if self.cast.lock().depth < DEPTH {
            let length = self.below(STALL.1.as_nanos() as u64);
            self.block(shared, self.after(length));
        }
    }

    /// The same until this time.
    fn block(&self, shared: &Shared, until: u64) {
        if self.cast.lock().depth < DEPTH {
            self.wait(shared, || until, || false);
        }
        // Where too many have a turn inside one another nobody goes on meanwhile.
        if self.seam.now() < until {
            self.jump(until);
        }
    }

    /// Whether nobody could go on when the last wait ended. Each wait is asked about once.
    pub(crate) fn take_stuck(&self) -> bool {
        self.is_stuck.swap(false, Ordering::Relaxed)
    }

    /// The loop is over: all actors end. Whoever has a turn that this is inside of is left.
    pub(crate) fn run_down(&self, shared: &Shared) {
        let _inside = self.enter();
        self.wait(shared, || NEVER, || self.cast.lock().actors.is_empty());
        self.cast.lock().over = true;
    }

    // --- Turns ---

    /// Chooses among those that can go on; the host is one if `host` says so.
    fn pick(&self, host: bool) -> Pick {
        let now = self.seam.now();
        let mut cast = self.cast.lock();
        let is_deep = cast.depth >= DEPTH_OF_CLOSURES;
        let ready_at = |actor: &Actor| match actor.is_call() && is_deep {
            true => NEVER,
            false => actor.ready_at(self.simulated()),
        };
        let mut next = NEVER;
        let mut ready = u64::from(host);
        for actor in &cast.actors {
            match ready_at(actor) {
                time if time <= now => ready += 1,
                time => next = next.min(time),
            }
        }
        if ready == 0 {
            return Pick::Nobody(next);
        }
        // One alone is no choice.
        let chosen = if ready == 1 {
            0
        } else {
            self.below(ready) as usize
        };
        let mut candidates = (0..cast.actors.len()).filter(|&at| ready_at(&cast.actors[at]) <= now);
        match candidates.nth(chosen) {
            Some(at) => {
                cast.depth += 1;
                Pick::Actor(cast.actors.remove(at))
            }
            None => Pick::Host,
        }
    }

    /// Whether the actor did more than to look.
    fn step(&self, shared: &Shared, mut actor: Actor) -> bool {
        let Some(shared) = shared.me.upgrade() else {
            return false;
        };
        self.pass_turn();
        let before = self.recorder.lock().progress();
        let mut next = actor.turn(self, &shared);
        while matches!(next, Next::Again) && self.cast.lock().over {
            // The loop has ended inside this turn, and nobody steps any more.
            next = actor.turn(self, &shared);
        }
        match next {
            Next::Again => self.put_back(actor),
            Next::Over => {
                self.record(actor.who(), What::Ended);
                self.cast.lock().depth -= 1;
            }
            // The child of a fork: what it consists of is the parent's.
            Next::Forked => std::mem::forget(actor),
        }
        self.recorder.lock().progress() != before
    }

    /// The order of the list is that of activation, whoever has had a turn.
    fn put_back(&self, actor: Actor) {
        let mut cast = self.cast.lock();
        cast.depth -= 1;
        let at = cast
            .actors
            .partition_point(|other| other.number < actor.number);
        cast.actors.insert(at, actor);
    }

    /// Until when whoever has just had a turn is off the processor, if it is.
    fn stall(&self) -> Option<u64> {
        let odds = self.stalls?;
        (self.below(odds) == 0).then(|| {
            let (least, most) = (STALL.0.as_nanos() as u64, STALL.1.as_nanos() as u64);
            self.after(least + self.below(most - least))
        })
    }

    // --- Time and trace ---

    /// The time in so many nanoseconds. At its end it stands still: nobody's clock reads [`NEVER`].
    fn after(&self, nanos: u64) -> u64 {
        self.seam.now().saturating_add(nanos).min(NEVER - 1)
    }

    fn pass_turn(&self) {
        let now = self.after(1 + self.below(TURN));
        self.simulated().advance(now);
        self.recorder.lock().time(now);
    }

    fn jump(&self, to: u64) {
        let to = to.min(NEVER - 1);
        self.simulated().advance(to);
        let mut recorder = self.recorder.lock();
        recorder.time(to);
        recorder.record(Who::Clock, What::Jumped);
    }

    fn record(&self, who: Who, what: What) {
        self.recorder.lock().record(who, what);
    }

    /// Records what the owner of a slot has done since the last look at it.
    fn observe(&self, shared: &Shared, who: Who, slot: Option<usize>) {
        if self.recorder.lock().is_due_to_forget() {
            // Tasks that a look at some slot has still to find are kept as well.
            let slots = shared.slots.iter();
            let mut kept: HashSet<_> = slots.filter_map(|slot| trace::last_polled(slot)).collect();
            monitor::for_each_task(shared, |header| _ = kept.insert(header.id()));
            shared
                .blocking
                .tasks
                .for_each(|header| _ = kept.insert(header.id()));
            self.recorder.lock().forget_but(&kept);
        }
        let local = shared.present.lock().upgrade();
        let live = shared.tasks.iter().map(|list| list.len()).sum::<usize>()
            + shared.blocking.tasks.len()
            + local.map_or(0, |local| local.tasks.len());
        let slot = slot.map(|index| (index, &*shared.slots[index]));
        self.recorder.lock().observe(who, slot, live);
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation")
            .field("cast", &self.cast)
            .finish_non_exhaustive()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`Simulation::enter`].
pub(crate) struct Inside<'a>(&'a Simulation);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut inside = self.0.inside.lock();
        match &mut *inside {
            Some((_, times)) if *times > 1 => *times -= 1,
            _ => {
                *inside = None;
                self.0.left.notify_all();
            }
        }
    }
}

/// Gives `f` the simulation that this thread is inside of.
fn with<R>(f: impl FnOnce(&Simulation) -> R) -> Option<R> {
    if ALIVE.load(Ordering::Relaxed) == 0 {
        return None;
    }
    context::with(|cx| cx?.shared.sim.as_ref().map(f))
}

/// The next random number of the simulation that this thread is inside of; `None` outside of one.
///
/// What is decided by it is decided by the seed: two runs with the same seed get the same numbers.
pub fn random() -> Option<u64> {
    with(|sim| sim.seam.seed())
}

/// The seed of the simulation that this thread is inside of; `None` outside of one.
pub fn seed() -> Option<u64> {
    with(|sim| sim.simulated().origin())
}

/// Whether workers stall now and then in the simulation that this thread is inside of: under one of two
/// seeds. Without stalls, whoever can go on does so within the turns of those before it.
pub fn has_stalls() -> bool {
    with(|sim| sim.stalls.is_some()).unwrap_or(false)
}

/// The time of the simulation that this thread is inside of, by the clock of its seam; `None` outside
/// of one.
#[inline]
pub fn now() -> Option<u64> {
    with(|sim| sim.seam.now())
}

/// Blocks the turn of whoever calls for so long, by the clock of the simulation that this thread is inside of;
/// others go on meanwhile. False, at once, outside of one.
#[must_use]
pub fn stall(length: Duration) -> bool {
    let shared = context::with(|cx| cx.map(|cx| cx.shared.clone()));
    let simulated = shared
        .as_ref()
        .and_then(|shared| Some((shared, shared.sim.as_ref()?)));
    let Some((shared, sim)) = simulated else {
        return false;
    };
    let until = sim.after(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
    while sim.seam.now() < until {
        // In `block_on` another thread may be inside, which has time go on.
        if let Some(_inside) = sim.try_enter() {
            sim.block(shared, until);
        }
    }
    true
}

/// Notes something in the trace of the simulation that this thread is inside of; nothing outside of one.
///
/// A value that is not the same in each run with the same seed, such as an address or the id of a task, makes
/// the traces differ.
pub fn note(what: &'static str, value: u64) {
    let _ = with(|sim| sim.record(Who::Code, What::Noted { what, value }));
}
