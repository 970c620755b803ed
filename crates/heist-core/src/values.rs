//! Values of context variables: what a task takes over from its spawner, without being handed it.
//!
//! A [`Values`] is a small map from variables to values. There is one
//!
//! | for                      | kept in                    | begins as a copy of              |
//! |--------------------------|----------------------------|----------------------------------|
//! | a task, a closure        | its `Side`                 | its spawner's                    |
//! | the main future          | the `Runtime`, for all runs | that of the caller of the first `run` |
//! | a future in `block_on`   | the stack of that call     | its caller's                     |
//! | all else on a thread     | a thread-local             | nothing                          |
//!
//! A copy is one more count of the same map: a map that is shared is never changed, [`Values::replace`]
//! makes a new one. A spawner without values gives nothing along, and its task gets no record. A program
//! that never sets a variable pays one load of a flag, [`USED`], at each spawn and at each end of a task.
//!
//! # Invariants
//!
//! 1. Only the runner of a task looks at its `Values` and changes them, and only the thread itself, or
//!    whoever runs the main future, the others. So no two threads use one at the same time; the lock is
//!    there to say so to the compiler, and is never contended.
//! 2. `any` is set exactly while the map is there. It is asked by the runner alone, who wrote it or
//!    received the task from whoever did, so it is no hint: spawning takes no lock for nothing.
//! 3. `USED` is set before the first value is. Whoever has a value set it, or received it from somebody
//!    who did, and so sees the flag: nobody's values are overlooked.
//! 4. No user code runs under the lock. Values are counted, so taking one out clones a count; what is
//!    replaced or removed is handed out and dropped by the caller.
//! 5. A task has no values any more when its handle is told of its end (`worker::complete`): whoever
//!    frees the cell, a waker perhaps, drops no value of a user's.

#![forbid(unsafe_code)]

use crate::context::{self, Context, Current};
use crate::hooks::drop_payload;
use crate::sync::{Mutex, thread_local};
use crate::task::Header;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Names a variable; no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VarKey(u64);

