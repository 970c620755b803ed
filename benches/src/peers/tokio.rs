//! tokio's multi-threaded runtime, with default settings but for the number of workers.
//!
//! `run` is `block_on`: the main future is polled on the calling thread, which is not a worker. Shapes that want a
//! worker therefore spawn first.
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

use crate::peer::{Net, Peer, Spawn, Timers};

/// A tokio runtime.
#[derive(Debug)]
pub struct Tokio(Runtime);

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

impl Peer for Tokio {
    type Inside = Ambient;
    type Outside = Handle;

    fn build(workers: usize) -> io::Result<Self> {
        Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()
            .map(Self)
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

impl Net for Tokio {
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

impl Timers for Tokio {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        ::tokio::time::sleep(duration)
    }
}
