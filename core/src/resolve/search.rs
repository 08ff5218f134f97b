//! What the auth chains of several states do not have in common, found without walking those chains.
//!
//! An event that all states have, and whatever it is based on, is in every chain. So the difference is sought below
//! the events that the states disagree on, and only as far as something may be missing from one of the chains. Each
//! event met there carries the set of states in whose chain it is known to be. That knowledge comes from three sides:
//!
//! - a state has the event, or a later one of the same chain of the index ([`AuthNode::chain`]);
//! - an event that is based on it is in the state's chain;
//! - nothing that is based on it is: what is based on an event is listed until one is found that a state has, or
//!   until there are no more. What is based on an event that is in one chain and not in another is itself in the
//!   difference, so the list is short where it is exhausted, and cut short elsewhere.
//!
//! Everything is looked up by the caller, in rounds: this is a plain value that says what it wants to know.
//! <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>

use std::collections::{HashMap, HashSet};

use crate::nid::{EventNid, types};
use crate::state::{StateKey, StateMap};

/// How many states can be told apart. Twenty is what an event's prev events may be.
pub const MOST_STATES: usize = 64;

/// The largest answer that is asked for at once.
const MOST_ROWS: usize = 4096;

/// A state event's place among the events that others are based on: a row of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthNode {
    /// The event.
    pub nid: EventNid,
    /// The place in a state that it fills.
    pub key: StateKey,
    /// Its auth events, in its own order.
    pub auth: Vec<EventNid>,
    /// The first event of its chain: a line of events for the same place, each based on the one before.
    pub chain: EventNid,
    /// Its number in the chain.
    pub place: i64,
    /// Grows from what an event is based on to the event.
    pub since: i64,
}

/// What the search wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// These events, then what they are based on, then what that is based on: at most so many.
    Below {
        /// Where to begin. They are always answered, unless they are unknown.
        events: Vec<EventNid>,
        /// The most that is wanted, at least as many as `events`.
        most: usize,
        /// Nothing below an event that is not later than this is wanted.
        floor: i64,
    },
    /// What is based on these events directly, newest first: at most so many for each.
    Above {
        /// The events, each with what the answer must be less than.
        events: Vec<(EventNid, EventNid)>,
        /// The most that is wanted for each.
        most: usize,
    },
}

/// Which of the states' chains an event is in.
type Mask = u64;

struct Known {
    node: AuthNode,
    mask: Mask,
    above: Listed,
}

/// How far what is based on an event has been listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    DownTo(EventNid),
    All,
}

/// A search that is under way.
pub(super) struct Search {
    states: Vec<StateMap>,
    all: Mask,
    conflicted: HashSet<EventNid>,
    wants_subgraph: bool,
    nodes: HashMap<EventNid, Known>,
    /// What is based on an event, as far as it is known.
    above: HashMap<EventNid, Vec<EventNid>>,
    /// Events that come earlier in the chain of an event.
    earlier: HashMap<EventNid, Vec<EventNid>>,
    /// Asked for and not found.
    absent: HashSet<EventNid>,
    most_below: usize,
    most_above: usize,
}

impl Search {
    /// Begins. `decided` are events that the index may not have yet.
    pub fn new(
        states: Vec<StateMap>,
        conflicted: HashSet<EventNid>,
        decided: impl IntoIterator<Item = AuthNode>,
        wants_subgraph: bool,
    ) -> Self {
        debug_assert!(states.len() <= MOST_STATES, "states are numbered by the bits of a mask");
        let all = Mask::MAX >> (MOST_STATES - states.len().clamp(1, MOST_STATES));
        let mut search = Self {
            states,
            all,
            conflicted,
            wants_subgraph,
            nodes: HashMap::new(),
            above: HashMap::new(),
            earlier: HashMap::new(),
            absent: HashSet::new(),
            most_below: 64,
            most_above: 16,
        };
        for node in decided {
            search.add(node);
        }
        search
    }

    /// What it wants to know next; `None`: nothing, it is done.
    pub fn wanted(&mut self) -> Option<Lookup> {
        let unknown = self.unknown(self.conflicted.iter().copied());
        if !unknown.is_empty() {
            return Some(Lookup::Below { most: unknown.len(), events: unknown, floor: 0 });
        }
        loop {
            let (below, unknown) = self.walk_down();
            let candidates = self.open(&below);
            let (climbed, unlisted) = self.walk_up(&candidates);
            let tips = self.tips(below.iter().chain(&climbed));
            if self.link_to_tips(&tips) {
                continue;
            }
            let wanted = self.unknown(tips.into_iter().map(|(tip, _)| tip));
            if !wanted.is_empty() {
                return Some(Lookup::Below { most: wanted.len(), events: wanted, floor: 0 });
            }
            if !unknown.is_empty() {
                let most = self.most_below.max(unknown.len());
                self.most_below = (self.most_below * 4).min(MOST_ROWS);
                return Some(Lookup::Below { events: unknown, most, floor: self.floor() });
            }
            if unlisted.is_empty() {
                return None;
            }
            let most = self.most_above;
            self.most_above = (self.most_above * 4).min(MOST_ROWS);
            return Some(Lookup::Above { events: unlisted, most });
        }
    }

