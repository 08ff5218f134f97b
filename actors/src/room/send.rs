//! Events of local users: built on the decided head, authorised, and added to it.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    admit::AdmissionCode,
    auth,
    nid::{EMPTY_STATE_KEY, EventNid, StateKeyNid, TypeNid, UserNid, types},
    pdu::{
        Pdu, PduError,
        build::{self, Draft},
    },
    policy::PolicyServer,
    state::StateKey,
};
use myelin_storage::{commit::Placement, events::StoredEvent};
use rand::distr::{Alphanumeric, SampleString};
use ruma::OwnedEventId;

use super::{
    RoomTools,
    admitted::Admitted,
    decision::{Decided, Decision},
    error::RoomError,
    head::{Head, Sent, StateChange},
    messages::{SendEvent, Sending, Txn, Unsigned},
    numbers::Numbers,
    redactions, refuse,
    store::{EventsBy, Names},
};

/// The numbers of the strings in a decision's events.
pub(crate) struct Strings {
    types: HashMap<String, TypeNid>,
    keys: HashMap<String, StateKeyNid>,
}

impl Strings {
    /// The state key pair, if both strings were interned for this decision or are well known.
    pub fn pair(&self, event_type: &str, state_key: &str) -> Option<StateKey> {
        let type_nid = match self.types.get(event_type) {
            Some(nid) => *nid,
            None => types::WELL_KNOWN_TYPES.iter().find(|(_, name)| *name == event_type)?.0,
        };
        let key_nid = if state_key.is_empty() { EMPTY_STATE_KEY } else { *self.keys.get(state_key)? };
        Some((type_nid, key_nid))
    }

    /// The number of an event type that was interned.
    pub fn type_nid(&self, event_type: &str) -> Option<TypeNid> {
        self.types.get(event_type).copied()
    }

    /// The number of a state key that was interned.
    pub fn key(&self, state_key: &str) -> Option<StateKeyNid> {
        if state_key.is_empty() { Some(EMPTY_STATE_KEY) } else { self.keys.get(state_key).copied() }
    }

    /// The number of a user id that was interned.
    pub fn user(&self, user_id: &str) -> Option<UserNid> {
        self.key(user_id).map(UserNid::from_state_key)
    }
}

/// Interns the strings and reserves the numbers that a decision about so many events needs.
pub(crate) async fn name(
    tools: &RoomTools,
    types: Vec<String>,
    keys: Vec<String>,
    events: usize,
    states: usize,
) -> Result<(Strings, Numbers), RoomError> {
    let names = Names { types, keys, rooms: 0, events, blocks: states, snapshots: states };
    let (types, keys) = (names.types.clone(), names.keys.clone());
    let given = tools.store.name(names).await?;
    let strings = Strings {
        types: types.into_iter().zip(given.types).collect(),
        keys: keys.into_iter().zip(given.keys).collect(),
    };
    let numbers = Numbers {
        events: given.events.into_iter(),
        blocks: given.blocks.into_iter(),
        snapshots: given.snapshots.into_iter(),
    };
    Ok((strings, numbers))
}

