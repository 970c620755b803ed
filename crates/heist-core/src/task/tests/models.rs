//! Models of the state word: every pair of edges that can race, with all that the word protects
//! as cells whose exclusivity loom checks.
//!
//! There is no queue here. Whoever is told to push a task runs it at once, on its own thread: so
//! any thread can become the next runner, and nothing but the word itself orders one runner after
//! another. That is stricter than any real queue.
//!
//! Each model says by which change of the code it *fails*; each was tried by hand.

use super::Memory;
use super::state::{
    Abandon, Close, Complete, Entered, JoinCell, Outcome, Park, Snapshot, Start, State, Wake,
};
use crate::models::model;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::sync::Arc as Plain;
use std::sync::atomic::AtomicUsize as Count;

/// What a model counts. Plain atomics: loom runs one thread at a time, and counting must not order
/// anything.
#[derive(Debug, Default)]
struct Counts {
    pushes: Count,
    polls: Count,
    futures_dropped: Count,
    outputs_dropped: Count,
    outputs_taken: Count,
    freed: Count,
}

fn add(count: &Count) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &Count) -> usize {
    count.load(Ordering::Relaxed)
}

/// The result of a task of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Ready,
    Cancelled,
}

/// What the real cell has, with loom's cells.
struct Cell {
    state: State,
    /// Whether the future is still there. Only the runner may touch it.
    future: UnsafeCell<bool>,
    output: UnsafeCell<Option<Output>>,
    /// The number of the waker that was left.
    join_waker: UnsafeCell<Option<usize>>,
    /// Which join wakers were called.
    woken: [AtomicBool; 3],
    /// The allocation.
    memory: Memory,
    /// The list's lock, and whether the task is in the list.
    list: Mutex<bool>,
    /// What the future waits for: ready when this many events are there.
    events: [AtomicBool; 2],
    wanted: usize,
    counts: Plain<Counts>,
}

// SAFETY: loom checks every access to the cells, which is the point of the models.
unsafe impl Sync for Cell {}
// SAFETY: as for `Sync`.
unsafe impl Send for Cell {}

impl Cell {
    fn new(wanted: usize) -> Arc<Cell> {
        let flag = || AtomicBool::new(false);
        Arc::new(Cell {
            state: State::queued(),
            future: UnsafeCell::new(true),
            output: UnsafeCell::new(None),
            join_waker: UnsafeCell::new(None),
            woken: [flag(), flag(), flag()],
            memory: Memory::new(),
            list: Mutex::new(true),
            events: [flag(), flag()],
            wanted,
            counts: Plain::default(),
        })
    }

    /// A use of the allocation.
    fn touch(&self) {
        self.memory.touch();
    }

    fn free(&self) {
        self.memory.free();
        // SAFETY: loom checks that nobody writes.
        self.output
            .with(|output| assert!(unsafe { *output }.is_none(), "an output is left"));
        add(&self.counts.freed);
    }

    /// As `waker::act`, with a worker right here.
    fn act(&self, todo: Wake) {
        match todo {
            Wake::Noted => {}
            Wake::Push => {
                add(&self.counts.pushes);
                self.run();
            }
            Wake::Free => self.free(),
        }
    }

    fn wake_by_ref(&self) {
        self.touch();
        self.act(self.state.wake_by_ref());
    }

    /// As `worker::run_task`, again and again while the runner is told to requeue.
    fn run(&self) {
        loop {
            match self.state.start_run() {
                Start::Drop => return self.finish(Output::Cancelled),
                Start::Poll => match self.poll() {
                    true => return self.finish(Output::Ready),
                    false => match self.state.park() {
                        Park::Idle => return,
                        Park::Requeue => {}
                        Park::Abandoned => return self.finish(Output::Cancelled),
                    },
                },
            }
        }
    }

