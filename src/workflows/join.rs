//! Coming into a room: joining, also where membership of another room is what allows it, and knocking.

use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    nid::{UserNid, types},
    pdu::Pdu,
};
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, RoomOrAliasId, api::error::ErrorKind};
use serde::Deserialize;

use super::{aliases, guests, keys, member, membership, power, successor};
use crate::{app::App, error::MatrixError, sessions::User};

/// The field of a member event that names by whose authority a restricted room is joined.
const AUTHORISER: &str = "join_authorised_via_users_server";

/// The room that an id or an alias names.
pub async fn find_room(app: &App, name: &RoomOrAliasId) -> Result<OwnedRoomId, MatrixError> {
    match name.to_owned().try_into() {
        Ok(room_id) => Ok(room_id),
        Err(alias) => aliases::resolve(app, &alias).await,
    }
}

/// Joins the requester to the room; joined already, it changes nothing. `extra` is what the client wants in the
/// member event besides.
pub async fn join(
    app: &App,
    by: &User,
    room_id: &RoomId,
    reason: Option<&str>,
    extra: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    if view.is_joined(by.nid) {
        return Ok(());
    }
    let mut content = extra;
    content.append(&mut member::profile(app, &by.id).await?.content(Membership::Join, reason));
    prepare(app, by, &view, &mut content).await?;
    membership::send(app, &by.id, room_id, &by.id, content).await?;
    keys::announce::entered(app, by.nid, &view).await?;
    successor::carry_over_from_predecessor(app, by.nid, &view).await
}

/// Checks what the room itself cannot, and names the user by whose authority a restricted room is joined: never
/// one whom the client names.
pub async fn prepare(
    app: &App,
    by: &User,
    view: &RoomView,
    content: &mut CanonicalJsonObject,
) -> Result<(), MatrixError> {
    content.remove(AUTHORISER);
    if view.is_joined(by.nid) {
        return Ok(());
    }
    if by.is_guest && !guests::may_join(view) {
        return Err(MatrixError::guest_access_forbidden());
    }
    if let Some(authoriser) = authoriser(app, by, view).await? {
        content.insert(AUTHORISER.to_owned(), authoriser.as_str().into());
    }
    Ok(())
}

/// Asks to be let in.
pub async fn knock(app: &App, by: &User, room_id: &RoomId, reason: Option<&str>) -> Result<(), MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    if !view.version.rules.authorization.knocking {
        return Err(MatrixError::forbidden("nobody can knock on rooms of this version"));
    }
    let content = member::profile(app, &by.id).await?.content(Membership::Knock, reason);
    membership::send(app, &by.id, room_id, &by.id, content).await
}

#[derive(Deserialize)]
struct JoinRules {
    join_rule: String,
    #[serde(default)]
    allow: serde_json::Value,
}

#[derive(Deserialize)]
struct AllowRule {
    #[serde(rename = "type")]
    kind: String,
    room_id: OwnedRoomId,
}

/// The user by whose authority the requester may join a restricted room. `None`: they need none.
///
/// Refused when they are in none of the rooms that would allow it, or when none of our users could let them in.
async fn authoriser(app: &App, by: &User, view: &RoomView) -> Result<Option<OwnedUserId>, MatrixError> {
    let rules = &view.version.rules.authorization;
    let Some(join_rules) = view.essential(types::JOIN_RULES).and_then(Pdu::content_as::<JoinRules>) else {
        return Ok(None);
    };
    let is_restricted = match join_rules.join_rule.as_str() {
        "restricted" => rules.restricted_join_rule,
        "knock_restricted" => rules.knock_restricted_join_rule,
        _ => false,
    };
    if !is_restricted || view.membership(by.nid) == Some(Membership::Invite) {
        return Ok(None);
    }
    if !is_in_allowed_room(app, by.nid, &join_rules.allow).await? {
        return Err(MatrixError::forbidden("you are in none of the rooms whose members may join this room"));
    }
    match local_inviter(app, view).await? {
        Some(user) => Ok(Some(user)),
        None => Err(MatrixError::bad_request(
            ErrorKind::UnableToGrantJoin,
            "nobody on this server may invite to this room",
        )),
    }
}

async fn is_in_allowed_room(
    app: &App,
    user: UserNid,
    allow: &serde_json::Value,
) -> Result<bool, MatrixError> {
    let rules = allow.as_array().into_iter().flatten();
    let rules = rules.filter_map(|rule| AllowRule::deserialize(rule).ok());
    let allowed: Vec<OwnedRoomId> =
        rules.filter(|rule| rule.kind == "m.room_membership").map(|rule| rule.room_id).collect();
    if allowed.is_empty() {
        return Ok(false);
    }
    let mine = membership::joined_rooms(app, user).await?;
    Ok(mine.iter().any(|room_id| allowed.contains(room_id)))
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
    let mut users = app.nids.user_ids(&local).await?;
    users.sort_unstable();
    let able = users.into_iter().filter(|user| levels.has(user, levels.invite()));
    Ok(able.max_by_key(|user| levels.level_of(user)))
}
