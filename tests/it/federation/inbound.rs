//! Events of another server that does as the specification says, or does not.

use myelin_core::pdu::Pdu;
use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::support::{
    EventId, encode, letters,
    scripted::{Wanted, arrived, value},
    story::Story,
};

fn ids(events: &[Pdu]) -> Vec<String> {
    events.iter().map(|pdu| pdu.event_id().to_string()).collect()
}

#[tokio::test]
async fn events_arrive_once_and_a_repeated_transaction_gets_the_same_answer() {
    let mut story = Story::begin().await;
    let event = story.say("hello");
    let pdus = [value(&event), json!({ "room_id": "!nowhere:x", "event_id": "$a:x" }), json!(7)];
    let first = story.scripted.transaction("once", &pdus, &[]).await.ok();
    assert_eq!(first["pdus"][event.event_id().as_str()], json!({}));
    assert!(first["pdus"]["$a:x"]["error"].is_string(), "{first}");
    story.arrived(&event).await;
    let again = story.scripted.transaction("once", &[], &[]).await.ok();
    assert_eq!(first, again);
    story.scripted.send(&[&event]).await;
    let next = story.say("next");
    story.scripted.send(&[&next]).await;
    story.arrived(&next).await;
    let timeline = story.timeline().await;
    assert_eq!(timeline.iter().filter(|id| *id == event.event_id().as_str()).count(), 1);
}

