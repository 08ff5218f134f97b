//! What every answer gets: the headers that browsers need, and an id that logs can be searched for.
//!
//! Plain functions around the one dispatcher, rather than actix's middleware: those wrap each request in futures and
//! boxes of their own, and a long poll would hold them all.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
};
use http::Method;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names a request in the logs and in its answer. Unique while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// Gives out request ids.
#[derive(Debug, Default)]
pub struct RequestIds(AtomicU64);

impl RequestIds {
    /// Begins anywhere, so that ids of two runs are rarely alike.
    pub fn starting_at(start: u64) -> Self {
        Self(AtomicU64::new(start & 0xffff_ffff_0000))
    }

    /// The next id.
    pub fn next(&self) -> RequestId {
        RequestId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// The answer to `OPTIONS` on any path: what browsers ask before they ask.
pub fn preflight() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body("{}")
}

/// The answer to a path that is there with other methods only names them.
pub fn name_methods(answer: &mut HttpResponse, methods: &[Method]) {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
}

/// Puts the common headers on an answer.
pub fn finish(answer: &mut HttpResponse, id: RequestId) {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID.clone(), value);
    }
}
