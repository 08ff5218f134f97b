//! Answers that are read as they come, because they may not fit in memory: files.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{HOST, LOCATION, USER_AGENT},
};
use myelin_actors::remote::RemoteError;
use ruma::ServerName;

use super::{
    Remote,
    client::Body,
    requests::{self, PRODUCT, ServerRequest},
};

/// The longest text of an error that is read.
const MAX_ERROR: usize = 64 * 1024;

impl Remote {
    /// Asks a server for a file, and waits so long until its answer begins. An error status is
    /// [`RemoteError::Refused`]; an answer that refers to somewhere else is returned as it is.
    pub async fn open<R: ServerRequest>(
        &self,
        server: &ServerName,
        request: R,
        patience: Duration,
    ) -> Result<Response<Body>, RemoteError> {
        self.require_allowed(server)?;
        let request = requests::write(request, server, self.signer())?;
        self.open_at(server, request, patience).await
    }

    /// The same for a path that is not signed.
    pub async fn open_unsigned(
        &self,
        server: &ServerName,
        path: &str,
        patience: Duration,
    ) -> Result<Response<Body>, RemoteError> {
        self.require_allowed(server)?;
        let address = format!("https://{server}{path}");
        let address = address.parse().map_err(|_| RemoteError::Invalid("it has no such path".to_owned()))?;
        self.open_at(server, get(address), patience).await
    }

    /// The same for an address that a server has referred to. It must be HTTPS, and its host public as servers are.
    pub async fn open_elsewhere(
        &self,
        address: Uri,
        patience: Duration,
    ) -> Result<Response<Body>, RemoteError> {
        let invalid = || RemoteError::Invalid("it refers to what is no address".to_owned());
        let is_https = address.scheme_str() == Some("https");
        let authority = address.authority().filter(|_| is_https).ok_or_else(invalid)?;
        if authority.as_str().contains('@') {
            return Err(invalid());
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?;
        let mut request = get(address);
        request.headers_mut().insert(HOST, host);
        let remote = self.clone();
        self.on_io(async move { settled(remote.hosts.open(request, patience).await?).await }).await
    }

    async fn open_at(
        &self,
        server: &ServerName,
        mut request: Request<Bytes>,
        patience: Duration,
    ) -> Result<Response<Body>, RemoteError> {
        let (remote, server) = (self.clone(), server.to_owned());
        let opened = async move {
            remote.address(&server, &mut request).await?;
            settled(remote.client.open(request, patience).await?).await
        };
        self.on_io(opened).await
    }
}

fn get(address: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = address;
    request.headers_mut().insert(USER_AGENT, PRODUCT.clone());
    request
}

/// Where an answer refers to, if it does.
pub fn location<B>(answer: &Response<B>) -> Option<&str> {
    let refers = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    answer.headers().get(LOCATION).filter(|_| refers)?.to_str().ok()
}

/// The answer, unless it is an error.
async fn settled(answer: Response<Body>) -> Result<Response<Body>, RemoteError> {
    if answer.status().is_success() || location(&answer).is_some() {
        return Ok(answer);
    }
    let (head, mut body) = answer.into_parts();
    let mut text = BytesMut::new();
    while let Some(Ok(piece)) = body.next().await {
        if text.len() + piece.len() > MAX_ERROR {
            break;
        }
        text.extend_from_slice(&piece);
    }
    Err(requests::refusal(head.status, &text))
}
