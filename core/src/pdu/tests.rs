//! Every room version: made, read, verified, redacted, shown.

mod limits;

use std::sync::LazyLock;

use proptest::prelude::*;
use ruma::signatures::{Verified, verify_event};
use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::build::{Draft, build, complete_template, template};
use super::format::{parse_remote, parse_remote_object};
use super::redact::redact;
use super::{Pdu, PduError, hash, json as canonical, sign};
use crate::test_room::{ALICE, BOB, TestRoom, object, public_keys, signer};
use crate::version::{all, find_str};

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn value(event: &Pdu) -> Value {
    serde_json::from_str(event.json()).unwrap()
}

fn rooms() -> impl Iterator<Item = TestRoom> {
    all().iter().map(|version| TestRoom::new(version.id.as_str()))
}

#[test]
fn what_we_make_others_accept() {
    for room in rooms() {
        let event = room.make(ALICE, "m.room.message", None, json!({"body": "hi", "n": [1, {"é": null}]}));
        let mut sent = value(&event);
        sent["unsigned"] = json!({"age": 5});
        let received = parse_remote(room.version, &raw(&sent)).unwrap();
        assert_eq!(received, event);
        assert_eq!(received.json(), event.json());
        assert!(!received.json().contains("unsigned"));
        sign::verify(&received, &public_keys(&["a.example"])).unwrap();
        // ruma's own judgement of the same event.
        let object: CanonicalJsonObject = serde_json::from_str(event.json()).unwrap();
        let verdict = verify_event(&public_keys(&["a.example"]), &object, &room.version.rules);
        assert_eq!(verdict.unwrap(), Verified::All);
    }
}

#[test]
fn from_stored_gives_the_same_event_again() {
    for room in rooms() {
        for event in room.events.values() {
            let id = event.event_id().to_owned();
            let again = Pdu::from_stored(room.version, id, event.json().to_owned()).unwrap();
            assert_eq!(again.room_id(), event.room_id());
            assert_eq!(again.prev_events(), event.prev_events());
            assert_eq!(again.auth_events(), event.auth_events());
            assert_eq!(again.client_json(), event.client_json());
            assert_eq!((again.depth(), again.origin_server_ts()), (event.depth(), event.origin_server_ts()));
        }
    }
}

#[test]
fn signatures_are_checked() {
    for room in rooms() {
        let event = room.make(ALICE, "m.room.message", None, json!({"body": "hi"}));
        assert!(sign::verify(&event, &public_keys(&["b.example"])).is_err(), "no key");
        let mut wrong = public_keys(&["b.example"]);
        let key = wrong.remove("b.example").unwrap();
        wrong.insert("a.example".to_owned(), key);
        assert!(sign::verify(&event, &wrong).is_err(), "wrong key");

        let mut forged = value(&event);
        forged["depth"] = json!(999);
        let forged = parse_remote(room.version, &raw(&forged)).unwrap();
        assert!(sign::verify(&forged, &public_keys(&["a.example"])).is_err(), "changed after signing");

        let mut bare = value(&event);
        bare["signatures"] = json!({});
        let bare = parse_remote(room.version, &raw(&bare)).unwrap();
        assert!(sign::verify(&bare, &public_keys(&["a.example"])).is_err(), "not signed");
    }
}

#[test]
fn who_must_sign_depends_on_the_event() {
    let third_party = json!({"membership": "invite", "third_party_invite": {"signed": {}}});
    let restricted = json!({"membership": "join", "join_authorised_via_users_server": BOB});
    let was_restricted = json!({"membership": "leave", "join_authorised_via_users_server": BOB});
    for (version, content, expected) in [
        ("1", json!({"membership": "join"}), &["a.example"][..]),
        // The event id names the server too.
        ("1", third_party.clone(), &["a.example"]),
        ("3", third_party, &[]),
        ("7", restricted.clone(), &["a.example"]),
        ("8", restricted, &["a.example", "b.example"]),
        ("8", was_restricted, &["a.example"]),
    ] {
        let room = TestRoom::new(version);
        let event = room.make(ALICE, "m.room.member", Some(ALICE), content);
        let servers = sign::required_servers(&event);
        assert_eq!(servers.iter().map(|server| server.as_str()).collect::<Vec<_>>(), expected, "{version}");
    }
}

#[test]
fn a_second_signature_keeps_the_first() {
    let room = TestRoom::new("8");
    let content = json!({"membership": "join", "join_authorised_via_users_server": BOB});
    let event = room.make(ALICE, "m.room.member", Some(ALICE), content);
    let keys = public_keys(&["a.example", "b.example"]);
    assert!(sign::verify(&event, &keys).is_err());
    let signed = sign::add_signature(&event, &signer("b.example")).unwrap();
    assert_eq!(signed, event);
    sign::verify(&signed, &keys).unwrap();
}

