//! From ruma's request types to the wire and back, and how a request is proved to be ours.

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use myelin_actors::remote::RemoteError;
use myelin_core::{pdu::build::Signer, request::SignedRequest};
use ruma::{
    RoomVersionId, ServerName,
    api::federation::authentication::ServerSignatures,
    api::{
        IncomingResponse, OutgoingBody, OutgoingRequest,
        auth_scheme::{AuthScheme, NoAuthentication},
        path_builder::SinglePath,
    },
};
use serde::Deserialize;

/// What this server calls itself.
pub static PRODUCT: HeaderValue = HeaderValue::from_static(concat!("Myelin/", env!("CARGO_PKG_VERSION")));

/// The longest text of an error that is kept.
const MAX_MESSAGE: usize = 500;

/// A request that one server makes of another, as ruma has them.
pub trait ServerRequest: OutgoingRequest<PathBuilder = SinglePath, Authentication: Prove> {}

impl<R: OutgoingRequest<PathBuilder = SinglePath, Authentication: Prove>> ServerRequest for R {}

/// How a request is proved to be ours.
pub trait Prove: AuthScheme {
    /// Whether it has to be signed.
    const IS_SIGNED: bool;
}

impl Prove for ServerSignatures {
    const IS_SIGNED: bool = true;
}

impl Prove for NoAuthentication {
    const IS_SIGNED: bool = false;
}

/// The request on the wire, but for its `Host`. The authority of its address is the server's name.
pub fn write<R: ServerRequest>(
    request: R,
    server: &ServerName,
    signer: &Signer,
) -> Result<Request<Bytes>, RemoteError> {
    let request = request.try_into_http_request_inner(&format!("https://{server}"), ());
    let (mut head, body) = request.map_err(|error| unsendable(&error))?.into_parts();
    if let Some(kind) = body.content_type() {
        head.headers.entry(CONTENT_TYPE).or_insert(kind);
    }
    let body = body.try_into_buf::<Vec<u8>>().map_err(|error| unsendable(&error.into()))?;
    finish(Request::from_parts(head, Bytes::from(body)), R::Authentication::IS_SIGNED, server, signer)
}

/// The request as it is sent: signed, if it has to be.
pub fn finish(
    mut request: Request<Bytes>,
    is_signed: bool,
    server: &ServerName,
    signer: &Signer,
) -> Result<Request<Bytes>, RemoteError> {
    if is_signed {
        let header = sign(&request, server, signer)?;
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    request.headers_mut().insert(USER_AGENT, PRODUCT.clone());
    Ok(request)
}

fn sign(request: &Request<Bytes>, server: &ServerName, signer: &Signer) -> Result<HeaderValue, RemoteError> {
    let signed = SignedRequest {
        method: request.method().as_str(),
        uri: request.uri().path_and_query().map_or("/", |address| address.as_str()),
        origin: &signer.server_name,
        destination: server,
        content: request.body(),
    };
    let header = signed.sign(signer).map_err(|error| RemoteError::Invalid(error.to_string()))?;
    HeaderValue::from_str(&header).map_err(|error| RemoteError::Invalid(error.to_string()))
}

fn unsendable(error: &ruma::api::error::IntoHttpError) -> RemoteError {
    RemoteError::Invalid(format!("it cannot be asked for: {error}"))
}

/// The body of a success; what else the server answered is an error.
pub fn success(answer: Response<Bytes>) -> Result<Response<Bytes>, RemoteError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(refusal(answer.status(), answer.body()))
}

/// The answer as ruma has it.
pub fn read<R: IncomingResponse>(answer: &Response<Bytes>) -> Result<R, RemoteError> {
    let mut bytes = Response::new(&**answer.body());
    *bytes.status_mut() = answer.status();
    *bytes.headers_mut() = answer.headers().clone();
    R::try_from_http_response_inner(bytes).map_err(|error| RemoteError::Invalid(error.to_string()))
}

/// What an answer with an error status says.
pub fn refusal(status: StatusCode, body: &[u8]) -> RemoteError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        errcode: String,
        error: String,
        room_version: Option<RoomVersionId>,
    }
    let Body { errcode, error, room_version } = serde_json::from_slice(body).unwrap_or_default();
    let bounded = |text: String| text.chars().take(MAX_MESSAGE).collect();
    let (errcode, message) = (bounded(errcode), bounded(error));
    RemoteError::Refused { status: status.as_u16(), errcode, message, room_version }
}
