//! Rooms whose join rule is membership of another room.

use serde_json::{Value, json};

use crate::support::{Room, Server};

fn allow(rule: &str, room: &Room) -> Value {
    json!({"join_rule": rule, "allow": [{"type": "m.room_membership", "room_id": room.0}]})
}

#[tokio::test]
async fn member_of_the_allowed_room_joins_without_an_invite() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for version in ["8", "9", "10", "11", "12"] {
        let space = alice.create_room().public().await;
        let room = alice
            .create_room()
            .version(version)
            .state("m.room.join_rules", allow("restricted", &space))
            .await;
        bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
        bob.join(&space).await;
        bob.join(&room).await;
        let content = alice.state(&room, "m.room.member", &bob.id).await;
        assert_eq!(content["join_authorised_via_users_server"], alice.id, "version {version}");
    }
}

#[tokio::test]
async fn nobody_who_may_invite_means_nobody_gets_in() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let space = alice.create_room().public().await;
    let room = alice
        .create_room()
        .version("10")
        .with("power_level_content_override", json!({"invite": 100}))
        .state("m.room.join_rules", allow("restricted", &space))
        .invite(&bob)
        .await;
    bob.join(&room).await;
    alice.leave(&room).await;
    carol.join(&space).await;
    let answer = carol.post(&format!("rooms/{room}/join"), json!({})).await;
    assert!([400, 403].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn invite_works_in_a_restricted_room() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let space = alice.create_room().await;
    let room =
        alice.create_room().version("10").state("m.room.join_rules", allow("restricted", &space)).await;
    alice.invite(&room, &bob).await;
    bob.join(&room).await;
}

#[tokio::test]
async fn ban_is_stronger_than_the_allowed_room() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let space = alice.create_room().public().await;
    bob.join(&space).await;
    let room =
        alice.create_room().version("10").state("m.room.join_rules", allow("restricted", &space)).await;
    alice.ban(&room, &bob).await;
    bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn knock_restricted_takes_members_and_knocks() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let space = alice.create_room().public().await;
    bob.join(&space).await;
    let rules = allow("knock_restricted", &space);
    let room = alice.create_room().version("10").state("m.room.join_rules", rules).await;
    bob.join(&room).await;
    carol.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
    carol.knock(&room).await.ok();
}
