//! In-memory streams, as unpleasant as the seed makes them.

#![forbid(unsafe_code)]

use super::draw::Draw;
use super::pipe::{Connection, End};
use crate::time::{Sleep, sleep};
use futures_io::{AsyncRead, AsyncWrite};
use heist_core::poll_proceed;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long an operation is delayed at most, unless [`Duplex::delays_up_to`] says otherwise.
const DELAY: Duration = Duration::from_millis(1);

/// One in so many operations is delayed. Often enough that a test of ten operations meets it, and not so
/// often that a stream is mostly waited for.
const DELAYED_ONE_IN: u64 = 4;

/// One in so many operations moves less than it could.
const PARTIAL_ONE_IN: u64 = 2;

/// Two ends of an in-memory connection. What one writes the other reads; `capacity` bytes are kept for
/// each direction until they are read.
///
/// In a [simulation](crate::sim) the seed decides how much of what could be moved a read or write moves,
/// from one byte on, and which of them are delayed, by up to 1 ms of virtual time. Elsewhere it is a
/// plain pipe. [`Duplex`] has options: longer delays, resets.
///
/// ```
/// use futures::io::{AsyncReadExt, AsyncWriteExt};
///
/// heist::sim::explore(20, async || {
///     let (mut client, mut server) = heist::sim::duplex(8);
///     let echo = heist::spawn(async move {
///         let mut word = [0; 5];
///         server.read_exact(&mut word).await?;
///         server.write_all(&word).await
///     });
///     client.write_all(b"hello").await.unwrap();
///     let mut answer = String::new();
///     client.read_to_string(&mut answer).await.unwrap();
///     assert_eq!(answer, "hello");
///     echo.await.unwrap().unwrap();
/// });
/// ```
///
/// # Panics
///
/// If `capacity` is zero: nothing could ever be written.
#[track_caller]
pub fn duplex(capacity: usize) -> (DuplexStream, DuplexStream) {
    Duplex::new(capacity).pair()
}

/// How the streams of a [`duplex`] behave.
///
/// ```
/// use futures::io::{AsyncReadExt, AsyncWriteExt};
/// use heist::sim;
/// use std::io::ErrorKind;
///
/// sim::explore(20, async || {
///     let (mut client, mut server) = sim::Duplex::new(16).reset_one_in(10).pair();
///     let sender = heist::spawn(async move { client.write_all(&[7; 100]).await });
///     let mut received = Vec::new();
///     match server.read_to_end(&mut received).await {
///         Ok(_) => assert!(received.len() <= 100),
///         Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
///     }
///     let _ = sender.await.unwrap();
/// });
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `pair`"]
pub struct Duplex {
    capacity: usize,
    whims: Whims,
}

#[derive(Clone, Copy, Debug)]
struct Whims {
    delay: Duration,
    reset_one_in: u32,
}

impl Duplex {
    /// The options of [`duplex`] with this capacity, in bytes for each direction.
    ///
    /// ```
    /// let (client, server) = heist::sim::Duplex::new(64).pair();
    /// # let _ = (client, server);
    /// ```
    ///
    /// # Panics
    ///
    /// If `capacity` is zero: nothing could ever be written.
    #[track_caller]
    pub fn new(capacity: usize) -> Duplex {
        assert!(capacity > 0, "heist: a duplex needs room for a byte");
        let whims = Whims {
            delay: DELAY,
            reset_one_in: 0,
        };
        Duplex { capacity, whims }
    }

    /// How long an operation is delayed at most. Default: 1 ms. Any length; zero delays nothing.
    ///
    /// Every fourth operation is, on average, by a length that the seed decides. Each poll of a read or
    /// write counts as one: if nothing can be moved yet, the next poll is another, and draws again.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let slow = heist::sim::Duplex::new(64).delays_up_to(Duration::from_secs(2));
    /// # let _ = slow.pair();
    /// ```
    pub fn delays_up_to(mut self, delay: Duration) -> Duplex {
        self.whims.delay = delay;
        self
    }

    /// One in so many operations, on average, resets the connection. Default: 0, which is none of them.
    /// Each poll of a read or write counts as one.
    ///
    /// Then both ends answer [`ConnectionReset`](io::ErrorKind::ConnectionReset) to everything, and what
    /// was written and not yet read is lost.
    ///
    /// ```
    /// let (client, server) = heist::sim::Duplex::new(64).reset_one_in(100).pair();
    /// # let _ = (client, server);
    /// ```
    pub fn reset_one_in(mut self, operations: u32) -> Duplex {
        self.whims.reset_one_in = operations;
        self
    }