#[tokio::test]
async fn transactions_that_are_too_large_or_of_somebody_else_are_refused() {
    let story = Story::begin().await;
    let many = vec![json!({}); 51];
    story.scripted.transaction("large", &many, &[]).await.refused(400, "M_INVALID_PARAM");
    story.scripted.transaction("large", &[], &vec![json!({}); 101]).await.refused(400, "M_INVALID_PARAM");
    let body = json!({ "origin": "elsewhere.test", "origin_server_ts": 1, "pdus": [] });
    let server = "myelin.test".try_into().expect("a name");
    let path = "/_matrix/federation/v1/send/other";
    story.scripted.put(server, path, &body).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn event_with_a_wrong_hash_is_redacted() {
    let mut story = Story::begin().await;
    let event = story.say("as it was signed");
    let mut altered = value(&event);
    altered["content"]["body"] = json!("as somebody would like it");
    story.scripted.try_send(&[altered]).await;
    let seen = story.arrived(&event).await;
    assert_eq!(seen["content"], json!({}), "{seen}");
}

#[tokio::test]
async fn redaction_that_is_not_allowed_is_not_shown() {
    let mut story = Story::begin().await;
    let target = story.alice.send_text(&story.room, "stays").await;
    let redaction = Wanted {
        event_type: "m.room.redaction",
        content: json!({ "redacts": target.0 }),
        ..Wanted::text(&story.mallory, "")
    };
    let redaction = story.scripted.make(&mut story.place, redaction);
    let next = story.say("after it");
    story.scripted.send(&[&redaction, &next]).await;
    story.arrived(&next).await;
    assert_eq!(story.alice.event(&story.room, &target).await.ok()["content"]["body"], "stays");
    assert!(!story.is_here(&redaction).await, "clients would believe it");
    let page = story.alice.messages(&story.room, "dir=b&limit=5").await;
    assert!(!page.to_string().contains(redaction.event_id().as_str()), "{page}");
}

#[tokio::test]
async fn redaction_is_shown_after_what_it_redacts() {
    let mut story = Story::begin().await;
    let secret = story.scripted.build(&story.place, Wanted::text(&story.mallory, "secret"));
    let redaction = Wanted {
        event_type: "m.room.redaction",
        content: json!({ "redacts": secret.event_id() }),
        ..Wanted::text(&story.mallory, "")
    };
    let redaction = story.scripted.make(&mut story.place, redaction);
    let next = story.say("after it");
    story.scripted.send(&[&redaction, &next]).await;
    story.arrived(&next).await;
    assert!(!story.is_here(&redaction).await, "what it redacts is unknown");
    let sync = story.alice.sync().await;
    story.scripted.send(&[&secret]).await;
    story.arrived(&redaction).await;
    let sync = story.alice.sync().since(&sync).await;
    let events = sync.events(&story.room);
    assert_eq!(events[0]["content"], json!({}));
    let expected = ids(&[secret, redaction]);
    assert_eq!(sync.timeline(&story.room), expected.iter().cloned().map(EventId).collect::<Vec<_>>());
    let page = story.alice.messages(&story.room, "dir=b&limit=3").await;
    let shown: Vec<&str> = (0..3).filter_map(|index| page["chunk"][index]["event_id"].as_str()).collect();
    assert_eq!(shown, [&expected[1], &expected[0], next.event_id().as_str()]);
    story.sends_on().await;
}

#[tokio::test]
async fn oversized_and_malformed_events_are_named_as_errors() {
    let mut story = Story::begin().await;
    let mut large = value(&story.say("large"));
    large["content"]["body"] = json!("x".repeat(70_000));
    let event = story.say("fine");
    let mut without = value(&event);
    without.as_object_mut().expect("an object").remove("auth_events");
    let results = story.scripted.try_send(&[large, without]).await;
    assert!(results.as_object().expect("an object").values().all(|result| result["error"].is_string()));
    story.sends_on().await;
}

#[tokio::test]
async fn missing_ancestors_are_fetched_and_come_in_order() {
    let mut story = Story::begin().await;
    let events = story.chain(30);
    let before = story.alice.sync().await;
    story.scripted.send(&[&events[29]]).await;
    story.arrived(&events[29]).await;
    let timeline = story.timeline().await;
    assert!(timeline.ends_with(&ids(&events)), "{timeline:?}");
    assert!(story.scripted.asked("/state_ids/") == 0, "there was no need for the state");
    let sync = story.alice.sync_until(&before, |sync| !sync.timeline(&story.room).is_empty()).await;
    assert!(sync.mentions(&story.room));
}

#[tokio::test]
async fn events_after_a_gap_that_nobody_fills_come_with_the_state_there() {
    let mut story = Story::begin().await;
    let topic = Wanted::state(
        &story.mallory,
        "m.room.member",
        story.mallory.as_str(),
        json!({
            "membership": "join", "displayname": "in the gap"
        }),
    );
    let renamed = story.scripted.make(&mut story.place, topic);
    let events = story.chain(3);
    let last: Value = serde_json::from_str(events[1].json()).expect("JSON");
    story.scripted.script.lock().instead.push(("/get_missing_events/", 200, json!({ "events": [last] })));
    story.scripted.send(&[&events[2]]).await;
    story.arrived(&events[2]).await;
    assert!(story.is_here(&events[1]).await, "an event does not come without its parents");
    assert!(!story.is_here(&events[0]).await, "nobody has asked for the history");
    let member = story.alice.state(&story.room, "m.room.member", story.mallory.as_str()).await;
    assert_eq!(member["displayname"], "in the gap", "the state of the gap is known: {}", renamed.event_id());
    story.sends_on().await;
}

#[tokio::test]
async fn deep_chains_are_not_followed_to_their_end() {
    let mut story = Story::begin().await;
    let events = story.chain(300);
    story.scripted.send(&[&events[299]]).await;
    story.arrived(&events[299]).await;
    assert!(story.scripted.asked("/get_missing_events/") <= 12);
    story.sends_on().await;
}

#[tokio::test]
async fn a_room_is_not_delayed_by_another_whose_gap_is_not_answered() {
    let mut story = Story::begin().await;
    let other = story.alice.create_room().public().await;
    let mut place = story.scripted.join(&story.alice, &other, &story.mallory).await;
    story.scripted.script.lock().silent.push("/get_missing_events/");
    story.scripted.script.lock().silent.push("/state_ids/");
    let events = story.chain(3);
    let fine = story.scripted.make(&mut place, Wanted::text(&story.mallory, "fine"));
    story.scripted.send(&[&events[2], &fine]).await;
    arrived(&story.alice, &other, fine.event_id()).await;
    // And the room with the gap goes on too.
    let fork = story.place.clone();
    let after = vec![OwnedEventId::try_from(story.sends_on().await.0).expect("an id")];
    let fine = story.scripted.build(&fork, Wanted::text(&story.mallory, "fine").after(&after));
    story.scripted.send(&[&fine]).await;
    story.arrived(&fine).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_room_after_a_crash() {
    let mut story = Story::begin().await;
    let events = story.chain(50);
    let gap = story.chain(3);
    story.scripted.script.lock().silent.push("/get_missing_events/");
    story.scripted.script.lock().silent.push("/state_ids/");
    story.scripted.send(&[&gap[2]]).await;
    story.scripted.send(&events.iter().collect::<Vec<_>>()).await;
    story.server.crash().await;
    story.scripted.script.lock().silent.clear();
    story.alice = story.server.moved(&story.alice);
    for event in events.iter().chain(&gap) {
        story.arrived(event).await;
    }
}

#[tokio::test]
async fn forks_meet_again() {
    let story = Story::begin().await;
    let root = story.place.heads.clone();
    let left = story.scripted.build(&story.place, Wanted::text(&story.mallory, "left").after(&root));
    let right = story.scripted.build(&story.place, Wanted::text(&story.mallory, "right").after(&root));
    story.scripted.send(&[&left, &right]).await;
    story.arrived(&left).await;
    story.arrived(&right).await;
    story.sends_on().await;
    let both = [left.event_id().to_owned(), right.event_id().to_owned()];
    let merge = story.scripted.build(&story.place, Wanted::text(&story.mallory, "merge").after(&both));
    story.scripted.send(&[&merge]).await;
    story.arrived(&merge).await;
}

#[tokio::test]
async fn denied_servers_are_not_heard() {
    let mut story = Story::begin().await;
    let host = story.scripted.name.host().to_owned();
    let acl = json!({ "allow": ["*"], "deny": [host] });
    story.alice.set_state(&story.room, "m.room.server_acl", "", acl).await;
    let event = story.say("denied");
    let results = story.scripted.try_send(&[value(&event)]).await;
    assert!(results[event.event_id().as_str()]["error"].is_string(), "{results}");
    let before = story.alice.sync().await;
    let typing = json!({ "edu_type": "m.typing", "content": {
        "room_id": story.room.0, "user_id": story.mallory, "typing": true
    } });
    story.scripted.send_edus(&[typing]).await;
    story.sends_on().await;
    let sync = story.alice.sync_until(&before, |sync| !sync.timeline(&story.room).is_empty()).await;
    assert!(sync.ephemeral(&story.room, "m.typing").is_null(), "{}", sync.0);
    assert!(!story.is_here(&event).await);
}

#[tokio::test]
async fn typing_receipts_and_presence_of_others_are_seen() {
    let story = Story::begin().await;
    let event = story.sends_on().await;
    let before = story.alice.sync().await;
    let nobody = "@mallory:elsewhere.test";
    story
        .scripted
        .send_edus(&[
            json!({ "edu_type": "m.typing", "content": {
                "room_id": story.room.0, "user_id": story.mallory, "typing": true } }),
            json!({ "edu_type": "m.typing", "content": {
                "room_id": story.room.0, "user_id": nobody, "typing": true } }),
            json!({ "edu_type": "m.receipt", "content": { &story.room.0: { "m.read": {
                story.mallory.as_str(): { "data": { "ts": 5 }, "event_ids": [event.0] },
                nobody: { "data": { "ts": 5 }, "event_ids": [event.0] },
                &story.alice.id: { "data": { "ts": 5 }, "event_ids": [event.0] },
            } } } }),
            json!({ "edu_type": "m.presence", "content": { "push": [
                { "user_id": story.mallory, "presence": "online", "last_active_ago": 10,
                  "currently_active": true, "status_msg": "about" } ] } }),
            json!({ "edu_type": "org.example.unknown", "content": {} }),
            json!({ "edu_type": "m.typing", "content": "nonsense" }),
            json!("nonsense"),
        ])
        .await;
    let sync =
        story.alice.sync_until(&before, |sync| !sync.ephemeral(&story.room, "m.receipt").is_null()).await;
    let readers = &sync.ephemeral(&story.room, "m.receipt")[&event.0]["m.read"];
    assert_eq!(*readers, json!({ story.mallory.as_str(): { "ts": 5 } }), "{}", sync.0);
    let sync = story.alice.sync().await;
    assert_eq!(sync.ephemeral(&story.room, "m.typing")["user_ids"], json!([story.mallory]), "{}", sync.0);
    let presence = story.alice.get(&format!("presence/{}/status", encode(story.mallory.as_str()))).await.ok();
    assert_eq!((&presence["presence"], &presence["status_msg"]), (&json!("online"), &json!("about")));
}

#[tokio::test]
async fn threads_have_receipts_of_their_own() {
    let story = Story::begin().await;
    let event = story.sends_on().await;
    let before = story.alice.sync().await;
    let receipt = |thread: &str, ts: u64| {
        json!({ "edu_type": "m.receipt", "content": { &story.room.0: { "m.read": {
            story.mallory.as_str(): { "data": { "ts": ts, "thread_id": thread }, "event_ids": [event.0] },
        } } } })
    };
    let long = format!("${}", letters(6000));
    story.scripted.send_edus(&[receipt("main", 1), receipt("not a thread", 2), receipt(&long, 3)]).await;
    let sync =
        story.alice.sync_until(&before, |sync| !sync.ephemeral(&story.room, "m.receipt").is_null()).await;
    let read = &sync.ephemeral(&story.room, "m.receipt")[&event.0]["m.read"][story.mallory.as_str()];
    assert_eq!(*read, json!({ "ts": 1, "thread_id": "main" }));
}

#[tokio::test]
async fn history_before_a_gap_is_fetched_when_somebody_reads_it() {
    let mut story = Story::begin().await;
    let events = story.chain(40);
    let last: Value = serde_json::from_str(events[38].json()).expect("JSON");
    story.scripted.script.lock().instead.push(("/get_missing_events/", 200, json!({ "events": [last] })));
    story.scripted.send(&[&events[39]]).await;
    story.arrived(&events[39]).await;
    let timeline = story.timeline().await;
    assert!(timeline.ends_with(&ids(&events)), "{timeline:?}");
    let asked = story.scripted.asked("/backfill/");
    assert!(asked > 0);
    assert_eq!(story.timeline().await, timeline);
    assert_eq!(story.scripted.asked("/backfill/"), asked, "what is here is not fetched again");
}

#[tokio::test]
async fn a_transaction_of_many_events_is_queued_by_one_statement() {
    let mut story = Story::begin().await;
    let storage = story.server.storage().await;
    let client = storage.get().await.expect("connected");
    let count = "
        CREATE TABLE statements_seen (what TEXT);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO statements_seen VALUES (TG_TABLE_NAME); RETURN NULL; END';
        CREATE TRIGGER see AFTER INSERT ON inbound_pdus FOR EACH STATEMENT EXECUTE FUNCTION see();
        CREATE TRIGGER see AFTER INSERT ON inbound_transactions FOR EACH STATEMENT EXECUTE FUNCTION see();
    ";
    client.batch_execute(count).await.expect("made");
    let events = story.chain(50);
    story.scripted.send(&events.iter().collect::<Vec<_>>()).await;
    story.arrived(&events[49]).await;
    let rows = client.query("SELECT what FROM statements_seen", &[]).await.expect("read");
    assert_eq!(rows.len(), 2, "one for the events, one for the answer");
}
