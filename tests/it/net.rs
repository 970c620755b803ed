//! Sockets at their edges: what peers do to each other, and what the documentation says comes of it.
//! Never a hang, never a spin.
#![forbid(unsafe_code)]

use crate::support::{alone, eventually, own_pair, pair, within};
use futures::future::poll_immediate;
use heist::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use heist::time::{Duration, sleep, timeout};
use heist::{Runtime, yield_now};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::thread;

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// Far longer than anything here takes, and far shorter than the limit of a test: a socket that
/// hangs is named.
const SOON: Duration = Duration::from_secs(8);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: no end within {SOON:?}"),
    }
}

/// A listener and its address.
async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Data and the end of the stream arrive together, before or while somebody waits. Both must be
/// read: the data, and then the end, although it may come as one event only.
#[test]
fn data_and_the_end_that_arrive_together_are_both_read() {
    within(|| {
        crate::support::run(async {
            for round in 0..200 {
                let (stream, mut peer) = pair().await;
                let waits = round % 2 == 0;
                let reader = heist::spawn(async move {
                    let mut all = Vec::new();
                    let mut buffer = [0; 64];
                    loop {
                        match stream.read(&mut buffer).await {
                            Ok(0) => break all,
                            Ok(length) => all.extend_from_slice(&buffer[..length]),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
                if waits {
                    // So that the reader waits when the event comes.
                    yield_now().await;
                    yield_now().await;
                }
                peer.write_all(b"the last words").unwrap();
                drop(peer);
                let all = soon("data and FIN", reader).await.unwrap();
                assert_eq!(all, b"the last words");
            }
        });
    });
}

/// One side says that it will send no more. The other must see the end, and must still be able to
/// send, in both roles.
#[test]
fn a_half_closed_connection_still_carries_the_other_direction() {
    within(|| {
        crate::support::run(async {
            let (client, server) = own_pair().await;
            client.write_all(b"question").await.unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut buffer = [0; 64];
            assert_eq!(soon("read", server.read(&mut buffer)).await.unwrap(), 8);
            for _ in 0..3 {
                assert_eq!(soon("the end", server.read(&mut buffer)).await.unwrap(), 0);
            }
            let answer = vec![7; 1 << 20];
            let sent = answer.clone();
            let writer = heist::spawn(async move {
                server.write_all(&sent).await.unwrap();
                drop(server);
            });
            let mut read = Vec::new();
            let mut buffer = vec![0; 1 << 16];
            loop {
                match soon("the answer", client.read(&mut buffer)).await.unwrap() {
                    0 => break,
                    length => read.extend_from_slice(&buffer[..length]),
                }
            }
            assert_eq!(read, answer);
            writer.await.unwrap();
            assert_eq!(
                client.write(b"x").await.unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        });
    });
}

/// The reading side is shut down by its own end, while a task waits in `read`: it must see the end.
#[test]
fn shutting_down_the_own_reading_side_ends_a_read() {
    within(|| {
        crate::support::run(async {
            let (stream, peer) = pair().await;
            let stream = Arc::new(stream);
            let reads = stream.clone();
            let reader = heist::spawn(async move { reads.read(&mut [0]).await });
            for _ in 0..3 {
                yield_now().await;
            }
            stream.shutdown(Shutdown::Both).unwrap();
            assert_eq!(soon("shutdown", reader).await.unwrap().unwrap(), 0);
            drop(peer);
        });
    });
}

/// The peer resets the connection: a task that waits in `read`, and one that waits in `write`, must
/// both get an error.
#[test]
fn a_reset_reaches_reader_and_writer() {
    within(|| {
        crate::support::run(async {
            let (client, server) = own_pair().await;
            let server = Arc::new(server);
            let (reads, writes) = (server.clone(), server.clone());
            let reader = heist::spawn(async move { reads.read(&mut [0]).await });
            let writer = heist::spawn(async move {
                let data = vec![0; 1 << 16];
                loop {
                    if let Err(error) = writes.write(&data).await {
                        break error;
                    }
                }
            });
            // Until the writer waits: the buffers are full.
            while poll_immediate(server.writable()).await.is_some() {
                yield_now().await;
            }
            client.set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            let read = soon("reader", reader).await.unwrap();
            let wrote = soon("writer", writer).await.unwrap();
            // The system tells it to the first who asks; afterwards the stream has just ended.
            let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(kinds.contains(&wrote.kind()), "{wrote}");
            match read {
                Ok(length) => assert_eq!((length, wrote.kind()), (0, ErrorKind::ConnectionReset)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
            }
            // And from then on, at once.
            assert!(
                poll_immediate(server.write(b"x"))
                    .await
                    .expect("at once")
                    .is_err()
            );
        });
    });
}

/// Nobody listens: the error of the system, at once. A reset socket keeps nobody busy afterwards.
#[test]
fn a_refused_connection_is_an_error() {
    within(|| {
        crate::support::run(async {
            for _ in 0..50 {
                let (listener, address) = listen().await;
                drop(listener);
                let error = soon("connect", TcpStream::connect(address))
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            }
        });
    });
}

/// Of several addresses, each is tried in turn until one works; if none does, the last error counts.
#[test]
fn connect_tries_every_address() {
    within(|| {
        crate::support::run(async {
            let (closed, refuses) = listen().await;
            drop(closed);
            let (listener, works) = listen().await;
            let all = [refuses, refuses, works, refuses];
            let stream = soon("connect", TcpStream::connect(&all[..])).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), works);
            let accepted = soon("accept", listener.accept()).await.unwrap().1;
            assert_eq!(accepted, stream.local_addr().unwrap());
            let error = soon("connect", TcpStream::connect(&all[..2]))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            // A name, which the blocking pool looks up.
            let port = works.port();
            let stream = soon("connect", TcpStream::connect(("localhost", port)))
                .await
                .unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        });
    });
}

/// The peer says nothing and never will: whoever waits does so until its timeout, uses no processor,
/// and can be cancelled; the socket works afterwards.
#[test]
fn a_peer_that_says_nothing_is_waited_for_in_vain() {
    within(|| {
        crate::support::run(async {
            let (stream, mut peer) = pair().await;
            let mut buffer = [0; 8];
            for _ in 0..5 {
                let waited = timeout(Duration::from_millis(5), stream.read(&mut buffer)).await;
                assert!(waited.is_err());
            }
            let stream = Arc::new(stream);
            let reads = stream.clone();
            let task = heist::spawn(async move { reads.read(&mut [0]).await });
            yield_now().await;
            assert!(task.cancel().await.unwrap_err().is_cancelled());
            peer.write_all(b"at last").unwrap();
            assert_eq!(soon("read", stream.read(&mut buffer)).await.unwrap(), 7);
        });
    });
}

/// More data than the buffers hold, in both directions at once, over one socket shared by a reader
/// and a writer, in pieces of odd sizes. All of it must arrive, in order.
#[test]
fn both_directions_at_once_carry_everything() {
    const LENGTH: usize = 3 << 20;
    fn byte(at: usize, salt: usize) -> u8 {
        (at.wrapping_mul(31) + at / 251 + salt) as u8
    }
    async fn sends(stream: Arc<TcpStream>, salt: usize) {
        let mut at = 0;
        while at < LENGTH {
            let length = (1 + at % 70_001).min(LENGTH - at);
            let piece: Vec<u8> = (at..at + length).map(|at| byte(at, salt)).collect();
            stream.write_all(&piece).await.unwrap();
            at += length;
        }
        stream.shutdown(Shutdown::Write).unwrap();
    }
    async fn receives(stream: Arc<TcpStream>, salt: usize) -> usize {
        let mut at = 0;
        let mut buffer = vec![0; 33_333];
        loop {
            let length = stream.read(&mut buffer).await.unwrap();
            if length == 0 {
                return at;
            }
            for got in &buffer[..length] {
                assert_eq!(*got, byte(at, salt), "at {at}");
                at += 1;
            }
        }
    }
    within(|| {
        crate::support::run(async {
            let (left, right) = own_pair().await;
            let (left, right) = (Arc::new(left), Arc::new(right));
            drop(heist::spawn(sends(left.clone(), 1)));
            drop(heist::spawn(sends(right.clone(), 2)));
            let there = heist::spawn(receives(right, 1));
            let back = heist::spawn(receives(left, 2));
            assert_eq!(soon("there", there).await.unwrap(), LENGTH);
            assert_eq!(soon("back", back).await.unwrap(), LENGTH);
        });
    });
}

/// A descriptor's number is used again by the next socket. Events of the first must not reach the
/// second: it would see an end that is not its own, or lose its own event.
#[test]
fn a_reused_descriptor_number_has_no_events_of_its_predecessor() {
    within(|| {
        crate::support::run(async {
            for _ in 0..300 {
                let (first, peer) = pair().await;
                let number = std::os::fd::AsRawFd::as_raw_fd(&first);
                // The event is on its way when the first is closed.
                drop(peer);
                drop(first);
                let (second, mut peer) = pair().await;
                let mut buffer = [0; 4];
                {
                    let mut read = Box::pin(second.read(&mut buffer));
                    assert!(
                        poll_immediate(&mut read).await.is_none(),
                        "an event of fd {number}"
                    );
                    yield_now().await;
                    assert!(
                        poll_immediate(&mut read).await.is_none(),
                        "an event of fd {number}"
                    );
                    peer.write_all(b"own").unwrap();
                    assert_eq!(soon("own event", read).await.unwrap(), 3);
                }
            }
        });
    });
}

/// A socket moves between tasks, threads and runtimes, and is given to the standard library and
/// back. It must work everywhere.
#[test]
fn l08_a_socket_works_wherever_it_is_taken() {
    within(|| {
        let mut other = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let first = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let handle = first.handle();
        let (stream, mut peer) = handle.block_on(pair());
        // Its events come from its own runtime, whoever waits.
        let writer = thread::spawn(move || {
            for _ in 0..20 {
                peer.write_all(b"x").unwrap();
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
            }
            peer
        });
        let stream = other.run(async {
            for _ in 0..20 {
                assert_eq!(soon("read", stream.read(&mut [0])).await.unwrap(), 1);
                stream.write_all(b"y").await.unwrap();
            }
            stream
        });
        let mut peer = writer.join().unwrap();
        let stream = stream.into_std().unwrap();
        drop(first);
        other.run(async {
            let stream = TcpStream::from_std(stream).unwrap();
            peer.write_all(b"again").unwrap();
            assert_eq!(soon("read", stream.read(&mut [0; 8])).await.unwrap(), 5);
        });
    });
}

/// Many tasks wait at one listener, and connections come one by one: each must be accepted by one of
/// them, and none be lost.
#[test]
fn several_tasks_accept_from_one_listener() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        runtime.run(async {
            let (listener, address) = listen().await;
            let listener = Arc::new(listener);
            let (sender, accepted) = async_channel::unbounded();
            for _ in 0..8 {
                let (listener, sender) = (listener.clone(), sender.clone());
                drop(heist::spawn(async move {
                    loop {
                        let (stream, peer) = listener.accept().await.unwrap();
                        sender.send((stream, peer)).await.unwrap();
                    }
                }));
            }
            let clients: Vec<_> = (0..100)
                .map(|_| StdStream::connect(address).unwrap())
                .collect();
            let mut peers = Vec::new();
            for _ in 0..100 {
                peers.push(soon("accept", accepted.recv()).await.unwrap().1);
            }
            peers.sort();
            let mut wanted: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
            wanted.sort();
            assert_eq!(peers, wanted);
        });
    });
}

/// Several tasks wait to read one socket: each byte wakes enough of them that none is left lying.
#[test]
fn several_tasks_read_from_one_socket() {
    within(|| {
        crate::support::run(async {
            let (stream, mut peer) = pair().await;
            let stream = Arc::new(stream);
            let readers: Vec<_> = (0..5)
                .map(|_| {
                    let stream = stream.clone();
                    heist::spawn(async move {
                        let mut byte = [0];
                        let mut read = 0;
                        while stream.read(&mut byte).await.unwrap() == 1 {
                            read += 1;
                        }
                        read
                    })
                })
                .collect();
            for _ in 0..500 {
                peer.write_all(b"x").unwrap();
                yield_now().await;
            }
            drop(peer);
            let mut read = 0;
            for reader in readers {
                read += soon("the end reaches every reader", reader).await.unwrap();
            }
            assert_eq!(read, 500);
        });
    });
}

/// Datagrams: nothing of them is merged or split, an empty one is not an end, and a port where
/// nobody listens is an error on a connected socket.
#[test]
fn datagrams_arrive_as_they_were_sent() {
    within(|| {
        crate::support::run(async {
            let left = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let right = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let to = right.local_addr().unwrap();
            let receiver = heist::spawn(async move {
                let mut buffer = vec![0; 2000];
                let mut lengths = Vec::new();
                while lengths.len() < 50 {
                    lengths.push(right.recv_from(&mut buffer).await.unwrap().0);
                }
                lengths
            });
            for n in 0..50 {
                assert_eq!(left.send_to(&vec![1; n * 17], to).await.unwrap(), n * 17);
                yield_now().await;
            }
            let lengths = soon("datagrams", receiver).await.unwrap();
            assert_eq!(lengths, (0..50).map(|n| n * 17).collect::<Vec<_>>());

            let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let nowhere = gone.local_addr().unwrap();
            drop(gone);
            left.connect(nowhere).await.unwrap();
            left.send(b"anybody?").await.unwrap();
            let error = soon("refused", left.recv(&mut [0; 8])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        });
    });
}

/// A connection ends in every order of who drops what, while tasks wait on both sides.
#[test]
fn whoever_drops_first_the_other_side_ends() {
    within(|| {
        crate::support::run(async {
            for round in 0..60 {
                let (left, right) = own_pair().await;
                let (left, right) = (Arc::new(left), Arc::new(right));
                let waits = |stream: &Arc<TcpStream>| {
                    let stream = stream.clone();
                    heist::spawn(async move { stream.read(&mut [0]).await })
                };
                let (first, second) = (waits(&left), waits(&right));
                if round % 2 == 0 {
                    yield_now().await;
                }
                first.abort();
                assert!(first.await.is_err_and(|error| error.is_cancelled()));
                drop(left);
                drop(right);
                assert_eq!(soon("the end", second).await.unwrap().unwrap(), 0);
            }
        });
    });
}

/// The runtime is closed while tasks connect, accept, read and write: they are dropped, and peers
/// see that their connections have ended.
#[test]
fn the_end_of_the_runtime_closes_its_connections() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(crate::support::workers())
            .build()
            .unwrap();
        let mut peers = runtime.run(async {
            let (listener, address) = listen().await;
            let mut peers = Vec::new();
            for n in 0..10 {
                let peer = StdStream::connect(address).unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                drop(heist::spawn(async move {
                    if n % 2 == 0 {
                        let _ = stream.read(&mut [0]).await;
                    } else {
                        sleep(Duration::from_secs(60)).await;
                    }
                    drop(stream);
                }));
                peers.push(peer);
            }
            drop(heist::spawn(async move {
                while listener.accept().await.is_ok() {}
            }));
            peers
        });
        runtime.close();
        for peer in &mut peers {
            peer.set_read_timeout(Some(SOON)).unwrap();
            assert_eq!(peer.read(&mut [0]).expect("the end, and not a time-out"), 0);
        }
    });
}

