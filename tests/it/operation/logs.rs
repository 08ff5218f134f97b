//! What stands in the log, and what must not.

use std::fs;

use serde_json::json;

use crate::support::{Server, unique};

#[tokio::test]
async fn log_never_holds_what_users_write() {
    let settings = "[log]\nlevel = 'trace'\n[registration]\nopen = true\ntoken = 'secrettoken'";
    let server = Server::start_with(settings).await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    alice.send_text(&room, "secrettext").await;
    alice.put(&format!("user/{}/account_data/x.y", alice.id), json!({"x": "secretdata"})).await.ok();
    let path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=secrettry";
    alice.get(path).await.ok();
    alice.try_send(&room, &unique(), json!({"x": "secretfield"})).await.ok();
    let log = fs::read_to_string(server.directory().join("log")).expect("it logs");
    assert!(log.contains("answered"), "our own details are logged at this level");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("secret")).collect();
    assert!(told.is_empty(), "{told:#?}");
}
