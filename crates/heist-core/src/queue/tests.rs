//! The queue alone, with tasks that belong to no runtime.
//!
//! `PROPTEST_CASES=20000 cargo test -p heist-core --release --lib queue::tests::nothing -- --nocapture` is the longer
//! run of the random tests; each says how many operations there were.

#![forbid(unsafe_code)]

use super::{FRESH_LIMIT, KEPT, Order, Queue};
use crate::config::{INJECTOR_INTERVAL, LOCAL_QUEUE};
use crate::deque::{Steal, Worker as Deque};
use crate::task::{Id, Kind, New, Place, Runnable, Started, TaskList, Unseen, create};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Makes tasks and ends them. Each has a number, in the order in which they were made.
struct Tasks {
    list: TaskList,
    numbers: HashMap<u64, usize>,
}

impl Tasks {
    fn make(&mut self) -> Runnable {
        let task = make(&self.list);
        let number = self.numbers.len();
        self.numbers.insert(task.header().id().as_u64(), number);
        task
    }

    fn number(&self, task: &Runnable) -> usize {
        self.numbers[&task.header().id().as_u64()]
    }

    fn end(&self, task: Runnable) -> usize {
        let number = self.number(&task);
        end(&self.list, task);
        number
    }
}

/// A new task, which nobody awaits or wakes.
fn make(list: &TaskList) -> Runnable {
    let new = New {
        id: Id::next(),
        name: None,
        site: Location::caller(),
        parent: None,
        kind: Kind::Send,
        owner: NonNull::dangling(),
    };
    let Ok((_, task)) = create(new, async {}, Unseen::dropped()).publish(list) else {
        panic!("the list is open");
    };
    task
}

/// Runs a task to its end, which frees it.
fn end(list: &TaskList, task: Runnable) {
    let Started::Poll(mut running) = task.start() else {
        panic!("nobody cancels it");
    };
    assert!(running.poll(), "it is ready at once");
    let mut kept = true;
    assert!(running.drop_unwanted(&mut kept).is_none());
    let _ = list.unlink(&running);
    assert!(running.complete(kept).is_none());
}

/// A queue and its owner, who looks for the next task as a worker does.
struct Owner {
    queue: Queue,
    own: Deque<Runnable>,
    tick: u32,
    tasks: Tasks,
}

impl Owner {
    fn new() -> Owner {
        let (queue, own) = Queue::new();
        Owner {
            queue,
            own,
            tick: 0,
            tasks: Tasks {
                list: TaskList::new(),
                numbers: HashMap::new(),
            },
        }
    }

    /// A new task, as its number.
    fn add(&mut self, order: Order) -> usize {
        let task = self.tasks.make();
        let number = self.tasks.number(&task);
        self.queue.push(&self.own, task, order);
        number
    }

    fn next(&mut self) -> Option<Runnable> {
        self.tick += 1;
        if self.tick % INJECTOR_INTERVAL == 0 {
            self.queue.mix(&self.own);
        }
        let task = self.queue.pop(&self.own);
        assert!(
            self.own.len() <= LOCAL_QUEUE,
            "the deque holds {}",
            self.own.len()
        );
        task
    }

    /// Polls the next task, which yields.
    fn turn(&mut self) -> usize {
        let task = self.next().expect("there is a task");
        let number = self.tasks.number(&task);
        self.queue.push(&self.own, task, Order::Fair);
        number
    }

    /// How many tasks are in the queue.
    fn len(&self) -> usize {
        let waiting = self.queue.waiting.load(Ordering::Relaxed);
        self.own.len() + waiting + self.queue.fresh.load(Ordering::Relaxed)
    }

    /// All that is left, in order, without `mix`.
    fn drain(&mut self) -> Vec<usize> {
        let left = std::iter::from_fn(|| self.queue.pop(&self.own));
        let left = left.map(|task| self.tasks.end(task)).collect();
        assert!(self.queue.is_empty());
        left
    }
}

