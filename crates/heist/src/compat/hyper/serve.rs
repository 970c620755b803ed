//! [`serve()`]: a listener and a service make a server.
//!
//! The future of [`Serve`] accepts and spawns one task per connection. It ends in this order:
//!
//! 1. The signal comes, or accepting fails for good.
//! 2. The listener is closed: who connects from now on is refused.
//! 3. Every connection is asked to finish: an idle one closes, another closes after its response.
//! 4. The future waits for them; where a drain timeout was set, what is open then is cut.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::hyper::body::{Body, Incoming};
use ::hyper::rt::{Read, Write};
use ::hyper::server::conn::http1;
use futures_io::AsyncWrite;
use heist_core::Spawn;

use super::drain::{Connection, Drain, Phase};
use super::rt::{HeistIo, HeistTimer};
use super::service::{BoxError, HttpService};
use crate::handle::spawn_at;
use crate::net::addr::sealed::Seal;
use crate::net::{StreamSocket, TcpListener, TcpStream};
use crate::time::{Closed, sleep, timeout};

/// The pause after the first failed `accept`. Shortages are dealt with by the listener itself, so
/// this is for what it cannot explain, such as a connection that could not be registered.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// How many failures in a row, with pauses that double (2.5 s in all), mean that the listener is
/// broken.
const ACCEPT_ATTEMPTS: u32 = 10;

/// Serves HTTP/1.1 on a listener, each connection in a task of its own.
///
/// The service is tower's or hyper's (see [`HttpService`]), so an axum `Router` fits, and so does a
/// `service_fn`. It is cloned for each connection. Await what this returns, or spawn its
/// `into_future()`; without [`with_graceful_shutdown`](Serve::with_graceful_shutdown) it goes on
/// until accepting fails.
///
/// Timeouts work: the connections have a [`HeistTimer`], and hyper gives a client 30 seconds to send
/// the head of a request, or the next request on a connection that is kept alive. Upgrades (web
/// sockets) work.
///
/// ```
/// use axum::{Router, routing::get};
/// use heist::net::{TcpListener, TcpStream};
/// use futures::io::AsyncReadExt;
///
/// heist::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let address = listener.local_addr()?;
///     let (stop, stopped) = futures::channel::oneshot::channel::<()>();
///     let router = Router::new().route("/", get(|| async { "hello" }));
///     let server = heist::spawn(
///         heist::hyper::serve(listener, router)
///             .with_graceful_shutdown(async move { _ = stopped.await })
///             .into_future(),
///     );
///
///     let mut client = TcpStream::connect(address).await?;
///     client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await?;
///     let mut answer = String::new();
///     client.read_to_string(&mut answer).await?;
///     assert!(answer.ends_with("hello"));
///
///     drop(stop);
///     server.await?
/// })
/// # .unwrap();
/// ```
///
/// # Errors
///
/// - What `accept` answered, if it went on failing over ten attempts with growing pauses, or if the
///   runtime was closed. The connections are drained before.
/// - `TimedOut` if connections had to be cut at the end of the drain timeout.
///
/// Errors of a single connection end that connection alone; see
/// [`on_connection_error`](Serve::on_connection_error).
///
/// # Panics
///
/// The future panics where there is no runtime. A panic of the service ends its connection alone.
///
/// # Cancel safety
///
/// Dropping the future closes the listener and asks the connections to finish, without waiting for
/// them.
#[track_caller]
pub fn serve<L, S, Kind>(listener: L, service: S) -> Serve<L, S, Kind>
where
    L: Listener,
    S: HttpService<Kind>,
{
    let mut http1 = http1::Builder::new();
    http1.timer(HeistTimer::new());
    Serve {
        listener,
        service,
        http1,
        signal: None,
        drain_timeout: None,
        on_error: None,
        site: Location::caller(),
        kind: PhantomData,
    }
}

/// A server that has not started yet. Made by [`serve()`]; see there.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<L, S, Kind> {
    listener: L,
    service: S,
    http1: http1::Builder,
    signal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    drain_timeout: Option<Duration>,
    on_error: Option<Arc<OnError>>,
    /// Where `serve` was called: the connections' tasks go by it in reports.
    site: &'static Location<'static>,
    kind: PhantomData<fn() -> Kind>,
}

type OnError = dyn Fn(&::hyper::Error) + Send + Sync;

impl<L, S, Kind> Serve<L, S, Kind> {
    /// Ends the server when `signal` does: no new connections, and the open ones may finish.
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::TcpListener, router: axum::Router) -> std::io::Result<()> {
    /// # let stopped = async {};
    /// heist::hyper::serve(listener, router)
    ///     .with_graceful_shutdown(stopped)
    ///     .await
    /// # }
    /// ```
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }

    /// Bounds how long the open connections may take to finish. Without it there is no bound.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn f(listener: heist::net::TcpListener, router: axum::Router) -> std::io::Result<()> {
    /// # let stopped = async {};
    /// heist::hyper::serve(listener, router)
    ///     .with_graceful_shutdown(stopped)
    ///     .drain_timeout(Duration::from_secs(10))
    ///     .await
    /// # }
    /// ```
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = Some(limit);
        self
    }

    /// Sets options of hyper's: timeouts, keep-alive, limits on headers.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn f(listener: heist::net::TcpListener, router: axum::Router) -> std::io::Result<()> {
    /// heist::hyper::serve(listener, router)
    ///     .http1(|http1| {
    ///         http1.header_read_timeout(Duration::from_secs(5)).max_headers(64);
    ///     })
    ///     .await
    /// # }
    /// ```
    pub fn http1(mut self, configure: impl FnOnce(&mut http1::Builder)) -> Self {
        configure(&mut self.http1);
        self
    }

    /// Calls `report` with the error of each connection that ends in one.
    ///
    /// Without it they are dropped: most tell of a client that went away. Those of the service are
    /// among them ([`is_user`](::hyper::Error::is_user)).
    ///
    /// ```no_run
    /// # async fn f(listener: heist::net::TcpListener, router: axum::Router) -> std::io::Result<()> {
    /// heist::hyper::serve(listener, router)
    ///     .on_connection_error(|e| eprintln!("a connection failed: {e}"))
    ///     .await
    /// # }
    /// ```
    pub fn on_connection_error(
        mut self,
        report: impl Fn(&::hyper::Error) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(report));
        self
    }
}

