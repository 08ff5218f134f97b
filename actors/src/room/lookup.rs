//! Events that a decision is based on, wherever they are: decided a moment ago, or stored.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    admit::{self, AdmissionCode},
    nid::{EventNid, RoomNid, types},
    pdu::Pdu,
};
use myelin_storage::events::StoredEvent;
use ruma::{EventId, OwnedEventId};

use super::{RoomTools, error::RoomError, head::Head};

/// Above so many ids, the decided events are put in order before they are looked through.
const FEW: usize = 8;

/// What an event's decision is made of.
pub(crate) struct Parents {
    /// Its prev events, as far as they are known.
    pub prev: Vec<Arc<StoredEvent>>,
    /// Its auth events, and the create event where that is implied. Among them may be events of other rooms, for which
    /// the event is rejected.
    pub auth: Vec<Arc<StoredEvent>>,
}

/// The event is of this room, as far as it says itself. A room of which nothing but single events is known takes its
/// version from them.
pub(crate) fn belongs(head: &mut Head, pdu: &Pdu) -> Result<(), RoomError> {
    if head.room_id.as_deref().is_some_and(|room_id| room_id != pdu.room_id()) {
        return Err(RoomError::Invalid("the event is of another room".to_owned()));
    }
    if head.version.id != pdu.version().id {
        if head.snapshot.is_some() {
            return Err(RoomError::Invalid("the event is of another room version".to_owned()));
        }
        head.version = pdu.version();
    }
    Ok(())
}

/// The event needs no other decision: what it is and the state before it are known.
pub(crate) fn is_settled(event: &StoredEvent) -> bool {
    event.admission != AdmissionCode::Outlier && (event.snapshot.is_some() || is_create(event))
}

fn is_create(event: &StoredEvent) -> bool {
    event.type_nid == types::CREATE
}

/// The events with these ids, decided or stored, of whatever room.
pub(crate) async fn find(
    tools: &RoomTools,
    head: &Head,
    ids: &[OwnedEventId],
) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, RoomError> {
    let mut found: HashMap<OwnedEventId, Arc<StoredEvent>> = if ids.len() <= FEW {
        ids.iter().filter_map(|id| Some((id.clone(), Arc::clone(head.decided_by_id(id)?)))).collect()
    } else {
        let decided: HashMap<&EventId, &Arc<StoredEvent>> =
            head.decided.values().map(|event| (event.pdu.event_id(), event)).collect();
        ids.iter().filter_map(|id| Some((id.clone(), Arc::clone(decided.get(&**id)?)))).collect()
    };
    let missing: Vec<OwnedEventId> = ids.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
    if !missing.is_empty() {
        found.extend(tools.events.by_ids(missing).await?);
    }
    Ok(found)
}

/// The numbers of those of the events that are of this room: what is of another one is no base of anything.
pub(crate) fn nids_in(room: RoomNid, events: &[Arc<StoredEvent>]) -> Vec<EventNid> {
    events.iter().filter(|event| event.room == room).map(|event| event.nid).collect()
}

/// The event as it is known already, if it is. `is_new`: it was not stored a moment ago.
pub(crate) async fn find_itself(
    tools: &RoomTools,
    head: &Head,
    pdu: &Pdu,
    is_new: bool,
) -> Result<Option<Arc<StoredEvent>>, RoomError> {
    let id = pdu.event_id();
    let found = if is_new {
        // What was added since is decided or in memory: only this room adds it.
        head.decided_by_id(id).cloned().or_else(|| tools.events.cached_by_id(id))
    } else {
        find(tools, head, &[id.to_owned()]).await?.into_values().next()
    };
    match found {
        Some(event) if event.room != head.nid => {
            Err(RoomError::Invalid("the event is known in another room".to_owned()))
        }
        found => Ok(found),
    }
}

/// The event's parents, or the ids of those that must come first: its auth events, and where the state before it
/// follows from its prev events, those too.
pub(crate) async fn find_parents(
    tools: &RoomTools,
    head: &Head,
    pdu: &Pdu,
    follows_prev: bool,
) -> Result<Result<Parents, Vec<OwnedEventId>>, RoomError> {
    let required: Vec<OwnedEventId> = admit::required_events(pdu).collect();
    let ids: Vec<OwnedEventId> = pdu.prev_events().iter().chain(&required).cloned().collect();
    let found = find(tools, head, &ids).await?;
    let ours = |id: &OwnedEventId| found.get(id).filter(|event| event.room == head.nid);
    let mut missing: Vec<OwnedEventId> =
        required.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
    if follows_prev {
        let is_here = |id: &&OwnedEventId| ours(id).is_some_and(|event| is_settled(event));
        missing.extend(pdu.prev_events().iter().filter(|id| !is_here(id)).cloned());
    }
    if !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        return Ok(Err(missing));
    }
    let prev = pdu.prev_events().iter().filter_map(|id| ours(id).cloned()).collect();
    let auth = required.iter().filter_map(|id| found.get(id).cloned()).collect();
    Ok(Ok(Parents { prev, auth }))
}
