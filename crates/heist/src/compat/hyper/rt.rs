//! hyper's runtime traits: what goes where hyper asks for an executor, a timer or an I/O object.
//!
//! | hyper asks for | give it |
//! |---|---|
//! | `rt::Executor` | [`HeistExecutor`] |
//! | `rt::Timer` | [`HeistTimer`], whose `rt::Sleep` is [`heist::time::Sleep`](crate::time::Sleep) |
//! | `rt::Read` and `rt::Write` | [`HeistIo`] around a socket of heist, [`FuturesIo`] around anything else |
//!
//! A socket of heist is read straight into hyper's buffer. For any other stream that cannot be:
//! `futures-io` has no way to read into memory that was never written. So [`FuturesIo`] reads into a
//! buffer of its own and copies.

#![forbid(unsafe_code)]

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use ::hyper::rt::{Executor, Read, ReadBuf, ReadBufCursor, Sleep, Timer, Write};
use futures_io::{AsyncRead, AsyncWrite};

use crate::net::StreamSocket;
use crate::time;

/// Spawns what hyper has to run beside a connection on the runtime of the thread.
///
/// ```
/// use heist::hyper::rt::HeistExecutor;
/// use hyper::rt::Executor;
///
/// let (sender, receiver) = futures::channel::oneshot::channel();
/// let answer = heist::run(async {
///     HeistExecutor::new().execute(async move { sender.send(42) });
///     receiver.await
/// });
/// assert_eq!(answer, Ok(42));
/// ```
///
/// # Panics
///
/// [`execute`](Executor::execute) panics on a thread that is in no runtime, as
/// [`spawn`](crate::spawn) does.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeistExecutor {
    // Private, so that fields can be added.
    _private: (),
}

impl HeistExecutor {
    /// An executor; it holds nothing.
    ///
    /// ```
    /// let executor = heist::hyper::rt::HeistExecutor::new();
    /// # let _ = executor;
    /// ```
    #[must_use]
    pub fn new() -> HeistExecutor {
        HeistExecutor::default()
    }
}

impl<F> Executor<F> for HeistExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        drop(crate::spawn(future));
    }
}

/// Makes hyper's timeouts out of heist's timers.
///
/// hyper has no clock of its own: a timeout set on one of its builders needs this beside it.
///
/// ```
/// use heist::hyper::rt::HeistTimer;
/// use std::time::Duration;
///
/// let mut builder = hyper::server::conn::http1::Builder::new();
/// builder
///     .timer(HeistTimer::new())
///     .header_read_timeout(Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HeistTimer {
    // Private, so that fields can be added.
    _private: (),
}

impl HeistTimer {
    /// A timer; it holds nothing.
    ///
    /// ```
    /// let timer = heist::hyper::rt::HeistTimer::new();
    /// # let _ = timer;
    /// ```
    #[must_use]
    pub fn new() -> HeistTimer {
        HeistTimer::default()
    }
}