/// A half that is dropped ends its direction alone.
#[test]
fn owned_halves_end_their_own_direction() {
    within(|| {
        crate::support::run(async {
            let (stream, mut peer) = pair().await;
            let (reader, writer) = stream.into_split();
            writer.write_all(b"bye").await.unwrap();
            drop(writer);
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"bye");
            peer.write_all(b"still here").unwrap();
            assert_eq!(soon("read", reader.read(&mut [0; 32])).await.unwrap(), 10);
            drop(reader);
            eventually("the peer sees that nobody reads", || {
                peer.write_all(b"x").is_err()
            });
        });
    });
}

/// Three in processes of their own, since they use up descriptors, or count them.
#[test]
fn l21_accepting_without_descriptors_neither_fails_nor_spins() {
    let ended = alone(ALONE, &[], "accept_without_descriptors", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// See above.
#[test]
fn without_descriptors_sockets_are_errors_and_the_rest_works() {
    let ended = alone(ALONE, &[], "no_descriptors_left", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// See above.
#[test]
fn a_thousand_connections_leave_no_descriptor() {
    let ended = alone(ALONE, &[], "connections_come_and_go", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// A stream that somebody has waited for is dropped on a thread of no runtime, again and again, so that
/// its descriptor's number comes back. Its peer must see the end, and the next stream work.
#[test]
fn l18_a_stream_can_be_dropped_on_a_foreign_thread() {
    within(|| {
        crate::support::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..20 {
                let mut peer = std::net::TcpStream::connect(address).unwrap();
                let (stream, _) = soon("accept", listener.accept()).await.unwrap();
                {
                    let mut byte = [0];
                    let mut waits = Box::pin(stream.read(&mut byte));
                    assert!(crate::support::poll_once(&mut waits).is_pending());
                }
                peer.write_all(b"x").unwrap();
                assert_eq!(soon("read", stream.read(&mut [0; 2])).await.unwrap(), 1);
                thread::spawn(move || drop(stream)).join().unwrap();
                assert_eq!(peer.read(&mut [0]).unwrap(), 0);
            }
        });
    });
}
