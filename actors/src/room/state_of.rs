//! The state at places other than the head: after some event, and where forks meet.

use std::collections::{HashMap, HashSet};

use myelin_core::{
    admit::AdmissionCode,
    nid::{BlockNid, EventNid, SnapshotNid},
    pdu::Pdu,
    resolve,
    state::{StateKey, StateMap, block::Block, tiers::Layers},
    version::RoomVersion,
};
use myelin_storage::{
    commit::{NewBlock, NewSnapshot},
    events::StoredEvent,
};
use ruma::OwnedEventId;

use super::{RoomTools, decision::Numbers, error::RoomError, head::Head, store::EventsBy};

/// Names of types and state keys as state resolution wants them: as strings.
type Key = (String, String);

/// The state after each of the events.
pub(crate) async fn states_after(
    tools: &RoomTools,
    head: &Head,
    events: &[&StoredEvent],
) -> Result<Vec<StateMap>, RoomError> {
    let snapshots: Vec<SnapshotNid> = events.iter().filter_map(|event| event.snapshot).collect();
    let layers = load_layers(tools, head, &snapshots).await?;
    Ok(events
        .iter()
        .map(|event| {
            let mut state = event
                .snapshot
                .and_then(|snapshot| layers.get(&snapshot))
                .map(Layers::to_map)
                .unwrap_or_default();
            if let Some(key) = event.state_key
                && event.admission != AdmissionCode::Rejected
            {
                state.insert((event.type_nid, key), event.nid);
            }
            state
        })
        .collect())
}

/// The layers of these snapshots: of the head, of decisions on their way, or stored.
async fn load_layers(
    tools: &RoomTools,
    head: &Head,
    snapshots: &[SnapshotNid],
) -> Result<HashMap<SnapshotNid, Layers>, RoomError> {
    let mut found: HashMap<SnapshotNid, Layers> = snapshots
        .iter()
        .filter_map(|snapshot| Some((*snapshot, head.layers_of(*snapshot)?.clone())))
        .collect();
    let missing: Vec<SnapshotNid> =
        snapshots.iter().copied().filter(|snapshot| !found.contains_key(snapshot)).collect();
    if !missing.is_empty() {
        found.extend(tools.store.load_layers(&missing).await?);
    }
    Ok(found)
}

/// One state out of several, by the room version's state resolution.
pub(crate) async fn resolve(
    tools: &RoomTools,
    head: &Head,
    version: &'static RoomVersion,
    states: Vec<StateMap>,
) -> Result<StateMap, RoomError> {
    let mut states = states;
    states.dedup();
    if states.len() <= 1 {
        return Ok(states.pop().unwrap_or_default());
    }
    let nids: HashSet<EventNid> = states.iter().flat_map(|state| state.values().copied()).collect();
    let chain = load_with_chain(tools, head, &nids).await?;
    let by_nid: HashMap<EventNid, &StoredEvent> = chain.iter().map(|event| (event.nid, event)).collect();
    let pdus: HashMap<OwnedEventId, Pdu> =
        chain.iter().map(|event| (event.pdu.event_id().to_owned(), event.pdu.clone())).collect();
    let mut pairs: HashMap<Key, StateKey> = HashMap::new();
    let named: Vec<HashMap<Key, OwnedEventId>> = states
        .iter()
        .map(|state| {
            state
                .iter()
                .filter_map(|(pair, nid)| {
                    let pdu = &by_nid.get(nid)?.pdu;
                    let key = (pdu.event_type().to_owned(), pdu.state_key()?.to_owned());
                    pairs.insert(key.clone(), *pair);
                    Some((key, pdu.event_id().to_owned()))
                })
                .collect()
        })
        .collect();
    let chains: Vec<HashSet<OwnedEventId>> =
        named.iter().map(|state| chain_of(state.values(), &pdus)).collect();
    let nid_of: HashMap<OwnedEventId, EventNid> =
        chain.iter().map(|event| (event.pdu.event_id().to_owned(), event.nid)).collect();
    let resolved = tokio::task::spawn_blocking(move || resolve::resolve(version, &named, chains, &pdus))
        .await
        .map_err(|_panicked| RoomError::Lost)?
        .map_err(|error| RoomError::Invalid(error.to_string()))?;
    Ok(resolved.into_iter().filter_map(|(key, id)| Some((*pairs.get(&key)?, *nid_of.get(&id)?))).collect())
}

/// The ids of the events and of all that they follow from by their auth events.
fn chain_of<'a>(
    events: impl Iterator<Item = &'a OwnedEventId>,
    pdus: &HashMap<OwnedEventId, Pdu>,
) -> HashSet<OwnedEventId> {
    let mut chain = HashSet::new();
    let mut todo: Vec<OwnedEventId> = events.cloned().collect();
    while let Some(id) = todo.pop() {
        if let Some(pdu) = pdus.get(&id)
            && chain.insert(id)
        {
            todo.extend(pdu.auth_events().iter().cloned());
        }
    }
    chain
}

/// The events and their auth chains, decided ones included.
async fn load_with_chain(
    tools: &RoomTools,
    head: &Head,
    nids: &HashSet<EventNid>,
) -> Result<Vec<StoredEvent>, RoomError> {
    let mut events: Vec<StoredEvent> = head.decided.values().map(|event| (**event).clone()).collect();
    let auth_ids: Vec<OwnedEventId> =
        events.iter().flat_map(|event| event.pdu.auth_events().iter().cloned()).collect();
    let decided_auth = tools.store.load_events(EventsBy::Ids(&auth_ids)).await?;
    let roots: Vec<EventNid> = nids
        .iter()
        .copied()
        .filter(|nid| !head.decided.contains_key(nid))
        .chain(decided_auth.iter().map(|event| event.nid))
        .collect();
    let chain = tools.store.auth_chain(&roots).await?;
    events.extend(tools.store.load_events(EventsBy::Nids(&chain)).await?);
    Ok(events)
}

/// The stored form of a state that is not the head's: what is new of it is to be stored with the decision.
pub(crate) struct StoredState {
    pub layers: Layers,
    pub snapshot: SnapshotNid,
    pub new: Option<(Vec<NewBlock>, NewSnapshot)>,
}

/// Finds the state among what is stored, or prepares it to be stored: as a change of the head's state where that
/// is possible, which shares its blocks.
pub(crate) async fn store_state(
    tools: &RoomTools,
    head: &Head,
    numbers: &mut Numbers,
    state: &StateMap,
) -> Result<StoredState, RoomError> {
    if *state == head.state
        && let Some(snapshot) = head.snapshot
    {
        return Ok(StoredState { layers: head.layers.clone(), snapshot, new: None });
    }
    let mut layers = head.layers.advance(&head.state, state);
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
    if let Some(snapshot) = known {
        return Ok(StoredState { layers, snapshot, new: None });
    }
    let snapshot = numbers.snapshots.next().expect("a snapshot NID was reserved for each state");
    Ok(StoredState { layers, snapshot, new: Some((blocks, NewSnapshot { nid: snapshot, blocks: named })) })
}

/// The number of an equal block that is on its way to storage.
fn uncommitted_block(head: &Head, block: &Block) -> Option<BlockNid> {
    head.uncommitted
        .values()
        .flat_map(|state| state.layers.layers())
        .find(|layer| layer.block.bytes() == block.bytes())
        .and_then(|layer| layer.nid)
}
