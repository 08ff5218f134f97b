//! Answers: from ruma's response types, or written by hand, to actix's.
//!
//! ruma speaks `http` 1.x and actix-web 4 speaks 0.2. Here, and in [`incoming`](super::incoming) for requests, is
//! where one becomes the other.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode as ActixStatus,
        header::{HeaderName as ActixName, HeaderValue as ActixValue},
    },
};
use bytes::Bytes;
use http::StatusCode;
use ruma::api::{OutgoingResponse, OutgoingResponseExt};
use serde::Serialize;

use crate::error::MatrixError;

/// What a handler may answer with.
pub trait Answer {
    /// The answer on the wire.
    fn into_response(self) -> Result<HttpResponse, MatrixError>;
}

impl<T: OutgoingResponse> Answer for T {
    fn into_response(self) -> Result<HttpResponse, MatrixError> {
        let answer = self.try_into_http_response::<Vec<u8>>().map_err(MatrixError::internal)?;
        Ok(from_http(answer))
    }
}

/// An answer that is JSON text already.
#[derive(Clone, Debug)]
pub struct JsonText(pub Bytes);

impl JsonText {
    /// The JSON of a value.
    pub fn of(value: &impl Serialize) -> Result<Self, MatrixError> {
        serde_json::to_vec(value).map(|text| Self(text.into())).map_err(MatrixError::internal)
    }

    /// `{}`.
    pub fn empty() -> Self {
        Self(Bytes::from_static(b"{}"))
    }
}

impl From<String> for JsonText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Answer for JsonText {
    fn into_response(self) -> Result<HttpResponse, MatrixError> {
        Ok(HttpResponse::Ok().content_type("application/json").body(self.0))
    }
}

/// Any answer, for what neither ruma nor [`JsonText`] can say: pages, redirections, streams.
pub struct Raw(pub HttpResponse);

impl Raw {
    /// A page of HTML.
    pub fn html(page: impl Into<String>) -> Self {
        Self(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page.into()))
    }
}

impl Answer for Raw {
    fn into_response(self) -> Result<HttpResponse, MatrixError> {
        Ok(self.0)
    }
}

/// An answer of ruma's kind, as actix wants it. What cannot be said there becomes a 500.
pub fn from_http(answer: http::Response<Vec<u8>>) -> HttpResponse {
    let (parts, body) = answer.into_parts();
    let mut builder = HttpResponseBuilder::new(status(parts.status));
    for (name, value) in &parts.headers {
        let name = ActixName::from_bytes(name.as_str().as_bytes());
        let value = ActixValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            builder.append_header((name, value));
        }
    }
    builder.body(Bytes::from(body))
}

/// The same status.
pub fn status(status: StatusCode) -> ActixStatus {
    ActixStatus::from_u16(status.as_u16()).unwrap_or(ActixStatus::INTERNAL_SERVER_ERROR)
}
