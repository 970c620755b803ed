//! From names to socket addresses.
//!
//! Addresses and literals resolve in the call; only names that the system has to look up go to the
//! blocking pool.

#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::iter::FusedIterator;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::JoinHandle;

/// Resolves a host name, or anything else that stands for addresses.
///
/// A name is looked up by the system's resolver on the blocking pool. A literal address is parsed
/// in the call and never touches the pool.
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// for addr in heist::net::lookup_host("localhost:80").await? {
///     assert_eq!(addr.port(), 80);
/// }
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// What the resolver says; `InvalidInput` for a string without a port; an error where a name has to
/// be looked up on a thread that is in no runtime, or in a closed one.
///
/// # Cancel safety
///
/// Dropping the future gives up the answer. A look-up that has begun runs to its end on its thread.
pub async fn lookup_host<A: ToSocketAddrs>(host: A) -> io::Result<SocketAddrs> {
    host.resolve(sealed::Seal).await
}

/// What can be given where a function wants an address.
///
/// | type | example |
/// |---|---|
/// | `SocketAddr`, `SocketAddrV4`, `SocketAddrV6`, slices and arrays of `SocketAddr` | `SocketAddr::from(([127, 0, 0, 1], 80))` |
/// | `(IpAddr, u16)`, `(Ipv4Addr, u16)`, `(Ipv6Addr, u16)` | `(Ipv4Addr::LOCALHOST, 80)` |
/// | `&str`, `String` with a port | `"example.org:80"`, `"[::1]:80"` |
/// | `(&str, u16)`, `(String, u16)` | `("example.org", 80)` |
///
/// and references to these. The trait is sealed: it has no method for users.
///
/// # Examples
///
/// ```
/// use heist::net::{lookup_host, ToSocketAddrs};
///
/// async fn first(host: impl ToSocketAddrs) -> Option<std::net::SocketAddr> {
///     lookup_host(host).await.ok()?.next()
/// }
///
/// heist::run(async {
///     let addr = first(("127.0.0.1", 80)).await;
///     assert_eq!(addr, Some(([127, 0, 0, 1], 80).into()));
/// });
/// ```
pub trait ToSocketAddrs {
    #[doc(hidden)]
    fn resolve(&self, _: sealed::Seal) -> Resolving;
}

pub(crate) mod sealed {
    /// Keeps the hidden methods of public traits to this crate.
    #[derive(Debug)]
    pub struct Seal;
}

/// Resolves `host` for the other files of this module.
pub(super) fn resolve<A: ToSocketAddrs + ?Sized>(host: &A) -> Resolving {
    host.resolve(sealed::Seal)
}

/// The addresses that a name stands for. Made by [`lookup_host`].
///
/// # Examples
///
/// ```
/// # heist::run(async {
/// let mut addrs = heist::net::lookup_host("127.0.0.1:80").await?;
/// assert_eq!(addrs.next().map(|a| a.port()), Some(80));
/// assert_eq!(addrs.next(), None);
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SocketAddrs {
    repr: Repr,
}

#[derive(Clone, Debug)]
enum Repr {
    One(Option<SocketAddr>),
    Many(std::vec::IntoIter<SocketAddr>),
}

impl SocketAddrs {
    fn one(addr: SocketAddr) -> SocketAddrs {
        SocketAddrs {
            repr: Repr::One(Some(addr)),
        }
    }

    fn many(addrs: Vec<SocketAddr>) -> SocketAddrs {
        SocketAddrs {
            repr: Repr::Many(addrs.into_iter()),
        }
    }
}

impl Iterator for SocketAddrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match &mut self.repr {
            Repr::One(addr) => addr.take(),
            Repr::Many(addrs) => addrs.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match &self.repr {
            Repr::One(addr) => usize::from(addr.is_some()),
            Repr::Many(addrs) => addrs.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for SocketAddrs {}
impl FusedIterator for SocketAddrs {}

/// A resolution under way. Owns all it needs.
#[derive(Debug)]
#[doc(hidden)]
pub struct Resolving {
    step: Step,
}

enum Step {
    Known(Option<io::Result<SocketAddrs>>),
    /// Starts at the first poll, so that a future that is never polled costs the pool nothing.
    Name(Option<(Box<str>, u16)>),
    Pool(JoinHandle<io::Result<Vec<SocketAddr>>>),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Known(known) => f.debug_tuple("Known").field(known).finish(),
            Step::Name(name) => f.debug_tuple("Name").field(name).finish(),
            Step::Pool(_) => f.write_str("Pool"),
        }
    }
}

