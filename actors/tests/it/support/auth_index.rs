//! The index of what state events are based on, in memory.

use std::collections::{BTreeSet, HashMap, HashSet};

use myelin_core::{
    admit::AdmissionCode,
    nid::EventNid,
    position::Position,
    resolve::{AuthNode, Lookup},
};
use myelin_storage::commit::NewEvent;

/// The index.
#[derive(Clone, Default)]
pub struct AuthIndex {
    nodes: HashMap<EventNid, AuthNode>,
    above: HashMap<EventNid, BTreeSet<EventNid>>,
    taken: HashSet<(EventNid, i64)>,
}

impl AuthIndex {
    /// Adds the event, unless it does not belong there.
    pub fn add(&mut self, event: &NewEvent, position: Position) {
        let Some(key) = event.state_key else { return };
        if event.admission == AdmissionCode::Rejected || self.nodes.contains_key(&event.nid) {
            return;
        }
        let key = (event.type_nid, key);
        let auth = event.auth_nids.clone();
        let earlier = auth.iter().filter_map(|auth| self.nodes.get(auth)).find(|node| node.key == key);
        let (mut chain, mut place) = earlier.map_or((event.nid, 1), |node| (node.chain, node.place + 1));
        if !self.taken.insert((chain, place)) {
            (chain, place) = (event.nid, 1);
            self.taken.insert((chain, place));
        }
        for one in &auth {
            let implied =
                |other: &EventNid| self.nodes.get(other).is_some_and(|node| node.auth.contains(one));
            if !auth.iter().any(implied) {
                self.above.entry(*one).or_default().insert(event.nid);
            }
        }
        self.nodes.insert(event.nid, AuthNode { nid: event.nid, key, auth, chain, place, since: position.0 });
    }

    /// What the lookup asks for.
    pub fn look(&self, lookup: &Lookup) -> Vec<(EventNid, AuthNode)> {
        let mut rows = Vec::new();
        match lookup {
            Lookup::Below { events, most, floor } => {
                let mut seen: HashSet<EventNid> = events.iter().copied().collect();
                let mut queue = events.clone();
                let mut at = 0;
                while at < queue.len() && rows.len() < *most {
                    if let Some(node) = self.nodes.get(&queue[at]) {
                        rows.push((node.nid, node.clone()));
                        if node.since > *floor {
                            queue.extend(node.auth.iter().copied().filter(|auth| seen.insert(*auth)));
                        }
                    }
                    at += 1;
                }
            }
            Lookup::Above { events, most } => {
                for (of, before) in events {
                    let above = self.above.get(of).into_iter().flatten().rev();
                    let above = above.filter(|nid| *nid < before).take(*most);
                    rows.extend(above.map(|nid| (*of, self.nodes[nid].clone())));
                }
            }
        }
        rows
    }
}
