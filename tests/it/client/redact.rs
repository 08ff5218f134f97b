//! Redactions.

use serde_json::json;

use crate::support::{EventId, Server, unique};

#[tokio::test]
async fn redacted_event_loses_its_content_everywhere() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in ["1", "6", "10", "11", "12"] {
        let room = alice.create_room().version(version).invite(&bob).await;
        bob.join(&room).await;
        let event = alice.send_text(&room, "secret").await;
        let redaction = alice.redact(&room, &event).await;
        let body = bob.event(&room, &event).await.ok();
        assert_eq!(body["content"], json!({}), "version {version}");
        assert_eq!(EventId::of(&body["unsigned"]["redacted_because"]), redaction);
        let sync = bob.sync().await;
        let text = serde_json::to_string(sync.events(&room)).expect("json");
        assert!(!text.contains("secret"), "version {version}: {text}");
        let page = bob.messages(&room, "dir=b").await;
        assert!(!page.to_string().contains("secret"), "version {version}: {page}");
    }
}

#[tokio::test]
async fn redaction_names_its_target_in_both_places() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for version in ["10", "11"] {
        let room = alice.create_room().version(version).await;
        let event = alice.send_text(&room, "secret").await;
        let redaction = alice.redact(&room, &event).await;
        let body = alice.event(&room, &redaction).await.ok();
        assert_eq!(body["redacts"], event.0, "version {version}");
        assert_eq!(body["content"]["redacts"], event.0, "version {version}");
        assert_eq!(body["content"]["reason"], "spam", "version {version}");
    }
}

#[tokio::test]
async fn redaction_can_be_sent_as_an_event() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for version in ["10", "11"] {
        let room = alice.create_room().version(version).await;
        let event = alice.send_text(&room, "secret").await;
        alice.send(&room, "m.room.redaction", json!({"redacts": event.0})).await;
        assert_eq!(alice.event(&room, &event).await.ok()["content"], json!({}), "version {version}");
    }
}

#[tokio::test]
async fn others_events_are_redacted_by_moderators_only() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in ["1", "10", "11", "12"] {
        let room = alice.create_room().version(version).invite(&bob).await;
        bob.join(&room).await;
        let event = alice.send_text(&room, "mine").await;
        bob.try_redact(&room, &event).await.refused(403, "M_FORBIDDEN");
        assert_eq!(alice.event(&room, &event).await.ok()["content"]["body"], "mine", "version {version}");
        let event = bob.send_text(&room, "rude").await;
        alice.redact(&room, &event).await;
        assert_eq!(bob.event(&room, &event).await.ok()["content"], json!({}), "version {version}");
    }
}

#[tokio::test]
async fn repeated_redaction_transaction_is_one_event() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "secret").await;
    let path = format!("rooms/{room}/redact/{event}/{}", unique());
    let first = EventId::of(&alice.put(&path, json!({})).await.ok());
    assert_eq!(EventId::of(&alice.put(&path, json!({})).await.ok()), first);
}

#[tokio::test]
async fn redacted_state_event_keeps_what_the_rules_need() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.post(&format!("rooms/{room}/join"), json!({"reason": "secret"})).await.ok();
    let member = alice.get(&format!("rooms/{room}/state/m.room.member/{}?format=event", bob.id)).await.ok();
    alice.redact(&room, &EventId::of(&member)).await;
    let content = alice.state(&room, "m.room.member", &bob.id).await;
    assert_eq!(content, json!({"membership": "join"}));
}

#[tokio::test]
async fn redaction_is_seen_by_who_syncs_on() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let event = alice.send_text(&room, "secret").await;
    let before = bob.sync().await;
    let redaction = alice.redact(&room, &event).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    assert_eq!(sync.timeline(&room), [redaction]);
    assert_eq!(sync.events(&room)[0]["redacts"], event.0);
}

#[tokio::test]
async fn what_came_after_a_redacted_event_does_not_repeat_it() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let first = alice.set_state(&room, "m.room.name", "", json!({"name": "secret"})).await;
    let second = alice.set_state(&room, "m.room.name", "", json!({"name": "fine"})).await;
    let shown = alice.event(&room, &second).await.ok();
    assert_eq!(shown["unsigned"]["prev_content"]["name"], "secret");
    alice.redact(&room, &first).await;
    let shown = alice.event(&room, &second).await.ok();
    assert_eq!(shown["unsigned"]["prev_content"], json!({}), "{shown}");
    let sync = alice.sync().await;
    assert!(!sync.joined(&room).is_null() && !sync.0.to_string().contains("secret"));
}
