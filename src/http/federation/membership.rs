//! Users of other servers who come into rooms of ours, knock, or go, and users of ours who are invited elsewhere.

pub mod answers;

use myelin_core::membership::Membership;
use ruma::{
    OwnedRoomId,
    api::federation::{
        authentication::ServerSignatures,
        membership::{
            RawStrippedState, create_invite, create_join_event, create_knock_event, create_leave_event,
            prepare_join_event, prepare_knock_event, prepare_leave_event,
        },
    },
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use self::answers::JoinAnswer;
use super::path;
use crate::{
    app::App,
    error::MatrixError,
    http::{
        endpoint::{Plain, Ruma},
        response::{JsonText, Raw},
    },
    workflows::{
        invited::{self, Invitation},
        resident::{
            accept::accept,
            template::{self, Asking},
        },
        stripped,
    },
};

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
pub async fn prepare_join_event(
    app: App,
    req: Ruma<prepare_join_event::v1::Request>,
) -> Result<prepare_join_event::v1::Response, MatrixError> {
    let asking = Asking { server: req.origin(), room_id: &req.room_id, user: &req.user_id };
    let made = template::join(&app, asking, &req.ver).await?;
    let mut response = prepare_join_event::v1::Response::new(made.event);
    response.room_version = Some(made.version);
    Ok(response)
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
///
/// Answered with the state before the join, whole or without most members.
pub async fn create_join_event(
    app: App,
    req: Ruma<create_join_event::v2::Request>,
) -> Result<Raw, MatrixError> {
    let place = (&*req.room_id, req.event_id.as_str());
    let accepted = accept(&app, req.origin(), place, &req.pdu, Membership::Join).await?;
    let answer = JoinAnswer { accepted, omits_members: req.omit_members, is_in_array: false };
    answer.write(app).await
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`
///
/// The same for old servers; ruma has no type for it.
pub async fn create_join_event_v1(app: App, req: Plain<ServerSignatures>) -> Result<Raw, MatrixError> {
    let (room_id, event_id) = room_and_event(&req.args)?;
    let pdu: Box<RawValue> = req.json()?;
    let accepted = accept(&app, req.origin(), (&room_id, event_id), &pdu, Membership::Join).await?;
    let answer = JoinAnswer { accepted, omits_members: false, is_in_array: true };
    answer.write(app).await
}

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
pub async fn prepare_leave_event(
    app: App,
    req: Ruma<prepare_leave_event::v1::Request>,
) -> Result<prepare_leave_event::v1::Response, MatrixError> {
    let asking = Asking { server: req.origin(), room_id: &req.room_id, user: &req.user_id };
    let made = template::leave(&app, asking).await?;
    Ok(prepare_leave_event::v1::Response::new(Some(made.version), made.event))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
///
/// Not read by ruma, which looks at the event's id before the event.
pub async fn create_leave_event(
    app: App,
    req: Plain<ServerSignatures>,
) -> Result<create_leave_event::v2::Response, MatrixError> {
    let (room_id, event_id) = room_and_event(&req.args)?;
    let pdu: Box<RawValue> = req.json()?;
    accept(&app, req.origin(), (&room_id, event_id), &pdu, Membership::Leave).await?;
    Ok(create_leave_event::v2::Response::new())
}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`
///
/// The same for old servers; ruma has no type for it.
pub async fn create_leave_event_v1(app: App, req: Plain<ServerSignatures>) -> Result<JsonText, MatrixError> {
    let (room_id, event_id) = room_and_event(&req.args)?;
    let pdu: Box<RawValue> = req.json()?;
    accept(&app, req.origin(), (&room_id, event_id), &pdu, Membership::Leave).await?;
    JsonText::of(&json!([200, {}]))
}

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
pub async fn prepare_knock_event(
    app: App,
    req: Ruma<prepare_knock_event::v1::Request>,
) -> Result<prepare_knock_event::v1::Response, MatrixError> {
    let asking = Asking { server: req.origin(), room_id: &req.room_id, user: &req.user_id };
    let made = template::knock(&app, asking, &req.ver).await?;
    Ok(prepare_knock_event::v1::Response::new(made.version, made.event))
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
///
/// Answered with what may be shown of the room to one outside.
pub async fn create_knock_event(
    app: App,
    req: Ruma<create_knock_event::v1::Request>,
) -> Result<create_knock_event::v1::Response, MatrixError> {
    let place = (&*req.room_id, req.event_id.as_str());
    accept(&app, req.origin(), place, &req.pdu, Membership::Knock).await?;
    let view = app.actors.rooms.view(&req.room_id).await?;
    Ok(create_knock_event::v1::Response::new(stripped::of_view(&view, None)))
}

/// The body of `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`, in which some servers leave out the state.
#[derive(Deserialize)]
struct InviteV2 {
    room_version: ruma::RoomVersionId,
    event: Box<RawValue>,
    #[serde(default)]
    invite_room_state: Vec<RawStrippedState>,
}

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
pub async fn create_invite(
    app: App,
    req: Plain<ServerSignatures>,
) -> Result<create_invite::v2::Response, MatrixError> {
    let (room_id, event_id) = room_and_event(&req.args)?;
    let body: InviteV2 = req.json()?;
    let invitation = Invitation {
        server: req.origin(),
        room_id: &room_id,
        event_id,
        version: body.room_version,
        event: &body.event,
        room_state: &body.invite_room_state,
    };
    Ok(create_invite::v2::Response::new(invited::receive(&app, invitation).await?))
}

/// What is read of the body of `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}` besides the event that it is.
#[derive(Default, Deserialize)]
struct InviteV1 {
    #[serde(default)]
    unsigned: UnsignedV1,
}

#[derive(Default, Deserialize)]
struct UnsignedV1 {
    #[serde(default)]
    invite_room_state: Vec<RawStrippedState>,
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`
///
/// For rooms of the first two versions: the body is the event, and says nothing of its version.
pub async fn create_invite_v1(app: App, req: Plain<ServerSignatures>) -> Result<JsonText, MatrixError> {
    let (room_id, event_id) = room_and_event(&req.args)?;
    let event: Box<RawValue> = req.json()?;
    let InviteV1 { unsigned } = req.json()?;
    let invitation = Invitation {
        server: req.origin(),
        room_id: &room_id,
        event_id,
        version: invited::version_of_old_invite(&app, &room_id).await?,
        event: &event,
        room_state: &unsigned.invite_room_state,
    };
    let event = invited::receive(&app, invitation).await?;
    JsonText::of(&json!([200, { "event": event }]))
}

fn room_and_event(arguments: &[String]) -> Result<(OwnedRoomId, &str), MatrixError> {
    Ok((path::argument(arguments, 0)?, arguments.get(1).map_or("", String::as_str)))
}
