//! Promise 9, in groups: tasks that end together. Rows G of asyncio's table are named by their ids;
//! tests without one are about what that table does not have.
#![forbid(unsafe_code)]

use crate::support::{
    Drops, LIMIT, Reports, Signal, Tally, eventually, in_a_task, panic_text, text_of,
    with_own_handle, within,
};
use futures::FutureExt;
use futures::future::{BoxFuture, join, poll_fn};
use futures::stream::{FuturesUnordered, StreamExt};
use heist::group::{BoxError, Panicked};
use heist::task::{AbortHandle, cancelling, uncancel};
use heist::time::{Duration, Instant, sleep, timeout};
use heist::{
    ContextVar, GroupError, Handle, JoinHandle, Runtime, TaskGroup, catch_cancel, task, yield_now,
};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, pending, ready};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

type Outcome<T = ()> = Result<T, BoxError>;

/// An error that tells who it is.
#[derive(Debug, PartialEq)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Broken {}

/// What has happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|line| *line == what).count()
    }

    /// Waits to be cancelled, takes some time to clean up, says so, and lets it go on.
    async fn cleans<T>(self, began: Signal) -> Outcome<T> {
        let Err(cancelled) = catch_cancel(began.hold::<()>()).await else {
            unreachable!("it is pending")
        };
        for _ in 0..3 {
            yield_now().await;
        }
        self.push(cancelled.reason().unwrap_or("no reason"));
        match cancelled.resume().await {}
    }
}

/// Waits to be cancelled, and fails in its cleanup.
async fn fails_to_clean(began: Signal) -> Result<(), Broken> {
    let _ = catch_cancel(began.hold::<()>()).await;
    yield_now().await;
    Err(Broken("cleanup"))
}

/// Fails when it is let.
async fn fails_after(go: Signal, name: &'static str) -> Result<(), Broken> {
    go.wait().await;
    Err(Broken(name))
}

fn texts(error: &GroupError) -> Vec<String> {
    error.leaves().iter().map(ToString::to_string).collect()
}

const SIBLING: &str = "another task of the group has failed";

// ---- G01 to G05: children ----

/// Two children; their outputs are there after the group, too.
#[test]
fn g01_outputs_are_kept_after_the_group() {
    in_a_task(async {
        let children = TaskGroup::run(async |g| {
            let first = g.spawn(async { Ok::<_, Infallible>(42) });
            let second = g.spawn(async { Ok::<_, Broken>("eleven") });
            Ok((first, second))
        });
        let (first, second) = children.await.unwrap();
        assert!(first.is_finished() && second.is_finished());
        assert_eq!(
            (first.await.unwrap(), second.await.unwrap()),
            (42, "eleven")
        );
    });
}

/// A group has ended when its children's tasks have: their handles are ready, they are no tasks any more, and
/// an output that nobody wants is destroyed, however long that takes.
#[test]
fn the_tasks_of_a_group_have_ended_with_it() {
    /// The output of a child.
    struct Slow(Arc<AtomicUsize>);
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(30));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    in_a_task(async {
        let (dropped, go) = (Arc::new(AtomicUsize::new(0)), Signal::new());
        let (slow, goes) = (Slow(dropped.clone()), go.clone());
        let ended = TaskGroup::run(async |g| {
            drop(g.spawn(async move {
                goes.wait().await;
                Ok::<_, Infallible>(slow)
            }));
            let aborted = g.spawn(pending::<Result<(), Infallible>>());
            aborted.abort();
            go.set();
            Ok(aborted)
        });
        let aborted = ended.await.unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert!(aborted.is_finished());
        let tasks = Handle::current().tasks();
        assert!(tasks.iter().all(|it| it.id() == task::id()), "{tasks:?}");
        assert!(aborted.await.unwrap_err().is_cancelled());
    });
}

/// A child is added while the group runs: by the body, later, and by a child.
#[test]
fn g02_children_are_added_while_it_runs() {
    in_a_task(async {
        let log = Log::default();
        let ended = TaskGroup::run(async |g| {
            let first = g.spawn(async { Ok::<_, Broken>(1) }).await?;
            let (group, logged) = (g.clone(), log.clone());
            let second = g.spawn(async move {
                group.spawn(async move {
                    yield_now().await;
                    logged.push("grandchild");
                    Ok::<_, Broken>(())
                });
                Ok::<_, Broken>(2)
            });
            Ok(first + second.await?)
        });
        assert_eq!(ended.await.unwrap(), 3);
        assert_eq!(log.all(), ["grandchild"]);
    });
}

/// A child is cancelled by hand. That is no failure: the others and the body go on.
#[test]
fn g03_a_child_that_is_aborted_affects_nobody() {
    in_a_task(async {
        let ended = TaskGroup::run(async |g| {
            let began = Signal::new();
            let waits = g.spawn(began.clone().hold::<Result<(), Broken>>());
            let go = Signal::new();
            let other = g.spawn({
                let go = go.clone();
                async move {
                    go.wait().await;
                    Ok::<_, Broken>("other")
                }
            });
            began.wait().await;
            waits.abort_with("by hand");
            let error = waits.await.unwrap_err();
            assert!(error.is_cancelled() && error.to_string().contains("by hand"));
            assert!(g.is_open());
            go.set();
            Ok(other.await?)
        });
        assert_eq!(ended.await.unwrap(), "other");
    });
}

/// One child fails: its sibling is cancelled, and gone when the group is; the body is cut; the error
/// is that one.
#[test]
fn g04_a_failing_child_cancels_its_siblings() {
    in_a_task(async {
        let sibling = Tally::default();
        let inside = Drops::default();
        let error = TaskGroup::run(async |g| {
            let began = Signal::new();
            g.spawn(sibling.wrap(began.clone().hold::<Result<(), Broken>>()));
            began.wait().await;
            g.spawn(async { Err::<(), _>(Broken("first")) });
            let _guard = inside.guard();
            pending::<()>().await;
            unreachable!("the body is cut");
            #[expect(unreachable_code, reason = "says the type")]
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert_eq!(texts(&error), ["first"]);
        assert!(!error.is_cancelled());
        assert_eq!((sibling.drops(), inside.count()), (1, 1));
    });
}

/// Three children fail, one waits, and so does the body. At least one error comes out, the rest is
/// cancelled.
#[test]
fn g05_children_are_cancelled_when_others_fail() {
    in_a_task(async {
        let (sleeper, body) = (Drops::default(), Drops::default());
        let error = TaskGroup::run::<_, _, ()>(async |g| {
            let began = Signal::new();
            let (guard, holds) = (sleeper.guard(), began.clone());
            g.spawn(async move {
                let _guard = guard;
                holds.hold::<Result<(), Broken>>().await
            });
            began.wait().await;
            for name in ["a", "b", "c"] {
                g.spawn(ready(Err::<(), _>(Broken(name))));
            }
            let _guard = body.guard();
            pending().await
        });
        let error = error.await.unwrap_err();
        assert!((1..=3).contains(&error.len()), "{error}");
        assert!(error.leaves().iter().all(|error| error.is::<Broken>()));
        assert_eq!((sleeper.count(), body.count()), (1, 1));
    });
}

// ---- G06 to G08, G17, G18, G21: the task around it is cancelled ----

/// The task around a group is cancelled with a reason. Each child gets it, and all have cleaned up
/// before the task has ended.
#[test]
fn g06_a_cancelled_group_cancels_its_children_and_keeps_the_reason() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let task = heist::spawn(TaskGroup::run({
            let (log, began) = (log.clone(), began.clone());
            async move |g| {
                for _ in 0..5 {
                    g.spawn(log.clone().cleans::<()>(began.clone()));
                }
                Ok(())
            }
        }));
        for _ in 0..5 {
            began.wait().await;
        }
        let error = task.cancel_with("test").await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.reason(), "test");
        assert_eq!(log.all(), ["test"; 5]);
    });
}

