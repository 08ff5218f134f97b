//! Which server asks: requests of the server-server API are signed by the server that sends them.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use bytes::Bytes;
use http::{StatusCode, header::AUTHORIZATION};
use myelin_core::request::{SignedRequest, XMatrix, XMatrixError};
use ruma::{
    OwnedServerName,
    api::{error::ErrorKind, federation::authentication::ServerSignatures},
};

use super::{
    auth::{Caller, Identify},
    incoming::{Incoming, Peer},
    rate_limit::RateClass,
};
use crate::{app::App, error::MatrixError};

impl Identify for ServerSignatures {
    type Identity = OwnedServerName;

    // One transaction at a time, with a bound on each: servers are slowed down where events are decided.
    const CHANGES: RateClass = RateClass::Unlimited;

    async fn identify(app: &App, incoming: &mut Incoming) -> Result<OwnedServerName, MatrixError> {
        let header = incoming.head.headers().get(AUTHORIZATION);
        let header = header.ok_or_else(|| unauthorized("the request is not signed"))?;
        let header = header.to_str().map_err(|_| unauthorized("the X-Matrix header cannot be read"))?;
        let header = XMatrix::parse(header).map_err(|error| match error {
            XMatrixError::OtherScheme => unauthorized(error.to_string()),
            _ => MatrixError::bad_request(ErrorKind::Unauthorized, error.to_string()),
        })?;
        if header.destination.as_deref().is_some_and(|destination| !app.is_ours(destination)) {
            return Err(unauthorized("the request is for another server"));
        }
        if app.is_ours(&header.origin) {
            return Err(unauthorized("this server does not ask itself"));
        }
        if !app.remote.allows(&header.origin) {
            return Err(MatrixError::forbidden("this server does not talk to yours"));
        }
        // Servers send more at once than clients.
        incoming.body_limit = app.config.federation.body_bytes;
        let content = match *incoming.head.method() {
            // What comes with these means nothing.
            http::Method::GET | http::Method::HEAD => Bytes::new(),
            _ => incoming.body().await?,
        };
        let request = SignedRequest {
            method: incoming.head.method().as_str(),
            uri: incoming.head.uri().path_and_query().map_or("/", |address| address.as_str()),
            origin: &header.origin,
            destination: &app.config.server_name,
            content: &content,
        };
        if !app.remote.is_proved(&header, request).await? {
            return Err(unauthorized("the signature cannot be verified"));
        }
        // It is there: what could not be sent to it can be.
        app.actors.federation.wake(&header.origin);
        Ok(header.origin)
    }

    fn caller(server: &OwnedServerName, _: Peer) -> Caller {
        Caller::Server(server.clone())
    }
}

fn unauthorized(why: impl Into<String>) -> MatrixError {
    MatrixError::new(StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized, why)
}
