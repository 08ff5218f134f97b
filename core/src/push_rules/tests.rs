//! Cases of rules and events.

use ruma::{RoomVersionId, owned_event_id, user_id};
use serde_json::json;

use super::*;
use crate::{pdu::Pdu, version};

const SILENT: Outcome = Outcome { notify: false, highlight: false };
const NOTIFY: Outcome = Outcome { notify: true, highlight: false };
const HIGHLIGHT: Outcome = Outcome { notify: true, highlight: true };

/// The default rules of Alice, changed; an event by Bob, changed; what it is to Alice in a room of ten.
struct Case {
    rules: Ruleset,
    event: Value,
    member_count: u64,
    power: SenderPower,
}

fn case() -> Case {
    Case {
        rules: Ruleset::server_default(user_id!("@alice:example.org")),
        event: json!({
            "type": "m.room.message", "event_id": "$event", "room_id": "!room:example.org",
            "sender": "@bob:example.org", "origin_server_ts": 1,
            "content": { "msgtype": "m.text", "body": "Hello Alice, there is cake" },
        }),
        member_count: 10,
        power: SenderPower { level: Some(0), needed: Box::default() },
    }
}

impl Case {
    /// Adds rules, the most important ones of their kind.
    fn rules(mut self, kind: &str, rules: &Value) -> Self {
        let mut json = serde_json::to_value(&self.rules).unwrap();
        let mut all = rules.as_array().unwrap().clone();
        for rule in &mut all {
            rule["default"] = false.into();
        }
        all.extend(json[kind].as_array().cloned().unwrap_or_default());
        json[kind] = all.into();
        self.rules = serde_json::from_value(json).unwrap();
        self
    }

    fn event(mut self, path: &str, value: Value) -> Self {
        *self.event.pointer_mut(path).unwrap() = value;
        self
    }

    fn content(self, content: Value) -> Self {
        self.event("/content", content)
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.event[name] = value.into();
        self
    }

    fn members(mut self, member_count: u64) -> Self {
        self.member_count = member_count;
        self
    }

    fn power(mut self, level: Option<i64>, needed: &[(&str, i64)]) -> Self {
        let needed = needed.iter().map(|(key, level)| ((*key).to_owned(), *level)).collect();
        self.power = SenderPower { level, needed };
        self
    }

    fn outcome(&self) -> Outcome {
        let ctx = Ctx {
            user_id: user_id!("@alice:example.org"),
            display_name: Some("Alice"),
            member_count: self.member_count,
            sender_power: &self.power,
        };
        let event = FlatEvent::from_json(self.event.clone());
        let outcome = evaluate(&self.rules, &event, &ctx);
        let json = |rules: &Ruleset| serde_json::to_value(rules).unwrap();
        if json(&self.rules) == json(&Ruleset::server_default(ctx.user_id)) {
            assert_eq!(
                evaluate_default(&event, &ctx),
                outcome,
                "the default rules without a user say the same"
            );
        }
        outcome
    }
}

#[test]
fn default_rules() {
    let room_mention = json!({ "body": "all", "m.mentions": { "room": true } });
    for (name, case, outcome) in [
        ("message", case(), NOTIFY),
        ("one to one", case().members(2), NOTIFY),
        ("own message", case().field("sender", "@alice:example.org"), SILENT),
        ("notice", case().content(json!({ "msgtype": "m.notice" })), SILENT),
        ("encrypted", case().field("type", "m.room.encrypted"), NOTIFY),
        ("reaction", case().field("type", "m.reaction"), SILENT),
        ("other type", case().field("type", "org.example"), SILENT),
        ("tombstone", case().field("type", "m.room.tombstone").field("state_key", ""), HIGHLIGHT),
        ("no state event", case().field("type", "m.room.tombstone"), SILENT),
        (
            "invite",
            case()
                .field("type", "m.room.member")
                .field("state_key", "@alice:example.org")
                .content(json!({ "membership": "invite" })),
            NOTIFY,
        ),
        (
            "invite of another",
            case()
                .field("type", "m.room.member")
                .field("state_key", "@carol:example.org")
                .content(json!({ "membership": "invite" })),
            SILENT,
        ),
        (
            "mention",
            case().content(json!({ "m.mentions": { "user_ids": [1, "@alice:example.org"] } })),
            HIGHLIGHT,
        ),
        (
            "mention of another",
            case().content(json!({ "m.mentions": { "user_ids": ["@carol:example.org"] } })),
            NOTIFY,
        ),
        (
            "edit",
            case().content(json!({ "m.relates_to": { "rel_type": "m.replace", "event_id": "$a" } })),
            SILENT,
        ),
        ("@room without power", case().content(room_mention.clone()).power(Some(49), &[]), NOTIFY),
        ("@room with power", case().content(room_mention.clone()).power(Some(50), &[]), HIGHLIGHT),
        ("@room for all", case().content(room_mention.clone()).power(Some(0), &[("room", 0)]), HIGHLIGHT),
        ("@room by a creator", case().content(room_mention).power(None, &[("room", 9000)]), HIGHLIGHT),
        ("@room that is no mention", case().content(json!({ "m.mentions": { "room": "true" } })), NOTIFY),
    ] {
        assert_eq!(case.outcome(), outcome, "{name}");
    }
}

