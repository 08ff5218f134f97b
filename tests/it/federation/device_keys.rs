//! Keys of users of another server: asked for, claimed, and told to servers that ask.

use reqwest::Method;
use serde_json::json;

use crate::{
    client::keys::{claim, device_keys, publish, query, upload_one_time},
    support::{encode, federation},
};

#[tokio::test]
async fn keys_of_another_servers_users_are_found() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    publish(&alice, "x").await;
    alice.put(&format!("devices/{}", alice.device), json!({"display_name": "secret"})).await.ok();
    let answer = query(&bob, &alice).await;
    let mut expected = device_keys(&alice, "x");
    expected["unsigned"] = json!({});
    assert_eq!(answer["device_keys"], json!({alice.id.clone(): {alice.device.clone(): expected}}));
    assert_eq!(answer["failures"], json!({}));
    let nobody = format!("@nobody:{}", a.name);
    let answer = bob.post("keys/query", json!({"device_keys": {nobody.clone(): []}})).await.ok();
    assert_eq!((&answer["device_keys"], &answer["failures"]), (&json!({nobody: {}}), &json!({})));
}

#[tokio::test]
async fn keys_are_claimed_once_from_any_server() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    upload_one_time(&alice, &["one", "two"]).await.ok();
    let first = claim(&bob, &alice).await;
    let second = claim(&alice, &alice).await;
    assert!(first.is_object() && second.is_object() && first != second, "{first} {second}");
    assert!(claim(&bob, &alice).await.is_null());
    assert_eq!(alice.sync().await.0["device_one_time_keys_count"], json!({"signed_curve25519": 0}));
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let server = federation::start("127.0.0.2", "").await;
    let alice = server.user("alice").await;
    let gone = format!("127.0.0.9:{}", federation::free_port("127.0.0.9"));
    let user = format!("@bob:{gone}");
    let body = json!({"device_keys": {user.clone(): [], alice.id.clone(): []}, "timeout": 5000});
    let answer = alice.post("keys/query", body).await.ok();
    assert!(answer["failures"][&gone].is_object(), "{answer}");
    assert_eq!(answer["device_keys"], json!({alice.id.clone(): {}}));
    let body = json!({"one_time_keys": {user: {"D": "signed_curve25519"}}});
    assert!(alice.post("keys/claim", body).await.ok()["failures"][&gone].is_object());
}

#[tokio::test]
async fn other_servers_are_told_of_our_users_only() {
    let (a, b) = federation::pair().await;
    let alice = a.user("alice").await;
    publish(&alice, "x").await;
    let ask = async |method: Method, path: &str, body| {
        federation::signed(&a, &federation::signer(&b), method, path, body).await
    };
    let list =
        ask(Method::GET, &format!("/_matrix/federation/v1/user/devices/{}", encode(&alice.id)), json!(null))
            .await
            .ok();
    assert_eq!(list["user_id"], alice.id);
    assert!(list["stream_id"].as_u64().is_some_and(|stream_id| stream_id > 0));
    assert_eq!(list["devices"][0]["device_id"], alice.device);
    assert_eq!(list["devices"][0]["keys"]["user_id"], alice.id);
    let other = format!("@bob:{}", b.name);
    ask(Method::GET, &format!("/_matrix/federation/v1/user/devices/{}", encode(&other)), json!(null))
        .await
        .refused(404, "M_NOT_FOUND");
    let body = json!({"device_keys": {other.clone(): [], alice.id.clone(): []}});
    let answer = ask(Method::POST, "/_matrix/federation/v1/user/keys/query", body).await.ok();
    assert_eq!(answer["device_keys"].as_object().map(serde_json::Map::len), Some(1));
    let body = json!({"one_time_keys": {other: {"D": "signed_curve25519"}}});
    let answer = ask(Method::POST, "/_matrix/federation/v1/user/keys/claim", body).await.ok();
    assert_eq!(answer, json!({"one_time_keys": {}}));
}
