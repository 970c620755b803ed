//! async-executor with async-io: what smol is made of, with the number of threads in our hands.
//!
//! The calling thread of `run` is one of the workers (`block_on(executor.run(main))`), `workers - 1` further threads do
//! the same with a future that ends when the runtime is dropped. Each of them blocks in `async_io::block_on`, which
//! drives the reactor, as smol's own threads do; async-io also has one thread of its own, for the whole process, that
//! drives the reactor when nobody else does.
//!
//! What goes beyond tasks, sockets and timers is smol's: `smol::unblock`, whose pool belongs to the process, the race of
//! a future with a timer that smol's users write for a timeout, and smol-hyper's adapter.
//!
//! Executors are leaked: a `static` executor is how they are used, and `StaticExecutor` cannot be had otherwise.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use async_channel::Sender;
use async_executor::{Executor, StaticExecutor, Task};
use async_io::{Async, Timer};
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::future::or;
use smol_hyper::rt::FuturesIo;

use crate::peer::{Blocking, Http, Net, Peer, Spawn, Timers};

/// What the two executors have in common.
pub trait Shared: Send + Sync + fmt::Debug + 'static {
    /// A new executor, for ever.
    fn leaked() -> &'static Self;
    /// Starts a task.
    fn start<T: Send + 'static>(
        &'static self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T>;
    /// Starts many tasks.
    fn start_many<F>(
        &'static self,
        futures: impl Iterator<Item = F>,
        handles: &mut Vec<Task<F::Output>>,
    ) where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handles.extend(futures.map(|future| self.start(future)));
    }
    /// Runs tasks until `future` ends.
    fn drive<T>(&'static self, future: impl Future<Output = T>) -> impl Future<Output = T>;
}

impl Shared for Executor<'static> {
    fn leaked() -> &'static Self {
        Box::leak(Box::new(Executor::new()))
    }

    fn start<T: Send + 'static>(
        &'static self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        self.spawn(future)
    }

    fn start_many<F>(
        &'static self,
        futures: impl Iterator<Item = F>,
        handles: &mut Vec<Task<F::Output>>,
    ) where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_many(futures, handles);
    }

    fn drive<T>(&'static self, future: impl Future<Output = T>) -> impl Future<Output = T> {
        self.run(future)
    }
}

impl Shared for StaticExecutor {
    fn leaked() -> &'static Self {
        Executor::new().leak()
    }

    fn start<T: Send + 'static>(
        &'static self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        self.spawn(future)
    }

    fn drive<T>(&'static self, future: impl Future<Output = T>) -> impl Future<Output = T> {
        self.run(future)
    }
}

/// An executor and the threads that run it.
#[derive(Debug)]
pub struct Threads<E: Shared> {
    executor: &'static E,
    /// Closed in `drop`, which ends the threads.
    stop: Sender<()>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// async-executor's `Executor`.
pub type Plain = Threads<Executor<'static>>;
/// async-executor's `StaticExecutor`.
pub type Static = Threads<StaticExecutor>;

/// A reference to the executor.
#[derive(Debug)]
pub struct Spawner<E: Shared>(&'static E);

impl<E: Shared> Clone for Spawner<E> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<E: Shared> Spawn for Spawner<E> {
    type Join<T: Send + 'static> = Task<T>;

    fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.start(future)
    }

    fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.start(future).detach();
    }

    fn spawn_batch<F>(&self, futures: impl Iterator<Item = F>, handles: &mut Vec<Task<F::Output>>)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.start_many(futures, handles);
    }
}

impl<E: Shared> Peer for Threads<E> {
    type Inside = Spawner<E>;
    type Outside = Spawner<E>;

    fn build(workers: usize) -> io::Result<Self> {
        let executor = E::leaked();
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let threads = (1..workers)
            .map(|_| {
                let stopped = stopped.clone();
                thread::Builder::new().spawn(move || {
                    // Nothing is ever sent: the receive fails when the sender is closed.
                    let _ = async_io::block_on(executor.drive(stopped.recv()));
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            executor,
            stop,
            threads,
        })
    }

    fn run<F: Future>(&mut self, main: F) -> F::Output {
        async_io::block_on(self.executor.drive(main))
    }

    fn inside(&self) -> Spawner<E> {
        Spawner(self.executor)
    }

    fn outside(&self) -> Spawner<E> {
        Spawner(self.executor)
    }
}

impl<E: Shared> Drop for Threads<E> {
    fn drop(&mut self) {
        self.stop.close();
        for thread in self.threads.drain(..) {
            thread.join().expect("a thread of the executor panicked");
        }
    }
}

impl<E: Shared> Net for Threads<E> {
    type Listener = Async<std::net::TcpListener>;
    type Stream = Async<std::net::TcpStream>;

    async fn bind(addr: SocketAddr) -> io::Result<Self::Listener> {
        Async::<std::net::TcpListener>::bind(addr)
    }

    fn local_addr(listener: &Self::Listener) -> io::Result<SocketAddr> {
        listener.get_ref().local_addr()
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(addr: SocketAddr) -> io::Result<Self::Stream> {
        let stream = Async::<std::net::TcpStream>::connect(addr).await?;
        stream.get_ref().set_nodelay(true)?;
        Ok(stream)
    }

    async fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf).await
    }

    async fn write_all(stream: &mut Self::Stream, buf: &[u8]) -> io::Result<()> {
        stream.write_all(buf).await
    }
}

impl<E: Shared> Timers for Threads<E> {
    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }
    async fn timeout<F>(limit: Duration, future: F) -> Option<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        let over = async {
            Timer::after(limit).await;
            None
        };
        or(async { Some(future.await) }, over).await
    }
}

impl<E: Shared> Blocking for Threads<E> {
    fn blocking<F, T>(call: F) -> impl Future<Output = T> + Send + 'static
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        smol::unblock(call)
    }
}

impl<E: Shared> Http for Threads<E> {
    type Io = FuturesIo<Self::Stream>;

    fn io(stream: Self::Stream) -> Self::Io {
        FuturesIo::new(stream)
    }
}
