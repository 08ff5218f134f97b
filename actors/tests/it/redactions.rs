//! Who may redact the events of others is a matter of the power levels at the redaction, whatever they became later and
//! whenever the target comes.

use std::collections::HashMap;

use myelin_actors::room::messages::{Received, SendEvent};
use myelin_core::pdu::Pdu;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use crate::support::{World, content, member, redaction, text};

/// A room of a.test that carol, of c.test, is in too. Redacting the events of others takes 50.
struct Story {
    a: World,
    c: World,
    room: OwnedRoomId,
    version: RoomVersionId,
    alice: OwnedUserId,
    mod_: OwnedUserId,
    eve: OwnedUserId,
    carol: OwnedUserId,
}

impl Story {
    /// One in which the moderator has 50, and carol this.
    async fn new(version: RoomVersionId, carols: i64) -> Self {
        let a = World::new("a.test");
        let (alice, mod_, eve) = (a.user("alice"), a.user("mod"), a.user("eve"));
        let carol: OwnedUserId = "@carol:c.test".try_into().unwrap();
        let room = a.public_room(&alice, version.clone()).await;
        for user in [&mod_, &eve, &carol] {
            a.send(&room, member(user, "join")).await;
        }
        let c = World::over("c.test", a.store.copy());
        let story = Self { a, c, room, version, alice, mod_, eve, carol };
        let levels = story.levels(50, 0, carols);
        let pdu = story.a.send(&story.room, levels).await;
        assert_eq!(story.c.receive(&story.room, &pdu).await, Received::Accepted);
        story
    }

    fn levels(&self, mods: i64, eves: i64, carols: i64) -> SendEvent {
        let mut users =
            json!({ self.mod_.as_str(): mods, self.eve.as_str(): eves, self.carol.as_str(): carols });
        if self.version != RoomVersionId::V12 {
            users[self.alice.as_str()] = 100.into();
        }
        let content = content(json!({ "users": users, "redact": 50 }));
        SendEvent::state(self.alice.clone(), "m.room.power_levels", "", content)
    }

    /// An event of carol's that only her server knows.
    async fn spam(&self) -> Pdu {
        self.c.send(&self.room, text(&self.carol, "spam")).await
    }

    /// Another server comes, and fetches these events.
    async fn fetched_by_another(&self, events: &[&Pdu]) -> World {
        let b = World::new("b.test");
        let join = b.enter(&self.a, &self.room, &b.user("bob")).await;
        let handle = self.a.rooms.get(&self.room).await.unwrap();
        let (mut before, mut outliers) = (HashMap::new(), Vec::new());
        // What the first two follow is not fetched.
        for event in &events[..2] {
            let mut state: Vec<OwnedEventId> = Vec::new();
            for nid in handle.state_at(event.event_id()).await.unwrap().unwrap() {
                let id = self.a.event_id(nid).await;
                outliers.push(self.a.store.event(&id).unwrap().pdu);
                state.push(id);
            }
            before.insert(event.event_id().to_owned(), state);
        }
        let handle = b.rooms.get(&self.room).await.unwrap();
        handle.receive_outliers(outliers).await.unwrap();
        let place = b.store.event(join.event_id()).unwrap().place.unwrap();
        let page = events.iter().map(|event| (*event).clone()).collect();
        let received = handle.receive_history(page, before, place).await.unwrap();
        assert!(received.iter().all(|one| *one == Received::Accepted), "{received:?}");
        b
    }
}

/// By which event this one is redacted on that server, if it is.
#[track_caller]
fn redacted_by(world: &World, target: &Pdu) -> Option<OwnedEventId> {
    let stored = world.store.event(target.event_id()).unwrap();
    assert_eq!(stored.pdu.content().get() == "{}", stored.redacted_because.is_some());
    stored.redacted_because.map(|by| by.event_id().to_owned())
}

/// Clients of that server see the event.
fn is_shown(world: &World, event: &Pdu) -> bool {
    world.store.event(event.event_id()).unwrap().place.is_some()
}

#[actix_rt::test]
async fn redaction_that_waited_is_judged_by_the_levels_at_it() {
    use RoomVersionId::{V1, V2, V10, V11, V12};
    for (version, restarts) in
        [(V1, false), (V2, true), (V10, false), (V10, true), (V11, false), (V11, true), (V12, true)]
    {
        let story = Story::new(version.clone(), 0).await;
        let spam = story.spam().await;
        let by = story.a.send(&story.room, redaction(&story.mod_, spam.event_id())).await;
        story.a.send(&story.room, story.levels(0, 0, 0)).await;
        let again = restarts.then(|| World::over("a.test", story.a.store.clone()));
        let world = again.as_ref().unwrap_or(&story.a);
        assert_eq!(world.receive(&story.room, &spam).await, Received::Accepted);
        let by = Some(by.event_id().to_owned());
        assert_eq!(redacted_by(world, &spam), by, "version {version}, restarts: {restarts}");
    }
}