/// Decides about the events in this order, all or none. Where a policy server has to sign one first, none is added.
pub(crate) async fn decide(
    tools: &RoomTools,
    head: Head,
    events: Vec<SendEvent>,
) -> Result<Decided<Sending>, RoomError> {
    refuse::check(tools, &head, &events).await?;
    let mut type_names: Vec<String> = Vec::new();
    let mut key_names: Vec<String> = Vec::new();
    for event in &events {
        type_names.push(event.event_type.clone());
        key_names.push(event.sender.to_string());
        key_names.extend(event.state_key.clone());
        key_names.extend(auth_event_keys(&head, event).into_iter().map(|(_, key)| key));
    }
    key_names.sort_unstable();
    key_names.dedup();
    key_names.retain(|key| !key.is_empty());
    type_names.sort_unstable();
    type_names.dedup();
    let (strings, numbers) = name(tools, type_names, key_names, events.len(), events.len()).await?;

    let single = events.len() == 1;
    let policy_server = head.policy_server();
    let txns: Vec<Option<Txn>> = events.iter().map(|event| event.txn.clone()).collect();
    let mut decision = Decision::on(head, numbers, tools.clock.now_ms());
    let mut ids = Vec::with_capacity(events.len());
    for event in events {
        let sender = strings.user(event.sender.as_str()).ok_or(RoomError::Lost)?;
        if let Some(txn) = &event.txn
            && let Some(sent) = decision.head.transactions.get(&(sender, txn.clone()))
        {
            ids.push(sent.id.clone());
            continue;
        }
        let step = decide_one(tools, &mut decision, &strings, sender, event, single).await?;
        ids.push(step);
    }
    if let Some(server) = policy_server
        && decision.new_events().any(PolicyServer::checks)
    {
        return Ok(Decided::nothing(Sending::Unsigned(server, unsigned(&decision, ids, txns))));
    }
    let decision = decision.has_events().then_some(decision);
    Ok(Decided { answer: Sending::Sent(ids), decision })
}

/// The events that were decided, as a policy server is to see them.
fn unsigned(decision: &Decision, ids: Vec<OwnedEventId>, txns: Vec<Option<Txn>>) -> Vec<Unsigned> {
    let of = |(id, txn): (OwnedEventId, Option<Txn>)| {
        let new = decision.new_events().find(|pdu| pdu.event_id() == id).cloned();
        new.map_or(Unsigned::Known(id), |pdu| Unsigned::New(Box::new(pdu), txn))
    };
    ids.into_iter().zip(txns).map(of).collect()
}

fn auth_event_keys(head: &Head, event: &SendEvent) -> Vec<(String, String)> {
    auth::auth_keys(
        head.version,
        &event.sender,
        &event.event_type,
        event.state_key.as_deref(),
        &event.content,
    )
}

/// Builds, authorises and adds one event; its id. A state event that changes nothing is not sent again.
async fn decide_one(
    tools: &RoomTools,
    decision: &mut Decision,
    strings: &Strings,
    sender: UserNid,
    event: SendEvent,
    may_repeat: bool,
) -> Result<OwnedEventId, RoomError> {
    has_state_for(&decision.head, &event)?;
    let keys = auth_event_keys(&decision.head, &event);
    let state_pair = event.state_key.as_deref().and_then(|key| strings.pair(&event.event_type, key));
    let auth = load_state(tools, &decision.head, strings, &keys).await?;
    let replaced = match state_pair.and_then(|pair| decision.head.state.get(&pair).copied()) {
        Some(nid) => load_event(tools, &decision.head, nid).await?,
        None => None,
    };
    if may_repeat && let Some(current) = replaced.as_ref().filter(|current| repeats(current, &event)) {
        return Ok(current.pdu.event_id().to_owned());
    }
    let redacted = match &event.redacts {
        Some(target) => find_target(tools, &decision.head, target).await?,
        None => None,
    };
    let pdu = build_event(tools, &decision.head, draft(tools, &decision.head, &event, &keys, &auth))?;
    auth::check_content(&pdu).map_err(|error| RoomError::Invalid(error.to_string()))?;
    authorize(&decision.head, &pdu, &auth)?;
    if let Some(target) = &redacted {
        may_redact(&decision.head, &pdu, &target.pdu)?;
    }
    let nid = decision.numbers.events.next().expect("an event NID was reserved for each event");
    let type_nid = strings.type_nid(&event.event_type).ok_or(RoomError::Lost)?;
    if decision.head.room_id.is_none() {
        decision.head.room_id = Some(pdu.room_id().to_owned());
    }
    let id = pdu.event_id().to_owned();
    if let Some(txn) = &event.txn {
        let sent = Sent { id: id.clone(), created_ms: decision.now_ms };
        decision.head.transactions.insert((sender, txn.clone()), sent);
    }
    let is_held_back = redacted.is_none() && event.redacts.is_some() && !redactions::is_shown_alone(&pdu);
    let admitted = Admitted {
        nid,
        type_nid,
        state_key: event.state_key.as_deref().and_then(|key| strings.key(key)),
        sender,
        admission: AdmissionCode::Accepted,
        reason: None,
        snapshot: decision.head.snapshot,
        prev_nids: decision.head.extremities.iter().map(|extremity| extremity.nid).collect(),
        auth_nids: keys.iter().filter_map(|key| auth.get(key)).map(|event| event.nid).collect(),
        replaces: replaced,
        placement: if is_held_back { Placement::Outside } else { Placement::Live },
        stored: None,
        txn: event.txn.map(|txn| (sender, txn.device_id, txn.scope, txn.txn_id)),
        relay: true,
        pdu: pdu.clone(),
    };
    let stored = decision.add_event(admitted);
    decision.extend(nid, &pdu);
    if let Some(key) = state_pair {
        decision.change_state(&[StateChange::to(key, nid, &pdu, &tools.signer.server_name)]);
    }
    match (redacted, event.redacts) {
        (Some(target), _) => decision.redact(&target, Some(&stored))?,
        (None, Some(unknown)) => decision.wait_for(unknown, nid),
        (None, None) => {}
    }
    Ok(id)
}

