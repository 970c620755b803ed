//! Promise 7: a panic in a task stays in that task and reaches whoever awaits it with its payload. So
//! does one in the destructor of a future, an output or a payload, even on top of another. A panic
//! that nobody will ever see is reported once. User code never runs under a lock of ours.
#![forbid(unsafe_code)]

use crate::support::{
    Drops, Gate, Name, Reports, Tally, alone, eventually, panic_text, poll_once, text_of, within,
};
use heist::{Builder, Handle, JoinHandle, Runtime, yield_now};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// Panics when it is dropped, with itself's text.
#[derive(Debug)]
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(self.0);
    }
}

/// A payload whose destructor counts, then panics with a payload of the same kind, `0` times more.
struct Chain(usize, Arc<AtomicUsize>);

impl Drop for Chain {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        if self.0 > 0 {
            panic_any(Chain(self.0 - 1, self.1.clone()));
        }
    }
}

/// Polls to the given end, with something inside that panics when the future is dropped. By hand,
/// because a compiler-made future drops its variables before it is ready.
struct Armed<T: Unpin> {
    end: Option<Result<T, &'static str>>,
    _bomb: Bomb,
}

impl<T: Unpin> Future for Armed<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        match self.end.take() {
            Some(Ok(output)) => Poll::Ready(output),
            Some(Err(text)) => panic_any(text),
            None => Poll::Pending,
        }
    }
}

/// Runs `test` on a runtime of two workers, twice: from `main`, and on a thread of the runtime.
/// Afterwards the runtime must still work, and must have reported `panics` unseen panics each time.
fn on_runtime<F>(panics: usize, test: impl Fn() -> F + Send + Sync + Clone + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    within(move || {
        let (name, reports) = (Name::new(), Reports::default());
        let mut runtime = reports
            .of(name.builder())
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(test());
        let again = test.clone();
        let handle = runtime.handle();
        handle
            .block_on(handle.spawn(async move { again().await }))
            .unwrap();
        assert_eq!(
            runtime.run(async { heist::spawn(async { 1 }).await.unwrap() }),
            1
        );
        runtime.close();
        assert_eq!(reports.count("Panicked"), 2 * panics, "{:?}", reports.all());
        assert_eq!(reports.all().len(), 2 * panics, "{:?}", reports.all());
        name.assert_gone();
    });
}

/// Three kinds of task panic, with text and with another payload. Each payload must reach who awaits
/// it, as it was, and other tasks must not notice.
#[test]
fn a_panic_reaches_who_awaits_the_task_with_its_payload() {
    on_runtime(0, || async {
        let neighbour = heist::spawn(async {
            for _ in 0..100 {
                yield_now().await;
            }
            "unharmed"
        });
        let error = heist::spawn(async { panic!("number {}", 5) })
            .await
            .unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled() && !error.is_closed());
        assert_eq!(error.reason(), "number 5");
        assert!(error.to_string().contains("number 5") && error.to_string().contains("panics.rs"));
        assert_eq!(text_of(&*error.into_panic()), "number 5");

        let error = heist::spawn(async { panic_any(vec![1_u8, 2]) })
            .await
            .unwrap_err();
        let payload = error.try_into_panic().unwrap();
        assert_eq!(payload.downcast_ref::<Vec<u8>>(), Some(&vec![1, 2]));

        let error = heist::spawn_blocking(|| panic_any(7_i64))
            .await
            .unwrap_err();
        assert_eq!(error.into_panic().downcast_ref::<i64>(), Some(&7));
        assert_eq!(neighbour.await.unwrap(), "unharmed");
    });
}

/// Local tasks the same: they are polled beside `main`, which must not notice.
#[test]
fn a_panic_of_a_local_task_stays_there() {
    within(|| {
        crate::support::run(async {
            let error = heist::spawn_local(async { panic_any(3_u16) })
                .await
                .unwrap_err();
            assert_eq!(error.into_panic().downcast_ref::<u16>(), Some(&3));
            assert_eq!(heist::spawn_local(async { 1 }).await.unwrap(), 1);
        });
    });
}

