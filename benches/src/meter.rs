//! What is measured: wall time, CPU time, context switches and page faults of the whole process, and latencies or bytes
//! where the shape has them.
//!
//! CPU time is that of all threads of this process, user and system, from `getrusage`; the load generator of the socket
//! shapes is another process and does not count.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// A stretch of work, measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// How many operations it had.
    pub ops: u64,
    /// How long it took.
    pub wall: Duration,
    /// User and system time of all threads of the process.
    pub cpu: Duration,
    /// Voluntary and involuntary context switches of all threads of the process.
    pub switches: u64,
    /// Latency of one operation, median and 99th percentile.
    pub latency: Option<(Duration, Duration)>,
    /// Pages that the process touched for the first time.
    pub faults: u64,
    /// Memory that one operation holds.
    pub bytes: Option<Held>,
}

/// Memory held by one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// As asked of the allocator.
    pub asked: f64,
    /// As given by it, rounded up to its size classes.
    pub given: f64,
}

impl Sample {
    /// `time` per operation, in nanoseconds.
    #[must_use]
    pub fn per_op(&self, time: Duration) -> f64 {
        time.as_nanos() as f64 / self.ops as f64
    }

    /// Adds the percentiles of `nanos`.
    #[must_use]
    pub fn with_latency(mut self, nanos: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_nanos(nanos.value_at_quantile(quantile));
        self.latency = Some((at(0.5), at(0.99)));
        self
    }
}

/// The longest latency that is told apart from still longer ones, in nanoseconds: no run lasts longer.
const LONGEST: u64 = 100_000_000_000;

/// A histogram for nanoseconds, good to three digits.
///
/// # Panics
///
/// Never: the bounds are in order and three digits are allowed.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds in order, three digits")
}

/// Measures from [`start`](Self::start) to [`stop`](Self::stop).
#[derive(Debug)]
pub struct Meter {
    wall: Instant,
    usage: Usage,
}

impl Meter {
    /// Begins.
    #[must_use]
    pub fn start() -> Self {
        let usage = Usage::now();
        Self {
            wall: Instant::now(),
            usage,
        }
    }

    /// Ends, after `ops` operations.
    #[must_use]
    pub fn stop(self, ops: u64) -> Sample {
        let wall = self.wall.elapsed();
        let usage = Usage::now();
        Sample {
            ops,
            wall,
            cpu: usage.cpu.saturating_sub(self.usage.cpu),
            switches: usage.switches - self.usage.switches,
            latency: None,
            faults: usage.faults - self.usage.faults,
            bytes: None,
        }
    }
}

/// What the process has used so far.
#[derive(Debug)]
struct Usage {
    cpu: Duration,
    switches: u64,
    faults: u64,
}

impl Usage {
    fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: the pointer is to a local of the right type, writable for the length of the call.
        let answer = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        assert_eq!(answer, 0, "getrusage of the own process cannot fail");
        // SAFETY: the call returned 0, so it filled the whole struct in; any bytes make a valid `rusage`.
        let usage = unsafe { usage.assume_init() };
        let time = |at: libc::timeval| {
            Duration::from_secs(at.tv_sec.unsigned_abs())
                + Duration::from_micros(at.tv_usec.unsigned_abs())
        };
        Self {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw).unsigned_abs(),
            faults: usage.ru_minflt.unsigned_abs(),
        }
    }
}
