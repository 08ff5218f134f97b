//! Invitations of e-mail addresses and the like, and what becomes of them once an identity server knows whose they are.
//!
//! [`addresses`]: a user of ours invites an address. When somebody proves to own it, the identity server tells their
//! server ([`bound`]), or their client presents what the identity server signed ([`accept`]). Where this server is in the
//! room, it makes a proper invite of it (`issue`), otherwise the server of whoever invited does ([`exchange`]). The
//! room's rules know the identity server's keys; whether those are good still is asked by whoever makes the invite, and
//! by nobody else. <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>

pub mod addresses;

use futures::{StreamExt, stream};
use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    third_party::{InvitationKey, signing_keys},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::thirdparty::{bind_callback::v1::ThirdPartyInvite, exchange_invite},
    serde::Raw,
};
use serde_json::value::RawValue;
use tracing::debug;

use super::{attempts::Attempts, content, member, membership, outsiders, servers};
use crate::{accounts, app::App, error::MatrixError, sessions::User};

/// How many invitations are followed up for one address.
const MAX_INVITES: usize = 100;
/// How many of them at the same time.
const INVITES_AT_ONCE: usize = 4;
/// Of how many of an invitation's keys it is asked whether they are good. Identity servers sign with one of two.
const MAX_KEYS: usize = 4;

/// Makes an invite of the invitation of an address, for a server one of whose users it is.
pub async fn exchange(
    app: &App,
    server: &ServerName,
    room_id: &RoomId,
    (sender, user): (&OwnedUserId, &OwnedUserId),
    told: &RawValue,
) -> Result<(), MatrixError> {
    servers::room_of_ours(app, server, room_id).await?;
    if user.server_name() != server {
        return Err(MatrixError::forbidden("the invite is not for a user of your server"));
    }
    // Their server would not take the invite from anybody else.
    if !app.is_ours(sender.server_name()) {
        return Err(MatrixError::forbidden("the one who invites is not a user of this server"));
    }
    let told =
        content::parse(told).ok_or_else(|| MatrixError::bad_json("content is no content of an event"))?;
    let invite = told.get("third_party_invite").and_then(CanonicalJsonValue::as_object);
    let signed = invite.and_then(|invite| invite.get("signed")).and_then(CanonicalJsonValue::as_object);
    let signed = signed.ok_or_else(|| MatrixError::missing_param("there is no third_party_invite.signed"))?;
    issue(app, room_id, (sender, user), signed).await
}

/// Follows up on the invitations of an address that is now known to be that of a user of ours. Fails when one of them
/// comes to nothing: then the identity server may tell of them again, and those that have not are as they were.
pub async fn bound(app: &App, user: &OwnedUserId, invites: &[ThirdPartyInvite]) -> Result<(), MatrixError> {
    if !app.is_ours(user.server_name()) || accounts::find_active(app, user).await?.is_none() {
        return Err(MatrixError::not_found("this user is not known here"));
    }
    membership::check_invitable(app, std::slice::from_ref(user)).await?;
    let theirs = invites.iter().take(MAX_INVITES).filter(|invite| invite.mxid == *user);
    let following = stream::iter(theirs).map(async |invite| {
        let signed = content::parse(invite.signed.json());
        let signed = signed.ok_or_else(|| MatrixError::bad_json("what is signed is no object"))?;
        let followed = follow_up(app, &invite.room_id, (&invite.sender, user), signed).await;
        followed.inspect_err(|error| {
            debug!(room.id = %invite.room_id, %error, "the invitation of an address came to nothing");
        })
    });
    let followed: Vec<Result<(), MatrixError>> = following.buffered(INVITES_AT_ONCE).collect().await;
    followed.into_iter().collect()
}

/// Gets the user invited who wants to join with what an identity server signed for them. One who is invited already, or
/// in the room, needs nothing of it.
pub async fn accept(
    app: &App,
    by: &User,
    room_id: &RoomId,
    signed: &CanonicalJsonObject,
) -> Result<(), MatrixError> {
    if content::text(signed, "mxid") != Some(by.id.as_str()) {
        return Err(MatrixError::forbidden("third_party_signed is about another user"));
    }
    let sender = content::text(signed, "sender").and_then(|sender| UserId::parse(sender).ok());
    let sender = sender.ok_or_else(|| MatrixError::invalid_param("third_party_signed names no sender"))?;
    let membership = match outsiders::resident(app, room_id).await? {
        Some(view) => view.membership(by.nid),
        None => membership::outside(app, room_id, by.nid).await?.map(|row| row.membership),
    };
    match membership {
        Some(Membership::Join | Membership::Invite) => Ok(()),
        _ => follow_up(app, room_id, (&sender, &by.id), signed.clone()).await,
    }
}

