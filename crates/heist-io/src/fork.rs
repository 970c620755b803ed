//! Which process a driver belongs to.
//!
//! After a `fork` parent and child share one epoll instance (or its like): a registration that the
//! child took out would be gone for the parent, an event that it took would be missing there. So a
//! driver keeps the generation of processes that it was made in, and does nothing in a later one: it
//! registers nothing, takes nothing out, waits for nothing, takes no lock, and its descriptors stay
//! open. Sources and timers answer errors there.
//!
//! The core has the same number for itself (`fork.rs` there); the two crates do not know each other.

#![forbid(unsafe_code)]

use std::io;
// Not from `sync`: no model forks.
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// To be called in the child of a fork, on its one thread, before it does anything else. It may be
/// called where only async-signal-safe code may run.
///
/// # Examples
/// ```standalone_crate
/// use std::sync::Arc;
///
/// let driver = Arc::new(heist_io::Driver::new(1));
/// assert!(!driver.is_forked());
/// heist_io::forked();
/// assert!(driver.is_forked());
/// assert!(!heist_io::Driver::new(1).is_forked());
/// ```
pub fn forked() {
    // Ordering: Relaxed. There is one thread; whoever it starts later sees this.
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// The generation that something was made in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn now() -> Generation {
        // Ordering: Relaxed, as in `forked`.
        Generation(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether it was made by a parent of this process.
    #[inline]
    pub(crate) fn has_gone_by(self) -> bool {
        // Ordering: Relaxed, as in `forked`.
        GENERATION.load(Ordering::Relaxed) != self.0
    }
}

/// The answer to everything that a child asks of its parent's driver.
#[cold]
pub(crate) fn forked_error() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the heist runtime of this socket belongs to the parent of this process",
    )
}
