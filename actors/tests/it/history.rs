//! A room's past, fetched later; and redactions that come before what they redact.

use std::collections::HashMap;

use myelin_actors::room::messages::{Received, SendEvent};
use myelin_core::{pdu::Pdu, position::TimelinePlace};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
use serde_json::json;

use crate::support::{World, content, text};

struct Past {
    a: World,
    b: World,
    room: OwnedRoomId,
    /// Everything of the room before b came, the oldest first.
    events: Vec<Pdu>,
    join: Pdu,
}

impl Past {
    async fn new(messages: usize) -> Self {
        let (a, b) = (World::new("a.test"), World::new("b.test"));
        let alice = a.user("alice");
        let room = a.public_room(&alice, RoomVersionId::V11).await;
        for number in 0..messages {
            let event = if number % 3 == 0 {
                let topic = content(json!({ "topic": number.to_string() }));
                SendEvent::state(alice.clone(), "m.room.topic", "", topic)
            } else {
                text(&alice, &number.to_string())
            };
            a.send(&room, event).await;
        }
        let view = a.rooms.view(&room).await.unwrap();
        let events = view.recent.iter().map(|event| event.pdu.clone()).collect();
        let join = b.enter(&a, &room, &b.user("bob")).await;
        Self { a, b, room, events, join }
    }

    fn place(&self, event: &Pdu) -> TimelinePlace {
        self.b.store.event(event.event_id()).unwrap().place.unwrap()
    }

    /// The state before this one of the events, as a tells it.
    async fn state_before(&self, event: &Pdu) -> HashMap<OwnedEventId, Vec<OwnedEventId>> {
        let handle = self.a.rooms.get(&self.room).await.unwrap();
        let state = handle.state_at(event.event_id()).await.unwrap().unwrap();
        let mut ids = Vec::new();
        for nid in state {
            ids.push(self.a.event_id(nid).await);
        }
        HashMap::from([(event.event_id().to_owned(), ids)])
    }

    async fn hand(&self, events: &[Pdu], before: TimelinePlace) -> Vec<Received> {
        let handle = self.b.rooms.get(&self.room).await.unwrap();
        let state = self.state_before(&events[0]).await;
        let mut outliers = Vec::new();
        for id in state.values().flatten() {
            outliers.push(self.a.store.event(id).unwrap().pdu);
        }
        handle.receive_outliers(outliers).await.unwrap();
        handle.receive_history(events.to_vec(), state, before).await.unwrap()
    }
}

fn ids(events: &[Pdu]) -> Vec<OwnedEventId> {
    events.iter().map(|event| event.event_id().to_owned()).collect()
}

#[actix_rt::test]
async fn pages_of_history_stand_in_the_order_of_the_room() {
    let past = Past::new(20).await;
    let nid = past.b.rooms.find(&past.room).await.unwrap().unwrap();
    let before = past.b.rooms.view(&past.room).await.unwrap();
    let (older, newer) = past.events.split_at(12);
    let received = past.hand(newer, past.place(&past.join)).await;
    assert!(received.iter().all(|received| *received == Received::Accepted), "{received:?}");
    let received = past.hand(older, past.place(&newer[0])).await;
    assert!(received.iter().all(|received| *received == Received::Accepted), "{received:?}");

    let mut expected = ids(&past.events);
    expected.push(past.join.event_id().to_owned());
    assert_eq!(past.b.store.timeline(nid), expected);
    let view = past.b.rooms.view(&past.room).await.unwrap();
    assert_eq!((view.position, view.recent.len()), (before.position, 1), "nobody is told");
    assert_eq!(view.state, before.state);
    // What came later did not change what was before: each has the state that a knows.
    for event in &past.events[1..] {
        let at_a = past.state_before(event).await.into_values().next().unwrap();
        let handle = past.b.rooms.get(&past.room).await.unwrap();
        let at_b = handle.state_at(event.event_id()).await.unwrap().unwrap();
        let mut ids = Vec::new();
        for nid in at_b {
            ids.push(past.b.event_id(nid).await);
        }
        let (mut at_a, mut ids) = (at_a, ids);
        at_a.sort();
        ids.sort();
        assert_eq!(ids, at_a);
    }
    // Once more changes nothing, after a restart either.
    let again = World::over("b.test", past.b.store.clone());
    let handle = again.rooms.get(&past.room).await.unwrap();
    let place = past.place(&past.join);
    let received = handle.receive_history(past.events.clone(), HashMap::new(), place).await.unwrap();
    assert!(received.iter().all(|received| *received == Received::Known));
    assert_eq!(again.rooms.view(&past.room).await.unwrap().recent.len(), 1);
    assert_eq!(past.b.store.timeline(nid), expected);
}

