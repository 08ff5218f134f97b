//! Joining rooms of other servers, leaving them, and coming back.

use serde_json::{Value, json};

use crate::support::{Answer, Room, Server, User, encode, federation};

const VERSIONS: [&str; 5] = ["1", "6", "10", "11", "12"];

/// Tries to join with the help of a server.
pub async fn try_join(user: &User, room: &Room, via: &Server) -> Answer {
    user.post(&format!("join/{room}?via={}", encode(&via.name)), json!({})).await
}

/// Waits until the user's server knows this membership of the other.
pub async fn wait_for_membership(user: &User, room: &Room, other: &User, membership: &str) {
    let is_it = |event: &Value| {
        let (kind, key) = (&event["type"], &event["state_key"]);
        kind == "m.room.member" && key == &other.id && event["content"]["membership"] == membership
    };
    let now = user.sync().await;
    let path = format!("rooms/{room}/state/m.room.member/{}", encode(&other.id));
    if user.get(&path).await.body["membership"] != membership {
        user.sync_until(&now, |sync| sync.events(room).iter().chain(sync.state(room)).any(is_it)).await;
    }
}

#[tokio::test]
async fn public_room_is_joined_in_every_version() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    for version in VERSIONS {
        let room = alice.create_room().public().version(version).with("name", "Tea").await;
        alice.send_text(&room, "before").await;
        try_join(&bob, &room, &a).await.ok();
        assert_eq!(bob.state(&room, "m.room.name", "").await, json!({"name": "Tea"}), "version {version}");
        assert_eq!(bob.membership_of(&room, &alice).await, "join", "version {version}");
        assert_eq!(alice.membership_of(&room, &bob).await, "join", "version {version}");
        let sync = bob.sync().await;
        assert!(!sync.joined(&room).is_null(), "version {version}: {}", sync.0);
    }
}

#[tokio::test]
async fn last_user_of_a_server_leaves_and_comes_back() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().await;
    try_join(&bob, &room, &a).await.ok();
    bob.leave(&room).await;
    wait_for_membership(&alice, &room, &bob, "leave").await;
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "without bob"})).await;
    try_join(&bob, &room, &a).await.ok();
    assert_eq!(bob.state(&room, "m.room.topic", "").await, json!({"topic": "without bob"}));
    assert_eq!(alice.membership_of(&room, &bob).await, "join");
}

#[tokio::test]
async fn aliases_of_the_joining_server_follow_a_room_that_says_itself_replaced() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let old = alice.create_room().public().await;
    try_join(&bob, &old, &a).await.ok();
    let alias = format!("directory/room/{}", encode(&format!("#tea:{}", b.name)));
    bob.put(&alias, json!({"room_id": old.0})).await.ok();
    let before = bob.sync().await;

    let predecessor = json!({"predecessor": {"room_id": old.0, "event_id": "$x"}});
    let usurper = alice.create_room().public().with("creation_content", predecessor).await;
    try_join(&bob, &usurper, &a).await.ok();
    assert_eq!(bob.get(&alias).await.ok()["room_id"], old.0.as_str(), "the old room knows nothing of it");

    let upgraded = alice.post(&format!("rooms/{old}/upgrade"), json!({"new_version": "11"})).await.ok();
    let new = Room(upgraded["replacement_room"].as_str().expect("an id").to_owned());
    let has_tombstone = |event: &Value| event["type"] == "m.room.tombstone";
    bob.sync_until(&before, |sync| sync.events(&old).iter().any(has_tombstone)).await;
    try_join(&bob, &new, &a).await.ok();
    assert_eq!(bob.get(&alias).await.ok()["room_id"], new.0.as_str());
}

#[tokio::test]
async fn second_user_of_a_server_joins_at_home() {
    let (a, b) = federation::pair().await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, b.user("carol").await);
    let room = alice.create_room().public().await;
    try_join(&bob, &room, &a).await.ok();
    carol.join(&room).await;
    assert_eq!(bob.membership_of(&room, &carol).await, "join");
    wait_for_membership(&alice, &room, &carol, "join").await;
}

#[tokio::test]
async fn join_is_refused_as_the_other_server_refuses_it() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().await;
    try_join(&bob, &room, &a).await.refused(403, "M_FORBIDDEN");
    bob.post(&format!("join/{}", encode("!nobody:knows.example")), json!({})).await.refused(502, "M_UNKNOWN");
    let unknown = Room("!no-such-room:127.0.0.2".to_owned());
    try_join(&bob, &unknown, &a).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn many_requests_are_one_join() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().await;
    let joins = (0..4).map(|_| try_join(&bob, &room, &a));
    for answer in futures::future::join_all(joins).await {
        answer.ok();
    }
    let history = alice.messages(&room, "dir=b&limit=100").await;
    let events = history["chunk"].as_array().expect("a chunk");
    assert_eq!(events.iter().filter(|event| event["sender"] == bob.id).count(), 1, "{history}");
}

