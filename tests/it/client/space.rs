//! Spaces: the tree of rooms below one, and what is told of a room to those outside.

use serde_json::{Value, json};

use crate::support::{Room, Server, User};

async fn add_child(user: &User, space: &Room, child: &Room, more: Value) {
    let mut content = json!({"via": ["myelin.test"]});
    content.as_object_mut().expect("it is one").extend(more.as_object().expect("an object").clone());
    user.set_state(space, "m.space.child", &child.0, content).await;
}

async fn space(user: &User) -> Room {
    user.create_room().public().with("creation_content", json!({"type": "m.space"})).await
}

async fn tree(user: &User, space: &Room, query: &str) -> Value {
    user.get(&format!("/_matrix/client/v1/rooms/{space}/hierarchy?{query}")).await.ok()
}

fn ids(page: &Value) -> Vec<&str> {
    let rooms = page["rooms"].as_array().expect("rooms");
    rooms.iter().map(|room| room["room_id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn rooms_are_listed_depth_first_and_in_order() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (root, inner) = (space(&alice).await, space(&alice).await);
    let (one, two, deep) = (
        alice.create_room().public().await,
        alice.create_room().public().await,
        alice.create_room().public().await,
    );
    add_child(&alice, &root, &one, json!({"order": "b", "suggested": true})).await;
    add_child(&alice, &root, &inner, json!({"order": "a"})).await;
    add_child(&alice, &root, &two, json!({})).await;
    add_child(&alice, &inner, &deep, json!({})).await;
    // A loop, which ends.
    add_child(&alice, &inner, &root, json!({})).await;

    let all = tree(&alice, &root, "").await;
    assert_eq!(ids(&all), [&root.0, &inner.0, &deep.0, &one.0, &two.0]);
    assert!(all["next_batch"].is_null(), "{all}");
    assert_eq!(all["rooms"][0]["room_type"], "m.space");
    assert_eq!(all["rooms"][0]["children_state"].as_array().map(Vec::len), Some(3));
    assert_eq!(all["rooms"][0]["children_state"][0]["state_key"], inner.0);
    assert!(all["rooms"][0]["children_state"][0]["origin_server_ts"].is_u64());
    assert_eq!(all["rooms"][3]["children_state"], json!([]));
    assert_eq!(ids(&tree(&alice, &root, "suggested_only=true").await), [&root.0, &one.0]);
    assert_eq!(ids(&tree(&alice, &root, "max_depth=1").await), [&root.0, &inner.0, &one.0, &two.0]);
    assert_eq!(ids(&tree(&alice, &root, "max_depth=0").await), [&root.0]);
}

#[tokio::test]
async fn pages_make_up_the_whole_tree() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let root = space(&alice).await;
    let mut expected = vec![root.0.clone()];
    for order in ["a", "b", "c", "d"] {
        let room = alice.create_room().public().await;
        add_child(&alice, &root, &room, json!({"order": order})).await;
        expected.push(room.0);
    }
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let page = tree(&alice, &root, &format!("limit=2{from}")).await;
        found.extend(ids(&page).into_iter().map(ToOwned::to_owned));
        let Some(next) = page["next_batch"].as_str() else { break };
        from = format!("&from={next}");
    }
    assert_eq!(found, expected);
    let other = format!("/_matrix/client/v1/rooms/{root}/hierarchy?max_depth=1{from}");
    alice.get(&other).await.refused(400, "M_INVALID_PARAM");
    let none = format!("/_matrix/client/v1/rooms/{root}/hierarchy?limit=0");
    alice.get(&none).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn hidden_rooms_are_not_shown() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let root = space(&alice).await;
    let secret = alice.create_room().await;
    let invited = alice.create_room().invite(&bob).await;
    let rules = json!({
        "join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": root.0}],
    });
    let restricted = alice.create_room().version("10").state("m.room.join_rules", rules).await;
    for (room, order) in [(&secret, "a"), (&invited, "b"), (&restricted, "c")] {
        add_child(&alice, &root, room, json!({"order": order})).await;
    }
    assert_eq!(ids(&tree(&alice, &root, "").await), [&root.0, &secret.0, &invited.0, &restricted.0]);
    assert_eq!(ids(&tree(&bob, &root, "").await), [&root.0, &invited.0]);
    bob.join(&root).await;
    let all = tree(&bob, &root, "").await;
    assert_eq!(ids(&all), [&root.0, &invited.0, &restricted.0]);
    assert_eq!(all["rooms"][2]["allowed_room_ids"], json!([root.0]));
    let path = format!("/_matrix/client/v1/rooms/{secret}/hierarchy");
    bob.get(&path).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn summary_is_for_those_who_may_come_in() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().with("name", "Kitchen").await;
    let path = format!("/_matrix/client/v1/room_summary/{room}");
    let summary = bob.get(&path).await.ok();
    assert_eq!(summary["name"], "Kitchen");
    assert_eq!(summary["membership"], "leave");
    assert_eq!(summary["num_joined_members"], 1);
    assert_eq!(summary["join_rule"], "public");
    let summary = server.anyone().get(&path).await.ok();
    assert!(summary["membership"].is_null(), "{summary}");
    let secret = alice.create_room().await;
    let path = format!("/_matrix/client/v1/room_summary/{secret}");
    bob.get(&path).await.refused(404, "M_NOT_FOUND");
    assert_eq!(alice.get(&path).await.ok()["membership"], "join");
}
