//! [`Interval`]: ticks at a fixed period.

#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::{Instant, Sleep, sleep_until};

/// How late a tick may be taken and still count as on time. Half the time slice of a common
/// scheduler: less would have [`MissedTickBehavior::Delay`] drift by the lateness of every single
/// wake-up. Periods shorter than this count as missed when a whole one is over.
const ON_TIME: Duration = Duration::from_millis(5);

/// Ticks every `period`, the first time at once.
///
/// # Examples
///
/// ```
/// use heist::time::{interval, Instant};
/// use std::time::Duration;
///
/// heist::run(async {
///     let start = Instant::now();
///     let mut ticks = interval(Duration::from_millis(2));
///     for _ in 0..3 {
///         ticks.tick().await;
///     }
///     assert!(start.elapsed() >= Duration::from_millis(4));
/// });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks every `period`, the first time at `start`.
///
/// # Examples
///
/// ```
/// use heist::time::{interval_at, Instant};
/// use std::time::Duration;
///
/// heist::run(async {
///     let start = Instant::now() + Duration::from_millis(2);
///     let mut ticks = interval_at(start, Duration::from_millis(2));
///     assert_eq!(ticks.tick().await, start);
/// });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "an interval needs a period above zero; for a loop without pauses use `yield_now`"
    );
    Interval {
        sleep: sleep_until(start),
        period,
        missed: MissedTickBehavior::default(),
    }
}

/// What an [`Interval`] does when a tick is taken late, so that the next ones are due already.
///
/// With a period of 10 ms and a tick that was due at 20 but taken at 45:
///
/// | behaviour | next ticks at | keeps |
/// |---|---|---|
/// | `Burst` | 45, 45, 50, 60 | the number of ticks |
/// | `Delay` | 55, 65, 75 | the distance between ticks |
/// | `Skip` | 50, 60, 70 | the rhythm |
///
/// # Examples
///
/// ```
/// use heist::time::{interval, MissedTickBehavior};
/// use std::time::Duration;
///
/// let mut ticks = interval(Duration::from_millis(10));
/// ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
/// assert_eq!(ticks.missed_tick_behavior(), MissedTickBehavior::Skip);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Ticks as fast as they are taken until none is missing.
    #[default]
    Burst,
    /// Goes on one period after the late tick was taken.
    Delay,
    /// Drops the missed ticks and goes on at the next multiple of the period.
    Skip,
}

impl MissedTickBehavior {
    /// The tick after the one that was due at `due` and taken at `now`.
    pub(super) fn next(self, due: Instant, now: Instant, period: Duration) -> Instant {
        let late = now.duration_since(due);
        let next = due + period;
        if late <= ON_TIME.min(period) {
            return next;
        }
        match self {
            MissedTickBehavior::Burst => next,
            MissedTickBehavior::Delay => now + period,
            MissedTickBehavior::Skip => now + until_next_multiple(late, period),
        }
    }
}

/// How long after `late` the next multiple of `period` comes: in `1..=period`.
fn until_next_multiple(late: Duration, period: Duration) -> Duration {
    let past = late.as_nanos() % period.as_nanos();
    // Less than `late`, which came out of a `u64` of nanoseconds.
    period - Duration::from_nanos(u64::try_from(past).unwrap_or(0))
}

/// Ticks at a fixed period. Made by [`interval()`] and [`interval_at`].
///
/// It is also a [`Stream`] that never ends.
///
/// When the runtime it is bound to closes, every tick resolves at once, and
/// [`is_closed`](Interval::is_closed) says so: a loop that may outlive its runtime should look. A
/// further tick on a thread of another runtime binds to that one.
///
/// # Panics
///
/// As for [`Sleep`]: at the first wait outside a runtime.
#[derive(Debug)]
#[must_use = "an interval does nothing until a tick is awaited"]
pub struct Interval {
    /// Set to the next tick.
    sleep: Sleep,
    period: Duration,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick; the answer is the moment it was due.
    ///
    /// # Examples
    ///
    /// ```
    /// heist::run(async {
    ///     let mut ticks = heist::time::interval(std::time::Duration::from_millis(1));
    ///     ticks.tick().await;
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A tick is taken only by a future that was ready; nothing is lost when it is dropped before.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick.
    ///
    /// # Examples
    ///
    /// ```
    /// heist::run(async {
    ///     let mut ticks = heist::time::interval(std::time::Duration::from_millis(1));
    ///     std::future::poll_fn(|cx| ticks.poll_tick(cx)).await;
    /// });
    /// ```
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        if self.sleep.is_closed() {
            self.sleep.reset(self.sleep.deadline());
        }
        if ready!(self.sleep.poll_checked(cx)).is_err() {
            return Poll::Ready(self.sleep.deadline());
        }
        let due = self.sleep.deadline();
        let next = self.missed.next(due, Instant::now(), self.period);
        self.sleep.reset(next);
        Poll::Ready(due)
    }

    /// Makes the next tick come one period from now.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut ticks = heist::time::interval(std::time::Duration::from_millis(1));
    /// ticks.reset();
    /// ```
    pub fn reset(&mut self) {
        self.reset_at(Instant::now() + self.period);
    }

    /// Makes the next tick come at once.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut ticks = heist::time::interval(std::time::Duration::from_secs(1));
    /// ticks.reset_immediately();
    /// ```
    pub fn reset_immediately(&mut self) {
        self.reset_at(Instant::now());
    }

    /// Makes the next tick come after `delay`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let mut ticks = heist::time::interval(Duration::from_secs(1));
    /// ticks.reset_after(Duration::from_millis(5));
    /// ```
    pub fn reset_after(&mut self, delay: Duration) {
        self.reset_at(Instant::now() + delay);
    }

    /// Makes the next tick come at `deadline`.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{interval, Instant};
    /// use std::time::Duration;
    /// let mut ticks = interval(Duration::from_secs(1));
    /// ticks.reset_at(Instant::now() + Duration::from_millis(5));
    /// ```
    pub fn reset_at(&mut self, deadline: Instant) {
        self.sleep.reset(deadline);
    }

    /// The time between two ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let ticks = heist::time::interval(Duration::from_secs(1));
    /// assert_eq!(ticks.period(), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What happens when a tick is taken late.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{interval, MissedTickBehavior};
    /// let ticks = interval(std::time::Duration::from_secs(1));
    /// assert_eq!(ticks.missed_tick_behavior(), MissedTickBehavior::Burst);
    /// ```
    #[must_use]
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what happens when a tick is taken late.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{interval, MissedTickBehavior};
    /// let mut ticks = interval(std::time::Duration::from_secs(1));
    /// ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    /// ```
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// Whether the last tick came because the runtime of this interval is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// heist::run(async {
    ///     let mut ticks = heist::time::interval(std::time::Duration::from_millis(1));
    ///     ticks.tick().await;
    ///     assert!(!ticks.is_closed());
    /// });
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sleep.is_closed()
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}
