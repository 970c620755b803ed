//! Connections that come, exchange one message and go: accept, a task, read, write, close by the server.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use futures::channel::oneshot;

use crate::load::Asked;
use crate::meter::Sample;
use crate::peer::{Net, Spawn};
use crate::peers::bare::Bare;
use crate::shapes::served::{measured, served};

/// Serves `connections` connections. An operation is one connection.
///
/// # Errors
///
/// Those of the sockets.
pub fn churn<P: Net>(peer: &mut P, asked: Asked, connections: u64) -> io::Result<Sample> {
    let inside = peer.inside();
    served(peer, asked, connections, move |listener| {
        accept_all::<P>(inside, listener, asked.bytes, connections)
    })
}

async fn accept_all<P: Net>(
    spawner: P::Inside,
    listener: P::Listener,
    bytes: usize,
    connections: u64,
) -> io::Result<()> {
    // Nobody keeps a handle per connection, as no server would. Every task holds the sender; when the last one drops it,
    // the receiver is told so.
    let (held, all_ended) = oneshot::channel::<()>();
    let held = Arc::new(held);
    let failed = Arc::new(AtomicU64::new(0));
    for _ in 0..connections {
        let mut stream = P::accept(&listener).await?;
        let (held, failed) = (held.clone(), failed.clone());
        spawner.spawn_detached(async move {
            if let Err(error) = exchange::<P>(&mut stream, bytes).await {
                eprintln!("churn: {error}");
                // Ordering: Relaxed. Whoever reads it has seen the end of the channel, and with it all that came before.
                failed.fetch_add(1, Ordering::Relaxed);
            }
            drop(stream);
            drop(held);
        });
    }
    drop(held);
    assert!(all_ended.await.is_err(), "nothing is ever sent");
    // Ordering: Relaxed. All tasks have dropped their sender, which the channel tells with its own ordering.
    let failed = failed.load(Ordering::Relaxed);
    assert_eq!(failed, 0, "every connection got its answer");
    Ok(())
}

async fn exchange<P: Net>(stream: &mut P::Stream, bytes: usize) -> io::Result<()> {
    let mut buf = vec![0; bytes];
    let mut got = 0;
    while got < bytes {
        match P::read(stream, &mut buf[got..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => got += n,
        }
    }
    P::write_all(stream, &buf).await
}

/// The same with bare epoll loops.
///
/// # Errors
///
/// Those of the sockets.
pub fn churn_bare(threads: usize, asked: Asked, connections: u64) -> io::Result<Sample> {
    let server = Bare::bind()?;
    let addr = server.local_addr()?;
    let control = thread::Builder::new().spawn(move || measured(addr, asked, connections))?;
    server.churn(connections, threads, asked.bytes)?;
    control.join().expect("the control thread panicked")
}
