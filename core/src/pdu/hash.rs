//! Content hashes, reference hashes, and the event ids that are made of them.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#signing-events>

use ruma::canonical_json::redact_in_place;
use ruma::room_version_rules::EventIdFormatVersion;
use ruma::serde::Base64;
use ruma::serde::base64::{Standard, UrlSafe};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId};
use sha2::{Digest, Sha256};

use super::{PduError, json};
use crate::version::RoomVersion;

/// The content hash: over everything in the event but hashes, signatures and `unsigned`.
pub fn content_hash(version: &RoomVersion, event: &CanonicalJsonObject) -> [u8; 32] {
    let mut bare = event.clone();
    for field in ["hashes", "signatures", "unsigned"] {
        bare.remove(field);
    }
    Sha256::digest(json::write(version, &bare)).into()
}

/// Whether the event still has the content that its `hashes` were made for.
pub fn has_its_content(version: &RoomVersion, event: &CanonicalJsonObject) -> bool {
    let hashes = event.get("hashes").and_then(CanonicalJsonValue::as_object);
    let hash = hashes.and_then(|hashes| hashes.get("sha256")).and_then(CanonicalJsonValue::as_str);
    hash.and_then(|hash| Base64::<Standard>::parse(hash).ok())
        .is_some_and(|hash| hash.as_bytes() == content_hash(version, event))
}

/// The event as its sender's server signs it: redacted, without signatures and `unsigned`.
pub fn signed_json(version: &RoomVersion, event: &CanonicalJsonObject) -> Result<String, PduError> {
    let mut redacted = event.clone();
    redact_in_place(&mut redacted, &version.rules.redaction, None)
        .map_err(|error| PduError::format(error.to_string()))?;
    for field in ["signatures", "unsigned"] {
        redacted.remove(field);
    }
    Ok(json::write(version, &redacted))
}

/// The reference hash: over the event as it is signed, so that a redaction leaves it as it was.
pub fn reference_hash(version: &RoomVersion, event: &CanonicalJsonObject) -> Result<String, PduError> {
    let hash: [u8; 32] = Sha256::digest(signed_json(version, event)?).into();
    Ok(match version.rules.event_id_format {
        EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => Base64::<Standard, _>::new(hash).encode(),
        _ => Base64::<UrlSafe, _>::new(hash).encode(),
    })
}

/// The event's id: the one that it carries in room versions 1 and 2, else its reference hash.
pub fn event_id(version: &RoomVersion, event: &CanonicalJsonObject) -> Result<OwnedEventId, PduError> {
    let id = if version.events_carry_ids() {
        let id = event.get("event_id").and_then(CanonicalJsonValue::as_str);
        id.ok_or_else(|| PduError::format("the event has no `event_id`"))?.to_owned()
    } else {
        format!("${}", reference_hash(version, event)?)
    };
    EventId::parse(id).map_err(|error| PduError::format(format!("the event's id is not valid: {error}")))
}

#[cfg(test)]
mod tests {
    use ruma::signatures;

    use super::*;
    use crate::version::all;

    const EVENT: &str = r#"{"auth_events":[],"content":{"body":"hi","membership":"join"},"depth":3,
        "event_id":"$0:domain","hashes":{},"origin":"domain","origin_server_ts":1000000,"prev_events":[],
        "redacts":"$1:domain","room_id":"!x:domain","sender":"@a:domain","signatures":{},
        "state_key":"@a:domain","type":"m.room.member","unsigned":{"age_ts":1000000}}"#;

    #[test]
    fn hashes_are_those_of_ruma() {
        let event: CanonicalJsonObject = serde_json::from_str(EVENT).unwrap();
        for version in all() {
            let content = signatures::content_hash(&event).unwrap();
            assert_eq!(content_hash(version, &event), content.as_bytes());
            let reference = signatures::reference_hash(&event, &version.rules).unwrap();
            assert_eq!(reference_hash(version, &event).unwrap(), reference);
        }
    }

    #[test]
    fn the_event_id_is_carried_or_made() {
        let event: CanonicalJsonObject = serde_json::from_str(EVENT).unwrap();
        for version in all() {
            let id = event_id(version, &event).unwrap();
            assert_eq!(id == "$0:domain", version.events_carry_ids());
        }
    }
}
