//! Whose database it is, and what is said when it does not work.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use myelin_storage::sole::SoleError;
use serde_json::json;
use tokio::runtime::Handle;

use crate::support::{Room, Server, database::Database, server::refusal, user::PATIENCE};

const OTHERS: &str = "
    SELECT pid, PG_TERMINATE_BACKEND(pid)
    FROM   pg_stat_activity
    WHERE  datname = CURRENT_DATABASE()
      AND  pid <> PG_BACKEND_PID()
";

/// Runs a statement that names the database itself, behind the server's back, and ends the sessions of all others.
async fn alter(server: &Server, what: &str) {
    let storage = server.storage().await;
    let client = storage.get().await.expect("the database is there");
    let statement =
        format!("DO $$ BEGIN EXECUTE FORMAT('ALTER DATABASE %I {what}', CURRENT_DATABASE()); END $$");
    client.batch_execute("SET default_transaction_read_only = off").await.expect("executed");
    client.batch_execute(&statement).await.expect("executed");
    client.query(OTHERS, &[]).await.expect("executed");
}

async fn is_taken(server: &Server) -> bool {
    let claimed = server.storage().await.claim(&Handle::current(), Duration::ZERO).await;
    matches!(claimed, Err(SoleError::Taken))
}

async fn until_health_is(server: &Server, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    while server.anyone().get("/health").await.status != status {
        assert!(Instant::now() < deadline, "the server's health does not become {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn server_of_another_name_is_refused() {
    let mut server = Server::start().await;
    server.stop();
    let said = refusal("other.test", &server.database).await;
    assert!(said.contains("myelin.test") && said.contains("other.test"), "{said}");
    server.resume().await;
}

#[tokio::test]
async fn server_of_another_name_is_refused_also_where_the_name_was_never_stored() {
    let mut server = Server::start().await;
    server.user("alice").await;
    server.stop();
    let storage = server.storage().await;
    let client = storage.get().await.expect("the database is there");
    client.batch_execute("DELETE FROM server_name").await.expect("executed");
    let said = refusal("other.test", &server.database).await;
    assert!(said.contains("belongs to the server myelin.test"), "{said}");
    server.resume().await;
}

#[tokio::test]
async fn database_of_another_encoding_is_refused() {
    let said = refusal("myelin.test", &Database::encoded("LATIN1").await).await;
    assert!(said.contains("LATIN1") && said.contains("UTF8"), "{said}");
}

#[tokio::test]
async fn server_has_its_database_for_itself_until_it_ends() {
    let mut server = Server::start().await;
    assert!(is_taken(&server).await);
    server.stop();
    assert!(!is_taken(&server).await);
    server.resume().await;
    server.crash().await;
    assert!(is_taken(&server).await);
}

#[tokio::test]
async fn health_is_not_well_while_the_database_takes_no_writes() {
    let server = Server::start().await;
    until_health_is(&server, 200).await;
    alter(&server, "SET default_transaction_read_only = on").await;
    until_health_is(&server, 503).await;
    let deadline = Instant::now() + PATIENCE;
    let log = server.directory().join("log");
    while !fs::read_to_string(&log).expect("it logs").contains("takes no writes") {
        assert!(Instant::now() < deadline, "the log does not say why");
        until_health_is(&server, 503).await;
    }
    alter(&server, "RESET default_transaction_read_only").await;
    until_health_is(&server, 200).await;
    // Its session was ended like all others.
    while !is_taken(&server).await {
        assert!(Instant::now() < deadline, "the database is not taken again");
    }
}

/// Processes that go on when this is dropped.
struct Frozen(Vec<String>);

impl Frozen {
    fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name]).args(&self.0).status().expect("there is a kill program");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}

#[tokio::test]
async fn health_is_not_well_while_the_database_does_not_answer() {
    let server = Server::start().await;
    until_health_is(&server, 200).await;
    let storage = server.storage().await;
    let client = storage.get().await.expect("the database is there");
    let others = OTHERS.replace(", PG_TERMINATE_BACKEND(pid)", "");
    let rows = client.query(&others, &[]).await.expect("asked");
    let frozen = Frozen(rows.iter().map(|row| row.get::<_, i32>(0).to_string()).collect());
    frozen.signal("STOP");
    assert_eq!(server.anyone().get("/health").await.status, 503);
    drop(frozen);
    until_health_is(&server, 200).await;
}

#[tokio::test]
async fn check_finds_nothing_wrong_with_what_the_server_wrote() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in 1..=12 {
        let body = json!({"room_version": version.to_string(), "name": "x", "invite": [bob.id]});
        let made = alice.post("createRoom", body).await.ok();
        let room = Room(made["room_id"].as_str().expect("rooms have ids").to_owned());
        bob.join(&room).await;
        let event =
            bob.send(&room, "m.room.message", json!({"msgtype": "m.text", "body": "\u{e4}\u{0}"})).await;
        alice.redact(&room, &event).await;
        bob.try_set_state(&room, "x.y", "\u{e4}", json!({})).await.refused(403, "M_FORBIDDEN");
    }
    assert_eq!(server.storage().await.fsck().await.expect("checked"), []);
}
