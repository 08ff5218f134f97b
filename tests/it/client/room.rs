//! Rooms made with each preset, version and option.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Server, encode};

const VERSIONS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

#[tokio::test]
async fn presets_set_the_rules_of_the_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for (preset, join_rule, guests) in [
        ("private_chat", "invite", "can_join"),
        ("trusted_private_chat", "invite", "can_join"),
        ("public_chat", "public", "forbidden"),
    ] {
        let room = alice.create_room().with("preset", preset).await;
        assert_eq!(alice.state(&room, "m.room.join_rules", "").await["join_rule"], join_rule, "{preset}");
        let visibility = alice.state(&room, "m.room.history_visibility", "").await;
        assert_eq!(visibility["history_visibility"], "shared", "{preset}");
        // Without the event, guests may not join.
        let answer = alice.get(&format!("rooms/{room}/state/m.room.guest_access")).await;
        let access = answer.body["guest_access"].as_str().unwrap_or("forbidden").to_owned();
        assert_eq!(access, guests, "{preset}");
    }
}

#[tokio::test]
async fn visibility_chooses_the_preset_when_none_is_named() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("visibility", "public").await;
    assert_eq!(alice.state(&room, "m.room.join_rules", "").await["join_rule"], "public");
    let room = alice.create_room().await;
    assert_eq!(alice.state(&room, "m.room.join_rules", "").await["join_rule"], "invite");
}

#[tokio::test]
async fn room_of_each_version_takes_messages() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in VERSIONS {
        let room = alice.create_room().version(version).invite(&bob).await;
        let create = alice.state(&room, "m.room.create", "").await;
        assert_eq!(create["room_version"].as_str().unwrap_or("1"), version);
        // Since version 11 the sender alone says who made it.
        let has_creator = version.parse::<u32>().expect("a number") < 11;
        assert_eq!(create["creator"].is_string(), has_creator, "version {version}");
        bob.join(&room).await;
        let event = alice.send_text(&room, "hello").await;
        let answer = bob.event(&room, &event).await.ok();
        assert_eq!(answer["content"]["body"], "hello", "version {version}");
        bob.redact(&room, &bob.send_text(&room, "oops").await).await;
        bob.leave(&room).await;
    }
}

#[tokio::test]
async fn first_events_come_in_the_order_of_the_specification() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice
        .create_room()
        .with("room_alias_name", "tea")
        .with("name", "Tea")
        .with("topic", "Milk first?")
        .state("m.room.server_acl", json!({"allow": ["*"]}))
        .await;
    let sync = alice.sync().filter(&json!({"room": {"timeline": {"limit": 50}}})).await;
    let types: Vec<&str> =
        sync.events(&room).iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(
        types,
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.server_acl",
            "m.room.name",
            "m.room.topic",
        ]
    );
}

#[tokio::test]
async fn initial_state_wins_over_the_preset() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let visibility = json!({"history_visibility": "world_readable"});
    let room = alice.create_room().public().state("m.room.history_visibility", visibility.clone()).await;
    assert_eq!(alice.state(&room, "m.room.history_visibility", "").await, visibility);
}

#[tokio::test]
async fn name_and_topic_are_set() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("name", "Tea").with("topic", "Milk first?").await;
    assert_eq!(alice.state(&room, "m.room.name", "").await["name"], "Tea");
    assert_eq!(alice.state(&room, "m.room.topic", "").await["topic"], "Milk first?");
}

#[tokio::test]
async fn creation_content_is_kept_but_not_trusted() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let content =
        json!({"m.federate": false, "type": "m.space", "room_version": "3", "creator": "@mallory:x.test"});
    let room = alice.create_room().version("10").with("creation_content", content).await;
    let create = alice.state(&room, "m.room.create", "").await;
    assert_eq!(create["m.federate"], false);
    assert_eq!(create["type"], "m.space");
    assert_eq!(create["room_version"], "10");
    assert_eq!(create["creator"], alice.id);
}

