//! [`Async`]: a descriptor of the user's own kind.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use heist_io::Direction;
use socket2::SockRef;

use super::registered::Registered;
use super::sys::AsIo;

/// Makes any pollable descriptor asynchronous.
///
/// The descriptor is put into non-blocking mode and registered with the current runtime. When the
/// `Async` is dropped, it is deregistered and then closed with `T`.
///
/// Regular files are not pollable on most systems (Linux answers `PermissionDenied`); use
/// [`spawn_blocking`](crate::spawn_blocking) for them.
///
/// # The descriptor must stay the same
///
/// As long as it is inside, `T` must keep handing out the same open descriptor. Closing or
/// replacing it through [`get_mut`](Async::get_mut), a `*_mut` method or interior mutability is a
/// mistake that shows as waits that never end, or as an error of
/// [`into_inner`](Async::into_inner). It cannot break memory safety: the driver holds a borrowed
/// descriptor only for the length of a call that registers, moves or deregisters it, and events carry
/// a generation, so one of a stale registration goes nowhere.
///
/// # Examples
///
/// ```
/// # #[cfg(unix)]
/// # heist::run(async {
/// use heist::io::Async;
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (near, mut far) = UnixStream::pair()?;
/// let near = Async::new(near)?;
///
/// far.write_all(b"hello")?;
/// let mut buf = [0; 16];
/// let n = near.read_with(|mut io| io.read(&mut buf)).await?;
/// assert_eq!(&buf[..n], b"hello");
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct Async<T: AsIo> {
    io: Registered<T>,
}

impl<T: AsIo> Async<T> {
    /// Puts `io` into non-blocking mode and registers it with the current runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # heist::run(async {
    /// let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// let a = heist::io::Async::new(a)?;
    /// # let _ = a;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Where no runtime is entered or the runtime is closed, where the system cannot poll this
    /// kind of descriptor, or where it has no memory or watch left for one more.
    pub fn new(io: T) -> io::Result<Async<T>> {
        // `SockRef` only lends the descriptor; on Unix the call is a plain `fcntl`, good for any.
        SockRef::from(&io).set_nonblocking(true)?;
        Ok(Async {
            io: Registered::new(io)?,
        })
    }

    /// Borrows what was put in.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixStream>) {
    /// println!("{:?}", io.get_ref().peer_addr());
    /// # }
    /// ```
    pub fn get_ref(&self) -> &T {
        self.io.get_ref()
    }

