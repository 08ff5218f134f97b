//! Where errors become what clients see: a status, an `errcode` and a sentence.
//!
//! Handlers use `?` for the errors of the layers below and the constructors here for refusals of their own. What is
//! our fault is logged once, with its causes, and tells the client nothing.

mod remote;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode as ActixStatus, header::RETRY_AFTER},
};
use http::StatusCode;
use myelin_actors::room::error::RoomError;
use myelin_storage::StorageError;
pub use myelin_storage::error::Chain;
use ruma::api::{
    OutgoingResponseExt,
    client::uiaa::UiaaInfo,
    error::{
        Error as RumaError, ErrorBody, ErrorKind, LimitExceededErrorData, RetryAfter, StandardErrorBody,
        UnknownTokenErrorData,
    },
};
use tracing::error;

use crate::http::response;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum MatrixError {
    /// The request is refused, and the client is told why.
    Refused(Box<Refusal>),
    /// The client has to prove more, and the same request may then succeed.
    Uiaa(Box<UiaaInfo>),
    /// The database or a part of this server is away for the moment.
    Unavailable(Box<dyn Error + Send + Sync>),
    /// A fault of ours.
    Internal(Box<dyn Error + Send + Sync>),
}

/// What the client is told.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The `errcode`, with the fields that belong to it.
    pub kind: ErrorKind,
    /// For people to read.
    pub message: String,
}

impl MatrixError {
    /// A refusal with this status.
    pub fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Refusal { status, kind, message: message.into() }))
    }

    /// 400 with this code.
    pub fn bad_request(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }

    /// 403 with this code.
    pub fn refused(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, kind, message)
    }

    /// The user may not do this: 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::refused(ErrorKind::Forbidden, message)
    }

    /// There is no such thing: 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// JSON, but not what the endpoint wants: 400 `M_BAD_JSON`.
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::bad_request(ErrorKind::BadJson, message)
    }

    /// No JSON at all: 400 `M_NOT_JSON`.
    pub fn not_json(message: impl Into<String>) -> Self {
        Self::bad_request(ErrorKind::NotJson, message)
    }

    /// Something needed is absent: 400 `M_MISSING_PARAM`.
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::bad_request(ErrorKind::MissingParam, message)
    }

    /// A value that the endpoint does not take: 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::bad_request(ErrorKind::InvalidParam, message)
    }

    /// Something is not signed as it must be: 400 `M_INVALID_SIGNATURE`, which ruma does not name.
    pub fn invalid_signature(message: impl Into<String>) -> Self {
        let kind = serde_json::from_str(r#"{"errcode":"M_INVALID_SIGNATURE"}"#);
        Self::bad_request(kind.expect("every errcode is of some kind"), message)
    }

    /// 400 `M_UNKNOWN`, where the specification names nothing better.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::bad_request(ErrorKind::Unknown, message)
    }

    /// More than this server takes: 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
    }

    /// The endpoint needs an access token: 401 `M_MISSING_TOKEN`.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, "an access token is needed")
    }

    /// The access token proves nobody: 401 `M_UNKNOWN_TOKEN`. After a soft logout the client keeps its state.
    pub fn unknown_token(soft_logout: bool) -> Self {
        let mut data = UnknownTokenErrorData::new();
        data.soft_logout = soft_logout;
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(data), "the access token is not valid")
    }

    /// The body does not come: 408 `M_UNKNOWN`.
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unknown, "the body did not come in time")
    }

    /// Too many requests: 429 `M_LIMIT_EXCEEDED`, in the body and as a header.
    pub fn limited(retry_after: Duration) -> Self {
        let mut data = LimitExceededErrorData::new();
        data.retry_after = Some(RetryAfter::Delay(retry_after));
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::LimitExceeded(data), "too many requests")
    }

    /// This path, or this method on it, is not served: `M_UNRECOGNIZED` with 404 or 405.
    pub fn unrecognized(status: StatusCode) -> Self {
        Self::new(status, ErrorKind::Unrecognized, "this server does not serve that")
    }

    /// Guests may not: 403 `M_GUEST_ACCESS_FORBIDDEN`.
    pub fn guest_access_forbidden() -> Self {
        Self::refused(ErrorKind::GuestAccessForbidden, "guests may not do this")
    }

    /// Another server did not do its part: 502 `M_UNKNOWN`.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
    }

    /// The same error for one more who waited for the same thing.
    pub fn shared(error: &Arc<Self>) -> Self {
        match &**error {
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
            Self::Uiaa(info) => Self::Uiaa(info.clone()),
            Self::Unavailable(_) => Self::Unavailable(Box::new(Arc::clone(error))),
            Self::Internal(_) => Self::Internal(Box::new(Arc::clone(error))),
        }
    }

    /// A fault of ours: 500 `M_UNKNOWN`; the cause is logged.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// Whether something that is stored cannot be read, however often it is tried.
    pub fn is_corruption(&self) -> bool {
        let Self::Internal(cause) = self else { return false };
        cause.downcast_ref::<StorageError>().is_some_and(StorageError::is_corruption)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status,
            Self::Uiaa(_) => StatusCode::UNAUTHORIZED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `errcode` of the answer, if it has one.
    pub fn errcode(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind.errcode().to_string()),
            Self::Uiaa(info) => info.auth_error.as_ref().map(|error| error.kind.errcode().to_string()),
            Self::Unavailable(_) | Self::Internal(_) => Some(ErrorKind::Unknown.errcode().to_string()),
        }
    }

    /// The answer. Faults of ours are logged here, and only here.
    pub fn into_response(self) -> HttpResponse {
        let status = self.status();
        let refusal = match self {
            Self::Refused(refusal) => *refusal,
            Self::Uiaa(info) => return uiaa(&info),
            Self::Unavailable(cause) => {
                error!(error = %Chain(cause.as_ref()), "a request could not be served for now");
                Refusal { status, kind: ErrorKind::Unknown, message: "the server is not available".into() }
            }
            Self::Internal(cause) => {
                error!(error = %Chain(cause.as_ref()), "a request failed");
                Refusal { status, kind: ErrorKind::Unknown, message: "internal server error".into() }
            }
        };
        let wait = whole_seconds(&refusal.kind);
        let body = ErrorBody::Standard(StandardErrorBody::new(refusal.kind, refusal.message));
        match RumaError::new(refusal.status, body).try_into_http_response::<Vec<u8>>() {
            Ok(answer) => {
                let mut answer = response::from_http(answer);
                if let Some(seconds) = wait {
                    answer.headers_mut().insert(RETRY_AFTER, seconds.into());
                }
                answer
            }
            Err(_) => HttpResponse::new(ActixStatus::INTERNAL_SERVER_ERROR),
        }
    }
}

