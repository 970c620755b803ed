//! The program of a seed: a tree of tasks that do at random what programs do.
//!
//! Whatever the dice say, the program can go on until its end. A task waits only for time, for tasks it has
//! spawned itself, and for the other end of something that says so when it is dropped. So a run that cannot
//! go on is a bug of the runtime.
//!
//! What the dice say comes from the seed alone and not from the simulation, and every task takes dice of its own
//! from its spawner. So what a task does depends neither on the order in which tasks run nor on what others do.
#![forbid(unsafe_code)]

use super::ledger::{Failed, Given, Kind, Ledger, Output, Watched, Work, panic_on_purpose};
use super::{Fault, LATE, LATE_IN_STALLS};
use futures::future::{Either, join_all, select};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use heist::time::{Instant, sleep, sleep_until, timeout};
use heist::{JoinError, JoinHandle, TaskGroup, catch_cancel, shield, sim, yield_now};
use heist_tests::dice::Dice;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The longest sleep, of virtual time.
const NAP: Duration = Duration::from_millis(20);

/// The most steps that a task takes.
const STEPS: usize = 8;

/// How deep the tree is. Below it, tasks spawn nothing.
const DEPTH: usize = 4;

/// What all tasks of a program share.
pub(super) struct World {
    pub(super) ledger: Arc<Ledger>,
    /// How many more tasks it may have, so that every program is small.
    room: AtomicUsize,
    /// Whether its tasks block their threads.
    blocks: bool,
    /// Handles that outlive the run.
    kept: Mutex<Vec<Task>>,
}

impl World {
    pub(super) fn new(ledger: Arc<Ledger>, room: usize, blocks: bool) -> World {
        World {
            ledger,
            room: AtomicUsize::new(room),
            blocks,
            kept: Mutex::default(),
        }
    }

