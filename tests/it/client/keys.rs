//! Keys of devices: publishing, asking, and claiming each one-time key once.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, Server, User, password_login};

/// Identity keys as a device publishes them; nobody here checks them.
pub fn device_keys(user: &User, key: &str) -> Value {
    let device = &user.device;
    json!({
        "user_id": user.id,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("curve25519:{device}"): key,
            format!("ed25519:{device}"): key,
        },
        "signatures": {user.id.clone(): {format!("ed25519:{device}"): "self"}},
    })
}

/// Publishes identity keys.
pub async fn publish(user: &User, key: &str) {
    user.post("keys/upload", json!({"device_keys": device_keys(user, key)})).await.ok();
}

pub async fn upload_one_time(user: &User, ids: &[&str]) -> Answer {
    let keys: serde_json::Map<String, Value> =
        ids.iter().map(|id| (format!("signed_curve25519:{id}"), json!({"key": id}))).collect();
    user.post("keys/upload", json!({"one_time_keys": keys})).await
}

pub async fn claim(asker: &User, of: &User) -> Value {
    let body = json!({"one_time_keys": {of.id.clone(): {of.device.clone(): "signed_curve25519"}}});
    asker.post("keys/claim", body).await.ok()["one_time_keys"][&of.id][&of.device].clone()
}

pub async fn query(asker: &User, of: &User) -> Value {
    asker.post("keys/query", json!({"device_keys": {of.id.clone(): []}})).await.ok()
}

#[tokio::test]
async fn published_keys_are_found_with_the_name_of_their_device() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    publish(&alice, "first").await;
    alice.put(&format!("devices/{}", alice.device), json!({"display_name": "tablet"})).await.ok();
    let answer = query(&bob, &alice).await;
    let mut expected = device_keys(&alice, "first");
    expected["unsigned"] = json!({"device_display_name": "tablet"});
    assert_eq!(answer["device_keys"][&alice.id], json!({alice.device.clone(): expected}));
    let body =
        json!({"device_keys": {alice.id.clone(): ["OTHER"], bob.id.clone(): [], "@nobody:myelin.test": []}});
    let answer = bob.post("keys/query", body).await.ok();
    assert_eq!(
        answer["device_keys"],
        json!({alice.id.clone(): {}, bob.id.clone(): {}, "@nobody:myelin.test": {}})
    );
    assert_eq!(answer["failures"], json!({}));
}

#[tokio::test]
async fn keys_of_other_devices_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for (field, value) in [("user_id", "@bob:myelin.test"), ("device_id", "OTHER")] {
        let mut keys = device_keys(&alice, "x");
        keys[field] = value.into();
        alice.post("keys/upload", json!({"device_keys": keys})).await.refused(400, "M_INVALID_PARAM");
    }
    let incomplete = json!({"user_id": alice.id, "device_id": alice.device});
    alice.post("keys/upload", json!({"device_keys": incomplete})).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn keys_go_with_their_device() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    publish(&phone, "x").await;
    upload_one_time(&phone, &["a"]).await.ok();
    assert!(query(&alice, &phone).await["device_keys"][&alice.id][&phone.device].is_object());
    let body = json!({"devices": [phone.device], "auth": password_login("alice")});
    alice.post("delete_devices", body).await.ok();
    assert_eq!(query(&alice, &phone).await["device_keys"], json!({alice.id.clone(): {}}));
    assert!(claim(&alice, &phone).await.is_null());
}

#[tokio::test]
async fn one_time_keys_are_claimed_in_order_and_once() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for id in ["z", "a", "m"] {
        upload_one_time(&alice, &[id]).await.ok();
    }
    let counts = alice.post("keys/upload", json!({})).await.ok();
    assert_eq!(counts["one_time_key_counts"], json!({"signed_curve25519": 3}));
    for id in ["z", "a", "m"] {
        assert_eq!(claim(&bob, &alice).await, json!({format!("signed_curve25519:{id}"): {"key": id}}));
    }
    assert!(claim(&bob, &alice).await.is_null());
    assert_eq!(alice.sync().await.0["device_one_time_keys_count"], json!({"signed_curve25519": 0}));
}

