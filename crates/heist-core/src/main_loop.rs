//! The thread of `run`: polls `main` and local tasks, and works on a slot beside that.
//!
//! Before every Send task the thread looks at its pinned work, and it runs at most one local task
//! between two Send tasks, so that neither kind starves the other. If a Send task blocks this
//! thread while pinned work waits, the monitor asks it to leave its slot, and for the rest of the
//! run it takes no Send tasks.

#![forbid(unsafe_code)]

use crate::closing::{Cleanup, ShutdownReport, close_here};
use crate::config::MainThread;
use crate::context::{self, Context, Current, NOTED, Role};
use crate::deadlock::Deadlock;
use crate::graces::Graces;
use crate::hooks::{Report, drop_beside_panic, drop_payload};
use crate::inspect;
use crate::pinned::Local;
use crate::seam::NEVER;
use crate::shared::{MayStart, Shared};
use crate::slot::Slot;
use crate::task::Runnable;
use crate::values::Values;
use crate::worker::{PINNED, Ran, Step, Worker, heed, run_task, watched};
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// See the module.
pub(crate) struct MainLoop {
    shared: Arc<Shared>,
    local: Local,
    worker: Option<Worker>,
    site: &'static Location<'static>,
}

/// What became of `main`.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was ready.
    Output(T),
    /// It panicked, in a poll or in its destructor.
    Panicked(Box<dyn Any + Send>),
    /// Somebody asked for its end ([`AbortHandle`](crate::AbortHandle), [`cancel_main`](crate::cancel_main)).
    Cancelled,
    /// Nothing is left that could ever wake it; see `deadlock.rs`.
    Deadlock(Deadlock),
    /// This is the child of a fork that `main` or a task on its thread has made, and the runtime is
    /// the parent's. `main` was not ready, and was dropped.
    Forked,
}

