//! Looking into a room without being in it, as clients did before `/sync`.

use serde_json::{Value, json};

use super::guest::guest;
use crate::support::{Room, Server, User, room::encode};

/// A client that reads the event stream of one room.
struct Peek<'a> {
    user: &'a User,
    room: &'a Room,
    from: String,
}

impl<'a> Peek<'a> {
    async fn begin(user: &'a User, room: &'a Room) -> Self {
        let page = user.get(&format!("events?room_id={room}&timeout=0")).await.ok();
        Self { user, room, from: page["end"].as_str().expect("an end").to_owned() }
    }

    /// Reads on until there is an event of this type: its content.
    async fn until(&mut self, event_type: &str) -> Value {
        loop {
            let path = format!("events?room_id={}&from={}&timeout=5000", self.room, encode(&self.from));
            let page = self.user.get(&path).await.ok();
            page["end"].as_str().expect("an end").clone_into(&mut self.from);
            let chunk = page["chunk"].as_array().expect("a chunk");
            assert!(!chunk.is_empty(), "no {event_type} came");
            let found = chunk.iter().find(|event| event["type"] == event_type);
            if let Some(event) = found {
                return event["content"].clone();
            }
        }
    }
}

#[tokio::test]
async fn who_looks_into_a_room_is_told_what_happens_there() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let readable = json!({"history_visibility": "world_readable"});
    let room = alice.create_room().state("m.room.history_visibility", readable).await;
    let guest = guest(&server).await;
    let mut peek = Peek::begin(&guest, &room).await;
    let event = alice.send_text(&room, "hello").await;
    assert_eq!(peek.until("m.room.message").await["body"], "hello");
    alice.post(&format!("rooms/{room}/receipt/m.read/{event}"), json!({})).await.ok();
    let receipt = peek.until("m.receipt").await;
    assert!(receipt[&event.0]["m.read"][&alice.id]["ts"].is_u64(), "{receipt}");
    let typing = format!("rooms/{room}/typing/{}", encode(&alice.id));
    alice.put(&typing, json!({"typing": true, "timeout": 30000})).await.ok();
    assert_eq!(peek.until("m.typing").await["user_ids"], json!([alice.id]));
    let status = format!("presence/{}/status", encode(&alice.id));
    alice.put(&status, json!({"presence": "online", "status_msg": "busy"})).await.ok();
    let presence = peek.until("m.presence").await;
    assert_eq!((&presence["user_id"], &presence["status_msg"]), (&json!(alice.id), &json!("busy")));
}

#[tokio::test]
async fn what_happens_wakes_one_who_waits() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let readable = json!({"history_visibility": "world_readable"});
    let room = alice.create_room().state("m.room.history_visibility", readable).await;
    let bob = server.user("bob").await;
    let mut peek = Peek::begin(&bob, &room).await;
    let typing = format!("rooms/{room}/typing/{}", encode(&alice.id));
    let type_now = alice.put(&typing, json!({"typing": true, "timeout": 30000}));
    let (content, answer) = futures::join!(peek.until("m.typing"), type_now);
    answer.ok();
    assert_eq!(content["user_ids"], json!([alice.id]));
}

#[tokio::test]
async fn private_receipts_and_other_rooms_are_not_shown() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let readable = json!({"history_visibility": "world_readable"});
    let room = alice.create_room().state("m.room.history_visibility", readable).await;
    let other = alice.create_room().await;
    let bob = server.user("bob").await;
    let mut peek = Peek::begin(&bob, &room).await;
    let (event, elsewhere) = (alice.send_text(&room, "here").await, alice.send_text(&other, "there").await);
    peek.until("m.room.message").await;
    alice.post(&format!("rooms/{room}/receipt/m.read.private/{event}"), json!({})).await.ok();
    alice.post(&format!("rooms/{other}/receipt/m.read/{elsewhere}"), json!({})).await.ok();
    alice.post(&format!("rooms/{room}/receipt/m.read/{event}"), json!({})).await.ok();
    let expected = json!([event.0, ["m.read"]]);
    let receipt = peek.until("m.receipt").await;
    let (of, kinds) = receipt.as_object().and_then(|events| events.iter().next()).expect("an event");
    let kinds: Vec<&String> = kinds.as_object().expect("kinds").keys().collect();
    assert_eq!(json!([of, kinds]), expected);
}

#[tokio::test]
async fn room_that_is_not_readable_is_not_shown() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let guest = guest(&server).await;
    guest.get(&format!("events?room_id={room}&timeout=0")).await.refused(403, "M_FORBIDDEN");
}