/// More tasks than the deque holds yield, each as often as it is polled: they take turns exactly,
/// also when `mix` comes in between.
#[test]
fn tasks_that_yield_take_turns_however_many_they_are() {
    for count in [1, 63, 64, 65, 96, 300, 1000] {
        let mut owner = Owner::new();
        for _ in 0..count {
            owner.add(Order::Fair);
        }
        for turn in 0..10 * count {
            assert_eq!(owner.turn(), turn % count, "{count} tasks, turn {turn}");
        }
        let left = owner.drain();
        assert_eq!(left, (0..count).collect::<Vec<_>>());
    }
}

/// Of new tasks that do not fit into the deque the newest batch goes first.
#[test]
fn of_new_tasks_the_newest_go_first() {
    let mut owner = Owner::new();
    let count = FRESH_LIMIT * 4 + 7;
    for _ in 0..count {
        owner.add(Order::Fresh);
    }
    assert_eq!(owner.own.len(), FRESH_LIMIT);
    let mut wanted: Vec<usize> = (0..FRESH_LIMIT).collect();
    let mut end = count;
    while end > FRESH_LIMIT {
        let begin = (end - FRESH_LIMIT).max(FRESH_LIMIT);
        wanted.extend(begin..end);
        end = begin;
    }
    assert_eq!(owner.drain(), wanted);
}

/// Polled tasks keep their order, and new ones that did not fit are put among them: the oldest first,
/// and others as soon as the deque has room.
#[test]
fn new_tasks_that_did_not_fit_are_put_among_polled_ones() {
    let mut owner = Owner::new();
    let polled = 4 * LOCAL_QUEUE;
    for _ in 0..polled {
        owner.add(Order::Fair);
    }
    let (first, last) = (polled, polled + 9);
    for number in first..=last {
        assert_eq!(owner.add(Order::Fresh), number);
    }
    let seen: Vec<usize> = (0..polled).map(|_| owner.turn()).collect();
    let (new, old): (Vec<usize>, Vec<usize>) = seen.iter().partition(|number| **number >= first);
    assert!(old.is_sorted(), "{old:?}");
    assert_eq!(new[0], first, "the oldest of them first: {new:?}");
    assert_eq!(new.len(), 10, "{new:?}");
    let oldest = seen.iter().position(|number| *number == first).unwrap();
    assert!(oldest <= bound(0), "after {oldest} polls");
    owner.drain();
}

/// By when, in polls, the `k`-th of a list must have been polled: it comes to the deque, and the deque
/// before it runs empty.
fn bound(k: usize) -> usize {
    (k + 1) * INJECTOR_INTERVAL as usize + LOCAL_QUEUE + 1
}

/// Tasks that yield keep the deque busy for ever, also so many that they fill it exactly. New tasks
/// that did not fit must be polled within the bound.
#[test]
fn the_kth_new_task_is_polled_within_k_intervals_beside_tasks_that_yield() {
    for yielding in [1, 48, 62, 63, 64, 65, 66, 100, 300] {
        let mut owner = Owner::new();
        for _ in 0..yielding {
            owner.add(Order::Fair);
        }
        for _ in 0..100 {
            owner.turn();
        }
        let mut fresh = Vec::new();
        while fresh.len() < 20 {
            let before = owner.queue.fresh.load(Ordering::Relaxed);
            let number = owner.add(Order::Fresh);
            if owner.queue.fresh.load(Ordering::Relaxed) > before {
                fresh.push(number);
            }
        }
        let mut polled = HashMap::new();
        for turn in 1..=bound(fresh.len()) + 1000 {
            polled.entry(owner.turn()).or_insert(turn);
        }
        for (index, number) in fresh.iter().enumerate() {
            let k = index + 1;
            let turn = polled.get(number).copied();
            // What waits beside them takes room in the deque, but not for longer than that.
            assert!(
                turn.is_some_and(|turn| turn <= bound(k)),
                "{yielding} tasks yield: new task {k} was polled at {turn:?}, bound {}",
                bound(k)
            );
        }
        owner.drain();
    }
}

