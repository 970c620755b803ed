//! Who waits for a source in its list: any number of tasks, in either direction.
//!
//! Nearly every source is awaited by one task at a time in a direction. So the first waiter of each
//! has a place in the record itself, and the slab that others share is made for the second one. With
//! thousands of sources that is one cache line less per event, and an allocation less per source.
//!
//! A waiter keeps its place until it gives it back: an event takes the waker out, and the place
//! stays its own until it has looked.

#![forbid(unsafe_code)]

use std::task::Waker;

use slab::Slab;

use crate::readiness::{Direction, Place, Waiting};
use crate::wakers::WakeList;

/// The places in the record, one for each direction; those in the slab follow.
const FIRST: usize = 2;
/// No place.
pub(crate) const NOWHERE: usize = usize::MAX;

/// A waiter. The waker is `None` after an event took it.
struct Waiter {
    direction: Direction,
    waker: Option<Waker>,
}

/// See the module.
pub(crate) struct Waiters {
    first: [Option<Waiter>; FIRST],
    others: Option<Box<Slab<Waiter>>>,
}

impl Waiters {
    pub(crate) fn new() -> Waiters {
        Waiters {
            first: [None, None],
            others: None,
        }
    }

    /// Leaves `waker` at `place`, or at a new one if that is [`NOWHERE`]. Gives back the place, and the
    /// waker that was there, which is to be dropped outside of the lock.
    pub(crate) fn put(
        &mut self,
        place: usize,
        direction: Direction,
        waker: Waker,
    ) -> (usize, Option<Waker>) {
        if place != NOWHERE {
            let waiter = self.get_mut(place).expect("a waiter keeps its place");
            return (place, waiter.waker.replace(waker));
        }
        let waiter = Waiter {
            direction,
            waker: Some(waker),
        };
        (self.enter(waiter), None)
    }

    fn enter(&mut self, waiter: Waiter) -> usize {
        let first = waiter.direction as usize;
        if self.first[first].is_none() {
            self.first[first] = Some(waiter);
            return first;
        }
        FIRST + self.others.get_or_insert_default().insert(waiter)
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Waiter> {
        match place.checked_sub(FIRST) {
            None => self.first[place].as_mut(),
            Some(other) => self.others.as_mut()?.get_mut(other),
        }
    }

    /// Gives a place back. The waker that was left there is to be dropped outside of the lock.
    pub(crate) fn remove(&mut self, place: usize) -> Option<Waker> {
        let waiter = match place.checked_sub(FIRST) {
            None => self.first[place].take(),
            Some(other) => self.others.as_mut()?.try_remove(other),
        };
        waiter?.waker
    }

    /// Takes out the wakers of those directions that an event has found awaited.
    pub(crate) fn collect(&mut self, waiting: Waiting, wakers: &mut WakeList) {
        for waiter in self.first.iter_mut().flatten() {
            waiter.collect(waiting, wakers);
        }
        if let Some(others) = &mut self.others {
            for (_, waiter) in others.iter_mut() {
                waiter.collect(waiting, wakers);
            }
        }
    }
}

impl Waiter {
    #[inline]
    fn collect(&mut self, waiting: Waiting, wakers: &mut WakeList) {
        if waiting.has(self.direction, Place::List) {
            if let Some(waker) = self.waker.take() {
                wakers.push(waker);
            }
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::readiness::{Occurred, Word};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the word says when both directions are awaited in the list and `occurred` happens.
    fn waiting(occurred: Occurred) -> Waiting {
        let word = Word::new(1);
        let _ = word.wait(Direction::Read, Place::List);
        let _ = word.wait(Direction::Write, Place::List);
        word.apply(occurred)
    }

    fn wake(waiters: &mut Waiters, occurred: Occurred) {
        let mut list = WakeList::new();
        waiters.collect(waiting(occurred), &mut list);
        list.run();
    }

    #[test]
    fn every_waiter_of_the_direction_is_taken_once_and_keeps_its_place() {
        let (read, write) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut waiters = Waiters::new();
        let mut places = Vec::new();
        for _ in 0..3 {
            let reader = waiters.put(NOWHERE, Direction::Read, read.clone().into());
            let writer = waiters.put(NOWHERE, Direction::Write, write.clone().into());
            places.extend([reader.0, writer.0]);
        }
        assert_eq!(places, [0, 1, 2, 3, 4, 5]);
        for _ in 0..2 {
            wake(&mut waiters, Occurred::READABLE);
        }
        assert_eq!(read.0.load(Ordering::Relaxed), 3);
        assert_eq!(write.0.load(Ordering::Relaxed), 0);
        // Its own place again, also after the waker was taken.
        let (place, old) = waiters.put(2, Direction::Read, read.clone().into());
        assert!(place == 2 && old.is_none());
        let left = places
            .into_iter()
            .filter(|place| waiters.remove(*place).is_some());
        assert_eq!(left.count(), 4, "three writers and one reader");
    }

    #[test]
    fn one_waiter_at_a_time_needs_no_slab() {
        let mut waiters = Waiters::new();
        for _ in 0..2 {
            for direction in [Direction::Read, Direction::Write] {
                let (place, _) = waiters.put(NOWHERE, direction, Waker::noop().clone());
                let (same, old) = waiters.put(place, direction, Waker::noop().clone());
                assert!(same == place && old.is_some());
                assert!(waiters.remove(place).is_some());
                assert!(waiters.remove(place).is_none(), "given back once");
            }
        }
        assert!(waiters.others.is_none());
    }
}
