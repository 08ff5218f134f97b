//! Invitations of e-mail addresses and the like, once an identity server knows whose they are.
//!
//! The identity server tells the server of the user whose address it is ([`bound`]), and that one asks the server of
//! whoever invited them ([`exchange`]) to make a proper invite of it. Whether the identity server's word counts is for
//! the room's authorisation rules, which know its keys.

use myelin_actors::room::messages::SendEvent;
use myelin_core::membership::Membership;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, ServerName,
    api::federation::thirdparty::{bind_callback::v1::ThirdPartyInvite, exchange_invite},
    events::room::member::SignedContent,
    serde::Raw,
};
use serde_json::value::RawValue;
use tracing::debug;

use super::{content, member, remote_invite, servers};
use crate::{accounts, app::App, error::MatrixError};

/// How many invitations are followed up for one address.
const MAX_INVITES: usize = 20;

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
    if !app.is_ours(sender.server_name()) {
        return Err(MatrixError::forbidden("the one who invites is not a user of this server"));
    }
    let told =
        content::parse(told).ok_or_else(|| MatrixError::bad_json("content is no content of an event"))?;
    let invite = told.get("third_party_invite").and_then(CanonicalJsonValue::as_object);
    let invite = invite.ok_or_else(|| MatrixError::missing_param("there is no third_party_invite"))?;
    send(app, room_id, sender, user, invite.clone()).await
}

/// Follows up on the invitations of an address that is now known to be that of a user of ours. What cannot be done is
/// left: the identity server could do nothing about it.
pub async fn bound(app: &App, user: &OwnedUserId, invites: &[ThirdPartyInvite]) -> Result<(), MatrixError> {
    if !app.is_ours(user.server_name()) || accounts::find_active(app, user).await?.is_none() {
        return Err(MatrixError::not_found("this user is not known here"));
    }
    for invite in invites.iter().take(MAX_INVITES).filter(|invite| invite.mxid == *user) {
        if let Err(error) = follow_up(app, invite).await {
            debug!(room.id = %invite.room_id, %error, "the invitation of an address came to nothing");
        }
    }
    Ok(())
}

async fn follow_up(app: &App, invite: &ThirdPartyInvite) -> Result<(), MatrixError> {
    let own = &app.config.server_name;
    let third_party = third_party_invite(&invite.signed)?;
    if app.is_ours(invite.sender.server_name()) {
        servers::room_of_ours(app, own, &invite.room_id).await?;
        return send(app, &invite.room_id, &invite.sender, &invite.mxid, third_party).await;
    }
    let mut content = member::plain(Membership::Invite, None);
    content.insert("third_party_invite".to_owned(), third_party.into());
    let content = Raw::new(&content).map_err(MatrixError::internal)?.cast_unchecked();
    let request = exchange_invite::v1::Request::new(
        invite.room_id.clone(),
        invite.sender.clone(),
        invite.mxid.clone(),
        content,
    );
    app.remote.request(invite.sender.server_name(), request).await?;
    Ok(())
}

fn third_party_invite(signed: &Raw<SignedContent>) -> Result<CanonicalJsonObject, MatrixError> {
    let bad = || MatrixError::bad_json("what the identity server signed is no object");
    let signed = content::parse(signed.json()).ok_or_else(bad)?;
    Ok(content::object([("signed", signed.into())]))
}

/// Invites the user, with the identity server's word for it.
async fn send(
    app: &App,
    room_id: &RoomId,
    sender: &OwnedUserId,
    user: &OwnedUserId,
    mut third_party: CanonicalJsonObject,
) -> Result<(), MatrixError> {
    name(app, room_id, &mut third_party).await?;
    let mut content = member::plain(Membership::Invite, None);
    content.insert("third_party_invite".to_owned(), third_party.into());
    let event = SendEvent::state(sender.clone(), "m.room.member", user.as_str(), content);
    if remote_invite::server_to_ask(app, &event).is_some() {
        remote_invite::invite(app, room_id, event).await?;
    } else {
        app.actors.rooms.get(room_id).await?.send(event).await?;
    }
    Ok(())
}

/// Puts in the name that the invitation in the room has, whatever the other server says.
async fn name(app: &App, room_id: &RoomId, third_party: &mut CanonicalJsonObject) -> Result<(), MatrixError> {
    let token = third_party.get("signed").and_then(CanonicalJsonValue::as_object);
    let token = token.and_then(|signed| content::text(signed, "token")).map(ToOwned::to_owned);
    let token = token.ok_or_else(|| MatrixError::missing_param("the invite has no token"))?;
    let missing = || MatrixError::forbidden("nobody has invited this address to the room");
    let kind = app.nids.find_types(&["m.room.third_party_invite"]).await?.pop().flatten();
    let key = app.nids.find_state_keys(&[&token]).await?.pop().flatten();
    let (kind, key) = kind.zip(key).ok_or_else(missing)?;
    let view = app.actors.rooms.view(room_id).await?;
    let event = view.state_event(kind, key).ok_or_else(missing)?;
    let event = app.actors.events.load(&[event]).await?.pop().ok_or_else(missing)?;
    let told = content::parse(event.pdu.content()).unwrap_or_default();
    let name = content::text(&told, "display_name").unwrap_or_default();
    third_party.insert("display_name".to_owned(), name.into());
    Ok(())
}
