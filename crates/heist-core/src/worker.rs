//! The worker: finds a task, runs it, goes idle.
//!
//! A worker is a state machine. [`Worker::step`] does one thing and says what it did; the thread's
//! loop around it is a dozen lines, and one thread can step many workers as well.
//!
//! # Where the next task comes from
//!
//! 1. every [`INJECTOR_INTERVAL`] polls, the injector;
//! 2. the LIFO slot, at most [`LIFO_STREAK`] times in a row;
//! 3. the local queue, first in first out;
//! 4. the injector, a batch at a time;
//! 5. another worker's queue, half of it, from a random victim on; or the LIFO slot of a worker
//!    that the monitor has found blocked.
//!
//! Every [`DRIVER_INTERVAL`] polls, or when the monitor asks for it, the worker polls its shard
//! first. So a task that is ready waits for a bounded number of polls.
//!
//! # Where a task goes
//!
//! Woken by a running task: to the LIFO slot, whose old task moves to the queue. Spawned by one: to
//! the LIFO slot if it is empty, else to the queue. Woken by a task that ends: to the queue. Woken
//! by the driver: to the queue, in the order of events. After a yield: to the end of the queue. What
//! leaves the LIFO slot without being run is queued as a new task if it was never polled.
//!
//! Work in the own queue wakes nobody: this worker is awake. When a second one is woken for it is in
//! `spread.rs`.

#![forbid(unsafe_code)]

use crate::config::{
    DRIVER_INTERVAL, INJECTOR_BATCH, INJECTOR_INTERVAL, LIFO_STREAK, LOCAL_QUEUE, SPARE_NAP,
};
use crate::context::{self, Context, Current, NOTED, Role, YIELDED};
use crate::deque::{Steal, Worker as Deque};
use crate::hooks::Report;
use crate::idle::Left;
use crate::queue::Order;
use crate::seam::NEVER;
use crate::shared::{MayStart, Shared};
use crate::slot::{BLOCKED, DRIVER_DUE, Slot};
use crate::spread::Spread;
use crate::sync::{Ordering, spin_loop};
use crate::task::{
    Header, JoinError, Kind, LastOut, Runnable, Running, Started, TaskList, wake_foreign,
};
use crate::values;
use std::cell::Cell;
use std::sync::Arc;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Step {
    /// Ran a task.
    Ran,
    /// Looked for work and found none, but must look again: another thief was in the way.
    Searched,
    /// Nothing to do until something happens.
    WouldPark,
}

/// What a look at the other slots gave.
enum Stolen {
    Task(Runnable),
    /// Another thief was faster; there may be more.
    Contended,
    Nothing,
}

/// The owner of a slot.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    /// Whether the thread that will work on this slot is there; until then its start may fail.
    arrived: Cell<bool>,
    queue: Deque<Runnable>,
    /// Polls so far; decides whose turn it is.
    tick: Cell<u32>,
    /// What the slot's count of tasks from its LIFO slot was when the last one came from elsewhere:
    /// the difference is how many came from there in a row.
    streak_from: Cell<u64>,
    /// Counted as a searcher in the idle word.
    searching: Cell<bool>,
    /// Where in the queue tasks go that are woken now; `None` for the LIFO slot.
    queueing: Cell<Option<Order>>,
    spread: Spread,
    random: Cell<u64>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// What the loop of a worker is to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    /// Take the next one.
    Again,
    /// Park until this time at the latest, then take the next one.
    Park(u64),
    /// End.
    Over,
    /// Leak what the worker consists of: this is the child of a fork.
    Forked,
}

/// The loop of a worker thread.
pub(crate) fn thread(shared: Arc<Shared>, worker: Worker) {
    worker.arrive();
    if !worker.begin() {
        std::mem::forget((worker, shared));
        return;
    }
    let mut cx = Context::new(&shared, Role::Worker, shared.site);
    cx.worker = Some(&worker);
    let is_ours = context::enter(&cx, || {
        worker.enter_loop();
        loop {
            match worker.turn(&cx) {
                Turn::Again => {}
                Turn::Park(deadline) => worker.rest(&cx, deadline),
                Turn::Over => break,
                Turn::Forked => return false,
            }
        }
        worker.leave_loop_at_the_end(&cx);
        true
    });
    if !is_ours {
        std::mem::forget((worker, shared));
        return;
    }
    worker.end();
}

