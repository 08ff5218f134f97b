//! What `/sync` tells a client that was away of rooms that the user is not in any more.

use serde_json::{Value, json};

use crate::support::{EventId, Room, Server, Sync, User};

/// The membership of a member event of the user's.
fn membership(event: &Value) -> &str {
    event["content"]["membership"].as_str().unwrap_or_default()
}

/// What is told after `since` by one answer, once everything up to this membership in the room has come.
async fn gap(user: &User, since: &Sync, room: &Room, last: &str, query: &[(&'static str, &str)]) -> Sync {
    let has_come = |sync: &Sync| sync.events(room).last().is_some_and(|event| membership(event) == last);
    user.sync_until(since, has_come).await;
    let ask = query.iter().fold(user.sync().since(since), |ask, (name, value)| ask.with(name, *value));
    ask.await
}

/// Alice's public room with Bob in it, and what Bob knows of it.
async fn room_of_two() -> (Server, User, User, Room, Sync) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let sync = bob.sync().await;
    let known = if sync.joined(&room).is_null() {
        bob.sync_until(&sync, |sync| !sync.joined(&room).is_null()).await
    } else {
        sync
    };
    (server, alice, bob, room, known)
}

#[tokio::test]
async fn kick_before_a_ban_ends_the_timeline_and_the_state() {
    let (_server, alice, bob, room, before) = room_of_two().await;
    let sent = [alice.send_text(&room, "one").await, alice.send_text(&room, "two").await];
    alice.kick(&room, &bob).await;
    let hidden = alice.send_text(&room, "after the kick").await;
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "after the kick"})).await;
    alice.ban(&room, &bob).await;
    let sync = gap(&bob, &before, &room, "ban", &[]).await;
    let events = sync.events(&room);
    assert_eq!(sync.timeline(&room)[..2], sent);
    assert_eq!(events[2..].iter().map(membership).collect::<Vec<_>>(), ["leave", "ban"]);
    assert!(!sync.timeline(&room).contains(&hidden));
    assert!(!sync.has_state(&room, "m.room.topic", ""), "{}", sync.0);
    let sync = gap(&bob, &before, &room, "ban", &[("use_state_after", "true")]).await;
    let state: Vec<(&str, &str)> = sync
        .state(&room)
        .iter()
        .map(|event| (event["type"].as_str().unwrap_or(""), membership(event)))
        .collect();
    assert_eq!(state, [("m.room.member", "ban")]);
    let filter = json!({"room": {"include_leave": true, "timeline": {"limit": 5}}});
    let initial = bob.sync().filter(&filter).await;
    assert_eq!(initial.timeline(&room)[2..], sync.timeline(&room)[1..], "an initial sync shows no more");
    assert!(!initial.has_state(&room, "m.room.topic", ""), "{}", initial.0);
}

#[tokio::test]
async fn rejected_invite_hides_nothing_of_the_stay_before() {
    let (_server, alice, bob, room, before) = room_of_two().await;
    let sent = alice.send_text(&room, "while bob is in").await;
    bob.leave(&room).await;
    alice.invite(&room, &bob).await;
    bob.leave(&room).await;
    let sync = gap(&bob, &before, &room, "leave", &[]).await;
    assert_eq!(sync.timeline(&room).first(), Some(&sent));
    let last: Vec<EventId> = sync.timeline(&room)[1..].to_vec();
    assert_eq!(last.len(), 2, "how bob left, and how the invite ended: {}", sync.0);
}

#[tokio::test]
async fn end_that_no_timeline_shows_is_in_the_state() {
    let (_server, alice, bob, room, before) = room_of_two().await;
    let filter = json!({"room": {"timeline": {"not_types": ["m.room.member"]}}}).to_string();
    let invited = alice.create_room().invite(&bob).await;
    alice.kick(&room, &bob).await;
    let told = |sync: &Sync, room: &Room| {
        let own = sync.state(room).iter().filter(|event| event["state_key"] == bob.id.as_str());
        own.map(|event| membership(event).to_owned()).collect::<Vec<_>>()
    };
    let kicked = gap(&bob, &before, &room, "leave", &[("filter", &filter)]).await;
    assert_eq!(told(&kicked, &room), ["leave"]);
    // From here on bob stays outside.
    alice.ban(&room, &bob).await;
    let banned = gap(&bob, &kicked, &room, "ban", &[("filter", &filter)]).await;
    assert_eq!(told(&banned, &room), ["ban"]);
    let banned = gap(&bob, &kicked, &room, "ban", &[]).await;
    assert_eq!((banned.events(&room).len(), banned.state(&room).len()), (1, 0), "the timeline has it");
    alice.kick(&invited, &bob).await;
    let withdrawn = gap(&bob, &banned, &invited, "leave", &[("use_state_after", "true")]).await;
    assert_eq!(told(&withdrawn, &invited), ["leave"]);
}

#[tokio::test]
async fn other_devices_hear_of_the_end_of_a_forgotten_room() {
    let (_server, alice, bob, room, before) = room_of_two().await;
    let invited = alice.create_room().invite(&bob).await;
    let before = bob.sync_until(&before, |sync| sync.mentions(&invited)).await;
    let other = bob.log_in_again().await;
    for room in [&room, &invited] {
        bob.leave(room).await;
        bob.forget(room).await.ok();
    }
    let sync = gap(&other, &before, &invited, "leave", &[]).await;
    assert!(!sync.section("leave", &invited).is_null(), "{}", sync.0);
    assert_eq!(sync.events(&room).last().map(membership), Some("leave"), "{}", sync.0);
    assert_eq!(sync.0["device_lists"]["left"], json!([alice.id]));
    assert!(!other.sync().since(&sync).full_state().await.mentions(&room), "it comes once");
}

#[tokio::test]
async fn full_state_tells_of_rooms_that_were_left() {
    let (_server, alice, bob, room, before) = room_of_two().await;
    let sent = alice.send_text(&room, "while bob is in").await;
    alice.kick(&room, &bob).await;
    let sync = gap(&bob, &before, &room, "leave", &[("full_state", "true")]).await;
    assert_eq!(sync.timeline(&room).first(), Some(&sent));
    assert!(sync.has_state(&room, "m.room.create", ""), "{}", sync.0);
    assert!(!bob.sync().since(&sync).full_state().await.mentions(&room), "it comes once");
}
