//! Coming into rooms of other servers: with the state that they hand over, again after everybody had left, and after
//! having been told of the room from outside.

use myelin_actors::room::{
    error::RoomError,
    messages::{Received, SendEvent},
};
use myelin_core::{admit::AdmissionCode, membership::Membership, nid::types};
use ruma::RoomVersionId;
use serde_json::json;

use crate::support::{World, content, member, text};

#[actix_rt::test]
async fn a_room_is_entered_with_the_state_that_is_handed_over() {
    for version in [RoomVersionId::V1, RoomVersionId::V10, RoomVersionId::V12] {
        let (a, b) = (World::new("a.test"), World::new("b.test"));
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.public_room(&alice, version.clone()).await;
        for number in 0..30 {
            a.send(&room, member(&a.user(&format!("user{number}")), "join")).await;
        }
        assert!(matches!(b.rooms.get(&room).await, Err(RoomError::NotFound)));
        let join = b.enter(&a, &room, &bob).await;

        let (at_a, at_b) = (a.rooms.view(&room).await.unwrap(), b.rooms.view(&room).await.unwrap());
        assert_eq!(at_b.state.len(), at_a.state.len(), "version {version}");
        assert_eq!((at_b.joined, at_b.members.len()), (32, 32));
        assert_eq!(at_b.servers[&a.name], 31);
        assert_eq!(at_b.servers[&b.name], 1);
        assert!(at_b.essential(types::CREATE).is_some() && at_b.essential(types::JOIN_RULES).is_some());
        assert_eq!(b.store.timeline(at_b.nid), [join.event_id()]);
        assert_eq!(b.store.membership(at_b.nid, &alice), Some(Membership::Join));
        assert_eq!(b.store.event(at_b.essential(types::CREATE).unwrap().event_id()).unwrap().place, None);

        // It is the room of both now, after a restart too.
        let again = World::over("b.test", b.store.clone());
        let loaded = again.rooms.view(&room).await.unwrap();
        assert_eq!(
            (loaded.state.clone(), loaded.servers.clone()),
            (at_b.state.clone(), at_b.servers.clone())
        );
        let hello = b.send(&room, text(&bob, "hello")).await;
        assert_eq!(a.receive(&room, &hello).await, Received::Accepted);
        let answer = a.send(&room, text(&alice, "hello bob")).await;
        assert_eq!(b.receive(&room, &answer).await, Received::Accepted);
    }
}

#[actix_rt::test]
async fn an_import_larger_than_a_portion_is_kept_whole() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    let handle = a.rooms.get(&room).await.unwrap();
    let joins = (0..2_500).map(|number| member(&a.user(&format!("user{number}")), "join"));
    handle.send_all(joins.collect()).await.unwrap();
    let before = b.store.commits();
    b.enter(&a, &room, &bob).await;
    assert_eq!(b.store.commits() - before, 4, "three portions and the join");
    let view = b.rooms.view(&room).await.unwrap();
    assert_eq!((view.joined, view.servers[&a.name]), (2_502, 2_501));
}

#[actix_rt::test]
async fn outliers_are_judged_by_what_they_are_based_on() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, mallory) = (a.user("alice"), a.user("mallory"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    let joined = a.send(&room, member(&mallory, "join")).await;
    let export = a.export(&room).await;
    let handle = b.rooms.begin(&room, &RoomVersionId::V11).await.unwrap();
    let (last, rest): (Vec<_>, Vec<_>) =
        export.events.into_iter().partition(|pdu| pdu.event_id() == joined.event_id());
    let (create, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|pdu| pdu.event_type() == "m.room.create");
    let received = handle.receive_outliers(last.clone()).await.unwrap();
    assert!(matches!(&received[joined.event_id()], Received::Missing(ids) if ids.len() >= 3));
    assert_eq!(b.store.commits(), 0, "what cannot be judged is not stored");
    assert!(matches!(b.rooms.get(&room).await, Err(RoomError::NotFound)));
    // In any order.
    let all = last.into_iter().chain(rest.into_iter().rev()).chain(create).collect::<Vec<_>>();
    let received = handle.receive_outliers(all.clone()).await.unwrap();
    assert!(received.values().all(|received| *received == Received::Accepted), "{received:?}");
    let received = handle.receive_outliers(all).await.unwrap();
    assert!(received.values().all(|received| *received == Received::Known), "{received:?}");
    assert_eq!(b.store.event(joined.event_id()).unwrap().admission, AdmissionCode::Outlier);
    let view = b.rooms.view(&room).await.unwrap();
    assert!(view.state.is_empty() && view.snapshot.is_none() && view.recent.is_empty());
    assert!(!view.is_resident(&b.name));
    let sent = b.rooms.get(&room).await.unwrap().send(text(&b.user("bob"), "hello")).await;
    assert!(matches!(sent, Err(RoomError::Forbidden(_))));
}

#[actix_rt::test]
async fn state_that_is_not_known_is_asked_for() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let alice = a.user("alice");
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    let join = a.send(&room, member(&alice, "leave")).await;
    let export = a.export(&room).await;
    let handle = b.rooms.begin(&room, &RoomVersionId::V11).await.unwrap();
    let received = handle.receive_at(join.clone(), export.state.clone()).await.unwrap();
    assert!(matches!(received, Received::Missing(ids) if ids.len() == 3), "its auth events");
    handle.receive_outliers(export.events).await.unwrap();
    let unknown = vec!["$unknown".try_into().unwrap()];
    let received = handle.receive_at(join.clone(), unknown.clone()).await.unwrap();
    assert_eq!(received, Received::Missing(unknown));
}

