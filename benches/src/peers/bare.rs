//! No runtime at all: an echo server of one epoll loop per thread, as the limit of what a runtime can reach.
//!
//! Level-triggered, one `read` and one `write` per request, connections dealt out in turn. It takes part in the echo
//! shapes alone.
#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// Events taken from epoll at once.
const EVENTS: usize = 256;
/// The most that is read at once.
const BUFFER: usize = 4096;

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

    /// Accepts `connections` and serves them with `threads` loops until all are closed.
    ///
    /// # Errors
    ///
    /// Those of the sockets.
    ///
    /// # Panics
    ///
    /// A loop panicked.
    pub fn serve(self, connections: usize, threads: usize) -> io::Result<()> {
        let mut dealt: Vec<Vec<TcpStream>> = (0..threads).map(|_| Vec::new()).collect();
        for index in 0..connections {
            let (stream, _) = self.listener.accept()?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            dealt[index % threads].push(stream);
        }
        let others: Vec<_> = dealt
            .drain(1..)
            .map(|streams| thread::Builder::new().spawn(move || serve_loop(streams)))
            .collect::<io::Result<_>>()?;
        serve_loop(dealt.remove(0))?;
        for thread in others {
            thread.join().expect("a bare loop panicked")?;
        }
        Ok(())
    }
}

fn serve_loop(mut streams: Vec<TcpStream>) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, stream, data, epoll::EventFlags::IN)?;
    }
    let mut open = streams.len();
    let mut events = Vec::with_capacity(EVENTS);
    let mut buf = [0; BUFFER];
    while open > 0 {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let stream = &mut streams[event.data.u64() as usize];
            match stream.read(&mut buf) {
                Ok(n) if n > 0 => stream.write_all(&buf[..n])?,
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
