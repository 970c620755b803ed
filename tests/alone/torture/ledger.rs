//! The books: what became of every task, of its future and of its output.
#![forbid(unsafe_code)]

use super::Fault;
use heist::JoinError;
use heist::task::Id;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// What a panic that the program means to have has as its payload.
pub(super) struct OnPurpose;

/// Panics, and means it.
pub(super) fn panic_on_purpose() -> ! {
    panic_any(OnPurpose)
}

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of `spawn` or `spawn_local`.
    Task,
    /// Of a group.
    Child,
    /// A closure of the blocking pool.
    Closure,
}

/// How a task has ended. Each of them does in exactly one of these ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It came to its end.
    Completed,
    /// It panicked in its poll.
    Panicked,
    /// It was dropped on the way.
    Cancelled,
    /// It was dropped in the call that was to spawn it.
    Refused,
}

/// What is known of one task.
#[derive(Debug)]
struct Entry {
    kind: Kind,
    id: Option<Id>,
    /// Whether its future panics when it is dropped.
    is_bomb: bool,
    ends: Vec<End>,
    /// Polls after its end, or inside of another poll.
    bad_polls: usize,
    future_drops: usize,
    outputs: usize,
    output_drops: usize,
}

/// The books of one seed.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<Vec<Entry>>,
    complaints: Mutex<Vec<String>>,
    fault: Mutex<Option<Fault>>,
}

/// How many tasks have ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) spawned: usize,
    pub(super) completed: usize,
    pub(super) panicked: usize,
    /// Tasks; closures are apart.
    pub(super) cancelled: usize,
    pub(super) refused: usize,
    pub(super) closures_cancelled: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// With a fault that is planted once.
    pub(super) fn new(fault: Option<Fault>) -> Ledger {
        let ledger = Ledger::default();
        *locked(&ledger.fault) = fault;
        ledger
    }

    /// Whether `fault` is planted here: at the first call that asks for it.
    pub(super) fn takes(&self, fault: Fault) -> bool {
        let mut planted = locked(&self.fault);
        let is_it = *planted == Some(fault);
        if is_it {
            *planted = None;
        }
        is_it
    }

    /// Something that must not be.
    pub(super) fn complain(&self, complaint: impl fmt::Display) {
        locked(&self.complaints).push(complaint.to_string());
    }

    /// A task that is about to be spawned.
    pub(super) fn enter(self: &Arc<Self>, kind: Kind, is_bomb: bool) -> Ticket {
        let mut entries = locked(&self.entries);
        entries.push(Entry {
            kind,
            id: None,
            is_bomb,
            ends: Vec::new(),
            bad_polls: 0,
            future_drops: 0,
            outputs: 0,
            output_drops: 0,
        });
        Ticket {
            ledger: Arc::clone(self),
            nth: entries.len() - 1,
            is_bomb,
        }
    }

    fn entry<R>(&self, nth: usize, change: impl FnOnce(&mut Entry) -> R) -> R {
        change(&mut locked(&self.entries)[nth])
    }

    /// The call that was to spawn number `nth` has returned. Whoever has been dropped in it was refused.
    pub(super) fn spawned(&self, nth: usize) {
        self.entry(nth, |entry| {
            if entry.ends == [End::Cancelled] {
                entry.ends = vec![End::Refused];
            }
        });
    }

    /// A handle has said what became of number `nth`.
    pub(super) fn seen<T>(&self, nth: usize, said: Result<&T, &JoinError>) {
        let wrong = self.entry(nth, |entry| {
            let agrees = match (said, entry.ends.as_slice()) {
                (Ok(_), [End::Completed]) => true,
                (Err(error), [_]) if entry.is_bomb && error.is_panic() => true,
                (Err(error), [End::Panicked]) => error.is_panic(),
                (Err(error), [End::Cancelled]) => error.is_cancelled(),
                (Err(error), [End::Refused]) => error.is_closed(),
                _ => false,
            };
            // Who hears of the end knows that all the future had is gone.
            let is_gone = entry.future_drops == 1;
            let said = said.map(|_| "an output");
            (!agrees || !is_gone).then(|| format!("the handle of {nth} says {said:?}: {entry:?}"))
        });
        wrong.into_iter().for_each(|wrong| self.complain(wrong));
    }

    /// How the task with this identity has ended.
    pub(super) fn end_of(&self, id: Id) -> Option<End> {
        let entries = locked(&self.entries);
        let entry = entries.iter().find(|entry| entry.id == Some(id))?;
        entry.ends.first().copied()
    }

    /// How many there are, as of now.
    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for entry in locked(&self.entries).iter() {
            count.spawned += 1;
            match (entry.ends.first(), entry.kind) {
                (Some(End::Completed), _) => count.completed += 1,
                (Some(End::Panicked), _) => count.panicked += 1,
                (Some(End::Refused), _) => count.refused += 1,
                (Some(End::Cancelled), Kind::Closure) => count.closures_cancelled += 1,
                (Some(End::Cancelled), _) => count.cancelled += 1,
                (None, _) => {}
            }
        }
        count
    }

    /// Whatever is wrong when all is over.
    pub(super) fn audit(&self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut *locked(&self.complaints));
        for (nth, entry) in locked(&self.entries).iter().enumerate() {
            let is_right = entry.ends.len() == 1
                && entry.bad_polls == 0
                && entry.future_drops == 1
                && entry.outputs == usize::from(entry.ends == [End::Completed])
                && entry.output_drops == entry.outputs;
            if !is_right {
                wrong.push(format!("the books of {nth} are wrong: {entry:?}"));
            }
        }
        let Count {
            spawned,
            completed,
            panicked,
            cancelled,
            refused,
            closures_cancelled,
        } = self.count();
        let ended = completed + panicked + cancelled + refused + closures_cancelled;
        if spawned != ended {
            wrong.push(format!("{spawned} were spawned, and {ended} have ended"));
        }
        wrong
    }
}

