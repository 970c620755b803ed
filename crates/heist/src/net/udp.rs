//! UDP.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use heist_io::Direction;

use super::ToSocketAddrs;
use super::addr::resolve;
use crate::io::{Registered, sys};

/// A UDP socket.
///
/// All methods take `&self`, so one task may receive while others send.
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// use heist::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.send_to(b"ping", server.local_addr()?).await?;
///
/// let mut buf = [0; 1500];
/// let (n, peer) = server.recv_from(&mut buf).await?;
/// assert_eq!((&buf[..n], peer), (&b"ping"[..], client.local_addr()?));
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct UdpSocket {
    io: Registered<std::net::UdpSocket>,
}

sys::impl_handles!(UdpSocket, std::net::UdpSocket);

impl UdpSocket {
    /// Makes a socket at `addr`. Of a name with several addresses, the first that works is taken.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let socket = heist::net::UdpSocket::bind("127.0.0.1:0").await?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the last address tried, or of the name's resolution; `InvalidInput` if there was no
    /// address. Where no runtime is entered or the runtime is closed.
    ///
    /// # Cancel safety
    ///
    /// It waits for the look-up of a name alone: a future that is dropped has made no socket.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let mut last = None;
        for addr in resolve(&addr).await? {
            match std::net::UdpSocket::bind(addr).and_then(UdpSocket::from_std) {
                Ok(socket) => return Ok(socket),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no address to bind to")
        }))
    }

    /// Registers a socket of the standard library with the current runtime, in non-blocking mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let std_socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let socket = heist::net::UdpSocket::from_std(std_socket)?;
    /// # let _ = socket;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocket {
            io: Registered::new(socket)?,
        })
    }

    /// Leaves the runtime: the socket as one of the standard library, still non-blocking.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let std_socket = socket.into_std()?;
    /// # let _ = std_socket;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the descriptor was closed or replaced behind the back of this type.
    pub fn into_std(self) -> io::Result<std::net::UdpSocket> {
        self.io.try_into_inner()
    }

    /// Fixes the peer: [`send`](UdpSocket::send) goes there, and only its datagrams are received. Of a
    /// name with several addresses, the first that works is taken.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.connect("127.0.0.1:53").await?;
    /// socket.send(b"query").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the last address tried, or of the name's resolution; `InvalidInput` if there was no
    /// address.
    ///
    /// # Cancel safety
    ///
    /// It waits for the look-up of a name alone: after a future that is dropped the peer is the one before.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let mut last = None;
        for addr in resolve(&addr).await? {
            // A datagram socket connects without waiting.
            match self.io.get_ref().connect(addr) {
                Ok(()) => return Ok(()),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")
        }))
    }

    /// Sends a datagram to `target`. Of a name with several addresses, the first is taken.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.send_to(b"hello", "127.0.0.1:9000").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    /// `InvalidInput` if there was no address, and the error of the name's resolution.
    ///
    /// # Cancel safety
    ///
    /// Nothing was sent when the future is dropped before it was ready.
    pub async fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], target: A) -> io::Result<usize> {
        let target = resolve(&target).await?.next();
        let target = target
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to send to"))?;
        self.io
            .op(Direction::Write, |io| io.send_to(buf, target))
            .await
    }

    /// Polls for room to send a datagram to `target`, and sends it. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let target = "127.0.0.1:9000".parse().unwrap();
    /// std::future::poll_fn(|cx| socket.poll_send_to(cx, b"hello", target)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op(Direction::Write, cx, |io| io.send_to(buf, target))
    }

    /// Sends a datagram to `target`, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.try_send_to(b"hello", "127.0.0.1:9000".parse().unwrap())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it would have to wait; else as for [`send_to`](UdpSocket::send_to).
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.io
            .try_op(Direction::Write, |io| io.send_to(buf, target))
    }

    /// Receives a datagram and the address of its sender. What does not fit into `buf` is cut off.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// `WouldBlock` where it would have to wait; else as for [`recv_from`](UdpSocket::recv_from).
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_op(Direction::Read, |io| io.recv_from(buf))
    }

    /// Looks at the next datagram and its sender without taking it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let mut buf = [0; 1500];
    /// let (n, peer) = socket.peek_from(&mut buf).await?;
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
    /// Nothing is ever taken.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.op(Direction::Read, |io| io.peek_from(buf)).await
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.connect("127.0.0.1:9000").await?;
    /// socket.send(b"hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, and an error when the runtime of the socket is closed.
    /// On some systems the refusal of an earlier datagram is reported here.
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
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| socket.poll_send(cx, b"hello")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send`](UdpSocket::send).
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_op(Direction::Write, cx, |io| io.send(buf))
    }

    /// Sends a datagram to the connected peer, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.try_send(b"hello")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `WouldBlock` where it would have to wait; else as for [`send`](UdpSocket::send).
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_op(Direction::Write, |io| io.send(buf))
    }

    /// Receives a datagram of the connected peer. What does not fit into `buf` is cut off.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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

    /// Polls for a datagram of the connected peer. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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

    /// Receives a datagram of the connected peer that is there, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// `WouldBlock` where it would have to wait; else as for [`recv`](UdpSocket::recv).
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_op(Direction::Read, |io| io.recv(buf))
    }

    /// Looks at the next datagram of the connected peer without taking it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let mut buf = [0; 1500];
    /// let n = socket.peek(&mut buf).await?;
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
    /// Nothing is ever taken.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.op(Direction::Read, |io| io.peek(buf)).await
    }

    /// Waits until there may be a datagram to receive.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// # async fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// println!("at {}", socket.local_addr()?);
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
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// println!("to {}", socket.peer_addr()?);
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
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
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

    /// Whether datagrams may go to a broadcast address.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let now = socket.broadcast()?;
    /// # let _ = now;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get_ref().broadcast()
    }

    /// Sets whether datagrams may go to a broadcast address.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.set_broadcast(true)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_broadcast(&self, value: bool) -> io::Result<()> {
        self.io.get_ref().set_broadcast(value)
    }

    /// The time-to-live of outgoing datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let now = socket.ttl()?;
    /// # let _ = now;
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

    /// Sets the time-to-live of outgoing datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.set_ttl(64)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_ttl(&self, value: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(value)
    }

    /// Whether this host receives its own IPv4 multicast datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let now = socket.multicast_loop_v4()?;
    /// # let _ = now;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.io.get_ref().multicast_loop_v4()
    }

    /// Sets whether this host receives its own IPv4 multicast datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.set_multicast_loop_v4(false)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_multicast_loop_v4(&self, value: bool) -> io::Result<()> {
        self.io.get_ref().set_multicast_loop_v4(value)
    }

    /// The time-to-live of outgoing IPv4 multicast datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let now = socket.multicast_ttl_v4()?;
    /// # let _ = now;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.io.get_ref().multicast_ttl_v4()
    }

    /// Sets the time-to-live of outgoing IPv4 multicast datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.set_multicast_ttl_v4(1)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_multicast_ttl_v4(&self, value: u32) -> io::Result<()> {
        self.io.get_ref().set_multicast_ttl_v4(value)
    }

    /// Whether this host receives its own IPv6 multicast datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// let now = socket.multicast_loop_v6()?;
    /// # let _ = now;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.io.get_ref().multicast_loop_v6()
    }

    /// Sets whether this host receives its own IPv6 multicast datagrams.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// socket.set_multicast_loop_v6(false)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_multicast_loop_v6(&self, value: bool) -> io::Result<()> {
        self.io.get_ref().set_multicast_loop_v6(value)
    }

    /// Joins an IPv4 multicast group; `interface` is the address of an interface, or unspecified for the system's choice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// use std::net::Ipv4Addr;
    /// socket.join_multicast_v4(Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::UNSPECIFIED)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().join_multicast_v4(&group, &interface)
    }

    /// Leaves an IPv4 multicast group; `interface` is the address of an interface, or unspecified for the system's choice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// use std::net::Ipv4Addr;
    /// socket.leave_multicast_v4(Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::UNSPECIFIED)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v4(&group, &interface)
    }

    /// Joins an IPv6 multicast group; `interface` is the index of an interface, or zero for the system's choice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// use std::net::Ipv6Addr;
    /// socket.join_multicast_v6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), 0)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().join_multicast_v6(&group, interface)
    }

    /// Leaves an IPv6 multicast group; `interface` is the index of an interface, or zero for the system's choice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(socket: heist::net::UdpSocket) -> std::io::Result<()> {
    /// use std::net::Ipv6Addr;
    /// socket.leave_multicast_v6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), 0)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v6(&group, interface)
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UdpSocket").field(self.io.get_ref()).finish()
    }
}
