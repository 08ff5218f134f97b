//! Invitations of people who are known by an address only.

use ruma::api::federation::thirdparty::{bind_callback, exchange_invite};

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::third_party};

/// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
pub async fn exchange_invite(
    app: App,
    req: Ruma<exchange_invite::v1::Request>,
) -> Result<exchange_invite::v1::Response, MatrixError> {
    if req.kind.to_string() != "m.room.member" {
        return Err(MatrixError::invalid_param("this is not an invite"));
    }
    let people = (&req.sender, &req.state_key);
    third_party::exchange(&app, req.origin(), &req.room_id, people, req.content.json()).await?;
    Ok(exchange_invite::v1::Response::new())
}

/// `PUT /_matrix/federation/v1/3pid/onbind`
///
/// From identity servers, which prove nothing here: what they signed is checked by the room.
pub async fn bind_callback(
    app: App,
    req: Ruma<bind_callback::v1::Request>,
) -> Result<bind_callback::v1::Response, MatrixError> {
    third_party::bound(&app, &req.mxid, &req.invites).await?;
    Ok(bind_callback::v1::Response::new())
}
