//! What has happened in a simulation: a hash over all of it, and the end of it in words.

#![forbid(unsafe_code)]

use crate::slot::Slot;
use crate::task::Id;
use crate::worker::PINNED;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::Duration;

/// How many events a trace tells in words.
const RECENT: usize = 256;

/// How many tasks keep their numbers at least, dead or alive. Miri takes its time.
const NUMBERS: usize = if cfg!(miri) { 32 } else { 1024 };

/// What has happened in a simulation so far. Two runs of the same program with the same seed have equal
/// ones, in the same process or in two.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    hash: u64,
    count: u64,
    recent: Vec<Event>,
}

impl Trace {
    /// That of a runtime that is not simulated, and of a simulation that has not begun.
    pub(crate) fn empty() -> Trace {
        Recorder::new(0).trace()
    }

    /// A number that depends on every event there was, in their order.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last of them, 256 at most.
    pub fn recent(&self) -> impl Iterator<Item = &Event> {
        self.recent.iter()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trace {:016x} of {} events", self.hash, self.count)?;
        let left_out = self.count - self.recent.len() as u64;
        if left_out > 0 {
            write!(f, ", of which the first {left_out} are not shown")?;
        }
        for event in &self.recent {
            write!(f, "\n  {event}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something that has happened in a simulation. As text it is a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the simulation was made.
    at: u64,
    who: Who,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The thread, with `main` and its slot.
    Host,
    Worker(u32),
    Monitor,
    /// A thread of the blocking pool, by its number as an actor.
    Pool(u32),
    Clock,
    /// Whoever runs.
    Code,
}

/// Tasks go by numbers in the order in which they were spawned; 0 is `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Activated,
    Ended,
    Spawned {
        task: u64,
    },
    /// Polls since the last look, of `task` in the end; `done` tasks have ended.
    Ran {
        polls: u64,
        task: u64,
        done: u64,
    },
    Stole {
        tasks: u64,
    },
    Slept,
    Woke {
        unparked: bool,
    },
    Stalled {
        until: u64,
    },
    Looked {
        blocked: u64,
    },
    Called {
        task: u64,
    },
    Jumped,
    Noted {
        what: &'static str,
        value: u64,
    },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Host => f.write_str("main"),
            Who::Worker(index) => write!(f, "worker {index}"),
            Who::Monitor => f.write_str("monitor"),
            Who::Pool(number) => write!(f, "pool thread {number}"),
            Who::Clock => f.write_str("time"),
            Who::Code => f.write_str("code"),
        }
    }
}

/// A task in words.
struct Task(u64);

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("main"),
            number => write!(f, "task {number}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_nanos(self.at);
        write!(f, "{at:?} {} ", self.who)?;
        match self.what {
            What::Activated => f.write_str("is activated"),
            What::Ended => f.write_str("ends"),
            What::Spawned { task } => write!(f, "spawns {}", Task(task)),
            What::Ran { polls: 0, done, .. } => match done {
                1 => f.write_str("ends a task"),
                _ => write!(f, "ends {done} tasks"),
            },
            What::Ran { polls, task, done } => {
                write!(f, "polls {}", Task(task))?;
                if polls > 1 {
                    write!(f, " after {} others", polls - 1)?;
                }
                match done {
                    0 => Ok(()),
                    1 => f.write_str(", and a task is done"),
                    _ => write!(f, ", and {done} tasks are done"),
                }
            }
            What::Stole { tasks } => write!(f, "steals {tasks}"),
            What::Slept => f.write_str("sleeps"),
            What::Woke { unparked: true } => f.write_str("is woken"),
            What::Woke { unparked: false } => f.write_str("wakes"),
            What::Stalled { until } => {
                let until = Duration::from_nanos(until);
                write!(f, "stalls until {until:?}")
            }
            What::Looked { blocked: 0 } => f.write_str("looks"),
            What::Looked { blocked } => write!(f, "looks: {blocked} blocked"),
            What::Called { task } => write!(f, "calls the closure {}", Task(task)),
            What::Jumped => f.write_str("jumps here"),
            What::Noted { what, value } => write!(f, "notes {what}: {value}"),
        }
    }
}

/// Takes the trace down.
#[derive(Debug)]
pub(super) struct Recorder {
    began: u64,
    now: u64,
    hash: u64,
    count: u64,
    recent: VecDeque<Event>,
    /// Numbers of live tasks, and of some that have ended. Its order is of no consequence.
    numbers: HashMap<Id, u64>,
    /// With so many, those of tasks that have ended are looked for.
    too_many: usize,
    numbered: u64,
    /// Tasks that were alive at the last look, or spawned since.
    alive: usize,
    /// How often somebody has done more than to look.
    progress: u64,
    /// What was seen of each slot.
    seen: Vec<Seen>,
}

