//! State resolution of room versions 2 to 12, on what was loaded for it.
//!
//! Only what the states disagree on is ordered and checked; what they agree on is looked up where a check needs it.
//! <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>, and for version 12
//! <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use ruma::events::room::power_levels::UserPowerLevel;
use ruma::{EventId, MilliSecondsSinceUnixEpoch};

use crate::auth::{self, PowerLevels};
use crate::membership::Membership;
use crate::nid::{EventNid, types};
use crate::pdu::Pdu;
use crate::state::StateKey;
use crate::version::RoomVersion;

/// What resolution reads.
pub(super) struct Loaded<'a> {
    /// The room's version.
    pub version: &'static RoomVersion,
    /// The full conflicted set.
    pub full: &'a HashSet<EventNid>,
    /// Its events, their auth events, and what their checks need of the agreed state; none of them rejected.
    pub events: &'a HashMap<EventNid, Pdu>,
    /// The auth events of each, as far as they matter.
    pub auth: &'a HashMap<EventNid, Vec<EventNid>>,
    /// The state key pair of each place that a check may look at.
    pub keys: &'a HashMap<(String, String), StateKey>,
    /// The room's create event.
    pub create: Option<EventNid>,
    /// The power levels that each power levels event was based on, wherever those are part of a mainline.
    pub levels_before: &'a HashMap<EventNid, EventNid>,
}

/// A state in the making, over what the states agree on.
struct Partial<'a> {
    agreed: &'a dyn Fn(StateKey) -> Option<EventNid>,
    resolved: BTreeMap<StateKey, EventNid>,
}

impl Partial<'_> {
    fn get(&self, key: StateKey) -> Option<EventNid> {
        self.resolved.get(&key).copied().or_else(|| (self.agreed)(key))
    }
}

/// The events that take the places in question. What the states agree on is not overruled by it.
pub(super) fn resolve(
    loaded: &Loaded<'_>,
    agreed: &dyn Fn(StateKey) -> Option<EventNid>,
) -> BTreeMap<StateKey, EventNid> {
    let starts_empty = loaded
        .version
        .rules
        .state_res
        .v2_rules()
        .is_some_and(|rules| rules.begin_iterative_auth_checks_with_empty_state_map);
    let nothing = |_| None;
    let initial: &dyn Fn(StateKey) -> Option<EventNid> = if starts_empty { &nothing } else { agreed };
    let mut state = Partial { agreed: initial, resolved: BTreeMap::new() };
    let power_events = sort_power_events(loaded);
    check(loaded, &power_events, &mut state);
    let done: HashSet<EventNid> = power_events.into_iter().collect();
    let others = loaded.full.iter().copied().filter(|nid| !done.contains(nid)).collect();
    let levels = state.get((types::POWER_LEVELS, crate::nid::EMPTY_STATE_KEY));
    let others = sort_by_mainline(loaded, others, levels);
    check(loaded, &others, &mut state);
    state.resolved
}

impl<'a> Loaded<'a> {
    fn auth_of(&self, nid: EventNid) -> &'a [EventNid] {
        self.auth.get(&nid).map(Vec::as_slice).unwrap_or_default()
    }

    fn auth_events(&self, nid: EventNid) -> impl Iterator<Item = (EventNid, &'a Pdu)> {
        self.auth_of(nid).iter().filter_map(|auth| Some((*auth, self.events.get(auth)?)))
    }

    fn levels_of(&self, nid: EventNid) -> Option<EventNid> {
        let mut auth = self.auth_events(nid);
        auth.find(|(_, pdu)| pdu.is_state_of("m.room.power_levels", "")).map(|(nid, _)| nid)
    }

    /// The power levels, and those that each was based on.
    fn line(&self, levels: Option<EventNid>) -> impl Iterator<Item = EventNid> {
        let line = std::iter::successors(levels, |levels| self.levels_before.get(levels).copied());
        // Auth events form no circle; were they to, it would end here.
        line.take(self.levels_before.len() + 1)
    }
}

/// Power events of the full conflicted set, with what they are based on in it, in reverse topological power order.
fn sort_power_events(loaded: &Loaded<'_>) -> Vec<EventNid> {
    let mut based_on: HashMap<EventNid, HashSet<EventNid>> = HashMap::new();
    let is_power = |nid: &EventNid| loaded.events.get(nid).is_some_and(is_power_event);
    let mut open: Vec<EventNid> = loaded.full.iter().copied().filter(is_power).collect();
    while let Some(nid) = open.pop() {
        if based_on.contains_key(&nid) {
            continue;
        }
        let auth = loaded
            .auth_of(nid)
            .iter()
            .filter(|auth| loaded.full.contains(*auth) && loaded.events.contains_key(*auth) && **auth != nid);
        let auth: HashSet<EventNid> = auth.copied().collect();
        open.extend(&auth);
        based_on.insert(nid, auth);
    }
    let create = loaded.create.and_then(|nid| loaded.events.get(&nid));
    let mut readers: HashMap<EventNid, PowerLevels> = HashMap::new();
    let mut order: HashMap<EventNid, PowerOrder<'_>> = HashMap::new();
    for nid in based_on.keys() {
        let pdu = &loaded.events[nid];
        let level = create.map_or(UserPowerLevel::Int(0.into()), |create| {
            let Some(levels) = loaded.levels_of(*nid) else {
                return PowerLevels::new(create, None).level_of(pdu.sender());
            };
            let read = || PowerLevels::new(create, loaded.events.get(&levels));
            readers.entry(levels).or_insert_with(read).level_of(pdu.sender())
        });
        order.insert(*nid, (Reverse(level), pdu.origin_server_ts(), pdu.event_id()));
    }
    sort_topologically(based_on, &order)
}

