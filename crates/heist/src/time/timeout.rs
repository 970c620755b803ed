//! [`timeout()`]: a deadline around any future.
//!
//! | phase   | begins                                         | ends with                              |
//! |---------|------------------------------------------------|----------------------------------------|
//! | running | at once                                        | the output; the deadline               |
//! | cleanup | at the deadline, if a region inside was asked  | the output; `cleanup_within`, and the future is dropped; nobody inside cleans up or will be asked |
//! | over    | at either end without an output, if what cleaned up was asked to by somebody further out, or that somebody waits | the next poll: that somebody comes first |

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::mem::needs_drop;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use heist_core::Limit;
use pin_project_lite::pin_project;

use super::deadline::{Deadline, Handed};

use super::{Instant, Sleep, sleep_until};

/// Runs `future` for at most `duration`.
///
/// The future is polled before the clock is looked at, so one that is ready at once succeeds even
/// with a zero duration, and costs no timer.
///
/// # At the deadline
///
/// If nothing inside the future catches cancellation, the timeout is ready with [`Elapsed`].
///
/// If the future is inside of a [`catch_cancel`](crate::catch_cancel) of its own, or of several, those
/// are asked to end, and the timeout waits for the future, for ever unless
/// [`cleanup_within`](Timeout::cleanup_within) says how long. Whatever the future then answers is the
/// answer of the timeout. To answer [`Elapsed`] after a cleanup, it lets the cancellation go on with
/// [`Cancelled::resume`](crate::Cancelled::resume). The task around it is not cancelled by this.
///
/// A cleanup inside of the future may be for somebody further out: the task is cancelled, or the time of a timeout
/// around this one is over. If the deadline cuts it, that cancellation goes on, as by
/// [`resume`](crate::Cancelled::resume), before this timeout answers. A future that is only borrowed is not cut.
///
/// ```
/// use heist::time::{sleep, timeout, Duration};
///
/// heist::run(async {
///     let task = heist::spawn(timeout(Duration::from_millis(5), async {
///         let Err(cancelled) = heist::catch_cancel(std::future::pending::<()>()).await else {
///             unreachable!("it is pending")
///         };
///         // The future has time to clean up.
///         sleep(Duration::from_millis(5)).await;
///         cancelled.resume().await
///     }));
///     assert!(task.await.unwrap().is_err());
/// });
/// ```
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
/// together with the `Timeout`, or at the end of [`cleanup_within`](Timeout::cleanup_within); keep it by passing
/// `&mut future`.
#[track_caller]
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
#[track_caller]
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout {
        future: Some(future.into_future()),
        limit: Limit::new(),
        sleep: sleep_until(deadline),
        site: Location::caller(),
        phase: Phase::Running,
        cleanup: None,
        handed: Handed::default(),
    }
}

const CUT: &str =
    "a `timeout` whose future was dropped at the end of its `cleanup_within` was asked for it";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Cleanup {
        /// The deadline that has come: the timer may be set to the end of the cleanup.
        since: Instant,
    },
    /// It has cut a cleanup that was for somebody further out, who comes first.
    Over {
        deadline: Instant,
    },
}

