//! Relations between events: what an event's `m.relates_to` says, and which thread it puts the event in.
//!
//! Deliberately absent: whether the parent exists, is in the same room, or may be related to.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;

use crate::pdu::Pdu;

/// The relation type of an edit.
pub const REPLACE: &str = "m.replace";
/// The relation type of a reaction.
pub const ANNOTATION: &str = "m.annotation";
/// The relation type of an event in a thread; its parent is the thread's root.
pub const THREAD: &str = "m.thread";
/// The relation type that means nothing by itself.
pub const REFERENCE: &str = "m.reference";

/// How many relations are followed to find out which thread an event is in.
pub const MAX_HOPS: usize = 3;

/// How an event relates to another one, its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// In what way, such as [`THREAD`]. Not necessarily a way that the specification knows.
    pub rel_type: String,
    /// To which event.
    pub parent: OwnedEventId,
    /// What an annotation says, such as an emoji. `None` for all other relations.
    pub key: Option<String>,
}

impl Relation {
    /// The root of the thread that the event is in by its own word.
    pub fn thread_root(&self) -> Option<&EventId> {
        (self.rel_type == THREAD).then_some(&*self.parent)
    }
}

/// The event's relation, if it has one that keeps the rules of its type as far as the event alone can tell.
///
/// A reply is not a relation: see [`replied_to`].
pub fn relation_of(event: &Pdu) -> Option<Relation> {
    let relates_to: RelatesTo = relates_to(event)?;
    if relates_to.rel_type == REPLACE && event.is_state() {
        return None;
    }
    let key = relates_to.key.filter(|_| relates_to.rel_type == ANNOTATION);
    Some(Relation {
        parent: relates_to.event_id,
        key: key.and_then(|key| key.as_str().map(str::to_owned)),
        rel_type: relates_to.rel_type,
    })
}

/// The event that this one is a reply to, be it a real one or for clients that do not know threads.
pub fn replied_to(event: &Pdu) -> Option<OwnedEventId> {
    relates_to::<Reply>(event).map(|reply| reply.in_reply_to.event_id)
}

/// The root of the thread that an event with this relation is in, by its own word or because it relates to an event
/// that is, over at most [`MAX_HOPS`] events. `None`: it is in the main timeline.
///
/// `relation_of` is asked for the relation of each of those events in turn.
/// <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>
pub fn thread_of(
    relation: &Relation,
    mut relation_of: impl FnMut(&EventId) -> Option<Relation>,
) -> Option<OwnedEventId> {
    let mut parent = relation.clone();
    for _ in 0..MAX_HOPS {
        if parent.rel_type == THREAD {
            break;
        }
        parent = relation_of(&parent.parent)?;
    }
    (parent.rel_type == THREAD).then_some(parent.parent)
}

#[derive(Deserialize)]
struct Content<T> {
    #[serde(rename = "m.relates_to")]
    relates_to: T,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: OwnedEventId,
    /// Any JSON, so that relations without a use for it may have it in whatever form.
    key: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "m.in_reply_to")]
    in_reply_to: InReplyTo,
}

#[derive(Deserialize)]
struct InReplyTo {
    event_id: OwnedEventId,
}

