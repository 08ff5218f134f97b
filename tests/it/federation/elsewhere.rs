//! Events that name events of another room as what they follow, or as what allows them.

use serde_json::json;

use crate::support::{
    encode,
    scripted::{Place, Wanted, arrived, value},
    story::Story,
};

/// Another room of alice's that mallory has joined.
async fn other_room(story: &Story) -> Place {
    let room = story.alice.create_room().public().version("11").await;
    story.scripted.join(&story.alice, &room, &story.mallory).await
}

#[tokio::test]
async fn what_another_room_allows_is_rejected() {
    let mut story = Story::begin().await;
    let mut other = other_room(&story).await;
    let carol = story.scripted.user("carol");
    let joined = Wanted::state(&carol, "m.room.member", carol.as_str(), json!({ "membership": "join" }));
    let elsewhere = story.scripted.make(&mut other, joined.clone());
    story.scripted.send(&[&elsewhere]).await;

    // Named by an event that comes by itself.
    let auth = |story: &Story, also| {
        let keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", "")];
        let ours = keys.iter().filter_map(|(kind, key)| story.place.state_of(kind, key));
        Some(ours.chain([also]).collect::<Vec<_>>())
    };
    let id = elsewhere.event_id().to_owned();
    let text = Wanted { auth: auth(&story, id.clone()), ..Wanted::text(&carol, "I am not here") };
    let said = story.scripted.build(&story.place, text);
    story.scripted.send(&[&said]).await;
    assert_eq!(story.tried(&said).await, None, "it can be decided about");
    assert!(!story.is_here(&said).await);

    // And by one that is only the base of another, in a gap.
    let joined = Wanted { auth: auth(&story, id), ..joined };
    let joined = story.scripted.make(&mut story.place, joined);
    let said = story.scripted.make(&mut story.place, Wanted::text(&carol, "nor here"));
    let good = story.say("good");
    let between = json!({ "events": [value(&said)] });
    story.scripted.script.lock().instead.push(("/get_missing_events/", 200, between));
    story.scripted.send(&[&good]).await;
    story.arrived(&good).await;
    assert!(!story.is_here(&said).await && !story.is_here(&joined).await);
    let path = format!("rooms/{}/state/m.room.member/{}", story.room, encode(carol.as_str()));
    story.alice.get(&path).await.refused(404, "M_NOT_FOUND");
    story.sends_on().await;
}

#[tokio::test]
async fn history_does_not_lead_into_another_room() {
    let mut story = Story::begin().await;
    let mut other = other_room(&story).await;
    let secret = story.scripted.make(&mut other, Wanted::text(&story.mallory, "of another room"));
    let crossing = Wanted::text(&story.mallory, "from there").after(&[secret.event_id().to_owned()]);
    let crossing = story.scripted.make(&mut story.place, crossing);
    let events = story.chain(2);
    let between = json!({ "events": [value(&events[0])] });
    story.scripted.script.lock().instead.push(("/get_missing_events/", 200, between));
    story.scripted.send(&[&events[1]]).await;
    story.arrived(&events[1]).await;
    story.scripted.send(&[&secret]).await;
    arrived(&story.alice, &crate::support::Room(other.room_id.to_string()), secret.event_id()).await;

    // Read back from right before the gap.
    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let sync = story.alice.sync().filter(&filter).await;
    let from = sync.section("join", &story.room)["timeline"]["prev_batch"]
        .as_str()
        .expect("it is limited")
        .to_owned();
    let page = story.alice.messages(&story.room, &format!("dir=b&limit=3&from={}", encode(&from))).await;
    assert_eq!(page["chunk"][0]["event_id"], crossing.event_id().as_str(), "{page}");
    assert!(!page.to_string().contains("of another room"), "{page}");
    story.sends_on().await;
}
