//! The fence: what was built on a decision that is lost is lost too, whatever is committed in its place.

use myelin_actors::room::{error::RoomError, messages::SendEvent};
use ruma::RoomVersionId;
use serde_json::json;

use crate::support::{World, content, memory_store::Fault, text};

#[actix_rt::test]
async fn a_discarded_actor_adds_nothing_to_what_its_successor_has_decided() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let handle = world.rooms.get(&room).await.unwrap();
    world.store.hold_commits();
    world.store.hold_naming("org.example.late");
    world.store.fail_next([Fault::Refused]);
    let meanwhile = async {
        let refused = async {
            world.store.until_naming_waits().await;
            world.store.release_commits();
        };
        let (lost, ()) = futures::join!(handle.send(text(&alice, "lost")), refused);
        assert!(matches!(lost, Err(RoomError::Lost)));
        let successor = world.rooms.get(&room).await.unwrap();
        let sent = successor.send(text(&alice, "in its place")).await.unwrap();
        world.store.release_naming();
        (successor, sent)
    };
    let late = SendEvent::message(alice.clone(), "org.example.late", content(json!({})));
    let ((successor, sent), late) = futures::join!(meanwhile, handle.send(late));
    assert!(matches!(late, Err(RoomError::Lost)), "it was built on what is lost: {late:?}");
    // The successor is not disturbed by it.
    let next = successor.send(text(&alice, "next")).await.unwrap();
    assert_eq!(world.store.timeline(successor.nid())[4..], [sent, next]);
}

#[actix_rt::test]
async fn what_waits_behind_a_lost_decision_is_lost_with_it() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let handle = world.rooms.get(&room).await.unwrap();
    let decided = world.store.reserved_events();
    world.store.hold_commits();
    let second = async {
        // Too late for the commit of the first.
        world.store.until_commit_waits().await;
        handle.send(text(&alice, "second")).await
    };
    let other_process = async {
        while world.store.reserved_events() < decided + 2 {
            tokio::task::yield_now().await;
        }
        world.store.disturb(handle.nid());
        world.store.release_commits();
    };
    let (first, second, ()) = futures::join!(handle.send(text(&alice, "first")), second, other_process);
    assert!(matches!(first, Err(RoomError::Lost)), "{first:?}");
    assert!(matches!(second, Err(RoomError::Lost)), "it was built on what is lost: {second:?}");
    let sent = world.rooms.get(&room).await.unwrap().send(text(&alice, "third")).await.unwrap();
    assert_eq!(world.store.timeline(handle.nid())[4..], [sent]);
}

/// Returns when so many events have numbers, and a moment later.
async fn until_decided(world: &World, events: usize) {
    while world.store.reserved_events() < events {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_late_decision_in_the_same_commit_takes_nothing_of_its_successors_with_it() {
    for is_late_first in [true, false] {
        let world = World::new("a.test");
        let alice = world.user("alice");
        let room = world.public_room(&alice, RoomVersionId::V11).await;
        let other = world.public_room(&alice, RoomVersionId::V11).await;
        let (handle, busy) = (world.rooms.get(&room).await.unwrap(), world.rooms.get(&other).await.unwrap());
        world.store.hold_commits();
        world.store.hold_naming("org.example.late");
        world.store.fail_next([Fault::Refused]);
        let refused = async {
            world.store.until_naming_waits().await;
            world.store.release_commits();
        };
        let meanwhile = async {
            let (lost, ()) = futures::join!(handle.send(text(&alice, "lost")), refused);
            assert!(matches!(lost, Err(RoomError::Lost)));
            let successor = world.rooms.get(&room).await.unwrap();
            // While the journal is busy, both decide. It takes all of that in one go.
            world.store.hold_commits();
            let before = world.store.reserved_events();
            let both = async {
                world.store.until_commit_waits().await;
                if is_late_first {
                    world.store.release_naming();
                    until_decided(&world, before + 2).await;
                }
                let released = async {
                    if !is_late_first {
                        until_decided(&world, before + 3).await;
                        world.store.release_naming();
                    }
                    until_decided(&world, before + 4).await;
                    world.store.release_commits();
                };
                let (first, second) = (text(&alice, "in its place"), text(&alice, "on top of it"));
                futures::join!(successor.send(first), successor.send(second), released)
            };
            let (_, (first, second, ())) = futures::join!(busy.send(text(&alice, "elsewhere")), both);
            [first.unwrap(), second.unwrap()]
        };
        let late = SendEvent::message(alice.clone(), "org.example.late", content(json!({})));
        let (sent, late) = futures::join!(meanwhile, handle.send(late));
        assert!(matches!(late, Err(RoomError::Lost)), "it was built on what is lost: {late:?}");
        assert_eq!(world.store.timeline(handle.nid())[4..], sent);
    }
}
