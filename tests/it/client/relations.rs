//! Relations, aggregations and threads.

use serde_json::{Value, json};

use crate::support::{EventId, Room, Server, User};

async fn relate(user: &User, room: &Room, rel_type: &str, parent: &EventId, body: &str) -> EventId {
    let content = json!({
        "msgtype": "m.text", "body": body, "m.new_content": {"msgtype": "m.text", "body": body},
        "m.relates_to": {"rel_type": rel_type, "event_id": parent.0},
    });
    user.send(room, "m.room.message", content).await
}

fn ids(page: &Value) -> Vec<EventId> {
    page["chunk"].as_array().expect("a chunk").iter().map(EventId::of).collect()
}

#[tokio::test]
async fn children_are_listed_by_kind() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "parent").await;
    let reference = relate(&alice, &room, "m.reference", &parent, "reference").await;
    let edit = relate(&alice, &room, "m.replace", &parent, "edit").await;
    let base = format!("/_matrix/client/v1/rooms/{room}/relations/{parent}");
    assert_eq!(ids(&alice.get(&base).await.ok()), [edit.clone(), reference.clone()]);
    assert_eq!(ids(&alice.get(&format!("{base}?dir=f")).await.ok()), [reference.clone(), edit.clone()]);
    assert_eq!(ids(&alice.get(&format!("{base}/m.replace")).await.ok()), [edit]);
    assert_eq!(ids(&alice.get(&format!("{base}/m.reference/m.room.message")).await.ok()), [reference]);
    assert_eq!(ids(&alice.get(&format!("{base}/m.reference/test.other")).await.ok()), []);
}

#[tokio::test]
async fn children_are_paged() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "parent").await;
    let mut sent = Vec::new();
    for number in 0..7 {
        sent.push(relate(&alice, &room, "m.reference", &parent, &number.to_string()).await);
    }
    let base = format!("/_matrix/client/v1/rooms/{room}/relations/{parent}?dir=f&limit=3");
    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let page = alice.get(&format!("{base}{from}")).await.ok();
        seen.extend(ids(&page));
        match page["next_batch"].as_str() {
            Some(token) => from = format!("&from={}", crate::support::encode(token)),
            None => break,
        }
    }
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn latest_edit_is_bundled_with_its_target() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let parent = alice.send_text(&room, "first").await;
    relate(&alice, &room, "m.replace", &parent, "second").await;
    let last = relate(&alice, &room, "m.replace", &parent, "third").await;
    relate(&bob, &room, "m.replace", &parent, "forged").await;
    let event = bob.event(&room, &parent).await.ok();
    assert_eq!(EventId::of(&event["unsigned"]["m.relations"]["m.replace"]), last);
    assert_eq!(event["content"]["body"], "first", "the original stays");
    alice.redact(&room, &parent).await;
    let event = bob.event(&room, &parent).await.ok();
    assert!(event["unsigned"]["m.relations"]["m.replace"].is_null(), "{event}");
}

#[tokio::test]
async fn thread_is_summed_up_at_its_root() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let root = alice.send_text(&room, "root").await;
    relate(&alice, &room, "m.thread", &root, "one").await;
    let last = relate(&alice, &room, "m.thread", &root, "two").await;
    for (user, has_taken_part) in [(&alice, true), (&bob, false)] {
        let event = user.event(&room, &root).await.ok();
        let thread = &event["unsigned"]["m.relations"]["m.thread"];
        assert_eq!(thread["count"], 2, "{event}");
        assert_eq!(EventId::of(&thread["latest_event"]), last);
        assert_eq!(thread["current_user_participated"], has_taken_part);
    }
    let list = bob.get(&format!("/_matrix/client/v1/rooms/{room}/threads")).await.ok();
    assert_eq!(ids(&list), [root]);
    let mine = bob.get(&format!("/_matrix/client/v1/rooms/{room}/threads?include=participated")).await.ok();
    assert_eq!(ids(&mine), []);
}

#[tokio::test]
async fn second_equal_reaction_is_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "parent").await;
    let reaction =
        |key: &str| json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": parent.0, "key": key}});
    alice.send(&room, "m.reaction", reaction("+")).await;
    alice.send(&room, "m.reaction", reaction("-")).await;
    alice.try_send(&room, "m.reaction", reaction("+")).await.refused(400, "M_DUPLICATE_ANNOTATION");
}
