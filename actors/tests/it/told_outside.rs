//! What servers are sent of a room in which they have no member: what is about their users, and nothing else.

use ruma::OwnedRoomId;
use serde_json::{Value, json};

use crate::support::{
    member,
    recorder::Mood,
    sender::{PATIENCE, Sender, local, remote},
};

/// What became of members, in the order in which the server was told.
fn memberships(sender: &Sender, server: &str) -> Vec<Value> {
    let taken = sender.recorder.taken(server);
    let memberships =
        taken.iter().flat_map(|sent| &sent.pdus).map(|pdu| pdu["content"]["membership"].clone());
    memberships.filter(|membership| !membership.is_null()).collect()
}

/// `a.test` was told nothing since it went away: "before" was said, and its only user kicked.
async fn kicked_while_away() -> (Sender, OwnedRoomId) {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.say(&room, "before").await;
    sender.until_failed("a.test", 1).await;
    sender.kick(&room, &remote("a.test")).await;
    (sender, room)
}

#[actix_rt::test]
async fn server_whose_last_user_is_kicked_is_told_that_and_no_more() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test", "b.test"]).await;
    sender.recorder.set("b.test", Mood::IsAway);
    sender.say(&room, "before").await;
    for server in ["a.test", "b.test"] {
        sender.kick(&room, &remote(server)).await;
    }
    sender.say(&room, "after").await;
    sender.until_failed("b.test", 1).await;
    sender.recorder.set("b.test", Mood::Takes);
    sender.pass(7);
    let is_kicked = |server: &str| {
        let taken = sender.recorder.taken(server);
        taken.iter().flat_map(|sent| &sent.pdus).any(|pdu| pdu["state_key"] == remote(server).as_str())
    };
    sender.recorder.until("both know", |_| is_kicked("a.test") && is_kicked("b.test")).await;
    // Whatever else would be sent to them would have been by the time that another server has it.
    sender.join(&room, "c.test").await;
    sender.say(&room, "last").await;
    sender.recorder.until("the third has it", |all| all.messages("c.test").len() == 1).await;
    for server in ["a.test", "b.test"] {
        assert_eq!(sender.recorder.messages(server), ["before"], "{server}");
    }
}

#[actix_rt::test]
async fn server_of_an_invited_user_is_told_only_that_the_invite_is_withdrawn() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    let mut invite = member(&remote("b.test"), "invite");
    invite.sender = local();
    sender.handle(&room).await.send(invite).await.unwrap();
    sender.say(&room, "not for b").await;
    sender.kick(&room, &remote("b.test")).await;
    sender.recorder.until("a is told all", |_| memberships(&sender, "a.test").len() == 2).await;
    assert_eq!(memberships(&sender, "a.test"), [json!("invite"), json!("leave")]);
    assert_eq!(sender.recorder.messages("a.test"), ["not for b"]);
    sender.recorder.until("b is told", |_| !memberships(&sender, "b.test").is_empty()).await;
    assert_eq!(memberships(&sender, "b.test"), ["leave"], "the invite itself came by a request of its own");
    assert!(sender.recorder.messages("b.test").is_empty());
}

#[actix_rt::test]
async fn server_that_was_away_is_told_all_that_became_of_its_user() {
    let (sender, room) = kicked_while_away().await;
    sender.say(&room, "between").await;
    let mut ban = member(&remote("a.test"), "ban");
    ban.sender = local();
    sender.handle(&room).await.send(ban).await.unwrap();
    sender.say(&room, "after").await;
    sender.actors.federation.save(PATIENCE).await;

    // Killed before it could be told, so that it is told what stands in the database.
    let again = sender.killed_and_started_again().await;
    again.pass(7);
    again.recorder.until("it is told", |_| memberships(&again, "a.test").len() == 2).await;
    assert_eq!(memberships(&again, "a.test"), ["leave", "ban"]);
    assert_eq!(again.recorder.messages("a.test"), ["before"]);
}

#[actix_rt::test]
async fn server_outside_is_not_told_more_after_an_attempt_that_failed() {
    let (sender, room) = kicked_while_away().await;
    sender.actors.federation.save(PATIENCE).await;
    let again = sender.killed_and_started_again().await;
    again.recorder.set("a.test", Mood::IsAway);
    again.pass(7);
    again.until_failed("a.test", 2).await;
    again.say(&room, "after").await;
    again.actors.federation.save(PATIENCE).await;
    let third = again.killed_and_started_again().await;
    third.pass(60);
    third.recorder.until("it is told", |_| memberships(&third, "a.test").len() == 1).await;
    assert_eq!(third.recorder.messages("a.test"), ["before"]);
}
