//! A fork to be resolved: what is needed for it, step by step, and the outcome.
//!
//! The states are compared by number. Only what they disagree on, what the difference of their auth chains adds to
//! it, and what the checks of those events look at is ever asked for, however much the states have in common.
//!
//! Deliberately absent: reading anything. The caller brings what [`Fork::step`] names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use imbl::ordmap::DiffItem;

use super::search::{AuthNode, Lookup, MOST_STATES, Search};
use super::{StateIds, v1, v2};
use crate::auth;
use crate::nid::{EMPTY_STATE_KEY, EventNid, StateKeyNid, TypeNid, types};
use crate::pdu::Pdu;
use crate::state::{StateKey, StateMap};
use crate::version::{RoomVersion, StateResolution};

const POWER_LEVELS: StateKey = (types::POWER_LEVELS, EMPTY_STATE_KEY);
const CREATE: StateKey = (types::CREATE, EMPTY_STATE_KEY);

/// What a fork needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rows of the index of auth events; the answer goes to [`Fork::found`].
    Look(Lookup),
    /// These events; the answer goes to [`Fork::loaded`].
    Load(Vec<EventNid>),
    /// The numbers of these state keys; the answer goes to [`Fork::named`].
    Name(Vec<String>),
    /// Nothing: [`Fork::resolve`] has all that it needs.
    Ready,
}

/// How the resolved state differs from the first of the states. `None`: there is nothing in that place.
pub type Changes = Vec<(StateKey, Option<EventNid>)>;

/// Several states of one room, to be made one.
pub struct Fork {
    version: &'static RoomVersion,
    states: Vec<StateMap>,
    /// The places that the states do not agree on.
    places: BTreeSet<StateKey>,
    conflicted: HashSet<EventNid>,
    search: Search,
    searching: Option<Lookup>,
    full: Option<HashSet<EventNid>>,
    asked: HashSet<EventNid>,
    events: HashMap<EventNid, Pdu>,
    /// What the checks of the full conflicted set look at, once that is loaded.
    checked: Option<Vec<(String, String)>>,
    names: HashMap<String, Option<StateKeyNid>>,
    levels_asked: usize,
}

impl Fork {
    /// A fork of these states. `decided` are state events that the index of auth events may not have yet.
    ///
    /// States after the sixty-fourth are left out: no event has so many parents.
    pub fn new(
        version: &'static RoomVersion,
        mut states: Vec<StateMap>,
        decided: impl IntoIterator<Item = AuthNode>,
    ) -> Self {
        states.truncate(MOST_STATES);
        let is_first = version.stateres() == StateResolution::V1;
        let places = if is_first { overruled(&states) } else { different(&states) };
        let conflicted: HashSet<EventNid> =
            places.iter().flat_map(|key| states.iter().filter_map(|state| state.get(key).copied())).collect();
        let wants_subgraph =
            version.rules.state_res.v2_rules().is_some_and(|rules| rules.consider_conflicted_state_subgraph);
        let full = is_first.then(|| conflicted.clone());
        let search = Search::new(states.clone(), conflicted.clone(), decided, wants_subgraph);
        Self {
            version,
            states,
            places,
            conflicted,
            search,
            searching: None,
            full,
            asked: HashSet::new(),
            events: HashMap::new(),
            checked: None,
            names: HashMap::new(),
            levels_asked: 64,
        }
    }

