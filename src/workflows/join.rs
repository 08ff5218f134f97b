//! Coming into a room: joining, also where membership of another room is what allows it, and knocking.

use myelin_actors::room::view::RoomView;
use myelin_core::{membership::Membership, nid::UserNid};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomOrAliasId,
    api::error::ErrorKind,
};

use super::{
    aliases, guests, keys, member, membership,
    outsiders::{self, JoinRules},
    power, remote_join, remote_knock, successor,
};
use crate::{app::App, error::MatrixError, sessions::User};

/// The field of a member event that names by whose authority a restricted room is joined.
pub const AUTHORISER: &str = "join_authorised_via_users_server";

/// The room that an id or an alias names, and servers that know it: those that the client named, and those that whoever
/// resolved the alias did.
pub async fn find_room(
    app: &App,
    name: &RoomOrAliasId,
    via: &[OwnedServerName],
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), MatrixError> {
    let mut via = via.to_vec();
    match name.to_owned().try_into() {
        Ok(room_id) => Ok((room_id, via)),
        Err(alias) => {
            let found = aliases::resolve(app, &alias).await?;
            via.extend(found.servers);
            Ok((found.room_id, via))
        }
    }
}

/// Joins the requester to the room; joined already, it changes nothing. `extra` is what the client wants in the
/// member event besides, and the servers `via` help where this one takes no part in the room.
pub async fn join(
    app: &App,
    by: &User,
    room_id: &RoomId,
    via: &[OwnedServerName],
    reason: Option<&str>,
    extra: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let mut content = extra;
    content.append(&mut member::profile(app, &by.id).await?.content(Membership::Join, reason));
    let view = match outsiders::resident(app, room_id).await? {
        Some(view) if view.is_joined(by.nid) => return Ok(()),
        view => view,
    };
    let is_local = match &view {
        Some(view) => prepare(app, by, view, &mut content).await? == Authority::Ours,
        None => false,
    };
    if is_local {
        membership::send(app, &by.id, room_id, &by.id, content).await?;
    } else {
        if by.is_guest {
            return Err(MatrixError::guest_access_forbidden());
        }
        remote_join::join(app, by, room_id, via, content).await?;
        super::summary::refresh(app, room_id).await?;
    }
    let view = app.actors.rooms.view(room_id).await?;
    keys::announce::entered(app, by.nid, &view).await?;
    successor::carry_over_from_predecessor(app, by.nid, &view).await
}

/// Who can let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// This server: the event can be sent.
    Ours,
    /// A user of another server in the room.
    Others,
}

/// Checks what the room itself cannot, and names the user by whose authority a restricted room is joined: never
/// one whom the client names.
pub async fn prepare(
    app: &App,
    by: &User,
    view: &RoomView,
    content: &mut CanonicalJsonObject,
) -> Result<Authority, MatrixError> {
    content.remove(AUTHORISER);
    if view.is_joined(by.nid) {
        return Ok(Authority::Ours);
    }
    if by.is_guest && !guests::may_join(view) {
        return Err(MatrixError::guest_access_forbidden());
    }
    if !needs_authoriser(app, by, view).await? {
        return Ok(Authority::Ours);
    }
    match local_inviter(app, view).await? {
        Some(authoriser) => {
            content.insert(AUTHORISER.to_owned(), authoriser.as_str().into());
            Ok(Authority::Ours)
        }
        None if view.servers.keys().any(|server| !app.is_ours(server)) => Ok(Authority::Others),
        None => Err(MatrixError::bad_request(
            ErrorKind::UnableToGrantJoin,
            "nobody on this server may invite to this room",
        )),
    }
}

/// Asks to be let in. The servers `via` help where this one takes no part in the room.
pub async fn knock(
    app: &App,
    by: &User,
    room_id: &RoomId,
    via: &[OwnedServerName],
    reason: Option<&str>,
) -> Result<(), MatrixError> {
    let content = member::profile(app, &by.id).await?.content(Membership::Knock, reason);
    let Some(view) = outsiders::resident(app, room_id).await? else {
        return remote_knock::knock(app, by, room_id, via, content).await;
    };
    if !view.version.rules.authorization.knocking {
        return Err(MatrixError::forbidden("nobody can knock on rooms of this version"));
    }
    membership::send(app, &by.id, room_id, &by.id, content).await
}

/// Whether the requester can only come in because they are in another room. Refused when they are in none that would
/// allow it.
async fn needs_authoriser(app: &App, by: &User, view: &RoomView) -> Result<bool, MatrixError> {
    let rules = &view.version.rules.authorization;
    let join_rules = JoinRules::of_view(view);
    let is_restricted = match join_rules.rule.as_str() {
        "restricted" => rules.restricted_join_rule,
        "knock_restricted" => rules.knock_restricted_join_rule,
        _ => false,
    };
    if !is_restricted || view.membership(by.nid) == Some(Membership::Invite) {
        return Ok(false);
    }
    let mine = membership::joined_rooms(app, by.nid).await?;
    if mine.iter().any(|room_id| join_rules.allowed.contains(room_id)) {
        return Ok(true);
    }
    Err(MatrixError::forbidden("you are in none of the rooms whose members may join this room"))
}

/// A user of this server in the room who may invite to it: the mightiest of several.
pub async fn local_inviter(app: &App, view: &RoomView) -> Result<Option<OwnedUserId>, MatrixError> {
    let levels = power::levels(view);
    let local: Vec<UserNid> = view
        .members
        .iter()
        .filter(|(_, member)| member.is_local && member.membership == Membership::Join)
        .map(|(user, _)| *user)
        .collect();
    let mut users = app.actors.nids.user_ids(&local).await?;
    users.sort_unstable();
    let able = users.into_iter().filter(|user| levels.has(user, levels.invite()));
    Ok(able.max_by_key(|user| levels.level_of(user)))
}