/// For how many seconds the client has to wait. The header knows no parts of one: rounded down it would be too short.
fn whole_seconds(kind: &ErrorKind) -> Option<u64> {
    let ErrorKind::LimitExceeded(LimitExceededErrorData {
        retry_after: Some(RetryAfter::Delay(wait)), ..
    }) = kind
    else {
        return None;
    };
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// `completed` is there even when nothing is: ruma leaves it out, and some clients look for it.
fn uiaa(info: &UiaaInfo) -> HttpResponse {
    let Ok(mut body) = serde_json::to_value(info) else {
        return HttpResponse::new(ActixStatus::INTERNAL_SERVER_ERROR);
    };
    body["completed"] = serde_json::json!(info.completed);
    HttpResponse::Unauthorized().json(body)
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => {
                write!(f, "{} {}: {}", refusal.status.as_u16(), refusal.kind.errcode(), refusal.message)
            }
            Self::Uiaa(_) => f.write_str("user-interactive authentication is needed"),
            Self::Unavailable(_) => f.write_str("a part of the server is not available"),
            Self::Internal(_) => f.write_str("the server failed"),
        }
    }
}

impl Error for MatrixError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(cause) | Self::Internal(cause) => Some(cause.as_ref()),
            Self::Refused(_) | Self::Uiaa(_) => None,
        }
    }
}

impl ResponseError for MatrixError {
    fn status_code(&self) -> ActixStatus {
        ActixStatus::from_u16(self.status().as_u16()).unwrap_or(ActixStatus::INTERNAL_SERVER_ERROR)
    }
}

impl From<StorageError> for MatrixError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(_) => Self::Unavailable(Box::new(error)),
            StorageError::Corrupt { .. } | StorageError::Conflict(_) | StorageError::Database(_) => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

impl From<RoomError> for MatrixError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::NotFound => Self::not_found("this server does not know the room"),
            RoomError::Forbidden(why) => Self::forbidden(why),
            RoomError::Invalid(why) => Self::bad_json(why),
            RoomError::Policy(error) => remote::refused_by_policy(error),
            RoomError::TooLarge(why) => Self::too_large(why),
            RoomError::Busy => Self::limited(Duration::from_secs(1)),
            RoomError::Lost => Self::Unavailable(Box::new(error)),
            RoomError::Storage(error) => error.into(),
        }
    }
}