/// The same while the body waits, too, and cleans up as well.
#[test]
fn g07_the_body_and_the_children_see_the_cancellation() {
    in_a_task(async {
        let (children, body, began) = (Log::default(), Log::default(), Signal::new());
        let task = heist::spawn(TaskGroup::run({
            let (children, body, began) = (children.clone(), body.clone(), began.clone());
            async move |g| {
                for _ in 0..5 {
                    g.spawn(children.clone().cleans::<()>(began.clone()));
                }
                body.cleans::<()>(began).await
            }
        }));
        for _ in 0..6 {
            began.wait().await;
        }
        assert!(task.cancel_with("test").await.unwrap_err().is_cancelled());
        assert_eq!(
            (children.all(), body.all()),
            (vec!["test".into(); 5], vec!["test".into()])
        );
    });
}

/// The task is cancelled while the children would fail later: they do not, and there is no error of
/// the group. If their cleanup fails, that is an error, and not lost.
#[test]
fn g08_a_cancellation_comes_before_failures_that_do_not_happen() {
    in_a_task(async {
        let began = Signal::new();
        let group = |cleanup_fails: bool| {
            let began = began.clone();
            TaskGroup::run::<_, _, ()>(async move |g| {
                for _ in 0..5 {
                    let began = began.clone();
                    g.spawn(async move {
                        let work = async {
                            began.hold::<()>().await;
                            Err::<(), _>(Broken("later"))
                        };
                        match catch_cancel(work).await {
                            Ok(ended) => ended,
                            Err(_) if cleanup_fails => Err(Broken("cleanup")),
                            Err(cancelled) => match cancelled.resume().await {},
                        }
                    });
                }
                pending().await
            })
        };
        for cleanup_fails in [false, true] {
            let task = heist::spawn(group(cleanup_fails));
            for _ in 0..5 {
                began.wait().await;
            }
            match task.cancel().await {
                Err(error) => assert!(error.is_cancelled() && !cleanup_fails),
                Ok(ended) => {
                    assert!(cleanup_fails);
                    assert_eq!(texts(&ended.unwrap_err()), ["cleanup"; 5]);
                }
            }
        }
    });
}

/// There are no children; the body cleans up.
#[test]
fn g17_an_empty_group_is_cancelled_with_its_body() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let body = log.clone().cleans::<()>(began.clone());
        let task = heist::spawn(TaskGroup::run(async move |_| body.await));
        began.wait().await;
        assert!(task.cancel_with("test").await.unwrap_err().is_cancelled());
        assert_eq!(log.all(), ["test"]);
    });
}

/// The body turns the request into an error of its own.
#[test]
fn g18_a_body_may_turn_a_cancellation_into_an_error() {
    in_a_task(async {
        let began = Signal::new();
        let held = began.clone();
        let task = heist::spawn(TaskGroup::run::<_, _, ()>(
            async move |_| match catch_cancel(held.hold::<()>()).await {
                Ok(()) => unreachable!("it is pending"),
                Err(_) => Err(Broken("instead").into()),
            },
        ));
        began.wait().await;
        let error = task.cancel().await.unwrap().unwrap_err();
        assert_eq!(texts(&error), ["instead"]);
    });
}

/// The body has ended; the task is cancelled while the group waits for its children.
#[test]
fn g21_a_group_that_waits_is_cancelled() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let dropped = Drops::default();
        let task = heist::spawn(TaskGroup::run({
            let (log, began, guard) = (log.clone(), began.clone(), dropped.guard());
            async move |g| {
                g.spawn(log.cleans::<()>(began.clone()));
                g.spawn(async move {
                    let _guard = guard;
                    began.hold::<Result<(), Broken>>().await
                });
                Ok("a value that is not seen")
            }
        }));
        began.wait().await;
        began.wait().await;
        assert!(task.cancel_with("test").await.unwrap_err().is_cancelled());
        assert_eq!((log.all(), dropped.count()), (vec!["test".into()], 1));
    });
}

/// Two groups in one `join`: the first to end lets the cancellation go on, and that does not hurry the
/// other, nor keep the task busy until that has ended.
#[test]
fn groups_beside_each_other_end_in_peace() {
    in_a_task(async {
        for limited in [false, true] {
            let (began, cleaned, polls) = (Signal::new(), Drops::default(), Drops::default());
            let group = |pause: u64| {
                let (began, guard) = (began.clone(), cleaned.guard());
                TaskGroup::run(async move |g| {
                    g.spawn::<_, (), Broken>(async move {
                        let Err(cancelled) = catch_cancel(began.hold::<()>()).await else {
                            unreachable!("it is pending")
                        };
                        sleep(Duration::from_millis(pause)).await;
                        // Only now: a cleanup that is cut short drops it as well, but too early.
                        assert_eq!(cancelling(), 1);
                        drop(guard);
                        match cancelled.resume().await {}
                    });
                    pending::<Outcome>().await
                })
            };
            let both = join(group(0), group(60));
            let polled = polls.clone();
            let counted = async move {
                let mut both = pin!(both);
                poll_fn(|cx| {
                    drop(polled.guard());
                    both.as_mut().poll(cx)
                })
                .await
            };
            let begin = Instant::now();
            if limited {
                let mut limit = timeout(LIMIT, counted);
                let (began, deadline) = (began.clone(), limit.handle());
                // Not before both have begun.
                let expires = heist::spawn(async move {
                    began.wait().await;
                    began.wait().await;
                    deadline.reschedule(Instant::now()).unwrap();
                });
                assert!(limit.await.is_err());
                expires.await.unwrap();
            } else {
                let began = began.clone();
                let task = heist::spawn(async move {
                    let _ = counted.await;
                });
                began.wait().await;
                began.wait().await;
                assert!(task.cancel().await.unwrap_err().is_cancelled());
            }
            assert!(begin.elapsed() >= Duration::from_millis(60), "{limited}");
            assert_eq!(cleaned.count(), 2);
            assert!(polls.count() < 40, "{} polls", polls.count());
        }
    });
}

/// A task that tries again whatever its groups answer: a cancellation whose group fails in its cleanup reaches
/// the next one.
#[test]
fn a_cancellation_reaches_who_tries_again() {
    in_a_task(async {
        let (began, tries) = (Signal::new(), Drops::default());
        let (child_began, tried) = (began.clone(), tries.clone());
        let task = heist::spawn(async move {
            loop {
                drop(tried.guard());
                let child_began = child_began.clone();
                let ended = TaskGroup::run(async move |g| {
                    g.spawn::<_, (), Broken>(async move {
                        let _ = catch_cancel(child_began.hold::<()>()).await;
                        Err(Broken("in its cleanup"))
                    });
                    pending::<Outcome>().await
                });
                assert!(ended.await.is_err());
            }
        });
        began.wait().await;
        assert!(task.cancel().await.unwrap_err().is_cancelled());
        // The second one's child may fail as well, if it has begun before it is asked.
        assert!(tries.count() >= 2);
    });
}

