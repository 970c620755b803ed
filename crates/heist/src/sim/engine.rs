//! Stands in for the simulator until it is there.

#![forbid(unsafe_code)]

use crate::Builder;
use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

pub(crate) fn deterministic(builder: Builder, seed: u64) -> Builder {
    builder.deterministic(seed)
}

impl Builder {
    /// Stand-in.
    pub fn deterministic(self, seed: u64) -> Builder {
        STATE.set(Some(seed));
        self.workers(1).spare_workers(0)
    }
}

impl crate::Runtime {
    /// Stand-in.
    pub fn trace(&self) -> Option<Trace> {
        trace(self)
    }
}

pub(super) fn random() -> Option<u64> {
    let state = STATE.get()?.wrapping_add(0x9E37_79B9_7F4A_7C15);
    STATE.set(Some(state));
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Some(z ^ (z >> 31))
}

/// Stand-in.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace;

pub(super) fn trace(_: &crate::Runtime) -> Option<Trace> {
    STATE.set(None);
    Some(Trace)
}