/// A task panics in every poll of a thousand tasks. The threads must survive: the
/// runtime has no more of them afterwards than before.
#[test]
fn workers_survive_panics() {
    within(|| {
        let count = crate::support::ThreadCount::default();
        let name = Name::new();
        let mut runtime = count
            .count(name.builder())
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(async {
            for _ in 0..10 {
                let tasks: Vec<JoinHandle<()>> = (0..100)
                    .map(|_| heist::spawn(async { resume_unwind(Box::new("quietly")) }))
                    .collect();
                for task in tasks {
                    assert!(task.await.unwrap_err().is_panic());
                }
            }
        });
        // The workers beside this thread, and spares for what looked blocked. On a slow machine spares come
        // and go, so those that are there now are counted.
        let alive = count.started() - count.ended();
        let most = crate::support::workers() - 1 + 4;
        assert!(alive <= most, "{alive} threads are there");
        runtime.close();
        assert_eq!(count.started(), count.ended());
    });
}

/// The future's destructor panics: after the output was made, when the task is aborted, and after
/// its poll has panicked already. The awaiter must get that panic, but the first of two.
#[test]
fn a_panic_of_a_futures_destructor_reaches_the_awaiter() {
    on_runtime(0, || async {
        let drops = Drops::default();
        let output = drops.guard();
        let ready = Armed {
            end: Some(Ok(output)),
            _bomb: Bomb("after its output"),
        };
        let error = heist::spawn(ready).await.unwrap_err();
        assert_eq!(text_of(&*error.into_panic()), "after its output");
        assert_eq!(
            drops.count(),
            1,
            "the output that nobody can get was dropped"
        );

        let waits = Armed::<()> {
            end: None,
            _bomb: Bomb("cancelled"),
        };
        let error = heist::spawn(waits).cancel().await.unwrap_err();
        assert_eq!(text_of(&*error.into_panic()), "cancelled");

        let fails = Armed::<()> {
            end: Some(Err("first")),
            _bomb: Bomb("second"),
        };
        let error = heist::spawn(fails).await.unwrap_err();
        assert_eq!(text_of(&*error.into_panic()), "first");
    });
}

/// Everything at once: the poll makes an output whose destructor panics, the future's destructor
/// panics too, so the output is dropped on top of that.
#[test]
fn panics_on_top_of_one_another_stay_in_the_task() {
    on_runtime(0, || async {
        let both = Armed {
            end: Some(Ok(Bomb("output"))),
            _bomb: Bomb("future"),
        };
        let error = heist::spawn(both).await.unwrap_err();
        assert_eq!(text_of(&*error.into_panic()), "future");
        // And without anybody to see it: that is counted in the next test.
    });
}

/// Panics that nobody will see: of tasks detached before and after their end, in poll, in the
/// destructor of the future, of the output. Each must be reported once.
#[test]
fn l10_a_panic_that_nobody_will_see_is_reported_once() {
    on_runtime(6, || async {
        // Detached before it panics.
        let gate = async_channel::bounded::<()>(1);
        drop(heist::spawn(async move {
            gate.1.recv().await.unwrap();
            panic_any("detached before");
        }));
        gate.0.send(()).await.unwrap();
        // Detached after it has panicked.
        let done = heist::spawn(async { panic_any("detached after") });
        until_finished(&done).await;
        drop(done);
        // In the destructor of a future, detached.
        drop(heist::spawn(Armed {
            end: Some(Ok(())),
            _bomb: Bomb("future"),
        }));
        // In the destructor of an output, detached before and after.
        drop(heist::spawn(async { Bomb("output before") }));
        let done = heist::spawn(async { Bomb("output after") });
        until_finished(&done).await;
        drop(done);
        // Of a blocking closure.
        let done = heist::spawn_blocking(|| panic_any("closure"));
        until_finished(&done).await;
        drop(done);
        // What is still under way ends before the next task that is spawned and awaited twice.
        for _ in 0..200 {
            heist::spawn(yield_now()).await.unwrap();
        }
    });
}

async fn until_finished<T>(task: &JoinHandle<T>) {
    while !task.is_finished() {
        yield_now().await;
    }
}

/// A panic is seen when its handle is awaited, also if the error is thrown away, and also if the
/// handle's runtime is another one. Then nothing is reported.
#[test]
fn a_panic_that_was_seen_is_not_reported() {
    on_runtime(0, || async {
        let _ = heist::spawn(async { panic_any("thrown away") }).await;
        let error = heist::spawn(async { panic_any("dropped later") })
            .await
            .unwrap_err();
        drop(error);
    });
}

