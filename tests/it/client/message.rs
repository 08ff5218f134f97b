//! Sending events.

use std::{collections::HashSet, time::Instant};

use serde_json::json;

use crate::support::{EventId, Server, user::PATIENCE};

#[tokio::test]
async fn message_reaches_the_other_member() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let event = alice.send_text(&room, "hello").await;
    assert_eq!(bob.sync().await.timeline(&room).last(), Some(&event));
}

#[tokio::test]
async fn client_sees_an_event_without_its_federation_fields() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    let body = alice.event(&room, &event).await.ok();
    assert_eq!(body["room_id"], room.0);
    assert_eq!(body["sender"], alice.id);
    assert_eq!(body["type"], "m.room.message");
    assert!(body["origin_server_ts"].is_u64());
    for field in ["auth_events", "prev_events", "hashes", "signatures", "depth", "state_key"] {
        assert!(body[field].is_null(), "{field}: {body}");
    }
}

#[tokio::test]
async fn repeated_transaction_sends_once() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let path = format!("rooms/{room}/send/m.room.message/same");
    let first = EventId::of(&alice.put(&path, json!({"msgtype": "m.text", "body": "1"})).await.ok());
    let again = EventId::of(&alice.put(&path, json!({"msgtype": "m.text", "body": "1"})).await.ok());
    assert_eq!(first, again);
    assert_eq!(alice.history(&room, 10).await, [first]);
}

#[tokio::test]
async fn repeated_transaction_sends_once_even_at_once() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let path = format!("rooms/{room}/send/m.room.message/same");
    let attempts = (0..8).map(|_| alice.put(&path, json!({"msgtype": "m.text", "body": "1"})));
    let answers = futures::future::join_all(attempts).await;
    let ids: HashSet<EventId> = answers.into_iter().map(|answer| EventId::of(&answer.ok())).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(alice.history(&room, 10).await.len(), 1);
}

#[tokio::test]
async fn repeated_transaction_sends_once_across_a_restart() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let path = format!("rooms/{room}/send/m.room.message/same");
    let first = EventId::of(&alice.put(&path, json!({"msgtype": "m.text", "body": "1"})).await.ok());
    server.restart().await;
    let alice = server.moved(&alice);
    let again = EventId::of(&alice.put(&path, json!({"msgtype": "m.text", "body": "1"})).await.ok());
    assert_eq!(first, again);
}

#[tokio::test]
async fn transactions_of_long_ago_are_forgotten() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    alice.send_text(&room, "long ago").await;
    let storage = server.storage().await;
    let client = storage.get().await.expect("the database is there");
    let day_ms = 24 * 60 * 60 * 1000_i64;
    let age = "UPDATE client_transactions SET created = created - $1";
    client.execute(age, &[&(3 * day_ms)]).await.expect("there is one");
    alice.send_text(&room, "yesterday").await;
    let yesterday = "UPDATE client_transactions SET created = created - $1 WHERE event_nid = (SELECT MAX(event_nid) FROM client_transactions)";
    client.execute(yesterday, &[&(day_ms - 60_000)]).await.expect("there is one");
    server.restart().await;
    let deadline = Instant::now() + PATIENCE;
    while client.query("SELECT FROM client_transactions", &[]).await.expect("read").len() > 1 {
        assert!(Instant::now() < deadline, "nothing is forgotten");
        tokio::task::yield_now().await;
    }
    let alice = server.moved(&alice);
    assert_eq!(alice.history(&room, 10).await.len(), 2, "the events are still there");
    assert_eq!(client.query("SELECT FROM client_transactions", &[]).await.expect("read").len(), 1);
}

#[tokio::test]
async fn transaction_ids_belong_to_a_device_and_a_path() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    let (room, other) = (alice.create_room().await, alice.create_room().await);
    let body = json!({"msgtype": "m.text", "body": "1"});
    let mut ids = HashSet::new();
    for (user, room, event_type) in [
        (&alice, &room, "m.room.message"),
        (&phone, &room, "m.room.message"),
        (&alice, &other, "m.room.message"),
        (&alice, &room, "test.message"),
    ] {
        let path = format!("rooms/{room}/send/{event_type}/same");
        ids.insert(EventId::of(&user.put(&path, body.clone()).await.ok()));
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn sender_recognises_their_event_by_its_transaction_id() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    let room = alice.create_room().await;
    let body = json!({"msgtype": "m.text", "body": "1"});
    alice.put(&format!("rooms/{room}/send/m.room.message/mine"), body).await.ok();
    let own = alice.sync().await;
    assert_eq!(own.events(&room).last().expect("sent")["unsigned"]["transaction_id"], "mine");
    let other = phone.sync().await;
    assert!(other.events(&room).last().expect("sent")["unsigned"]["transaction_id"].is_null());
}

#[tokio::test]
async fn stranger_cannot_send() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    let body = json!({"msgtype": "m.text", "body": "1"});
    bob.try_send(&room, "m.room.message", body).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn messages_sent_at_once_all_arrive_once() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let texts: Vec<String> = (0..40).map(|number| format!("message {number}")).collect();
    let sends = texts.iter().enumerate().map(|(number, text)| {
        let sender = if number % 2 == 0 { &alice } else { &bob };
        sender.send_text(&room, text)
    });
    let sent: HashSet<EventId> = futures::future::join_all(sends).await.into_iter().collect();
    assert_eq!(sent.len(), texts.len());
    let seen_by_alice = alice.history(&room, 7).await;
    assert_eq!(seen_by_alice, bob.history(&room, 11).await);
    assert_eq!(seen_by_alice.len(), sent.len());
    assert_eq!(seen_by_alice.into_iter().collect::<HashSet<_>>(), sent);
}

#[tokio::test]
async fn event_over_the_size_limit_is_too_large() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let body = json!({"msgtype": "m.text", "body": "x".repeat(66_000)});
    alice.try_send(&room, "m.room.message", body).await.refused(413, "M_TOO_LARGE");
    let body = json!({"msgtype": "m.text", "body": "x".repeat(60_000)});
    alice.send(&room, "m.room.message", body).await;
    let long_type = "t".repeat(256);
    let answer = alice.try_send(&room, &long_type, json!({})).await;
    assert!([400, 413].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn numbers_that_are_not_canonical_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().version("6").await;
    for number in [json!(1.5), json!(9_007_199_254_740_992_i64)] {
        let answer = alice.try_send(&room, "test.number", json!({"number": number})).await;
        answer.refused(400, "M_BAD_JSON");
    }
    alice.send(&room, "test.number", json!({"number": 9_007_199_254_740_991_i64})).await;
}

#[tokio::test]
async fn event_of_another_room_is_not_found_in_this_one() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (room, other) = (alice.create_room().await, alice.create_room().await);
    let event = alice.send_text(&room, "hello").await;
    alice.event(&other, &event).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn message_without_a_transaction_is_sent_each_time() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let path = format!("rooms/{room}/send/m.room.message");
    let first = EventId::of(&alice.post(&path, json!({"msgtype": "m.text", "body": "1"})).await.ok());
    let second = EventId::of(&alice.post(&path, json!({"msgtype": "m.text", "body": "1"})).await.ok());
    assert_eq!(alice.history(&room, 10).await, [first, second]);
}
