//! What the shapes with sockets share: a server on the runtime under test, asked by a process of its own.
//!
//! The runtime's calling thread is inside `run` while a control thread starts the [load generator](crate::load), waits
//! until its connections stand, reads the process's CPU time, has the requests sent, and reads it again. The control
//! thread is blocked on a pipe meanwhile.
//!
//! Where the two run decides more than anything else: waking a thread on another CPU can cost several times what the
//! request itself does. [`Asked::cpu`] says where the generator is; the caller has placed the server by its own mask.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::thread;

use crate::load::{Asked, Load};
use crate::meter::{Meter, Sample};
use crate::peer::{Net, Spawn};
use crate::shapes::in_task;

/// Runs `serve` on a new listener in a task of `peer` while `requests` requests are sent. An operation is one request.
///
/// # Errors
///
/// Those of the sockets.
pub fn served<P, S, F>(peer: &mut P, asked: Asked, requests: u64, serve: S) -> io::Result<Sample>
where
    P: Net,
    S: FnOnce(P::Listener) -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (tell, told) = futures::channel::oneshot::channel();
    let control = thread::Builder::new().spawn(move || {
        let addr = futures::executor::block_on(told).map_err(io::Error::other)?;
        measured(addr, asked, requests)
    })?;
    in_task(peer, async move {
        let listener = P::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        tell.send(P::local_addr(&listener)?)
            .map_err(|_| io::Error::other("the control thread has gone"))?;
        serve(listener).await
    })?;
    control.join().expect("the control thread panicked")
}

/// Accepts `connections` connections, has each served by a task of its own, and waits for all of them.
///
/// # Errors
///
/// Those of the sockets, and the first of a task.
pub async fn each_connection<P, S, F>(
    spawner: P::Inside,
    listener: P::Listener,
    connections: usize,
    serve: S,
) -> io::Result<()>
where
    P: Net,
    S: Fn(P::Stream) -> F,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut handles = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = P::accept(&listener).await?;
        handles.push(spawner.spawn(serve(stream)));
    }
    for handle in handles {
        handle.await?;
    }
    Ok(())
}

/// Has `requests` requests sent to `addr` and measures this process meanwhile. Ends the process if that fails, since the
/// server would wait for its connections for ever.
pub(crate) fn measured(addr: SocketAddr, asked: Asked, requests: u64) -> io::Result<Sample> {
    let outcome = Load::start(addr, asked).and_then(|mut load| {
        let meter = Meter::start();
        let answered = load.go(requests)?;
        let mut sample = meter.stop(answered.requests);
        sample.wall = answered.wall;
        sample.latency = Some((answered.p50, answered.p99));
        Ok(sample)
    });
    if let Err(error) = &outcome {
        eprintln!("the load on {addr}: {error}");
        process::exit(1);
    }
    outcome
}
