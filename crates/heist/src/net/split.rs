//! Two halves that own a stream together.
//!
//! The halves hold one `Arc` of the stream. Since a stream can be read and written through a shared
//! reference, they need no lock; each gives out only what is its own.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::TcpStream;
use super::addr::sealed::Seal;

/// A connected byte stream of this crate: [`TcpStream`], and `UnixStream` where there is one.
///
/// The trait is sealed: it has no method for users.
///
/// # Examples
///
/// ```no_run
/// use heist::net::{OwnedWriteHalf, StreamSocket};
///
/// fn keep<S: StreamSocket>(half: OwnedWriteHalf<S>) -> Box<OwnedWriteHalf<S>> {
///     Box::new(half)
/// }
/// ```
pub trait StreamSocket: fmt::Debug + Send + Sync + Sized + 'static {
    /// Reads into memory that need not be initialised; the first `n` bytes are, afterwards.
    #[doc(hidden)]
    fn poll_read_uninit(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [MaybeUninit<u8>],
        _: Seal,
    ) -> Poll<io::Result<usize>>;

    #[doc(hidden)]
    fn shutdown(&self, how: Shutdown, _: Seal) -> io::Result<()>;
}

/// Closes for writing what the peer may have closed already.
pub(super) fn close_for_writing<S: StreamSocket>(stream: &S) -> io::Result<()> {
    match stream.shutdown(Shutdown::Write, Seal) {
        Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}

pub(super) fn split<S: StreamSocket>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Arc::new(stream);
    let reader = OwnedReadHalf {
        stream: stream.clone(),
    };
    let writer = OwnedWriteHalf {
        stream,
        shutdown_on_drop: true,
    };
    (reader, writer)
}

/// The reading half of a stream. Made by [`TcpStream::into_split`].
///
/// It implements [`AsyncRead`] and gives out the stream with [`AsRef`]; the descriptor is closed
/// when both halves are gone.
///
/// # Examples
///
/// ```no_run
/// # async fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
/// let (reader, writer) = stream.into_split();
/// let mut buf = [0; 1024];
/// let n = reader.read(&mut buf).await?;
/// # let _ = (n, writer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OwnedReadHalf<S: StreamSocket = TcpStream> {
    stream: Arc<S>,
}

/// The writing half of a stream. Made by [`TcpStream::into_split`].
///
/// It implements [`AsyncWrite`] and gives out the stream with [`AsRef`]. Dropping it closes the
/// stream for writing, so that the peer sees the end; [`forget`](OwnedWriteHalf::forget) drops it
/// without.
///
/// # Examples
///
/// ```no_run
/// # async fn f(stream: heist::net::TcpStream) -> std::io::Result<()> {
/// let (reader, writer) = stream.into_split();
/// writer.write_all(b"that was all").await?;
/// drop(writer);
/// # let _ = reader;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf<S: StreamSocket = TcpStream> {
    stream: Arc<S>,
    shutdown_on_drop: bool,
}

/// The error of [`OwnedReadHalf::reunite`]: halves of two different streams, given back.
///
/// # Examples
///
/// ```no_run
/// # fn f(a: heist::net::TcpStream, b: heist::net::TcpStream) {
/// let (reader, _w) = a.into_split();
/// let (_r, writer) = b.into_split();
/// let heist::net::ReuniteError(reader, writer) = reader.reunite(writer).unwrap_err();
/// # let _ = (reader, writer);
/// # }
/// ```
#[derive(Debug)]
pub struct ReuniteError<S: StreamSocket = TcpStream>(
    /// The reading half.
    pub OwnedReadHalf<S>,
    /// The writing half.
    pub OwnedWriteHalf<S>,
);

impl<S: StreamSocket> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these are halves of two different streams")
    }
}

impl<S: StreamSocket> Error for ReuniteError<S> {}

impl<S: StreamSocket> OwnedReadHalf<S> {
    /// Puts the two halves of a stream together again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) {
    /// let (reader, writer) = stream.into_split();
    /// let stream = reader.reunite(writer).expect("of one stream");
    /// # let _ = stream;
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Gives the halves back if they are not of the same stream.
    pub fn reunite(self, mut writer: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Arc::ptr_eq(&self.stream, &writer.stream) {
            return Err(ReuniteError(self, writer));
        }
        writer.shutdown_on_drop = false;
        drop(writer);
        // Nobody clones the `Arc` after the split, so this was the last other one.
        Ok(Arc::try_unwrap(self.stream).expect("two halves, and one is gone"))
    }
}

impl<S: StreamSocket> OwnedReadHalf<S>
where
    for<'a> &'a S: AsyncRead,
{
    /// Reads into `buf`; zero means the end of the stream (or an empty `buf`).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(reader: heist::net::OwnedReadHalf) -> std::io::Result<()> {
    /// let mut buf = [0; 1024];
    /// let n = reader.read(&mut buf).await?;
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
    /// No data is lost when the future is dropped before it was ready.
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut stream = &*self.stream;
        std::future::poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, buf)).await
    }
}

impl<S: StreamSocket> OwnedWriteHalf<S> {
    /// Drops the half without closing the stream for writing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(stream: heist::net::TcpStream) {
    /// let (reader, writer) = stream.into_split();
    /// writer.forget();
    /// # let _ = reader;
    /// # }
    /// ```
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }
}

impl<S: StreamSocket> OwnedWriteHalf<S>
where
    for<'a> &'a S: AsyncWrite,
{
    /// Writes some of `buf`, and tells how much.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(writer: heist::net::OwnedWriteHalf) -> std::io::Result<()> {
    /// let n = writer.write(b"hello").await?;
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
    /// Nothing was written when the future is dropped before it was ready.
    pub async fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let mut stream = &*self.stream;
        std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, buf)).await
    }

    /// Writes all of `buf`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(writer: heist::net::OwnedWriteHalf) -> std::io::Result<()> {
    /// writer.write_all(b"hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write), and `WriteZero` if the system takes nothing any more.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a part may have been written, and how much is unknown.
    pub async fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write(buf).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => buf = &buf[n..],
            }
        }
        Ok(())
    }
}

impl<S: StreamSocket> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: StreamSocket> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: StreamSocket> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            // The peer may be gone already; there is nobody to tell.
            drop(self.stream.shutdown(Shutdown::Write, Seal));
        }
    }
}

impl<S: StreamSocket> AsyncRead for OwnedReadHalf<S>
where
    for<'a> &'a S: AsyncRead,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_read_vectored(cx, bufs)
    }
}

impl<S: StreamSocket> AsyncWrite for OwnedWriteHalf<S>
where
    for<'a> &'a S: AsyncWrite,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_flush(cx)
    }

    /// Closes the stream for writing.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_close(cx)
    }
}