#[tokio::test]
async fn alias_of_another_server_leads_to_its_room() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().with("room_alias_name", "tea").await;
    let alias = encode(&format!("#tea:{}", a.name));
    let found = bob.get(&format!("directory/room/{alias}")).await.ok();
    assert_eq!(found["room_id"], room.0);
    assert_eq!(found["servers"], json!([a.name]));
    let joined = bob.post(&format!("join/{alias}"), json!({})).await.ok();
    assert_eq!(joined["room_id"], room.0);
    let unknown = encode(&format!("#coffee:{}", a.name));
    bob.get(&format!("directory/room/{unknown}")).await.refused(404, "M_NOT_FOUND");
    let nowhere = encode("#tea:127.0.0.9:1");
    bob.get(&format!("directory/room/{nowhere}")).await.refused(502, "M_UNKNOWN");
}

#[tokio::test]
async fn restricted_room_is_joined_by_its_members_authority() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    for version in ["8", "10", "12"] {
        let space = alice.create_room().public().await;
        let allow = json!([{"type": "m.room_membership", "room_id": space.0}]);
        let rules = json!({"join_rule": "restricted", "allow": allow});
        let room = alice.create_room().version(version).state("m.room.join_rules", rules).await;
        let refused = try_join(&bob, &room, &a).await;
        assert!([400, 403].contains(&refused.status), "version {version}: {refused:?}");
        try_join(&bob, &space, &a).await.ok();
        try_join(&bob, &room, &a).await.ok();
        let member = bob.state(&room, "m.room.member", &bob.id).await;
        assert_eq!(member["join_authorised_via_users_server"], alice.id, "version {version}");
    }
}

#[tokio::test]
async fn resident_server_without_authority_asks_another() {
    let (a, b) = federation::pair().await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, b.user("carol").await);
    let space = alice.create_room().public().await;
    let allow = json!([{"type": "m.room_membership", "room_id": space.0}]);
    let rules = json!({"join_rule": "restricted", "allow": allow});
    let room = alice
        .create_room()
        .version("10")
        .with("power_level_content_override", json!({"invite": 50}))
        .state("m.room.join_rules", rules)
        .await;
    for user in [&bob, &carol] {
        try_join(user, &space, &a).await.ok();
    }
    try_join(&bob, &room, &a).await.ok();
    wait_for_membership(&alice, &space, &carol, "join").await;
    // Nobody on this server may invite, but alice may.
    carol.join(&room).await;
    let member = bob.state(&room, "m.room.member", &carol.id).await;
    assert_eq!(member["join_authorised_via_users_server"], alice.id);
}

#[tokio::test]
async fn what_was_missed_between_leaving_and_coming_back_is_a_gap_that_is_filled() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().await;
    try_join(&bob, &room, &a).await.ok();
    let before = alice.send_text(&room, "before").await;
    let at_bob = bob.sync().await;
    bob.sync_until(&at_bob, |sync| sync.events(&room).iter().any(|event| event["event_id"] == before.0))
        .await;
    bob.leave(&room).await;
    wait_for_membership(&alice, &room, &bob, "leave").await;
    let at_bob = bob.sync().await;
    let missed = alice.send_text(&room, "while bob was away").await;
    try_join(&bob, &room, &a).await.ok();

    // The second time and later, it has been fetched.
    for since in [Some(&at_bob), Some(&at_bob), None] {
        let sync = match since {
            Some(since) => bob.sync().since(since).await,
            None => bob.sync().await,
        };
        let timeline = &sync.section("join", &room)["timeline"];
        assert_eq!(timeline["limited"], true, "{timeline}");
        let first = &timeline["events"][0];
        assert_eq!((&first["state_key"], &first["content"]["membership"]), (&json!(bob.id), &json!("join")));
        let from = timeline["prev_batch"].as_str().expect("there is more");
        let page = bob.messages(&room, &format!("dir=b&limit=10&from={}", encode(from))).await;
        assert_eq!(page["chunk"][0]["event_id"], missed.0, "{page}");
        assert!(page.to_string().contains(&before.0), "{page}");
    }
}

#[tokio::test]
async fn what_was_missed_stays_a_gap_when_the_others_have_left() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let room = alice.create_room().public().await;
    try_join(&bob, &room, &a).await.ok();
    let before = bob.send_text(&room, "before").await;
    bob.leave(&room).await;
    wait_for_membership(&alice, &room, &bob, "leave").await;
    let at_bob = bob.sync().await;
    alice.send_text(&room, "while bob was away").await;
    try_join(&bob, &room, &a).await.ok();
    wait_for_membership(&alice, &room, &bob, "join").await;
    alice.leave(&room).await;
    wait_for_membership(&bob, &room, &alice, "leave").await;

    for sync in [
        bob.sync().since(&at_bob).await,
        bob.sync().filter(&json!({"room": {"timeline": {"limit": 10}}})).await,
    ] {
        assert!(sync.is_limited(&room), "{}", sync.0);
        assert!(!sync.timeline(&room).contains(&before), "{}", sync.0);
        let first = &sync.events(&room)[0];
        assert_eq!((&first["state_key"], &first["content"]["membership"]), (&json!(bob.id), &json!("join")));
    }
}
