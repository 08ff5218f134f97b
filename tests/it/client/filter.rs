//! Filters: stored, inline, and what they take out of `/sync`.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn stored_filter_is_read_back_and_used() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let filter = json!({"room": {"timeline": {"limit": 1}}});
    let path = format!("user/{}/filter", alice.id);
    let body = alice.post(&path, filter.clone()).await.ok();
    let id = body["filter_id"].as_str().expect("an id").to_owned();
    assert_eq!(alice.get(&format!("{path}/{id}")).await.ok()["room"]["timeline"]["limit"], 1);
    let room = alice.create_room().await;
    alice.send_text(&room, "one").await;
    let event = alice.send_text(&room, "two").await;
    let sync = alice.sync().with("filter", id).await;
    assert_eq!(sync.timeline(&room), [event]);
}

#[tokio::test]
async fn filters_of_others_are_not_readable() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("user/{}/filter", alice.id);
    let body = alice.post(&path, json!({})).await.ok();
    let id = body["filter_id"].as_str().expect("an id");
    assert_ne!(bob.get(&format!("{path}/{id}")).await.status, 200);
    bob.post(&path, json!({})).await.refused(403, "M_FORBIDDEN");
    alice.get(&format!("{path}/123456")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn types_and_senders_choose_the_timeline() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let by_alice = alice.send_text(&room, "hello").await;
    let by_bob = bob.send_text(&room, "hello").await;
    let other = alice.send(&room, "test.other", json!({})).await;
    for (timeline, expected) in [
        (json!({"types": ["m.room.message"]}), vec![&by_alice, &by_bob]),
        (json!({"types": ["m.room.mess*"], "senders": [bob.id]}), vec![&by_bob]),
        (json!({"types": ["m.room.message", "test.*"], "not_senders": [bob.id]}), vec![&by_alice, &other]),
        (json!({"not_types": ["m.room.*"]}), vec![&other]),
        (json!({"types": []}), vec![]),
        (json!({"not_rooms": [room.0]}), vec![]),
    ] {
        let sync = alice.sync().filter(&json!({"room": {"timeline": timeline}})).await;
        assert_eq!(sync.timeline(&room).iter().collect::<Vec<_>>(), expected, "{timeline}");
    }
}

#[tokio::test]
async fn rooms_can_be_chosen() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (room, other) = (alice.create_room().await, alice.create_room().await);
    let sync = alice.sync().filter(&json!({"room": {"rooms": [room.0]}})).await;
    assert!(sync.mentions(&room) && !sync.mentions(&other));
    let sync = alice.sync().filter(&json!({"room": {"not_rooms": [room.0]}})).await;
    assert!(!sync.mentions(&room) && sync.mentions(&other));
}

#[tokio::test]
async fn only_the_fields_asked_for_are_given() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    alice.send_text(&room, "hello").await;
    let sync = alice.sync().filter(&json!({"event_fields": ["content.body", "sender"]})).await;
    let event = sync.events(&room).last().expect("the message");
    assert_eq!(event["content"], json!({"body": "hello"}));
    assert_eq!(event["sender"], alice.id);
    assert!(event["type"].is_null(), "{event}");
}

#[tokio::test]
async fn broken_filters_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for filter in [
        json!({"room": 1}),
        json!({"room": {"timeline": {"limit": "many"}}}),
        json!({"room": {"rooms": ["not a room"]}}),
        json!([]),
    ] {
        let answer = alice.post(&format!("user/{}/filter", alice.id), filter.clone()).await;
        assert_eq!(answer.status, 400, "{filter}: {answer:?}");
    }
}
