//! Connections that are reset while their request is being carried out.
//!
//! What such a request is to change is held up by a lock on the journal's row, which the test has while the client
//! goes away.

use std::time::Instant;

use myelin_storage::Client;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::spawn_blocking};

use crate::support::{Answer, Server, User, encode, user::PATIENCE};

/// How many sessions of this database wait for a lock.
const HELD_UP: &str = "
    SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
";

/// The journal's row, locked.
struct HeldUp {
    holder: Client,
    observer: Client,
}

impl HeldUp {
    async fn begin(server: &Server) -> Self {
        let storage = server.storage().await;
        let (holder, observer) = (storage.get().await, storage.get().await);
        let (holder, observer) = (holder.expect("a connection"), observer.expect("another"));
        holder.batch_execute("BEGIN; SELECT * FROM journal FOR UPDATE").await.expect("the journal is there");
        Self { holder, observer }
    }

    /// Sends the request, and resets the connection when the journal waits.
    async fn reset(&self, user: &User, path: &str, body: &Value) {
        let connection = send(user, path, body).await;
        let start = Instant::now();
        while self.observer.query_one(HELD_UP, &[]).await.expect("counted").get::<_, i64>(0) == 0 {
            assert!(start.elapsed() < PATIENCE, "the request does not reach the journal");
        }
        connection.set_zero_linger().expect("it is connected");
        drop(connection);
        // The one worker answers after it has seen that the connection is gone.
        user.get("/_matrix/client/versions").await.ok();
    }

    async fn end(self) {
        self.holder.batch_execute("ROLLBACK").await.expect("the lock is let go");
    }
}

async fn send(user: &User, path: &str, body: &Value) -> TcpStream {
    let request = user.request(Method::POST, path).build().expect("tests make whole requests");
    let address = request.url().socket_addrs(|| None).expect("an address")[0];
    let token = request.headers()["authorization"].to_str().expect("it is ASCII").to_owned();
    let body = body.to_string();
    let mut connection = TcpStream::connect(address).await.expect("the server listens");
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\ncontent-length: {}\r\n\r\n{body}",
        request.url().path(),
        body.len()
    );
    connection.write_all(head.as_bytes()).await.expect("the server reads");
    connection
}

/// Asks until the answer is as it should be.
async fn ask_until(user: &User, path: &str, is_right: impl Fn(&Answer) -> bool) -> Answer {
    let start = Instant::now();
    loop {
        let answer = user.get(path).await;
        if is_right(&answer) {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{path} stays {} {}", answer.status, answer.body);
    }
}

#[tokio::test]
async fn logout_ends_the_session_though_its_connection_was_reset() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    alice.get("account/whoami").await.ok();
    let held_up = HeldUp::begin(&server).await;
    held_up.reset(&alice, "logout", &json!({})).await;
    held_up.end().await;
    let answer = ask_until(&alice, "account/whoami", |answer| answer.status != 200).await;
    answer.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn room_is_made_whole_though_its_connection_was_reset() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let held_up = HeldUp::begin(&server).await;
    let body = json!({"room_alias_name": "tea", "name": "Tea", "visibility": "public"});
    held_up.reset(&alice, "createRoom", &body).await;
    held_up.end().await;
    let alias = format!("directory/room/{}", encode("#tea:myelin.test"));
    let room = ask_until(&alice, &alias, |answer| answer.status == 200).await.ok();
    let room = encode(room["room_id"].as_str().expect("a room"));
    let listed = format!("directory/list/room/{room}");
    ask_until(&alice, &listed, |answer| answer.body["visibility"] == "public").await;
    assert_eq!(alice.get(&format!("rooms/{room}/state/m.room.name")).await.ok()["name"], "Tea");
}

#[tokio::test]
async fn server_finishes_before_it_ends_what_nobody_listens_to() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let held_up = HeldUp::begin(&server).await;
    held_up.reset(&alice, "createRoom", &json!({"room_alias_name": "tea"})).await;
    let stopping = spawn_blocking(move || {
        server.stop();
        server
    });
    ending(&alice).await;
    held_up.end().await;
    let mut server = stopping.await.expect("it ends");
    server.resume().await;
    server.moved(&alice).get(&format!("directory/room/{}", encode("#tea:myelin.test"))).await.ok();
}

/// Waits until the server is about to end: then it keeps no connection.
async fn ending(user: &User) {
    let ask = async || user.request(Method::GET, "/_matrix/client/versions").send().await;
    while ask().await.is_ok_and(|answer| !answer.headers().contains_key("connection")) {}
}