/// Payloads whose destructor panics, with a payload whose destructor panics, and so on. Wherever the
/// error is dropped, that must stay there.
#[test]
fn a_panic_of_a_payloads_destructor_escapes_nowhere() {
    let counts = Arc::new(AtomicUsize::new(0));
    let inside = counts.clone();
    on_runtime(1, move || {
        let counts = inside.clone();
        async move {
            // Dropped by who awaited it.
            let payload = Chain(3, counts.clone());
            let error = heist::spawn(async move { panic_any(payload) })
                .await
                .unwrap_err();
            assert!(error.is_panic());
            drop(error);
            // Dropped by the runtime, unseen.
            let payload = Chain(3, counts.clone());
            let task = heist::spawn(async move { panic_any(payload) });
            until_finished(&task).await;
            drop(task);
            // Dropped on top of a panicking future's destructor.
            struct Both(
                Option<Chain>,
                #[expect(dead_code, reason = "for its destructor")] Chain,
            );
            impl Future for Both {
                type Output = ();
                fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                    match self.0.take() {
                        Some(payload) => panic_any(payload),
                        None => Poll::Pending,
                    }
                }
            }
            let both = Both(Some(Chain(0, counts.clone())), Chain(1, counts.clone()));
            let error = heist::spawn(both).await.unwrap_err();
            let payload = error.into_panic();
            assert!(
                payload
                    .downcast_ref::<Chain>()
                    .is_some_and(|chain| chain.0 == 0)
            );
        }
    });
    assert!(counts.load(Ordering::SeqCst) > 0);
}

/// Destructors panic while the loop ends. Each must be named in the report and reported once, and
/// all others must still be dropped.
#[test]
fn panics_at_the_end_are_named_in_the_report() {
    within(|| {
        let (reports, drops) = (Reports::default(), Drops::default());
        let mut runtime = reports
            .of(Runtime::builder())
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let seen = runtime.run(async {
            for n in 0..40 {
                let guard = drops.guard();
                let name = format!("leftover {n}");
                drop(heist::task::Builder::new().name(name).spawn(async move {
                    let _bomb = (n % 4 == 0).then(|| Bomb("at the end"));
                    let _guard = guard;
                    pending::<()>().await;
                }));
            }
            let bomb = Bomb("seen later");
            let seen = heist::spawn(async move {
                let _bomb = bomb;
                pending::<()>().await;
            });
            yield_now().await;
            seen
        });
        // Let all of them come to their `pending`.
        let handle = runtime.handle();
        for _ in 0..100 {
            handle.block_on(handle.spawn(yield_now())).unwrap();
        }
        let report = runtime.close();
        assert_eq!(drops.count(), 40);
        let mut names: Vec<_> = report
            .panicked
            .iter()
            .filter_map(|label| label.name.as_deref())
            .collect();
        names.sort_unstable();
        let mut wanted: Vec<_> = (0..10).map(|n| format!("leftover {}", 4 * n)).collect();
        wanted.sort_unstable();
        assert_eq!(names, wanted, "{report}");
        assert_eq!(report.cancelled, 41, "{report}");
        assert_eq!(reports.count("Panicked"), 10, "{:?}", reports.all());
        // Who holds the handle sees it, so it was not reported.
        let error = crate::support::run(seen).unwrap_err();
        assert_eq!(text_of(&*error.into_panic()), "seen later");
    });
}

/// `main` panics: that comes out, is not reported as well, and the runtime can be run again.
#[test]
fn l09_l15_a_panic_of_main_is_not_reported_and_leaves_the_runtime_usable() {
    within(|| {
        let reports = Reports::default();
        let mut runtime = reports
            .of(Runtime::builder())
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let task = runtime.run(async { heist::spawn(async { yield_now().await }) });
        let payload = catch_unwind(AssertUnwindSafe(|| {
            runtime.run(async {
                yield_now().await;
                panic_any(1.5_f64)
            })
        }));
        assert_eq!(payload.unwrap_err().downcast_ref::<f64>(), Some(&1.5));
        runtime.run(task).unwrap();
        assert!(runtime.close().is_clean());
        assert_eq!(reports.all(), Vec::<String>::new());
    });
}

/// The destructor of `main` panics: alone, over its output, and over its own panic. The first panic
/// must come out; the second is reported.
#[test]
fn a_panic_of_mains_destructor_comes_out() {
    within(|| {
        let drops = Drops::default();
        let output = drops.guard();
        let text = panic_text(|| {
            crate::support::run(Armed {
                end: Some(Ok(output)),
                _bomb: Bomb("destructor of main"),
            })
        });
        assert_eq!((&*text, drops.count()), ("destructor of main", 1));

        let reports = Reports::default();
        let mut runtime = reports.of(Runtime::builder()).build().unwrap();
        let armed = Armed::<()> {
            end: Some(Err("first")),
            _bomb: Bomb("second"),
        };
        assert_eq!(panic_text(|| runtime.run(armed)), "first");
        assert_eq!(reports.count("MainDropPanicked"), 1, "{:?}", reports.all());
        let armed = Armed {
            end: Some(Ok(Bomb("output"))),
            _bomb: Bomb("future"),
        };
        assert_eq!(panic_text(|| runtime.run(armed)), "future");
        assert_eq!(runtime.run(async { 1 }), 1);
        assert!(runtime.close().is_clean());
    });
}

