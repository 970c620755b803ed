//! Promise 4: no wake-up is ever lost. No task is polled after it completed, nor by two threads at
//! once.
//!
//! The stress tests are seeded and print their seed; `HEIST_SEED` gives it back to them. They end
//! after a time, not after a number of rounds, and then hang (and say so) if a wake-up was lost.
#![forbid(unsafe_code)]

use crate::support::{Dice, Gate, Tally, eventually, within, within_for};
use heist::{Handle, JoinHandle, Runtime, yield_now};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// How long each stress test goes on.
const TIME: Duration = Duration::from_millis(1500);

/// Something that happens again and again, with the waker of whoever waits for it next.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    fn ring(&self, dice: &mut Dice) {
        self.rung.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            match dice.below(4) {
                0 => waker.wake(),
                1 => waker.wake_by_ref(),
                2 => waker.clone().wake(),
                _ => {
                    // Twice, the second time perhaps after the end of the task.
                    waker.wake_by_ref();
                    waker.wake();
                }
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rung.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let old = self.waker.lock().unwrap().replace(cx.waker().clone());
        drop(old);
        // Rung between the look and the registration: the ringer may have missed the waker.
        if self.rung.swap(false, Ordering::SeqCst) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| self.poll(cx)).await
    }
}

/// Chains of tasks hand a token on: each waits for its bell and rings that of the next, from a task,
/// from a foreign thread, from a blocking closure. If one wake-up is lost, the token stops.
#[test]
fn no_wake_is_lost_between_tasks_and_threads() {
    for workers in [1, 2, 4] {
        within(move || {
            let mut dice = Dice::new("no_wake_is_lost_between_tasks_and_threads");
            let mut runtime = Runtime::builder().workers(workers).build().unwrap();
            let tally = Tally::default();
            let end = Instant::now() + TIME / 2;
            let (ring, to_ring) = std::sync::mpsc::channel::<Arc<Bell>>();
            let mut thread_dice = dice.fork();
            let ringer = thread::spawn(move || {
                while let Ok(bell) = to_ring.recv() {
                    bell.ring(&mut thread_dice);
                }
            });
            let passed = runtime.run(async {
                let mut chains = Vec::new();
                for _ in 0..4 {
                    let bells: Vec<Arc<Bell>> = (0..8).map(|_| Arc::default()).collect();
                    let passed = Arc::new(AtomicUsize::new(0));
                    for n in 0..bells.len() {
                        let (own, next) = (bells[n].clone(), bells[(n + 1) % bells.len()].clone());
                        let (mut dice, ring, passed) = (dice.fork(), ring.clone(), passed.clone());
                        chains.push(heist::spawn(tally.wrap(async move {
                            loop {
                                own.wait().await;
                                passed.fetch_add(1, Ordering::SeqCst);
                                let over = Instant::now() > end;
                                match dice.below(40) {
                                    0 => drop(heist::spawn_blocking({
                                        let (next, mut dice) = (next.clone(), dice.fork());
                                        move || next.ring(&mut dice)
                                    })),
                                    1..10 => ring.send(next.clone()).unwrap(),
                                    10..15 => {
                                        yield_now().await;
                                        next.ring(&mut dice);
                                    }
                                    _ => next.ring(&mut dice),
                                }
                                if over {
                                    return passed.load(Ordering::SeqCst);
                                }
                            }
                        })));
                    }
                    bells[0].ring(&mut dice);
                }
                let mut passed = 0;
                for task in chains {
                    passed = task.await.unwrap().max(passed);
                }
                passed
            });
            drop(ring);
            ringer.join().unwrap();
            assert!(passed > 100, "the token was handed on {passed} times only");
            assert_eq!(tally.drops(), 32);
            tally.assert_sound();
        });
    }
}

