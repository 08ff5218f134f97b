//! What users see of a room whose history has branches.

use serde_json::json;

use crate::support::{EventId, scripted::Place, story::Story};

fn id_of(pdu: &myelin_core::pdu::Pdu) -> EventId {
    EventId(pdu.event_id().to_string())
}

#[tokio::test]
async fn what_was_sent_beside_a_join_is_not_seen_by_who_joined() {
    let mut story = Story::begin().await;
    let invited = json!({"history_visibility": "invited"});
    story.alice.set_state(&story.room, "m.room.history_visibility", "", invited).await;
    story.place = Place::of(&story.alice, &story.room).await;
    let bob = story.server.user("bob").await;
    bob.join(&story.room).await;
    let before = bob.sync().await;
    // Sent by a server that had not heard of the join.
    let beside = story.chain(2);
    story.scripted.send(&[&beside[0], &beside[1]]).await;
    story.arrived(&beside[1]).await;
    let after = story.sends_on().await;

    let told = bob.sync_until(&before, |sync| sync.timeline(&story.room).contains(&after)).await;
    let mut shown = told.timeline(&story.room);
    for limit in [1, 2, 4, 8] {
        shown.extend(bob.history(&story.room, limit).await);
    }
    shown.extend(bob.sync().await.timeline(&story.room));
    assert!(shown.contains(&after));
    for event in &beside {
        assert!(!shown.contains(&id_of(event)), "{shown:?}");
        bob.event(&story.room, &id_of(event)).await.refused(404, "M_NOT_FOUND");
        assert!(story.is_here(event).await, "alice was there");
    }
}

#[tokio::test]
async fn what_was_sent_beside_a_leave_is_seen_by_who_left() {
    let mut story = Story::begin().await;
    let joined = json!({"history_visibility": "joined"});
    story.alice.set_state(&story.room, "m.room.history_visibility", "", joined).await;
    let bob = story.server.user("bob").await;
    bob.join(&story.room).await;
    story.place = Place::of(&story.alice, &story.room).await;
    let beside = story.say("beside the leave");
    let before = story.sends_on().await;
    bob.leave(&story.room).await;
    story.scripted.send(&[&beside]).await;
    story.arrived(&beside).await;
    let after = story.sends_on().await;
    bob.event(&story.room, &before).await.ok();
    bob.event(&story.room, &id_of(&beside)).await.ok();
    bob.event(&story.room, &after).await.refused(404, "M_NOT_FOUND");
}
