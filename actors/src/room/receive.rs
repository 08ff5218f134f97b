//! Events of other servers: decided on the state before them, wherever in the room's graph they stand.
//!
//! What comes in here was checked for its format, hashes and signatures. An event whose parents are unknown is not
//! decided: the answer names them, and whoever brought the event fetches them outside and comes again.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    admit::{self, Admission, AdmissionCode},
    auth::{self, AuthEvent},
    nid::EventNid,
    pdu::Pdu,
    state::StateMap,
};
use myelin_storage::events::StoredEvent;
use ruma::{EventId, OwnedEventId, UserId};

use super::{
    RoomTools,
    decision::{Admitted, Decision},
    error::RoomError,
    head::{Head, StateChange},
    messages::Received,
    send::{self, Strings},
    state_of::{self, StoredState},
    store::EventsBy,
};

/// The answer, and the decision unless nothing is to be written.
pub(crate) struct Receipt {
    pub received: Received,
    pub decision: Option<Decision>,
}

impl Receipt {
    fn nothing(received: Received) -> Self {
        Self { received, decision: None }
    }
}

/// What an event's decision is made of.
struct Parents {
    prev: Vec<Arc<StoredEvent>>,
    auth: Vec<Arc<StoredEvent>>,
}

/// What was decided about an event.
struct Verdict {
    admission: AdmissionCode,
    reason: Option<String>,
    relay: bool,
}

/// Decides about the event on top of this head.
pub(crate) async fn decide(
    tools: &RoomTools,
    head: Head,
    pdu: Pdu,
    relay: bool,
) -> Result<Receipt, RoomError> {
    let known = find(tools, &head, std::slice::from_ref(&pdu.event_id().to_owned())).await?;
    if let Some(event) = known.values().next()
        && event.admission != AdmissionCode::Outlier
    {
        return Ok(Receipt::nothing(Received::Known));
    }
    let parents = match find_parents(tools, &head, &pdu).await? {
        Ok(parents) => parents,
        Err(missing) => return Ok(Receipt::nothing(Received::Missing(missing))),
    };
    let keys = vec![pdu.sender().to_string()]
        .into_iter()
        .chain(pdu.state_key().filter(|key| !key.is_empty()).map(str::to_owned))
        .chain(auth::auth_keys_of(&pdu).into_iter().map(|(_, key)| key).filter(|key| !key.is_empty()))
        .collect();
    let (strings, numbers) = send::name(tools, vec![pdu.event_type().to_owned()], keys, 1, STATES).await?;
    let mut decision = Decision::on(head, numbers, tools.clock.now_ms());
    let before = state_before(tools, &decision.head, &parents.prev).await?;
    let admission = admit(tools, &decision.head, &strings, &pdu, &parents, &before).await?;
    let (code, reason, received) = match admission {
        Admission::Accept => (AdmissionCode::Accepted, None, Received::Accepted),
        Admission::SoftFail(why) => (AdmissionCode::SoftFailed, Some(why.clone()), Received::SoftFailed(why)),
        Admission::Reject(why) => (AdmissionCode::Rejected, Some(why.clone()), Received::Rejected(why)),
        Admission::Missing(missing) => return Ok(Receipt::nothing(Received::Missing(missing))),
    };
    add(tools, &mut decision, &strings, pdu, &parents, before, Verdict { admission: code, reason, relay })
        .await?;
    Ok(Receipt { received, decision: Some(decision) })
}

/// States that a decision may have to store: before the event, and the current one.
const STATES: usize = 4;

/// The events with these ids, decided or stored.
async fn find(
    tools: &RoomTools,
    head: &Head,
    ids: &[OwnedEventId],
) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, RoomError> {
    let mut found: HashMap<OwnedEventId, Arc<StoredEvent>> =
        ids.iter().filter_map(|id| Some((id.clone(), Arc::clone(head.decided_by_id(id)?)))).collect();
    let missing: Vec<OwnedEventId> = ids.iter().filter(|id| !found.contains_key(*id)).cloned().collect();
    if !missing.is_empty() {
        for event in tools.store.load_events(EventsBy::Ids(&missing)).await? {
            found.insert(event.pdu.event_id().to_owned(), Arc::new(event));
        }
    }
    Ok(found)
}

