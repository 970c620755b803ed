//! [`UnixListener`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use socket2::{SockAddr, Socket};

use super::{SocketAddr, UnixStream};
use crate::io::{Registered, sys};
use crate::net::accept::{self, SharedPause};

/// A stream socket of the Unix domain that accepts connections.
///
/// Without descriptors or memory left, accepting pauses like that of
/// [`TcpListener`](crate::net::TcpListener).
///
/// # Examples
///
/// ```no_run
/// # heist::run(async {
/// let listener = heist::net::unix::UnixListener::bind("/tmp/service.sock")?;
/// loop {
///     let (stream, _peer) = listener.accept().await?;
///     heist::spawn(async move { stream.write_all(b"hello").await });
/// }
/// # #[expect(unreachable_code)]
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct UnixListener {
    io: Registered<std::os::unix::net::UnixListener>,
    pause: SharedPause,
}

sys::impl_handles!(UnixListener, std::os::unix::net::UnixListener);

impl UnixListener {
    /// Listens at `path`, which must not exist yet. Nobody removes the file afterwards.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f() -> std::io::Result<()> {
    /// let listener = heist::net::unix::UnixListener::bind("/tmp/service.sock")?;
    /// # let _ = listener;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        // Asked first, so that outside a runtime no file is made.
        crate::context::driver()?;
        UnixListener::from_std(std::os::unix::net::UnixListener::bind(path)?)
    }

    /// Registers a listener of the standard library with the current runtime, in non-blocking mode.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # heist::run(async {
    /// let std_listener = std::os::unix::net::UnixListener::bind("/tmp/service.sock")?;
    /// let listener = heist::net::unix::UnixListener::from_std(std_listener)?;
    /// # let _ = listener;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener {
            io: Registered::new(listener)?,
            pause: SharedPause::default(),
        })
    }

    /// Leaves the runtime: the listener as one of the standard library, still non-blocking.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::unix::UnixListener) -> std::io::Result<()> {
    /// let std_listener = listener.into_std()?;
    /// # let _ = std_listener;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the descriptor was closed or replaced behind the back of this type.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixListener> {
        self.io.try_into_inner()
    }

    /// Takes the next connection and the address of its other end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::unix::UnixListener) -> std::io::Result<()> {
    /// let (stream, peer) = listener.accept().await?;
    /// # let _ = (stream, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the listener is closed, when the connection cannot be registered with
    /// it, and what else the system answers, except for what
    /// [`TcpListener`](crate::net::TcpListener) says.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost when the future is dropped before it was ready.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, peer) = accept::accept(&self.io).await?;
        self.adopt(socket, &peer)
    }

    /// Polls for the next connection. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::unix::UnixListener) -> std::io::Result<()> {
    /// let (stream, peer) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// # let _ = (stream, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`accept`](UnixListener::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        let (socket, peer) = ready!(accept::poll_accept(&self.io, &self.pause, cx))?;
        Poll::Ready(self.adopt(socket, &peer))
    }

    /// Registers a new connection beside its listener.
    fn adopt(&self, socket: Socket, peer: &SockAddr) -> io::Result<(UnixStream, SocketAddr)> {
        let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(socket));
        let peer = match peer.as_unix() {
            Some(peer) => peer,
            None => stream.peer_addr()?,
        };
        let io = Registered::beside(stream, &self.io)?;
        Ok((UnixStream { io }, peer))
    }

    /// The connections as a [`Stream`] that never ends.
    ///
    /// It waits as [`poll_accept`](UnixListener::poll_accept) does: use one at a time.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::unix::UnixListener) -> std::io::Result<()> {
    /// use futures_core::Stream;
    /// use std::pin::Pin;
    ///
    /// let mut incoming = listener.incoming();
    /// while let Some(stream) =
    ///     std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_next(cx)).await
    /// {
    ///     stream?.write_all(b"hello").await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address this listens on.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::unix::UnixListener) -> std::io::Result<()> {
    /// println!("listening on {:?}", listener.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// Takes the pending error of the socket, if there is one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::unix::UnixListener) -> std::io::Result<()> {
    /// assert!(listener.take_error()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.get_ref().take_error()
    }
}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixListener")
            .field(self.io.get_ref())
            .finish()
    }
}

/// The connections of a listener as a stream. Made by [`UnixListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing until they are polled"]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.listener.poll_accept(cx));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}