impl Worker {
    /// Takes a vacant slot.
    pub(crate) fn occupy(shared: &Arc<Shared>, index: usize) -> Option<Worker> {
        let queue = shared.slots[index].occupy()?;
        Some(Worker {
            queue,
            arrived: Cell::new(false),
            index,
            tick: Cell::new(0),
            streak_from: Cell::new(shared.slots[index].work.lifo_hits.get()),
            searching: Cell::new(false),
            queueing: Cell::new(None),
            spread: Spread::new(),
            random: Cell::new(shared.seam.seed() | 1),
            shared: shared.clone(),
        })
    }

    /// Gives the slot back. What is left in it goes to the injector.
    pub(crate) fn vacate(self) {
        let mut left = false;
        while let Some(task) = self.slot().lifo.take().or_else(|| self.pop()) {
            self.shared.injector.push(task);
            left = true;
        }
        let Worker {
            shared,
            index,
            queue,
            arrived,
            ..
        } = self;
        shared.slots[index].vacate(queue);
        if arrived.get() {
            shared.threads.worker_left();
        }
        if left {
            shared.notify(MayStart::Yes);
        }
    }

    /// The thread that owns the slot is there.
    pub(crate) fn arrive(&self) {
        self.arrived.set(true);
        self.shared.threads.worker_arrived();
        self.shared.seam.attach(self.index);
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The first thing of a worker that was started, after `arrive`. False in the child of a fork
    /// that the user's hook has made: there the worker is to be leaked.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        let shared = &self.shared;
        // It was counted as a searcher while it started, and is none while it runs the user's hook:
        // somebody else looks for the work that was published meanwhile.
        if shared.idle.end_search() {
            shared.notify(MayStart::No);
        }
        // Where the monitor sees it: a hook that blocks is a worker that is blocked.
        self.slot().begin_other();
        shared.config.hooks.thread_start();
        if shared.is_forked() {
            return false;
        }
        self.end_other();
        true
    }

    /// One turn of the loop of a worker that was started: a step, and what follows from it.
    #[inline]
    pub(crate) fn turn(&self, cx: &Context<'_>) -> Turn {
        let closing = &self.shared.closing;
        if closing.is_requested() && !crate::closing::close_as_asked(cx) {
            return Turn::Forked;
        }
        match self.step(cx) {
            Step::Ran | Step::Searched => Turn::Again,
            Step::WouldPark if closing.is_over() || self.try_retire() => Turn::Over,
            Step::WouldPark => Turn::Park(self.nap()),
        }
    }

    /// After `Turn::Over`.
    pub(crate) fn leave_loop_at_the_end(&self, cx: &Context<'_>) {
        // A request may have come after the last look, from somebody who counted on this worker.
        if self.shared.closing.is_requested() {
            let _ = crate::closing::close_as_asked(cx);
        }
        self.leave_loop();
    }

    /// The last thing of a worker that was started, outside of its loop.
    pub(crate) fn end(self) {
        let shared = self.shared.clone();
        let index = self.index;
        shared.config.hooks.thread_stop();
        self.vacate();
        shared.worker_has_left(index);
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.shared.slots[self.index]
    }

    /// The worker counts as started from now on.
    pub(crate) fn enter_loop(&self) {
        if self.shared.idle.started() {
            self.shared.monitor.unpark();
        }
    }

    /// The last step of a worker: it searches no more and will not sleep.
    pub(crate) fn leave_loop(&self) {
        self.stop_searching();
        self.shared.unmark_blocked(self.slot());
        self.shared.idle.stopped();
    }

