//! Getting out of a room that this server takes no part in: rejecting an invite, withdrawing a knock.
//!
//! Another server has to be told so that the room knows. When none listens, the user is out all the same.

use std::time::Duration;

use myelin_core::membership::Membership;
use ruma::{
    CanonicalJsonObject, RoomId, ServerName,
    api::federation::membership::{
        create_leave_event::v2 as create_leave_event, prepare_leave_event::v1 as prepare_leave_event,
    },
};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tracing::info;

use super::{
    candidates,
    template::{self, Purpose},
};
use crate::{
    app::App,
    error::MatrixError,
    remote::old::{self, HandedOver},
    sessions::User,
};

/// How long other servers may take, all together, before the user is out without them.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many of them are asked.
const MAX_ASKED: usize = 5;

/// Takes the user out of the room.
pub async fn leave(
    app: &App,
    by: &User,
    room_id: &RoomId,
    content: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let told = tokio::time::timeout(PATIENCE, tell(app, by, room_id, content)).await;
    if told.unwrap_or(Ok(false))? {
        return Ok(());
    }
    info!(room.id = %room_id, "no server could be told that a user leaves a room");
    Ok(app.actors.rooms.leave_outside(room_id, &by.id).await?)
}

/// Tells the first server that listens. `false`: none did.
async fn tell(
    app: &App,
    by: &User,
    room_id: &RoomId,
    content: CanonicalJsonObject,
) -> Result<bool, MatrixError> {
    for server in candidates::for_user(app, by, room_id, &[]).await?.iter().take(MAX_ASKED) {
        match leave_by(app, server, by, room_id, content.clone()).await {
            Ok(()) => return Ok(true),
            Err(error @ MatrixError::Refused(_)) => {
                info!(room.id = %room_id, %server, %error, "a server did not take a leave");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

async fn leave_by(
    app: &App,
    server: &ServerName,
    by: &User,
    room_id: &RoomId,
    content: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let purpose = Purpose { room_id, user_id: &by.id, membership: Membership::Leave };
    let request = prepare_leave_event::Request::new(room_id.to_owned(), by.id.clone());
    let made = app.remote.request(server, request).await?;
    let template = template::read(purpose, made.room_version.as_ref(), &made.event)?;
    let version = &template.version.id;
    let leave = template.complete(app, purpose, content)?;
    let pdu = RawValue::from_string(leave.json().to_owned()).map_err(MatrixError::internal)?;
    let ids = (room_id, leave.event_id());
    let request = create_leave_event::Request::new(ids.0.to_owned(), ids.1.to_owned(), pdu.clone());
    match app.remote.request(server, request).await {
        Ok(_) => {}
        Err(error) if old::is_old(&error) => {
            let usual = app.remote.usual();
            let _: IgnoredAny = app.remote.hand_over_v1(server, HandedOver::Leave, ids, &pdu, usual).await?;
        }
        Err(error) => return Err(error.into()),
    }
    app.actors.rooms.receive_membership(room_id, version, leave, Vec::new()).await?;
    Ok(())
}
