//! What is a user's and panics, one thing a test, in a task that runs to its end on this very thread: the
//! panic must not get past the runner. A worker would unwind with it, and never come to its other tasks.
//!
//! There is no worker here, so that a panic that gets out fails the test, and stops nothing.

#![forbid(unsafe_code)]

use super::support::{Bomb, Count, bare, config, here, joined, message};
use crate::context::{self, Context, Role};
use crate::shared::Shared;
use crate::task::{JoinHandle, Kind, Unseen, create};
use crate::values::{VarKey, replace_var};
use crate::worker::{Ran, run_task};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

/// Spawns a task, gives its handle to `meanwhile`, and runs the task to its end.
#[track_caller]
fn run_to_the_end<F, R>(
    shared: &Arc<Shared>,
    future: F,
    meanwhile: impl FnOnce(JoinHandle<F::Output>) -> R,
) -> R
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let owner = NonNull::from(&**shared).cast();
    let new = shared.new_task(None, here(), Kind::Send, owner);
    let list = shared.tasks.of(new.id);
    let published = create(new, future, Unseen::dropped()).publish(list);
    let Ok((handle, task)) = published else {
        panic!("the runtime is open");
    };
    let kept = meanwhile(handle);
    let cx = Context::new(shared, Role::Service, Location::caller());
    let run = || context::enter(&cx, || run_task(&cx, None, task));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ran::Done) => kept,
        Ok(Ran::Requeue(_)) => panic!("its first poll is its last"),
        Err(payload) => panic!("got past the runner: {:?}", message(&*payload)),
    }
}

#[test]
fn a_panic_in_the_futures_destructor_is_the_result() {
    let (shared, reports) = bare(config(1));
    let bomb = Bomb(Count::default(), "of the future");
    let future = poll_fn(move |_| {
        let _ = &bomb;
        Poll::Ready(())
    });
    let handle = run_to_the_end(&shared, future, |handle| handle);
    let error = joined(handle).expect_err("its destructor panics");
    assert_eq!(message(&*error.into_panic()), "of the future");
    assert_eq!(reports.try_iter().count(), 0);
}

#[test]
fn a_panic_in_the_outputs_destructor_is_reported() {
    let (shared, reports) = bare(config(1));
    let count = Count::default();
    let bomb = Bomb(count.clone(), "of the output");
    run_to_the_end(&shared, async move { bomb }, drop);
    let told: Vec<String> = reports.try_iter().collect();
    assert!(
        told.len() == 1 && told[0].contains("of the output"),
        "{told:?}"
    );
    assert_eq!(count.get(), 1);
}

/// The value of a context variable is the task's alone, so its end is in the task.
#[test]
fn a_panic_in_a_values_destructor_is_reported() {
    let (shared, reports) = bare(config(1));
    let key = VarKey::next();
    let bomb = Bomb(Count::default(), "of the value");
    let future = async move {
        replace_var(key, Some(Arc::new(bomb)));
    };
    let handle = run_to_the_end(&shared, future, |handle| handle);
    joined(handle).expect("the output is there");
    let told: Vec<String> = reports.try_iter().collect();
    assert!(
        told.len() == 1 && told[0].contains("of the value"),
        "{told:?}"
    );
}

/// The waker of whoever awaits the task is another executor's. It panics when it is used, when it is
/// dropped, and both, one on top of the other.
#[test]
fn a_panic_of_a_joiners_waker_goes_nowhere() {
    struct Foreign {
        uses: Count,
        drops: Count,
        panics: (bool, bool),
    }
    impl Wake for Foreign {
        fn wake(self: Arc<Self>) {
            self.uses.add();
            assert!(!self.panics.0, "in wake");
        }
    }
    impl Drop for Foreign {
        fn drop(&mut self) {
            self.drops.add();
            assert!(!self.panics.1, "in drop");
        }
    }
    for panics in [(true, false), (false, true), (true, true)] {
        let (shared, reports) = bare(config(1));
        let (uses, drops) = (Count::default(), Count::default());
        let waker = Waker::from(Arc::new(Foreign {
            uses: uses.clone(),
            drops: drops.clone(),
            panics,
        }));
        let handle = run_to_the_end(&shared, async { 7 }, |mut handle| {
            let mut cx = std::task::Context::from_waker(&waker);
            assert!(Pin::new(&mut handle).poll(&mut cx).is_pending());
            // The handle's own is the last from here on.
            drop(waker);
            handle
        });
        assert_eq!((uses.get(), drops.get()), (1, 1));
        assert_eq!(joined(handle).expect("an output"), 7);
        assert_eq!(reports.try_iter().count(), 0);
    }
}

/// A hook runs inside the call that spawns.
#[test]
fn a_panic_of_a_hook_is_reported() {
    let mut config = config(1);
    config.hooks.on_task_spawn = Some(Arc::new(|_| panic!("in the hook")));
    let (shared, reports) = bare(config);
    let handle = run_to_the_end(&shared, async { 7 }, |handle| handle);
    assert_eq!(joined(handle).expect("an output"), 7);
    let told: Vec<String> = reports.try_iter().collect();
    assert_eq!(told, ["the hook on_task_spawn panicked"]);
}
