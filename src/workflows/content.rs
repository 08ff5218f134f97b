//! The contents of events that the server itself makes, and those that clients hand in.

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, UserId};
use serde_json::value::RawValue;

/// An object with these fields.
pub fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonObject {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A number, such as a power level.
pub fn number(value: i32) -> CanonicalJsonValue {
    Int::from(value).into()
}

/// Reads a JSON object that a client sent as the content of an event. `None`: it is not an object, or it holds a
/// number that events cannot carry.
pub fn parse(json: &RawValue) -> Option<CanonicalJsonObject> {
    serde_json::from_str(json.get()).ok()
}

/// The text of a field, if it is there and a string.
pub fn text<'a>(content: &'a CanonicalJsonObject, field: &str) -> Option<&'a str> {
    content.get(field)?.as_str()
}

/// The user ids in a field that is a list of them. `None`: it is something else. A missing field is an empty list.
pub fn user_ids(content: &CanonicalJsonObject, field: &str) -> Option<Vec<String>> {
    let Some(value) = content.get(field) else { return Some(Vec::new()) };
    let ids = value.as_array()?.iter().map(|id| {
        let id = id.as_str()?;
        UserId::parse(id).ok().map(|_| id.to_owned())
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_no_event_content() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("JSON");
        assert!(parse(&raw(r#"{"a":1}"#)).is_some());
        assert!(parse(&raw(r#"{"a":1.5}"#)).is_none());
        assert!(parse(&raw("[]")).is_none());
    }

    #[test]
    fn lists_of_user_ids_hold_nothing_else() {
        let content = |json: serde_json::Value| -> CanonicalJsonObject {
            serde_json::from_value(json).expect("canonical JSON")
        };
        assert_eq!(user_ids(&content(serde_json::json!({})), "users"), Some(Vec::new()));
        assert_eq!(
            user_ids(&content(serde_json::json!({"users": ["@a:b"]})), "users"),
            Some(vec!["@a:b".to_owned()])
        );
        assert_eq!(user_ids(&content(serde_json::json!({"users": ["alice"]})), "users"), None);
        assert_eq!(user_ids(&content(serde_json::json!({"users": {}})), "users"), None);
    }
}
