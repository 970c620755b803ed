//! How long the end of a loop may take, by the runtime's own clock.

#![forbid(unsafe_code)]

use crate::config::SETTLE;
use crate::seam::Seam;
use crate::shared::Shared;
use std::time::Duration;

/// What has passed since a moment.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch<'a> {
    clock: &'a dyn Seam,
    began: u64,
}

impl std::fmt::Debug for Stopwatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.elapsed().fmt(f)
    }
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn start(shared: &'a Shared) -> Stopwatch<'a> {
        let clock = &*shared.seam;
        Stopwatch {
            clock,
            began: clock.now(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.now().saturating_sub(self.began))
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Graces<'a> {
    began: Stopwatch<'a>,
    /// For tasks in cleanup.
    cancel: Duration,
    /// For polls, from when no task is in cleanup; `None` is for ever.
    poll: Option<Duration>,
    /// For closures that run, from when all tasks have ended.
    blocking: Duration,
    /// For all of it together.
    whole: Option<Duration>,
}

impl<'a> Graces<'a> {
    /// Those of the configuration, from now on; none longer than what is left of `whole`.
    pub(crate) fn new(shared: &'a Shared, whole: Option<Duration>) -> Graces<'a> {
        let config = &shared.config;
        Graces {
            began: Stopwatch::start(shared),
            cancel: config.cancel_grace,
            poll: config.poll_grace,
            blocking: config.blocking_grace,
            whole,
        }
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What is left for tasks in cleanup.
    pub(crate) fn cleanup_left(&self) -> Duration {
        let grace = self
            .whole
            .map_or(self.cancel, |whole| whole.min(self.cancel));
        grace.saturating_sub(self.elapsed())
    }

    /// What is left for polls, if no task was in cleanup since `calm`.
    pub(crate) fn poll_left(&self, calm: Stopwatch<'_>) -> Option<Duration> {
        let left = |grace: Duration| grace.saturating_sub(calm.elapsed());
        match self.whole {
            None => self.poll.map(left),
            // Time is left to drop what was in cleanup until the last moment.
            Some(_) => {
                let whole = self.whole_left().max(left(SETTLE));
                Some(self.poll.map_or(whole, |grace| left(grace).min(whole)))
            }
        }
    }

    /// How long running closures may take.
    pub(crate) fn blocking(&self) -> Duration {
        match self.whole {
            None => self.blocking,
            Some(_) => self.blocking.min(self.whole_left()),
        }
    }

    fn whole_left(&self) -> Duration {
        self.whole
            .map_or(Duration::MAX, |whole| whole.saturating_sub(self.elapsed()))
    }
}
