//! The workloads, one file per kind, each written once for every runtime.
//!
//! Every function here runs `batches` batches on a runtime that is already built, measures inside (so that neither
//! building nor the way into the runtime counts, but in `start_stop`) and checks that the work was done.
#![forbid(unsafe_code)]

pub mod blocking;
pub mod churn;
pub mod echo;
pub mod http;
pub mod idle;
pub mod messages;
pub mod served;
pub mod spawn;
pub mod stalls;
pub mod start_stop;
pub mod timers;
pub mod wake;
pub mod yields;

use std::future::Future;

use crate::peer::{Peer, Spawn as _};

/// Runs `future` as a task of `peer`, on a worker, and waits for it.
pub fn in_task<P: Peer, F>(peer: &mut P, future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let inside = peer.inside();
    peer.run(async move { inside.spawn(future).await })
}