    /// What was kept, when the runtime has ended: every handle is ready.
    pub(super) fn look_at_what_was_kept(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        for mut task in kept {
            let cx = &mut std::task::Context::from_waker(Waker::noop());
            match Pin::new(&mut task.handle).poll(cx) {
                Poll::Ready(said) => self.ledger.seen(task.nth, said.as_ref()),
                Poll::Pending => {
                    let complaint =
                        format!("the handle of {} is not ready after the end", task.nth);
                    self.ledger.complain(complaint);
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        let room = self.room.load(Ordering::Relaxed);
        self.room.store(room.saturating_sub(1), Ordering::Relaxed);
        room > 0
    }

    /// Time has passed that should not have: somebody was woken late.
    fn is_punctual(&self, what: &str, due: Instant) {
        if self.blocks {
            // Nobody promises anything if all workers are blocked, or for work that is pinned to one.
            return;
        }
        let late = due.elapsed();
        let limit = if heist_core::sim::has_stalls() {
            LATE_IN_STALLS
        } else {
            LATE
        };
        if late > limit {
            self.ledger
                .complain(format!("{what} went on {late:?} after it could"));
        }
    }
}

/// A spawned task and its number in the books.
struct Task {
    nth: usize,
    handle: JoinHandle<Given>,
}

/// A task of the program, while it runs.
struct Node {
    world: Arc<World>,
    dice: Dice,
    depth: usize,
    /// Whether it may spawn local tasks.
    is_pinned: bool,
}

/// A task's work.
pub(super) fn node(world: &Arc<World>, dice: Dice, depth: usize, is_pinned: bool) -> Work {
    let mut node = Node {
        world: Arc::clone(world),
        dice,
        depth,
        is_pinned,
    };
    Box::pin(async move {
        for _ in 0..=node.dice.below(STEPS) {
            node.step().await;
        }
        match node.dice.one_in(10) {
            true => Err(()),
            false => Ok(()),
        }
    })
}

/// What `main` does in this seed.
pub(super) async fn main(world: Arc<World>, mut dice: Dice) {
    let work = node(&world, dice.fork(), 0, true);
    match dice.below(6) {
        // The end comes at any moment, with work left.
        0 | 1 => drop(timeout(dice.length(NAP), work).await),
        2 => {
            let _ = work.await;
            panic_on_purpose();
        }
        3 => {
            // A task ends main.
            let main = heist::task::AbortHandle::current();
            let nap = dice.length(NAP);
            let mut node = Node {
                world,
                dice,
                depth: DEPTH,
                is_pinned: true,
            };
            let executioner = node.spawn(Box::pin(async move {
                sleep(nap).await;
                main.abort();
                Ok(())
            }));
            let _ = work.await;
            if let Some(task) = executioner {
                node.join(task).await;
                yield_now().await;
            }
        }
        _ => drop(work.await),
    }
}

impl Node {
    /// One thing that a program does.
    async fn step(&mut self) {
        let is_leaf = self.depth >= DEPTH;
        match self.dice.below(if is_leaf { 6 } else { 24 }) {
            0 | 1 => yield_now().await,
            2 | 3 => self.nap().await,
            4 if self.depth > 0 && self.dice.one_in(4) => panic_on_purpose(),
            5 if self.world.blocks => self.block(),
            4 | 5 => self.call().await,
            6 | 7 => self.await_child().await,
            8 => self.leave_child(),
            9 => self.keep_child(),
            10 | 11 => self.cancel_child().await,
            12 => self.await_several().await,
            13 => self.limit_child().await,
            14 => self.limit_work().await,
            15 => self.shield_child().await,
            16 | 17 => self.group().await,
            18 => self.catch().await,
            19 | 20 => self.talk().await,
            21 => self.ring().await,
            22 => self.channel().await,
            _ => self.race().await,
        }
    }

    // ---- spawning ----

    /// A child's work.
    fn work(&mut self, is_pinned: bool) -> Work {
        node(&self.world, self.dice.fork(), self.depth + 1, is_pinned)
    }

    /// A child, in one of the ways there are.
    fn child(&mut self) -> Option<Task> {
        if self.is_pinned && self.dice.one_in(3) {
            let work = self.work(true);
            return self.place(work, heist::spawn_local);
        }
        let work = self.work(false);
        if self.dice.one_in(5) {
            return self.place(work, heist::spawn_fallible);
        }
        self.spawn(work)
    }

    fn spawn(&mut self, work: Work) -> Option<Task> {
        self.place(work, heist::spawn)
    }

    fn place(
        &mut self,
        work: Work,
        spawn: impl FnOnce(Watched) -> JoinHandle<Given>,
    ) -> Option<Task> {
        let watched = self.watched(Kind::Task, work)?;
        let nth = watched.nth();
        let handle = self.booked(nth, || spawn(watched));
        Some(Task { nth, handle })
    }

    fn watched(&mut self, kind: Kind, work: Work) -> Option<Watched> {
        let is_bomb = self.dice.one_in(40);
        let ledger = &self.world.ledger;
        self.world
            .has_room()
            .then(|| Watched::new(ledger.enter(kind, is_bomb), work))
    }

    /// Books a call that spawns, also if the future is dropped in it and its destructor panics.
    fn booked<T>(&self, nth: usize, spawn: impl FnOnce() -> T) -> T {
        let spawned = catch_unwind(AssertUnwindSafe(spawn));
        self.world.ledger.spawned(nth);
        spawned.unwrap_or_else(|payload| resume_unwind(payload))
    }

    // ---- waiting ----

    async fn join(&self, task: Task) {
        let said = task.handle.await;
        self.see(task.nth, said);
    }

    fn see(&self, nth: usize, said: Result<Given, JoinError>) {
        self.world.ledger.seen(nth, said.as_ref());
        match said {
            Ok(Ok(output) | Err(Failed(output))) if self.world.ledger.takes(Fault::Leaks) => {
                std::mem::forget::<Output>(output);
            }
            _ => {}
        }
    }

    async fn nap(&mut self) {
        let due = Instant::now() + self.dice.length(NAP);
        sleep_until(due).await;
        self.world.is_punctual("a sleeper", due);
        if self.world.ledger.takes(Fault::DependsOnMore) {
            static RUNS: AtomicUsize = AtomicUsize::new(1);
            let runs = RUNS.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_micros(runs as u64)).await;
        }
    }

    /// Holds its worker up, announced or not.
    fn block(&mut self) {
        let length = self.dice.length(NAP / 2);
        if self.dice.one_in(2) {
            sim::stall(length);
        } else {
            heist::block_in_place(|| sim::stall(length));
        }
    }

    /// A closure of the blocking pool, mostly awaited.
    async fn call(&mut self) {
        if !self.world.has_room() {
            return;
        }
        let ticket = self.world.ledger.enter(Kind::Closure, false);
        let nth = ticket.nth();
        let panics = self.dice.one_in(8);
        let call = move || {
            Ok(ticket.call(|| {
                if panics {
                    panic_on_purpose();
                }
            }))
        };
        let handle = self.booked(nth, || heist::spawn_blocking(call));
        match self.dice.below(5) {
            0 => drop(handle),
            1 => handle.abort(),
            _ => self.join(Task { nth, handle }).await,
        }
    }

    async fn await_child(&mut self) {
        if let Some(task) = self.child() {
            self.join(task).await;
        }
    }

    fn leave_child(&mut self) {
        drop(self.child());
    }

    fn keep_child(&mut self) {
        let kept = self.child();
        let all = &mut *self
            .world
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.extend(kept);
    }

    /// Asks a child for its end, at once or later, once or twice.
    async fn cancel_child(&mut self) {
        let Some(task) = self.child() else { return };
        if self.dice.one_in(2) {
            self.nap().await;
        }
        if self.dice.one_in(2) {
            task.handle.abort();
            if self.dice.one_in(2) {
                yield_now().await;
                task.handle.abort_with("asked twice");
            }
            self.join(task).await;
        } else {
            let said = task.handle.cancel().await;
            self.see(task.nth, said);
        }
    }

    async fn await_several(&mut self) {
        let tasks: Vec<Task> = (0..3).filter_map(|_| self.child()).collect();
        let waits = tasks
            .into_iter()
            .map(|task| async move { (task.nth, task.handle.await) });
        for (nth, said) in join_all(waits).await {
            self.see(nth, said);
        }
    }

    /// Time for a child is limited, and it ends with its limit.
    async fn limit_child(&mut self) {
        let Some(Task { nth, handle }) = self.child() else {
            return;
        };
        let limit = self.dice.length(NAP);
        if let Ok(said) = timeout(limit, handle.cancel_on_drop()).await {
            self.see(nth, said);
        }
    }

    /// Time for something that is no task is limited.
    async fn limit_work(&mut self) {
        let work = self.work(self.is_pinned);
        let limit = self.dice.length(NAP);
        if self.dice.one_in(2) {
            let _ = timeout(limit, work).await;
        } else {
            let cleanup = self.dice.length(NAP);
            let careful = clean_up(Arc::clone(&self.world), self.dice.fork(), work);
            let _ = timeout(limit, careful).cleanup_within(cleanup).await;
        }
    }

    async fn shield_child(&mut self) {
        let Some(Task { nth, handle }) = self.child() else {
            return;
        };
        let limit = self.dice.length(NAP);
        if let Ok(said) = timeout(limit, shield(handle)).await {
            self.see(nth, said);
        }
    }

    // ---- groups ----

    async fn group(&mut self) {
        let mut builder = TaskGroup::builder();
        if self.dice.one_in(2) {
            builder = builder.concurrency(1 + self.dice.below(3));
        }
        if self.dice.one_in(2) {
            builder = builder.supervise();
        }
        // A panic that is not collected ends this task as well.
        if !self.dice.one_in(8) {
            builder = builder.collect_panics();
        }
        let children = self.dice.below(5);
        let ended = builder.run(async |group: TaskGroup| {
            for _ in 0..children {
                let work = self.work(false);
                let Some(watched) = self.watched(Kind::Child, work) else {
                    break;
                };
                let nth = watched.nth();
                let child = self.booked(nth, || group.spawn(watched));
                match self.dice.below(4) {
                    0 => drop(child.await),
                    1 => yield_now().await,
                    _ => {}
                }
            }
            if self.dice.one_in(6) {
                group.cancel();
            }
            if self.dice.one_in(6) {
                return Err("the body fails on purpose".into());
            }
            Ok(())
        });
        drop(ended.await);
    }

    // ---- cancellation ----

    /// Catches a request to end, or not, and cleans up.
    async fn catch(&mut self) {
        let work = self.work(self.is_pinned);
        let _ = clean_up(Arc::clone(&self.world), self.dice.fork(), work).await;
    }

    /// The loser of two is dropped.
    async fn race(&mut self) {
        let [left, right] = [self.work(self.is_pinned), self.work(self.is_pinned)];
        match select(left, right).await {
            Either::Left((_, rest)) | Either::Right((_, rest)) if self.dice.one_in(3) => {
                let _ = rest.await;
            }
            _ => {}
        }
    }

    // ---- talking ----

    /// Sends bytes to a child through a stream that the simulation cuts and resets.
    async fn talk(&mut self) {
        let resets = [0, 0, 10, 50][self.dice.below(4)];
        let (mut here, there) = sim::Duplex::new(1 + self.dice.below(64))
            .reset_one_in(resets)
            .delays_up_to(self.dice.length(NAP))
            .pair();
        let length = self.dice.below(200);
        let sender = self.spawn(Box::pin(
            async move { send(there, length).await.map_err(drop) },
        ));
        let Some(task) = sender else { return };
        let mut received = Vec::new();
        let ended = here.read_to_end(&mut received).await;
        if received
            .iter()
            .zip(0..)
            .any(|(byte, nth)| *byte != byte_of(nth))
        {
            self.world
                .ledger
                .complain("a stream has mixed up its bytes");
        }
        match (ended, resets) {
            (Ok(_), _) if received.len() > length => {
                self.world
                    .ledger
                    .complain("a stream has bytes that nobody wrote");
            }
            (Err(error), 0) => self
                .world
                .ledger
                .complain(format!("a stream fails: {error}")),
            (Err(error), _) if error.kind() != io::ErrorKind::ConnectionReset => {
                self.world
                    .ledger
                    .complain(format!("a stream fails: {error}"));
            }
            _ => {}
        }
        drop(here);
        self.join(task).await;
    }

    /// Rings a bell that a child waits for.
    async fn ring(&mut self) {
        let bell = Arc::new(Bell::default());
        let (world, heard) = (Arc::clone(&self.world), Arc::clone(&bell));
        let child = self.spawn(Box::pin(async move {
            let begin = Instant::now();
            let rung = heard.wait().await;
            world.is_punctual("who waits for a bell", begin.max(rung));
            Ok(())
        }));
        let Some(task) = child else { return };
        // Rung also if this task ends in its sleep.
        let ringer = Ringer(bell, Arc::clone(&self.world));
        if self.dice.one_in(2) {
            self.nap().await;
        }
        if self.world.ledger.takes(Fault::WakesLate) {
            let late = Instant::now();
            sleep(2 * LATE_IN_STALLS).await;
            ringer.0.ring_as_of(late);
        }
        drop(ringer);
        self.join(task).await;
    }

    /// A child sends numbers, and all of them come, in order.
    async fn channel(&mut self) {
        let (tell, told) = async_channel::bounded(1 + self.dice.below(4));
        let count = self.dice.below(10);
        let mut dice = self.dice.fork();
        let child = self.spawn(Box::pin(async move {
            for number in 0..count {
                if dice.one_in(3) {
                    sleep(dice.length(NAP)).await;
                }
                tell.send(number).await.map_err(drop)?;
            }
            Ok(())
        }));
        let Some(task) = child else { return };
        let mut next = 0;
        while let Ok(number) = told.recv().await {
            if number != next {
                self.world
                    .ledger
                    .complain("a channel has mixed up its numbers");
            }
            next += 1;
        }
        self.join(task).await;
    }
}

/// Does `work`; if it is asked to end meanwhile, takes its time, and then goes on in some way.
async fn clean_up(world: Arc<World>, mut dice: Dice, work: Work) -> Result<(), ()> {
    let Err(cancelled) = catch_cancel(work).await else {
        return Ok(());
    };
    for _ in 0..dice.below(3) {
        let due = Instant::now() + dice.length(NAP);
        sleep_until(due).await;
        world.is_punctual("a cleanup", due);
    }
    match dice.below(4) {
        0 => match cancelled.resume().await {},
        1 => {
            heist::task::uncancel();
            yield_now().await;
        }
        2 => {
            // A second request goes to this one.
            let _ = catch_cancel(sleep(dice.length(NAP))).await;
        }
        _ => {}
    }
    Err(())
}

fn byte_of(nth: usize) -> u8 {
    nth as u8 ^ 0x5a
}

async fn send(mut stream: sim::DuplexStream, length: usize) -> io::Result<()> {
    let bytes: Vec<u8> = (0..length).map(byte_of).collect();
    stream.write_all(&bytes).await?;
    stream.close().await
}

/// Something to wait for, as a user might write it.
#[derive(Default)]
struct Bell(Mutex<(Option<Instant>, Option<Waker>)>);

impl Bell {
    /// Waits until it is rung, and says when that was.
    fn wait(&self) -> impl Future<Output = Instant> + use<'_> {
        poll_fn(|cx| {
            let (rung, waker) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match rung {
                Some(rung) => Poll::Ready(*rung),
                None => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn set(&self, time: Instant) -> Option<Waker> {
        let (rung, waker) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rung.get_or_insert(time);
        waker.take()
    }

    fn ring_as_of(&self, time: Instant) {
        self.set(time).into_iter().for_each(Waker::wake);
    }
}

/// Rings when it is dropped.
struct Ringer(Arc<Bell>, Arc<World>);

impl Drop for Ringer {
    fn drop(&mut self) {
        let waker = self.0.set(Instant::now());
        if waker.is_some() && self.1.ledger.takes(Fault::ForgetsToWake) {
            return;
        }
        waker.into_iter().for_each(Waker::wake);
    }
}
