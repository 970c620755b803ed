#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::future::{IntoFuture, pending, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant as StdInstant};

use ::hyper::body::{Bytes, Incoming};
use ::hyper::client::conn::http1::{SendRequest, handshake};
use ::hyper::rt::{Executor, Read, ReadBuf, Sleep, Timer, Write};
use ::hyper::service::service_fn;
use ::hyper::{Request, Response};
use axum::Router;
use axum::routing::get;
use futures::channel::{mpsc, oneshot};
use futures::io::{AsyncReadExt, AsyncWriteExt, Cursor};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};

use super::rt::{FuturesIo, HeistExecutor, HeistIo, HeistTimer};
use super::serve;
use crate::io::testing::{poll_once, run};
use crate::net::{TcpListener, TcpStream};
use crate::{JoinHandle, spawn};

type Client = SendRequest<Empty<Bytes>>;

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// hyper's client on a new connection.
async fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = handshake(HeistIo::new(stream)).await.unwrap();
    HeistExecutor::new().execute(connection);
    client
}

/// The text that `path` is answered with, on a connection that stays open.
async fn ask(client: &mut Client, path: &str) -> ::hyper::Result<String> {
    let request = Request::get(path)
        .header("host", "here")
        .body(Empty::new())
        .unwrap();
    let body = client.send_request(request).await?.into_body();
    let bytes = body.collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Ready when the server has closed the connection.
async fn closed(client: &Client) {
    while !client.is_closed() {
        crate::yield_now().await;
    }
}

async fn path(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(request.uri().path().to_owned()))
}

/// A server that ends when the sender is dropped.
fn start<K: 'static>(
    server: serve::Serve<TcpListener, impl super::HttpService<K>, K>,
) -> (oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let (stop, stopped) = oneshot::channel();
    let server = server.with_graceful_shutdown(async { _ = stopped.await });
    (stop, spawn(server.into_future()))
}

#[test]
fn both_kinds_of_service_are_served_on_both_kinds_of_listener() {
    run(|| async {
        let (tcp, address) = listener().await;
        let router = Router::new().route("/tower", get(|| async { "/tower" }));
        let (_stop, _server) = start(serve(tcp, router));
        let mut client = connect(address).await;
        for _ in 0..3 {
            assert_eq!(ask(&mut client, "/tower").await.unwrap(), "/tower");
        }
        #[cfg(unix)]
        {
            use crate::net::unix::{UnixListener, UnixStream};
            let place = std::env::temp_dir().join(format!("heist-serve-{}", std::process::id()));
            let unix = UnixListener::bind(&place).unwrap();
            let server = spawn(serve(unix, service_fn(path)).into_future());
            let stream = UnixStream::connect(&place).await.unwrap();
            std::fs::remove_file(&place).unwrap();
            let (mut client, connection) = handshake(HeistIo::new(stream)).await.unwrap();
            HeistExecutor::new().execute(connection);
            assert_eq!(ask(&mut client, "/hyper").await.unwrap(), "/hyper");
            server.abort();
        }
    });
}

/// The signal comes while a response is being made. Nobody may connect any more, and the response
/// must go out before the server is done.
#[test]
fn a_graceful_end_refuses_the_new_and_finishes_the_old() {
    run(|| async {
        let (tcp, address) = listener().await;
        let (started, mut starts) = mpsc::channel(1);
        let (go, gone) = oneshot::channel::<()>();
        let gone = futures::FutureExt::shared(gone);
        let service = service_fn(move |_: Request<Incoming>| {
            let (mut started, gone) = (started.clone(), gone.clone());
            async move {
                started.send(()).await.unwrap();
                _ = gone.await;
                Ok::<_, Infallible>(Response::new("the last".to_owned()))
            }
        });
        let (stop, server) = start(serve(tcp, service));
        let mut client = connect(address).await;
        let answer = spawn(async move { ask(&mut client, "/").await });
        starts.next().await.unwrap();

        drop(stop);
        while TcpStream::connect(address).await.is_ok() {
            crate::yield_now().await;
        }
        assert!(!server.is_finished());
        drop(go);
        assert_eq!(answer.await.unwrap().unwrap(), "the last");
        server.await.unwrap().unwrap();
    });
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    run(|| async {
        let (tcp, address) = listener().await;
        let (stop, server) = start(serve(tcp, service_fn(path)));
        let fresh = TcpStream::connect(address).await.unwrap();
        let mut used = connect(address).await;
        // Answered after `fresh` was accepted, so both are connections of the server by now.
        assert_eq!(ask(&mut used, "/a").await.unwrap(), "/a");

        drop(stop);
        server.await.unwrap().unwrap();
        assert_eq!(fresh.read(&mut [0; 1]).await.unwrap(), 0);
        closed(&used).await;
    });
}

