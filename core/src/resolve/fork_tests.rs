//! Random rooms with forks and merges: the same outcome as by walking whole chains, with less looked at.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use serde_json::json;

use super::*;
use crate::nid::{EMPTY_STATE_KEY, EventNid, StateKeyNid, TypeNid, types};
use crate::state::{StateKey, StateMap};
use crate::test_room::{ALICE, BOB, CAROL, TestRoom};
use crate::version::all;

const USERS: [&str; 6] = [ALICE, BOB, CAROL, "@dora:a.example", "@emil:b.example", "@frida:c.example"];

/// What storage holds of a room, and how often it was asked.
#[derive(Default)]
pub(super) struct Index {
    nids: HashMap<OwnedEventId, EventNid>,
    pdus: HashMap<EventNid, Pdu>,
    nodes: BTreeMap<EventNid, AuthNode>,
    above: HashMap<EventNid, BTreeSet<EventNid>>,
    taken: BTreeSet<(EventNid, i64)>,
    types: HashMap<String, TypeNid>,
    keys: HashMap<String, StateKeyNid>,
    pub(super) loaded: usize,
    pub(super) looked_up: usize,
    pub(super) rounds: usize,
}

impl Index {
    /// Adds the room's events that are new, in an order in which auth events come first.
    pub(super) fn add(&mut self, room: &TestRoom) {
        let mut new: Vec<&Pdu> =
            room.events.values().filter(|pdu| !self.nids.contains_key(pdu.event_id())).collect();
        new.sort_by_key(|pdu| (pdu.depth(), pdu.event_id().to_owned()));
        while !new.is_empty() {
            let known = |pdu: &Pdu| pdu.auth_events().iter().all(|id| self.nids.contains_key(id));
            let next = new.iter().position(|pdu| known(pdu)).expect("auth events form no circle");
            let pdu = new.remove(next);
            self.add_event(pdu);
        }
    }

    fn add_event(&mut self, pdu: &Pdu) {
        let nid = EventNid::new(i64::try_from(self.nids.len()).unwrap() + 1).unwrap();
        self.nids.insert(pdu.event_id().to_owned(), nid);
        self.pdus.insert(nid, pdu.clone());
        let auth: Vec<EventNid> = pdu.auth_events().iter().map(|id| self.nids[id]).collect();
        let key = self.key(pdu.event_type(), pdu.state_key().unwrap());
        let earlier = auth.iter().map(|auth| &self.nodes[auth]).find(|node| node.key == key);
        let (mut chain, mut place) = earlier.map_or((nid, 1), |node| (node.chain, node.place + 1));
        if !self.taken.insert((chain, place)) {
            (chain, place) = (nid, 1);
            self.taken.insert((chain, place));
        }
        for one in &auth {
            let implied = auth.iter().any(|other| self.nodes[other].auth.contains(one));
            if !implied {
                self.above.entry(*one).or_default().insert(nid);
            }
        }
        self.nodes.insert(nid, AuthNode { nid, key, auth, chain, place, since: nid.get() });
    }

    fn key(&mut self, event_type: &str, state_key: &str) -> StateKey {
        let known = types::WELL_KNOWN_TYPES.iter().find(|(_, name)| *name == event_type);
        let next = TypeNid::new(1000 + i32::try_from(self.types.len()).unwrap()).unwrap();
        let type_nid =
            known.map_or_else(|| *self.types.entry(event_type.to_owned()).or_insert(next), |known| known.0);
        (type_nid, self.state_key(state_key))
    }

    fn state_key(&mut self, state_key: &str) -> StateKeyNid {
        if state_key.is_empty() {
            return EMPTY_STATE_KEY;
        }
        let next = StateKeyNid::new(2 + i32::try_from(self.keys.len()).unwrap()).unwrap();
        *self.keys.entry(state_key.to_owned()).or_insert(next)
    }

    fn state(&mut self, ids: &StateIds) -> StateMap {
        ids.iter().map(|((kind, key), id)| (self.key(kind, key), self.nids[id])).collect()
    }

    /// Nodes of events that are decided and not yet in the index: those after `last`.
    fn decided(&self, last: i64) -> Vec<AuthNode> {
        let new = self.nodes.values().filter(|node| node.nid.get() > last);
        new.map(|node| AuthNode { chain: node.nid, place: 1, since: i64::MAX, ..node.clone() }).collect()
    }

