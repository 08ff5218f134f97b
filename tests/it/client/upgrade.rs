//! Room upgrades.

use serde_json::json;

use crate::support::{Room, Server, encode};

#[tokio::test]
async fn upgraded_room_leads_to_its_replacement() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room =
        alice.create_room().version("9").public().with("name", "Tea").with("room_alias_name", "tea").await;
    bob.join(&room).await;
    for version in ["10", "12"] {
        let room = alice.create_room().version("9").public().with("name", "Old").await;
        let body = alice.post(&format!("rooms/{room}/upgrade"), json!({"new_version": version})).await.ok();
        let new = Room(body["replacement_room"].as_str().expect("a room").to_owned());
        let tombstone = alice.get(&format!("rooms/{room}/state/m.room.tombstone?format=event")).await.ok();
        assert_eq!(tombstone["content"]["replacement_room"], new.0);
        let create = alice.state(&new, "m.room.create", "").await;
        assert_eq!(create["predecessor"]["room_id"], room.0);
        if version == "10" {
            assert_eq!(create["predecessor"]["event_id"], tombstone["event_id"]);
        }
        assert_eq!(create["room_version"], version);
        assert_eq!(alice.state(&new, "m.room.name", "").await["name"], "Old");
        assert_eq!(alice.state(&new, "m.room.join_rules", "").await["join_rule"], "public");
    }
    let body = alice.post(&format!("rooms/{room}/upgrade"), json!({"new_version": "11"})).await.ok();
    let alias = bob.get(&format!("directory/room/{}", encode("#tea:myelin.test"))).await.ok();
    assert_eq!(alias["room_id"], body["replacement_room"], "the alias has moved");
    let message = json!({"msgtype": "m.text", "body": "too late"});
    bob.try_send(&room, "m.room.message", message).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn upgrades_at_the_same_time_are_one() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().version("11").await;
    bob.join(&room).await;
    let levels = json!({"users": {alice.id.clone(): 100, bob.id.clone(): 100}});
    alice.set_state(&room, "m.room.power_levels", "", levels).await;
    let path = format!("rooms/{room}/upgrade");
    let ask = || json!({"new_version": "11"});
    let made = futures::join!(alice.post(&path, ask()), bob.post(&path, ask()), alice.post(&path, ask()));
    let made = [made.0.ok(), made.1.ok(), made.2.ok()];
    let tombstone = alice.state(&room, "m.room.tombstone", "").await;
    for answer in &made {
        assert_eq!(answer["replacement_room"], tombstone["replacement_room"], "{made:?}");
    }
}

#[tokio::test]
async fn room_whose_replacement_cannot_be_made_stays_as_it_is() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().version("9").await;
    let storage = server.storage().await;
    let db = storage.get().await.expect("the database is there");
    let no_more_rooms = "
        DO $$ BEGIN
            EXECUTE 'ALTER TABLE rooms ADD CONSTRAINT no_more CHECK (room_nid <= ' || (SELECT MAX(room_nid) FROM rooms) || ')';
        END $$
    ";
    db.batch_execute(no_more_rooms).await.expect("the constraint holds so far");
    for version in ["10", "12"] {
        let answer = alice.post(&format!("rooms/{room}/upgrade"), json!({"new_version": version})).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
        alice.get(&format!("rooms/{room}/state/m.room.tombstone")).await.refused(404, "M_NOT_FOUND");
    }
    alice.send_text(&room, "still here").await;
}

#[tokio::test]
async fn upgrade_needs_power_and_a_known_version() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let path = format!("rooms/{room}/upgrade");
    bob.post(&path, json!({"new_version": "11"})).await.refused(403, "M_FORBIDDEN");
    for version in ["nonsense", "no_version"] {
        alice.post(&path, json!({"new_version": version})).await.refused(400, "M_UNSUPPORTED_ROOM_VERSION");
    }
}

#[tokio::test]
async fn tags_follow_into_the_new_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().public().await;
    let tags = |room: &Room| format!("user/{}/rooms/{room}/tags", alice.id);
    alice.put(&format!("{}/m.favourite", tags(&room)), json!({"order": 0.5})).await.ok();
    let body = alice.post(&format!("rooms/{room}/upgrade"), json!({"new_version": "11"})).await.ok();
    let new = Room(body["replacement_room"].as_str().expect("a room").to_owned());
    assert_eq!(alice.get(&tags(&new)).await.ok()["tags"], json!({"m.favourite": {"order": 0.5}}));
}