#[test]
fn kinds_come_in_order() {
    let loud = json!(["notify", { "set_tweak": "highlight" }]);
    let on = |id: &str, actions: &Value| json!({ "rule_id": id, "enabled": true, "actions": actions });
    let cake = json!({ "rule_id": "cake", "pattern": "cake", "enabled": true, "actions": &loud });
    let quiet_cake = json!({ "rule_id": "cake", "pattern": "cake", "enabled": true, "actions": [] });
    let mute = json!({ "rule_id": "mute", "conditions": [], "enabled": true, "actions": [] });
    let room = "!room:example.org";
    let bob = "@bob:example.org";
    for (name, case, outcome) in [
        ("content before underride", case().rules("content", &json!([cake])), HIGHLIGHT),
        (
            "override before content",
            case().rules("content", &json!([cake])).rules("override", &json!([mute])),
            SILENT,
        ),
        (
            "content before room",
            case().rules("content", &json!([quiet_cake])).rules("room", &json!([on(room, &loud)])),
            SILENT,
        ),
        (
            "room before sender",
            case().rules("room", &json!([on(room, &json!([]))])).rules("sender", &json!([on(bob, &loud)])),
            SILENT,
        ),
        (
            "sender before underride",
            case().rules("sender", &json!([on(bob, &json!(["dont_notify"]))])),
            SILENT,
        ),
        ("another room", case().rules("room", &json!([on("!other:example.org", &json!([]))])), NOTIFY),
        ("another sender", case().rules("sender", &json!([on("@b*:example.org", &json!([]))])), NOTIFY),
        ("highlight alone is nothing", case().rules("room", &json!([on(room, &json!([loud[1]]))])), SILENT),
    ] {
        assert_eq!(case.outcome(), outcome, "{name}");
    }
}

#[test]
fn disabled_rules_never_match() {
    let off =
        json!([{ "rule_id": "off", "pattern": "cake", "conditions": [], "enabled": false, "actions": [] }]);
    for kind in ["override", "content", "underride"] {
        assert_eq!(case().rules(kind, &off).outcome(), NOTIFY, "{kind}");
    }
    let off = json!([{ "rule_id": "!room:example.org", "enabled": false, "actions": [] }]);
    assert_eq!(case().rules("room", &off).outcome(), NOTIFY);
    let off = json!([{ "rule_id": "@bob:example.org", "enabled": false, "actions": [] }]);
    assert_eq!(case().rules("sender", &off).outcome(), NOTIFY);
}

#[test]
fn conditions() {
    let content = json!({
        "body": "Hello Alice", "n": 7, "none": null, "list": [true, null, 7, "x", ["y"]], "topic": "Lunch plans",
    });
    for (condition, applies) in [
        (json!({ "kind": "event_match", "key": "content.topic", "pattern": "lunc?*" }), true),
        (json!({ "kind": "event_match", "key": "content.topic", "pattern": "plans" }), false),
        (json!({ "kind": "event_match", "key": "content.body", "pattern": "alice" }), true),
        (json!({ "kind": "event_match", "key": "content.body", "pattern": "ali" }), false),
        (json!({ "kind": "event_match", "key": "content.n", "pattern": "*" }), false),
        (json!({ "kind": "event_match", "key": "content.missing", "pattern": "*" }), false),
        (json!({ "kind": "event_match", "key": "room_id", "pattern": "!ROOM:*" }), true),
        (json!({ "kind": "event_property_is", "key": "content.n", "value": 7 }), true),
        (json!({ "kind": "event_property_is", "key": "content.n", "value": "7" }), false),
        (json!({ "kind": "event_property_is", "key": "content.none", "value": null }), true),
        (json!({ "kind": "event_property_is", "key": "content.missing", "value": null }), false),
        (json!({ "kind": "event_property_is", "key": "content.topic", "value": "lunch plans" }), false),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": 7 }), true),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": null }), true),
        (json!({ "kind": "event_property_contains", "key": "content.list", "value": "y" }), false),
        (json!({ "kind": "event_property_contains", "key": "content.n", "value": 7 }), false),
        (json!({ "kind": "contains_display_name" }), true),
        (json!({ "kind": "room_member_count", "is": "10" }), true),
        (json!({ "kind": "room_member_count", "is": "==9" }), false),
        (json!({ "kind": "room_member_count", "is": ">9" }), true),
        (json!({ "kind": "room_member_count", "is": ">10" }), false),
        (json!({ "kind": "room_member_count", "is": "<=10" }), true),
        (json!({ "kind": "room_member_count", "is": "<10" }), false),
        (json!({ "kind": "sender_notification_permission", "key": "room" }), false),
        (json!({ "kind": "sender_notification_permission", "key": "org.example" }), true),
        (json!({ "kind": "sender_notification_permission", "key": "unheard of" }), false),
        (json!({ "kind": "org.example.unknown", "key": "content.body" }), false),
    ] {
        let rule = json!([{ "rule_id": "r", "conditions": [condition], "enabled": true, "actions": [] }]);
        let case = case().content(content.clone()).power(Some(10), &[("org.example", 10)]);
        assert_eq!(case.outcome(), NOTIFY);
        let expected = if applies { SILENT } else { NOTIFY };
        assert_eq!(case.rules("override", &rule).outcome(), expected, "{condition}");
    }
}