/// Tasks go to sleep and are woken by foreign threads at the moment that their workers go to sleep
/// too. Each thread waits for the answer, so the runtime is idle between any two wakes; with one
/// thread, nothing else would ever come by and find what a lost wake-up has left.
#[test]
fn no_wake_is_lost_when_the_workers_go_to_sleep() {
    for (workers, askers) in [(1, 1), (2, 1), (2, 2)] {
        within(move || {
            let mut dice = Dice::new("no_wake_is_lost_when_the_workers_go_to_sleep");
            let mut runtime = Runtime::builder().workers(workers).build().unwrap();
            let (finished, all_finished) = async_channel::bounded::<usize>(askers);
            let threads: Vec<_> = (0..askers)
                .map(|n| {
                    let (ask, asked) = async_channel::bounded::<usize>(1);
                    let (answer, answers) = async_channel::bounded::<usize>(1);
                    drop(runtime.handle().spawn(async move {
                        while let Ok(question) = asked.recv().await {
                            answer.send(question + 1).await.unwrap();
                        }
                    }));
                    let (mut dice, finished) = (dice.fork(), finished.clone());
                    thread::spawn(move || {
                        let end = Instant::now() + TIME / 2;
                        let mut answered = 0;
                        while Instant::now() < end {
                            let question = dice.below(1000);
                            ask.send_blocking(question).unwrap();
                            assert_eq!(answers.recv_blocking(), Ok(question + 1));
                            answered += 1;
                            // Long enough to fall asleep, or not quite.
                            let pause = dice.below(60_000) as u64 * u64::from(n == 0);
                            let until = Instant::now() + Duration::from_nanos(pause);
                            while Instant::now() < until {
                                std::hint::spin_loop();
                            }
                        }
                        finished.send_blocking(answered).unwrap();
                    })
                })
                .collect();
            // `main` sleeps as well, as worker 0.
            let answered = runtime.run(async {
                let mut answered = 0;
                for _ in 0..askers {
                    answered += all_finished.recv().await.unwrap();
                }
                answered
            });
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(answered > 50, "{answered} answers");
        });
    }
}

/// Wakes race with the end of the loop: foreign threads wake tasks and `main` without a pause while
/// the runtime is closed. Every future must be dropped once and never be polled after that.
#[test]
fn wakes_race_with_the_end_of_the_loop() {
    within_for(Duration::from_secs(30), || {
        let mut dice = Dice::new("wakes_race_with_the_end_of_the_loop");
        let begin = Instant::now();
        let mut rounds = 0;
        while begin.elapsed() < TIME {
            rounds += 1;
            let tally = Tally::default();
            let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
            let (stop, begun) = (Arc::new(AtomicBool::new(false)), Gate::new());
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (wakers, stop, begun) = (wakers.clone(), stop.clone(), begun.clone());
                    let mut dice = dice.fork();
                    thread::spawn(move || {
                        begun.wait();
                        while !stop.load(Ordering::SeqCst) {
                            let waker = {
                                let mut wakers = wakers.lock().unwrap();
                                let at = dice.below(wakers.len());
                                if dice.one_in(50) && wakers.len() > 5 {
                                    wakers.swap_remove(at)
                                } else {
                                    wakers[at].clone()
                                }
                            };
                            waker.wake();
                        }
                    })
                })
                .collect();
            let workers = 1 + dice.below(3);
            let mut runtime = Runtime::builder().workers(workers).build().unwrap();
            let left = dice.below(200);
            let asleep = |wakers: &Arc<Mutex<Vec<Waker>>>| {
                let (wakers, mut first) = (wakers.clone(), true);
                poll_fn(move |cx| {
                    if std::mem::take(&mut first) {
                        wakers.lock().unwrap().push(cx.waker().clone());
                    }
                    Poll::<()>::Pending
                })
            };
            runtime.run(async {
                let mut main = Box::pin(asleep(&wakers));
                poll_fn(|cx| Poll::Ready(main.as_mut().poll(cx).is_pending())).await;
                for n in 0..20 {
                    let task = tally.wrap(asleep(&wakers));
                    drop(if n % 4 == 0 {
                        heist::spawn_local(task)
                    } else {
                        heist::spawn(task)
                    });
                }
                begun.open();
                for _ in 0..left {
                    yield_now().await;
                }
            });
            let report = runtime.close();
            let polls = tally.polls();
            assert_eq!(tally.drops(), 20);
            // And they go on for a while with wakers of tasks that are gone.
            for _ in 0..100 {
                thread::yield_now();
            }
            stop.store(true, Ordering::SeqCst);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(tally.polls(), polls, "a poll after the end");
            tally.assert_sound();
            assert!(
                report.abandoned.is_empty() && report.panicked.is_empty(),
                "{report}"
            );
        }
        println!("{rounds} rounds");
        assert!(rounds > 0);
    });
}