/// Each poll spawns two tasks, so that new tasks never end. Polled ones that wait must be reached
/// within the bound, and so must new ones that are older.
#[test]
fn a_flood_of_new_tasks_lets_older_ones_run() {
    let mut owner = Owner::new();
    for _ in 0..200 {
        owner.add(Order::Fair);
    }
    let waiting = owner.queue.waiting.load(Ordering::Relaxed);
    assert_eq!(waiting, 200 - LOCAL_QUEUE);
    let fresh: Vec<usize> = (0..50).map(|_| owner.add(Order::Fresh)).collect();
    let mut polled = HashMap::new();
    for turn in 1..=bound(200) {
        let task = owner.next().expect("there is a task");
        polled.insert(owner.tasks.end(task), turn);
        owner.add(Order::Fresh);
        owner.add(Order::Fresh);
    }
    let check = |what: &str, k: usize, number: usize| {
        let turn = polled.get(&number).copied();
        assert!(
            turn.is_some_and(|turn| turn <= bound(k)),
            "{what} {k} was polled at {turn:?}, bound {}",
            bound(k)
        );
    };
    for (index, number) in (LOCAL_QUEUE..200).enumerate() {
        check("waiting", index + 1, number);
    }
    for (index, number) in fresh.into_iter().enumerate() {
        check("fresh", index + 1, number);
    }
    owner.drain();
}

/// A thief gets the oldest of the new tasks, a bounded batch of them, in their order. When there
/// is none it gets the oldest that wait, and only then a part of the deque.
#[test]
fn a_thief_gets_the_oldest_new_tasks() {
    let mut owner = Owner::new();
    let all = 200;
    for _ in 0..all {
        owner.add(Order::Fresh);
    }
    let for_fair = owner.own.len();
    for _ in 0..LOCAL_QUEUE {
        owner.add(Order::Fair);
    }
    let in_deque = LOCAL_QUEUE - for_fair;
    let waiting = LOCAL_QUEUE - in_deque;
    let thief = Deque::new_fifo();
    let mut next = FRESH_LIMIT;
    let steal = |owner: &Owner| {
        let Steal::Success(first) = owner.queue.steal_into(&thief) else {
            panic!("nobody is in the way");
        };
        let mut stolen = vec![owner.tasks.end(first)];
        stolen.extend(std::iter::from_fn(|| thief.pop()).map(|task| owner.tasks.end(task)));
        stolen
    };
    let mut left = all - FRESH_LIMIT;
    while left > 0 {
        let stolen = steal(&owner);
        let count = left.div_ceil(2).min(LOCAL_QUEUE / 2);
        assert_eq!(stolen, (next..next + count).collect::<Vec<_>>());
        next += count;
        left -= count;
    }
    // Those that wait are the last that were made.
    let stolen = steal(&owner);
    let first = all + in_deque;
    let count = waiting.div_ceil(2).min(LOCAL_QUEUE / 2);
    assert_eq!(stolen, (first..first + count).collect::<Vec<_>>());
    while owner.queue.waiting.load(Ordering::Relaxed) > 0 {
        steal(&owner);
    }
    let stolen = steal(&owner);
    assert_eq!(stolen, (0..LOCAL_QUEUE / 2).collect::<Vec<_>>());
    owner.drain();
    assert!(matches!(owner.queue.steal_into(&thief), Steal::Empty));
}

/// A thread without a slot gets everything, one by one: what is next first.
#[test]
fn a_thread_without_a_slot_can_empty_the_queue() {
    let mut owner = Owner::new();
    let mut wanted = BTreeSet::new();
    for _ in 0..100 {
        wanted.insert(owner.add(Order::Fair));
        wanted.insert(owner.add(Order::Fresh));
    }
    let stolen = std::iter::from_fn(|| owner.queue.steal());
    let stolen: Vec<usize> = stolen.map(|task| owner.tasks.end(task)).collect();
    assert_eq!(stolen.len(), wanted.len());
    assert_eq!(stolen.into_iter().collect::<BTreeSet<_>>(), wanted);
    assert!(owner.queue.is_empty());
}

