//! How leaf futures find the driver and the budget of the runtime they are polled in.

#![forbid(unsafe_code)]

use heist_io::Driver;
use std::io;
use std::sync::Arc;

pub(crate) use heist_core::{
    Wait, attend, current_slot, poll_proceed as poll_budget, reads_to_accept, waits_on,
};

/// The driver of this thread's runtime, and the shard that a new source joins: the lowest one that
/// somebody works on, so that sockets gather.
pub(crate) fn driver() -> io::Result<(Arc<Driver>, usize)> {
    let shard = heist_core::source_shard()?;
    Ok((real_driver()?, shard))
}

/// The driver of this thread's runtime, and the shard that a new timer joins: the worker's own,
/// whose owner arms it without a system call.
pub(crate) fn timer_driver() -> io::Result<(Arc<Driver>, usize)> {
    let shard = heist_core::timer_shard()?;
    Ok((real_driver()?, shard))
}

/// Whether this thread is inside the runtime of `driver`, and not of another one.
pub(crate) fn is_of(driver: &Arc<Driver>) -> bool {
    with_driver(|own| Arc::ptr_eq(own, driver)) == Some(true)
}

fn real_driver() -> io::Result<Arc<Driver>> {
    with_driver(Arc::clone)
        .ok_or_else(|| io::Error::other("this thread is inside no heist runtime"))
}

fn with_driver<R>(f: impl FnOnce(&Arc<Driver>) -> R) -> Option<R> {
    heist_core::with_seam(|seam| seam.as_any().downcast_ref::<Arc<Driver>>().map(f)).flatten()
}
