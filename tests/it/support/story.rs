//! A room of the server under test that a scripted server takes part in.

use std::time::{Duration, Instant};

use myelin_core::pdu::Pdu;
use ruma::OwnedUserId;
use serde_json::Value;

use super::{
    EventId, Room, Server, User, encode,
    federation::Authority,
    scripted::{Place, Scripted, Wanted, arrived},
    user::PATIENCE,
};

/// A local user's public room that a user of a scripted server has joined.
pub struct Story {
    pub authority: Authority,
    pub server: Server,
    pub scripted: Scripted,
    pub alice: User,
    pub room: Room,
    pub mallory: OwnedUserId,
    pub place: Place,
}

impl Story {
    pub async fn begin() -> Self {
        Self::with("11").await
    }

    pub async fn with(version: &str) -> Self {
        let authority = Authority::new();
        let server = Server::start_with(&authority.settings()).await;
        let scripted = Scripted::start(&authority, &server);
        let alice = server.user("alice").await;
        let room = alice.create_room().public().version(version).await;
        let mallory = scripted.user("mallory");
        let place = scripted.join(&alice, &room, &mallory).await;
        Self { authority, server, scripted, alice, room, mallory, place }
    }

    pub fn say(&mut self, text: &str) -> Pdu {
        self.scripted.make(&mut self.place, Wanted::text(&self.mallory, text))
    }

    pub fn chain(&mut self, length: usize) -> Vec<Pdu> {
        (0..length).map(|number| self.say(&format!("number {number}"))).collect()
    }

    pub async fn arrived(&self, pdu: &Pdu) -> Value {
        arrived(&self.alice, &self.room, pdu.event_id()).await
    }

    pub async fn is_here(&self, pdu: &Pdu) -> bool {
        let path = format!("rooms/{}/event/{}", self.room, encode(pdu.event_id().as_str()));
        self.alice.get(&path).await.status == 200
    }

    /// Everything in the room's timeline, oldest first.
    pub async fn timeline(&self) -> Vec<String> {
        let history = self.alice.history(&self.room, 100).await;
        history.into_iter().map(|EventId(id)| id).collect()
    }

    /// The ends of the room as the server under test sees them: what its next event follows.
    pub async fn sends_on(&self) -> EventId {
        self.alice.send_text(&self.room, "still here").await
    }

    /// Waits until the server has tried to bring a received event into its room. `None`: it has decided about it;
    /// otherwise why it has not.
    pub async fn tried(&self, pdu: &Pdu) -> Option<String> {
        let query = "SELECT status = 3 OR attempts > 0, reason FROM inbound_pdus WHERE event_id = $1";
        let storage = self.server.storage().await;
        let client = storage.get().await.expect("connected");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match client.query_opt(query, &[&pdu.event_id().as_str()]).await.expect("read") {
                None => return None,
                Some(row) if row.get::<_, bool>(0) => return row.get(1),
                Some(_) => {}
            }
            assert!(Instant::now() < deadline, "{} is not tried", pdu.event_id());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
