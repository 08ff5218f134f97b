//! Events of other servers: decided on the state before them, wherever in the room's graph they stand.
//!
//! What comes in here was checked for its format, hashes and signatures. An event whose parents are unknown is not
//! decided: the answer names them, and whoever brought the event fetches them outside and comes again, or brings the
//! state before it as another server tells it.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    admit::{Admission, AdmissionCode},
    membership::Membership,
    nid::EventNid,
    pdu::Pdu,
    policy::PolicyServer,
    state::StateMap,
};
use myelin_storage::{commit::Placement, events::StoredEvent};
use ruma::{OwnedEventId, UserId};

use super::{
    RoomTools,
    admitted::Admitted,
    changes::{self, Handed},
    decision::{Decided, Decision},
    error::RoomError,
    head::{Head, Sent, StateChange},
    judge::{self, Case},
    lookup::{self, Parents},
    messages::{AddSigned, Opinion, ReceiveAt, ReceivePdu, Received, Told, Txn},
    redactions::Involved,
    send::{self, Strings},
    state_of::{self, After},
};

/// States that a decision may have to store: before the event, and the current one.
const STATES: usize = 4;

/// An event to be decided about.
struct Incoming {
    pdu: Pdu,
    /// As it is stored, if it is: outside the room's graph.
    stored: Option<Arc<StoredEvent>>,
    parents: Parents,
    before: StateMap,
    entry: Entry,
    /// If it is accepted, this server tells the other servers in the room of it.
    relay: bool,
    /// The transaction of a client of this server that made it.
    txn: Option<Txn>,
    opinion: Opinion,
}

/// What becomes of the room's head.
enum Entry {
    /// The event adds to it.
    Adds,
    /// This server comes into the room by it: what it knew is old, and the head is this event alone. The changes of the
    /// state that was handed in come along.
    Replaces(HashMap<EventNid, StateChange>),
}

/// Decides about the event on top of this head.
pub(crate) async fn decide(
    tools: &RoomTools,
    head: Head,
    received: ReceivePdu,
) -> Result<Decided<Received>, RoomError> {
    decide_from(tools, head, received, None).await
}

/// Decides about an event of this server that is complete now. It is added, or nothing is.
pub(crate) async fn decide_signed(
    tools: &RoomTools,
    head: Head,
    AddSigned { pdu, txn }: AddSigned,
) -> Result<Decided<OwnedEventId>, RoomError> {
    if let Some(txn) = &txn
        && let (strings, _) = send::name(tools, Vec::new(), vec![pdu.sender().to_string()], 0, 0).await?
        && let Some(sender) = strings.user(pdu.sender().as_str())
        && let Some(sent) = head.transactions.get(&(sender, txn.clone()))
    {
        return Ok(Decided::nothing(sent.id.clone()));
    }
    let id = pdu.event_id().to_owned();
    let complete = ReceivePdu { pdu, relay: true, opinion: Opinion::Unasked, is_new: false };
    let Decided { answer, decision } = decide_from(tools, head, complete, txn).await?;
    match answer {
        Received::Accepted | Received::Known => Ok(Decided { answer: id, decision }),
        Received::SoftFailed(why) | Received::Rejected(why) => Err(RoomError::Forbidden(why)),
        // The room has changed meanwhile: another policy server, or another key.
        Received::Missing(_) | Received::Unsigned(_) => Err(RoomError::Lost),
    }
}

async fn decide_from(
    tools: &RoomTools,
    mut head: Head,
    ReceivePdu { pdu, relay, opinion, is_new }: ReceivePdu,
    txn: Option<Txn>,
) -> Result<Decided<Received>, RoomError> {
    lookup::belongs(&mut head, &pdu)?;
    let stored = lookup::find_itself(tools, &head, &pdu, is_new).await?;
    if stored.as_deref().is_some_and(lookup::is_settled) {
        return Ok(Decided::nothing(Received::Known));
    }
    let parents = match lookup::find_parents(tools, &head, &pdu, true).await? {
        Ok(parents) => parents,
        Err(missing) => return Ok(Decided::nothing(Received::Missing(missing))),
    };
    let before = state_before(tools, &head, &parents.prev).await?;
    let entry = Entry::Adds;
    decide_on(tools, head, Incoming { pdu, stored, parents, before, entry, relay, txn, opinion }).await
}

