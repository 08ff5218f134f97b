//! Which members `/sync` tells of when they are loaded lazily.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{Room, Server, Sync, User};

fn lazily(timeline_limit: u64) -> Value {
    json!({"room": {"timeline": {"limit": timeline_limit}, "state": {"lazy_load_members": true}}})
}

/// The user's name as the state before the timeline has it; `None`: it does not have their member event.
fn name_of<'s>(sync: &'s Sync, room: &Room, user: &User) -> Option<&'s Value> {
    let is_theirs =
        |event: &&Value| event["type"] == "m.room.member" && event["state_key"] == user.id.as_str();
    sync.state(room).iter().find(is_theirs).map(|event| &event["content"]["displayname"])
}

async fn rename(user: &User, name: &str) {
    user.put(&format!("profile/{}/displayname", user.id), json!({"displayname": name})).await.ok();
}

/// Everybody whose member event is in the answer.
fn members(sync: &Sync, room: &Room) -> HashSet<String> {
    let events = sync.state(room).iter().chain(sync.events(room));
    let members = events.filter(|event| event["type"] == "m.room.member");
    members.filter_map(|event| event["state_key"].as_str().map(ToOwned::to_owned)).collect()
}

#[tokio::test]
async fn who_spoke_before_a_new_name_comes_with_the_old_one() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().with("name", "Tea").await;
    rename(&bob, "Before").await;
    bob.join(&room).await;
    alice.send_text(&room, "hides who joined").await;
    let first = alice.sync().filter(&lazily(1)).await;
    assert_eq!(name_of(&first, &room, &bob), None);
    bob.send_text(&room, "hello").await;
    rename(&bob, "After").await;
    let ask = |since: &Sync| alice.sync().since(since).filter(&lazily(10)).timeout_ms(5000);
    alice
        .sync_until(&first, |sync| sync.events(&room).iter().any(|event| event["state_key"] == bob.id))
        .await;
    let second = ask(&first).await;
    assert_eq!(second.events(&room).len(), 2, "{}", second.0);
    assert_eq!(name_of(&second, &room, &bob), Some(&json!("Before")));
    // Now the client knows bob, and the timeline says the rest.
    let third = {
        bob.send_text(&room, "hello again").await;
        rename(&bob, "Later").await;
        alice
            .sync_until(&second, |sync| sync.events(&room).iter().any(|event| event["state_key"] == bob.id))
            .await;
        ask(&second).await
    };
    assert_eq!(third.events(&room).len(), 2, "{}", third.0);
    assert_eq!(name_of(&third, &room, &bob), None);
    // Who has changed their name before they speak is met by that.
    rename(&bob, "Last").await;
    let said = bob.send_text(&room, "so I am called now").await;
    alice.sync_until(&third, |sync| sync.timeline(&room).contains(&said)).await;
    let redundant =
        json!({"room": {"state": {"lazy_load_members": true, "include_redundant_members": true}}});
    let fourth = alice.sync().since(&third).filter(&redundant).await;
    assert_eq!(fourth.events(&room).len(), 2, "{}", fourth.0);
    assert_eq!(name_of(&fourth, &room, &bob), None);
}

#[tokio::test]
async fn new_heroes_come_with_their_member_events() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().public().await;
    let mut others = Vec::new();
    for number in 0..7 {
        let other = server.user(&format!("other{number}")).await;
        other.join(&room).await;
        others.push(other);
    }
    alice.send_text(&room, "hides who joined").await;
    let first = alice.sync().filter(&lazily(1)).await;
    let mut known = members(&first, &room);
    assert!(!known.contains(&others[6].id), "{}", first.0);
    others[0].leave(&room).await;
    others[1].leave(&room).await;
    let is_gone = |sync: &Sync| sync.joined(&room)["summary"]["m.joined_member_count"] == 6;
    alice.sync_until(&first, is_gone).await;
    let second = alice.sync().since(&first).filter(&lazily(10)).await;
    let heroes = second.joined(&room)["summary"]["m.heroes"].as_array().expect("heroes");
    assert_eq!(heroes.len(), 5, "{}", second.0);
    known.extend(members(&second, &room));
    for hero in heroes {
        assert!(hero.as_str().is_some_and(|hero| known.contains(hero)), "{hero}: {}", second.0);
    }
    let third = alice.sync().since(&second).filter(&lazily(10)).await;
    assert!(!third.mentions(&room), "{}", third.0);
}

