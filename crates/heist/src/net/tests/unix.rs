#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::io::testing::{assert_closed, both, now, run, within};
use crate::net::unix::{UnixDatagram, UnixListener, UnixStream};

/// A path that nobody uses, removed afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "heist-{}-{}.sock",
            std::process::id(),
            // Ordering: Relaxed. Only the numbers must differ.
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn a_stream_connects_through_a_path() {
    run(|| async {
        let place = Place::new();
        let listener = UnixListener::bind(&place.0).unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(addr.as_pathname(), Some(place.0.as_path()));
        let connect = UnixStream::connect(&place.0);
        let (client, accepted) = both(connect, listener.accept()).await;
        let (client, (server, peer)) = (client.unwrap(), accepted.unwrap());
        assert!(peer.is_unnamed());
        assert_eq!(
            client.peer_addr().unwrap().as_pathname(),
            Some(place.0.as_path())
        );
        let mut buf = [0; 8];
        let (n, sent) = both(server.read(&mut buf), client.write_all(b"ping")).await;
        sent.unwrap();
        assert_eq!((n.unwrap(), &buf[..4]), (4, &b"ping"[..]));
        drop(client);
        assert_eq!(server.read(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn nobody_at_the_path_is_an_error() {
    run(|| async {
        let place = Place::new();
        let e = UnixStream::connect(&place.0).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        drop(std::os::unix::net::UnixListener::bind(&place.0).unwrap());
        let e = UnixStream::connect(&place.0).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
    });
}

/// The queue of the listener is full. The next `connect` must wait, and succeed once somebody
/// accepts.
#[cfg(target_os = "linux")]
#[test]
fn a_full_queue_makes_connect_wait() {
    run(|| async {
        let place = Place::new();
        let socket =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&place.0).unwrap())
            .unwrap();
        socket.listen(0).unwrap();
        let listener = UnixListener::try_from(std::os::fd::OwnedFd::from(socket)).unwrap();
        let _first = UnixStream::connect(&place.0).await.unwrap();
        let mut second = std::pin::pin!(UnixStream::connect(&place.0));
        let polled = poll_fn(|cx| std::task::Poll::Ready(second.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        let (second, accepted) = both(second, listener.accept()).await;
        second.unwrap();
        accepted.unwrap();
    });
}

/// Data and the end come together, over a pair; then halves and `futures-io` as for TCP.
#[test]
fn a_pair_carries_data_and_end() {
    run(|| async {
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, writer) = a.into_split();
        writer.write_all(b"all").await.unwrap();
        drop(writer);
        let mut buf = [0; 16];
        assert_eq!(b.read(&mut buf).await.unwrap(), 3);
        assert_eq!(b.read(&mut buf).await.unwrap(), 0);
        b.write_all(b"ok").await.unwrap();
        assert_eq!(reader.read(&mut buf).await.unwrap(), 2);
        drop(b);
        assert_eq!(reader.read(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn bulk_data_survives_full_buffers() {
    run(|| async {
        let (a, b) = UnixStream::pair().unwrap();
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let send = async {
            a.write_all(&sent).await.unwrap();
            a.shutdown(std::net::Shutdown::Write).unwrap();
        };
        let receive = async {
            let (mut all, mut buf) = (Vec::new(), vec![0; 50_000]);
            loop {
                match b.read(&mut buf).await.unwrap() {
                    0 => return all,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        };
        let ((), received) = both(send, receive).await;
        assert!(received == sent, "the data differs");
    });
}

/// Fills the way from `a` to `b`, then sends once more while the receiver drains. The sender must
/// wait, go on when there is room, and lose nothing.
#[cfg(target_os = "linux")]
async fn fill_and_drain(a: &UnixDatagram, b: &UnixDatagram) {
    let mut queued = 0;
    while a.try_send(b"x").is_ok() {
        queued += 1;
    }
    assert!(queued > 0);
    let drain = async {
        let mut received = 0;
        while b.recv(&mut [0; 16]).await.unwrap() == 1 {
            received += 1;
        }
        received
    };
    let (sent, received) = both(a.send(b"last"), drain).await;
    assert_eq!((sent.unwrap(), received), (4, queued));
}

/// In a pair the sender's own buffer fills up.
#[cfg(target_os = "linux")]
#[test]
fn a_datagram_waits_for_room_of_its_own() {
    run(|| async {
        let (a, b) = UnixDatagram::pair().unwrap();
        fill_and_drain(&a, &b).await;
    });
}

/// Connected one way, the receiver's queue fills up first.
#[cfg(target_os = "linux")]
#[test]
fn a_datagram_waits_for_room_at_its_peer() {
    run(|| async {
        let place = Place::new();
        let server = UnixDatagram::bind(&place.0).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&place.0).unwrap();
        fill_and_drain(&client, &server).await;
    });
}

/// Not connected, so that no event tells of room in the queue.
#[cfg(target_os = "linux")]
#[test]
fn a_datagram_finds_room_without_an_event() {
    run(|| async {
        let place = Place::new();
        let server = UnixDatagram::bind(&place.0).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        while client.try_send_to(b"x", &place.0).is_ok() {}
        let mut last = std::pin::pin!(client.send_to(b"last", &place.0));
        let polled = poll_fn(|cx| std::task::Poll::Ready(last.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        let (sent, received) = both(last, server.recv(&mut [0; 16])).await;
        assert_eq!((sent.unwrap(), received.unwrap()), (4, 1));
    });
}

#[test]
fn datagrams_go_through_a_path() {
    run(|| async {
        let place = Place::new();
        let server = UnixDatagram::bind(&place.0).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        let mut buf = [0; 16];
        client.send_to(b"1", &place.0).await.unwrap();
        let (n, peer) = server.recv_from(&mut buf).await.unwrap();
        assert!(n == 1 && peer.is_unnamed());
        client.connect(&place.0).unwrap();
        poll_fn(|cx| client.poll_send(cx, b"22")).await.unwrap();
        let received = poll_fn(|cx| server.poll_recv(cx, &mut buf)).await;
        assert_eq!(received.unwrap(), 2);
        client.try_send_to(b"333", &place.0).unwrap();
        server.readable().await.unwrap();
        assert_eq!(server.try_recv(&mut buf).unwrap(), 3);
        let e = server.try_recv_from(&mut buf).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn outside_a_runtime_is_an_error() {
    let place = Place::new();
    assert!(UnixListener::bind(&place.0).is_err());
    assert!(UnixDatagram::bind(&place.0).is_err());
    assert!(!place.0.exists());
    assert!(UnixStream::pair().is_err());
    assert!(UnixDatagram::unbound().is_err());
    assert!(now(UnixStream::connect(&place.0)).is_err());
}

#[test]
fn a_closed_runtime_ends_every_wait() {
    within(|| {
        let place = Place::new();
        let (listener, stream, _peer, datagram) = crate::run(async {
            let (a, b) = UnixStream::pair().unwrap();
            let listener = UnixListener::bind(&place.0).unwrap();
            (listener, a, b, UnixDatagram::unbound().unwrap())
        });
        assert_closed(&now(listener.accept()).unwrap_err());
        assert_closed(&now(stream.read(&mut [0; 4])).unwrap_err());
        assert_closed(&now(datagram.recv(&mut [0; 4])).unwrap_err());
    });
}
