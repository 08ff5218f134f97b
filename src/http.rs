//! HTTP: what this server answers, and the one place that every request goes through.
//!
//! - [`routes`]: the table that finds a request's handler. [`endpoint`]: what stands between it and the handler.
//! - [`carry_out`]: a handler that changes something outlives its connection.
//! - [`connections`]: actix's servers. [`incoming`], [`response`]: from actix's types to ruma's and back.
//! - [`auth`]: who asks. [`rate_limit`]: how often.
//! - [`client`]: the client-server API. [`federation`]: the server-server API, with [`signatures`] on requests.
//! - [`well_known`], [`health`], [`metrics`]: the small surfaces.
//! - [`streamed`], [`content`]: bodies that are files, in and out. [`pieces`]: how all others go out.
//! - [`middleware`], [`proxy`]: what all answers and all requests have in common.
//!
//! # How to add an endpoint
//!
//! 1. Look it up in ruma: `ruma::api::client::read_marker::set_read_marker` is the function `set_read_marker` in
//!    `src/http/client/read_marker.rs`. Path, method and authentication come from its request type.
//! 2. Write the handler:
//!    ```text
//!    /// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
//!    pub async fn set_read_marker(
//!        app: App,
//!        req: Ruma<set_read_marker::v3::Request>,
//!    ) -> Result<set_read_marker::v3::Response, MatrixError>
//!    ```
//!    `req` derefs to the request; `req.user()` is who asks. What ruma has no type for takes
//!    [`Plain<AccessToken>`](endpoint::Plain) instead. An answer that is JSON text already is a
//!    [`JsonText`](response::JsonText). A body that does not fit in memory is [`Streamed`](streamed::Streamed).
//! 3. Add one line to the table in [`client`]: `routes.add(read_marker::set_read_marker);`, or for a handler
//!    without a type `routes.plain(Method::GET, "/_matrix/client/v3/x/{y}", handler);`. Guests and locked users are
//!    let in, and limits other than the usual are set, on what that returns: `.guests()`, `.locked()`, `.rate(..)`.
//! 4. Run the tests: the snapshot of routes in `tests/it` changes by one line, which is the API's changelog.
//!
//! Deliberately absent: SQL and room rules. A handler proves, asks once, and answers.

pub mod auth;
pub mod carry_out;
pub mod client;
pub mod connections;
pub mod content;
pub mod endpoint;
pub mod federation;
pub mod health;
pub mod incoming;
pub mod legacy_user;
pub mod metrics;
pub mod middleware;
pub mod pieces;
pub mod proxy;
pub mod rate_limit;
pub mod response;
pub mod routes;
pub mod signatures;
pub mod streamed;
pub mod token_optional;
pub mod uia;
pub mod well_known;
pub mod with_body;
pub mod with_headers;
mod wrapped;

use std::{
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName},
};
use futures::FutureExt;
use http::{Method, StatusCode};
use tracing::{Instrument, debug, info_span};

use self::{
    incoming::{Incoming, Peer},
    metrics::Metrics,
    middleware::{RequestId, RequestIds},
    routes::{Found, Route, Routes},
};
use crate::{app::App, config::Surface, error::MatrixError};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What one listener serves. Shared by all its workers.
pub struct Site {
    app: App,
    metrics: Arc<Metrics>,
    routes: Routes,
    ids: RequestIds,
}

/// The routes of these surfaces.
pub fn routes_of(surfaces: &[Surface], metrics: &Arc<Metrics>) -> Routes {
    let mut routes = Routes::default();
    health::routes(&mut routes);
    for surface in surfaces {
        match surface {
            Surface::Client => {
                client::routes(&mut routes);
                well_known::client_routes(&mut routes);
            }
            Surface::Federation => {
                federation::routes(&mut routes);
                well_known::server_routes(&mut routes);
            }
            Surface::Metrics => metrics::routes(&mut routes, metrics),
        }
    }
    routes
}

impl Site {
    /// A site with these surfaces.
    pub fn new(app: App, surfaces: &[Surface], metrics: Arc<Metrics>) -> Self {
        let ids = RequestIds::starting_at(app.process.clock.now_ms() << 16);
        let is_served = |surface: &Surface| *surface != Surface::Federation || app.config.federation.enabled;
        let surfaces: Vec<_> = surfaces.iter().copied().filter(is_served).collect();
        Self { routes: routes_of(&surfaces, &metrics), app, metrics, ids }
    }

