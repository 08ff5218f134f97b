//! A server with a database, whose rooms have members of other servers: for tests of what those are sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use myelin_actors::{
    clock::Clock,
    federation::destination::DestinationStatus,
    room::handle::RoomHandle,
    start::{Actors, FederationSettings, Sizes},
};
use myelin_core::{
    auth,
    nid::UserNid,
    pdu::{
        Pdu,
        build::{self, Draft, Signer},
    },
};
use myelin_storage::nids::Nids;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId,
    signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

use super::{content, database::Database, first_events, member, recorder::Recorder, text};

/// More than any write takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The server under test.
pub const HERE: &str = "here.test";

/// A server that sends.
pub struct Sender {
    pub actors: Actors,
    pub recorder: Recorder,
    hand: Arc<AtomicU64>,
    database: Arc<Database>,
    next: AtomicU64,
}

impl Sender {
    /// One with an empty database. Must be called inside an actix system.
    pub async fn new() -> Self {
        Self::over(Arc::new(Database::fresh().await), 1_700_000_000_000).await
    }

    async fn over(database: Arc<Database>, now_ms: u64) -> Self {
        let storage = database.storage().await;
        let nids = Arc::new(Nids::new(storage.clone()));
        let (clock, hand) = Clock::manual(now_ms);
        let recorder = Recorder::default();
        let federation =
            FederationSettings { enabled: true, presence: true, patience_ms: 90 * 24 * 60 * 60 * 1000 };
        let remote = Arc::new(recorder.clone());
        let signer = Arc::new(signer(HERE));
        let sizes = Sizes { arbiters: 2, event_bytes: 16 << 20 };
        let actors = Actors::start(storage, nids, signer, remote, clock, sizes, federation).await.unwrap();
        Self { actors, recorder, hand, database, next: AtomicU64::new(0) }
    }

    /// The same server as it is after it was killed: other actors over the same database, to which nobody has been
    /// sent anything. The old ones get no answers any more.
    pub async fn killed_and_started_again(&self) -> Self {
        self.recorder.all(super::recorder::Mood::Hangs);
        Self::over(Arc::clone(&self.database), self.hand.load(Ordering::Relaxed)).await
    }