/// The same for `block_on`, on a thread of its own.
#[test]
fn a_panic_inside_block_on_comes_out() {
    within(|| {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        assert_eq!(
            panic_text(|| handle.block_on(async { panic_any("inside") })),
            "inside"
        );
        assert!(Handle::try_current().is_none());
        assert_eq!(handle.block_on(async { 1 }), 1);
    });
}

/// Every hook panics, each time it is called. Each time must be reported, and nothing else happen.
#[test]
fn hooks_that_panic_are_reported_and_survived() {
    within(|| {
        let (name, reports) = (Name::new(), Reports::default());
        let builder: Builder = name
            .builder()
            .workers(crate::support::workers())
            .on_thread_start(|| panic_any("on_thread_start"))
            .on_thread_stop(|| panic_any("on_thread_stop"))
            .on_task_spawn(|_| panic_any(Bomb("on_task_spawn")));
        let mut runtime = reports.of(builder).build().unwrap();
        runtime.run(async {
            let sum = heist::spawn(async { 1 }).await.unwrap()
                + heist::spawn_local(async { 2 }).await.unwrap()
                + heist::spawn_blocking(|| 3).await.unwrap();
            assert_eq!(sum, 6);
        });
        runtime.close();
        let count = |hook: &str| {
            let hook = format!("HookPanicked {{ hook: \"{hook}\" }}");
            reports.count(&hook)
        };
        assert_eq!(count("on_task_spawn"), 3, "{:?}", reports.all());
        assert!(count("on_thread_start") >= 1, "{:?}", reports.all());
        assert_eq!(
            count("on_thread_start"),
            count("on_thread_stop"),
            "{:?}",
            reports.all()
        );
        assert_eq!(
            reports.all().len(),
            reports.count("HookPanicked"),
            "{:?}",
            reports.all()
        );
        name.assert_gone();
    });
}

/// What a handler that panics was told is written to standard error, once each time.
#[test]
fn l11_a_report_whose_handler_panics_goes_to_standard_error() {
    let ended = alone(ALONE, &[], "a_handler_panics", &[]);
    assert!(ended.ok, "{}", ended.output);
    for task in ["first", "second"] {
        let reports = ended.output.lines().filter(|line| {
            line.starts_with("heist: task ") && line.contains(task) && line.contains("unseen")
        });
        assert_eq!(reports.count(), 1, "{task}: {}", ended.output);
    }
}

/// The error handler itself panics, with a payload that panics. The runtime must live, and ask it
/// again the next time.
#[test]
fn l11_an_error_handler_that_panics_is_asked_again() {
    within(|| {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let handler = move |_: &heist::Report<'_>| {
            count.fetch_add(1, Ordering::SeqCst);
            panic_any(Bomb("on_error"));
        };
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .on_error(handler)
            .build()
            .unwrap();
        runtime.run(async {
            for _ in 0..3 {
                let task = heist::spawn(async { panic_any("unseen") });
                until_finished(&task).await;
                drop(task);
            }
        });
        runtime.close();
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    });
}

