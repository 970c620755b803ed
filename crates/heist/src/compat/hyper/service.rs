//! What [`serve`](super::serve()) can serve.
//!
//! There are two traits called `Service` in use, and each has its users: tower's (axum's `Router`,
//! every middleware) and hyper's own (`service_fn`). Both fit, through [`HttpService`]. Since a type
//! might one day have both, the trait has a parameter that names the way taken; the compiler finds
//! it by itself.

#![forbid(unsafe_code)]

use std::error::Error;
use std::future::Future;

use ::hyper::body::{Body, Incoming};
use ::hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The way of a type with tower's `Service`.
#[derive(Debug)]
pub enum ViaTower {}

/// The way of a type with hyper's `Service`.
#[derive(Debug)]
pub enum ViaHyper {}

/// A service that [`serve`](super::serve()) can serve: tower's or hyper's, `Clone` and `Send`.
///
/// It is implemented for all that fit, and not meant to be implemented otherwise. `Kind` is
/// [`ViaTower`] or [`ViaHyper`], and found by the compiler.
///
/// ```
/// use heist::hyper::HttpService;
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
/// use std::convert::Infallible;
///
/// fn fits<Kind>(_: impl HttpService<Kind>) {}
///
/// fits(service_fn(|_: Request<Incoming>| async {
///     Ok::<_, Infallible>(Response::new("hello".to_owned()))
/// }));
/// fits(axum::Router::new());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served",
    note = "a service is `Clone + Send + 'static` and implements `tower_service::Service` or \
            `hyper::service::Service` for `Request<Incoming>`, with a future that is `Send`"
)]
pub trait HttpService<Kind>: Send + 'static {
    /// The same service with hyper's trait.
    type Hyper: ::hyper::service::Service<
            Request<Incoming>,
            Response = Response<Self::Body>,
            Error = Self::Error,
            Future = Self::Future,
        > + Send
        + 'static;
    /// The body of its responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    /// Its error, which ends the connection.
    type Error: Into<BoxError>;
    /// What a call gives.
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;

    /// A service for one more connection.
    #[doc(hidden)]
    fn for_connection(&self) -> Self::Hyper;
}

impl<S, B> HttpService<ViaTower> for S
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    <TowerToHyperService<S> as ::hyper::service::Service<Request<Incoming>>>::Future: Send,
{
    type Hyper = TowerToHyperService<S>;
    type Body = B;
    type Error = S::Error;
    type Future = <TowerToHyperService<S> as ::hyper::service::Service<Request<Incoming>>>::Future;

    fn for_connection(&self) -> Self::Hyper {
        TowerToHyperService::new(self.clone())
    }
}

impl<S, B> HttpService<ViaHyper> for S
where
    S: ::hyper::service::Service<Request<Incoming>, Response = Response<B>>
        + Clone
        + Send
        + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Hyper = S;
    type Body = B;
    type Error = S::Error;
    type Future = S::Future;

    fn for_connection(&self) -> S {
        self.clone()
    }
}