#[test]
fn changed_content_is_redacted_and_the_id_stays() {
    for room in rooms() {
        let event = room.make(ALICE, "m.room.message", None, json!({"body": "hi"}));
        let mut changed = value(&event);
        changed["content"]["body"] = json!("something else");
        let received = parse_remote(room.version, &raw(&changed)).unwrap();
        assert_eq!(received.event_id(), event.event_id());
        assert_eq!(received.content().get(), "{}");
        sign::verify(&received, &public_keys(&["a.example"])).unwrap();
    }
}

#[test]
fn version_12_rooms_are_named_after_their_create_event() {
    let room = TestRoom::new("12");
    let create = room.create();
    assert_eq!(create.room_id().as_str()[1..], create.event_id().as_str()[1..]);
    assert!(value(create).get("room_id").is_none());
    assert!(create.client_json().contains(create.room_id().as_str()));

    let mut named = value(create);
    named["room_id"] = json!("!room:a.example");
    assert!(matches!(parse_remote(room.version, &raw(&named)), Err(PduError::Format(_))));
    let draft = Draft {
        auth_events: vec![create.event_id().to_owned()],
        ..room.draft(ALICE, "m.room.message", None, json!({}))
    };
    assert!(matches!(build(room.version, draft, &signer("a.example")), Err(PduError::Format(_))));
}

/// Type, content, and from which version on which keys are kept.
type RedactionCase<'a> = (&'a str, Value, &'a [(u8, &'a [&'a str])]);

/// Which keys of the content survive a redaction, by version.
#[test]
fn redaction_keeps_what_the_version_keeps() {
    let levels = json!({"invite": 1, "ban": 2, "notifications": {"room": 3}});
    let member = json!({"membership": "join", "displayname": "A", "join_authorised_via_users_server": ALICE});
    let rules = json!({"join_rule": "restricted", "allow": []});
    let cases: [RedactionCase<'_>; 8] = [
        ("m.room.message", json!({"body": "hi"}), &[(1, &[])]),
        ("m.room.topic", json!({"topic": "hi"}), &[(1, &[])]),
        ("m.room.power_levels", levels, &[(1, &["ban"]), (11, &["ban", "invite"])]),
        (
            "m.room.member",
            member,
            &[(1, &["membership"]), (9, &["join_authorised_via_users_server", "membership"])],
        ),
        ("m.room.join_rules", rules, &[(1, &["join_rule"]), (8, &["allow", "join_rule"])]),
        ("m.room.aliases", json!({"aliases": [], "x": 1}), &[(1, &["aliases"]), (6, &[])]),
        (
            "m.room.history_visibility",
            json!({"history_visibility": "joined", "x": 1}),
            &[(1, &["history_visibility"])],
        ),
        (
            "m.room.create",
            json!({"creator": ALICE, "m.federate": true, "predecessor": {}}),
            &[(1, &["creator"]), (11, &["creator", "m.federate", "predecessor"])],
        ),
    ];
    for (event_type, content, expected) in cases {
        for (number, room) in (1..).zip(rooms()) {
            let event = room.make(ALICE, event_type, Some(""), content.clone());
            let redacted = redact(&event).unwrap();
            let (_, expected) = expected.iter().rev().find(|(since, _)| *since <= number).unwrap();
            let left: CanonicalJsonObject = redacted.content_as().unwrap();
            assert_eq!(left.keys().collect::<Vec<_>>(), *expected, "{event_type} in version {number}");
            assert_eq!(redacted.event_id(), event.event_id());
            assert_eq!(redacted.room_id(), event.room_id());
            sign::verify(&redacted, &public_keys(&["a.example"])).unwrap();
        }
    }
}

#[test]
fn a_redaction_names_its_target_where_the_version_looks() {
    for room in rooms() {
        let target = room.create().event_id();
        let event = room.redaction(ALICE, target);
        assert_eq!(event.redacts(), Some(target));
        let json = value(&event);
        let (inside, beside) = (json["content"].get("redacts"), json.get("redacts"));
        assert_eq!(inside.is_some(), room.version.redacts_in_content());
        assert_ne!(inside.is_some(), beside.is_some());
        // Clients find it in both places.
        let shown: Value = serde_json::from_str(&format!("{}}}", event.client_json())).unwrap();
        assert_eq!(shown["redacts"], target.as_str());
        assert_eq!(shown["content"]["redacts"], target.as_str());
    }
}

#[test]
fn nothing_but_a_redaction_redacts() {
    for room in rooms() {
        let json = value(&room.redaction(ALICE, room.create().event_id()));
        let mut other = json.clone();
        other["type"] = json!("m.room.message");
        let id = room.create().event_id().to_owned();
        let read = |json: &Value| Pdu::from_stored(room.version, id.clone(), json.to_string()).unwrap();
        assert!(read(&json).redacts().is_some());
        assert_eq!(read(&other).redacts(), None);
    }
}

#[test]
fn clients_see_the_event_and_nothing_else() {
    for room in rooms() {
        let event =
            room.make(ALICE, "m.room.topic", Some("a \"key\""), json!({"topic": "t", "redacts": "$x"}));
        let shown: Value = serde_json::from_str(&format!("{}}}", event.client_json())).unwrap();
        let expected = json!({
            "content": {"topic": "t", "redacts": "$x"},
            "event_id": event.event_id(),
            "origin_server_ts": event.origin_server_ts(),
            "room_id": event.room_id(),
            "sender": ALICE,
            "state_key": "a \"key\"",
            "type": "m.room.topic",
        });
        assert_eq!(shown, expected);
        let message = room.make(ALICE, "m.room.message", None, json!({}));
        assert!(!message.client_json().contains("state_key"));
    }
}

#[test]
fn old_rooms_may_hold_numbers_that_are_not_canonical() {
    let text = r#"{"auth_events":[],"content":{"users":{"@a:a.example":50.57},"big":12345678901234567890},
        "depth":9223372036854775807,"event_id":"$odd:a.example","origin_server_ts":1.5e12,"prev_events":[],
        "room_id":"!room:a.example","sender":"@a:a.example","state_key":"","type":"m.room.power_levels"}"#;
    for room in rooms() {
        if room.version.is_strict_json() {
            assert!(parse_remote(room.version, &raw(&serde_json::from_str(text).unwrap())).is_err());
            continue;
        }
        let mut event = canonical::parse(room.version, text).unwrap();
        let hash = ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(hash::content_hash(
            room.version,
            &event,
        ));
        event.insert("hashes".to_owned(), object(json!({"sha256": hash.encode()})).into());
        sign::sign_object(room.version, &mut event, &signer("a.example")).unwrap();
        let sent = RawValue::from_string(canonical::write(room.version, &event)).unwrap();
        let received = parse_remote(room.version, &sent).unwrap();
        assert_eq!(received.json(), sent.get(), "nothing was redacted");
        assert_eq!(received.depth(), i64::MAX);
        assert_eq!(u64::from(received.origin_server_ts().0), 1_500_000_000_000);
        assert!(received.content().get().contains("50.57"));
        assert!(received.content().get().contains("12345678901234567890"));
        sign::verify(&received, &public_keys(&["a.example"])).unwrap();
        assert!(redact(&received).unwrap().content().get().contains("50.57"));
    }
}

