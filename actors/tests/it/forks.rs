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

/// So many events of the user that all follow the same event.
async fn forks(theirs: &World, room: &OwnedRoomId, user: &UserId, count: usize) -> Vec<Pdu> {
    let handle = theirs.rooms.get(room).await.unwrap();
    let mut forks = Vec::new();
    for number in 0..count {
        forks.push(handle.prepare(text(user, &number.to_string())).await.unwrap());
    }
    forks
}

#[actix_rt::test]
async fn many_forks_are_joined_by_an_event_that_clients_do_not_see() {
    let (ours, theirs, room) = large_room(RoomVersionId::V11, 3).await;
    let forks = forks(&theirs, &room, &theirs.user("bob"), 11).await;
    receive(&ours, &room, &forks).await;
    // Whatever is asked next comes after the room has joined them.
    let next = send(&ours, &room, vec![text(&ours.user("user1"), "here")]).await.remove(0);
    let [dummy] = next.prev_events() else { panic!("there is one fork: {:?}", next.prev_events()) };
    let dummy = ours.store.event(dummy).unwrap();
    assert_eq!(dummy.pdu.event_type(), "org.matrix.dummy_event");
    assert_eq!(dummy.pdu.sender(), ours.user("alice"));
    assert_eq!(dummy.pdu.prev_events().len(), 11);
    assert_eq!(dummy.place, None, "it is not in the timeline");
    let view = ours.rooms.view(&room).await.unwrap();
    assert!(view.recent.iter().all(|event| event.nid != dummy.nid));
    assert_eq!(view.recent.last().unwrap().pdu.event_id(), next.event_id());
    // Other servers take it like any other event.
    receive(&theirs, &room, &forks).await;
    let theirs = theirs.rooms.get(&room).await.unwrap();
    assert_eq!(theirs.receive(dummy.pdu).await.unwrap(), Received::Accepted);
}

#[actix_rt::test]
async fn few_forks_are_joined_by_the_next_event() {
    let (ours, theirs, room) = large_room(RoomVersionId::V11, 3).await;
    receive(&ours, &room, &forks(&theirs, &room, &theirs.user("bob"), 10).await).await;
    let next = send(&ours, &room, vec![text(&ours.user("user1"), "here")]).await.remove(0);
    assert_eq!(next.prev_events().len(), 10);
}

#[actix_rt::test]
async fn forks_are_bounded_where_nobody_may_join_them() {
    let (ours, _, room) = large_room(RoomVersionId::V11, 3).await;
    let alice = ours.user("alice");
    let users = json!({ "@bob:b.test": 100, alice.as_str(): 100 });
    let silence = content(json!({ "users": users, "events_default": 50, "state_default": 50 }));
    let silence = SendEvent::state(alice.clone(), "m.room.power_levels", "", silence);
    send(&ours, &room, vec![silence, member(&alice, "leave")]).await;
    let theirs = World::over("b.test", ours.store.copy());
    receive(&ours, &room, &forks(&theirs, &room, &theirs.user("bob"), 60).await).await;
    let next = send(&ours, &room, vec![member(&ours.user("user1"), "leave")]).await.remove(0);
    assert_eq!(next.prev_events().len(), 20, "as many as an event may follow");
}
