//! What users of one server see of what those of another do.

use serde_json::{Value, json};

use crate::support::{Room, Server, Sync, User, encode, federation};

/// A room of alice's on `a`, which bob of `b` has joined.
async fn shared_room(alice: &User, a: &Server, bob: &User) -> Room {
    let room = alice.create_room().public().await;
    bob.post(&format!("join/{room}?via={}", encode(&a.name)), json!({})).await.ok();
    room
}

fn has_body(sync: &Sync, room: &Room, body: &str) -> bool {
    sync.events(room).iter().any(|event| event["content"]["body"] == body)
}

#[tokio::test]
async fn messages_typing_receipts_and_presence_are_seen_on_the_other_server() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = shared_room(&alice, &a, &bob).await;
    let (at_alice, at_bob) = (alice.sync().await, bob.sync().await);

    let event = alice.send_text(&room, "hello").await;
    let at_bob = bob.sync_until(&at_bob, |sync| has_body(sync, &room, "hello")).await;
    bob.send_text(&room, "hello yourself").await;
    let at_alice = alice.sync_until(&at_alice, |sync| has_body(sync, &room, "hello yourself")).await;

    let path = format!("rooms/{room}/typing/{}", alice.id);
    alice.put(&path, json!({"typing": true, "timeout": 20_000})).await.ok();
    let types = |sync: &Sync, who: Value| sync.ephemeral(&room, "m.typing")["user_ids"] == who;
    let at_bob = bob.sync_until(&at_bob, |sync| types(sync, json!([alice.id]))).await;
    alice.put(&path, json!({"typing": false})).await.ok();
    let at_bob = bob.sync_until(&at_bob, |sync| types(sync, json!([]))).await;

    bob.post(&format!("rooms/{room}/receipt/m.read/{event}"), json!({})).await.ok();
    alice
        .sync_until(&at_alice, |sync| {
            !sync.ephemeral(&room, "m.receipt")[&event.0]["m.read"][&bob.id].is_null()
        })
        .await;

    let status = json!({"presence": "unavailable", "status_msg": "lunch"});
    alice.put(&format!("presence/{}/status", alice.id), status).await.ok();
    let is_lunch = |event: &Value| event["sender"] == alice.id && event["content"]["status_msg"] == "lunch";
    bob.sync_until(&at_bob, |sync| {
        sync.0["presence"]["events"].as_array().is_some_and(|events| events.iter().any(is_lunch))
    })
    .await;
}

fn is_online(sync: &Sync, user: &User) -> bool {
    let events = sync.0["presence"]["events"].as_array();
    let is_theirs = |event: &Value| event["sender"] == user.id && event["content"]["presence"] == "online";
    events.is_some_and(|events| events.iter().any(is_theirs))
}

#[tokio::test]
async fn those_who_meet_are_told_who_of_them_is_online() {
    let (a, b) = federation::pair().await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, b.user("carol").await);
    // Everybody is online already, so that nothing changes but who is in the room.
    let (at_alice, at_bob) = (alice.sync().await, bob.sync().await);
    carol.sync().await;
    let room = shared_room(&alice, &a, &bob).await;
    bob.sync_until(&at_bob, |sync| is_online(sync, &alice)).await;
    let at_alice = alice.sync_until(&at_alice, |sync| is_online(sync, &bob)).await;
    // The servers know each other in the room, but not yet this user.
    carol.post(&format!("join/{room}"), json!({})).await.ok();
    alice.sync_until(&at_alice, |sync| is_online(sync, &carol)).await;
}

#[tokio::test]
async fn server_that_was_away_is_told_when_it_is_back() {
    let (a, mut b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = shared_room(&alice, &a, &bob).await;
    let at_bob = bob.sync().await;
    alice.send_text(&room, "before").await;
    let at_bob = bob.sync_until(&at_bob, |sync| has_body(sync, &room, "before")).await;
    b.stop();
    for number in 0..30 {
        alice.send_text(&room, &number.to_string()).await;
    }
    b.resume().await;
    let bob = b.moved(&bob);
    // It is heard of: what it sends itself makes the other one try again at once.
    bob.send_text(&room, "back").await;
    bob.sync_until(&at_bob, |sync| has_body(sync, &room, "29")).await;
    let history = bob.messages(&room, "dir=b&limit=100").await;
    let events = history["chunk"].as_array().expect("a chunk");
    let bodies: Vec<&str> = events.iter().filter_map(|event| event["content"]["body"].as_str()).collect();
    for number in 0..30 {
        assert!(bodies.contains(&number.to_string().as_str()), "{number} is not in {bodies:?}");
    }
}