    fn look(&mut self, lookup: &Lookup, last: i64) -> Vec<(EventNid, AuthNode)> {
        let stored = |nid: &EventNid| self.nodes.get(nid).filter(|node| node.nid.get() <= last);
        let mut rows = Vec::new();
        match lookup {
            Lookup::Below { events, most, floor } => {
                assert!(*most >= events.len());
                let mut queue = events.clone();
                let mut at = 0;
                while at < queue.len() && rows.len() < *most {
                    if let Some(node) = stored(&queue[at]) {
                        rows.push((node.nid, node.clone()));
                        if node.since > *floor {
                            let new: Vec<_> =
                                node.auth.iter().copied().filter(|auth| !queue.contains(auth)).collect();
                            queue.extend(new);
                        }
                    }
                    at += 1;
                }
            }
            Lookup::Above { events, most } => {
                for (of, before) in events {
                    let above = self.above.get(of).into_iter().flatten().rev();
                    let above = above.filter(|nid| *nid < before).filter_map(stored).take(*most);
                    rows.extend(above.map(|node| (*of, node.clone())));
                }
            }
        }
        self.looked_up += rows.len();
        rows
    }

    pub(super) fn resolve(
        &mut self,
        version: &'static RoomVersion,
        states: Vec<StateMap>,
        last: i64,
    ) -> (StateMap, HashSet<EventNid>) {
        let first = states[0].clone();
        let mut fork = Fork::new(version, states, self.decided(last));
        for round in 0.. {
            assert!(round < 1000, "it goes on and on");
            self.rounds += 1;
            match fork.step() {
                Step::Look(lookup) => {
                    let rows = self.look(&lookup, last);
                    fork.found(rows);
                }
                Step::Load(nids) => {
                    self.loaded += nids.len();
                    let pdus = nids.iter().filter_map(|nid| Some((*nid, self.pdus.get(nid)?.clone())));
                    fork.loaded(pdus.collect::<Vec<_>>());
                }
                Step::Name(keys) => {
                    let found = self.keys.clone();
                    fork.named(keys, &found);
                }
                Step::Ready => break,
            }
        }
        let full = fork.full_conflicted_set().collect();
        (apply(&first, &fork.resolve()), full)
    }
}

/// The outcome by walking whole chains.
fn oracle(rooms: &[&TestRoom]) -> StateIds {
    let events: HashMap<OwnedEventId, Pdu> = rooms.iter().flat_map(|room| room.events.clone()).collect();
    let states: Vec<StateIds> = rooms.iter().map(|room| room.state_ids()).collect();
    let chains = rooms.iter().map(|room| room.auth_chain()).collect();
    super::resolve(rooms[0].version, &states, chains, &events).unwrap()
}

/// The full conflicted set by walking whole chains.
fn whole_set(rooms: &[&TestRoom]) -> HashSet<OwnedEventId> {
    let states: Vec<HashSet<OwnedEventId>> =
        rooms.iter().map(|room| room.state_ids().into_values().collect()).collect();
    let in_all = |sets: &[HashSet<OwnedEventId>], id: &OwnedEventId| sets.iter().all(|set| set.contains(id));
    let differing = |sets: Vec<HashSet<OwnedEventId>>| {
        let all: HashSet<OwnedEventId> = sets.iter().flatten().cloned().collect();
        all.into_iter().filter(|id| !in_all(&sets, id)).collect::<HashSet<_>>()
    };
    let conflicted = differing(states);
    let mut full = differing(rooms.iter().map(|room| room.auth_chain()).collect());
    if rooms[0].version.stateres() == StateResolution::V2_1 {
        let events: HashMap<OwnedEventId, Pdu> = rooms.iter().flat_map(|room| room.events.clone()).collect();
        full.extend(conflicted_subgraph(conflicted.iter(), &events));
    }
    full.extend(conflicted);
    full
}

fn check(index: &mut Index, rooms: &[&TestRoom], hidden: u8) -> StateIds {
    for room in rooms {
        index.add(room);
    }
    let expected = oracle(rooms);
    let states: Vec<StateMap> = rooms.iter().map(|room| index.state(&room.state_ids())).collect();
    let last = i64::try_from(index.nids.len()).unwrap() - i64::from(hidden);
    let (resolved, full) = index.resolve(rooms[0].version, states, last);
    if rooms[0].version.stateres() != StateResolution::V1 {
        let expected: HashSet<EventNid> = whole_set(rooms).iter().map(|id| index.nids[id]).collect();
        assert_eq!(full, expected, "version {}", rooms[0].version.id);
    }
    assert_eq!(resolved, index.state(&expected), "version {}", rooms[0].version.id);
    expected
}