/// Wakers and hooks are no polls here, so that who wakes for nothing has done nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    polls: u64,
    stolen: u64,
}

impl Recorder {
    pub(super) fn new(began: u64) -> Recorder {
        Recorder {
            began,
            now: began,
            hash: 0,
            count: 0,
            recent: VecDeque::new(),
            numbers: HashMap::new(),
            too_many: NUMBERS,
            numbered: 0,
            alive: 0,
            progress: 0,
            seen: Vec::new(),
        }
    }

    pub(super) fn trace(&self) -> Trace {
        Trace {
            hash: self.hash,
            count: self.count,
            recent: self.recent.iter().copied().collect(),
        }
    }

    pub(super) fn time(&mut self, now: u64) {
        self.now = now;
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    pub(super) fn record(&mut self, who: Who, mut what: What) {
        if let What::Stalled { until } = &mut what {
            *until -= self.began;
        }
        let at = self.now - self.began;
        self.count += 1;
        self.progress += u64::from(what.is_progress());
        self.mix(at);
        self.mix(who.code());
        for word in what.words() {
            self.mix(word);
        }
        if let What::Noted { what, .. } = what {
            what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Event { at, who, what });
    }

    fn mix(&mut self, word: u64) {
        // A multiplication by an odd number and a shift, each of which can be undone: no two words
        // after the same beginning give the same hash.
        let mixed = (self.hash ^ word)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 32);
    }

    pub(super) fn spawned(&mut self, id: Id) {
        self.alive += 1;
        let task = self.number(id);
        self.record(Who::Code, What::Spawned { task });
    }

    /// The number of a task.
    pub(super) fn number(&mut self, id: Id) -> u64 {
        *self.numbers.entry(id).or_insert_with(|| {
            self.numbered += 1;
            self.numbered
        })
    }

    /// Whether there are numbers of tasks that have ended, and not a few: of those that were not the last
    /// ones that were polled in a turn.
    pub(super) fn is_due_to_forget(&self) -> bool {
        self.numbers.len() >= self.too_many
    }

    /// Forgets the numbers of all other tasks. The next time is when there are twice as many.
    pub(super) fn forget_but(&mut self, kept: &HashSet<Id>) {
        self.numbers.retain(|id, _| kept.contains(id));
        self.too_many = NUMBERS.max(2 * self.numbers.len());
    }

    /// What the owner of `slot` has done, after its turn; `alive` tasks are left.
    pub(super) fn observe(&mut self, who: Who, slot: Option<(usize, &Slot)>, alive: usize) {
        let done = self.alive.saturating_sub(alive) as u64;
        self.alive = alive;
        let (mut polls, mut last) = (0, None);
        if let Some((index, slot)) = slot {
            let now = Seen::of(slot);
            let seen = std::mem::replace(self.seen(index), now);
            polls = now.polls - seen.polls;
            last = last_polled(slot);
            let tasks = now.stolen - seen.stolen;
            if tasks > 0 {
                self.record(who, What::Stole { tasks });
            }
        }
        if polls == 0 && done == 0 {
            return;
        }
        let id = last.filter(|_| polls > 0);
        let task = id.map_or(0, |id| self.number(id));
        self.record(who, What::Ran { polls, task, done });
        if let Some(id) = id.filter(|_| done > 0) {
            self.numbers.remove(&id);
        }
    }

    /// What the slot shows now was done by somebody before.
    pub(super) fn skip(&mut self, index: usize, slot: &Slot) {
        *self.seen(index) = Seen::of(slot);
    }

    fn seen(&mut self, index: usize) -> &mut Seen {
        if self.seen.len() <= index {
            self.seen.resize(index + 1, Seen::default());
        }
        &mut self.seen[index]
    }
}

/// The task that was polled last by the owner of a slot.
pub(super) fn last_polled(slot: &Slot) -> Option<Id> {
    Id::from_u64(slot.last_polled() & !PINNED)
}

impl Seen {
    fn of(slot: &Slot) -> Seen {
        Seen {
            polls: slot.polls(),
            stolen: slot.work.stolen.get(),
        }
    }
}

impl Who {
    fn code(self) -> u64 {
        match self {
            Who::Host => 0,
            Who::Monitor => 1,
            Who::Clock => 2,
            Who::Code => 3,
            Who::Worker(index) => 1 << 32 | u64::from(index),
            Who::Pool(number) => 2 << 32 | u64::from(number),
        }
    }
}

impl What {
    fn is_progress(self) -> bool {
        matches!(
            self,
            What::Spawned { .. } | What::Ran { .. } | What::Stole { .. } | What::Called { .. }
        )
    }

