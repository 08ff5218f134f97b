//! `/messages`: reading a room backwards and forwards.

use serde_json::{Value, json};

use crate::support::{EventId, Room, Server, User, encode};

async fn send_numbered(user: &User, room: &Room, count: usize) -> Vec<EventId> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(user.send_text(room, &format!("message {number}")).await);
    }
    ids
}

fn ids(page: &Value) -> Vec<EventId> {
    page["chunk"].as_array().expect("a chunk").iter().map(EventId::of).collect()
}

#[tokio::test]
async fn pages_join_without_gap_or_overlap() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let sent = send_numbered(&alice, &room, 23).await;
    for page in [1, 4, 5, 100] {
        assert_eq!(alice.history(&room, page).await, sent, "pages of {page}");
    }
}

#[tokio::test]
async fn filter_that_leaves_out_the_room_leaves_out_its_events() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    let id = room.0.clone();
    for (filter, is_shown) in [
        (json!({"rooms": [id]}), true),
        (json!({"not_rooms": [id]}), false),
        (json!({"rooms": ["!other:myelin.test"]}), false),
        (json!({"rooms": []}), false),
    ] {
        let query = encode(&filter.to_string());
        let page = alice.messages(&room, &format!("dir=b&filter={query}")).await;
        assert_eq!(ids(&page).contains(&event), is_shown, "{filter}: {page}");
        assert_eq!(page.get("end").is_some(), is_shown, "{filter}: {page}");
        let path = format!("rooms/{room}/context/{event}?limit=10&filter={query}");
        let context = alice.get(&path).await.ok();
        assert_eq!(context["state"].as_array().is_some_and(|state| !state.is_empty()), is_shown, "{filter}");
    }
}

#[tokio::test]
async fn empty_tokens_are_none() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().public().await;
    let event = alice.send_text(&room, "hello").await;
    assert!(ids(&alice.messages(&room, "dir=b&from=&to=").await).contains(&event));
    for path in [
        "publicRooms?since=".to_owned(),
        format!("/_matrix/client/v1/rooms/{room}/threads?from="),
        format!("/_matrix/client/v1/rooms/{room}/relations/{event}?from=&to="),
        format!("/_matrix/client/v1/rooms/{room}/hierarchy?from="),
        format!("rooms/{room}/members?at="),
    ] {
        alice.get(&path).await.ok();
    }
}

#[tokio::test]
async fn forward_from_the_start_ends_at_the_latest() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let sent = send_numbered(&alice, &room, 12).await;
    let mut seen = Vec::new();
    let mut from = String::new();
    loop {
        let page = alice.messages(&room, &format!("dir=f&limit=5{from}")).await;
        seen.extend(ids(&page));
        match page["end"].as_str() {
            Some(end) if !ids(&page).is_empty() => from = format!("&from={}", encode(end)),
            _ => break,
        }
    }
    let first = alice.event(&room, &seen[0]).await.ok();
    assert_eq!(first["type"], "m.room.create");
    assert_eq!(&seen[seen.len() - sent.len()..], sent);
}

#[tokio::test]
async fn page_before_a_sync_continues_its_timeline() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let sent = send_numbered(&alice, &room, 10).await;
    let sync = alice.sync().filter(&json!({"room": {"timeline": {"limit": 4}}})).await;
    assert!(sync.is_limited(&room));
    assert_eq!(sync.timeline(&room), &sent[6..]);
    let from = encode(sync.prev_batch(&room));
    let page = alice.messages(&room, &format!("dir=b&limit=6&from={from}")).await;
    let expected: Vec<EventId> = sent[..6].iter().rev().cloned().collect();
    assert_eq!(ids(&page), expected);
}

#[tokio::test]
async fn nothing_comes_before_a_timeline_that_begins_with_the_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "all there is").await;
    let sync = alice.sync().await;
    assert_eq!(sync.events(&room)[0]["type"], "m.room.create");
    assert_eq!(sync.prev_batch(&room), "");
    // As without a token: a page begins with what is latest.
    let page = alice.messages(&room, "dir=b&limit=1&from=").await;
    assert_eq!(ids(&page), std::slice::from_ref(&event));
    let filter = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let sync = alice.sync().filter(&filter).await;
    assert_eq!(sync.timeline(&room), [event]);
    let page = alice.messages(&room, &format!("dir=b&from={}", encode(sync.prev_batch(&room)))).await;
    assert_eq!(
        page["chunk"].as_array().and_then(|chunk| chunk.last()).map(|event| &event["type"]),
        Some(&json!("m.room.create"))
    );
}

#[tokio::test]
async fn page_is_the_same_before_and_after_new_messages() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    send_numbered(&alice, &room, 6).await;
    let first = alice.messages(&room, "dir=b&limit=3").await;
    let query = format!("dir=b&limit=3&from={}", encode(first["end"].as_str().expect("more")));
    let page = alice.messages(&room, &query).await;
    send_numbered(&alice, &room, 3).await;
    assert_eq!(ids(&alice.messages(&room, &query).await), ids(&page));
}

#[tokio::test]
async fn pages_stop_at_the_token_they_are_told() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    send_numbered(&alice, &room, 3).await;
    let middle = alice.sync().await;
    let later = send_numbered(&alice, &room, 3).await;
    let to = encode(middle.next_batch());
    let page = alice.messages(&room, &format!("dir=b&limit=50&to={to}")).await;
    let expected: Vec<EventId> = later.iter().rev().cloned().collect();
    assert_eq!(ids(&page), expected);
    let page = alice.messages(&room, &format!("dir=f&limit=50&from={to}")).await;
    assert_eq!(ids(&page), later);
}

#[tokio::test]
async fn filter_chooses_types_and_senders() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    alice.send_text(&room, "no").await;
    let wanted = bob.send_text(&room, "yes").await;
    let filter = json!({"types": ["m.room.message"], "senders": [bob.id]}).to_string();
    let page = alice.messages(&room, &format!("dir=b&filter={}", encode(&filter))).await;
    assert_eq!(ids(&page), [wanted]);
}

#[tokio::test]
async fn lazy_loading_adds_the_senders_members() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    carol.join(&room).await;
    bob.send_text(&room, "hello").await;
    let filter = encode(&json!({"lazy_load_members": true}).to_string());
    let page = alice.messages(&room, &format!("dir=b&limit=1&filter={filter}")).await;
    let members: Vec<&Value> = page["state"].as_array().expect("state").iter().collect();
    assert_eq!(members.len(), 1, "{page}");
    assert_eq!(members[0]["state_key"], bob.id);
}

#[tokio::test]
async fn pages_leave_out_what_ignored_users_say() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let first = alice.send_text(&room, "first").await;
    for _ in 0..3 {
        bob.send_text(&room, "nonsense").await;
    }
    let last = alice.send_text(&room, "last").await;
    let ignored = json!({"ignored_users": {bob.id.clone(): {}}});
    alice.put(&format!("user/{}/account_data/m.ignored_user_list", alice.id), ignored).await.ok();
    assert_eq!(alice.history(&room, 1).await, [first, last]);
    let page = alice.messages(&room, "dir=b&limit=100").await;
    let mut events = page["chunk"].as_array().expect("a chunk").iter();
    assert!(events.any(|event| event["state_key"] == bob.id), "what bob is remains to be seen");
}

#[tokio::test]
async fn stranger_reads_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.get(&format!("rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn broken_tokens_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    for query in ["dir=b&from=nonsense", "dir=sideways", "dir=b&limit=many", "dir=b&filter=%7B"] {
        let answer = alice.get(&format!("rooms/{room}/messages?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
}
