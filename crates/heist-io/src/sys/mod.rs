//! The system's side of a shard: one file per way to wait, all with the same names.
//!
//! | name           | what it is                                                                 |
//! |----------------|----------------------------------------------------------------------------|
//! | `Poller`       | the file descriptors of a shard; registers, rings the bell, waits           |
//! | `Registration` | what a source must keep to be taken out of the poller again                 |
//! | `Batch`        | the events of one wait, and what else belongs to the holder of the turn     |
//! | `BACKEND`, `SHORT_READ_DRAINS` | facts about the way                                         |
//!
//! Rules for all of them. Only the holder of the turn calls `Poller::wait`. `ring` ends the wait
//! that runs, or the next one; a wait that ends for nothing is allowed. After `add` an event comes for
//! whatever is ready already. After `remove` or `abandon` the key comes no more, except in a batch that
//! has been waited for already. One descriptor can be in the pollers of two shards, while it moves from
//! one to the other.

use crate::readiness::Occurred;

#[cfg(all(not(heist_loom), target_os = "linux", not(heist_portable_io)))]
mod epoll;
#[cfg(all(not(heist_loom), target_os = "linux", not(heist_portable_io)))]
pub(crate) use epoll::*;

#[cfg(all(not(heist_loom), any(not(target_os = "linux"), heist_portable_io)))]
mod portable;
#[cfg(all(not(heist_loom), any(not(target_os = "linux"), heist_portable_io)))]
pub(crate) use portable::*;

#[cfg(heist_loom)]
mod fake;
#[cfg(heist_loom)]
pub(crate) use fake::*;

/// What a source is registered by.
#[cfg(unix)]
pub type BorrowedIo<'a> = std::os::fd::BorrowedFd<'a>;
/// What a source is registered by.
#[cfg(windows)]
pub type BorrowedIo<'a> = std::os::windows::io::BorrowedSocket<'a>;

/// One event of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// The key given to `Poller::add`.
    pub(crate) key: u64,
    pub(crate) occurred: Occurred,
}

/// How long a wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Not at all.
    Now,
    /// Until that time of the clock; [`NEVER`](crate::NEVER) for no limit.
    Until(u64),
}

/// Which directions of a source are waited for. Only where registrations fire once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}
