//! A foreign thread wakes a task of an idle runtime.
//!
//! The task waits on a [`Bell`]. The foreign thread sleeps long enough for the workers to park, writes down the time,
//! rings, and waits (asleep, so that it does not hold a CPU that the worker needs) until the task has answered. The
//! latency is from just before the ring to the poll that sees it.
#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;

use crate::affinity;
use crate::meter::{Meter, Sample, histogram};
use crate::peer::Peer;
use crate::shapes::in_task;

/// Between two rings: long enough for every worker to have gone to sleep.
const PAUSE: Duration = Duration::from_micros(500);
/// How long the ringer sleeps between two looks at the answer.
const LOOK: Duration = Duration::from_micros(50);
/// A ring that is not answered within this is a lost wake-up.
const LIMIT: Duration = Duration::from_secs(5);

struct Bell {
    epoch: Instant,
    rings: AtomicU64,
    /// Nanoseconds since `epoch` of the last ring.
    rung_at: AtomicU64,
    answered: AtomicU64,
    waker: AtomicWaker,
}

impl Bell {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Rings once and waits for the answer.
    fn ring(&self, number: u64) {
        // Ordering: Relaxed. Published by the Release store of `rings` below.
        self.rung_at.store(self.now(), Ordering::Relaxed);
        // Ordering: Release. Pairs with the Acquire in `heard`; makes `rung_at` visible to the task.
        self.rings.store(number, Ordering::Release);
        self.waker.wake();
        let begin = Instant::now();
        // Ordering: Acquire. Pairs with the Release in `heard`: the task has read `rung_at`, it may be overwritten.
        while self.answered.load(Ordering::Acquire) < number {
            assert!(
                begin.elapsed() < LIMIT,
                "ring {number} was not answered in {LIMIT:?}"
            );
            thread::sleep(LOOK);
        }
    }

    /// Waits for ring `number`; how long ago it was, in nanoseconds.
    async fn heard(&self, number: u64) -> u64 {
        poll_fn(|cx| {
            // First register, then look: a ring in between finds the waker.
            self.waker.register(cx.waker());
            // Ordering: Acquire. Pairs with the Release in `ring`; `rung_at` is that of this ring.
            if self.rings.load(Ordering::Acquire) >= number {
                // Ordering: Relaxed. Ordered by the load of `rings` above.
                let late = self.now() - self.rung_at.load(Ordering::Relaxed);
                // Ordering: Release. Pairs with the Acquire in `ring`: our read of `rung_at` comes first.
                self.answered.store(number, Ordering::Release);
                return Poll::Ready(late);
            }
            Poll::Pending
        })
        .await
    }
}

/// Rings `rings` times per batch from a thread on CPU `ringer`, or on any CPU. An operation is one ring.
///
/// # Errors
///
/// The thread could not be started or pinned.
pub fn foreign_wake<P: Peer>(
    peer: &mut P,
    ringer: Option<usize>,
    rings: u64,
    batches: u64,
) -> io::Result<Sample> {
    let rings = rings * batches;
    let bell = Arc::new(Bell {
        epoch: Instant::now(),
        rings: AtomicU64::new(0),
        rung_at: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        waker: AtomicWaker::new(),
    });
    let thread = thread::Builder::new().spawn({
        let bell = bell.clone();
        move || -> io::Result<()> {
            let _pinned = ringer.map(affinity::pin).transpose()?;
            for number in 1..=rings {
                thread::sleep(PAUSE);
                bell.ring(number);
            }
            Ok(())
        }
    })?;
    let sample = in_task(peer, async move {
        let mut latency = histogram();
        let meter = Meter::start();
        for number in 1..=rings {
            latency.saturating_record(bell.heard(number).await);
        }
        meter.stop(rings).with_latency(&latency)
    });
    thread.join().expect("the foreign thread panicked")?;
    Ok(sample)
}
