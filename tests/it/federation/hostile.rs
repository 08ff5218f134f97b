//! Another server that lies: about who said something, about the state, about what came before what.

use myelin_core::pdu::Pdu;
use ruma::{OwnedEventId, OwnedUserId};
use serde_json::json;

use crate::support::{
    EventId,
    scripted::{Place, Scripted, Wanted, value},
    story::Story,
};

/// Says something of which the parent is told to nobody but for the state at it, whoever asks for what lies between.
fn say_after_gap(story: &mut Story) {
    story.say("kept back");
    let told = value(&story.say("never sent"));
    let answer = ("/get_missing_events/", 200, json!({ "events": [told] }));
    story.scripted.script.lock().instead.push(answer);
}

#[tokio::test]
async fn forged_events_are_dropped() {
    let mut story = Story::begin().await;
    let text = |body: &str| Wanted::text(&story.mallory, body);
    // Signed by a server that is not the sender's.
    let elsewhere = Scripted::start(&story.authority, &story.server);
    let by_another = elsewhere.build(&story.place, text("by another server"));
    // Signed as the sender's server, with keys that are not its: under an id of which nobody knows, and under its own.
    let by_no_key = story.scripted.with_key("other").build(&story.place, text("by no key"));
    let by_wrong_key = story.scripted.with_key("script").build(&story.place, text("by the wrong key"));
    // Well signed, by the wrong one.
    let of_alice: OwnedUserId = story.alice.id.clone().try_into().expect("an id");
    let in_her_name = story.scripted.build(&story.place, Wanted::text(&of_alice, "I never said that"));
    let mut unsigned = value(&story.scripted.build(&story.place, text("not signed")));
    unsigned["signatures"] = json!({});
    let good = story.say("good");

    story.scripted.send(&[&by_another, &by_no_key, &by_wrong_key, &in_her_name, &good]).await;
    story.scripted.try_send(&[unsigned.clone()]).await;
    story.arrived(&good).await;
    for forged in [&by_another, &by_no_key, &by_wrong_key, &in_her_name] {
        let why = story.tried(forged).await;
        assert!(why.is_some(), "{} was decided about", forged.json());
        assert!(!story.is_here(forged).await, "{}", forged.json());
    }
    story.sends_on().await;
    let said = story.alice.messages(&story.room, "dir=b&limit=100").await;
    assert!(!said.to_string().contains("not signed"), "{said}");
}

#[tokio::test]
async fn state_that_lies_changes_nothing() {
    let mut story = Story::begin().await;
    let alice = story.alice.id.clone();
    let power = json!({ "users": { story.mallory.as_str(): 100, &alice: 0 } });
    let coup = Wanted::state(&story.mallory, "m.room.power_levels", "", power);
    // It says that this is the state, and makes events that only this state would allow.
    let coup = story.scripted.make(&mut story.place, coup);
    say_after_gap(&mut story);
    let topic = Wanted::state(&story.mallory, "m.room.topic", "", json!({ "topic": "mine now" }));
    let topic = story.scripted.make(&mut story.place, topic);
    check_lie(&story, &topic, &[&coup, &topic]).await;
}

#[tokio::test]
async fn state_that_leaves_things_out_changes_nothing() {
    let mut story = Story::begin().await;
    // In a room without levels anybody may set the topic.
    story.place.state.remove(&("m.room.power_levels".to_owned(), String::new()));
    say_after_gap(&mut story);
    let topic = Wanted::state(&story.mallory, "m.room.topic", "", json!({ "topic": "mine now" }));
    let topic = story.scripted.make(&mut story.place, topic);
    check_lie(&story, &topic, &[&topic]).await;
}

/// Sends an event that is allowed by the state alone that the scripted server tells: the room stays as it is.
async fn check_lie(story: &Story, topic: &Pdu, lies: &[&Pdu]) {
    let levels = story.alice.state(&story.room, "m.room.power_levels", "").await;
    story.scripted.send(&[topic]).await;
    story.tried(topic).await;
    assert!(story.scripted.asked("/state_ids/") > 0, "nobody listened to the lie");
    let root = OwnedEventId::try_from(story.sends_on().await.0).expect("an id");
    let honest = Place::of(&story.alice, &story.room).await;
    let good = story.scripted.build(&honest, Wanted::text(&story.mallory, "a good one").after(&[root]));
    story.scripted.send(&[&good]).await;
    story.arrived(&good).await;
    for lie in lies {
        assert!(!story.is_here(lie).await, "{}", lie.json());
    }
    assert_eq!(story.alice.state(&story.room, "m.room.power_levels", "").await, levels);
    let path = format!("rooms/{}/state/m.room.topic", story.room);
    story.alice.get(&path).await.refused(404, "M_NOT_FOUND");
    let EventId(last) = story.sends_on().await;
    assert_eq!(story.timeline().await.last(), Some(&last));
}

