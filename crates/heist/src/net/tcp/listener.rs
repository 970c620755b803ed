//! [`TcpListener`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use socket2::{SockAddr, Socket};

use super::{TcpSocket, TcpStream};
use crate::io::{Registered, sys};
use crate::net::ToSocketAddrs;
use crate::net::accept::{self, SharedPause};
use crate::net::addr::resolve;

/// Connections that wait to be accepted, unless [`TcpSocket::listen`] is told otherwise. The system
/// has a limit of its own (`somaxconn`), which wins if it is lower.
const BACKLOG: u32 = 1024;

/// A TCP socket that accepts connections.
///
/// Connections are served by the part of the runtime that serves their listener, until load spreads
/// them.
///
/// # Out of descriptors
///
/// Where the process or the system has no descriptor or memory left for a connection, accepting
/// does not fail: it pauses, from 5 ms doubling up to one second, and tries again. Connections that
/// died before they were accepted are passed over.
///
/// # Examples
///
/// ```no_run
/// # heist::run(async {
/// let listener = heist::net::TcpListener::bind("127.0.0.1:8080").await?;
/// loop {
///     let (stream, peer) = listener.accept().await?;
///     heist::spawn(async move {
///         println!("hello, {peer}");
///         stream.write_all(b"goodbye\n").await
///     });
/// }
/// # #[expect(unreachable_code)]
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct TcpListener {
    io: Registered<std::net::TcpListener>,
    pause: SharedPause,
}

sys::impl_handles!(TcpListener, std::net::TcpListener);

impl TcpListener {
    /// Listens on `addr`. Of a name with several addresses, the first that works is taken.
    ///
    /// The address may be used again at once after the process ends (`SO_REUSEADDR`, on Unix), and
    /// 1024 connections may wait. For other settings see [`TcpSocket`].
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let listener = heist::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the last address tried, or of the name's resolution; `InvalidInput` if there
    /// was no address. Where no runtime is entered or the runtime is closed.
    ///
    /// # Cancel safety
    ///
    /// It waits for the look-up of a name alone: a future that is dropped has made no socket.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let mut last = None;
        for addr in resolve(&addr).await? {
            match TcpListener::bind_one(addr) {
                Ok(listener) => return Ok(listener),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on")
        }))
    }

    fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
        let socket = TcpSocket::for_addr(addr)?;
        // On Windows the option would let others steal the address.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    }

    /// Registers a listener of the standard library with the current runtime, in non-blocking mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let std_listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = heist::net::TcpListener::from_std(std_listener)?;
    /// # let _ = listener;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        TcpListener::from_nonblocking(listener)
    }

    pub(super) fn from_nonblocking(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener {
            io: Registered::new(listener)?,
            pause: SharedPause::default(),
        })
    }

    /// Leaves the runtime: the listener as one of the standard library, still non-blocking.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
    /// let std_listener = listener.into_std()?;
    /// # let _ = std_listener;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the descriptor was closed or replaced behind the back of this type.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        self.io.try_into_inner()
    }

    /// Takes the next connection and the address of its other end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
    /// let (stream, peer) = listener.accept().await?;
    /// # let _ = (stream, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the listener is closed, when the connection cannot be registered with
    /// it, and what else the system answers, except for what [`TcpListener`] says.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost when the future is dropped before it was ready.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let (socket, peer) = accept::accept(&self.io).await?;
            if let Some(accepted) = self.adopt(socket, &peer) {
                return accepted;
            }
        }
    }

    /// Polls for the next connection. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
    /// let (stream, peer) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// # let _ = (stream, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`accept`](TcpListener::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            let (socket, peer) = ready!(accept::poll_accept(&self.io, &self.pause, cx))?;
            if let Some(accepted) = self.adopt(socket, &peer) {
                return Poll::Ready(accepted);
            }
        }
    }

    /// Registers a new connection beside its listener. `None` for one without an address: some
    /// systems hand out connections that died in the queue that way.
    fn adopt(
        &self,
        socket: Socket,
        peer: &SockAddr,
    ) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let peer = peer.as_socket()?;
        let io = Registered::beside(std::net::TcpStream::from(socket), &self.io);
        Some(io.map(|io| (TcpStream { io }, peer)))
    }

    /// The connections as a [`Stream`] that never ends.
    ///
    /// It waits as [`poll_accept`](TcpListener::poll_accept) does: use one at a time.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
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

    /// The address this listens on, with the port the system chose where none was given.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
    /// println!("listening on {}", listener.local_addr()?);
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

    /// The time-to-live of outgoing packets of accepted connections.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
    /// println!("{} hops", listener.ttl()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the time-to-live of outgoing packets of accepted connections.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
    /// listener.set_ttl(64)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(ttl)
    }

    /// Takes the pending error of the socket, if there is one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(listener: heist::net::TcpListener) -> std::io::Result<()> {
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

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpListener")
            .field(self.io.get_ref())
            .finish()
    }
}

/// The connections of a listener as a stream. Made by [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing until they are polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.listener.poll_accept(cx));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}
