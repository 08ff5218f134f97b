//! `/sync`: initial, incremental, waiting.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use serde_json::{Value, json};

use crate::support::{EventId, Server, user::PATIENCE};

#[tokio::test]
async fn initial_sync_has_timeline_and_state_of_each_room() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("name", "Tea").await;
    let other = alice.create_room().await;
    let event = alice.send_text(&room, "hello").await;
    let sync = alice.sync().await;
    assert_eq!(sync.timeline(&room).last(), Some(&event));
    assert!(!sync.joined(&other).is_null());
    assert_eq!(sync.joined(&room)["summary"]["m.joined_member_count"], 1);
    assert_eq!(sync.joined(&room)["summary"]["m.invited_member_count"], 0);
}

#[tokio::test]
async fn state_is_that_before_the_timeline() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("name", "before").await;
    alice.set_state(&room, "m.room.name", "", json!({"name": "after"})).await;
    let sync = alice.sync().filter(&json!({"room": {"timeline": {"limit": 1}}})).await;
    assert_eq!(sync.events(&room)[0]["content"]["name"], "after");
    let name = sync.state(&room).iter().find(|event| event["type"] == "m.room.name").expect("the old name");
    assert_eq!(name["content"]["name"], "before");
}

#[tokio::test]
async fn state_after_is_that_after_the_timeline() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().with("name", "before").await;
    alice.set_state(&room, "m.room.name", "", json!({"name": "after"})).await;
    let filter = json!({"room": {"timeline": {"limit": 1}}});
    let sync = alice.sync().filter(&filter).with("use_state_after", "true").await;
    assert!(sync.joined(&room)["state"].is_null());
    let name = sync.state(&room).iter().find(|event| event["type"] == "m.room.name").expect("the name");
    assert_eq!(name["content"]["name"], "after");
}

#[tokio::test]
async fn nothing_new_is_an_empty_answer() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let first = alice.sync().await;
    let second = alice.sync().since(&first).await;
    assert!(!second.mentions(&room), "{}", second.0);
    assert!(second.account_data(None, "m.push_rules").is_null());
}

#[tokio::test]
async fn incremental_sync_has_only_what_is_new() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    let quiet = alice.create_room().await;
    bob.join(&room).await;
    alice.send_text(&room, "old").await;
    let first = alice.sync().await;
    let event = bob.send_text(&room, "new").await;
    let sync = alice.sync_until(&first, |sync| sync.mentions(&room)).await;
    assert_eq!(sync.timeline(&room), [event]);
    assert!(!sync.is_limited(&room));
    assert_eq!(sync.state(&room), [] as [Value; 0]);
    assert!(!sync.mentions(&quiet));
}

#[tokio::test]
async fn same_token_gives_the_same_answer_again() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let first = alice.sync().await;
    let event = alice.send_text(&room, "hello").await;
    for _ in 0..3 {
        let sync = alice.sync_until(&first, |sync| sync.mentions(&room)).await;
        assert_eq!(sync.timeline(&room), std::slice::from_ref(&event));
    }
}

#[tokio::test]
async fn every_event_comes_once_however_one_polls() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let start = bob.sync().await;
    let sending = async {
        let mut sent = Vec::new();
        for number in 0..30 {
            sent.push(alice.send_text(&room, &format!("message {number}")).await);
        }
        sent
    };
    let reading = async {
        let (mut seen, mut last, began): (Vec<EventId>, _, _) = (Vec::new(), start, Instant::now());
        while seen.len() < 30 {
            last = bob.sync().since(&last).timeout_ms(1000).await;
            assert!(!last.is_limited(&room));
            seen.extend(last.timeline(&room));
            assert!(began.elapsed() < PATIENCE, "{} came", seen.len());
        }
        seen
    };
    let (sent, seen) = tokio::join!(sending, reading);
    assert_eq!(seen, sent);
}

#[tokio::test]
async fn long_poll_ends_when_something_happens() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let first = bob.sync().await;
    let start = Instant::now();
    let waiting = async { bob.sync().since(&first).timeout_ms(20_000).await };
    let (sync, event) = tokio::join!(waiting, alice.send_text(&room, "wake up"));
    assert_eq!(sync.timeline(&room), [event]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn answer_to_who_sends_comes_before_the_echo() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let mut since = alice.sync().await;
    let mut outrun = 0;
    for _ in 0..20 {
        let next = {
            let echo = pin!(alice.sync_until(&since, |sync| sync.mentions(&room)));
            let sending = pin!(alice.send_text(&room, "hello"));
            match select(echo, sending).await {
                Either::Left((sync, sending)) => {
                    outrun += 1;
                    sending.await;
                    sync
                }
                Either::Right((_, echo)) => echo.await,
            }
        };
        since = next;
    }
    // On a machine with much else to do the answer may be held up for longer than the echo is.
    assert!(outrun <= 2, "{outrun} of 20 echoes came first");
}

