//! Rooms whose events a policy server has to sign, which a scripted server plays.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use myelin_core::{
    pdu::{Pdu, sign},
    version,
};
use ruma::{
    OwnedUserId,
    serde::{Base64, base64::Standard},
    signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

use crate::support::{
    Answer, EventId, Room, Server, User, encode,
    federation::Authority,
    scripted::{Place, Scripted, Wanted, arrived},
    server::SERVER_NAME,
    user::PATIENCE,
};

/// A local user's room of version 11 with a user of a scripted server, which is the room's policy server.
struct Story {
    _server: Server,
    scripted: Scripted,
    alice: User,
    room: Room,
    mallory: OwnedUserId,
    place: Place,
    key: Arc<Ed25519KeyPair>,
}

impl Story {
    async fn begin() -> Self {
        let authority = Authority::new();
        let server = Server::start_with(&authority.settings()).await;
        let scripted = Scripted::start(&authority, &server);
        let alice = server.user("alice").await;
        let room = alice.create_room().public().version("11").await;
        let mallory = scripted.user("mallory");
        scripted.join(&alice, &room, &mallory).await;
        let der = Ed25519KeyPair::generate();
        let key = Arc::new(Ed25519KeyPair::from_der(&der, "policy_server".to_owned()).expect("a key"));
        scripted.script.lock().policy = Some(Arc::clone(&key));
        let public = Base64::<Standard, _>::new(key.public_key().to_vec()).encode();
        let policy = json!({ "via": scripted.name, "public_keys": { "ed25519": public } });
        alice.set_state(&room, "m.room.policy", "", policy).await;
        let place = Place::of(&alice, &room).await;
        Self { _server: server, scripted, alice, room, mallory, place, key }
    }

    fn asked(&self) -> usize {
        self.scripted.asked("/policy/v1/sign")
    }

    async fn until_asked(&self, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.asked() < times {
            assert!(Instant::now() < deadline, "it is not asked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn answers(&self, status: u16, body: Value) {
        self.scripted.script.lock().instead.push(("/policy/v1/sign", status, body));
    }

    fn say(&mut self, text: &str) -> Pdu {
        self.scripted.make(&mut self.place, Wanted::text(&self.mallory, text))
    }

    /// The event as the server under test gives it to others.
    async fn as_given_out(&self, event: &EventId) -> Pdu {
        let destination = SERVER_NAME.try_into().expect("a name");
        let path = format!("/_matrix/federation/v1/event/{}", encode(&event.0));
        let answer = self.scripted.get(destination, &path).await.ok();
        let id = event.0.clone().try_into().expect("an id");
        let version = version::find_str("11").expect("known");
        Pdu::from_stored(version, id, answer["pdus"][0].to_string()).expect("a PDU")
    }

    async fn timeline(&self) -> Vec<String> {
        let history = self.alice.history(&self.room, 100).await;
        history.into_iter().map(|EventId(id)| id).collect()
    }

    async fn try_to_say(&self, text: &str) -> Answer {
        self.alice.try_send(&self.room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    fn has_signed(&self, event: &Pdu) -> bool {
        let keys = [("ed25519:policy_server".to_owned(), Base64::new(self.key.public_key().to_vec()))];
        sign::is_signed_by(event, &self.scripted.name, &keys.into())
    }
}

#[tokio::test]
async fn own_events_are_signed_before_they_are_sent() {
    let story = Story::begin().await;
    assert_eq!(story.asked(), 0, "the event that names the policy server is exempt");
    let message = story.alice.send_text(&story.room, "hello").await;
    let topic = story.alice.set_state(&story.room, "m.room.topic", "", json!({ "topic": "t" })).await;
    assert_eq!(story.asked(), 2);
    assert_eq!(story.timeline().await, [message.0.as_str()]);
    for event in [message, topic] {
        let given = story.as_given_out(&event).await;
        assert!(story.has_signed(&given), "{}", given.json());
    }
}

#[tokio::test]
async fn one_transaction_is_one_event() {
    let story = Story::begin().await;
    let path = format!("rooms/{}/send/m.room.message/again", story.room);
    let body = json!({ "msgtype": "m.text", "body": "once" });
    let (first, second) =
        futures::join!(story.alice.put(&path, body.clone()), story.alice.put(&path, body.clone()));
    let third = story.alice.put(&path, body).await.ok();
    assert_eq!(first.ok()["event_id"], third["event_id"]);
    assert_eq!(second.ok()["event_id"], third["event_id"]);
    let timeline = story.timeline().await;
    assert_eq!(timeline.iter().filter(|id| third["event_id"] == **id).count(), 1);
}

#[tokio::test]
async fn own_events_that_it_refuses_are_not_sent_and_the_client_is_told_why() {
    let story = Story::begin().await;
    let before = story.timeline().await;
    story.answers(400, json!({ "errcode": "M_FORBIDDEN", "error": "that is spam" }));
    let refused = story.try_to_say("buy this").await;
    assert_eq!(refused.body["error"], "that is spam");
    refused.refused(400, "M_FORBIDDEN");
    assert_eq!(story.timeline().await, before);
    // Nobody is kept from parting with it.
    story.alice.set_state(&story.room, "m.room.policy", "", json!({})).await;
    story.alice.send_text(&story.room, "free").await;
}

#[tokio::test]
async fn events_of_others_are_asked_about_unless_they_are_signed() {
    let mut story = Story::begin().await;
    let unsigned = story.say("unsigned");
    story.scripted.send(&[&unsigned]).await;
    arrived(&story.alice, &story.room, unsigned.event_id()).await;
    assert_eq!(story.asked(), 1);
    let given = story.as_given_out(&EventId(unsigned.event_id().to_string())).await;
    assert!(story.has_signed(&given), "others get it with the signature");

    let draft = story.say("signed");
    let signature = sign::signature_of(&draft, &story.key).expect("a signature");
    let name = &story.scripted.name;
    let signed =
        sign::with_signature(&draft, name, "ed25519:policy_server", &signature).expect("small enough");
    story.scripted.send(&[&signed]).await;
    arrived(&story.alice, &story.room, signed.event_id()).await;
    assert_eq!(story.asked(), 1, "the signature is there");
}

#[tokio::test]
async fn events_of_others_that_it_refuses_are_not_shown_nor_built_upon() {
    let mut story = Story::begin().await;
    story.answers(400, json!({ "errcode": "M_FORBIDDEN", "error": "that is spam" }));
    let spam = story.say("buy this");
    story.scripted.send(&[&spam]).await;
    story.until_asked(1).await;
    // It is decided about before what follows it, which is asked about then.
    let more = story.say("buy that too");
    story.scripted.send(&[&more]).await;
    story.until_asked(2).await;
    for spam in [&spam, &more] {
        assert!(!story.timeline().await.contains(&spam.event_id().to_string()));
    }
    story.scripted.script.lock().instead.clear();
    let next = story.alice.send_text(&story.room, "good").await;
    let next = story.as_given_out(&next).await;
    assert!(!next.prev_events().contains(&spam.event_id().to_owned()));
}

#[tokio::test]
async fn while_it_is_away_own_events_fail_and_others_wait() {
    let mut story = Story::begin().await;
    story.answers(502, json!({}));
    story.try_to_say("is anybody there").await.refused(502, "M_UNKNOWN");
    let waiting = story.say("patience");
    story.scripted.send(&[&waiting]).await;
    story.until_asked(2).await;
    assert!(!story.timeline().await.contains(&waiting.event_id().to_string()));
    story.scripted.script.lock().instead.clear();
    arrived(&story.alice, &story.room, waiting.event_id()).await;
}

#[tokio::test]
async fn without_a_member_in_the_room_it_is_not_asked() {
    let story = Story::begin().await;
    let leave = json!({ "user_id": story.mallory, "reason": "go" });
    story.alice.post(&format!("rooms/{}/kick", story.room), leave).await.ok();
    let asked = story.asked();
    story.answers(400, json!({ "errcode": "M_FORBIDDEN", "error": "no" }));
    story.alice.send_text(&story.room, "alone again").await;
    assert_eq!(story.asked(), asked);
}