fn repeats(current: &StoredEvent, event: &SendEvent) -> bool {
    current.pdu.sender() == event.sender
        && current.redacted_by.is_none()
        && serde_json::to_string(&event.content).is_ok_and(|content| content == current.pdu.content().get())
}

/// Without a state, nothing can be added but the event that begins one.
pub(crate) fn has_state_for(head: &Head, event: &SendEvent) -> Result<(), RoomError> {
    if head.extremities.is_empty() && event.event_type != "m.room.create" {
        return Err(RoomError::Forbidden("this server is not in the room".to_owned()));
    }
    Ok(())
}

/// An event built on a head.
pub(crate) struct Built {
    pub pdu: Pdu,
    pub draft: Draft,
    pub auth: AuthState,
}

/// The state that an event is based on, by type and state key.
type AuthState = HashMap<(String, String), Arc<StoredEvent>>;

/// Builds the event on the head. Whether it is allowed there is another question.
pub(crate) async fn build_on(tools: &RoomTools, head: &Head, event: &SendEvent) -> Result<Built, RoomError> {
    has_state_for(head, event)?;
    let keys = auth_event_keys(head, event);
    let names: Vec<String> = keys.iter().map(|(_, key)| key).filter(|key| !key.is_empty()).cloned().collect();
    let (strings, _) = name(tools, Vec::new(), names, 0, 0).await?;
    let auth = load_state(tools, head, &strings, &keys).await?;
    let draft = draft(tools, head, event, &keys, &auth);
    Ok(Built { pdu: build_event(tools, head, draft.clone())?, draft, auth })
}

fn draft(
    tools: &RoomTools,
    head: &Head,
    event: &SendEvent,
    keys: &[(String, String)],
    auth: &AuthState,
) -> Draft {
    Draft {
        room_id: head.room_id.clone(),
        sender: event.sender.clone(),
        event_type: event.event_type.clone(),
        state_key: event.state_key.clone(),
        content: event.content.clone(),
        redacts: event.redacts.clone(),
        prev_events: head.extremities.iter().map(|extremity| extremity.id.clone()).collect(),
        auth_events: keys
            .iter()
            .filter_map(|key| auth.get(key))
            .map(|event| event.pdu.event_id().to_owned())
            .collect(),
        depth: head.depth.saturating_add(1),
        origin_server_ts: event.origin_server_ts.unwrap_or_else(|| tools.clock.now()),
        event_id_local_part: Some(local_part()),
    }
}

