//! Windows: sockets.

#![forbid(unsafe_code)]

use std::io;
use std::os::windows::io::{AsRawSocket, BorrowedSocket};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

pub(crate) use std::os::windows::io::AsSocket as AsIo;

/// `WSAEMFILE`: no more sockets for this process.
const TOO_MANY_SOCKETS: i32 = 10024;
/// `WSAENOBUFS`: no buffer space.
const NO_BUFFERS: i32 = 10055;

/// Borrows the socket of `io`.
#[inline]
pub(crate) fn borrow<T: AsIo + ?Sized>(io: &T) -> BorrowedSocket<'_> {
    io.as_socket()
}

/// The number of the socket of `io`, for people.
pub(crate) fn number<T: AsIo + ?Sized>(io: &T) -> u64 {
    // `RawSocket` is as wide as a pointer.
    io.as_socket().as_raw_socket() as u64
}

/// A new stream socket, non-blocking and not inherited.
pub(crate) fn open_stream(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Takes one connection off the queue of `listener`, non-blocking and not inherited.
pub(crate) fn accept<T: AsIo>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    let (socket, peer) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, peer))
}

/// Whether a non-blocking `connect` that failed with `e` goes on in the background.
pub(crate) fn is_connecting(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock
}

/// Whether `e`, from `accept`, will still be there at the next call if that comes at once.
pub(crate) fn out_of_resources(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(TOO_MANY_SOCKETS | NO_BUFFERS))
}

/// Whether `e`, from `accept`, was the fate of one connection and leaves the listener sound.
pub(crate) fn lost_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}

/// Gives a type with a field `io: Registered<$std>` its socket conversions.
macro_rules! impl_handles {
    ($type:ident, $std:ty) => {
        impl std::os::windows::io::AsSocket for $type {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                std::os::windows::io::AsSocket::as_socket(self.io.get_ref())
            }
        }

        impl std::os::windows::io::AsRawSocket for $type {
            fn as_raw_socket(&self) -> std::os::windows::io::RawSocket {
                std::os::windows::io::AsRawSocket::as_raw_socket(self.io.get_ref())
            }
        }

        impl From<$type> for std::os::windows::io::OwnedSocket {
            /// Leaves the runtime and hands the socket out, still in non-blocking mode.
            fn from(socket: $type) -> std::os::windows::io::OwnedSocket {
                socket.io.into_inner().into()
            }
        }

        impl TryFrom<std::os::windows::io::OwnedSocket> for $type {
            type Error = std::io::Error;

            /// Registers the socket with the current runtime, like `from_std`.
            fn try_from(socket: std::os::windows::io::OwnedSocket) -> std::io::Result<$type> {
                $type::from_std(<$std>::from(socket))
            }
        }

        impl TryFrom<$std> for $type {
            type Error = std::io::Error;

            /// Registers the socket with the current runtime, like `from_std`.
            fn try_from(socket: $std) -> std::io::Result<$type> {
                $type::from_std(socket)
            }
        }
    };
}
pub(crate) use impl_handles;
