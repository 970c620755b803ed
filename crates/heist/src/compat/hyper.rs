//! [hyper] on heist: its runtime traits, and [`serve()`]. Needs the feature `hyper`.
//!
//! hyper speaks HTTP and leaves the rest to whoever runs it: spawning, waiting, reading and writing.
//! [`rt`] fills these in, under the names that users of `hyper-util` expect: [`rt::HeistExecutor`],
//! [`rt::HeistTimer`], [`rt::HeistIo`]. They go wherever hyper asks for an executor, a timer or an
//! I/O object, in its client and in its server. Nothing here brings a second reactor or thread pool.
//!
//! [`serve()`] is the loop that most servers need: accept, speak HTTP/1.1 on each connection in a task
//! of its own, and end gracefully. For HTTP/2, hand the same adapters to
//! `hyper::server::conn::http2` (with hyper's feature `http2`) in a loop of your own.
//!
//! # A server and a client
//!
//! ```
//! use heist::hyper::rt::{HeistExecutor, HeistIo};
//! use heist::net::{TcpListener, TcpStream};
//! use http_body_util::{BodyExt, Empty};
//! use hyper::body::{Bytes, Incoming};
//! use hyper::rt::Executor;
//! use hyper::service::service_fn;
//! use hyper::{Request, Response};
//! use std::convert::Infallible;
//!
//! # type AnyError = Box<dyn std::error::Error + Send + Sync>;
//! heist::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     let service = service_fn(|request: Request<Incoming>| async move {
//!         Ok::<_, Infallible>(Response::new(format!("you asked for {}", request.uri())))
//!     });
//!     drop(heist::spawn(heist::hyper::serve(listener, service).into_future()));
//!
//!     let stream = TcpStream::connect(address).await?;
//!     let (mut sender, connection) =
//!         hyper::client::conn::http1::handshake(HeistIo::new(stream)).await?;
//!     HeistExecutor::new().execute(connection);
//!     let request = Request::get("/tea").header("host", "localhost").body(Empty::<Bytes>::new())?;
//!     let body = sender.send_request(request).await?.into_body().collect().await?;
//!     assert_eq!(body.to_bytes(), "you asked for /tea");
//!     Ok::<_, AnyError>(())
//! })
//! # .unwrap();
//! ```
//!
//! # Where the `unsafe` is
//!
//! hyper reads into memory that nobody has written yet, and its cursor takes the adapter's word for
//! how much of it is filled. The one function of this file gives that word; the submodules are free
//! of `unsafe`.
//!
//! [hyper]: https://docs.rs/hyper

use std::io;
use std::task::{Context, Poll, ready};

use ::hyper::rt::ReadBufCursor;

use crate::net::StreamSocket;
use crate::net::addr::sealed::Seal;

mod drain;
pub mod rt;
mod serve;
mod service;

#[cfg(test)]
mod tests;

pub use serve::{Listener, Serve, serve};
pub use service::{HttpService, ViaHyper, ViaTower};

/// Reads once, straight into what hyper's buffer has left.
fn read_into<S: StreamSocket>(
    stream: &S,
    cx: &mut Context<'_>,
    mut cursor: ReadBufCursor<'_>,
) -> Poll<io::Result<()>> {
    // SAFETY: `as_mut` asks that no byte that is initialised stops being so. `poll_read_uninit`
    // gives the slice to one `recv`, which writes bytes and never takes one back.
    let unfilled = unsafe { cursor.as_mut() };
    let room = unfilled.len();
    let n = ready!(stream.poll_read_uninit(cx, unfilled, Seal))?;
    // Panic: the system reports more than it was given room for. Cheap, and all that `advance`
    // below rests on.
    assert!(n <= room, "recv of {room} bytes returned {n}");
    // SAFETY: `advance` asks that the first `n` unfilled bytes are initialised. `StreamSocket` is
    // sealed, so `poll_read_uninit` is our own `recv`, and the system wrote the `n` bytes it reports.
    unsafe { cursor.advance(n) };
    Poll::Ready(Ok(()))
}