/// A task is woken by two threads without a pause, hops from worker to worker, and must never be in
/// two polls at once. It must be polled once more after its last wake.
#[test]
fn a_task_is_never_polled_by_two_threads_at_once() {
    within(|| {
        let mut runtime = Runtime::builder().workers(3).build().unwrap();
        let tally = Tally::default();
        let (counter, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let wakers: Vec<Arc<Mutex<Option<Waker>>>> = (0..4).map(|_| Arc::default()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (wakers, counter, stop) = (wakers.clone(), counter.clone(), stop.clone());
                thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        for slot in &wakers {
                            counter.fetch_add(1, Ordering::SeqCst);
                            let waker = slot.lock().unwrap().clone();
                            if let Some(waker) = waker {
                                waker.wake();
                            }
                        }
                    }
                    // The last word, which all of them must hear.
                    for slot in &wakers {
                        let waker = slot.lock().unwrap().clone();
                        waker.expect("every task has been polled by now").wake();
                    }
                })
            })
            .collect();
        runtime.run(async {
            let tasks: Vec<JoinHandle<()>> = wakers
                .iter()
                .map(|slot| {
                    let (slot, counter, seen, stop) =
                        (slot.clone(), counter.clone(), seen.clone(), stop.clone());
                    heist::spawn(tally.wrap(poll_fn(move |cx| {
                        *slot.lock().unwrap() = Some(cx.waker().clone());
                        let stopped = stop.load(Ordering::SeqCst);
                        seen.fetch_max(counter.load(Ordering::SeqCst), Ordering::SeqCst);
                        if stopped {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    })))
                })
                .collect();
            heist::sleep(TIME / 3).await;
            stop.store(true, Ordering::SeqCst);
            for task in tasks {
                task.await.unwrap();
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(tally.polls() > 100, "{} polls", tally.polls());
        tally.assert_sound();
    });
}

/// Wakes during a poll: however many, from wherever, they ask for exactly one more poll. None asks
/// for none.
#[test]
fn wakes_during_a_poll_ask_for_exactly_one_more() {
    within(|| {
        for wakes in 0..4 {
            let tally = Tally::default();
            let mut first = true;
            let future = tally.wrap(poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    for n in 0..wakes {
                        let waker = cx.waker().clone();
                        if n == 2 {
                            thread::spawn(move || waker.wake()).join().unwrap();
                        } else {
                            waker.wake();
                        }
                    }
                }
                Poll::<()>::Pending
            }));
            let mut runtime = Runtime::builder().workers(1).build().unwrap();
            runtime.run(async {
                let task = heist::spawn(future);
                let wanted = 1 + usize::from(wakes > 0);
                while tally.polls() < wanted {
                    yield_now().await;
                }
                // The one worker has had time for more, had there been more to do.
                for _ in 0..50 {
                    heist::spawn(yield_now()).await.unwrap();
                }
                assert_eq!(tally.polls(), wanted, "{wakes} wakes");
                task.abort();
            });
        }
    });
}