    /// The two ends.
    ///
    /// ```
    /// let (client, server) = heist::sim::Duplex::new(64).pair();
    /// # let _ = (client, server);
    /// ```
    #[must_use]
    pub fn pair(self) -> (DuplexStream, DuplexStream) {
        let connection = Arc::new(Connection::new(self.capacity));
        let stream = |end| DuplexStream {
            connection: Arc::clone(&connection),
            end,
            whims: self.whims,
            reading: Delay(None),
            writing: Delay(None),
        };
        (stream(End::Left), stream(End::Right))
    }
}

/// One end of a [`duplex`].
///
/// It implements `AsyncRead` and `AsyncWrite` of `futures-io`. Once the other end is dropped, or has closed
/// its side, reads answer what is left and then 0. Writes to an end that was dropped answer
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe), and so do writes after `close`.
///
/// # Cancel safety
///
/// A read or write that is dropped before it is ready has moved nothing, as with a socket. A delay that has
/// begun goes on, and the next operation in that direction waits for its end.
#[derive(Debug)]
pub struct DuplexStream {
    connection: Arc<Connection>,
    end: End,
    whims: Whims,
    reading: Delay,
    writing: Delay,
}

impl DuplexStream {
    /// Resets the connection now, whatever the seed says.
    ///
    /// ```
    /// use futures::io::AsyncReadExt;
    /// use std::io::ErrorKind;
    ///
    /// heist::run(async {
    ///     let (client, mut server) = heist::sim::duplex(8);
    ///     client.reset();
    ///     let answer = server.read(&mut [0; 4]).await;
    ///     assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset);
    /// });
    /// ```
    pub fn reset(&self) {
        self.connection.reset();
    }
}

/// A delay of one direction that has begun and is not over.
#[derive(Debug)]
struct Delay(Option<Sleep>);

impl Delay {
    /// Waits for a delay that has begun, or else for what chance brings.
    fn poll(&mut self, cx: &mut Context<'_>, whims: Whims, connection: &Connection) -> Poll<Draw> {
        if self.0.is_none() {
            let mut draw = Draw::new();
            if draw.one_in(whims.reset_one_in.into()) {
                connection.reset();
                return Poll::Ready(draw);
            }
            let delay = draw.up_to(whims.delay);
            if delay.is_zero() || !draw.one_in(DELAYED_ONE_IN) {
                return Poll::Ready(draw);
            }
            self.0 = Some(sleep(delay));
        }
        if let Some(delay) = &mut self.0 {
            ready!(Pin::new(delay).poll(cx));
            self.0 = None;
        }
        Poll::Ready(Draw::new())
    }
}

/// How much is moved of what could be.
fn part(mut draw: Draw) -> impl FnOnce(usize) -> usize {
    move |whole| match draw.one_in(PARTIAL_ONE_IN) {
        true => 1 + draw.below(whole as u64) as usize,
        false => whole,
    }
}

impl AsyncRead for DuplexStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let charge = ready!(poll_proceed(cx));
        let polled = match this.reading.poll(cx, this.whims, &this.connection) {
            Poll::Ready(draw) => {
                let (connection, waker) = (&this.connection, cx.waker());
                connection.poll_read(this.end, waker, buffer, part(draw))
            }
            Poll::Pending => Poll::Pending,
        };
        if polled.is_ready() {
            charge.progress();
        }
        polled
    }
}

impl AsyncWrite for DuplexStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let charge = ready!(poll_proceed(cx));
        let polled = match this.writing.poll(cx, this.whims, &this.connection) {
            Poll::Ready(draw) => {
                let (connection, waker) = (&this.connection, cx.waker());
                connection.poll_write(this.end, waker, bytes, part(draw))
            }
            Poll::Pending => Poll::Pending,
        };
        if polled.is_ready() {
            charge.progress();
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.connection.check())
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.end(self.end);
        Poll::Ready(self.connection.check())
    }
}

impl Drop for DuplexStream {
    fn drop(&mut self) {
        self.connection.leave(self.end);
    }
}
