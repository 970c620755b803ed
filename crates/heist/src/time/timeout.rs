//! [`timeout()`]: a deadline around any future.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::{Instant, Sleep, sleep_until};

/// Runs `future` for at most `duration`.
///
/// The future is polled before the clock is looked at, so one that is ready at once succeeds even
/// with a zero duration, and costs no timer.
///
/// # Examples
///
/// ```
/// use heist::time::timeout;
/// use std::time::Duration;
///
/// heist::run(async {
///     let slow = std::future::pending::<()>();
///     assert!(timeout(Duration::from_millis(5), slow).await.is_err());
///     assert_eq!(timeout(Duration::ZERO, async { 7 }).await.ok(), Some(7));
/// });
/// ```
///
/// # Errors
///
/// The future answers [`Elapsed`] at the deadline, and also when the runtime of the timer closes
/// before; [`Elapsed::is_closed`] tells which.
///
/// # Panics
///
/// As for [`Sleep`], and only if the future was not ready at the first poll.
///
/// # Cancel safety
///
/// Dropping a `Timeout` drops the future inside. At the deadline that future is not dropped yet, but
/// together with the `Timeout`; keep it by passing `&mut future`.
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    timeout_at(Instant::now() + duration, future)
}

/// Runs `future` until `deadline` at most.
///
/// # Examples
///
/// ```
/// use heist::time::{timeout_at, Instant};
/// use std::time::Duration;
///
/// heist::run(async {
///     let deadline = Instant::now() + Duration::from_millis(5);
///     assert!(timeout_at(deadline, std::future::pending::<()>()).await.is_err());
/// });
/// ```
///
/// # Errors
///
/// As for [`timeout()`].
///
/// # Panics
///
/// As for [`timeout()`].
///
/// # Cancel safety
///
/// As for [`timeout()`].
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout {
        future: future.into_future(),
        sleep: sleep_until(deadline),
    }
}

pin_project! {
    /// The future of [`timeout()`] and [`timeout_at`].
    #[must_use = "futures do nothing until they are awaited"]
    #[derive(Debug)]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    /// Borrows the future inside.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::timeout;
    /// use std::{future::ready, time::Duration};
    /// assert_eq!(timeout(Duration::MAX, ready(1)).get_ref().clone().into_inner(), 1);
    /// ```
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// Borrows the future inside, mutably.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::timeout;
    /// use std::{future::ready, time::Duration};
    /// let mut limited = timeout(Duration::MAX, ready(1));
    /// *limited.get_mut() = ready(2);
    /// # let _ = limited;
    /// ```
    pub fn get_mut(&mut self) -> &mut F {
        &mut self.future
    }

    /// Drops the timer and hands the future out.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::timeout;
    /// use std::{future::ready, time::Duration};
    /// let future = timeout(Duration::MAX, ready(1)).into_inner();
    /// # let _ = future;
    /// ```
    pub fn into_inner(self) -> F {
        self.future
    }

    /// The moment at which the future is given up.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout_at, Instant};
    /// let deadline = Instant::now();
    /// assert_eq!(timeout_at(deadline, async {}).deadline(), deadline);
    /// ```
    pub fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Sets another deadline. It takes effect at the next poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout, Instant};
    /// use std::{pin::pin, time::Duration};
    /// let mut limited = pin!(timeout(Duration::from_secs(1), async {}));
    /// limited.as_mut().reset(Instant::now() + Duration::from_secs(5));
    /// ```
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.project().sleep.reset(deadline);
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // Outside the budget: a future that always spends all of it would never time out.
        this.sleep.poll_unbudgeted(cx).map(|outcome| {
            Err(Elapsed {
                closed: outcome.is_err(),
            })
        })
    }
}

/// The error of [`timeout()`]: the deadline came before the future was ready.
///
/// # Examples
///
/// ```
/// use heist::time::timeout;
/// use std::time::Duration;
///
/// heist::run(async {
///     let late = timeout(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
///     assert!(!late.is_closed());
///     assert_eq!(std::io::Error::from(late).kind(), std::io::ErrorKind::TimedOut);
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    closed: bool,
}

impl Elapsed {
    /// Whether the runtime of the timer closed before the deadline came.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::timeout;
    /// use std::time::Duration;
    ///
    /// heist::run(async {
    ///     let late = timeout(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
    ///     assert!(!late.is_closed());
    /// });
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.closed {
            "the runtime was closed before the deadline"
        } else {
            "the deadline has passed"
        })
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    /// `TimedOut`, or the error of a closed runtime.
    fn from(e: Elapsed) -> io::Error {
        if e.closed {
            heist_io::closed_error()
        } else {
            io::Error::new(io::ErrorKind::TimedOut, e)
        }
    }
}