/// Decides about the event on the state that was told, resolved with what is known of it.
pub(crate) async fn decide_at(
    tools: &RoomTools,
    mut head: Head,
    ReceiveAt { pdu, told, opinion }: ReceiveAt,
) -> Result<Decided<Received>, RoomError> {
    lookup::belongs(&mut head, &pdu)?;
    let stored = lookup::find_itself(tools, &head, &pdu, false).await?;
    if stored.as_deref().is_some_and(lookup::is_settled) {
        return Ok(Decided::nothing(Received::Known));
    }
    let parents = match lookup::find_parents(tools, &head, &pdu, false).await? {
        Ok(parents) => parents,
        Err(missing) => return Ok(Decided::nothing(Received::Missing(missing))),
    };
    let mut handed = Vec::new();
    for state in told.states() {
        match changes::load_handed(tools, &head, state).await? {
            Ok(state) => handed.push(state),
            Err(missing) => return Ok(Decided::nothing(Received::Missing(missing))),
        }
    }
    let (before, entry) = match told {
        Told::AfterParents(_) => (told_before(tools, &head, &parents.prev, handed).await?, Entry::Adds),
        Told::Before(_) => {
            let Handed { state, changes } = handed.pop().unwrap_or_default();
            (state, if enters(tools, &head, &pdu) { Entry::Replaces(changes) } else { Entry::Adds })
        }
    };
    let incoming = Incoming { pdu, stored, parents, before, entry, relay: false, txn: None, opinion };
    decide_on(tools, head, incoming).await
}

/// By this event, this server comes into the room: for the first time, or after all of its users were gone.
fn enters(tools: &RoomTools, head: &Head, pdu: &Pdu) -> bool {
    let ours = &tools.signer.server_name;
    let joins_ours = || {
        let user = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
        Membership::of_event(pdu) == Some(Membership::Join)
            && user.is_some_and(|user| user.server_name() == ours)
    };
    head.snapshot.is_none() || (!head.has_joined(ours) && joins_ours())
}

async fn decide_on(
    tools: &RoomTools,
    head: Head,
    incoming: Incoming,
) -> Result<Decided<Received>, RoomError> {
    let pdu = &incoming.pdu;
    let (types, keys) = judge::names([pdu]);
    let (strings, numbers) = send::name(tools, types, keys, 1, STATES).await?;
    let case = Case {
        pdu,
        auth: &incoming.parents.auth,
        before: &incoming.before,
        is_news: matches!(incoming.entry, Entry::Adds),
    };
    let mut admission = judge::judge(tools, &head, &strings, &case).await?;
    if admission == Admission::Accept
        && case.is_news
        && let Some(server) = unsigned_by(&head, pdu).await?
    {
        match &incoming.opinion {
            Opinion::Unasked => return Ok(Decided::nothing(Received::Unsigned(server))),
            Opinion::Refused(why) => admission = Admission::SoftFail(why.clone()),
        }
    }
    if admission == Admission::Accept && redacts_elsewhere(tools, &head, pdu).await? {
        admission = Admission::SoftFail("it redacts an event of another room".to_owned());
    }
    let (code, reason, received) = match admission {
        Admission::Accept => (AdmissionCode::Accepted, None, Received::Accepted),
        Admission::SoftFail(why) => (AdmissionCode::SoftFailed, Some(why.clone()), Received::SoftFailed(why)),
        Admission::Reject(why) => (AdmissionCode::Rejected, Some(why.clone()), Received::Rejected(why)),
        Admission::Missing(missing) => return Ok(Decided::nothing(Received::Missing(missing))),
    };
    let mut decision = Decision::on(head, numbers, tools.clock.now_ms());
    add(tools, &mut decision, &strings, incoming, (code, reason)).await?;
    Ok(Decided { answer: received, decision: Some(decision) })
}

/// The event redacts one that is known, in another room.
async fn redacts_elsewhere(tools: &RoomTools, head: &Head, pdu: &Pdu) -> Result<bool, RoomError> {
    let Some(target) = pdu.redacts() else { return Ok(false) };
    let found = lookup::find(tools, head, &[target.to_owned()]).await?;
    Ok(found.get(target).is_some_and(|target| target.room != head.nid))
}

