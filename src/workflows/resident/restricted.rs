//! Rooms that membership of another room lets in: vouching for other servers' users.

use myelin_actors::room::view::RoomView;
use myelin_core::{membership::Membership, nid::RoomNid, pdu::Pdu};
use myelin_storage::rooms;
use ruma::{OwnedUserId, RoomId, UserId, api::error::ErrorKind};
use serde::Deserialize;

use crate::{
    app::App,
    error::MatrixError,
    workflows::{join, outsiders::JoinRules},
};

/// The user of ours by whose authority a user of another server may join the room. `None`: they need none.
///
/// Refused when they are in none of the rooms that would allow it, when that cannot be told here, and when none of our
/// users could let them in.
pub async fn authoriser(
    app: &App,
    view: &RoomView,
    user: &UserId,
) -> Result<Option<OwnedUserId>, MatrixError> {
    let rules = JoinRules::of_view(view);
    if !is_restricted(view, &rules) || is_let_in(app, view, user).await? {
        return Ok(None);
    }
    require_condition(app, &rules, user).await?;
    if let Some(authoriser) = join::local_inviter(app, view).await? {
        return Ok(Some(authoriser));
    }
    let why = "nobody on this server may invite to this room";
    Err(MatrixError::bad_request(ErrorKind::UnableToGrantJoin, why))
}

/// The event says that a user of ours vouches for its sender.
pub fn is_by_ours(app: &App, event: &Pdu) -> bool {
    named_authoriser(event).is_some_and(|user| app.is_ours(user.server_name()))
}

/// Refuses a join that names a user of ours as the one who vouches, and does not meet the room's conditions.
///
/// Whether that user may invite is asked when the event is authorised.
pub async fn check(app: &App, view: &RoomView, event: &Pdu) -> Result<(), MatrixError> {
    let rules = JoinRules::of_view(view);
    if !is_restricted(view, &rules) || is_let_in(app, view, event.sender()).await? {
        return Ok(());
    }
    require_condition(app, &rules, event.sender()).await
}

fn named_authoriser(event: &Pdu) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        join_authorised_via_users_server: OwnedUserId,
    }
    let is_known = event.version().rules.authorization.restricted_join_rule;
    let content = event.content_as::<Content>().filter(|_| is_known);
    content.map(|content| content.join_authorised_via_users_server)
}

fn is_restricted(view: &RoomView, rules: &JoinRules) -> bool {
    let known = &view.version.rules.authorization;
    match rules.rule.as_str() {
        "restricted" => known.restricted_join_rule,
        "knock_restricted" => known.knock_restricted_join_rule,
        _ => false,
    }
}

/// One who is in the room or was invited needs no condition.
async fn is_let_in(app: &App, view: &RoomView, user: &UserId) -> Result<bool, MatrixError> {
    let nid = app.actors.nids.find_users(&[user]).await?.pop().flatten();
    let membership = nid.and_then(|nid| view.membership(nid));
    Ok(matches!(membership, Some(Membership::Join | Membership::Invite)))
}

/// Refuses a user who is in none of the rooms whose members may join.
async fn require_condition(app: &App, rules: &JoinRules, user: &UserId) -> Result<(), MatrixError> {
    let ids: Vec<&RoomId> = rules.allowed.iter().map(AsRef::as_ref).collect();
    let known = rooms::find_nids(&app.storage.get().await?, &ids).await?;
    let known: Vec<RoomNid> = known.into_values().collect();
    let views = app.actors.rooms.views(&known).await?;
    // Where we are not, what we know is old.
    let ours = views.values().filter(|view| view.servers.contains_key(&app.config.server_name));
    let ours: Vec<_> = ours.collect();
    let nid = app.actors.nids.find_users(&[user]).await?.pop().flatten();
    if nid.is_some_and(|nid| ours.iter().any(|view| view.is_joined(nid))) {
        return Ok(());
    }
    if ours.len() < rules.allowed.len() {
        let why = "this server does not know all rooms whose members may join this room";
        return Err(MatrixError::bad_request(ErrorKind::UnableToAuthorizeJoin, why));
    }
    Err(MatrixError::forbidden("the user is in none of the rooms whose members may join this room"))
}
