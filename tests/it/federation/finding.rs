//! What users learn of other servers without being in their rooms: directories, profiles, spaces.

use serde_json::json;

use crate::support::{encode, federation};

#[tokio::test]
async fn public_rooms_of_another_server_are_listed() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    for name in ["Tea", "Coffee", "Water"] {
        alice.create_room().public().with("visibility", "public").with("name", name).await;
    }
    let path = format!("publicRooms?server={}", encode(&a.name));
    let all = bob.get(&path).await.ok();
    assert_eq!(all["chunk"].as_array().map(Vec::len), Some(3), "{all}");
    let search = json!({"filter": {"generic_search_term": "Coff"}, "limit": 1});
    let found = bob.post(&path, search).await.ok();
    assert_eq!(found["chunk"][0]["name"], "Coffee", "{found}");
    let page = bob.get(&format!("{path}&limit=2")).await.ok();
    let next = page["next_batch"].as_str().expect("there is more");
    let rest = bob.get(&format!("{path}&limit=2&since={}", encode(next))).await.ok();
    assert_eq!(rest["chunk"].as_array().map(Vec::len), Some(1), "{rest}");
    let nowhere = format!("publicRooms?server={}", encode("127.0.0.9:1"));
    bob.get(&nowhere).await.refused(502, "M_UNKNOWN");
}

#[tokio::test]
async fn profiles_of_other_servers_users_are_shown() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let path = format!("profile/{}", encode(&alice.id));
    alice.put(&format!("{path}/displayname"), json!({"displayname": "Alice A."})).await.ok();
    assert_eq!(bob.get(&path).await.ok()["displayname"], "Alice A.");
    let field = bob.get(&format!("{path}/displayname")).await.ok();
    assert_eq!(field, json!({"displayname": "Alice A."}));
    let nobody = format!("profile/{}", encode(&format!("@nobody:{}", a.name)));
    bob.get(&nobody).await.refused(404, "M_NOT_FOUND");
}
