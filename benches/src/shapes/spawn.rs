//! Spawning: wide from a task, from the main future and from foreign threads; beside busy tasks; in a chain; as a tree.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::BoxFuture;

use crate::meter::{Meter, Sample};
use crate::peer::{Peer, Spawn, WakeSelf};
use crate::shapes::in_task;

/// Where the spawning code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// In a task, on a worker.
    Task,
    /// In the main future.
    Main,
    /// On so many threads that do not belong to the runtime, each with its share.
    Outside(u64),
}

/// Tasks that keep the workers busy in [`beside_busy`]: more than there are workers, so that each has one.
const BUSY: u64 = 4;
/// How long one of them computes between two yields.
const COMPUTES: Duration = Duration::from_micros(10);

/// Spawns `tasks` tasks that do nothing, then awaits them in order. An operation is one task.
pub fn wide<P: Peer>(peer: &mut P, from: From, tasks: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    match from {
        From::Task => in_task(peer, spawn_all(inside, tasks, batches)),
        From::Main => peer.run(spawn_all(inside, tasks, batches)),
        From::Outside(producers) => {
            let outside = peer.outside();
            let (tell, told) = oneshot::channel();
            let control = thread::spawn(move || {
                let sample = produce(&outside, producers, tasks, batches);
                tell.send(sample).expect("main waits for the sample");
            });
            // Runtimes whose calling thread is a worker need it in `run` meanwhile; the others idle there.
            let sample = peer.run(told).expect("the foreign threads panicked");
            control.join().expect("the control thread panicked");
            sample
        }
    }
}

/// Measures `producers` threads that spawn and await `tasks` tasks together, `batches` times.
fn produce<S: Spawn>(spawner: &S, producers: u64, tasks: u64, batches: u64) -> Sample {
    let start = Arc::new(Barrier::new(producers as usize + 1));
    let threads: Vec<_> = (0..producers)
        .map(|_| {
            let (spawner, start) = (spawner.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                block_on(spawn_all(spawner, tasks / producers, batches)).ops
            })
        })
        .collect();
    start.wait();
    let meter = Meter::start();
    let ops = threads
        .into_iter()
        .map(|thread| thread.join().expect("a producer panicked"))
        .sum();
    meter.stop(ops)
}

async fn spawn_all<S: Spawn>(spawner: S, tasks: u64, batches: u64) -> Sample {
    let mut handles = Vec::with_capacity(tasks as usize);
    let mut sum = 0;
    let meter = Meter::start();
    for _ in 0..batches {
        handles.extend((0..tasks).map(|task| spawner.spawn(async move { black_box(task) })));
        for handle in handles.drain(..) {
            sum += handle.await;
        }
    }
    let sample = meter.stop(tasks * batches);
    assert_eq!(
        sum,
        batches * (tasks * (tasks - 1) / 2),
        "every task ran once"
    );
    sample
}

/// One task spawns `tasks` tasks at once and awaits them, again and again, while [`BUSY`] others compute and yield. An
/// operation is one of the spawned tasks.
pub fn beside_busy<P: Peer>(peer: &mut P, tasks: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let enough = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..BUSY)
            .map(|_| inside.spawn(compute_until(enough.clone())))
            .collect();
        let mut handles = Vec::with_capacity(tasks as usize);
        let mut sum = 0;
        let meter = Meter::start();
        for _ in 0..batches {
            let futures = (0..tasks).map(|task| async move { black_box(task) });
            inside.spawn_batch(futures, &mut handles);
            for handle in handles.drain(..) {
                sum += handle.await;
            }
        }
        let sample = meter.stop(tasks * batches);
        // Ordering: Relaxed. It only ends the loops of `compute_until`.
        enough.store(true, Ordering::Relaxed);
        for task in busy {
            task.await;
        }
        assert_eq!(
            sum,
            batches * (tasks * (tasks - 1) / 2),
            "every task ran once"
        );
        sample
    })
}

async fn compute_until(enough: Arc<AtomicBool>) {
    // Ordering: Relaxed. Nothing is read after it that another thread wrote before.
    while !enough.load(Ordering::Relaxed) {
        let begin = Instant::now();
        while begin.elapsed() < COMPUTES {
            std::hint::spin_loop();
        }
        WakeSelf::default().await;
    }
}

/// Each task spawns the next, `length` of them, and nobody awaits but the last one's news. An operation is one task.
pub fn chain<P: Peer>(peer: &mut P, length: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let meter = Meter::start();
        for _ in 0..batches {
            let (done, end) = oneshot::channel();
            inside.spawn_detached(link(inside.clone(), length - 1, done));
            end.await.expect("the last task of the chain sends");
        }
        meter.stop(length * batches)
    })
}

fn link<S: Spawn>(spawner: S, left: u64, done: oneshot::Sender<()>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if left == 0 {
            // The receiver only goes away with the whole bench.
            let _ = done.send(());
        } else {
            spawner.spawn_detached(link(spawner.clone(), left - 1, done));
        }
    })
}

/// A tree of tasks, `depth` levels below the root; each awaits its `arity` children. An operation is one task.
pub fn tree<P: Peer>(peer: &mut P, arity: u64, depth: u32, batches: u64) -> Sample {
    let inside = peer.inside();
    let tasks: u64 = (1..=depth).map(|level| arity.pow(level)).sum();
    in_task(peer, async move {
        let mut leaves = 0;
        let meter = Meter::start();
        for _ in 0..batches {
            leaves += if arity == 2 {
                fork(inside.clone(), depth).await
            } else {
                fan_out(inside.clone(), arity, depth).await
            };
        }
        let sample = meter.stop(tasks * batches);
        assert_eq!(leaves, batches * arity.pow(depth), "every leaf ran once");
        sample
    })
}

fn fork<S: Spawn>(spawner: S, depth: u32) -> BoxFuture<'static, u64> {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let left = spawner.spawn(fork(spawner.clone(), depth - 1));
        let right = spawner.spawn(fork(spawner.clone(), depth - 1));
        left.await + right.await
    })
}

fn fan_out<S: Spawn>(spawner: S, arity: u64, depth: u32) -> BoxFuture<'static, u64> {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..arity)
            .map(|_| spawner.spawn(fan_out(spawner.clone(), arity, depth - 1)))
            .collect();
        let mut leaves = 0;
        for child in children {
            leaves += child.await;
        }
        leaves
    })
}
