//! How the models of this crate are run.
//!
//! ```text
//! RUSTFLAGS="--cfg heist_loom -C debug-assertions" LOOM_MAX_PREEMPTIONS=2 \
//!     cargo test -p heist-core --release --lib models
//! ```

#![forbid(unsafe_code)]

pub(crate) mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often a thread may be interrupted where it could have gone on. `LOOM_MAX_PREEMPTIONS` asks
/// for more.
const PREEMPTIONS: usize = 2;

/// Runs a model, and demands that it had at least `floor` interleavings: a model that runs once
/// checks nothing.
///
/// Floors are about half of what was counted with two preemptions, and the count stands beside each.
pub(crate) fn model(floor: usize, body: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let mut builder = loom::model::Builder::new();
    let asked = builder.preemption_bound.unwrap_or(PREEMPTIONS);
    builder.preemption_bound = Some(asked.max(PREEMPTIONS));
    builder.check(move || {
        crate::sync::thread::refuse(0);
        // Of the standard library: counting must order nothing in the model.
        counter.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} interleavings");
    assert!(runs >= floor, "only {runs} interleavings");
}
