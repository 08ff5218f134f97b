//! The journal when commits fail.

use futures::future::join_all;
use myelin_actors::room::error::RoomError;
use ruma::RoomVersionId;

use crate::support::{World, memory_store::Fault, text};

#[actix_rt::test]
async fn a_lost_connection_loses_nothing_and_doubles_nothing() {
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        let world = World::new("a.test");
        let alice = world.user("alice");
        let room = world.public_room(&alice, RoomVersionId::V11).await;
        let handle = world.rooms.get(&room).await.unwrap();
        world.store.fail_next([fault, fault]);
        let ids: Vec<_> = join_all((0..20).map(|number| handle.send(text(&alice, &number.to_string()))))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let view = world.rooms.view(&room).await.unwrap();
        assert_eq!(world.store.timeline(view.nid)[4..], ids, "{fault:?}");
        let shown: Vec<_> = view.recent.iter().map(|event| event.pdu.event_id().to_owned()).collect();
        assert_eq!(shown[4..], ids, "{fault:?}");
        let positions: Vec<_> = view.recent.iter().map(|event| event.position).collect();
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "{fault:?}: {positions:?}");
    }
}

#[actix_rt::test]
async fn a_refused_change_is_lost_and_the_room_goes_on() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let handle = world.rooms.get(&room).await.unwrap();
    world.store.fail_next([Fault::Refused]);
    assert!(matches!(handle.send(text(&alice, "refused")).await, Err(RoomError::Lost)));
    drop(handle);
    let handle = world.rooms.get(&room).await.unwrap();
    let event = handle.send(text(&alice, "accepted")).await.unwrap();
    let view = world.rooms.view(&room).await.unwrap();
    assert_eq!(world.store.timeline(view.nid).last(), Some(&event));
    assert_eq!(world.store.timeline(view.nid).len(), 5);
}

#[actix_rt::test]
async fn one_rooms_fault_does_not_disturb_another() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let bad = world.public_room(&alice, RoomVersionId::V11).await;
    let good = world.public_room(&alice, RoomVersionId::V11).await;
    let (bad_handle, good_handle) =
        (world.rooms.get(&bad).await.unwrap(), world.rooms.get(&good).await.unwrap());
    world.store.disturb(bad_handle.nid());
    let sends = (0..10).map(|number| good_handle.send(text(&alice, &number.to_string())));
    let (lost, sent) = futures::join!(bad_handle.send(text(&alice, "lost")), join_all(sends));
    assert!(matches!(lost, Err(RoomError::Lost)));
    assert!(sent.into_iter().all(|result| result.is_ok()));
    drop(bad_handle);
    // The next caller gets an actor that has read what is stored.
    world.rooms.get(&bad).await.unwrap().send(text(&alice, "again")).await.unwrap();
}

#[actix_rt::test]
async fn the_fence_makes_a_second_actor_slow_but_not_corrupting() {
    let first = World::new("a.test");
    let alice = first.user("alice");
    let room = first.public_room(&alice, RoomVersionId::V11).await;
    let second = World::over("a.test", first.store.clone());
    let mut sent = Vec::new();
    for number in 0..20 {
        let world = if number % 2 == 0 { &first } else { &second };
        // One of them is always behind: it may have to be asked again.
        loop {
            match world.rooms.get(&room).await.unwrap().send(text(&alice, &number.to_string())).await {
                Ok(event) => break sent.push(event),
                Err(RoomError::Lost) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    let nid = first.rooms.find(&room).await.unwrap().unwrap();
    assert_eq!(first.store.timeline(nid)[4..], sent);
}