/// What makes an event's id its own in the room versions that do not compute it.
pub(crate) fn local_part() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 18)
}

/// The event that the draft makes, hashed and signed.
pub(crate) fn build_event(tools: &RoomTools, head: &Head, draft: Draft) -> Result<Pdu, RoomError> {
    build::build(head.version, draft, &tools.signer).map_err(unbuildable)
}

pub(crate) fn unbuildable(error: PduError) -> RoomError {
    match error {
        PduError::TooLarge { .. } => RoomError::TooLarge(error.to_string()),
        error => RoomError::Invalid(error.to_string()),
    }
}

/// The state allows the event.
pub(crate) fn authorize(head: &Head, pdu: &Pdu, auth: &AuthState) -> Result<(), RoomError> {
    let create = head.essentials.get(&types::CREATE).map_or(pdu, |create| &create.pdu);
    auth::authorize(pdu, create, |event_type, state_key| {
        if event_type == "m.room.create" {
            return head.essentials.get(&types::CREATE).map(|create| create.pdu.clone());
        }
        auth.get(&(event_type.to_owned(), state_key.to_owned())).map(|event| event.pdu.clone())
    })
    .map_err(|error| RoomError::Forbidden(error.to_string()))
}

/// The state events under these keys, as the decided head has them.
pub(crate) async fn load_state(
    tools: &RoomTools,
    head: &Head,
    strings: &Strings,
    keys: &[(String, String)],
) -> Result<AuthState, RoomError> {
    let mut found = HashMap::with_capacity(keys.len());
    let mut missing: HashMap<EventNid, (String, String)> = HashMap::new();
    for key in keys {
        let Some(nid) = strings.pair(&key.0, &key.1).and_then(|pair| head.state.get(&pair).copied()) else {
            continue;
        };
        match head.decided.get(&nid).cloned().or_else(|| tools.events.cached(nid)) {
            Some(event) => drop(found.insert(key.clone(), event)),
            None => drop(missing.insert(nid, key.clone())),
        }
    }
    if !missing.is_empty() {
        let nids: Vec<EventNid> = missing.keys().copied().collect();
        for event in tools.events.load(&nids).await? {
            if let Some(key) = missing.remove(&event.nid) {
                found.insert(key, event);
            }
        }
    }
    Ok(found)
}

/// The event, decided or committed.
pub(crate) async fn load_event(
    tools: &RoomTools,
    head: &Head,
    nid: EventNid,
) -> Result<Option<Arc<StoredEvent>>, RoomError> {
    if let Some(event) = head.decided.get(&nid) {
        return Ok(Some(Arc::clone(event)));
    }
    Ok(tools.events.load(&[nid]).await?.pop())
}

/// The event to be redacted. `None`: not known here; the redaction is kept for when it comes.
async fn find_target(
    tools: &RoomTools,
    head: &Head,
    target: &OwnedEventId,
) -> Result<Option<Arc<StoredEvent>>, RoomError> {
    if let Some(event) = head.decided_by_id(target) {
        return Ok(Some(Arc::clone(event)));
    }
    let found = tools.store.load_events(EventsBy::Ids(std::slice::from_ref(target))).await?.pop();
    match found {
        Some(event) if event.room != head.nid => {
            Err(RoomError::Invalid("the event to be redacted is in another room".to_owned()))
        }
        found => Ok(found.map(Arc::new)),
    }
}

/// Redacting what somebody else has sent needs the room's redact level.
fn may_redact(head: &Head, redaction: &Pdu, target: &Pdu) -> Result<(), RoomError> {
    let may = head.power_levels().is_some_and(|levels| levels.has(redaction.sender(), levels.redact()));
    if may || redaction.sender() == target.sender() {
        Ok(())
    } else {
        Err(RoomError::Forbidden("you may not redact the events of others here".to_owned()))
    }
}
