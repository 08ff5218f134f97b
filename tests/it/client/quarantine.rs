//! Quarantine: `src/http/client/media/quarantine.rs`.

use image::ImageFormat;
use serde_json::json;

use crate::support::{Server, User, encode, media::picture};

/// Makes the user an administrator.
async fn promote(server: &Server, user: &User) -> User {
    let client = server.storage().await;
    let client = client.get().await.expect("the database is there");
    let promote = "UPDATE users SET is_admin = TRUE WHERE user_id = $1";
    client.execute(promote, &[&user.id]).await.expect("there are users");
    user.log_in_again().await
}

#[tokio::test]
async fn quarantined_media_is_seen_by_nobody_until_it_is_released() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let media = alice.upload(&picture(100, 100, ImageFormat::Png), "image/png", "").await;
    let query = "width=32&height=32&method=crop";
    alice.thumbnail(&media, query).await.ok();
    let add = format!("/_synapse/admin/v1/media/quarantine/{media}");
    bob.post(&add, json!({})).await.refused(403, "M_FORBIDDEN");
    server.anyone().post(&add, json!({})).await.refused(401, "M_MISSING_TOKEN");
    let admin = promote(&server, &bob).await;
    assert_eq!(admin.post(&add, json!({})).await.ok(), json!({}));
    admin.post(&add, json!({})).await.ok();
    alice.media(&media).await.refused(404, "M_NOT_FOUND");
    alice.thumbnail(&media, query).await.refused(404, "M_NOT_FOUND");
    server.anyone().media_of_old(&media).await.refused(404, "M_NOT_FOUND");
    admin.post(&format!("/_synapse/admin/v1/media/unquarantine/{media}"), json!({})).await.ok();
    alice.media(&media).await.ok();
    let absent = format!("/_synapse/admin/v1/media/quarantine/{}/absent", server.name);
    admin.post(&absent, json!({})).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn all_that_a_room_shows_is_quarantined() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let admin = promote(&server, &bob).await;
    let room = alice.create_room().public().await;
    let upload = async || alice.upload(b"x", "text/plain", "").await;
    let (shown, small, encrypted, named, other) =
        (upload().await, upload().await, upload().await, upload().await, upload().await);
    let content = json!({
        "msgtype": "m.image", "body": format!("mxc://{named}"), "url": format!("mxc://{shown}"),
        "info": {"thumbnail_url": format!("mxc://{small}")},
    });
    alice.send(&room, "m.room.message", content).await;
    alice.send(&room, "m.room.message", json!({"file": {"url": format!("mxc://{encrypted}")}})).await;
    alice.send(&room, "m.room.message", json!({"url": "mxc://elsewhere.test/id", "body": "\0"})).await;

    let path = format!("/_synapse/admin/v1/room/{room}/media/quarantine");
    alice.post(&path, json!({})).await.refused(403, "M_FORBIDDEN");
    assert_eq!(admin.post(&path, json!({})).await.ok(), json!({"num_quarantined": 4}));
    let old = format!("/_synapse/admin/v1/quarantine_media/{room}");
    assert_eq!(admin.post(&old, json!({})).await.ok(), json!({"num_quarantined": 0}));
    for hidden in [shown, small, encrypted, "elsewhere.test/id".to_owned()] {
        alice.media(&hidden).await.refused(404, "M_NOT_FOUND");
    }
    for visible in [named, other] {
        alice.media(&visible).await.ok();
    }
    let unknown = format!("/_synapse/admin/v1/room/{}/media/quarantine", encode("!none:here"));
    admin.post(&unknown, json!({})).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn all_that_a_user_uploaded_is_quarantined() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let admin = promote(&server, &bob).await;
    let first = alice.upload(b"x", "text/plain", "").await;
    let others = bob.upload(b"x", "text/plain", "").await;
    let later = alice.announce_media().await;
    let path = format!("/_synapse/admin/v1/user/{}/media/quarantine", encode(&alice.id));
    assert_eq!(admin.post(&path, json!({})).await.ok(), json!({"num_quarantined": 1}));
    bob.media(&first).await.refused(404, "M_NOT_FOUND");
    bob.media(&others).await.ok();
    alice.upload_to(&later, b"x").await.ok();
    bob.media(&later).await.ok();
}