// ---- G09, G10, G19, G28: the body fails ----

/// The body fails after the children have begun.
#[test]
fn g09_a_failing_body_cancels_the_children() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let error = TaskGroup::run::<_, _, ()>(async |g| {
            for _ in 0..3 {
                g.spawn(log.clone().cleans::<()>(began.clone()));
            }
            for _ in 0..3 {
                began.wait().await;
            }
            Err(Broken("body").into())
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["body"]);
        assert_eq!(log.all(), ["the body of the group has failed"; 3]);
    });
}

/// The body fails before the children have begun: they never do.
#[test]
fn g10_children_that_have_not_begun_are_never_polled() {
    within(|| {
        // Nobody else runs tasks while this poll of `main` lasts.
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.build().unwrap();
        runtime.run(async {
            let tally = Tally::default();
            let error = TaskGroup::run::<_, _, ()>(async |g| {
                for _ in 0..5 {
                    g.spawn(tally.wrap(pending::<Result<(), Broken>>()));
                }
                Err(Broken("body").into())
            });
            assert_eq!(texts(&error.await.unwrap_err()), ["body"]);
            assert_eq!((tally.polls(), tally.drops()), (0, 5));
        });
    });
}

/// A child fails, and then the body's cleanup does: both errors are in the group's.
#[test]
fn g19_errors_of_a_child_and_of_the_bodys_cleanup_are_both_kept() {
    in_a_task(async {
        let error = TaskGroup::run::<_, _, ()>(async |g| {
            let go = Signal::new();
            g.spawn(fails_after(go.clone(), "child"));
            let work = async {
                go.set();
                pending::<()>().await;
            };
            let cancelled = catch_cancel(work).await.unwrap_err();
            assert_eq!(cancelled.reason(), Some(SIBLING));
            assert_eq!(cancelled.by().file(), file!());
            assert!(
                cancelled.to_string().starts_with("cancelled at"),
                "{cancelled}"
            );
            Err(Broken("cleanup").into())
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["child", "cleanup"]);
    });
}

/// A resource inside of the body fails to close while a child's error ends the group.
#[test]
fn g28_a_resource_that_fails_to_close_adds_its_error() {
    in_a_task(async {
        let error = TaskGroup::run::<_, _, ()>(async |g| {
            let inside = async {
                g.spawn(async { Err::<(), _>(Broken("child")) });
                pending::<()>().await;
            };
            let closed = catch_cancel(inside).await;
            yield_now().await;
            assert!(closed.is_err());
            Err(Broken("close").into())
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["child", "close"]);
        assert_eq!(cancelling(), 0);
    });
}

// ---- G11 to G16, G33: nested groups ----

/// A group in a group, as deep as `depth`; each with a child that cleans up.
fn nested(depth: usize, log: Log, began: Signal) -> BoxFuture<'static, Outcome> {
    async move {
        TaskGroup::run(async move |g| {
            g.spawn(log.clone().cleans::<()>(began.clone()));
            match depth {
                0 => began.hold().await,
                _ => nested(depth - 1, log, began).await,
            }
        })
        .await?;
        Ok(())
    }
    .boxed()
}

/// The task around nested groups is cancelled: all are, from the inside to the outside.
#[test]
fn g11_nested_groups_are_cancelled_together() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let task = heist::spawn(nested(1, log.clone(), began.clone()));
        for _ in 0..3 {
            began.wait().await;
        }
        assert!(task.cancel_with("test").await.unwrap_err().is_cancelled());
        assert_eq!(log.count("test"), 2);
    });
}

/// The same, where the inner group is the child of a child.
#[test]
fn g12_a_group_inside_a_child_is_cancelled_with_the_outer_one() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let task = heist::spawn(TaskGroup::run::<_, _, ()>({
            let (log, began) = (log.clone(), began.clone());
            async move |g| {
                g.spawn(log.clone().cleans::<()>(began.clone()));
                g.spawn(nested(1, log, began));
                pending().await
            }
        }));
        for _ in 0..4 {
            began.wait().await;
        }
        let error = task.cancel_with("test").await.unwrap_err();
        assert_eq!((error.is_cancelled(), log.count("test")), (true, 3));
    });
}

/// The same, where the children of the inner group fail in their cleanup, with a child of the outer group
/// beside them or without: that group's error is one of the outer group's, and the answer, though the
/// task was cancelled.
#[test]
fn g11_g12_cleanups_that_fail_inside_make_a_tree() {
    in_a_task(async {
        for with_child in [false, true] {
            let (log, began) = (Log::default(), Signal::new());
            let task = heist::spawn(TaskGroup::run::<_, _, ()>({
                let (log, began) = (log.clone(), began.clone());
                async move |outer| {
                    if with_child {
                        outer.spawn(log.cleans::<()>(began.clone()));
                    }
                    TaskGroup::run(async move |inner| {
                        for _ in 0..5 {
                            inner.spawn(fails_to_clean(began.clone()));
                        }
                        began.hold::<Outcome>().await
                    })
                    .await?;
                    Ok(())
                }
            }));
            for _ in 0..6 + usize::from(with_child) {
                began.wait().await;
            }
            let error = task.cancel_with("test").await.unwrap().unwrap_err();
            assert_eq!(error.len(), 1);
            let inner = error.iter().next().unwrap().downcast_ref::<GroupError>();
            assert_eq!(texts(inner.unwrap()), ["cleanup"; 5]);
            let asked = with_child.then_some("the body of the group has failed");
            assert_eq!(log.all(), Vec::from_iter(asked));
        }
    });
}

/// A child of the outer group fails: the inner group is cancelled in silence.
#[test]
fn g13_an_error_outside_cancels_the_inner_group_silently() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let error = TaskGroup::run(async |outer| {
            let go = Signal::new();
            outer.spawn(fails_after(go.clone(), "outer"));
            TaskGroup::run(async |inner| {
                inner.spawn(log.clone().cleans::<()>(began.clone()));
                began.wait().await;
                go.set();
                pending::<Outcome>().await
            })
            .await?;
            unreachable!("the cancellation goes on");
            #[expect(unreachable_code, reason = "says the type")]
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert!(error.iter().all(|error| error.is::<Broken>()));
        assert_eq!(texts(&error), ["outer"]);
        assert_eq!(log.all(), [SIBLING]);
    });
}

