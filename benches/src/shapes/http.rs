//! An HTTP/1.1 server: hyper on the runtime's sockets, one task per connection, a short fixed answer.
//!
//! hyper gets no timer, so no runtime pays for one per request.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::load::Asked;
use crate::meter::Sample;
use crate::peer::Http;
use crate::shapes::served::{each_connection, served};

/// Serves `requests` requests.
///
/// # Errors
///
/// Those of the sockets.
pub fn http<P: Http>(peer: &mut P, asked: Asked, requests: u64) -> io::Result<Sample> {
    let inside = peer.inside();
    served(peer, asked, requests, move |listener| {
        each_connection::<P, _, _>(inside, listener, asked.connections, |stream| {
            connection(P::io(stream))
        })
    })
}

async fn connection<I>(io: I) -> io::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    http1::Builder::new()
        .serve_connection(io, service_fn(hello))
        .await
        .map_err(io::Error::other)
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(
        b"Hello, World!",
    ))))
}
