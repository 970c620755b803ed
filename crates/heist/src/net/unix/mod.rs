//! Sockets of the Unix domain: between processes of one machine.
//!
//! What the parent module says about waiting, cancel safety and errors holds here too. The files
//! that named sockets make are left behind when the socket is closed, as the system has it.

#![forbid(unsafe_code)]

mod datagram;
mod listener;
mod stream;

use std::time::Duration;

use super::pause::Pace;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use std::os::unix::net::SocketAddr;
pub use stream::UnixStream;

/// A queue of another socket is full, and the system does not tell us when it no longer is.
/// Short pauses, since that other socket is usually being served.
const FULL_QUEUE: Pace = Pace {
    first: Duration::from_millis(1),
    longest: Duration::from_millis(50),
};