pin_project! {
    /// The future of [`timeout()`] and [`timeout_at`].
    #[must_use = "futures do nothing until they are awaited"]
    #[derive(Debug)]
    pub struct Timeout<F> {
        // Dropped first, so that the regions inside leave before the limit does. None when it was cut.
        #[pin]
        future: Option<F>,
        limit: Limit,
        sleep: Sleep,
        site: &'static Location<'static>,
        phase: Phase,
        cleanup: Option<Duration>,
        handed: Handed,
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
    ///
    /// # Panics
    ///
    /// If the future is gone, since [`cleanup_within`](Timeout::cleanup_within) was over.
    pub fn get_ref(&self) -> &F {
        self.future.as_ref().expect(CUT)
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
    ///
    /// # Panics
    ///
    /// As for [`get_ref`](Timeout::get_ref).
    pub fn get_mut(&mut self) -> &mut F {
        self.future.as_mut().expect(CUT)
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
    ///
    /// # Panics
    ///
    /// As for [`get_ref`](Timeout::get_ref).
    pub fn into_inner(self) -> F {
        self.future.expect(CUT)
    }

    /// Bounds how long the future may clean up after the deadline: if it is not ready then, it is dropped, and the
    /// answer is [`Elapsed`].
    ///
    /// Default: no bound. Any length; zero answers at the deadline, after one more poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout, Duration};
    ///
    /// heist::run(async {
    ///     let stubborn = async {
    ///         let _ = heist::catch_cancel(std::future::pending::<()>()).await;
    ///         std::future::pending::<()>().await
    ///     };
    ///     let (limit, more) = (Duration::from_millis(5), Duration::from_millis(5));
    ///     let task = heist::spawn(timeout(limit, stubborn).cleanup_within(more));
    ///     assert!(task.await.unwrap().is_err());
    /// });
    /// ```
    pub fn cleanup_within(mut self, duration: Duration) -> Timeout<F> {
        self.cleanup = Some(duration);
        self
    }

    /// Gives out a handle that tells how the timeout stands, and that can set another deadline while
    /// it is being awaited, from any thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{sleep, timeout, Duration, Instant};
    ///
    /// heist::run(async {
    ///     let mut limited = timeout(Duration::from_secs(3600), std::future::pending::<()>());
    ///     let deadline = limited.handle();
    ///     let task = heist::spawn(limited);
    ///     deadline.reschedule(Instant::now() + Duration::from_millis(5)).unwrap();
    ///     assert!(task.await.unwrap().is_err());
    ///     assert!(deadline.is_expired());
    /// });
    /// ```
    pub fn handle(&mut self) -> Deadline {
        self.handed.handle(self.sleep.deadline())
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
        self.handed
            .deadline()
            .unwrap_or_else(|| self.sleep.deadline())
    }

    /// Sets another deadline. It takes effect at the next poll, and has no effect on a future that
    /// cleans up already.
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
        let this = self.project();
        if *this.phase == Phase::Running {
            this.sleep.reset(deadline);
            this.handed.set_deadline(deadline);
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let goes_on = !matches!(this.phase, Phase::Over { .. });
            if let Some(future) = this.future.as_mut().as_pin_mut().filter(|_| goes_on) {
                if let Poll::Ready(output) = this.limit.poll(|| future.poll(cx)) {
                    this.handed.finish();
                    return Poll::Ready(Ok(output));
                }
            }
            let (deadline, closed) = match *this.phase {
                Phase::Running => {
                    if let Some(deadline) = this.handed.attend(cx.waker()) {
                        if deadline != this.sleep.deadline() {
                            this.sleep.reset(deadline);
                        }
                    }
                    // Outside the budget: a future that always spends all of it would never time
                    // out.
                    let outcome = std::task::ready!(this.sleep.poll_unbudgeted(cx));
                    if outcome.is_ok() && !this.handed.expire(this.sleep.deadline()) {
                        // The deadline has just been moved.
                        continue;
                    }
                    if outcome.is_ok() && this.limit.expire(None, this.site, cx.waker()) {
                        let since = this.sleep.deadline();
                        *this.phase = Phase::Cleanup { since };
                        if let Some(cleanup) = *this.cleanup {
                            this.sleep.reset(Instant::now() + cleanup);
                        }
                        // Those that were asked are delivered by this.
                        continue;
                    }
                    (this.sleep.deadline(), outcome.is_err())
                }
                Phase::Cleanup { since } if this.limit.is_spent(cx.waker()) => (since, false),
                Phase::Cleanup { .. } if this.cleanup.is_none() => return Poll::Pending,
                Phase::Cleanup { since } => {
                    let outcome = std::task::ready!(this.sleep.poll_unbudgeted(cx));
                    if needs_drop::<F>() {
                        // Nobody is to wait for the regions in there, which are polled no more.
                        this.limit.end();
                        this.future.set(None);
                    }
                    (since, outcome.is_err())
                }
                Phase::Over { deadline } => (deadline, false),
            };
            this.handed.end(closed);
            if this.limit.give_up::<F>() && !closed {
                *this.phase = Phase::Over { deadline };
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Err(Elapsed {
                closed,
                deadline,
                site: this.site,
            }));
        }
    }
}

/// The error of [`timeout()`]: the deadline came before the future was ready.
///
/// It tells which deadline that was, and where its timeout was made. There is no
/// [`source`](Error::source): a cleanup that has failed gives that out as its answer, and then the
/// timeout's answer is no `Elapsed`.
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
    deadline: Instant,
    site: &'static Location<'static>,
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

    /// The deadline that the future has missed: the last one that was set.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout_at, Instant};
    ///
    /// heist::run(async {
    ///     let deadline = Instant::now();
    ///     let late = timeout_at(deadline, std::future::pending::<()>()).await.unwrap_err();
    ///     assert_eq!(late.deadline(), deadline);
    /// });
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Where [`timeout()`] or [`timeout_at`] was called.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout, Duration};
    ///
    /// heist::run(async {
    ///     let limited = timeout(Duration::ZERO, std::future::pending::<()>());
    ///     assert_eq!(limited.await.unwrap_err().site().file(), file!());
    /// });
    /// ```
    #[must_use]
    pub fn site(&self) -> &'static Location<'static> {
        self.site
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.closed {
            "the runtime was closed before the deadline"
        } else {
            "the deadline has passed"
        };
        write!(f, "{what} of the timeout made at {}", self.site)
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
