//! Leaving, forgetting, inviting, kicking and banning: member events that the requester sends for themselves or
//! for others. Coming in is in [`super::join`].

use myelin_actors::room::{error::RoomError, messages::SendEvent};
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid},
};
use myelin_storage::{
    account_data,
    members::{self, MemberRow},
    rooms,
};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, UserId, api::error::ErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{member, outsiders, remote_invite, remote_leave, summary};
use crate::{app::App, error::MatrixError, sessions::User};

/// Sends a member event, and keeps the directory true. The invite of another server's user goes to that server first.
pub async fn send(
    app: &App,
    sender: &OwnedUserId,
    room_id: &RoomId,
    user: &UserId,
    content: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let event = SendEvent::state(sender.clone(), "m.room.member", user.as_str(), content);
    if remote_invite::server_to_ask(app, &event).is_some() {
        remote_invite::invite(app, room_id, event).await?;
    } else {
        app.actors.rooms.get(room_id).await?.send(event).await?;
    }
    summary::refresh(app, room_id).await
}

/// What the user is in the room. `None`: nothing, and never was. An unknown room is like one where they never were.
pub async fn of_user(app: &App, room_id: &RoomId, user: &UserId) -> Result<Option<Membership>, MatrixError> {
    let view = match app.actors.rooms.view(room_id).await {
        Err(RoomError::NotFound) => return Ok(None),
        view => view?,
    };
    let nid = app.actors.nids.find_users(&[user]).await?.pop().flatten();
    Ok(nid.and_then(|nid| view.membership(nid)))
}

/// Takes the requester out of the room: leaves it, rejects the invitation, or withdraws the knock. Done already, it
/// changes nothing.
pub async fn leave(app: &App, by: &User, room_id: &RoomId, reason: Option<&str>) -> Result<(), MatrixError> {
    let (is_known, view) = match app.actors.rooms.view(room_id).await {
        Err(RoomError::NotFound) => (false, None),
        view => (true, Some(view?).filter(|view| outsiders::is_resident(app, view))),
    };
    let membership = match &view {
        Some(view) => view.membership(by.nid),
        None => outside(app, room_id, by.nid).await?.map(|row| row.membership),
    };
    let content = member::plain(Membership::Leave, reason);
    match membership {
        Some(Membership::Join | Membership::Invite | Membership::Knock) if view.is_some() => {
            send(app, &by.id, room_id, &by.id, content).await
        }
        Some(Membership::Join | Membership::Invite | Membership::Knock) => {
            remote_leave::leave(app, by, room_id, content).await
        }
        Some(Membership::Leave) => Ok(()),
        Some(Membership::Ban) => Err(MatrixError::forbidden("you are banned from this room")),
        None if is_known => Err(MatrixError::forbidden("you are not in this room")),
        None => Err(MatrixError::not_found("this room is not known here")),
    }
}

/// What the user is in a room that this server takes no part in, as they were last told.
pub async fn outside(app: &App, room_id: &RoomId, user: UserNid) -> Result<Option<MemberRow>, MatrixError> {
    let client = app.storage.get().await?;
    let room = rooms::find_nids(&client, &[room_id]).await?.remove(room_id);
    let Some(room) = room else { return Ok(None) };
    Ok(members::find(&client, room, user).await?)
}

/// Lets the user forget a room that they are no longer in.
pub async fn forget(app: &App, user: UserNid, room_id: &RoomId) -> Result<(), MatrixError> {
    let Some(row) = outside(app, room_id, user).await? else {
        // Whether there is such a room is asked for its error.
        return app.actors.rooms.view(room_id).await.map(drop).map_err(Into::into);
    };
    match row.membership {
        Membership::Join | Membership::Invite | Membership::Knock => {
            Err(MatrixError::unknown("you are still in this room"))
        }
        Membership::Leave | Membership::Ban => {
            members::forget(&app.storage.get().await?, row.room, user).await?;
            app.actors.syncers.forgotten(user, row.room);
            Ok(())
        }
    }
}

/// Refuses an invitation of users of ours who want none.
pub async fn check_invitable(app: &App, users: &[OwnedUserId]) -> Result<(), MatrixError> {
    #[derive(Deserialize)]
    struct Config {
        default_action: Option<String>,
    }
    let ours: Vec<&OwnedUserId> =
        users.iter().filter(|user| user.server_name() == app.config.server_name).collect();
    if ours.is_empty() {
        return Ok(());
    }
    let nids: Vec<UserNid> = app.actors.nids.find_users(&ours).await?.into_iter().flatten().collect();
    let client = app.storage.get().await?;
    let configs = account_data::find_for_users(&client, &nids, "m.invite_permission_config").await?;
    let blocks = |content: &RawValue| {
        let config = serde_json::from_str::<Config>(content.get()).ok();
        config.and_then(|config| config.default_action).as_deref() == Some("block")
    };
    if configs.iter().any(|(_, content)| blocks(content)) {
        return Err(MatrixError::refused(ErrorKind::InviteBlocked, "this user does not want to be invited"));
    }
    Ok(())
}

/// Invites a user.
pub async fn invite(
    app: &App,
    by: &User,
    room_id: &RoomId,
    user: &OwnedUserId,
    reason: Option<&str>,
) -> Result<(), MatrixError> {
    check_invitable(app, std::slice::from_ref(user)).await?;
    let content = member::profile(app, user).await?.content(Membership::Invite, reason);
    send(app, &by.id, room_id, user, content).await
}

/// Puts a user out who is in the room, invited, or knocking.
pub async fn kick(
    app: &App,
    by: &User,
    room_id: &RoomId,
    user: &OwnedUserId,
    reason: Option<&str>,
) -> Result<(), MatrixError> {
    match of_user(app, room_id, user).await? {
        Some(Membership::Join | Membership::Invite | Membership::Knock) => {
            send(app, &by.id, room_id, user, member::plain(Membership::Leave, reason)).await
        }
        _ => Err(MatrixError::forbidden("this user is not in the room")),
    }
}

/// Bans a user, whatever they are in the room.
pub async fn ban(
    app: &App,
    by: &User,
    room_id: &RoomId,
    user: &OwnedUserId,
    reason: Option<&str>,
) -> Result<(), MatrixError> {
    send(app, &by.id, room_id, user, member::plain(Membership::Ban, reason)).await
}

/// Lifts a user's ban.
pub async fn unban(
    app: &App,
    by: &User,
    room_id: &RoomId,
    user: &OwnedUserId,
    reason: Option<&str>,
) -> Result<(), MatrixError> {
    match of_user(app, room_id, user).await? {
        Some(Membership::Ban) => {
            send(app, &by.id, room_id, user, member::plain(Membership::Leave, reason)).await
        }
        _ => Err(MatrixError::forbidden("this user is not banned")),
    }
}

/// The rooms that the user is in.
pub async fn joined_rooms(app: &App, user: UserNid) -> Result<Vec<OwnedRoomId>, MatrixError> {
    let client = app.storage.get().await?;
    let memberships = members::rooms_of(&client, user).await?;
    let joined = memberships.rooms.iter().map(|room| &room.member);
    let joined = joined.filter(|member| member.membership == Membership::Join);
    let joined: Vec<RoomNid> = joined.map(|member| member.room).collect();
    Ok(rooms::room_ids(&client, &joined).await?.into_values().collect())
}