/// A child of the inner group fails: that group's error is an error of the outer one.
#[test]
fn g14_an_error_inside_makes_a_tree() {
    in_a_task(async {
        let dropped = Drops::default();
        let error = TaskGroup::run(async |outer| {
            let guard = dropped.guard();
            outer.spawn(async move {
                let _guard = guard;
                pending::<Result<(), Broken>>().await
            });
            TaskGroup::run(async |inner| {
                inner.spawn(async { Err::<(), _>(Broken("inner")) });
                Ok(())
            })
            .await?;
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert_eq!((error.len(), dropped.count()), (1, 1));
        let inner = error.iter().next().unwrap().downcast_ref::<GroupError>();
        assert!(inner.unwrap().iter().all(|error| error.is::<Broken>()));
        assert_eq!(texts(&error), ["inner"]);
    });
}

/// The task is cancelled, and the body cleans up slowly. Meanwhile a child fails. Neither is lost: the
/// group answers with the error, and the task is cancelled at its next suspension point.
#[test]
fn g15_a_child_that_fails_in_the_cleanup_of_the_body() {
    in_a_task(async {
        let (began, errors) = (Signal::new(), Log::default());
        let task = heist::spawn(cancelled_then_failed(began.clone(), errors.clone()));
        began.wait().await;
        let error = task.cancel_with("test").await.unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(
            (error.reason(), errors.all()),
            ("test", vec!["late".into()])
        );
    });
}

/// The same one task deeper: the handle of the task is awaited by the one that is cancelled, and
/// passes that on.
#[test]
fn g16_a_child_that_fails_in_the_cleanup_one_task_deeper() {
    in_a_task(async {
        let (began, errors) = (Signal::new(), Log::default());
        let inner = cancelled_then_failed(began.clone(), errors.clone());
        let task = heist::spawn(async move {
            let mut inner = heist::spawn(inner);
            match catch_cancel(&mut inner).await {
                Ok(ended) => ended,
                Err(cancelled) => inner.cancel_with(cancelled.reason().unwrap()).await,
            }
        });
        began.wait().await;
        let error = task.cancel_with("test").await.unwrap().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(
            (error.reason(), errors.all()),
            ("test", vec!["late".into()])
        );
    });
}

async fn cancelled_then_failed(began: Signal, errors: Log) {
    let ended = TaskGroup::run::<_, _, ()>(async |g| {
        let go = Signal::new();
        g.spawn(fails_after(go.clone(), "late"));
        let cancelled = catch_cancel(began.hold::<()>()).await.unwrap_err();
        go.set();
        // The cleanup, which the group cuts.
        pending::<()>().await;
        match cancelled.resume().await {}
    });
    errors.push(texts(&ended.await.unwrap_err()).join(", "));
    assert_eq!(cancelling(), 1);
    pending::<()>().await;
}

/// Both groups fail. The inner error is dealt with inside of the outer body, which then is cut
/// nevertheless; and the task is not cancelled at all.
#[test]
fn g33_an_inner_error_that_is_handled_keeps_the_outer_one() {
    in_a_task(async {
        let handled = Log::default();
        let error = TaskGroup::run(async |outer| {
            let inner = TaskGroup::run(async |inner| {
                let go = Signal::new();
                let (group, fails) = (outer.clone(), go.clone());
                inner.spawn(async move {
                    // Fails in the cleanup of what the outer failure has cancelled.
                    group.spawn(fails_after(fails, "outer"));
                    let _ = catch_cancel(pending::<()>()).await;
                    Err::<(), _>(Broken("inner"))
                });
                go.set();
                pending::<Outcome>().await
            });
            handled.push(texts(&inner.await.unwrap_err()).join(", "));
            assert_eq!(cancelling(), 0, "a group does not count");
            yield_now().await;
            handled.push("not reached");
            Ok(())
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["outer"]);
        assert_eq!(handled.all(), ["inner"]);
        assert_eq!(cancelling(), 0);
        yield_now().await;
    });
}

// ---- G20: panics ----

/// A panic in a child, or in the body, cancels the rest; when all have ended, it goes on. Errors of
/// children that nobody sees because of it are reported.
#[test]
fn g20_a_panic_cancels_the_rest_and_goes_on() {
    let reports = Reports::default();
    let seen = reports.clone();
    within(move || {
        let mut runtime = reports.of(Runtime::builder()).build().unwrap();
        runtime.run(async {
            heist::spawn(async {
                for in_the_body in [false, true] {
                    let (log, began) = (Log::default(), Signal::new());
                    let group = TaskGroup::run::<_, _, ()>(async |g| {
                        g.spawn(log.clone().cleans::<()>(began.clone()));
                        let held = began.clone();
                        g.spawn(async move {
                            let _ = catch_cancel(held.hold::<()>()).await;
                            Err::<(), _>(Broken("unseen"))
                        });
                        began.wait().await;
                        began.wait().await;
                        if in_the_body {
                            panic!("boom");
                        }
                        g.spawn(async {
                            if true {
                                panic!("boom")
                            } else {
                                Err(Broken(""))
                            }
                        }) as heist::group::Child<()>;
                        pending().await
                    });
                    let payload = AssertUnwindSafe(group).catch_unwind().await.unwrap_err();
                    assert_eq!(text_of(&*payload), "boom");
                    assert_eq!(log.all(), ["a panic in the group"]);
                }
            })
            .await
            .unwrap();
        });
    });
    assert_eq!(seen.count("Failed"), 2, "{:?}", seen.all());
    assert_eq!(seen.count("Panicked"), 0, "{:?}", seen.all());
}

/// With the other policy panics are errors, and their payloads are there.
#[test]
fn g20_panics_are_collected_where_asked() {
    in_a_task(async {
        let ended = TaskGroup::builder()
            .collect_panics()
            .run::<_, _, ()>(async |g| {
                let panics = async {
                    if cancelling() == 0 {
                        panic!("in a child");
                    }
                    Err::<(), _>(Broken(""))
                };
                task::Builder::new().name("loud").spawn_in(&g, panics);
                let _ = catch_cancel(pending::<()>()).await;
                panic!("in the body");
            });
        let (panics, rest) = ended.await.unwrap_err().downcast::<Panicked>();
        assert!(rest.is_none());
        let [child, body] = <[Panicked; 2]>::try_from(panics).unwrap();
        assert_eq!(child.task().unwrap().name.as_deref(), Some("loud"));
        assert!(body.task().is_none());
        assert_eq!(
            (child.message(), body.message()),
            ("in a child", "in the body")
        );
        assert_eq!(text_of(&*child.into_panic()), "in a child");
    });
}

/// Destructors panic: of the body when it is cut, and of a child when it is aborted. All are waited
/// for, and the first panic goes on; the other is reported.
#[test]
fn a_panic_of_a_destructor_is_a_panic_of_the_group() {
    struct Bomb(&'static str);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("{}", self.0);
        }
    }
    let reports = Reports::default();
    let seen = reports.clone();
    within(move || {
        let mut runtime = reports.of(Runtime::builder()).build().unwrap();
        runtime.run(async {
            let (log, began) = (Log::default(), Signal::new());
            let group = TaskGroup::run::<_, _, ()>(async |g| {
                g.spawn(log.clone().cleans::<()>(began.clone()));
                let held = began.clone();
                g.spawn(async move {
                    let _bomb = Bomb("child");
                    held.hold::<Result<(), Broken>>().await
                });
                began.wait().await;
                began.wait().await;
                let _bomb = Bomb("body");
                g.cancel();
                pending().await
            });
            let payload = AssertUnwindSafe(group).catch_unwind().await.unwrap_err();
            assert!(["child", "body"].contains(&text_of(&*payload)));
            assert_eq!(log.all(), ["the group was cancelled"]);
        });
    });
    assert_eq!(seen.count("Panicked"), 1, "{:?}", seen.all());
}

// ---- G22 to G27, G30, G36: spawning ----

/// A child that has ended is forgotten at once.
#[test]
fn g22_finished_children_leave_at_once() {
    in_a_task(async {
        let ended = TaskGroup::run(async |g| {
            for n in 0..1000 {
                assert_eq!(g.spawn(async move { Ok::<_, Broken>(n) }).await?, n);
                assert_eq!(g.live(), 0);
            }
            let failed = g.spawn(pending::<Result<(), Broken>>());
            assert_eq!(g.live(), 1);
            assert!(failed.cancel().await.is_err());
            Ok(g.live())
        });
        assert_eq!(ended.await.unwrap(), 0);
    });
}

/// The body has ended; children go on spawning children, and the group waits for them.
#[test]
fn g23_children_spawn_while_the_group_closes() {
    fn chain(g: TaskGroup, left: usize, log: Log) -> BoxFuture<'static, Result<(), Broken>> {
        async move {
            yield_now().await;
            log.push("link");
            if left > 0 {
                g.spawn(chain(g.clone(), left - 1, log));
            }
            Ok(())
        }
        .boxed()
    }
    in_a_task(async {
        let log = Log::default();
        let ended = TaskGroup::run(async |g| {
            g.spawn(chain(g.clone(), 20, log.clone()));
            Ok(())
        });
        ended.await.unwrap();
        assert_eq!(log.count("link"), 21);
    });
}

/// Children spawn others without end. The failure of one stops it.
#[test]
fn g24_endless_spawning_stops_when_a_child_fails() {
    fn hydra(g: TaskGroup, heads: Arc<AtomicUsize>) -> BoxFuture<'static, Result<(), Broken>> {
        async move {
            if heads.fetch_add(1, Ordering::SeqCst) == 500 {
                return Err(Broken("enough"));
            }
            yield_now().await;
            g.spawn(hydra(g.clone(), heads.clone()));
            if heads.load(Ordering::SeqCst) % 3 == 0 {
                g.spawn(hydra(g.clone(), heads.clone()));
            }
            Ok(())
        }
        .boxed()
    }
    in_a_task(async {
        let heads = Arc::new(AtomicUsize::new(0));
        let error = TaskGroup::run(async |g| {
            g.spawn(hydra(g.clone(), heads.clone()));
            pending::<Outcome>().await
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["enough"]);
        assert_eq!(Arc::strong_count(&heads), 1, "all of them are gone");
    });
}

/// Names are kept, and seen from inside.
#[test]
fn g25_children_keep_their_names() {
    in_a_task(async {
        let ended = TaskGroup::run(async |g| {
            let named = task::Builder::new().name("yolo");
            let child = named.spawn_in(&g, async { Ok::<_, Broken>((task::name(), task::id())) });
            assert_eq!(child.name(), Some("yolo"));
            let id = child.id().unwrap();
            let (name, inside) = child.await?;
            assert_eq!((name.as_deref(), inside), (Some("yolo"), id));
            let child = g.spawn(async { Ok::<_, Broken>(task::name()) });
            assert_eq!(child.name(), None);
            assert_eq!(child.await?, None);
            Ok(())
        });
        ended.await.unwrap();
    });
}

/// A child starts with the values of whoever spawned it, or with those of a scope around the call. What
/// it sets is its own.
#[test]
fn g26_a_child_may_have_a_context_of_its_own() {
    static USER: ContextVar<&str> = ContextVar::new();
    in_a_task(async {
        USER.set("body");
        let ended = TaskGroup::run(async |g| {
            let read = || async {
                let before = USER.get();
                USER.set("child");
                Ok::<_, Broken>(before)
            };
            let inherits = g.spawn(read());
            let own = USER.sync_scope("own", || g.spawn(read()));
            assert_eq!(inherits.await?, Some("body"));
            assert_eq!(own.await?, Some("own"));
            assert_eq!(USER.get(), Some("body"));
            Ok(())
        });
        ended.await.unwrap();
    });
}

/// Once a child has failed, no child is taken, and the future comes back as it was: neither from the body
/// nor from another child, which cleans up.
#[test]
fn g27_no_child_is_taken_after_a_failure() {
    in_a_task(async {
        let seen = Log::default();
        let error = TaskGroup::run::<_, _, ()>(async |g| {
            let began = Signal::new();
            let (group, held, tried) = (g.clone(), began.clone(), seen.clone());
            g.spawn(async move {
                match catch_cancel(held.hold::<Result<(), Broken>>()).await {
                    Ok(ended) => ended,
                    Err(cancelled) => {
                        let refused = group.try_spawn(ready(Ok::<_, Broken>("from a child")));
                        tried.push(refused.unwrap_err().future.await?);
                        match cancelled.resume().await {}
                    }
                }
            });
            began.wait().await;
            g.spawn(async { Err::<(), _>(Broken("first")) });
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            let refused = g
                .try_spawn(async { Ok::<_, Broken>("as it was") })
                .unwrap_err();
            assert!(refused.to_string().contains("has ended, or is ending"));
            seen.push(refused.future.await?);
            match cancelled.resume().await {}
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["first"]);
        let mut seen = seen.all();
        seen.sort();
        assert_eq!(seen, ["as it was", "from a child"]);
    });
}

/// After the end the group takes nothing: `try_spawn` gives the future back, `spawn` drops it.
#[test]
fn g30_nothing_is_taken_after_the_end() {
    in_a_task(async {
        let g = TaskGroup::run(async |g| Ok(g)).await.unwrap();
        assert!(!g.is_open());
        let tally = Tally::default();
        let refused = g
            .try_spawn(tally.wrap(ready(Ok::<_, Broken>(1))))
            .unwrap_err();
        assert_eq!(tally.drops(), 0);
        drop(refused);
        let child = g.spawn(tally.wrap(ready(Ok::<_, Broken>(1))));
        assert_eq!((tally.polls(), tally.drops()), (0, 2));
        assert!(child.is_finished());
        assert!(child.await.unwrap_err().is_closed());
    });
}

/// A child spawns another and fails in the same poll: the other is cancelled, too. If it is the other that
/// fails, its spawner is.
#[test]
fn g36_a_child_that_is_spawned_by_a_failing_one_is_cancelled() {
    in_a_task(async {
        for _ in 0..100 {
            let log = Log::default();
            let error = TaskGroup::run(async |g| {
                let (group, log) = (g.clone(), log.clone());
                g.spawn(async move {
                    group.spawn(ready(Err::<(), _>(Broken("spawned"))));
                    log.cleans::<()>(Signal::new()).await
                });
                Ok(())
            });
            assert_eq!(texts(&error.await.unwrap_err()), ["spawned"]);
            assert_eq!(log.all(), [SIBLING]);

            let tally = Tally::default();
            let error = TaskGroup::run(async |g| {
                let (group, late) = (g.clone(), tally.wrap(pending::<Result<(), Broken>>()));
                g.spawn(async move {
                    group.spawn(late);
                    Err::<(), _>(Broken("spawner"))
                });
                Ok(())
            });
            assert_eq!(texts(&error.await.unwrap_err()), ["spawner"]);
            assert_eq!(tally.drops(), 1);
        }
    });
}

// ---- G31, G32, G34, G35, G37: what is around it ----

/// A group needs no task: it works in `main` and in `block_on`.
#[test]
fn g31_a_group_works_without_a_task() {
    async fn both() {
        let sum = TaskGroup::run(async |g| {
            let child = g.spawn(async { Ok::<_, Broken>(1) });
            Ok(child.await? + 1)
        });
        assert_eq!(sum.await.unwrap(), 2);
        let dropped = Drops::default();
        let error = TaskGroup::run(async |g| {
            let _guard = dropped.guard();
            g.spawn(async { Err::<(), _>(Broken("child")) });
            pending::<Outcome>().await
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["child"]);
        assert_eq!(dropped.count(), 1);
    }
    within(|| {
        crate::support::run(both());
        let runtime = Runtime::new().unwrap();
        runtime.handle().block_on(both());
        let message = panic_text(|| futures::executor::block_on(both()));
        assert!(
            message.contains("`TaskGroup::run` was called on a thread"),
            "{message}"
        );
    });
}

/// A group's error was dealt with: nothing is left of a cancellation, for the task or its count.
#[test]
fn g32_the_count_of_requests_is_kept() {
    in_a_task(async {
        let error = TaskGroup::run(async |g| {
            g.spawn(async { Err::<(), _>(Broken("child")) });
            let ended = catch_cancel(pending::<()>()).await;
            assert_eq!(cancelling(), 0, "a group does not count");
            assert!(ended.is_err());
            Ok(())
        });
        assert!(error.await.is_err());
        assert_eq!(cancelling(), 0);

        // One that was there before stays.
        let task = with_own_handle(|own: AbortHandle| async move {
            let asks = async {
                own.abort();
                pending::<()>().await;
            };
            assert!(catch_cancel(asks).await.is_err());
            let error = TaskGroup::run(async |g| {
                g.spawn(async { Err::<(), _>(Broken("child")) });
                pending::<Outcome>().await
            });
            assert!(error.await.is_err());
            (cancelling(), uncancel())
        });
        assert_eq!(task.await.unwrap(), (1, 0));
    });
}

/// The task is cancelled while a failure ends the group. The group answers with the error; the task is
/// cancelled at its next suspension point.
#[test]
fn g34_a_cancellation_during_an_error_is_not_lost() {
    in_a_task(async {
        let (errors, began) = (Log::default(), Signal::new());
        let task: JoinHandle<()> = with_own_handle({
            let (errors, began) = (errors.clone(), began.clone());
            |own| async move {
                let error = TaskGroup::run::<_, _, ()>(async |g| {
                    // Cancels the task in the very poll in which it fails.
                    let held = began.clone();
                    g.spawn(async move {
                        held.wait().await;
                        own.abort_with("outside");
                        Err::<(), _>(Broken("child"))
                    });
                    began.set();
                    pending().await
                });
                match error.await {
                    Err(error) => errors.push(texts(&error).join(", ")),
                    Ok(()) => unreachable!("a child fails"),
                }
                assert_eq!(cancelling(), 1);
                yield_now().await;
                errors.push("not reached");
            }
        });
        let error = task.await.unwrap_err();
        assert_eq!(error.reason(), "outside");
        assert_eq!(errors.all(), ["child"]);
    });
}

/// Errors belong to the group's error, and go with it.
#[test]
fn g35_errors_are_dropped_with_the_groups() {
    struct Counted(#[expect(dead_code, reason = "counts")] crate::support::DropGuard);
    impl fmt::Debug for Counted {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Counted")
        }
    }
    impl fmt::Display for Counted {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("counted")
        }
    }
    impl Error for Counted {}
    in_a_task(async {
        let drops = Drops::default();
        let mut kept = None;
        let error = TaskGroup::builder().supervise().run::<_, _, ()>(async |g| {
            kept = Some(g.clone());
            let children: Vec<_> = (0..3)
                .map(|_| {
                    let guard = drops.guard();
                    g.spawn(async move { Err::<(), _>(Counted(guard)) })
                })
                .collect();
            for child in children {
                assert!(child.await.unwrap_err().is_failed());
            }
            Err(Counted(drops.guard()).into())
        });
        let error = error.await.unwrap_err();
        assert_eq!((error.len(), drops.count()), (4, 0));
        drop(error);
        assert_eq!(drops.count(), 4, "though the group is still held: {kept:?}");
    });
}

/// A failure ends the group, and nothing of that reaches the code after it.
#[test]
fn g37_no_cancellation_leaks_out_of_a_group() {
    in_a_task(async {
        for cleans in [false, true] {
            let error = TaskGroup::run(async |g| {
                g.spawn(async { Err::<(), _>(Broken("child")) });
                if cleans {
                    let _ = catch_cancel(pending::<()>()).await;
                    return Ok(());
                }
                pending::<Outcome>().await
            });
            assert!(error.await.is_err());
            let after = catch_cancel(async {
                for _ in 0..10 {
                    yield_now().await;
                }
            });
            assert!(after.await.is_ok());
            assert_eq!(cancelling(), 0);
        }
    });
}

// ---- G39: TaskGroup::cancel ----

/// `cancel` ends a group early and is no error: a body that has its value keeps it.
#[test]
fn g39_cancel_ends_a_group_without_an_error() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let ended = TaskGroup::run(async |g| {
            g.spawn(log.clone().cleans::<()>(began.clone()));
            let (group, stops) = (g.clone(), began.clone());
            // By a child, after the body has ended.
            g.spawn(async move {
                stops.wait().await;
                group.cancel();
                group.cancel();
                Ok::<_, Broken>(())
            });
            Ok((g, "value"))
        });
        let (g, value) = ended.await.unwrap();
        assert_eq!(value, "value");
        assert_eq!(log.all(), ["the group was cancelled"]);
        // After the end it does nothing.
        g.cancel();
        yield_now().await;
        assert_eq!(cancelling(), 0);
    });
}