/// Gets a user of ours invited: by this server, where it is in the room, or by that of whoever invited them.
async fn follow_up(
    app: &App,
    room_id: &RoomId,
    (sender, user): (&OwnedUserId, &OwnedUserId),
    signed: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    if outsiders::resident(app, room_id).await?.is_some() {
        return issue(app, room_id, (sender, user), &signed).await;
    }
    let mut attempts = Attempts::default();
    let request = exchange_request(room_id, (sender, user), signed)?;
    for server in others(app, sender, room_id) {
        match app.remote.request(&server, request.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => attempts.failed(&server, error.into())?,
        }
    }
    Err(attempts.error())
}

/// Who may be in the room: the server of whoever invited, and the room's own.
fn others(app: &App, sender: &UserId, room_id: &RoomId) -> Vec<OwnedServerName> {
    let named = [Some(sender.server_name()), room_id.server_name()].into_iter().flatten();
    let mut servers: Vec<_> = named.filter(|server| !app.is_ours(server)).map(ToOwned::to_owned).collect();
    servers.dedup();
    servers
}

fn exchange_request(
    room_id: &RoomId,
    (sender, user): (&OwnedUserId, &OwnedUserId),
    signed: CanonicalJsonObject,
) -> Result<exchange_invite::v1::Request, MatrixError> {
    let mut content = member::plain(Membership::Invite, None);
    // The name is required, and that of the invitation is known to those in the room only.
    let invite = content::object([("display_name", "".into()), ("signed", signed.into())]);
    content.insert("third_party_invite".to_owned(), invite.into());
    let content = Raw::new(&content).map_err(MatrixError::internal)?.cast_unchecked();
    Ok(exchange_invite::v1::Request::new(room_id.to_owned(), sender.clone(), user.clone(), content))
}

/// Invites the user with the identity server's word for it, of which this makes sure that it still holds. One who is in
/// the room already stays.
async fn issue(
    app: &App,
    room_id: &RoomId,
    (sender, user): (&OwnedUserId, &OwnedUserId),
    signed: &CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    let nid = app.actors.nids.find_users(&[user]).await?.pop().flatten();
    // The rules would allow the invite, and it would take the user out of the room.
    if nid.is_some_and(|nid| view.is_joined(nid)) {
        return Ok(());
    }
    let invitation = find_invitation(app, &view, sender, signed).await?;
    require_valid_key(app, &invitation, signed).await?;
    let mut content = member::profile(app, user).await?.content(Membership::Invite, None);
    let name = content::text(&invitation, "display_name").unwrap_or_default();
    let invite = content::object([("display_name", name.into()), ("signed", signed.clone().into())]);
    content.insert("third_party_invite".to_owned(), invite.into());
    membership::send(app, sender, room_id, user, content).await
}

/// The content of the invitation that the room has from this sender under the token.
async fn find_invitation(
    app: &App,
    view: &RoomView,
    sender: &UserId,
    signed: &CanonicalJsonObject,
) -> Result<CanonicalJsonObject, MatrixError> {
    let token = content::text(signed, "token");
    let token = token.ok_or_else(|| MatrixError::missing_param("the invite has no token"))?;
    let missing = || MatrixError::forbidden("nobody has invited this address to the room");
    let kind = app.actors.nids.find_types(&["m.room.third_party_invite"]).await?.pop().flatten();
    let key = app.actors.nids.find_state_keys(&[token]).await?.pop().flatten();
    let (kind, key) = kind.zip(key).ok_or_else(missing)?;
    let event = view.state_event(kind, key).ok_or_else(missing)?;
    let event = app.actors.events.load(&[event]).await?.pop();
    let event = event.filter(|event| event.pdu.sender() == sender).ok_or_else(missing)?;
    content::parse(event.pdu.content()).ok_or_else(missing)
}

/// Refuses what no key of the invitation has signed that is good still, and what cannot be found out.
async fn require_valid_key(
    app: &App,
    invitation: &CanonicalJsonObject,
    signed: &CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let keys = signing_keys(invitation, signed);
    if keys.is_empty() {
        return Err(MatrixError::forbidden("no key of the invitation has signed this"));
    }
    for InvitationKey { public_key, validity_url } in keys.into_iter().take(MAX_KEYS) {
        let Some(url) = validity_url else { return Ok(()) };
        match app.remote.is_key_valid(&url, &public_key).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => debug!(%error, "it is not known whether an identity server's key is good still"),
        }
    }
    Err(MatrixError::forbidden("the identity server's key is not valid, or cannot be asked for"))
}