#[tokio::test]
async fn long_poll_ends_after_its_time() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let first = alice.sync().await;
    let start = Instant::now();
    let sync = alice.sync().since(&first).timeout_ms(300).await;
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(sync.0["rooms"]["join"].as_object().is_none_or(serde_json::Map::is_empty));
}

#[tokio::test]
async fn gap_is_limited_and_has_the_state_that_changed_in_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    let filter = json!({"room": {"timeline": {"limit": 2}}});
    let first = alice.sync().filter(&filter).await;
    bob.join(&room).await;
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "in the gap"})).await;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(alice.send_text(&room, &format!("message {number}")).await);
    }
    let sync = alice.sync().since(&first).filter(&filter).await;
    assert!(sync.is_limited(&room));
    assert_eq!(sync.timeline(&room), &sent[3..]);
    assert!(sync.has_state(&room, "m.room.topic", ""));
    assert!(sync.has_state(&room, "m.room.member", &bob.id));
    assert!(!sync.has_state(&room, "m.room.create", ""));
}

#[tokio::test]
async fn full_state_gives_all_rooms_and_all_state() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let first = alice.sync().await;
    let sync = alice.sync().since(&first).full_state().await;
    assert!(sync.has_state(&room, "m.room.create", ""));
    assert_eq!(sync.timeline(&room), []);
}

#[tokio::test]
async fn newly_joined_room_comes_whole() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().with("name", "Tea").await;
    for number in 0..15 {
        alice.send_text(&room, &format!("message {number}")).await;
    }
    let before = bob.sync().await;
    bob.join(&room).await;
    let sync = bob.sync_until(&before, |sync| sync.mentions(&room)).await;
    assert!(sync.has_state(&room, "m.room.create", ""));
    assert!(sync.has_state(&room, "m.room.name", ""));
    let last = sync.events(&room).last().expect("the join");
    assert_eq!(
        (last["type"].as_str(), last["state_key"].as_str()),
        (Some("m.room.member"), Some(bob.id.as_str()))
    );
    assert!(sync.is_limited(&room));
}

#[tokio::test]
async fn tokens_outlive_a_restart() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let before = bob.sync().await;
    let event = alice.send_text(&room, "before the restart").await;
    server.restart().await;
    let (alice, bob) = (server.moved(&alice), server.moved(&bob));
    let sync = bob.sync().since(&before).await;
    assert_eq!(sync.timeline(&room), [event]);
    let event = alice.send_text(&room, "after the restart").await;
    let sync = bob.sync_until(&sync, |sync| sync.mentions(&room)).await;
    assert_eq!(sync.timeline(&room), [event]);
}

#[tokio::test]
async fn broken_requests_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for query in
        ["since=nonsense", "since=s999999999999999999999", "filter=%7Bbroken", "timeout=soon", "filter=999"]
    {
        let answer = alice.get(&format!("sync?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn lazy_loading_gives_the_members_who_spoke() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    // Without a name, the members that name the room would be sent as well.
    let room = alice.create_room().public().state("m.room.name", json!({"name": "Tea"})).await;
    bob.join(&room).await;
    carol.join(&room).await;
    bob.send_text(&room, "hello").await;
    let filter = json!({"room": {"timeline": {"limit": 1}, "state": {"lazy_load_members": true}}});
    let sync = alice.sync().filter(&filter).await;
    assert!(sync.has_state(&room, "m.room.member", &bob.id));
    assert!(sync.has_state(&room, "m.room.member", &alice.id), "the own member event too");
    assert!(!sync.has_state(&room, "m.room.member", &carol.id));
    let event = carol.send_text(&room, "hello too").await;
    let sync = alice.sync().since(&sync).filter(&filter).timeout_ms(5000).await;
    assert_eq!(sync.timeline(&room), [event]);
    assert!(sync.has_state(&room, "m.room.member", &carol.id));
}

#[tokio::test]
async fn heroes_name_a_room_without_a_name() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    let sync = alice.sync().await;
    let summary = &sync.joined(&room)["summary"];
    assert_eq!(summary["m.heroes"], json!([bob.id]));
    assert_eq!(summary["m.invited_member_count"], 1);
}

#[tokio::test]
async fn rooms_of_others_are_not_in_the_answer() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    let before = bob.sync().await;
    alice.send_text(&room, "secret").await;
    assert!(!before.mentions(&room));
    assert!(!bob.sync().since(&before).await.mentions(&room));
}
