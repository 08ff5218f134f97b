//! The list of what a user was notified about.

use serde_json::{Value, json};

use crate::support::{EventId, Room, Server, User};

fn ids(page: &Value) -> Vec<EventId> {
    page["notifications"].as_array().expect("a list").iter().map(|one| EventId::of(&one["event"])).collect()
}

async fn room_of_two() -> (Server, User, User, Room) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    alice.send_text(&room, "before bob came").await;
    bob.join(&room).await;
    (server, alice, bob, room)
}

#[tokio::test]
async fn notifications_are_listed_and_become_read() {
    let (_server, alice, bob, room) = room_of_two().await;
    let first = alice.send_text(&room, "one").await;
    bob.send_text(&room, "my own").await;
    alice.send(&room, "m.room.message", json!({"msgtype": "m.notice", "body": "silent"})).await;
    let second = alice.send_text(&room, "two").await;
    let page = bob.get("notifications").await.ok();
    assert_eq!(ids(&page), [second.clone(), first.clone()], "{page}");
    assert!(page.get("next_token").is_none(), "{page}");
    let newest = &page["notifications"][0];
    assert_eq!((&newest["room_id"], &newest["read"]), (&json!(room.0), &json!(false)));
    assert_eq!(newest["actions"][0], "notify");
    assert_eq!((&newest["ts"], &newest["profile_tag"]), (&newest["event"]["origin_server_ts"], &json!("")));
    bob.post(&format!("rooms/{room}/receipt/m.read/{first}"), json!({})).await.ok();
    let page = bob.get("notifications").await.ok();
    let read: Vec<&Value> =
        page["notifications"].as_array().expect("a list").iter().map(|one| &one["read"]).collect();
    assert_eq!(read, [&json!(false), &json!(true)]);
}

#[tokio::test]
async fn notifications_are_paged_over_all_rooms() {
    let (_server, alice, bob, room) = room_of_two().await;
    let other = alice.create_room().public().await;
    bob.join(&other).await;
    let mut sent = Vec::new();
    for number in 0..3 {
        sent.insert(0, alice.send_text(&room, &format!("here {number}")).await);
        sent.insert(0, alice.send_text(&other, &format!("there {number}")).await);
    }
    let (mut found, mut path) = (Vec::new(), "notifications?limit=4".to_owned());
    for expected in [4, 2] {
        let page = bob.get(&path).await.ok();
        assert_eq!(ids(&page).len(), expected, "{page}");
        found.extend(ids(&page));
        path = format!("notifications?limit=4&from={}", page["next_token"].as_str().unwrap_or_default());
    }
    assert!(path.ends_with("from="), "the second page is the last: {path}");
    assert_eq!(found, sent);
    bob.get("notifications?from=nowhere").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn only_highlights_are_listed_when_asked_for() {
    let (_server, alice, bob, room) = room_of_two().await;
    alice.send_text(&room, "hello").await;
    let mention = json!({"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [bob.id]}});
    let mention = alice.send(&room, "m.room.message", mention).await;
    let next = alice.create_room().invite(&bob).await;
    assert_eq!(ids(&bob.get("notifications?only=highlight").await.ok()), [mention]);
    let page = bob.get("notifications").await.ok();
    assert_eq!(page["notifications"][0]["room_id"], next.0, "an invitation is one: {page}");
    assert_eq!(page["notifications"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn those_who_are_ignored_notify_nobody() {
    let (_server, alice, bob, room) = room_of_two().await;
    let root = bob.send_text(&room, "a thread").await;
    alice.send_text(&room, "hello").await;
    let reply = json!({
        "msgtype": "m.text", "body": "in the thread",
        "m.relates_to": {"rel_type": "m.thread", "event_id": root.0},
    });
    alice.send(&room, "m.room.message", reply).await;
    assert_eq!(ids(&bob.get("notifications").await.ok()).len(), 2);
    let ignored = json!({"ignored_users": {&alice.id: {}}});
    bob.put(&format!("user/{}/account_data/m.ignored_user_list", bob.id), ignored).await.ok();
    assert!(ids(&bob.get("notifications").await.ok()).is_empty());
    let by_thread = json!({"room": {"timeline": {"unread_thread_notifications": true}}});
    let sync = bob.sync().filter(&by_thread).await;
    assert_eq!(sync.unread(&room), (0, 0));
    assert!(sync.joined(&room).get("unread_thread_notifications").is_none(), "{:?}", sync.joined(&room));
}
