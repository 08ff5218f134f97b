//! State events set and read.

use serde_json::{Value, json};

use crate::support::{EventId, Server};

#[tokio::test]
async fn state_is_read_back_under_its_key() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    alice.set_state(&room, "test.thing", "a key/with slash", json!({"n": 1})).await;
    alice.set_state(&room, "test.thing", "", json!({"n": 2})).await;
    assert_eq!(alice.state(&room, "test.thing", "a key/with slash").await, json!({"n": 1}));
    for path in ["test.thing", "test.thing/"] {
        let body = alice.get(&format!("rooms/{room}/state/{path}")).await.ok();
        assert_eq!(body, json!({"n": 2}));
    }
    alice.get(&format!("rooms/{room}/state/test.other")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn whole_event_is_given_when_asked_for() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.set_state(&room, "test.thing", "", json!({"n": 2})).await;
    let body = alice.get(&format!("rooms/{room}/state/test.thing/?format=event")).await.ok();
    assert_eq!(EventId::of(&body), event);
    assert_eq!(body["sender"], alice.id);
}

#[tokio::test]
async fn whole_state_has_one_event_for_each_key() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    alice.set_state(&room, "m.room.name", "", json!({"name": "first"})).await;
    let latest = alice.set_state(&room, "m.room.name", "", json!({"name": "second"})).await;
    let body = alice.get(&format!("rooms/{room}/state")).await.ok();
    let names: Vec<&Value> =
        body.as_array().expect("a list").iter().filter(|event| event["type"] == "m.room.name").collect();
    assert_eq!(names.len(), 1);
    assert_eq!(EventId::of(names[0]), latest);
    assert_eq!(names[0]["unsigned"]["prev_content"], json!({"name": "first"}));
}

#[tokio::test]
async fn setting_the_same_state_again_gives_the_same_event() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let first = alice.set_state(&room, "m.room.name", "", json!({"name": "same"})).await;
    let second = alice.set_state(&room, "m.room.name", "", json!({"name": "same"})).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn ordinary_member_may_not_set_state() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.try_set_state(&room, "m.room.name", "", json!({"name": "x"})).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await;
    bob.try_set_state(&room, "m.room.name", "", json!({"name": "x"})).await.refused(403, "M_FORBIDDEN");
    let mut levels = alice.state(&room, "m.room.power_levels", "").await;
    levels["users"][&bob.id] = json!(50);
    alice.set_state(&room, "m.room.power_levels", "", levels).await;
    bob.set_state(&room, "m.room.name", "", json!({"name": "x"})).await;
}

#[tokio::test]
async fn nobody_gives_more_power_than_they_have() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().version("11").public().await;
    bob.join(&room).await;
    let mut levels = alice.state(&room, "m.room.power_levels", "").await;
    levels["users"][&bob.id] = json!(50);
    levels["events"]["m.room.power_levels"] = json!(50);
    alice.set_state(&room, "m.room.power_levels", "", levels.clone()).await;
    levels["users"][&bob.id] = json!(60);
    bob.try_set_state(&room, "m.room.power_levels", "", levels).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn power_levels_that_are_no_numbers_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().version("10").await;
    for bad in [json!("50"), json!(1.5), json!([]), json!(9_007_199_254_740_992_i64)] {
        let mut levels = alice.state(&room, "m.room.power_levels", "").await;
        levels["ban"] = bad.clone();
        let answer = alice.try_set_state(&room, "m.room.power_levels", "", levels).await;
        assert!([400, 403].contains(&answer.status), "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn key_of_another_user_is_theirs() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let levels = json!({"events": {"test.thing": 0}});
    let room = alice.create_room().public().with("power_level_content_override", levels).await;
    bob.join(&room).await;
    bob.try_set_state(&room, "test.thing", &alice.id, json!({})).await.refused(403, "M_FORBIDDEN");
    bob.set_state(&room, "test.thing", &bob.id, json!({})).await;
}

#[tokio::test]
async fn second_create_event_is_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let answer = alice.try_set_state(&room, "m.room.create", "", json!({"room_version": "9"})).await;
    assert!([400, 403].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn canonical_alias_must_lead_to_the_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("room_alias_name", "tea").await;
    alice.create_room().with("room_alias_name", "coffee").await;
    for (content, errcode) in [
        (json!({"alias": "#nothere:myelin.test"}), "M_BAD_ALIAS"),
        (json!({"alias": "#coffee:myelin.test"}), "M_BAD_ALIAS"),
        (json!({"alt_aliases": ["no alias"]}), "M_INVALID_PARAM"),
    ] {
        alice.try_set_state(&room, "m.room.canonical_alias", "", content).await.refused(400, errcode);
    }
    let content = json!({"alias": "#tea:myelin.test", "alt_aliases": ["#tea:myelin.test"]});
    alice.set_state(&room, "m.room.canonical_alias", "", content).await;
}

#[tokio::test]
async fn state_as_of_the_leave_is_what_former_members_read() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().with("name", "before").await;
    bob.join(&room).await;
    bob.leave(&room).await;
    alice.set_state(&room, "m.room.name", "", json!({"name": "after"})).await;
    assert_eq!(bob.state(&room, "m.room.name", "").await["name"], "before");
    carol.get(&format!("rooms/{room}/state/m.room.name")).await.refused(403, "M_FORBIDDEN");
    carol.get(&format!("rooms/{room}/state")).await.refused(403, "M_FORBIDDEN");
}