/// `cancel` by a child while the body waits: the body is cut, and there is no error inside.
#[test]
fn g39_cancel_cuts_the_body() {
    in_a_task(async {
        let dropped = Drops::default();
        let error = TaskGroup::run(async |g| {
            let _guard = dropped.guard();
            let group = g.clone();
            g.spawn(async move {
                group.cancel();
                Ok::<_, Broken>(())
            });
            pending::<Outcome>().await
        });
        let error = error.await.unwrap_err();
        assert!(error.is_cancelled() && error.source().is_none());
        assert!(error.to_string().ends_with("was cancelled"), "{error}");
        assert_eq!((error.len(), dropped.count()), (0, 1));
        let (found, rest) = error.downcast::<Broken>();
        assert!(found.is_empty() && rest.unwrap().is_cancelled());
    });
}

/// `cancel` first of all: the body goes on until its first suspension point, and no child begins.
#[test]
fn g39_cancel_at_the_beginning() {
    in_a_task(async {
        let (log, tally) = (Log::default(), Tally::default());
        let error = TaskGroup::run(async |g| {
            g.cancel();
            log.push("before");
            let child = g.spawn(tally.wrap(pending::<Result<(), Broken>>()));
            assert!(
                child.await.unwrap_err().is_closed(),
                "and that is no suspension point"
            );
            yield_now().await;
            log.push("after");
            Ok(())
        });
        assert!(error.await.unwrap_err().is_cancelled());
        assert_eq!((log.all(), tally.polls()), (vec!["before".into()], 0));
    });
}

