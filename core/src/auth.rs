//! Authorisation: which state an event needs to be allowed, and whether that state allows it.
//!
//! The rules of each room version are ruma's (`ruma-state-res`); this module gives them our events, adds the
//! checks that ruma leaves to its caller, and answers in our words.
//! <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>

pub mod power_levels;

use ruma::events::{StateEventType, TimelineEventType};
use ruma::state_res::events::{RoomMemberEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField};
use ruma::state_res::{
    Event, auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
};
use ruma::{CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

pub use self::power_levels::PowerLevels;
use crate::pdu::{Pdu, format::MAX_ID_BYTES};
use crate::version::RoomVersion;

/// Why an event is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct AuthError {
    /// The rule that it breaks, for people to read.
    pub why: String,
}

impl AuthError {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// An auth event, and whether it was rejected itself.
#[derive(Clone, Debug)]
pub struct AuthEvent {
    /// The event.
    pub pdu: Pdu,
    /// We rejected it, so that nothing can be based on it.
    pub rejected: bool,
}

/// The types and state keys of the state that an event with these properties needs as auth events, where the
/// room has them. <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
pub fn auth_keys(
    version: &RoomVersion,
    sender: &UserId,
    event_type: &str,
    state_key: Option<&str>,
    content: &CanonicalJsonObject,
) -> Vec<(String, String)> {
    let raw = to_raw_value(content).expect("canonical JSON can be serialized");
    auth_keys_of_raw(version, sender, &TimelineEventType::from(event_type), state_key, &raw)
}

/// The types and state keys of the state that this event needs as auth events.
pub fn auth_keys_of(event: &Pdu) -> Vec<(String, String)> {
    auth_keys_of_raw(event.version(), event.sender(), event.kind(), event.state_key(), event.content())
}

fn auth_keys_of_raw(
    version: &RoomVersion,
    sender: &UserId,
    kind: &TimelineEventType,
    state_key: Option<&str>,
    content: &RawValue,
) -> Vec<(String, String)> {
    let rules = &version.rules.authorization;
    let keys = auth_types_for_event(kind, sender, state_key, content, rules)
        // A malformed membership is refused when it is authorised; here it is like any other event.
        .or_else(|_| auth_types_for_event(&TimelineEventType::RoomMessage, sender, state_key, content, rules))
        .unwrap_or_default();
    let keys = keys.into_iter().map(|(event_type, state_key)| (event_type.to_string(), state_key));
    // The event's content names some of them. Nothing can be in the state under one that is too long.
    keys.filter(|(_, state_key)| state_key.len() <= MAX_ID_BYTES).collect()
}

/// Checks an event against a state: what has to hold in the state before it, in the state that its auth
/// events make up, and (else it is soft-failed) in the room's current state.
///
/// `create` is the room's create event. `state` is asked only for what [`auth_keys_of`] names, and for the
/// power levels, the join rules and memberships.
pub fn authorize(
    event: &Pdu,
    create: &Pdu,
    state: impl Fn(&str, &str) -> Option<Pdu>,
) -> Result<(), AuthError> {
    if event.event_type() == "m.room.create" {
        return check_create(event);
    }
    let rules = &event.version().rules.authorization;
    check_state_dependent_auth_rules(
        rules,
        event,
        |event_type: &StateEventType, state_key| match event_type {
            StateEventType::RoomCreate => Some(create.clone()),
            _ => state(&event_type.to_string(), state_key),
        },
    )
    .map_err(AuthError::new)
}

/// Checks what does not depend on a state: that a create event is a good one, and that any other event names
/// the auth events that it should, none of them rejected.
///
/// `auth_event` must know all of them, and in room version 12 the create event.
pub fn check_auth_events(
    event: &Pdu,
    auth_event: impl Fn(&EventId) -> Option<AuthEvent>,
) -> Result<(), AuthError> {
    if event.event_type() == "m.room.create" {
        return check_create(event);
    }
    let rules = &event.version().rules.authorization;
    let fetch = |id: &EventId| {
        let AuthEvent { pdu, rejected } = auth_event(id)?;
        Some(Judged { pdu, rejected, hides_room_id: false })
    };
    check_state_independent_auth_rules(rules, event, fetch).map_err(AuthError::new)
}

/// The fields of power levels that hold one number.
const INT_FIELDS: [RoomPowerLevelsIntField; 7] = [
    RoomPowerLevelsIntField::UsersDefault,
    RoomPowerLevelsIntField::EventsDefault,
    RoomPowerLevelsIntField::StateDefault,
    RoomPowerLevelsIntField::Ban,
    RoomPowerLevelsIntField::Redact,
    RoomPowerLevelsIntField::Kick,
    RoomPowerLevelsIntField::Invite,
];

/// Checks that the content which auth rules read can be understood: who sends power levels or a membership that
/// cannot has made a mistake, rather than lacking a right.
pub fn check_content(event: &Pdu) -> Result<(), AuthError> {
    let rules = &event.version().rules.authorization;
    match event.event_type() {
        "m.room.power_levels" => {
            let levels = RoomPowerLevelsEvent::new(event);
            levels.users(rules).map_err(AuthError::new)?;
            levels.events(rules).map_err(AuthError::new)?;
            levels.notifications(rules).map_err(AuthError::new)?;
            INT_FIELDS
                .iter()
                .try_for_each(|field| levels.get_as_int(*field, rules).map(drop))
                .map_err(AuthError::new)
        }
        "m.room.member" => RoomMemberEvent::new(event).membership().map(drop).map_err(AuthError::new),
        _ => Ok(()),
    }
}

fn check_create(event: &Pdu) -> Result<(), AuthError> {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<String>,
    }

