//! Waiting for several tasks: rows K13, K14 and K17 of asyncio's table (`wait`, `as_completed`,
//! `gather`). heist has no names of its own for that: its handles are futures, and the combinators of
//! the crate `futures` do all of it. These tests show how.
#![forbid(unsafe_code)]

use crate::support::{Drops, Signal, in_a_task};
use futures::future::{self, Either, FutureExt, join_all, select, select_all, try_join_all};
use futures::lock::Mutex;
use futures::stream::{FuturesUnordered, StreamExt};
use heist::task::CancelOnDrop;
use heist::time::{Duration, sleep, timeout};
use heist::{JoinHandle, TaskGroup, yield_now};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

const MS: Duration = Duration::from_millis(1);

type Number = Result<u32, &'static str>;

/// A task that ends with `output` when its signal is set.
fn on_signal<T: Send + 'static>(output: T) -> (Signal, JoinHandle<T>) {
    let go = Signal::new();
    let went = go.clone();
    let task = heist::spawn(async move {
        went.wait().await;
        output
    });
    (go, task)
}

/// Several of them.
fn on_signals<T: Send + 'static>(
    outputs: impl IntoIterator<Item = T>,
) -> (Vec<Signal>, Vec<JoinHandle<T>>) {
    outputs.into_iter().map(on_signal).unzip()
}

/// Lets all go on, and tells what they give.
async fn finish<T>(signals: &[Signal], tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    signals.iter().for_each(Signal::set);
    let outputs = join_all(tasks).await;
    outputs.into_iter().map(Result::unwrap).collect()
}

// ---- K13: wait ----

/// `FIRST_COMPLETED`: the first to end is told, with its place; the others go on.
#[test]
fn k13_the_first_of_several() {
    in_a_task(async {
        let (signals, tasks) = on_signals(["a", "b", "c"]);
        signals[1].set();
        let (output, place, rest) = select_all(tasks).await;
        assert_eq!((output.unwrap(), place), ("b", 1));
        assert!(rest.iter().all(|task| !task.is_finished()));
        assert_eq!(finish(&signals, rest).await, ["a", "c"]);

        // Of two, of different types.
        let ((go, word), (never, number)) = (on_signal("word"), on_signal(7));
        go.set();
        let Either::Left((output, number)) = select(word, number).await else {
            panic!("the number was not let go")
        };
        assert_eq!(output.unwrap(), "word");
        never.set();
        assert_eq!(number.await.unwrap(), 7);
    });
}

/// Those that have ended at the same time are all told.
#[test]
fn k13_all_that_have_ended_at_once() {
    in_a_task(async {
        let (signals, tasks) = on_signals([1, 2, 3]);
        let (rest, done) = tasks.split_at(1);
        signals[1].set();
        signals[2].set();
        while !done.iter().all(JoinHandle::is_finished) {
            yield_now().await;
        }
        assert!(!rest[0].is_finished());
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        let mut ended = Vec::new();
        while let Some(Some(output)) = tasks.next().now_or_never() {
            ended.push(output.unwrap());
        }
        ended.sort_unstable();
        assert_eq!((ended, tasks.len()), (vec![2, 3], 1));
        signals[0].set();
        assert_eq!(tasks.next().await.unwrap().unwrap(), 1);
    });
}

