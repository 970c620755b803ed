//! [`UnixDatagram`].

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::path::Path;
use std::task::{Context, Poll};

use heist_io::Direction;

use super::{FULL_QUEUE, SocketAddr};
use crate::io::{Registered, sys};
use crate::net::pause::Pause;

/// A datagram socket of the Unix domain.
///
/// # Full queues
///
/// A connected socket is woken when the queue of its peer has room again. Of a socket that it is not
/// connected to, the system does not tell: [`send_to`](UnixDatagram::send_to) then tries again
/// after pauses of up to 50 ms. Connect to peers that may be slow.
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// use heist::net::unix::UnixDatagram;
///
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"ping").await?;
/// let mut buf = [0; 16];
/// let n = b.recv(&mut buf).await?;
/// assert_eq!(&buf[..n], b"ping");
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct UnixDatagram {
    io: Registered<std::os::unix::net::UnixDatagram>,
}

sys::impl_handles!(UnixDatagram, std::os::unix::net::UnixDatagram);

impl UnixDatagram {
    /// Makes a socket at `path`, which must not exist yet. Nobody removes the file afterwards.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f() -> std::io::Result<()> {
    /// let socket = heist::net::unix::UnixDatagram::bind("/tmp/service.sock")?;
    /// # let _ = socket;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        // Asked first, so that outside a runtime no file is made.
        crate::context::driver()?;
        UnixDatagram::from_std(std::os::unix::net::UnixDatagram::bind(path)?)
    }

    /// Makes a socket without an address, good for sending.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let socket = heist::net::unix::UnixDatagram::unbound()?;
    /// # let _ = socket;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std::os::unix::net::UnixDatagram::unbound()?)
    }

    /// Makes two sockets connected to each other.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let (a, b) = heist::net::unix::UnixDatagram::pair()?;
    /// a.send(b"ping").await?;
    /// let mut buf = [0; 16];
    /// assert_eq!(b.recv(&mut buf).await?, 4);
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from_std(a)?, UnixDatagram::from_std(b)?))
    }

    /// Registers a socket of the standard library with the current runtime, in non-blocking mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let (a, _b) = std::os::unix::net::UnixDatagram::pair()?;
    /// let socket = heist::net::unix::UnixDatagram::from_std(a)?;
    /// # let _ = socket;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<UnixDatagram> {
        socket.set_nonblocking(true)?;
        Ok(UnixDatagram {
            io: Registered::new(socket)?,
        })
    }

    /// Leaves the runtime: the socket as one of the standard library, still non-blocking.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// let std_socket = socket.into_std()?;
    /// # let _ = std_socket;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the descriptor was closed or replaced behind the back of this type.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixDatagram> {
        self.io.try_into_inner()
    }

    /// Fixes the peer: [`send`](UnixDatagram::send) goes there.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.connect("/tmp/service.sock")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.io.get_ref().connect(path)
    }

    /// Sends a datagram to the socket at `path`, waiting while its queue is full.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.send_to(b"hello", "/tmp/service.sock").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing was sent when the future is dropped before it was ready.
    pub async fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        let path = path.as_ref();
        let mut pause = None;
        loop {
            // Of an unconnected socket, "no room" may mean the queue of the other, of which no event
            // tells. So it is not taken for the end of our own readiness.
            let sent = self
                .io
                .op(Direction::Write, |io| match io.send_to(buf, path) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    sent => sent.map(Some),
                });
            if let Some(n) = sent.await? {
                return Ok(n);
            }
            let pause = Pause::next(&mut pause, self.io.driver(), &FULL_QUEUE);
            pause.over().await?;
        }
    }

    /// Sends a datagram to the socket at `path`, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.try_send_to(b"hello", "/tmp/service.sock")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it would have to wait; else as for [`send_to`](UnixDatagram::send_to).
    pub fn try_send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        let path = path.as_ref();
        self.io.try_op(Direction::Write, |io| io.send_to(buf, path))
    }

    /// Receives a datagram and the address of its sender. What does not fit into `buf` is cut off.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// let mut buf = [0; 1500];
    /// let (n, peer) = socket.recv_from(&mut buf).await?;
    /// # let _ = (n, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No datagram is lost when the future is dropped before it was ready.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.op(Direction::Read, |io| io.recv_from(buf)).await
    }

    /// Polls for a datagram and the address of its sender. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// let mut buf = [0; 1500];
    /// let (n, peer) = std::future::poll_fn(|cx| socket.poll_recv_from(cx, &mut buf)).await?;
    /// # let _ = (n, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.io.poll_op(Direction::Read, cx, |io| io.recv_from(buf))
    }

    /// Receives a datagram that is there and the address of its sender, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.readable().await?;
    /// let mut buf = [0; 1500];
    /// let (n, peer) = socket.try_recv_from(&mut buf)?;
    /// # let _ = (n, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it would have to wait; else as for [`recv_from`](UnixDatagram::recv_from).
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_op(Direction::Read, |io| io.recv_from(buf))
    }

    /// Sends a datagram to the connected peer, waiting while its queue is full.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.send(b"hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing was sent when the future is dropped before it was ready.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.op(Direction::Write, |io| io.send(buf)).await
    }

    /// Polls for room to send a datagram to the connected peer, and sends it. Only the last caller's
    /// waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| socket.poll_send(cx, b"hello")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_op(Direction::Write, cx, |io| io.send(buf))
    }

    /// Sends a datagram to the connected peer, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.try_send(b"hello")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it would have to wait; else as for [`send`](UnixDatagram::send).
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_op(Direction::Write, |io| io.send(buf))
    }

    /// Receives a datagram. What does not fit into `buf` is cut off.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// let mut buf = [0; 1500];
    /// let n = socket.recv(&mut buf).await?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// No datagram is lost when the future is dropped before it was ready.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.op(Direction::Read, |io| io.recv(buf)).await
    }

    /// Polls for a datagram. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// let mut buf = [0; 1500];
    /// let n = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut buf)).await?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_op(Direction::Read, cx, |io| io.recv(buf))
    }

    /// Receives a datagram that is there, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.readable().await?;
    /// let mut buf = [0; 1500];
    /// let n = socket.try_recv(&mut buf)?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it would have to wait; else as for [`recv`](UnixDatagram::recv).
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_op(Direction::Read, |io| io.recv(buf))
    }

    /// Waits until there may be a datagram to receive.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.readable().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await.map(drop)
    }

    /// Polls for a datagram to receive. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| socket.poll_readable(cx)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the socket is closed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(Direction::Read, cx)
    }

    /// Waits until there may be room to send a datagram.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.writable().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the socket is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await.map(drop)
    }

    /// Polls for room to send a datagram. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| socket.poll_writable(cx)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the socket is closed.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(Direction::Write, cx)
    }

    /// The address of this end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// println!("at {:?}", socket.local_addr()?);
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

    /// The address of the connected peer.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// println!("to {:?}", socket.peer_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, `NotConnected` without a peer.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Takes the pending error of the socket, if there is one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// assert!(socket.take_error()?.is_none());
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

    /// Closes the socket for receiving, for sending, or for both.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::unix::UnixDatagram) -> std::io::Result<()> {
    /// socket.shutdown(std::net::Shutdown::Write)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get_ref().shutdown(how)
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixDatagram")
            .field(self.io.get_ref())
            .finish()
    }
}