    /// The answer to a [`Lookup`]: nodes, for `Above` each with the event that it is based on.
    pub fn answer(&mut self, lookup: &Lookup, rows: impl IntoIterator<Item = (EventNid, AuthNode)>) {
        let mut listed: HashMap<EventNid, (usize, EventNid)> = HashMap::new();
        for (of, node) in rows {
            let (count, last) = listed.entry(of).or_insert((0, node.nid));
            *count += 1;
            *last = node.nid.min(*last);
            self.add(node);
        }
        match lookup {
            Lookup::Below { events, .. } => {
                self.absent.extend(events.iter().filter(|nid| !self.nodes.contains_key(nid)));
            }
            Lookup::Above { events, most } => {
                for (nid, _) in events {
                    let Some(known) = self.nodes.get_mut(nid) else { continue };
                    known.above = match listed.get(nid) {
                        Some((count, last)) if count >= most => Listed::DownTo(*last),
                        _ => Listed::All,
                    };
                }
            }
        }
    }

    /// The full conflicted set: what the states disagree on, what their chains do not have in common, and where it
    /// was asked for what lies between conflicted events.
    pub fn full_conflicted_set(&self) -> HashSet<EventNid> {
        let (below, _) = self.walk_down();
        let mut full = self.conflicted.clone();
        full.extend(self.open(&below));
        if self.wants_subgraph {
            full.extend(self.subgraph());
        }
        full.retain(|nid| !self.absent.contains(nid));
        full
    }

    /// A row of the index that the search has come by.
    pub fn node(&self, nid: EventNid) -> Option<&AuthNode> {
        self.nodes.get(&nid).map(|known| &known.node)
    }

    /// The event was asked for, and the index does not have it.
    pub fn is_absent(&self, nid: EventNid) -> bool {
        self.absent.contains(&nid)
    }

    fn add(&mut self, node: AuthNode) {
        let nid = node.nid;
        if self.nodes.contains_key(&nid) {
            return;
        }
        let mut mask = 0;
        for (bit, state) in self.states.iter().enumerate() {
            mask |= Mask::from(state.get(&node.key) == Some(&nid)) << bit;
        }
        for child in self.above.get(&nid).into_iter().flatten() {
            mask |= self.nodes.get(child).map_or(0, |known| known.mask);
        }
        for auth in &node.auth {
            self.above.entry(*auth).or_default().push(nid);
        }
        let above = match EventNid::new(i64::MAX) {
            Some(highest) if is_auth_type(&node) => Listed::DownTo(highest),
            _ => Listed::All,
        };
        self.nodes.insert(nid, Known { node, mask, above });
        self.spread(nid);
    }

    /// Whatever an event is based on is in the same chains.
    fn spread(&mut self, from: EventNid) {
        let mut open = vec![from];
        while let Some(nid) = open.pop() {
            let Some(known) = self.nodes.get(&nid) else { continue };
            let mask = known.mask;
            let lower: Vec<EventNid> =
                known.node.auth.iter().chain(self.earlier.get(&nid).into_iter().flatten()).copied().collect();
            for nid in lower {
                if let Some(known) = self.nodes.get_mut(&nid)
                    && known.mask | mask != known.mask
                {
                    known.mask |= mask;
                    open.push(nid);
                }
            }
        }
    }

