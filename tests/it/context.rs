//! Context variables: who inherits which values, who sees a change, and when values are dropped.
#![forbid(unsafe_code)]

use crate::support::{panic_text, within};
use futures::channel::oneshot;
use heist::task::Builder as Task;
use heist::{
    ContextVar, Handle, Runtime, catch_cancel, spawn, spawn_blocking, spawn_local, yield_now,
};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

static USER: ContextVar<String> = ContextVar::new();
static DEPTH: ContextVar<u32> = ContextVar::new();

fn set_user(name: &str) {
    USER.set(name.to_owned());
}

fn user() -> Option<String> {
    USER.get()
}

/// A value that counts its destructions.
#[derive(Clone)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

static COUNTED: ContextVar<Counted> = ContextVar::new();

/// What one run sets the next one sees, and the thread around them does not. `close` takes nothing
/// from what was read.
#[test]
fn r23_values_of_main_last_from_run_to_run() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .expect("a runtime");
        assert_eq!(runtime.run(async { user() }), None);
        runtime.run(async { set_user("first") });
        assert_eq!(user(), None, "the values are the runtime's");
        let seen = runtime.run(async {
            let seen = user();
            set_user("second");
            seen
        });
        assert_eq!(seen.as_deref(), Some("first"));
        let inherited = runtime.run(async { spawn(async { user() }).await.unwrap() });
        assert_eq!(inherited.as_deref(), Some("second"));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            runtime.run(async {
                set_user("third");
                panic!("on purpose");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(runtime.run(async { user() }).as_deref(), Some("third"));
        runtime.close();

        let mut other = Runtime::new().expect("another runtime");
        assert_eq!(other.run(async { user() }), None, "each has its own");
    });
}

/// The first run begins with the values of its caller; what the caller sets later is not seen.
#[test]
fn r23_the_first_run_begins_with_the_values_of_its_caller() {
    within(|| {
        set_user("thread");
        let mut runtime = Runtime::new().expect("a runtime");
        set_user("before the first run");
        assert_eq!(
            runtime.run(async { user() }).as_deref(),
            Some("before the first run")
        );
        set_user("later");
        assert_eq!(
            runtime.run(async { user() }).as_deref(),
            Some("before the first run")
        );
        assert_eq!(
            crate::support::run(async { user() }).as_deref(),
            Some("later")
        );
        assert_eq!(
            thread::spawn(user).join().unwrap(),
            None,
            "threads inherit nothing"
        );
    });
}

/// A task takes the values it has at its spawn, however late it is polled. The change of neither is
/// seen by the other.
#[test]
fn k20_a_task_begins_with_a_copy() {
    within(|| {
        crate::support::run(async {
            set_user("parent");
            let (go, gone) = oneshot::channel::<()>();
            let child = spawn(async {
                let first = user();
                gone.await.unwrap();
                let second = user();
                set_user("child");
                let grandchild = spawn(async { user() });
                (first, second, user(), grandchild.await.unwrap())
            });
            set_user("parent, changed");
            go.send(()).unwrap();
            let seen = child.await.unwrap();
            let seen = [seen.0, seen.1, seen.2, seen.3];
            let seen = seen.each_ref().map(Option::as_deref);
            assert_eq!(
                seen,
                [Some("parent"), Some("parent"), Some("child"), Some("child")]
            );
            assert_eq!(user().as_deref(), Some("parent, changed"));
        });
    });
}

