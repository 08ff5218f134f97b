//! The form that clients see an event in.
//!
//! Absent: `unsigned`, which differs from reader to reader and is appended at the edge.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>

use std::collections::BTreeMap;
use std::fmt::Write;

use ruma::EventId;
use serde_json::value::{RawValue, to_raw_value};

use super::{Pdu, json};

/// The event as a JSON object that is not closed yet.
pub(super) fn open_object(event: &Pdu) -> String {
    let mut text = String::with_capacity(event.json().len());
    let redacts = event.redacts().filter(|_| event.event_type() == "m.room.redaction");
    text.push_str("{\"content\":");
    match redacts.and_then(|target| content_with_redacts(event, target)) {
        Some(content) => text.push_str(&content),
        None => text.push_str(event.content().get()),
    }
    write_field(&mut text, "event_id", event.event_id().as_str());
    write!(text, ",\"origin_server_ts\":{}", event.origin_server_ts().0)
        .expect("writing to a string cannot fail");
    if let Some(target) = redacts {
        write_field(&mut text, "redacts", target.as_str());
    }
    write_field(&mut text, "room_id", event.room_id().as_str());
    write_field(&mut text, "sender", event.sender().as_str());
    if let Some(state_key) = event.state_key() {
        write_field(&mut text, "state_key", state_key);
    }
    write_field(&mut text, "type", event.event_type());
    text
}

/// Clients find the target of a redaction in both places, whatever the room version.
fn content_with_redacts(event: &Pdu, target: &EventId) -> Option<String> {
    let mut content: BTreeMap<String, Box<RawValue>> = event.content_as()?;
    content.insert("redacts".to_owned(), to_raw_value(target).ok()?);
    serde_json::to_string(&content).ok()
}

fn write_field(text: &mut String, key: &str, value: &str) {
    write!(text, ",\"{key}\":").expect("writing to a string cannot fail");
    json::write_string(text, value);
}
