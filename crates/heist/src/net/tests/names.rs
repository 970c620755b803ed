#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use crate::io::testing::{now, run};
use crate::net::lookup_host;

/// Every literal form resolves at the first poll, on a thread without a runtime.
#[test]
fn literals_never_touch_the_pool() {
    let v4 = SocketAddr::from(([127, 0, 0, 1], 80));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
    let one = |addrs: std::io::Result<super::super::SocketAddrs>| {
        let addrs: Vec<_> = addrs.unwrap().collect();
        assert_eq!(addrs.len(), 1, "{addrs:?}");
        addrs[0]
    };
    assert_eq!(one(now(lookup_host(v4))), v4);
    assert_eq!(one(now(lookup_host(&v4))), v4);
    assert_eq!(one(now(lookup_host("127.0.0.1:80"))), v4);
    assert_eq!(one(now(lookup_host(String::from("[::1]:80")))), v6);
    assert_eq!(one(now(lookup_host(("127.0.0.1", 80)))), v4);
    assert_eq!(one(now(lookup_host((String::from("::1"), 80)))), v6);
    assert_eq!(one(now(lookup_host((Ipv4Addr::LOCALHOST, 80)))), v4);
    assert_eq!(one(now(lookup_host((Ipv6Addr::LOCALHOST, 80)))), v6);
    assert_eq!(
        one(now(lookup_host((IpAddr::from([127, 0, 0, 1]), 80)))),
        v4
    );
    let plain = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
    assert_eq!(one(now(lookup_host(plain))), v4);
    assert_eq!(now(lookup_host([v4, v6])).unwrap().len(), 2);
    assert_eq!(now(lookup_host(&[v4, v6][..])).unwrap().last(), Some(v6));
}

#[test]
fn a_string_without_a_port_is_invalid() {
    for host in ["localhost", "localhost:", "localhost:99999", ""] {
        let e = now(lookup_host(host)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{host:?}: {e}");
    }
}

#[test]
fn a_name_outside_a_runtime_is_an_error() {
    assert!(now(lookup_host("localhost:80")).is_err());
}

#[test]
fn a_name_is_looked_up() {
    let addrs: Vec<_> = run(|| async { lookup_host("localhost:80").await.unwrap().collect() });
    assert!(!addrs.is_empty());
    for addr in addrs {
        let addr: SocketAddr = addr;
        assert!(addr.ip().is_loopback() && addr.port() == 80, "{addr}");
    }
}
