//! The list of a user's devices.

use serde_json::json;

use crate::support::{Server, password_login};

#[tokio::test]
async fn each_login_is_a_device() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    let body = alice.get("devices").await.ok();
    let mut ids: Vec<&str> = body["devices"]
        .as_array()
        .expect("devices")
        .iter()
        .map(|device| device["device_id"].as_str().expect("an id"))
        .collect();
    ids.sort_unstable();
    let mut expected = [alice.device.as_str(), phone.device.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn device_can_be_renamed() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = format!("devices/{}", alice.device);
    alice.put(&path, json!({"display_name": "kitchen tablet"})).await.ok();
    assert_eq!(alice.get(&path).await.ok()["display_name"], "kitchen tablet");
    // A body without a name changes nothing.
    alice.put(&path, json!({})).await.ok();
    assert_eq!(alice.get(&path).await.ok()["display_name"], "kitchen tablet");
}

#[tokio::test]
async fn devices_of_others_and_unknown_ones_are_not_found() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    bob.get(&format!("devices/{}", alice.device)).await.refused(404, "M_NOT_FOUND");
    let body = json!({"display_name": "mine now"});
    bob.put(&format!("devices/{}", alice.device), body).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn device_is_deleted_only_after_the_password() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    let path = format!("devices/{}", phone.device);
    let challenge = alice.delete(&path).await;
    assert_eq!(challenge.status, 401);
    phone.get("account/whoami").await.ok();
    let mut auth = password_login("alice");
    auth["session"] = challenge.body["session"].clone();
    let request = alice.request(reqwest::Method::DELETE, &path).json(&json!({"auth": auth}));
    crate::support::Answer::to(request).await.ok();
    phone.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn several_devices_are_deleted_at_once() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (phone, tablet) = (alice.log_in_again().await, alice.log_in_again().await);
    let body = json!({"devices": [phone.device, tablet.device], "auth": password_login("alice")});
    alice.post("delete_devices", body).await.ok();
    for device in [phone, tablet] {
        device.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    }
    assert_eq!(alice.get("devices").await.ok()["devices"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn proof_for_one_device_does_not_delete_another() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (phone, tablet) = (alice.log_in_again().await, alice.log_in_again().await);
    let challenge = alice.delete(&format!("devices/{}", phone.device)).await;
    let mut auth = password_login("alice");
    auth["session"] = challenge.body["session"].clone();
    let path = format!("devices/{}", tablet.device);
    let request = alice.request(reqwest::Method::DELETE, &path).json(&json!({"auth": auth}));
    assert_ne!(crate::support::Answer::to(request).await.status, 200);
    tablet.get("account/whoami").await.ok();
}

#[tokio::test]
async fn devices_say_when_and_where_they_were_seen() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for path in ["devices".to_owned(), format!("devices/{}", alice.device)] {
        let body = alice.get(&path).await.ok();
        let device = body["devices"].get(0).unwrap_or(&body);
        assert_eq!(device["last_seen_ip"], "127.0.0.1", "{device}");
        assert!(device["last_seen_ts"].as_u64().is_some_and(|ts| ts > 0), "{device}");
    }
}
