//! Two HTTP servers in one program: a plain hyper service, and an axum `Router`.
//!
//! ```sh
//! cargo run --release -p heist --example http --features hyper
//! ```
//!
//! The first listens on 127.0.0.1:8080, the second on 127.0.0.1:8081, or on the two addresses given
//! as arguments:
//!
//! ```sh
//! curl http://127.0.0.1:8080/
//! curl http://127.0.0.1:8081/hello/ann
//! curl http://127.0.0.1:8081/tasks
//! ```
//!
//! With `--self-test` they take free ports, are asked by hyper's client, and end gracefully.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use heist::hyper::rt::{HeistExecutor, HeistIo};
use heist::hyper::serve;
use heist::net::{TcpListener, TcpStream};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("--self-test") {
        return heist::run(self_test());
    }
    let first = first.unwrap_or("127.0.0.1:8080".into());
    let second = arguments.next().unwrap_or("127.0.0.1:8081".into());
    heist::run(async {
        let plain = TcpListener::bind(&*first).await?;
        let routed = TcpListener::bind(&*second).await?;
        println!("hyper on http://{}/", plain.local_addr()?);
        println!("axum  on http://{}/", routed.local_addr()?);
        // A server is a future like any other. One runs as a task, the other right here.
        let plain = heist::spawn(serve(plain, service_fn(answer)).into_future());
        serve(routed, router()).await?;
        plain.await??;
        Ok(())
    })
}

// ---- the plain service: a function from request to response ----

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => (StatusCode::OK, "hello from hyper on heist\n"),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "there is nothing here\n"),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET is understood\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    Ok(response)
}

// ---- the router: axum's handlers, on the same adapters ----

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello from axum on heist\n" }))
        .route(
            "/hello/{name}",
            get(|Path(name): Path<String>| async move { format!("hello, {name}\n") }),
        )
        .route("/slow", get(slow))
        .route("/tasks", get(tasks))
}

/// What the program is doing right now. A real one would not show this to everybody.
async fn tasks() -> String {
    format!("{}\n", heist::Handle::current().dump())
}

/// Handlers use heist's timers, sockets and tasks like any other future.
async fn slow() -> &'static str {
    heist::sleep(Duration::from_millis(100)).await;
    "that took a while\n"
}

// ---- the program as its own client ----

async fn self_test() -> Result<(), AnyError> {
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let routed = TcpListener::bind("127.0.0.1:0").await?;
    let (plain_at, routed_at) = (plain.local_addr()?, routed.local_addr()?);

    // Each server ends when its signal does, which here is when the other end is dropped.
    let (stop_plain, plain_stopped) = futures::channel::oneshot::channel::<()>();
    let (stop_routed, routed_stopped) = futures::channel::oneshot::channel::<()>();
    let plain = heist::spawn(
        serve(plain, service_fn(answer))
            .with_graceful_shutdown(async { _ = plain_stopped.await })
            .into_future(),
    );
    let routed = heist::spawn(
        serve(routed, router())
            .with_graceful_shutdown(async { _ = routed_stopped.await })
            .drain_timeout(Duration::from_secs(5))
            .into_future(),
    );

    for (address, path, status, text) in [
        (plain_at, "/", StatusCode::OK, "hello from hyper on heist\n"),
        (
            plain_at,
            "/nowhere",
            StatusCode::NOT_FOUND,
            "there is nothing here\n",
        ),
        (routed_at, "/", StatusCode::OK, "hello from axum on heist\n"),
        (routed_at, "/hello/ann", StatusCode::OK, "hello, ann\n"),
        (routed_at, "/nowhere", StatusCode::NOT_FOUND, ""),
    ] {
        let (got, body) = ask(address, path).await?;
        assert_eq!((got, &*body), (status, text), "{path}");
        println!("GET http://{address}{path}: {got}");
    }

    // A graceful end lets an answer that is being made go out.
    let slow = heist::spawn(ask(routed_at, "/slow"));
    heist::sleep(Duration::from_millis(30)).await;
    let (got, dump) = ask(routed_at, "/tasks").await?;
    assert_eq!(got, StatusCode::OK);
    assert!(dump.contains(": running, "), "who is asked runs: {dump}");
    println!("{dump}");
    drop((stop_plain, stop_routed));
    plain.await??;
    routed.await??;
    assert_eq!(
        slow.await??,
        (StatusCode::OK, "that took a while\n".to_owned())
    );
    println!("both servers ended, after their last answer");
    Ok(())
}

/// One request with hyper's client, on a connection of its own.
async fn ask(address: SocketAddr, path: &str) -> Result<(StatusCode, String), AnyError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(HeistIo::new(stream)).await?;
    HeistExecutor::new().execute(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .body(Full::<Bytes>::default())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}