    /// Does one thing. `cx` names this worker and is the thread's context for the length of the call:
    /// a thread that steps several workers enters the context of each in turn.
    pub(crate) fn step(&self, cx: &Context<'_>) -> Step {
        let tick = self.tick.get().wrapping_add(1);
        self.tick.set(tick);
        if tick % DRIVER_INTERVAL == 0 {
            self.poll_driver();
        }
        match self.next(tick).or_else(|| self.take_injected()) {
            Some(task) => {
                self.stop_searching();
                self.run(cx, task);
                Step::Ran
            }
            None => self.search(cx),
        }
    }

    /// 1 to 3 of the order.
    fn next(&self, tick: u32) -> Option<Runnable> {
        if tick % INJECTOR_INTERVAL == 0 {
            self.slot().queue.mix(&self.queue);
            if let Some(task) = self.take_some_injected() {
                return Some(task);
            }
        }
        let (lifo, hits) = (&self.slot().lifo, &self.slot().work.lifo_hits);
        if hits.get().wrapping_sub(self.streak_from.get()) < u64::from(LIFO_STREAK)
            || cfg!(heist_bug_12)
        {
            if let Some(task) = lifo.take() {
                hits.add(1);
                return Some(task);
            }
        } else if let Some(task) = lifo.take() {
            let order = order_of(&task);
            self.slot().queue.push(&self.queue, task, order);
        }
        self.streak_from.set(hits.get());
        self.pop()
    }

    fn pop(&self) -> Option<Runnable> {
        self.slot().queue.pop(&self.queue)
    }

    /// 1 of the order. Some more go to the queue, if it has room: there may be as many tasks in the
    /// injector as in the queue. One by one, since a batch would be half of what is there at most.
    fn take_some_injected(&self) -> Option<Runnable> {
        let first = self.shared.take_injected()?;
        let room = LOCAL_QUEUE.saturating_sub(self.queue.len());
        let more = std::iter::from_fn(|| self.shared.take_injected());
        let mut taken = 1;
        for task in more.take(room.min(INJECTOR_BATCH - 1)) {
            self.queue.push(task);
            taken += 1;
        }
        self.slot().work.injected.add(taken);
        Some(first)
    }

