//! What users keep for themselves, globally and for a room.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn account_data_is_read_back_and_synced() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let before = alice.sync().await;
    let global = format!("user/{}/account_data/test.note", alice.id);
    let of_room = format!("user/{}/rooms/{room}/account_data/test.note", alice.id);
    alice.get(&global).await.refused(404, "M_NOT_FOUND");
    alice.put(&global, json!({"n": 1})).await.ok();
    alice.put(&of_room, json!({"n": 2})).await.ok();
    assert_eq!(alice.get(&global).await.ok(), json!({"n": 1}));
    assert_eq!(alice.get(&of_room).await.ok(), json!({"n": 2}));
    let mut sync = before;
    let (mut is_global_seen, mut is_room_seen) = (false, false);
    while !(is_global_seen && is_room_seen) {
        sync = alice.sync_until(&sync, |_| true).await;
        is_global_seen |= sync.account_data(None, "test.note") == &json!({"n": 1});
        is_room_seen |= sync.account_data(Some(&room), "test.note") == &json!({"n": 2});
    }
    let initial = alice.sync().await;
    assert_eq!(initial.account_data(None, "test.note"), &json!({"n": 1}));
    assert_eq!(initial.account_data(Some(&room), "test.note"), &json!({"n": 2}));
}

#[tokio::test]
async fn account_data_from_before_a_join_comes_with_the_room() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    let first = bob.sync().await;
    bob.put(&format!("user/{}/rooms/{room}/account_data/test.note", bob.id), json!({"n": 2})).await.ok();
    let before = bob.sync().since(&first).await;
    bob.join(&room).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    assert_eq!(sync.account_data(Some(&room), "test.note"), &json!({"n": 2}));
}

#[tokio::test]
async fn account_data_is_private() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("user/{}/account_data/test.note", alice.id);
    alice.put(&path, json!({"n": 1})).await.ok();
    bob.get(&path).await.refused(403, "M_FORBIDDEN");
    bob.put(&path, json!({"n": 2})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn types_that_the_server_manages_cannot_be_set() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    for path in [
        format!("user/{}/account_data/m.push_rules", alice.id),
        format!("user/{}/rooms/{room}/account_data/m.fully_read", alice.id),
    ] {
        let answer = alice.put(&path, json!({})).await;
        assert!([400, 403, 405].contains(&answer.status), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn messages_of_ignored_users_are_hidden() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    carol.join(&room).await;
    let ignored = json!({"ignored_users": {bob.id.clone(): {}}});
    alice.put(&format!("user/{}/account_data/m.ignored_user_list", alice.id), ignored).await.ok();
    let before = alice.sync().await;
    let hidden = bob.send_text(&room, "spam").await;
    let seen = carol.send_text(&room, "hello").await;
    let sync = alice.sync_until(&before, |sync| sync.timeline(&room).contains(&seen)).await;
    assert!(!sync.timeline(&room).contains(&hidden));
    assert_eq!(alice.sync().await.unread(&room), (1, 0));
}