    fn unknown(&self, nids: impl Iterator<Item = EventNid>) -> Vec<EventNid> {
        let mut unknown: Vec<EventNid> =
            nids.filter(|nid| !self.nodes.contains_key(nid) && !self.absent.contains(nid)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// Everything below the conflicted events that may be missing from a chain, and what must be known to go on.
    fn walk_down(&self) -> (HashSet<EventNid>, Vec<EventNid>) {
        let floor = self.floor();
        let mut below: HashSet<EventNid> = self.conflicted.clone();
        let mut walked = self.conflicted.clone();
        let mut open: Vec<EventNid> = self.conflicted.iter().copied().collect();
        let mut wanted = Vec::new();
        while let Some(nid) = open.pop() {
            let Some(known) = self.nodes.get(&nid) else { continue };
            let differs = known.mask != self.all;
            let leads_up = self.wants_subgraph && known.node.since > floor;
            if !(differs || leads_up) {
                continue;
            }
            for auth in &known.node.auth {
                if differs {
                    below.insert(*auth);
                }
                if walked.insert(*auth) {
                    open.push(*auth);
                    wanted.push(*auth);
                }
            }
        }
        let unknown = self.unknown(wanted.into_iter());
        below.retain(|nid| self.nodes.contains_key(nid));
        (below, unknown)
    }

    /// No event that is not later than this stands above a conflicted one.
    fn floor(&self) -> i64 {
        if !self.wants_subgraph {
            return 0;
        }
        let since = |nid| self.nodes.get(nid).map(|known: &Known| known.node.since);
        // Of decided events it is not known which is later.
        self.conflicted.iter().filter_map(since).min().unwrap_or(0).min(i64::MAX - 1)
    }

    /// Those that are not in the conflicted set anyway, and not known to be in every chain.
    fn open(&self, below: &HashSet<EventNid>) -> Vec<EventNid> {
        let differs = |nid: &EventNid| self.nodes.get(nid).is_some_and(|known| known.mask != self.all);
        below.iter().copied().filter(|nid| !self.conflicted.contains(nid) && differs(nid)).collect()
    }

    /// Everything that is known to be based on these, and what is to be listed to know all.
    fn walk_up(&self, from: &[EventNid]) -> (HashSet<EventNid>, Vec<(EventNid, EventNid)>) {
        let mut climbed: HashSet<EventNid> = from.iter().copied().collect();
        let mut open = from.to_vec();
        let mut unlisted = Vec::new();
        while let Some(nid) = open.pop() {
            let Some(known) = self.nodes.get(&nid) else { continue };
            if let Listed::DownTo(last) = known.above {
                unlisted.push((nid, last));
            }
            for child in self.above.get(&nid).into_iter().flatten() {
                if climbed.insert(*child) {
                    open.push(*child);
                }
            }
        }
        unlisted.sort_unstable();
        (climbed, unlisted)
    }

    /// For each of the events the ones that states have in its place, where those could be later in its chain.
    fn tips<'a>(&self, events: impl Iterator<Item = &'a EventNid>) -> Vec<(EventNid, EventNid)> {
        let mut tips = Vec::new();
        for nid in events {
            let Some(known) = self.nodes.get(nid) else { continue };
            if known.mask == self.all || !is_auth_type(&known.node) {
                continue;
            }
            for (bit, state) in self.states.iter().enumerate() {
                if known.mask & (1 << bit) == 0
                    && let Some(tip) = state.get(&known.node.key)
                    && tip != nid
                {
                    tips.push((*tip, *nid));
                }
            }
        }
        tips.sort_unstable();
        tips.dedup();
        tips
    }

    /// Notes which of the events come earlier in the chain of a tip. Whether that was new for any.
    fn link_to_tips(&mut self, tips: &[(EventNid, EventNid)]) -> bool {
        let mut linked = false;
        for (tip, nid) in tips {
            let (Some(later), Some(known)) = (self.nodes.get(tip), self.nodes.get(nid)) else { continue };
            let follows = later.node.chain == known.node.chain && later.node.place > known.node.place;
            if follows && later.mask | known.mask != known.mask {
                self.earlier.entry(*tip).or_default().push(*nid);
                self.spread(*tip);
                linked = true;
            }
        }
        linked
    }

    /// The conflicted events, and every event on a path of auth events from one of them to another.
    /// <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>
    fn subgraph(&self) -> HashSet<EventNid> {
        let mut below: HashSet<EventNid> = self.conflicted.clone();
        let mut open: Vec<EventNid> = self.conflicted.iter().copied().collect();
        while let Some(nid) = open.pop() {
            let auth = self.nodes.get(&nid).map(|known| known.node.auth.as_slice()).unwrap_or_default();
            open.extend(auth.iter().copied().filter(|auth| below.insert(*auth)));
        }
        let mut between = self.conflicted.clone();
        open.extend(&self.conflicted);
        while let Some(nid) = open.pop() {
            for above in self.above.get(&nid).into_iter().flatten() {
                if below.contains(above) && between.insert(*above) {
                    open.push(*above);
                }
            }
        }
        between
    }
}

/// Others may be based on it.
fn is_auth_type(node: &AuthNode) -> bool {
    let auth_types =
        [types::CREATE, types::POWER_LEVELS, types::JOIN_RULES, types::MEMBER, types::THIRD_PARTY_INVITE];
    auth_types.contains(&node.key.0)
}
