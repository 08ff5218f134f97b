//! Several servers in one room, and what becomes of it when one of them fails.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::entering::{try_join, wait_for_membership};
use crate::support::{
    Answer, Room, Server, Sync, User, encode,
    federation::{self, Authority},
    scripted::{Place, Scripted, Wanted, arrived, value},
    story::Story,
};

/// What nothing here takes, even where many signatures are checked by unoptimised code.
const LONG: Duration = Duration::from_secs(180);
/// So many of a room's last events are at hand.
const RECENT: usize = 100;

/// The ids of those messages of the user that the server acknowledged. It may be killed meanwhile, which happens when
/// `notify` has been told of the fifth.
async fn talk(user: &User, room: &Room, round: usize, notify: &Notify) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0..12 {
        let path = format!("rooms/{room}/send/m.room.message/{round}-{number}");
        let body = json!({ "msgtype": "m.text", "body": format!("{number}") });
        let Ok(answer) = user.request(Method::PUT, &path).json(&body).send().await else { continue };
        if answer.status().is_success() {
            let Ok(body) = answer.json::<Value>().await else { continue };
            acknowledged.push(body["event_id"].as_str().expect("an event id").to_owned());
        }
        if acknowledged.len() == 5 {
            notify.notify_one();
        }
    }
    acknowledged
}