    /// 4 of the order.
    fn take_injected(&self) -> Option<Runnable> {
        let injector = &self.shared.injector;
        while !injector.is_empty() {
            match injector.steal_batch_with_limit_and_pop(&self.queue, LOCAL_QUEUE / 2) {
                Steal::Success(task) => {
                    self.slot().work.injected.add(self.batch());
                    return Some(task);
                }
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
        None
    }

    /// How many tasks were just taken from elsewhere: one in hand and what lies in the queue, which
    /// was empty. Thieves may have been there since; the number is for people.
    fn batch(&self) -> u64 {
        1 + self.queue.len() as u64
    }

    /// 5 of the order.
    fn search(&self, cx: &Context<'_>) -> Step {
        if self.shared.threads.is_retry_due(&self.shared) {
            // Another failure may call the error handler, which is user code: see edge 2.
            self.stop_searching();
            self.shared.threads.retry(&self.shared);
        }
        if self.shared.is_forked() {
            // The error handler has forked, and returned in the child.
            return Step::WouldPark;
        }
        if !self.shared.is_parallel() {
            return Step::WouldPark;
        }
        if !self.searching.get() {
            if !self.shared.idle.begin_search(self.shared.search_limit()) {
                return Step::WouldPark;
            }
            self.searching.set(true);
        }
        match self.steal() {
            Stolen::Task(task) => {
                self.stop_searching();
                self.run(cx, task);
                Step::Ran
            }
            Stolen::Contended => Step::Searched,
            Stolen::Nothing => Step::WouldPark,
        }
    }

    /// One look at every other slot.
    fn steal(&self) -> Stolen {
        let mut contended = false;
        let slots = &self.shared.slots;
        let first = self.random(slots.len());
        let victims = || {
            (first..slots.len())
                .chain(0..first)
                .filter(|i| *i != self.index)
        };
        for victim in victims().map(|i| &slots[i]) {
            match victim.queue.steal_into(&self.queue) {
                Steal::Success(task) => {
                    self.slot().work.stolen.add(self.batch());
                    return Stolen::Task(task);
                }
                Steal::Empty => {}
                Steal::Retry => contended = true,
            }
            if victim.has_note(BLOCKED) {
                if let Some(task) = victim.lifo.take() {
                    self.slot().work.stolen.add(1);
                    return Stolen::Task(task);
                }
            }
        }
        if contended {
            Stolen::Contended
        } else {
            Stolen::Nothing
        }
    }

    /// Edge 2 of the sleep protocol: hands the search over if there is more work. Before any user
    /// code runs: who searches stands for all new work, and must be looking for it.
    #[inline]
    pub(crate) fn stop_searching(&self) {
        if self.searching.get() {
            self.hand_over_search();
        }
    }

    #[cold]
    fn hand_over_search(&self) {
        self.searching.set(false);
        if !self.shared.idle.end_search() {
            return;
        }
        if self.sees_work() {
            self.shared.notify(MayStart::Yes);
        } else if self.shared.threads.retry_at() != NEVER {
            // It may have been this worker that was told of a failed start, and what it runs now may block.
            self.shared.notify(MayStart::No);
        }
    }

    /// Whether anything lies where another worker may take it, or where nobody else looks.
    fn sees_work(&self) -> bool {
        let others = |(index, slot): (usize, &crossbeam_utils::CachePadded<Slot>)| {
            index != self.index
                && (!slot.queue.is_empty() || (slot.has_note(BLOCKED) && slot.lifo.is_full()))
        };
        !self.shared.injector.is_empty()
            || !self.slot().queue.is_empty()
            || self.shared.slots.iter().enumerate().any(others)
    }

    /// A task spawned on this thread: to the LIFO slot if that is empty. It displaces nothing, since
    /// of a burst of new tasks none is more urgent than the one before, and filling an empty slot is
    /// all the rest of the burst is spared.
    #[inline]
    pub(crate) fn push_new(&self, task: Runnable) {
        if self.slot().lifo.is_full() || self.queueing.get().is_some() {
            self.push_back(task, Order::Fresh);
        } else if let Some(displaced) = self.slot().lifo.put(task) {
            self.push_back(displaced, Order::Fresh);
        }
    }

    /// A task woken on this thread.
    pub(crate) fn push(&self, task: Runnable) {
        if let Some(order) = self.queueing.get() {
            if order == Order::Fair {
                self.spread.gathered();
            }
            return self.push_back(task, order);
        }
        if let Some(displaced) = self.slot().lifo.put(task) {
            let order = order_of(&displaced);
            self.push_back(displaced, order);
        }
    }

    /// To the queue.
    #[inline]
    fn push_back(&self, task: Runnable, order: Order) {
        self.slot().queue.push(&self.queue, task, order);
        if self.spread.pushed() {
            self.spread();
        }
    }

    /// Runs code that blocks: the LIFO slot is emptied into the queue, where others find it, and
    /// the worker counts as blocked, so that a spare may run.
    pub(crate) fn block<R>(&self, call: impl FnOnce() -> R) -> R {
        if self.shared.is_forked() {
            return call();
        }
        struct Unblock<'a>(&'a Worker);
        impl Drop for Unblock<'_> {
            fn drop(&mut self) {
                self.0.shared.unmark_blocked(self.0.slot());
            }
        }
        if let Some(task) = self.slot().lifo.take() {
            let order = order_of(&task);
            self.slot().queue.push(&self.queue, task, order);
        }
        // Inside another `block` the outer one counts.
        let _unblock = self.shared.mark_blocked(self.slot()).then(|| Unblock(self));
        self.shared.notify(MayStart::Yes);
        if let Some(sim) = &self.shared.sim {
            sim.interlude(&self.shared);
        }
        call()
    }

    /// Wakes a second worker if it is time.
    fn spread(&self) {
        let shared = &self.shared;
        if self.slot().queue.is_empty() {
            return self.spread.rest();
        }
        let counts = shared.idle.counts();
        if counts.searching > 0 || (counts.sleeping == 0 && !shared.can_start()) {
            return self.spread.helpless();
        }
        if self.spread.is_due(shared.seam.now()) {
            shared.notify(MayStart::Yes);
        }
    }

