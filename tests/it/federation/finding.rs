//! What users learn of other servers without being in their rooms: directories, profiles, spaces.

use serde_json::{Value, json};

use super::entering::try_join;
use crate::support::{User, encode, federation};

#[tokio::test]
async fn public_rooms_of_another_server_are_listed() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    for name in ["Tea", "Coffee", "Water"] {
        alice.create_room().public().with("visibility", "public").with("name", name).await;
    }
    let path = format!("publicRooms?server={}", encode(&a.name));
    let all = bob.get(&path).await.ok();
    assert_eq!(all["chunk"].as_array().map(Vec::len), Some(3), "{all}");
    let search = json!({"filter": {"generic_search_term": "Coff"}, "limit": 1});
    let found = bob.post(&path, search).await.ok();
    assert_eq!(found["chunk"][0]["name"], "Coffee", "{found}");
    let page = bob.get(&format!("{path}&limit=2")).await.ok();
    let next = page["next_batch"].as_str().expect("there is more");
    let rest = bob.get(&format!("{path}&limit=2&since={}", encode(next))).await.ok();
    assert_eq!(rest["chunk"].as_array().map(Vec::len), Some(1), "{rest}");
    let nowhere = format!("publicRooms?server={}", encode("127.0.0.9:1"));
    bob.get(&nowhere).await.refused(502, "M_UNKNOWN");
}

#[tokio::test]
async fn events_from_before_a_server_came_are_fetched_when_somebody_looks_for_them() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().await;
    let (first, second) = (alice.send_text(&room, "first").await, alice.send_text(&room, "second").await);
    for number in 0..120 {
        alice.send_text(&room, &number.to_string()).await;
    }
    let ts = alice.event(&room, &first).await.ok()["origin_server_ts"].as_u64().expect("a time");
    try_join(&bob, &room, &a).await.ok();
    let at = bob.get(&format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?dir=f&ts={ts}")).await.ok();
    assert_eq!(at["event_id"], first.0.as_str());
    bob.event(&room, &first).await.refused(404, "M_NOT_FOUND");
    let around = bob.get(&format!("rooms/{room}/context/{}?limit=2", encode(&second.0))).await.ok();
    assert_eq!(around["event"]["content"]["body"], "second", "{around}");
    assert_eq!(around["events_before"][0]["event_id"], first.0.as_str(), "{around}");
    assert_eq!(around["events_after"][0]["content"]["body"], "0", "{around}");
    bob.event(&room, &first).await.ok();
    let unknown = encode("$nobody-has-it");
    bob.get(&format!("rooms/{room}/context/{unknown}")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn profiles_of_other_servers_users_are_shown() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let path = format!("profile/{}", encode(&alice.id));
    alice.put(&format!("{path}/displayname"), json!({"displayname": "Alice A."})).await.ok();
    assert_eq!(bob.get(&path).await.ok()["displayname"], "Alice A.");
    let field = bob.get(&format!("{path}/displayname")).await.ok();
    assert_eq!(field, json!({"displayname": "Alice A."}));
    let nobody = format!("profile/{}", encode(&format!("@nobody:{}", a.name)));
    bob.get(&nobody).await.refused(404, "M_NOT_FOUND");
}

/// Whom a search of the user directory finds, with their display names.
async fn search(user: &User, term: &str) -> Vec<(String, Value)> {
    let found = user.post("user_directory/search", json!({"search_term": term})).await.ok();
    let results = found["results"].as_array().expect("a list").iter();
    results
        .map(|user| (user["user_id"].as_str().expect("an id").into(), user["display_name"].clone()))
        .collect()
}

#[tokio::test]
async fn people_of_other_servers_are_found_by_those_who_meet_them() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let carol = a.user("carol").await;
    let path = format!("profile/{}/displayname", encode(&bob.id));
    bob.put(&path, json!({"displayname": "Robert 100%"})).await.ok();
    let room = alice.create_room().invite(&bob).await;
    assert_eq!(search(&alice, "robert").await, [], "who is invited is not met yet");
    try_join(&bob, &room, &a).await.ok();
    let robert = [(bob.id.clone(), json!("Robert 100%"))];
    for term in ["ROBERT", "100%", "@bob"] {
        assert_eq!(search(&alice, term).await, robert, "{term}");
    }
    assert_eq!(search(&carol, "robert").await, []);
    alice.set_state(&room, "m.room.join_rules", "", json!({"join_rule": "public"})).await;
    assert_eq!(search(&carol, "robert").await, robert);

    let before = alice.sync().await;
    bob.put(&path, json!({"displayname": "Bobby"})).await.ok();
    alice.sync_until(&before, |sync| sync.mentions(&room)).await;
    assert_eq!(search(&alice, "bob").await, [(bob.id.clone(), json!("Bobby"))]);
    assert_eq!(search(&alice, "robert").await, []);
}

#[tokio::test]
async fn people_in_rooms_that_this_server_has_left_are_not_found() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().await;
    try_join(&bob, &room, &a).await.ok();
    assert_eq!(search(&bob, "@alice").await, [(alice.id.clone(), json!("alice"))]);
    bob.leave(&room).await;
    assert_eq!(search(&bob, "@alice").await, []);
}

#[tokio::test]
async fn name_of_another_room_is_not_told() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let carol = a.user("carol").await;
    let (public, private) = (alice.create_room().public().await, carol.create_room().invite(&bob).await);
    try_join(&bob, &public, &a).await.ok();
    try_join(&bob, &private, &a).await.ok();
    let content = json!({"membership": "join", "displayname": "Secret"});
    let before = carol.sync().await;
    bob.set_state(&private, "m.room.member", &bob.id, content).await;
    carol.sync_until(&before, |sync| sync.mentions(&private)).await;
    assert_eq!(search(&carol, "secret").await, [(bob.id.clone(), json!("Secret"))]);
    assert_eq!(search(&alice, "secret").await, []);
    assert_eq!(search(&alice, "@bob").await, [(bob.id.clone(), json!("bob"))]);
}

#[tokio::test]
async fn tree_of_a_space_spans_servers() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let space = json!({"type": "m.space"});
    let root = bob.create_room().public().with("creation_content", space.clone()).await;
    let inner = alice.create_room().public().with("creation_content", space).await;
    let tea = alice.create_room().public().with("name", "Tea").await;
    let secret = alice.create_room().await;
    let via = |name: &str, order: &str| json!({"via": [name], "order": order});
    bob.set_state(&root, "m.space.child", &inner.0, via(&a.name, "a")).await;
    alice.set_state(&inner, "m.space.child", &tea.0, via(&a.name, "a")).await;
    alice.set_state(&inner, "m.space.child", &secret.0, via(&a.name, "b")).await;
    let tree = bob.get(&format!("/_matrix/client/v1/rooms/{root}/hierarchy")).await.ok();
    let rooms = tree["rooms"].as_array().expect("rooms");
    let ids: Vec<_> = rooms.iter().map(|room| room["room_id"].as_str().expect("an id")).collect();
    assert_eq!(ids, [&root.0, &inner.0, &tea.0], "{tree}");
    assert_eq!(rooms[2]["name"], "Tea");

    let summary = format!("/_matrix/client/v1/room_summary/{tea}?via={}", encode(&a.name));
    let summary = bob.get(&summary).await.ok();
    assert_eq!((&summary["name"], &summary["membership"]), (&json!("Tea"), &json!("leave")));
    let hidden = format!("/_matrix/client/v1/room_summary/{secret}?via={}", encode(&a.name));
    bob.get(&hidden).await.refused(404, "M_NOT_FOUND");
}
