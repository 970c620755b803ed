//! [`TcpStream`].

#![forbid(unsafe_code)]

use std::io;
#[cfg(test)]
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use heist_io::Direction;
use socket2::{Domain, Protocol, SockAddr, SockRef};

use crate::io::{Registered, sys};
use crate::net::ToSocketAddrs;
use crate::net::addr::resolve;
use crate::net::connect::connect;
use crate::net::macros::stream_methods;
#[cfg(test)]
use crate::net::{StreamSocket, addr::sealed::Seal};

/// A TCP connection.
///
/// All methods take `&self`, so one task may read while another writes. The traits of `futures-io`
/// are there for `TcpStream` and for `&TcpStream`.
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// use heist::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, _peer) = listener.accept().await?;
///
/// client.write_all(b"ping").await?;
/// let mut buf = [0; 16];
/// let n = server.read(&mut buf).await?;
/// assert_eq!(&buf[..n], b"ping");
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct TcpStream {
    pub(super) io: Registered<std::net::TcpStream>,
}

stream_methods!(TcpStream, std::net::TcpStream, "heist::net::TcpStream");

impl TcpStream {
    /// Connects to `addr`. Of a name with several addresses, each is tried in turn.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// let stream = heist::net::TcpStream::connect("example.org:80").await?;
    /// # let _ = stream;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the last address tried, or of the name's resolution; `InvalidInput` if there
    /// was no address. Where no runtime is entered or the runtime is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the connection under way.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        let mut last = None;
        for addr in resolve(&addr).await? {
            match TcpStream::connect_one(addr).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")
        }))
    }

    async fn connect_one(addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = sys::open_stream(Domain::for_address(addr), Some(Protocol::TCP))?;
        let io = connect(socket, &SockAddr::from(addr)).await?;
        Ok(TcpStream { io })
    }

    /// Looks at what is there to read without taking it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// let mut first = [0; 1];
    /// let is_tls = stream.peek(&mut first).await? == 1 && first[0] == 0x16;
    /// # let _ = is_tls;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`read`](TcpStream::read).
    ///
    /// # Cancel safety
    ///
    /// Nothing is ever taken.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.op(Direction::Read, |io| io.peek(buf)).await
    }

    /// Polls for something to look at, as [`peek`](TcpStream::peek). Only the last caller's waker
    /// is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// let mut first = [0; 1];
    /// let n = std::future::poll_fn(|cx| stream.poll_peek(cx, &mut first)).await?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`read`](TcpStream::read).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_op(Direction::Read, cx, |io| io.peek(buf))
    }

    /// Reads into memory that need not be initialised; the first `n` bytes are, afterwards.
    #[cfg(test)]
    pub(crate) fn poll_read_uninit(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        StreamSocket::poll_read_uninit(self, cx, buf, Seal)
    }

    /// The address of this end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// println!("from {}", stream.local_addr()?);
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

    /// The address of the other end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// println!("to {}", stream.peer_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers, `NotConnected` once the connection was reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// assert!(!stream.nodelay()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get_ref().nodelay()
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// stream.set_nodelay(true)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.get_ref().set_nodelay(nodelay)
    }

    /// How long closing keeps unsent data alive (`SO_LINGER`).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// assert_eq!(stream.linger()?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self.io.get_ref()).linger()
    }

    /// Sets how long closing keeps unsent data alive (`SO_LINGER`).
    ///
    /// With a zero duration closing resets the connection. With any other duration *dropping the
    /// stream blocks its thread* until the data is sent or the time is over, on most systems.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// stream.set_linger(Some(std::time::Duration::ZERO))?;
    /// drop(stream); // the peer sees a reset
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self.io.get_ref()).set_linger(linger)
    }

    /// The time-to-live of outgoing packets.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// println!("{} hops", stream.ttl()?);
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

    /// Sets the time-to-live of outgoing packets.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
    /// stream.set_ttl(64)?;
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
}