    /// What is needed next.
    pub fn step(&mut self) -> Step {
        if self.conflicted.is_empty() {
            return Step::Ready;
        }
        if self.full.is_none() {
            if let Some(lookup) = self.search.wanted() {
                return self.look(lookup);
            }
            self.full = Some(self.search.full_conflicted_set());
        }
        let full: Vec<EventNid> = self.full.iter().flatten().copied().collect();
        if let Some(load) = self.unasked(full) {
            return load;
        }
        if self.checked.is_none() {
            let places: BTreeSet<_> = self.full().flat_map(|(_, pdu)| auth::auth_keys_of(pdu)).collect();
            self.checked = Some(places.into_iter().collect());
        }
        let keys = self.checked_places().map(|(_, key)| key);
        let mut unnamed: Vec<String> =
            keys.filter(|key| !key.is_empty() && !self.names.contains_key(*key)).cloned().collect();
        if !unnamed.is_empty() {
            unnamed.sort_unstable();
            unnamed.dedup();
            return Step::Name(unnamed);
        }
        if let Some(load) = self.unasked(self.needed_for_checks()) {
            return load;
        }
        match self.unknown_levels() {
            Some(lookup) => self.look(lookup),
            None => Step::Ready,
        }
    }

    /// The answer to [`Step::Look`]: rows, each with the event that it was found for, which counts for
    /// [`Lookup::Above`] only.
    pub fn found(&mut self, rows: impl IntoIterator<Item = (EventNid, AuthNode)>) {
        if let Some(lookup) = self.searching.take() {
            self.search.answer(&lookup, rows);
        }
    }

    /// The answer to [`Step::Load`], without events that were rejected.
    pub fn loaded(&mut self, events: impl IntoIterator<Item = (EventNid, Pdu)>) {
        self.events.extend(events);
    }

    /// The answer to [`Step::Name`]: the keys that have a number.
    pub fn named(&mut self, asked: Vec<String>, found: &HashMap<String, StateKeyNid>) {
        self.names.extend(asked.into_iter().map(|key| {
            let nid = found.get(&key).copied();
            (key, nid)
        }));
    }

    /// The outcome, after [`Step::Ready`]. Costs CPU: it checks every event of the full conflicted set.
    pub fn resolve(&self) -> Changes {
        let (resolved, agreed): (BTreeMap<StateKey, EventNid>, _) =
            if self.version.stateres() == StateResolution::V1 {
                (self.resolve_v1(), self.added())
            } else {
                (self.resolve_v2(), Vec::new())
            };
        let mut changes: BTreeMap<StateKey, Option<EventNid>> =
            self.places.iter().map(|key| (*key, None)).chain(agreed).collect();
        // What is agreed on stays, also where the full conflicted set has something older for that place.
        let open = resolved.into_iter().filter(|(key, _)| self.agreed(*key).is_none());
        changes.extend(open.map(|(key, nid)| (key, Some(nid))));
        let first = &self.states[0];
        changes.into_iter().filter(|(key, nid)| first.get(key) != nid.as_ref()).collect()
    }

