//! [`TcpSocket`]: settings that must be made before a socket listens or connects.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket};

use super::{TcpListener, TcpStream};
use crate::io::sys;
use crate::net::connect::connect;

/// A TCP socket that does not yet listen nor connect.
///
/// It belongs to no runtime; [`listen`](TcpSocket::listen) and [`connect`](TcpSocket::connect)
/// register it with the current one.
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// use heist::net::TcpSocket;
///
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let listener = socket.listen(128)?;
/// # let _ = listener;
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct TcpSocket {
    socket: Socket,
}

impl TcpSocket {
    /// A socket for IPv4.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// # let _ = socket;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, above all when no descriptor is left.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV4)
    }

    /// A socket for IPv6.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let socket = heist::net::TcpSocket::new_v6()?;
    /// # let _ = socket;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, above all when no descriptor is left.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV6)
    }

    /// A socket for the family of `addr`.
    pub(super) fn for_addr(addr: SocketAddr) -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::for_address(addr))
    }

    fn new(domain: Domain) -> io::Result<TcpSocket> {
        Ok(TcpSocket {
            socket: sys::open_stream(domain, Some(Protocol::TCP))?,
        })
    }

    /// Sets whether the address may be bound although connections of its last user linger.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.set_reuseaddr(true)?;
    /// assert!(socket.reuseaddr()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_reuseaddr(&self, reuse: bool) -> io::Result<()> {
        self.socket.set_reuse_address(reuse)
    }

    /// Whether the address may be bound although connections of its last user linger.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)]
    /// assert!(!heist::net::TcpSocket::new_v4()?.reuseaddr()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        self.socket.reuse_address()
    }

    /// Sets whether several sockets may listen on the same address and share its connections.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.set_reuseport(true)?;
    /// assert!(socket.reuseport()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    pub fn set_reuseport(&self, reuse: bool) -> io::Result<()> {
        self.socket.set_reuse_port(reuse)
    }

    /// Whether several sockets may listen on the same address and share its connections.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!heist::net::TcpSocket::new_v4()?.reuseport()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
    pub fn reuseport(&self) -> io::Result<bool> {
        self.socket.reuse_port()
    }

    /// Sets whether an IPv6 socket leaves IPv4 alone.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let socket = heist::net::TcpSocket::new_v6()?;
    /// socket.set_only_v6(true)?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_only_v6(&self, only: bool) -> io::Result<()> {
        self.socket.set_only_v6(only)
    }

    /// Asks for the size of the send buffer, in bytes. The system may round it.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.set_send_buffer_size(64 * 1024)?;
    /// assert!(socket.send_buffer_size()? >= 64 * 1024);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_send_buffer_size(&self, size: usize) -> io::Result<()> {
        self.socket.set_send_buffer_size(size)
    }

    /// The size of the send buffer, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(heist::net::TcpSocket::new_v4()?.send_buffer_size()? > 0);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        self.socket.send_buffer_size()
    }

    /// Asks for the size of the receive buffer, in bytes. The system may round it.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.set_recv_buffer_size(64 * 1024)?;
    /// assert!(socket.recv_buffer_size()? >= 64 * 1024);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_recv_buffer_size(&self, size: usize) -> io::Result<()> {
        self.socket.set_recv_buffer_size(size)
    }

    /// The size of the receive buffer, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(heist::net::TcpSocket::new_v4()?.recv_buffer_size()? > 0);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        self.socket.recv_buffer_size()
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Examples
    ///
    /// ```
    /// heist::net::TcpSocket::new_v4()?.set_nodelay(true)?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.set_tcp_nodelay(nodelay)
    }

    /// Sets whether an idle connection is probed (`SO_KEEPALIVE`).
    ///
    /// # Examples
    ///
    /// ```
    /// heist::net::TcpSocket::new_v4()?.set_keepalive(true)?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.socket.set_keepalive(keepalive)
    }

    /// Sets how long closing keeps unsent data alive; see [`TcpStream::set_linger`].
    ///
    /// # Examples
    ///
    /// ```
    /// heist::net::TcpSocket::new_v4()?.set_linger(None)?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket.set_linger(linger)
    }

    /// Gives the socket its address.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.bind("127.0.0.1:0".parse().unwrap())?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, above all `AddrInUse`.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.socket.bind(&SockAddr::from(addr))
    }

    /// The address of the socket.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.bind("127.0.0.1:0".parse().unwrap())?;
    /// println!("{}", socket.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.socket.local_addr()?;
        addr.as_socket()
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "not an internet address"))
    }

    /// Starts listening, with room for `backlog` connections that wait to be accepted.
    ///
    /// The system has a limit of its own, which wins if it is lower.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// socket.bind("127.0.0.1:0".parse().unwrap())?;
    /// let listener = socket.listen(4096)?;
    /// # let _ = listener;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.socket
            .listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        TcpListener::from_nonblocking(self.socket.into())
    }

    /// Connects to `addr`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// let socket = heist::net::TcpSocket::new_v4()?;
    /// let stream = socket.connect("127.0.0.1:8080".parse().unwrap()).await?;
    /// # let _ = stream;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the connection under way and the socket.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let io = connect(self.socket, &SockAddr::from(addr)).await?;
        Ok(TcpStream { io })
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpSocket").field(&self.socket).finish()
    }
}
