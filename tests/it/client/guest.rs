//! Guests.

use serde_json::json;

use crate::support::{Server, User};

pub async fn guest(server: &Server) -> User {
    let caller = server.anyone();
    User::from_answer(&caller, &caller.post("register?kind=guest", json!({})).await.ok())
}

#[tokio::test]
async fn guest_joins_only_where_guests_may() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let guest = guest(&server).await;
    assert_eq!(guest.get("account/whoami").await.ok()["is_guest"], true);
    let closed = alice.create_room().public().await;
    guest.post(&format!("rooms/{closed}/join"), json!({})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let open =
        alice.create_room().public().state("m.room.guest_access", json!({"guest_access": "can_join"})).await;
    guest.join(&open).await;
    guest.send_text(&open, "hello").await;
}

#[tokio::test]
async fn guest_may_not_make_rooms() {
    let server = Server::start().await;
    let guest = guest(&server).await;
    let answer = guest.post("createRoom", json!({})).await;
    assert_eq!((answer.status, &answer.body["errcode"]), (403, &json!("M_GUEST_ACCESS_FORBIDDEN")));
}

#[tokio::test]
async fn guest_is_kicked_when_guests_are_not_welcome_any_more() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let guest = guest(&server).await;
    let room =
        alice.create_room().public().state("m.room.guest_access", json!({"guest_access": "can_join"})).await;
    guest.join(&room).await;
    let before = alice.sync().await;
    alice.set_state(&room, "m.room.guest_access", "", json!({"guest_access": "forbidden"})).await;
    let is_leave = |event: &serde_json::Value| {
        event["state_key"] == guest.id && event["content"]["membership"] == "leave"
    };
    alice.sync_until(&before, |sync| sync.events(&room).iter().any(is_leave)).await;
}