    fn poll(&self) -> bool {
        self.touch();
        add(&self.counts.polls);
        // SAFETY: loom checks that we are alone.
        self.future
            .with_mut(|future| assert!(unsafe { *future }, "polled after it was dropped"));
        // Relaxed: only the wake makes an event visible.
        let seen = self
            .events
            .iter()
            .filter(|event| event.load(Ordering::Relaxed))
            .count();
        seen >= self.wanted
    }

    /// As `worker::complete` and `Running::complete`.
    fn finish(&self, output: Output) {
        self.touch();
        self.future.with_mut(|future| {
            // SAFETY: loom checks that we are alone, here and below.
            let future = unsafe { &mut *future };
            assert!(std::mem::replace(future, false), "dropped twice");
        });
        add(&self.counts.futures_dropped);
        // SAFETY: as above.
        self.output
            .with_mut(|place| unsafe { *place = Some(output) });
        let mut kept = true;
        self.drop_unwanted(&mut kept);
        *self.list.lock().unwrap() = false;
        loop {
            match self.state.complete(kept) {
                Complete::Unwanted => self.drop_unwanted(&mut kept),
                Complete::Finished => return,
                Complete::Free => return self.free(),
                Complete::WakeJoiner => {
                    self.wake_joiner();
                    if self.state.finish_waking() == Wake::Free {
                        self.free();
                    }
                    return;
                }
            }
        }
    }

    fn drop_unwanted(&self, kept: &mut bool) {
        if *kept && !self.state.snapshot().is_wanted() {
            *kept = false;
            self.drop_output();
        }
    }

    fn drop_output(&self) {
        // SAFETY: loom checks that we are alone.
        let output = self.output.with_mut(|output| unsafe { (*output).take() });
        assert!(output.is_some(), "an output was dropped that is not there");
        add(&self.counts.outputs_dropped);
    }

    fn wake_joiner(&self) {
        // SAFETY: loom checks that we are alone.
        let waker = self.join_waker.with_mut(|cell| unsafe { (*cell).take() });
        if let Some(waker) = waker {
            self.woken[waker].store(true, Ordering::Relaxed);
        }
    }

    /// As `TaskList::abandon`: gives the poll up, under the lock of the list.
    fn abandon(&self) -> bool {
        let listed = self.list.lock().unwrap();
        if !*listed {
            return false;
        }
        match self.state.abandon() {
            Abandon::Over | Abandon::Idle => false,
            Abandon::GivenUp { with_waker } => {
                if with_waker {
                    self.wake_joiner();
                }
                true
            }
        }
    }

    /// As `JoinHandle::poll`, with the waker of that number.
    fn join_poll(&self, waker: usize) -> Joined {
        self.touch();
        let mut outcome = self.state.outcome();
        if outcome == Outcome::Pending && !self.register(waker) {
            outcome = self.state.outcome();
        }
        match outcome {
            Outcome::Pending => Joined::Pending,
            Outcome::Done => {
                // SAFETY: loom checks that we are alone.
                let output = self.output.with_mut(|output| unsafe { (*output).take() });
                add(&self.counts.outputs_taken);
                Joined::Done(output.expect("DONE without an output"))
            }
            Outcome::Abandoned => {
                self.join_drop(false);
                Joined::Abandoned
            }
        }
    }

    /// As `register` in `join.rs`.
    fn register(&self, waker: usize) -> bool {
        match self.state.join_cell() {
            JoinCell::TooLate { .. } => return false,
            JoinCell::Filled if !self.state.unset_join_waker() => return false,
            JoinCell::Filled | JoinCell::Empty => {}
        }
        // SAFETY: loom checks that we are alone.
        self.join_waker
            .with_mut(|cell| unsafe { *cell = Some(waker) });
        self.state.set_join_waker()
    }

