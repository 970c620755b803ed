//! Fetch a few posts over HTTP: one after another, then all at once.
//!
//! ```sh
//! cargo run --release -p heist --example quickstart --features hyper
//! ```
//!
//! By itself the program starts a small JSON server on loopback and asks that. Give it a URL to ask
//! another one, which answers `/posts/1` with an object that has a `title`, and `/posts` with a list:
//!
//! ```sh
//! cargo run --release -p heist --example quickstart --features hyper -- http://127.0.0.1:8000
//! ```

use heist::hyper::rt::{HeistExecutor, HeistIo};
use heist::net::{TcpListener, TcpStream};
use heist::time::{Duration, Instant, sleep, timeout};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, header};
use serde_json::{Value, json};
use std::convert::Infallible;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A program calls `run` once. When it returns, every task, thread and socket of it is gone.
fn main() -> Result<(), AnyError> {
    heist::run(program())
}

/// An `async fn` is an ordinary function that may wait.
async fn program() -> Result<(), AnyError> {
    let server = match std::env::args().nth(1) {
        Some(url) => url.parse()?,
        None => start_server().await?,
    };
    println!("asking {server}\n");

    // One after another: each `.await` waits for its answer before the next question is asked.
    let start = Instant::now();
    for number in 1..=3 {
        let post = fetch(&server, &format!("/posts/{number}")).await?;
        println!("post {number}: {}", title(&post)?);
    }
    println!("one after another: {:?}\n", start.elapsed());

    // All at once: a task runs by itself from the moment it is spawned. Its handle is a future of
    // what it returns.
    let start = Instant::now();
    let tasks: Vec<_> = (1..=3)
        .map(|number| {
            let server = server.clone();
            heist::spawn(async move { fetch(&server, &format!("/posts/{number}")).await })
        })
        .collect();
    for (number, task) in (1..).zip(tasks) {
        // The first `?` is for a task that panicked or was cancelled, the second for its own error.
        let post = task.await??;
        println!("post {number}: {}", title(&post)?);
    }
    println!("all at once: {:?}\n", start.elapsed());

    let posts = fetch(&server, "/posts").await?;
    let count = posts.as_array().ok_or("`/posts` is not a list")?.len();
    println!("there are {count} posts\n");

    // A runtime is never entered twice. This is the mistake ...
    match heist::try_run(fetch(&server, "/posts/1")) {
        Ok(_) => unreachable!("we are inside `run`"),
        Err(refused) => println!("a nested call is refused:\n  {refused}\n"),
    }
    // ... and this is the right way: inside of `run`, a future is awaited.
    let post = fetch(&server, "/posts/1").await?;
    println!("with `.await` it works: {}", title(&post)?);
    Ok(())
}

fn title(post: &Value) -> Result<&str, AnyError> {
    post["title"]
        .as_str()
        .ok_or_else(|| format!("no title in {post}").into())
}

// ---- the client: hyper's, over our sockets ----

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many times a server may send us elsewhere.
const REDIRECTS: usize = 3;

/// Asks `server` for `path` and reads the answer as JSON.
async fn fetch(server: &Uri, path: &str) -> Result<Value, AnyError> {
    let mut path = path.to_owned();
    for _ in 0..=REDIRECTS {
        // Any future can be given a deadline.
        let response = timeout(PATIENCE, get(server, &path)).await??;
        if response.status().is_redirection() {
            let target = response
                .headers()
                .get(header::LOCATION)
                .ok_or("a redirect to nowhere")?;
            path = target.to_str()?.parse::<Uri>()?.path().to_owned();
            continue;
        }
        if response.status() != StatusCode::OK {
            return Err(format!("{path}: {}", response.status()).into());
        }
        let body = timeout(PATIENCE, response.into_body().collect()).await??;
        return Ok(serde_json::from_slice(&body.to_bytes())?);
    }
    Err(format!("{path}: redirected too often").into())
}

/// One request on a connection of its own.
async fn get(server: &Uri, path: &str) -> Result<Response<Incoming>, AnyError> {
    let host = server.host().ok_or("the URL names no host")?;
    let port = server.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(HeistIo::new(stream)).await?;
    // The connection does the reading and writing, in a task that ends when the answer has been
    // read and the sender is gone. Its errors come to the request as well.
    HeistExecutor::new().execute(connection);
    let request = Request::get(path)
        .header(header::HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

// ---- the server, for those who gave no URL ----

/// What the network would take between here and a real server.
const DISTANCE: Duration = Duration::from_millis(50);

const TITLES: [&str; 5] = [
    "How to crack a safe with one thread",
    "The queue that everybody stole from",
    "Asleep at the wheel: a timer's story",
    "Nobody wakes the lookout without a reason",
    "Leave the room as you found it",
];

/// Starts the server on a port that is free, and tells its address.
async fn start_server() -> Result<Uri, AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?).parse()?;
    // Without its handle the task goes on by itself; the end of `run` ends it.
    drop(heist::spawn(
        heist::hyper::serve(listener, service_fn(answer)).into_future(),
    ));
    Ok(url)
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    sleep(DISTANCE).await;
    let body = match request.uri().path() {
        "/posts" => Some((1..=TITLES.len()).filter_map(post).collect()),
        path => path
            .strip_prefix("/posts/")
            .and_then(|number| post(number.parse().ok()?)),
    };
    let mut response = Response::new(String::new());
    match body {
        Some(json) => {
            let kind = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            *response.body_mut() = json.to_string();
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

fn post(number: usize) -> Option<Value> {
    let title = TITLES.get(number.checked_sub(1)?)?;
    Some(json!({ "id": number, "title": title }))
}
