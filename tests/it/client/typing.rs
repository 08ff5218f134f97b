//! Who is writing.

use serde_json::json;

use crate::support::{Room, Server, Sync, User};

async fn typing(user: &User, room: &Room, is_typing: bool) {
    let body = json!({"typing": is_typing, "timeout": 20_000});
    user.put(&format!("rooms/{room}/typing/{}", user.id), body).await.ok();
}

fn who_types(sync: &Sync, room: &Room) -> serde_json::Value {
    sync.ephemeral(room, "m.typing")["user_ids"].clone()
}

#[tokio::test]
async fn typing_is_seen_and_its_end_too() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = alice.sync().await;
    typing(&bob, &room, true).await;
    let sync = alice.sync_until(&before, |sync| !who_types(sync, &room).is_null()).await;
    assert_eq!(who_types(&sync, &room), json!([bob.id]));
    typing(&bob, &room, false).await;
    let sync = alice.sync_until(&sync, |sync| !who_types(sync, &room).is_null()).await;
    assert_eq!(who_types(&sync, &room), json!([]));
}

#[tokio::test]
async fn typing_ends_by_itself() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = alice.sync().await;
    let path = format!("rooms/{room}/typing/{}", bob.id);
    bob.put(&path, json!({"typing": true, "timeout": 500})).await.ok();
    let sync = alice.sync_until(&before, |sync| who_types(sync, &room) == json!([bob.id])).await;
    alice.sync_until(&sync, |sync| who_types(sync, &room) == json!([])).await;
}

/// A user's news are kept while they ask for them. One who has not asked yet is as one who was away for long.
#[tokio::test]
async fn end_of_typing_is_told_to_who_was_away() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    typing(&bob, &room, true).await;
    let before = bob.sync().await;
    assert_eq!(who_types(&before, &room), json!([bob.id]));
    typing(&bob, &room, false).await;
    let sync = alice.sync().since(&before).await;
    assert_eq!(who_types(&sync, &room), json!([]));
    let sync = alice.sync().since(&sync).await;
    assert_eq!(sync.0["rooms"]["join"], json!({}), "it is told once");
}

#[tokio::test]
async fn nobody_types_any_more_after_a_restart() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    let busy = alice.create_room().invite(&bob).await;
    for room in [&room, &busy] {
        bob.join(room).await;
        typing(&bob, room, true).await;
    }
    let before = alice.sync().await;
    assert_eq!(who_types(&before, &room), json!([bob.id]));
    server.restart().await;
    let (alice, bob) = (server.moved(&alice), server.moved(&bob));
    bob.send_text(&busy, "hello").await;
    let other = json!({"room": {"rooms": [busy.0]}});
    assert!(alice.sync().since(&before).filter(&other).await.joined(&room).is_null(), "it was not asked for");
    let sync = alice.sync().since(&before).await;
    assert_eq!((who_types(&sync, &room), who_types(&sync, &busy)), (json!([]), json!([])));
    let sync = alice.sync().since(&sync).await;
    assert_eq!(sync.0["rooms"]["join"], json!({}), "it is told once");
}

#[tokio::test]
async fn only_members_type_and_only_for_themselves() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let body = json!({"typing": true, "timeout": 500});
    bob.put(&format!("rooms/{room}/typing/{}", bob.id), body.clone()).await.refused(403, "M_FORBIDDEN");
    alice.put(&format!("rooms/{room}/typing/{}", bob.id), body).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn nobody_types_is_not_news() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let before = alice.sync().await;
    let event = alice.send_text(&room, "hello").await;
    let sync = alice.sync_until(&before, |sync| sync.timeline(&room).contains(&event)).await;
    assert!(who_types(&sync, &room).is_null());
}

#[tokio::test]
async fn who_leaves_types_no_more() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = alice.sync().await;
    typing(&bob, &room, true).await;
    let sync = alice.sync_until(&before, |sync| who_types(sync, &room) == json!([bob.id])).await;
    alice.kick(&room, &bob).await;
    alice.sync_until(&sync, |sync| who_types(sync, &room) == json!([])).await;
}