    /// Borrows what was put in, mutably.
    ///
    /// The descriptor inside must stay the same one; see [`Async`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(mut io: heist::io::Async<std::os::unix::net::UnixStream>) {
    /// io.get_mut().set_read_timeout(None).unwrap();
    /// # }
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.io.get_mut()
    }

    /// Deregisters the descriptor and hands `T` out, still in non-blocking mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # heist::run(async {
    /// let (a, _b) = std::os::unix::net::UnixStream::pair()?;
    /// let a = heist::io::Async::new(a)?;
    /// let a: std::os::unix::net::UnixStream = a.into_inner()?;
    /// # let _ = a;
    /// # std::io::Result::Ok(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the descriptor is not the one that was registered. `T` is dropped then.
    pub fn into_inner(self) -> io::Result<T> {
        self.io.try_into_inner()
    }

    /// Waits until the descriptor is readable, as far as the last events tell.
    ///
    /// The readiness stays until an operation of this type meets `WouldBlock`. A loop that waits
    /// here must therefore read through [`read_with`](Async::read_with) or
    /// [`try_read_with`](Async::try_read_with), not around them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixListener>) -> std::io::Result<()> {
    /// io.readable().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the registration is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.ready(Direction::Read).await.map(drop)
    }

    /// Waits until the descriptor is writable, as far as the last events tell.
    ///
    /// The remarks of [`readable`](Async::readable) hold.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    /// io.writable().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the registration is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.ready(Direction::Write).await.map(drop)
    }

    /// Polls for readability. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| io.poll_readable(cx)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the registration is closed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(Direction::Read, cx)
    }

    /// Polls for writability. Only the last caller's waker is kept.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| io.poll_writable(cx)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the runtime of the registration is closed.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_ready(Direction::Write, cx)
    }

    /// Runs `op`, again whenever it answered `WouldBlock` and the descriptor became readable.
    ///
    /// `op` is also run again after `Interrupted`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixListener>) -> std::io::Result<()> {
    /// let (stream, peer) = io.read_with(|listener| listener.accept()).await?;
    /// # let _ = (stream, peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `op` answers, and an error when the runtime of the registration is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: `op` ran to a result only if the future did.
    pub async fn read_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.io.op(Direction::Read, op).await
    }

    /// Like [`read_with`](Async::read_with), for an `op` that needs `&mut T`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(mut io: heist::io::Async<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    /// use std::io::Read;
    /// let mut buf = [0; 16];
    /// let n = io.read_with_mut(|io| io.read(&mut buf)).await?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Async::read_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`read_with`](Async::read_with).
    pub async fn read_with_mut<R>(
        &mut self,
        op: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.op_mut(Direction::Read, op).await
    }

    /// Runs `op`, again whenever it answered `WouldBlock` and the descriptor became writable.
    ///
    /// `op` is also run again after `Interrupted`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixDatagram>) -> std::io::Result<()> {
    /// let n = io.write_with(|socket| socket.send(b"ping")).await?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `op` answers, and an error when the runtime of the registration is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: `op` ran to a result only if the future did.
    pub async fn write_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.io.op(Direction::Write, op).await
    }

    /// Like [`write_with`](Async::write_with), for an `op` that needs `&mut T`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(mut io: heist::io::Async<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    /// use std::io::Write;
    /// let n = io.write_with_mut(|io| io.write(b"ping")).await?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`write_with`](Async::write_with).
    ///
    /// # Cancel safety
    ///
    /// As for [`write_with`](Async::write_with).
    pub async fn write_with_mut<R>(
        &mut self,
        op: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.io.op_mut(Direction::Write, op).await
    }

    /// Runs `op` if the descriptor is known to be readable, without waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    /// use std::io::Read;
    /// io.readable().await?;
    /// let mut buf = [0; 16];
    /// let n = io.try_read_with(|mut io| io.read(&mut buf))?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `op` answers, `WouldBlock` where it would have to wait, and an error when the runtime
    /// of the registration is closed.
    pub fn try_read_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.io.try_op(Direction::Read, op)
    }

    /// Runs `op` if the descriptor is known to be writable, or was never yet written to, without
    /// waiting.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn f(io: heist::io::Async<std::os::unix::net::UnixDatagram>) -> std::io::Result<()> {
    /// let n = io.try_write_with(|socket| socket.send(b"ping"))?;
    /// # let _ = n;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `op` answers, `WouldBlock` where it would have to wait, and an error when the runtime
    /// of the registration is closed.
    pub fn try_write_with<R>(&self, op: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.io.try_op(Direction::Write, op)
    }
}

/// `T` is never pinned: all access is through plain references.
impl<T: AsIo> Unpin for Async<T> {}

impl<T: AsIo + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(self.io.get_ref()).finish()
    }
}

#[cfg(unix)]
impl<T: AsIo> std::os::fd::AsFd for Async<T> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

#[cfg(windows)]
impl<T: AsIo> std::os::windows::io::AsSocket for Async<T> {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.get_ref().as_socket()
    }
}

fn must_wait(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

impl<T: AsIo + Read> AsyncRead for Async<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_op_mut(Direction::Read, cx, |io| io.read(buf))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op_mut(Direction::Read, cx, |io| io.read_vectored(bufs))
    }
}

impl<T: AsIo> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op(Direction::Read, cx, |mut io: &T| io.read(buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op(Direction::Read, cx, |mut io: &T| io.read_vectored(bufs))
    }
}

impl<T: AsIo + Write> AsyncWrite for Async<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op_mut(Direction::Write, cx, |io| io.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op_mut(Direction::Write, cx, |io| io.write_vectored(bufs))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Tried before looking at the readiness: most flushes have nothing to write, and those must
        // not wait for room.
        match self.io.get_mut().flush() {
            Err(e) if must_wait(&e) => self.io.poll_op_mut(Direction::Write, cx, Write::flush),
            flushed => Poll::Ready(flushed),
        }
    }

    /// Flushes. What "closed for writing" means is known only to `T`.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl<T: AsIo> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op(Direction::Write, cx, |mut io: &T| io.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io
            .poll_op(Direction::Write, cx, |mut io: &T| io.write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.get_ref();
        match io.flush() {
            Err(e) if must_wait(&e) => self
                .io
                .poll_op(Direction::Write, cx, |mut io: &T| io.flush()),
            flushed => Poll::Ready(flushed),
        }
    }

    /// Flushes. What "closed for writing" means is known only to `T`.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
