//! A world for one test: a store in memory and a server's rooms over it.

pub mod auth_index;
#[expect(dead_code, reason = "these tests need no directory")]
#[path = "../../../tests/it/support/database.rs"]
pub mod database;
pub mod memory_store;
pub mod recorder;
pub mod sender;

use std::sync::Arc;

use myelin_actors::{
    arbiters::Arbiters,
    clock::Clock,
    events::Events,
    journal::Journal,
    registry::{CreateRoom, Rooms},
    room::{
        RoomTools,
        messages::{Received, SendEvent},
        store::{EventsBy, RoomStore},
    },
    sync::fanout::Fanout,
};
use myelin_core::{
    nid::EventNid,
    pdu::{
        Pdu,
        build::{self, Signer},
    },
    position::Position,
    resolve::Lookup,
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, UserId, canonical_json::to_canonical_value, signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

use self::{memory_store::MemoryStore, recorder::Recorder};

/// One server's rooms.
pub struct World {
    pub name: OwnedServerName,
    pub store: MemoryStore,
    pub rooms: Rooms,
    pub events: Events,
    pub signer: Arc<Signer>,
    pub hand: Arc<std::sync::atomic::AtomicU64>,
}

impl World {
    /// A server with this name and an empty store. Must be called inside an actix system.
    pub fn new(name: &str) -> Self {
        Self::over(name, MemoryStore::default())
    }

    /// The same server's actors once more, over what is stored: as after a restart, or as a second process.
    pub fn over(name: &str, store: MemoryStore) -> Self {
        let name: OwnedServerName = name.try_into().unwrap();
        let arbiters = Arbiters::start(2);
        let shared: Arc<dyn RoomStore> = Arc::new(store.clone());
        let events = Events::new(Arc::clone(&shared), 16 << 20);
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        let fanout = Fanout::new(&clock);
        let arbiter = actix_rt::Arbiter::current();
        let journal = Journal::start(&arbiter, Arc::clone(&shared), events.clone(), fanout, Position::START);
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
        let tools = RoomTools {
            store: shared,
            events: events.clone(),
            journal,
            signer: Arc::new(Signer { server_name: name.clone(), key }),
            clock,
        };
        let signer = Arc::clone(&tools.signer);
        let rooms = Rooms::new(arbiters, tools, Arc::new(Recorder::default()));
        Self { name, store, rooms, events, signer, hand }
    }

    /// A user of this server.
    pub fn user(&self, localpart: &str) -> OwnedUserId {
        UserId::parse(format!("@{localpart}:{}", self.name)).unwrap()
    }

    /// The id of a stored event.
    pub async fn event_id(&self, nid: EventNid) -> OwnedEventId {
        let found = self.store.load_events(EventsBy::Nids(&[nid])).await.unwrap();
        found[0].pdu.event_id().to_owned()
    }

    /// The room as this server knows it, for another one to enter: its state, and what that is based on.
    pub async fn export(&self, room: &RoomId) -> Export {
        let view = self.rooms.view(room).await.unwrap();
        let nids: Vec<EventNid> = view.state.values().copied().collect();
        let below = Lookup::Below { events: nids.clone(), most: usize::MAX, floor: i64::MIN };
        let chain: Vec<EventNid> =
            self.store.look(&below).await.unwrap().iter().map(|(nid, _)| *nid).collect();
        let load = async |nids: &[EventNid]| {
            let events = self.store.load_events(EventsBy::Nids(nids)).await.unwrap();
            events.into_iter().map(|event| event.pdu).collect::<Vec<Pdu>>()
        };
        let state = load(&nids).await.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        Export { version: view.version.id.clone(), events: load(&chain).await, state }
    }

    /// Brings this server into a room of another: with the template, the state and the base of it that it gives.
    pub async fn enter(&self, resident: &World, room: &RoomId, user: &UserId) -> Pdu {
        let template = resident.rooms.get(room).await.unwrap().template(member(user, "join")).await.unwrap();
        let export = resident.export(room).await;
        let version = myelin_core::version::find(&export.version).unwrap();
        let join =
            build::complete_template(version, template, Some("join".to_owned()), &self.signer).unwrap();
        let handle = self.rooms.begin(room, &export.version).await.unwrap();
        handle.receive_outliers(export.events).await.unwrap();
        let received = handle.receive_at(join.clone(), export.state).await.unwrap();
        assert_eq!(received, Received::Accepted);
        assert_eq!(resident.receive(room, &join).await, Received::Accepted);
        join
    }

    /// Hands an event of another server to the room.
    pub async fn receive(&self, room: &RoomId, pdu: &Pdu) -> Received {
        self.rooms.get(room).await.unwrap().receive(pdu.clone()).await.unwrap()
    }

    /// Sends an event, and gives it to others as it is.
    pub async fn send(&self, room: &RoomId, event: SendEvent) -> Pdu {
        let id = self.rooms.get(room).await.unwrap().send(event).await.unwrap();
        self.store.event(&id).unwrap().pdu
    }

    /// A public room of that version, made by `creator`.
    pub async fn public_room(&self, creator: &UserId, version: RoomVersionId) -> OwnedRoomId {
        let events = first_events(creator, &version);
        self.rooms.create(CreateRoom { version, room_id: None, events }).await.unwrap()
    }
}

/// What another server is given when it enters a room.
pub struct Export {
    pub version: RoomVersionId,
    pub events: Vec<Pdu>,
    pub state: Vec<OwnedEventId>,
}

/// Canonical content.
pub fn content(value: Value) -> CanonicalJsonObject {
    match to_canonical_value(value).unwrap() {
        ruma::CanonicalJsonValue::Object(object) => object,
        _ => panic!("content is an object"),
    }
}

/// A message.
pub fn text(sender: &UserId, body: &str) -> SendEvent {
    SendEvent::message(
        sender.to_owned(),
        "m.room.message",
        content(json!({ "msgtype": "m.text", "body": body })),
    )
}

/// A redaction.
pub fn redaction(sender: &UserId, target: &EventId) -> SendEvent {
    SendEvent {
        redacts: Some(target.to_owned()),
        ..SendEvent::message(sender.to_owned(), "m.room.redaction", content(json!({ "reason": "oops" })))
    }
}

/// A member event about the sender.
pub fn member(user: &UserId, membership: &str) -> SendEvent {
    SendEvent::state(
        user.to_owned(),
        "m.room.member",
        user.as_str(),
        content(json!({ "membership": membership })),
    )
}

fn first_events(creator: &UserId, version: &RoomVersionId) -> Vec<SendEvent> {
    let by = || creator.to_owned();
    let old = matches!(version.as_str(), "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "10");
    let create = if old {
        json!({ "creator": creator, "room_version": version })
    } else {
        json!({ "room_version": version })
    };
    let users = if version.as_str() == "12" { json!({}) } else { json!({ creator.as_str(): 100 }) };
    vec![
        SendEvent::state(by(), "m.room.create", "", content(create)),
        member(creator, "join"),
        SendEvent::state(
            by(),
            "m.room.power_levels",
            "",
            content(json!({ "users": users, "state_default": 50, "events_default": 0 })),
        ),
        SendEvent::state(by(), "m.room.join_rules", "", content(json!({ "join_rule": "public" }))),
    ]
}
