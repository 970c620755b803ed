//! The monotonic clock as one `u64` of nanoseconds.
//!
//! A deadline is then a plain number that fits an atomic and compares in one instruction.
//! [`Instant`] hides its number, so ours counts from the first reading in the process, plus
//! [`BEFORE`], so that instants of before that reading have their numbers too. The conversion is
//! exact: the same `Instant` always gives the same number, there and back.
//!
//! The readings come from the standard library on every system. A reading of the kernel's clock
//! through `rustix` would spare a subtraction, but its search for the vDSO crashes under valgrind.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// The number of the first reading: about ten years, so that what a running system remembers has
/// a number above 0.
const BEFORE: u64 = 1 << 58;

/// The first reading of the process.
#[inline]
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// The present time in nanoseconds of the monotonic clock.
///
/// The zero of the clock is unspecified; it is the same for all threads, and the readings never go
/// backwards.
///
/// # Examples
/// ```
/// let start = heist_io::now();
/// assert!(heist_io::now() >= start);
/// ```
#[inline]
pub fn now() -> u64 {
    let origin = origin();
    let passed = Instant::now().saturating_duration_since(origin);
    #[cfg(heist_loom)]
    let passed = passed + model::passed();
    after(passed)
}

/// The number of the clock so long after the first reading.
#[inline]
fn after(origin: Duration) -> u64 {
    #[cfg(heist_bug_23)]
    return (origin.as_nanos() as u64).wrapping_add(BEFORE);
    u64::try_from(origin.as_nanos())
        .ok()
        .and_then(|nanos| nanos.checked_add(BEFORE))
        .unwrap_or(NEVER)
}

/// The number of the clock at `t`; [`NEVER`] for an instant beyond its range, 0 for one before it.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// let t = Instant::now() + Duration::from_secs(1);
/// assert_eq!(heist_io::to_std(heist_io::from_std(t)), Some(t));
/// ```
pub fn from_std(t: Instant) -> u64 {
    let origin = origin();
    match t.checked_duration_since(origin) {
        Some(later) => after(later),
        None => {
            u64::try_from((origin - t).as_nanos()).map_or(0, |before| BEFORE.saturating_sub(before))
        }
    }
}

/// The instant of a number of the clock; `None` for [`NEVER`] and where [`Instant`] cannot hold it.
///
/// # Examples
/// ```
/// assert_eq!(heist_io::to_std(heist_io::NEVER), None);
/// assert!(heist_io::to_std(heist_io::now()).is_some());
/// ```
pub fn to_std(ns: u64) -> Option<Instant> {
    if ns == NEVER {
        return None;
    }
    match ns.checked_sub(BEFORE) {
        Some(later) => origin().checked_add(Duration::from_nanos(later)),
        None => origin().checked_sub(Duration::from_nanos(BEFORE - ns)),
    }
}

/// Hours that pass in a model when it says so. All its threads are on one of the system's, so none of
/// them sees the clock go back, and looking at it orders nothing.
#[cfg(heist_loom)]
pub(crate) mod model {
    use std::cell::Cell;
    use std::time::Duration;

    std::thread_local! {
        static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(super) fn passed() -> Duration {
        PASSED.get()
    }

    /// It is so many hours later than at the begin of the model.
    #[cfg(test)]
    pub(crate) fn set(hours: u64) {
        PASSED.set(Duration::from_secs(hours * 3600));
    }
}

/// The clock of one driver.
#[derive(Clone)]
pub(crate) enum Clock {
    /// That of the system: [`now`].
    System,
    /// One that stands still until it is told the time.
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    /// One that stands at the first reading of the system's clock, in every process at the same number.
    pub(crate) fn at_the_beginning() -> Clock {
        Clock::Virtual(Arc::new(AtomicU64::new(BEFORE)))
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Clock::System => now(),
            // Ordering: Relaxed: the time guards nothing.
            Clock::Virtual(time) => time.load(Ordering::Relaxed),
        }
    }

    /// It is `time` now, unless it is later. Nothing happens to the system's clock.
    pub(crate) fn advance(&self, time: u64) {
        if let Clock::Virtual(own) = self {
            // Ordering: Relaxed, as in `now`.
            own.fetch_max(time, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_stands_still_and_never_goes_back() {
        let clock = Clock::at_the_beginning();
        assert_eq!(clock.now(), BEFORE);
        clock.clone().advance(BEFORE + 5);
        clock.advance(BEFORE + 3);
        assert_eq!(clock.now(), BEFORE + 5);
    }

    #[test]
    fn conversion_goes_there_and_back_exactly() {
        let start = Instant::now();
        for offset in [0, 1, 999, 1_000_000_007, 86_400_000_000_000] {
            let t = start + Duration::from_nanos(offset);
            assert_eq!(to_std(from_std(t)), Some(t));
            assert_eq!(from_std(t) - from_std(start), offset);
        }
    }

    #[test]
    fn a_converted_instant_is_never_early() {
        for _ in 0..1000 {
            let t = Instant::now();
            let n = from_std(t);
            assert!(now() >= n);
            assert!(Instant::now() >= t);
        }
    }

    /// Numbers at both ends of the range and in the middle: what has an instant has that number again,
    /// and later numbers have later instants.
    #[test]
    fn extreme_numbers_go_there_and_back() {
        let mut last = None;
        for n in [0, 1, BEFORE - 1, BEFORE, now(), 1 << 63, NEVER - 1] {
            let Some(there) = to_std(n) else { continue };
            assert_eq!(from_std(there), n);
            assert!(last.is_none_or(|last| last < there), "{n}");
            last = Some(there);
        }
    }

    #[test]
    fn the_ends_of_the_range_saturate() {
        assert_eq!(to_std(NEVER), None);
        let past = Instant::now().checked_sub(Duration::from_secs(1 << 40));
        if let Some(past) = past {
            assert_eq!(from_std(past), 0);
        }
        if let Some(far) = Instant::now().checked_add(Duration::from_secs(1 << 40)) {
            assert_eq!(from_std(far), NEVER);
        }
    }
}
