//! The handle that a [`timeout()`](super::timeout()) gives out.

#![forbid(unsafe_code)]

use heist_core::{drop_foreign, wake_foreign};
use parking_lot::Mutex;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use super::Instant;

/// How a timeout stands.
///
/// # Examples
///
/// ```
/// use heist::time::{timeout, DeadlineState, Duration};
///
/// heist::run(async {
///     let mut limited = timeout(Duration::from_secs(60), async { 7 });
///     let deadline = limited.handle();
///     assert_eq!(deadline.state(), DeadlineState::Active);
///     assert_eq!(limited.await, Ok(7));
///     assert_eq!(deadline.state(), DeadlineState::Finished);
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadlineState {
    /// The deadline has not come.
    Active,
    /// The deadline has come, and the future cleans up.
    Expiring,
    /// The deadline has come, and the timeout has answered that.
    Expired,
    /// The future was ready before the deadline, or the timeout is gone.
    Finished,
}

impl fmt::Display for DeadlineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeadlineState::Active => "the deadline has not come",
            DeadlineState::Expiring => "the deadline has come, and the future cleans up",
            DeadlineState::Expired => "the deadline has passed",
            DeadlineState::Finished => "the timeout has ended before its deadline",
        })
    }
}

impl Error for DeadlineState {}

/// Tells how a timeout stands, and sets another deadline; made by
/// [`Timeout::handle`](super::Timeout::handle).
///
/// Clones are cheap, and may be used on any thread, also after the timeout has gone.
///
/// # Examples
///
/// ```
/// use heist::time::{timeout, Duration};
///
/// let mut limited = timeout(Duration::from_secs(60), async { 7 });
/// let deadline = limited.handle();
/// assert_eq!(deadline.when(), Some(limited.deadline()));
/// ```
#[derive(Clone)]
pub struct Deadline {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    deadline: Instant,
    state: DeadlineState,
    /// That of the timeout's last poll.
    waker: Option<Waker>,
}

impl Deadline {
    /// The moment at which the future is given up; `None` if never.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout, Duration};
    /// assert_eq!(timeout(Duration::MAX, async {}).handle().when(), None);
    /// ```
    #[must_use]
    pub fn when(&self) -> Option<Instant> {
        let deadline = self.shared.lock().deadline;
        (deadline != Instant::far_future()).then_some(deadline)
    }

    /// Sets another deadline; `None` is never. A deadline in the past is due at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{sleep, timeout, Duration};
    ///
    /// heist::run(async {
    ///     let mut limited = timeout(Duration::from_millis(5), sleep(Duration::from_millis(20)));
    ///     limited.handle().reschedule(None).unwrap();
    ///     assert_eq!(limited.await, Ok(()));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// How the timeout stands, if that is not [`DeadlineState::Active`]: there is nothing to set any
    /// more.
    pub fn reschedule(&self, deadline: impl Into<Option<Instant>>) -> Result<(), DeadlineState> {
        let deadline = deadline.into().unwrap_or_else(Instant::far_future);
        let waker = {
            let mut shared = self.shared.lock();
            if shared.state != DeadlineState::Active {
                return Err(shared.state);
            }
            shared.deadline = deadline;
            shared.waker.take()
        };
        waker.into_iter().for_each(wake_foreign);
        Ok(())
    }

    /// How the timeout stands.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout, DeadlineState, Duration};
    /// let mut limited = timeout(Duration::MAX, async {});
    /// assert_eq!(limited.handle().state(), DeadlineState::Active);
    /// ```
    #[must_use]
    pub fn state(&self) -> DeadlineState {
        self.shared.lock().state
    }

    /// Whether the deadline has come before the future was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use heist::time::{timeout, Duration};
    ///
    /// heist::run(async {
    ///     let mut limited = timeout(Duration::ZERO, std::future::pending::<()>());
    ///     let deadline = limited.handle();
    ///     assert!(limited.await.is_err());
    ///     assert!(deadline.is_expired());
    /// });
    /// ```
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(
            self.state(),
            DeadlineState::Expiring | DeadlineState::Expired
        )
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("when", &self.when())
            .field("state", &self.state())
            .finish()
    }
}

/// The timeout's side. Empty, and without cost, until a handle was asked for.
#[derive(Debug, Default)]
pub(super) struct Handed(Option<Deadline>);

impl Handed {
    pub(super) fn handle(&mut self, deadline: Instant) -> Deadline {
        let new = || Deadline {
            shared: Arc::new(Mutex::new(Shared {
                deadline,
                state: DeadlineState::Active,
                waker: None,
            })),
        };
        self.0.get_or_insert_with(new).clone()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.0.as_ref()?.shared.lock().deadline)
    }

    pub(super) fn set_deadline(&self, deadline: Instant) {
        if let Some(handle) = &self.0 {
            handle.shared.lock().deadline = deadline;
        }
    }

    /// Leaves `waker` for whoever sets another deadline, and answers with the present one.
    pub(super) fn attend(&self, waker: &Waker) -> Option<Instant> {
        let handle = self.0.as_ref()?;
        // Cloned and dropped outside of the lock: that is user code.
        let waker = waker.clone();
        let mut shared = handle.shared.lock();
        let old = shared.waker.replace(waker);
        let deadline = shared.deadline;
        drop(shared);
        old.into_iter().for_each(drop_foreign);
        Some(deadline)
    }

    /// The deadline has come. False if it was moved meanwhile.
    pub(super) fn expire(&self, deadline: Instant) -> bool {
        let Some(handle) = &self.0 else { return true };
        let mut shared = handle.shared.lock();
        if shared.deadline != deadline {
            return false;
        }
        shared.state = DeadlineState::Expiring;
        true
    }

    /// The timeout has answered that it is over; `closed` says that the runtime is, and not the time.
    pub(super) fn end(&self, closed: bool) {
        self.settle(if closed {
            DeadlineState::Finished
        } else {
            DeadlineState::Expired
        });
    }

    /// The future was ready, or is gone.
    pub(super) fn finish(&self) {
        let Some(handle) = &self.0 else { return };
        let expired = handle.is_expired();
        self.settle(if expired {
            DeadlineState::Expired
        } else {
            DeadlineState::Finished
        });
    }

    fn settle(&self, state: DeadlineState) {
        if let Some(handle) = &self.0 {
            let mut shared = handle.shared.lock();
            shared.state = state;
            let waker = shared.waker.take();
            drop(shared);
            waker.into_iter().for_each(drop_foreign);
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.finish();
    }
}
