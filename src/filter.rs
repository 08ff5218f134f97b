//! What a client's filter lets through. Pure: the filter is ruma's, the questions are asked here.
//!
//! Used by `/sync` and by every endpoint that takes a `RoomEventFilter`.

use myelin_core::pdu::Pdu;
use ruma::{
    RoomId, UserId,
    api::client::filter::{Filter, RoomEventFilter, RoomFilter, UrlFilter},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

/// The filter lets events of this type through, as far as their type goes.
pub fn allows_type(types: Option<&[String]>, not_types: &[String], event_type: &str) -> bool {
    let matches = |patterns: &[String]| patterns.iter().any(|pattern| wildcard_matches(pattern, event_type));
    !matches(not_types) && types.is_none_or(matches)
}

/// `*` stands for any number of characters; everything else for itself.
fn wildcard_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return text.ends_with(piece);
        }
        // The leftmost match leaves most for what follows, so no other need be tried.
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    true
}

/// The filter lets this sender's events through, as far as their sender goes.
fn allows_sender<I: AsRef<UserId>>(senders: Option<&[I]>, not_senders: &[I], sender: &UserId) -> bool {
    let matches = |ids: &[I]| ids.iter().any(|id| id.as_ref() == sender);
    !matches(not_senders) && senders.is_none_or(matches)
}

fn allows_room_id<I: AsRef<RoomId>>(rooms: Option<&[I]>, not_rooms: &[I], room: &RoomId) -> bool {
    let matches = |ids: &[I]| ids.iter().any(|id| id.as_ref() == room);
    !matches(not_rooms) && rooms.is_none_or(matches)
}

/// Questions to a filter for what happens in rooms.
pub trait RoomEvents {
    /// It lets events of this type through, as far as their type goes.
    fn allows_type(&self, event_type: &str) -> bool;
    /// It lets something in this room through.
    fn allows_room(&self, room: &RoomId) -> bool;
    /// It lets this event through. Says nothing about the room.
    fn allows(&self, pdu: &Pdu) -> bool;
    /// It lets any event of any type and sender through.
    fn allows_everything(&self) -> bool;
}

impl RoomEvents for RoomEventFilter {
    fn allows_type(&self, event_type: &str) -> bool {
        allows_type(self.types.as_deref(), &self.not_types, event_type)
    }

    fn allows_room(&self, room: &RoomId) -> bool {
        allows_room_id(self.rooms.as_deref(), &self.not_rooms, room)
    }

    fn allows(&self, pdu: &Pdu) -> bool {
        RoomEvents::allows_type(self, pdu.event_type())
            && allows_sender(self.senders.as_deref(), &self.not_senders, pdu.sender())
            && self.url_filter.is_none_or(|url| has_url(pdu.content()) == (url == UrlFilter::EventsWithUrl))
    }

    fn allows_everything(&self) -> bool {
        self.types.is_none()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.not_senders.is_empty()
            && self.url_filter.is_none()
    }
}

fn has_url(content: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<Value>,
    }
    serde_json::from_str::<Content>(content.get()).is_ok_and(|content| content.url.is_some())
}

/// The filter lets this room through at all.
pub fn allows_room(filter: &RoomFilter, room: &RoomId) -> bool {
    allows_room_id(filter.rooms.as_deref(), &filter.not_rooms, room)
}

/// The filter for what is not in rooms lets this through.
pub fn allows_plain(filter: &Filter, event_type: &str, sender: &UserId) -> bool {
    allows_type(filter.types.as_deref(), &filter.not_types, event_type)
        && allows_sender(filter.senders.as_deref(), &filter.not_senders, sender)
}

/// The fields of events that a client asked for: `event_fields` of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFields(Vec<Vec<String>>);

impl EventFields {
    /// Reads dotted paths, in which `\.` is a dot and `\\` a backslash.
    pub fn parse(paths: &[String]) -> Self {
        Self(paths.iter().map(|path| split_path(path)).collect())
    }

    /// The event with these fields only. What is not a JSON object stays as it is.
    pub fn prune(&self, event: String) -> String {
        let Ok(full) = serde_json::from_str::<Map<String, Value>>(&event) else { return event };
        let mut kept = Map::new();
        for path in &self.0 {
            copy_path(&full, &mut kept, path);
        }
        Value::Object(kept).to_string()
    }
}

fn split_path(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = character == '\\' && matches!(characters.peek(), Some('.' | '\\'));
        match (character, parts.last_mut()) {
            ('.', _) => parts.push(String::new()),
            (_, Some(part)) => part.push(if escaped { characters.next().unwrap_or('\\') } else { character }),
            (_, None) => {}
        }
    }
    parts
}

fn copy_path(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(value) = from.get(first) else { return };
    if rest.is_empty() {
        to.insert(first.clone(), value.clone());
        return;
    }
    let Value::Object(inner) = value else { return };
    let slot = to.entry(first).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(slot) = slot {
        copy_path(inner, slot, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("m.room.*", "m.room.member", true),
            ("m.room.*", "m.roommember", false),
            ("*", "", true),
            ("*.member", "m.room.member", true),
            ("m.*.m*r", "m.room.member", true),
            ("m.*.m*x", "m.room.member", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("m.room.member", "m.room.member", true),
            ("m.room.member", "m.room.members", false),
            ("*a*a*a*", "aaa", true),
            ("*a*a*a*", "aa", false),
        ] {
            assert_eq!(wildcard_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn not_types_win() {
        assert!(!allows_type(Some(&strings(&["m.*"])), &strings(&["m.room.*"]), "m.room.member"));
        assert!(allows_type(Some(&strings(&["m.*"])), &strings(&["m.room.*"]), "m.reaction"));
        assert!(!allows_type(Some(&[]), &[], "m.reaction"));
        assert!(allows_type(None, &[], "m.reaction"));
    }

    #[test]
    fn fields_are_picked_by_dotted_paths() {
        let event = r#"{"content":{"body":"x","a.b":1,"c":{"d":2,"e":3}},"type":"t","sender":"s"}"#;
        let fields =
            EventFields::parse(&strings(&["content.body", "content.a\\.b", "content.c.d", "type", "nope.x"]));
        let pruned: Value = serde_json::from_str(&fields.prune(event.to_owned())).expect("JSON");
        assert_eq!(
            pruned,
            serde_json::json!({"content": {"body": "x", "a.b": 1, "c": {"d": 2}}, "type": "t"})
        );
    }

    #[test]
    fn backslashes_escape_dots_and_themselves_only() {
        assert_eq!(split_path(r"a\.b.c"), ["a.b", "c"]);
        assert_eq!(split_path(r"a\\.b"), [r"a\", "b"]);
        assert_eq!(split_path(r"a\b"), [r"a\b"]);
    }
}
