//! Aliases and the list of public rooms.

use serde_json::{Value, json};

use crate::support::{Server, encode};

#[tokio::test]
async fn alias_is_made_resolved_and_removed() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    let path = format!("directory/room/{}", encode("#tea:myelin.test"));
    server.anyone().get(&path).await.refused(404, "M_NOT_FOUND");
    alice.put(&path, json!({"room_id": room.0})).await.ok();
    let body = server.anyone().get(&path).await.ok();
    assert_eq!(body["room_id"], room.0);
    assert_eq!(body["servers"], json!(["myelin.test"]));
    let aliases = alice.get(&format!("rooms/{room}/aliases")).await.ok();
    assert_eq!(aliases["aliases"], json!(["#tea:myelin.test"]));
    alice.put(&path, json!({"room_id": room.0})).await.refused(409, "M_UNKNOWN");
    bob.delete(&path).await.refused(403, "M_FORBIDDEN");
    alice.delete(&path).await.ok();
    server.anyone().get(&path).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn aliases_of_a_private_room_are_for_its_members() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().with("room_alias_name", "tea").await;
    bob.get(&format!("rooms/{room}/aliases")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn aliases_of_other_servers_and_broken_ones_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    for alias in ["#tea:other.test", "tea", "#:myelin.test#"] {
        let path = format!("directory/room/{}", encode(alias));
        let answer = alice.put(&path, json!({"room_id": room.0})).await;
        assert_eq!(answer.status, 400, "{alias}: {answer:?}");
    }
}

#[tokio::test]
async fn deleted_alias_is_taken_out_of_the_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("room_alias_name", "tea").await;
    alice.delete(&format!("directory/room/{}", encode("#tea:myelin.test"))).await.ok();
    let content = alice.state(&room, "m.room.canonical_alias", "").await;
    assert!(content["alias"].is_null(), "{content}");
}

#[tokio::test]
async fn public_room_is_listed_with_what_it_is() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice
        .create_room()
        .with("visibility", "public")
        .with("name", "Tea")
        .with("topic", "Milk first?")
        .with("room_alias_name", "tea")
        .await;
    alice.create_room().with("name", "Secret").await;
    bob.join(&room).await;
    let body = bob.get("publicRooms").await.ok();
    let chunk = body["chunk"].as_array().expect("a chunk");
    assert_eq!(chunk.len(), 1, "{body}");
    for (field, value) in [
        ("room_id", json!(room.0)),
        ("name", json!("Tea")),
        ("topic", json!("Milk first?")),
        ("canonical_alias", json!("#tea:myelin.test")),
        ("num_joined_members", json!(2)),
        ("world_readable", json!(false)),
        ("guest_can_join", json!(false)),
    ] {
        assert_eq!(chunk[0][field], value, "{field}");
    }
    // Where it is absent, the rule is `public`.
    assert!(chunk[0].get("join_rule").is_none_or(|rule| rule == "public"));
}

#[tokio::test]
async fn visibility_is_changed_by_who_may() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let path = format!("directory/list/room/{room}");
    assert_eq!(alice.get(&path).await.ok()["visibility"], "private");
    bob.put(&path, json!({"visibility": "public"})).await.refused(403, "M_FORBIDDEN");
    alice.put(&path, json!({"visibility": "public"})).await.ok();
    assert_eq!(alice.get(&path).await.ok()["visibility"], "public");
    assert_eq!(alice.get("publicRooms").await.ok()["chunk"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn list_is_searched_and_paged() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for name in ["Green tea", "Black tea", "Coffee", "Herbal tea"] {
        alice.create_room().with("visibility", "public").with("name", name).await;
    }
    let body = alice.post("publicRooms", json!({"filter": {"generic_search_term": "TEA"}})).await.ok();
    assert_eq!(body["chunk"].as_array().map(Vec::len), Some(3), "{body}");
    let (mut seen, mut since): (Vec<String>, Option<Value>) = (Vec::new(), None);
    loop {
        let mut request = json!({"limit": 3});
        if let Some(since) = since {
            request["since"] = since;
        }
        let page = alice.post("publicRooms", request).await.ok();
        let chunk = page["chunk"].as_array().expect("a chunk");
        seen.extend(chunk.iter().map(|room| room["name"].as_str().expect("a name").to_owned()));
        since = Some(page["next_batch"].clone()).filter(|token| !token.is_null());
        if since.is_none() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["Black tea", "Coffee", "Green tea", "Herbal tea"]);
}

#[tokio::test]
async fn users_are_found_in_shared_and_public_rooms() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let find = |term: &str| json!({"search_term": term});
    let body = alice.post("user_directory/search", find("bob")).await.ok();
    assert_eq!(body["results"][0]["user_id"], bob.id, "{body}");
    assert_eq!(carol.post("user_directory/search", find("bob")).await.ok()["results"], json!([]));
}