    /// As `JoinHandle::drop`.
    fn join_drop(&self, taken: bool) {
        self.touch();
        let ours = match self.state.join_cell() {
            JoinCell::Filled => self.state.unset_join_waker(),
            JoinCell::Empty => true,
            JoinCell::TooLate { given } => !given,
        };
        if ours {
            // SAFETY: loom checks that we are alone.
            self.join_waker.with_mut(|cell| unsafe { (*cell).take() });
        }
        if !taken && self.state.detach() {
            return;
        }
        if !taken {
            assert_eq!(self.state.outcome(), Outcome::Done);
            self.drop_output();
        }
        if self.state.drop_join() == Wake::Free {
            self.free();
        }
    }

    fn waker_drop(&self) {
        self.touch();
        self.act(self.state.drop_waker());
    }

    fn handle_drop(&self) {
        self.touch();
        self.act(self.state.drop_handle());
    }

    /// The end of every model: nothing is left, and nothing happened twice.
    fn assert_gone(&self) {
        let counts = &self.counts;
        assert_eq!(read(&counts.futures_dropped), 1, "{counts:?}");
        assert_eq!(
            read(&counts.outputs_dropped) + read(&counts.outputs_taken),
            1,
            "{counts:?}"
        );
        assert_eq!(read(&counts.freed), 1, "{counts:?} {:?}", self.state);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    Pending,
    Done(Output),
    Abandoned,
}

fn spawn(cell: &Arc<Cell>, f: impl FnOnce(&Cell) + 'static) -> thread::JoinHandle<()> {
    let cell = cell.clone();
    thread::spawn(move || f(&cell))
}

/// A waker writes, then wakes, while the task is queued, running, or parking. The poll that comes
/// after must see what was written, or the task hangs (invariant 5).
///
/// Fails when `notify` compares with Relaxed instead of AcqRel; when it returns early, without a
/// write, because QUEUED is set already; when `start_run` adds with Relaxed; when `park` is two
/// steps (load QUEUED, then subtract).
#[test]
fn models_a_wake_is_seen_by_the_next_poll() {
    // Counted: 51.
    model(25, || {
        let cell = Cell::new(1);
        cell.state.clone_waker();
        let runner = spawn(&cell, Cell::run);
        cell.events[0].store(true, Ordering::Relaxed);
        cell.wake_by_ref();
        runner.join().unwrap();
        assert_eq!(
            cell.state.outcome(),
            Outcome::Done,
            "lost: {:?}",
            cell.state
        );
        cell.waker_drop();
        cell.join_drop(false);
        cell.assert_gone();
    });
}

/// Two wakers race for a task that starts: each one's event must be seen, and only one thread at a
/// time may be the runner.
///
/// Fails as the model before, and when `notify` answers `Push` without regard to RUNNING.
#[test]
fn models_two_wakers_and_a_runner() {
    // Counted: 10256.
    model(5100, || {
        let cell = Cell::new(2);
        cell.state.clone_waker();
        cell.state.clone_waker();
        let first = spawn(&cell, |cell| {
            cell.events[0].store(true, Ordering::Relaxed);
            cell.wake_by_ref();
            cell.waker_drop();
        });
        let second = spawn(&cell, |cell| {
            cell.events[1].store(true, Ordering::Relaxed);
            // By value: the waker's reference becomes QUEUED's.
            cell.touch();
            cell.act(cell.state.wake());
        });
        cell.run();
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(
            cell.state.outcome(),
            Outcome::Done,
            "lost: {:?}",
            cell.state
        );
        cell.join_drop(false);
        cell.assert_gone();
    });
}

/// Three wakers race on an idle task: exactly one of them pushes it.
///
/// Fails when `notify` loads, decides and then sets QUEUED with a separate `fetch_or`.
#[test]
fn models_racing_wakers_push_once() {
    // Counted: 216.
    model(100, || {
        let state = Arc::new(State::queued());
        assert_eq!(state.start_run(), Start::Poll);
        assert_eq!(state.park(), Park::Idle);
        let wake = |state: &State| usize::from(state.wake_by_ref() == Wake::Push);
        let [a, b] = [(), ()].map(|()| {
            let state = state.clone();
            thread::spawn(move || wake(&state))
        });
        let pushed = usize::from(state.request_cancel() == Wake::Push);
        let pushed = pushed + a.join().unwrap() + b.join().unwrap();
        assert_eq!(pushed, 1);
        assert_eq!(state.start_run(), Start::Drop);
    });
}

/// A task that yields is woken meanwhile: it is pushed once, by the runner, and whoever runs it next
/// sees what this poll did to the future. Nothing but the word hands it over.
///
/// Fails when `yield_run` stores instead of comparing (a waker's count is lost), when it compares
/// with Relaxed, and when `notify` answers `Push` without regard to RUNNING.
#[test]
fn models_yield_against_wake() {
    // Counted: 46.
    model(23, || {
        let cell = Cell::new(1);
        cell.state.clone_waker();
        // Relaxed, both of them: they order nothing.
        let queue = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicBool::new(false));
        assert_eq!(cell.state.start_run(), Start::Poll);
        let other = {
            let (queue, received) = (queue.clone(), received.clone());
            spawn(&cell, move |cell| {
                cell.events[0].store(true, Ordering::Relaxed);
                cell.touch();
                cell.act(cell.state.wake());
                if queue.load(Ordering::Relaxed) {
                    received.store(true, Ordering::Relaxed);
                    cell.run();
                }
            })
        };
        // Ready or not, it asks for another turn.
        let _ = cell.poll();
        assert_eq!(cell.state.yield_run(), Park::Requeue);
        queue.store(true, Ordering::Relaxed);
        other.join().unwrap();
        if !received.load(Ordering::Relaxed) {
            cell.run();
        }
        assert_eq!(cell.state.outcome(), Outcome::Done);
        cell.join_drop(false);
        cell.assert_gone();
    });
}

