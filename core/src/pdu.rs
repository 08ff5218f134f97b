//! PDUs: room events as servers exchange and sign them.
//!
//! A [`Pdu`] is immutable, canonical, and cheap to clone. It comes from one of three places: [`mod@build`] for our
//! own events, [`mod@format`] for events from other servers, and [`Pdu::from_stored`] for events that we have
//! checked before. `unsigned` is never part of it.
//!
//! Absent: whether the event was accepted. That is the room's judgement, not the event's property.

pub mod build;
pub mod client;
pub mod format;
pub mod hash;
pub mod json;
pub mod redact;
pub mod sign;

use std::fmt;
use std::sync::{Arc, OnceLock};

use ruma::events::TimelineEventType;
use ruma::state_res::Event;
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::version::RoomVersion;

/// Why something is not a PDU.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// It is not JSON, or not of the kind that the room version allows.
    #[error("the event's JSON is not valid")]
    Json(#[source] serde_json::Error),
    /// It lacks a field that the room version requires, or has it in the wrong form.
    #[error("{0}")]
    Format(String),
    /// It, or one of its ids, exceeds a limit of the specification.
    #[error("{what} is {bytes} bytes long, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// A server that had to sign it did not.
    #[error("{0}")]
    Signature(String),
    /// Whether it is signed cannot be told: no key of this server could be had.
    #[error("no key of {0} is known")]
    NoKey(String),
}

impl PduError {
    fn format(why: impl Into<String>) -> Self {
        Self::Format(why.into())
    }
}

/// A room event in the form that servers exchange and sign. Two are equal if their ids are.
#[derive(Clone)]
pub struct Pdu(Arc<Inner>);

struct Inner {
    version: &'static RoomVersion,
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    /// The same as `kind`, whose string form would have to be made for each caller.
    event_type: String,
    kind: TimelineEventType,
    state_key: Option<String>,
    content: Box<RawValue>,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    depth: i64,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    redacts: Option<OwnedEventId>,
    json: Box<str>,
    /// Made when first asked for, shared by every reader from then on.
    client_json: OnceLock<Box<str>>,
}

impl Pdu {
    /// An event as we stored it before: neither its hash nor its format are checked again.
    pub fn from_stored(
        version: &'static RoomVersion,
        event_id: OwnedEventId,
        json: String,
    ) -> Result<Self, PduError> {
        let header: Header = serde_json::from_str(&json).map_err(PduError::Json)?;
        let room_id = match header.room_id {
            Some(room_id) => room_id,
            None if version.room_id_is_create_id() && header.event_type == "m.room.create" => {
                room_id_of_create(&event_id)?
            }
            None => return Err(PduError::format("the event has no `room_id`")),
        };
        // Only a redaction redacts: other events may have such a field, and it means nothing.
        let redacts = if header.event_type != "m.room.redaction" {
            None
        } else if version.redacts_in_content() {
            serde_json::from_str::<Redacts>(header.content.get()).ok().and_then(|content| content.redacts)
        } else {
            header.redacts
        };
        Ok(Self(Arc::new(Inner {
            version,
            event_id,
            room_id,
            sender: header.sender,
            kind: TimelineEventType::from(header.event_type.as_str()),
            event_type: header.event_type,
            state_key: header.state_key,
            content: header.content,
            prev_events: header.prev_events.into_iter().map(Reference::id).collect(),
            auth_events: header.auth_events.into_iter().map(Reference::id).collect(),
            depth: header.depth,
            origin_server_ts: timestamp(header.origin_server_ts),
            redacts,
            json: json.into_boxed_str(),
            client_json: OnceLock::new(),
        })))
    }

    /// The event's id: its hash, or in room versions 1 and 2 the id that it carries.
    pub fn event_id(&self) -> &EventId {
        &self.0.event_id
    }

    /// The event's room. For the create event of a version 12 room, the id derived from the event's own.
    pub fn room_id(&self) -> &RoomId {
        &self.0.room_id
    }

    /// The user who sent the event.
    pub fn sender(&self) -> &UserId {
        &self.0.sender
    }

    /// The event's type, such as `m.room.message`.
    pub fn event_type(&self) -> &str {
        &self.0.event_type
    }

    /// The event's type, as ruma knows it.
    pub fn kind(&self) -> &TimelineEventType {
        &self.0.kind
    }

    /// The event's state key. `None`: it is not a state event.
    pub fn state_key(&self) -> Option<&str> {
        self.0.state_key.as_deref()
    }

