//! The state at places other than the head: after some event, and where forks meet.
//!
//! States are maps that share what they have in common, so that comparing two of them costs what they differ in, and
//! a fork is resolved by looking at that. What was found lately is kept with the head ([`RecentStates`]).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use myelin_core::{
    admit::AdmissionCode,
    nid::{BlockNid, EventNid, SnapshotNid, StateKeyNid},
    pdu::Pdu,
    resolve::{self, AuthNode, Changes, Fork, Step},
    state::{
        StateMap,
        block::Block,
        tiers::{Layers, delta_from},
    },
    version::RoomVersion,
};
use myelin_storage::{
    commit::{NewBlock, NewSnapshot},
    events::StoredEvent,
};
use parking_lot::Mutex;
use ruma::OwnedEventId;

use super::{
    RoomTools,
    error::RoomError,
    head::Head,
    numbers::Numbers,
    store::{EventsBy, Names},
};

/// How many states a room remembers. They share most of their content.
const STATES: usize = 24;
/// How many resolutions a room remembers: what they change, not the states.
const RESOLUTIONS: usize = 64;

/// The state after an event: the state before it, and what the event puts there.
#[derive(Clone, Debug)]
pub(crate) struct After {
    /// None if it is not known by the room's events alone what the state is.
    name: Option<AfterName>,
    state: StateMap,
}

/// Two states of a room with the same name are the same.
type AfterName = (Option<SnapshotNid>, Option<EventNid>);

impl After {
    /// The state after an event that is not stored yet. No other event will ever have its number.
    pub fn of(event: EventNid, state: StateMap) -> Self {
        Self { name: Some((None, Some(event))), state }
    }

    /// The state after an event that is not in the room's graph, as somebody says.
    pub fn told(state: StateMap) -> Self {
        Self { name: None, state }
    }
}

/// States of a room that were looked at lately, and what came of them together. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentStates(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    states: VecDeque<RecentState>,
    resolved: VecDeque<(Vec<AfterName>, Changes)>,
}

#[derive(Debug)]
struct RecentState {
    snapshot: SnapshotNid,
    layers: Layers,
    state: StateMap,
    /// It is stored or on its way. Else it was prepared for a decision that may have come to nothing.
    is_sound: bool,
}

impl RecentStates {
    /// What was prepared for the decision that leads to this head is on its way to storage.
    pub fn adopt(&self, head: &Head) {
        for recent in &mut self.0.lock().states {
            recent.is_sound |= head.layers_of(recent.snapshot).is_some();
        }
    }

    fn state(&self, snapshot: SnapshotNid) -> Option<StateMap> {
        let recent = self.0.lock();
        recent.states.iter().find(|recent| recent.snapshot == snapshot).map(|recent| recent.state.clone())
    }

    fn add_state(&self, snapshot: SnapshotNid, layers: &Layers, state: &StateMap, is_sound: bool) {
        let mut recent = self.0.lock();
        recent.states.retain(|recent| recent.snapshot != snapshot);
        let (layers, state) = (layers.clone(), state.clone());
        recent.states.push_back(RecentState { snapshot, layers, state, is_sound });
        if recent.states.len() > STATES {
            recent.states.pop_front();
        }
    }

    fn resolved(&self, states: &[AfterName]) -> Option<Changes> {
        let recent = self.0.lock();
        recent.resolved.iter().find(|(names, _)| names == states).map(|(_, changes)| changes.clone())
    }

    fn add_resolved(&self, states: Vec<AfterName>, changes: Changes) {
        let mut recent = self.0.lock();
        recent.resolved.push_back((states, changes));
        if recent.resolved.len() > RESOLUTIONS {
            recent.resolved.pop_front();
        }
    }
}

/// The state after each of the events.
pub(crate) async fn states_after(
    tools: &RoomTools,
    head: &Head,
    events: &[&StoredEvent],
) -> Result<Vec<After>, RoomError> {
    let snapshots: Vec<SnapshotNid> = events.iter().filter_map(|event| event.snapshot).collect();
    let states = load_states(tools, head, &snapshots).await?;
    Ok(events
        .iter()
        .map(|event| {
            let before = event.snapshot.and_then(|snapshot| states.get(&snapshot));
            let mut state = before.cloned().unwrap_or_default();
            let mut name = (event.snapshot, None);
            if let Some(key) = event.state_key
                && event.admission != AdmissionCode::Rejected
            {
                state.insert((event.type_nid, key), event.nid);
                name.1 = Some(event.nid);
            }
            After { name: Some(name), state }
        })
        .collect())
}