/// The greatest level first, then the earliest, then by id.
type PowerOrder<'a> = (Reverse<UserPowerLevel>, MilliSecondsSinceUnixEpoch, &'a EventId);

fn sort_topologically(
    mut based_on: HashMap<EventNid, HashSet<EventNid>>,
    order: &HashMap<EventNid, PowerOrder<'_>>,
) -> Vec<EventNid> {
    let mut above: HashMap<EventNid, Vec<EventNid>> = HashMap::new();
    for (nid, auth) in &based_on {
        for auth in auth {
            above.entry(*auth).or_default().push(*nid);
        }
    }
    let free = based_on.iter().filter(|(_, auth)| auth.is_empty()).map(|(nid, _)| *nid);
    let mut ready: BinaryHeap<_> = free.map(|nid| Reverse((order[&nid], nid))).collect();
    let mut sorted = Vec::with_capacity(order.len());
    while let Some(Reverse((_, nid))) = ready.pop() {
        sorted.push(nid);
        for child in above.get(&nid).into_iter().flatten() {
            if let Some(auth) = based_on.get_mut(child)
                && auth.remove(&nid)
                && auth.is_empty()
            {
                ready.push(Reverse((order[child], *child)));
            }
        }
    }
    sorted
}

/// It may take from somebody what they could do in the room.
fn is_power_event(pdu: &Pdu) -> bool {
    match pdu.event_type() {
        "m.room.power_levels" | "m.room.join_rules" | "m.room.create" => pdu.state_key() == Some(""),
        "m.room.member" => {
            matches!(Membership::of_event(pdu), Some(Membership::Leave | Membership::Ban))
                && pdu.state_key() != Some(pdu.sender().as_str())
        }
        _ => false,
    }
}

/// Puts those events into the state which it allows, one after the other.
fn check(loaded: &Loaded<'_>, events: &[EventNid], state: &mut Partial<'_>) {
    for nid in events {
        let Some(pdu) = loaded.events.get(nid) else { continue };
        let Some(event_key) = pdu.state_key() else { continue };
        let place = (pdu.event_type().to_owned(), event_key.to_owned());
        let Some(key) = loaded.keys.get(&place).copied() else { continue };
        let mut seen: HashMap<(String, String), &Pdu> = HashMap::new();
        for (_, auth) in loaded.auth_events(*nid) {
            let auth_key = auth.state_key().unwrap_or_default();
            seen.insert((auth.event_type().to_owned(), auth_key.to_owned()), auth);
        }
        if loaded.version.room_id_is_create_id()
            && let Some(create) = loaded.create.and_then(|create| loaded.events.get(&create))
        {
            seen.insert(("m.room.create".to_owned(), String::new()), create);
        }
        for place in auth::auth_keys_of(pdu) {
            let in_state = loaded.keys.get(&place).and_then(|key| state.get(*key));
            if let Some(auth) = in_state.and_then(|nid| loaded.events.get(&nid)) {
                seen.insert(place, auth);
            }
        }
        let look = |event_type: &str, state_key: &str| {
            seen.get(&(event_type.to_owned(), state_key.to_owned())).copied().cloned()
        };
        let create =
            look("m.room.create", "").or_else(|| (pdu.event_type() == "m.room.create").then(|| pdu.clone()));
        if create.is_some_and(|create| auth::authorize(pdu, &create, look).is_ok()) {
            state.resolved.insert(key, *nid);
        }
    }
}

/// The events in mainline order, by these power levels.
fn sort_by_mainline(loaded: &Loaded<'_>, events: Vec<EventNid>, levels: Option<EventNid>) -> Vec<EventNid> {
    let mainline: Vec<EventNid> = loaded.line(levels).collect();
    // The oldest is 1, so that those which lead to none of them come first.
    let places: HashMap<EventNid, usize> = mainline.into_iter().rev().zip(1..).collect();
    let mut known: HashMap<Option<EventNid>, Option<usize>> = HashMap::new();
    let mut sorted: Vec<_> = events
        .into_iter()
        .filter_map(|nid| {
            let pdu = loaded.events.get(&nid)?;
            let levels = loaded.levels_of(nid);
            let find = || loaded.line(levels).find_map(|levels| places.get(&levels).copied());
            let place = *known.entry(levels).or_insert_with(find);
            Some((place, pdu.origin_server_ts(), pdu.event_id(), nid))
        })
        .collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(.., nid)| nid).collect()
}