/// What goes along with a future or closure, and is dropped with it.
pub(super) struct Ticket {
    ledger: Arc<Ledger>,
    nth: usize,
    is_bomb: bool,
}

impl Ticket {
    pub(super) fn nth(&self) -> usize {
        self.nth
    }

    /// It is polled, or called.
    fn begin(&self) {
        self.ledger.entry(self.nth, |entry| {
            entry.id = heist::task::try_id();
            entry.bad_polls += usize::from(!entry.ends.is_empty());
        });
    }

    /// It has ended, for the first time or not.
    fn end(&self, end: End) {
        let twice = end == End::Completed && self.ledger.takes(Fault::CountsTwice);
        self.ledger.entry(self.nth, |entry| {
            entry
                .ends
                .extend(std::iter::repeat_n(end, 1 + usize::from(twice)));
        });
    }

    fn output(&self) -> Output {
        self.ledger.entry(self.nth, |entry| entry.outputs += 1);
        Output {
            ledger: Arc::clone(&self.ledger),
            nth: self.nth,
        }
    }

    /// Runs the work of a closure.
    pub(super) fn call(self, work: impl FnOnce()) -> Output {
        self.begin();
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => {
                self.end(End::Completed);
                self.output()
            }
            Err(payload) => {
                self.end(End::Panicked);
                resume_unwind(payload)
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ledger.entry(self.nth, |entry| {
            entry.future_drops += 1;
            if entry.ends.is_empty() {
                entry.ends.push(End::Cancelled);
            }
        });
        if self.is_bomb && !std::thread::panicking() {
            panic_on_purpose();
        }
    }
}

/// What a task gives; its drops are counted.
pub(super) struct Output {
    ledger: Arc<Ledger>,
    nth: usize,
}

impl Drop for Output {
    fn drop(&mut self) {
        self.ledger.entry(self.nth, |entry| entry.output_drops += 1);
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the output of {}", self.nth)
    }
}

/// An error that a task gives, which is an output as well.
#[derive(Debug)]
pub(super) struct Failed(pub(super) Output);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it failed on purpose")
    }
}

impl std::error::Error for Failed {}

/// What every task of the program gives.
pub(super) type Given = Result<Output, Failed>;

/// The work of a task: whether it fails.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

/// A future with books.
pub(super) struct Watched {
    work: Work,
    ticket: Ticket,
    is_inside: bool,
}

impl Watched {
    pub(super) fn new(ticket: Ticket, work: Work) -> Watched {
        Watched {
            work,
            ticket,
            is_inside: false,
        }
    }

    /// Its number in the books.
    pub(super) fn nth(&self) -> usize {
        self.ticket.nth
    }
}

impl Future for Watched {
    type Output = Given;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Given> {
        let this = &mut *self;
        this.ticket.begin();
        if std::mem::replace(&mut this.is_inside, true) {
            this.ticket
                .ledger
                .entry(this.ticket.nth, |entry| entry.bad_polls += 1);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| this.work.as_mut().poll(cx)));
        this.is_inside = false;
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(given)) => {
                this.ticket.end(End::Completed);
                let output = this.ticket.output();
                Poll::Ready(match given {
                    Ok(()) => Ok(output),
                    Err(()) => Err(Failed(output)),
                })
            }
            Err(payload) => {
                this.ticket.end(End::Panicked);
                resume_unwind(payload)
            }
        }
    }
}
