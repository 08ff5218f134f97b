//! State resolution: one state from the states of several forks.
//!
//! - [`fork`]: what rooms use. It says step by step what it needs, which is what the states do not have in common.
//! - [`search`]: the difference of auth chains, from an index.
//! - `v1`, `v2`: the algorithms, on what was loaded.
//!
//! [`resolve`] is the same on whole states and chains; from version 2 on by ruma's implementation. It is what tests
//! and benchmarks measure [`Fork`] by.

pub mod fork;
pub mod search;
mod v1;
mod v2;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;

use ruma::events::StateEventType;
use ruma::room_version_rules::StateResolutionV2Rules;
use ruma::state_res::{self, utils::event_id_set::EventIdSet};
use ruma::{EventId, OwnedEventId};

pub use self::fork::{Changes, Fork, Step, apply};
pub use self::search::{AuthNode, Lookup};
use crate::pdu::Pdu;
use crate::version::{RoomVersion, StateResolution};

/// A room's state: event ids by type and state key.
pub type StateIds = HashMap<(String, String), OwnedEventId>;

/// Where the events that are needed can be found.
pub trait EventSource {
    /// The event with this id, if it is loaded and was not rejected.
    fn event(&self, id: &EventId) -> Option<Pdu>;
}

impl<S: BuildHasher> EventSource for HashMap<OwnedEventId, Pdu, S> {
    fn event(&self, id: &EventId) -> Option<Pdu> {
        self.get(id).cloned()
    }
}

/// Why states could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// These events are needed and were not in the source.
    #[error("{} events that state resolution needs are missing", .0.len())]
    Missing(Vec<OwnedEventId>),
    /// An event that takes part is malformed in a way that should have kept it out of any state.
    #[error("the state cannot be resolved")]
    Malformed(#[source] state_res::Error),
}

/// The resolution of these states.
///
/// `auth_chains` has for each state the ids of all events that its events are based on, recursively, the
/// with or without the state's own events. Version 1 does not read it. [`ResolveError::Missing`] may come again
/// after those events were added, since they lead to others.
pub fn resolve<H: BuildHasher>(
    version: &RoomVersion,
    states: &[StateIds],
    auth_chains: Vec<HashSet<OwnedEventId, H>>,
    events: &impl EventSource,
) -> Result<StateIds, ResolveError> {
    if let [first, others @ ..] = states
        && others.iter().all(|state| state == first)
    {
        return Ok(first.clone());
    }
    let source = Recorder { events, missing: RefCell::default() };
    let resolved = match (version.stateres(), version.rules.state_res.v2_rules()) {
        (StateResolution::V2 | StateResolution::V2_1, Some(rules)) => {
            resolve_v2(version, *rules, states, auth_chains, &source)
        }
        _ => Ok(v1::resolve(states, &source)),
    };
    let missing = source.missing.into_inner();
    if !missing.is_empty() {
        return Err(ResolveError::Missing(missing.into_iter().collect()));
    }
    resolved.map_err(ResolveError::Malformed)
}

/// Remembers what was asked for in vain.
struct Recorder<'a, S> {
    events: &'a S,
    missing: RefCell<BTreeSet<OwnedEventId>>,
}

impl<S: EventSource> EventSource for Recorder<'_, S> {
    fn event(&self, id: &EventId) -> Option<Pdu> {
        let event = self.events.event(id);
        if event.is_none() {
            self.missing.borrow_mut().insert(id.to_owned());
        }
        event
    }
}

fn resolve_v2<H: BuildHasher>(
    version: &RoomVersion,
    rules: StateResolutionV2Rules,
    states: &[StateIds],
    auth_chains: Vec<HashSet<OwnedEventId, H>>,
    source: &impl EventSource,
) -> Result<StateIds, state_res::Error> {
    let states: Vec<state_res::StateMap<OwnedEventId>> =
        states.iter().map(|state| state.iter().map(to_ruma).collect()).collect();
    let auth_chains = auth_chains.into_iter().map(|chain| chain.into_iter().collect()).collect();
    let resolved = state_res::resolve(
        &version.rules.authorization,
        &rules,
        &states,
        auth_chains,
        |id| source.event(id),
        |conflicted| Some(conflicted_subgraph(conflicted.values().flatten(), source)),
    )?;
    Ok(resolved.into_iter().map(|((kind, key), id)| ((kind.to_string(), key), id)).collect())
}

fn to_ruma(
    ((event_type, key), id): (&(String, String), &OwnedEventId),
) -> ((StateEventType, String), OwnedEventId) {
    ((StateEventType::from(event_type.as_str()), key.clone()), id.clone())
}

/// The conflicted events, and every event on a path of auth events from one of them to another.
/// <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>
fn conflicted_subgraph<'a>(
    conflicted: impl Iterator<Item = &'a OwnedEventId>,
    source: &impl EventSource,
) -> EventIdSet<OwnedEventId> {
    let conflicted: HashSet<OwnedEventId> = conflicted.cloned().collect();
    // Everything below the conflicted events, with the way back up.
    let mut based_on_it: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut seen = conflicted.clone();
    let mut open: Vec<OwnedEventId> = conflicted.iter().cloned().collect();
    while let Some(id) = open.pop() {
        let Some(event) = source.event(&id) else { continue };
        for below in event.auth_events() {
            based_on_it.entry(below.clone()).or_default().push(id.clone());
            if seen.insert(below.clone()) {
                open.push(below.clone());
            }
        }
    }
    // Of that, what stands above a conflicted event.
    let mut subgraph = conflicted.clone();
    let mut open: Vec<OwnedEventId> = conflicted.into_iter().collect();
    while let Some(id) = open.pop() {
        for above in based_on_it.get(&id).into_iter().flatten() {
            if subgraph.insert(above.clone()) {
                open.push(above.clone());
            }
        }
    }
    subgraph.into_iter().collect()
}

#[cfg(test)]
mod fork_tests;
#[cfg(test)]
mod tests;
