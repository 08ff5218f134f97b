//! What follows on one server from what users of another change in a room.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::entering::{try_join, wait_for_membership};
use crate::support::{User, federation, user::PATIENCE};

/// The only room in the list of the user's server, once it is called that.
async fn listed_as(user: &User, name: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = user.get("publicRooms").await.ok();
        if list["chunk"][0]["name"] == name {
            return list["chunk"][0].clone();
        }
        assert!(Instant::now() < deadline, "{list}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn guests_leave_and_the_list_shows_what_another_server_has_changed() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let caller = a.anyone();
    let guest = User::from_answer(&caller, &caller.post("register?kind=guest", json!({})).await.ok());
    let levels = json!({ "users": { &alice.id: 100, &bob.id: 100 } });
    let open = json!({ "guest_access": "can_join" });
    let create = alice.create_room().version("11").public().with("visibility", "public").with("name", "Tea");
    let create = create.with("power_level_content_override", levels);
    let room = create.state("m.room.guest_access", open).await;
    guest.join(&room).await;
    try_join(&bob, &room, &a).await.ok();
    assert_eq!(listed_as(&alice, "Tea").await["guest_can_join"], true);

    bob.set_state(&room, "m.room.guest_access", "", json!({ "guest_access": "forbidden" })).await;
    bob.set_state(&room, "m.room.name", "", json!({ "name": "Coffee" })).await;
    wait_for_membership(&alice, &room, &guest, "leave").await;
    assert_eq!(listed_as(&alice, "Coffee").await["guest_can_join"], false);
}
