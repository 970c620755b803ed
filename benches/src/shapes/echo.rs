//! An echo server on the runtime under test, asked by a process of its own.
//!
//! The runtime's calling thread is inside `run` while a control thread starts the [load generator](crate::load), waits
//! until all connections stand, reads the process's CPU time, has the requests sent, and reads it again. The control
//! thread is blocked on a pipe meanwhile. One task accepts and spawns one task per connection.
//!
//! Where the two run decides more than anything else: waking a thread on another CPU can cost several times what the
//! request itself does. [`Placed`] says where the generator is; the caller has placed the server by its own mask.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::thread;

use crate::load::Load;
use crate::meter::{Meter, Sample};
use crate::peer::{Net, Spawn};
use crate::peers::bare::Bare;
use crate::shapes::in_task;

/// Size of a request and of its answer.
pub const BYTES: usize = 64;
/// Size of a connection's buffer.
const BUFFER: usize = 4096;

/// How an echo shape is asked.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// The CPU of the load generator.
    pub generator: usize,
}

/// Serves `requests` requests. An operation is one request.
///
/// # Errors
///
/// Those of the sockets.
pub fn echo<P: Net>(peer: &mut P, placed: Placed, requests: u64) -> io::Result<Sample> {
    let inside = peer.inside();
    let (tell, told) = futures::channel::oneshot::channel();
    let control = thread::Builder::new().spawn(move || {
        let addr = futures::executor::block_on(told).map_err(io::Error::other)?;
        measured(addr, placed, requests)
    })?;
    in_task(peer, async move {
        let listener = P::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        tell.send(P::local_addr(&listener)?)
            .map_err(|_| io::Error::other("the control thread has gone"))?;
        serve::<P>(inside, listener, placed.connections).await
    })?;
    control.join().expect("the control thread panicked")
}

async fn serve<P: Net>(
    spawner: P::Inside,
    listener: P::Listener,
    connections: usize,
) -> io::Result<()> {
    let mut handles = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = P::accept(&listener).await?;
        handles.push(spawner.spawn(answer::<P>(stream)));
    }
    for handle in handles {
        handle.await?;
    }
    Ok(())
}

async fn answer<P: Net>(mut stream: P::Stream) -> io::Result<()> {
    let mut buf = [0; BUFFER];
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
pub fn echo_bare(threads: usize, placed: Placed, requests: u64) -> io::Result<Sample> {
    let server = Bare::bind()?;
    let addr = server.local_addr()?;
    let control = thread::Builder::new().spawn(move || measured(addr, placed, requests))?;
    server.serve(placed.connections, threads)?;
    control.join().expect("the control thread panicked")
}

/// Has `requests` requests sent to `addr` and measures this process meanwhile. Ends the process if that fails, since the
/// server would wait for its connections for ever.
fn measured(addr: SocketAddr, placed: Placed, requests: u64) -> io::Result<Sample> {
    let outcome =
        Load::start(addr, placed.connections, BYTES, placed.generator).and_then(|mut load| {
            let meter = Meter::start();
            let answered = load.go(requests)?;
            let mut sample = meter.stop(answered.requests);
            sample.wall = answered.wall;
            sample.latency = Some((answered.p50, answered.p99));
            Ok(sample)
        });
    if let Err(error) = &outcome {
        eprintln!("echo: {error}");
        process::exit(1);
    }
    outcome
}
