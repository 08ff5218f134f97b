//! An event as push rules look at it: properties by their dot-separated paths.

use std::{borrow::Cow, sync::OnceLock};

use serde_json::{Map, Value};

use super::glob;
use crate::pdu::Pdu;

/// An event whose properties can be looked up by path. Made once for all users whose rules look at the event.
///
/// The JSON stays a tree: a map from every path to its value could be many times as large as the event.
#[derive(Debug)]
pub struct FlatEvent {
    event: Property,
    folded_body: OnceLock<Option<Box<str>>>,
}

/// JSON without what its maps have left for more: events are kept while their readers are counted for.
#[derive(Debug, PartialEq)]
enum Property {
    Object(Box<[(Box<str>, Self)]>),
    Other(Value),
}

impl From<Value> for Property {
    fn from(value: Value) -> Self {
        match value {
            // The map is in the order of its names.
            Value::Object(map) => {
                Self::Object(map.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
            }
            other => Self::Other(other),
        }
    }
}

impl Property {
    fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(properties) = self else { return None };
        let found = properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&properties[found].1)
    }
}

impl FlatEvent {
    /// The event as its readers see it, without `unsigned`.
    pub fn new(event: &Pdu) -> Self {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("content", event.content_as().unwrap_or_default());
        set("event_id", event.event_id().as_str().into());
        set("origin_server_ts", i64::from(event.origin_server_ts().0).into());
        set("room_id", event.room_id().as_str().into());
        set("sender", event.sender().as_str().into());
        set("type", event.event_type().into());
        if let Some(state_key) = event.state_key() {
            set("state_key", state_key.into());
        }
        if let Some(redacts) = event.redacts() {
            set("redacts", redacts.as_str().into());
        }
        Self::from_json(Value::Object(fields))
    }

    /// An event in the client format.
    pub fn from_json(event: Value) -> Self {
        Self { event: event.into(), folded_body: OnceLock::new() }
    }

    /// Whether the event has a property at this [path].
    ///
    /// [path]: https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// The property at this path, if the event has it and it is no object.
    pub fn get(&self, path: &str) -> Option<&Value> {
        match self.find(path)? {
            Property::Other(value) => Some(value),
            Property::Object(_) => None,
        }
    }

    fn find(&self, path: &str) -> Option<&Property> {
        if path.contains('\\') {
            return Names(Some(path)).try_fold(&self.event, |value, name| value.get(&name));
        }
        path.split('.').try_fold(&self.event, Property::get)
    }

    /// The property at this path, if the event has it and it is a string.
    pub fn get_str(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// `content.body` after [`glob::fold`].
    pub(super) fn folded_body(&self) -> Option<&str> {
        let fold = || self.get_str("content.body").map(|body| glob::fold(body).into());
        self.folded_body.get_or_init(fold).as_deref()
    }
}

/// The names in a path with backslashes. `\.` and `\\` are a dot and a backslash in a name; any other backslash is
/// itself.
struct Names<'a>(Option<&'a str>);

impl<'a> Iterator for Names<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        let path = self.0.take()?;
        let mut name = String::new();
        let mut chars = path.char_indices().peekable();
        while let Some((at, char)) = chars.next() {
            match char {
                '.' => {
                    self.0 = Some(&path[at + 1..]);
                    break;
                }
                '\\' => {
                    name.push(chars.next_if(|(_, next)| matches!(next, '.' | '\\')).map_or('\\', |(_, c)| c));
                }
                char => name.push(char),
            }
        }
        Some(name.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_properties() {
        let event = FlatEvent::from_json(json!({
            "type": "m.room.message",
            "content": {
                "body": "Hi",
                "m.relates_to": { "rel_type": "m.replace" },
                "m\\foo": 1,
                "a\\x": 2,
                "tail\\": 3,
                "": { "": 4 },
            },
        }));
        for (path, value) in [
            ("type", json!("m.room.message")),
            ("content.body", json!("Hi")),
            (r"content.m\.relates_to.rel_type", json!("m.replace")),
            (r"content.m\\foo", json!(1)),
            (r"content.a\x", json!(2)),
            (r"content.tail\", json!(3)),
            ("content..", json!(4)),
        ] {
            assert_eq!(event.get(path), Some(&value), "{path}");
        }
        for path in ["", "content.m.relates_to.rel_type", "type.x", "content.nothing", r"content\.body"] {
            assert!(!event.has(path), "{path}");
        }
        assert!(event.has("content") && event.get("content").is_none());
    }
}
