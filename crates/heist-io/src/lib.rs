//! The I/O driver of [heist](https://github.com/heist-rs/heist): file descriptors, timers, and the
//! place where idle threads sleep.
//!
//! It knows wakers and shard numbers, and neither workers nor tasks. It is not an executor and not a
//! general event loop; its surface is made for the crate `heist` and changes with it.
//!
//! In the order you meet them: a [`Driver`] has shards, each with one thread that parks on it
//! ([`Driver::park`]) and can be woken by any other ([`Driver::unpark`]). A [`Source`] is a
//! registered file descriptor that can be waited for in each [`Direction`]. A [`Timer`] is one
//! deadline. Time is a number of nanoseconds ([`now`]).
//!
//! ```
//! use std::future::Future;
//! use std::io::Write;
//! use std::os::fd::AsFd;
//! use std::sync::Arc;
//! use std::task::{Context, Waker};
//! use heist_io::{Direction, Driver, NEVER};
//!
//! # fn main() -> std::io::Result<()> {
//! let driver = Arc::new(Driver::new(1));
//! driver.attach(0);
//! let (here, mut there) = std::os::unix::net::UnixStream::pair()?;
//! here.set_nonblocking(true)?;
//! let source = driver.register(here.as_fd(), 0)?;
//!
//! let mut readable = Box::pin(source.ready(Direction::Read));
//! let mut cx = Context::from_waker(Waker::noop());
//! assert!(readable.as_mut().poll(&mut cx).is_pending());
//! there.write_all(b"hello")?;
//! while readable.as_mut().poll(&mut cx).is_pending() {
//!     driver.park(0, NEVER);
//! }
//! drop(readable);
//! source.deregister(here.as_fd())?;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module      | what it owns                                                            |
//! |-------------|-------------------------------------------------------------------------|
//! | `driver`    | the shards by number; the public surface of the driver                  |
//! | `shard`     | one turn: wait, apply, let go, wake; the life of the poller             |
//! | `turn`      | the slot word: how a parked thread is woken                             |
//! | `alarm`     | arming a timer against parking                                          |
//! | `readiness` | the readiness word: events against waiters and clears                   |
//! | `source`    | [`Source`], its wakers, its futures                                     |
//! | `waiters`   | who waits for a source in its list                                      |
//! | `home`      | the shard a source is registered with, and its moves                    |
//! | `registry`  | keys of sources                                                         |
//! | `timer`     | [`Timer`], the timers of a shard                                        |
//! | `wheel`     | the timing wheel, pure data                                             |
//! | `wakers`    | where a waker waits; running collected ones                             |
//! | `clock`     | nanoseconds and `Instant`                                               |
//! | `fork`      | a driver in the child of a fork                                         |
//! | `sys`       | epoll, and everything else through `polling`; one file each, same names |
//! | `sync`      | the only door to atomics, locks and threads                             |
//! | `models`    | the protocols above under loom                                          |
//!
//! `unsafe` is in `sys/portable.rs` alone, in one place.

#![deny(unsafe_code)]

mod alarm;
mod clock;
mod driver;
mod fork;
mod home;
mod readiness;
mod registry;
mod shard;
mod source;
mod sync;
mod sys;
mod timer;
mod turn;
mod waiters;
mod wakers;
mod wheel;

#[cfg(all(test, heist_loom))]
mod models;
#[cfg(all(test, not(heist_loom)))]
mod random;
#[cfg(all(test, unix, not(heist_loom)))]
mod tests;

pub use crate::clock::{NEVER, from_std, now, to_std};
pub use crate::driver::{Closed, Driver, Simulated, closed_error};
pub use crate::fork::forked;
pub use crate::home::MOVE_AFTER;
pub use crate::readiness::{Direction, Ready};
pub use crate::source::{ReadyFuture, Source};
pub use crate::sys::BorrowedIo;
pub use crate::timer::Timer;
