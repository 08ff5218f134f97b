//! The order of the checks, and what each failure leads to.

use ruma::EventId;
use serde_json::json;

use super::*;
use crate::test_room::{ALICE, BOB, TestRoom};
use crate::version::all;

/// A room that Alice opened and Bob joined.
fn room_of_two(version: &str) -> TestRoom {
    let mut room = TestRoom::new(version);
    room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
    room.join(BOB);
    room
}

fn remote(known: &TestRoom, before: &TestRoom, current: &TestRoom, event: &Pdu) -> Admission {
    admit_remote(
        event,
        |id| known.auth_event(id),
        |event_type, key| before.get(event_type, key),
        |event_type, key| current.get(event_type, key),
    )
}

fn each_version(check: impl Fn(&str)) {
    for version in all() {
        check(version.id.as_str());
    }
}

#[test]
fn our_events_are_accepted_or_rejected() {
    each_version(|version| {
        let room = room_of_two(version);
        let admit = |event: &Pdu| admit_local(event, room.create(), |kind, key| room.get(kind, key));
        assert_eq!(admit(&room.make(BOB, "m.room.message", None, json!({}))), Admission::Accept);
        assert_eq!(admit(room.create()), Admission::Accept);
        assert_eq!(admit(&room.make(ALICE, "m.room.topic", Some(""), json!({}))), Admission::Accept);
        let refused = admit(&room.make(BOB, "m.room.topic", Some(""), json!({})));
        assert!(matches!(refused, Admission::Reject(_)), "{version}");
        let malformed = admit(&room.make(BOB, "m.room.member", Some(BOB), json!({})));
        assert!(matches!(malformed, Admission::Reject(_)), "{version}");
    });
}

#[test]
fn events_that_every_state_allows_are_accepted() {
    each_version(|version| {
        let room = room_of_two(version);
        let event = room.make(BOB, "m.room.message", None, json!({}));
        assert_eq!(remote(&room, &room, &room, &event), Admission::Accept, "{version}");
        assert_eq!(admit_outlier(&event, |id| room.auth_event(id)), Admission::Accept);
        assert_eq!(admit_outlier(room.create(), |id| room.auth_event(id)), Admission::Accept);
    });
}

#[test]
fn what_is_missing_is_asked_for() {
    each_version(|version| {
        let room = room_of_two(version);
        let event = room.make(BOB, "m.room.message", None, json!({}));
        let Admission::Missing(ids) = admit_outlier(&event, |_| None) else {
            panic!("nothing is missing in version {version}");
        };
        // The create event is among them, named or implied.
        assert_eq!(ids, required_events(&event).collect::<Vec<_>>());
        assert!(ids.iter().any(|id| id == room.create().event_id()), "{version}");
    });
}

#[test]
fn an_event_based_on_a_rejected_one_is_rejected() {
    each_version(|version| {
        let room = room_of_two(version);
        let event = room.make(BOB, "m.room.message", None, json!({}));
        let bobs = room.get("m.room.member", BOB).unwrap();
        let auth_event = |id: &EventId| {
            room.auth_event(id).map(|event| AuthEvent { rejected: id == bobs.event_id(), ..event })
        };
        assert!(matches!(admit_outlier(&event, auth_event), Admission::Reject(_)), "{version}");
    });
}

#[test]
fn the_auth_events_must_allow_it() {
    each_version(|version| {
        let room = TestRoom::new(version);
        let event = room.make(BOB, "m.room.message", None, json!({}));
        assert!(matches!(remote(&room, &room, &room, &event), Admission::Reject(_)), "{version}");
    });
}

#[test]
fn the_state_before_must_allow_it_and_the_current_state_should() {
    each_version(|version| {
        let before = room_of_two(version);
        let event = before.make(BOB, "m.room.message", None, json!({}));
        let mut banned = before.clone();
        banned.member(ALICE, BOB, "ban");
        let rejected = remote(&banned, &banned, &banned, &event);
        assert!(matches!(&rejected, Admission::Reject(why) if why.contains("before it")), "{version}");
        let soft_failed = remote(&banned, &before, &banned, &event);
        assert!(matches!(&soft_failed, Admission::SoftFail(why) if why.contains("current")), "{version}");
    });
}

#[test]
fn codes_lead_back() {
    for number in 1..=4 {
        assert_eq!(AdmissionCode::from_code(number).map(AdmissionCode::code), Some(number));
    }
    assert_eq!(AdmissionCode::from_code(0), None);
    assert_eq!(Admission::Missing(vec![]).code(), None);
    assert_eq!(Admission::Reject("why".to_owned()).code(), Some(AdmissionCode::Rejected));
    assert_eq!(Admission::SoftFail("why".to_owned()).reason(), Some("why"));
}