/// One step of a random room.
#[derive(Clone, Debug)]
struct Act {
    branch: prop::sample::Index,
    other: prop::sample::Index,
    what: u8,
    who: usize,
    whom: usize,
    level: i64,
    pause: u64,
    hidden: u8,
}

fn act() -> impl Strategy<Value = Act> {
    let picks = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (
        picks,
        0..26_u8,
        0..USERS.len(),
        0..USERS.len(),
        prop::sample::select(vec![0_i64, 50, 100]),
        0..3_u64,
        0..12_u8,
    )
        .prop_map(|((branch, other), what, who, whom, level, pause, hidden)| Act {
            branch,
            other,
            what,
            who,
            whom,
            level,
            pause,
            hidden,
        })
}

fn try_state(room: &mut TestRoom, sender: &str, event_type: &str, key: &str, content: serde_json::Value) {
    let event = room.make(sender, event_type, Some(key), content);
    let allowed = crate::auth::authorize(&event, room.create(), |kind, key| room.get(kind, key)).is_ok();
    if allowed {
        room.apply(&event);
    }
}

fn perform(branches: &mut Vec<TestRoom>, index: &mut Index, act: &Act, made: &mut usize) {
    let at = act.branch.index(branches.len());
    let (who, whom) = (USERS[act.who], USERS[act.whom]);
    branches[at].now += act.pause;
    match act.what {
        0..=2 if branches.len() < 4 => {
            *made += 1;
            let mut fork = branches[at].clone();
            fork.name = format!("b{made}-");
            branches.push(fork);
        }
        3..=4 => {
            let other = act.other.index(branches.len());
            if other != at {
                merge(branches, index, at, other, act.hidden);
            }
        }
        5..=8 => {
            let mut users = json!({ whom: act.level, BOB: 50 });
            if branches[at].version.id.as_str() == "12" {
                users.as_object_mut().unwrap().remove(ALICE);
            } else if act.level < 100 {
                users[ALICE] = 100.into();
            }
            try_state(&mut branches[at], who, "m.room.power_levels", "", json!({ "users": users }));
        }
        9..=10 => {
            let rule = if act.level == 0 { "invite" } else { "public" };
            try_state(&mut branches[at], who, "m.room.join_rules", "", json!({ "join_rule": rule }));
        }
        11..=12 => try_state(&mut branches[at], who, "m.room.topic", "", json!({ "topic": act.level })),
        13..=14 => try_state(&mut branches[at], who, "m.x", whom, json!({})),
        15..=18 => {
            try_state(&mut branches[at], who, "m.room.member", who, json!({ "membership": "join" }));
        }
        what => {
            let membership = ["leave", "ban", "invite"][usize::from(what) % 3];
            try_state(&mut branches[at], who, "m.room.member", whom, json!({ "membership": membership }));
        }
    }
}

/// The first branch goes on with the resolved state, the other one stays as it is.
fn merge(branches: &mut [TestRoom], index: &mut Index, at: usize, other: usize, hidden: u8) {
    let resolved = check(index, &[&branches[at], &branches[other]], hidden);
    let events = branches[other].events.clone();
    let now = branches[other].now;
    let room = &mut branches[at];
    room.events.extend(events);
    room.now = room.now.max(now) + 1;
    room.state = resolved.into_iter().map(|(key, id)| (key, room.events[&id].clone())).collect();
}

fn opened(version: &str) -> TestRoom {
    let mut room = TestRoom::new(version);
    let users = if version == "12" { json!({BOB: 50}) } else { json!({ALICE: 100, BOB: 50}) };
    room.state(ALICE, "m.room.power_levels", "", json!({ "users": users }));
    room.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
    room.join(BOB);
    room.join(CAROL);
    room
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn forks_resolve_as_by_whole_chains(version in 0..12_usize, acts in vec(act(), 10..70)) {
        let mut branches = vec![opened(all()[version].id.as_str())];
        let mut index = Index::default();
        let mut made = 0;
        for act in &acts {
            perform(&mut branches, &mut index, act, &mut made);
        }
        let rooms: Vec<&TestRoom> = branches.iter().collect();
        check(&mut index, &rooms, 0);
        check(&mut index, &rooms, acts[0].hidden);
    }
}