/// `FIRST_EXCEPTION`: ends with the first that fails, be it an error or a panic, whatever has succeeded
/// before; with all, if none does. The others go on.
#[test]
fn k13_the_first_failure_of_several() {
    async fn first_failure(tasks: &mut FuturesUnordered<JoinHandle<Number>>) -> Option<String> {
        loop {
            match tasks.next().await? {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(error.into()),
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    in_a_task(async {
        let (signals, tasks) = on_signals([Ok(1), Err("broken"), Ok(3)]);
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        signals[0].set();
        signals[1].set();
        let failed = first_failure(&mut tasks).await;
        assert_eq!(failed.as_deref(), Some("broken"));
        // The success may not have been taken yet; the third has not ended.
        signals[2].set();
        assert_eq!(first_failure(&mut tasks).await, None);
        assert!(tasks.is_empty());

        let panics = heist::spawn(async { panic!("a bug") });
        let mut tasks = FuturesUnordered::from_iter([panics]);
        let failed = first_failure(&mut tasks).await.unwrap();
        assert!(failed.contains("a bug"), "{failed}");
    });
}

/// `ALL_COMPLETED`: ends with the last; a failure ends nothing.
#[test]
fn k13_all_of_several() {
    in_a_task(async {
        let (signals, tasks) = on_signals([Ok(1), Err("broken"), Ok(3)]);
        let mut all = pin!(join_all(tasks));
        signals[1].set();
        signals[0].set();
        sleep(MS).await;
        assert!(all.as_mut().now_or_never().is_none());
        signals[2].set();
        let ended: Vec<Number> = all.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ended, [Ok(1), Err("broken"), Ok(3)]);
    });
}

/// When the time is over the tasks go on, and those that have ended meanwhile are told.
#[test]
fn k13_a_time_limit_leaves_the_tasks_running() {
    in_a_task(async {
        let (signals, tasks) = on_signals(["slow", "quick"]);
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        signals[1].set();
        let mut ended = Vec::new();
        let all = async {
            while let Some(output) = tasks.next().await {
                ended.push(output.unwrap());
            }
        };
        assert!(timeout(20 * MS, all).await.is_err());
        if ended.is_empty() {
            // The machine was too slow for it.
            ended.push(tasks.next().await.unwrap().unwrap());
        }
        assert_eq!(ended, ["quick"]);
        assert_eq!(tasks.len(), 1);
        signals[0].set();
        assert_eq!(tasks.next().await.unwrap().unwrap(), "slow");
    });
}

/// Who waits is cancelled: it ends at once, and the tasks go on.
#[test]
fn k13_a_cancelled_waiter_leaves_the_tasks_running() {
    in_a_task(async {
        let began = Signal::new();
        let (go, went) = (Signal::new(), Signal::new());
        let task = heist::spawn({
            let (go, went) = (go.clone(), went.clone());
            async move {
                go.wait().await;
                went.set();
            }
        });
        let waits = heist::spawn({
            let began = began.clone();
            async move {
                began.set();
                join_all([task]).await
            }
        });
        began.wait().await;
        assert!(waits.cancel().await.unwrap_err().is_cancelled());
        go.set();
        went.wait().await;
    });
}

/// None at all: to wait for the first is refused, all have ended, and there is no next one.
#[test]
fn k13_none_at_all() {
    in_a_task(async {
        let none = Vec::<JoinHandle<()>>::new;
        let refused = std::panic::catch_unwind(|| drop(select_all(none())));
        assert!(refused.is_err());
        assert!(join_all(none()).await.is_empty());
        let mut tasks = FuturesUnordered::from_iter(none());
        assert!(tasks.next().await.is_none());
    });
}

// ---- K14: as_completed ----

/// Outputs come as the tasks end, failures among them.
#[test]
fn k14_outputs_come_in_the_order_of_completion() {
    in_a_task(async {
        let (signals, tasks) = on_signals([Ok(1), Err("broken"), Ok(3)]);
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        for (place, expected) in [(2, Ok(3)), (1, Err("broken")), (0, Ok(1))] {
            signals[place].set();
            assert_eq!(tasks.next().await.unwrap().unwrap(), expected);
        }
        assert!(tasks.next().await.is_none());
    });
}

/// A consumer that leaves its loop goes on later with those that are left, and may add some.
#[test]
fn k14_a_consumer_leaves_its_loop_and_comes_back() {
    in_a_task(async {
        let (signals, tasks) = on_signals([1, 2, 3]);
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        signals[1].set();
        // The loop that is left after one.
        let first = tasks.next().await.unwrap().unwrap();
        let (go, late) = on_signal(4);
        tasks.push(late);
        signals[0].set();
        signals[2].set();
        go.set();
        let mut rest: Vec<u32> = tasks.map(Result::unwrap).collect().await;
        rest.sort_unstable();
        assert_eq!((first, rest), (2, vec![1, 3, 4]));
    });
}

/// A limit for the whole loop: what has come before counts, and the tasks that are left go on.
#[test]
fn k14_a_time_limit_for_the_whole_loop() {
    in_a_task(async {
        let (signals, tasks) = on_signals([1, 2]);
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        signals[0].set();
        assert_eq!(tasks.next().await.unwrap().unwrap(), 1);
        assert!(timeout(MS, tasks.next()).await.is_err());
        signals[1].set();
        assert_eq!(tasks.next().await.unwrap().unwrap(), 2);
        assert_eq!(timeout(MS, tasks.next()).await.unwrap().map(drop), None);
    });
}

/// Several tasks take from one stream: each output goes to one of them, and none is lost.
#[test]
fn k14_several_consumers() {
    in_a_task(async {
        let (signals, tasks) = on_signals(0..100);
        let tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        let tasks = Arc::new(Mutex::new(tasks));
        let consume = || {
            let tasks = tasks.clone();
            heist::spawn(async move {
                let mut taken = Vec::new();
                loop {
                    let next = tasks.lock().await.next().await;
                    match next {
                        Some(output) => taken.push(output.unwrap()),
                        None => return taken,
                    }
                }
            })
        };
        let consumers = [consume(), consume(), consume()];
        signals.iter().for_each(Signal::set);
        let taken = join_all(consumers).await.into_iter();
        let mut taken: Vec<i32> = taken.flat_map(Result::unwrap).collect();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..100));
    });
}