impl Resolving {
    fn known(addrs: io::Result<SocketAddrs>) -> Resolving {
        Resolving {
            step: Step::Known(Some(addrs)),
        }
    }

    fn name(name: &str, port: u16) -> Resolving {
        Resolving {
            step: Step::Name(Some((name.into(), port))),
        }
    }
}

impl Future for Resolving {
    type Output = io::Result<SocketAddrs>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.step {
                Step::Known(known) => {
                    let known = known.take();
                    return Poll::Ready(known.expect("polled after it was ready"));
                }
                Step::Name(name) => {
                    let (name, port) = name.take().expect("left at once");
                    self.step = match start(name, port) {
                        Ok(lookup) => Step::Pool(lookup),
                        Err(e) => Step::Known(Some(Err(e))),
                    };
                }
                Step::Pool(lookup) => {
                    let addrs = match ready!(Pin::new(lookup).poll(cx)) {
                        Ok(addrs) => addrs.map(SocketAddrs::many),
                        Err(e) if e.is_closed() => Err(heist_io::closed_error()),
                        Err(e) => Err(io::Error::other(format!("name resolution failed: {e}"))),
                    };
                    self.step = Step::Known(None);
                    return Poll::Ready(addrs);
                }
            }
        }
    }
}

/// Sends a look-up to the blocking pool.
fn start(name: Box<str>, port: u16) -> io::Result<JoinHandle<io::Result<Vec<SocketAddr>>>> {
    // Only asked for its error: `spawn_blocking` panics where there is no runtime.
    crate::context::driver()?;
    Ok(crate::spawn_blocking(move || {
        let addrs = std::net::ToSocketAddrs::to_socket_addrs(&(&*name, port))?;
        Ok(addrs.collect())
    }))
}

/// Splits `host:port`, as the standard library does.
fn split_port(s: &str) -> io::Result<(&str, u16)> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let (host, port) = s
        .rsplit_once(':')
        .ok_or_else(|| invalid("an address as a string needs a port, as in \"localhost:80\""))?;
    let port = port
        .parse()
        .map_err(|_| invalid("the port of an address must be a number below 65536"))?;
    Ok((host, port))
}

impl ToSocketAddrs for SocketAddr {
    fn resolve(&self, _: sealed::Seal) -> Resolving {
        Resolving::known(Ok(SocketAddrs::one(*self)))
    }
}

/// Kinds of address that turn into a `SocketAddr` in the call.
macro_rules! direct {
    ($($type:ty),*) => {$(
        impl ToSocketAddrs for $type {
            fn resolve(&self, _: sealed::Seal) -> Resolving {
                Resolving::known(Ok(SocketAddrs::one(SocketAddr::from(*self))))
            }
        }
    )*};
}
direct!(
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for [SocketAddr] {
    fn resolve(&self, _: sealed::Seal) -> Resolving {
        Resolving::known(Ok(SocketAddrs::many(self.to_vec())))
    }
}

impl<const N: usize> ToSocketAddrs for [SocketAddr; N] {
    fn resolve(&self, seal: sealed::Seal) -> Resolving {
        self.as_slice().resolve(seal)
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn resolve(&self, seal: sealed::Seal) -> Resolving {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(ip) => (ip, port).resolve(seal),
            Err(_) => Resolving::name(host, port),
        }
    }
}

impl ToSocketAddrs for (String, u16) {
    fn resolve(&self, seal: sealed::Seal) -> Resolving {
        (self.0.as_str(), self.1).resolve(seal)
    }
}

impl ToSocketAddrs for str {
    fn resolve(&self, seal: sealed::Seal) -> Resolving {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return addr.resolve(seal);
        }
        match split_port(self) {
            Ok((host, port)) => Resolving::name(host, port),
            Err(e) => Resolving::known(Err(e)),
        }
    }
}

impl ToSocketAddrs for String {
    fn resolve(&self, seal: sealed::Seal) -> Resolving {
        self.as_str().resolve(seal)
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn resolve(&self, seal: sealed::Seal) -> Resolving {
        (**self).resolve(seal)
    }
}
