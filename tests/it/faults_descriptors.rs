//! Descriptors that are not alone: two of them for one socket, one that is shut down or gone while it is
//! awaited, and one that the system cannot wait for.
#![cfg(unix)]
#![forbid(unsafe_code)]

use crate::support::{own_pair, within};
use heist::io::Async;
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{sleep, timeout};
use heist::yield_now;
use std::fs::File;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(10);

fn again(stream: &TcpStream) -> TcpStream {
    let descriptor = stream.as_fd().try_clone_to_owned().unwrap();
    TcpStream::try_from(descriptor).unwrap()
}

/// Two descriptors of one socket are registered, each with waiters. Both are told. Then one is dropped,
/// while the socket stays open by the other: that one works on, and the next descriptor that has the number
/// of the first gets none of its events.
#[test]
fn two_descriptors_of_one_socket() {
    within(|| {
        crate::support::run(async {
            let (client, server) = own_pair().await;
            let twin = again(&server);
            let waits = heist::spawn(async move {
                twin.readable().await.unwrap();
                twin
            });
            yield_now().await;
            client.write_all(b"x").await.unwrap();
            server.readable().await.unwrap();
            let twin = timeout(LIMIT, waits).await.unwrap().unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
            // Somebody waits by one while the other goes.
            let waits = heist::spawn(async move { server.read(&mut [0; 8]).await });
            yield_now().await;
            drop(twin);
            let (other, silent) = own_pair().await;
            let quiet = timeout(SHORT, silent.readable()).await;
            client.write_all(b"y").await.unwrap();
            assert_eq!(timeout(LIMIT, waits).await.unwrap().unwrap().unwrap(), 1);
            assert!(quiet.is_err(), "an event of another descriptor");
            assert!(timeout(SHORT, silent.readable()).await.is_err());
            drop(other);
            timeout(LIMIT, silent.readable()).await.unwrap().unwrap();
        });
    });
}

/// A socket is shut down by another descriptor of it while it is read, and while it is accepted from:
/// whoever waits is told.
#[test]
fn a_socket_that_is_shut_down_elsewhere() {
    within(|| {
        crate::support::run(async {
            let (client, server) = own_pair().await;
            let twin = std::net::TcpStream::from(server.as_fd().try_clone_to_owned().unwrap());
            let reads = heist::spawn(async move { server.read(&mut [0; 8]).await });
            yield_now().await;
            twin.shutdown(Shutdown::Both).unwrap();
            assert_eq!(timeout(LIMIT, reads).await.unwrap().unwrap().unwrap(), 0);
            assert_eq!(
                timeout(LIMIT, client.read(&mut [0; 8]))
                    .await
                    .unwrap()
                    .unwrap(),
                0
            );
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let twin = std::net::TcpStream::from(listener.as_fd().try_clone_to_owned().unwrap());
            let accepts = heist::spawn(async move { listener.accept().await.map(drop) });
            yield_now().await;
            // Only some systems let go of a listener like that; none may lose its mind.
            if twin.shutdown(Shutdown::Both).is_ok() {
                let ended = timeout(LIMIT, accepts).await.unwrap().unwrap();
                assert!(ended.is_err());
            }
        });
    });
}

/// A registered descriptor is taken out of the runtime, used elsewhere, and registered again: with the
/// same runtime and with another one.
#[test]
fn a_descriptor_comes_and_goes() {
    within(|| {
        let socket = crate::support::run(async {
            let (client, mut server) = own_pair().await;
            for n in 0..20_u8 {
                let descriptor = OwnedFd::from(server);
                let mut plain = std::net::TcpStream::from(descriptor);
                plain.set_nonblocking(false).unwrap();
                client.write_all(&[n, n]).await.unwrap();
                let mut byte = [0];
                plain.read_exact(&mut byte).unwrap();
                server = TcpStream::try_from(OwnedFd::from(plain)).unwrap();
                let mut rest = [0; 8];
                assert_eq!(
                    timeout(LIMIT, server.read(&mut rest))
                        .await
                        .unwrap()
                        .unwrap(),
                    1
                );
                assert_eq!((byte[0], rest[0]), (n, n));
            }
            client.write_all(b"z").await.unwrap();
            OwnedFd::from(server)
        });
        crate::support::run(async {
            let server = TcpStream::try_from(socket).unwrap();
            assert_eq!(
                timeout(LIMIT, server.read(&mut [0; 8]))
                    .await
                    .unwrap()
                    .unwrap(),
                1
            );
            assert_eq!(
                timeout(LIMIT, server.read(&mut [0; 8]))
                    .await
                    .unwrap()
                    .unwrap(),
                0
            );
        });
    });
}

/// A socket is dropped by one task while others wait for its twin, for a thousand rounds, with numbers
/// that are used again at once.
#[test]
fn numbers_are_used_again_under_waiters() {
    within(|| {
        crate::support::run(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for n in 0..300_u32 {
                let twin = socket.as_fd().try_clone_to_owned().unwrap();
                let twin = UdpSocket::try_from(twin).unwrap();
                let waits = heist::spawn(async move { twin.readable().await });
                if n % 3 == 0 {
                    yield_now().await;
                }
                sender.send_to(&n.to_ne_bytes(), address).await.unwrap();
                if n % 2 == 0 {
                    timeout(LIMIT, waits).await.unwrap().unwrap().unwrap();
                } else {
                    drop(waits.cancel().await);
                }
                let mut buffer = [0; 8];
                let got = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap();
                assert_eq!((got.unwrap(), &buffer[..4]), (4, &n.to_ne_bytes()[..]));
            }
            sleep(SHORT).await;
        });
    });
}

/// A plain file and a folder cannot be waited for: an error, and nothing is left of the attempt.
#[test]
fn what_cannot_be_waited_for() {
    within(|| {
        crate::support::run(async {
            let file = File::open(std::env::current_exe().unwrap()).unwrap();
            assert!(Async::new(file).is_err());
            let folder = File::open("/").unwrap();
            assert!(Async::new(folder).is_err());
            let (client, server) = own_pair().await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 1);
        });
    });
}
