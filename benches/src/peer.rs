//! The traits a runtime implements to take part.
//!
//! [`Peer`] is what every executor has: it is built with a number of workers, runs a main future on the calling thread
//! and spawns tasks. [`Net`], [`Http`], [`Timers`] and [`Blocking`] are separate because futures' `ThreadPool` has none
//! of them; [`Full`] is all together. Sockets, timers and blocking pools are reached through associated functions, since
//! all of these runtimes find theirs through the thread.
//!
//! Spawning has two faces, both [`Spawn`]: [`Peer::Inside`] is what code in a task writes (`tokio::spawn`, which looks
//! the runtime up in a thread-local), [`Peer::Outside`] is what a thread that belongs to nobody writes (a handle).
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Starts tasks on a runtime.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// What a spawned task is awaited by. A panic of the task panics the one who awaits.
    type Join<T: Send + 'static>: Future<Output = T> + Send + 'static;

    /// Starts a task whose output somebody will await.
    fn spawn<F>(&self, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// Starts a task that nobody will await.
    fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static;

    /// Starts many tasks, by the runtime's own call for many where it has one, and adds their handles to `handles`.
    fn spawn_batch<F>(
        &self,
        futures: impl Iterator<Item = F>,
        handles: &mut Vec<Self::Join<F::Output>>,
    ) where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        handles.extend(futures.map(|future| self.spawn(future)));
    }
}

/// A runtime under test. Dropping it stops it.
pub trait Peer: Sized + 'static {
    /// Spawns from code that runs on the runtime.
    type Inside: Spawn;
    /// Spawns from any thread.
    type Outside: Spawn;

    /// Builds a runtime with so many workers.
    ///
    /// # Errors
    ///
    /// A thread or a file descriptor could not be had.
    fn build(workers: usize) -> io::Result<Self>;

    /// Runs `main` to its end on the calling thread, as the runtime's users do it.
    fn run<F: Future>(&mut self, main: F) -> F::Output;

    /// The spawner for code on the runtime.
    fn inside(&self) -> Self::Inside;

    /// The spawner for foreign threads.
    fn outside(&self) -> Self::Outside;

    /// The runtime's own way to let others go first.
    fn yield_now() -> impl Future<Output = ()> + Send {
        WakeSelf::default()
    }
}

/// A runtime with TCP sockets.
pub trait Net: Peer {
    /// A listening socket.
    type Listener: Send + Sync + 'static;
    /// A connected socket.
    type Stream: Send + 'static;

    /// Listens on `addr`.
    fn bind(addr: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;
    /// The address that `listener` got.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    fn local_addr(listener: &Self::Listener) -> io::Result<SocketAddr>;
    /// Takes the next connection, without Nagle's delay.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Connects to `addr`, without Nagle's delay.
    fn connect(addr: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Reads what is there, at least a byte, or 0 at the end.
    fn read(
        stream: &mut Self::Stream,
        buf: &mut [u8],
    ) -> impl Future<Output = io::Result<usize>> + Send;
    /// Writes all of `buf`.
    fn write_all(
        stream: &mut Self::Stream,
        buf: &[u8],
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// A runtime with timers.
pub trait Timers: Peer {
    /// Ends after `duration`.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send;
    /// Waits for `future`, but not longer than `limit`.
    fn timeout<F>(limit: Duration, future: F) -> impl Future<Output = Option<F::Output>> + Send
    where
        F: Future + Send,
        F::Output: Send;
}

/// A runtime with threads for calls that block.
pub trait Blocking: Peer {
    /// Has `call` run on a thread for such calls. It is started by the call of this function, not by the first poll.
    fn blocking<F, T>(call: F) -> impl Future<Output = T> + Send + 'static
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static;
}

/// A runtime that hyper can run on.
pub trait Http: Net {
    /// A stream in hyper's terms.
    type Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static;

    /// Wraps `stream` for hyper, in the adapter that is documented for the runtime.
    fn io(stream: Self::Stream) -> Self::Io;
}

/// A runtime with everything.
pub trait Full: Http + Timers + Blocking {}

impl<P: Http + Timers + Blocking> Full for P {}

/// Wakes its own task once and is pending once: a yield in the plainest terms, which every executor understands.
#[derive(Debug, Default)]
pub struct WakeSelf {
    woken: bool,
}

impl Future for WakeSelf {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.woken {
            return Poll::Ready(());
        }
        self.woken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
