//! Waiting for time to pass: [`sleep()`], [`timeout()`], [`interval()`].
//!
//! Time is the monotonic clock, in nanoseconds, kept in [`Instant`]. Deadlines are exact; how late
//! a task learns of one is up to the load of its workers. The row `timers_sleeping` of the benchmarks has
//! figures of that.
//!
//! # Where timers live
//!
//! A [`Sleep`] (and what is built on it) belongs to no runtime until it is first polled, and then
//! to the runtime of that poll. Making one therefore never fails and never panics; polling one
//! for the first time outside a runtime panics with a message that says what to do, unless its
//! deadline has passed already.
//!
//! # The ends of the clock
//!
//! Deadlines in the past are due at once. `Duration::MAX`, and every deadline past the range of the
//! clock, mean "never". No arithmetic on [`Instant`] panics.
//!
//! # When the runtime closes
//!
//! A timer of a closed runtime neither hangs nor panics: it resolves at once. Who must tell that
//! from the passing of time asks: [`Sleep::checked`] answers [`Closed`], [`Sleep::is_closed`] and
//! [`Elapsed::is_closed`] say so afterwards.

#![forbid(unsafe_code)]

mod deadline;
mod instant;
mod interval;
mod sleep;
mod timeout;

#[cfg(test)]
mod tests;

pub use deadline::{Deadline, DeadlineState};
pub use heist_io::Closed;
pub use instant::Instant;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use std::time::Duration;
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};
