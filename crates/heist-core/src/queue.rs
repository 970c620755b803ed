//! A worker's queue, open to thieves.
//!
//! The front is a `crossbeam-deque`, first in first out, whose buffer never holds more than
//! [`LOCAL_QUEUE`] tasks: it would otherwise grow and shrink with every burst of work, and each new
//! buffer is an allocation so large that the allocator tidies up for it. What does not fit goes to
//! the *overflow*, two lists behind one lock that keep their memory:
//!
//! * *waiting*: tasks that were polled before, in the order in which they were woken or yielded;
//! * *fresh*: tasks that were just spawned, and those that awaited one which has just ended.
//!
//! | who   | does                                                                                  |
//! |-------|---------------------------------------------------------------------------------------|
//! | owner | `push` fair: to the deque; to waiting if the deque is full or something waits already |
//! | owner | `push` fresh: to the deque while a quarter of it is left, else to fresh               |
//! | owner | `pop`: from the deque; when that is empty, it is filled from the front of waiting, or, |
//! |       | if nothing waits, from the *end* of fresh                                             |
//! | owner | `mix`, now and then: from the front of both, and as many from the end of fresh as the |
//! |       | deque has room for                                                                    |
//! | thief | `steal_into`: a batch from the front of fresh, or of waiting, or half of the deque    |
//!
//! So polled tasks take turns fairly however many they are, while of new ones the newest go first:
//! a tree of tasks that spawn tasks is walked into depth, and few of its tasks are alive at a time;
//! a thief gets the oldest, which stand for the largest part of the work left.
//!
//! `mix` bounds how long any task waits: by it alone, the k-th of fresh, or of waiting, comes to the
//! deque within (k + 1) · [`INJECTOR_INTERVAL`](crate::config::INJECTOR_INTERVAL) polls. The one more
//! is for a deque that is full, into which nothing can be moved:
//!
//! * If something waits as well, what is polled goes behind it and no longer to the deque, which has
//!   room by the next interval.
//! * If nothing waits, the deque may be full of tasks that yield and stay full for ever. So the oldest
//!   of fresh becomes one that waits, and the deque runs empty as above.
//!
//! Every task is in one of the three places, or in the hands of whoever moves it and will run it or
//! push it again. `is_empty` never overlooks one that was pushed before the fence of the sleep
//! protocol (`idle/README.md`): the lengths are written by the push itself, and a task that moves
//! from the overflow to the deque meanwhile is seen in one of the two. No user code runs under the
//! lock.

#![forbid(unsafe_code)]

use crate::config::LOCAL_QUEUE;
use crate::deque::{Steal, Stealer, Worker as Deque};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::task::Runnable;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut, RangeBounds};

#[cfg(all(test, heist_loom))]
mod models;
#[cfg(all(test, not(any(heist_loom, heist_shuttle))))]
mod tests;

/// How far new tasks fill the deque. The rest is for those that `mix` brings.
const FRESH_LIMIT: usize = LOCAL_QUEUE * 3 / 4;
/// How many tasks a thief takes at a time.
const BATCH: usize = LOCAL_QUEUE / 2;
/// How much memory a list keeps for the next burst, in tasks.
const KEPT: usize = 4096;

/// Where in the queue a task belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Behind all that wait.
    Fair,
    /// Before older tasks of its kind, if there are many.
    Fresh,
}

/// The queue of one slot as everybody sees it. The owner's end of the deque is the owner's.
#[derive(Debug)]
pub(crate) struct Queue {
    stealer: Stealer<Runnable>,
    overflow: Mutex<Overflow>,
    /// The lengths of the overflow, for who has not the lock. Written under it, by `Locked`.
    waiting: AtomicUsize,
    fresh: AtomicUsize,
}

#[derive(Debug, Default)]
struct Overflow {
    waiting: VecDeque<Runnable>,
    fresh: VecDeque<Runnable>,
}

/// The overflow, locked. Announces its lengths when it is released.
struct Locked<'a> {
    queue: &'a Queue,
    overflow: MutexGuard<'a, Overflow>,
}

