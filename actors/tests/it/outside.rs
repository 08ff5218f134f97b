//! Users and rooms that their server is not in.

use myelin_actors::room::{
    error::RoomError,
    messages::{Received, SendEvent},
};
use myelin_core::{admit::AdmissionCode, membership::Membership, pdu::Pdu};
use ruma::{OwnedRoomId, RoomVersionId, UserId};
use serde_json::{json, value::RawValue};

use crate::support::{World, content, member};

fn about(sender: &UserId, user: &UserId, membership: &str) -> SendEvent {
    let content = content(json!({ "membership": membership }));
    SendEvent::state(sender.to_owned(), "m.room.member", user.as_str(), content)
}

fn stripped(room_name: &str) -> Vec<Box<RawValue>> {
    let name = json!({
        "type": "m.room.name", "state_key": "", "sender": "@alice:a.test",
        "content": { "name": room_name }, "origin_server_ts": 1, "event_id": "$dropped",
    });
    [name, json!("no event"), json!({ "type": "m.room.topic" })]
        .into_iter()
        .map(|event| RawValue::from_string(event.to_string()).unwrap())
        .collect()
}

struct Two {
    a: World,
    b: World,
    room: OwnedRoomId,
}

impl Two {
    async fn new() -> Self {
        let (a, b) = (World::new("a.test"), World::new("b.test"));
        let room = a.public_room(&a.user("alice"), RoomVersionId::V11).await;
        Self { a, b, room }
    }

    /// Invites a user of b; a keeps the event.
    async fn invite(&self, user: &UserId) -> Pdu {
        self.a.send(&self.room, about(&self.a.user("alice"), user, "invite")).await
    }

    async fn told(&self, event: &Pdu) -> Result<(), RoomError> {
        let stripped = stripped("Tea");
        let version = RoomVersionId::V11;
        self.b.rooms.receive_membership(&self.room, &version, event.clone(), stripped).await.map(drop)
    }

    fn membership(&self, user: &UserId) -> Option<Membership> {
        let nid = self.b.store.room(&self.room)?;
        self.b.store.membership(nid, user)
    }
}

#[actix_rt::test]
async fn who_is_invited_is_told_of_the_room_until_they_join() {
    let two = Two::new().await;
    let bob = two.b.user("bob");
    let invite = two.invite(&bob).await;
    two.told(&invite).await.unwrap();
    let nid = two.b.store.room(&two.room).unwrap();
    assert_eq!(two.membership(&bob), Some(Membership::Invite));
    let told = two.b.store.stripped(nid, &bob).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&told).unwrap(),
        json!([{
            "type": "m.room.name", "state_key": "", "sender": "@alice:a.test", "content": { "name": "Tea" },
        }])
    );
    let stored = two.b.store.event(invite.event_id()).unwrap();
    assert_eq!((stored.admission, stored.place), (AdmissionCode::Outlier, None));
    let view = two.b.rooms.view(&two.room).await.unwrap();
    assert!(view.state.is_empty() && view.recent.is_empty() && !view.is_resident(&two.b.name));
    assert_eq!(view.invited, 1);
    // The same after a restart.
    let again = World::over("b.test", two.b.store.clone());
    assert_eq!(again.rooms.view(&two.room).await.unwrap().invited, 1);

    two.b.enter(&two.a, &two.room, &bob).await;
    assert_eq!(two.membership(&bob), Some(Membership::Join));
    assert_eq!(two.b.store.stripped(nid, &bob), None);
    assert_eq!(two.b.rooms.view(&two.room).await.unwrap().joined, 2);
    let stored = two.b.store.event(invite.event_id()).unwrap();
    assert_eq!(stored.admission, AdmissionCode::Outlier);
}

