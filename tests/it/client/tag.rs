//! Tags on rooms.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn tag_is_set_seen_and_removed() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let tags = format!("user/{}/rooms/{room}/tags", alice.id);
    assert_eq!(alice.get(&tags).await.ok()["tags"], json!({}));
    alice.put(&format!("{tags}/m.favourite"), json!({"order": 0.25})).await.ok();
    alice.put(&format!("{tags}/u.work"), json!({})).await.ok();
    let expected = json!({"m.favourite": {"order": 0.25}, "u.work": {}});
    assert_eq!(alice.get(&tags).await.ok()["tags"], expected);
    assert_eq!(alice.sync().await.account_data(Some(&room), "m.tag")["tags"], expected);
    let before = alice.sync().await;
    alice.delete(&format!("{tags}/u.work")).await.ok();
    let sync = alice.sync_until(&before, |sync| !sync.account_data(Some(&room), "m.tag").is_null()).await;
    assert_eq!(sync.account_data(Some(&room), "m.tag")["tags"], json!({"m.favourite": {"order": 0.25}}));
}

#[tokio::test]
async fn tags_are_ones_own() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let path = format!("user/{}/rooms/{room}/tags/m.favourite", alice.id);
    bob.put(&path, json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn tags_set_at_once_are_all_kept() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let tags = format!("user/{}/rooms/{room}/tags", alice.id);
    let sets = (0..5).map(|number| {
        let path = format!("{tags}/u.{number}");
        let alice = &alice;
        async move { alice.put(&path, json!({})).await.ok() }
    });
    futures::future::join_all(sets).await;
    let body = alice.get(&tags).await.ok();
    assert_eq!(body["tags"].as_object().map(serde_json::Map::len), Some(5), "{body}");
}
