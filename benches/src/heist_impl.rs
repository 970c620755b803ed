//! heist itself, with default settings but for the number of workers.
//!
//! `run` makes the calling thread worker 0, so `workers` counts it.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use heist::hyper::rt::HeistIo;
use heist::net::{TcpListener, TcpStream};
use heist::{Handle, JoinHandle, Runtime};

use crate::peer::{Blocking, Http, Net, Peer, Spawn, Timers};

/// A heist runtime.
#[derive(Debug)]
pub struct Heist(Runtime);

/// `heist::spawn`.
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
        Join(heist::spawn(future))
    }

    fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(heist::spawn(future));
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

impl Peer for Heist {
    type Inside = Ambient;
    type Outside = Handle;

    fn build(workers: usize) -> io::Result<Self> {
        Runtime::builder().workers(workers).build().map(Self)
    }

    fn run<F: Future>(&mut self, main: F) -> F::Output {
        self.0.run(main)
    }

    fn inside(&self) -> Ambient {
        Ambient
    }

    fn outside(&self) -> Handle {
        self.0.handle().clone()
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        heist::yield_now()
    }
}

impl Net for Heist {
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

impl Timers for Heist {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        heist::time::sleep(duration)
    }
    async fn timeout<F>(limit: Duration, future: F) -> Option<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        heist::timeout(limit, future).await.ok()
    }
}

impl Blocking for Heist {
    fn blocking<F, T>(call: F) -> impl Future<Output = T> + Send + 'static
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Join(heist::spawn_blocking(call))
    }
}

impl Http for Heist {
    type Io = HeistIo<TcpStream>;

    fn io(stream: TcpStream) -> HeistIo<TcpStream> {
        HeistIo::new(stream)
    }
}