#[actix_rt::test]
async fn a_room_is_entered_again_as_it_is_then() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob, carol) = (a.user("alice"), b.user("bob"), b.user("carol"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    b.enter(&a, &room, &bob).await;
    let carols = b.send(&room, member(&carol, "join")).await;
    a.receive(&room, &carols).await;
    for user in [&carol, &bob] {
        let leave = b.send(&room, member(user, "leave")).await;
        a.receive(&room, &leave).await;
    }
    let nid = b.rooms.find(&room).await.unwrap().unwrap();
    // What happens while nobody of b is there, b does not learn.
    let topic = SendEvent::state(alice.clone(), "m.room.topic", "", content(json!({ "topic": "new" })));
    a.send(&room, topic).await;
    let ban = content(json!({ "membership": "ban" }));
    a.send(&room, SendEvent::state(alice.clone(), "m.room.member", carol.as_str(), ban)).await;
    let join = b.enter(&a, &room, &bob).await;

    let (at_a, at_b) = (a.rooms.view(&room).await.unwrap(), b.rooms.view(&room).await.unwrap());
    assert_eq!(at_b.state.len(), at_a.state.len());
    assert!(at_b.essential(types::TOPIC).is_some());
    assert_eq!(b.store.membership(nid, &carol), Some(Membership::Ban), "the index follows the state");
    assert_eq!(b.store.timeline(nid).last().unwrap(), join.event_id());
    let hello = b.send(&room, text(&bob, "hello again")).await;
    assert_eq!(hello.prev_events(), [join.event_id()], "the head is the join alone");
    assert_eq!(a.receive(&room, &hello).await, Received::Accepted);
}

#[actix_rt::test]
async fn an_outlier_that_is_received_in_its_place_is_the_same_event() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    b.enter(&a, &room, &bob).await;
    let topic = SendEvent::state(alice.clone(), "m.room.topic", "", content(json!({ "topic": "tea" })));
    let topic = a.send(&room, topic).await;
    let handle = b.rooms.get(&room).await.unwrap();
    handle.receive_outliers(vec![topic.clone()]).await.unwrap();
    let before = b.store.event(topic.event_id()).unwrap();
    assert_eq!((before.admission, before.place), (AdmissionCode::Outlier, None));
    let view = b.rooms.view(&room).await.unwrap();
    assert_eq!(view.recent.len(), 1, "an outlier is no news");
    assert_eq!(handle.receive(topic.clone()).await.unwrap(), Received::Accepted);
    let after = b.store.event(topic.event_id()).unwrap();
    assert_eq!((after.nid, after.admission), (before.nid, AdmissionCode::Accepted));
    assert!(after.place.is_some() && after.snapshot.is_some());
    let later = a.send(&room, text(&alice, "more")).await;
    assert_eq!(handle.receive(later).await.unwrap(), Received::Accepted);
    assert_eq!(handle.receive(topic).await.unwrap(), Received::Known);
}

#[actix_rt::test]
async fn what_is_prepared_is_not_yet_in_the_room() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    let handle = a.rooms.get(&room).await.unwrap();
    let invite = content(json!({ "membership": "invite" }));
    let invite = SendEvent::state(alice.clone(), "m.room.member", bob.as_str(), invite);
    let prepared = handle.prepare(invite).await.unwrap();
    assert_eq!(a.rooms.view(&room).await.unwrap().invited, 0);
    assert_eq!(handle.receive(prepared).await.unwrap(), Received::Accepted);
    assert_eq!(a.rooms.view(&room).await.unwrap().invited, 1);
    let refused = handle.prepare(text(&bob, "I am not here yet")).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))));
    let refused = handle.template(text(&bob, "I am not here yet")).await;
    assert!(matches!(refused, Err(RoomError::Forbidden(_))));
    let template = handle.template(member(&bob, "join")).await.unwrap();
    assert!(!template.contains_key("hashes") && !template.contains_key("signatures"));
}
