//! One room: what it accepts, refuses and repeats.

use futures::future::join_all;
use myelin_actors::room::{
    error::RoomError,
    messages::{SendEvent, Txn},
};
use ruma::RoomVersionId;
use serde_json::json;

use crate::support::{World, content, member, redaction, text};

#[actix_rt::test]
async fn a_room_of_every_version_takes_messages() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    for version in myelin_core::version::all() {
        let room = world.public_room(&alice, version.id.clone()).await;
        let handle = world.rooms.get(&room).await.unwrap();
        let event = handle.send(text(&alice, "hello")).await.unwrap();
        let view = world.rooms.view(&room).await.unwrap();
        assert_eq!(view.recent.last().unwrap().pdu.event_id(), event, "version {}", version.id);
        assert_eq!(view.joined, 1);
        assert_eq!(view.recent.len(), 5);
    }
}

#[actix_rt::test]
async fn decisions_do_not_wait_for_commits() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let handle = world.rooms.get(&room).await.unwrap();
    let before = world.store.commits();
    world.store.hold_commits();
    let sends = join_all((0..200).map(|number| handle.send(text(&alice, &number.to_string()))));
    let decided = async {
        while world.store.reserved_events() < 204 {
            tokio::task::yield_now().await;
        }
        world.store.release_commits();
    };
    let (ids, ()) = futures::join!(sends, decided);
    let ids: Vec<_> = ids.into_iter().map(Result::unwrap).collect();
    let commits = world.store.commits() - before;
    assert!(commits <= 3, "200 events took {commits} commits");
    let view = world.rooms.view(&room).await.unwrap();
    assert_eq!(world.store.timeline(view.nid)[4..], ids, "the order of decisions is the order of commits");
}

#[actix_rt::test]
async fn the_same_transaction_makes_one_event() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let txn = Txn { device_id: "D".into(), scope: "send/m.room.message".to_owned(), txn_id: "1".to_owned() };
    let event = || SendEvent { txn: Some(txn.clone()), ..text(&alice, "once") };
    let handle = world.rooms.get(&room).await.unwrap();
    let (first, second) = futures::join!(handle.send(event()), handle.send(event()));
    let first = first.unwrap();
    assert_eq!(first, second.unwrap());
    // A restart does not forget it.
    let again = World::over("a.test", world.store.clone());
    assert_eq!(again.rooms.get(&room).await.unwrap().send(event()).await.unwrap(), first);
}

#[actix_rt::test]
async fn who_is_not_in_the_room_may_not_send() {
    let world = World::new("a.test");
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let room = world.public_room(&alice, RoomVersionId::V10).await;
    let handle = world.rooms.get(&room).await.unwrap();
    assert!(matches!(handle.send(text(&bob, "hi")).await, Err(RoomError::Forbidden(_))));
    handle.send(member(&bob, "join")).await.unwrap();
    handle.send(text(&bob, "hi")).await.unwrap();
    assert_eq!(world.rooms.view(&room).await.unwrap().joined, 2);
}

#[actix_rt::test]
async fn state_that_is_the_same_already_is_not_sent_again() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let handle = world.rooms.get(&room).await.unwrap();
    let name =
        |name: &str| SendEvent::state(alice.clone(), "m.room.name", "", content(json!({ "name": name })));
    let first = handle.send(name("one")).await.unwrap();
    assert_eq!(handle.send(name("one")).await.unwrap(), first);
    assert_ne!(handle.send(name("two")).await.unwrap(), first);
}

#[actix_rt::test]
async fn nothing_remains_of_a_room_that_may_not_be() {
    let world = World::new("a.test");
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let events = vec![
        SendEvent::state(alice.clone(), "m.room.create", "", content(json!({ "room_version": "11" }))),
        member(&alice, "join"),
        text(&bob, "I am not here"),
    ];
    let request = myelin_actors::registry::CreateRoom { version: RoomVersionId::V11, room_id: None, events };
    assert!(matches!(world.rooms.create(request).await, Err(RoomError::Forbidden(_))));
    assert_eq!(world.store.commits(), 0);
    assert_eq!(world.rooms.resident(), 0);
}

#[actix_rt::test]
async fn a_redacted_event_is_shown_without_its_content() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let room = world.public_room(&alice, version).await;
        let handle = world.rooms.get(&room).await.unwrap();
        let event = handle.send(text(&alice, "secret")).await.unwrap();
        handle.send(redaction(&alice, &event)).await.unwrap();
        let view = world.rooms.view(&room).await.unwrap();
        let shown = view.recent.iter().find(|shown| shown.pdu.event_id() == event).unwrap();
        assert_eq!(shown.pdu.content().get(), "{}");
        assert!(shown.redacted_because.is_some());
    }
}
