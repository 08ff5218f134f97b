//! State resolution of room version 1.
//!
//! Known to bring back old state; kept because the rooms exist.
//! <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution>

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::{EventSource, StateIds};
use crate::auth;
use crate::pdu::Pdu;

type Key = (String, String);

/// The types that other events' authorisation depends on, in the order in which they are resolved.
const AUTH_TYPES: [&str; 3] = ["m.room.power_levels", "m.room.join_rules", "m.room.member"];

/// The resolution of these states. Events that the source does not have take no part.
pub(super) fn resolve(states: &[StateIds], source: &impl EventSource) -> StateIds {
    let (mut resolved, mut conflicts) = split(states, source);
    for event_type in AUTH_TYPES {
        let (of_type, others) = conflicts.into_iter().partition(|((kind, _), _)| kind == event_type);
        conflicts = others;
        // The keys of one type do not see each other's results, so that their order does not matter.
        let decided: Vec<(Key, Option<Pdu>)> = BTreeMap::into_iter(of_type)
            .map(|(key, events)| (key, last_in_unbroken_line(events, &resolved, source)))
            .collect();
        add(&mut resolved, decided);
    }
    let decided = conflicts
        .into_iter()
        .map(|(key, events)| (key, deepest_allowed(&events, &resolved, source)))
        .collect();
    add(&mut resolved, decided);
    resolved
}

fn add(resolved: &mut StateIds, decided: Vec<(Key, Option<Pdu>)>) {
    resolved.extend(
        decided.into_iter().filter_map(|(key, event)| event.map(|event| (key, event.event_id().to_owned()))),
    );
}

/// What the states agree on, which includes what only some of them have, and the events that they do not
/// agree on, in the order of the algorithm.
fn split(states: &[StateIds], source: &impl EventSource) -> (StateIds, BTreeMap<Key, Vec<Pdu>>) {
    let mut candidates: BTreeMap<&Key, Vec<_>> = BTreeMap::new();
    for (key, id) in states.iter().flatten() {
        let ids = candidates.entry(key).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut agreed = StateIds::new();
    let mut conflicts = BTreeMap::new();
    for (key, ids) in candidates {
        if let [id] = ids[..] {
            agreed.insert(key.clone(), id.clone());
        } else {
            let mut events: Vec<Pdu> = ids.into_iter().filter_map(|id| source.event(id)).collect();
            events.sort_by_cached_key(|event| (event.depth(), Reverse(sha1(event))));
            conflicts.insert(key.clone(), events);
        }
    }
    (agreed, conflicts)
}

fn sha1(event: &Pdu) -> [u8; 20] {
    Sha1::digest(event.event_id().as_str()).into()
}

/// The first event, or the last of those that follow it, each allowed by the one before.
fn last_in_unbroken_line(events: Vec<Pdu>, resolved: &StateIds, source: &impl EventSource) -> Option<Pdu> {
    let mut events = events.into_iter();
    let mut last = events.next()?;
    for event in events {
        if !is_allowed(&event, Some(&last), resolved, source) {
            break;
        }
        last = event;
    }
    Some(last)
}

/// The deepest event that the resolved state allows. The specification does not say what happens when it
/// allows none; other servers then take the least deep, and agreeing with them is what matters.
fn deepest_allowed(events: &[Pdu], resolved: &StateIds, source: &impl EventSource) -> Option<Pdu> {
    let allowed = events.iter().rev().find(|event| is_allowed(event, None, resolved, source));
    allowed.or(events.first()).cloned()
}

/// Whether the resolved state, with `newest` in it, allows the event.
fn is_allowed(event: &Pdu, newest: Option<&Pdu>, resolved: &StateIds, source: &impl EventSource) -> bool {
    let state = |event_type: &str, state_key: &str| {
        if let Some(newest) = newest.filter(|newest| newest.is_state_of(event_type, state_key)) {
            return Some(newest.clone());
        }
        let id = resolved.get(&(event_type.to_owned(), state_key.to_owned()))?;
        source.event(id)
    };
    let Some(create) = state("m.room.create", "") else {
        return false;
    };
    auth::authorize(event, &create, state).is_ok()
}
