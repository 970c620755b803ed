//! Yielding: many tasks in turn, one task alone.
#![forbid(unsafe_code)]

use crate::meter::{Meter, Sample};
use crate::peer::{Peer, Spawn as _, WakeSelf};
use crate::shapes::in_task;

/// How a task yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With the runtime's own `yield_now`.
    Own,
    /// With [`WakeSelf`].
    Plain,
}

/// `tasks` tasks yield `times` times each. An operation is one yield.
pub fn yields<P: Peer>(peer: &mut P, how: How, tasks: u64, times: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let mut handles = Vec::with_capacity(tasks as usize);
        let mut done = 0;
        let meter = Meter::start();
        for _ in 0..batches {
            handles.extend((0..tasks).map(|_| {
                inside.spawn(async move {
                    for _ in 0..times {
                        match how {
                            How::Own => P::yield_now().await,
                            How::Plain => WakeSelf::default().await,
                        }
                    }
                    times
                })
            }));
            for handle in handles.drain(..) {
                done += handle.await;
            }
        }
        let sample = meter.stop(tasks * times * batches);
        assert_eq!(
            done,
            tasks * times * batches,
            "every task yielded to its end"
        );
        sample
    })
}