    /// What it is, and what is said of it.
    fn words(self) -> [u64; 4] {
        match self {
            What::Activated => [0, 0, 0, 0],
            What::Ended => [1, 0, 0, 0],
            What::Spawned { task } => [2, task, 0, 0],
            What::Ran { polls, task, done } => [3, polls, task, done],
            What::Stole { tasks } => [4, tasks, 0, 0],
            What::Slept => [5, 0, 0, 0],
            What::Woke { unparked } => [6, u64::from(unparked), 0, 0],
            What::Stalled { until } => [7, until, 0, 0],
            What::Looked { blocked } => [8, blocked, 0, 0],
            What::Called { task } => [9, task, 0, 0],
            What::Jumped => [10, 0, 0, 0],
            What::Noted { what, value } => [11, what.len() as u64, value, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(events: &[What]) -> Trace {
        let mut recorder = Recorder::new(0);
        for event in events {
            recorder.record(Who::Code, *event);
        }
        recorder.trace()
    }

    fn note(what: &'static str, value: u64) -> What {
        What::Noted { what, value }
    }

    #[test]
    fn order_kind_and_values_show_in_the_hash() {
        let (slept, ended) = (What::Slept, What::Ended);
        let all = [
            trace(&[]),
            trace(&[slept]),
            trace(&[slept, ended]),
            trace(&[ended, slept]),
            trace(&[note("a", 1)]),
            trace(&[note("a", 2)]),
            trace(&[note("b", 1)]),
            trace(&[What::Woke { unparked: true }]),
            trace(&[What::Woke { unparked: false }]),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[..at] {
                assert_ne!(one.hash(), other.hash(), "{one} and {other}");
            }
        }
        assert_eq!(trace(&[slept, ended]), trace(&[slept, ended]));
    }

    /// Numbers of tasks that have ended do not pile up, and those of others stay.
    #[test]
    fn numbers_of_ended_tasks_are_forgotten() {
        let mut recorder = Recorder::new(0);
        let kept = HashSet::from([Id::next()]);
        let number = kept.iter().map(|id| recorder.number(*id)).next();
        for _ in 0..10 * NUMBERS {
            recorder.number(Id::next());
            if recorder.is_due_to_forget() {
                recorder.forget_but(&kept);
            }
        }
        assert!(recorder.numbers.len() <= NUMBERS);
        assert_eq!(kept.iter().map(|id| recorder.number(*id)).next(), number);
        let many: HashSet<_> = (0..NUMBERS).map(|_| Id::next()).collect();
        many.iter().for_each(|id| _ = recorder.number(*id));
        recorder.forget_but(&many);
        assert!(
            !recorder.is_due_to_forget(),
            "they would be gone through at each look"
        );
    }

    /// Wakers and hooks are no polls, and no progress: who looks after its driver now and then may do so for
    /// ever.
    #[test]
    fn what_is_no_poll_is_not_told() {
        let (slot, mut recorder) = (Slot::new(), Recorder::new(0));
        slot.begin_other();
        assert_eq!(slot.end_poll(), 0);
        recorder.observe(Who::Worker(1), Some((0, &slot)), 0);
        assert_eq!((recorder.trace(), recorder.progress()), (Trace::empty(), 0));
        slot.begin_poll(7);
        assert_eq!(slot.end_poll(), 0);
        recorder.observe(Who::Worker(1), Some((0, &slot)), 0);
        assert_eq!(recorder.progress(), 1);
        let trace = recorder.trace().to_string();
        assert!(trace.ends_with("0ns worker 1 polls task 1"), "{trace}");
    }

    /// Who has ended a task and polled nothing, as a thread of the pool does, has not polled `main`.
    #[test]
    fn a_task_that_ends_outside_of_slots_is_told() {
        let mut recorder = Recorder::new(0);
        recorder.spawned(Id::next());
        recorder.observe(Who::Pool(3), None, 0);
        let trace = recorder.trace().to_string();
        assert!(trace.ends_with("0ns pool thread 3 ends a task"), "{trace}");
    }

    /// What is no longer told in words is still in the hash.
    #[test]
    fn old_events_are_left_out_and_counted() {
        let long = |first| {
            let mut events = vec![What::Slept; RECENT + 5];
            events[0] = first;
            trace(&events)
        };
        let (one, other) = (long(What::Slept), long(What::Ended));
        assert_eq!(one.count(), RECENT as u64 + 5);
        assert!(one.recent().eq(other.recent()));
        assert_ne!(one, other);
        assert!(one.to_string().contains("the first 5 are not shown"));
    }
}
