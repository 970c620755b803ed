//! The seams: the scheduler's view of the driver, real and simulated.

#![forbid(unsafe_code)]

use heist_core::{Seam, Simulated};
use heist_io::Driver;
use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// The seam of threads: one slot of the scheduler is one shard of the driver.
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
    fn park(&self, slot: usize, deadline: u64, awake: &mut dyn FnMut(bool)) {
        self.0.park_then(slot, deadline, awake);
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

/// The same for one thread that steps all workers: nobody blocks, time is the driver's own, and chance
/// comes from one number.
#[derive(Debug)]
pub(crate) struct Virtual {
    driver: Arc<Driver>,
    origin: u64,
    /// What the next random number is made of.
    state: AtomicU64,
    unparked: Box<[AtomicBool]>,
}

impl Virtual {
    pub(crate) fn new(slots: usize, seed: u64) -> Virtual {
        Virtual {
            driver: Arc::new(Driver::simulated(slots)),
            origin: seed,
            state: AtomicU64::new(seed),
            unparked: (0..slots).map(|_| AtomicBool::new(false)).collect(),
        }
    }
}

impl Seam for Virtual {
    fn now(&self) -> u64 {
        self.driver.now()
    }
    /// SplitMix64: any seed will do, 0 as well, and seeds that are close give numbers that are not.
    fn seed(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        // Ordering: Relaxed. One thread draws; others may, and make the run another one.
        let state = self.state.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = state.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn attach(&self, _: usize) {}
    fn park(&self, _: usize, _: u64, _: &mut dyn FnMut(bool)) {}
    fn poll(&self, slot: usize) -> usize {
        self.driver.poll(slot)
    }
    fn unpark(&self, slot: usize) {
        // Ordering: Release pairs with the Acquire in `take_unpark`, for threads outside.
        self.unparked[slot].store(true, Ordering::Release);
    }
    fn is_used(&self, slot: usize) -> bool {
        self.driver.is_used(slot)
    }
    fn simulated(&self) -> Option<&dyn Simulated> {
        Some(self)
    }
    fn close(&self) {
        self.driver.close();
    }
    fn release(&self) {
        self.driver.release();
    }
    fn as_any(&self) -> &dyn Any {
        &self.driver
    }
}

impl Simulated for Virtual {
    fn origin(&self) -> u64 {
        self.origin
    }
    fn next_deadline(&self, slot: usize) -> u64 {
        self.driver.next_deadline(slot)
    }
    fn is_unparked(&self, slot: usize) -> bool {
        // Ordering: Relaxed, a look; `take_unpark` follows.
        self.unparked[slot].load(Ordering::Relaxed)
    }
    fn take_unpark(&self, slot: usize) -> bool {
        // Ordering: Acquire. Pairs with the Release in `unpark`; makes what a thread outside did before it
        // visible to the worker that has its turn now.
        self.unparked[slot].swap(false, Ordering::Acquire)
    }
    fn advance(&self, time: u64) {
        self.driver.advance(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published first numbers of SplitMix64 from 0.
    #[test]
    fn chance_is_a_known_sequence() {
        let seam = Virtual::new(1, 0);
        let first = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4];
        assert_eq!([seam.seed(), seam.seed()], first);
    }

    #[test]
    fn an_unpark_is_kept_until_it_is_taken() {
        let seam = Virtual::new(2, 0);
        assert!(!seam.is_unparked(1));
        seam.unpark(1);
        seam.unpark(1);
        assert!(seam.is_unparked(1) && !seam.is_unparked(0));
        assert!(seam.take_unpark(1) && !seam.take_unpark(1));
    }
}
