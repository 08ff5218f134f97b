//! What is told of a room to those who are invited to it or knock on it, between servers.
//!
//! Other servers get whole events; clients get no more of them than the specification's four fields.

use myelin_actors::room::view::RoomView;
use myelin_core::{
    nid::{TypeNid, types},
    pdu::{Pdu, PduError, format},
    version::RoomVersion,
};
use ruma::{RoomId, api::federation::membership::RawStrippedState};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::app::App;

/// The state that is told.
const TOLD: &[TypeNid] = &[
    types::CREATE,
    types::JOIN_RULES,
    types::NAME,
    types::AVATAR,
    types::TOPIC,
    types::CANONICAL_ALIAS,
    types::ENCRYPTION,
];

/// How many events are taken from another server.
const MAX_EVENTS: usize = 100;

/// What other servers are told of the room: whole events, the create event among them. `member` is the member event of
/// the one who invites.
pub fn of_view(view: &RoomView, member: Option<&Pdu>) -> Vec<RawStrippedState> {
    let essentials = TOLD.iter().filter_map(|kind| view.essential(*kind));
    pdus(essentials.chain(member))
}

/// The events as servers tell them.
pub fn pdus<'e>(events: impl Iterator<Item = &'e Pdu>) -> Vec<RawStrippedState> {
    let json = events.filter_map(|event| RawValue::from_string(event.json().to_owned()).ok());
    json.map(RawStrippedState::Pdu).collect()
}

/// What clients may see of the state that another server told, whether it sent whole events or stripped ones.
pub fn prune(told: &[RawStrippedState]) -> Vec<Box<RawValue>> {
    told.iter().take(MAX_EVENTS).filter_map(|event| prune_one(json_of(event))).collect()
}

/// Those of the events that another server told which are whole, of this room, and signed by their servers; and what is
/// wrong with one of the others.
pub async fn verified(
    app: &App,
    version: &'static RoomVersion,
    room_id: &RoomId,
    told: &[RawStrippedState],
) -> (Vec<Pdu>, Option<PduError>) {
    let parse = |event: &RawStrippedState| match event {
        RawStrippedState::Pdu(event) => format::parse_remote(version, event),
        _ => Err(PduError::Format("an event is not whole".to_owned())),
    };
    let elsewhere = || PduError::Format("an event is of another room".to_owned());
    let of_room = |event: Pdu| if event.room_id() == room_id { Ok(event) } else { Err(elsewhere()) };
    let (mut events, mut refused) = (Vec::new(), None);
    for parsed in told.iter().take(MAX_EVENTS).map(parse) {
        match parsed.and_then(of_room) {
            Ok(event) => events.push(event),
            Err(error) => refused = Some(error),
        }
    }
    let mut good = Vec::new();
    for verdict in app.remote.verify_events(events).await {
        match verdict {
            Ok(event) => good.push(event),
            Err(error) => refused = Some(error),
        }
    }
    (good, refused)
}

#[expect(deprecated, reason = "servers from before Matrix 1.16 send stripped events")]
fn json_of(event: &RawStrippedState) -> &RawValue {
    match event {
        RawStrippedState::Stripped(event) => event.json(),
        RawStrippedState::Pdu(event) => event,
        _ => RawValue::NULL,
    }
}

fn prune_one(event: &RawValue) -> Option<Box<RawValue>> {
    #[derive(Deserialize, Serialize)]
    struct Stripped<'a> {
        #[serde(borrow)]
        content: &'a RawValue,
        sender: ruma::OwnedUserId,
        state_key: String,
        #[serde(rename = "type")]
        event_type: String,
    }
    let stripped: Stripped<'_> = serde_json::from_str(event.get()).ok()?;
    stripped.content.get().starts_with('{').then(|| to_raw_value(&stripped).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(event: &serde_json::Value, expected: Option<&serde_json::Value>) {
        let told = serde_json::from_value(event.clone()).expect("JSON");
        let pruned = prune(&[told]);
        let pruned = pruned.first().map(|event| serde_json::from_str(event.get()).expect("JSON"));
        assert_eq!(pruned.as_ref(), expected, "{event}");
    }

    #[test]
    fn clients_see_four_fields() {
        let stripped =
            json!({"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": {"name": "x"}});
        check(&stripped, Some(&stripped));
        let mut whole = stripped.clone();
        for (field, value) in [
            ("auth_events", json!([])),
            ("prev_events", json!([])),
            ("hashes", json!({})),
            ("signatures", json!({})),
            ("unsigned", json!({"age": 1})),
        ] {
            whole[field] = value;
        }
        check(&whole, Some(&stripped));
    }

    #[test]
    fn what_is_no_state_event_is_not_shown() {
        check(&json!({"type": "m.room.name", "sender": "@a:b", "content": {}}), None);
        check(&json!({"type": "m.room.name", "state_key": "", "sender": "@a:b", "content": []}), None);
        check(&json!({"type": "m.room.name", "state_key": "", "sender": "a", "content": {}}), None);
    }
}
