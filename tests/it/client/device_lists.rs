//! Who is told of whose devices, in `/sync` and by `/keys/changes`.

use serde_json::{Value, json};

use super::keys::publish;
use crate::support::{Server, Sync, User, encode, password_login};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().map_or(Vec::new(), |users| users.iter().filter_map(Value::as_str).collect())
}

fn changed<'s>(sync: &'s Sync, user: &User) -> bool {
    let list: Vec<&'s str> = names(&sync.0["device_lists"]["changed"]);
    list.contains(&user.id.as_str())
}

fn left(sync: &Sync, user: &User) -> bool {
    names(&sync.0["device_lists"]["left"]).contains(&user.id.as_str())
}

/// `/keys/changes` between two answers: those changed and those who left.
async fn changes(user: &User, from: &Sync, to: &Sync) -> Value {
    let (from, to) = (encode(from.next_batch()), encode(to.next_batch()));
    user.get(&format!("keys/changes?from={from}&to={to}")).await.ok()
}

#[tokio::test]
async fn those_who_share_a_room_hear_of_new_keys() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let (of_bob, of_carol, of_alice) = (bob.sync().await, carol.sync().await, alice.sync().await);
    assert!(of_bob.0["device_lists"].is_null(), "an initial sync has none");
    publish(&alice, "first").await;
    let sync = bob.sync_until(&of_bob, |sync| changed(sync, &alice)).await;
    assert!(!changed(&sync, &bob));
    assert_eq!(names(&changes(&bob, &of_bob, &sync).await["changed"]), [&alice.id]);
    assert!(changed(&alice.sync().since(&of_alice).await, &alice), "the user's own devices hear of it");
    assert!(carol.sync().since(&of_carol).await.0["device_lists"].is_null());
    publish(&alice, "first").await;
    assert!(bob.sync().since(&sync).await.0["device_lists"].is_null(), "the same keys are no news");
}

#[tokio::test]
async fn devices_that_come_go_or_get_a_name_are_news() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let before = bob.sync().await;
    let phone = alice.log_in_again().await;
    let sync = bob.sync_until(&before, |sync| changed(sync, &alice)).await;
    phone.put(&format!("devices/{}", phone.device), json!({"display_name": "x"})).await.ok();
    let sync = bob.sync_until(&sync, |sync| changed(sync, &alice)).await;
    let body = json!({"devices": [phone.device], "auth": password_login("alice")});
    alice.post("delete_devices", body).await.ok();
    bob.sync_until(&sync, |sync| changed(sync, &alice)).await;
}

#[tokio::test]
async fn those_who_come_and_go_are_news() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    let (of_alice, of_bob) = (alice.sync().await, bob.sync().await);
    bob.join(&room).await;
    let in_room = alice.sync_until(&of_alice, |sync| changed(sync, &bob)).await;
    let bob_in_room = bob.sync_until(&of_bob, |sync| changed(sync, &alice)).await;
    assert_eq!(names(&changes(&alice, &of_alice, &in_room).await["changed"]), [&bob.id]);
    // A new name is no news.
    bob.put(&format!("profile/{}/displayname", bob.id), json!({"displayname": "Robert"})).await.ok();
    let named = alice.sync_until(&in_room, |sync| sync.mentions(&room)).await;
    assert!(named.0["device_lists"].is_null(), "{}", named.0["device_lists"]);
    bob.leave(&room).await;
    let gone = alice.sync_until(&named, |sync| left(sync, &bob)).await;
    assert_eq!(gone.0["device_lists"], json!({"left": [bob.id]}), "an empty list is left out");
    assert_eq!(names(&changes(&alice, &in_room, &gone).await["left"]), [&bob.id]);
    bob.sync_until(&bob_in_room, |sync| left(sync, &alice)).await;
}

#[tokio::test]
async fn who_is_in_another_room_too_has_not_left() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (first, second) = (alice.create_room().public().await, alice.create_room().public().await);
    bob.join(&first).await;
    bob.join(&second).await;
    let before = alice.sync().await;
    bob.leave(&first).await;
    let sync = alice.sync_until(&before, |sync| sync.mentions(&first)).await;
    assert!(!left(&sync, &bob));
}

#[tokio::test]
async fn members_are_found_after_a_long_absence_and_a_restart() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    let before = alice.sync().await;
    bob.join(&room).await;
    publish(&bob, "x").await;
    for number in 0..120 {
        alice.send_text(&room, &number.to_string()).await;
    }
    server.restart().await;
    let alice = server.moved(&alice);
    assert!(changed(&alice.sync().since(&before).await, &bob));
}
