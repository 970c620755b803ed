//! Sockets: TCP, UDP, and those of the Unix domain under [`unix`].
//!
//! Every type owns its descriptor and its registration with the runtime on whose thread it was
//! made, and undoes the registration before the descriptor is closed or handed out. A socket may be
//! used from any task of any runtime, but its events come from its own.
//!
//! # Two ways to wait
//!
//! The `async` methods take `&self`, and any number of tasks may wait in them at once. The `poll_*`
//! methods and the traits of `futures-io` keep one waker per direction: of several tasks that poll
//! the same socket for the same direction, the last one is woken. So one reader and one writer are
//! always fine.
//!
//! # Cancel safety
//!
//! Unless a method says otherwise, dropping its future before it was ready loses no data: the
//! system call that moves data is the last thing that happens.
//!
//! # Errors of every socket
//!
//! - Made on a thread that is in no runtime, or in a closed one: an error, at once. In a
//!   [simulation](crate::sim): an error of kind `Unsupported`.
//! - Waiting when the runtime closes, or starting to wait after that: an error of kind
//!   `NotConnected` that holds [`Closed`](crate::time::Closed). An operation that needs no wait may
//!   still succeed.

#![forbid(unsafe_code)]

mod accept;
pub(crate) mod addr;
mod connect;
mod macros;
mod pause;
mod split;
mod tcp;
mod udp;
#[cfg(unix)]
pub mod unix;

#[cfg(test)]
mod tests;

pub use addr::{SocketAddrs, ToSocketAddrs, lookup_host};
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReuniteError, StreamSocket};
pub use std::net::Shutdown;
pub use tcp::{Incoming, TcpListener, TcpSocket, TcpStream};
pub use udp::UdpSocket;
