#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};

use crate::io::testing::{assert_closed, both, now, run, within};
use crate::net::{TcpListener, TcpSocket, TcpStream};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn listener() -> TcpListener {
    TcpListener::bind(SocketAddr::from(LOOPBACK)).await.unwrap()
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = listener().await;
    let connect = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = both(connect, listener.accept()).await;
    let (client, (server, peer)) = (client.unwrap(), server.unwrap());
    assert_eq!(client.local_addr().unwrap(), peer);
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    (client, server)
}

/// An address of this host at which nobody listens.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind(SocketAddr::from(LOOPBACK)).unwrap();
    listener.local_addr().unwrap()
}

async fn read_to_end(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

/// The peer writes and closes before anyone looks, so that data and FIN come as one event. The
/// data must be followed by the end, not by a wait.
#[test]
fn data_and_fin_together_are_data_then_end() {
    run(|| async {
        for _ in 0..50 {
            let (client, server) = pair().await;
            client.write_all(b"all there is").await.unwrap();
            drop(client);
            assert_eq!(read_to_end(&server).await.unwrap(), b"all there is");
            assert_eq!(server.read(&mut [0; 4]).await.unwrap(), 0, "stays the end");
        }
    });
}

/// Data, a wait, then FIN alone: two events.
#[test]
fn fin_after_data_ends_a_waiting_read() {
    run(|| async {
        let (client, server) = pair().await;
        client.write_all(b"ping").await.unwrap();
        let mut buf = [0; 64];
        assert_eq!(server.read(&mut buf).await.unwrap(), 4);
        let (end, ()) = both(server.read(&mut buf[8..]), async {
            client.shutdown(Shutdown::Write).unwrap();
        })
        .await;
        assert_eq!(end.unwrap(), 0);
    });
}

/// After one side has closed for writing, the other can still answer.
#[test]
fn a_half_closed_stream_still_carries_the_answer() {
    run(|| async {
        let (client, server) = pair().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&server).await.unwrap(), b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(read_to_end(&client).await.unwrap(), b"answer");
    });
}