/// The states of these snapshots: of the head, looked at lately, on their way to storage, or stored.
async fn load_states(
    tools: &RoomTools,
    head: &Head,
    snapshots: &[SnapshotNid],
) -> Result<HashMap<SnapshotNid, StateMap>, RoomError> {
    let mut found = HashMap::new();
    let mut missing = Vec::new();
    for snapshot in snapshots {
        if head.snapshot == Some(*snapshot) {
            found.insert(*snapshot, head.state.clone());
        } else if let Some(state) = head.recent_states.state(*snapshot) {
            found.insert(*snapshot, state);
        } else if let Some(layers) = head.layers_of(*snapshot) {
            found.insert(*snapshot, remember(head, *snapshot, layers));
        } else {
            missing.push(*snapshot);
        }
    }
    if !missing.is_empty() {
        for (snapshot, layers) in tools.store.load_layers(&missing).await? {
            found.insert(snapshot, remember(head, snapshot, &layers));
        }
    }
    Ok(found)
}

fn remember(head: &Head, snapshot: SnapshotNid, layers: &Layers) -> StateMap {
    let state = layers.to_map_like(&head.layers, &head.state);
    head.recent_states.add_state(snapshot, layers, &state, true);
    state
}

/// One state out of several, by the room version's state resolution.
pub(crate) async fn resolve(
    tools: &RoomTools,
    head: &Head,
    version: &'static RoomVersion,
    mut states: Vec<After>,
) -> Result<StateMap, RoomError> {
    states.sort_by_key(|after| after.name);
    states.dedup_by(|one, other| one.name.is_some() && one.name == other.name);
    let names: Option<Vec<AfterName>> = states.iter().map(|after| after.name).collect();
    let mut states: Vec<StateMap> = states.into_iter().map(|after| after.state).collect();
    let Some(first) = states.first().cloned() else { return Ok(StateMap::default()) };
    states.dedup();
    if states.len() == 1 {
        return Ok(first);
    }
    if let Some(changes) = names.as_ref().and_then(|names| head.recent_states.resolved(names)) {
        return Ok(resolve::apply(&first, &changes));
    }
    let mut fork = Fork::new(version, states, decided_nodes(tools, head).await?);
    loop {
        match fork.step() {
            Step::Look(lookup) => fork.found(tools.store.look(&lookup).await?),
            Step::Load(nids) => fork.loaded(load(tools, head, &nids).await?),
            Step::Name(keys) => {
                let found = name(tools, &keys).await?;
                fork.named(keys, &found);
            }
            Step::Ready => break,
        }
    }
    let changes =
        tokio::task::spawn_blocking(move || fork.resolve()).await.map_err(|_panicked| RoomError::Lost)?;
    let resolved = resolve::apply(&first, &changes);
    if let Some(names) = names {
        head.recent_states.add_resolved(names, changes);
    }
    Ok(resolved)
}

/// These events, decided or stored, but for those that were rejected.
pub(crate) async fn load(
    tools: &RoomTools,
    head: &Head,
    nids: &[EventNid],
) -> Result<Vec<(EventNid, Pdu)>, RoomError> {
    let decided = nids.iter().filter_map(|nid| head.decided.get(nid).cloned());
    let mut events: Vec<Arc<StoredEvent>> = decided.collect();
    let others: Vec<EventNid> = nids.iter().copied().filter(|nid| !head.decided.contains_key(nid)).collect();
    if !others.is_empty() {
        events.extend(tools.events.load(&others).await?);
    }
    let taken = events.iter().filter(|event| event.admission != AdmissionCode::Rejected);
    Ok(taken.map(|event| (event.nid, event.pdu.clone())).collect())
}

async fn name(tools: &RoomTools, keys: &[String]) -> Result<HashMap<String, StateKeyNid>, RoomError> {
    let given = tools.store.name(Names { keys: keys.to_vec(), ..Names::default() }).await?;
    Ok(keys.iter().cloned().zip(given.keys).collect())
}

/// The state events that are decided and perhaps not committed, as the index will have them.
async fn decided_nodes(tools: &RoomTools, head: &Head) -> Result<Vec<AuthNode>, RoomError> {
    let indexed =
        |event: &&Arc<StoredEvent>| event.state_key.is_some() && event.admission != AdmissionCode::Rejected;
    let decided: Vec<&Arc<StoredEvent>> = head.decided.values().filter(indexed).collect();
    let mut nids: HashMap<OwnedEventId, EventNid> =
        head.decided.values().map(|event| (event.pdu.event_id().to_owned(), event.nid)).collect();
    let auth = decided.iter().flat_map(|event| event.pdu.auth_events());
    let missing: Vec<OwnedEventId> = auth.filter(|id| !nids.contains_key(*id)).cloned().collect();
    if !missing.is_empty() {
        let found = tools.store.load_events(EventsBy::Ids(&missing)).await?;
        nids.extend(found.into_iter().map(|event| (event.pdu.event_id().to_owned(), event.nid)));
    }
    let node = |event: &&Arc<StoredEvent>| {
        let auth = event.pdu.auth_events().iter().filter_map(|id| nids.get(id).copied()).collect();
        let key = (event.type_nid, event.state_key?);
        Some(AuthNode { nid: event.nid, key, auth, chain: event.nid, place: 1, since: i64::MAX })
    };
    Ok(decided.iter().filter_map(node).collect())
}

