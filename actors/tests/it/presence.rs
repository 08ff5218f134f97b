//! Who is there, as time goes by.

use std::sync::{Arc, atomic::Ordering};

use myelin_actors::{
    clock::Clock,
    presence::{GONE_MS, PresenceUpdate, Presences, RETURN_MS},
    sync::fanout::Fanout,
};
use myelin_core::nid::UserNid;
use ruma::{UserId, presence::PresenceState};

use crate::support::{
    member,
    recorder::Recorder,
    sender::{HERE, Sender, local},
};

const START_MS: u64 = 1_700_000_000_000;

struct Watch {
    presences: Presences,
    hand: Arc<std::sync::atomic::AtomicU64>,
    user: UserNid,
}

impl Watch {
    fn new() -> Self {
        let (clock, hand) = Clock::manual(START_MS);
        let presences = Presences::start(Fanout::new(&clock), clock);
        Self { presences, hand, user: UserNid::new(7).unwrap() }
    }

    fn now(&self) -> u64 {
        self.hand.load(Ordering::Relaxed)
    }

    fn pass(&self, seconds: u64) {
        self.hand.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    /// The user's client asks, and would wait for half a minute.
    fn sync(&self) {
        self.presences.stay(self.user, &[], PresenceState::Online, self.now() + 30_000 + GONE_MS);
    }

    fn state(&self) -> PresenceState {
        self.presences.of(&[self.user]).remove(&self.user).unwrap().presence
    }

    async fn until(&self, state: PresenceState) {
        let wait = async {
            while self.state() != state {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "{:?} instead of {state:?}", self.state());
    }
}

#[actix_rt::test]
async fn user_whose_client_is_gone_is_offline() {
    let watch = Watch::new();
    watch.sync();
    assert_eq!(watch.state(), PresenceState::Online);
    watch.pass(50);
    watch.sync();
    watch.pass(50);
    assert_eq!(watch.state(), PresenceState::Online);
    watch.pass(11);
    watch.until(PresenceState::Offline).await;
    watch.sync();
    assert_eq!(watch.state(), PresenceState::Online);
}

#[actix_rt::test]
async fn user_who_does_nothing_is_away_until_they_do_something() {
    let watch = Watch::new();
    for _ in 0..6 {
        watch.sync();
        watch.pass(55);
    }
    watch.until(PresenceState::Unavailable).await;
    watch.sync();
    assert_eq!(watch.state(), PresenceState::Unavailable);
    assert!(!watch.presences.would_show(watch.user, &PresenceState::Online));
    watch.presences.act(watch.user);
    assert_eq!(watch.state(), PresenceState::Online);
}

#[actix_rt::test]
async fn client_that_says_that_its_user_is_back_is_believed() {
    let watch = Watch::new();
    watch.sync();
    let away = PresenceState::Unavailable;
    watch.presences.stay(watch.user, &[], away.clone(), watch.now() + 1_000_000);
    watch.pass(400);
    watch.until(away).await;
    watch.sync();
    assert_eq!(watch.state(), PresenceState::Online);
    let update = PresenceUpdate { presence: PresenceState::Offline, status_msg: None };
    watch.presences.set(watch.user, &[], update);
    assert_eq!(watch.state(), PresenceState::Offline);
}

#[actix_rt::test]
async fn who_does_not_come_back_after_a_restart_is_told_to_be_offline() {
    let here = Sender::new().await;
    let room = here.room(&["a.test"]).await;
    let [bob, carol] = ["bob", "carol"].map(|name| UserId::parse(format!("@{name}:{HERE}")).unwrap());
    for user in [&bob, &carol] {
        here.handle(&room).await.send(member(user, "join")).await.unwrap();
    }
    let (gone, back) = (here.seen(&local()).await, here.seen(&carol).await);
    let reader = here.actors.nids.intern_users(&[&bob]).await.unwrap()[0];
    let before = here.actors.syncers.now();
    here.pass(1);
    let here = here.killed_and_started_again().await;
    here.actors.presences.stay(back, &[], PresenceState::Online, u64::MAX);
    assert!(here.actors.presences.of(&[gone]).is_empty(), "nothing is known yet");
    here.pass(RETURN_MS / 1000);
    let (reader, mut since) = (here.actors.syncers.user(reader), before);
    loop {
        let news = reader.wait(since).await.unwrap();
        if news.presence.contains(&gone) {
            break;
        }
        since = news.upto;
    }
    let known = here.actors.presences.of(&[gone, back]);
    assert_eq!(known[&gone].presence, PresenceState::Offline);
    assert_eq!(known[&back].presence, PresenceState::Online);
    let is_told = |recorder: &Recorder| {
        let edus = recorder.edus("a.test", "m.presence");
        edus.iter().any(|content| {
            let push = &content["push"][0];
            push["user_id"] == local().as_str() && push["presence"] == "offline"
        })
    };
    here.recorder.until("the other server is told", is_told).await;
}
