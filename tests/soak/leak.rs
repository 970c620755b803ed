//! Leaks on purpose, to see that each is found.
#![forbid(unsafe_code)]

use std::fs::File;
use std::future::pending;
use std::hint::black_box;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What a request leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// A descriptor.
    Descriptor,
    /// A task that never ends.
    Task,
    /// 4 KiB.
    Memory,
    /// A thread, every few requests.
    Thread,
    /// 200 µs: each request takes so much longer than the one before.
    Time,
}

impl Planted {
    pub(crate) const ALL: [(&'static str, Planted); 5] = [
        ("descriptor", Planted::Descriptor),
        ("task", Planted::Task),
        ("memory", Planted::Memory),
        ("thread", Planted::Thread),
        ("time", Planted::Time),
    ];
}

/// How many requests have one thread.
const PER_THREAD: u64 = 16;
/// Threads of a leak, at most: a machine has its limits.
const MOST_THREADS: u64 = 500;

/// A leak that can be opened.
pub(crate) struct Leak {
    planted: Option<Planted>,
    is_open: AtomicBool,
    requests: AtomicU64,
}

impl Leak {
    pub(crate) fn new(planted: Option<Planted>) -> Leak {
        Leak {
            planted,
            is_open: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        }
    }

    /// From now on it leaks. Not before: what is used up in the warm-up is flat afterwards.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// The server has received a request.
    pub(crate) fn request(&self) {
        let Some(planted) = self.planted else {
            return;
        };
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        match planted {
            Planted::Descriptor => mem::forget(File::open("/dev/null")),
            Planted::Task => drop(heist::spawn(pending::<()>())),
            // Written to, as memory that is of any use is.
            Planted::Memory => mem::forget(black_box(vec![1_u8; 4096])),
            Planted::Thread if number % PER_THREAD == 0 && number / PER_THREAD < MOST_THREADS => {
                thread::spawn(|| thread::sleep(Duration::from_secs(3600)));
            }
            Planted::Thread => {}
            Planted::Time => thread::sleep(Duration::from_micros(200 * number)),
        }
    }
}
