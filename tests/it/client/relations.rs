//! Relations, aggregations and threads.

use futures::future::join_all;
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
async fn only_valid_edits_are_bundled() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "first").await;
    let edit = relate(&alice, &room, "m.replace", &parent, "second").await;
    let without = json!({
        "msgtype": "m.text", "body": "\"m.new_content\":{",
        "m.relates_to": {"rel_type": "m.replace", "event_id": parent.0},
    });
    alice.send(&room, "m.room.message", without).await;
    relate(&alice, &room, "m.replace", &edit, "an edit of an edit").await;
    let event = alice.event(&room, &parent).await.ok();
    assert_eq!(EventId::of(&event["unsigned"]["m.relations"]["m.replace"]), edit);
    let event = alice.event(&room, &edit).await.ok();
    assert!(event["unsigned"]["m.relations"].is_null(), "{event}");
}

#[tokio::test]
async fn thread_outlives_its_root_and_ignored_users_do_not_count() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let root = alice.send_text(&room, "root").await;
    let first = relate(&alice, &room, "m.thread", &root, "one").await;
    relate(&bob, &room, "m.thread", &root, "two").await;
    relate(&bob, &room, "m.reference", &root, "three").await;
    let path = format!("user/{}/account_data/m.ignored_user_list", alice.id);
    alice.put(&path, json!({"ignored_users": {bob.id.clone(): {}}})).await.ok();
    alice.redact(&room, &root).await;
    let relations = alice.event(&room, &root).await.ok()["unsigned"]["m.relations"].clone();
    assert_eq!(relations["m.thread"]["count"], 1, "{relations}");
    assert_eq!(EventId::of(&relations["m.thread"]["latest_event"]), first);
    assert!(relations["m.reference"].is_null(), "{relations}");
    let relations = bob.event(&room, &root).await.ok()["unsigned"]["m.relations"].clone();
    assert_eq!(relations["m.thread"]["count"], 2, "{relations}");
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

#[tokio::test]
async fn of_equal_reactions_at_the_same_time_one_is_taken() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "parent").await;
    let body = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": parent.0, "key": "+"}});
    let sent = join_all((0..8).map(|_| alice.try_send(&room, "m.reaction", body.clone()))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = sent.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(taken.len(), 1);
    for answer in refused {
        answer.refused(400, "M_DUPLICATE_ANNOTATION");
    }
}

#[tokio::test]
async fn reaction_sent_again_in_its_transaction_is_the_same() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "parent").await;
    let body = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": parent.0, "key": "+"}});
    let path = format!("rooms/{room}/send/m.reaction/once");
    let first = alice.put(&path, body.clone()).await.ok();
    assert_eq!(alice.put(&path, body).await.ok(), first);
    alice.redact(&room, &EventId::of(&first)).await;
    let again = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": parent.0, "key": "+"}});
    alice.try_send(&room, "m.reaction", again).await.ok();
}

#[tokio::test]
async fn thread_does_not_start_in_a_thread() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let root = alice.send_text(&room, "root").await;
    let reply = relate(&alice, &room, "m.thread", &root, "reply").await;
    let content = json!({
        "msgtype": "m.text", "body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": reply.0},
    });
    alice.try_send(&room, "m.room.message", content).await.refused(400, "M_UNKNOWN");
}

#[tokio::test]
async fn children_of_children_are_listed_when_asked_for() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let parent = alice.send_text(&room, "parent").await;
    let child = relate(&alice, &room, "m.thread", &parent, "child").await;
    let edit = relate(&alice, &room, "m.replace", &child, "edit").await;
    let base = format!("/_matrix/client/v1/rooms/{room}/relations/{parent}");
    let page = alice.get(&base).await.ok();
    assert_eq!((ids(&page), page["recursion_depth"].is_null()), (vec![child.clone()], true));
    let page = alice.get(&format!("{base}?recurse=true")).await.ok();
    assert_eq!((ids(&page), &page["recursion_depth"]), (vec![edit, child], &json!(3)));
    bob.get(&base).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn threads_are_paged() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let mut roots = Vec::new();
    for number in 0..3 {
        let root = alice.send_text(&room, "root").await;
        relate(&alice, &room, "m.thread", &root, &number.to_string()).await;
        roots.insert(0, root);
    }
    let path = format!("/_matrix/client/v1/rooms/{room}/threads?limit=2");
    let first = alice.get(&path).await.ok();
    assert_eq!(ids(&first), roots[..2]);
    let from = crate::support::encode(first["next_batch"].as_str().expect("there is one more"));
    let second = alice.get(&format!("{path}&from={from}")).await.ok();
    assert_eq!((ids(&second), second["next_batch"].is_null()), (roots[2..].to_vec(), true));
}
