//! Backups of room keys: versions, and which of two keys stays.

use serde_json::{Value, json};

use crate::support::{Server, User};

async fn create(user: &User) -> String {
    let body =
        json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "abc"}});
    let answer = user.post("room_keys/version", body).await.ok();
    answer["version"].as_str().expect("a version").to_owned()
}

fn key(first_message_index: u32, forwarded_count: u32, is_verified: bool) -> Value {
    json!({
        "first_message_index": first_message_index,
        "forwarded_count": forwarded_count,
        "is_verified": is_verified,
        "session_data": {"ciphertext": "x"},
    })
}

#[tokio::test]
async fn versions_come_and_go() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    alice.get("room_keys/version").await.refused(404, "M_NOT_FOUND");
    let first = create(&alice).await;
    let second = create(&alice).await;
    let info = alice.get("room_keys/version").await.ok();
    assert_eq!((info["version"].as_str(), info["count"].as_u64()), (Some(second.as_str()), Some(0)));
    assert_eq!(info["auth_data"], json!({"public_key": "abc"}));
    let body = json!({"algorithm": info["algorithm"], "auth_data": {"public_key": "def"}, "version": first});
    alice.put(&format!("room_keys/version/{first}"), body.clone()).await.ok();
    alice.put(&format!("room_keys/version/{second}"), body).await.refused(400, "M_INVALID_PARAM");
    let info = alice.get(&format!("room_keys/version/{first}")).await.ok();
    assert_eq!(info["auth_data"], json!({"public_key": "def"}));
    bob.get(&format!("room_keys/version/{first}")).await.refused(404, "M_NOT_FOUND");
    alice.delete(&format!("room_keys/version/{second}")).await.ok();
    alice.delete(&format!("room_keys/version/{second}")).await.refused(404, "M_NOT_FOUND");
    assert_eq!(alice.get("room_keys/version").await.ok()["version"], first);
    assert_ne!(create(&alice).await, second, "a number is not given twice");
}

#[tokio::test]
async fn better_key_stays() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let version = create(&alice).await;
    let path = format!("room_keys/keys/!room:x/session?version={version}");
    let mut etag = String::new();
    for (new, stays) in [
        (key(5, 0, false), true),
        (key(6, 0, false), false),
        (key(5, 0, false), false),
        (key(4, 3, false), true),
        (key(4, 2, false), true),
        (key(9, 9, true), true),
        (key(0, 0, false), false),
    ] {
        let answer = alice.put(&path, new.clone()).await.ok();
        assert_eq!(answer["count"], 1);
        let now = answer["etag"].as_str().expect("an etag").to_owned();
        assert_eq!(now != etag, stays, "{new}");
        etag = now;
        assert_eq!(alice.get(&path).await.ok() == new, stays || new == key(5, 0, false), "{new}");
    }
}

#[tokio::test]
async fn keys_are_written_and_deleted_together() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let version = create(&alice).await;
    let query = format!("?version={version}");
    let rooms = json!({
        "!a:x": {"sessions": {"1": key(0, 0, true), "2": key(1, 0, true)}},
        "!b:x": {"sessions": {"1": key(2, 0, true)}},
    });
    let answer = alice.put(&format!("room_keys/keys{query}"), json!({"rooms": rooms})).await.ok();
    assert_eq!(answer["count"], 3);
    assert_eq!(alice.get(&format!("room_keys/keys{query}")).await.ok()["rooms"], rooms);
    assert_eq!(alice.get(&format!("room_keys/keys/!a:x{query}")).await.ok(), rooms["!a:x"]);
    assert_eq!(alice.get(&format!("room_keys/keys/!c:x{query}")).await.ok(), json!({"sessions": {}}));
    alice.get(&format!("room_keys/keys/!c:x/1{query}")).await.refused(404, "M_NOT_FOUND");
    assert_eq!(alice.delete(&format!("room_keys/keys/!a:x/1{query}")).await.ok()["count"], 2);
    assert_eq!(alice.delete(&format!("room_keys/keys/!b:x{query}")).await.ok()["count"], 1);
    assert_eq!(alice.delete(&format!("room_keys/keys{query}")).await.ok()["count"], 0);
}

#[tokio::test]
async fn only_the_last_version_is_written_to() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (first, second) = (create(&alice).await, create(&alice).await);
    let path = |version: &str| format!("room_keys/keys/!a:x/1?version={version}");
    let refusal = alice.put(&path(&first), key(0, 0, true)).await.refused(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refusal["current_version"], second);
    alice.put(&path(&second), key(0, 0, true)).await.ok();
    alice.put(&path(&second), json!({"session_data": {}})).await.refused(400, "M_BAD_JSON");
}
