//! Promise 5 in its harder cases: every worker is blocked, or the only one that is not is never out of
//! work; what is blocked is the thread of `run`; what waits is a socket, a timer, a visitor. And what
//! debug mode tells of it. Bounds and rounds are those of `blocked.rs`.
#![forbid(unsafe_code)]

use crate::blocked::{Block, assert_held_up_at_most_once, assert_served_in_time};
use crate::support::{Gate, Name, OpenOnDrop, eventually, pair, poll_once, within};
use heist::net::TcpStream;
use heist::time::sleep;
use heist::{Builder, Report, yield_now};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// When the timers of these tests are due, after the block has begun.
const DUE: Duration = Duration::from_millis(40);

/// Reads one byte; when it came.
async fn read_one(stream: TcpStream) -> Instant {
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 1);
    Instant::now()
}

/// One batch of events wakes two tasks, and the first of them blocks its worker. The second must be
/// polled by somebody else, and so must a third task, whose socket on the same shard becomes ready
/// while the first is in its poll: the right to wait on the shard is not held by who polls.
#[test]
fn the_driver_is_not_held_across_a_poll() {
    assert_served_in_time("beside the poll that an event brought", || {
        let mut runtime = Builder::new().workers(2).build().unwrap();
        runtime.run(async {
            let ((a, mut peer_a), (b, mut peer_b), (c, mut peer_c)) =
                (pair().await, pair().await, pair().await);
            let (began, is_blocked) = mpsc::channel();
            let block = Block::until(2);
            let reads = |stream| heist::spawn(block.clone().serve(read_one(stream)));
            let blocks = block.clone();
            let first = heist::spawn(async move {
                let at = read_one(a).await;
                began.send(at).unwrap();
                blocks.wait();
            });
            let (second, third) = (reads(b), reads(c));
            for _ in 0..20 {
                yield_now().await;
            }
            let writer = thread::spawn(move || {
                peer_a.write_all(b"x").unwrap();
                peer_b.write_all(b"x").unwrap();
                let began = is_blocked.recv().unwrap();
                let written = Instant::now();
                peer_c.write_all(b"x").unwrap();
                (began, written)
            });
            let (second, third) = (second.await.unwrap(), third.await.unwrap());
            first.await.unwrap();
            let (began, written) = writer.join().unwrap();
            second
                .saturating_duration_since(began)
                .max(third.saturating_duration_since(written))
        })
    });
}

/// A task that is never out of work, and the thread it is on.
fn spinner(stop: &Arc<AtomicBool>) -> Arc<Mutex<Option<ThreadId>>> {
    let at = Arc::new(Mutex::new(None));
    let (here, stop) = (at.clone(), stop.clone());
    drop(heist::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            *here.lock().unwrap() = Some(thread::current().id());
            yield_now().await;
        }
    }));
    at
}

