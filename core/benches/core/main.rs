//! What a room pays in CPU: making an event, allowing it, storing the state after it, resolving forks, and telling
//! whom it notifies.
//!
//! `cargo bench -p myelin-core`; with a name it runs only the benchmarks whose names contain it.

mod index;

use std::collections::{HashMap, HashSet};
use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use myelin_core::auth::{self, authorize};
use myelin_core::nid::{EventNid, StateKeyNid, types};
use myelin_core::pdu::Pdu;
use myelin_core::pdu::build::{Draft, Signer, build};
use myelin_core::push_rules::{Ctx, FlatEvent, SenderPower, evaluate};
use myelin_core::resolve::{StateIds, resolve};
use myelin_core::state::{Layers, StateMap};
use myelin_core::version::{RoomVersion, find_str};
use ruma::push::Ruleset;
use ruma::signatures::Ed25519KeyPair;
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UInt, UserId, room_id,
    user_id,
};
use serde_json::{Value, json};

const CREATOR: &str = "@creator:example.org";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    making_and_allowing(&mut criterion);
    storing_state(&mut criterion);
    resolving(&mut criterion);
    notifying(&mut criterion);
    criterion.final_summary();
}

/// A room whose every event follows the one before it.
#[derive(Clone)]
struct Room {
    version: &'static RoomVersion,
    state: HashMap<(String, String), Pdu>,
    events: HashMap<OwnedEventId, Pdu>,
    last: Vec<OwnedEventId>,
    now: u32,
}

impl Room {
    fn new(members: usize) -> Self {
        let version = find_str("11").expect("version 11 is supported");
        let mut room =
            Self { version, state: HashMap::new(), events: HashMap::new(), last: Vec::new(), now: 0 };
        room.apply(CREATOR, "m.room.create", "", &json!({ "room_version": "11" }));
        room.apply(CREATOR, "m.room.member", CREATOR, &json!({ "membership": "join" }));
        let levels = json!({ "users": { CREATOR: 100 } });
        room.apply(CREATOR, "m.room.power_levels", "", &levels);
        room.apply(CREATOR, "m.room.join_rules", "", &json!({ "join_rule": "public" }));
        for number in 0..members {
            let user = member(number);
            room.apply(user.as_str(), "m.room.member", user.as_str(), &json!({ "membership": "join" }));
        }
        room
    }

    fn draft(&self, sender: &str, event_type: &str, state_key: Option<&str>, content: &Value) -> Draft {
        let sender = UserId::parse(sender).expect("a user id");
        let content: CanonicalJsonObject =
            serde_json::from_value(content.clone()).expect("content is canonical JSON");
        let keys = auth::auth_keys(self.version, &sender, event_type, state_key, &content);
        Draft {
            room_id: Some(room_id!("!room:example.org").to_owned()),
            sender,
            event_type: event_type.to_owned(),
            state_key: state_key.map(str::to_owned),
            content,
            redacts: None,
            prev_events: self.last.clone(),
            auth_events: keys
                .iter()
                .filter_map(|key| self.state.get(key))
                .map(|event| event.event_id().to_owned())
                .collect(),
            depth: i64::from(self.now) + 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(self.now)),
            event_id_local_part: None,
        }
    }

    fn message(&self) -> Draft {
        let content =
            json!({ "msgtype": "m.text", "body": "Shall we have tea at five, or is that too late?" });
        self.draft(CREATOR, "m.room.message", None, &content)
    }

    fn apply(&mut self, sender: &str, event_type: &str, state_key: &str, content: &Value) {
        let draft = self.draft(sender, event_type, Some(state_key), content);
        let event = build(self.version, draft, &signer()).expect("the event is valid");
        self.now += 1;
        self.last = vec![event.event_id().to_owned()];
        self.events.insert(event.event_id().to_owned(), event.clone());
        self.state.insert((event_type.to_owned(), state_key.to_owned()), event);
    }

    fn get(&self, event_type: &str, state_key: &str) -> Option<Pdu> {
        self.state.get(&(event_type.to_owned(), state_key.to_owned())).cloned()
    }

    fn state_ids(&self) -> StateIds {
        self.state.iter().map(|(key, event)| (key.clone(), event.event_id().to_owned())).collect()
    }

    fn auth_chain(&self) -> HashSet<OwnedEventId> {
        let mut open: Vec<OwnedEventId> =
            self.state.values().map(|event| event.event_id().to_owned()).collect();
        let mut chain = HashSet::new();
        while let Some(id) = open.pop() {
            if chain.insert(id.clone()) {
                open.extend_from_slice(self.events[&id].auth_events());
            }
        }
        chain
    }
}

fn member(number: usize) -> OwnedUserId {
    UserId::parse(format!("@user{number}:example.org")).expect("a user id")
}