/// The room's policy server, if it should have signed the event and did not.
async fn unsigned_by(head: &Head, pdu: &Pdu) -> Result<Option<PolicyServer>, RoomError> {
    let Some(server) = head.policy_server().filter(|_| PolicyServer::checks(pdu)) else { return Ok(None) };
    let pdu = pdu.clone();
    let check = tokio::task::spawn_blocking(move || (!server.has_signed(&pdu)).then_some(server));
    check.await.map_err(|_panicked| RoomError::Lost)
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

/// The state before an event with these parents, and with others that are not here, the states after which were told.
async fn told_before(
    tools: &RoomTools,
    head: &Head,
    prev: &[Arc<StoredEvent>],
    told: Vec<Handed>,
) -> Result<StateMap, RoomError> {
    let here: Vec<&StoredEvent> =
        prev.iter().map(AsRef::as_ref).filter(|event| lookup::is_settled(event)).collect();
    let mut states = state_of::states_after(tools, head, &here).await?;
    states.extend(told.into_iter().map(|handed| After::told(handed.state)));
    state_of::resolve(tools, head, head.version, states).await
}

async fn add(
    tools: &RoomTools,
    decision: &mut Decision,
    strings: &Strings,
    incoming: Incoming,
    (admission, reason): (AdmissionCode, Option<String>),
) -> Result<(), RoomError> {
    let Incoming { pdu, stored: known, parents, before, entry, relay, txn, .. } = incoming;
    let nid = match &known {
        Some(known) => known.nid,
        None => decision.numbers.events.next().expect("an event NID was reserved"),
    };
    let type_nid = strings.type_nid(pdu.event_type()).ok_or(RoomError::Lost)?;
    let state_key = pdu.state_key().and_then(|key| strings.key(key));
    let pair = state_key.map(|key| (type_nid, key));
    let replaces = match pair.and_then(|pair| before.get(&pair).copied()) {
        Some(replaced) => send::load_event(tools, &decision.head, replaced).await?,
        None => None,
    };
    let stored = state_of::store_state(tools, &decision.head, &mut decision.numbers, &before).await?;
    decision.store_state(&stored);
    let accepted = admission == AdmissionCode::Accepted;
    let involved =
        if accepted { Some(Involved::load(tools, &decision.head, &[(&pdu, &before)]).await?) } else { None };
    if decision.head.room_id.is_none() {
        decision.head.room_id = Some(pdu.room_id().to_owned());
    }
    let is_shown = involved.as_ref().is_some_and(|involved| involved.is_shown(&decision.head, &pdu));
    let sender = strings.user(pdu.sender().as_str()).ok_or(RoomError::Lost)?;
    if let Some(txn) = &txn {
        let sent = Sent { id: pdu.event_id().to_owned(), created_ms: decision.now_ms };
        decision.head.transactions.insert((sender, txn.clone()), sent);
    }
    let event = decision.add_event(Admitted {
        nid,
        pdu: pdu.clone(),
        type_nid,
        state_key,
        sender,
        admission,
        reason,
        snapshot: Some(stored.snapshot),
        prev_nids: parents.prev.iter().map(|event| event.nid).collect(),
        auth_nids: lookup::nids_in(decision.head.nid, &parents.auth),
        replaces,
        placement: if is_shown { Placement::Live } else { Placement::Outside },
        stored: known,
        txn: txn.map(|txn| (sender, txn.device_id, txn.scope, txn.txn_id)),
        relay,
    });
    let Some(involved) = involved else { return Ok(()) };
    match entry {
        Entry::Adds => {
            decision.extend(nid, &pdu);
            advance_state(tools, decision, &event, before).await?;
        }
        Entry::Replaces(known) => {
            decision.begin_again(nid, &pdu);
            enter_state(tools, decision, &event, &before, known).await?;
        }
    }
    involved.apply(decision, &event)
}

/// Brings the current state up to the new set of forward extremities.
async fn advance_state(
    tools: &RoomTools,
    decision: &mut Decision,
    event: &Arc<StoredEvent>,
    before: StateMap,
) -> Result<(), RoomError> {
    let alone = decision.head.extremities.len() == 1;
    let next = if alone {
        after(event, &before)
    } else {
        let nids: Vec<OwnedEventId> =
            decision.head.extremities.iter().map(|extremity| extremity.id.clone()).collect();
        let found = lookup::find(tools, &decision.head, &nids).await?;
        let ends: Vec<&StoredEvent> = found.values().map(AsRef::as_ref).collect();
        let states = state_of::states_after(tools, &decision.head, &ends).await?;
        state_of::resolve(tools, &decision.head, decision.head.version, states).await?
    };
    if next == decision.head.state {
        return Ok(());
    }
    let changes = changes::changes(tools, &decision.head, &next, HashMap::new()).await?;
    let stored = state_of::store_state(tools, &decision.head, &mut decision.numbers, &next).await?;
    decision.set_state(stored, &changes);
    decision.head.state = next;
    Ok(())
}

/// Makes the state after the event the current one, whatever was known before.
async fn enter_state(
    tools: &RoomTools,
    decision: &mut Decision,
    event: &Arc<StoredEvent>,
    before: &StateMap,
    known: HashMap<EventNid, StateChange>,
) -> Result<(), RoomError> {
    let next = after(event, before);
    let changes = changes::changes_on_entry(tools, &decision.head, &next, known).await?;
    let stored = state_of::store_state(tools, &decision.head, &mut decision.numbers, &next).await?;
    decision.set_state(stored, &changes);
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
