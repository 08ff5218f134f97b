//! Invite, join, leave, kick, ban, unban, knock, forget.

use serde_json::json;

use crate::support::{Answer, Server, encode};

#[tokio::test]
async fn invited_user_joins() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.invite(&room, &bob).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "invite");
    bob.join(&room).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "join");
    assert_eq!(bob.get("joined_rooms").await.ok()["joined_rooms"], json!([room.0]));
}

#[tokio::test]
async fn join_and_leave_need_no_body() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    for action in [format!("join/{room}"), format!("rooms/{room}/leave"), format!("rooms/{room}/join")] {
        Answer::to(bob.request(reqwest::Method::POST, &action)).await.ok();
    }
}

#[tokio::test]
async fn second_join_changes_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    let before = alice.sync().await;
    bob.join(&room).await;
    let event = alice.send_text(&room, "hello").await;
    let sync = alice.sync_until(&before, |sync| sync.timeline(&room).contains(&event)).await;
    assert_eq!(sync.timeline(&room), [event]);
}

#[tokio::test]
async fn join_of_an_unknown_room_is_not_found() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    alice.post("join/!nothere:myelin.test", json!({})).await.refused(404, "M_NOT_FOUND");
    alice
        .post(&format!("join/{}", encode("#nothere:myelin.test")), json!({}))
        .await
        .refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn invite_can_be_declined() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.leave(&room).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "leave");
    bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn only_members_invite() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().await;
    bob.moderate("invite", &room, &carol).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn member_cannot_be_invited_again() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    alice.moderate("invite", &room, &bob).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn reason_is_in_the_member_event() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.post(&format!("rooms/{room}/join"), json!({"reason": "curious"})).await.ok();
    assert_eq!(alice.state(&room, "m.room.member", &bob.id).await["reason"], "curious");
    bob.post(&format!("rooms/{room}/leave"), json!({"reason": "bored"})).await.ok();
    assert_eq!(alice.state(&room, "m.room.member", &bob.id).await["reason"], "bored");
}

#[tokio::test]
async fn kicked_user_is_out_but_may_come_back() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    alice.kick(&room, &bob).await;
    bob.try_send(&room, "m.room.message", json!({"body": "hi"})).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await;
}

#[tokio::test]
async fn ordinary_member_kicks_and_bans_nobody() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    carol.join(&room).await;
    for victim in [&alice, &carol] {
        bob.moderate("kick", &room, victim).await.refused(403, "M_FORBIDDEN");
        bob.moderate("ban", &room, victim).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn user_who_is_not_there_cannot_be_kicked() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    alice.moderate("kick", &room, &bob).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn banned_user_stays_out_until_unbanned() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    alice.ban(&room, &bob).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "ban");
    bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.moderate("invite", &room, &bob).await.refused(403, "M_FORBIDDEN");
    alice.unban(&room, &bob).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "leave");
    bob.join(&room).await;
}

#[tokio::test]
async fn user_who_was_never_there_can_be_banned() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    alice.ban(&room, &bob).await;
    bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn leaving_twice_does_no_harm() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    bob.leave(&room).await;
    let answer = bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    assert!([200, 403].contains(&answer.status), "{answer:?}");
    assert_eq!(alice.membership_of(&room, &bob).await, "leave");
}

#[tokio::test]
async fn knock_waits_for_an_invite() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().state("m.room.join_rules", json!({"join_rule": "knock"})).await;
    bob.post(&format!("rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
    assert_eq!(bob.knock(&room).await.ok()["room_id"], room.0);
    assert_eq!(alice.membership_of(&room, &bob).await, "knock");
    assert_eq!(alice.state(&room, "m.room.member", &bob.id).await["reason"], "let me in");
    alice.invite(&room, &bob).await;
    bob.join(&room).await;
}

#[tokio::test]
async fn knock_is_refused_where_the_rules_do_not_know_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().await;
    bob.knock(&room).await.refused(403, "M_FORBIDDEN");
    let room = alice.create_room().version("6").await;
    bob.knock(&room).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn knock_can_be_taken_back_and_refused() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().state("m.room.join_rules", json!({"join_rule": "knock"})).await;
    bob.knock(&room).await.ok();
    bob.leave(&room).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "leave");
    bob.knock(&room).await.ok();
    alice.kick(&room, &bob).await;
    assert_eq!(alice.membership_of(&room, &bob).await, "leave");
}

#[tokio::test]
async fn only_a_room_that_was_left_can_be_forgotten() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    assert_eq!(bob.forget(&room).await.status, 400);
    let event = alice.send_text(&room, "hello").await;
    bob.leave(&room).await;
    bob.event(&room, &event).await.ok();
    bob.forget(&room).await.ok();
    assert_ne!(bob.event(&room, &event).await.status, 200);
    bob.get(&format!("rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn user_who_forgot_a_room_can_join_it_again() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    bob.leave(&room).await;
    bob.forget(&room).await.ok();
    bob.join(&room).await;
    let event = alice.send_text(&room, "welcome back").await;
    assert_eq!(bob.sync().await.timeline(&room).last(), Some(&event));
}

#[tokio::test]
async fn members_are_listed_by_membership() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().invite(&carol).await;
    bob.join(&room).await;
    bob.leave(&room).await;
    let members = |body: serde_json::Value| -> Vec<String> {
        let mut keys: Vec<String> = body["chunk"]
            .as_array()
            .expect("a chunk")
            .iter()
            .map(|event| event["state_key"].as_str().expect("a key").to_owned())
            .collect();
        keys.sort();
        keys
    };
    let all = alice.get(&format!("rooms/{room}/members")).await.ok();
    assert_eq!(members(all), [alice.id.clone(), bob.id.clone(), carol.id.clone()]);
    let joined = alice.get(&format!("rooms/{room}/members?membership=join")).await.ok();
    assert_eq!(members(joined), std::slice::from_ref(&alice.id));
    let others = alice.get(&format!("rooms/{room}/members?not_membership=join")).await.ok();
    assert_eq!(members(others), [bob.id.clone(), carol.id.clone()]);
}

#[tokio::test]
async fn user_who_left_sees_the_members_of_then() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = alice.create_room().public().await;
    bob.join(&room).await;
    bob.leave(&room).await;
    carol.join(&room).await;
    let body = bob.get(&format!("rooms/{room}/members")).await.ok();
    let has_carol =
        body["chunk"].as_array().expect("a chunk").iter().any(|event| event["state_key"] == carol.id);
    assert!(!has_carol, "{body}");
    bob.get(&format!("rooms/{room}/joined_members")).await.refused(403, "M_FORBIDDEN");
}