impl VarKey {
    /// A new one.
    pub fn next() -> VarKey {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Ordering: Relaxed; only that no two are the same matters.
        VarKey(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A value of some variable.
pub type VarValue = Arc<dyn Any + Send + Sync>;

/// Sorted by key. Programs have a handful of variables, so copying it to change it is cheaper than a
/// tree.
type Map = Vec<(VarKey, VarValue)>;

/// A copy of somebody's values, for somebody new. None if there are none.
pub(crate) type Inherited = Option<Arc<Map>>;

/// See the module.
pub(crate) struct Values {
    any: AtomicBool,
    map: Mutex<Inherited>,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Values")
            .field("any", &self.any)
            .finish_non_exhaustive()
    }
}

impl Values {
    pub(crate) const fn new() -> Values {
        Values {
            any: AtomicBool::new(false),
            map: Mutex::new(None),
        }
    }

    pub(crate) fn from(inherited: Inherited) -> Values {
        Values {
            any: AtomicBool::new(inherited.is_some()),
            map: Mutex::new(inherited),
        }
    }

    #[inline]
    fn any(&self) -> bool {
        // Ordering: Relaxed, by invariant 2: the runner's own write, or one before it received the task.
        self.any.load(Ordering::Relaxed)
    }

    /// For somebody new.
    fn fill(&self, map: Arc<Map>) {
        self.any.store(true, Ordering::Relaxed);
        // What is replaced is nothing: it was new.
        *self.map.lock() = Some(map);
    }

    /// What somebody who is spawned now begins with.
    fn inherit(&self) -> Inherited {
        if self.any() {
            return self.map.lock().clone();
        }
        None
    }

    fn get(&self, key: VarKey) -> Option<VarValue> {
        if !self.any() {
            return None;
        }
        let map = self.map.lock();
        let map = map.as_deref()?;
        let at = find(map, key).ok()?;
        Some(map[at].1.clone())
    }

    /// Sets a value, or removes it; gives back the one that was there.
    fn replace(&self, key: VarKey, value: Option<VarValue>) -> Option<VarValue> {
        let mut place = self.map.lock();
        let Some(value) = value else {
            let map = place.as_mut()?;
            let at = find(map, key).ok()?;
            // Copied if it is shared. Whoever drops the shared one last finds the copy's counts on
            // the values: none is destroyed here.
            let (_, old) = Arc::make_mut(map).remove(at);
            if map.is_empty() {
                *place = None;
                self.any.store(false, Ordering::Relaxed);
            }
            return Some(old);
        };
        let map = Arc::make_mut(place.get_or_insert_default());
        self.any.store(true, Ordering::Relaxed);
        match find(map, key) {
            Ok(at) => Some(std::mem::replace(&mut map[at].1, value)),
            Err(at) => {
                map.insert(at, (key, value));
                None
            }
        }
    }

    /// Drops them all. A panic of a destructor comes back.
    pub(crate) fn clear(&self) -> std::thread::Result<()> {
        if !self.any() {
            return Ok(());
        }
        let map = self.map.lock().take();
        self.any.store(false, Ordering::Relaxed);
        #[cfg(heist_bug_33)]
        return Ok(drop(map));
        catch_unwind(AssertUnwindSafe(|| drop(map)))
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        // Nobody is left who could be told.
        if let Err(payload) = self.clear() {
            drop_payload(payload);
        }
    }
}

fn find(map: &Map, key: VarKey) -> Result<usize, usize> {
    map.binary_search_by_key(&key, |(key, _)| *key)
}

/// Whether any variable was ever set in this process.
static USED: AtomicBool = AtomicBool::new(false);

/// Whether anybody may have values. A plain load, so that the paths of a task's begin and end keep to
/// one branch that always goes the same way.
#[inline]
pub(crate) fn are_used() -> bool {
    // Ordering: Relaxed, by invariant 3; what carries a value from thread to thread carries the flag.
    USED.load(Ordering::Relaxed)
}

/// Gives a new task, which nobody else has seen, the values of what runs on this thread.
#[inline]
pub(crate) fn hand_over(task: &Header) {
    if are_used() {
        hand_over_if_any(task);
    }
}

#[cold]
fn hand_over_if_any(task: &Header) {
    if let Some(map) = context::with(inherited) {
        task.make_side().values.fill(map);
    }
}

thread_local! {
    /// Those of the thread itself, for all on it that is no task, no main future and not in `block_on`.
    static OUTSIDE: Values = const { Values::new() };
}

/// Those of the thread. None while it is torn down.
fn outside<R>(f: impl FnOnce(&Values) -> R) -> Option<R> {
    OUTSIDE.try_with(f).ok()
}

/// What somebody begins with who is spawned by what runs on this thread, whose context is `cx`.
pub(crate) fn inherited(cx: Option<&Context<'_>>) -> Inherited {
    match cx.map(|cx| (cx, cx.current.get())) {
        Some((cx, Current::Task(_))) => cx.task_side(|side| side?.values.inherit()),
        Some((
            Context {
                values: Some(own), ..
            },
            Current::Main,
        )) => own.inherit(),
        _ => outside(Values::inherit).flatten(),
    }
}

/// The value of a variable for what runs on this thread.
pub fn var(key: VarKey) -> Option<VarValue> {
    context::with(|cx| match cx.map(|cx| (cx, cx.current.get())) {
        Some((cx, Current::Task(_))) => cx.task_side(|side| side?.values.get(key)),
        Some((
            Context {
                values: Some(own), ..
            },
            Current::Main,
        )) => own.get(key),
        _ => outside(|own| own.get(key)).flatten(),
    })
}

/// Gives a variable another value, or none, for what runs on this thread; gives back the one that it
/// had. On a thread that is being torn down nothing is set.
pub fn replace_var(key: VarKey, value: Option<VarValue>) -> Option<VarValue> {
    if !are_used() && value.is_some() {
        USED.store(true, Ordering::Relaxed);
    }
    context::with(|cx| match cx.map(|cx| (cx, cx.current.get())) {
        // What has no record has nothing to be removed.
        Some((cx, Current::Task(_))) if value.is_none() => {
            cx.task_side(|side| side?.values.replace(key, None))
        }
        Some((cx, Current::Task(_))) => cx.make_task_side()?.values.replace(key, value),
        Some((
            Context {
                values: Some(own), ..
            },
            Current::Main,
        )) => own.replace(key, value),
        _ => outside(|own| own.replace(key, value)).flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: Option<VarValue>) -> Option<u32> {
        value.and_then(|value| value.downcast_ref().copied())
    }

    /// Each way a map can change, alone and while somebody else has a copy.
    #[test]
    fn a_copy_is_never_changed() {
        let keys = [VarKey::next(), VarKey::next(), VarKey::next()];
        let own = Values::new();
        assert!(own.inherit().is_none());
        for (n, key) in [(2_u32, keys[2]), (1, keys[1]), (0, keys[0])] {
            assert!(own.replace(key, Some(Arc::new(n))).is_none());
        }
        let copy = Values::from(own.inherit());
        assert_eq!(number(own.replace(keys[1], Some(Arc::new(7_u32)))), Some(1));
        assert_eq!(number(own.replace(keys[0], None)), Some(0));
        assert_eq!(number(own.replace(keys[0], None)), None);
        let seen = |values: &Values| keys.map(|key| number(values.get(key)));
        assert_eq!(seen(&own), [None, Some(7), Some(2)]);
        assert_eq!(seen(&copy), [Some(0), Some(1), Some(2)]);
    }

    /// With the last value the map goes, so that spawning is free again.
    #[test]
    fn nothing_is_kept_for_no_values() {
        let (key, own) = (VarKey::next(), Values::new());
        own.replace(key, Some(Arc::new(1_u32)));
        assert!(own.any() && own.inherit().is_some());
        own.replace(key, None);
        assert!(!own.any() && own.inherit().is_none());
    }

    /// A value whose destructor panics: `clear` tells, a drop does not unwind.
    #[test]
    fn a_panic_of_a_values_destructor_is_caught() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let (key, own) = (VarKey::next(), Values::new());
        own.replace(key, Some(Arc::new(Bad)));
        assert!(own.clear().is_err());
        assert!(own.clear().is_ok());
        own.replace(key, Some(Arc::new(Bad)));
        drop(own);
    }
}
