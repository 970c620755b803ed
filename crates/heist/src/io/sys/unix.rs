//! Unix: descriptors.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

pub(crate) use std::os::fd::AsFd as AsIo;

/// Borrows the descriptor of `io`.
#[inline]
pub(crate) fn borrow<T: AsIo + ?Sized>(io: &T) -> BorrowedFd<'_> {
    io.as_fd()
}

/// The number of the descriptor of `io`, for people.
pub(crate) fn number<T: AsIo + ?Sized>(io: &T) -> u64 {
    // No descriptor that is open has a negative number.
    u64::from(io.as_fd().as_raw_fd().unsigned_abs())
}

/// A new stream socket, non-blocking and close-on-exec.
pub(crate) fn open_stream(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    flags::open(domain, protocol)
}

/// Takes one connection off the queue of `listener`, non-blocking and close-on-exec.
pub(crate) fn accept<T: AsIo>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    flags::accept(&SockRef::from(listener))
}

/// Whether a non-blocking `connect` that failed with `e` goes on in the background.
///
/// `EINTR` counts: POSIX lets an interrupted `connect` complete asynchronously.
pub(crate) fn is_connecting(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}

/// Whether `e`, from `accept`, will still be there at the next call if that comes at once.
///
/// The first four are shortages. `EPERM` is a firewall rule on a single connection for Linux, but
/// where a sandbox forbids the call it stays for ever, and a pause is right for both.
pub(crate) fn out_of_resources(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EPERM)
    )
}

/// Whether `e`, from `accept`, was the fate of one connection and leaves the listener sound.
///
/// Linux reports network errors that are pending on the new connection as errors of `accept`.
pub(crate) fn lost_connection(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::ETIMEDOUT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENOPROTOOPT
        )
    ) || flags::lost_connection(e)
}

/// Systems that make a socket non-blocking in the call that creates it.
#[cfg(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod flags {
    use super::{Domain, Protocol, SockAddr, SockRef, Socket, Type, io};

    pub(super) fn open(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
        Socket::new(domain, Type::STREAM.nonblocking(), protocol)
    }

    /// `ENONET` exists only here.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    pub(super) fn lost_connection(e: &io::Error) -> bool {
        e.raw_os_error() == Some(libc::ENONET)
    }

    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    pub(super) fn lost_connection(_: &io::Error) -> bool {
        false
    }

    pub(super) fn accept(listener: &SockRef<'_>) -> io::Result<(Socket, SockAddr)> {
        listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
    }
}

/// Systems that need a second call.
#[cfg(not(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
mod flags {
    use super::{Domain, Protocol, SockAddr, SockRef, Socket, Type, io};

    pub(super) fn open(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::STREAM, protocol)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    pub(super) fn lost_connection(_: &io::Error) -> bool {
        false
    }

    pub(super) fn accept(listener: &SockRef<'_>) -> io::Result<(Socket, SockAddr)> {
        let (socket, peer) = listener.accept()?;
        socket.set_nonblocking(true)?;
        Ok((socket, peer))
    }
}

/// Gives a type with a field `io: Registered<$std>` its descriptor conversions.
macro_rules! impl_handles {
    ($type:ident, $std:ty) => {
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(self.io.get_ref())
            }
        }

        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(self.io.get_ref())
            }
        }

        impl From<$type> for std::os::fd::OwnedFd {
            /// Leaves the runtime and hands the descriptor out, still in non-blocking mode.
            fn from(socket: $type) -> std::os::fd::OwnedFd {
                socket.io.into_inner().into()
            }
        }

        impl TryFrom<std::os::fd::OwnedFd> for $type {
            type Error = std::io::Error;

            /// Registers the descriptor with the current runtime, like `from_std`.
            fn try_from(fd: std::os::fd::OwnedFd) -> std::io::Result<$type> {
                $type::from_std(<$std>::from(fd))
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
