//! Non-blocking `connect`, for every kind of stream.
//!
//! The socket is registered only after `connect` was called: Linux reports a hang-up for a stream
//! that is neither connected nor connecting, and hang-ups are sticky.

#![forbid(unsafe_code)]

use std::io;

use heist_io::Direction;
use socket2::{SockAddr, SockRef, Socket};

use crate::io::Registered;
use crate::io::sys::{self, AsIo};

/// Connects `socket`, which must be non-blocking, to `addr`, and registers it.
pub(super) async fn connect<T>(socket: Socket, addr: &SockAddr) -> io::Result<Registered<T>>
where
    T: AsIo + From<Socket>,
{
    // Asked first, so that outside a runtime nothing is sent.
    let (driver, shard) = crate::context::driver()?;
    let outcome = socket.connect(addr);
    match outcome {
        Ok(()) => Registered::with_driver(T::from(socket), &driver, shard),
        Err(e) if sys::is_connecting(&e) => {
            let io = Registered::with_driver(T::from(socket), &driver, shard)?;
            established(&io).await?;
            Ok(io)
        }
        Err(e) => Err(e),
    }
}

/// Waits until the connection under way has come about or failed.
async fn established<T: AsIo>(io: &Registered<T>) -> io::Result<()> {
    loop {
        let seen = io.ready(Direction::Write).await?;
        let socket = SockRef::from(io.get_ref());
        if let Some(e) = socket.take_error()? {
            return Err(e);
        }
        match socket.peer_addr() {
            Ok(_) => return Ok(()),
            // Writable without a peer and without an error: a stray event. Unless the system says
            // that nothing more will come.
            Err(e) if e.kind() == io::ErrorKind::NotConnected && !seen.is_write_closed() => {
                io.blocked(Direction::Write, seen);
            }
            Err(e) => return Err(e),
        }
    }
}
