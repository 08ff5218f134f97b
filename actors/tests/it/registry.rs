//! Finding, starting and retiring rooms.

use std::collections::HashSet;

use futures::future::join_all;
use myelin_actors::room::error::RoomError;
use myelin_core::nid::RoomNid;
use myelin_storage::error::StorageError;
use ruma::{OwnedRoomId, RoomVersionId, room_id};

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
async fn rooms_that_are_made_at_the_same_time_are_different_ones() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let first = world.public_room(&alice, RoomVersionId::V12).await;
    // The clock of the next process begins where that of this one did.
    let world = World::over("a.test", world.store.clone());
    let made = join_all((0..50).map(|_| world.public_room(&alice, RoomVersionId::V12))).await;
    let different: HashSet<OwnedRoomId> = made.into_iter().chain([first]).collect();
    assert_eq!(different.len(), 51);
}

/// A server as it is after a restart, its rooms and their numbers.
async fn restarted(rooms: usize) -> (World, Vec<OwnedRoomId>, Vec<RoomNid>) {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let (mut ids, mut nids) = (Vec::new(), Vec::new());
    for _ in 0..rooms {
        let room = world.public_room(&alice, RoomVersionId::V11).await;
        nids.push(world.rooms.find(&room).await.unwrap().unwrap());
        ids.push(room);
    }
    (World::over("a.test", world.store.clone()), ids, nids)
}

#[actix_rt::test]
async fn rooms_that_cannot_be_read_take_no_others_with_them() {
    let (world, ids, nids) = restarted(20).await;
    for broken in [3, 17] {
        world.store.damage(nids[broken], true);
    }
    let views = world.rooms.views(&nids).await.unwrap();
    assert_eq!(views.len(), 18);
    assert!(!views.contains_key(&nids[3]) && !views.contains_key(&nids[17]));
    // Who asks for one of them is told; those who ask for the others are served.
    for broken in [3, 17] {
        let error = world.rooms.view(&ids[broken]).await.unwrap_err();
        assert!(error.is_corruption(), "{error}");
        assert!(world.rooms.get(&ids[broken]).await.is_err_and(|error| error.is_corruption()));
    }
    world.rooms.get(&ids[4]).await.unwrap().send(text(&world.user("alice"), "still here")).await.unwrap();
}

#[actix_rt::test]
async fn a_room_that_cannot_be_read_is_tried_again_now_and_then() {
    let (world, _, nids) = restarted(20).await;
    world.store.damage(nids[3], true);
    assert_eq!(world.rooms.views(&nids).await.unwrap().len(), 19);
    let reads = world.store.room_reads();
    assert!(reads <= 12, "{reads} reads to find one room among twenty");
    assert_eq!(world.rooms.views(&nids).await.unwrap().len(), 19);
    assert_eq!(world.store.room_reads(), reads);
    world.store.damage(nids[3], false);
    world.hand.fetch_add(61_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.rooms.views(&nids).await.unwrap().len(), 20);
}

#[actix_rt::test]
async fn a_database_that_is_away_is_no_empty_one() {
    let (world, _, nids) = restarted(3).await;
    world.store.go_away();
    let error = world.rooms.views(&nids).await.unwrap_err();
    assert!(matches!(error, RoomError::Storage(StorageError::Unavailable(_))), "{error}");
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
