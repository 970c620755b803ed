//! [`Instant`]: a reading of the monotonic clock in one word.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use heist_io::NEVER;

/// How far from now the standard `Instant` is that stands for one beyond its range: thirty years.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// A moment on the monotonic clock.
///
/// The same clock as [`std::time::Instant`], in eight bytes: nanoseconds, good for 584 years after
/// the system started. Inside a [simulation](crate::sim) it is another, virtual one, and an instant of
/// either says nothing about the other. Arithmetic saturates instead of panicking: what lies beyond the end of the
/// clock is the *far future*, a deadline that never comes, and what lies before its beginning is
/// its beginning.
///
/// # Examples
///
/// ```
/// use heist::time::Instant;
/// use std::time::Duration;
///
/// let start = Instant::now();
/// assert!(start + Duration::from_secs(1) > start);
/// assert_eq!(start + Duration::MAX, Instant::far_future());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Nanoseconds; `NEVER` is the far future.
    ns: u64,
}

/// The length of `d`, or `NEVER` where that is more than the clock can count.
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(NEVER)
}

impl Instant {
    /// Reads the clock.
    ///
    /// # Examples
    ///
    /// ```
    /// let now = heist::time::Instant::now();
    /// # let _ = now;
    /// ```
    #[must_use]
    pub fn now() -> Instant {
        Instant {
            ns: heist_core::sim::now().unwrap_or_else(heist_io::now),
        }
    }

    /// The moment that never comes.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// assert!(Instant::far_future() > Instant::now());
    /// ```
    #[must_use]
    pub const fn far_future() -> Instant {
        Instant { ns: NEVER }
    }

    pub(crate) const fn from_nanos(ns: u64) -> Instant {
        Instant { ns }
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.ns
    }

    /// The time from `earlier` to here, zero if `earlier` is later.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// use std::time::Duration;
    /// let a = Instant::now();
    /// let b = a + Duration::from_millis(5);
    /// assert_eq!(b.duration_since(a), Duration::from_millis(5));
    /// assert_eq!(a.duration_since(b), Duration::ZERO);
    /// ```
    #[must_use]
    pub fn duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }

    /// The time from `earlier` to here, `None` if `earlier` is later.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// use std::time::Duration;
    /// let a = Instant::now();
    /// assert_eq!(a.checked_duration_since(a + Duration::from_millis(5)), None);
    /// ```
    #[must_use]
    pub fn checked_duration_since(self, earlier: Instant) -> Option<Duration> {
        self.ns.checked_sub(earlier.ns).map(Duration::from_nanos)
    }

    /// The time from `earlier` to here, zero if `earlier` is later. The same as
    /// [`duration_since`](Instant::duration_since), under the name that says so.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// use std::time::Duration;
    /// let a = Instant::now();
    /// assert_eq!(a.saturating_duration_since(a), Duration::ZERO);
    /// ```
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }

    /// The time from here to now, zero if this is in the future.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// use std::time::Duration;
    /// assert!(Instant::now().elapsed() < Duration::from_secs(3600));
    /// ```
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Instant::now().duration_since(self)
    }

    /// `d` later, `None` beyond the end of the clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// use std::time::Duration;
    /// assert!(Instant::now().checked_add(Duration::from_secs(1)).is_some());
    /// assert!(Instant::now().checked_add(Duration::MAX).is_none());
    /// ```
    #[must_use]
    pub fn checked_add(self, d: Duration) -> Option<Instant> {
        let ns = self.ns.checked_add(u64::try_from(d.as_nanos()).ok()?)?;
        (ns < NEVER).then_some(Instant { ns })
    }

    /// `d` earlier, `None` before the beginning of the clock. The far future stays where it is, as with
    /// `-`.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::Instant;
    /// use std::time::Duration;
    /// let a = Instant::now() + Duration::from_secs(1);
    /// assert!(a.checked_sub(Duration::from_secs(1)).is_some());
    /// assert!(a.checked_sub(Duration::MAX).is_none());
    /// ```
    #[must_use]
    pub fn checked_sub(self, d: Duration) -> Option<Instant> {
        if self.ns == NEVER {
            return Some(self);
        }
        let ns = self.ns.checked_sub(u64::try_from(d.as_nanos()).ok()?)?;
        Some(Instant { ns })
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// `d` later, the far future beyond the end of the clock.
    fn add(self, d: Duration) -> Instant {
        Instant {
            ns: self.ns.saturating_add(nanos(d)),
        }
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    /// `d` earlier, at least the beginning of the clock. The far future stays where it is.
    fn sub(self, d: Duration) -> Instant {
        if self.ns == NEVER {
            return self;
        }
        Instant {
            ns: self.ns.saturating_sub(nanos(d)),
        }
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, d: Duration) {
        *self = *self - d;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    /// The same as [`duration_since`](Instant::duration_since).
    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

impl From<std::time::Instant> for Instant {
    fn from(t: std::time::Instant) -> Instant {
        Instant {
            ns: heist_io::from_std(t),
        }
    }
}

impl From<Instant> for std::time::Instant {
    /// The far future becomes a moment thirty years from now.
    fn from(t: Instant) -> std::time::Instant {
        heist_io::to_std(t.ns).unwrap_or_else(|| {
            let now = std::time::Instant::now();
            now.checked_add(FAR).unwrap_or(now)
        })
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ns == NEVER {
            return f.write_str("Instant(far future)");
        }
        write!(f, "Instant({:?})", Duration::from_nanos(self.ns))
    }
}
