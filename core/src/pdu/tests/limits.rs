//! What is refused: events that lack something, and those that are too large.

use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use super::{raw, rooms, value};
use crate::{
    pdu::{
        PduError,
        build::{Draft, build},
        format::{MAX_EVENT_BYTES, parse_remote},
    },
    test_room::{ALICE, TestRoom, signer},
};

#[test]
fn malformed_events_are_refused() {
    type Change = (&'static str, Value);
    let changes: [Change; 14] = [
        ("type", json!(null)),
        ("sender", json!("alice")),
        ("sender", json!(5)),
        ("room_id", json!(null)),
        ("state_key", json!(5)),
        ("content", json!([])),
        ("hashes", json!("")),
        ("signatures", json!(null)),
        ("depth", json!(-1)),
        ("depth", json!("5")),
        ("origin_server_ts", json!({})),
        ("prev_events", json!("$a")),
        ("prev_events", json!([1])),
        ("auth_events", json!([["$a"]])),
    ];
    for room in rooms() {
        let event = value(&room.make(ALICE, "m.room.message", None, json!({})));
        for (field, bad) in &changes {
            let mut event = event.clone();
            event[*field] = bad.clone();
            assert!(parse_remote(room.version, &raw(&event)).is_err(), "{field}: {bad}");
        }
        let mut nameless = event.clone();
        nameless["event_id"] = json!("$nameless");
        let is_refused = parse_remote(room.version, &raw(&nameless)).is_err();
        assert_eq!(is_refused, room.version.events_carry_ids());
        for (field, limit) in [("prev_events", 20), ("auth_events", 10)] {
            let reference =
                if room.version.references_carry_hashes() { json!(["$a:b", {}]) } else { json!("$a") };
            let mut event = event.clone();
            event[field] = vec![reference.clone(); limit].into();
            parse_remote(room.version, &raw(&event)).unwrap();
            event[field] = vec![reference; limit + 1].into();
            assert!(parse_remote(room.version, &raw(&event)).is_err());
        }
    }
}

#[test]
fn limits_of_size_are_exact() {
    for room in rooms() {
        let sized = |length: usize| room.draft(ALICE, "m.text", None, json!({"body": "x".repeat(length)}));
        let signer = signer("a.example");
        let overhead = build(room.version, sized(0), &signer).unwrap().json().len();
        let most = MAX_EVENT_BYTES - overhead;
        let largest = build(room.version, sized(most), &signer).unwrap();
        assert_eq!(largest.json().len(), 65_536);
        parse_remote(room.version, &raw(&value(&largest))).unwrap();
        let error = build(room.version, sized(most + 1), &signer).unwrap_err();
        assert!(matches!(error, PduError::TooLarge { what: "the event", bytes: 65_537, .. }));
    }
}

#[test]
fn ids_are_at_most_255_bytes_long() {
    let room = TestRoom::new("10");
    let signer = signer("a.example");
    let draft = room.draft(ALICE, "m.text", Some("key"), json!({}));
    let long = |length: usize| "x".repeat(length);
    let sender = |length: usize| format!("@{}:a.example", "x".repeat(length - 11));
    let drafts: [Box<dyn Fn(usize) -> Draft>; 3] = [
        Box::new(|length| Draft { event_type: long(length), ..draft.clone() }),
        Box::new(|length| Draft { state_key: Some(long(length)), ..draft.clone() }),
        Box::new(|length| Draft { sender: sender(length).try_into().unwrap(), ..draft.clone() }),
    ];
    for draft in drafts {
        build(room.version, draft(255), &signer).unwrap();
        let error = build(room.version, draft(256), &signer).unwrap_err();
        assert!(matches!(error, PduError::TooLarge { bytes: 256, limit: 255, .. }));
    }
}

#[test]
fn deep_content_is_refused_in_our_own_events() {
    let room = TestRoom::new("10");
    let deep: CanonicalJsonObject =
        serde_json::from_str(&format!("{{\"a\":{}{}}}", "[".repeat(120), "]".repeat(120))).unwrap();
    let draft = Draft { content: deep, ..room.draft(ALICE, "m.text", None, json!({})) };
    assert!(matches!(build(room.version, draft, &signer("a.example")), Err(PduError::Format(_))));
}
