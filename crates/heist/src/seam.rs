//! The real seam: the scheduler's view of the driver.

#![forbid(unsafe_code)]

use heist_core::Seam;
use heist_io::Driver;
use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

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