/// The same for `main` and for a local task.
#[test]
fn wakes_of_main_and_of_local_tasks_are_counted_the_same_way() {
    within(|| {
        let mut runtime = Runtime::builder().workers(1).build().unwrap();
        let polls = AtomicUsize::new(0);
        runtime.run(poll_fn(|cx| match polls.fetch_add(1, Ordering::SeqCst) {
            0..3 => {
                cx.waker().wake_by_ref();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }));
        assert_eq!(polls.load(Ordering::SeqCst), 4);
        runtime.run(async {
            let tally = Tally::default();
            let mut left = 3;
            heist::spawn_local(tally.wrap(poll_fn(move |cx| {
                left -= 1;
                cx.waker().wake_by_ref();
                cx.waker().clone().wake();
                if left == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })))
            .await
            .unwrap();
            yield_now().await;
            assert_eq!((tally.polls(), tally.drops()), (3, 1));
        });
    });
}

/// A task is woken again and again after it has completed, by a waker that outlives it.
#[test]
fn a_completed_task_is_not_polled_again() {
    within(|| {
        let (sender, wakers) = async_channel::unbounded();
        let tally = Tally::default();
        crate::support::run(async {
            heist::spawn(tally.wrap(poll_fn(move |cx| {
                sender.try_send(cx.waker().clone()).unwrap();
                Poll::Ready(())
            })))
            .await
            .unwrap();
            let waker: Waker = wakers.recv().await.unwrap();
            for _ in 0..10 {
                waker.wake_by_ref();
                waker.clone().wake();
                yield_now().await;
            }
            assert_eq!((tally.polls(), tally.drops()), (1, 1));
        });
        tally.assert_sound();
    });
}

/// Ten thousand tasks wait for each other in one long line, on all workers: the end of the line is
/// reached only if every join handle woke its waiter.
#[test]
fn join_handles_wake_their_waiters_down_a_long_line() {
    within(|| {
        crate::support::run(async {
            let (go, gone) = async_channel::bounded::<()>(1);
            let mut line = heist::spawn(async move { gone.recv().await.map(|()| 0).unwrap() });
            for _ in 0..10_000 {
                line = heist::spawn(async move { line.await.unwrap() + 1 });
            }
            go.send(()).await.unwrap();
            assert_eq!(line.await.unwrap(), 10_000);
        });
    });
}

/// Spawns come from ten foreign threads at once while the runtime is idle, busy, or between runs.
/// Every one of them must run, and the number of live tasks must come back to none.
#[test]
fn no_spawn_from_a_foreign_thread_is_lost() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..10)
            .map(|_| {
                let (handle, ran): (Handle, _) = (runtime.handle(), ran.clone());
                thread::spawn(move || {
                    for _ in 0..500 {
                        let ran = ran.clone();
                        drop(handle.spawn(async move {
                            ran.fetch_add(1, Ordering::SeqCst);
                        }));
                    }
                })
            })
            .collect();
        runtime.run(async {
            for _ in 0..50 {
                yield_now().await;
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        eventually("all spawned tasks have run", || {
            ran.load(Ordering::SeqCst) == 5000
        });
        let report = runtime.close();
        assert!(report.is_clean(), "{report}");
    });
}

/// A future that is given to another task, with its waker still registered by the first: the wake
/// must go to the task that polled it last.
#[test]
fn the_last_poller_of_a_shared_future_is_woken() {
    within(|| {
        crate::support::run(async {
            let bell = Arc::new(Bell::default());
            let (handed, hand) =
                async_channel::bounded::<Pin<Box<dyn Future<Output = ()> + Send>>>(1);
            let inner = bell.clone();
            heist::spawn(async move {
                let mut future: Pin<Box<dyn Future<Output = ()> + Send>> =
                    Box::pin(async move { inner.wait().await });
                poll_fn(|cx| {
                    assert!(future.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                handed.send(future).await.unwrap();
            })
            .await
            .unwrap();
            let (ready, is_ready) = async_channel::bounded::<()>(1);
            let second = heist::spawn(async move {
                let mut future = hand.recv().await.unwrap();
                poll_fn(|cx| {
                    assert!(future.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                ready.send(()).await.unwrap();
                future.await;
            });
            is_ready.recv().await.unwrap();
            bell.ring(&mut Dice::new(
                "the_last_poller_of_a_shared_future_is_woken",
            ));
            second.await.unwrap();
        });
    });
}

/// A timer keeps the shard it was bound to. Its worker, the thread of `run`, has left that slot while
/// the timer was not armed, and another worker lives. Armed again from there, it must still fire.
#[test]
fn a_timer_whose_worker_has_left_still_fires() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = runtime.handle();
        // Takes the first slot, so that `run` takes the second.
        let other = handle.spawn(std::future::pending::<()>());
        let mut interval = runtime.run(async {
            let mut interval = heist::interval(Duration::from_millis(2));
            interval.tick().await;
            interval.tick().await;
            interval
        });
        for _ in 0..3 {
            let ticked = handle.spawn(async move {
                interval.tick().await;
                interval
            });
            interval = handle.block_on(ticked).unwrap();
        }
        other.abort();
    });
}
