//! The whole life of a runtime: built, used once, dropped.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::meter::{Meter, Sample};
use crate::peer::{Peer, Spawn as _, Timers, WakeSelf};
use crate::shapes::in_task;

/// What the runtime is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A main future that is ready at once.
    Main,
    /// A main future that awaits one spawned task.
    Task,
}

/// Builds, uses and drops a runtime, again and again. An operation is one life.
///
/// # Errors
///
/// A runtime could not be built.
pub fn start_stop<P: Peer>(workers: usize, used: Use, batches: u64) -> io::Result<Sample> {
    let mut sum = 0;
    let meter = Meter::start();
    for life in 0..batches {
        let mut peer = P::build(workers)?;
        sum += match used {
            Use::Main => peer.run(async move { life }),
            Use::Task => in_task(&mut peer, async move { life }),
        };
    }
    let sample = meter.stop(batches);
    assert_eq!(
        sum,
        batches * batches.saturating_sub(1) / 2,
        "every main future ran"
    );
    Ok(sample)
}

/// A task that runs on no second thread for so long never will.
const LIMIT: Duration = Duration::from_secs(10);

/// What the main future and the tasks compute between two looks.
const COMPUTES: Duration = Duration::from_micros(5);

/// Builds a runtime, has a task run on another thread than the main future's and awaits it under a timeout, and drops
/// the runtime, again and again. An operation is one life.
///
/// The main future and two tasks compute and yield until one of the tasks finds itself on another thread: a runtime whose
/// calling thread is a worker does best to keep them there as long as there is little to do.
///
/// # Errors
///
/// A runtime could not be built.
pub fn on_second_thread<P: Timers>(workers: usize, batches: u64) -> io::Result<Sample> {
    let meter = Meter::start();
    for life in 0..batches {
        let mut peer = P::build(workers)?;
        let inside = peer.inside();
        let sum = peer.run(async move {
            let elsewhere = Arc::new(AtomicBool::new(false));
            let main = thread::current().id();
            let tasks = [life, 1].map(|value| inside.spawn(visit(elsewhere.clone(), main, value)));
            visit(elsewhere, main, 0).await;
            let mut sum = 0;
            for task in tasks {
                sum += P::timeout(LIMIT, task).await.expect("the task runs");
            }
            sum
        });
        assert_eq!(sum, life + 1, "both tasks ran");
    }
    Ok(meter.stop(batches))
}

/// Computes and yields until somebody has done so on another thread than `main`.
async fn visit(elsewhere: Arc<AtomicBool>, main: ThreadId, value: u64) -> u64 {
    let begin = Instant::now();
    // Ordering: Relaxed, both. Only that it happened is of interest.
    while !elsewhere.load(Ordering::Relaxed) {
        if thread::current().id() != main {
            elsewhere.store(true, Ordering::Relaxed);
            break;
        }
        let look = Instant::now();
        assert!(
            look - begin < LIMIT,
            "no task ran on a second thread within {LIMIT:?}"
        );
        while look.elapsed() < COMPUTES {
            std::hint::spin_loop();
        }
        WakeSelf::default().await;
    }
    value
}