/// The ids of the events of the state, in an order that depends on nothing else.
async fn state(user: &User, room: &Room) -> Vec<String> {
    let events = user.get(&format!("rooms/{room}/state")).await.ok();
    let events = events.as_array().expect("a list").iter();
    let mut ids: Vec<String> = events.map(|event| event["event_id"].to_string()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_a_server_is_killed() {
    let (a, mut b, c) = federation::three().await;
    let (alice, mut bob, carol) = (a.user("alice").await, b.user("bob").await, c.user("carol").await);
    let levels = json!({ "events": { "m.room.topic": 0 } });
    let room = alice.create_room().public().with("power_level_content_override", levels).await;
    for user in [&bob, &carol] {
        try_join(user, &room, &a).await.ok();
    }
    wait_for_membership(&bob, &room, &carol, "join").await;
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        let (notify, unheard) = (Notify::new(), Notify::new());
        let killing = async {
            notify.notified().await;
            b.crash().await;
        };
        let (by_alice, by_bob, by_carol, ()) = futures::join!(
            talk(&alice, &room, round, &unheard),
            talk(&bob, &room, round, &notify),
            talk(&carol, &room, round, &unheard),
            killing
        );
        assert_eq!((by_alice.len(), by_carol.len()), (12, 12));
        assert!((5..12).contains(&by_bob.len()), "it was killed meanwhile: {}", by_bob.len());
        acknowledged.extend(by_alice.into_iter().chain(by_bob).chain(by_carol));
        bob = b.moved(&bob);
        for user in [&alice, &bob, &carol] {
            let topic = json!({ "topic": format!("{round} by {}", user.id) });
            acknowledged.push(user.set_state(&room, "m.room.topic", "", topic).await.0);
        }
    }
    for user in [&alice, &bob, &carol] {
        for id in &acknowledged {
            arrived(user, &room, id.as_str().try_into().expect("an id")).await;
        }
    }
    let deadline = Instant::now() + LONG;
    loop {
        let states = [state(&alice, &room).await, state(&bob, &room).await, state(&carol, &room).await];
        if states[0] == states[1] && states[1] == states[2] {
            break;
        }
        assert!(Instant::now() < deadline, "the servers do not agree: {states:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn gap_is_filled_by_several_servers() {
    let mut story = Story::begin().await;
    let other = Scripted::start(&story.authority, &story.server);
    other.join(&story.alice, &story.room, &other.user("trudy")).await;
    let events: Vec<_> = (0..24)
        .map(|number| {
            let text = Wanted::text(&story.mallory, &format!("number {number}"));
            story.scripted.make(&mut story.place, text)
        })
        .collect();
    // Each has what the other has not.
    for (number, pdu) in events.iter().enumerate().take(23) {
        let id = pdu.event_id().to_owned();
        other.script.lock().events.insert(id.clone(), value(pdu));
        let lacks = if number < 12 { &story.scripted } else { &other };
        lacks.script.lock().hidden.insert(id);
    }
    other.script.lock().events.insert(events[23].event_id().to_owned(), value(&events[23]));
    story.scripted.send(&[&events[23]]).await;
    story.arrived(&events[23]).await;
    let ids: Vec<String> = events.iter().map(|pdu| pdu.event_id().to_string()).collect();
    let timeline = story.timeline().await;
    assert!(timeline.ends_with(&ids), "{timeline:?}");
    let asked = [&story.scripted, &other].map(|server| server.asked("/get_missing_events/"));
    assert!(asked.iter().all(|asked| *asked > 0), "{asked:?}");
    assert_eq!(story.scripted.asked("/state_ids/") + other.asked("/state_ids/"), 0, "nothing was left out");
}

#[tokio::test]
async fn room_with_more_than_a_thousand_state_events_is_joined() {
    let authority = Authority::new();
    let server = Server::start_with(&authority.settings()).await;
    let scripted = Scripted::start(&authority, &server);
    let (bob, mallory) = (server.user("bob").await, scripted.user("mallory"));
    let mut place = Place::empty(&format!("!large:{}", scripted.name), "11");
    let mut state = Vec::new();
    let mut add = |event_type: &'static str, key: &str, content: Value| {
        let pdu = scripted.make(&mut place, Wanted::state(&mallory, event_type, key, content));
        state.push(value(&pdu));
    };
    add("m.room.create", "", json!({ "room_version": "11" }));
    add("m.room.member", mallory.as_str(), json!({ "membership": "join" }));
    add("m.room.join_rules", "", json!({ "join_rule": "public" }));
    for number in 0..1010 {
        add("org.example.entry", &number.to_string(), json!({ "number": number }));
    }
    let user = bob.id.as_str();
    let join = json!({
        "type": "m.room.member", "room_id": place.room_id, "sender": user, "state_key": user,
        "content": { "membership": "join" }, "origin": scripted.name, "origin_server_ts": 1_700_000_000_000_u64,
        "prev_events": place.heads, "depth": place.depth + 1,
        "auth_events": [place.state_of("m.room.create", ""), place.state_of("m.room.join_rules", "")],
    });
    let chain = &state[..3];
    scripted.script.lock().instead.extend([
        ("/make_join/", 200, json!({ "room_version": "11", "event": join })),
        ("/send_join/", 200, json!({ "origin": scripted.name, "auth_chain": chain, "state": state })),
    ]);
    let room = Room(place.room_id.to_string());
    let path = format!("join/{room}?via={}", encode(scripted.name.as_str()));
    Answer::to(bob.request(Method::POST, &path).json(&json!({})).timeout(LONG)).await.ok();
    let known = bob.get(&format!("rooms/{room}/state")).await.ok();
    assert_eq!(known.as_array().map(Vec::len), Some(1014));
    let last = bob.state(&room, "org.example.entry", "1009").await;
    assert_eq!(last, json!({ "number": 1009 }));
}

/// Alice learns of a topic, and then it does not count any more: on another branch, who set it had been banned. What
/// she was told in between.
async fn topic_comes_and_goes(story: &mut Story) -> Sync {
    let (alice, trudy) = (&story.alice, story.scripted.user("trudy"));
    let join = Wanted::state(&trudy, "m.room.member", trudy.as_str(), json!({ "membership": "join" }));
    let join = story.scripted.make(&mut story.place, join);
    story.scripted.send(&[&join]).await;
    arrived(alice, &story.room, join.event_id()).await;
    let mut levels = alice.state(&story.room, "m.room.power_levels", "").await;
    levels["users"][story.mallory.as_str()] = json!(99);
    levels["users"][trudy.as_str()] = json!(50);
    alice.put(&format!("rooms/{}/state/m.room.power_levels", story.room), levels).await.ok();
    let mut here = Place::of(alice, &story.room).await;
    let topic = |sender, topic| Wanted::state(sender, "m.room.topic", "", json!({ "topic": topic }));
    let first = story.scripted.make(&mut here, topic(&story.mallory, "first"));
    let mut there = here.clone();
    let second = story.scripted.make(&mut here, topic(&trudy, "second"));
    story.scripted.send(&[&first, &second]).await;
    arrived(alice, &story.room, second.event_id()).await;
    // The last event before she asks does not know of the topic.
    let text = story.scripted.make(&mut there, Wanted::text(&story.mallory, "elsewhere"));
    story.scripted.send(&[&text]).await;
    arrived(alice, &story.room, text.event_id()).await;
    let since = alice.sync().await;
    assert_eq!(alice.state(&story.room, "m.room.topic", "").await["topic"], "second");
    let ban = Wanted::state(&story.mallory, "m.room.member", trudy.as_str(), json!({ "membership": "ban" }));
    let ban = story.scripted.make(&mut there, ban);
    story.scripted.send(&[&ban]).await;
    arrived(alice, &story.room, ban.event_id()).await;
    assert_eq!(alice.state(&story.room, "m.room.topic", "").await["topic"], "first");
    since
}

/// The state that a client is told of which goes on from this answer.
async fn told_since(user: &User, room: &Room, since: &Sync) -> String {
    let sync = user.sync().since(since).await;
    sync.section("join", room)["state"]["events"].to_string()
}

#[tokio::test]
async fn state_that_another_branch_brings_back_is_told() {
    let mut story = Story::begin().await;
    let since = topic_comes_and_goes(&mut story).await;
    let told = told_since(&story.alice, &story.room, &since).await;
    assert!(told.contains("first") && !told.contains("second"), "{told}");
}

#[tokio::test]
async fn state_that_another_branch_brings_back_is_told_after_a_restart() {
    let mut story = Story::begin().await;
    let since = topic_comes_and_goes(&mut story).await;
    story.server.restart().await;
    let told = told_since(&story.server.moved(&story.alice), &story.room, &since).await;
    assert!(told.contains("first") && !told.contains("second"), "{told}");
}

#[tokio::test]
async fn state_that_another_branch_brings_back_is_told_after_many_events() {
    let mut story = Story::begin().await;
    let since = topic_comes_and_goes(&mut story).await;
    for number in 0..RECENT + 10 {
        story.alice.send_text(&story.room, &format!("number {number}")).await;
    }
    let told = told_since(&story.alice, &story.room, &since).await;
    assert!(told.contains("first") && !told.contains("second"), "{told}");
}