    /// The answer to a request. Never fails: every error has its answer, and a panic is answered like a fault.
    pub async fn answer(self: Arc<Self>, mut request: ServiceRequest) -> ServiceResponse {
        let id = self.ids.next();
        let mut answer = match self.admit(&mut request) {
            Ok((route, incoming)) => self.serve(id, route, incoming).await,
            Err(answer) => *answer,
        };
        middleware::finish(&mut answer, id);
        // What is still to come of a body that did not come in time is no request.
        if self.app.process.shutdown.is_begun() || answer.status().as_u16() == 408 {
            answer.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
        }
        request.into_response(pieces::in_pieces(answer))
    }

    /// Finds who answers the request, and takes from it what they need. An error is the answer itself.
    ///
    /// A function of its own, so that a request that waits does not hold the space for what was only needed here.
    fn admit(&self, request: &mut ServiceRequest) -> Result<(&Route, Box<Incoming>), Box<HttpResponse>> {
        let head = incoming::head_of(request.request()).map_err(MatrixError::into_response)?;
        if head.method() == Method::OPTIONS {
            return Err(middleware::preflight().into());
        }
        let (route, args) = match self.routes.find(head.method(), head.uri().path()) {
            Found::Route(route, args) => (route, args),
            Found::OtherMethods(methods) => {
                let mut answer = MatrixError::unrecognized(StatusCode::METHOD_NOT_ALLOWED).into_response();
                middleware::name_methods(&mut answer, &methods);
                return Err(answer.into());
            }
            Found::Nothing => {
                return Err(MatrixError::unrecognized(StatusCode::NOT_FOUND).into_response().into());
            }
        };
        let incoming = Box::new(Incoming {
            peer: self.peer(request.request()),
            options: route.options,
            body_limit: self.app.config.limits.body_bytes,
            patience: Duration::from_secs(self.app.config.limits.body_seconds),
            head,
            args,
            payload: request.take_payload(),
            read: None,
            under_way: Rc::new(self.metrics.begin()),
        });
        if route.options.waits {
            // A table of headers has room for many, of which a poll has few.
            *request.headers_mut() = HeaderMap::new();
        }
        Ok((route, incoming))
    }

    async fn serve(&self, id: RequestId, route: &Route, incoming: Box<Incoming>) -> HttpResponse {
        let started = Instant::now();
        let under_way = Rc::clone(&incoming.under_way);
        let path = route.paths.last().map_or("", String::as_str);
        let span = info_span!("request", request.id = %id, method = %route.method, route = path);
        let served = AssertUnwindSafe((route.endpoint)(self.app.clone(), incoming).instrument(span.clone()));
        let outcome =
            served.catch_unwind().await.unwrap_or_else(|_| Err(MatrixError::internal("a handler panicked")));
        let _entered = span.entered();
        let answer = outcome.unwrap_or_else(MatrixError::into_response);
        drop(under_way);
        let after = started.elapsed();
        self.metrics.answered(route.method.as_str(), path, answer.status().as_u16(), after);
        debug!(status = answer.status().as_u16(), duration_ms = after.as_millis(), "answered");
        answer
    }

    fn peer(&self, request: &HttpRequest) -> Peer {
        let peer = request.peer_addr().map(|address| address.ip());
        let claims = forwarded_for(request.headers());
        Peer { ip: proxy::client_address(peer, &claims, &self.app.config.trusted_proxies) }
    }
}

/// What proxies say of the client: lines of one name are one list, in their order (RFC 9110, 5.3), since some proxies
/// add a line and leave the client's own. What is no text is no address.
fn forwarded_for(headers: &HeaderMap) -> String {
    let lines: Vec<&str> =
        headers.get_all(&FORWARDED_FOR).map(|line| line.to_str().unwrap_or_default()).collect();
    lines.join(",")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn line_of_the_proxy_follows_that_of_the_client() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded_for(&headers), "");
        headers.append(FORWARDED_FOR.clone(), HeaderValue::from_static("203.0.113.9"));
        headers.append(FORWARDED_FOR.clone(), HeaderValue::from_static("192.0.2.1, 10.0.0.1"));
        assert_eq!(forwarded_for(&headers), "203.0.113.9,192.0.2.1, 10.0.0.1");
        headers.append(FORWARDED_FOR.clone(), HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(forwarded_for(&headers).ends_with("10.0.0.1,"));
    }
}