impl Queue {
    /// The queue and its owner's end.
    pub(crate) fn new() -> (Queue, Deque<Runnable>) {
        let deque = Deque::new_fifo();
        let queue = Queue {
            stealer: deque.stealer(),
            overflow: Mutex::default(),
            waiting: AtomicUsize::new(0),
            fresh: AtomicUsize::new(0),
        };
        (queue, deque)
    }

    /// Whether nothing is there: a hint.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // The overflow first: tasks move from there to the deque, never back.
        !self.has_overflown() && self.stealer.is_empty()
    }

    /// How many tasks are in the deque, and in the overflow: for people.
    pub(crate) fn depths(&self) -> (usize, usize) {
        let overflow = self.waiting.load(Ordering::Relaxed) + self.fresh.load(Ordering::Relaxed);
        (self.stealer.len(), overflow)
    }

    #[inline]
    fn has_overflown(&self) -> bool {
        // For the owner zero is certain, since only the owner makes the lists longer. For others it
        // is a hint, and the sleep protocol's fences are before this look and after the push.
        // Ordering: Acquire pairs with the Release in `Locked::drop`: who reads that a list has been
        // emptied finds what was in it in the deque, if it went there.
        self.waiting.load(Ordering::Acquire) != 0 || self.fresh.load(Ordering::Acquire) != 0
    }

    /// Takes a task in. `own` is the owner's end.
    #[inline]
    pub(crate) fn push(&self, own: &Deque<Runnable>, task: Runnable, order: Order) {
        let limit = match order {
            Order::Fresh => FRESH_LIMIT,
            // Ordering: Relaxed, the owner's own look; see `has_overflown`.
            Order::Fair if self.waiting.load(Ordering::Relaxed) == 0 => LOCAL_QUEUE,
            Order::Fair => 0,
        };
        if own.len() < limit {
            own.push(task);
        } else {
            self.overflow(task, order);
        }
    }

    #[cold]
    fn overflow(&self, task: Runnable, order: Order) {
        let mut overflow = self.lock();
        match order {
            Order::Fair => overflow.waiting.push_back(task),
            Order::Fresh => overflow.fresh.push_back(task),
        }
    }

    /// From the front of the queue. `own` is the owner's end.
    #[inline]
    pub(crate) fn pop(&self, own: &Deque<Runnable>) -> Option<Runnable> {
        match own.pop() {
            None if self.has_overflown() && !cfg!(heist_bug_11) => self.refill(own),
            task => task,
        }
    }

    #[cold]
    fn refill(&self, own: &Deque<Runnable>) -> Option<Runnable> {
        let mut overflow = self.lock();
        match (overflow.waiting.len(), overflow.fresh.len()) {
            (0, fresh) => take(
                &mut overflow.fresh,
                fresh.saturating_sub(FRESH_LIMIT)..,
                own,
            ),
            (waiting, _) => take(&mut overflow.waiting, ..waiting.min(LOCAL_QUEUE), own),
        }
    }

    /// Moves some of the overflow to the deque, so that new tasks do not keep old ones waiting, nor
    /// newer ones those before them. The owner does it every
    /// [`INJECTOR_INTERVAL`](crate::config::INJECTOR_INTERVAL) polls.
    #[inline]
    pub(crate) fn mix(&self, own: &Deque<Runnable>) {
        if self.has_overflown() {
            self.mix_now(own);
        }
    }

    #[cold]
    fn mix_now(&self, own: &Deque<Runnable>) {
        let mut overflow = self.lock();
        let room = LOCAL_QUEUE.saturating_sub(own.len());
        if room == 0 {
            if overflow.waiting.is_empty() {
                // See the module: else it might stay full.
                let oldest = pop_front(&mut overflow.fresh);
                overflow.waiting.extend(oldest);
            }
            return;
        }
        // One of the oldest of fresh, since a large tree would be walked in breadth otherwise.
        let fresh = pop_front(&mut overflow.fresh);
        let room = (room - usize::from(fresh.is_some())).min(LOCAL_QUEUE - FRESH_LIMIT);
        if let Some(task) = fresh {
            own.push(task);
        }
        let count = overflow.waiting.len().min(room);
        overflow
            .waiting
            .drain(..count)
            .for_each(|task| own.push(task));
        give_back(&mut overflow.waiting);
        // And the newest, as if the deque had run empty, which those who yield keep it from.
        let from = overflow.fresh.len()
            - overflow
                .fresh
                .len()
                .min(FRESH_LIMIT.saturating_sub(own.len()));
        overflow.fresh.drain(from..).for_each(|task| own.push(task));
        give_back(&mut overflow.fresh);
    }

    /// Steals a part of what is there: one task is given back, the others go to the thief's queue,
    /// which is empty. `own` is the thief's end of that.
    pub(crate) fn steal_into(&self, own: &Deque<Runnable>) -> Steal<Runnable> {
        if self.has_overflown() {
            let mut batch = [const { None }; BATCH];
            self.take_batch(&mut batch);
            let mut tasks = batch.into_iter().map_while(|task| task);
            if let Some(first) = tasks.next() {
                tasks.for_each(|task| own.push(task));
                return Steal::Success(first);
            }
        }
        if self.stealer.is_empty() {
            return Steal::Empty;
        }
        self.stealer.steal_batch_with_limit_and_pop(own, BATCH)
    }

    /// Up to half of the overflow, from the front. No more than that is done under the lock, for which
    /// the owner may wait.
    fn take_batch(&self, batch: &mut [Option<Runnable>; BATCH]) {
        let mut overflow = self.lock();
        let overflow = &mut *overflow;
        let list = match overflow.fresh.is_empty() {
            true => &mut overflow.waiting,
            false => &mut overflow.fresh,
        };
        let count = list.len().div_ceil(2).min(BATCH);
        let places = batch.iter_mut();
        places
            .zip(list.drain(..count))
            .for_each(|(place, task)| *place = Some(task));
        give_back(list);
    }

    /// One task, for a thread without a slot.
    pub(crate) fn steal(&self) -> Option<Runnable> {
        let from_deque = std::iter::repeat_with(|| self.stealer.steal())
            .find(|steal| !steal.is_retry())
            .and_then(Steal::success);
        from_deque.or_else(|| {
            let mut overflow = self.lock();
            let waiting = pop_front(&mut overflow.waiting);
            waiting.or_else(|| pop_front(&mut overflow.fresh))
        })
    }

    fn lock(&self) -> Locked<'_> {
        Locked {
            queue: self,
            overflow: self.overflow.lock(),
        }
    }
}