/// Counts itself out.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn what_outlasts_the_drain_timeout_is_cut_and_reported() {
    run(|| async {
        let (tcp, address) = listener().await;
        let (started, mut starts) = mpsc::channel(1);
        let held = Arc::new(AtomicUsize::new(1));
        let count = held.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let (mut started, held) = (started.clone(), Held(count.clone()));
            async move {
                started.send(()).await.unwrap();
                pending::<()>().await;
                drop(held);
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        let server = serve(tcp, service).drain_timeout(Duration::from_millis(20));
        let (stop, server) = start(server);
        let mut client = connect(address).await;
        let answer = spawn(async move { ask(&mut client, "/").await });
        starts.next().await.unwrap();

        drop(stop);
        let error = server.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            error.to_string().starts_with("1 connections were cut"),
            "{error}"
        );
        assert!(answer.await.unwrap().unwrap_err().is_incomplete_message());
        assert_eq!(
            held.load(Ordering::SeqCst),
            0,
            "the handler's future is gone"
        );
    });
}

#[test]
fn dropping_the_server_closes_its_listener_and_idle_connections() {
    run(|| async {
        let (tcp, address) = listener().await;
        let server = spawn(serve(tcp, service_fn(path)).into_future());
        let mut client = connect(address).await;
        assert_eq!(ask(&mut client, "/a").await.unwrap(), "/a");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        closed(&client).await;
        TcpStream::connect(address).await.unwrap_err();
    });
}

#[test]
fn errors_and_panics_end_their_connection_alone() {
    run(|| async {
        let (tcp, address) = listener().await;
        let service = service_fn(|request: Request<Incoming>| async move {
            match request.uri().path() {
                "/error" => Err("no".to_owned()),
                "/panic" => panic!("expected by the test"),
                path => Ok(Response::new(path.to_owned())),
            }
        });
        let (seen, mut errors) = mpsc::unbounded();
        let server = serve(tcp, service).on_connection_error(move |e| {
            seen.unbounded_send((e.is_user(), e.to_string())).unwrap();
        });
        let (_stop, _server) = start(server);
        for path in ["/error", "/panic"] {
            ask(&mut connect(address).await, path).await.unwrap_err();
        }
        assert_eq!(
            ask(&mut connect(address).await, "/ok").await.unwrap(),
            "/ok"
        );
        let (is_user, text) = errors.next().await.unwrap();
        assert!(is_user, "{text}");
    });
}

#[test]
fn a_client_that_does_not_finish_its_head_is_closed_in_time() {
    run(|| async {
        let (tcp, address) = listener().await;
        let (seen, mut errors) = mpsc::unbounded();
        let server = serve(tcp, service_fn(path))
            .http1(|http1| {
                http1.header_read_timeout(Duration::from_millis(20));
            })
            .on_connection_error(move |e| seen.unbounded_send(e.is_timeout()).unwrap());
        let (_stop, _server) = start(server);
        let slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let mut all = Vec::new();
        AsyncReadExt::read_to_end(&mut &slow, &mut all)
            .await
            .unwrap();
        assert_eq!(errors.next().await, Some(true));
    });
}

/// hyper hands the connection over after an upgrade; the way back from its traits to those of
/// `futures-io` must carry it.
#[test]
fn an_upgraded_connection_speaks_futures_io() {
    run(|| async {
        let (tcp, address) = listener().await;
        let service = service_fn(|request: Request<Incoming>| async move {
            drop(spawn(async move {
                let upgraded = ::hyper::upgrade::on(request).await.unwrap();
                let mut stream = FuturesIo::new(upgraded);
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word).await.unwrap();
                stream.close().await.unwrap();
            }));
            let response = Response::builder().status(101).header("upgrade", "echo");
            Ok::<_, Infallible>(response.body(String::new()).unwrap())
        });
        let (_stop, _server) = start(serve(tcp, service));
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nping";
        client.write_all(head).await.unwrap();
        let mut answer = Vec::new();
        AsyncReadExt::read_to_end(&mut client, &mut answer)
            .await
            .unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
        assert!(answer.ends_with(b"\r\n\r\nping"), "{answer:?}");
    });
}

/// Fails as often as it is told, then gives connections.
struct Failing {
    left: AtomicUsize,
    attempts: Arc<AtomicUsize>,
    error: fn() -> io::Error,
    tcp: TcpListener,
}

impl super::Listener for Failing {
    type Stream = TcpStream;

    async fn next(&self, seal: super::Seal) -> io::Result<TcpStream> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.left.load(Ordering::SeqCst) == 0 {
            return self.tcp.next(seal).await;
        }
        self.left.fetch_sub(1, Ordering::SeqCst);
        Err((self.error)())
    }
}