/// All kinds of spawn, with a name and without, from main and from a task.
#[test]
fn k20_every_spawn_inherits() {
    within(|| {
        async fn seen() -> [Option<u32>; 5] {
            let named = Task::new().name("named").spawn(async { DEPTH.get() });
            let fallible = heist::spawn_fallible(async { DEPTH.get().ok_or("no value") });
            let by_handle = Handle::current().spawn(async { DEPTH.get() });
            let blocking = spawn_blocking(|| DEPTH.get());
            [
                spawn(async { DEPTH.get() }).await.unwrap(),
                named.await.unwrap(),
                fallible.await.unwrap().ok(),
                by_handle.await.unwrap(),
                blocking.await.unwrap(),
            ]
        }
        crate::support::run(async {
            assert_eq!(seen().await, [None; 5]);
            DEPTH.set(1);
            assert_eq!(seen().await, [Some(1); 5]);
            assert_eq!(spawn_local(async { DEPTH.get() }).await.unwrap(), Some(1));
            let task = spawn(async {
                DEPTH.set(2);
                seen().await
            });
            assert_eq!(task.await.unwrap(), [Some(2); 5]);
            let local = spawn_local(async {
                DEPTH.set(3);
                let inner = spawn_local(async { DEPTH.get() }).await.unwrap();
                (inner, seen().await)
            });
            assert_eq!(local.await.unwrap(), (Some(3), [Some(3); 5]));
            assert_eq!(DEPTH.get(), Some(1));
        });
        let closed = heist::scope(async |s| {
            DEPTH.set(4);
            s.spawn(async { DEPTH.get() }).await.unwrap()
        });
        assert_eq!(closed, Some(4));
    });
}

/// A spawn from outside takes the thread's values; one on another runtime those of the task that
/// spawns.
#[test]
fn k20_the_spawner_counts_and_not_the_runtime() {
    within(|| {
        let mut runtime = Runtime::new().expect("a runtime");
        let handle = runtime.handle();
        let outsider = handle.clone();
        let thread = thread::spawn(move || {
            set_user("outside");
            let task = outsider.spawn(async { user() });
            let visit = outsider.block_on(async {
                let seen = user();
                set_user("visitor");
                (seen, spawn(async { user() }).await.unwrap())
            });
            (task, visit, user())
        });
        let (task, visit, after) = thread.join().unwrap();
        assert_eq!(
            visit,
            (Some("outside".to_owned()), Some("visitor".to_owned()))
        );
        assert_eq!(
            after.as_deref(),
            Some("outside"),
            "a visit keeps its values to itself"
        );
        assert_eq!(runtime.run(task).unwrap().as_deref(), Some("outside"));

        let seen = crate::support::run(async move {
            set_user("elsewhere");
            handle.spawn(async { user() }).await.unwrap()
        });
        assert_eq!(seen.as_deref(), Some("elsewhere"));
    });
}

