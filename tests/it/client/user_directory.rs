//! Finding people.

use serde_json::{Value, json};

use crate::support::{Server, User};

async fn search(user: &User, term: &str) -> Vec<String> {
    let body = user.post("user_directory/search", json!({"search_term": term})).await.ok();
    let results = body["results"].as_array().expect("there is a list");
    results.iter().filter_map(|found| found["user_id"].as_str()).map(str::to_owned).collect()
}

#[tokio::test]
async fn people_in_public_rooms_are_found_by_name_and_id() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("profile/{}/displayname", alice.id);
    alice.put(&path, json!({"displayname": "Wonderland 100%"})).await.ok();
    assert_eq!(search(&bob, "wonder").await, Vec::<String>::new());
    alice.create_room().public().await;
    assert_eq!(search(&bob, "wonder").await, [alice.id.as_str()]);
    assert_eq!(search(&bob, "100%").await, [alice.id.as_str()]);
    assert_eq!(search(&bob, "lice").await, [alice.id.as_str()]);
    assert_eq!(search(&bob, "1%0").await, Vec::<String>::new());
}

#[tokio::test]
async fn people_in_private_rooms_are_found_by_those_who_share_them() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.user("carol").await;
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    assert_eq!(search(&bob, "alice").await, [alice.id.as_str()]);
    assert_eq!(search(&carol, "alice").await, Vec::<String>::new());
    assert_eq!(search(&alice, "alice").await, Vec::<String>::new());
}

#[tokio::test]
async fn answer_says_whether_there_are_more() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for name in ["bob1", "bob2", "bob3"] {
        server.user(name).await.create_room().public().await;
    }
    let answer: Value =
        alice.post("user_directory/search", json!({"search_term": "bob", "limit": 2})).await.ok();
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(answer["limited"], true);
}
