//! Messages that name the time at which they are to lose their content.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/2228>

use serde::Deserialize;

use crate::pdu::Pdu;

const KEY: &str = "org.matrix.self_destruct_after";

/// When the event is to lose its content, in milliseconds since 1970. `None` for state, which says what a room is.
pub fn expires_ms(event: &Pdu) -> Option<u64> {
    // Nearly no event has it: this costs less than reading the content.
    if event.is_state() || !event.content().get().contains(KEY) {
        return None;
    }
    let content: Content = serde_json::from_str(event.content().get()).ok()?;
    content.expires_ms
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "org.matrix.self_destruct_after")]
    expires_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, owned_event_id};
    use serde_json::{Value, json};

    use super::*;
    use crate::version;

    fn expires(content: &Value, state_key: Option<&str>) -> Option<u64> {
        let mut event = json!({
            "auth_events": [], "prev_events": [], "depth": 1, "origin_server_ts": 1, "hashes": {"sha256": ""},
            "room_id": "!room:example.org", "sender": "@alice:example.org", "type": "m.room.message",
            "content": content,
        });
        if let Some(state_key) = state_key {
            event["state_key"] = state_key.into();
        }
        let version = version::find(&RoomVersionId::V11).expect("version 11 is supported");
        expires_ms(&Pdu::from_stored(version, owned_event_id!("$event"), event.to_string()).expect("a PDU"))
    }

    #[test]
    fn only_messages_that_name_a_time_expire() {
        assert_eq!(expires(&json!({ KEY: 12 }), None), Some(12));
        assert_eq!(expires(&json!({ KEY: 12 }), Some("")), None, "state stays");
        assert_eq!(expires(&json!({ "body": KEY }), None), None);
        for no_time in [json!("12"), json!(-1), json!(null), json!({}), json!(1.5)] {
            assert_eq!(expires(&json!({ KEY: no_time.clone() }), None), None, "{no_time}");
        }
    }
}
