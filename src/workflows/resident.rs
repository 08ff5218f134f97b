//! What this server does, as a resident of a room, for users of other servers who come, knock, or go.
//!
//! In two steps, as the specification has it: [`template`] makes the event that the other server is to sign, and
//! [`accept`] takes it back, puts it into the room, and sees that the others in the room get it. What
//! [`invited`](super::invited) does is the other way round: users of this server are asked into rooms elsewhere.

pub mod accept;
pub mod restricted;
pub mod template;

use myelin_core::{
    membership::Membership,
    pdu::{Pdu, PduError, format, json},
    version::RoomVersion,
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId, ServerName};
use serde_json::value::RawValue;

use crate::{app::App, error::MatrixError};

/// Where a member event was handed over, and what it has to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The server that handed it over: its sender's.
    pub server: &'a ServerName,
    /// The room that the path names.
    pub room_id: &'a RoomId,
    /// The event that the path names. Not parsed: what is no id is merely another one than the event's, which is
    /// found out after what is wrong with the event.
    pub event_id: &'a str,
    /// The version of the room.
    pub version: &'static RoomVersion,
    /// What the event makes of the user.
    pub membership: Membership,
}

impl Expected<'_> {
    /// Reads the event. Its signatures are not checked yet, nor whom it is about.
    pub fn parse(&self, json: &RawValue) -> Result<Pdu, MatrixError> {
        let mut object = json::parse(self.version, json.get()).map_err(|error| refuse(&error))?;
        // Without them it is merely not signed, which has an answer of its own.
        for field in ["hashes", "signatures"] {
            object.entry(field.to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
        }
        if self.version.events_carry_ids() && !object.contains_key("event_id") {
            object.insert("event_id".to_owned(), CanonicalJsonValue::from(self.event_id));
        }
        let event = format::parse_remote_object(self.version, object).map_err(|error| refuse(&error))?;
        if event.room_id() != self.room_id {
            return Err(MatrixError::invalid_param("the event is of another room than the path"));
        }
        if event.event_type() != "m.room.member" || Membership::of_event(&event) != Some(self.membership) {
            let why = format!("the event is no m.room.member with membership {}", self.membership.as_str());
            return Err(MatrixError::invalid_param(why));
        }
        if event.sender().server_name() != self.server {
            return Err(MatrixError::forbidden("the event's sender is not a user of your server"));
        }
        Ok(event)
    }

    /// Refuses an event that is not signed as it must be, or is not the one that the path names.
    pub async fn verify(&self, app: &App, event: Pdu) -> Result<Pdu, MatrixError> {
        let event = verify(app, event).await?;
        if event.event_id().as_str() != self.event_id {
            return Err(MatrixError::invalid_param("the event has another id than the path"));
        }
        Ok(event)
    }
}

/// Refuses an event that is not signed by all who must have.
async fn verify(app: &App, event: Pdu) -> Result<Pdu, MatrixError> {
    let verified = app.remote.verify_events(vec![event]).await.pop();
    let verified = verified.ok_or_else(|| MatrixError::internal("no verdict about an event's signatures"))?;
    verified.map_err(|error| MatrixError::forbidden(error.to_string()))
}

/// What another server handed over is no event.
pub fn refuse(error: &PduError) -> MatrixError {
    match error {
        PduError::Json(_) | PduError::Format(_) => MatrixError::bad_json(error.to_string()),
        PduError::TooLarge { .. } => MatrixError::too_large(error.to_string()),
        PduError::Signature(_) | PduError::NoKey(_) => MatrixError::forbidden(error.to_string()),
    }
}