// ---- K17: gather ----

/// Outputs come in the order of the tasks, however they end; of several types too; and of none.
#[test]
fn k17_outputs_are_in_the_order_of_the_tasks() {
    in_a_task(async {
        let (signals, tasks) = on_signals(["a", "b", "c"]);
        let backwards = heist::spawn(async move {
            for go in signals.iter().rev() {
                go.set();
                yield_now().await;
            }
        });
        let outputs = join_all(tasks).await;
        let outputs: Vec<_> = outputs.into_iter().map(Result::unwrap).collect();
        assert_eq!(outputs, ["a", "b", "c"]);
        backwards.await.unwrap();

        let (word, number) = (heist::spawn(async { "word" }), heist::spawn(async { 7 }));
        let both = future::join(word, number).await;
        assert_eq!((both.0.unwrap(), both.1.unwrap()), ("word", 7));
        let none: [JoinHandle<()>; 0] = [];
        assert!(join_all(none).await.is_empty());
    });
}

/// The first failure is the answer at once, and the others go on to their end.
#[test]
fn k17_the_first_failure_comes_out_and_the_others_go_on() {
    in_a_task(async {
        let (go, went) = (Signal::new(), Signal::new());
        let good: JoinHandle<Number> = heist::spawn({
            let (go, went) = (go.clone(), went.clone());
            async move {
                go.wait().await;
                went.set();
                Ok(1)
            }
        });
        let bad = heist::spawn(async { Err("broken") });
        let flat = async |task: JoinHandle<Number>| task.await.unwrap();
        let gathered = try_join_all([good, bad].map(flat)).await;
        assert_eq!(gathered, Err("broken"));
        go.set();
        went.wait().await;

        // A panic likewise: of the handles themselves.
        let (go, good) = on_signal(1);
        let bad = heist::spawn(async { panic!("a bug") });
        assert!(try_join_all([good, bad]).await.unwrap_err().is_panic());
        go.set();
    });
}

/// `return_exceptions`: all failures are in their places.
#[test]
fn k17_failures_in_their_places() {
    in_a_task(async {
        let tasks: [JoinHandle<Number>; 4] = [
            heist::spawn(async { Ok(1) }),
            heist::spawn(async { Err("broken") }),
            heist::spawn(async { panic!("a bug") }),
            heist::spawn(pending()),
        ];
        tasks[3].abort();
        let ended = join_all(tasks).await;
        assert_eq!(ended[0].as_ref().unwrap(), &Ok(1));
        assert_eq!(ended[1].as_ref().unwrap(), &Err("broken"));
        assert!(ended[2].as_ref().unwrap_err().is_panic());
        assert!(ended[3].as_ref().unwrap_err().is_cancelled());
    });
}

/// Who gathers is cancelled: so are the tasks that it owns, with `cancel_on_drop` or in a group, where
/// they have ended too.
#[test]
fn k17_cancelling_who_gathers_cancels_the_tasks() {
    in_a_task(async {
        let (began, drops) = (Signal::new(), Drops::default());
        let hold = || {
            let (began, guard) = (began.clone(), drops.guard());
            async move {
                let _guard = guard;
                began.hold::<Number>().await
            }
        };
        let owned = [hold(), hold()].map(|work| heist::spawn(work).cancel_on_drop());
        let gather = heist::spawn(join_all::<[CancelOnDrop<_>; 2]>(owned));
        began.wait().await;
        began.wait().await;
        assert!(gather.cancel().await.unwrap_err().is_cancelled());
        // They were asked, and nobody has waited for them.
        while drops.count() < 2 {
            yield_now().await;
        }

        let group = heist::spawn(TaskGroup::all([hold(), hold()]));
        began.wait().await;
        began.wait().await;
        assert!(group.cancel().await.unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 4);
    });
}

/// One of them is cancelled: the others go on, and that is its place's answer.
#[test]
fn k17_one_of_them_is_cancelled() {
    in_a_task(async {
        let (signals, tasks) = on_signals(["a", "b"]);
        tasks[0].abort();
        signals[1].set();
        let ended = join_all(tasks).await;
        assert!(ended[0].as_ref().unwrap_err().is_cancelled());
        assert_eq!(ended[1].as_ref().unwrap(), &"b");
    });
}

/// One task in several places: a handle is not cloned, but a future of its output is shared.
#[test]
fn k17_a_task_in_several_places() {
    in_a_task(async {
        let (go, task) = on_signal(7);
        let shared = task.map(Result::unwrap).shared();
        go.set();
        let ended = join_all([shared.clone(), shared.clone(), shared]).await;
        assert_eq!(ended, [7; 3]);
    });
}
