//! What other servers may know of rooms: events, state, and the past.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Room, encode, federation,
    origin::{Origin, id_of, open_room, shut_out},
};

#[tokio::test]
async fn rooms_are_told_to_servers_that_are_in_them() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let room = open_room(&alice, "10").await;
    let text = alice.send_text(&room, "before").await;
    let (join, _) = origin.join(&room, &origin.user("bob")).await;
    let join = id_of(&join);

    let answer = origin.get(&format!("v1/event/{text}")).await.ok();
    assert_eq!(
        (&answer["origin"], &answer["pdus"][0]["content"]["body"]),
        (&json!(a.name), &json!("before"))
    );

    let state = origin.get(&format!("v1/state/{room}?event_id={join}")).await.ok();
    let ids = origin.get(&format!("v1/state_ids/{room}?event_id={join}")).await.ok();
    for (events, ids) in
        [("pdus", "pdu_ids"), ("auth_chain", "auth_chain_ids")].map(|(x, y)| (&state[x], &ids[y]))
    {
        assert_eq!(events.as_array().map(Vec::len), ids.as_array().map(Vec::len));
        assert!(events.as_array().is_some_and(|events| events.len() > 2), "{events}");
    }
    assert!(ids["pdu_ids"].as_array().expect("a list").iter().all(|id| *id != *join.0), "{ids}");

    let chain = origin.get(&format!("v1/event_auth/{room}/{join}")).await.ok();
    assert_eq!(chain["auth_chain"].as_array().expect("a list").len(), 4, "{chain}");

    let found = origin.get(&format!("v1/timestamp_to_event/{room}?ts=0&dir=f")).await.ok();
    assert!(found["event_id"].is_string() && found["origin_server_ts"].is_u64(), "{found}");
    let after = format!("v1/timestamp_to_event/{room}?ts=9999999999999&dir=f");
    origin.get(&after).await.refused(404, "M_NOT_FOUND");
}

fn bodies(events: &Value) -> Vec<Option<&str>> {
    let events = events.as_array().expect("a list");
    let messages = events.iter().filter(|event| event["type"] == "m.room.message");
    messages.map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn past_is_told_back_from_an_event() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let room = alice.create_room().version("10").public().await;
    let mut texts = Vec::new();
    for text in ["1", "2", "3", "4", "5"] {
        texts.push(alice.send_text(&room, text).await);
    }
    origin.join(&room, &origin.user("bob")).await;
    let past = origin.get(&format!("v1/backfill/{room}?v={}&limit=3", texts[3])).await.ok();
    assert_eq!(bodies(&past["pdus"]), [Some("4"), Some("3"), Some("2")]);
    let all = origin.get(&format!("v1/backfill/{room}?v={}&limit=100", texts[4])).await.ok();
    assert_eq!(all["pdus"].as_array().and_then(|pdus| pdus.last()).expect("some")["type"], "m.room.create");

    let missing = json!({"earliest_events": [texts[0].0], "latest_events": [texts[4].0]});
    let missing = origin.post(&format!("v1/get_missing_events/{room}"), missing).await.ok();
    assert_eq!(bodies(&missing["events"]), [Some("2"), Some("3"), Some("4")]);
    let limited = json!({"earliest_events": [texts[0].0], "latest_events": [texts[4].0], "limit": 2});
    let limited = origin.post(&format!("v1/get_missing_events/{room}"), limited).await.ok();
    assert_eq!(bodies(&limited["events"]), [Some("3"), Some("4")]);

    let other = open_room(&alice, "10").await;
    let strange = alice.send_text(&other, "elsewhere").await;
    let nothing = origin.get(&format!("v1/backfill/{room}?v={strange}&limit=1")).await.ok();
    assert_eq!(nothing["pdus"], json!([]));
}

#[tokio::test]
async fn what_a_server_may_not_read_is_redacted() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let room = alice.create_room().version("10").public().await;
    alice.set_state(&room, "m.room.history_visibility", "", json!({"history_visibility": "joined"})).await;
    let hidden = alice.send_text(&room, "hidden").await;
    origin.join(&room, &origin.user("bob")).await;
    let shown = alice.send_text(&room, "shown").await;
    let last = alice.send_text(&room, "last").await;
    let past = origin.get(&format!("v1/backfill/{room}?v={shown}&limit=4")).await.ok();
    assert_eq!(bodies(&past["pdus"]), [Some("shown"), None]);
    let missing = json!({"earliest_events": [], "latest_events": [last.0]});
    let missing = origin.post(&format!("v1/get_missing_events/{room}"), missing).await.ok();
    assert_eq!(bodies(&missing["events"]), [None, Some("shown")]);
    let event = origin.get(&format!("v1/event/{hidden}")).await.ok();
    assert_eq!(event["pdus"][0]["content"], json!({}));
}

/// Every endpoint about a room: method, path with `{room}` and `{event}` for an event of it, body.
fn endpoints() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::GET, "v1/state/{room}?event_id={event}", Value::Null),
        (Method::GET, "v1/state_ids/{room}?event_id={event}", Value::Null),
        (Method::GET, "v1/event_auth/{room}/{event}", Value::Null),
        (Method::GET, "v1/backfill/{room}?v={event}&limit=10", Value::Null),
        (Method::GET, "v1/timestamp_to_event/{room}?ts=1&dir=f", Value::Null),
        (Method::POST, "v1/get_missing_events/{room}", json!({})),
    ]
}

#[tokio::test]
async fn only_members_ask_about_a_room() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let (closed, open) = (alice.create_room().await, open_room(&alice, "12").await);
    let text = alice.send_text(&closed, "secret").await;
    let (join, _) = origin.join(&open, &origin.user("bob")).await;
    let unknown = Room("!nowhere:a.example".to_owned());
    let path = |path: &str, room: &Room, event: &str| {
        path.replace("{room}", &room.to_string()).replace("{event}", &encode(event))
    };
    for (method, template, body) in endpoints() {
        let ask = async |room: &Room, event: &str| {
            origin.ask(method.clone(), &path(template, room, event), body.clone()).await
        };
        let unsigned = a
            .anyone()
            .request(method.clone(), &format!("/_matrix/federation/{}", path(template, &open, &text.0)));
        crate::support::Answer::to(unsigned.json(&body)).await.refused(401, "M_UNAUTHORIZED");
        ask(&unknown, &text.0).await.refused(404, "M_NOT_FOUND");
        ask(&closed, &text.0).await.refused(403, "M_FORBIDDEN");
        ask(&open, join.event_id().as_str()).await.ok();
        if template.contains("{event}") && !template.contains("backfill") {
            ask(&open, &text.0).await.refused(404, "M_NOT_FOUND");
            ask(&open, "$unknown").await.refused(404, "M_NOT_FOUND");
        }
        let bad = path(template, &Room("nonsense".to_owned()), "x");
        assert_eq!(origin.ask(method, &bad, body).await.status, 400, "{bad}");
    }
    origin.get(&format!("v1/event/{text}")).await.refused(403, "M_FORBIDDEN");
    origin.get("v1/event/%24unknown").await.refused(404, "M_NOT_FOUND");
    for bad in ["v1/state/!r:x", "v1/backfill/!r:x", "v1/backfill/!r:x?v=$x&limit=-1", "v1/event/x"] {
        assert_eq!(origin.get(bad).await.status, 400, "{bad}");
    }

    shut_out(&alice, &open, &b.name).await;
    for (method, template, body) in endpoints() {
        let path = path(template, &open, join.event_id().as_str());
        origin.ask(method, &path, body).await.refused(403, "M_FORBIDDEN");
    }
}
