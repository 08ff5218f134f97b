//! Invitations that other servers bring to users of ours.
//!
//! The invite is checked and signed. Where this server is in the room already it comes once more, as an event of the
//! room, and only then counts; elsewhere the user learns of it from what the other server tells about the room.

use std::sync::Arc;

use myelin_actors::room::{error::RoomError, view::RoomView};
use myelin_core::{
    membership::Membership,
    nid::types,
    pdu::{Pdu, sign},
    version::{self, RoomVersion},
};
use myelin_storage::accounts;
use ruma::{OwnedUserId, RoomId, RoomVersionId, ServerName, api::federation::membership::RawStrippedState};
use serde_json::value::RawValue;

use super::{
    membership,
    resident::{Expected, refuse, template::incompatible},
    servers, stripped,
};
use crate::{app::App, error::MatrixError};

/// An invite as another server brings it.
#[derive(Clone, Debug)]
pub struct Invitation<'a> {
    /// The server: that of the one who invites.
    pub server: &'a ServerName,
    /// The room that the path names.
    pub room_id: &'a RoomId,
    /// The event that the path names.
    pub event_id: &'a str,
    /// What it says the room's version is.
    pub version: RoomVersionId,
    /// The invite.
    pub event: &'a RawValue,
    /// What it tells about the room.
    pub room_state: &'a [RawStrippedState],
}

/// Takes the invite; with our signature, which it needs.
pub async fn receive(app: &App, invitation: Invitation<'_>) -> Result<Box<RawValue>, MatrixError> {
    let unknown = || incompatible(invitation.version.clone());
    let version = version::find(&invitation.version).ok_or_else(unknown)?;
    let view = known(app, invitation.room_id).await?;
    if let Some(view) = &view {
        servers::require_allowed(view, invitation.server)?;
        if is_known(view) && view.version != version {
            return Err(MatrixError::invalid_param("the room has another version than the invite says"));
        }
    }
    let expected = Expected {
        server: invitation.server,
        room_id: invitation.room_id,
        event_id: invitation.event_id,
        version,
        membership: Membership::Invite,
    };
    let event = expected.parse(invitation.event)?;
    let user = invited_user(app, &event)?;
    let event = expected.verify(app, event).await?;
    let is_resident = view.is_some_and(|view| view.servers.contains_key(&app.config.server_name));
    require_invitable(app, &user, is_resident).await?;
    check_room_state(app, version, invitation.room_id, invitation.room_state).await?;
    let event = sign::add_signature(&event, app.remote.signer()).map_err(|error| refuse(&error))?;
    let json = RawValue::from_string(event.json().to_owned()).map_err(MatrixError::internal)?;
    if !is_resident {
        let told = stripped::prune(invitation.room_state);
        app.actors.rooms.receive_membership(invitation.room_id, &version.id, event, told).await?;
    }
    Ok(json)
}

/// The version of the room of an invite that does not say: rooms of version 1 and 2 look the same from outside.
pub async fn version_of_old_invite(app: &App, room_id: &RoomId) -> Result<RoomVersionId, MatrixError> {
    let view = known(app, room_id).await?.filter(|view| is_known(view));
    Ok(view.map_or(RoomVersionId::V1, |view| view.version.id.clone()))
}

async fn known(app: &App, room_id: &RoomId) -> Result<Option<Arc<RoomView>>, MatrixError> {
    match app.actors.rooms.view(room_id).await {
        Ok(view) => Ok(Some(view)),
        Err(RoomError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The room's version stands in its create event. Of a room without one here, it is what somebody said who invited.
fn is_known(view: &RoomView) -> bool {
    view.essential(types::CREATE).is_some()
}

fn invited_user(app: &App, event: &Pdu) -> Result<OwnedUserId, MatrixError> {
    let user = event.state_key().and_then(|key| OwnedUserId::try_from(key).ok());
    user.filter(|user| app.is_ours(user.server_name()))
        .ok_or_else(|| MatrixError::invalid_param("the invite is not for a user of this server"))
}

/// Refuses invites of those who want none, who are gone, or who never were. In a room that we are in, a user whom
/// nobody has registered yet can be invited as by our own users.
async fn require_invitable(app: &App, user: &OwnedUserId, is_resident: bool) -> Result<(), MatrixError> {
    let account = accounts::find(&app.storage.get().await?, user).await?;
    let is_gone = account.as_ref().is_some_and(|account| account.marks.is_deactivated);
    if is_gone || (account.is_none() && !is_resident) {
        return Err(MatrixError::forbidden("there is no such user on this server"));
    }
    membership::check_invitable(app, std::slice::from_ref(user)).await
}

/// Refuses what the other server tells about the room where it cannot be true. In rooms whose id is that of their
/// create event this can be told; in others the specification leaves it open, and old servers tell less.
async fn check_room_state(
    app: &App,
    version: &'static RoomVersion,
    room_id: &RoomId,
    told: &[RawStrippedState],
) -> Result<(), MatrixError> {
    if !version.room_id_is_create_id() {
        return Ok(());
    }
    let (events, refused) = stripped::verified(app, version, room_id, told).await;
    if let Some(error) = refused {
        return Err(MatrixError::invalid_param(format!("in invite_room_state, {error}")));
    }
    if !events.iter().any(|event| event.is_state_of("m.room.create", "")) {
        return Err(MatrixError::invalid_param("invite_room_state lacks the create event"));
    }
    Ok(())
}
