//! Our own events: from what a user wants to send to a hashed and signed PDU.
//!
//! Who may send what is not asked here: see [`crate::admit`].

use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId,
};

pub use super::sign::Signer;
use super::{Pdu, PduError, format, hash, json, sign};
use crate::version::RoomVersion;

/// Everything about an event but its hash, id and signature.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room. `None` for the create event of a room whose id is derived from it.
    pub room_id: Option<OwnedRoomId>,
    /// The user who sends it.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content. `redacts` is put where the room version wants it.
    pub content: CanonicalJsonObject,
    /// The event that it redacts.
    pub redacts: Option<OwnedEventId>,
    /// The events that it follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it: see [`crate::auth::auth_keys`].
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the depth of the deepest event that it follows.
    pub depth: i64,
    /// Now.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// The part of the event id before the `:`, for room versions 1 and 2, where servers choose it at
    /// random. Not used in other versions, which make the id from the hash.
    pub event_id_local_part: Option<String>,
}

/// Makes the event: formats it for the version, checks the limits, hashes and signs it.
pub fn build(version: &'static RoomVersion, draft: Draft, signer: &Signer) -> Result<Pdu, PduError> {
    let event = unsigned_event(version, draft, signer)?;
    seal(version, event, signer)
}

/// Makes an event for another server to sign: the template of a join, leave or knock that it asked for. It
/// has neither hashes nor signatures, nor in room versions 1 and 2 an id, and so it is not a PDU.
pub fn template(
    version: &'static RoomVersion,
    draft: Draft,
    signer: &Signer,
) -> Result<CanonicalJsonObject, PduError> {
    let mut event = unsigned_event(version, draft, signer)?;
    event.remove("event_id");
    Ok(event)
}

/// Hashes, signs and checks a template that another server made for us.
pub fn complete_template(
    version: &'static RoomVersion,
    mut event: CanonicalJsonObject,
    event_id_local_part: Option<String>,
    signer: &Signer,
) -> Result<Pdu, PduError> {
    for field in ["event_id", "hashes", "signatures", "unsigned"] {
        event.remove(field);
    }
    insert_event_id(version, &mut event, event_id_local_part, signer)?;
    seal(version, event, signer)
}

fn seal(
    version: &'static RoomVersion,
    mut event: CanonicalJsonObject,
    signer: &Signer,
) -> Result<Pdu, PduError> {
    let hash = Base64::<Standard, _>::new(hash::content_hash(version, &event)).encode();
    event.insert("hashes".to_owned(), CanonicalJsonObject::from([("sha256".to_owned(), hash.into())]).into());
    sign::sign_object(version, &mut event, signer)?;
    format::check_fields(version, &event)?;
    let text = json::write(version, &event);
    format::check_size("the event", text.len(), format::MAX_EVENT_BYTES)?;
    Pdu::from_stored(version, hash::event_id(version, &event)?, text)
}

fn unsigned_event(
    version: &RoomVersion,
    draft: Draft,
    signer: &Signer,
) -> Result<CanonicalJsonObject, PduError> {
    json::check_local(&draft.content)?;
    let mut content = draft.content;
    let mut event = CanonicalJsonObject::new();
    insert_event_id(version, &mut event, draft.event_id_local_part, signer)?;
    let mut insert = |key: &str, value: CanonicalJsonValue| event.insert(key.to_owned(), value);
    if let Some(redacts) = draft.redacts {
        if version.redacts_in_content() {
            content.insert("redacts".to_owned(), redacts.as_str().into());
        } else {
            insert("redacts", redacts.as_str().into());
        }
    }
    if let Some(room_id) = draft.room_id {
        insert("room_id", room_id.as_str().into());
    }
    if let Some(state_key) = draft.state_key {
        insert("state_key", state_key.into());
    }
    insert("auth_events", references(version, &draft.auth_events));
    insert("content", content.into());
    insert("depth", Int::try_from(draft.depth).unwrap_or(Int::MAX).into());
    insert("origin_server_ts", draft.origin_server_ts.0.into());
    insert("prev_events", references(version, &draft.prev_events));
    insert("sender", draft.sender.as_str().into());
    insert("type", draft.event_type.into());
    Ok(event)
}

fn insert_event_id(
    version: &RoomVersion,
    event: &mut CanonicalJsonObject,
    local_part: Option<String>,
    signer: &Signer,
) -> Result<(), PduError> {
    if version.events_carry_ids() {
        let local_part = local_part
            .ok_or_else(|| PduError::format("an event of this room version needs an id of its own"))?;
        event.insert("event_id".to_owned(), format!("${local_part}:{}", signer.server_name).into());
    }
    Ok(())
}

/// In room versions 1 and 2 a reference has room for hashes of the event. We give none: nobody checks them.
fn references(version: &RoomVersion, ids: &[OwnedEventId]) -> CanonicalJsonValue {
    let reference = |id: &OwnedEventId| -> CanonicalJsonValue {
        let id: CanonicalJsonValue = id.as_str().into();
        if version.references_carry_hashes() {
            vec![id, CanonicalJsonObject::new().into()].into()
        } else {
            id
        }
    };
    ids.iter().map(reference).collect::<Vec<_>>().into()
}