/// Many tasks with values of their own, on several workers, that all change places at every step.
#[test]
fn k20_values_do_not_mix_between_tasks_that_move() {
    within(|| {
        let mut runtime = Runtime::builder().workers(4).build().expect("a runtime");
        runtime.run(async {
            DEPTH.set(u32::MAX);
            let tasks: Vec<_> = (0..200_u32)
                .map(|n| {
                    spawn(async move {
                        assert_eq!(DEPTH.get(), Some(u32::MAX));
                        for step in 0..20 {
                            DEPTH.set(n * 100 + step);
                            yield_now().await;
                            assert_eq!(DEPTH.get(), Some(n * 100 + step));
                            let child = spawn(async { DEPTH.get() });
                            assert_eq!(child.await.unwrap(), Some(n * 100 + step));
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(DEPTH.get(), Some(u32::MAX));
        });
    });
}

/// What is to be shared is put behind a lock of the user's: the copy shares it.
#[test]
fn k20_a_value_can_be_shared_on_purpose() {
    static LOG: ContextVar<Arc<Mutex<Vec<u32>>>> = ContextVar::new();
    within(|| {
        crate::support::run(async {
            LOG.set(Arc::default());
            spawn(async { LOG.with(|log| log.lock().unwrap().push(1)) })
                .await
                .unwrap();
            assert_eq!(LOG.with(|log| log.lock().unwrap().clone()), Some(vec![1]));
        });
    });
}

/// A scope's value is there in every poll of what is inside and at no other time; what is set inside
/// lasts as long as the scope.
#[test]
fn k20_a_scope_is_only_inside() {
    within(|| {
        crate::support::run(async {
            DEPTH.set(0);
            let inside = DEPTH.scope(1, async {
                assert_eq!(DEPTH.get(), Some(1));
                yield_now().await;
                assert_eq!(DEPTH.get(), Some(1));
                DEPTH.set(2);
                yield_now().await;
                let nested = DEPTH.scope(3, async { DEPTH.get() }).await;
                (nested, DEPTH.get())
            });
            let outside = async {
                for _ in 0..5 {
                    assert_eq!(DEPTH.get(), Some(0));
                    yield_now().await;
                }
            };
            let (seen, ()) = futures::join!(inside, outside);
            assert_eq!(seen, (Some(3), Some(2)));
            assert_eq!(DEPTH.get(), Some(0));

            let seen = DEPTH.sync_scope(4, || DEPTH.sync_scope(5, || DEPTH.get()));
            assert_eq!(seen, Some(5));
            assert_eq!(
                panic_text(|| DEPTH.sync_scope(6, || panic!("on purpose"))),
                "on purpose"
            );
            assert_eq!(DEPTH.get(), Some(0));
        });
    });
}

/// A scope that is begun in one task and goes on in another, or outside of all: it takes its value along
/// and leaves none behind.
#[test]
fn k20_a_scope_moves_with_its_future() {
    within(|| {
        let mut scope = Box::pin(DEPTH.scope(1, async {
            DEPTH.set(DEPTH.get().unwrap() + 1);
            yield_now().await;
            DEPTH.get()
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(scope.as_mut().poll(&mut cx).is_pending());
        assert_eq!(DEPTH.get(), None);
        let seen = crate::support::run(async move {
            DEPTH.set(10);
            let seen = spawn(async move { (scope.await, DEPTH.get()) }).await;
            (seen.unwrap(), DEPTH.get())
        });
        assert_eq!(seen, ((Some(2), Some(10)), Some(10)));
    });
}

/// The future of a scope is dropped where its value is seen, when it is ready and when it is not.
#[test]
fn k20_destructors_in_a_scope_see_its_value() {
    struct Look(Arc<Mutex<Vec<Option<u32>>>>);
    impl Drop for Look {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(DEPTH.get());
        }
    }
    within(|| {
        let seen = Arc::default();
        let look = || Look(Arc::clone(&seen));
        crate::support::run(async {
            let kept = look();
            DEPTH.scope(1, async move { drop(kept) }).await;
            let kept = look();
            let mut unready = Box::pin(DEPTH.scope(2, async move {
                let _kept = kept;
                pending::<()>().await;
            }));
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(unready.as_mut().poll(&mut cx), Poll::Pending);
            drop(unready);
            // And the future of a task that is cancelled sees that of the task.
            let kept = look();
            let task = spawn(async move {
                let _kept = kept;
                DEPTH.set(3);
                pending::<()>().await;
            });
            yield_now().await;
            task.cancel().await.unwrap_err();
            assert_eq!(DEPTH.get(), None);
        });
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen[..2], [Some(1), Some(2)]);
        // The third was cancelled before or after its first poll.
        assert!(
            seen[2].is_none_or(|depth| depth == 3) && seen.len() == 3,
            "{seen:?}"
        );
    });
}

/// A task's values are gone when its handle is told, though handles to it are left; those that somebody
/// else has as well are not.
#[test]
fn k20_values_end_with_their_task() {
    within(|| {
        crate::support::run(async {
            let drops = Arc::new(AtomicUsize::new(0));
            let count = || drops.load(Ordering::SeqCst);
            let value = Counted(drops.clone());
            let mut task = spawn(async move {
                COUNTED.set(value);
                spawn(async { COUNTED.with(|_| ()) }).await.unwrap()
            });
            let abort = task.abort_handle();
            assert_eq!((&mut task).await.unwrap(), Some(()));
            assert_eq!(count(), 1);
            drop((task, abort));
            assert_eq!(count(), 1);

            // Replaced, and shared with a task that still has it.
            COUNTED.set(Counted(drops.clone()));
            let (go, gone) = oneshot::channel::<()>();
            let child = spawn(gone);
            COUNTED.set(Counted(drops.clone()));
            assert_eq!(count(), 1);
            go.send(()).unwrap();
            child.await.unwrap().unwrap();
            assert_eq!(count(), 2);

            // A task that is cancelled before it begins.
            let task = COUNTED.sync_scope(Counted(drops.clone()), || spawn(pending::<()>()));
            assert_eq!(count(), 2);
            task.cancel().await.unwrap_err();
            assert_eq!(count(), 3);

            // And a task that has a record for another reason.
            let value = Counted(drops.clone());
            let task = spawn(catch_cancel(async move {
                COUNTED.set(value);
            }));
            task.await.unwrap().unwrap();
            assert_eq!(count(), 4);
        });
    });
}

/// The last value of main is dropped in `run`, and in `close` or the drop of a `Runtime`.
#[test]
fn k20_values_end_with_their_runtime() {
    within(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        crate::support::run(async { COUNTED.set(Counted(drops.clone())) });
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        let mut runtime = Runtime::new().expect("a runtime");
        runtime.run(async { COUNTED.set(Counted(drops.clone())) });
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        drop(runtime);
        assert_eq!(drops.load(Ordering::SeqCst), 2);
    });
}

/// Destructors of values panic, set values, and spawn: at the end of a task this is reported once, and
/// its output is as it was.
#[test]
fn k20_a_value_whose_destructor_misbehaves() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            // Of what the thread does now, which is no task.
            DEPTH.sync_scope(7, || assert_eq!(DEPTH.get(), Some(7)));
            drop(Handle::try_current().map(|handle| handle.spawn(async {})));
            panic!("a bad value");
        }
    }
    static BAD: ContextVar<Bad> = ContextVar::new();
    within(|| {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let told = reports.clone();
        let mut runtime = heist::Builder::new()
            .workers(crate::support::workers())
            .on_error(move |report| told.lock().unwrap().push(report.to_string()))
            .build()
            .expect("a runtime");
        let output = runtime.run(async {
            spawn(async {
                BAD.set(Bad);
                5
            })
            .await
        });
        assert_eq!(output.unwrap(), 5);
        runtime.close();
        let reports = reports.lock().unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(reports[0].contains("a bad value"), "{reports:?}");
    });
}

/// `with` may use the variable it looks at, and scopes of different variables do not disturb each
/// other.
#[test]
fn k20_variables_are_independent() {
    within(|| {
        crate::support::run(async {
            set_user("a");
            DEPTH.set(1);
            let seen = USER.with(|name| {
                set_user("b");
                DEPTH.set(2);
                (name.clone(), user(), DEPTH.get())
            });
            assert_eq!(seen, Some(("a".to_owned(), Some("b".to_owned()), Some(2))));
            let inner = USER.scope(
                "c".to_owned(),
                DEPTH.scope(3, async { (user(), DEPTH.get()) }),
            );
            let mut inner = pin!(inner);
            assert_eq!((&mut inner).await, (Some("c".to_owned()), Some(3)));
            assert_eq!((user().as_deref(), DEPTH.get()), (Some("b"), Some(2)));
            // Two without a value of the same type are two.
            let (one, other) = (ContextVar::<u32>::new(), ContextVar::<u32>::new());
            one.set(1);
            assert_eq!((one.get(), other.get()), (Some(1), None));
        });
    });
}

/// The closure's values are its spawner's at the spawn, for ten at once; what it sets stays there. Its
/// output and its panic come back.
#[test]
fn k25_a_blocking_closure_sees_the_values() {
    within(|| {
        crate::support::run(async {
            let closures: Vec<_> = (0..10)
                .map(|n| {
                    DEPTH.sync_scope(n, || {
                        spawn_blocking(move || {
                            let seen = DEPTH.get();
                            DEPTH.set(99);
                            (seen, DEPTH.get(), n)
                        })
                    })
                })
                .collect();
            for (n, closure) in (0..).zip(closures) {
                assert_eq!(closure.await.unwrap(), (Some(n), Some(99), n));
            }
            assert_eq!(DEPTH.get(), None);
            let panicked = spawn_blocking(|| panic!("on purpose")).await.unwrap_err();
            assert!(panicked.is_panic());

            // A loop in a closure begins with the closure's.
            DEPTH.set(5);
            let nested = spawn_blocking(|| crate::support::run(async { DEPTH.get() }));
            assert_eq!(nested.await.unwrap(), Some(5));
        });
    });
}
