//! Events in memory: never older than what was committed.

use std::sync::Arc;

use myelin_actors::events::Events;
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};

use crate::support::{World, redaction, text};

/// A room with a message, as a server has it after a restart: none of it is in memory.
async fn restarted() -> (World, OwnedRoomId, OwnedEventId) {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let event = world.rooms.get(&room).await.unwrap().send(text(&alice, "secret")).await.unwrap();
    (World::over("a.test", world.store.clone()), room, event)
}

async fn redact(world: &World, room: &OwnedRoomId, event: &OwnedEventId) {
    let alice = world.user("alice");
    world.rooms.get(room).await.unwrap().send(redaction(&alice, event)).await.unwrap();
}

async fn assert_redacted(world: &World, event: &OwnedEventId) {
    let shown = world.events.by_id(event).await.unwrap().unwrap();
    assert_eq!(shown.pdu.content().get(), "{}");
    assert!(shown.redacted_because.is_some());
}

#[actix_rt::test]
async fn what_was_read_before_a_redaction_is_not_remembered() {
    let (world, room, event) = restarted().await;
    world.store.hold_next_read();
    let (events, id) = (world.events.clone(), event.clone());
    let reader = actix_rt::spawn(async move { events.by_id(&id).await });
    world.store.read_held().await;
    redact(&world, &room, &event).await;
    world.store.release_read();
    // It was asked for before.
    assert!(reader.await.unwrap().unwrap().unwrap().pdu.content().get().contains("secret"));
    assert_redacted(&world, &event).await;
}

#[actix_rt::test]
async fn a_view_that_was_read_before_a_redaction_brings_nothing_back() {
    let (world, room, event) = restarted().await;
    world.store.hold_next_read();
    let (rooms, id) = (world.rooms.clone(), room.clone());
    let reader = actix_rt::spawn(async move { rooms.view(&id).await });
    world.store.read_held().await;
    redact(&world, &room, &event).await;
    world.store.release_read();
    let view = reader.await.unwrap().unwrap();
    let shown = view.recent.iter().find(|shown| shown.pdu.event_id() == event).unwrap();
    assert_eq!(shown.pdu.content().get(), "{}");
    assert_redacted(&world, &event).await;
}

#[actix_rt::test]
async fn what_is_read_is_remembered() {
    let (world, _, event) = restarted().await;
    let first = world.events.by_id(&event).await.unwrap().unwrap();
    let reads = world.store.reads();
    let again = world.events.load(&[first.nid]).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again[0]));
    assert_eq!(world.store.reads(), reads);
}

#[actix_rt::test]
async fn many_large_events_take_no_more_than_their_share() {
    let (world, room, _) = restarted().await;
    let alice = world.user("alice");
    let handle = world.rooms.get(&room).await.unwrap();
    let body = "x".repeat(50_000);
    for _ in 0..60 {
        handle.send(text(&alice, &body)).await.unwrap();
    }
    let nids: Vec<_> = world.rooms.view(&room).await.unwrap().recent.iter().map(|event| event.nid).collect();
    let share = 2 << 20;
    let events = Events::new(Arc::new(world.store.clone()), share);
    assert_eq!(events.load(&nids).await.unwrap().len(), nids.len());
    let kept: usize =
        nids.iter().filter_map(|nid| events.cached(*nid)).map(|event| event.pdu.json().len()).sum();
    assert!(kept > 500_000, "only {kept} bytes are remembered");
    assert!(kept as u64 <= share, "{kept} bytes are remembered");
}
