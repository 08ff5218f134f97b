//! Ways to an account: tokens, guests who stay, and scripts.

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::support::{PASSWORD, Server, User, password_login};

#[tokio::test]
async fn registration_token_is_needed_where_it_is_configured() {
    let server = Server::start_with("[registration]\ntoken = 'let me in'").await;
    let anyone = server.anyone();
    let validity = |token: &str| {
        format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}")
    };
    assert_eq!(anyone.get(&validity("let%20me%20in")).await.ok(), json!({"valid": true}));
    assert_eq!(anyone.get(&validity("please")).await.ok(), json!({"valid": false}));

    let register = |auth: Value| {
        let body = json!({"username": "alice", "password": PASSWORD, "auth": auth});
        async { server.anyone().post("register", body).await }
    };
    let dummy = register(json!({"type": "m.login.dummy"})).await;
    assert_eq!(dummy.status, 401);
    assert_eq!(dummy.body["flows"], json!([{"stages": ["m.login.registration_token"]}]));
    let wrong = register(json!({"type": "m.login.registration_token", "token": "please"})).await;
    wrong.refused(401, "M_UNAUTHORIZED");
    register(json!({"type": "m.login.registration_token", "token": "let me in"})).await.ok();
}

#[tokio::test]
async fn nobody_registers_where_that_is_off() {
    let server = Server::start_with("[registration]\nenabled = false").await;
    let body = json!({"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
    server.anyone().post("register", body).await.refused(403, "M_FORBIDDEN");
    server.anyone().post("register?kind=guest", json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn lost_answer_to_a_registration_can_be_asked_for_again() {
    let server = Server::start().await;
    let anyone = server.anyone();
    let challenge = anyone.post("register", json!({"username": "alice", "password": PASSWORD})).await;
    let auth = json!({"type": "m.login.dummy", "session": challenge.body["session"]});
    let body = json!({"username": "alice", "password": PASSWORD, "auth": auth});
    let first = anyone.post("register", body.clone()).await.ok();
    let second = anyone.post("register", body.clone()).await.ok();
    assert_eq!(first["user_id"], second["user_id"]);
    User::from_answer(&anyone, &second).get("account/whoami").await.ok();
    // Whoever changes the request does not get in by the session.
    let mut other = body;
    other["password"] = json!("another one");
    anyone.post("register", other).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn guest_becomes_a_user_and_keeps_the_name() {
    let server = Server::start().await;
    let anyone = server.anyone();
    let guest = User::from_answer(&anyone, &anyone.post("register?kind=guest", json!({})).await.ok());
    let upgrade = |username: &str, token: &Option<String>| {
        let auth = json!({"type": "m.login.dummy"});
        let body = json!({
            "username": username, "password": PASSWORD, "guest_access_token": token, "auth": auth,
        });
        async { server.anyone().post("register", body).await }
    };
    upgrade("mallory", &guest.caller.token).await.refused(403, "M_FORBIDDEN");
    let user = User::from_answer(&anyone, &upgrade(guest.localpart(), &guest.caller.token).await.ok());
    assert_eq!(user.id, guest.id);
    assert_eq!(user.get("account/whoami").await.ok()["is_guest"], json!(null));
    anyone.post("login", password_login(guest.localpart())).await.ok();
    // A user is no guest, and nobody takes the account over with its token.
    upgrade(guest.localpart(), &user.caller.token).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn script_that_knows_the_secret_makes_an_account_with_each_nonce() {
    let server = Server::start_with("[registration]\nshared_secret = 'reg_secret'").await;
    let path = "/_synapse/admin/v1/register";
    let nonce = server.anyone().get(path).await.ok()["nonce"].as_str().expect("a nonce").to_owned();
    let body = |secret: &[u8], nonce: &str| {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("any key");
        mac.update(format!("{nonce}\0Alice\0{PASSWORD}\0notadmin").as_bytes());
        let mac: Vec<String> = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"nonce": nonce, "username": "Alice", "password": PASSWORD, "mac": mac.concat()})
    };
    server.anyone().post(path, body(b"wrong", &nonce)).await.refused(403, "M_FORBIDDEN");
    // A nonce is used up, right or wrong.
    server.anyone().post(path, body(b"reg_secret", &nonce)).await.refused(400, "M_UNKNOWN");
    let nonce = server.anyone().get(path).await.ok()["nonce"].as_str().expect("a nonce").to_owned();
    let answer = server.anyone().post(path, body(b"reg_secret", &nonce)).await.ok();
    assert_eq!(answer["user_id"], "@alice:myelin.test");
    User::from_answer(&server.anyone(), &answer).get("account/whoami").await.ok();
}

#[tokio::test]
async fn without_a_secret_scripts_make_no_accounts() {
    let server = Server::start().await;
    server.anyone().get("/_synapse/admin/v1/register").await.refused(400, "M_UNKNOWN");
}
