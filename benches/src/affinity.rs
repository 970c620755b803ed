//! Which CPUs a thread may run on.
//!
//! New threads inherit the mask of the thread that makes them, so a mask set before a runtime is built holds for all
//! of its threads.
#![forbid(unsafe_code)]

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Gives the thread its old mask back when dropped (on the thread that made it).
#[must_use]
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Only fails if the CPUs have gone meanwhile; then the kernel has chosen others already.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// The first CPU the calling thread may use.
///
/// # Errors
///
/// Those of `sched_getaffinity`.
pub fn first_cpu() -> io::Result<usize> {
    let set = sched_getaffinity(None)?;
    (0..CpuSet::MAX_CPU)
        .find(|&cpu| set.is_set(cpu))
        .ok_or_else(|| io::Error::other("an empty set of CPUs"))
}

/// The last CPU the calling thread may use.
///
/// # Errors
///
/// Those of `sched_getaffinity`.
pub fn last_cpu() -> io::Result<usize> {
    let set = sched_getaffinity(None)?;
    (0..CpuSet::MAX_CPU)
        .rev()
        .find(|&cpu| set.is_set(cpu))
        .ok_or_else(|| io::Error::other("an empty set of CPUs"))
}

/// Keeps the calling thread, and the threads it will make, on one CPU.
///
/// # Errors
///
/// Those of `sched_setaffinity`.
pub fn pin(cpu: usize) -> io::Result<Pinned> {
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    Ok(Pinned { before })
}