/// The first task of `range`; the others go to `own`.
fn take(
    list: &mut VecDeque<Runnable>,
    range: impl RangeBounds<usize>,
    own: &Deque<Runnable>,
) -> Option<Runnable> {
    let mut taken = list.drain(range);
    let first = taken.next();
    taken.for_each(|task| own.push(task));
    give_back(list);
    first
}

fn pop_front(list: &mut VecDeque<Runnable>) -> Option<Runnable> {
    let task = list.pop_front()?;
    give_back(list);
    Some(task)
}

/// After something was taken: memory that is left of a burst. By half each time the list becomes
/// empty, so that bursts of one size cost one growth each.
fn give_back(list: &mut VecDeque<Runnable>) {
    if list.is_empty() && list.capacity() > KEPT {
        list.shrink_to((list.capacity() / 2).max(KEPT));
    }
}

impl Deref for Locked<'_> {
    type Target = Overflow;
    fn deref(&self) -> &Overflow {
        &self.overflow
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Overflow {
        &mut self.overflow
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Ordering: Release pairs with the Acquire in `has_overflown`: what was moved to the deque is
        // there for who reads that it is here no more.
        let (waiting, fresh) = (self.overflow.waiting.len(), self.overflow.fresh.len());
        self.queue.waiting.store(waiting, Ordering::Release);
        self.queue.fresh.store(fresh, Ordering::Release);
    }
}
