//! A poller for the model checker: a lock, a condition and a list of events put in by the model.
//!
//! Time does not pass: a wait with a time limit ends at once, as if it had been reached, and one
//! without ends by an event or a ring only. So a model in which somebody oversleeps deadlocks, and
//! loom says so.
//!
//! A model has one descriptor. What is ready at it is a level, kept in the [`Kernel`]; the pollers
//! that watch it report the edges, and what is ready when they begin to.

#![forbid(unsafe_code)]

use std::io;

use std::sync::Arc;

use super::{BorrowedIo, Event, Interest, Limit};
use crate::clock::NEVER;
use crate::readiness::Occurred;
use crate::sync::{Condvar, Mutex};

pub(crate) const BACKEND: &str = "model";
pub(crate) const SHORT_READ_DRAINS: bool = true;

#[derive(Default)]
struct Inside {
    rung: bool,
    events: Vec<Event>,
}

struct Bed {
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Bed {
    fn report(&self, key: u64, occurred: Occurred) {
        self.inside.lock().events.push(Event { key, occurred });
        self.changed.notify_all();
    }
}

/// The system, for the length of one run of a model.
#[derive(Default)]
pub(crate) struct Kernel {
    /// What is ready at the descriptor, if anything.
    level: Option<Occurred>,
    watching: Vec<(Arc<Bed>, u64)>,
    refuses: bool,
}

loom::lazy_static! {
    static ref KERNEL: Mutex<Kernel> = Mutex::new(Kernel::default());
}

#[cfg(test)]
impl Kernel {
    /// Something becomes ready, and whoever watches reports it.
    pub(crate) fn arrive(occurred: Occurred) {
        let mut kernel = KERNEL.lock();
        kernel.level = Some(occurred);
        for (bed, key) in &kernel.watching {
            bed.report(*key, occurred);
        }
    }

    /// Uses up what is ready. False: it would block.
    pub(crate) fn attempt() -> bool {
        KERNEL.lock().level.take().is_some()
    }

    /// From now on pollers take nothing in.
    pub(crate) fn refuse() {
        KERNEL.lock().refuses = true;
    }

    /// In how many pollers the descriptor is.
    pub(crate) fn watchers() -> usize {
        KERNEL.lock().watching.len()
    }
}

pub(crate) struct Poller {
    bed: Arc<Bed>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            bed: Arc::new(Bed {
                inside: Mutex::new(Inside::default()),
                changed: Condvar::new(),
            }),
        })
    }

    pub(crate) fn add(&self, _: BorrowedIo<'_>, key: u64) -> io::Result<Registration> {
        let mut kernel = KERNEL.lock();
        if kernel.refuses {
            return Err(io::ErrorKind::StorageFull.into());
        }
        kernel.watching.push((self.bed.clone(), key));
        if let Some(level) = kernel.level {
            self.bed.report(key, level);
        }
        Ok(Registration)
    }

    /// What has been reported and not been fetched goes too.
    pub(crate) fn remove(&self, _: &Registration, _: BorrowedIo<'_>) -> io::Result<()> {
        let mut kernel = KERNEL.lock();
        kernel
            .watching
            .retain(|(bed, _)| !Arc::ptr_eq(bed, &self.bed));
        self.bed.inside.lock().events.clear();
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
        self.bed.inside.lock().rung = true;
        self.bed.changed.notify_all();
    }

    /// An event for `key`, whatever the level.
    #[cfg(test)]
    pub(crate) fn inject(&self, key: u64, occurred: Occurred) {
        self.bed.report(key, occurred);
    }

    pub(crate) fn wait(&self, batch: &mut Batch, limit: Limit) -> io::Result<()> {
        let mut inside = self.bed.inside.lock();
        while limit == Limit::Until(NEVER) && !inside.rung && inside.events.is_empty() {
            inside = self
                .bed
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
    /// Not in a poller yet.
    pub(crate) fn none() -> Self {
        Registration
    }

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