impl<L, S, Kind> IntoFuture for Serve<L, S, Kind>
where
    L: Listener,
    S: HttpService<Kind>,
    Kind: 'static,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Serve {
            listener,
            service,
            http1,
            mut signal,
            drain_timeout,
            on_error,
            site,
            kind: _,
        } = self;
        let mut service = Cloned {
            service,
            kind: PhantomData,
        };
        Box::pin(async move {
            let drain = Drain::new();
            let accepted = {
                let mut accepting = pin!(async {
                    loop {
                        let io = match next_connection(&listener).await {
                            Ok(stream) => HeistIo::new(stream),
                            Err(e) => break Err(e),
                        };
                        let http = http1.serve_connection(io, service.next()).with_upgrades();
                        let conduct = conduct(http, drain.connection(), on_error.clone());
                        drop(spawn_at(Spawn::at(site), conduct));
                    }
                });
                poll_fn(|cx| {
                    let signal = signal.as_mut().map(|signal| signal.as_mut().poll(cx));
                    if signal.is_some_and(|signal| signal.is_ready()) {
                        return Poll::Ready(Ok(()));
                    }
                    accepting.as_mut().poll(cx)
                })
                .await
            };
            drop(listener);
            drain.close();
            let drained = finish(&drain, drain_timeout).await;
            accepted.and(drained)
        })
    }
}

/// A service, and the way it is one. By `&mut`, so that nobody need be `Sync`.
struct Cloned<S, Kind> {
    service: S,
    kind: PhantomData<fn() -> Kind>,
}

impl<S: HttpService<Kind>, Kind> Cloned<S, Kind> {
    fn next(&mut self) -> S::Hyper {
        self.service.for_connection()
    }
}

/// Takes the next connection, and gives up on a listener that goes on failing.
async fn next_connection<L: Listener>(listener: &L) -> io::Result<L::Stream> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ACCEPT_ATTEMPTS {
        match listener.next(Seal).await {
            Err(e) if !is_closed(&e) => {}
            done => return done,
        }
        sleep(pause).await;
        pause *= 2;
    }
    listener.next(Seal).await
}

fn is_closed(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<Closed>())
}

/// Waits for the connections that are open.
async fn finish(drain: &Drain, limit: Option<Duration>) -> io::Result<()> {
    let Some(limit) = limit else {
        drain.drained().await;
        return Ok(());
    };
    if timeout(limit, drain.drained()).await.is_ok() {
        return Ok(());
    }
    // Not waited for: a handler that blocks its thread would make the limit none.
    match drain.cut() {
        0 => Ok(()),
        n => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{n} connections were cut: they had not finished after {limit:?}"),
        )),
    }
}

/// Leads one connection to its end.
async fn conduct<I, S>(
    http: http1::UpgradeableConnection<I, S>,
    mut connection: Connection,
    on_error: Option<Arc<OnError>>,
) where
    I: Read + Write + Unpin + Send + 'static,
    S: ::hyper::service::HttpService<Incoming>,
    S::Error: Into<BoxError>,
    S::ResBody: Body<Error: Into<BoxError>> + 'static,
{
    let mut http = pin!(http);
    let mut closing = false;
    let ended = poll_fn(|cx| {
        match connection.poll_phase(cx) {
            Phase::Closing if !closing => {
                closing = true;
                http.as_mut().graceful_shutdown();
            }
            Phase::Serving | Phase::Closing => {}
            Phase::Cut => return Poll::Ready(Ok(())),
        }
        http.as_mut().poll(cx)
    })
    .await;
    if let (Err(e), Some(report)) = (ended, on_error) {
        report(&e);
    }
}

/// A listener that [`serve()`] accepts from: [`TcpListener`], and `UnixListener` where there is one.
///
/// The trait is sealed: it has no method for users.
///
/// ```
/// fn fits(_: impl heist::hyper::Listener) {}
///
/// heist::run(async {
///     fits(heist::net::TcpListener::bind("127.0.0.1:0").await?);
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub trait Listener: Send + Sync + 'static {
    /// What it accepts.
    type Stream: StreamSocket + AsyncWrite + Unpin;

    #[doc(hidden)]
    fn next(&self, _: Seal) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self, _: Seal) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // hyper gathers what belongs together, so waiting for more would only delay answers. A
        // connection that refuses the option is dead, which its first read tells.
        drop(stream.set_nodelay(true));
        Ok(stream)
    }
}

#[cfg(unix)]
impl Listener for crate::net::unix::UnixListener {
    type Stream = crate::net::unix::UnixStream;

    async fn next(&self, _: Seal) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl<L, S, Kind> fmt::Debug for Serve<L, S, Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("graceful", &self.signal.is_some())
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}
