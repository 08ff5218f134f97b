//! Who asks too often waits.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, PASSWORD, Server, unique};

const SETTINGS: &str = "
    [rate_limits]
    messages_per_minute = 1
    messages_burst = 4
    logins_per_minute = 1
    logins_burst = 3
";

#[tokio::test]
async fn events_are_counted_whatever_they_are_sent_with() {
    let server = Server::start_with(SETTINGS).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "x"})).await;
    alice.put(&format!("rooms/{room}/redact/{event}/{}", unique()), json!({})).await.ok();
    for _ in 0..2 {
        alice.try_send(&room, "m.room.message", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        alice.try_set_state(&room, "m.room.topic", "", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
        alice.post("createRoom", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    }
    bob.create_room().await;

    let path = format!("rooms/{room}/send/m.room.message/x");
    let answer = alice.request(Method::PUT, &path).json(&json!({})).send().await.expect("an answer");
    let header = answer.headers()["retry-after"].to_str().expect("a number").to_owned();
    let body: Value = answer.json().await.expect("JSON");
    let wait_ms = body["retry_after_ms"].as_u64().expect("a number");
    assert!(header.parse::<u64>().expect("seconds") * 1000 >= wait_ms, "{header} s, {wait_ms} ms");
}

#[tokio::test]
async fn passwords_are_not_guessed_with_a_token() {
    let server = Server::start_with(SETTINGS).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let prove = |password: &str| {
        let identifier = json!({"type": "m.id.user", "user": alice.id});
        json!({"auth": {"type": "m.login.password", "identifier": identifier, "password": password}})
    };
    let delete = |body: Value| {
        let request = alice.request(Method::DELETE, &format!("devices/{}", alice.device));
        Answer::to(request.json(&body))
    };
    for _ in 0..3 {
        delete(prove("a guess")).await.refused(401, "M_FORBIDDEN");
    }
    delete(prove(PASSWORD)).await.refused(429, "M_LIMIT_EXCEEDED");
    alice.post("account/deactivate", prove(PASSWORD)).await.refused(429, "M_LIMIT_EXCEEDED");
    // To be told what has to be proved costs nothing, and others have guesses of their own.
    assert_eq!(delete(json!({})).await.status, 401);
    let identifier = json!({"type": "m.id.user", "user": bob.id});
    let auth = json!({"type": "m.login.password", "identifier": identifier, "password": PASSWORD});
    bob.post("account/deactivate", json!({"auth": auth})).await.ok();
}