    /// Runs a task and does what its end, or its rest, asks for.
    fn run(&self, cx: &Context<'_>, task: Runnable) {
        match run_task(cx, Some(self.slot()), task) {
            Ran::Done => {}
            Ran::Requeue(task) => self.push_back(task, Order::Fair),
        }
        if self.spread.polled() {
            self.spread();
        }
    }

    /// Lets the driver call wakers. What they wake goes to the queue in the order of events.
    pub(crate) fn poll_driver(&self) {
        // Before any user code: see edge 2. Also where a note of the monitor's is heeded that came after
        // the last poll, and the worker has searched since.
        self.stop_searching();
        self.slot().begin_other();
        self.queueing(Order::Fair, || self.shared.seam.poll(self.index));
        self.end_other();
    }

    /// The end of user code that is no poll of a task: a hook, or wakers.
    fn end_other(&self) {
        // A wish that the driver be polled is not for now: nothing runs before the next look.
        if self.slot().end_poll() & BLOCKED != 0 {
            self.shared.blocked.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What `call` wakes goes to the queue, in its order, and not to the LIFO slot: events of the
    /// driver, and whoever awaits a task that ends. (A task that awaits many others would otherwise
    /// be polled once for each of them, and find the next one not ready.)
    fn queueing<R>(&self, order: Order, call: impl FnOnce() -> R) -> R {
        let outer = self.queueing.replace(Some(order));
        let result = call();
        self.queueing.set(outer);
        result
    }

    /// After a step that found nothing to do: sleeps until something happens, this time comes, or a failed start
    /// is to be tried again, which the next step does.
    pub(crate) fn rest(&self, cx: &Context<'_>, deadline: u64) {
        // Asked after the announcement: whoever sets that time later tells a sleeper.
        self.sleep(cx, || deadline.min(self.shared.threads.retry_at()));
    }

    /// Sleeps until something happens or this time comes. The caller has just found nothing to do.
    pub(crate) fn park(&self, cx: &Context<'_>, deadline: u64) {
        self.sleep(cx, || deadline);
    }

    fn sleep(&self, cx: &Context<'_>, deadline: impl FnOnce() -> u64) {
        if !self.lie_down(cx) {
            return;
        }
        let deadline = deadline();
        let waking = Cell::new(false);
        let mut awake = |wakes| {
            self.get_up();
            if wakes {
                // Wakers are user code: a searcher must not run it (edge 2), and the monitor must see it.
                self.stop_searching();
                self.slot().begin_other();
                waking.set(true);
            }
        };
        self.queueing(Order::Fair, || {
            self.shared.park(self.index, deadline, &mut awake);
        });
        if waking.get() {
            self.end_other();
        }
    }

    /// Announces that this worker sleeps. False if it must not: something was to be done, and the
    /// caller looks again.
    pub(crate) fn lie_down(&self, cx: &Context<'_>) -> bool {
        // A note that came just after the last poll: this worker is not blocked. Heeding it may
        // have woken anything, pinned work included, so the caller looks again.
        let notes = self.slot().take_notes();
        if notes != 0 {
            heed(cx, notes);
            return false;
        }
        self.spread.rest();
        let idle = &self.shared.idle;
        idle.announce(self.index as u32, self.searching.replace(false));
        // A note since then: `announce` has fenced, as `rescue` does between its note and its second
        // look, so one of us notices.
        // The own LIFO slot: an error handler that was called in the search may have spawned.
        let may_sleep = !self.sees_work()
            && !self.slot().lifo.is_full()
            && !self.slot().has_note(BLOCKED | DRIVER_DUE);
        if may_sleep {
            self.slot().work.parks.add(1);
        } else {
            self.get_up();
            // Perhaps for somebody who has the right to search and was interrupted with work in hand.
            spin_loop();
        }
        may_sleep
    }

    /// Takes the announcement back.
    pub(crate) fn get_up(&self) {
        let idle = &self.shared.idle;
        let (left, wake_monitor) = idle.leave(self.index as u32);
        self.searching.set(left == Left::Claimed);
        if wake_monitor {
            self.shared.monitor.unpark();
        }
    }

    /// Ends a spare worker's time, if more are there than are needed, or none is, and nothing waits
    /// for its shard. By number and not by index: when the thread of `run` has left its slot, a
    /// spare may be all that is left.
    fn try_retire(&self) -> bool {
        let shared = &self.shared;
        if self.index < shared.config.workers || shared.seam.is_used(self.index) {
            return false;
        }
        let needed = if shared.needs_worker() {
            shared.needed_workers()
        } else {
            0
        };
        let retired = shared.threads.try_leave(needed);
        if retired {
            self.arrived.set(false);
        }
        retired
    }

    /// How long this worker may sleep. A spare looks now and then whether its time is over, unless
    /// it stays in any case: because nobody is blocked and yet it is not one too many, or for its
    /// shard. `try_retire` may have answered on other numbers a moment ago, so all are read again.
    fn nap(&self) -> u64 {
        let shared = &self.shared;
        let workers = shared.config.workers;
        if self.index < workers {
            return NEVER;
        }
        let stays = shared.seam.is_used(self.index) || !shared.threads.are_more_than(workers);
        if stays && shared.needed_workers() == workers {
            return NEVER;
        }
        let nap = SPARE_NAP.as_nanos() as u64;
        shared.seam.now().saturating_add(nap)
    }

    /// A number below `n`: xorshift, which is all that picking a victim needs.
    fn random(&self, n: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (((x >> 32) * n as u64) >> 32) as usize
    }
}

/// Where in the queue a task from the LIFO slot belongs. New ones among the polled ones would make a
/// tree of spawns grow faster than the polled ones in it have their turns.
#[inline]
fn order_of(task: &Runnable) -> Order {
    match task.header().polls() {
        0 => Order::Fresh,
        _ => Order::Fair,
    }
}

/// What became of a task that was run.
pub(crate) enum Ran {
    Done,
    Requeue(Runnable),
}

/// Starts a task, polls it or delivers its cancellation, and completes it if that was its end.
/// `slot` is that of this thread, for the monitor to see.
pub(crate) fn run_task(cx: &Context<'_>, slot: Option<&Slot>, task: Runnable) -> Ran {
    let mut running = match task.start() {
        Started::Poll(running) => running,
        Started::Drop(running) => {
            cancel(cx, slot, running);
            return Ran::Done;
        }
    };
    let id = watch_id(running.header());
    let current = Current::Task(running.pointer());
    // The end of a task is watched as well: it runs destructors and its joiner's waker.
    let pending = watched(cx, slot, id, current, || {
        if running.poll() {
            complete(cx, running);
            return None;
        }
        Some(running)
    });
    let Some(running) = pending else {
        return Ran::Done;
    };
    let left = cx.left.get();
    let parked = if left & YIELDED != 0 {
        running.yield_run().map(Some)
    } else {
        if left & NOTED != 0 {
            note(cx, &running);
        }
        running.park()
    };
    match parked {
        Ok(None) => Ran::Done,
        Ok(Some(task)) => Ran::Requeue(task),
        Err(abandoned) => {
            cancel(cx, slot, abandoned);
            Ran::Done
        }
    }
}

/// Notes down what the task waits on, which its poll has just said.
#[cold]
fn note(cx: &Context<'_>, task: &Running) {
    list_of(cx, task).note(task, &cx.waits.borrow());
}

/// Pinned tasks are marked for the monitor, which asks the thread of `run` to leave its slot for
/// their sake, and never because of them.
pub(crate) const PINNED: u64 = 1 << 63;

fn watch_id(task: &Header) -> u64 {
    let mark = if task.kind() == Kind::Local {
        PINNED
    } else {
        0
    };
    task.id().as_u64() | mark
}

/// Runs user code as `current`, where the monitor can see how long it takes.
pub(crate) fn watched<R>(
    cx: &Context<'_>,
    slot: Option<&Slot>,
    id: u64,
    current: Current,
    code: impl FnOnce() -> R,
) -> R {
    let Some(slot) = slot else {
        return cx.polling(current, code);
    };
    slot.begin_poll(id);
    let result = cx.polling(current, code);
    let notes = slot.end_poll();
    if notes != 0 {
        heed(cx, notes);
    }
    result
}

/// Does what the monitor has asked for during a poll.
#[cold]
pub(crate) fn heed(cx: &Context<'_>, notes: u8) {
    if notes & BLOCKED != 0 {
        cx.shared.blocked.fetch_sub(1, Ordering::Relaxed);
    }
    if let (true, Some(worker)) = (notes & DRIVER_DUE != 0, cx.worker) {
        worker.spread.look_soon();
        worker.poll_driver();
    }
}

impl Context<'_> {
    /// Edge 2 of the sleep protocol, if this thread is a worker that searches. Before any user code.
    #[inline]
    pub(crate) fn stop_searching(&self) {
        if let Some(worker) = self.worker {
            worker.stop_searching();
        }
    }
}

/// Drops the future of a task that was asked to end, and completes it.
pub(crate) fn cancel(cx: &Context<'_>, slot: Option<&Slot>, mut running: Running) {
    let kind = running.header().kind();
    let error = JoinError::cancelled(&running.header().label(), running.header().why());
    let id = watch_id(running.header());
    let current = Current::Task(running.pointer());
    // Asked before the task can be freed.
    let idle = never_polled(cx, running.header());
    watched(cx, slot, id, current, || {
        running.cancel(error);
        cx.shared.closing.count_cancelled(kind);
        complete(cx, running);
        if let Some(report) = &idle {
            cx.shared.config.hooks.report(report);
        }
    });
}

/// What debug mode says of a task that ends without having begun.
fn never_polled(cx: &Context<'_>, task: &Header) -> Option<Report<'static>> {
    let is_idle = cx.shared.config.debug && task.polls() == 0;
    is_idle.then(|| Report::NeverPolled { task: task.label() })
}

/// The last edges of a task: its unwanted output is destroyed, it leaves its list, whoever waits
/// for it is woken.
pub(crate) fn complete(cx: &Context<'_>, mut running: Running) {
    // Left by the destructor of its future, before other destructors run.
    let at_end = cx.at_end.take();
    let mut kept = true;
    let unseen = running.drop_unwanted(&mut kept);
    // From here on nothing is done as this task: destructors of its values, its joiner's waker, the
    // error handler.
    cx.current.set(Current::Nothing);
    if values::are_used() {
        drop_values(cx, running.header());
    }
    if list_of(cx, &running).unlink(&running) == LastOut::Yes {
        cx.shared.closing.unpark(cx.shared);
    }
    // From here on the task may be freed at any moment.
    let late = match cx.worker {
        Some(worker) => worker.queueing(Order::Fresh, || running.complete(kept)),
        None => running.complete(kept),
    };
    // What it asks may be locked for ever in the child of a fork that a destructor has made.
    if let Some(waker) = at_end.filter(|_| !cx.shared.is_forked()) {
        wake_foreign(waker);
    }
    for error in unseen.iter().chain(late.iter()) {
        cx.shared.closing.count_unseen(error);
        cx.shared.config.hooks.report(&Report::unseen(error));
    }
}

/// Drops a task's values of context variables, before it leaves its list, as its output. Reports a
/// panic of a destructor: the value may be anybody's by now, so it does not take the output's place.
#[cold]
fn drop_values(cx: &Context<'_>, task: &Header) {
    let Some(Err(payload)) = task.side().map(|side| side.values.clear()) else {
        return;
    };
    let error = JoinError::panic(&task.label(), payload);
    cx.shared.closing.count_unseen(&error);
    cx.shared.config.hooks.report(&Report::unseen(&error));
}

fn list_of<'a>(cx: &'a Context<'_>, task: &Running) -> &'a TaskList {
    match (task.header().kind(), cx.local) {
        (Kind::Local, Some(local)) => &local.pinned.tasks,
        (Kind::Blocking, _) => &cx.shared.blocking.tasks,
        _ => cx.shared.tasks.of(task.header().id()),
    }
}

#[cfg(all(test, not(any(heist_loom, heist_shuttle))))]
mod tests;