fn relates_to<T: for<'de> Deserialize<'de>>(event: &Pdu) -> Option<T> {
    // Most events have none, and canonical JSON has one way to write it.
    if !event.content().get().contains("\"m.relates_to\"") {
        return None;
    }
    event.content_as::<Content<T>>().map(|content| content.relates_to)
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, owned_event_id};
    use serde_json::{Value, json};

    use super::*;
    use crate::version;

    fn event(state_key: Option<&str>, relates_to: &Value) -> Pdu {
        let mut event = json!({
            "auth_events": [], "prev_events": [], "depth": 1, "origin_server_ts": 1, "hashes": {"sha256": ""},
            "room_id": "!room:example.org", "sender": "@alice:example.org", "type": "m.room.message",
            "content": {"body": "Hi", "m.relates_to": relates_to},
        });
        if let Some(state_key) = state_key {
            event["state_key"] = state_key.into();
        }
        let version = version::find(&RoomVersionId::V11).expect("version 11 is supported");
        Pdu::from_stored(version, owned_event_id!("$child"), event.to_string()).expect("a PDU")
    }

    fn relation(rel_type: &str, parent: &str, key: Option<&str>) -> Relation {
        Relation {
            rel_type: rel_type.to_owned(),
            parent: EventId::parse(parent).unwrap(),
            key: key.map(str::to_owned),
        }
    }

    #[test]
    fn relations_are_read() {
        for (relates_to, expected) in [
            (json!({"rel_type": "m.thread", "event_id": "$a"}), Some(relation(THREAD, "$a", None))),
            (
                json!({"rel_type": "m.annotation", "event_id": "$a", "key": "👍"}),
                Some(relation(ANNOTATION, "$a", Some("👍"))),
            ),
            (
                json!({"rel_type": "m.annotation", "event_id": "$a", "key": 7}),
                Some(relation(ANNOTATION, "$a", None)),
            ),
            (
                json!({"rel_type": "org.example", "event_id": "$a", "key": {}}),
                Some(relation("org.example", "$a", None)),
            ),
            (
                json!({"rel_type": "m.thread", "event_id": "$a", "m.in_reply_to": 1}),
                Some(relation(THREAD, "$a", None)),
            ),
            (json!({"m.in_reply_to": {"event_id": "$a"}}), None),
            (json!({"rel_type": "m.thread"}), None),
            (json!({"rel_type": "m.thread", "event_id": "no id"}), None),
            (json!({"rel_type": 1, "event_id": "$a"}), None),
            (json!("$a"), None),
            (json!(null), None),
        ] {
            assert_eq!(relation_of(&event(None, &relates_to)), expected, "{relates_to}");
        }
    }

    #[test]
    fn state_events_replace_nothing() {
        let edit = json!({"rel_type": "m.replace", "event_id": "$a"});
        assert_eq!(relation_of(&event(None, &edit)), Some(relation(REPLACE, "$a", None)));
        assert_eq!(relation_of(&event(Some(""), &edit)), None);
    }

    #[test]
    fn replies_are_read() {
        let reply = json!({"m.in_reply_to": {"event_id": "$a"}, "rel_type": 1});
        assert_eq!(replied_to(&event(None, &reply)), Some(owned_event_id!("$a")));
        assert_eq!(replied_to(&event(None, &json!({"m.in_reply_to": "$a"}))), None);
    }

    #[test]
    fn threads_are_found_over_three_hops() {
        let relations = |id: &EventId| match id.as_str() {
            "$threaded" => Some(relation(THREAD, "$root", None)),
            "$one" => Some(relation(REFERENCE, "$threaded", None)),
            "$two" => Some(relation(REPLACE, "$one", None)),
            "$three" => Some(relation(REFERENCE, "$two", None)),
            "$loop" => Some(relation(REFERENCE, "$loop", None)),
            _ => None,
        };
        for (rel_type, parent, root) in [
            (THREAD, "$root", Some("$root")),
            (ANNOTATION, "$threaded", Some("$root")),
            (ANNOTATION, "$one", Some("$root")),
            (ANNOTATION, "$two", Some("$root")),
            (ANNOTATION, "$three", None),
            (ANNOTATION, "$root", None),
            (ANNOTATION, "$loop", None),
            (ANNOTATION, "$unknown", None),
        ] {
            let found = thread_of(&relation(rel_type, parent, None), relations);
            assert_eq!(found.as_ref().map(|id| id.as_str()), root, "{rel_type} to {parent}");
        }
        assert!(relation(THREAD, "$root", None).thread_root().is_some());
        assert!(relation(REPLACE, "$root", None).thread_root().is_none());
    }
}
