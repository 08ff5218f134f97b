//! Canonical JSON, and what room versions 1 to 5 allow beside it.
//!
//! Those versions do not enforce canonical JSON, so their events may hold floats and integers beyond 2^53.
//! ruma's [`CanonicalJsonValue`] has no place for such numbers: here they become strings that start with a
//! mark, and [`write()`] makes them numbers again. A real string that starts with the mark is refused.

use std::fmt::Write;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};
use serde_json::Value;

use super::PduError;
use crate::version::RoomVersion;

/// Before a number that canonical JSON does not have.
const MARK: &str = "\u{0}number:";

/// How deep JSON made here may be nested. `serde_json` refuses 128 levels, and events are nested further when
/// they are sent in transactions and answers.
const MAX_NESTING: usize = 100;

/// Reads an object of a room of this version.
pub fn parse(version: &RoomVersion, text: &str) -> Result<CanonicalJsonObject, PduError> {
    if version.is_strict_json() {
        return serde_json::from_str(text).map_err(PduError::Json);
    }
    match mark(serde_json::from_str(text).map_err(PduError::Json)?)? {
        CanonicalJsonValue::Object(object) => Ok(object),
        _ => Err(PduError::format("the event is not a JSON object")),
    }
}

/// The object as canonical JSON.
pub fn write(version: &RoomVersion, object: &CanonicalJsonObject) -> String {
    let mut text = String::new();
    write_object(&mut text, object, !version.is_strict_json());
    text
}

/// Any JSON as canonical JSON, its other numbers as the servers of old spelled them.
pub fn canonical(text: &[u8]) -> Result<String, PduError> {
    let value = mark(serde_json::from_slice(text).map_err(PduError::Json)?)?;
    let mut text = String::new();
    write_value(&mut text, &value, true);
    Ok(text)
}

/// Refuses what our own events must not hold: it would be accepted here and cause trouble elsewhere.
pub fn check_local(content: &CanonicalJsonObject) -> Result<(), PduError> {
    content.values().try_for_each(|value| check_value(value, 1))
}

fn check_value(value: &CanonicalJsonValue, depth: usize) -> Result<(), PduError> {
    if depth > MAX_NESTING {
        return Err(PduError::format("the content is nested too deeply"));
    }
    match value {
        CanonicalJsonValue::Object(object) => {
            object.values().try_for_each(|value| check_value(value, depth + 1))
        }
        CanonicalJsonValue::Array(array) => array.iter().try_for_each(|value| check_value(value, depth + 1)),
        CanonicalJsonValue::String(text) if text.starts_with(MARK) => Err(reserved()),
        _ => Ok(()),
    }
}

fn reserved() -> PduError {
    PduError::format("the event holds a string that is reserved")
}

fn mark(value: Value) -> Result<CanonicalJsonValue, PduError> {
    Ok(match value {
        Value::Null => CanonicalJsonValue::Null,
        Value::Bool(bool) => CanonicalJsonValue::Bool(bool),
        Value::Number(number) => match number.as_i64().and_then(|integer| Int::try_from(integer).ok()) {
            Some(integer) => CanonicalJsonValue::Integer(integer),
            None => CanonicalJsonValue::String(format!("{MARK}{}", spell(&number))),
        },
        Value::String(text) if text.starts_with(MARK) => return Err(reserved()),
        Value::String(text) => CanonicalJsonValue::String(text),
        Value::Array(array) => {
            CanonicalJsonValue::Array(array.into_iter().map(mark).collect::<Result<_, _>>()?)
        }
        Value::Object(object) => CanonicalJsonValue::Object(
            object
                .into_iter()
                .map(|(key, value)| Ok((key, mark(value)?)))
                .collect::<Result<_, PduError>>()?,
        ),
    })
}

/// The number as the servers of that time spelled it, which is Python's way: `1e+16` and `1e-05`. Their
/// hashes and signatures depend on it.
fn spell(number: &serde_json::Number) -> String {
    // Rust's debug form goes over to exponents where Python does, at 1e16 and below 1e-4.
    let text = match number.as_f64() {
        Some(float) if number.is_f64() => format!("{float:?}"),
        _ => number.to_string(),
    };
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent.trim_start_matches('+')),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn write_object(text: &mut String, object: &CanonicalJsonObject, marked: bool) {
    text.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write_value(text, value, marked);
    }
    text.push('}');
}

fn write_value(text: &mut String, value: &CanonicalJsonValue, marked: bool) {
    match value {
        CanonicalJsonValue::Null => text.push_str("null"),
        CanonicalJsonValue::Bool(true) => text.push_str("true"),
        CanonicalJsonValue::Bool(false) => text.push_str("false"),
        CanonicalJsonValue::Integer(integer) => {
            write!(text, "{integer}").expect("writing to a string cannot fail");
        }
        CanonicalJsonValue::String(string) => match string.strip_prefix(MARK) {
            Some(number) if marked => text.push_str(number),
            _ => write_string(text, string),
        },
        CanonicalJsonValue::Array(array) => {
            text.push('[');
            for (index, value) in array.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, value, marked);
            }
            text.push(']');
        }
        CanonicalJsonValue::Object(object) => write_object(text, object, marked),
    }
}

pub(super) fn write_string(text: &mut String, string: &str) {
    text.push_str(&serde_json::to_string(string).expect("a string is JSON"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::find_str;

    fn check(version: &str, text: &str, expected: Option<&str>) {
        let version = find_str(version).unwrap();
        let written = parse(version, text).ok().map(|object| write(version, &object));
        assert_eq!(written.as_deref(), expected, "{text}");
    }

    #[test]
    fn json_becomes_canonical() {
        for version in ["1", "5", "6", "12"] {
            check(
                version,
                r#"{ "b": [1, -2, null], "a": {"y": true, "x": "é\n\u0007"} }"#,
                Some("{\"a\":{\"x\":\"é\\n\\u0007\",\"y\":true},\"b\":[1,-2,null]}"),
            );
            check(version, "[]", None);
            check(version, "{", None);
        }
    }

    #[test]
    fn old_versions_keep_their_strange_numbers() {
        for (text, expected) in [
            (r#"{"a":1.5}"#, r#"{"a":1.5}"#),
            (r#"{"a":1E3}"#, r#"{"a":1000.0}"#),
            (r#"{"a":1e16}"#, r#"{"a":1e+16}"#),
            (r#"{"a":0.00001}"#, r#"{"a":1e-05}"#),
            // Read roughly, it would be another float than the nearest, and hash otherwise.
            (r#"{"a":549755813887.99996}"#, r#"{"a":549755813887.99994}"#),
            (r#"{"a":9223372036854775807}"#, r#"{"a":9223372036854775807}"#),
            (r#"{"a":-9007199254740993}"#, r#"{"a":-9007199254740993}"#),
        ] {
            check("5", text, Some(expected));
            check("6", text, None);
        }
    }

    #[test]
    fn a_string_cannot_pose_as_a_number() {
        let text = r#"{"a":"\u0000number:1,\"b\":2"}"#;
        check("1", text, None);
        check("6", text, Some(text));
    }

    #[test]
    fn deep_json_is_refused_and_not_followed() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        check("1", &deep, None);
        check("12", &deep, None);

        let content = |levels: usize| {
            let text = format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
            serde_json::from_str::<CanonicalJsonObject>(&text).unwrap()
        };
        assert!(check_local(&content(MAX_NESTING)).is_ok());
        assert!(check_local(&content(MAX_NESTING + 1)).is_err());
    }
}