/// The task is cancelled, and `cancel` cuts the cleanup of the body. The request is not lost.
#[test]
fn g39_cancel_does_not_swallow_a_request_to_the_task() {
    in_a_task(async {
        let (began, passed) = (Signal::new(), Log::default());
        let task = heist::spawn({
            let (began, passed) = (began.clone(), passed.clone());
            async move {
                let ended = TaskGroup::run::<_, _, ()>(async |g| {
                    let _ = catch_cancel(began.hold::<()>()).await;
                    g.cancel();
                    pending().await
                });
                let _ = ended.await;
                passed.push("not reached");
            }
        });
        began.wait().await;
        assert_eq!(task.cancel_with("test").await.unwrap_err().reason(), "test");
        assert!(passed.all().is_empty());
    });
}

/// The same where the body has its value, and a child cleans up after `cancel`. The child is not asked a
/// second time.
#[test]
fn g39_a_request_while_a_child_cleans_up_is_not_lost() {
    in_a_task(async {
        let (cleans, go, log) = (Signal::new(), Signal::new(), Log::default());
        let task = heist::spawn({
            let (cleans, go, log) = (cleans.clone(), go.clone(), log.clone());
            async move {
                let logged = log.clone();
                let ended = TaskGroup::run(async move |g| {
                    let began = Signal::new();
                    let held = began.clone();
                    g.spawn(async move {
                        match catch_cancel(held.hold::<Result<(), Broken>>()).await {
                            Ok(ended) => ended,
                            Err(cancelled) => {
                                cleans.set();
                                go.wait().await;
                                logged.push("cleaned");
                                match cancelled.resume().await {}
                            }
                        }
                    });
                    began.wait().await;
                    g.cancel();
                    Ok("a value that is not seen")
                });
                let _ = ended.await;
                log.push("not reached");
            }
        });
        cleans.wait().await;
        task.abort_with("test");
        // The group sees the request while the child still cleans up.
        sleep(Duration::from_millis(10)).await;
        go.set();
        assert_eq!(task.await.unwrap_err().reason(), "test");
        assert_eq!(log.all(), ["cleaned"]);
    });
}

