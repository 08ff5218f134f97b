//! The rules of every room version, in the small: that ruma gets what it needs from us, and the versions differ
//! where they should.

use ruma::events::room::power_levels::UserPowerLevel;
use ruma::{UserId, int};
use serde_json::{Value, json};

use super::*;
use crate::pdu::build::Draft;
use crate::test_room::{ALICE, BOB, CAROL, TestRoom};
use crate::version::all;

fn rooms() -> impl Iterator<Item = (u8, TestRoom)> {
    (1..).zip(all().iter().map(|version| TestRoom::new(version.id.as_str())))
}

fn user(id: &str) -> &UserId {
    id.try_into().unwrap()
}

/// Both halves of the rules, in the room's present state.
fn allowed(room: &TestRoom, event: &Pdu) -> Result<(), String> {
    check_auth_events(event, |id| room.auth_event(id))
        .and_then(|()| authorize(event, room.create(), |event_type, key| room.get(event_type, key)))
        .map_err(|error| error.why)
}

fn send(room: &TestRoom, sender: &str, event_type: &str, key: Option<&str>, content: Value) -> bool {
    allowed(room, &room.make(sender, event_type, key, content)).is_ok()
}

fn member(room: &TestRoom, sender: &str, target: &str, membership: &str) -> bool {
    send(room, sender, "m.room.member", Some(target), json!({"membership": membership}))
}

#[test]
fn a_room_begins() {
    for (number, room) in rooms() {
        let create = room.create();
        assert_eq!(allowed(&room, create), Ok(()), "{number}");
        let join = room.get("m.room.member", ALICE).unwrap();
        assert_eq!(allowed(&room, &join), Ok(()), "{number}");
        assert!(!member(&room, BOB, BOB, "join"), "nobody else may join, {number}");
    }
}

#[test]
fn a_create_event_must_fit_its_room() {
    for (number, room) in rooms() {
        let first = room.create().prev_events().to_vec();
        let create = |sender: &str, content: Value| {
            let draft = room.draft(sender, "m.room.create", Some(""), content);
            let event = room.build(Draft { prev_events: first.clone(), ..draft });
            check_auth_events(&event, |_| None).is_ok()
        };
        let version = room.version.id.as_str();
        assert!(create(ALICE, json!({"room_version": version, "creator": ALICE})), "{number}");
        assert!(!create(ALICE, json!({"room_version": "99", "creator": ALICE})), "{number}");
        assert!(!create(ALICE, json!({"room_version": 5, "creator": ALICE})), "{number}");
        // The creator is named until version 10.
        assert_eq!(create(ALICE, json!({"room_version": version})), number >= 11, "{number}");
        // The room's domain is that of its creator, until rooms have none.
        assert_eq!(create(BOB, json!({"room_version": version, "creator": BOB})), number == 12, "{number}");
        let with_parents =
            room.make(ALICE, "m.room.create", Some(""), json!({"room_version": version, "creator": ALICE}));
        assert!(check_auth_events(&with_parents, |_| None).is_err(), "{number}");
        let extra = json!({"room_version": version, "creator": ALICE, "additional_creators": ["nobody"]});
        assert_eq!(create(ALICE, extra), number < 12, "{number}");
    }
}

#[test]
fn joining_follows_the_join_rule() {
    for (number, mut room) in rooms() {
        for (rule, knocks_since) in
            [("invite", u8::MAX), ("private", u8::MAX), ("knock", 7), ("knock_restricted", 10)]
        {
            room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": rule}));
            assert!(!member(&room, BOB, BOB, "join"), "{rule} {number}");
            assert_eq!(member(&room, BOB, BOB, "knock"), number >= knocks_since, "{rule} {number}");
        }
        room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
        assert!(member(&room, BOB, BOB, "join"), "{number}");
        assert!(!member(&room, CAROL, BOB, "join"), "only by oneself, {number}");
        assert!(!send(&room, BOB, "m.room.message", None, json!({})), "not before joining, {number}");
        room.join(BOB);
        assert!(send(&room, BOB, "m.room.message", None, json!({})), "{number}");
        room.member(ALICE, BOB, "ban");
        assert!(!member(&room, BOB, BOB, "join"), "{number}");
        assert!(!member(&room, BOB, BOB, "leave"), "{number}");
        assert!(member(&room, ALICE, BOB, "leave"), "{number}");
    }
}

#[test]
fn restricted_joins_are_vouched_for_by_one_who_may_invite() {
    for (number, mut room) in rooms() {
        room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "restricted", "allow": []}));
        let join = |voucher: &str| json!({"membership": "join", "join_authorised_via_users_server": voucher});
        assert_eq!(send(&room, BOB, "m.room.member", Some(BOB), join(ALICE)), number >= 8, "{number}");
        assert!(!send(&room, BOB, "m.room.member", Some(BOB), join(CAROL)), "{number}");
        assert!(!member(&room, BOB, BOB, "join"), "{number}");
    }
}

