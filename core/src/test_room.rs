//! A room for tests, without a database: a small language.
//!
//! ```text
//! let mut room = TestRoom::new("10");                       // created by @alice:a.example, who joined
//! room.state("@alice:a.example", "m.room.topic", "", json!({"topic": "tea"}));
//! let event = room.make("@alice:a.example", "m.room.message", None, json!({}));   // not applied
//! let mut fork = room.clone();                              // the two go on apart
//! ```
//!
//! Every event follows the one applied before it and takes its auth events from the room's state. Nothing is
//! authorised: tests do that.

use std::collections::{HashMap, HashSet};

use ruma::serde::Base64;
use ruma::signatures::{Ed25519KeyPair, PublicKeyMap};
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomId, UInt, UserId,
};
use serde_json::{Value, json};

use crate::auth::{self, AuthEvent};
use crate::pdu::Pdu;
use crate::pdu::build::{Draft, Signer, build};
use crate::resolve::StateIds;
use crate::version::{RoomVersion, find_str};

pub(crate) const ALICE: &str = "@alice:a.example";
pub(crate) const BOB: &str = "@bob:b.example";
pub(crate) const CAROL: &str = "@carol:c.example";

/// The key of the server, the same in every test.
pub(crate) fn signer(server: &str) -> Signer {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend(server.bytes().cycle().take(32));
    let key = Ed25519KeyPair::from_der(&der, "test".to_owned()).unwrap();
    Signer { server_name: server.try_into().unwrap(), key }
}

/// The public keys of these servers.
pub(crate) fn public_keys(servers: &[&str]) -> PublicKeyMap {
    let keys = servers.iter().map(|server| {
        let key = Base64::new(signer(server).key.public_key().to_vec());
        ((*server).to_owned(), [("ed25519:test".to_owned(), key)].into())
    });
    keys.collect()
}

pub(crate) fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

#[derive(Clone)]
pub(crate) struct TestRoom {
    pub(crate) version: &'static RoomVersion,
    pub(crate) state: HashMap<(String, String), Pdu>,
    pub(crate) events: HashMap<OwnedEventId, Pdu>,
    pub(crate) now: u64,
    last: Option<Pdu>,
    counter: u64,
    /// Part of the event ids of room versions 1 and 2, so that forks do not make the same ones.
    pub(crate) name: String,
}

impl TestRoom {
    pub(crate) fn new(version: &str) -> Self {
        let version = find_str(version).unwrap();
        let mut room = Self {
            version,
            state: HashMap::new(),
            events: HashMap::new(),
            now: 1000,
            last: None,
            counter: 0,
            name: "main".to_owned(),
        };
        let mut create = json!({"room_version": version.id.as_str()});
        if !version.rules.authorization.use_room_create_sender {
            create["creator"] = ALICE.into();
        }
        room.state(ALICE, "m.room.create", "", create);
        room.join(ALICE);
        room
    }

    pub(crate) fn draft(&self, sender: &str, event_type: &str, key: Option<&str>, content: Value) -> Draft {
        let sender = UserId::parse(sender).unwrap();
        let content = object(content);
        let keys = auth::auth_keys(self.version, &sender, event_type, key, &content);
        Draft {
            room_id: self.room_id_for(event_type),
            sender,
            event_type: event_type.to_owned(),
            state_key: key.map(str::to_owned),
            content,
            redacts: None,
            prev_events: self.last.iter().map(|event| event.event_id().to_owned()).collect(),
            auth_events: keys
                .iter()
                .filter_map(|key| self.state.get(key))
                .map(|event| event.event_id().to_owned())
                .collect(),
            depth: self.last.as_ref().map_or(1, |event| event.depth() + 1),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(self.now).unwrap()),
            event_id_local_part: Some(format!("{}{}", self.name, self.counter)),
        }
    }

    fn room_id_for(&self, event_type: &str) -> Option<OwnedRoomId> {
        if !self.version.room_id_is_create_id() {
            return Some(RoomId::parse("!room:a.example").unwrap());
        }
        (event_type != "m.room.create").then(|| self.create().room_id().to_owned())
    }

    pub(crate) fn build(&self, draft: Draft) -> Pdu {
        let signer = signer(draft.sender.server_name().as_str());
        build(self.version, draft, &signer).unwrap()
    }

    pub(crate) fn make(&self, sender: &str, event_type: &str, key: Option<&str>, content: Value) -> Pdu {
        self.build(self.draft(sender, event_type, key, content))
    }

    /// Makes a redaction, not applied.
    pub(crate) fn redaction(&self, sender: &str, target: &EventId) -> Pdu {
        let draft = self.draft(sender, "m.room.redaction", None, json!({}));
        self.build(Draft { redacts: Some(target.to_owned()), ..draft })
    }

    pub(crate) fn apply(&mut self, event: &Pdu) {
        self.now += 1;
        self.counter += 1;
        self.events.insert(event.event_id().to_owned(), event.clone());
        if let Some(key) = event.state_key() {
            self.state.insert((event.event_type().to_owned(), key.to_owned()), event.clone());
        }
        self.last = Some(event.clone());
    }

    pub(crate) fn state(&mut self, sender: &str, event_type: &str, key: &str, content: Value) -> Pdu {
        let event = self.make(sender, event_type, Some(key), content);
        self.apply(&event);
        event
    }

    pub(crate) fn join(&mut self, user: &str) -> Pdu {
        self.member(user, user, "join")
    }

    pub(crate) fn member(&mut self, sender: &str, user: &str, membership: &str) -> Pdu {
        self.state(sender, "m.room.member", user, json!({"membership": membership}))
    }

    pub(crate) fn create(&self) -> &Pdu {
        &self.state[&("m.room.create".to_owned(), String::new())]
    }

    pub(crate) fn get(&self, event_type: &str, key: &str) -> Option<Pdu> {
        self.state.get(&(event_type.to_owned(), key.to_owned())).cloned()
    }

    /// Finds an event by id, as one that was not rejected.
    pub(crate) fn auth_event(&self, id: &EventId) -> Option<AuthEvent> {
        self.events.get(id).map(|pdu| AuthEvent { pdu: pdu.clone(), rejected: false })
    }

    pub(crate) fn state_ids(&self) -> StateIds {
        self.state.iter().map(|(key, event)| (key.clone(), event.event_id().to_owned())).collect()
    }

    /// The state's events and everything that they are based on.
    pub(crate) fn auth_chain(&self) -> HashSet<OwnedEventId> {
        let mut chain = HashSet::new();
        let mut open: Vec<OwnedEventId> = self.state_ids().into_values().collect();
        while let Some(id) = open.pop() {
            if chain.insert(id.clone()) {
                open.extend(self.events[&id].auth_events().iter().cloned());
            }
        }
        chain
    }
}
