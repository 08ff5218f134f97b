//! Two forks and the index of what their events are based on, as storage would answer.

use std::collections::{BTreeSet, HashMap};

use myelin_core::nid::{EMPTY_STATE_KEY, EventNid, StateKeyNid, types};
use myelin_core::pdu::Pdu;
use myelin_core::resolve::{AuthNode, Changes, Fork, Lookup, Step};
use myelin_core::state::{StateKey, StateMap};
use myelin_core::version::RoomVersion;
use ruma::OwnedEventId;

use super::Room;

/// What storage holds.
pub struct Index {
    version: &'static RoomVersion,
    states: Vec<StateMap>,
    pdus: HashMap<EventNid, Pdu>,
    nodes: HashMap<EventNid, AuthNode>,
    above: HashMap<EventNid, BTreeSet<EventNid>>,
    keys: HashMap<String, StateKeyNid>,
}

impl Index {
    /// Of a room and forks of it, whose states share what they have from the room.
    pub fn of(room: &Room, forks: &[Room]) -> Self {
        let mut index = Self {
            version: room.version,
            states: Vec::new(),
            pdus: HashMap::new(),
            nodes: HashMap::new(),
            above: HashMap::new(),
            keys: HashMap::new(),
        };
        let mut nids: HashMap<OwnedEventId, EventNid> = HashMap::new();
        for room in [room].into_iter().chain(forks) {
            let mut events: Vec<&Pdu> = room.events.values().collect();
            events.sort_by_key(|pdu| pdu.depth());
            for pdu in events {
                if !nids.contains_key(pdu.event_id()) {
                    index.add(pdu, &mut nids);
                }
            }
        }
        let base = index.state(&room.state, &StateMap::new(), &nids);
        index.states = forks.iter().map(|fork| index.state(&fork.state, &base, &nids)).collect();
        index
    }

    fn add(&mut self, pdu: &Pdu, nids: &mut HashMap<OwnedEventId, EventNid>) {
        let nid = EventNid::new(i64::try_from(nids.len()).expect("few") + 1).expect("positive");
        nids.insert(pdu.event_id().to_owned(), nid);
        let auth: Vec<EventNid> = pdu.auth_events().iter().map(|id| nids[id]).collect();
        for one in &auth {
            if !auth.iter().any(|other| self.nodes[other].auth.contains(one)) {
                self.above.entry(*one).or_default().insert(nid);
            }
        }
        let key = self.key(pdu.event_type(), pdu.state_key().expect("only state"));
        self.pdus.insert(nid, pdu.clone());
        self.nodes.insert(nid, AuthNode { nid, key, auth, chain: nid, place: 1, since: nid.get() });
    }

    fn key(&mut self, event_type: &str, state_key: &str) -> StateKey {
        let known = types::WELL_KNOWN_TYPES.iter().find(|(_, name)| *name == event_type);
        let type_nid = known.expect("only well-known types").0;
        if state_key.is_empty() {
            return (type_nid, EMPTY_STATE_KEY);
        }
        let next = StateKeyNid::new(i32::try_from(self.keys.len()).expect("few") + 2).expect("positive");
        (type_nid, *self.keys.entry(state_key.to_owned()).or_insert(next))
    }

    fn state(
        &mut self,
        events: &HashMap<(String, String), Pdu>,
        base: &StateMap,
        nids: &HashMap<OwnedEventId, EventNid>,
    ) -> StateMap {
        let mut state = base.clone();
        for ((event_type, state_key), pdu) in events {
            let (key, nid) = (self.key(event_type, state_key), nids[pdu.event_id()]);
            if state.get(&key) != Some(&nid) {
                state.insert(key, nid);
            }
        }
        state
    }

    /// Resolves the forks, and counts what is looked at.
    pub fn resolve(&self, looked_at: &mut usize) -> Changes {
        let mut fork = Fork::new(self.version, self.states.clone(), []);
        loop {
            match fork.step() {
                Step::Look(lookup) => {
                    let rows = self.look(&lookup);
                    *looked_at += rows.len();
                    fork.found(rows);
                }
                Step::Load(nids) => {
                    *looked_at += nids.len();
                    fork.loaded(nids.into_iter().map(|nid| (nid, self.pdus[&nid].clone())));
                }
                Step::Name(keys) => fork.named(keys, &self.keys),
                Step::Ready => return fork.resolve(),
            }
        }
    }

    fn look(&self, lookup: &Lookup) -> Vec<(EventNid, AuthNode)> {
        match lookup {
            Lookup::Below { events, most, .. } => {
                let mut queue = events.clone();
                let mut at = 0;
                while at < queue.len() && queue.len() < *most {
                    for auth in &self.nodes[&queue[at]].auth {
                        if !queue.contains(auth) {
                            queue.push(*auth);
                        }
                    }
                    at += 1;
                }
                queue.into_iter().map(|nid| (nid, self.nodes[&nid].clone())).collect()
            }
            Lookup::Above { events, most } => {
                let above = |(of, before): &(EventNid, EventNid)| {
                    let (of, before) = (*of, *before);
                    let above = self.above.get(&of).into_iter().flatten().rev();
                    let above = above.filter(move |nid| **nid < before).take(*most);
                    above.map(move |nid| (of, self.nodes[nid].clone())).collect::<Vec<_>>()
                };
                events.iter().flat_map(above).collect()
            }
        }
    }
}