#[actix_rt::test]
async fn whoever_comes_into_the_room_brings_the_truth_about_the_others() {
    let two = Two::new().await;
    let (bob, carol, dave) = (two.b.user("bob"), two.b.user("carol"), two.b.user("dave"));
    for user in [&bob, &carol, &dave] {
        let invite = two.invite(user).await;
        two.told(&invite).await.unwrap();
    }
    // Carol's invitation was taken back, and b was not told; dave's stands.
    two.a.send(&two.room, about(&two.a.user("alice"), &carol, "leave")).await;
    // An invitation that the room knows nothing of.
    let other = World::new("a.test");
    let other_room = other.public_room(&other.user("alice"), RoomVersionId::V11).await;
    let eve = two.b.user("eve");
    let lie = other.send(&other_room, about(&other.user("alice"), &eve, "invite")).await;
    let refused = two.b.rooms.receive_membership(&two.room, &RoomVersionId::V11, lie, Vec::new()).await;
    assert!(matches!(refused, Err(RoomError::Invalid(_))), "it is of another room");

    two.b.enter(&two.a, &two.room, &bob).await;
    assert_eq!(two.membership(&carol), Some(Membership::Leave));
    assert_eq!(two.membership(&dave), Some(Membership::Invite));
    let nid = two.b.store.room(&two.room).unwrap();
    assert_eq!(two.b.store.stripped(nid, &carol), None);
    assert!(two.b.store.stripped(nid, &dave).is_some(), "it is what dave was told");
    let late = two.told(&two.invite(&two.b.user("frank")).await).await;
    assert!(matches!(late, Err(RoomError::Invalid(_))), "this server is in the room now");
}

#[actix_rt::test]
async fn an_invitation_can_be_rejected_with_and_without_an_event() {
    let two = Two::new().await;
    let (bob, carol) = (two.b.user("bob"), two.b.user("carol"));
    for user in [&bob, &carol] {
        let invite = two.invite(user).await;
        two.told(&invite).await.unwrap();
    }
    let nid = two.b.store.room(&two.room).unwrap();
    let version = myelin_core::version::find(&RoomVersionId::V11).unwrap();
    let handle = two.a.rooms.get(&two.room).await.unwrap();
    let template = handle.template(member(&bob, "leave")).await.unwrap();
    let leave = myelin_core::pdu::build::complete_template(version, template, None, &two.b.signer).unwrap();
    assert_eq!(handle.receive(leave.clone()).await.unwrap(), Received::Accepted);
    two.told(&leave).await.unwrap();
    two.b.rooms.leave_outside(&two.room, &carol).await.unwrap();
    two.b.rooms.leave_outside(&two.room, &carol).await.unwrap();
    for user in [&bob, &carol] {
        assert_eq!(two.membership(user), Some(Membership::Leave));
        assert_eq!(two.b.store.stripped(nid, user), None);
    }
    let stranger = two.b.rooms.leave_outside(&two.room, &two.b.user("stranger")).await;
    assert!(matches!(stranger, Err(RoomError::Forbidden(_))));
    let nowhere = two.b.rooms.leave_outside(ruma::room_id!("!none:a.test"), &carol).await;
    assert!(matches!(nowhere, Err(RoomError::NotFound)));
}

#[actix_rt::test]
async fn an_old_invitation_does_not_come_true_again() {
    let two = Two::new().await;
    let bob = two.b.user("bob");
    let invite = two.invite(&bob).await;
    two.told(&invite).await.unwrap();
    two.b.rooms.leave_outside(&two.room, &bob).await.unwrap();
    two.told(&invite).await.unwrap();
    assert_eq!(two.membership(&bob), Some(Membership::Leave));
    let join = two.a.send(&two.room, member(&two.a.user("someone"), "join")).await;
    assert!(two.told(&join).await.is_err(), "a join of somebody else");
}

#[actix_rt::test]
async fn a_room_that_was_left_can_be_seen_from_outside_again() {
    let two = Two::new().await;
    let (alice, bob) = (two.a.user("alice"), two.b.user("bob"));
    two.b.enter(&two.a, &two.room, &bob).await;
    let leave = two.b.send(&two.room, member(&bob, "leave")).await;
    two.a.receive(&two.room, &leave).await;
    let invite = two.invite(&bob).await;
    two.told(&invite).await.unwrap();
    assert_eq!(two.membership(&bob), Some(Membership::Invite));
    let stored = two.b.store.event(invite.event_id()).unwrap();
    assert_eq!(stored.prev_content.unwrap().event_id, leave.event_id(), "it follows what bob was");
    // Somebody else comes in while bob is invited.
    let carol = two.b.user("carol");
    two.a.send(&two.room, about(&alice, &bob, "leave")).await;
    two.b.enter(&two.a, &two.room, &carol).await;
    assert_eq!(two.membership(&bob), Some(Membership::Leave));
}
