//! Pauses that grow, for the few conditions whose end the system does not announce.

#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heist_io::{Driver, Timer};

use crate::context::{Wait, waits_on};
use crate::time::Instant;

/// How long the first pause is, and how long one may become by doubling.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// A pause under way. Its timer is of the socket's own runtime, so that it works on any thread.
#[derive(Debug)]
pub(super) struct Pause {
    timer: Timer,
    length: Duration,
    until: Instant,
}

impl Pause {
    /// Starts the first pause in `slot`, or makes the one that was there twice as long.
    pub(super) fn next<'a>(
        slot: &'a mut Option<Pause>,
        (driver, shard): (&Arc<Driver>, usize),
        pace: &Pace,
    ) -> &'a mut Pause {
        let length = match slot {
            Some(pause) => (pause.length * 2).min(pace.longest),
            None => pace.first,
        };
        let pause = slot.get_or_insert_with(|| Pause {
            timer: driver.timer(shard),
            length,
            until: Instant::far_future(),
        });
        pause.length = length;
        pause.until = Instant::now() + length;
        pause
    }

    /// Ready when the pause is over, with an error when its runtime is closed.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = self.until.as_nanos();
        let polled = self.timer.poll_at(until, cx);
        if polled.is_pending() {
            waits_on(|| Wait::Timer(until));
        }
        let over = ready!(polled);
        Poll::Ready(over.map_err(|_| heist_io::closed_error()))
    }

    /// Waits until the pause is over.
    pub(super) async fn over(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_over(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let driver = Arc::new(Driver::new(1));
        let pace = Pace {
            first: Duration::from_millis(5),
            longest: Duration::from_millis(18),
        };
        let mut slot = None;
        for expected in [5, 10, 18, 18] {
            let pause = Pause::next(&mut slot, (&driver, 0), &pace);
            assert_eq!(pause.length, Duration::from_millis(expected));
        }
    }
}
