//! Finding, starting and retiring rooms.

use futures::future::join_all;
use myelin_actors::room::error::RoomError;
use ruma::{RoomVersionId, room_id};

use crate::support::{World, text};

#[actix_rt::test]
async fn an_unknown_room_is_not_found() {
    let world = World::new("a.test");
    assert!(world.rooms.view(room_id!("!nobody:a.test")).await.is_err());
    assert!(world.rooms.get(room_id!("!nobody:a.test")).await.is_err());
}

#[actix_rt::test]
async fn many_views_are_loaded_together() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let mut nids = Vec::new();
    for _ in 0..5 {
        let room = world.public_room(&alice, RoomVersionId::V11).await;
        nids.push(world.rooms.find(&room).await.unwrap().unwrap());
    }
    let again = World::over("a.test", world.store.clone());
    let views = again.rooms.views(&nids).await.unwrap();
    assert_eq!(views.len(), 5);
    for nid in nids {
        assert_eq!(views[&nid].recent.len(), 4);
        assert_eq!(views[&nid].joined, 1);
    }
}

#[actix_rt::test]
async fn a_room_that_is_found_while_it_would_retire_is_there() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let mut sent = Vec::new();
    for round in 0..50_u64 {
        // Far beyond every idle time: whatever may go, goes.
        world.hand.fetch_add(3_600_000, std::sync::atomic::Ordering::Relaxed);
        let sends = (0..4).map(|number| {
            let (rooms, alice, room) = (world.rooms.clone(), alice.clone(), room.clone());
            async move {
                rooms.sweep();
                let handle = rooms.get(&room).await.unwrap();
                handle.retire_if_idle();
                handle.send(text(&alice, &format!("{round} {number}"))).await.unwrap()
            }
        });
        sent.extend(join_all(sends).await);
    }
    let nid = world.rooms.find(&room).await.unwrap().unwrap();
    let mut timeline = world.store.timeline(nid).split_off(4);
    assert_eq!(timeline.len(), sent.len());
    timeline.sort();
    sent.sort();
    assert_eq!(timeline, sent, "nothing lost, nothing twice");
}

#[actix_rt::test]
async fn a_room_that_panics_disturbs_no_other_and_comes_back() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    // More rooms than threads: some share the thread of the one that panics.
    let mut rooms = Vec::new();
    for _ in 0..6 {
        rooms.push(world.public_room(&alice, RoomVersionId::V11).await);
    }
    let handle = world.rooms.get(&rooms[0]).await.unwrap();
    handle.send(text(&alice, "before")).await.unwrap();
    world.store.panic_next();
    assert!(matches!(handle.send(text(&alice, "panic")).await, Err(RoomError::Lost)));
    drop(handle);
    for room in &rooms {
        world.rooms.get(room).await.unwrap().send(text(&alice, "after")).await.unwrap();
    }
    let view = world.rooms.view(&rooms[0]).await.unwrap();
    assert_eq!(world.store.timeline(view.nid).len(), 6, "what was durable is still there");
}