/// Errors in the cleanup after `cancel` are errors.
#[test]
fn g39_errors_after_cancel_are_kept() {
    in_a_task(async {
        let error = TaskGroup::run(async |g| {
            let began = Signal::new();
            let held = began.clone();
            g.spawn(async move {
                let _ = catch_cancel(held.hold::<()>()).await;
                Err::<(), _>(Broken("cleanup"))
            });
            began.wait().await;
            g.cancel();
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert!(!error.is_cancelled());
        assert_eq!(texts(&error), ["cleanup"]);
    });
}

// ---- What that table does not have ----

/// The future of a group is dropped: its children are asked to end, and end; what fails in them then
/// is reported.
#[test]
fn a_group_that_is_dropped_cancels_its_children() {
    let reports = Reports::default();
    let seen = reports.clone();
    within(move || {
        let mut runtime = reports.of(Runtime::builder()).build().unwrap();
        runtime.run(async {
            let (log, began) = (Log::default(), Signal::new());
            let dropped = Drops::default();
            let mut outside = None;
            let mut group = Box::pin(TaskGroup::run::<_, _, ()>(async |g| {
                outside = Some(g.clone());
                g.spawn(log.clone().cleans::<()>(began.clone()));
                let held = began.clone();
                g.spawn(async move {
                    let _ = catch_cancel(held.hold::<()>()).await;
                    Err::<(), _>(Broken("unseen"))
                });
                let _guard = dropped.guard();
                pending().await
            }));
            assert!(crate::support::poll_once(&mut group).is_pending());
            began.wait().await;
            began.wait().await;
            drop(group);
            assert_eq!(dropped.count(), 1);
            let g = outside.unwrap();
            assert!(!g.is_open());
            eventually("the children end", || g.live() == 0);
            assert_eq!(log.all(), ["the group was dropped"]);
        });
    });
    let failed: Vec<_> = seen.all();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].starts_with("Failed") && failed[0].contains("unseen"));
}

/// A first request to the task ends the group, whose children clean up. A second one is passed on,
/// and ends their cleanups.
#[test]
fn a_second_request_is_passed_on_to_the_children() {
    in_a_task(async {
        let (began, dropped) = (Signal::new(), Drops::default());
        let task = heist::spawn(TaskGroup::run::<_, _, ()>({
            let (began, guard) = (began.clone(), dropped.guard());
            async move |g| {
                g.spawn(async move {
                    let _guard = guard;
                    let _ = catch_cancel(began.clone().hold::<()>()).await;
                    // For ever.
                    began.hold::<Result<(), Broken>>().await
                });
                pending().await
            }
        }));
        began.wait().await;
        task.abort_with("first");
        began.wait().await;
        task.abort_with("second");
        assert_eq!(task.await.unwrap_err().reason(), "first");
        assert_eq!(dropped.count(), 1);
    });
}

/// A time limit around a group cancels the children and waits for their cleanup; the task hears
/// nothing of it.
#[test]
fn a_timeout_around_a_group_waits_for_its_children() {
    in_a_task(async {
        let (log, began) = (Log::default(), Signal::new());
        let group = TaskGroup::run::<_, _, ()>(async |g| {
            g.spawn(log.clone().cleans::<()>(began.clone()));
            pending().await
        });
        let mut limited = timeout(LIMIT, group);
        let deadline = limited.handle();
        // Not before the child has begun.
        let expires = async {
            began.wait().await;
            deadline.reschedule(Instant::now()).unwrap();
        };
        assert!(join(limited, expires).await.0.is_err());
        assert_eq!((log.count("no reason"), cancelling()), (1, 0));
        yield_now().await;
    });
}

/// The loop ends while a group runs in a task: the children clean up before the group's task ends.
#[test]
fn the_end_of_the_loop_waits_for_a_group() {
    within(|| {
        let (log, order) = (Log::default(), Log::default());
        let mut runtime = Runtime::new().unwrap();
        runtime.run(async {
            let began = Signal::new();
            let (log, order, held) = (log.clone(), order.clone(), began.clone());
            drop(heist::spawn(async move {
                let group = TaskGroup::run::<_, _, ()>(async |g| {
                    g.spawn(log.cleans::<()>(held));
                    pending().await
                });
                let ended = catch_cancel(group).await;
                order.push(if ended.is_err() { "cancelled" } else { "ended" });
            }));
            began.wait().await;
        });
        let report = runtime.close();
        assert_eq!(log.all(), ["no reason"], "{report}");
        assert_eq!(order.all(), ["cancelled"]);
    });
}

/// The runtime has ended, and somebody still has the group: spawning answers "closed", drops the future
/// or gives it back, and nothing hangs.
#[test]
fn a_group_on_a_closed_runtime_takes_no_children() {
    within(|| {
        let mut runtime = Runtime::new().unwrap();
        let (hand, handed) = async_channel::bounded(1);
        let tally = Tally::default();
        let late = tally.wrap(ready(Ok::<_, Broken>(1)));
        let g = runtime.run(async {
            drop(heist::spawn(TaskGroup::run::<_, _, ()>(async move |g| {
                hand.send(g).await.unwrap();
                pending().await
            })));
            handed.recv().await.unwrap()
        });
        assert!(g.is_open());
        runtime.close();
        let refused = g.try_spawn(late).unwrap_err();
        assert_eq!(tally.drops(), 0, "the future is given back");
        drop(refused);
        assert_eq!((tally.polls(), tally.drops()), (0, 1));
        assert!(!g.is_open());

        let late = tally.wrap(ready(Ok::<_, Broken>(1)));
        let ended = g.spawn(late).now_or_never().expect("it is ready at once");
        assert!(ended.is_err());
        assert_eq!((tally.polls(), tally.drops()), (0, 2));
    });
}

