//! Registration, login, logout, refresh.

use serde_json::json;

use crate::support::{PASSWORD, Server, User, password_login};

#[tokio::test]
async fn registration_begins_with_the_flows_that_are_offered() {
    let server = Server::start().await;
    let body = json!({"username": "alice", "password": PASSWORD});
    let answer = server.anyone().post("register", body).await;
    assert_eq!(answer.status, 401);
    assert!(answer.body["session"].is_string());
    let flows = answer.body["flows"].as_array().expect("flows");
    assert!(flows.iter().any(|flow| flow["stages"] == json!(["m.login.dummy"])), "{flows:?}");
}

#[tokio::test]
async fn registered_user_owns_their_token() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    assert_eq!(alice.id, "@alice:myelin.test");
    let body = alice.get("account/whoami").await.ok();
    assert_eq!(body["user_id"], alice.id);
    assert_eq!(body["device_id"], alice.device);
}

#[tokio::test]
async fn registration_without_login_gives_no_token() {
    let server = Server::start().await;
    let body = json!({
        "username": "alice", "password": PASSWORD, "inhibit_login": true, "auth": {"type": "m.login.dummy"},
    });
    let answer = server.anyone().post("register", body).await.ok();
    assert!(answer["access_token"].is_null() && answer["device_id"].is_null(), "{answer}");
    server.anyone().post("login", password_login("alice")).await.ok();
}

#[tokio::test]
async fn registration_without_a_name_makes_one_up() {
    let server = Server::start().await;
    let body = json!({"password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    let first = server.anyone().post("register", body.clone()).await.ok();
    let second = server.anyone().post("register", body).await.ok();
    assert_ne!(first["user_id"], second["user_id"]);
}

#[tokio::test]
async fn name_that_is_taken_is_refused() {
    let server = Server::start().await;
    server.user("alice").await;
    server.anyone().get("register/available?username=alice").await.refused(400, "M_USER_IN_USE");
    for name in ["alice", "ALICE"] {
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        server.anyone().post("register", body).await.refused(400, "M_USER_IN_USE");
    }
    let available = server.anyone().get("register/available?username=bob").await.ok();
    assert_eq!(available["available"], true);
}

#[tokio::test]
async fn name_outside_the_grammar_is_refused() {
    let server = Server::start().await;
    for name in ["hello world", "alice:other", "käthe", "", &"x".repeat(300)] {
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        server.anyone().post("register", body).await.refused(400, "M_INVALID_USERNAME");
    }
}

#[tokio::test]
async fn two_registrations_of_one_name_at_once_make_one_user() {
    let server = Server::start().await;
    let caller = server.anyone();
    let body = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    let attempts = (0..4).map(|_| caller.post("register", body.clone()));
    let answers = futures::future::join_all(attempts).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1, "{answers:?}");
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.refused(400, "M_USER_IN_USE");
    }
}

#[tokio::test]
async fn login_offers_passwords() {
    let server = Server::start().await;
    let body = server.anyone().get("login").await.ok();
    let flows = body["flows"].as_array().expect("flows");
    assert!(flows.iter().any(|flow| flow["type"] == "m.login.password"), "{body}");
}

#[tokio::test]
async fn login_accepts_each_way_to_name_the_user() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for body in [
        json!({"type": "m.login.password", "user": "alice", "password": PASSWORD}),
        json!({"type": "m.login.password", "password": PASSWORD,
               "identifier": {"type": "m.id.user", "user": alice.id}}),
        json!({"type": "m.login.password", "password": PASSWORD, "initial_device_display_name": "phone",
               "identifier": {"type": "m.id.user", "user": "alice"}}),
    ] {
        let answer = server.anyone().post("login", body).await.ok();
        assert_eq!(answer["user_id"], alice.id);
        assert!(answer["access_token"].is_string() && answer["device_id"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn wrong_password_and_unknown_user_look_the_same() {
    let server = Server::start().await;
    server.user("alice").await;
    for name in ["alice", "nobody"] {
        let body = json!({"type": "m.login.password", "password": "wrong",
                          "identifier": {"type": "m.id.user", "user": name}});
        server.anyone().post("login", body).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn unknown_login_type_is_refused() {
    let server = Server::start().await;
    server.anyone().post("login", json!({"type": "m.login.tea_leaves"})).await.refused(400, "M_UNKNOWN");
}

#[tokio::test]
async fn login_on_a_device_replaces_its_token() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let mut body = password_login("alice");
    body["device_id"] = json!(alice.device);
    let again = User::from_answer(&alice.caller, &alice.post("login", body).await.ok());
    assert_eq!(again.device, alice.device);
    alice.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    again.get("account/whoami").await.ok();
}

#[tokio::test]
async fn logout_ends_one_device_only() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    phone.post("logout", json!({})).await.ok();
    phone.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    alice.get("account/whoami").await.ok();
}

#[tokio::test]
async fn logout_everywhere_ends_every_device() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let phone = alice.log_in_again().await;
    phone.post("logout/all", json!({})).await.ok();
    for device in [alice, phone] {
        device.get("account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    }
}

#[tokio::test]
async fn token_is_taken_from_the_query_too() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let token = alice.caller.token.as_deref().expect("a token");
    let body = server.anyone().get(&format!("account/whoami?access_token={token}")).await.ok();
    assert_eq!(body["user_id"], alice.id);
}

#[tokio::test]
async fn missing_token_differs_from_unknown_token() {
    let server = Server::start().await;
    server.anyone().get("account/whoami").await.refused(401, "M_MISSING_TOKEN");
    server.anyone().get("account/whoami?access_token=nonsense").await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn refreshed_token_replaces_the_old_one() {
    let server = Server::start().await;
    server.user("alice").await;
    let mut body = password_login("alice");
    body["refresh_token"] = json!(true);
    let login = server.anyone().post("login", body).await.ok();
    assert!(login["expires_in_ms"].is_u64(), "{login}");
    let refresh = json!({"refresh_token": login["refresh_token"]});
    let refreshed = server.anyone().post("refresh", refresh.clone()).await.ok();
    assert_ne!(refreshed["access_token"], login["access_token"]);
    let token = refreshed["access_token"].as_str().expect("a token");
    server.anyone().get(&format!("account/whoami?access_token={token}")).await.ok();
    // The new token was used, so the old refresh token is of no use any more.
    server.anyone().post("refresh", refresh).await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn restart_of_the_server_keeps_sessions() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    server.restart().await;
    let alice = server.moved(&alice);
    alice.get("account/whoami").await.ok();
}
