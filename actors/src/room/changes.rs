//! From one current state to the next: which places change, and what readers must know of the events there.
//!
//! A join over federation changes tens of thousands of places at once, so events are read a portion at a time, and
//! nothing is kept of them that is not needed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use imbl::ordmap::DiffItem;
use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EventNid, types},
    state::{StateKey, StateMap},
};
use myelin_storage::events::StoredEvent;
use ruma::OwnedEventId;

use super::{
    RoomTools,
    error::RoomError,
    head::{Head, StateChange},
    lookup,
    store::EventsBy,
};

/// So many events are read at a time.
const PORTION: usize = 2_000;

/// A state that was handed in as a list of events.
#[derive(Default)]
pub(crate) struct Handed {
    /// The state. Events that were rejected here are not in it.
    pub state: StateMap,
    /// Its events as changes, so that they need not be read again.
    pub changes: HashMap<EventNid, StateChange>,
}

/// The state that these events make up, or those of them that are not known.
pub(crate) async fn load_handed(
    tools: &RoomTools,
    head: &Head,
    ids: &[OwnedEventId],
) -> Result<Result<Handed, Vec<OwnedEventId>>, RoomError> {
    let mut handed = Handed::default();
    let mut missing = Vec::new();
    for portion in ids.chunks(PORTION) {
        let found = lookup::find(tools, head, portion).await?;
        for id in portion {
            let Some(event) = found.get(id).filter(|event| event.room == head.nid) else {
                missing.push(id.clone());
                continue;
            };
            let Some(state_key) = event.state_key else {
                return Err(RoomError::Invalid(format!("{id} is no state event")));
            };
            if event.admission == AdmissionCode::Rejected {
                continue;
            }
            let key = (event.type_nid, state_key);
            handed.state.insert(key, event.nid);
            let change = StateChange::to(key, event.nid, &event.pdu, &tools.signer.server_name);
            handed.changes.insert(event.nid, change);
        }
    }
    if !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        return Ok(Err(missing));
    }
    Ok(Ok(handed))
}

/// What is in a place, or was.
#[derive(Clone, Copy)]
struct Now {
    event: EventNid,
    is_gone: bool,
}

/// What makes the head's state into the next one. `known`: changes that need not be read.
pub(crate) async fn changes(
    tools: &RoomTools,
    head: &Head,
    next: &StateMap,
    known: HashMap<EventNid, StateChange>,
) -> Result<Vec<StateChange>, RoomError> {
    load(tools, head, differences(head, next), known).await
}

/// The same when the state before says nothing about who is a member: what users of this server were told while it
/// was not in the room counts as well.
pub(crate) async fn changes_on_entry(
    tools: &RoomTools,
    head: &Head,
    next: &StateMap,
    known: HashMap<EventNid, StateChange>,
) -> Result<Vec<StateChange>, RoomError> {
    let mut places = differences(head, next);
    for (user, member) in &head.members {
        let key: StateKey = (types::MEMBER, (*user).into());
        match next.get(&key) {
            Some(event) if *event != member.event => {
                places.insert(key, Now { event: *event, is_gone: false });
            }
            None if member.membership != Membership::Leave => {
                places.insert(key, Now { event: member.event, is_gone: true });
            }
            _ => {}
        }
    }
    load(tools, head, places, known).await
}

fn differences(head: &Head, next: &StateMap) -> BTreeMap<StateKey, Now> {
    head.state
        .diff(next)
        .map(|difference| match difference {
            DiffItem::Add(key, event) | DiffItem::Update { new: (key, event), .. } => {
                (*key, Now { event: *event, is_gone: false })
            }
            DiffItem::Remove(key, event) => (*key, Now { event: *event, is_gone: true }),
        })
        .collect()
}

async fn load(
    tools: &RoomTools,
    head: &Head,
    places: BTreeMap<StateKey, Now>,
    mut known: HashMap<EventNid, StateChange>,
) -> Result<Vec<StateChange>, RoomError> {
    let mut changes = Vec::with_capacity(places.len());
    let mut unknown: Vec<(StateKey, Now)> = Vec::new();
    let ours = &tools.signer.server_name;
    let make = |key: StateKey, now: Now, event: &StoredEvent| {
        let make = if now.is_gone { StateChange::gone } else { StateChange::to };
        make(key, now.event, &event.pdu, ours)
    };
    for (key, now) in places {
        let at_hand: Option<Arc<StoredEvent>> =
            head.decided.get(&now.event).cloned().or_else(|| tools.events.cached(now.event));
        match (known.remove(&now.event), at_hand) {
            (Some(change), _) if !now.is_gone => changes.push(change),
            (_, Some(event)) => changes.push(make(key, now, &event)),
            _ => unknown.push((key, now)),
        }
    }
    for portion in unknown.chunks(PORTION) {
        let nids: Vec<EventNid> = portion.iter().map(|(_, now)| now.event).collect();
        let loaded = tools.store.load_events(EventsBy::Nids(&nids)).await?;
        let loaded: HashMap<EventNid, StoredEvent> =
            loaded.into_iter().map(|event| (event.nid, event)).collect();
        changes
            .extend(portion.iter().filter_map(|(key, now)| Some(make(*key, *now, loaded.get(&now.event)?))));
    }
    Ok(changes)
}
