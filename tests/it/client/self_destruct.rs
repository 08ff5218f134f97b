//! Messages that name the time at which they lose their content.

use ruma::MilliSecondsSinceUnixEpoch;
use serde_json::{Value, json};

use crate::support::{EventId, Room, Server, User};

const SETTINGS: &str = "[rooms]\nself_destructing_messages = true";
const HOUR_MS: i64 = 60 * 60 * 1000;

/// A message whose time is so far ahead.
fn message(text: &str, ahead_ms: i64) -> Value {
    let at = i64::from(MilliSecondsSinceUnixEpoch::now().get()) + ahead_ms;
    json!({ "msgtype": "m.text", "body": text, "org.matrix.self_destruct_after": at })
}

async fn until_empty(user: &User, room: &Room, event: &EventId) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{room}/event/{event}");
    user.get_until(&path, "it has lost its content", |body| body["content"] == json!({})).await
}

#[tokio::test]
async fn message_loses_its_content_when_its_time_is_over() {
    let server = Server::start_with(SETTINGS).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in ["1", "12"] {
        let room = alice.create_room().version(version).invite(&bob).await;
        bob.join(&room).await;
        let before = bob.sync().await;
        let stays = alice.send(&room, "m.room.message", message("stays", HOUR_MS)).await;
        let goes = alice.send(&room, "m.room.message", message("secret", -1)).await;
        let body = until_empty(&bob, &room, &goes).await;
        assert_eq!(body["unsigned"].get("redacted_because"), None, "nobody has redacted it");
        let pages =
            [bob.messages(&room, "dir=b").await, bob.sync().since(&before).await.joined(&room).clone()];
        for page in pages {
            assert!(!page.to_string().contains("secret"), "version {version}: {page}");
            assert!(page.to_string().contains("stays"), "version {version}: {page}");
        }
        assert_eq!(alice.event(&room, &stays).await.ok()["content"]["body"], "stays");
        // The room goes on as it was.
        alice.send_text(&room, "more").await;
    }
}

#[tokio::test]
async fn time_that_is_over_while_the_server_is_away_is_seen_afterwards() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send(&room, "m.room.message", message("secret", -1)).await;
    alice.send_text(&room, "later").await;
    server.settings = SETTINGS.to_owned();
    server.restart().await;
    let alice = server.moved(&alice);
    until_empty(&alice, &room, &event).await;
    server.restart().await;
    let body = server.moved(&alice).event(&room, &event).await.ok();
    assert_eq!((&body["content"], body["unsigned"].get("redacted_because")), (&json!({}), None));
}

#[tokio::test]
async fn messages_keep_their_content_where_it_is_not_asked_for() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send(&room, "m.room.message", message("secret", -1)).await;
    assert_eq!(alice.event(&room, &event).await.ok()["content"]["body"], "secret");
}