#[tokio::test]
async fn power_levels_can_be_overridden() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("power_level_content_override", json!({"events_default": 7})).await;
    let levels = alice.state(&room, "m.room.power_levels", "").await;
    assert_eq!(levels["events_default"], 7);
    assert_eq!(levels["state_default"], 50);
}

#[tokio::test]
async fn creator_of_version_12_is_not_in_the_power_levels() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().version("12").with("preset", "trusted_private_chat").invite(&bob).await;
    let levels = alice.state(&room, "m.room.power_levels", "").await;
    assert!(levels["users"][&alice.id].is_null() && levels["users"][&bob.id].is_null(), "{levels}");
    let create = alice.state(&room, "m.room.create", "").await;
    assert_eq!(create["additional_creators"], json!([bob.id]));
    assert!(!room.0.contains(':'), "{}", room.0);
}

#[tokio::test]
async fn trusted_invitees_have_the_power_of_the_creator() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().version("11").with("preset", "trusted_private_chat").invite(&bob).await;
    let levels = alice.state(&room, "m.room.power_levels", "").await;
    assert_eq!(levels["users"][&bob.id], levels["users"][&alice.id]);
}

#[tokio::test]
async fn direct_chat_is_marked_in_the_invite() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().with("is_direct", true).invite(&bob).await;
    assert_eq!(alice.state(&room, "m.room.member", &bob.id).await["is_direct"], true);
}

#[tokio::test]
async fn alias_of_a_new_room_leads_to_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().with("room_alias_name", "tea").await;
    let alias = encode("#tea:myelin.test");
    let body = bob.get(&format!("directory/room/{alias}")).await.ok();
    assert_eq!(body["room_id"], room.0);
    assert_eq!(bob.post(&format!("join/{alias}"), json!({})).await.ok()["room_id"], room.0);
    let content = alice.state(&room, "m.room.canonical_alias", "").await;
    assert_eq!(content["alias"], "#tea:myelin.test");
}

#[tokio::test]
async fn requests_that_cannot_be_met_leave_no_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    alice.create_room().with("room_alias_name", "taken").await;
    let cases: [(Value, u16, &str); 7] = [
        (json!({"room_alias_name": "taken"}), 400, "M_ROOM_IN_USE"),
        (json!({"room_version": "99"}), 400, "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({"invite": ["not a user"]}), 400, "M_BAD_JSON"),
        (json!({"preset": 3}), 400, "M_BAD_JSON"),
        (
            json!({"room_version": "11", "power_level_content_override": {"users": {alice.id.clone(): 0}}}),
            400,
            "M_INVALID_ROOM_STATE",
        ),
        (
            json!({"room_version": "12", "power_level_content_override": {"users": {alice.id.clone(): 100}}}),
            400,
            "M_INVALID_ROOM_STATE",
        ),
        (json!({"topic": "x".repeat(70_000)}), 413, "M_TOO_LARGE"),
    ];
    for (body, status, errcode) in cases {
        let answer = alice.post("createRoom", body.clone()).await;
        let answered = (answer.status, answer.body["errcode"].as_str().unwrap_or("none"));
        let is_invalid = answered == (400, "M_INVALID_PARAM") || answered == (400, "M_BAD_JSON");
        let is_expected = answered == (status, errcode) || (status == 400 && is_invalid);
        assert!(is_expected, "{}: {answered:?}", body.to_string().chars().take(200).collect::<String>());
    }
    let rooms = alice.get("joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn of_rooms_made_at_the_same_time_one_gets_the_alias_and_the_others_are_not_made() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body = json!({"room_alias_name": "tea"});
    let made = join_all(
        (0..8).map(|n| if n % 2 == 0 { &alice } else { &bob }).map(|u| u.post("createRoom", body.clone())),
    );
    let (made, refused): (Vec<_>, Vec<_>) = made.await.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(made.len(), 1);
    for answer in refused {
        answer.refused(400, "M_ROOM_IN_USE");
    }
    let db = server.storage().await.get().await.expect("a connection");
    let rooms: i64 = db.query_one("SELECT COUNT(*) FROM rooms", &[]).await.expect("a number").get(0);
    assert_eq!(rooms, 1);
}
