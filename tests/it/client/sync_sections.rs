//! The sections of `/sync` for rooms that one is invited to, knocks on, or has left.

use serde_json::{Value, json};

use crate::support::Server;

fn has_type(events: &Value, event_type: &str) -> bool {
    events.as_array().is_some_and(|events| events.iter().any(|event| event["type"] == event_type))
}

#[tokio::test]
async fn invite_comes_with_what_the_room_is_called() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let before = bob.sync().await;
    let room = alice.create_room().with("name", "Tea").invite(&bob).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    let events = &sync.section("invite", &room)["invite_state"]["events"];
    for event_type in ["m.room.create", "m.room.join_rules", "m.room.name", "m.room.member"] {
        assert!(has_type(events, event_type), "{event_type}: {events}");
    }
    let stripped = events.as_array().expect("a list").iter().all(|event| {
        event["content"].is_object() && event["sender"].is_string() && event["state_key"].is_string()
    });
    assert!(stripped, "{events}");
    assert!(!bob.sync().await.section("invite", &room).is_null(), "it is in an initial sync too");
}

#[tokio::test]
async fn declined_invite_moves_to_the_left_rooms() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    let before = bob.sync().await;
    bob.leave(&room).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    assert!(!sync.section("leave", &room).is_null(), "{}", sync.0);
    assert!(!bob.sync().await.mentions(&room), "left rooms are not in an initial sync");
}

#[tokio::test]
async fn withdrawn_invite_is_seen() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    let before = bob.sync().await;
    alice.kick(&room, &bob).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    assert!(!sync.section("leave", &room).is_null(), "{}", sync.0);
}

#[tokio::test]
async fn left_room_ends_with_the_leave() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let before = bob.sync().await;
    alice.send_text(&room, "while bob is in").await;
    bob.leave(&room).await;
    let hidden = alice.send_text(&room, "after bob has left").await;
    let sync = bob.sync_until(&before, |sync| !sync.section("leave", &room).is_null()).await;
    let last = sync.events(&room).last().expect("the leave");
    assert_eq!(last["content"]["membership"], "leave");
    assert!(!sync.timeline(&room).contains(&hidden));
    assert!(!bob.sync().since(&sync).await.mentions(&room), "it comes once");
}

#[tokio::test]
async fn kicked_user_hears_of_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let before = bob.sync().await;
    alice.kick(&room, &bob).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    let last = sync.events(&room).last().expect("the kick");
    assert_eq!((&last["sender"], &last["state_key"]), (&json!(alice.id), &json!(bob.id)));
    assert!(!sync.section("leave", &room).is_null());
}

#[tokio::test]
async fn initial_sync_has_left_rooms_when_the_filter_asks() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    bob.leave(&room).await;
    let filter = json!({"room": {"include_leave": true}});
    assert!(!bob.sync().filter(&filter).await.section("leave", &room).is_null());
    bob.forget(&room).await.ok();
    assert!(!bob.sync().filter(&filter).await.mentions(&room));
}

#[tokio::test]
async fn join_and_leave_between_two_syncs_is_a_leave() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    let before = bob.sync().await;
    bob.join(&room).await;
    bob.leave(&room).await;
    let sync = bob.sync_until(&before, |sync| !sync.section("leave", &room).is_null()).await;
    assert!(sync.joined(&room).is_null());
}

#[tokio::test]
async fn knock_is_in_its_own_section() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice
        .create_room()
        .with("name", "Tea")
        .state("m.room.join_rules", json!({"join_rule": "knock"}))
        .await;
    let before = bob.sync().await;
    bob.knock(&room).await.ok();
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    let events = &sync.section("knock", &room)["knock_state"]["events"];
    assert!(has_type(events, "m.room.name") && has_type(events, "m.room.member"), "{events}");
    alice.invite(&room, &bob).await;
    let sync = bob.sync_until(&sync, |sync| sync.mentions(&room)).await;
    assert!(!sync.section("invite", &room).is_null());
}

#[tokio::test]
async fn invites_of_ignored_users_are_not_shown() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let ignored = json!({"ignored_users": {alice.id.clone(): {}}});
    bob.put(&format!("user/{}/account_data/m.ignored_user_list", bob.id), ignored).await.ok();
    let room = alice.create_room().invite(&bob).await;
    assert!(!bob.sync().await.mentions(&room));
}