/// The event's parents, or the ids of those that must come first.
async fn find_parents(
    tools: &RoomTools,
    head: &Head,
    pdu: &Pdu,
) -> Result<Result<Parents, Vec<OwnedEventId>>, RoomError> {
    let required: Vec<OwnedEventId> = admit::required_events(pdu).collect();
    let ids: Vec<OwnedEventId> = pdu.prev_events().iter().chain(&required).cloned().collect();
    let found = find(tools, head, &ids).await?;
    let is_here = |id: &OwnedEventId, outliers: bool| {
        found.get(id).is_some_and(|event| {
            event.room == head.nid && (outliers || event.admission != AdmissionCode::Outlier)
        })
    };
    let mut missing: Vec<OwnedEventId> =
        pdu.prev_events().iter().filter(|id| !is_here(id, false)).cloned().collect();
    missing.extend(required.iter().filter(|id| !is_here(id, true)).cloned());
    if !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        return Ok(Err(missing));
    }
    let take = |ids: &[OwnedEventId]| ids.iter().filter_map(|id| found.get(id).cloned()).collect();
    Ok(Ok(Parents { prev: take(pdu.prev_events()), auth: take(&required) }))
}

/// The state before an event with these parents.
async fn state_before(
    tools: &RoomTools,
    head: &Head,
    prev: &[Arc<StoredEvent>],
) -> Result<StateMap, RoomError> {
    let is_head = prev.len() == head.extremities.len()
        && head.extremities.iter().all(|extremity| prev.iter().any(|event| event.nid == extremity.nid));
    if is_head {
        return Ok(head.state.clone());
    }
    let prev: Vec<&StoredEvent> = prev.iter().map(AsRef::as_ref).collect();
    let states = state_of::states_after(tools, head, &prev).await?;
    state_of::resolve(tools, head, head.version, states).await
}

async fn admit(
    tools: &RoomTools,
    head: &Head,
    strings: &Strings,
    pdu: &Pdu,
    parents: &Parents,
    before: &StateMap,
) -> Result<Admission, RoomError> {
    let keys = auth::auth_keys_of(pdu);
    let on_before = Head { state: before.clone(), ..head.clone() };
    let state_before = send::load_state(tools, &on_before, strings, &keys).await?;
    let current = send::load_state(tools, head, strings, &keys).await?;
    let auth_event = |id: &EventId| {
        let event = parents.auth.iter().find(|event| event.pdu.event_id() == id)?;
        let rejected = event.admission == AdmissionCode::Rejected;
        Some(AuthEvent { pdu: event.pdu.clone(), rejected })
    };
    let look = |state: &HashMap<(String, String), Arc<StoredEvent>>, event_type: &str, key: &str| {
        state.get(&(event_type.to_owned(), key.to_owned())).map(|event| event.pdu.clone())
    };
    Ok(admit::admit_remote(
        pdu,
        auth_event,
        |event_type, key| look(&state_before, event_type, key),
        |event_type, key| look(&current, event_type, key),
    ))
}