/// A cancel request races with the poll that makes the task ready, while the handle waits: one of
/// both results, the future dropped once, the handle gets the output.
///
/// Fails when `start_run` looks at CANCEL in a load before its addition (the request is lost), and
/// when `complete` stores with Relaxed (the output is not visible).
#[test]
fn models_cancel_complete_join() {
    // Counted: 3531.
    model(1700, || {
        let cell = Cell::new(1);
        cell.state.clone_handle();
        let runner = spawn(&cell, Cell::run);
        let canceller = spawn(&cell, |cell| {
            cell.touch();
            cell.act(cell.state.request_cancel());
            cell.handle_drop();
        });
        let early = cell.join_poll(0);
        runner.join().unwrap();
        canceller.join().unwrap();
        let joined = match early {
            Joined::Pending => {
                assert!(
                    cell.woken[0].load(Ordering::Relaxed),
                    "the joiner was not woken"
                );
                cell.join_poll(0)
            }
            early => early,
        };
        assert_eq!(joined, Joined::Done(Output::Cancelled));
        cell.join_drop(true);
        cell.assert_gone();
    });
}

/// The handle registers a waker and then another one while the task completes: the last one that
/// stayed is woken, or the handle sees the end; the cell is never in two hands.
///
/// Fails when `update_join` ignores DONE or compares with Relaxed, and when `complete` compares with
/// Relaxed, Acquire alone or Release alone.
#[test]
fn models_register_against_completion() {
    // Counted: 208.
    model(100, || {
        let cell = Cell::new(0);
        let runner = spawn(&cell, Cell::run);
        let mut joined = cell.join_poll(0);
        let mut last = 0;
        if joined == Joined::Pending {
            joined = cell.join_poll(1);
            last = 1;
        }
        runner.join().unwrap();
        if joined == Joined::Pending {
            assert!(
                cell.woken[last].load(Ordering::Relaxed),
                "the joiner was not woken"
            );
            joined = cell.join_poll(2);
        }
        assert_eq!(joined, Joined::Done(Output::Ready));
        cell.join_drop(true);
        cell.assert_gone();
    });
}