/// One side resets the connection while the other waits for data.
#[test]
fn a_reset_ends_a_waiting_read_with_an_error() {
    run(|| async {
        let (client, server) = pair().await;
        client.set_linger(Some(Duration::ZERO)).unwrap();
        assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
        let mut buf = [0; 4];
        let (end, ()) = both(server.read(&mut buf), async { drop(client) }).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(server.write(b"x").await.is_err());
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    run(|| async {
        let e = TcpStream::connect(nobody()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn every_address_is_tried_in_turn() {
    run(|| async {
        let listener = listener().await;
        let addrs = [nobody(), listener.local_addr().unwrap()];
        let stream = TcpStream::connect(addrs).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addrs[1]);
        let e = TcpStream::connect([nobody(), nobody()]).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
        let none: [SocketAddr; 0] = [];
        let e = TcpStream::connect(none).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        let e = TcpListener::bind(none).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    });
}

/// Far more than the buffers hold, both ways at once: each side must wait for room and for data
/// many times.
#[test]
fn bulk_data_survives_full_buffers() {
    run(|| async {
        let (client, server) = pair().await;
        let sent: Vec<u8> = (0..4_000_000u32).map(|i| (i % 251) as u8).collect();
        let echo = async {
            let mut buf = vec![0; 65536];
            loop {
                match server.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => server.write_all(&buf[..n]).await.unwrap(),
                }
            }
            server.shutdown(Shutdown::Write).unwrap();
        };
        let send = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        };
        let (((), ()), received) = both(both(echo, send), read_to_end(&client)).await;
        assert!(received.unwrap() == sent, "the echo differs");
    });
}

/// A writer fills the buffers with `try_write`, then waits while the reader drains them.
#[test]
fn a_full_buffer_becomes_writable_again() {
    run(|| async {
        let (client, server) = pair().await;
        let block = vec![7; 65536];
        let mut filled = 0;
        loop {
            match client.try_write(&block) {
                Ok(n) => filled += n,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        let drain = async {
            let (mut left, mut buf) = (filled, vec![0; 65536]);
            while left > 0 {
                left -= server.read(&mut buf).await.unwrap();
            }
        };
        let (writable, ()) = both(client.writable(), drain).await;
        writable.unwrap();
        assert!(client.try_write(b"more").unwrap() > 0);
    });
}

#[test]
fn peek_takes_nothing() {
    run(|| async {
        let (client, server) = pair().await;
        client.write_all(b"hello").await.unwrap();
        let mut buf = [0; 2];
        assert_eq!(server.peek(&mut buf).await.unwrap(), 2);
        let peek = poll_fn(|cx| server.poll_peek(cx, &mut buf));
        assert_eq!(peek.await.unwrap(), 2);
        let mut all = [0; 16];
        assert_eq!(server.read(&mut all).await.unwrap(), 5);
        assert_eq!(&all[..5], b"hello");
    });
}

#[test]
fn vectored_io_goes_through_all_buffers() {
    run(|| async {
        let (client, server) = pair().await;
        let parts = [IoSlice::new(b"hel"), IoSlice::new(b""), IoSlice::new(b"lo")];
        assert_eq!(client.write_vectored(&parts).await.unwrap(), 5);
        let (mut a, mut b) = ([0; 2], [0; 8]);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(server.read_vectored(&mut bufs).await.unwrap(), 5);
        assert_eq!((&a, &b[..3]), (b"he", &b"llo"[..]));
    });
}

/// The traits of `futures-io` for the stream itself: read, write, close.
#[test]
fn futures_io_closes_for_writing() {
    run(|| async {
        let (mut client, mut server) = pair().await;
        let write = poll_fn(|cx| Pin::new(&mut client).poll_write(cx, b"ping"));
        assert_eq!(write.await.unwrap(), 4);
        poll_fn(|cx| Pin::new(&mut client).poll_flush(cx))
            .await
            .unwrap();
        poll_fn(|cx| Pin::new(&mut client).poll_close(cx))
            .await
            .unwrap();
        let mut buf = [0; 8];
        let read = poll_fn(|cx| Pin::new(&mut server).poll_read(cx, &mut buf));
        assert_eq!(read.await.unwrap(), 4);
        assert_eq!(server.read(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn a_read_into_uninitialised_memory_fills_its_start() {
    run(|| async {
        let (client, server) = pair().await;
        client.write_all(b"ping").await.unwrap();
        let mut buf = [MaybeUninit::new(0); 8];
        let read = poll_fn(|cx| server.poll_read_uninit(cx, &mut buf));
        assert_eq!(read.await.unwrap(), 4);
        drop(client);
        let read = poll_fn(|cx| server.poll_read_uninit(cx, &mut buf));
        assert_eq!(read.await.unwrap(), 0);
    });
}

/// Nobody writes, so a read with room would wait for ever.
#[test]
fn an_empty_buffer_is_done_at_once() {
    run(|| async {
        let (client, server) = pair().await;
        assert_eq!(server.read(&mut []).await.unwrap(), 0);
        assert_eq!(client.write(&[]).await.unwrap(), 0);
    });
}

/// Two tasks wait in `read` on the same stream. Each must be woken for its message.
#[test]
fn several_readers_wait_side_by_side() {
    run(|| async {
        let (client, server) = pair().await;
        let (mut a, mut b) = ([0; 1], [0; 1]);
        let readers = both(server.read(&mut a), server.read(&mut b));
        let writer = client.write_all(b"xy");
        let ((n, m), written) = both(readers, writer).await;
        written.unwrap();
        assert_eq!((n.unwrap(), m.unwrap()), (1, 1));
        assert_eq!(a[0].max(b[0]), b'y');
        assert_eq!(a[0].min(b[0]), b'x');
    });
}

#[test]
fn dropping_the_write_half_is_the_end_for_the_peer() {
    run(|| async {
        let (client, server) = pair().await;
        let (mut reader, mut writer) = client.into_split();
        let write = poll_fn(|cx| Pin::new(&mut writer).poll_write(cx, b"x"));
        assert_eq!(write.await.unwrap(), 1);
        writer.write_all(b"yz").await.unwrap();
        drop(writer);
        assert_eq!(read_to_end(&server).await.unwrap(), b"xyz");
        server.write_all(b"ok").await.unwrap();
        let mut buf = [0; 1];
        let read = poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, &mut buf));
        assert_eq!((read.await.unwrap(), buf[0]), (1, b'o'));
        assert_eq!(reader.read(&mut buf).await.unwrap(), 1);
        assert!(reader.as_ref().peer_addr().is_ok());
    });
}

#[test]
fn halves_find_together_again() {
    run(|| async {
        let ((a, b), (c, d)) = (pair().await, pair().await);
        let (ra, wa) = a.into_split();
        let (rc, wc) = c.into_split();
        let wrong = ra.reunite(wc).unwrap_err();
        assert!(wrong.to_string().contains("different streams"));
        let a = wrong.0.reunite(wa).unwrap();
        let c = rc.reunite(wrong.1).unwrap();
        // Neither way back has closed anything.
        for (near, far) in [(&a, &b), (&c, &d)] {
            near.write_all(b"x").await.unwrap();
            assert_eq!(far.read(&mut [0; 4]).await.unwrap(), 1);
        }
        let (reader, writer) = a.into_split();
        writer.forget();
        assert_eq!(
            b.try_read(&mut [0; 1]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        drop(reader);
        assert_eq!(b.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn options_are_what_was_set() {
    run(|| async {
        let (client, _server) = pair().await;
        client.set_nodelay(true).unwrap();
        assert!(client.nodelay().unwrap());
        client.set_ttl(42).unwrap();
        assert_eq!(client.ttl().unwrap(), 42);
        assert!(client.take_error().unwrap().is_none());
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        assert!(socket.reuseaddr().unwrap());
        socket.bind(SocketAddr::from(LOOPBACK)).unwrap();
        let addr = socket.local_addr().unwrap();
        let listener = socket.listen(u32::MAX).unwrap();
        assert_eq!(listener.local_addr().unwrap(), addr);
        listener.set_ttl(43).unwrap();
        assert_eq!(listener.ttl().unwrap(), 43);
        let connect = TcpSocket::new_v4().unwrap().connect(addr);
        let (client, server) = both(connect, listener.accept()).await;
        assert_eq!(client.unwrap().local_addr().unwrap(), server.unwrap().1);
    });
}

/// Two sockets with the port-sharing option listen on one address.
#[cfg(unix)]
#[test]
fn a_port_can_be_shared() {
    run(|| async {
        let listen = |addr| {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseport(true)?;
            assert!(socket.reuseport()?);
            socket.bind(addr)?;
            socket.listen(8)
        };
        let first = listen(SocketAddr::from(LOOPBACK)).unwrap();
        let second = listen(first.local_addr().unwrap()).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    });
}

#[test]
fn incoming_hands_out_every_connection() {
    run(|| async {
        let listener = listener().await;
        let addr = listener.local_addr().unwrap();
        let mut incoming = listener.incoming();
        for _ in 0..3 {
            let next = poll_fn(|cx| Pin::new(&mut incoming).poll_next(cx));
            let (client, server) = both(TcpStream::connect(addr), next).await;
            let (client, server) = (client.unwrap(), server.unwrap().unwrap());
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read(&mut [0; 4]).await.unwrap(), 1);
        }
    });
}

/// Connections that were queued before anyone accepts come out one by one after a single event.
#[test]
fn a_burst_of_connections_is_accepted_to_the_last() {
    run(|| async {
        let listener = listener().await;
        let addr = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..300)
            .map(|_| std::net::TcpStream::connect(addr).unwrap())
            .collect();
        for _ in &clients {
            listener.accept().await.unwrap();
        }
    });
}

/// A server task for each of many connections, on all workers, with every client sending several
/// hundred messages in lockstep. One lost wake-up anywhere and the test hangs.
#[test]
fn many_connections_over_all_workers() {
    const CLIENTS: u32 = 40;
    const ROUNDS: u32 = 300;

    async fn serve(stream: TcpStream) -> u32 {
        let (reader, writer) = stream.into_split();
        let (mut buf, mut rounds) = ([0; 64], 0);
        while reader.read(&mut buf[..4]).await.unwrap() == 4 {
            writer.write_all(&buf[..4]).await.unwrap();
            rounds += 1;
        }
        rounds
    }

    async fn ask(addr: SocketAddr, client: u32) {
        let stream = TcpStream::connect(addr).await.unwrap();
        for round in 0..ROUNDS {
            let message = (client * ROUNDS + round).to_be_bytes();
            stream.write_all(&message).await.unwrap();
            let mut answer = [0; 4];
            assert_eq!(stream.read(&mut answer).await.unwrap(), 4);
            assert_eq!(answer, message);
        }
    }

    run(|| async {
        let listener = listener().await;
        let addr = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| crate::spawn(ask(addr, client)))
            .collect();
        let mut servers = Vec::new();
        for _ in 0..CLIENTS {
            let (stream, _) = listener.accept().await.unwrap();
            servers.push(crate::spawn(serve(stream)));
        }
        for client in clients {
            client.await.unwrap();
        }
        for server in servers {
            assert_eq!(server.await.unwrap(), ROUNDS);
        }
    });
}

/// The peer writes with the standard library and blocks; a `select`-like poll that drops the read
/// future in between must lose nothing.
#[test]
fn a_dropped_read_loses_no_data() {
    run(|| async {
        let (client, server) = pair().await;
        let mut client = client.into_std().unwrap();
        for round in 0..20u8 {
            let mut buf = [0; 4];
            {
                let mut read = std::pin::pin!(server.read(&mut buf));
                let polled = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
            }
            client.write_all(&[round]).unwrap();
            assert_eq!(server.read(&mut buf).await.unwrap(), 1);
            assert_eq!(buf[0], round);
        }
    });
}

/// Out of one runtime, through the standard library, into the next.
#[test]
fn a_stream_can_move_to_another_runtime() {
    within(|| {
        let (client, server) = crate::run(async {
            let (client, server) = pair().await;
            (client.into_std().unwrap(), server)
        });
        #[cfg(unix)]
        let server = std::os::fd::OwnedFd::from(server);
        #[cfg(windows)]
        let server = std::os::windows::io::OwnedSocket::from(server);
        crate::run(async {
            let client = TcpStream::from_std(client).unwrap();
            let server = TcpStream::try_from(server).unwrap();
            let mut buf = [0; 4];
            let (n, sent) = both(server.read(&mut buf), client.write_all(b"ping")).await;
            sent.unwrap();
            assert_eq!((n.unwrap(), &buf), (4, b"ping"));
        });
    });
}

#[test]
fn outside_a_runtime_is_an_error() {
    assert!(now(TcpListener::bind(SocketAddr::from(LOOPBACK))).is_err());
    assert!(now(TcpStream::connect(nobody())).is_err());
    let std_listener = std::net::TcpListener::bind(SocketAddr::from(LOOPBACK)).unwrap();
    assert!(TcpListener::from_std(std_listener).is_err());
}

/// The runtime ends, its sockets live on. Whoever would have to wait is told so, for ever.
#[test]
fn a_closed_runtime_ends_every_wait() {
    within(|| {
        let (listener, client, server) = crate::run(async {
            let (client, server) = pair().await;
            (listener().await, client, server)
        });
        for _ in 0..2 {
            assert_closed(&now(server.read(&mut [0; 4])).unwrap_err());
            assert_closed(&now(server.readable()).unwrap_err());
            assert_closed(&now(listener.accept()).unwrap_err());
            assert_closed(&now(poll_fn(|cx| listener.poll_accept(cx))).unwrap_err());
            assert_closed(&now(poll_fn(|cx| client.poll_readable(cx))).unwrap_err());
        }
        // Room to write is there, so this may work; it must not wait.
        if let Err(e) = now(client.write(b"x")) {
            assert_closed(&e);
        }
        let full = loop {
            if let Err(e) = now(client.write(&[0; 65536])) {
                break e;
            }
        };
        assert_closed(&full);
        assert!(client.into_std().is_ok());
    });
}

#[test]
fn sockets_can_be_shared_and_sent() {
    fn all<T: Send + Sync + Unpin + std::fmt::Debug>() {}
    fn sent<T: Send>(_: T) {}
    all::<TcpStream>();
    all::<TcpListener>();
    all::<TcpSocket>();
    all::<crate::net::OwnedReadHalf>();
    all::<crate::net::OwnedWriteHalf>();
    sent(TcpStream::connect("127.0.0.1:1"));
    sent(TcpListener::bind("127.0.0.1:1"));
    // Never called: that it compiles is the test.
    fn check(stream: &TcpStream, listener: &TcpListener) {
        sent(stream.read(&mut [0; 1]));
        sent(stream.write_all(&[0; 1]));
        sent(listener.accept());
    }
    let _: fn(&TcpStream, &TcpListener) = check;
}
