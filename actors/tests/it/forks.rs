//! Forks of a large room: what it takes to resolve them, and what they leave behind.

use myelin_actors::room::messages::{Received, SendEvent};
use myelin_core::pdu::Pdu;
use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::json;

use crate::support::{World, content, member, text};

/// Two servers that know the same room, with so many members.
async fn large_room(version: RoomVersionId, members: usize) -> (World, World, OwnedRoomId) {
    let ours = World::new("a.test");
    let alice = ours.user("alice");
    let room = ours.public_room(&alice, version.clone()).await;
    let handle = ours.rooms.get(&room).await.unwrap();
    let bob: OwnedUserId = "@bob:b.test".try_into().unwrap();
    let mut joins = vec![member(&bob, "join")];
    joins.extend((0..members).map(|number| member(&ours.user(&format!("user{number}")), "join")));
    for some in joins.chunks(200) {
        handle.send_all(some.to_vec()).await.unwrap();
    }
    handle.send(levels(&alice, &version, 50)).await.unwrap();
    drop(handle);
    let theirs = World::over("b.test", ours.store.copy());
    (ours, theirs, room)
}

fn levels(alice: &UserId, version: &RoomVersionId, bobs: i64) -> SendEvent {
    let mut users = json!({ "@bob:b.test": bobs });
    if *version != RoomVersionId::V12 {
        users[alice.as_str()] = 100.into();
    }
    let content = content(json!({ "users": users, "state_default": 50, "events_default": 0 }));
    SendEvent::state(alice.to_owned(), "m.room.power_levels", "", content)
}

async fn send(world: &World, room: &OwnedRoomId, events: Vec<SendEvent>) -> Vec<Pdu> {
    let handle = world.rooms.get(room).await.unwrap();
    let mut sent = Vec::new();
    for event in events {
        let id = handle.send(event).await.unwrap();
        sent.push(world.store.event(&id).unwrap().pdu);
    }
    sent
}

async fn receive(world: &World, room: &OwnedRoomId, pdus: &[Pdu]) {
    let handle = world.rooms.get(room).await.unwrap();
    for pdu in pdus {
        assert_eq!(handle.receive(pdu.clone()).await.unwrap(), Received::Accepted);
    }
}

async fn state(world: &World, room: &OwnedRoomId) -> Vec<String> {
    let view = world.rooms.view(room).await.unwrap();
    let mut state = Vec::new();
    for nid in view.state.values() {
        state.push(world.event_id(*nid).await.to_string());
    }
    state.sort();
    state
}

async fn loads_what_conflicts(version: RoomVersionId) {
    let (ours, theirs, room) = large_room(version.clone(), 800).await;
    let (alice, bob) = (ours.user("alice"), theirs.user("bob"));
    let topic = |who: &OwnedUserId, topic: &str| {
        SendEvent::state(who.clone(), "m.room.topic", "", content(json!({ "topic": topic })))
    };
    let here = vec![topic(&alice, "ours"), levels(&alice, &version, 60), member(&ours.user("late"), "join")];
    let here = send(&ours, &room, here).await;
    let kick = SendEvent::state(
        bob.clone(),
        "m.room.member",
        "@user7:a.test",
        content(json!({ "membership": "leave" })),
    );
    let there = vec![topic(&bob, "theirs"), kick, member(&theirs.user("other"), "join"), text(&bob, "hi")];
    let there = send(&theirs, &room, there).await;

    // Nothing is in memory but what a room begins with.
    let ours = World::over("a.test", ours.store.clone());
    drop(ours.rooms.get(&room).await.unwrap());
    let before = ours.store.loaded();
    receive(&ours, &room, &there).await;
    let after = ours.store.loaded();
    let (events, rows) = (after.0 - before.0, after.1 - before.1);
    println!("version {version}: {events} events and {rows} rows of the index for a fork of 800 members");
    assert!(events < 60, "version {version}: {events} events were loaded");
    assert!(rows < 120, "version {version}: {rows} rows of the index were read");
    receive(&theirs, &room, &here).await;
    assert_eq!(state(&ours, &room).await, state(&theirs, &room).await, "version {version}");
}

#[actix_rt::test]
async fn what_does_not_conflict_is_not_loaded() {
    for version in [RoomVersionId::V1, RoomVersionId::V10, RoomVersionId::V12] {
        loads_what_conflicts(version).await;
    }
}