impl Timer for HeistTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(time::sleep(duration))
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn Sleep>> {
        Box::pin(time::sleep_until(deadline.into()))
    }

    /// Keeps the allocation and the place in the timing wheel, where `sleep` is one of ours.
    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: StdInstant) {
        match sleep.as_mut().downcast_mut_pin::<time::Sleep>() {
            Some(ours) => ours.get_mut().reset(deadline.into()),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl Sleep for time::Sleep {}

/// A socket of heist as hyper's `Read` and `Write`.
///
/// Reads go straight into hyper's buffer, and writes of several buffers are one system call.
///
/// ```
/// use heist::hyper::rt::HeistIo;
/// use heist::net::unix::UnixStream;
/// use hyper::rt::Write;
/// use std::pin::Pin;
///
/// heist::run(async {
///     let (a, b) = UnixStream::pair()?;
///     let mut io = HeistIo::new(a);
///     std::future::poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"ping")).await?;
///     let mut buf = [0; 16];
///     assert_eq!(b.read(&mut buf).await?, 4);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[derive(Debug)]
pub struct HeistIo<S> {
    stream: S,
}

impl<S: StreamSocket> HeistIo<S> {
    /// Wraps a socket.
    ///
    /// ```no_run
    /// # async fn f() -> std::io::Result<()> {
    /// let stream = heist::net::TcpStream::connect("127.0.0.1:8080").await?;
    /// let io = heist::hyper::rt::HeistIo::new(stream);
    /// # let _ = io;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(stream: S) -> HeistIo<S> {
        HeistIo { stream }
    }

    /// Borrows the socket.
    ///
    /// ```no_run
    /// # fn f(io: heist::hyper::rt::HeistIo<heist::net::TcpStream>) -> std::io::Result<()> {
    /// println!("speaking with {}", io.inner().peer_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn inner(&self) -> &S {
        &self.stream
    }

    /// Gives the socket back.
    ///
    /// ```no_run
    /// # fn f(io: heist::hyper::rt::HeistIo<heist::net::TcpStream>) {
    /// let stream: heist::net::TcpStream = io.into_inner();
    /// # let _ = stream;
    /// # }
    /// ```
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: StreamSocket> Read for HeistIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        super::read_into(&self.stream, cx, cursor)
    }
}

impl<S: StreamSocket + AsyncWrite + Unpin> Write for HeistIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// How much [`FuturesIo`] reads at once: what hyper's own buffer begins with.
const COPY_BUFFER: usize = 8 * 1024;

/// Anything with the traits of `futures-io` as hyper's `Read` and `Write`, and the other way round.
///
/// For a TLS stream over a socket of heist, for a pipe, for a test. The way back is for what hyper
/// hands out after an upgrade.
///
/// ```
/// use heist::hyper::rt::FuturesIo;
/// use hyper::rt::{Read, ReadBuf};
/// use std::pin::Pin;
///
/// heist::run(async {
///     let mut io = FuturesIo::new(futures::io::Cursor::new(b"hello".to_vec()));
///     let mut buf = [0; 16];
///     let mut buf = ReadBuf::new(&mut buf);
///     std::future::poll_fn(|cx| Pin::new(&mut io).poll_read(cx, buf.unfilled())).await?;
///     assert_eq!(buf.filled(), b"hello");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[derive(Debug)]
pub struct FuturesIo<T> {
    stream: T,
    /// Empty until the first read. Holds nothing between reads.
    buffer: Vec<u8>,
}

impl<T> FuturesIo<T> {
    /// Wraps a stream.
    ///
    /// ```
    /// let io = heist::hyper::rt::FuturesIo::new(futures::io::Cursor::new(vec![1]));
    /// # let _ = io;
    /// ```
    pub fn new(stream: T) -> FuturesIo<T> {
        FuturesIo {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Borrows the stream.
    ///
    /// ```
    /// let io = heist::hyper::rt::FuturesIo::new(futures::io::Cursor::new(vec![1]));
    /// assert_eq!(io.inner().get_ref(), &[1]);
    /// ```
    pub fn inner(&self) -> &T {
        &self.stream
    }

    /// Gives the stream back. Nothing is left behind in the wrapper.
    ///
    /// ```
    /// let io = heist::hyper::rt::FuturesIo::new(futures::io::Cursor::new(vec![1]));
    /// assert_eq!(io.into_inner().into_inner(), [1]);
    /// ```
    pub fn into_inner(self) -> T {
        self.stream
    }
}

impl<T: AsyncRead + Unpin> Read for FuturesIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let FuturesIo { stream, buffer } = &mut *self;
        buffer.resize(COPY_BUFFER, 0);
        let room = cursor.remaining().min(buffer.len());
        let n = ready!(Pin::new(stream).poll_read(cx, &mut buffer[..room]))?;
        cursor.put_slice(&buffer[..n]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Write for FuturesIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    // `is_write_vectored` stays false: `futures-io` cannot say whether a stream gathers, and one
    // that does not would be given hyper's small pieces one at a time.

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

impl<T: Read + Unpin> AsyncRead for FuturesIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf.unfilled()))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl<T: Write + Unpin> AsyncWrite for FuturesIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
