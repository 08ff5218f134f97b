//! Inviting users of other servers: their server signs the invite before the room has it.

use myelin_actors::{remote::RemoteError, room::messages::SendEvent};
use myelin_core::{
    membership::Membership,
    nid::types,
    pdu::{Pdu, format, json},
};
use ruma::{
    CanonicalJsonValue, OwnedEventId, RoomId, ServerName, UserId,
    api::federation::membership::{RawStrippedState, create_invite::v2 as create_invite},
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{content, send::add_prepared, stripped};
use crate::{
    app::App,
    error::MatrixError,
    remote::old::{self, HandedOver},
};

/// The server that has to sign this event before the room may have it. `None`: nobody else has to.
pub fn server_to_ask<'a>(app: &App, event: &'a SendEvent) -> Option<&'a ServerName> {
    let is_invite = event.event_type == "m.room.member"
        && content::text(&event.content, "membership") == Some(Membership::Invite.as_str());
    let user = <&UserId>::try_from(event.state_key.as_deref()?).ok()?;
    (is_invite && !app.is_ours(user.server_name())).then(|| user.server_name())
}

/// Sends an invite of a user of another server; its id. Refused as that server refuses it, and when it cannot be
/// reached.
pub async fn invite(app: &App, room_id: &RoomId, event: SendEvent) -> Result<OwnedEventId, MatrixError> {
    let server = server_to_ask(app, &event).map(ToOwned::to_owned);
    let server = server.ok_or_else(|| MatrixError::internal("this is no invite of a remote user"))?;
    if !federates(app.actors.rooms.view(room_id).await?.essential(types::CREATE)) {
        return Err(MatrixError::forbidden("users of other servers cannot come into this room"));
    }
    let room = app.actors.rooms.get(room_id).await?;
    let invite = room.prepare(event).await?;
    let signed = ask(app, &server, room_id, &invite).await?;
    add_prepared(&room, signed).await
}

/// Users of other servers than the creator's may be in the room, as its create event says. The rules of authorisation
/// refuse their joins only; an invite that cannot be accepted is not sent either.
fn federates(create: Option<&Pdu>) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.federate")]
        federate: Option<bool>,
    }
    let content = create.and_then(|create| serde_json::from_str::<Content>(create.content().get()).ok());
    content.and_then(|content| content.federate).unwrap_or(true)
}

/// The invite with the other server's signature.
async fn ask(app: &App, server: &ServerName, room_id: &RoomId, invite: &Pdu) -> Result<Pdu, MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    let inviter = app.actors.nids.find_users(&[invite.sender()]).await?.pop().flatten();
    let inviter: Vec<_> = inviter
        .and_then(|inviter| view.members.get(&inviter))
        .map(|member| member.event)
        .into_iter()
        .collect();
    let inviter = app.actors.events.load(&inviter).await?.pop();
    let state = stripped::of_view(&view, inviter.as_ref().map(|event| &event.pdu));
    let pdu = RawValue::from_string(invite.json().to_owned()).map_err(MatrixError::internal)?;
    let request = create_invite::Request::new(
        room_id.to_owned(),
        invite.event_id().to_owned(),
        invite.version().id.clone(),
        pdu,
        state.clone(),
    );
    let returned = match app.remote.request(server, request).await {
        Ok(answer) => answer.event,
        Err(error) if old::is_old(&error) && invite.version().events_carry_ids() => {
            ask_v1(app, server, room_id, invite, &state).await?
        }
        Err(error) => return Err(error.into()),
    };
    with_signature(invite, server, &returned)
}

/// The same of a server that knows no newer room versions than 1 and 2.
async fn ask_v1(
    app: &App,
    server: &ServerName,
    room_id: &RoomId,
    invite: &Pdu,
    state: &[RawStrippedState],
) -> Result<Box<RawValue>, MatrixError> {
    #[derive(Deserialize)]
    struct Answer {
        event: Box<RawValue>,
    }
    let mut body: serde_json::Value = serde_json::from_str(invite.json()).map_err(MatrixError::internal)?;
    body["unsigned"] = serde_json::json!({ "invite_room_state": state });
    let body = to_raw_value(&body).map_err(MatrixError::internal)?;
    let ids = (room_id, invite.event_id());
    let usual = app.remote.usual();
    let answer: Answer = app.remote.hand_over_v1(server, HandedOver::Invite, ids, &body, usual).await?;
    Ok(answer.event)
}

/// Our invite with the signature that the other server put on it. Nothing else is taken from what it returns, but a
/// server that cannot keep to the room's JSON is not one to be invited to the room.
fn with_signature(invite: &Pdu, server: &ServerName, returned: &RawValue) -> Result<Pdu, MatrixError> {
    let invalid = |why: &str| RemoteError::Invalid(format!("the returned invite {why}"));
    let mut returned = json::parse(invite.version(), returned.get()).map_err(|error| {
        MatrixError::bad_json(format!("the invite as the other server returns it: {error}"))
    })?;
    let mut event =
        json::parse(invite.version(), invite.json()).map_err(|_| invalid("cannot be compared"))?;
    let signature = returned.get_mut("signatures").and_then(CanonicalJsonValue::as_object_mut);
    let signature = signature.and_then(|signatures| signatures.remove(server.as_str()));
    let signature = signature.filter(|signature| signature.as_object().is_some_and(|keys| !keys.is_empty()));
    let signature = signature.ok_or_else(|| invalid("is not signed"))?;
    let signatures = event.get_mut("signatures").and_then(CanonicalJsonValue::as_object_mut);
    signatures.ok_or_else(|| invalid("has no place for it"))?.insert(server.to_string(), signature);
    Ok(format::parse_remote_object(invite.version(), event).map_err(|error| invalid(&error.to_string()))?)
}
