//! What is asked for while an earlier request waits for its commit, and rests on that.

use std::{fmt::Debug, future::Future, pin::pin};

use futures::poll;
use myelin_actors::room::{
    error::RoomError,
    messages::{Received, SendEvent, Txn},
};
use ruma::{RoomId, RoomVersionId};
use serde_json::json;

use crate::support::{World, content, member, memory_store::Fault, text};

/// Asks for the same twice, the second time while the first waits for its commit, which ends with `fault`: what both
/// are answered.
async fn twice<T: Debug, F: Future<Output = Result<T, RoomError>>>(
    world: &World,
    room: &RoomId,
    fault: Option<Fault>,
    ask: impl Fn() -> F,
) -> (Result<T, RoomError>, Result<T, RoomError>) {
    world.store.hold_commits();
    world.store.fail_next(fault);
    let (mut first, mut second) = (pin!(ask()), pin!(ask()));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    // The room takes one after the other, and what it refuses waits for no commit: so it has dealt with both.
    let handle = world.rooms.get(room).await.unwrap();
    let stranger = handle.send(text(&world.user("stranger"), "hello")).await;
    assert!(matches!(stranger, Err(RoomError::Forbidden(_))), "{stranger:?}");
    assert!(poll!(&mut first).is_pending());
    let early = poll!(&mut second);
    assert!(early.is_pending(), "answered before anything is durable: {early:?}");
    world.store.release_commits();
    futures::join!(first, second)
}

fn both_are_lost<T: Debug>(answers: &(Result<T, RoomError>, Result<T, RoomError>)) {
    assert!(matches!(answers, (Err(RoomError::Lost), Err(RoomError::Lost))), "{answers:?}");
}

#[actix_rt::test]
async fn an_event_that_is_sent_again_waits_for_the_commit_of_the_first() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    let txn = Txn { device_id: "D".into(), scope: "send/m.room.message".to_owned(), txn_id: "1".to_owned() };
    let name = content(json!({ "name": "Tea" }));
    for event in [
        SendEvent { txn: Some(txn), ..text(&alice, "once") },
        SendEvent::state(alice.clone(), "m.room.name", "", name),
    ] {
        let send = || async { world.rooms.get(&room).await?.send(event.clone()).await };
        both_are_lost(&twice(&world, &room, Some(Fault::Refused), send).await);
        let (first, second) = twice(&world, &room, None, send).await;
        let first = first.unwrap();
        assert_eq!(second.unwrap(), first);
        // What is durable needs no commit.
        assert_eq!(send().await.unwrap(), first);
    }
}

#[actix_rt::test]
async fn an_event_that_comes_again_waits_for_the_commit_of_the_first() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    b.enter(&a, &room, &bob).await;
    let pdu = a.send(&room, text(&alice, "hello")).await;
    let receive = || async { b.rooms.get(&room).await?.receive(pdu.clone()).await };
    both_are_lost(&twice(&b, &room, Some(Fault::Refused), receive).await);
    let (first, second) = twice(&b, &room, None, receive).await;
    assert_eq!((first.unwrap(), second.unwrap()), (Received::Accepted, Received::Known));
}

#[actix_rt::test]
async fn an_invitation_that_is_rejected_again_waits_for_the_commit_of_the_first() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    let invite = SendEvent { sender: alice, ..member(&bob, "invite") };
    let invite = a.send(&room, invite).await;
    b.rooms.receive_membership(&room, &RoomVersionId::V11, invite, Vec::new()).await.unwrap();
    let leave = || b.rooms.leave_outside(&room, &bob);
    both_are_lost(&twice(&b, &room, Some(Fault::Refused), leave).await);
    let (first, second) = twice(&b, &room, None, leave).await;
    first.unwrap();
    second.unwrap();
}

#[actix_rt::test]
async fn an_event_that_is_prepared_for_another_server_names_only_what_is_durable() {
    let world = World::new("a.test");
    let alice = world.user("alice");
    let room = world.public_room(&alice, RoomVersionId::V11).await;
    for fault in [Some(Fault::Refused), None] {
        world.store.hold_commits();
        world.store.fail_next(fault);
        let handle = world.rooms.get(&room).await.unwrap();
        let mut sent = pin!(handle.send(text(&alice, "hello")));
        let mut prepared = pin!(handle.prepare(text(&alice, "prepared")));
        let mut template = pin!(handle.template(text(&alice, "template")));
        assert!(poll!(&mut sent).is_pending());
        assert!(poll!(&mut prepared).is_pending() && poll!(&mut template).is_pending());
        let stranger = handle.send(text(&world.user("stranger"), "hello")).await;
        assert!(matches!(stranger, Err(RoomError::Forbidden(_))), "{stranger:?}");
        assert!(poll!(&mut prepared).is_pending() && poll!(&mut template).is_pending());
        world.store.release_commits();
        let (sent, prepared, template) = futures::join!(sent, prepared, template);
        if fault.is_some() {
            assert!(matches!((prepared, template), (Err(RoomError::Lost), Err(RoomError::Lost))));
        } else {
            assert_eq!(prepared.unwrap().prev_events(), [sent.unwrap()]);
            template.unwrap();
        }
    }
}
