//! Presence.

use serde_json::{Value, json};

use crate::support::{Server, Sync, User, letters};

/// What is told of the user's presence.
fn told_of<'a>(sync: &'a Sync, user: &User) -> Vec<&'a Value> {
    let events = sync.0["presence"]["events"].as_array().expect("a list");
    events.iter().filter(|event| event["sender"] == user.id).map(|event| &event["content"]).collect()
}

#[tokio::test]
async fn status_is_seen_by_who_shares_a_room() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = alice.sync().await;
    let path = format!("presence/{}/status", bob.id);
    bob.put(&path, json!({"presence": "unavailable", "status_msg": "lunch"})).await.ok();
    let is_lunch =
        |event: &serde_json::Value| event["sender"] == bob.id && event["content"]["status_msg"] == "lunch";
    alice
        .sync_until(&before, |sync| {
            sync.0["presence"]["events"].as_array().is_some_and(|events| events.iter().any(is_lunch))
        })
        .await;
    let body = alice.get(&path).await.ok();
    assert_eq!((&body["presence"], &body["status_msg"]), (&json!("unavailable"), &json!("lunch")));
    let long = json!({"presence": "online", "status_msg": letters(1025)});
    bob.put(&path, long).await.refused(413, "M_TOO_LARGE");
    assert_eq!(alice.get(&path).await.ok()["status_msg"], "lunch");
}

/// A user's news are kept while they ask for them. One who has not asked yet is as one who was away for long.
#[tokio::test]
async fn change_is_told_to_who_was_away_or_comes_after_a_restart() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let stranger = server.user("stranger").await;
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let lunch = json!({"presence": "unavailable", "status_msg": "lunch"});
    let status = |user: &User| format!("presence/{}/status", user.id);
    let before = bob.sync().await;
    for user in [&bob, &stranger] {
        user.put(&status(user), lunch.clone()).await.ok();
    }
    let sync = alice.sync().since(&before).await;
    assert_eq!(told_of(&sync, &bob)[0]["status_msg"], "lunch", "{}", sync.0);
    assert!(told_of(&sync, &stranger).is_empty(), "they share no room");
    let sync = alice.sync().since(&sync).await;
    assert!(told_of(&sync, &bob).is_empty(), "it is told once");
    server.restart().await;
    let (alice, bob) = (server.moved(&alice), server.moved(&bob));
    bob.put(&status(&bob), json!({"presence": "unavailable", "status_msg": "tea"})).await.ok();
    let sync = alice.sync().since(&sync).await;
    assert_eq!(told_of(&sync, &bob)[0]["status_msg"], "tea");
}

#[tokio::test]
async fn status_of_another_cannot_be_set_nor_seen_by_strangers() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("presence/{}/status", bob.id);
    alice.put(&path, json!({"presence": "online"})).await.refused(403, "M_FORBIDDEN");
    alice.get(&path).await.refused(403, "M_FORBIDDEN");
}
