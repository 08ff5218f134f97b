//! What clients see of another server's failure or refusal.

use http::StatusCode;
use myelin_actors::remote::RemoteError;
use ruma::{
    RoomVersionId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
};

use super::MatrixError;

impl From<RemoteError> for MatrixError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Unreachable(_) => Self::bad_gateway("the other server cannot be reached"),
            RemoteError::Invalid(_) => Self::bad_gateway("the other server's answer cannot be used"),
            RemoteError::NotAllowed(why) => Self::forbidden(why),
            RemoteError::Refused { status, errcode, message, room_version } => {
                refused_by_remote(status, &errcode, message, room_version)
            }
        }
    }
}

/// What a room's policy server says of an event is for its sender to read.
/// <https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures>
pub(super) fn refused_by_policy(error: RemoteError) -> MatrixError {
    match error {
        RemoteError::Unreachable(_) => MatrixError::bad_gateway("the room's policy server cannot be reached"),
        RemoteError::Invalid(_) => {
            MatrixError::bad_gateway("the answer of the room's policy server cannot be used")
        }
        error => error.into(),
    }
}

/// What another server refuses is passed on where it is about the room or the user. What it has against us (our
/// signature, the form of our request) is nothing that the client could mend, and a 401 would log it out.
fn refused_by_remote(
    status: u16,
    errcode: &str,
    message: String,
    room_version: Option<RoomVersionId>,
) -> MatrixError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let is_ours = matches!(errcode, "M_MISSING_PARAM" | "M_INVALID_PARAM" | "M_UNRECOGNIZED" | "M_NOT_JSON");
    let is_theirs = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::TOO_MANY_REQUESTS
    );
    if is_ours || !is_theirs {
        return MatrixError::bad_gateway(format!("the other server answered {}", status.as_u16()));
    }
    MatrixError::new(status, remote_kind(status, errcode, room_version), message)
}

fn remote_kind(status: StatusCode, errcode: &str, room_version: Option<RoomVersionId>) -> ErrorKind {
    if errcode == "M_INCOMPATIBLE_ROOM_VERSION" {
        let unknown = || RoomVersionId::try_from("unknown").unwrap_or(RoomVersionId::V1);
        let version = room_version.unwrap_or_else(unknown);
        return ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(version));
    }
    let named =
        (!errcode.is_empty()).then(|| serde_json::from_value(serde_json::json!({ "errcode": errcode })));
    named.and_then(Result::ok).unwrap_or(match status {
        StatusCode::FORBIDDEN => ErrorKind::Forbidden,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        _ => ErrorKind::Unknown,
    })
}
