//! The real seam: the scheduler's view of the driver.

#![forbid(unsafe_code)]

use heist_core::Seam;
use heist_io::Driver;
use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// What the system says of this process.
#[cfg(target_os = "linux")]
mod process {
    /// Signals whose handlers are the standard library's (stack overflows: SIGBUS, SIGSEGV) or libc's own
    /// (32 to 34), none of which calls wakers.
    const HARMLESS: u64 =
        1 << (7 - 1) | 1 << (11 - 1) | 1 << (32 - 1) | 1 << (33 - 1) | 1 << (34 - 1);

    /// How many threads it has, unless it catches a signal: a handler may do anything.
    pub(super) fn threads() -> Option<usize> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        let caught = u64::from_str_radix(field("SigCgt:")?, 16).ok()?;
        if caught & !HARMLESS != 0 {
            return None;
        }
        field("Threads:")?.parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod process {
    /// Not known here.
    pub(super) fn threads() -> Option<usize> {
        None
    }
}

/// One slot of the scheduler is one shard of the driver.
#[derive(Debug)]
pub(crate) struct Real(Arc<Driver>);

impl Real {
    pub(crate) fn new(slots: usize) -> Real {
        Real(Arc::new(Driver::new(slots)))
    }
}

impl Seam for Real {
    fn now(&self) -> u64 {
        heist_io::now()
    }
    fn seed(&self) -> u64 {
        // The keys of the standard library's hasher come from the operating system's randomness.
        RandomState::new().hash_one(0)
    }
    fn attach(&self, slot: usize) {
        self.0.attach(slot);
    }
    fn park(&self, slot: usize, deadline: u64) {
        self.0.park(slot, deadline);
    }
    fn poll(&self, slot: usize) -> usize {
        self.0.poll(slot)
    }
    fn unpark(&self, slot: usize) {
        self.0.unpark(slot);
    }
    fn is_used(&self, slot: usize) -> bool {
        self.0.is_used(slot)
    }
    fn threads(&self) -> Option<usize> {
        process::threads()
    }
    fn close(&self) {
        self.0.close();
    }
    fn release(&self) {
        self.0.release();
    }
    fn as_any(&self) -> &dyn Any {
        &self.0
    }
}
