//! Wakers collected under a lock, run after it.
//!
//! A waker is user code: it may panic, block, or call back into the driver. So the driver only
//! ever *moves* wakers while it holds something, and runs them here, with nothing held. One that
//! panics does not keep the others from running.
//!
//! A [`WakerPlace`] is where a waker waits meanwhile. What panics when it is cloned leaves the place as it
//! was; what panics when it is dropped panics to nobody ([`let_go`]), since whoever puts another one
//! into its place is innocent of it.
//!
//! The buffer is kept per thread between batches, so that a turn allocates nothing. A waker that
//! calls back into the driver finds the thread's buffer taken and gets a fresh one.

#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::sync::Mutex;

/// A buffer that once grew beyond this is freed and not kept: 16 KiB per thread.
const KEEP: usize = 1024;

thread_local! {
    static SPARE: Cell<Vec<Waker>> = const { Cell::new(Vec::new()) };
}

/// Wakers that have been taken out of their places and are now to be run.
#[must_use = "wakers that are not run are lost wake-ups"]
pub(crate) struct WakeList {
    list: Vec<Waker>,
}

impl WakeList {
    pub(crate) fn new() -> Self {
        // At the end of a thread the spare is gone already; an empty buffer does as well.
        let list = SPARE.try_with(Cell::take).unwrap_or_default();
        debug_assert!(list.is_empty());
        Self { list }
    }

    #[inline]
    pub(crate) fn push(&mut self, waker: Waker) {
        self.list.push(waker);
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Runs all wakers, the first one first, and says how many there were. No lock of ours may be
    /// held by the caller.
    pub(crate) fn run(mut self) -> usize {
        let count = self.list.len();
        if count > 0 {
            let mut rest = self.list.drain(..);
            // One guard around the whole loop; it is entered again only after a panic.
            while let Err(payload) = catch_unwind(AssertUnwindSafe(|| {
                rest.by_ref().for_each(Waker::wake);
            })) {
                discard(payload);
                #[cfg(heist_bug_15)]
                break;
            }
        }
        let list = std::mem::take(&mut self.list);
        if list.capacity() != 0 && list.capacity() <= KEEP {
            let _ = SPARE.try_with(|spare| spare.set(list));
        }
        count
    }
}

/// Drops a waker; a panic of it goes nowhere. No lock of ours may be held by the caller.
pub(crate) fn let_go(waker: Waker) {
    #[cfg(heist_bug_36)]
    return drop(waker);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(waker))) {
        discard(payload);
    }
}

/// Where one waker waits: that of whoever came last.
///
/// A lock, held for a move of two words, and hardly ever by two at once: whoever waits here, and the
/// thread that brings the event. An `AtomicWaker` would clone and drop under a lock of its own, and one
/// panic of those would leave it locked: nobody who waits there later is ever woken.
pub(crate) struct WakerPlace(Mutex<Option<Waker>>);

impl WakerPlace {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Puts a clone of `waker` in, unless it is there. `likely` says that it may well be, and that a
    /// look is worth its while.
    #[inline]
    pub(crate) fn put(&self, waker: &Waker, likely: bool) {
        if likely && (cfg!(heist_bug_32) || self.holds(waker)) {
            return;
        }
        let waker = waker.clone();
        let old = self.0.lock().replace(waker);
        #[cfg(heist_bug_06)]
        let _held = self.0.lock();
        if let Some(old) = old {
            let_go(old);
        }
    }

    fn holds(&self, waker: &Waker) -> bool {
        let place = self.0.lock();
        place.as_ref().is_some_and(|old| old.will_wake(waker))
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Waker> {
        self.0.lock().take()
    }
}

impl Drop for WakerPlace {
    fn drop(&mut self) {
        // Not by the lock: in the child of a fork it may be locked for ever.
        if let Some(waker) = self.0.get_mut().take() {
            let_go(waker);
        }
    }
}

/// Drops the payload of a panic, which is user code once more.
///
/// The panic itself has been reported by the panic hook. A payload whose destructor panics is
/// leaked with what its own panic carries, since that could go on for ever.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("payload");
        }
    }

    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any(PanicsOnDrop);
        }
    }

    /// A waker in the middle panics, with a payload that panics again: the others still run.
    #[test]
    #[cfg_attr(miri, ignore = "leaks the second payload, on purpose")]
    fn a_panicking_waker_does_not_stop_the_others() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut list = WakeList::new();
        list.push(count.clone().into());
        list.push(Arc::new(Panics).into());
        list.push(count.clone().into());
        assert_eq!(list.run(), 3);
        assert_eq!(count.0.load(Relaxed), 2);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    /// The destructor of a waker that is replaced may use the place.
    #[test]
    fn a_place_is_free_while_its_old_waker_is_dropped() {
        struct Dropped(Arc<WakerPlace>, Arc<Mutex<Option<bool>>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                *self.1.lock() = Some(self.0.0.try_lock().is_some());
            }
        }
        impl Wake for Dropped {
            fn wake(self: Arc<Self>) {}
        }
        let (place, was_free) = (Arc::new(WakerPlace::new()), Arc::new(Mutex::new(None)));
        let first = Waker::from(Arc::new(Dropped(place.clone(), was_free.clone())));
        place.put(&first, false);
        drop(first);
        place.put(Waker::noop(), false);
        assert_eq!(
            *was_free.lock(),
            Some(true),
            "a waker is dropped under the lock"
        );
    }

    /// The waker that waits panics when it is replaced, and when its place goes: the one that replaces it
    /// is there all the same, and nobody sees the panic. A clone is made only of what is not there yet.
    #[test]
    fn a_place_survives_who_waits_in_it() {
        struct Bad;
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("the last one is gone");
            }
        }
        let place = WakerPlace::new();
        let good = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(good.clone());
        place.put(&Waker::from(Arc::new(Bad)), false);
        place.put(&waker, true);
        place.put(&waker, true);
        assert_eq!(Arc::strong_count(&good), 3);
        place.take().expect("it waits").wake();
        assert_eq!(good.0.load(Relaxed), 1);
        assert!(place.take().is_none());
        place.put(&Waker::from(Arc::new(Bad)), true);
        drop(place);
    }

    /// A waker that makes a list of its own while the outer one runs must not see the outer buffer.
    #[test]
    fn a_nested_list_is_its_own() {
        struct Nested(Arc<Count>);
        impl Wake for Nested {
            fn wake(self: Arc<Self>) {
                let mut inner = WakeList::new();
                inner.push(self.0.clone().into());
                assert_eq!(inner.run(), 1);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut list = WakeList::new();
        list.push(Arc::new(Nested(count.clone())).into());
        list.push(count.clone().into());
        assert_eq!(list.run(), 2);
        assert_eq!(count.0.load(Relaxed), 2);
    }
}