fn signer() -> Signer {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([7; 32]);
    let key = Ed25519KeyPair::from_der(&der, "bench".to_owned()).expect("a PKCS#8 key");
    Signer { server_name: "example.org".try_into().expect("a server name"), key }
}

fn making_and_allowing(criterion: &mut Criterion) {
    let room = Room::new(10);
    let signer = signer();
    criterion.bench_function("build, hash and sign a message", |bencher| {
        bencher.iter_batched(
            || room.message(),
            |draft| build(room.version, draft, &signer),
            BatchSize::SmallInput,
        );
    });
    let message = build(room.version, room.message(), &signer).expect("the message is valid");
    let create = room.get("m.room.create", "").expect("the room has a create event");
    criterion.bench_function("authorize a message", |bencher| {
        bencher.iter(|| {
            let allowed =
                authorize(&message, &create, |event_type, state_key| room.get(event_type, state_key));
            assert_eq!(black_box(allowed), Ok(()));
        });
    });
}

fn storing_state(criterion: &mut Criterion) {
    let members = 20_000;
    let entry = |number: i32| {
        let state_key = StateKeyNid::new(number).expect("positive");
        ((types::MEMBER, state_key), EventNid::new(number.into()).expect("positive"))
    };
    let mut layers = Layers::default();
    for number in 1..=members {
        layers = layers.append(&[entry(number)]);
    }
    criterion.bench_function("append to a state of 20,000 members, merges included", |bencher| {
        let mut growing = layers.clone();
        let mut number = members;
        bencher.iter(|| {
            number += 1;
            growing = growing.append(&[entry(number)]);
        });
    });
    criterion.bench_function("look a member up among 20,000", |bencher| {
        let (key, event) = entry(members / 3);
        bencher.iter(|| assert_eq!(black_box(&layers).get(key), Some(event)));
    });
    criterion.bench_function("unpack a state of 20,000 members", |bencher| {
        bencher.iter(|| black_box(&layers).to_map());
    });
    let map: StateMap = layers.to_map();
    criterion.bench_function("compare two states of 20,000 members", |bencher| {
        let next = map.update(entry(77).0, entry(99_999).1);
        bencher.iter(|| myelin_core::state::tiers::delta_from(black_box(&map), &next));
    });
}

/// Two forks of a room with 20,000 members, in each of which twenty more have joined, one has left, and the topic has
/// changed: by what they do not share, and for comparison by whole states and chains.
fn resolving(criterion: &mut Criterion) {
    let room = Room::new(20_000);
    let forks = ["tea", "coffee"].map(|topic| {
        let mut fork = room.clone();
        for number in 0..20 {
            let user = UserId::parse(format!("@{topic}{number}:example.org")).expect("a user id");
            fork.apply(user.as_str(), "m.room.member", user.as_str(), &json!({ "membership": "join" }));
        }
        let user = member(topic.len());
        fork.apply(user.as_str(), "m.room.member", user.as_str(), &json!({ "membership": "leave" }));
        fork.apply(CREATOR, "m.room.topic", "", &json!({ "topic": topic }));
        fork
    });
    let index = index::Index::of(&room, &forks);
    let changed = index.resolve(&mut 0);
    assert_eq!(changed.len(), 22, "what the other fork adds");
    criterion.bench_function("resolve two forks of a room of 20,000 members", |bencher| {
        bencher.iter(|| index.resolve(&mut 0));
    });
    let mut looked_at = 0;
    index.resolve(&mut looked_at);
    println!("{looked_at} events and rows of the index were looked at");

    let states: Vec<StateIds> = forks.iter().map(Room::state_ids).collect();
    let chains: Vec<HashSet<OwnedEventId>> = forks.iter().map(Room::auth_chain).collect();
    let events: HashMap<OwnedEventId, Pdu> = forks.into_iter().flat_map(|fork| fork.events).collect();
    let mut group = criterion.benchmark_group("slow");
    group.sample_size(10);
    group.bench_function("resolve the same by whole states and chains", |bencher| {
        bencher.iter_batched(
            || chains.clone(),
            |chains| resolve(room.version, &states, chains, &events).expect("every event is there"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn notifying(criterion: &mut Criterion) {
    let room = Room::new(10);
    let message = build(room.version, room.message(), &signer()).expect("the message is valid");
    criterion.bench_function("prepare a message for push rules", |bencher| {
        bencher.iter(|| FlatEvent::new(black_box(&message)));
    });
    let user = user_id!("@user1:example.org");
    let rules = Ruleset::server_default(user);
    let event = FlatEvent::new(&message);
    let power = SenderPower { level: Some(0), needed: Box::default() };
    let ctx = Ctx { user_id: user, display_name: Some("User One"), member_count: 10, sender_power: &power };
    criterion.bench_function("evaluate the default push rules", |bencher| {
        bencher.iter(|| assert!(evaluate(black_box(&rules), &event, &ctx).notify));
    });
}