#[test]
fn power_is_needed_and_cannot_be_exceeded() {
    for (number, mut room) in rooms() {
        room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
        room.join(BOB);
        room.join(CAROL);
        let users = if number == 12 { json!({BOB: 50}) } else { json!({ALICE: 100, BOB: 50}) };
        room.state(ALICE, "m.room.power_levels", "", json!({"users": users}));
        assert!(send(&room, BOB, "m.room.topic", Some(""), json!({})), "{number}");
        assert!(!send(&room, CAROL, "m.room.topic", Some(""), json!({})), "{number}");
        assert!(!send(&room, BOB, "m.x", Some(CAROL), json!({})), "another's state key, {number}");
        assert!(member(&room, BOB, CAROL, "ban"), "{number}");
        assert!(!member(&room, BOB, ALICE, "leave"), "{number}");
        assert!(!member(&room, CAROL, BOB, "leave"), "{number}");
        let mut more = users.clone();
        more[BOB] = json!(51);
        assert!(!send(&room, BOB, "m.room.power_levels", Some(""), json!({"users": more})), "{number}");
        // Levels as strings, until version 9.
        let strings = json!({"users": users, "kick": "50"});
        assert_eq!(send(&room, ALICE, "m.room.power_levels", Some(""), strings), number < 10, "{number}");
    }
}

#[test]
fn aliases_belong_to_a_server_in_old_versions() {
    for (number, mut room) in rooms() {
        room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
        room.join(BOB);
        let aliases = json!({"aliases": []});
        assert_eq!(send(&room, BOB, "m.room.aliases", Some("b.example"), aliases.clone()), number < 6);
        assert_eq!(send(&room, ALICE, "m.room.aliases", Some("b.example"), aliases), number >= 6);
    }
}

#[test]
fn rooms_can_be_closed_to_other_servers() {
    for (number, mut room) in rooms() {
        let mut content: Value = room.create().content_as().unwrap();
        content["m.federate"] = false.into();
        let create = room.state(ALICE, "m.room.create", "", content);
        let join = room.make(BOB, "m.room.member", Some(BOB), json!({"membership": "join"}));
        room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
        let error = authorize(&join, &create, |event_type, key| room.get(event_type, key)).unwrap_err();
        assert!(error.why.contains("federated"), "{number}: {error}");
    }
}

#[test]
fn auth_events_must_be_the_right_ones() {
    for (number, mut room) in rooms() {
        let message = room.make(ALICE, "m.room.message", None, json!({}));
        assert_eq!(allowed(&room, &message), Ok(()), "{number}");
        assert!(check_auth_events(&message, |_| None).is_err(), "unknown, {number}");
        let rejected = |id: &EventId| room.auth_event(id).map(|event| AuthEvent { rejected: true, ..event });
        assert!(check_auth_events(&message, rejected).unwrap_err().why.contains("rejected"), "{number}");

        let topic = room.state(ALICE, "m.room.topic", "", json!({}));
        let draft = room.draft(ALICE, "m.room.message", None, json!({}));
        let mut superfluous = draft.clone();
        superfluous.auth_events.push(topic.event_id().to_owned());
        assert!(allowed(&room, &room.build(superfluous)).unwrap_err().contains("unexpected"), "{number}");
        let mut twice = draft.clone();
        twice.auth_events.push(room.get("m.room.member", ALICE).unwrap().event_id().to_owned());
        assert!(allowed(&room, &room.build(twice)).unwrap_err().contains("duplicate"), "{number}");
    }
}

/// Type, state key, content, and the keys beside those that every event has.
type KeysCase<'a> = (&'a str, Option<&'a str>, Value, &'a [(&'a str, &'a str)]);

