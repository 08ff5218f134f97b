//! Who sees what was said before, while and after they were in a room.

use serde_json::json;

use crate::support::{EventId, Room, Server, User};

struct Story {
    room: Room,
    before_invite: EventId,
    while_invited: EventId,
    while_joined: EventId,
    after_leave: EventId,
}

/// Bob is invited, joins, leaves; alice says something at each stage.
async fn tell(alice: &User, bob: &User, visibility: &str) -> Story {
    let room = alice
        .create_room()
        .state("m.room.history_visibility", json!({"history_visibility": visibility}))
        .await;
    let before_invite = alice.send_text(&room, "before the invite").await;
    alice.invite(&room, bob).await;
    let while_invited = alice.send_text(&room, "while invited").await;
    bob.join(&room).await;
    let while_joined = alice.send_text(&room, "while joined").await;
    bob.leave(&room).await;
    let after_leave = alice.send_text(&room, "after the leave").await;
    Story { room, before_invite, while_invited, while_joined, after_leave }
}

#[tokio::test]
async fn history_is_seen_as_the_room_says() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for (visibility, seen) in [
        ("joined", [false, false, true, false]),
        ("invited", [false, true, true, false]),
        ("shared", [true, true, true, false]),
        ("world_readable", [true, true, true, true]),
    ] {
        let story = tell(&alice, &bob, visibility).await;
        let events = [&story.before_invite, &story.while_invited, &story.while_joined, &story.after_leave];
        for (event, is_seen) in events.into_iter().zip(seen) {
            let status = bob.event(&story.room, event).await.status;
            assert_eq!(status == 200, is_seen, "{visibility}: {event:?}");
            if !is_seen {
                assert_eq!(status, 404);
            }
        }
        let expected: Vec<EventId> = events
            .into_iter()
            .zip(seen)
            .take(3)
            .filter(|(_, is_seen)| *is_seen)
            .map(|(event, _)| event.clone())
            .collect();
        let history: Vec<EventId> = bob
            .history(&story.room, 3)
            .await
            .into_iter()
            .filter(|event| *event != story.after_leave)
            .collect();
        assert_eq!(history, expected, "{visibility}");
    }
}

#[tokio::test]
async fn new_member_syncs_only_what_they_may_see() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let visibility = json!({"history_visibility": "joined"});
    let room = alice.create_room().public().state("m.room.history_visibility", visibility).await;
    let hidden = alice.send_text(&room, "before").await;
    bob.join(&room).await;
    let seen = alice.send_text(&room, "after").await;
    let timeline = bob.sync().await.timeline(&room);
    assert!(timeline.contains(&seen) && !timeline.contains(&hidden), "{timeline:?}");
}

#[tokio::test]
async fn world_readable_room_is_read_by_strangers() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let visibility = json!({"history_visibility": "world_readable"});
    let room = alice.create_room().state("m.room.history_visibility", visibility).await;
    let event = alice.send_text(&room, "hello world").await;
    bob.event(&room, &event).await.ok();
    assert_eq!(bob.history(&room, 10).await, [event]);
    bob.get(&format!("rooms/{room}/state")).await.ok();
}

#[tokio::test]
async fn who_left_a_world_readable_room_reads_on_like_strangers() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let visibility = json!({"history_visibility": "world_readable"});
    let room = alice.create_room().public().state("m.room.history_visibility", visibility).await;
    bob.join(&room).await;
    let before = alice.send_text(&room, "before").await;
    bob.leave(&room).await;
    let after = alice.send_text(&room, "after").await;
    assert_eq!(bob.history(&room, 10).await, [before.clone(), after.clone()]);
    let context = bob.get(&format!("rooms/{room}/context/{before}?limit=10")).await.ok();
    let later = context["events_after"].as_array().expect("events");
    assert!(later.iter().any(|event| EventId::of(event) == after), "{later:?}");
    bob.get(&format!("rooms/{room}/aliases")).await.ok();
    alice.set_state(&room, "m.room.history_visibility", "", json!({"history_visibility": "shared"})).await;
    bob.get(&format!("rooms/{room}/aliases")).await.refused(403, "M_FORBIDDEN");
}