async fn failing(times: usize, error: fn() -> io::Error) -> (Failing, Arc<AtomicUsize>) {
    let attempts = Arc::new(AtomicUsize::new(0));
    let listener = Failing {
        left: AtomicUsize::new(times),
        attempts: attempts.clone(),
        error,
        tcp: listener().await.0,
    };
    (listener, attempts)
}

#[test]
fn accepting_goes_on_after_a_failure_and_gives_up_on_a_broken_listener() {
    run(|| async {
        let (few, attempts) = failing(3, || io::ErrorKind::InvalidInput.into()).await;
        let address = few.tcp.local_addr().unwrap();
        let server = spawn(serve(few, service_fn(path)).into_future());
        assert_eq!(ask(&mut connect(address).await, "/a").await.unwrap(), "/a");
        // Three failures, the connection, and the one it waits for now.
        assert_eq!(attempts.load(Ordering::SeqCst), 5);
        server.abort();

        let (broken, attempts) = failing(usize::MAX, || io::ErrorKind::InvalidInput.into()).await;
        let error = serve(broken, service_fn(path)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(attempts.load(Ordering::SeqCst), 10);

        let (closed, attempts) = failing(usize::MAX, heist_io::closed_error).await;
        let error = serve(closed, service_fn(path)).await.unwrap_err();
        crate::io::testing::assert_closed(&error);
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
    });
}

#[cfg(unix)]
#[test]
fn a_socket_reads_behind_what_is_filled_and_writes_gathered() {
    run(|| async {
        let (a, b) = crate::net::unix::UnixStream::pair().unwrap();
        let (mut a, mut b) = (HeistIo::new(a), HeistIo::new(b));
        assert!(a.is_write_vectored());
        let pieces = [
            IoSlice::new(b"one"),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        let n = poll_fn(|cx| Pin::new(&mut a).poll_write_vectored(cx, &pieces))
            .await
            .unwrap();
        assert_eq!(n, 6);

        let mut memory = [MaybeUninit::uninit(); 8];
        let mut buf = ReadBuf::uninit(&mut memory);
        buf.unfilled().put_slice(b">>");
        poll_fn(|cx| Pin::new(&mut b).poll_read(cx, buf.unfilled()))
            .await
            .unwrap();
        assert_eq!(buf.filled(), b">>onetwo");
        // No room is no read: what comes next stays in the socket.
        poll_fn(|cx| Pin::new(&mut a).poll_write(cx, b"!"))
            .await
            .unwrap();
        poll_fn(|cx| Pin::new(&mut b).poll_read(cx, buf.unfilled()))
            .await
            .unwrap();
        assert_eq!(buf.filled(), b">>onetwo");
        poll_fn(|cx| Pin::new(&mut a).poll_shutdown(cx))
            .await
            .unwrap();
        let mut rest = Vec::new();
        FuturesIo::new(b).read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"!");
    });
}

#[test]
fn any_stream_is_read_in_pieces_and_to_its_end() {
    run(|| async {
        let all: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        let mut io = FuturesIo::new(Cursor::new(all.clone()));
        assert!(!io.is_write_vectored());
        let mut read = Vec::new();
        for room in [3, 20_000, 20_000, 20_000] {
            let mut memory = vec![0; room];
            let mut buf = ReadBuf::new(&mut memory);
            poll_fn(|cx| Pin::new(&mut io).poll_read(cx, buf.unfilled()))
                .await
                .unwrap();
            read.extend_from_slice(buf.filled());
        }
        assert_eq!(read, all);
        let mut memory = [0; 4];
        let mut buf = ReadBuf::new(&mut memory);
        poll_fn(|cx| Pin::new(&mut io).poll_read(cx, buf.unfilled()))
            .await
            .unwrap();
        assert!(buf.filled().is_empty());
    });
}

struct Foreign;

impl Future for Foreign {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Pending
    }
}

impl Sleep for Foreign {}

#[test]
fn a_timer_reuses_its_own_sleeps_and_replaces_others() {
    run(|| async {
        let timer = HeistTimer::new();
        let mut sleep = timer.sleep(Duration::from_secs(3600));
        assert!(poll_once(&mut sleep).is_pending());
        let before: *const dyn Sleep = &*sleep;
        timer.reset(&mut sleep, StdInstant::now() + Duration::from_millis(2));
        let after: *const dyn Sleep = &*sleep;
        assert!(std::ptr::addr_eq(before, after));
        sleep.await;

        let mut foreign: Pin<Box<dyn Sleep>> = Box::pin(Foreign);
        timer.reset(&mut foreign, StdInstant::now());
        foreign.await;
        timer
            .sleep_until(StdInstant::now() + Duration::from_millis(2))
            .await;
    });
}