#[actix_rt::test]
async fn redaction_is_shown_when_its_target_is_here() {
    for version in [RoomVersionId::V2, RoomVersionId::V10, RoomVersionId::V12] {
        for restarts in [false, true] {
            let story = Story::new(version.clone(), 0).await;
            let spam = story.spam().await;
            // One of this server's, one of another's, and one that is in vain.
            let here = story.a.send(&story.room, redaction(&story.mod_, spam.event_id())).await;
            let b = World::over("c.test", story.a.store.copy());
            let there = b.send(&story.room, redaction(&story.carol, spam.event_id())).await;
            assert_eq!(story.a.receive(&story.room, &there).await, Received::Accepted);
            // The first versions ask for the server in its id, and are done.
            let at_once = version == RoomVersionId::V2;
            let in_vain = if at_once { &story.mod_ } else { &story.eve };
            let vain = story.a.send(&story.room, redaction(in_vain, spam.event_id())).await;
            let all = [&here, &there, &vain];
            assert_eq!(all.map(|by| is_shown(&story.a, by)), [at_once; 3], "version {version}");
            let again = restarts.then(|| World::over("a.test", story.a.store.clone()));
            let world = again.as_ref().unwrap_or(&story.a);
            assert_eq!(world.receive(&story.room, &spam).await, Received::Accepted);
            assert_eq!(all.map(|by| is_shown(world, by)), [true, true, at_once], "version {version}");
            if !at_once {
                let place = |pdu: &Pdu| world.store.event(pdu.event_id()).unwrap().place;
                assert!(place(&here) > place(&spam) && place(&there) > place(&spam));
                let view = world.rooms.view(&story.room).await.unwrap();
                let recent: Vec<&Pdu> = view.recent.iter().map(|event| &event.pdu).collect();
                assert!(recent.contains(&&here) && recent.contains(&&there) && !recent.contains(&&vain));
            }
            // Each was decided once.
            for by in all {
                assert_eq!(world.receive(&story.room, by).await, Received::Known);
            }
            let next = world.send(&story.room, text(&story.alice, "next")).await;
            assert!(is_shown(world, &next));
        }
    }
}

#[actix_rt::test]
async fn redaction_that_waited_gains_nothing_by_a_later_promotion() {
    for restarts in [false, true] {
        let story = Story::new(RoomVersionId::V11, 0).await;
        let (kept, spam) = (story.spam().await, story.spam().await);
        for target in [&kept, &spam] {
            story.a.send(&story.room, redaction(&story.eve, target.event_id())).await;
        }
        let by = story.a.send(&story.room, redaction(&story.mod_, spam.event_id())).await;
        story.a.send(&story.room, story.levels(50, 50, 0)).await;
        let again = restarts.then(|| World::over("a.test", story.a.store.clone()));
        let world = again.as_ref().unwrap_or(&story.a);
        for target in [&kept, &spam] {
            assert_eq!(world.receive(&story.room, target).await, Received::Accepted);
        }
        assert_eq!(redacted_by(world, &kept), None);
        // One that is in vain keeps no other from what it may.
        assert_eq!(redacted_by(world, &spam), Some(by.event_id().to_owned()));
    }
}

#[actix_rt::test]
async fn redaction_on_a_fork_is_judged_by_the_levels_there() {
    for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        for (then, now) in [(50, 0), (0, 50)] {
            let story = Story::new(version.clone(), then).await;
            let target = story.a.send(&story.room, text(&story.eve, "hello")).await;
            // Her server does not know it, and need not ask her whether she may.
            let by = story.c.send(&story.room, redaction(&story.carol, target.event_id())).await;
            story.a.send(&story.room, story.levels(50, 0, now)).await;
            assert_eq!(story.a.receive(&story.room, &by).await, Received::Accepted);
            let expected = (then >= 50).then(|| by.event_id().to_owned());
            assert_eq!(redacted_by(&story.a, &target), expected, "version {version}: {then}, then {now}");
            assert_eq!(is_shown(&story.a, &by), then >= 50, "version {version}: {then}, then {now}");
        }
    }
}

#[actix_rt::test]
async fn redaction_in_the_past_is_judged_by_the_levels_there() {
    for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        for (then, now) in [(50, 0), (0, 50)] {
            let story = Story::new(version.clone(), then).await;
            let target = story.a.send(&story.room, text(&story.eve, "hello")).await;
            let by = story.c.send(&story.room, redaction(&story.carol, target.event_id())).await;
            assert_eq!(story.a.receive(&story.room, &by).await, Received::Accepted);
            let levels = story.a.send(&story.room, story.levels(50, 0, now)).await;
            let later = story.a.send(&story.room, text(&story.alice, "later")).await;
            // As it was before it was redacted here, or not.
            let page = [&target, &by, &levels, &later];
            let expected = (then >= 50).then(|| by.event_id().to_owned());
            let b = story.fetched_by_another(&page).await;
            assert_eq!(redacted_by(&b, &target), expected, "version {version}: {then}, then {now}");
            assert_eq!(is_shown(&b, &by), then >= 50, "version {version}: {then}, then {now}");
            // What it follows need not come first in a page: these two do not follow each other.
            let page = [&by, &target, &levels, &later];
            let b = story.fetched_by_another(&page).await;
            assert_eq!(redacted_by(&b, &target), expected, "version {version}: {then}, then {now}");
            assert_eq!(is_shown(&b, &by), then >= 50, "version {version}: {then}, then {now}");
        }
    }
}
