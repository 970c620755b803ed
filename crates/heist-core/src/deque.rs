//! The only door to `crossbeam-deque`.
//!
//! Its buffers race on purpose: a thief reads a slot that the owner may be writing, and throws away what
//! it read if the slot was not its own after all. Miri reports that, rightly, and would look no further, and
//! models cannot see into it. So there the names of this module stand for queues behind one lock each, with
//! the same methods and the same guarantees, first in first out. A thief's look whether one is empty takes no
//! lock and orders nothing, so that who relies on it must bring the order. The real ones are covered by the
//! stress tests and ThreadSanitizer.

#![forbid(unsafe_code)]

#[cfg(not(any(miri, heist_loom, heist_shuttle)))]
pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};

#[cfg(any(miri, heist_loom, heist_shuttle))]
pub(crate) use self::locked::*;

/// Has `crossbeam-epoch` make what it keeps for the whole process, which it does once, while others wait. It
/// would do so with the first steal, on any thread; and a child that another thread forks at that moment would
/// wait for ever.
pub(crate) fn prepare() {
    #[cfg(not(any(miri, heist_loom, heist_shuttle)))]
    let _: Steal<()> = Worker::new_fifo().stealer().steal();
}

#[cfg(any(miri, heist_loom, heist_shuttle))]
mod locked {
    use crate::sync::{AtomicUsize, Mutex, Ordering};
    pub(crate) use crossbeam_deque::Steal;
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::marker::PhantomData;
    use std::sync::Arc;

    type Shared<T> = Arc<List<T>>;

    #[derive(Debug)]
    struct List<T> {
        values: Mutex<VecDeque<T>>,
        /// How many there are, written under the lock.
        len: AtomicUsize,
    }

    impl<T> List<T> {
        fn new() -> Shared<T> {
            Arc::new(List {
                values: Mutex::new(VecDeque::new()),
                len: AtomicUsize::new(0),
            })
        }

        fn change<R>(&self, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
            let mut values = self.values.lock();
            let result = change(&mut values);
            // Ordering: Relaxed, here and in `is_empty`: see the module.
            self.len.store(values.len(), Ordering::Relaxed);
            result
        }

        fn len(&self) -> usize {
            self.values.lock().len()
        }
    }

    /// The owner's end, for one thread at a time.
    #[derive(Debug)]
    pub(crate) struct Worker<T> {
        list: Shared<T>,
        not_sync: PhantomData<Cell<()>>,
    }

    /// An end for thieves.
    #[derive(Debug)]
    pub(crate) struct Stealer<T>(Shared<T>);

    /// A queue that is nobody's.
    #[derive(Debug)]
    pub(crate) struct Injector<T>(Shared<T>);

    impl<T> Worker<T> {
        pub(crate) fn new_fifo() -> Worker<T> {
            Worker {
                list: List::new(),
                not_sync: PhantomData,
            }
        }

        pub(crate) fn stealer(&self) -> Stealer<T> {
            Stealer(self.list.clone())
        }

        pub(crate) fn push(&self, value: T) {
            self.list.change(|values| values.push_back(value));
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.list.change(VecDeque::pop_front)
        }

        pub(crate) fn len(&self) -> usize {
            self.list.len()
        }
    }

    impl<T> Stealer<T> {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.len.load(Ordering::Relaxed) == 0
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn steal(&self) -> Steal<T> {
            steal(&self.0, 1, None)
        }

        /// At most half, as the real one.
        pub(crate) fn steal_batch_with_limit_and_pop(
            &self,
            own: &Worker<T>,
            limit: usize,
        ) -> Steal<T> {
            let half = self.len().div_ceil(2);
            steal(&self.0, limit.min(half), Some(own))
        }
    }

    impl<T> Injector<T> {
        pub(crate) fn new() -> Injector<T> {
            Injector(List::new())
        }

        pub(crate) fn push(&self, value: T) {
            self.0.change(|values| values.push_back(value));
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.len() == 0
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn steal(&self) -> Steal<T> {
            steal(&self.0, 1, None)
        }

        pub(crate) fn steal_batch_with_limit_and_pop(
            &self,
            own: &Worker<T>,
            limit: usize,
        ) -> Steal<T> {
            steal(&self.0, limit, Some(own))
        }
    }

    /// The first value, and up to `limit - 1` more to `own`.
    fn steal<T>(list: &Shared<T>, limit: usize, own: Option<&Worker<T>>) -> Steal<T> {
        let taken = list.change(|values| {
            let first = values.pop_front()?;
            let more = limit.saturating_sub(1).min(values.len());
            let batch: Vec<T> = values.drain(..more).collect();
            Some((first, batch))
        });
        let Some((first, batch)) = taken else {
            return Steal::Empty;
        };
        if let Some(own) = own {
            own.list.change(|values| values.extend(batch));
        }
        Steal::Success(first)
    }
}
