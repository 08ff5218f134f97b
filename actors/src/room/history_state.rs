//! The states before events of a room's past: each as a change of the one before it, so that a page of history stores
//! little, and stored all together.

use std::collections::{HashMap, HashSet};

use myelin_core::{
    admit::AdmissionCode,
    nid::{BlockNid, EventNid, SnapshotNid},
    state::{Layers, StateKey, StateMap},
};
use myelin_storage::{
    commit::{NewBlock, NewSnapshot},
    events::StoredEvent,
};

use super::{
    RoomTools,
    decision::Decision,
    error::RoomError,
    head::Head,
    state_of::{self, After, StoredState},
};

/// A state, and the blocks that it is to be stored as.
#[derive(Clone, Default)]
pub(crate) struct StateAt {
    pub map: StateMap,
    layers: Layers,
}

impl StateAt {
    /// A state that was handed in.
    pub fn new(head: &Head, map: StateMap) -> Self {
        Self { layers: state_of::layers_of(head, &map), map }
    }

    /// This state with another event in that place.
    pub fn with(&self, key: StateKey, event: EventNid) -> Self {
        Self { map: self.map.update(key, event), layers: self.layers.append(&[(key, event)]) }
    }
}

/// How many blocks the states of so many events take at most: one for each event, one where the state before it is
/// stored or handed in, and one where states meet.
pub(crate) fn blocks_for(events: usize) -> usize {
    3 * events
}

/// The state after an event that is stored or decided.
pub(crate) async fn after(tools: &RoomTools, head: &Head, event: &StoredEvent) -> Result<StateAt, RoomError> {
    let layers = match event.snapshot.map(|snapshot| (snapshot, head.layers_of(snapshot))) {
        None => Layers::default(),
        Some((_, Some(layers))) => layers.clone(),
        Some((snapshot, None)) => {
            tools.store.load_layers(&[snapshot]).await?.remove(&snapshot).ok_or(RoomError::Lost)?
        }
    };
    let before = StateAt { map: layers.to_map(), layers };
    Ok(match event.state_key {
        Some(key) if event.admission != AdmissionCode::Rejected => {
            before.with((event.type_nid, key), event.nid)
        }
        _ => before,
    })
}

/// One state out of those after several events.
pub(crate) async fn resolve(
    tools: &RoomTools,
    head: &Head,
    mut states: Vec<(EventNid, StateAt)>,
) -> Result<StateAt, RoomError> {
    let Some((_, first)) = states.first().cloned() else { return Ok(StateAt::default()) };
    if states.len() == 1 {
        return Ok(first);
    }
    let after = states.drain(..).map(|(event, state)| After::of(event, state.map)).collect();
    let map = state_of::resolve(tools, head, head.version, after).await?;
    Ok(StateAt { layers: first.layers.advance(&first.map, &map), map })
}

/// Puts the states into the decision, as far as they are not stored yet; the snapshot of each, none of an empty one.
pub(crate) async fn store(
    tools: &RoomTools,
    decision: &mut Decision,
    states: Vec<StateAt>,
) -> Result<Vec<Option<SnapshotNid>>, RoomError> {
    let room = decision.head.nid;
    let mut layers: Vec<Layers> = states.into_iter().map(|state| state.layers).collect();
    let mut blocks = known_blocks(tools, &decision.head, &layers).await?;
    let mut new_blocks: HashMap<BlockNid, NewBlock> = HashMap::new();
    for layers in &mut layers {
        layers.name_new(|block| {
            *blocks.entry(block.hash(room)).or_insert_with(|| {
                let nid = decision.numbers.blocks.next().expect("block NIDs were reserved for all states");
                new_blocks.insert(nid, NewBlock { nid, block: block.clone() });
                nid
            })
        });
    }
    let named: Vec<_> =
        layers.iter().map(|layers| layers.snapshot().expect("all layers have just been named")).collect();
    let hashes: Vec<[u8; 32]> = named.iter().map(|named| named.hash(room)).collect();
    let distinct: HashSet<[u8; 32]> = hashes.iter().copied().collect();
    let distinct: Vec<[u8; 32]> = distinct.into_iter().collect();
    let mut snapshots = tools.store.find_by_hash(&[], &distinct).await?.snapshots;
    for state in decision.head.uncommitted.values() {
        let named = state.layers.snapshot().expect("what is on its way to storage is named");
        snapshots.insert(named.hash(room), state.snapshot);
    }
    let mut given = Vec::with_capacity(layers.len());
    for ((layers, blocks), hash) in layers.into_iter().zip(named).zip(hashes) {
        if layers.layers().is_empty() {
            given.push(None);
            continue;
        }
        if let Some(snapshot) = snapshots.get(&hash) {
            given.push(Some(*snapshot));
            continue;
        }
        let nid = decision.numbers.snapshots.next().expect("a snapshot NID was reserved for each state");
        let new = blocks.blocks().iter().filter_map(|block| new_blocks.remove(block)).collect();
        let new = Some((new, NewSnapshot { nid, blocks }));
        decision.store_state(&StoredState { layers, snapshot: nid, new });
        snapshots.insert(hash, nid);
        given.push(Some(nid));
    }
    Ok(given)
}

/// Which of the blocks that have no number yet are stored or on their way there, by their hash.
async fn known_blocks(
    tools: &RoomTools,
    head: &Head,
    states: &[Layers],
) -> Result<HashMap<[u8; 32], BlockNid>, RoomError> {
    let unnamed = states.iter().flat_map(Layers::layers).filter(|layer| layer.nid.is_none());
    let hashes: HashSet<[u8; 32]> = unnamed.map(|layer| layer.block.hash(head.nid)).collect();
    let hashes: Vec<[u8; 32]> = hashes.into_iter().collect();
    let mut known =
        if hashes.is_empty() { HashMap::new() } else { tools.store.find_by_hash(&hashes, &[]).await?.blocks };
    let uncommitted = head.uncommitted.values().flat_map(|state| state.layers.layers());
    known.extend(uncommitted.filter_map(|layer| Some((layer.block.hash(head.nid), layer.nid?))));
    Ok(known)
}
