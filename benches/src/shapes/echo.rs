//! An echo server: one task per connection, which sends back what it reads.
#![forbid(unsafe_code)]

use std::io;
use std::thread;

use crate::load::Asked;
use crate::meter::Sample;
use crate::peer::Net;
use crate::peers::bare::Bare;
use crate::shapes::served::{each_connection, measured, served};

/// Size of a connection's buffer, unless a request is larger.
const BUFFER: usize = 4096;

/// Serves `requests` requests.
///
/// # Errors
///
/// Those of the sockets.
pub fn echo<P: Net>(peer: &mut P, asked: Asked, requests: u64) -> io::Result<Sample> {
    let inside = peer.inside();
    served(peer, asked, requests, move |listener| {
        let room = BUFFER.max(asked.bytes);
        let serve = move |stream| answer::<P>(stream, room);
        each_connection::<P, _, _>(inside, listener, asked.connections, serve)
    })
}

async fn answer<P: Net>(mut stream: P::Stream, room: usize) -> io::Result<()> {
    let mut buf = vec![0; room];
    loop {
        match P::read(&mut stream, &mut buf).await? {
            0 => return Ok(()),
            n => P::write_all(&mut stream, &buf[..n]).await?,
        }
    }
}

/// The same with bare epoll loops.
///
/// # Errors
///
/// Those of the sockets.
pub fn echo_bare(threads: usize, asked: Asked, requests: u64) -> io::Result<Sample> {
    let server = Bare::bind()?;
    let addr = server.local_addr()?;
    let control = thread::Builder::new().spawn(move || measured(addr, asked, requests))?;
    server.serve(asked.connections, threads, BUFFER.max(asked.bytes))?;
    control.join().expect("the control thread panicked")
}
