//! How events are shown to clients: the shared part from the event itself, and `unsigned` for the one who reads.
//!
//! The shared part is serialised once for an event; the rest is appended here. Which events may be shown is decided
//! before, in [`crate::visibility`].

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
};

use myelin_core::{
    nid::{EventNid, UserNid},
    pdu::Pdu,
};
use myelin_storage::{events::StoredEvent, transactions};
use ruma::{DeviceId, OwnedUserId, serde::Raw};
use serde_json::value::RawValue;

use crate::{aggregations, app::App, error::MatrixError, http::auth::User, visibility::Seen};

/// Who reads, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The user.
    pub user: UserNid,
    /// Their device: it sees its own transaction ids.
    pub device: Option<&'a DeviceId>,
    /// Whom they ignore; `None`: that has not been read, and is read where it matters.
    pub ignored: Option<&'a HashSet<OwnedUserId>>,
}

impl<'a> Reader<'a> {
    /// The one who asks.
    pub fn of(user: &'a User) -> Self {
        Self { user: user.nid, device: Some(&user.device_id), ignored: None }
    }

    /// The same, of whom it is known whom they ignore.
    #[must_use]
    pub fn ignoring(self, ignored: &'a HashSet<OwnedUserId>) -> Self {
        Self { ignored: Some(ignored), ..self }
    }
}

/// What one reader sees of an event besides the event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// The transaction id with which the reader's device sent it.
    pub transaction_id: Option<&'a str>,
    /// What the reader was in the room at the event, as the specification's word.
    pub membership: Option<&'a str>,
    /// The JSON object of bundled aggregations.
    pub relations: Option<&'a str>,
}

/// The events in the client format for this reader, in the same order, with bundled aggregations when asked for. A
/// constant number of queries; none when the reader sent none of them and wants no aggregations.
pub async fn client_events(
    app: &App,
    reader: Reader<'_>,
    events: &[Seen],
    with_aggregations: bool,
) -> Result<Vec<String>, MatrixError> {
    let bundles = if with_aggregations {
        let plain: Vec<Arc<StoredEvent>> = events.iter().map(|seen| Arc::clone(&seen.event)).collect();
        aggregations::bundle(app, reader, &plain).await?
    } else {
        HashMap::new()
    };
    let transactions = own_transactions(app, reader, events).await?;
    let now_ms = app.process.clock.now_ms();
    let format = |seen: &Seen| {
        let extras = Extras {
            transaction_id: transactions.get(&seen.event.nid).map(String::as_str),
            membership: Some(seen.membership.as_str()),
            relations: bundles.get(&seen.event.nid).map(String::as_str),
        };
        client_event(&seen.event, &extras, now_ms)
    };
    Ok(events.iter().map(format).collect())
}

/// One event in the client format for this reader, with bundled aggregations.
pub async fn client_event_for(app: &App, reader: Reader<'_>, seen: &Seen) -> Result<String, MatrixError> {
    let mut formatted = client_events(app, reader, std::slice::from_ref(seen), true).await?;
    Ok(formatted.pop().unwrap_or_default())
}

/// The ids of the transactions in which the reader's device sent some of the events.
async fn own_transactions(
    app: &App,
    reader: Reader<'_>,
    events: &[Seen],
) -> Result<HashMap<EventNid, String>, MatrixError> {
    let mut found = HashMap::new();
    let mut unknown = Vec::new();
    let Some(device) = reader.device else { return Ok(found) };
    for event in events.iter().map(|seen| &seen.event).filter(|event| event.sender == reader.user) {
        match app.actors.syncers.transaction_of(event.nid) {
            Some(transaction) if transaction.0 == reader.user && transaction.1 == device => {
                found.insert(event.nid, transaction.2.clone());
            }
            Some(_) => {}
            None => unknown.push(event.nid),
        }
    }
    if !unknown.is_empty() {
        let db = app.storage.get().await?;
        found.extend(transactions::of_device(&db, &unknown, reader.user, device.as_str()).await?);
    }
    Ok(found)
}