    /// It is stored that a device of the user was seen.
    pub async fn seen(&self, user: &UserId) -> UserNid {
        let nid = self.actors.nids.intern_users(&[user]).await.unwrap()[0];
        let statement = format!(
            "WITH account AS (
                 INSERT INTO users (user_nid, user_id, created) VALUES ({nid}, $1, 0) RETURNING user_nid
             )
             INSERT INTO devices (user_nid, device_id, created, last_seen_ts)
             SELECT user_nid, 'D', 0, {now_ms} FROM account",
            nid = nid.get(),
            now_ms = self.hand.load(Ordering::Relaxed),
        );
        self.change(&statement, user.as_str()).await;
        nid
    }

    /// What is stored of the room's state becomes nonsense.
    pub async fn damage(&self, room: &RoomId) {
        let damage = "UPDATE state_snapshots SET blocks = '\\x00' WHERE snapshot_nid = (SELECT snapshot_nid FROM rooms WHERE room_id = $1)";
        self.change(damage, room.as_str()).await;
    }

    /// What is stored of the event becomes nonsense.
    pub async fn damage_event(&self, event: &EventId) {
        self.change("UPDATE events SET pdu = '{}' WHERE event_id = $1", event.as_str()).await;
    }

    /// What is stored of other servers becomes nonsense.
    pub async fn damage_destinations(&self) {
        let damage = "INSERT INTO destinations (server_name, failures, retry_at) VALUES ($1, 1, 0)";
        self.change(damage, "no server name").await;
    }

    async fn change(&self, statement: &str, parameter: &str) {
        let storage = self.database.storage().await;
        let client = storage.get().await.unwrap();
        assert_eq!(client.execute(statement, &[&parameter]).await.unwrap(), 1);
    }

    /// Time goes on.
    pub fn pass(&self, seconds: u64) {
        self.hand.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    /// Returns when so many attempts at that server have failed.
    pub async fn until_failed(&self, server: &str, failures: u32) {
        let server = server.try_into().unwrap();
        while self.actors.federation.status(server).is_none_or(|status| status.failures < failures) {
            tokio::task::yield_now().await;
        }
    }

    /// Returns when that server lacks nothing.
    pub async fn until_well(&self, server: &str) {
        let server = server.try_into().unwrap();
        let is_well = |status: DestinationStatus| status.failures == 0 && status.rooms_behind == 0;
        while !self.actors.federation.status(server).is_some_and(is_well) {
            tokio::task::yield_now().await;
        }
    }

    /// A public room of a local user, with a member of each of these servers.
    pub async fn room(&self, servers: &[&str]) -> OwnedRoomId {
        let events = first_events(&local(), &RoomVersionId::V11);
        let request =
            myelin_actors::registry::CreateRoom { version: RoomVersionId::V11, room_id: None, events };
        let room = self.actors.rooms.create(request).await.unwrap();
        for server in servers {
            self.join(&room, server).await;
        }
        room
    }

    /// A member of that server joins; this server has it from elsewhere.
    pub async fn join(&self, room: &RoomId, server: &str) {
        let pdu = self
            .remote_event(room, &remote(server), "m.room.member", true, json!({ "membership": "join" }))
            .await;
        self.handle(room).await.receive(pdu).await.unwrap();
    }

    /// An event of another server, on top of what is in the room.
    pub async fn remote_event(
        &self,
        room: &RoomId,
        sender: &UserId,
        event_type: &str,
        about_self: bool,
        json: Value,
    ) -> Pdu {
        let view = self.actors.rooms.view(room).await.unwrap();
        let state_key = about_self.then(|| sender.to_string());
        let json = content(json);
        let keys = auth::auth_keys(view.version, sender, event_type, state_key.as_deref(), &json);
        let mut nids = Vec::new();
        for (event_type, key) in keys {
            let types = self.actors.nids.find_types(&[event_type]).await.unwrap();
            let found = self.actors.nids.find_state_keys(&[key]).await.unwrap();
            if let (Some(event_type), Some(key)) = (types[0], found[0]) {
                nids.extend(view.state_event(event_type, key));
            }
        }
        let auth = self.actors.events.load(&nids).await.unwrap();
        let last = view.recent.last().unwrap();
        let draft = Draft {
            room_id: Some(room.to_owned()),
            sender: sender.to_owned(),
            event_type: event_type.to_owned(),
            state_key,
            content: json,
            redacts: None,
            prev_events: vec![last.pdu.event_id().to_owned()],
            auth_events: auth.iter().map(|event| event.pdu.event_id().to_owned()).collect(),
            depth: last.pdu.depth() + 1,
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(
                u32::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap().into(),
            ),
            event_id_local_part: None,
        };
        build::build(view.version, draft, &signer(sender.server_name().as_str())).unwrap()
    }

    pub async fn handle(&self, room: &RoomId) -> RoomHandle {
        self.actors.rooms.get(room).await.unwrap()
    }

    /// The local user says something.
    pub async fn say(&self, room: &RoomId, body: &str) -> OwnedEventId {
        self.handle(room).await.send(text(&local(), body)).await.unwrap()
    }

    /// The local user says numbers.
    pub async fn count(&self, room: &RoomId, numbers: std::ops::Range<usize>) {
        let handle = self.handle(room).await;
        for number in numbers {
            handle.send(text(&local(), &number.to_string())).await.unwrap();
        }
    }

    /// The local user makes another one leave.
    pub async fn kick(&self, room: &RoomId, user: &UserId) -> OwnedEventId {
        let mut event = member(user, "leave");
        event.sender = local();
        self.handle(room).await.send(event).await.unwrap()
    }
}

/// The local user.
pub fn local() -> OwnedUserId {
    user(HERE)
}

/// The user of another server.
pub fn remote(server: &str) -> OwnedUserId {
    user(server)
}

fn user(server: &str) -> OwnedUserId {
    UserId::parse(format!("@user:{server}")).unwrap()
}

fn signer(server: &str) -> Signer {
    let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
    Signer { server_name: server.try_into().unwrap(), key }
}

/// Numbers as messages.
pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
