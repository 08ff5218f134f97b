//! What the server says about itself.

use crate::support::Server;

#[tokio::test]
async fn versions_are_given_to_everybody() {
    let server = Server::start().await;
    let body = server.anyone().get("/_matrix/client/versions").await.ok();
    let versions = body["versions"].as_array().expect("versions");
    assert!(versions.iter().any(|version| version == "v1.11"), "{body}");
}

#[tokio::test]
async fn capabilities_name_the_room_versions() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let body = alice.get("capabilities").await.ok();
    let versions = &body["capabilities"]["m.room_versions"];
    let available = versions["available"].as_object().expect("versions");
    for version in 1..=12 {
        assert!(available.contains_key(&version.to_string()), "{version}");
    }
    assert!(available.contains_key(versions["default"].as_str().expect("a default")));
}

#[tokio::test]
async fn every_answer_may_be_read_by_web_clients() {
    let server = Server::start().await;
    let caller = server.anyone();
    for (method, path) in [
        (reqwest::Method::OPTIONS, "createRoom"),
        (reqwest::Method::GET, "account/whoami"),
        (reqwest::Method::GET, "/_matrix/client/versions"),
        (reqwest::Method::GET, "nothing/here"),
    ] {
        let answer = caller.request(method.clone(), path).send().await.expect("an answer");
        let origin = answer.headers().get("access-control-allow-origin");
        assert_eq!(
            origin.map(reqwest::header::HeaderValue::as_bytes),
            Some(b"*".as_slice()),
            "{method} {path}"
        );
    }
}