    /// What was taken into account: the events that are checked.
    pub fn full_conflicted_set(&self) -> impl Iterator<Item = EventNid> + '_ {
        self.full.iter().flatten().copied()
    }

    fn look(&mut self, lookup: Lookup) -> Step {
        self.searching = Some(lookup.clone());
        Step::Look(lookup)
    }

    fn unasked(&mut self, events: impl IntoIterator<Item = EventNid>) -> Option<Step> {
        let mut load: Vec<EventNid> = events.into_iter().filter(|nid| self.asked.insert(*nid)).collect();
        load.sort_unstable();
        (!load.is_empty()).then_some(Step::Load(load))
    }

    /// The event that all states have in this place.
    fn agreed(&self, key: StateKey) -> Option<EventNid> {
        if self.places.contains(&key) { None } else { self.states.first()?.get(&key).copied() }
    }

    fn full(&self) -> impl Iterator<Item = (EventNid, &Pdu)> {
        self.full.iter().flatten().filter_map(|nid| Some((*nid, self.events.get(nid)?)))
    }

    fn checked_places(&self) -> impl Iterator<Item = &(String, String)> {
        self.checked.iter().flatten()
    }

    fn key(&self, event_type: &str, state_key: &str) -> Option<StateKey> {
        let known = types::WELL_KNOWN_TYPES.iter().find(|(_, name)| *name == event_type);
        let type_nid: TypeNid = known?.0;
        let key = if state_key.is_empty() { EMPTY_STATE_KEY } else { (*self.names.get(state_key)?)? };
        Some((type_nid, key))
    }

    fn needed_for_checks(&self) -> Vec<EventNid> {
        let mut needed: Vec<EventNid> = self
            .checked_places()
            .filter_map(|(event_type, key)| self.agreed_or_added(self.key(event_type, key)?))
            .collect();
        needed.extend(self.agreed_or_added(CREATE));
        if self.version.stateres() != StateResolution::V1 {
            let auth = self.full().filter_map(|(nid, _)| self.search.node(nid));
            needed.extend(auth.flat_map(|node| node.auth.iter().copied()));
        }
        needed
    }

    // Power levels and the mainline.

    /// What must be known of power levels to tell the mainline positions of the events. Nothing, if all of them are
    /// based on the same.
    fn unknown_levels(&mut self) -> Option<Lookup> {
        if self.version.stateres() == StateResolution::V1 || !self.needs_mainline() {
            return None;
        }
        let (_, unknown) = self.levels_before();
        if unknown.is_empty() {
            return None;
        }
        let most = self.levels_asked.max(unknown.len());
        self.levels_asked = (self.levels_asked * 4).min(4096);
        Some(Lookup::Below { events: unknown, most, floor: 0 })
    }

    fn needs_mainline(&self) -> bool {
        let mut starts = self.full().map(|(nid, _)| self.levels_among(nid));
        let first = starts.next();
        starts.any(|start| Some(start) != first)
    }

    fn levels_among(&self, nid: EventNid) -> Option<EventNid> {
        let auth = &self.search.node(nid)?.auth;
        auth.iter().copied().find(|auth| self.is_levels(*auth) == Some(true))
    }

    /// Whether the event is one of power levels. `None`: unknown.
    fn is_levels(&self, nid: EventNid) -> Option<bool> {
        match self.search.node(nid) {
            Some(node) => Some(node.key == POWER_LEVELS),
            None if self.search.is_absent(nid) => Some(false),
            None => self.events.get(&nid).map(|pdu| pdu.is_state_of("m.room.power_levels", "")),
        }
    }

    /// The power levels that power levels are based on, and what must be looked up to know more of them.
    fn levels_before(&self) -> (HashMap<EventNid, EventNid>, Vec<EventNid>) {
        let mut before = HashMap::new();
        let mut unknown = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<EventNid> = self.agreed(POWER_LEVELS).into_iter().collect();
        open.extend(self.full.iter().flatten().copied().filter(|nid| self.is_levels(*nid) == Some(true)));
        open.extend(self.full.iter().flatten().filter_map(|nid| self.levels_among(*nid)));
        while let Some(nid) = open.pop() {
            if !seen.insert(nid) || self.search.is_absent(nid) {
                continue;
            }
            let Some(node) = self.search.node(nid) else {
                unknown.insert(nid);
                continue;
            };
            unknown.extend(node.auth.iter().copied().filter(|auth| self.is_levels(*auth).is_none()));
            if let Some(levels) = self.levels_among(nid) {
                before.insert(nid, levels);
                open.push(levels);
            }
        }
        (before, unknown.into_iter().collect())
    }

    fn resolve_v2(&self) -> BTreeMap<StateKey, EventNid> {
        let none = HashSet::new();
        let full = self.full.as_ref().unwrap_or(&none);
        let auth: HashMap<EventNid, Vec<EventNid>> =
            full.iter().filter_map(|nid| Some((*nid, self.search.node(*nid)?.auth.clone()))).collect();
        let mut keys: HashMap<(String, String), StateKey> = self
            .checked_places()
            .filter_map(|place| {
                let key = self.key(&place.0, &place.1)?;
                Some((place.clone(), key))
            })
            .collect();
        keys.extend(self.full().filter_map(|(nid, pdu)| {
            let place = (pdu.event_type().to_owned(), pdu.state_key()?.to_owned());
            Some((place, self.search.node(nid)?.key))
        }));
        let is_create =
            |nid: &EventNid| self.events.get(nid).is_some_and(|pdu| pdu.is_state_of("m.room.create", ""));
        let create = self.agreed(CREATE).or_else(|| self.events.keys().copied().filter(is_create).min());
        let (levels_before, _) = self.levels_before();
        let loaded = v2::Loaded {
            version: self.version,
            full,
            events: &self.events,
            auth: &auth,
            keys: &keys,
            create,
            levels_before: &levels_before,
        };
        v2::resolve(&loaded, &|key| self.agreed(key))
    }

    // Version 1: what only some states have is agreed on, as long as no two of them differ.

    fn added(&self) -> Vec<(StateKey, Option<EventNid>)> {
        let others = self.states.iter().skip(1);
        let entries = others.flat_map(|state| added_by(&self.states[0], state));
        entries.filter(|(key, _)| !self.places.contains(key)).map(|(key, nid)| (key, Some(nid))).collect()
    }

    fn agreed_or_added(&self, key: StateKey) -> Option<EventNid> {
        if self.version.stateres() != StateResolution::V1 {
            return self.agreed(key);
        }
        if self.places.contains(&key) {
            return None;
        }
        self.states.iter().find_map(|state| state.get(&key).copied())
    }

    fn resolve_v1(&self) -> BTreeMap<StateKey, EventNid> {
        let ids: HashMap<_, _> =
            self.events.values().map(|pdu| (pdu.event_id().to_owned(), pdu.clone())).collect();
        let nids: HashMap<_, _> = self.events.iter().map(|(nid, pdu)| (pdu.event_id(), *nid)).collect();
        let place = |pdu: &Pdu| Some((pdu.event_type().to_owned(), pdu.state_key()?.to_owned()));
        let entry = |nid: EventNid| {
            let pdu = self.events.get(&nid)?;
            Some((place(pdu)?, pdu.event_id().to_owned()))
        };
        let needed: StateIds = self.needed_for_checks().into_iter().filter_map(entry).collect();
        let states: Vec<StateIds> = self
            .states
            .iter()
            .map(|state| {
                let here = self.places.iter().filter_map(|key| entry(*state.get(key)?));
                needed.clone().into_iter().chain(here).collect()
            })
            .collect();
        let resolved = v1::resolve(&states, &ids);
        self.places
            .iter()
            .filter_map(|key| {
                let any = self.states.iter().find_map(|state| self.events.get(state.get(key)?))?;
                Some((*key, *nids.get(&**resolved.get(&place(any)?)?)?))
            })
            .collect()
    }
}

