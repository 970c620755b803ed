//! No runtime at all: a server of one epoll loop per thread, as the limit of what a runtime can reach.
//!
//! Level-triggered, one `read` and one `write` per request, connections dealt out in turn (accepted by whichever loop is
//! woken in [`Bare::churn`]). It takes part in the shapes with plain sockets alone.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// Events taken from epoll at once.
const EVENTS: usize = 256;
/// The listener's key; connections count from 0.
const LISTENER: u64 = u64::MAX;
/// How often a loop of [`Bare::churn`] that has nothing to do looks whether all connections have come.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// A server that has not accepted anything yet.
#[derive(Debug)]
pub struct Bare {
    listener: TcpListener,
}

impl Bare {
    /// Listens on a free port of the loopback.
    ///
    /// # Errors
    ///
    /// Those of `bind`.
    pub fn bind() -> io::Result<Self> {
        TcpListener::bind("127.0.0.1:0").map(|listener| Self { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts `connections` and echoes on them with `threads` loops until all are closed, `room` bytes at most at once.
    ///
    /// # Errors
    ///
    /// Those of the sockets.
    ///
    /// # Panics
    ///
    /// A loop panicked.
    pub fn serve(self, connections: usize, threads: usize, room: usize) -> io::Result<()> {
        let mut dealt: Vec<Vec<TcpStream>> = (0..threads).map(|_| Vec::new()).collect();
        for index in 0..connections {
            let (stream, _) = self.listener.accept()?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            dealt[index % threads].push(stream);
        }
        on_threads(
            dealt
                .into_iter()
                .map(|streams| move || echo_loop(streams, room)),
        )
    }

    /// Accepts `connections` with `threads` loops; each reads `bytes` bytes, sends them back and is closed.
    ///
    /// # Errors
    ///
    /// Those of the sockets.
    ///
    /// # Panics
    ///
    /// A loop panicked.
    pub fn churn(self, connections: u64, threads: usize, bytes: usize) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let shared = Arc::new((self.listener, AtomicU64::new(connections)));
        on_threads((0..threads).map(|_| {
            let shared = shared.clone();
            move || churn_loop(&shared.0, &shared.1, bytes)
        }))
    }
}

/// Runs the first of `loops` here and the others on threads of their own.
fn on_threads<F>(mut loops: impl Iterator<Item = F>) -> io::Result<()>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    let first = loops.next().expect("at least one thread");
    let others: Vec<_> = loops
        .map(|run| thread::Builder::new().spawn(run))
        .collect::<io::Result<_>>()?;
    first()?;
    for thread in others {
        thread.join().expect("a bare loop panicked")?;
    }
    Ok(())
}

fn echo_loop(mut streams: Vec<TcpStream>, room: usize) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, stream, data, epoll::EventFlags::IN)?;
    }
    let mut open = streams.len();
    let mut events = Vec::with_capacity(EVENTS);
    let mut buf = vec![0; room];
    while open > 0 {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let stream = &mut streams[event.data.u64() as usize];
            match stream.read(&mut buf) {
                Ok(n) if n > 0 => send_all(stream, &buf[..n])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => {
                    epoll::delete(&epoll, &*stream)?;
                    open -= 1;
                }
            }
        }
    }
    Ok(())
}

fn churn_loop(listener: &TcpListener, left: &AtomicU64, bytes: usize) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), flags)?;
    // The stream, and how many bytes have come.
    let mut open: HashMap<u64, (TcpStream, usize)> = HashMap::new();
    let mut next = 0;
    let mut events = Vec::with_capacity(EVENTS);
    let mut buf = vec![0; bytes];
    // Ordering: Relaxed. A loop that reads an old number looks again after `LOOK`.
    while !open.is_empty() || left.load(Ordering::Relaxed) > 0 {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&LOOK))?;
        for event in &events {
            let key = event.data.u64();
            if key == LISTENER {
                match listener.accept() {
                    Ok((stream, _)) => {
                        // Ordering: Relaxed. Only the number is of interest.
                        left.fetch_sub(1, Ordering::Relaxed);
                        stream.set_nodelay(true)?;
                        stream.set_nonblocking(true)?;
                        let data = epoll::EventData::new_u64(next);
                        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
                        open.insert(next, (stream, 0));
                        next += 1;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let Some((stream, got)) = open.get_mut(&key) else {
                continue;
            };
            match stream.read(&mut buf[..bytes - *got]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => *got += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if *got == bytes {
                send_all(stream, &buf)?;
                // Closing it takes it out of epoll: nobody has a copy of it.
                open.remove(&key);
            }
        }
    }
    Ok(())
}

/// Writes all of `bytes` to a socket that does not block, waiting for room where there is none.
///
/// # Errors
///
/// Those of `write` and `poll`.
pub fn send_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut wanted = [PollFd::new(&*stream, PollFlags::OUT)];
                poll(&mut wanted, None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
