//! Presence.

use serde_json::json;

use crate::support::Server;

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
}

#[tokio::test]
async fn status_of_another_cannot_be_set_nor_seen_by_strangers() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("presence/{}/status", bob.id);
    alice.put(&path, json!({"presence": "online"})).await.refused(403, "M_FORBIDDEN");
    alice.get(&path).await.refused(403, "M_FORBIDDEN");
}
