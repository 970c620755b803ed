//! Spawning: wide from a task, from the main future and from foreign threads; in a chain; as a tree.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::thread;

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::BoxFuture;

use crate::meter::{Meter, Sample};
use crate::peer::{Peer, Spawn};
use crate::shapes::in_task;

/// Where the spawning code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// In a task, on a worker.
    Task,
    /// In the main future.
    Main,
    /// On a thread that does not belong to the runtime.
    Outside,
}

/// Spawns `tasks` tasks that do nothing, then awaits them in order. An operation is one task.
pub fn wide<P: Peer>(peer: &mut P, from: From, tasks: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    match from {
        From::Task => in_task(peer, spawn_all(inside, tasks, batches)),
        From::Main => peer.run(spawn_all(inside, tasks, batches)),
        From::Outside => {
            let outside = peer.outside();
            let (tell, told) = oneshot::channel();
            let thread = thread::spawn(move || {
                let sample = block_on(spawn_all(outside, tasks, batches));
                tell.send(sample).expect("main waits for the sample");
            });
            // Runtimes whose calling thread is a worker need it in `run` meanwhile; the others idle there.
            let sample = peer.run(told).expect("the foreign thread panicked");
            thread.join().expect("the foreign thread panicked");
            sample
        }
    }
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

/// A binary tree of tasks, `depth` levels below the root; each awaits its two children. An operation is one task.
pub fn tree<P: Peer>(peer: &mut P, depth: u32, batches: u64) -> Sample {
    let inside = peer.inside();
    let tasks = (1_u64 << (depth + 1)) - 2;
    in_task(peer, async move {
        let mut leaves = 0;
        let meter = Meter::start();
        for _ in 0..batches {
            leaves += node(inside.clone(), depth).await;
        }
        let sample = meter.stop(tasks * batches);
        assert_eq!(leaves, batches << depth, "every leaf ran once");
        sample
    })
}

fn node<S: Spawn>(spawner: S, depth: u32) -> BoxFuture<'static, u64> {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let left = spawner.spawn(node(spawner.clone(), depth - 1));
        let right = spawner.spawn(node(spawner.clone(), depth - 1));
        left.await + right.await
    })
}
