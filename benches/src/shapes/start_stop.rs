//! The whole life of a runtime: built, used once, dropped.
#![forbid(unsafe_code)]

use std::io;

use crate::meter::{Meter, Sample};
use crate::peer::Peer;
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
