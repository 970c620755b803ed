//! Any pollable descriptor, made asynchronous.
//!
//! The sockets of [`net`](crate::net) cover the usual needs. [`Async`] is for everything else the
//! system can poll: pipes, terminals, `inotify`, `eventfd`, `timerfd`, raw sockets, devices, and the
//! descriptors that C libraries hand out.
//!
//! # How waiting works
//!
//! Every operation of this crate on a socket follows the same four steps, kept in `readiness.rs`:
//!
//! 1. Look at the readiness word of the source. If it says "not ready", go to step 4 without any
//!    system call.
//! 2. Make the system call.
//! 3. If it answered `WouldBlock`, take the readiness back, but only the one that was seen in step
//!    1: an event that came in between stays, and leads back to step 1.
//! 4. Leave a waker and wait for the next event.
//!
//! Step 4 looks at the word again after the waker is in place, so that an event between step 1 and
//! step 4 is never lost. Each wait is also counted by the worker it is begun on; a source that is waited
//! for elsewhere again and again moves to the shard of that worker (`follow` in `readiness.rs`). A fresh socket is taken to be writable until the system says otherwise, so
//! that the first write needs no event.
//!
//! # Ownership
//!
//! `Registered` (in `registered.rs`) owns a descriptor together with its registration, and undoes
//! the registration before the descriptor is closed or handed out, on every path. All socket types
//! are thin covers around it.

#![forbid(unsafe_code)]

mod any;
mod readiness;
mod registered;
pub(crate) mod sys;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use any::Async;
pub(crate) use registered::Registered;