/// The waker of who awaits a task panics when it is woken, cloned or dropped. The worker must
/// survive, and the task's output must still be there.
#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Hostile(AtomicUsize);
    impl Wake for Hostile {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic_any("a waker, on purpose");
        }
    }
    impl Drop for Hostile {
        fn drop(&mut self) {
            panic_any("a waker's destructor, on purpose");
        }
    }
    within(|| {
        let (name, count) = (Name::new(), crate::support::ThreadCount::default());
        let mut runtime = count
            .count(name.builder())
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let (sender, receiver) = async_channel::bounded(1);
        let mut task = runtime.handle().spawn(async move { receiver.recv().await });
        let hostile = Arc::new(Hostile(AtomicUsize::new(0)));
        {
            let waker = Waker::from(hostile.clone());
            assert!(
                Pin::new(&mut task)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        sender.send_blocking(8).unwrap();
        eventually("the waker was called", || {
            hostile.0.load(Ordering::SeqCst) == 1
        });
        // Ours may be the last reference, or the worker's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hostile)));
        let Poll::Ready(Ok(Ok(8))) = poll_once(&mut task) else {
            panic!("the output is gone")
        };
        assert_eq!(
            runtime.run(async { heist::spawn(async { 2 }).await.unwrap() }),
            2
        );
        runtime.close();
        assert_eq!(count.started(), count.ended());
        name.assert_gone();
    });
}

/// Destructors, hooks and wakers call back into the runtime they are called by: they spawn, abort,
/// wake, block. If any of it ran under a lock of the runtime, this would hang.
#[test]
fn user_code_may_call_back_from_everywhere() {
    struct Callback(Gate, Drops);
    impl Drop for Callback {
        fn drop(&mut self) {
            let handle = Handle::current();
            let task = handle.spawn(pending::<()>());
            task.abort();
            drop(heist::spawn_blocking(|| ()));
            drop(handle.clone());
            // Another thread must get through as well while this one is in here.
            thread::spawn(move || {
                let task = handle.spawn(async {});
                task.abort();
                drop(task);
                handle.is_closed()
            })
            .join()
            .unwrap();
            drop(self.1.guard());
            self.0.open();
        }
    }
    struct CallbackWaker(Handle, Drops);
    impl Wake for CallbackWaker {
        fn wake(self: Arc<Self>) {
            let handle = self.0.clone();
            thread::spawn(move || drop(handle.spawn(async {})))
                .join()
                .unwrap();
            drop(self.0.spawn(async {}));
            drop(self.1.guard());
        }
    }
    within(|| {
        let drops = Drops::default();
        let spawned = Arc::new(AtomicUsize::new(0));
        let count = spawned.clone();
        let builder = Runtime::builder()
            .workers(crate::support::workers())
            .on_task_spawn(move |_| {
                if let Some(handle) = Handle::try_current() {
                    // One level is enough, or it would go on for ever.
                    if count.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
                        drop(handle.spawn(async {}));
                    }
                }
            })
            .on_error(|_| {
                let handle = Handle::try_current().expect("inside the runtime");
                thread::spawn(move || drop(handle.spawn(async {})))
                    .join()
                    .unwrap();
            });
        let mut runtime = builder.build().unwrap();
        let handle = runtime.handle();
        runtime.run(async {
            for _ in 0..20 {
                let gate = Gate::new();
                // In the destructor of a future that completes, of a cancelled one, of an output.
                let inside = Callback(gate.clone(), drops.clone());
                heist::spawn(async move { drop(inside) }).await.unwrap();
                let inside = Callback(gate.clone(), drops.clone());
                let task = heist::spawn(async move {
                    let _inside = inside;
                    pending::<()>().await;
                });
                let _ = task.cancel().await;
                let inside = Callback(gate.clone(), drops.clone());
                drop(heist::spawn(async move { inside }));
                // In the error handler.
                drop(heist::spawn(async { panic_any("unseen") }));
                // In a join waker.
                let mut task = heist::spawn(yield_now());
                let waker = Waker::from(Arc::new(CallbackWaker(handle.clone(), drops.clone())));
                let pending = poll_fn(|_| {
                    Poll::Ready(
                        Pin::new(&mut task)
                            .poll(&mut Context::from_waker(&waker))
                            .is_pending(),
                    )
                });
                let pending = pending.await;
                until_finished(&task).await;
                drop((task, waker, pending));
            }
            // At the end.
            for _ in 0..20 {
                let inside = Callback(Gate::new(), drops.clone());
                drop(heist::spawn(async move {
                    let _inside = inside;
                    pending::<()>().await;
                }));
            }
        });
        let report = runtime.close();
        assert!(report.abandoned.is_empty(), "{report}");
        assert!(drops.count() >= 80, "{} of 80 called back", drops.count());
        assert!(spawned.load(Ordering::SeqCst) > 100);
    });
}

/// A poll panics in the middle of a wake of itself. It must not be polled again for that wake.
#[test]
fn a_task_that_panicked_is_not_polled_again() {
    on_runtime(0, || async {
        let tally = Tally::default();
        let task = heist::spawn(tally.wrap(poll_fn(|cx| -> Poll<()> {
            cx.waker().wake_by_ref();
            let waker = cx.waker().clone();
            thread::spawn(move || waker.wake());
            panic_any("after its wake")
        })));
        assert!(task.await.unwrap_err().is_panic());
        for _ in 0..50 {
            yield_now().await;
        }
        assert_eq!((tally.polls(), tally.drops()), (1, 1));
        tally.assert_sound();
    });
}
