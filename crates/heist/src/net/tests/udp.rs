#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use crate::io::testing::{assert_closed, both, now, run, within};
use crate::net::UdpSocket;

async fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

#[test]
fn a_datagram_arrives_with_its_sender() {
    run(|| async {
        let (a, b) = (socket().await, socket().await);
        let mut buf = [0; 16];
        let to = b.local_addr().unwrap();
        let (received, sent) = both(b.recv_from(&mut buf), a.send_to(b"ping", to)).await;
        assert_eq!(sent.unwrap(), 4);
        assert_eq!(received.unwrap(), (4, a.local_addr().unwrap()));
        assert_eq!(&buf[..4], b"ping");
        let none: [SocketAddr; 0] = [];
        let e = a.send_to(b"ping", none).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    });
}

/// Several datagrams wait behind one event. A short one must not make the rest unreadable.
#[test]
fn every_datagram_behind_one_event_is_received() {
    run(|| async {
        let (a, b) = (socket().await, socket().await);
        a.connect(b.local_addr().unwrap()).await.unwrap();
        assert_eq!(a.peer_addr().unwrap(), b.local_addr().unwrap());
        for n in 0..20 {
            assert_eq!(a.send(&[n]).await.unwrap(), 1);
        }
        b.readable().await.unwrap();
        for n in 0..20 {
            let mut buf = [0; 1500];
            assert_eq!(b.try_recv(&mut buf).unwrap(), 1);
            assert_eq!(buf[0], n);
        }
        let e = b.try_recv(&mut [0; 4]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn every_way_to_send_and_receive_agrees() {
    run(|| async {
        let (a, b) = (socket().await, socket().await);
        let (from, to) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let mut buf = [0; 16];

        poll_fn(|cx| a.poll_send_to(cx, b"1", to)).await.unwrap();
        assert_eq!(b.peek_from(&mut buf).await.unwrap(), (1, from));
        assert_eq!(b.peek(&mut buf).await.unwrap(), 1);
        let recv = poll_fn(|cx| b.poll_recv_from(cx, &mut buf)).await;
        assert_eq!((recv.unwrap(), buf[0]), ((1, from), b'1'));

        a.connect(to).await.unwrap();
        poll_fn(|cx| a.poll_send(cx, b"2")).await.unwrap();
        let recv = poll_fn(|cx| b.poll_recv(cx, &mut buf)).await;
        assert_eq!((recv.unwrap(), buf[0]), (1, b'2'));

        a.try_send(b"3").unwrap();
        assert_eq!(b.recv(&mut buf).await.unwrap(), 1);
        poll_fn(|cx| a.poll_writable(cx)).await.unwrap();
        a.writable().await.unwrap();
        b.try_send_to(b"4", from).unwrap();
        poll_fn(|cx| a.poll_readable(cx)).await.unwrap();
        assert_eq!(a.try_recv_from(&mut buf).unwrap(), (1, to));
    });
}

/// Nobody listens at the peer: the refusal comes back as an error of `recv`. It must come once,
/// and the next `recv` must wait instead of using up the processor.
#[cfg(target_os = "linux")]
#[test]
fn a_refusal_is_reported_once() {
    run(|| async {
        let a = socket().await;
        let gone = socket().await.local_addr().unwrap();
        a.connect(gone).await.unwrap();
        a.send(b"anybody?").await.unwrap();
        let mut buf = [0; 4];
        let e = a.recv(&mut buf).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
        let mut next = std::pin::pin!(a.recv(&mut buf));
        for _ in 0..3 {
            let polled = poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
    });
}

#[test]
fn options_are_what_was_set() {
    run(|| async {
        let a = socket().await;
        a.set_broadcast(true).unwrap();
        assert!(a.broadcast().unwrap());
        a.set_ttl(42).unwrap();
        assert_eq!(a.ttl().unwrap(), 42);
        a.set_multicast_loop_v4(false).unwrap();
        assert!(!a.multicast_loop_v4().unwrap());
        a.set_multicast_ttl_v4(3).unwrap();
        assert_eq!(a.multicast_ttl_v4().unwrap(), 3);
        assert!(a.take_error().unwrap().is_none());
        let unicast = a.join_multicast_v4(Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
        assert!(unicast.is_err());
    });
}

#[test]
fn a_socket_can_move_through_the_standard_library() {
    run(|| async {
        let std_socket = socket().await.into_std().unwrap();
        let addr = std_socket.local_addr().unwrap();
        let back = UdpSocket::try_from(std_socket).unwrap();
        assert_eq!(back.local_addr().unwrap(), addr);
    });
}

#[test]
fn outside_a_runtime_is_an_error() {
    assert!(now(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).is_err());
}

#[test]
fn a_closed_runtime_ends_every_wait() {
    within(|| {
        let socket = crate::run(socket());
        for _ in 0..2 {
            assert_closed(&now(socket.recv(&mut [0; 4])).unwrap_err());
            assert_closed(&now(socket.readable()).unwrap_err());
            assert_closed(&socket.try_recv(&mut [0; 4]).unwrap_err());
        }
    });
}