#[tokio::test]
async fn members_of_a_lost_answer_are_told_again() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().with("name", "Tea").await;
    bob.join(&room).await;
    carol.join(&room).await;
    for text in ["one", "two"] {
        alice.send_text(&room, text).await;
    }
    let ask = |since: &Sync| bob.sync().since(since).filter(&lazily(2)).timeout_ms(5000);
    let first = bob.sync().filter(&lazily(2)).await;
    assert_eq!(name_of(&first, &room, &carol), None, "{}", first.0);
    let said = carol.send_text(&room, "is lost on the way").await;
    bob.sync_until(&first, |sync| sync.timeline(&room).contains(&said)).await;
    let lost = ask(&first).await;
    assert!(name_of(&lost, &room, &carol).is_some(), "{}", lost.0);
    alice.send_text(&room, "three").await;
    let said = alice.send_text(&room, "four").await;
    bob.sync_until(&lost, |sync| sync.timeline(&room).contains(&said)).await;
    let second = ask(&first).await;
    assert_eq!(name_of(&second, &room, &carol), None, "she says nothing there: {}", second.0);
    let said = carol.send_text(&room, "is heard").await;
    bob.sync_until(&second, |sync| sync.timeline(&room).contains(&said)).await;
    let third = ask(&second).await;
    assert!(name_of(&third, &room, &carol).is_some(), "{}", third.0);
}

#[tokio::test]
async fn room_that_loses_its_name_comes_with_its_heroes() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for by_redaction in [false, true] {
        let room = alice.create_room().public().await;
        let name = alice.set_state(&room, "m.room.name", "", json!({"name": "Tea"})).await;
        bob.join(&room).await;
        alice.send_text(&room, "hides who joined").await;
        let first = alice.sync().filter(&lazily(1)).await;
        assert!(first.joined(&room)["summary"]["m.heroes"].is_null(), "{}", first.0);
        assert_eq!(name_of(&first, &room, &bob), None);
        let said = alice.send_text(&room, "is called as before").await;
        let second = alice.sync_until(&first, |sync| sync.timeline(&room).contains(&said)).await;
        assert!(second.joined(&room)["summary"]["m.heroes"].is_null(), "{}", second.0);

        if by_redaction {
            alice.redact(&room, &name).await;
        } else {
            alice.set_state(&room, "m.room.name", "", json!({})).await;
        }
        alice.sync_until(&second, |sync| !sync.timeline(&room).is_empty()).await;
        let third = alice.sync().since(&second).filter(&lazily(10)).await;
        assert_eq!(third.joined(&room)["summary"]["m.heroes"], json!([bob.id]), "{}", third.0);
        assert!(name_of(&third, &room, &bob).is_some(), "{}", third.0);
        let said = alice.send_text(&room, "is called after bob").await;
        let fourth = alice.sync_until(&third, |sync| sync.timeline(&room).contains(&said)).await;
        assert!(fourth.joined(&room)["summary"]["m.heroes"].is_null(), "{}", fourth.0);
    }
}

#[tokio::test]
async fn who_comes_back_is_told_of_senders_again() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let carol = server.user("carol").await;
    let room = alice.create_room().public().with("name", "Tea").await;
    carol.join(&room).await;
    bob.join(&room).await;
    carol.send_text(&room, "hello").await;
    let follow = &bob;
    let ask = |since: Sync| async move { follow.sync().since(&since).filter(&lazily(1)).await };
    let first = bob.sync().filter(&lazily(1)).await;
    assert!(members(&first, &room).contains(&carol.id));
    // The device comes back with the token, and so has got it.
    let second = ask(first).await;
    bob.leave(&room).await;
    let outside = ask(second).await;
    bob.join(&room).await;
    alice.send_text(&room, "welcome back").await;
    let inside = ask(outside).await;
    assert_eq!(members(&inside, &room), HashSet::from([alice.id.clone(), bob.id.clone()]));
    carol.send_text(&room, "hello again").await;
    let last = ask(inside).await;
    assert!(members(&last, &room).contains(&carol.id), "{}", last.0);
}
