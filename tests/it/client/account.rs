//! Passwords, deactivation, whoami.

use serde_json::json;

use crate::support::{PASSWORD, Server, password_login};

fn with_password(name: &str, password: &str) -> serde_json::Value {
    let mut body = password_login(name);
    body["password"] = json!(password);
    body
}

#[tokio::test]
async fn password_changes_only_for_who_knows_the_old_one() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let challenge = alice.post("account/password", json!({"new_password": "new and long enough"})).await;
    assert_eq!(challenge.status, 401);
    let mut auth = with_password("alice", "wrong");
    auth["session"] = challenge.body["session"].clone();
    let body = json!({"new_password": "new and long enough", "auth": auth});
    alice.post("account/password", body).await.refused(401, "M_FORBIDDEN");
    let mut auth = password_login("alice");
    auth["session"] = challenge.body["session"].clone();
    alice.post("account/password", json!({"new_password": "new and long enough", "auth": auth})).await.ok();
    server.anyone().post("login", password_login("alice")).await.refused(403, "M_FORBIDDEN");
    server.anyone().post("login", with_password("alice", "new and long enough")).await.ok();
}

#[tokio::test]
async fn password_change_ends_the_other_devices() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    let body = json!({"new_password": "new and long enough", "auth": password_login("alice")});
    alice.post("account/password", body).await.ok();
    phone.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    alice.get("account/whoami").await.ok();
}

#[tokio::test]
async fn password_change_keeps_the_other_devices_when_asked_to() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    let body = json!({
        "new_password": "new and long enough", "logout_devices": false, "auth": password_login("alice"),
    });
    alice.post("account/password", body).await.ok();
    phone.get("account/whoami").await.ok();
}

#[tokio::test]
async fn deactivated_user_is_gone_from_rooms_and_cannot_log_in() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let answer = bob.post("account/deactivate", json!({})).await;
    assert_eq!(answer.status, 401, "it asks for the password");
    bob.post("account/deactivate", json!({"auth": password_login("bob")})).await.ok();
    bob.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    assert_eq!(server.anyone().post("login", password_login("bob")).await.status, 403);
    assert_eq!(alice.membership_of(&room, &bob).await, "leave");
    let body = json!({"username": "bob", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    server.anyone().post("register", body).await.refused(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn no_addresses_are_bound_to_a_new_account() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    assert_eq!(alice.get("account/3pid").await.ok()["threepids"], json!([]));
}

#[tokio::test]
async fn openid_token_is_given_to_its_user_only() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("user/{}/openid/request_token", alice.id);
    let body = alice.post(&path, json!({})).await.ok();
    assert_eq!(body["matrix_server_name"], "myelin.test");
    assert!(body["access_token"].is_string() && body["expires_in"].is_u64(), "{body}");
    bob.post(&path, json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn words_of_an_erased_user_are_only_for_those_who_were_there() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let dave = server.user("dave").await;
    let room = alice.create_room().public().with("name", "The room").await;
    bob.join(&room).await;
    alice.put(&format!("profile/{}/displayname", alice.id), json!({"displayname": "Alice A."})).await.ok();
    let said = alice.send_text(&room, "my secret").await;
    let edit = json!({
        "msgtype": "m.text", "body": "* secret", "m.new_content": {"msgtype": "m.text", "body": "secret"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": said.0},
    });
    alice.send(&room, "m.room.message", edit).await;
    carol.join(&room).await;
    alice.put(&format!("user/{}/account_data/test.mine", alice.id), json!({"a": 1})).await.ok();
    alice.post("account/deactivate", json!({"auth": password_login("alice"), "erase": true})).await.ok();
    dave.join(&room).await;

    assert_eq!(bob.event(&room, &said).await.ok()["content"]["body"], "my secret");
    for reader in [&carol, &dave] {
        let event = reader.event(&room, &said).await.ok();
        assert_eq!(
            (&event["content"], &event["unsigned"]["m.relations"]),
            (&json!({}), &json!(null)),
            "{event}"
        );
        let history = reader.messages(&room, "dir=b&limit=100").await;
        let sync = reader.sync().filter(&json!({"room": {"timeline": {"limit": 100}}})).await;
        for text in [history["chunk"].to_string(), json!(sync.events(&room)).to_string()] {
            assert!(!text.contains("secret"), "{text}");
            // Carol saw her go.
            assert!(reader.id == carol.id || !text.contains("Alice A."), "{text}");
            assert!(text.contains("The room"), "what she made of the room stays: {text}");
        }
    }
    let kept = server.storage().await.get().await.expect("a connection");
    let rows = kept.query("SELECT 1 FROM account_data WHERE event_type = 'test.mine'", &[]).await;
    assert!(rows.expect("a query").is_empty(), "her account data is gone");
}
