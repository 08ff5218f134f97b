//! Read receipts, read markers and the counts that they clear.

use serde_json::{Value, json};

use crate::support::{EventId, Room, Server, Sync, User};

async fn read(user: &User, room: &Room, receipt_type: &str, event: &EventId, body: Value) {
    user.post(&format!("rooms/{room}/receipt/{receipt_type}/{event}"), body).await.ok();
}

#[tokio::test]
async fn receipt_is_seen_by_the_others() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let event = alice.send_text(&room, "hello").await;
    let before = alice.sync().await;
    read(&bob, &room, "m.read", &event, json!({})).await;
    let sync = alice.sync_until(&before, |sync| !sync.ephemeral(&room, "m.receipt").is_null()).await;
    let receipt = &sync.ephemeral(&room, "m.receipt")[&event.0]["m.read"][&bob.id];
    assert!(receipt["ts"].is_u64(), "{}", sync.0);
    let receipt = &alice.sync().await.ephemeral(&room, "m.receipt")[&event.0]["m.read"][&bob.id].clone();
    assert!(receipt["ts"].is_u64(), "an initial sync has it too");
}

#[tokio::test]
async fn receipts_from_before_one_came_are_told_to_who_joins() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().await;
    let event = alice.send_text(&room, "hello").await;
    carol.join(&room).await;
    read(&carol, &room, "m.read", &event, json!({})).await;
    let before = bob.sync().await;
    bob.join(&room).await;
    let has_it =
        |sync: &Sync| sync.ephemeral(&room, "m.receipt")[&event.0]["m.read"][&carol.id]["ts"].is_u64();
    bob.sync_until(&before, has_it).await;
    let first = bob.sync().await;
    assert!(has_it(&first), "{}", first.0);
    // And once more to one who was away.
    bob.leave(&room).await;
    let next = alice.send_text(&room, "next").await;
    read(&carol, &room, "m.read", &next, json!({})).await;
    let away = bob.sync().await;
    bob.join(&room).await;
    let reads_next =
        |sync: &Sync| !sync.ephemeral(&room, "m.receipt")[&next.0]["m.read"][&carol.id].is_null();
    bob.sync_until(&away, reads_next).await;
}

#[tokio::test]
async fn private_receipt_is_seen_by_its_owner_only() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let event = alice.send_text(&room, "hello").await;
    let (alice_before, bob_before) = (alice.sync().await, bob.sync().await);
    read(&bob, &room, "m.read.private", &event, json!({})).await;
    let sync = bob.sync_until(&bob_before, |sync| !sync.ephemeral(&room, "m.receipt").is_null()).await;
    assert!(sync.ephemeral(&room, "m.receipt")[&event.0]["m.read.private"][&bob.id]["ts"].is_u64());
    alice.send_text(&room, "next").await;
    let sync = alice.sync_until(&alice_before, |sync| !sync.events(&room).is_empty()).await;
    assert!(sync.ephemeral(&room, "m.receipt").is_null(), "{}", sync.0);
}

#[tokio::test]
async fn counts_come_with_the_event_and_go_with_the_receipt() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = bob.sync().await;
    let mut last = before;
    let mut event = None;
    for number in 1..=3 {
        let sent = alice.send_text(&room, "hello").await;
        last = bob.sync_until(&last, |sync| sync.timeline(&room).contains(&sent)).await;
        assert_eq!(last.unread(&room), (number, 0), "the count is in the answer that has the event");
        event = Some(sent);
    }
    read(&bob, &room, "m.read", &event.expect("sent"), json!({})).await;
    let sync = bob.sync_until(&last, |sync| sync.mentions(&room)).await;
    assert_eq!(sync.unread(&room), (0, 0));
    assert_eq!(bob.sync().await.unread(&room), (0, 0));
}

#[tokio::test]
async fn own_new_name_reads_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = bob.sync().await;
    let sent = alice.send_text(&room, "hello").await;
    let counted = bob.sync_until(&before, |sync| sync.timeline(&room).contains(&sent)).await;
    bob.put(&format!("profile/{}/displayname", bob.id), json!({"displayname": "Robert"})).await.ok();
    let sync = bob.sync_until(&counted, |sync| sync.mentions(&room)).await;
    assert_eq!(
        sync.events(&room).last().map(|event| &event["content"]["displayname"]),
        Some(&json!("Robert"))
    );
    assert_eq!(sync.unread(&room), (1, 0));
    assert_eq!(bob.sync().await.unread(&room), (1, 0));
    let own = bob.send_text(&room, "hello yourself").await;
    let sync = bob.sync_until(&sync, |sync| sync.timeline(&room).contains(&own)).await;
    assert_eq!(sync.unread(&room), (0, 0), "who writes has read");
}