#[test]
fn all_conditions_must_apply() {
    let conditions = json!([{ "kind": "room_member_count", "is": "10" }, { "kind": "unknown" }]);
    let rule = json!([{ "rule_id": "r", "conditions": conditions, "enabled": true, "actions": [] }]);
    assert_eq!(case().rules("override", &rule).outcome(), NOTIFY);
}

#[test]
fn old_mention_rules_step_back_when_there_are_mentions() {
    let loud = json!(["notify", { "set_tweak": "highlight" }]);
    let name = json!([{
        "rule_id": ".m.rule.contains_display_name", "conditions": [{ "kind": "contains_display_name" }],
        "enabled": true, "actions": loud,
    }]);
    let user = json!([{
        "rule_id": ".m.rule.contains_user_name", "pattern": "alice", "enabled": true, "actions": loud,
    }]);
    let mentions = json!({ "body": "Alice", "m.mentions": {} });
    for case in [case().rules("override", &name), case().rules("content", &user)] {
        assert_eq!(case.outcome(), HIGHLIGHT);
        assert_eq!(case.content(mentions.clone()).outcome(), NOTIFY);
    }
}

#[test]
fn creators_of_version_12_rooms_may_always_notify() {
    let stored = |event_type: &str, version: RoomVersionId, content: Value| {
        let event = json!({
            "type": event_type, "state_key": "", "sender": "@bob:example.org", "content": content, "depth": 1,
            "room_id": "!room:example.org", "auth_events": [], "prev_events": [], "origin_server_ts": 1,
        });
        let version = version::find(&version).unwrap();
        Pdu::from_stored(version, owned_event_id!("$event"), event.to_string()).unwrap()
    };
    for (version, may_notify) in [(RoomVersionId::V11, false), (RoomVersionId::V12, true)] {
        let create = stored("m.room.create", version.clone(), json!({ "room_version": version }));
        let levels = stored(
            "m.room.power_levels",
            version,
            json!({ "notifications": { "room": 150, "org.example": 0 } }),
        );
        let levels = PowerLevels::new(&create, Some(&levels));
        let bob = SenderPower::new(&levels, user_id!("@bob:example.org"));
        assert_eq!(bob.may_notify("room"), may_notify);
        let carol = SenderPower::new(&levels, user_id!("@carol:example.org"));
        let needed = [("org.example".to_owned(), 0), ("room".to_owned(), 150)];
        assert_eq!(carol, SenderPower { level: Some(0), needed: needed.into() });
        assert!(carol.may_notify("org.example") && !carol.may_notify("room"));
    }
}

#[test]
fn events_are_seen_as_clients_see_them() {
    let event = json!({
        "type": "m.room.redaction", "sender": "@bob:example.org", "content": { "redacts": "$a" }, "depth": 1,
        "room_id": "!room:example.org", "auth_events": [], "prev_events": [], "origin_server_ts": 5,
    });
    let version = version::find(&RoomVersionId::V11).unwrap();
    let pdu = Pdu::from_stored(version, owned_event_id!("$event"), event.to_string()).unwrap();
    let event = FlatEvent::new(&pdu);
    let client: Value = serde_json::from_str(&format!("{}}}", pdu.client_json())).unwrap();
    let properties = client.as_object().unwrap().iter();
    for (name, value) in properties.filter(|(_, value)| !value.is_object()) {
        assert_eq!(event.get(name), Some(value), "{name}");
    }
    assert_eq!(event.get_str("content.redacts"), Some("$a"));
    assert!(!event.has("depth"));
}