    let version = event.version();
    if event.state_key() != Some("") {
        return Err(AuthError::new("the create event's state key is not empty"));
    }
    let content: Content =
        event.content_as().ok_or_else(|| AuthError::new("`room_version` is not a string"))?;
    if content.room_version.as_deref().unwrap_or("1") != version.id.as_str() {
        return Err(AuthError::new("the create event is for another room version"));
    }
    // Where the room id is derived, the event itself carries none, and ruma insists.
    let judged =
        Judged { pdu: event.clone(), rejected: false, hides_room_id: version.room_id_is_create_id() };
    check_state_independent_auth_rules(&version.rules.authorization, judged, |_| None::<Pdu>)
        .map_err(AuthError::new)
}

/// The id of a room's create event, where the room's id is derived from it (version 12).
pub fn create_event_id(version: &RoomVersion, room_id: &RoomId) -> Option<OwnedEventId> {
    if !version.room_id_is_create_id() {
        return None;
    }
    EventId::parse(format!("${}", room_id.strip_sigil())).ok()
}

/// Whether a redaction takes effect on its target, given the power levels at the redaction. In room versions
/// 1 and 2 an accepted redaction always does.
/// <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>
pub fn redaction_applies(redaction: &Pdu, target: &Pdu, levels: &PowerLevels) -> bool {
    if redaction.room_id() != target.room_id() {
        return false;
    }
    redaction.version().rules.authorization.special_case_room_redaction
        || levels.has(redaction.sender(), levels.redact())
        || redaction.sender().server_name() == target.sender().server_name()
}

/// An event with what ruma wants to know about it beside its content.
struct Judged {
    pdu: Pdu,
    rejected: bool,
    hides_room_id: bool,
}

impl Event for Judged {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        Event::event_id(&self.pdu)
    }

    fn room_id(&self) -> Option<&RoomId> {
        if self.hides_room_id { None } else { Event::room_id(&self.pdu) }
    }

    fn sender(&self) -> &UserId {
        Event::sender(&self.pdu)
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        Event::origin_server_ts(&self.pdu)
    }

    fn event_type(&self) -> &TimelineEventType {
        Event::event_type(&self.pdu)
    }

    fn content(&self) -> &RawValue {
        Event::content(&self.pdu)
    }

    fn state_key(&self) -> Option<&str> {
        Event::state_key(&self.pdu)
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Event::prev_events(&self.pdu)
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Event::auth_events(&self.pdu)
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        Event::redacts(&self.pdu)
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

#[cfg(test)]
mod tests;
