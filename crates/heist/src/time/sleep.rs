//! [`Sleep`]: one timer.
//!
//! | phase | `timer` | `outcome` | next poll |
//! |---|---|---|---|
//! | fresh | none | `Waiting` | due: elapsed, with no timer at all. Else bind to the current runtime |
//! | bound | some | `Waiting` | asks the timer |
//! | over | any | `Elapsed` or `Closed` | ready, for ever, until `reset` |
//!
//! `reset` leads back to *bound* with the same timer. After `Closed` it binds to the runtime of the
//! thread, if there is a live one; else the dead timer stays, and the next poll says `Closed` again
//! rather than panic.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heist_io::{Closed, Timer};

use super::Instant;
use crate::context::{Wait, waits_on};

/// Waits until `duration` has passed.
///
/// # Examples
///
/// ```
/// use heist::time::{sleep, Instant};
/// use std::time::Duration;
///
/// heist::run(async {
///     let start = Instant::now();
///     sleep(Duration::from_millis(5)).await;
///     assert!(start.elapsed() >= Duration::from_millis(5));
/// });
/// ```
///
/// # Panics
///
/// The call never does. The first poll does outside a runtime; see [`Sleep`].
///
/// # Cancel safety
///
/// Dropping the future cancels the timer and frees it at once. A future polled by reference can be
/// waited for again.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Waits until `deadline`.
///
/// # Examples
///
/// ```
/// use heist::time::{sleep_until, Instant};
/// use std::time::Duration;
///
/// heist::run(async {
///     let deadline = Instant::now() + Duration::from_millis(5);
///     sleep_until(deadline).await;
///     assert!(Instant::now() >= deadline);
/// });
/// ```
///
/// # Panics
///
/// The call never does. The first poll does outside a runtime; see [`Sleep`].
///
/// # Cancel safety
///
/// As for [`sleep()`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        timer: None,
        outcome: Outcome::Waiting,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Waiting,
    Elapsed,
    Closed,
}

/// The future of [`sleep()`] and [`sleep_until`].
///
/// It is `Unpin`, can be moved at any time, and can be set to another deadline with
/// [`reset`](Sleep::reset), which is cheaper than making a new one. Once it was ready it stays so
/// until it is reset.
///
/// The first poll binds it to the runtime of the polling thread. When that runtime closes, the
/// future becomes ready at once; [`is_closed`](Sleep::is_closed) tells afterwards, and
/// [`checked`](Sleep::checked) is the same wait with a typed answer.
///
/// # Panics
///
/// The first poll panics where the thread is in no runtime and the deadline has not passed.
#[must_use = "a timer does nothing until it is awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<Timer>,
    outcome: Outcome,
}

impl Sleep {
    /// The moment this sleep is for.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{sleep_until, Instant};
    /// let now = Instant::now();
    /// assert_eq!(sleep_until(now).deadline(), now);
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a poll has found the deadline passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::sleep;
    /// use std::time::Duration;
    /// heist::run(async {
    ///     let mut sleep = sleep(Duration::from_millis(1));
    ///     assert!(!sleep.is_elapsed());
    ///     (&mut sleep).await;
    ///     assert!(sleep.is_elapsed());
    /// });
    /// ```
    #[must_use]
    pub fn is_elapsed(&self) -> bool {
        self.outcome == Outcome::Elapsed
    }

    /// Whether a poll has found the runtime of this timer closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::sleep;
    /// use std::time::Duration;
    /// heist::run(async {
    ///     let mut sleep = sleep(Duration::from_millis(1));
    ///     (&mut sleep).await;
    ///     assert!(!sleep.is_closed());
    /// });
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.outcome == Outcome::Closed
    }

    /// Sets another deadline. It takes effect at the next poll.
    ///
    /// A sleep whose runtime has closed is bound anew to the runtime of this thread, if there is one.
    ///
    /// A task that waits already is not told: until it polls again, its wake-up is the old one.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{sleep, Instant};
    /// use std::time::Duration;
    /// heist::run(async {
    ///     let mut sleep = sleep(Duration::from_secs(3600));
    ///     sleep.reset(Instant::now() + Duration::from_millis(1));
    ///     sleep.await;
    /// });
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        if self.outcome == Outcome::Closed {
            if let Some(live) = live_timer() {
                self.timer = Some(live);
            }
        }
        self.outcome = Outcome::Waiting;
        self.deadline = deadline;
    }

    /// Waits like the future itself, with an answer that tells a closed runtime from a deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::sleep;
    /// use std::time::Duration;
    /// heist::run(async {
    ///     assert!(sleep(Duration::from_millis(1)).checked().await.is_ok());
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`] if the runtime of the timer closed before the deadline.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped; the sleep can be waited for again.
    pub async fn checked(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_checked(cx)).await
    }

    /// Polls like the future itself, with an answer that tells a closed runtime from a deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::sleep;
    /// use std::time::Duration;
    /// heist::run(async {
    ///     let mut sleep = sleep(Duration::from_millis(1));
    ///     std::future::poll_fn(|cx| sleep.poll_checked(cx)).await.unwrap();
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`] if the runtime of the timer closed before the deadline.
    pub fn poll_checked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let charge = ready!(crate::context::poll_budget(cx));
        let outcome = ready!(self.poll_unbudgeted(cx));
        charge.progress();
        Poll::Ready(outcome)
    }

    /// Outside the budget: a timeout must see its deadline also when the future inside has spent
    /// all of it.
    pub(super) fn poll_unbudgeted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.outcome == Outcome::Waiting {
            self.outcome = match ready!(self.poll_timer(cx)) {
                Ok(()) => Outcome::Elapsed,
                Err(Closed) => Outcome::Closed,
            };
        }
        Poll::Ready(match self.outcome {
            Outcome::Closed => Err(Closed),
            Outcome::Waiting | Outcome::Elapsed => Ok(()),
        })
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.timer.is_none() {
            if self.deadline <= Instant::now() {
                return Poll::Ready(Ok(()));
            }
            self.timer = Some(bind());
        }
        let timer = self.timer.as_mut().expect("bound above");
        let deadline = self.deadline.as_nanos();
        let polled = timer.poll_at(deadline, cx);
        if polled.is_pending() {
            waits_on(|| Wait::Timer(deadline));
            // It keeps its shard for life, and may be armed long after that was chosen.
            crate::context::attend(timer.shard());
        }
        polled
    }
}

/// A timer of the runtime of this thread.
fn bind() -> Timer {
    match crate::context::timer_driver() {
        Ok((driver, shard)) => driver.timer(shard),
        Err(e) => panic!(
            "a timer of heist was polled outside a runtime ({e}); await it inside `heist::run`, \
             or in a task spawned there"
        ),
    }
}

/// A timer of the runtime of this thread, if there is one that is not closed.
fn live_timer() -> Option<Timer> {
    let (driver, shard) = crate::context::timer_driver().ok()?;
    (!driver.is_closed()).then(|| driver.timer(shard))
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_checked(cx).map(drop)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .field("outcome", &self.outcome)
            .field("bound", &self.timer.is_some())
            .finish()
    }
}