/// The handle is dropped, with or without a waker in the cell, while the task completes: the
/// output is destroyed once, by whoever owns it, and the task is freed once.
///
/// Fails when `detach` does not look at DONE, or `complete` not at JOIN (output left or dropped
/// twice), when `JoinHandle::drop` empties the cell without `unset_join_waker`, when `detach` or
/// `finish_waking` let go with Relaxed, and when `join_cell` loads with Relaxed.
#[test]
fn models_drop_of_the_handle_against_completion() {
    for polled in [false, true] {
        // Counted: 35.
        model(17, move || {
            let cell = Cell::new(0);
            if polled {
                assert_eq!(cell.join_poll(0), Joined::Pending);
            }
            let runner = spawn(&cell, Cell::run);
            cell.join_drop(false);
            runner.join().unwrap();
            cell.assert_gone();
        });
    }
}

/// A waker used up by a wake, an abort handle, the join handle and the runner let go at the same time:
/// the last of them frees the task, once, after all others' uses.
///
/// Fails when `release` subtracts with less than AcqRel, and when the look of `drop_join` is Relaxed.
#[test]
fn models_the_last_reference_frees() {
    // Counted: 2929.
    model(1400, || {
        let cell = Cell::new(0);
        cell.state.clone_waker();
        cell.state.clone_handle();
        let waker = spawn(&cell, |cell| {
            cell.touch();
            cell.act(cell.state.wake());
        });
        let handle = spawn(&cell, Cell::handle_drop);
        cell.run();
        cell.join_drop(false);
        waker.join().unwrap();
        handle.join().unwrap();
        cell.assert_gone();
    });
}

/// The same with the runner on its own thread and the handle's look in `drop_join`.
///
/// Fails as the model before.
#[test]
fn models_the_runner_frees_or_a_handle() {
    // Counted: 531.
    model(260, || {
        let cell = Cell::new(0);
        cell.state.clone_waker();
        let runner = spawn(&cell, Cell::run);
        let waker = spawn(&cell, Cell::waker_drop);
        cell.join_drop(false);
        runner.join().unwrap();
        waker.join().unwrap();
        cell.assert_gone();
    });
}

/// The end of the loop gives a running poll up while the poll comes back and the handle, which
/// left a waker earlier, is polled again: the cell is never in two hands, the future is dropped once
/// by the runner, and the handle is woken or knows.
///
/// Fails when `join_cell` asks for JOIN_WAKER alone, or without ABANDONED in the same load, since
/// `abandon` clears JOIN_WAKER and then owns the cell; when that load is Relaxed; when `abandon`
/// compares with Relaxed or does not set QUEUED; when `update_join` ignores ABANDONED. That `park`
/// looks at ABANDONED is a short cut: QUEUED alone keeps the task from being let go of.
#[test]
fn models_abandon_against_the_poll_and_the_handle() {
    for ready in [false, true] {
        // Counted: 1060.
        model(530, move || {
            let cell = Cell::new(usize::from(!ready));
            assert_eq!(cell.join_poll(0), Joined::Pending);
            // The poll has begun.
            assert_eq!(cell.state.start_run(), Start::Poll);
            let runner = spawn(&cell, |cell| {
                if cell.poll() {
                    return cell.finish(Output::Ready);
                }
                match cell.state.park() {
                    Park::Idle => {}
                    Park::Requeue => cell.run(),
                    Park::Abandoned => cell.finish(Output::Cancelled),
                }
            });
            let waits = Arc::new(AtomicBool::new(false));
            let joiner = {
                let waits = waits.clone();
                spawn(&cell, move |cell| match cell.join_poll(1) {
                    Joined::Pending => waits.store(true, Ordering::Relaxed),
                    Joined::Done(_) => cell.join_drop(true),
                    Joined::Abandoned => {}
                })
            };
            let abandoned = cell.abandon();
            joiner.join().unwrap();
            runner.join().unwrap();
            if cell.state.outcome() == Outcome::Pending {
                assert!(!ready && !abandoned, "{:?}", cell.state);
                // It parked before it could be given up: the end of the loop cancels it.
                cell.act(cell.state.request_cancel());
            }
            if waits.load(Ordering::Relaxed) {
                let woken = cell.woken.iter().any(|woken| woken.load(Ordering::Relaxed));
                assert!(woken, "the joiner was not woken: {:?}", cell.state);
                if let Joined::Done(_) = cell.join_poll(2) {
                    cell.join_drop(true);
                }
            }
            cell.assert_gone();
        });
    }
}

