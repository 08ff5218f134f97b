//! User-interactive authentication: what a proof is good for.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, User, password_login};

fn auth(user: &User, session: &Value) -> Value {
    let mut auth = password_login(user.localpart());
    auth["session"] = session.clone();
    auth
}

#[tokio::test]
async fn challenge_names_the_flows_and_a_session() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let challenge = alice.post("delete_devices", json!({"devices": ["A"]})).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{"stages": ["m.login.password"]}]));
    assert_eq!(challenge.body["completed"], json!([]));
    assert_eq!(challenge.body["params"], json!({}));
    assert!(challenge.body["session"].is_string());
}

#[tokio::test]
async fn session_is_good_for_its_own_operation_and_user_only() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let challenge = alice.post("delete_devices", json!({"devices": ["A"]})).await;
    let session = &challenge.body["session"];
    let body = json!({"auth": auth(&alice, session)});
    alice.post("account/deactivate", body).await.refused(403, "M_FORBIDDEN");
    let body = json!({"devices": ["A"], "auth": auth(&bob, session)});
    bob.post("delete_devices", body.clone()).await.refused(403, "M_FORBIDDEN");
    alice.post("delete_devices", body).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn session_ends_with_its_operation() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let challenge = alice.post("delete_devices", json!({"devices": ["A"]})).await;
    let body = json!({"devices": ["A"], "auth": auth(&alice, &challenge.body["session"])});
    alice.post("delete_devices", body).await.ok();
    let again = json!({"devices": ["A"], "auth": {"session": challenge.body["session"]}});
    assert_eq!(alice.post("delete_devices", again).await.status, 401);
}

#[tokio::test]
async fn stage_can_be_passed_on_its_page() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let challenge = alice.post("delete_devices", json!({"devices": ["A"]})).await;
    let session = challenge.body["session"].as_str().expect("a session");
    let page = format!("auth/m.login.password/fallback/web?session={session}");
    let post = |form: String| {
        let request = server.anyone().request(Method::POST, &page);
        request.header("content-type", "application/x-www-form-urlencoded").body(form).send()
    };
    let wrong = post("answer=wrong".to_owned()).await.expect("an answer").text().await.expect("a page");
    assert!(wrong.contains("<form"), "{wrong}");
    let right = post(format!("answer={}", crate::support::PASSWORD.replace(' ', "+")));
    let right = right.await.expect("an answer").text().await.expect("a page");
    assert!(right.contains("onAuthDone"), "{right}");
    alice.post("delete_devices", json!({"devices": ["A"], "auth": {"session": session}})).await.ok();
}

#[tokio::test]
async fn login_token_is_given_for_a_password_and_used_once() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = "/_matrix/client/v1/login/get_token";
    assert_eq!(alice.post(path, json!({})).await.status, 401);
    let answer = alice.post(path, json!({"auth": password_login("alice")})).await.ok();
    let login = json!({"type": "m.login.token", "token": answer["login_token"]});
    assert_eq!(server.anyone().post("login", login.clone()).await.ok()["user_id"], alice.id);
    server.anyone().post("login", login).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn password_may_come_with_a_user_as_it_once_did() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body = |user: &str| {
        let auth = json!({"type": "m.login.password", "user": user, "password": crate::support::PASSWORD});
        json!({"devices": ["A"], "auth": auth})
    };
    alice.post("delete_devices", body(&alice.id)).await.ok();
    alice.post("delete_devices", body("alice")).await.ok();
    alice.post("delete_devices", body(&bob.id)).await.refused(403, "M_FORBIDDEN");
}