/// No more than so many children run at a time; they begin in the order of spawning, and one that is
/// aborted while it waits never begins.
#[test]
fn no_more_children_run_than_allowed() {
    in_a_task(async {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let log = Log::default();
        let never = Tally::default();
        let ended = TaskGroup::builder().concurrency(3).run(async |g| {
            let gate = Signal::new();
            for n in 0..20 {
                let (running, most) = (running.clone(), most.clone());
                let (log, gate) = (log.clone(), gate.clone());
                g.spawn(async move {
                    log.push(n.to_string());
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    if n < 3 {
                        gate.wait().await;
                    }
                    yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Broken>(())
                });
            }
            let waits = g.spawn(never.wrap(pending::<Result<(), Broken>>()));
            assert!(waits.cancel().await.unwrap_err().is_cancelled());
            assert_eq!(g.live(), 20);
            // As many as may run are there, before the first of them goes on.
            while running.load(Ordering::SeqCst) < 3 {
                yield_now().await;
            }
            for _ in 0..3 {
                gate.set();
            }
            Ok(())
        });
        ended.await.unwrap();
        assert_eq!(
            (most.load(Ordering::SeqCst), never.polls(), never.drops()),
            (3, 0, 1)
        );
        assert_eq!(log.all().len(), 20);

        // One at a time: strictly in order.
        let order = Log::default();
        let jobs: Vec<_> = (0..50)
            .map(|n: usize| {
                let order = order.clone();
                async move {
                    yield_now().await;
                    order.push(n.to_string());
                    Ok::<_, Broken>(n)
                }
            })
            .collect();
        let outputs = TaskGroup::builder().concurrency(1).all(jobs).await.unwrap();
        assert!(outputs.into_iter().eq(0..50));
        assert!(order.all().into_iter().eq((0..50).map(|n| n.to_string())));
        assert!(panic_text(|| TaskGroup::builder().concurrency(0)).contains("concurrency of 0"));
    });
}

/// A group that aborts while children wait for their turn: those are dropped unpolled.
#[test]
fn children_that_wait_for_their_turn_are_cancelled_with_the_group() {
    in_a_task(async {
        let tally = Tally::default();
        let error = TaskGroup::builder().concurrency(1).run(async |g| {
            let go = Signal::new();
            g.spawn(fails_after(go.clone(), "first"));
            for _ in 0..10 {
                g.spawn(tally.wrap(pending::<Result<(), Broken>>()));
            }
            go.set();
            Ok(())
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["first"]);
        assert_eq!(tally.drops(), 10);
    });
}

/// In a supervised group a failure cancels nobody, and all errors are there at the end. An error that
/// only says that another child has failed is not one more.
#[test]
fn a_supervised_group_goes_on() {
    in_a_task(async {
        let log = Log::default();
        let error = TaskGroup::builder().supervise().run(async |g| {
            let one = g.spawn(async { Err::<(), _>(Broken("one")) });
            g.spawn(async move { Ok::<_, BoxError>(one.await?) });
            let (go, logged) = (Signal::new(), log.clone());
            let waits = go.clone();
            g.spawn(async move {
                waits.wait().await;
                logged.push("went on");
                Err::<(), _>(Broken("two"))
            });
            while g.live() > 1 {
                yield_now().await;
            }
            assert!(g.is_open());
            go.set();
            Ok(())
        });
        assert_eq!(texts(&error.await.unwrap_err()), ["one", "two"]);
        assert_eq!(log.all(), ["went on"]);

        let mixed = (0..4).map(|n| async move {
            if n % 2 == 0 {
                Ok(n)
            } else {
                Err(Broken("odd"))
            }
        });
        let error = TaskGroup::builder()
            .supervise()
            .all(mixed)
            .await
            .unwrap_err();
        assert_eq!(texts(&error), ["odd", "odd"]);
    });
}

/// Outputs in the order of spawning, and as they come.
#[test]
fn outputs_come_in_order_or_as_completed() {
    in_a_task(async {
        let ended = TaskGroup::run(async |g| {
            let gates: Vec<_> = (0..3).map(|_| Signal::new()).collect();
            let spawn = |n: usize| {
                let gate = gates[n].clone();
                g.spawn(async move {
                    gate.wait().await;
                    Ok::<_, Broken>(n)
                })
            };
            let mut completed: FuturesUnordered<_> = (0..3).map(spawn).collect();
            let mut order = Vec::new();
            for n in [2, 0, 1] {
                gates[n].set();
                order.push(completed.next().await.unwrap()?);
            }
            Ok(order)
        });
        assert_eq!(ended.await.unwrap(), [2, 0, 1]);
        let all = TaskGroup::all((0..100).map(|n| async move {
            for _ in 0..n % 7 {
                yield_now().await;
            }
            Ok::<_, Broken>(n)
        }));
        assert!(all.await.unwrap().into_iter().eq(0..100));
    });
}

/// The body borrows from what is around it, and a group is a future that can be spawned.
#[test]
fn a_body_borrows_and_a_group_is_send() {
    fn is_send<F: Future + Send>(future: F) -> F {
        future
    }
    in_a_task(async {
        let words = vec![String::from("to"), String::from("steal")];
        let mut longest = "";
        let ended = is_send(TaskGroup::run(async |g| {
            for word in &words {
                let length = word.len();
                if g.spawn(async move { Ok::<_, Broken>(length) }).await? > longest.len() {
                    longest = word;
                }
            }
            Ok(())
        }));
        ended.await.unwrap();
        assert_eq!(longest, "steal");
    });
}

/// As text a group's error is a tree, with the causes of each error; it can be walked, searched, and
/// taken apart by type.
#[test]
fn an_error_of_a_group_is_a_tree() {
    #[derive(Debug)]
    struct Outer(Broken);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("two\nlines")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    async fn tree() -> GroupError {
        TaskGroup::run::<_, _, ()>(async |_| {
            TaskGroup::builder()
                .supervise()
                .run(async |g| {
                    let first = g.spawn(async { Err::<(), _>(Outer(Broken("deep"))) });
                    assert!(first.await.is_err());
                    let second = g.spawn(async { Err::<(), _>("x".parse::<u8>().unwrap_err()) });
                    assert!(second.await.is_err());
                    Err(Broken("last").into())
                })
                .await
                .map_err(BoxError::from)
        })
        .await
        .unwrap_err()
    }
    in_a_task(async {
        let error = tree().await;
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("1 error in the task group at "),
            "{text}"
        );
        assert!(
            lines[1].starts_with("└─ 3 errors in the task group at "),
            "{text}"
        );
        assert_eq!(
            lines[2..],
            [
                "   ├─ two",
                "   │  lines",
                "   │  caused by: deep",
                "   ├─ invalid digit found in string",
                "   └─ last",
            ]
        );
        assert!(error.source().unwrap().is::<GroupError>());
        assert!(error.contains::<Outer>() && !error.contains::<fmt::Error>());
        assert_eq!(error.leaves().len(), 3);

        let (broken, rest) = error.downcast::<Broken>();
        assert_eq!(broken, [Broken("last")]);
        let rest = rest.unwrap();
        assert_eq!((rest.len(), rest.leaves().len()), (1, 2));
        let (found, rest) = rest.downcast::<Outer>();
        assert_eq!(found.len(), 1);
        let (found, rest) = rest.unwrap().downcast::<std::num::ParseIntError>();
        assert_eq!((found.len(), rest.is_none()), (1, true));

        let (outer, others) = tree().await.split(|error| error.is::<Outer>());
        assert_eq!(texts(&outer.unwrap()), ["two\nlines"]);
        let others = others.unwrap();
        assert!(others.iter().all(|error| error.is::<GroupError>()));
        assert_eq!(others.leaves().len(), 2);
        let errors: Vec<BoxError> = tree().await.into_iter().collect();
        assert_eq!(errors.len(), 1);
    });
}
