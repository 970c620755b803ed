//! A TCP echo server that drains on Ctrl-C: `cargo run --example shutdown`
//!
//! Talk to it with `nc 127.0.0.1 7007` and press Ctrl-C in the window of the server:
//!
//! 1. It stops accepting. The port is free at once.
//! 2. Connections get a grace to finish what they are doing, and are served until they do. A second
//!    Ctrl-C ends the grace.
//! 3. `Runtime::close` cancels those that are left, and says so in its report.
//!
//! With `--self-test` the server picks a port, talks to itself, sends itself a Ctrl-C, and checks
//! each of these steps.

#![forbid(unsafe_code)]

use heist::JoinHandle;
use heist::net::{TcpListener, TcpStream};
use heist::signal::{CtrlC, ctrl_c};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1:7007";

/// How long connections may go on after Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    if std::env::args().any(|argument| argument == "--self-test") {
        return self_test::run();
    }
    let mut runtime = heist::Runtime::new()?;
    let drained = runtime.run(async {
        let listener = TcpListener::bind(ADDRESS).await?;
        println!("listening on {}", listener.local_addr()?);
        serve(listener, ctrl_c(), GRACE).await
    })?;
    println!("{drained:?}");
    println!("{}", runtime.close());
    Ok(())
}

/// How the connections ended that were open when Ctrl-C came.
#[derive(Debug)]
struct Drained {
    finished: usize,
    unfinished: usize,
}

/// Serves until Ctrl-C, then drains.
async fn serve(listener: TcpListener, mut ctrl_c: CtrlC, grace: Duration) -> io::Result<Drained> {
    let mut connections: Vec<JoinHandle<io::Result<()>>> = Vec::new();
    while let Some((stream, peer)) = accept(&listener, &mut ctrl_c).await? {
        println!("{peer} came");
        connections.retain(|connection| !connection.is_finished());
        connections.push(heist::spawn(echo(stream, peer)));
    }
    // Step 1. Whoever connects from now on is refused by the system.
    drop(listener);
    connections.retain(|connection| !connection.is_finished());
    println!("draining {} connections", connections.len());
    drain(connections, &mut ctrl_c, grace).await
}

/// The next connection, or `None` when Ctrl-C came first.
async fn accept(
    listener: &TcpListener,
    ctrl_c: &mut CtrlC,
) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| {
        if let Poll::Ready(pressed) = ctrl_c.poll_recv(cx) {
            return Poll::Ready(pressed.map(|()| None));
        }
        listener.poll_accept(cx).map_ok(Some)
    })
    .await
}

/// Step 2: waits until all connections have ended, the grace is over, or Ctrl-C comes again.
async fn drain(
    mut connections: Vec<JoinHandle<io::Result<()>>>,
    ctrl_c: &mut CtrlC,
    grace: Duration,
) -> io::Result<Drained> {
    let open = connections.len();
    let all_ended = poll_fn(|cx| {
        // Polling every handle leaves a waker in each; those that are ready need no more of it.
        connections.retain_mut(|connection| Pin::new(connection).poll(cx).is_pending());
        match connections.is_empty() {
            true => Poll::Ready(Ok(())),
            false => ctrl_c.poll_recv(cx),
        }
    });
    if let Ok(ended) = heist::timeout(grace, all_ended).await {
        ended?;
    }
    // Dropping the handles detaches the tasks: `Runtime::close` is what ends them.
    let unfinished = connections.len();
    Ok(Drained {
        finished: open - unfinished,
        unfinished,
    })
}

async fn echo(stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
    println!("{peer} went");
    Ok(())
}

/// The server and two clients in one process: one client finishes within the grace, the other one
/// never does.
mod self_test {
    use super::{ctrl_c, serve};
    use heist::net::TcpListener;
    use std::io::{self, Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    /// The connection that never ends makes the test take as long as this.
    const GRACE: Duration = Duration::from_secs(2);

    /// Longer than anything here should take.
    const LIMIT: Duration = Duration::from_secs(10);

    pub(super) fn run() -> io::Result<()> {
        let began = Instant::now();
        let (tell, told) = mpsc::channel();
        let clients = thread::spawn(move || clients(&told));

        let mut runtime = heist::Runtime::new()?;
        let drained = runtime.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            // Before the clients know the address: from here on Ctrl-C does not end the process.
            let ctrl_c = ctrl_c();
            tell.send(listener.local_addr()?)
                .expect("the clients are waiting");
            let served = serve(listener, ctrl_c, GRACE);
            // Clients that fail send no Ctrl-C; the server does not wait for it for ever.
            heist::timeout(LIMIT, served).await.expect("Ctrl-C came")
        })?;
        let report = runtime.close();
        clients
            .join()
            .expect("no assertion of the clients failed")?;

        println!("{drained:?}");
        println!("{report}");
        // Besides the busy client, some that only looked whether the door was still open.
        assert!(drained.finished >= 1, "the busy client finished");
        assert_eq!(drained.unfinished, 1, "the idle client did not");
        assert_eq!(report.cancelled, 1, "the connection that did not finish");
        assert_eq!(report.threads_left, 0);
        assert!(began.elapsed() < LIMIT, "took {:?}", began.elapsed());
        println!("self-test passed");
        Ok(())
    }

    fn clients(told: &mpsc::Receiver<SocketAddr>) -> io::Result<()> {
        let address = told.recv_timeout(LIMIT).expect("the server listens");
        let mut busy = connect(address)?;
        let mut idle = connect(address)?;
        say(&mut busy, b"before")?;
        say(&mut idle, b"before")?;

        press_ctrl_c()?;
        let began = Instant::now();
        while connect(address).is_ok() {
            assert!(began.elapsed() < LIMIT, "the server goes on accepting");
            thread::yield_now();
        }
        say(&mut busy, b"while it drains")?;
        drop(busy);

        let end = idle.read(&mut [0])?;
        assert_eq!(end, 0, "the connection that is left is closed");
        Ok(())
    }

    fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    }

    fn say(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, text);
        Ok(())
    }

    /// What the terminal does on Ctrl-C, for this process alone.
    fn press_ctrl_c() -> io::Result<()> {
        let command = format!("kill -INT {}", std::process::id());
        let status = Command::new("sh").args(["-c", &command]).status()?;
        assert!(status.success(), "{command}: {status}");
        Ok(())
    }
}
