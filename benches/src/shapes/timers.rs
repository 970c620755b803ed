//! Timers: made and dropped before they are due; very many at once; around what is ready already.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::poll;

use crate::meter::{Meter, Sample, histogram};
use crate::peer::{Spawn as _, Timers, WakeSelf};
use crate::shapes::in_task;

/// The first of the random deadlines: late enough that all tasks are asleep by then.
const EARLIEST: Duration = Duration::from_millis(200);
/// The random deadlines are spread over this long.
const SPREAD: Duration = Duration::from_millis(800);
/// Timers made within one poll of the task. Runtimes with a cooperative budget (128 operations for tokio) let a timer
/// be pending without registering it once the budget is spent; below that, every timer is inserted and cancelled.
const IN_ONE_POLL: u64 = 64;

/// One task makes, polls once and drops `timers` timers that would be due in 10 to 20 s. An operation is one timer.
pub fn cancel<P: Timers>(peer: &mut P, timers: u64, batches: u64) -> Sample {
    in_task(peer, async move {
        let mut random = Random::new();
        let meter = Meter::start();
        for timer in 0..timers * batches {
            if timer % IN_ONE_POLL == 0 {
                WakeSelf::default().await;
            }
            let millis = 10_000 + random.next() % 10_000;
            let sleep = pin!(P::sleep(Duration::from_millis(millis)));
            assert!(
                poll!(sleep).is_pending(),
                "a sleep of 10 s is not over at once"
            );
        }
        meter.stop(timers * batches)
    })
}

/// `tasks` tasks sleep once each, for a random time. An operation is one sleep; the latency is its lateness.
pub fn sleepers<P: Timers>(peer: &mut P, tasks: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let mut random = Random::new();
        let mut lateness = histogram();
        let mut handles = Vec::with_capacity(tasks as usize);
        let meter = Meter::start();
        for _ in 0..batches {
            handles.extend((0..tasks).map(|_| {
                let micros = random.next() % SPREAD.as_micros() as u64;
                let sleep = EARLIEST + Duration::from_micros(micros);
                inside.spawn(async move {
                    let due = Instant::now() + sleep;
                    P::sleep(sleep).await;
                    let now = Instant::now();
                    assert!(now >= due, "a sleep ended early");
                    (now - due).as_nanos() as u64
                })
            }));
            for handle in handles.drain(..) {
                lateness.saturating_record(handle.await);
            }
        }
        meter.stop(tasks * batches).with_latency(&lateness)
    })
}

/// One task awaits `calls` futures that are ready at once, each under a timeout of 10 s. An operation is one of them.
pub fn ready<P: Timers>(peer: &mut P, calls: u64, batches: u64) -> Sample {
    in_task(peer, async move {
        let mut sum = 0;
        let meter = Meter::start();
        for call in 0..calls * batches {
            let limit = Duration::from_secs(10);
            sum += P::timeout(limit, async move { black_box(call) })
                .await
                .expect("a ready future is not late");
        }
        let calls = calls * batches;
        let sample = meter.stop(calls);
        assert_eq!(sum, calls * (calls - 1) / 2, "every future was awaited");
        sample
    })
}

/// A xorshift generator with a fixed seed: every runtime gets the same deadlines.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
