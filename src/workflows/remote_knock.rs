//! Asking to be let into a room that this server takes no part in.

use myelin_core::membership::Membership;
use ruma::{
    CanonicalJsonObject, OwnedServerName, RoomId, ServerName,
    api::federation::membership::{
        RawStrippedState, create_knock_event::v1 as create_knock_event,
        prepare_knock_event::v1 as prepare_knock_event,
    },
};
use serde_json::value::RawValue;

use super::{
    attempts::Attempts,
    candidates, stripped,
    template::{self, Purpose},
};
use crate::{app::App, error::MatrixError, sessions::User};

/// Asks for the user, with the help of the servers named and those that may know the room.
pub async fn knock(
    app: &App,
    by: &User,
    room_id: &RoomId,
    via: &[OwnedServerName],
    content: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let mut attempts = Attempts::default();
    for server in candidates::for_user(app, by, room_id, via).await? {
        match knock_by(app, &server, by, room_id, content.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => attempts.failed(&server, error)?,
        }
    }
    Err(attempts.error())
}

async fn knock_by(
    app: &App,
    server: &ServerName,
    by: &User,
    room_id: &RoomId,
    content: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let purpose = Purpose { room_id, user_id: &by.id, membership: Membership::Knock };
    let mut request = prepare_knock_event::Request::new(room_id.to_owned(), by.id.clone());
    request.ver = template::versions();
    let made = app.remote.request(server, request).await?;
    let template = template::read(purpose, Some(&made.room_version), &made.event)?;
    let version = template.version;
    let knock = template.complete(app, purpose, content)?;
    let pdu = RawValue::from_string(knock.json().to_owned()).map_err(MatrixError::internal)?;
    let request = create_knock_event::Request::new(room_id.to_owned(), knock.event_id().to_owned(), pdu);
    let mut told: Vec<RawStrippedState> = app.remote.request(server, request).await?.knock_room_state;
    if version.room_id_is_create_id() {
        told = stripped::pdus(stripped::verified(app, version, room_id, &told).await.0.iter());
    }
    let stripped = stripped::prune(&told);
    app.actors.rooms.receive_membership(room_id, &version.id, knock, stripped).await?;
    Ok(())
}