/// The stored form of a state that is not the head's: what is new of it is to be stored with the decision.
pub(crate) struct StoredState {
    pub layers: Layers,
    pub snapshot: SnapshotNid,
    pub new: Option<(Vec<NewBlock>, NewSnapshot)>,
}

/// Finds the state among what is stored, or prepares it to be stored: as a change of the head's state, or of another
/// one that was looked at lately, where that is possible. So it shares blocks with that.
pub(crate) async fn store_state(
    tools: &RoomTools,
    head: &Head,
    numbers: &mut Numbers,
    state: &StateMap,
) -> Result<StoredState, RoomError> {
    let mut layers = match nearest(head, state) {
        Nearest::Same(layers, snapshot) => return Ok(StoredState { layers, snapshot, new: None }),
        Nearest::Changed(layers) => layers,
    };
    let hashes: Vec<[u8; 32]> = layers
        .layers()
        .iter()
        .filter(|layer| layer.nid.is_none())
        .map(|layer| layer.block.hash(head.nid))
        .collect();
    let found = tools.store.find_by_hash(&hashes, &[]).await?;
    let mut blocks = Vec::new();
    layers.name_new(|block| {
        let hash = block.hash(head.nid);
        if let Some(nid) = found.blocks.get(&hash).copied().or_else(|| uncommitted_block(head, block)) {
            return nid;
        }
        let nid = numbers.blocks.next().expect("a block NID was reserved for each state");
        blocks.push(NewBlock { nid, block: block.clone() });
        nid
    });
    let named = layers.snapshot().expect("all layers have just been named");
    let hash = named.hash(head.nid);
    let uncommitted = head
        .uncommitted
        .values()
        .find(|state| state.layers.snapshot().as_ref() == Some(&named))
        .map(|state| state.snapshot);
    let known = match uncommitted {
        Some(snapshot) => Some(snapshot),
        None => tools.store.find_by_hash(&[], &[hash]).await?.snapshots.get(&hash).copied(),
    };
    let snapshot = known
        .unwrap_or_else(|| numbers.snapshots.next().expect("a snapshot NID was reserved for each state"));
    head.recent_states.add_state(snapshot, &layers, state, known.is_some());
    let new = known.is_none().then_some((blocks, NewSnapshot { nid: snapshot, blocks: named }));
    Ok(StoredState { layers, snapshot, new })
}

/// The state in layers, as many of which as possible are those of another state.
pub(crate) fn layers_of(head: &Head, state: &StateMap) -> Layers {
    match nearest(head, state) {
        Nearest::Same(layers, _) | Nearest::Changed(layers) => layers,
    }
}

/// How a state can be stored.
enum Nearest {
    /// It is.
    Same(Layers, SnapshotNid),
    /// In these layers, of which the last may be new.
    Changed(Layers),
}

/// Of the states that are stored or will be, the one that this state adds least to. A block cannot say that something
/// is gone, so a state is written as a whole where all others have what it has not.
fn nearest(head: &Head, state: &StateMap) -> Nearest {
    if let Some(snapshot) = head.snapshot
        && *state == head.state
    {
        return Nearest::Same(head.layers.clone(), snapshot);
    }
    let recent = head.recent_states.0.lock();
    let known = || {
        let sound = |known: &&RecentState| known.is_sound || head.layers_of(known.snapshot).is_some();
        recent.states.iter().rev().filter(sound)
    };
    if let Some(same) = known().find(|known| known.state == *state) {
        return Nearest::Same(same.layers.clone(), same.snapshot);
    }
    let bases = known().map(|known| (&known.layers, &known.state)).chain([(&head.layers, &head.state)]);
    let deltas = bases.filter_map(|(layers, known)| Some((layers, delta_from(known, state)?)));
    let layers = match deltas.min_by_key(|(_, delta)| delta.len()) {
        Some((layers, delta)) => layers.append(&delta),
        None => Layers::from_map(state),
    };
    Nearest::Changed(layers)
}

/// The number of an equal block that is on its way to storage.
fn uncommitted_block(head: &Head, block: &Block) -> Option<BlockNid> {
    head.uncommitted
        .values()
        .flat_map(|state| state.layers.layers())
        .find(|layer| layer.block.bytes() == block.bytes())
        .and_then(|layer| layer.nid)
}