#[test]
fn a_template_becomes_an_event_of_the_server_that_completes_it() {
    for room in rooms() {
        let draft = room.draft(BOB, "m.room.member", Some(BOB), json!({"membership": "join"}));
        let offered = template(room.version, draft, &signer("a.example")).unwrap();
        assert!(["event_id", "hashes", "signatures"].iter().all(|field| !offered.contains_key(*field)));
        let local_part = Some("bobs".to_owned());
        let event = complete_template(room.version, offered, local_part, &signer("b.example")).unwrap();
        sign::verify(&event, &public_keys(&["b.example"])).unwrap();
        let again: CanonicalJsonObject = serde_json::from_str(event.json()).unwrap();
        assert_eq!(parse_remote_object(room.version, again).unwrap(), event);
    }
}

#[test]
fn event_ids_of_versions_1_and_2_are_given() {
    let room = TestRoom::new("2");
    let draft = room.draft(ALICE, "m.room.message", None, json!({}));
    let named = Draft { event_id_local_part: Some("abc".to_owned()), ..draft.clone() };
    assert_eq!(room.build(named).event_id(), "$abc:a.example");
    let unnamed = Draft { event_id_local_part: None, ..draft };
    assert!(build(find_str("2").unwrap(), unnamed, &signer("a.example")).is_err());
}

fn any_json() -> impl Strategy<Value = CanonicalJsonValue> {
    let leaf = prop_oneof![
        Just(CanonicalJsonValue::Null),
        any::<bool>().prop_map(CanonicalJsonValue::Bool),
        any::<i32>().prop_map(|number| CanonicalJsonValue::Integer(number.into())),
        any::<String>().prop_map(CanonicalJsonValue::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(CanonicalJsonValue::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(CanonicalJsonValue::Object),
        ]
    })
}

static ROOMS: LazyLock<Vec<TestRoom>> = LazyLock::new(|| rooms().collect());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_content_survives(
        content in prop::collection::btree_map(any::<String>(), any_json(), 0..4),
        state_key in prop::option::of(any::<String>()),
    ) {
        for room in &*ROOMS {
            let draft = room.draft(ALICE, "m.text", None, json!({}));
            let event = room.build(Draft { content: content.clone(), state_key: state_key.clone(), ..draft });
            let sent = RawValue::from_string(event.json().to_owned()).unwrap();
            let received = parse_remote(room.version, &sent).unwrap();
            prop_assert_eq!(received.event_id(), event.event_id());
            prop_assert_eq!(received.content_as::<CanonicalJsonObject>(), Some(content.clone()));
            prop_assert_eq!(received.state_key(), state_key.as_deref());
            let shown: CanonicalJsonObject = serde_json::from_str(&format!("{}}}", event.client_json())).unwrap();
            prop_assert_eq!(shown.get("content"), Some(&CanonicalJsonValue::Object(content.clone())));
        }
    }
}