#[actix_rt::test]
async fn history_whose_past_is_unknown_is_not_taken() {
    let past = Past::new(6).await;
    let handle = past.b.rooms.get(&past.room).await.unwrap();
    let place = past.place(&past.join);
    let page = past.events[6..].to_vec();
    let received = handle.receive_history(page.clone(), HashMap::new(), place).await.unwrap();
    assert_eq!(received[0], Received::Missing(page[0].prev_events().to_vec()));
    assert!(received.iter().all(|received| matches!(received, Received::Missing(_))));
}

#[actix_rt::test]
async fn two_pages_that_are_decided_at_once_do_not_meet() {
    let past = Past::new(9).await;
    let (older, newer) = past.events.split_at(6);
    past.hand(&newer[..1], past.place(&past.join)).await;
    let handle = past.b.rooms.get(&past.room).await.unwrap();
    let place = past.place(&past.join);
    let state = past.state_before(&older[0]).await;
    let first = handle.receive_history(newer[1..].to_vec(), HashMap::new(), place);
    let second = handle.receive_history(older.to_vec(), state, place);
    let (first, second) = futures::join!(first, second);
    assert!(first.unwrap().into_iter().chain(second.unwrap()).all(|one| one == Received::Accepted));
}

#[actix_rt::test]
async fn a_redaction_waits_for_what_it_redacts() {
    let (a, b) = (World::new("a.test"), World::new("b.test"));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.public_room(&alice, RoomVersionId::V11).await;
    let secret = a.send(&room, text(&alice, "secret")).await;
    b.enter(&a, &room, &bob).await;
    let live = a.send(&room, text(&alice, "another secret")).await;
    let mut redactions = Vec::new();
    for target in [&secret, &live] {
        let redaction = SendEvent::message(alice.clone(), "m.room.redaction", content(json!({})));
        let redaction = SendEvent { redacts: Some(target.event_id().to_owned()), ..redaction };
        redactions.push(a.send(&room, redaction).await);
    }
    // The redactions come first: with the state before them, since what they follow is unknown.
    let state = a.export(&room).await.state;
    let handle = b.rooms.get(&room).await.unwrap();
    for redaction in &redactions {
        assert_eq!(handle.receive_at(redaction.clone(), state.clone()).await.unwrap(), Received::Accepted);
    }
    assert_eq!(handle.receive(live.clone()).await.unwrap(), Received::Accepted);
    let stored = b.store.event(live.event_id()).unwrap();
    assert_eq!(stored.pdu.content().get(), "{}");
    assert_eq!(stored.redacted_because.unwrap(), redactions[1]);
    let view = b.rooms.view(&room).await.unwrap();
    let shown = view.recent.iter().find(|event| event.pdu == live).unwrap();
    assert_eq!(shown.pdu.content().get(), "{}");
    // The other is fetched from the room's past.
    let join = b.store.timeline(view.nid)[0].clone();
    let place = b.store.event(&join).unwrap().place.unwrap();
    let at_a = a.rooms.get(&room).await.unwrap().state_at(secret.event_id()).await.unwrap().unwrap();
    let mut before = Vec::new();
    for nid in at_a {
        before.push(a.event_id(nid).await);
    }
    let before = HashMap::from([(secret.event_id().to_owned(), before)]);
    let received = handle.receive_history(vec![secret.clone()], before, place).await.unwrap();
    assert_eq!(received, [Received::Accepted]);
    let stored = b.store.event(secret.event_id()).unwrap();
    assert_eq!(stored.pdu.content().get(), "{}");
    assert_eq!(stored.redacted_because.unwrap(), redactions[0]);
}