/// Two workers and no spare. One is blocked; the other runs a task that yields for ever, so it never
/// looks for work to steal. `round` runs on the first worker's slot, prepares what is to be late,
/// blocks, and tells how late it was.
#[track_caller]
fn beside_a_worker_that_is_never_idle<F>(what: &str, round: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = mpsc::Receiver<Duration>> + Send + 'static,
{
    assert_served_in_time(what, move || {
        // Who is stolen by the second worker, the one that spins or the one that is to block, is a
        // matter of chance.
        let late = (0..100).find_map(|_| {
            let name = Name::new();
            let builder = name.builder().workers(2).spare_workers(0);
            let runtime = builder.build().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let (round, stopped) = (round(), stop.clone());
            let handle = runtime.handle();
            let task = handle.spawn(async move {
                let spins_at = spinner(&stopped);
                while spins_at
                    .lock()
                    .unwrap()
                    .is_none_or(|at| at == thread::current().id())
                {
                    yield_now().await;
                }
                // The sockets and timers of what follows are on the first worker's shard.
                let thread = thread::current();
                if thread.name().is_some_and(|name| name.ends_with("-0")) {
                    Some(round.await)
                } else {
                    None
                }
            });
            let late = handle.block_on(task).unwrap();
            let late = late.map(|late| late.iter().max().expect("something was measured"));
            stop.store(true, Ordering::SeqCst);
            late
        });
        late.expect("the first worker keeps its task, now and then")
    });
}

/// Tasks in the queue and in the LIFO slot of the blocked worker.
#[test]
fn tasks_of_a_blocked_worker_while_the_other_is_never_idle() {
    beside_a_worker_that_is_never_idle("tasks beside a yield loop", || async {
        let (tell, told) = mpsc::channel();
        let (begin, block) = (Instant::now(), Block::until(100));
        for _ in 0..100 {
            let tell = tell.clone();
            drop(heist::spawn(block.clone().serve(async move {
                tell.send(begin.elapsed()).unwrap();
            })));
        }
        block.wait();
        told
    });
}

/// A socket and timers of the blocked worker's shard.
#[test]
fn sockets_and_timers_of_a_blocked_worker_while_the_other_is_never_idle() {
    beside_a_worker_that_is_never_idle("socket and timers beside a yield loop", || async {
        let (tell, told) = mpsc::channel();
        let (stream, mut peer) = pair().await;
        let block = Block::until(6);
        let (begin, written) = (Instant::now(), Arc::new(Mutex::new(None)));
        for _ in 0..5 {
            let (mut timer, tell) = (sleep(DUE), tell.clone());
            assert!(poll_once(&mut timer).is_pending());
            drop(heist::spawn(block.clone().serve(async move {
                timer.await;
                tell.send(begin.elapsed().saturating_sub(DUE)).unwrap();
            })));
        }
        let (reads, is_written) = (Gate::new(), written.clone());
        let waits = reads.clone();
        drop(heist::spawn(block.clone().serve(async move {
            let mut byte = [0];
            let mut read = Box::pin(stream.read(&mut byte));
            if poll_once(&mut read).is_pending() {
                waits.open();
            }
            assert_eq!(read.await.unwrap(), 1);
            let at: Option<Instant> = *is_written.lock().unwrap();
            tell.send(at.unwrap().elapsed()).unwrap();
        })));
        let writer = thread::spawn(move || {
            reads.wait();
            *written.lock().unwrap() = Some(Instant::now());
            peer.write_all(b"x").unwrap();
        });
        block.wait();
        writer.join().unwrap();
        told
    });
}

/// Every worker is blocked, the thread of `run` among them, by `main`. Spares must start, so that a
/// timer and a socket go on, and retire when it is over.
fn all_workers_blocked(workers: usize) {
    assert_served_in_time(&format!("all of {workers} blocked"), move || {
        let name = Name::new();
        let mut runtime = name.builder().workers(workers).build().unwrap();
        let late = runtime.run(async {
            let (stream, mut peer) = pair().await;
            let block = Block::until(2);
            let reader = heist::spawn(block.clone().serve(read_one(stream)));
            let (armed, is_armed) = async_channel::bounded(1);
            let sleeper = heist::spawn(block.clone().serve(async move {
                let mut timer = sleep(DUE);
                assert!(poll_once(&mut timer).is_pending());
                armed.try_send(Instant::now() + DUE).unwrap();
                timer.await;
                Instant::now()
            }));
            let due: Instant = is_armed.recv().await.unwrap();
            for _ in 0..20 {
                yield_now().await;
            }
            let blocked: Vec<_> = (1..workers)
                .map(|_| {
                    let gate = Gate::new();
                    let (inside, block) = (gate.clone(), block.clone());
                    let task = heist::spawn(async move {
                        inside.open();
                        block.wait();
                    });
                    (gate, task)
                })
                .collect();
            blocked.iter().for_each(|(gate, _)| gate.wait());
            let written = Instant::now();
            peer.write_all(b"x").unwrap();
            block.wait();
            let (read, slept) = (reader.await.unwrap(), sleeper.await.unwrap());
            for (_, task) in blocked {
                task.await.unwrap();
            }
            read.saturating_duration_since(written)
                .max(slept.saturating_duration_since(due))
        });
        let spares = || {
            let mut threads = name.threads();
            threads.retain(|thread| {
                let number = thread.rsplit('-').next().and_then(|n| n.parse().ok());
                number.is_some_and(|number: usize| number >= workers)
            });
            threads.len()
        };
        // `needs_worker` may leave one that took the slot of `main`; more must not stay.
        eventually("the spares have retired", || spares() == 0);
        late
    });
}

#[test]
fn timers_and_sockets_go_on_when_the_only_worker_is_blocked() {
    all_workers_blocked(1);
}

#[test]
fn timers_and_sockets_go_on_when_both_workers_are_blocked() {
    all_workers_blocked(2);
}

/// A foreign thread is in `block_on`, without a task. Its socket and its timer are on the shard of the
/// thread of `run`, which `main` blocks.
fn a_visitor(workers: usize) {
    assert_served_in_time(&format!("a visitor, workers: {workers}"), move || {
        let mut runtime = Builder::new().workers(workers).build().unwrap();
        let handle = runtime.handle();
        runtime.run(async {
            let (stream, mut peer) = pair().await;
            let waits = Gate::new();
            let is_waiting = waits.clone();
            let block = Block::until(1);
            let visit = block.clone();
            let visitor = thread::spawn(move || {
                handle.block_on(visit.serve(async move {
                    let begin = Instant::now();
                    let mut timer = sleep(DUE);
                    assert!(poll_once(&mut timer).is_pending());
                    let mut byte = [0];
                    let mut read = Box::pin(stream.read(&mut byte));
                    assert!(poll_once(&mut read).is_pending());
                    is_waiting.open();
                    assert_eq!(read.await.unwrap(), 1);
                    let read = Instant::now();
                    timer.await;
                    (read, begin.elapsed().saturating_sub(DUE))
                }))
            });
            waits.wait();
            let written = Instant::now();
            peer.write_all(b"x").unwrap();
            block.wait();
            let (read, timer_late) = visitor.join().unwrap();
            read.saturating_duration_since(written).max(timer_late)
        })
    });
}

#[test]
fn a_visitor_goes_on_while_main_blocks_the_only_worker() {
    a_visitor(1);
}

#[test]
fn a_visitor_goes_on_while_main_blocks_one_of_two_workers() {
    a_visitor(2);
}

/// Send tasks block the thread of `run` while a local task is due. That may happen once: from then on
/// the thread takes no Send tasks, and the local task is on time.
#[test]
fn local_tasks_are_held_up_by_blocking_tasks_at_most_once() {
    assert_held_up_at_most_once("the local task", || {
        let mut runtime = Builder::new().workers(2).build().unwrap();
        runtime.run(async {
            let main = thread::current().id();
            let on_main = Arc::new(AtomicUsize::new(0));
            let local = heist::spawn_local({
                let on_main = on_main.clone();
                async move {
                    let mut late = Vec::new();
                    for _ in 0..10 {
                        let blocks = |_| {
                            let on_main = on_main.clone();
                            heist::spawn(async move {
                                thread::sleep(Duration::from_millis(30));
                                let here = thread::current().id() == main;
                                on_main.fetch_add(usize::from(here), Ordering::SeqCst);
                            })
                        };
                        // From a local task as well, spawned tasks go to this thread's queue.
                        let tasks: Vec<_> = (0..2).map(blocks).collect();
                        let begin = Instant::now();
                        sleep(Duration::from_millis(2)).await;
                        late.push(begin.elapsed().saturating_sub(Duration::from_millis(2)));
                        for task in tasks {
                            task.await.unwrap();
                        }
                    }
                    late
                }
            });
            (local.await.unwrap(), on_main.load(Ordering::SeqCst))
        })
    });
}

/// What a report said: the task, its name, the line of its spawn, how long it has blocked.
type Stall = (
    Option<heist::task::Id>,
    Option<String>,
    Option<u32>,
    Duration,
);

/// In debug mode a report names the task that blocks, where it was spawned, and how long it has
/// blocked: a Send task, a local task, and `main` itself.
#[test]
fn l19_a_stall_names_the_task_its_spawn_site_and_how_long_it_lasts() {
    const THRESHOLD: Duration = Duration::from_millis(20);
    within(|| {
        let (tell, told) = mpsc::channel::<Stall>();
        let mut runtime = Builder::new()
            .workers(2)
            .debug(true)
            .stall_threshold(THRESHOLD)
            .on_error(move |report| {
                if let Report::Stalled {
                    id,
                    name,
                    spawned_at,
                    lasted,
                    ..
                } = report
                {
                    let line = spawned_at.map(|site| {
                        assert!(site.file().ends_with("stalls.rs"), "{site}");
                        site.line()
                    });
                    let _ = tell.send((*id, name.map(str::to_owned), line, *lasted));
                }
            })
            .build()
            .unwrap();
        let told = Arc::new(Mutex::new(told));
        // Blocks its thread until a stall is reported that `is_it`, and tells for how long it was.
        let block = {
            let told = told.clone();
            move |is_it: &dyn Fn(&Stall) -> bool| {
                let begin = Instant::now();
                let told = told.lock().unwrap();
                let left = || crate::support::LIMIT.saturating_sub(begin.elapsed()) / 2;
                let stall = std::iter::from_fn(|| told.recv_timeout(left()).ok()).find(is_it);
                (stall.expect("it is reported"), begin.elapsed())
            }
        };
        let check = |what: &str, (stall, blocked): (Stall, Duration)| {
            println!("{what}: {stall:?}");
            let lasted = stall.3;
            assert!(
                THRESHOLD <= lasted && lasted <= blocked + Duration::from_millis(1),
                "{what} was said to have blocked for {lasted:?}, and it was {blocked:?}"
            );
        };
        runtime.run(async {
            let blocks = block.clone();
            let builder = heist::task::Builder::new().name("sluggish");
            let line = line!() + 1;
            let task = builder.spawn(async move {
                let id = heist::task::id();
                blocks(&|stall| stall.0 == Some(id))
            });
            let id = task.id();
            let found = task.await.unwrap();
            assert_eq!(
                (found.0.0, found.0.1.as_deref()),
                (Some(id), Some("sluggish"))
            );
            assert_eq!(found.0.2, Some(line));
            check("a task", found);

            let blocks = block.clone();
            let line = line!() + 1;
            let task = heist::spawn_local(async move {
                let id = heist::task::id();
                blocks(&|stall| stall.0 == Some(id))
            });
            let id = task.id();
            let found = task.await.unwrap();
            assert_eq!(
                (found.0.0, &found.0.1, found.0.2),
                (Some(id), &None, Some(line))
            );
            check("a local task", found);

            let found = block(&|stall| stall.0.is_none());
            assert_eq!((&found.0.1, found.0.2), (&None, None));
            check("main", found);
        });
    });
}

/// As in `blocked.rs`, a worker that blocks in a destructor or in the waker of who awaits is blocked.
#[test]
fn a_destructor_that_blocks_holds_nobody_up() {
    struct Blocks(Instant, mpsc::Sender<Duration>);
    impl Drop for Blocks {
        fn drop(&mut self) {
            let (begin, tell, block) = (self.0, self.1.clone(), Block::until(1));
            drop(heist::spawn(block.clone().serve(async move {
                tell.send(begin.elapsed()).unwrap();
            })));
            block.wait();
        }
    }
    assert_served_in_time("spawned by a destructor that then blocks", || {
        let runtime = Builder::new().workers(2).build().unwrap();
        let handle = runtime.handle();
        let (tell, told) = mpsc::channel();
        let gate = Gate::new();
        let _open = OpenOnDrop(gate.clone());
        let task = handle.spawn(async move {
            let _blocks = Blocks(Instant::now(), tell);
        });
        handle.block_on(task).unwrap();
        told.recv().unwrap()
    });
}
