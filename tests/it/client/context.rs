//! `/context`: what was said around an event.

use serde_json::{Value, json};

use crate::support::{EventId, Server, encode};

fn ids(events: &Value) -> Vec<EventId> {
    events.as_array().expect("a list").iter().map(EventId::of).collect()
}

#[tokio::test]
async fn context_has_what_came_before_and_after() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let mut sent = Vec::new();
    for number in 0..7 {
        sent.push(alice.send_text(&room, &format!("message {number}")).await);
    }
    let body = alice.get(&format!("rooms/{room}/context/{}?limit=4", sent[3])).await.ok();
    assert_eq!(EventId::of(&body["event"]), sent[3]);
    assert_eq!(ids(&body["events_before"]), [sent[2].clone(), sent[1].clone()]);
    assert_eq!(ids(&body["events_after"]), [sent[4].clone(), sent[5].clone()]);
    assert!(body["state"].as_array().expect("state").iter().any(|event| event["type"] == "m.room.create"));
}

#[tokio::test]
async fn its_tokens_continue_in_both_directions() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let mut sent = Vec::new();
    for number in 0..7 {
        sent.push(alice.send_text(&room, &format!("message {number}")).await);
    }
    let body = alice.get(&format!("rooms/{room}/context/{}?limit=2", sent[3])).await.ok();
    let start = encode(body["start"].as_str().expect("start"));
    let end = encode(body["end"].as_str().expect("end"));
    let before = alice.messages(&room, &format!("dir=b&limit=2&from={start}")).await;
    assert_eq!(ids(&before["chunk"]), [sent[1].clone(), sent[0].clone()]);
    let after = alice.messages(&room, &format!("dir=f&limit=2&from={end}")).await;
    assert_eq!(ids(&after["chunk"]), [sent[5].clone(), sent[6].clone()]);
}

#[tokio::test]
async fn limit_zero_gives_the_event_alone() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    let body = alice.get(&format!("rooms/{room}/context/{event}?limit=0")).await.ok();
    assert_eq!(EventId::of(&body["event"]), event);
    for side in ["events_before", "events_after"] {
        assert_eq!(body[side].as_array().map_or(0, Vec::len), 0);
    }
}

#[tokio::test]
async fn context_of_an_unknown_event_is_not_found() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    alice.get(&format!("rooms/{room}/context/%24nothere")).await.refused(404, "M_NOT_FOUND");
    let answer = bob.get(&format!("rooms/{room}/context/{event}")).await;
    assert!([403, 404].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn event_nearest_to_a_time_is_found() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    let sent_at = alice.event(&room, &event).await.ok()["origin_server_ts"].as_u64().expect("a time");
    let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={}&dir=b", sent_at + 5000);
    assert_eq!(EventId::of(&alice.get(&path).await.ok()), event);
    let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={}&dir=f", sent_at + 5000);
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
    let body = json!({"ts": 0});
    let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={}&dir=f", body["ts"]);
    let first = EventId::of(&alice.get(&path).await.ok());
    assert_eq!(alice.event(&room, &first).await.ok()["type"], "m.room.create");
}

#[tokio::test]
async fn lists_are_there_even_when_they_are_empty() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "alone").await;
    let body = alice.get(&format!("rooms/{room}/context/{event}?limit=0")).await.ok();
    assert_eq!((&body["events_before"], &body["events_after"]), (&json!([]), &json!([])));
}