    /// The event's content, as it is signed.
    pub fn content(&self) -> &RawValue {
        &self.0.content
    }

    /// The content as this type. `None` when it does not fit, which an event from elsewhere need not.
    pub fn content_as<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.content().get()).ok()
    }

    /// The events that this one follows.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.0.prev_events
    }

    /// The events that allow this one.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.0.auth_events
    }

    /// The event's depth: one more than that of the deepest event that it follows, if the sender was honest.
    pub fn depth(&self) -> i64 {
        self.0.depth
    }

    /// When the sender's server says that the event was made.
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.0.origin_server_ts
    }

    /// The event that this one redacts, from the place that counts in its room version.
    pub fn redacts(&self) -> Option<&EventId> {
        self.0.redacts.as_deref()
    }

    /// The event as canonical JSON, with hashes and signatures, without `unsigned`. It holds the event id
    /// only in room versions 1 and 2.
    pub fn json(&self) -> &str {
        &self.0.json
    }

    /// The version of the event's room.
    pub fn version(&self) -> &'static RoomVersion {
        self.0.version
    }

    /// The event is a state event.
    pub fn is_state(&self) -> bool {
        self.0.state_key.is_some()
    }

    /// The event is a state event with this type and key.
    pub fn is_state_of(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type() == event_type && self.state_key() == Some(state_key)
    }

    /// The event for clients, with event and room id, without `unsigned` and without the closing `}`: so that
    /// what each reader gets beside the event can be appended. Made once.
    pub fn client_json(&self) -> &str {
        self.0.client_json.get_or_init(|| client::open_object(self).into())
    }
}

impl fmt::Debug for Pdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pdu({} {})", self.event_type(), self.event_id())
    }
}

impl PartialEq for Pdu {
    fn eq(&self, other: &Self) -> bool {
        self.event_id() == other.event_id()
    }
}

impl Eq for Pdu {}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.0.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        Some(&self.0.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.0.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.0.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.0.kind
    }

    fn content(&self) -> &RawValue {
        &self.0.content
    }

    fn state_key(&self) -> Option<&str> {
        self.0.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.0.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.0.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.0.redacts.as_ref()
    }

    /// Rejection is not the event's property: see [`crate::auth::check_auth_events`].
    fn rejected(&self) -> bool {
        false
    }
}

/// What we read of an event's JSON.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(default)]
    state_key: Option<String>,
    content: Box<RawValue>,
    prev_events: Vec<Reference>,
    auth_events: Vec<Reference>,
    #[serde(deserialize_with = "saturating")]
    depth: i64,
    #[serde(deserialize_with = "saturating")]
    origin_server_ts: i64,
    #[serde(default, deserialize_with = "event_id_or_nothing")]
    redacts: Option<OwnedEventId>,
}

#[derive(Deserialize)]
struct Redacts {
    #[serde(default, deserialize_with = "event_id_or_nothing")]
    redacts: Option<OwnedEventId>,
}

/// A reference to another event: its id, or in room versions 1 and 2 its id and hashes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(OwnedEventId),
    WithHashes(OwnedEventId, IgnoredAny),
}

impl Reference {
    fn id(self) -> OwnedEventId {
        match self {
            Self::Id(id) | Self::WithHashes(id, _) => id,
        }
    }
}

/// Old room versions allow any number here, so it is brought into range instead of refused.
fn saturating<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    if let Some(exact) = number.as_i64() {
        return Ok(exact);
    }
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what we want")]
    let rounded = number.as_f64().map_or(0, |float| float as i64);
    Ok(rounded)
}

/// A `redacts` that is no event id redacts nothing.
fn event_id_or_nothing<'de, D: Deserializer<'de>>(d: D) -> Result<Option<OwnedEventId>, D::Error> {
    let value = serde_json::Value::deserialize(d)?;
    Ok(value.as_str().and_then(|id| EventId::parse(id).ok()))
}

fn timestamp(milliseconds: i64) -> MilliSecondsSinceUnixEpoch {
    let clamped = milliseconds.clamp(0, i64::from(ruma::Int::MAX));
    MilliSecondsSinceUnixEpoch(UInt::try_from(clamped).unwrap_or(UInt::MIN))
}

fn room_id_of_create(event_id: &EventId) -> Result<OwnedRoomId, PduError> {
    let hash = event_id.as_str().trim_start_matches('$');
    RoomId::parse(format!("!{hash}")).map_err(|error| PduError::format(format!("no room id: {error}")))
}

#[cfg(test)]
mod tests;
