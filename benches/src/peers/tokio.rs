//! tokio's multi-threaded runtime, with default settings but for the number of workers.
//!
//! `run` is `block_on`: the main future is polled on the calling thread, which is not a worker. Shapes that want a
//! worker therefore spawn first.
//!
//! [`Eager`] is the same with the driver handed over eagerly, an option that tokio has only if the whole build is made
//! with `--cfg tokio_unstable`; without that it cannot be built.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ::tokio::net::{TcpListener, TcpStream};
use ::tokio::runtime::{Builder, Handle, Runtime};
use ::tokio::task::JoinHandle;
use hyper_util::rt::TokioIo;

use crate::peer::{Blocking, Http, Net, Peer, Spawn, Timers};

/// A tokio runtime; `EAGER` with eager hand-over of the driver.
#[derive(Debug)]
pub struct Multi<const EAGER: bool>(Runtime);

/// tokio as it comes.
pub type Tokio = Multi<false>;
/// tokio with eager hand-over of the driver.
pub type Eager = Multi<true>;

/// Whether this build can make an [`Eager`].
pub const HAS_EAGER: bool = cfg!(tokio_unstable);

/// `tokio::spawn`.
#[derive(Clone, Copy, Debug)]
pub struct Ambient;

/// A join handle that hands on the task's panic.
#[derive(Debug)]
pub struct Join<T>(JoinHandle<T>);

impl<T> Future for Join<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|joined| joined.expect("a task of the bench panicked or was cancelled"))
    }
}

impl Spawn for Ambient {
    type Join<T: Send + 'static> = Join<T>;

    fn spawn<F>(&self, future: F) -> Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Join(::tokio::spawn(future))
    }

    fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(::tokio::spawn(future));
    }
}

impl Spawn for Handle {
    type Join<T: Send + 'static> = Join<T>;

    fn spawn<F>(&self, future: F) -> Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Join(Handle::spawn(self, future))
    }

    fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(Handle::spawn(self, future));
    }
}

#[cfg(tokio_unstable)]
fn hand_over_eagerly(builder: &mut Builder) -> io::Result<()> {
    builder.enable_eager_driver_handoff();
    Ok(())
}

#[cfg(not(tokio_unstable))]
fn hand_over_eagerly(_: &mut Builder) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "tokio hands its driver over eagerly only if built with RUSTFLAGS=\"--cfg tokio_unstable\"",
    ))
}

impl<const EAGER: bool> Peer for Multi<EAGER> {
    type Inside = Ambient;
    type Outside = Handle;

    fn build(workers: usize) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(workers).enable_all();
        if EAGER {
            hand_over_eagerly(&mut builder)?;
        }
        builder.build().map(Self)
    }

    fn run<F: Future>(&mut self, main: F) -> F::Output {
        self.0.block_on(main)
    }

    fn inside(&self) -> Ambient {
        Ambient
    }

    fn outside(&self) -> Handle {
        self.0.handle().clone()
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        ::tokio::task::yield_now()
    }
}

impl<const EAGER: bool> Net for Multi<EAGER> {
    type Listener = TcpListener;
    type Stream = TcpStream;

    async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(addr).await
    }

    fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf).await
    }

    async fn write_all(stream: &mut TcpStream, buf: &[u8]) -> io::Result<()> {
        stream.write_all(buf).await
    }
}

impl<const EAGER: bool> Timers for Multi<EAGER> {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        ::tokio::time::sleep(duration)
    }
    async fn timeout<F>(limit: Duration, future: F) -> Option<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        ::tokio::time::timeout(limit, future).await.ok()
    }
}

impl<const EAGER: bool> Blocking for Multi<EAGER> {
    fn blocking<F, T>(call: F) -> impl Future<Output = T> + Send + 'static
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Join(::tokio::task::spawn_blocking(call))
    }
}

impl<const EAGER: bool> Http for Multi<EAGER> {
    type Io = TokioIo<TcpStream>;

    fn io(stream: TcpStream) -> TokioIo<TcpStream> {
        TokioIo::new(stream)
    }
}
