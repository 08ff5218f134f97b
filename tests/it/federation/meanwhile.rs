//! What other servers send of a room while one of our users comes into it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use myelin_core::pdu::Pdu;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::old::{room_of, template};
use crate::support::{
    EventId, Room, Server, User, encode,
    federation::Authority,
    scripted::{Place, Scripted, Wanted, arrived, value},
    server::SERVER_NAME,
    user::PATIENCE,
};

/// A room of a scripted server, which a local user wants to be in.
struct Story {
    _server: Server,
    scripted: Scripted,
    bob: User,
    place: Place,
    room: Room,
}

impl Story {
    async fn begin() -> Self {
        let authority = Authority::new();
        let server = Server::start_with(&authority.settings()).await;
        let scripted = Scripted::start(&authority, &server);
        let bob = server.user("bob").await;
        let place = room_of(&scripted, &scripted.user("creator"));
        let room = Room(place.room_id.to_string());
        Self { _server: server, scripted, bob, place, room }
    }

    /// Bob asks for this, and while the scripted server holds back its answer to the request whose path has this in
    /// it, that happens. It is given the event that was handed over.
    async fn while_held(
        &mut self,
        what: &str,
        held: &'static str,
        meanwhile: impl AsyncFnOnce(&mut Scripted, &mut Place, OwnedEventId),
    ) {
        let gate = Arc::new(Semaphore::new(0));
        self.scripted.script.lock().held = Some((held, Arc::clone(&gate)));
        let path = format!("{what}/{}?via={}", self.room, encode(self.scripted.name.as_str()));
        let asking = self.bob.post(&path, json!({}));
        let (scripted, place) = (&mut self.scripted, &mut self.place);
        let meanwhile = async {
            let id = handed_over(scripted, held).await;
            meanwhile(scripted, place, id).await;
            gate.add_permits(1);
        };
        futures::join!(asking, meanwhile).0.ok();
    }

    fn answers(&self, membership: &str, made: &'static str, sent: &'static str, answer: Value) {
        let template = template(&self.place, &self.bob.id, membership, "6");
        self.scripted.script.lock().instead.extend([(made, 200, template), (sent, 200, answer)]);
    }

    /// The scripted server lets Bob join.
    fn lets_in(&self) {
        let events: Vec<Value> = self.scripted.script.lock().events.values().cloned().collect();
        let answer = json!({ "origin": self.scripted.name, "state": events, "auth_chain": events });
        self.answers("join", "/make_join/", "/send_join/", answer);
    }
}

/// The event that is in the path of the request.
async fn handed_over(scripted: &Scripted, path: &str) -> OwnedEventId {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = scripted.script.lock().asked.iter().find(|asked| asked.contains(path)).cloned();
        if let Some(asked) = asked {
            let id = asked.split('?').next().and_then(|path| path.rsplit('/').next());
            return id.expect("the path ends in it").try_into().expect("an event id");
        }
        assert!(Instant::now() < deadline, "nobody asks for {path}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn member_of(place: &mut Place, user: &str, id: OwnedEventId) {
    place.state.insert(("m.room.member".to_owned(), user.to_owned()), id.clone());
    place.heads = vec![id];
    place.depth += 1;
}

#[tokio::test]
async fn what_is_said_while_one_joins_is_there_afterwards() {
    let mut story = Story::begin().await;
    story.lets_in();
    let creator = story.scripted.user("creator");
    let mut welcome = None;
    let bob = story.bob.id.clone();
    let meanwhile = async |scripted: &mut Scripted, place: &mut Place, join| {
        member_of(place, &bob, join);
        let event = scripted.make(place, Wanted::text(&creator, "welcome"));
        scripted.send(&[&event]).await;
        welcome = Some(event);
    };
    story.while_held("join", "/send_join/", meanwhile).await;
    arrived(&story.bob, &story.room, welcome.expect("it was sent").event_id()).await;
}

#[tokio::test]
async fn who_is_banned_while_they_join_is_not_in_the_room() {
    let mut story = Story::begin().await;
    story.lets_in();
    let creator = story.scripted.user("creator");
    let bob = story.bob.id.clone();
    let since = story.bob.sync().await;
    let meanwhile = async |scripted: &mut Scripted, place: &mut Place, join| {
        member_of(place, &bob, join);
        let ban = Wanted::state(&creator, "m.room.member", &bob, json!({ "membership": "ban" }));
        let ban = scripted.make(place, ban);
        scripted.send(&[&ban]).await;
    };
    story.while_held("join", "/send_join/", meanwhile).await;
    let room = &story.room;
    story.bob.sync_until(&since, |sync| sync.section("leave", room).is_object()).await;
}

#[tokio::test]
async fn invitation_that_answers_a_knock_outlives_it() {
    let mut story = Story::begin().await;
    story.answers("knock", "/make_knock/", "/send_knock/", json!({ "knock_room_state": [] }));
    let creator = story.scripted.user("creator");
    let bob = story.bob.id.clone();
    let since = story.bob.sync().await;
    let meanwhile = async |scripted: &mut Scripted, place: &mut Place, knock| {
        member_of(place, &bob, knock);
        let invite = Wanted::state(&creator, "m.room.member", &bob, json!({ "membership": "invite" }));
        let invite = scripted.make(place, invite);
        let id = encode(invite.event_id().as_str());
        let path = format!("/_matrix/federation/v2/invite/{}/{id}", place.room_id);
        let body = json!({ "room_version": "6", "event": value(&invite), "invite_room_state": [] });
        scripted.put(SERVER_NAME.try_into().expect("a name"), &path, &body).await.ok();
    };
    story.while_held("knock", "/send_knock/", meanwhile).await;
    let sync = story.bob.sync().since(&since).await;
    assert!(sync.section("invite", &story.room).is_object(), "{}", sync.0);
    assert!(sync.section("knock", &story.room).is_null(), "{}", sync.0);
}

#[tokio::test]
async fn what_was_said_on_another_branch_before_one_joined_is_history() {
    let mut story = Story::begin().await;
    let creator = story.scripted.user("creator");
    let state: Vec<Value> = story.scripted.script.lock().events.values().cloned().collect();
    let aside = story.scripted.build(&story.place, Wanted::text(&creator, "aside"));
    for _ in 0..3 {
        story.scripted.make(&mut story.place, Wanted::text(&creator, "before"));
    }
    let answer = json!({ "origin": story.scripted.name, "state": state, "auth_chain": state });
    story.answers("join", "/make_join/", "/send_join/", answer);
    let bob = story.bob.id.clone();
    let mut last = None;
    let meanwhile = async |scripted: &mut Scripted, place: &mut Place, join: OwnedEventId| {
        member_of(place, &bob, join.clone());
        let both = [aside.event_id().to_owned(), join];
        let event = scripted.make(place, Wanted::text(&creator, "welcome").after(&both));
        scripted.send(&[&event]).await;
        last = Some(event);
    };
    story.while_held("join", "/send_join/", meanwhile).await;
    let last = last.expect("it was sent");
    arrived(&story.bob, &story.room, last.event_id()).await;

    assert!(story.scripted.asked("/get_missing_events/") > 0);
    let is_in =
        |timeline: &[EventId], pdu: &Pdu| timeline.iter().any(|EventId(id)| id == pdu.event_id().as_str());
    let timeline = story.bob.sync().await.timeline(&story.room);
    assert!(is_in(&timeline, &last) && !is_in(&timeline, &aside), "{timeline:?}");
    let history = story.bob.history(&story.room, 100).await;
    assert!(is_in(&history, &last) && is_in(&history, &aside), "{history:?}");
}
