//! Bodies: those that never come do not hold anything for ever, and those of answers come whole.

use std::fs;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Server, user::PATIENCE};

const SETTINGS: &str = "[limits]\nbody_seconds = 1";

/// The answer to a request of which only the first byte of the body is sent. The connection is closed after it.
async fn answer_to_half(server: &Server, head: &str) -> String {
    let caller = server.anyone();
    let address = caller.base_url.strip_prefix("http://").expect("tests speak plain HTTP");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{head}\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{{");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("it ends").expect("it is text");
    answer
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let server = Server::start_with(SETTINGS).await;
    let answer = answer_to_half(&server, "POST /_matrix/client/v3/login HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("M_UNKNOWN"), "{answer}");
}

#[tokio::test]
async fn half_an_upload_is_not_waited_for_and_leaves_nothing() {
    let server = Server::start_with(SETTINGS).await;
    let alice = server.user("alice").await;
    let token = alice.caller.token.as_deref().expect("she is logged in");
    let head = format!("POST /_matrix/media/v3/upload HTTP/1.1\r\nauthorization: Bearer {token}");
    let answer = answer_to_half(&server, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let incoming = server.directory().join("media/incoming");
    assert_eq!(fs::read_dir(incoming).expect("it is there").count(), 0);
}

#[tokio::test]
async fn server_asks_for_as_many_open_files_as_it_may_have() {
    let server = Server::start().await;
    let limits = server.in_proc("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("Linux says so");
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

#[tokio::test]
async fn answers_of_every_size_arrive_whole() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = format!("user/{}/account_data/test.note", alice.id);
    for size in [1, 3_000, 3_072, 10_000, 131_072, 300_000, 900_000] {
        let note = json!({ "note": "x".repeat(size) });
        alice.put(&path, note.clone()).await.ok();
        assert!(alice.get(&path).await.ok() == note, "{size} bytes came differently");
    }
}