#[tokio::test]
async fn invites_come_back_as_the_room_can_have_them() {
    let story = Story::begin().await;
    let signatures = json!({ story.scripted.name.as_str(): { "ed25519:script": "c2lnbmVk" } });
    let path = format!("rooms/{}/invite", story.room);
    let answers = [
        (json!({ "signatures": signatures, "bad": 1.5 }), 400, "M_BAD_JSON"),
        (json!({ "signatures": {} }), 502, "M_UNKNOWN"),
    ];
    for (event, status, errcode) in answers {
        story.scripted.script.lock().instead = vec![("v2/invite/", 200, json!({ "event": event }))];
        let body = json!({ "user_id": story.scripted.user("carol") });
        story.alice.post(&path, body).await.refused(status, errcode);
    }
}

#[tokio::test]
async fn circles_of_events_are_given_up() {
    let story = Story::with("1").await;
    let circle: Vec<OwnedEventId> = ["one", "two"]
        .iter()
        .map(|name| format!("${name}:{}", story.scripted.name).try_into().expect("an id"))
        .collect();
    let one =
        story.scripted.build_as("one", &story.place, Wanted::text(&story.mallory, "1").after(&circle[1..]));
    let two =
        story.scripted.build_as("two", &story.place, Wanted::text(&story.mallory, "2").after(&circle[..1]));
    story.scripted.script.lock().states.clear();
    story.scripted.send(&[&one, &two]).await;
    let good = story.scripted.build_as("good", &story.place, Wanted::text(&story.mallory, "good"));
    story.scripted.send(&[&good]).await;
    story.arrived(&good).await;
    for event in [&one, &two] {
        let why = story.tried(event).await;
        assert!(why.is_some(), "{} has a place in the room", event.event_id());
        assert!(!story.is_here(event).await);
    }
    // It has looked where they come from, and stopped.
    let asked = story.scripted.asked("/get_missing_events/");
    assert!((1..=20).contains(&asked), "{asked}");
    story.sends_on().await;
}

#[tokio::test]
async fn only_redactions_redact() {
    for version in ["10", "11"] {
        let mut story = Story::with(version).await;
        let first = story.say("first");
        let id = first.event_id().as_str();
        let content = json!({ "msgtype": "m.text", "body": "a trick", "redacts": id });
        let mut trick = Wanted { content, ..Wanted::text(&story.mallory, "") };
        trick.redacts = Some(first.event_id().to_owned());
        let trick = story.scripted.make(&mut story.place, trick);
        story.scripted.send(&[&first, &trick]).await;
        assert_eq!(story.arrived(&trick).await["content"]["body"], "a trick", "{version}");
        assert_eq!(story.arrived(&first).await["content"]["body"], "first", "{version}");
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_delay_nobody_else() {
    let mut story = Story::begin().await;
    let stranger = Scripted::start(&story.authority, &story.server);
    stranger.script.lock().silent.push("/key/v2/");
    let strange = stranger.build(&story.place, Wanted::text(&stranger.user("x"), "who knows me?"));
    story.scripted.send(&[&strange]).await;
    let good = story.say("good");
    story.scripted.send(&[&good]).await;
    story.arrived(&good).await;
    // It is set aside, and its server has been asked for its keys once, which it does not answer.
    let query = "SELECT status, attempts, reason FROM inbound_pdus WHERE event_id = $1";
    let storage = story.server.storage().await;
    let client = storage.get().await.expect("connected");
    let row = loop {
        let row = client.query_one(query, &[&strange.event_id().as_str()]).await.expect("it is queued");
        if row.get::<_, i16>(0) != 1 {
            break row;
        }
    };
    assert_eq!((row.get::<_, i16>(0), row.get::<_, i32>(1)), (2, 0), "{:?}", row.get::<_, Option<String>>(2));
}