/// Makes a fork's first state the resolved one.
pub fn apply(first: &StateMap, changes: &Changes) -> StateMap {
    let mut state = first.clone();
    for (key, nid) in changes {
        match nid {
            Some(nid) => drop(state.insert(*key, *nid)),
            None => drop(state.remove(key)),
        }
    }
    state
}

/// The places in which not all states have the same event.
fn different(states: &[StateMap]) -> BTreeSet<StateKey> {
    let Some((first, others)) = states.split_first() else { return BTreeSet::new() };
    let changed = others.iter().flat_map(|state| first.diff(state));
    changed
        .map(|change| match change {
            DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => *key,
        })
        .collect()
}

/// The places in which some states have different events.
fn overruled(states: &[StateMap]) -> BTreeSet<StateKey> {
    let mut places = different(states);
    places.retain(|key| {
        let mut events = states.iter().filter_map(|state| state.get(key));
        let first = events.next();
        events.any(|event| Some(event) != first)
    });
    places
}

fn added_by<'a>(first: &'a StateMap, other: &'a StateMap) -> impl Iterator<Item = (StateKey, EventNid)> + 'a {
    first.diff(other).filter_map(|change| match change {
        DiffItem::Add(key, nid) => Some((*key, *nid)),
        DiffItem::Remove(..) | DiffItem::Update { .. } => None,
    })
}
