//! The one place where sockets of Unix and of Windows get the same names.
//!
//! Everything above speaks of an [`AsIo`] (borrows its descriptor or socket) and of the handful of
//! functions below; which system is underneath is decided here and nowhere else.
//!
//! | name | Unix | Windows |
//! |---|---|---|
//! | `AsIo` | `AsFd` | `AsSocket` |
//! | `borrow` | `as_fd()` | `as_socket()` |
//! | `number` | `as_raw_fd()` | `as_raw_socket()` |
//! | `accept` | `accept4(SOCK_NONBLOCK \| SOCK_CLOEXEC)` where there is one | `accept`, then non-blocking |
//! | `open_stream` | `SOCK_STREAM \| SOCK_NONBLOCK` where there is one | `SOCK_STREAM`, then non-blocking |
//! | `is_connecting` | `EINPROGRESS` | `WSAEWOULDBLOCK` |
//! | `out_of_resources` | `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `EPERM` | `WSAEMFILE`, `WSAENOBUFS` |
//! | `lost_connection` | `ECONNABORTED`, `EPROTO`, network errors | the same by kind |
//! | `impl_handles!` | `AsFd`, `AsRawFd`, `TryFrom`/`Into` `OwnedFd` | `AsSocket`, `AsRawSocket`, `TryFrom`/`Into` `OwnedSocket` |

#![forbid(unsafe_code)]

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::{
    AsIo, accept, borrow, impl_handles, is_connecting, lost_connection, number, open_stream,
    out_of_resources,
};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(crate) use windows::{
    AsIo, accept, borrow, impl_handles, is_connecting, lost_connection, number, open_stream,
    out_of_resources,
};