/// What a burst has taken is given back: half of it when its list has become empty, the rest step by
/// step when the list is used again. Bursts of one size do not allocate each time.
#[test]
fn memory_is_given_back_after_a_burst() {
    let burst = if cfg!(miri) { 3 * KEPT } else { 1_000_000 };
    for order in [Order::Fair, Order::Fresh] {
        let (list, mut owner) = (TaskList::new(), Owner::new());
        let capacity = |owner: &Owner| {
            let overflow = owner.queue.overflow.lock();
            overflow.waiting.capacity() + overflow.fresh.capacity()
        };
        let add = |owner: &Owner| owner.queue.push(&owner.own, make(&list), order);
        for _ in 0..burst {
            add(&owner);
        }
        let most = capacity(&owner);
        assert!(most >= burst - LOCAL_QUEUE);
        while let Some(task) = owner.next() {
            end(&list, task);
        }
        assert!(capacity(&owner) <= most / 2, "{order:?}");
        let mut rounds = 0;
        while capacity(&owner) > KEPT {
            rounds += 1;
            assert!(rounds <= 12, "{} after {most}", capacity(&owner));
            let before = capacity(&owner);
            while !owner.queue.has_overflown() {
                add(&owner);
            }
            // However the last task leaves the list.
            let left = match rounds % 3 {
                0 => None,
                1 => {
                    let stolen = std::iter::from_fn(|| owner.queue.steal());
                    stolen.for_each(|task| end(&list, task));
                    None
                }
                _ => {
                    let task = owner.queue.pop(&owner.own).expect("the deque is full");
                    owner.queue.mix(&owner.own);
                    assert!(!owner.queue.has_overflown(), "it was one task");
                    Some(task)
                }
            };
            left.into_iter().for_each(|task| end(&list, task));
            while let Some(task) = owner.queue.pop(&owner.own) {
                end(&list, task);
            }
            assert!(capacity(&owner) < before, "{order:?}, round {rounds}");
        }
        assert_eq!(list.len(), 0);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(Order),
    /// So many at once, to get beyond the deque.
    Burst(Order, u8),
    Pop,
    Pops(u8),
    /// A task is polled and yields.
    Turn,
    Mix,
    StealInto,
    Steal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let order = prop_oneof![Just(Order::Fair), Just(Order::Fresh)];
    let step = prop_oneof![
        4 => order.clone().prop_map(Step::Push),
        2 => (order, any::<u8>()).prop_map(|(order, count)| Step::Burst(order, count)),
        4 => Just(Step::Pop),
        2 => any::<u8>().prop_map(Step::Pops),
        4 => Just(Step::Turn),
        2 => Just(Step::Mix),
        2 => Just(Step::StealInto),
        2 => Just(Step::Steal),
    ];
    prop::collection::vec(step, 0..200)
}

/// Runs `test` with random steps, as often as `PROPTEST_CASES` says, and says how many steps there were.
fn with_random<S: std::fmt::Debug>(steps: impl Strategy<Value = Vec<S>>, test: impl Fn(Vec<S>)) {
    let count = Cell::new(0);
    let config = ProptestConfig {
        cases: if cfg!(miri) {
            2
        } else {
            ProptestConfig::default().cases
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ended = TestRunner::new(config).run(&steps, |steps| {
        count.set(count.get() + steps.len());
        test(steps);
        Ok(())
    });
    ended.unwrap_or_else(|error| panic!("{error}"));
    println!("{} operations", count.get());
}

/// Whatever is done to it: what comes out is what went in, once each, and the lengths are right. The owner gets those
/// that were pushed `Fair` in the order in which they were.
#[test]
fn nothing_is_lost_or_doubled() {
    with_random(steps(), |steps| {
        let mut owner = Owner::new();
        let mut inside = BTreeSet::new();
        // When it was pushed, of each that is `Fair`; and the last of them that the owner got.
        let mut fair = HashMap::new();
        let (mut pushes, mut newest) = (0, 0);
        let thief = Deque::new_fifo();
        for step in steps {
            let (mut own, mut stolen) = (Vec::new(), Vec::new());
            let mut add = |owner: &mut Owner, order| {
                let number = owner.add(order);
                inside.insert(number);
                pushes += 1;
                if order == Order::Fair {
                    fair.insert(number, pushes);
                }
            };
            match step {
                Step::Push(order) => add(&mut owner, order),
                Step::Burst(order, count) => (0..count).for_each(|_| add(&mut owner, order)),
                Step::Pop => own.extend(owner.queue.pop(&owner.own)),
                Step::Pops(count) => {
                    own.extend((0..count).map_while(|_| owner.queue.pop(&owner.own)));
                }
                Step::Turn => {
                    if !inside.is_empty() {
                        let number = owner.turn();
                        assert!(inside.contains(&number));
                        pushes += 1;
                        if let Some(pushed) = fair.insert(number, pushes) {
                            assert!(pushed > std::mem::replace(&mut newest, pushed));
                        }
                    }
                }
                Step::Mix => owner.queue.mix(&owner.own),
                Step::StealInto => match owner.queue.steal_into(&thief) {
                    Steal::Success(task) => {
                        stolen.push(task);
                        assert!(thief.len() < LOCAL_QUEUE / 2);
                        stolen.extend(std::iter::from_fn(|| thief.pop()));
                    }
                    Steal::Empty => assert!(inside.is_empty()),
                    Steal::Retry => panic!("nobody is in the way"),
                },
                Step::Steal => {
                    let task = owner.queue.steal();
                    assert_eq!(task.is_none(), inside.is_empty());
                    stolen.extend(task);
                }
            }
            for task in own {
                let number = owner.tasks.end(task);
                assert!(inside.remove(&number), "{number} was not inside");
                if let Some(pushed) = fair.remove(&number) {
                    assert!(pushed > std::mem::replace(&mut newest, pushed));
                }
            }
            for task in stolen {
                let number = owner.tasks.end(task);
                assert!(inside.remove(&number), "{number} was not inside");
                fair.remove(&number);
            }
            assert!(owner.own.len() <= LOCAL_QUEUE);
            assert_eq!(owner.queue.is_empty(), inside.is_empty());
            assert_eq!(owner.len(), inside.len());
        }
        let left: BTreeSet<usize> = owner.drain().into_iter().collect();
        assert_eq!(left, inside);
    });
}

/// What a worker, a thief and the monitor do to the slots of two workers.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// A task is woken on the worker: to the LIFO slot, what was there to the queue.
    Wake,
    /// A task is spawned there: to the LIFO slot if that is empty.
    Spawn,
    /// So many at once.
    Spawns(u8),
    /// The worker runs its next task to the end, from the LIFO slot or not.
    Run(bool),
    /// It polls its next task, which yields.
    Yield,
    /// It polls its next task, which was woken meanwhile.
    Again,
    Mix,
    /// It steals from the other one, if it has nothing.
    Steal,
    /// It takes the LIFO slot of the other one, which is blocked.
    StealLifo,
    /// The monitor moves so much of what the worker has to the injector.
    Rescue(u8),
    /// It takes so many from the injector.
    TakeInjected(u8),
}

fn moves() -> impl Strategy<Value = Vec<(bool, Move)>> {
    let one = prop_oneof![
        6 => Just(Move::Wake),
        4 => Just(Move::Spawn),
        2 => any::<u8>().prop_map(Move::Spawns),
        6 => any::<bool>().prop_map(Move::Run),
        4 => Just(Move::Yield),
        4 => Just(Move::Again),
        2 => Just(Move::Mix),
        4 => Just(Move::Steal),
        1 => Just(Move::StealLifo),
        1 => any::<u8>().prop_map(Move::Rescue),
        2 => any::<u8>().prop_map(Move::TakeInjected),
    ];
    prop::collection::vec((any::<bool>(), one), 0..200)
}

/// A slot, and what should be in it.
struct Side {
    lifo: Place,
    owner: Owner,
    /// How many tasks there should be.
    count: usize,
}

impl Side {
    fn new() -> Side {
        Side {
            lifo: Place::new(),
            owner: Owner::new(),
            count: 0,
        }
    }

    fn push(&mut self, task: Runnable, order: Order) {
        self.owner.queue.push(&self.owner.own, task, order);
    }

    fn wake(&mut self, task: Runnable) {
        self.count += 1;
        if let Some(displaced) = self.lifo.put(task) {
            self.push(displaced, Order::Fair);
        }
    }

    fn spawn(&mut self, task: Runnable) {
        self.count += 1;
        if self.lifo.is_full() {
            self.push(task, Order::Fresh);
        } else {
            assert!(self.lifo.put(task).is_none(), "it was empty");
        }
    }

    /// The next task, as a worker finds it; `streak` is over if it has had too many from the LIFO slot.
    fn next(&mut self, streak: bool) -> Option<Runnable> {
        if !streak {
            if let Some(task) = self.lifo.take() {
                self.push(task, Order::Fair);
            }
        }
        let task = self
            .lifo
            .take()
            .or_else(|| self.owner.queue.pop(&self.owner.own));
        assert_eq!(
            task.is_none(),
            self.count == 0,
            "it is found if there is one"
        );
        self.count -= usize::from(task.is_some());
        task
    }

    fn check(&self) {
        assert!(self.owner.own.len() <= LOCAL_QUEUE);
        let lifo = usize::from(self.lifo.is_full());
        assert_eq!(self.owner.len() + lifo, self.count);
        assert_eq!(self.owner.queue.is_empty(), self.count == lifo);
    }
}

/// Two slots and the injector, with all that workers, thieves and the monitor do to them: every task is run once, by
/// somebody, and who has something finds something.
#[test]
fn nothing_is_lost_or_doubled_between_slots() {
    with_random(moves(), |moves| {
        // All tasks are of one list, wherever they go.
        let list = TaskList::new();
        let id = |task: &Runnable| task.header().id().as_u64();
        let mut inside = BTreeSet::new();
        let mut injected = VecDeque::new();
        let mut sides = [Side::new(), Side::new()];
        for (second, step) in moves {
            let [one, two] = &mut sides;
            let (side, other) = if second { (two, one) } else { (one, two) };
            let mut new = || {
                let task = make(&list);
                inside.insert(id(&task));
                task
            };
            let mut ran = None;
            match step {
                Move::Wake => side.wake(new()),
                Move::Spawn => side.spawn(new()),
                Move::Spawns(count) => (0..count).for_each(|_| side.spawn(new())),
                Move::Run(streak) => ran = side.next(streak),
                Move::Yield => {
                    if let Some(task) = side.next(true) {
                        side.count += 1;
                        side.push(task, Order::Fair);
                    }
                }
                Move::Again => {
                    if let Some(task) = side.next(true) {
                        side.wake(task);
                    }
                }
                Move::Mix => side.owner.queue.mix(&side.owner.own),
                Move::Steal if side.count == 0 => {
                    let before = other.owner.len();
                    ran = other.owner.queue.steal_into(&side.owner.own).success();
                    assert_eq!(ran.is_none(), before == 0);
                    let stolen = before - other.owner.len();
                    other.count -= stolen;
                    side.count += stolen.saturating_sub(1);
                }
                Move::Steal => {}
                Move::StealLifo => {
                    ran = other.lifo.take();
                    other.count -= usize::from(ran.is_some());
                }
                Move::Rescue(count) => {
                    let queued = std::iter::from_fn(|| side.owner.queue.steal());
                    let queued = queued.take(usize::from(count));
                    let rescued = side.lifo.take().into_iter().chain(queued);
                    let before = injected.len();
                    injected.extend(rescued);
                    side.count -= injected.len() - before;
                }
                Move::TakeInjected(count) => {
                    let count = injected.len().min(usize::from(count));
                    side.count += count;
                    injected
                        .drain(..count)
                        .for_each(|task| side.push(task, Order::Fair));
                }
            }
            if let Some(task) = ran {
                assert!(inside.remove(&id(&task)), "a task was not inside, or twice");
                end(&list, task);
            }
            sides.iter().for_each(Side::check);
            let all: usize = sides.iter().map(|side| side.count).sum();
            assert_eq!(all + injected.len(), inside.len());
            assert_eq!(list.len(), inside.len());
        }
        let mut left = BTreeSet::new();
        let [one, two] = &mut sides;
        let rest = std::iter::from_fn(|| one.next(true).or_else(|| two.next(true)));
        for task in rest.chain(injected) {
            assert!(left.insert(id(&task)), "a task was there twice");
            end(&list, task);
        }
        assert_eq!(left, inside);
    });
}

/// An owner pushes, polls and mixes while one thief takes batches and another single tasks. Each task
/// must be run once, by somebody. And a queue is never seen empty by who knows that something is in it.
#[test]
fn an_owner_and_thieves_share_every_task() {
    const LIMIT: Duration = Duration::from_secs(20);
    let count = if cfg!(miri) { 500 } else { 100_000 };
    let (queue, own) = Queue::new();
    let queue = Arc::new(queue);
    let list = Arc::new(TaskList::new());
    let done = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let thieves: Vec<_> = [true, false]
        .map(|batches| {
            let (queue, list, done) = (queue.clone(), list.clone(), done.clone());
            thread::spawn(move || {
                let mut ran = Vec::new();
                let own = Deque::new_fifo();
                loop {
                    // Before the look: what is pushed before `done` is found by the look after it.
                    let last = done.load(Ordering::SeqCst);
                    let first = if batches {
                        queue.steal_into(&own).success()
                    } else {
                        queue.steal()
                    };
                    let rest = std::iter::from_fn(|| own.pop());
                    for task in first.into_iter().chain(rest) {
                        ran.push(task.header().id().as_u64());
                        end(&list, task);
                    }
                    if last && queue.is_empty() {
                        return ran;
                    }
                    assert!(begin.elapsed() < LIMIT, "the thieves find no end");
                }
            })
        })
        .into_iter()
        .collect();
    let mut ran = Vec::new();
    let mut random: u32 = 1;
    let mut dice = move |sides: u32| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % sides
    };
    let mut ids = Vec::new();
    while ids.len() < count {
        for _ in 0..dice(200) {
            let order = if dice(2) == 0 {
                Order::Fair
            } else {
                Order::Fresh
            };
            let task = make(&list);
            ids.push(task.header().id().as_u64());
            queue.push(&own, task, order);
        }
        for _ in 0..dice(200) {
            if dice(31) == 0 {
                queue.mix(&own);
            }
            match queue.pop(&own) {
                // Half of them yield.
                Some(task) if dice(2) == 0 => queue.push(&own, task, Order::Fair),
                Some(task) => {
                    ran.push(task.header().id().as_u64());
                    end(&list, task);
                }
                None => break,
            }
            assert!(own.len() <= LOCAL_QUEUE);
        }
    }
    done.store(true, Ordering::SeqCst);
    for thief in thieves {
        let stolen = thief.join().expect("a thief does not fail");
        assert!(!stolen.is_empty(), "a thief has got nothing");
        ran.extend(stolen);
    }
    assert!(queue.is_empty());
    assert_eq!(list.len(), 0);
    ran.sort_unstable();
    ids.sort_unstable();
    assert_eq!(ran.len(), ids.len());
    assert!(ran == ids, "some task was lost, and another was run twice");
}