async fn add(
    tools: &RoomTools,
    decision: &mut Decision,
    strings: &Strings,
    pdu: Pdu,
    parents: &Parents,
    before: StateMap,
    Verdict { admission, reason, relay }: Verdict,
) -> Result<(), RoomError> {
    let nid = decision.numbers.events.next().expect("an event NID was reserved");
    let type_nid = strings.type_nid(pdu.event_type()).ok_or(RoomError::Lost)?;
    let state_key = pdu.state_key().and_then(|key| strings.key(key));
    let pair = state_key.map(|key| (type_nid, key));
    let replaces = match pair.and_then(|pair| before.get(&pair).copied()) {
        Some(replaced) => send::load_event(tools, &decision.head, replaced).await?,
        None => None,
    };
    let stored = state_of::store_state(tools, &decision.head, &mut decision.numbers, &before).await?;
    decision.store_state(nid, &stored);
    let target = match pdu.redacts().map(ToOwned::to_owned) {
        Some(target) if admission == AdmissionCode::Accepted => {
            find(tools, &decision.head, std::slice::from_ref(&target)).await?.remove(&target)
        }
        _ => None,
    };
    let event = decision.add_event(Admitted {
        nid,
        pdu: pdu.clone(),
        type_nid,
        state_key,
        sender: strings.user(pdu.sender().as_str()).ok_or(RoomError::Lost)?,
        admission,
        reason,
        snapshot: Some(stored.snapshot),
        prev_nids: parents.prev.iter().map(|event| event.nid).collect(),
        auth_nids: parents.auth.iter().map(|event| event.nid).collect(),
        replaces,
        txn: None,
        relay,
    });
    if decision.head.room_id.is_none() {
        decision.head.room_id = Some(pdu.room_id().to_owned());
    }
    if admission != AdmissionCode::Accepted {
        return Ok(());
    }
    decision.extend(nid, &pdu);
    advance_state(tools, decision, &event, before, stored).await?;
    if let Some(target) = target
        && target.room == decision.head.nid
        && let Some(levels) = decision.head.power_levels()
        && auth::redaction_applies(&pdu, &target.pdu, &levels)
    {
        decision.redact(&target, &event)?;
    }
    Ok(())
}

/// Brings the current state up to the new set of forward extremities.
async fn advance_state(
    tools: &RoomTools,
    decision: &mut Decision,
    event: &Arc<StoredEvent>,
    before: StateMap,
    stored: StoredState,
) -> Result<(), RoomError> {
    let alone = decision.head.extremities.len() == 1;
    let next = if alone {
        after(event, &before)
    } else {
        let nids: Vec<OwnedEventId> =
            decision.head.extremities.iter().map(|extremity| extremity.id.clone()).collect();
        let found = find(tools, &decision.head, &nids).await?;
        let ends: Vec<&StoredEvent> = found.values().map(AsRef::as_ref).collect();
        let mut head = decision.head.clone();
        // The state before the event itself is on its way to storage as well.
        head.snapshot = Some(stored.snapshot);
        head.layers = stored.layers.clone();
        let states = state_of::states_after(tools, &head, &ends).await?;
        state_of::resolve(tools, &decision.head, decision.head.version, states).await?
    };
    if next == decision.head.state {
        return Ok(());
    }
    let changes = changes(tools, &decision.head, &next).await?;
    let stored = state_of::store_state(tools, &decision.head, &mut decision.numbers, &next).await?;
    decision.set_state(event.nid, stored, &changes);
    decision.head.state = next;
    Ok(())
}

fn after(event: &StoredEvent, before: &StateMap) -> StateMap {
    let mut state = before.clone();
    if let Some(key) = event.state_key {
        state.insert((event.type_nid, key), event.nid);
    }
    state
}

/// What makes the head's state into the next one.
async fn changes(tools: &RoomTools, head: &Head, next: &StateMap) -> Result<Vec<StateChange>, RoomError> {
    let changed: Vec<_> = next
        .iter()
        .filter(|(key, nid)| head.state.get(*key) != Some(*nid))
        .map(|(key, nid)| (*key, *nid))
        .collect();
    let nids: Vec<EventNid> =
        changed.iter().map(|(_, nid)| *nid).filter(|nid| !head.decided.contains_key(nid)).collect();
    let loaded: HashMap<EventNid, Arc<StoredEvent>> =
        tools.events.load(&nids).await?.into_iter().map(|event| (event.nid, event)).collect();
    Ok(changed
        .into_iter()
        .filter_map(|(key, nid)| {
            let event = head.decided.get(&nid).or_else(|| loaded.get(&nid))?;
            let is_local = event
                .pdu
                .state_key()
                .and_then(|key| <&UserId>::try_from(key).ok())
                .is_some_and(|user| user.server_name() == tools.signer.server_name);
            Some(StateChange { key, event: nid, pdu: event.pdu.clone(), is_local })
        })
        .collect())
}
