//! Calls that block, given to the runtime's threads for them.
#![forbid(unsafe_code)]

use std::hint::black_box;

use crate::meter::{Meter, Sample};
use crate::peer::Blocking;
use crate::shapes::in_task;

/// One task hands over `calls` closures that do nothing, then awaits them in order. An operation is one closure.
pub fn short<P: Blocking>(peer: &mut P, calls: u64, batches: u64) -> Sample {
    in_task(peer, async move {
        let mut handles = Vec::with_capacity(calls as usize);
        let mut sum = 0;
        let meter = Meter::start();
        for _ in 0..batches {
            handles.extend((0..calls).map(|call| P::blocking(move || black_box(call))));
            for handle in handles.drain(..) {
                sum += handle.await;
            }
        }
        let sample = meter.stop(calls * batches);
        assert_eq!(
            sum,
            batches * (calls * (calls - 1) / 2),
            "every closure ran once"
        );
        sample
    })
}