impl MainLoop {
    /// Takes a free slot, if there is one and the configuration wants it.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        values: Arc<Values>,
        site: &'static Location<'static>,
    ) -> MainLoop {
        let mut main = MainLoop {
            shared: shared.clone(),
            local: Local::new(shared, values),
            worker: None,
            site,
        };
        *shared.present.lock() = Arc::downgrade(&main.local.pinned);
        let dedicated = shared.config.main_thread == MainThread::Dedicated;
        if !dedicated || shared.threads.ensure_worker(shared).is_err() {
            main.take_slot();
        }
        main
    }

    /// Becomes a worker, if there is a vacant slot.
    fn take_slot(&mut self) {
        let shared = &self.shared;
        let workers = shared.config.workers;
        if let Some(worker) = (0..workers).find_map(|index| Worker::occupy(shared, index)) {
            worker.arrive();
            worker.enter_loop();
            self.local.pinned.set_slot(Some(worker.index()));
            shared
                .closing
                .set_main(Some((self.local.pinned.clone(), worker.index())));
            self.worker = Some(worker);
        }
    }

    /// Polls `future` to its end, its panic, or a request for its end, and drops it.
    pub(crate) fn run<F: Future>(&mut self, future: F) -> Outcome<F::Output> {
        let mut future = pin!(Some(future));
        let waker = Waker::from(self.local.pinned.clone());
        if self.shared.config.detect_deadlock {
            self.shared.monitor.wanted(&self.shared);
        }
        let outcome = loop {
            let outcome = self.enter(|main, cx| main.run_on_slot(cx, future.as_mut(), &waker));
            match outcome {
                Some(outcome) => break outcome,
                None => self.make_way(),
            }
        };
        let dropped = self.enter(|main, cx| {
            cx.stop_searching();
            #[cfg(heist_bug_35)]
            future.set(None);
            main.watched(cx, || future.set(None))
        });
        self.local.pinned.main_has_ended();
        match (outcome, dropped) {
            (outcome, Ok(())) => outcome,
            (Outcome::Output(output), Err(payload)) => {
                // As for tasks: a panic of the destructor takes the output's place.
                drop_beside_panic(output);
                Outcome::Panicked(payload)
            }
            (Outcome::Cancelled | Outcome::Deadlock(_) | Outcome::Forked, Err(payload)) => {
                Outcome::Panicked(payload)
            }
            (Outcome::Panicked(first), Err(second)) => {
                drop_payload(second);
                self.shared.config.hooks.report(&Report::MainDropPanicked);
                Outcome::Panicked(first)
            }
        }
    }

    /// Runs `code` with this thread's context.
    fn enter<R>(&self, code: impl FnOnce(&MainLoop, &Context<'_>) -> R) -> R {
        let mut cx = Context::new(&self.shared, Role::Worker, self.site);
        cx.worker = self.worker.as_ref();
        cx.local = Some(&self.local);
        cx.values = Some(&self.local.values);
        context::enter(&cx, || code(self, &cx))
    }

    /// The loop. `None` when the thread is to leave its slot.
    fn run_on_slot<F: Future>(
        &self,
        cx: &Context<'_>,
        mut future: Pin<&mut Option<F>>,
        waker: &Waker,
    ) -> Option<Outcome<F::Output>> {
        loop {
            let mut ran = false;
            if self.local.pinned.take_attention() {
                if self.worker.is_some() && self.local.pinned.is_evicted() {
                    // The rest of what called for attention has not been looked at.
                    self.local.pinned.call_attention();
                    return None;
                }
                if self.local.take_main_woken() {
                    // Before any user code: see edge 2. A request that `main` is handed calls wakers.
                    cx.stop_searching();
                    if self.local.pinned.must_drop_main(self.site) {
                        return Some(Outcome::Cancelled);
                    }
                    if let Some(main) = future.as_mut().as_pin_mut() {
                        match self.poll_main(cx, main, waker) {
                            Ok(Poll::Pending) => ran = true,
                            Ok(Poll::Ready(output)) => return Some(Outcome::Output(output)),
                            Err(payload) => return Some(Outcome::Panicked(payload)),
                        }
                    }
                    // In the child of a fork no other task may run.
                    if self.shared.closing.is_requested() && self.shared.is_forked() {
                        return Some(Outcome::Forked);
                    }
                }
                if let Some(task) = self.local.next() {
                    self.run_local(cx, task);
                    ran = true;
                }
                self.local.looked();
            }
            let step = match &self.worker {
                // As after a poll of `main`.
                _ if ran && self.shared.closing.is_requested() && self.shared.is_forked() => {
                    Step::Ran
                }
                Some(worker) => worker.step(cx),
                None => Step::WouldPark,
            };
            match step {
                Step::Ran | Step::Searched => {}
                // A waker has set what it came for and is about to call attention to it.
                Step::WouldPark if self.local.has_work() => self.local.pinned.call_attention(),
                Step::WouldPark if ran => {}
                Step::WouldPark => {
                    if let Some(deadlock) = self.rest(cx) {
                        return Some(Outcome::Deadlock(deadlock));
                    }
                }
            }
            if self.shared.closing.is_requested() && !self.look_up(cx) {
                return Some(Outcome::Forked);
            }
        }
    }

    /// Somebody else is to have a turn, or the end of the loop was asked for. False in the child of a
    /// fork.
    #[cold]
    fn look_up(&self, cx: &Context<'_>) -> bool {
        if let Some(sim) = &self.shared.sim {
            sim.interleave(cx);
        }
        crate::closing::close_as_asked(cx)
    }

    fn poll_main<F: Future>(
        &self,
        cx: &Context<'_>,
        main: Pin<&mut F>,
        waker: &Waker,
    ) -> std::thread::Result<Poll<F::Output>> {
        let polled = self.watched(cx, || main.poll(&mut std::task::Context::from_waker(waker)));
        if self.shared.config.detect_deadlock {
            let mut waits = self.local.waits.borrow_mut();
            waits.clear();
            if cx.left.get() & NOTED != 0 {
                waits.extend_from_slice(&cx.waits.borrow());
            }
        }
        polled
    }

    /// Runs code of `main` where the monitor sees it, and catches its panic.
    fn watched<R>(&self, cx: &Context<'_>, code: impl FnOnce() -> R) -> std::thread::Result<R> {
        let watch = || watched(cx, self.slot(), PINNED, Current::Main, code);
        catch_unwind(AssertUnwindSafe(watch)).inspect_err(|_| {
            // The unwinding skipped the end of the poll.
            cx.current.set(Current::Nothing);
            if let Some(slot) = self.slot() {
                let notes = slot.end_poll();
                heed(cx, notes);
            }
        })
    }

    fn run_local(&self, cx: &Context<'_>, task: Runnable) {
        cx.stop_searching();
        if let Ran::Requeue(task) = run_task(cx, self.slot(), task) {
            self.local.queue.borrow_mut().push_back(task);
        }
    }

    fn slot(&self) -> Option<&Slot> {
        self.worker.as_ref().map(Worker::slot)
    }

    /// Parks while `main` waits. The monitor is told, if it is to find deadlocks, and may answer.
    fn rest(&self, cx: &Context<'_>) -> Option<Deadlock> {
        if let Some(sim) = &self.shared.sim {
            // Of an earlier wait: there may be none now.
            sim.take_stuck();
        }
        if !self.shared.config.detect_deadlock {
            self.park(cx, NEVER);
            return self.stuck();
        }
        let resting = &self.local.pinned.resting;
        resting.begin(&self.local.waits.borrow());
        self.park(cx, NEVER);
        resting.end().or_else(|| self.stuck())
    }

    /// Whether nobody in a simulation can go on: see `sim`.
    fn stuck(&self) -> Option<Deadlock> {
        let sim = self.shared.sim.as_ref()?;
        let is_stuck = sim.take_stuck() && !self.local.has_work();
        is_stuck.then(|| Deadlock {
            main: self.local.waits.borrow().clone(),
            tasks: inspect::tasks(&self.shared),
        })
    }

    /// Parks after a step.
    fn park(&self, cx: &Context<'_>, deadline: u64) {
        match &self.worker {
            Some(worker) => worker.rest(cx, deadline),
            None => self.local.pinned.park(deadline),
        }
    }

    /// Leaves the slot to somebody else for the rest of the run; takes it back if there is nobody.
    fn make_way(&mut self) {
        self.leave_slot();
        if self.shared.threads.ensure_worker(&self.shared).is_err() {
            self.local.pinned.stay();
            self.take_slot();
        }
    }

    /// Gives the slot back, and sees to it that somebody takes it over if it is needed.
    fn leave_slot(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        self.shared.closing.set_main(None);
        let index = worker.index();
        worker.leave_loop();
        worker.vacate();
        self.local.pinned.set_slot(None);
        self.shared.worker_has_left(index);
    }

    /// Ends the local tasks: their futures are dropped here, at once or when their time to clean up is
    /// over.
    fn end_local(&self, graces: &Graces<'_>) -> Cleanup {
        let tasks = &self.local.pinned.tasks;
        let mut cleanup = Cleanup::default();
        self.enter(|main, cx| {
            let push = |task| main.local.queue.borrow_mut().push_back(task);
            if tasks.len() > 0 {
                // What a task waits on in its cleanup is for the report.
                main.shared.look_at();
            }
            let given = tasks.close(main.site, push).run();
            // None of the others can begin to clean up: they run here alone, and not before this.
            let mut is_cleaning = !given.is_empty();
            cleanup.give(given);
            while tasks.len() > 0 {
                if main.shared.is_forked() {
                    return;
                }
                let left = graces.cleanup_left();
                if is_cleaning && !left.is_zero() {
                    main.work(cx, left);
                    continue;
                }
                if is_cleaning {
                    is_cleaning = false;
                    cleanup.drop(tasks.doom(push));
                }
                match main.local.next() {
                    Some(task) => main.run_local(cx, task),
                    // A guest is about to deliver one.
                    None => match &main.worker {
                        Some(worker) => worker.park(cx, NEVER),
                        None => main.local.pinned.park(NEVER),
                    },
                }
            }
        });
        if !self.shared.is_forked() {
            self.local.pinned.close();
        }
        cleanup
    }

    /// A local task and a step, or a sleep of at most this long: local tasks that clean up may wait for
    /// anything.
    fn work(&self, cx: &Context<'_>, at_most: Duration) {
        if let Some(sim) = &self.shared.sim {
            sim.interleave(cx);
        }
        // Nobody polls `main` any more.
        self.local.take_main_woken();
        let mut ran = false;
        if let Some(task) = self.local.next() {
            self.run_local(cx, task);
            ran = true;
        }
        self.local.looked();
        if self.shared.is_forked() {
            return;
        }
        let step = match &self.worker {
            Some(worker) => worker.step(cx),
            None => Step::WouldPark,
        };
        match step {
            Step::Ran | Step::Searched => {}
            Step::WouldPark if ran || self.local.has_work() => {}
            Step::WouldPark => {
                let nap = at_most.as_nanos().min(u128::from(u64::MAX)) as u64;
                let until = self.shared.seam.now().saturating_add(nap);
                self.park(cx, until);
            }
        }
    }

    /// The end of one run of a runtime that goes on.
    pub(crate) fn finish(mut self) {
        let shared = self.shared.clone();
        let graces = Graces::new(&shared, None);
        let _ = self.end_local(&graces);
        if self.shared.is_forked() {
            // The parent's. Leaked with the local tasks that are left.
            return std::mem::forget(self);
        }
        self.leave_slot();
    }

    /// The end of one run and of its runtime.
    pub(crate) fn finish_and_close(mut self) -> ShutdownReport {
        let shared = self.shared.clone();
        let graces = Graces::new(&shared, None);
        let cleanup = self.end_local(&graces);
        let mut report = ShutdownReport::default();
        if !self.shared.is_forked() {
            let closed = self.enter(|_, cx| close_here(cx, &graces, cleanup));
            report = closed.unwrap_or_default();
        }
        if self.shared.is_forked() {
            std::mem::forget(self);
        } else {
            self.leave_slot();
        }
        report
    }
}

impl Drop for MainLoop {
    fn drop(&mut self) {
        // Only if something above panicked, which would be a bug of ours: the slot must not be lost.
        if let Some(worker) = self.worker.take().filter(|_| !self.shared.is_forked()) {
            self.shared.closing.set_main(None);
            worker.vacate();
            self.shared.notify(MayStart::Yes);
        }
    }
}
