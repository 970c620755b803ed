//! A TCP server that sends back what it gets.
//!
//! ```sh
//! cargo run --release -p heist --example echo
//! ```
//!
//! It listens on 127.0.0.1:7000, or on the address given as argument; try `nc 127.0.0.1 7000`. With
//! `--self-test` it takes a free port, is its own client, and ends.

use heist::net::{TcpListener, TcpStream};
use std::io;
use std::net::{Shutdown, SocketAddr};

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("--self-test") => heist::run(self_test()),
        address => heist::run(async {
            let listener = TcpListener::bind(address.unwrap_or("127.0.0.1:7000")).await?;
            println!("listening on {}", listener.local_addr()?);
            serve(listener).await
        }),
    }
}

/// One task accepts, and one more for each connection echoes.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        // The handle is dropped, which detaches the task: it goes on by itself.
        drop(heist::spawn(async move {
            if let Err(error) = echo(stream).await {
                eprintln!("{peer}: {error}");
            }
        }));
    }
}

/// Sends back what comes, until the client has nothing more to say.
async fn echo(stream: TcpStream) -> io::Result<()> {
    // Small messages go out at once instead of waiting for company.
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

// ---- the program as its own client ----

const CLIENTS: usize = 8;
const MESSAGES: usize = 500;

async fn self_test() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = heist::spawn(serve(listener));

    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| heist::spawn(client(address, n)))
        .collect();
    let mut bytes = 0;
    for client in clients {
        bytes += client.await??;
    }
    println!("{CLIENTS} clients got all of their {bytes} bytes back");

    // The server would go on for ever. Aborting drops its future, and so its listener.
    server.abort();
    let ended = server.await.expect_err("an accept loop has no other end");
    assert!(ended.is_cancelled());
    Ok(())
}

/// Sends messages of growing length, and checks that each comes back.
async fn client(address: SocketAddr, number: usize) -> io::Result<usize> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut bytes = 0;
    for length in (1..=MESSAGES).map(|n| n * (number + 1)) {
        let message: Vec<u8> = (0..length).map(|i| (i + number) as u8).collect();
        stream.write_all(&message).await?;
        let mut answer = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match stream.read(&mut answer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        assert_eq!(answer, message, "client {number} got something else back");
        bytes += length;
    }
    // Half a goodbye: the server sees the end, and then so do we.
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0; 16]).await?, 0);
    Ok(bytes)
}