/// The event as clients get it.
pub fn client_event(event: &StoredEvent, extras: &Extras<'_>, now_ms: u64) -> String {
    let mut json = String::with_capacity(event.pdu.client_json().len() + 160);
    json.push_str(event.pdu.client_json());
    json.push_str(",\"unsigned\":{\"age\":");
    let sent_ms = u64::from(event.pdu.origin_server_ts().get());
    // Writing to a string cannot fail.
    let _ = write!(json, "{}", i128::from(now_ms) - i128::from(sent_ms));
    if let Some(membership) = extras.membership {
        push_string(&mut json, "membership", membership);
    }
    if let Some(transaction_id) = extras.transaction_id {
        push_string(&mut json, "transaction_id", transaction_id);
    }
    if let Some(replaced) = event.prev_content.as_ref().filter(|_| event.state_key.is_some()) {
        push_json(&mut json, "prev_content", replaced.content.get());
        push_string(&mut json, "prev_sender", replaced.sender.as_str());
        push_string(&mut json, "replaces_state", replaced.event_id.as_str());
    }
    if let Some(redaction) = &event.redacted_because {
        let because = format!("{}}}", redaction.client_json());
        push_json(&mut json, "redacted_because", &because);
        // Older than the field above, and still what some clients look at.
        push_string(&mut json, "redacted_by", redaction.event_id().as_str());
    }
    if let Some(relations) = extras.relations {
        push_json(&mut json, "m.relations", relations);
    }
    json.push_str("}}");
    json
}

/// The event as servers exchange it, with its ids: what a filter with `event_format` `federation` asks for.
pub fn federation_event(event: &Pdu) -> String {
    let json = event.json();
    let body = json.strip_suffix('}').unwrap_or(json);
    let mut json = body.to_owned();
    if !has_key(event, "event_id") {
        push_string(&mut json, "event_id", event.event_id().as_str());
    }
    if !has_key(event, "room_id") {
        push_string(&mut json, "room_id", event.room_id().as_str());
    }
    json.push('}');
    json
}

fn has_key(event: &Pdu, key: &str) -> bool {
    let fields: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(event.json());
    fields.is_ok_and(|fields| fields.contains_key(key))
}

/// The state event as it is shown to those outside the room.
pub fn stripped_event(event: &Pdu) -> String {
    let mut json = String::from("{\"content\":");
    json.push_str(event.content().get());
    push_string(&mut json, "sender", event.sender().as_str());
    push_string(&mut json, "state_key", event.state_key().unwrap_or_default());
    push_string(&mut json, "type", event.event_type());
    json.push('}');
    json
}

/// An event that this server makes up, such as account data: a type and a content.
pub fn plain_event(event_type: &str, content: &str) -> String {
    let mut json = String::from("{\"content\":");
    json.push_str(content);
    push_string(&mut json, "type", event_type);
    json.push('}');
    json
}

/// The JSON as ruma's types carry it. It must be JSON, as all that this module makes is.
pub fn raw<T>(json: String) -> Raw<T> {
    Raw::from_json(RawValue::from_string(json).expect("events are made of JSON and stay JSON"))
}

/// Adds a field with a string to an object that has one already.
pub(crate) fn push_string(json: &mut String, key: &str, value: &str) {
    push_key(json, key);
    push_text(json, value);
}

/// Adds a field with JSON to an object that has one already.
pub(crate) fn push_json(json: &mut String, key: &str, value: &str) {
    push_key(json, key);
    json.push_str(value);
}

fn push_key(json: &mut String, key: &str) {
    json.push_str(",\"");
    json.push_str(key);
    json.push_str("\":");
}

/// Appends a string as JSON.
pub(crate) fn push_text(json: &mut String, text: &str) {
    let is_plain = |byte| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_json_whatever_is_in_them() {
        for text in
            ["", "plain", "ünï ☃ \u{7f}\u{2028}", "a \"quote\"", "back\\slash", "line\nfeed", "\0\u{1f} "]
        {
            let mut json = String::new();
            push_text(&mut json, text);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
