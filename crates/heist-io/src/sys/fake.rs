//! A poller for the model checker: a lock, a condition and a list of events put in by the model.
//!
//! Time does not pass: a wait with a time limit ends at once, as if it had been reached, and one
//! without ends by an event or a ring only. So a model in which somebody oversleeps deadlocks, and
//! loom says so.

#![forbid(unsafe_code)]

use std::io;

use super::{BorrowedIo, Event, Interest, Limit};
use crate::clock::NEVER;
use crate::sync::{Condvar, Mutex};

pub(crate) const BACKEND: &str = "model";
pub(crate) const SHORT_READ_DRAINS: bool = true;

#[derive(Default)]
struct Inside {
    rung: bool,
    events: Vec<Event>,
}

pub(crate) struct Poller {
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            inside: Mutex::new(Inside::default()),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn add(&self, _: BorrowedIo<'_>, _: u64) -> io::Result<Registration> {
        Ok(Registration)
    }

    pub(crate) fn remove(&self, _: &Registration, _: BorrowedIo<'_>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn abandon(&self, _: &Registration) {}

    pub(crate) fn rearm(
        &self,
        _: &Registration,
        _: u64,
        _: impl FnOnce() -> Interest,
    ) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn ring(&self) {
        self.inside.lock().rung = true;
        self.changed.notify_all();
    }

    /// What the kernel does: an event for `key`.
    #[cfg(test)]
    pub(crate) fn inject(&self, key: u64, occurred: crate::readiness::Occurred) {
        self.inside.lock().events.push(Event { key, occurred });
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self, batch: &mut Batch, limit: Limit) -> io::Result<()> {
        let mut inside = self.inside.lock();
        while limit == Limit::Until(NEVER) && !inside.rung && inside.events.is_empty() {
            inside = self
                .changed
                .wait(inside)
                .unwrap_or_else(|poison| poison.into_inner());
        }
        inside.rung = false;
        batch.list.append(&mut inside.events);
        Ok(())
    }
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Poller")
    }
}

#[derive(Debug)]
pub(crate) struct Registration;

impl Registration {
    pub(crate) fn needs_rearm(&self) -> bool {
        false
    }

    /// The poller is gone.
    pub(crate) fn discard(&self) {}
}

pub(crate) struct Batch {
    list: Vec<Event>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { list: Vec::new() }
    }

    pub(crate) fn drain(&mut self, each: impl FnMut(Event)) {
        self.list.drain(..).for_each(each);
    }
}