impl From<UiaaInfo> for MatrixError {
    fn from(info: UiaaInfo) -> Self {
        Self::Uiaa(Box::new(info))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use myelin_actors::remote::RemoteError;

    use super::*;

    fn from_remote(status: u16, errcode: &str) -> MatrixError {
        let (errcode, message) = (errcode.into(), "x".into());
        RemoteError::Refused { status, errcode, message, room_version: None }.into()
    }

    /// Every way to fail, and what the client sees of it.
    fn table() -> Vec<(MatrixError, u16, &'static str)> {
        vec![
            (MatrixError::forbidden("x"), 403, "M_FORBIDDEN"),
            (MatrixError::not_found("x"), 404, "M_NOT_FOUND"),
            (MatrixError::bad_json("x"), 400, "M_BAD_JSON"),
            (MatrixError::not_json("x"), 400, "M_NOT_JSON"),
            (MatrixError::missing_param("x"), 400, "M_MISSING_PARAM"),
            (MatrixError::invalid_param("x"), 400, "M_INVALID_PARAM"),
            (MatrixError::invalid_signature("x"), 400, "M_INVALID_SIGNATURE"),
            (MatrixError::unknown("x"), 400, "M_UNKNOWN"),
            (MatrixError::too_slow(), 408, "M_UNKNOWN"),
            (MatrixError::too_large("x"), 413, "M_TOO_LARGE"),
            (MatrixError::missing_token(), 401, "M_MISSING_TOKEN"),
            (MatrixError::unknown_token(true), 401, "M_UNKNOWN_TOKEN"),
            (MatrixError::limited(Duration::from_secs(2)), 429, "M_LIMIT_EXCEEDED"),
            (MatrixError::unrecognized(StatusCode::NOT_FOUND), 404, "M_UNRECOGNIZED"),
            (MatrixError::unrecognized(StatusCode::METHOD_NOT_ALLOWED), 405, "M_UNRECOGNIZED"),
            (MatrixError::guest_access_forbidden(), 403, "M_GUEST_ACCESS_FORBIDDEN"),
            (MatrixError::refused(ErrorKind::UserSuspended, "x"), 403, "M_USER_SUSPENDED"),
            (MatrixError::bad_request(ErrorKind::RoomInUse, "x"), 400, "M_ROOM_IN_USE"),
            (MatrixError::internal("secret"), 500, "M_UNKNOWN"),
            (StorageError::Unavailable("secret".into()).into(), 503, "M_UNKNOWN"),
            (StorageError::Corrupt { table: "events", row: "secret".into() }.into(), 500, "M_UNKNOWN"),
            (StorageError::Conflict("secret".into()).into(), 500, "M_UNKNOWN"),
            (RoomError::NotFound.into(), 404, "M_NOT_FOUND"),
            (RoomError::Forbidden("x".into()).into(), 403, "M_FORBIDDEN"),
            (RoomError::Invalid("x".into()).into(), 400, "M_BAD_JSON"),
            (RoomError::TooLarge("x".into()).into(), 413, "M_TOO_LARGE"),
            (RoomError::Policy(RemoteError::Unreachable("secret".into())).into(), 502, "M_UNKNOWN"),
            (RoomError::Policy(RemoteError::Invalid("secret".into())).into(), 502, "M_UNKNOWN"),
            (RoomError::Busy.into(), 429, "M_LIMIT_EXCEEDED"),
            (RoomError::Lost.into(), 503, "M_UNKNOWN"),
            (RoomError::Storage(StorageError::Conflict("secret".into())).into(), 500, "M_UNKNOWN"),
            (RemoteError::Unreachable("secret".into()).into(), 502, "M_UNKNOWN"),
            (RemoteError::Invalid("secret".into()).into(), 502, "M_UNKNOWN"),
            (RemoteError::NotAllowed("x".into()).into(), 403, "M_FORBIDDEN"),
            (from_remote(403, "M_FORBIDDEN"), 403, "M_FORBIDDEN"),
            (from_remote(404, "M_NOT_FOUND"), 404, "M_NOT_FOUND"),
            (from_remote(404, ""), 404, "M_NOT_FOUND"),
            (from_remote(400, "M_INCOMPATIBLE_ROOM_VERSION"), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
            (from_remote(400, "M_UNABLE_TO_GRANT_JOIN"), 400, "M_UNABLE_TO_GRANT_JOIN"),
            (from_remote(400, "M_MISSING_PARAM"), 502, "M_UNKNOWN"),
            (from_remote(401, "M_UNKNOWN_TOKEN"), 502, "M_UNKNOWN"),
            (from_remote(404, "M_UNRECOGNIZED"), 502, "M_UNKNOWN"),
            (from_remote(500, "M_UNKNOWN"), 502, "M_UNKNOWN"),
        ]
    }

    #[tokio::test]
    async fn every_error_has_its_status_and_code() {
        for (error, status, errcode) in table() {
            let (name, code) = (format!("{error:?}"), error.errcode());
            let answer = error.into_response();
            assert_eq!(answer.status().as_u16(), status, "{name}");
            assert_eq!(code.as_deref(), Some(errcode), "{name}");
            let body = actix_web::body::to_bytes(answer.into_body()).await.expect("the body is in memory");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("errors are JSON");
            assert_eq!(body["errcode"], errcode, "{name}");
            assert!(body["error"].is_string(), "{name}");
            assert!(!body.to_string().contains("secret"), "{name} tells its cause");
        }
    }

    #[tokio::test]
    async fn limit_is_told_in_the_body_and_as_a_header() {
        let answer = MatrixError::limited(Duration::from_millis(1500)).into_response();
        assert_eq!(answer.headers().get("retry-after").map(HeaderValue::as_bytes), Some(&b"2"[..]));
        let body = actix_web::body::to_bytes(answer.into_body()).await.expect("the body is in memory");
        assert!(String::from_utf8_lossy(&body).contains("\"retry_after_ms\":1500"));
    }
}
