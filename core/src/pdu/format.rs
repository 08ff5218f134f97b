//! Events from other servers: the checks that need nothing but the event itself.
//!
//! Signatures are checked apart ([`super::sign::verify`]), since that needs keys.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use ruma::canonical_json::redact_in_place;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId};
use serde_json::value::RawValue;

use super::{Pdu, PduError, hash, json};
use crate::version::RoomVersion;

/// How large an event may be, as canonical JSON with its signatures.
pub const MAX_EVENT_BYTES: usize = 65_536;
/// How long types, state keys, and the ids of events, rooms and users may be.
pub const MAX_ID_BYTES: usize = 255;
/// How many events an event may follow.
pub const MAX_PREV_EVENTS: usize = 20;
/// How many auth events an event may name.
pub const MAX_AUTH_EVENTS: usize = 10;

/// Reads an event that another server sent. If its content is not what its hash was made for, the event is
/// redacted, as the specification asks.
pub fn parse_remote(version: &'static RoomVersion, json: &RawValue) -> Result<Pdu, PduError> {
    parse_remote_object(version, json::parse(version, json.get())?)
}

/// The same for an event that is parsed already. It cannot hold what only room versions 1 to 5 allow.
pub fn parse_remote_object(
    version: &'static RoomVersion,
    mut event: CanonicalJsonObject,
) -> Result<Pdu, PduError> {
    event.remove("unsigned");
    check_fields(version, &event)?;
    let event_id = hash::event_id(version, &event)?;
    let mut text = json::write(version, &event);
    check_size("the event", text.len(), MAX_EVENT_BYTES)?;
    if !hash::has_its_content(version, &event) {
        redact_in_place(&mut event, &version.rules.redaction, None)
            .map_err(|error| PduError::format(error.to_string()))?;
        text = json::write(version, &event);
    }
    Pdu::from_stored(version, event_id, text)
}

/// Refuses what is larger than its limit.
pub(super) fn check_size(what: &'static str, bytes: usize, limit: usize) -> Result<(), PduError> {
    if bytes > limit { Err(PduError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// Refuses an event of this type and with this state key, whatever else is in it, if they are too long.
pub fn check_names(event_type: &str, state_key: Option<&str>) -> Result<(), PduError> {
    check_size("type", event_type.len(), MAX_ID_BYTES)?;
    check_size("state_key", state_key.map_or(0, str::len), MAX_ID_BYTES)
}

/// The fields that every event of the version must have, their types and sizes.
pub(super) fn check_fields(version: &RoomVersion, event: &CanonicalJsonObject) -> Result<(), PduError> {
    let event_type = string(event, "type")?.ok_or_else(|| missing("type"))?;
    string(event, "sender")?.ok_or_else(|| missing("sender"))?;
    string(event, "state_key")?;
    if version.events_carry_ids() {
        // Its server has to sign the event, so there must be one.
        let event_id = string(event, "event_id")?.ok_or_else(|| missing("event_id"))?;
        if !<&EventId>::try_from(event_id).is_ok_and(|id| id.server_name().is_some()) {
            return Err(PduError::format("the `event_id` names no server"));
        }
    }
    let room_id = string(event, "room_id")?;
    if version.room_id_is_create_id() && event_type == "m.room.create" {
        if room_id.is_some() {
            return Err(PduError::format("a create event of this room version has no `room_id`"));
        }
    } else if room_id.is_none() {
        return Err(missing("room_id"));
    }
    for field in ["content", "hashes", "signatures"] {
        if !event.get(field).is_some_and(CanonicalJsonValue::is_object) {
            return Err(missing(field));
        }
    }
    for field in ["depth", "origin_server_ts"] {
        check_number(version, event, field)?;
    }
    check_references(version, event, "prev_events", MAX_PREV_EVENTS)?;
    check_references(version, event, "auth_events", MAX_AUTH_EVENTS)?;
    if let Some(room_id) = room_id.filter(|_| version.room_id_is_create_id()) {
        check_create_is_implied(event, room_id)?;
    }
    Ok(())
}

fn missing(field: &str) -> PduError {
    PduError::format(format!("`{field}` is missing in the event or not of the right type"))
}

/// An optional string that serves as an id.
fn string<'a>(event: &'a CanonicalJsonObject, field: &'static str) -> Result<Option<&'a str>, PduError> {
    let Some(value) = event.get(field) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or_else(|| missing(field))?;
    check_size(field, text.len(), MAX_ID_BYTES)?;
    Ok(Some(text))
}

fn check_number(
    version: &RoomVersion,
    event: &CanonicalJsonObject,
    field: &'static str,
) -> Result<(), PduError> {
    match event.get(field) {
        Some(CanonicalJsonValue::Integer(number)) if i64::from(*number) >= 0 => Ok(()),
        // A number beyond canonical JSON, or a string in its place: the event's header tells them apart.
        Some(CanonicalJsonValue::String(_)) if !version.is_strict_json() => Ok(()),
        _ => Err(missing(field)),
    }
}

fn check_references(
    version: &RoomVersion,
    event: &CanonicalJsonObject,
    field: &'static str,
    limit: usize,
) -> Result<(), PduError> {
    let references = event.get(field).and_then(CanonicalJsonValue::as_array).ok_or_else(|| missing(field))?;
    if references.len() > limit {
        return Err(PduError::format(format!("`{field}` names more than {limit} events")));
    }
    for reference in references {
        let id = if version.references_carry_hashes() {
            match reference.as_array() {
                Some([id, hashes]) if hashes.is_object() => id.as_str(),
                _ => None,
            }
        } else {
            reference.as_str()
        };
        check_size("event id", id.ok_or_else(|| missing(field))?.len(), MAX_ID_BYTES)?;
    }
    Ok(())
}

/// Where the room's id is that of its create event, naming it among the auth events is an error.
fn check_create_is_implied(event: &CanonicalJsonObject, room_id: &str) -> Result<(), PduError> {
    let auth_events = event.get("auth_events").and_then(CanonicalJsonValue::as_array).unwrap_or_default();
    let names_create = auth_events
        .iter()
        .filter_map(CanonicalJsonValue::as_str)
        .any(|id| id.strip_prefix('$').is_some_and(|hash| room_id.strip_prefix('!') == Some(hash)));
    if names_create {
        return Err(PduError::format("`auth_events` names the create event"));
    }
    Ok(())
}
