//! Invites between servers, and knocks: accepted, rejected, refused, and with servers that are gone.

use serde_json::json;

use super::entering::{try_join, wait_for_membership};
use crate::support::{Server, User, encode, federation};

const VERSIONS: [&str; 5] = ["1", "6", "10", "11", "12"];

async fn pair() -> (Server, Server, User, User) {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    (a, b, alice, bob)
}

fn names(events: &serde_json::Value) -> Vec<&str> {
    let events = events.as_array().expect("events");
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

#[tokio::test]
async fn invite_reaches_the_other_server_and_is_accepted() {
    let (_a, _b, alice, bob) = pair().await;
    for version in VERSIONS {
        let room = alice.create_room().version(version).with("name", "Tea").await;
        alice.invite(&room, &bob).await;
        let sync = bob.sync().await;
        let invite = sync.section("invite", &room);
        let told = names(&invite["invite_state"]["events"]);
        for wanted in ["m.room.create", "m.room.name", "m.room.member"] {
            assert!(told.contains(&wanted), "version {version}: {invite}");
        }
        assert!(!invite.to_string().contains("auth_events"), "whole events are not for clients: {invite}");
        bob.join(&room).await;
        assert_eq!(bob.state(&room, "m.room.name", "").await, json!({"name": "Tea"}), "version {version}");
        assert_eq!(alice.membership_of(&room, &bob).await, "join", "version {version}");
    }
}

#[tokio::test]
async fn users_of_other_servers_are_invited_to_new_rooms() {
    let (_a, _b, alice, bob) = pair().await;
    for version in VERSIONS {
        let create = alice.create_room().version(version).with("preset", "trusted_private_chat");
        let room = create.with("is_direct", true).invite(&bob).await;
        assert_eq!(alice.membership_of(&room, &bob).await, "invite", "version {version}");
        let sync = bob.sync().await;
        let events = &sync.section("invite", &room)["invite_state"]["events"];
        let events = events.as_array().expect("an invite");
        let own = events.iter().find(|event| event["state_key"] == bob.id).expect("bob's member event");
        assert_eq!(own["content"]["is_direct"], true, "version {version}");
        bob.join(&room).await;
    }
}

#[tokio::test]
async fn rejected_invite_is_gone_on_both_sides() {
    let (_a, _b, alice, bob) = pair().await;
    for version in VERSIONS {
        let room = alice.create_room().version(version).await;
        alice.invite(&room, &bob).await;
        let before = bob.sync().await;
        bob.leave(&room).await;
        assert_eq!(alice.membership_of(&room, &bob).await, "leave", "version {version}");
        let after = bob.sync().since(&before).await;
        assert!(!after.section("leave", &room).is_null(), "version {version}: {}", after.0);
        assert!(after.section("invite", &room).is_null(), "version {version}: {}", after.0);
        bob.leave(&room).await;
        bob.forget(&room).await.ok();
    }
}

#[tokio::test]
async fn invite_of_a_dead_server_can_be_rejected() {
    let (mut a, _b, alice, bob) = pair().await;
    let room = alice.create_room().await;
    alice.invite(&room, &bob).await;
    let before = bob.sync().await;
    a.stop();
    bob.leave(&room).await;
    let after = bob.sync().since(&before).await;
    assert!(!after.section("leave", &room).is_null(), "{}", after.0);
    a.resume().await;
}

#[tokio::test]
async fn refusal_of_an_invite_is_told() {
    let (_a, mut b, alice, bob) = pair().await;
    let room = alice.create_room().await;
    let config = json!({"default_action": "block"});
    let path = format!("user/{}/account_data/m.invite_permission_config", encode(&bob.id));
    bob.put(&path, config).await.ok();
    alice.moderate("invite", &room, &bob).await.refused(403, "M_INVITE_BLOCKED");
    bob.put(&path, json!({})).await.ok();
    b.stop();
    alice.moderate("invite", &room, &bob).await.refused(502, "M_UNKNOWN");
    b.resume().await;
    alice.invite(&room, &bob).await;
    let body = json!({"membership": "invite"});
    let again = alice.try_set_state(&room, "m.room.member", &bob.id, body).await;
    assert!([200, 403].contains(&again.status), "{again:?}");
}

#[tokio::test]
async fn knock_is_answered_by_an_invite() {
    let (a, _b, alice, bob) = pair().await;
    for version in ["7", "10", "12"] {
        let rules = json!({"join_rule": "knock"});
        let room =
            alice.create_room().version(version).with("name", "Tea").state("m.room.join_rules", rules).await;
        let path = format!("knock/{room}?via={}", encode(&a.name));
        bob.post(&path, json!({"reason": "tea?"})).await.ok();
        assert_eq!(alice.membership_of(&room, &bob).await, "knock", "version {version}");
        let sync = bob.sync().await;
        let told = names(&sync.section("knock", &room)["knock_state"]["events"]);
        assert!(told.contains(&"m.room.name"), "version {version}: {}", sync.0);
        alice.invite(&room, &bob).await;
        try_join(&bob, &room, &a).await.ok();
        wait_for_membership(&alice, &room, &bob, "join").await;
    }
}

#[tokio::test]
async fn withdrawn_knock_is_gone_on_both_sides() {
    let (a, _b, alice, bob) = pair().await;
    // The id of a room of version 12 does not say which server may know it.
    for version in ["10", "12"] {
        let rules = json!({"join_rule": "knock"});
        let room = alice.create_room().version(version).state("m.room.join_rules", rules).await;
        bob.post(&format!("knock/{room}?via={}", encode(&a.name)), json!({})).await.ok();
        bob.leave(&room).await;
        assert_eq!(alice.membership_of(&room, &bob).await, "leave", "version {version}");
    }
}

#[tokio::test]
async fn knock_is_refused_as_the_other_server_refuses_it() {
    let (a, _b, alice, bob) = pair().await;
    let room = alice.create_room().version("10").await;
    let path = format!("knock/{room}?via={}", encode(&a.name));
    bob.post(&path, json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn room_for_one_server_invites_nobody_elsewhere() {
    let (_a, _b, alice, bob) = pair().await;
    let room = alice.create_room().with("creation_content", json!({"m.federate": false})).await;
    alice.moderate("invite", &room, &bob).await.refused(403, "M_FORBIDDEN");
    assert_eq!(bob.sync().await.section("invite", &room), &json!(null));
}
