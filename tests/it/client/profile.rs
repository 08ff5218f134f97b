//! Display names, avatars, and what rooms hear of them.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn new_profile_has_no_avatar() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let body = server.anyone().get(&format!("profile/{}", alice.id)).await.ok();
    assert!(body["avatar_url"].is_null(), "{body}");
}

#[tokio::test]
async fn profile_fields_are_read_back() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for (field, value) in [("displayname", "Alice"), ("avatar_url", "mxc://myelin.test/cat")] {
        let path = format!("profile/{}/{field}", alice.id);
        alice.put(&path, json!({field: value})).await.ok();
        assert_eq!(bob.get(&path).await.ok()[field], value);
        assert_eq!(bob.get(&format!("profile/{}", alice.id)).await.ok()[field], value);
    }
}

#[tokio::test]
async fn nobody_changes_another_ones_profile() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("profile/{}/displayname", alice.id);
    bob.put(&path, json!({"displayname": "Mallory"})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn profile_of_nobody_is_not_found() {
    let server = Server::start().await;
    server.anyone().get("profile/@nobody:myelin.test").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn new_name_is_seen_in_joined_rooms() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = bob.sync().await;
    let path = format!("profile/{}/displayname", alice.id);
    alice.put(&path, json!({"displayname": "Alice Liddell"})).await.ok();
    let is_change = |event: &serde_json::Value| {
        event["content"]["displayname"] == "Alice Liddell" && event["state_key"] == alice.id
    };
    let sync = bob.sync_until(&before, |sync| sync.events(&room).iter().any(is_change)).await;
    let event = sync.events(&room).iter().find(|event| is_change(event)).expect("waited for");
    assert_eq!(event["content"]["membership"], "join");
    assert_eq!(event["unsigned"]["prev_content"]["membership"], "join");
}

#[tokio::test]
async fn name_set_before_a_join_is_in_the_member_event() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    bob.put(&format!("profile/{}/displayname", bob.id), json!({"displayname": "Bob"})).await.ok();
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    assert_eq!(alice.state(&room, "m.room.member", &bob.id).await["displayname"], "Bob");
    let body = alice.get(&format!("rooms/{room}/joined_members")).await.ok();
    assert_eq!(body["joined"][&bob.id]["display_name"], "Bob");
}

#[tokio::test]
async fn custom_fields_hold_any_json_until_they_are_deleted() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = format!("profile/{}/org.example.job", alice.id);
    for value in [json!({"title": "gardener", "since": 1.5}), json!(null), json!("nul \u{0} nul")] {
        alice.put(&path, json!({"org.example.job": value})).await.ok();
        assert_eq!(server.anyone().get(&path).await.ok(), json!({"org.example.job": value}));
    }
    alice.delete(&path).await.ok();
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
    alice.delete(&path).await.ok();
}

#[tokio::test]
async fn profile_stays_under_64_kib() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = |field: &str| format!("profile/{}/{field}", alice.id);
    let half = "x".repeat(40_000);
    alice.put(&path("org.example.a"), json!({"org.example.a": half})).await.ok();
    let second = alice.put(&path("org.example.b"), json!({"org.example.b": half})).await;
    second.refused(400, "M_PROFILE_TOO_LARGE");
    // The same field may still be replaced.
    alice.put(&path("org.example.a"), json!({"org.example.a": "y".repeat(60_000)})).await.ok();
    let long = "a".repeat(256);
    alice.put(&path(&long), json!({long: 1})).await.refused(400, "M_KEY_TOO_LARGE");
    alice.put(&path("Job"), json!({"Job": 1})).await.refused(400, "M_INVALID_PARAM");
    alice.put(&path("org.example.c"), json!({"other": 1})).await.refused(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn empty_name_is_no_name() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = format!("profile/{}/displayname", alice.id);
    for empty in [json!(""), json!(null)] {
        alice.put(&path, json!({"displayname": "Alice"})).await.ok();
        alice.put(&path, json!({"displayname": empty})).await.ok();
        assert_eq!(alice.get(&path).await.ok(), json!({}));
    }
}