#[test]
fn auth_keys_are_those_of_the_specification() {
    let member = ("m.room.member", ALICE);
    let base = [("m.room.power_levels", ""), member];
    let create = ("m.room.create", "");
    let rules = ("m.room.join_rules", "");
    let cases: [KeysCase<'_>; 6] = [
        ("m.room.message", None, json!({}), &[]),
        ("m.room.member", Some(ALICE), json!({"membership": "join"}), &[rules]),
        ("m.room.member", Some(BOB), json!({"membership": "invite"}), &[rules, ("m.room.member", BOB)]),
        ("m.room.member", Some(BOB), json!({"membership": "ban"}), &[("m.room.member", BOB)]),
        (
            "m.room.member",
            Some(BOB),
            json!({"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}}),
            &[rules, ("m.room.member", BOB), ("m.room.third_party_invite", "t")],
        ),
        // Malformed: enough to be refused for what it is.
        ("m.room.member", Some(BOB), json!({}), &[]),
    ];
    for (number, room) in rooms() {
        assert_eq!(auth_keys_of(room.create()), [], "{number}");
        for (event_type, key, content, more) in &cases {
            let mut expected: Vec<_> = base.iter().chain(*more).copied().collect();
            expected.extend((number < 12).then_some(create));
            expected.sort_unstable();
            let event = room.make(ALICE, event_type, *key, content.clone());
            let mut keys = auth_keys_of(&event);
            keys.sort_unstable();
            let keys: Vec<_> = keys.iter().map(|(kind, key)| (kind.as_str(), key.as_str())).collect();
            assert_eq!(keys, expected, "{event_type} {content} in {number}");
        }
    }
}

#[test]
fn power_levels_have_their_defaults() {
    for (number, room) in rooms() {
        let levels = PowerLevels::new(room.create(), None);
        let expected = if number == 12 { UserPowerLevel::Infinite } else { UserPowerLevel::Int(int!(100)) };
        assert_eq!(levels.level_of(user(ALICE)), expected, "{number}");
        assert_eq!(levels.level_of(user(BOB)), UserPowerLevel::Int(int!(0)));
        assert_eq!((levels.needed_for("m.x", true), levels.needed_for("m.x", false)), (int!(50), int!(0)));
        assert_eq!((levels.invite(), levels.kick()), (int!(0), int!(50)));
        assert_eq!((levels.ban(), levels.redact()), (int!(50), int!(50)));
        assert!(levels.notifications().is_empty());
        assert!(levels.creators().contains(user(ALICE)));
    }
}

#[test]
fn power_levels_are_read() {
    for (number, room) in rooms() {
        let content = json!({
            "users": {BOB: 60}, "users_default": 1, "events": {"m.x": 2}, "events_default": 3, "state_default": 4,
            "invite": 5, "kick": 6, "ban": 7, "redact": "8", "notifications": {"room": 9, "org.example": 10},
        });
        let event = room.make(ALICE, "m.room.power_levels", Some(""), content);
        let levels = PowerLevels::new(room.create(), Some(&event));
        assert_eq!(levels.level_of(user(BOB)), UserPowerLevel::Int(int!(60)));
        assert_eq!(levels.level_of(user(CAROL)), UserPowerLevel::Int(int!(1)));
        let alice = levels.level_of(user(ALICE));
        assert_eq!(alice == UserPowerLevel::Infinite, number == 12, "{number}");
        assert!(levels.may_send(user(CAROL), "m.y", false) == levels.has(user(CAROL), int!(3)));
        assert_eq!(levels.needed_for("m.x", true), int!(2));
        assert_eq!(levels.needed_for("m.y", true), int!(4));
        assert_eq!((levels.invite(), levels.kick(), levels.ban()), (int!(5), int!(6), int!(7)));
        // A string is a level only until version 9.
        assert_eq!(levels.redact(), if number < 10 { int!(8) } else { int!(50) }, "{number}");
        let notifications = [("org.example".to_owned(), int!(10)), ("room".to_owned(), int!(9))];
        assert_eq!(*levels.notifications(), notifications.into());
        assert!(levels.is_above(user(BOB), user(CAROL)));
        assert!(!levels.is_above(user(BOB), user(BOB)));
    }
}

#[test]
fn additional_creators_stand_above_all_levels() {
    let mut room = TestRoom::new("12");
    let content = json!({"room_version": "12", "additional_creators": [BOB]});
    let draft = room.draft(ALICE, "m.room.create", Some(""), content);
    let create = room.build(Draft { prev_events: vec![], ..draft });
    room.apply(&create);
    assert_eq!(PowerLevels::new(&create, None).level_of(user(BOB)), UserPowerLevel::Infinite);
}

#[test]
fn redactions_need_power_or_the_same_server() {
    for (number, mut room) in rooms() {
        room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
        room.join(BOB);
        let of_alice = room.make(ALICE, "m.room.message", None, json!({}));
        let of_bob = room.make(BOB, "m.room.message", None, json!({}));
        let levels = PowerLevels::new(room.create(), None);
        for (sender, target, expected) in
            [(ALICE, &of_alice, true), (ALICE, &of_bob, true), (BOB, &of_bob, true), (BOB, &of_alice, false)]
        {
            let redaction = room.redaction(sender, target.event_id());
            // Versions 1 and 2 refuse the redaction itself, later ones only its effect.
            assert_eq!(allowed(&room, &redaction).is_ok(), expected || number >= 3, "{sender} {number}");
            if number >= 3 {
                assert_eq!(redaction_applies(&redaction, target, &levels), expected, "{sender} {number}");
            }
        }
        let elsewhere = TestRoom::new(if number == 12 { "11" } else { "12" });
        let redaction = room.redaction(ALICE, elsewhere.create().event_id());
        assert!(!redaction_applies(&redaction, elsewhere.create(), &levels), "{number}");
    }
}