/// Somebody asks for the end of a task while its poll comes to rest: the end of the loop, the end of its grace, or the
/// last region, which leaves its request. Whoever then drops the task sees what came before that.
///
/// Fails when the compare-exchange of `request_close`, `doom` or `leave_region` has no Release.
#[test]
fn models_who_drops_a_task_sees_what_came_before_the_request() {
    let close = |state: &State| state.request_close() == Close::Push;
    let doom = |state: &State| state.doom().0 == Wake::Push;
    let leave = |state: &State| state.leave_region(true) == Wake::Push;
    let asks: [fn(&State) -> bool; 3] = [close, doom, leave];
    for (number, ask) in asks.into_iter().enumerate() {
        // Counted: 7, 7 and 7.
        model(3, move || {
            let task = Arc::new((State::queued(), AtomicBool::new(false)));
            assert_eq!(task.0.start_run(), Start::Poll);
            if number == 2 {
                assert_eq!(task.0.enter_region(), Entered::Clear);
            }
            let drops = |task: &(State, AtomicBool)| {
                assert_eq!(task.0.start_run(), Start::Drop);
                assert!(task.1.load(Ordering::Relaxed), "it is not seen");
            };
            let asker = thread::spawn({
                let task = task.clone();
                move || {
                    task.1.store(true, Ordering::Relaxed);
                    if ask(&task.0) {
                        drops(&task);
                    }
                }
            });
            match task.0.park() {
                Park::Idle => {}
                Park::Requeue => drops(&task),
                Park::Abandoned => panic!("nobody gives it up"),
            }
            asker.join().unwrap();
            assert!(task.0.snapshot().is_running(), "{:?}", task.0);
        });
    }
}

/// Two looks at a task, as those of the proof in `deadlock.rs`, while it is woken by its one waker and polled. A poll
/// that came between them is in the second count.
///
/// Fails when `latest` is Release alone, and when it is a load. (That it is Release, too, keeps a count from being read too late, which loom never
/// does.)
#[test]
fn models_a_poll_between_two_looks_is_counted() {
    // Counted: 87.
    model(43, || {
        // The word, and `Header::polls`.
        let task = Arc::new((State::queued(), AtomicU32::new(0)));
        assert_eq!(task.0.start_run(), Start::Poll);
        task.0.clone_waker();
        assert_eq!(task.0.park(), Park::Idle);
        let runner = thread::spawn({
            let task = task.clone();
            move || {
                assert_eq!(task.0.wake(), Wake::Push);
                assert_eq!(task.0.start_run(), Start::Poll);
                task.1.store(1, Ordering::Relaxed);
                assert_eq!(task.0.park(), Park::Idle);
            }
        });
        let before = task.1.load(Ordering::Relaxed);
        let first = task.0.latest();
        let second = task.0.latest();
        let after = task.1.load(Ordering::Relaxed);
        let rests = |word: Snapshot| !word.is_queued() && !word.is_running();
        let is_between = rests(first) && rests(second) && first.wakers() > second.wakers();
        assert!(
            !is_between || after > before,
            "it is taken for idle all the time"
        );
        runner.join().unwrap();
    });
}