#[tokio::test]
async fn receipt_in_the_middle_leaves_the_rest_unread() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(alice.send_text(&room, "hello").await);
    }
    assert_eq!(bob.sync().await.unread(&room).0, 5);
    read(&bob, &room, "m.read", &sent[2], json!({})).await;
    assert_eq!(bob.sync().await.unread(&room).0, 2);
    read(&bob, &room, "m.read.private", &sent[3], json!({})).await;
    assert_eq!(bob.sync().await.unread(&room).0, 1);
}

#[tokio::test]
async fn late_receipt_changes_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let old = alice.send_text(&room, "old").await;
    let new = alice.send_text(&room, "new").await;
    read(&bob, &room, "m.read", &new, json!({})).await;
    read(&bob, &room, "m.read", &old, json!({})).await;
    let sync = alice.sync().await;
    let receipts = sync.ephemeral(&room, "m.receipt");
    assert!(receipts[&new.0]["m.read"][&bob.id].is_object(), "{receipts}");
    assert!(receipts[&old.0].is_null(), "{receipts}");
    assert_eq!(bob.sync().await.unread(&room).0, 0);
}

#[tokio::test]
async fn own_messages_are_never_unread() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    alice.send_text(&room, "hello").await;
    bob.send_text(&room, "hello yourself").await;
    assert_eq!(bob.sync().await.unread(&room), (0, 0), "an answer is as good as a receipt");
    assert_eq!(alice.sync().await.unread(&room), (1, 0));
}

#[tokio::test]
async fn mention_is_a_highlight() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let content = json!({"msgtype": "m.text", "body": "you!", "m.mentions": {"user_ids": [bob.id]}});
    alice.send(&room, "m.room.message", content).await;
    assert_eq!(bob.sync().await.unread(&room), (1, 1));
}

#[tokio::test]
async fn redacted_message_is_not_unread() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = bob.sync().await;
    let spam = json!({"msgtype": "m.text", "body": "spam", "m.mentions": {"user_ids": [bob.id]}});
    let spam = alice.send(&room, "m.room.message", spam).await;
    alice.send_text(&room, "sorry").await;
    let sync = bob.sync_until(&before, |sync| sync.unread(&room) == (2, 1)).await;
    alice.redact(&room, &spam).await;
    let sync = bob.sync_until(&sync, |sync| !sync.events(&room).is_empty()).await;
    assert_eq!(sync.unread(&room), (1, 0));
    assert_eq!(bob.sync().await.unread(&room), (1, 0));
}

#[tokio::test]
async fn counts_outlive_a_restart() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    alice.send_text(&room, "one").await;
    alice.send_text(&room, "two").await;
    server.restart().await;
    assert_eq!(server.moved(&bob).sync().await.unread(&room), (2, 0));
}

#[tokio::test]
async fn read_markers_move_both_the_marker_and_the_receipt() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let event = alice.send_text(&room, "hello").await;
    let body = json!({"m.fully_read": event.0, "m.read": event.0});
    bob.post(&format!("rooms/{room}/read_markers"), body).await.ok();
    let sync = bob.sync().await;
    assert_eq!(sync.account_data(Some(&room), "m.fully_read")["event_id"], event.0);
    assert_eq!(sync.unread(&room), (0, 0));
    assert!(alice.sync().await.ephemeral(&room, "m.receipt")[&event.0]["m.read"][&bob.id].is_object());
}

#[tokio::test]
async fn threads_have_receipts_and_counts_of_their_own() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let root = alice.send_text(&room, "root").await;
    let reply = json!({"msgtype": "m.text", "body": "reply",
                       "m.relates_to": {"rel_type": "m.thread", "event_id": root.0}});
    let reply = alice.send(&room, "m.room.message", reply).await;
    let filter = json!({"room": {"timeline": {"unread_thread_notifications": true}}});
    let sync = bob.sync().filter(&filter).await;
    assert_eq!(sync.unread(&room), (1, 0));
    let thread = &sync.joined(&room)["unread_thread_notifications"][&root.0];
    assert_eq!(thread["notification_count"], 1, "{}", sync.joined(&room));
    read(&bob, &room, "m.read", &reply, json!({"thread_id": root.0})).await;
    let sync = bob.sync().filter(&filter).await;
    assert_eq!(sync.unread(&room), (1, 0));
    assert!(sync.joined(&room)["unread_thread_notifications"][&root.0].is_null());
    read(&bob, &room, "m.read", &root, json!({"thread_id": "main"})).await;
    assert_eq!(bob.sync().filter(&filter).await.unread(&room), (0, 0));
}

#[tokio::test]
async fn bad_receipts_are_refused() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    let path = format!("rooms/{room}/receipt/m.read/{event}");
    bob.post(&path, json!({})).await.refused(403, "M_FORBIDDEN");
    alice.post(&path, json!({"thread_id": ""})).await.refused(400, "M_INVALID_PARAM");
    alice.post(&path, json!({"thread_id": 5})).await.refused(400, "M_BAD_JSON");
    let path = format!("rooms/{room}/receipt/m.fully_read/{event}");
    alice.post(&path, json!({"thread_id": "main"})).await.refused(400, "M_INVALID_PARAM");
}
