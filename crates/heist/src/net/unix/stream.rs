//! [`UnixStream`].

#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use socket2::{Domain, SockAddr};

use super::{FULL_QUEUE, SocketAddr};
use crate::io::{Registered, sys};
use crate::net::connect::connect;
use crate::net::macros::stream_methods;
use crate::net::pause::Pause;

/// A stream socket of the Unix domain.
///
/// All methods take `&self`, so one task may read while another writes. The traits of `futures-io`
/// are there for `UnixStream` and for `&UnixStream`.
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// use heist::net::unix::UnixStream;
///
/// let (a, b) = UnixStream::pair()?;
/// a.write_all(b"ping").await?;
/// let mut buf = [0; 16];
/// let n = b.read(&mut buf).await?;
/// assert_eq!(&buf[..n], b"ping");
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct UnixStream {
    pub(super) io: Registered<std::os::unix::net::UnixStream>,
}

stream_methods!(
    UnixStream,
    std::os::unix::net::UnixStream,
    "heist::net::unix::UnixStream"
);

impl UnixStream {
    /// Connects to the listener at `path`, waiting while its queue is full.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// let stream = heist::net::unix::UnixStream::connect("/tmp/service.sock").await?;
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
    /// Dropping the future gives up the connection under way.
    pub async fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        let addr = SockAddr::unix(path)?;
        let (driver, shard) = crate::context::driver()?;
        let mut pause = None;
        loop {
            let socket = sys::open_stream(Domain::UNIX, None)?;
            match connect(socket, &addr).await {
                Ok(io) => return Ok(UnixStream { io }),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let pause = Pause::next(&mut pause, (&driver, shard), &FULL_QUEUE);
                    pause.over().await?;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Makes two streams connected to each other.
    ///
    /// # Examples
    ///
    /// ```
    /// # heist::run(async {
    /// let (a, b) = heist::net::unix::UnixStream::pair()?;
    /// a.write_all(b"ping").await?;
    /// # let _ = b;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, and what the system answers.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = std::os::unix::net::UnixStream::pair()?;
        Ok((UnixStream::from_std(a)?, UnixStream::from_std(b)?))
    }

    /// The address of this end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::unix::UnixStream) -> std::io::Result<()> {
    /// println!("{:?}", stream.local_addr()?);
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
    /// # fn f(stream: heist::net::unix::UnixStream) -> std::io::Result<()> {
    /// println!("{:?}", stream.peer_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What the system answers.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }
}