#[tokio::test]
async fn whoever_waits_for_news_is_told_that_a_key_was_given_away() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    upload_one_time(&alice, &["a", "b"]).await.ok();
    let mut last = alice.sync().await;
    let told = async {
        while last.0["device_one_time_keys_count"]["signed_curve25519"] != 1 {
            // Longer than the test waits for any answer.
            last = alice.sync().since(&last).timeout_ms(600_000).await;
        }
    };
    let ((), claimed) = futures::join!(told, claim(&bob, &alice));
    assert!(claimed.is_object());
}

#[tokio::test]
async fn nobody_gets_a_key_that_somebody_has() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let ids: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    upload_one_time(&alice, &ids).await.ok();
    let claimed = join_all((0..20).map(|_| claim(&bob, &alice))).await;
    let names: HashSet<String> =
        claimed.iter().filter_map(|keys| keys.as_object()).flat_map(|keys| keys.keys().cloned()).collect();
    let given = claimed.iter().filter(|keys| keys.is_object()).count();
    assert_eq!(names.len(), given, "each key was given once: {claimed:?}");
}

#[tokio::test]
async fn repeated_upload_adds_nothing() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    upload_one_time(&alice, &["a", "b"]).await.ok();
    assert!(claim(&alice, &alice).await.is_object());
    // The same keys again: one is there, and the other was given away.
    let counts = upload_one_time(&alice, &["a", "b"]).await.ok();
    assert_eq!(counts["one_time_key_counts"], json!({"signed_curve25519": 1}));
    let other = |id: &str| json!({"one_time_keys": {format!("signed_curve25519:{id}"): {"key": "other"}}});
    let answers = [alice.post("keys/upload", other("a")).await, alice.post("keys/upload", other("b")).await];
    let mut statuses = answers.map(|answer| answer.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "another key under a name is refused while the first can be claimed");
}

#[tokio::test]
async fn fallback_key_is_given_when_the_others_are_gone() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let sync = alice.sync().await;
    assert_eq!(sync.0["device_unused_fallback_key_types"], json!([]));
    let key = json!({"key": "f", "fallback": true});
    let body = json!({"fallback_keys": {"signed_curve25519:f": key}});
    alice.post("keys/upload", body.clone()).await.ok();
    upload_one_time(&alice, &["a"]).await.ok();
    assert_eq!(alice.sync().await.0["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    assert_eq!(claim(&bob, &alice).await, json!({"signed_curve25519:a": {"key": "a"}}));
    for _ in 0..2 {
        assert_eq!(claim(&bob, &alice).await, json!({"signed_curve25519:f": key}));
    }
    assert_eq!(alice.sync().since(&sync).await.0["device_unused_fallback_key_types"], json!([]));
    // The same one again is still a used one, another is not.
    alice.post("keys/upload", body).await.ok();
    assert_eq!(alice.sync().await.0["device_unused_fallback_key_types"], json!([]));
    alice.post("keys/upload", json!({"fallback_keys": {"signed_curve25519:g": {"key": "g"}}})).await.ok();
    assert_eq!(alice.sync().await.0["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
}

#[tokio::test]
async fn malformed_keys_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for keys in [json!({"nocolon": "x"}), json!({"a:b": 7}), json!({":b": "x"}), json!({"a:": "x"})] {
        let answer = alice.post("keys/upload", json!({"one_time_keys": keys})).await;
        assert_eq!(answer.status, 400, "{keys}");
    }
    let two = json!({"fallback_keys": {"a:b": "x", "a:c": "y"}});
    alice.post("keys/upload", two).await.refused(400, "M_INVALID_PARAM");
    alice.get("keys/changes?from=x&to=y").await.refused(400, "M_INVALID_PARAM");
}
