//! The judgement about an event of another server, on the state before it and on the current one.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    admit::{self, Admission, AdmissionCode},
    auth::{self, AuthEvent},
    nid::types,
    pdu::Pdu,
    state::StateMap,
};
use myelin_storage::events::StoredEvent;
use ruma::EventId;

use super::{
    RoomTools,
    error::RoomError,
    head::Head,
    send::{self, Strings},
};

/// An event to be judged.
pub(crate) struct Case<'a> {
    pub pdu: &'a Pdu,
    /// Its auth events.
    pub auth: &'a [Arc<StoredEvent>],
    /// The state before it.
    pub before: &'a StateMap,
    /// It is news: what the room's current state does not allow is soft-failed.
    pub is_news: bool,
}

/// Judges the event. The strings of its state must have been interned.
pub(crate) async fn judge(
    tools: &RoomTools,
    head: &Head,
    strings: &Strings,
    case: &Case<'_>,
) -> Result<Admission, RoomError> {
    let &Case { pdu, auth, before, is_news } = case;
    let create = head.essentials.get(&types::CREATE);
    if pdu.event_type() == "m.room.create" && create.is_some_and(|create| create.pdu != *pdu) {
        return Ok(Admission::Reject("the room has another create event".to_owned()));
    }
    let keys = auth::auth_keys_of(pdu);
    let on_before = Head { state: before.clone(), ..head.clone() };
    let state_before = send::load_state(tools, &on_before, strings, &keys).await?;
    let current =
        if is_news { send::load_state(tools, head, strings, &keys).await? } else { state_before.clone() };
    let auth_event = |id: &EventId| {
        let event = auth.iter().find(|event| event.pdu.event_id() == id)?;
        let rejected = event.admission == AdmissionCode::Rejected;
        Some(AuthEvent { pdu: event.pdu.clone(), rejected })
    };
    let look = |state: &HashMap<(String, String), Arc<StoredEvent>>, event_type: &str, key: &str| {
        state.get(&(event_type.to_owned(), key.to_owned())).map(|event| event.pdu.clone())
    };
    Ok(admit::admit_remote(
        pdu,
        auth_event,
        |event_type, key| look(&state_before, event_type, key),
        |event_type, key| look(&current, event_type, key),
    ))
}

/// The strings that have to be interned to judge these events and to store them: types, and state keys with users.
pub(crate) fn names<'a>(events: impl IntoIterator<Item = &'a Pdu>) -> (Vec<String>, Vec<String>) {
    let (mut types, mut keys) = (Vec::new(), Vec::new());
    for pdu in events {
        types.push(pdu.event_type().to_owned());
        keys.push(pdu.sender().to_string());
        keys.extend(pdu.state_key().map(str::to_owned));
        keys.extend(auth::auth_keys_of(pdu).into_iter().map(|(_, key)| key));
    }
    keys.retain(|key| !key.is_empty());
    for names in [&mut types, &mut keys] {
        names.sort_unstable();
        names.dedup();
    }
    (types, keys)
}
