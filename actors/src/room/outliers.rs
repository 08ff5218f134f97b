//! Events that are known only as the base of others: judged by their own auth events, and kept outside the room's
//! graph until somebody brings them with the state before them.
//!
//! A join over federation brings tens of thousands of them. They come a portion at a time ([`PORTION`]), each after
//! those that it is based on; each portion is one decision, judged off the actors' threads.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_core::{
    admit::{self, Admission, AdmissionCode},
    auth::AuthEvent,
    nid::{EventNid, types},
    pdu::Pdu,
};
use myelin_storage::{commit::Placement, events::StoredEvent};
use ruma::{OwnedEventId, ServerName, UserId};

use super::{
    RoomTools,
    admitted::Admitted,
    decision::{Decided, Decision},
    error::RoomError,
    head::Head,
    lookup,
    messages::Received,
    send::{self, Strings},
};

/// So many events are one decision, and one commit, at most.
pub(crate) const PORTION: usize = 1_000;

type Known = HashMap<OwnedEventId, Arc<StoredEvent>>;

/// What became of each event, in the order given.
type Verdicts = Vec<(OwnedEventId, Received)>;

/// Decides about the events, each of which stands after those among them that it is based on.
pub(crate) async fn decide(
    tools: &RoomTools,
    mut head: Head,
    events: Vec<Pdu>,
) -> Result<Decided<Verdicts>, RoomError> {
    let mut verdicts = Verdicts::with_capacity(events.len());
    let mut ours = Vec::with_capacity(events.len());
    for pdu in events {
        match lookup::belongs(&mut head, &pdu) {
            Ok(()) => ours.push(pdu),
            Err(error) => {
                verdicts.push((pdu.event_id().to_owned(), Received::Rejected(error.to_string())));
            }
        }
    }
    let (found, foreign) = find(tools, &head, &ours).await?;
    let (known, new): (Vec<Pdu>, Vec<Pdu>) = ours
        .into_iter()
        .partition(|pdu| found.get(pdu.event_id()).is_some_and(|event| is_judged(tools, event)));
    verdicts.extend(known.iter().map(|pdu| (pdu.event_id().to_owned(), Received::Known)));
    let unjudged: HashSet<OwnedEventId> = new.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let based_on: HashMap<OwnedEventId, AuthEvent> = found
        .iter()
        .filter(|(id, _)| !unjudged.contains(*id))
        .chain(&foreign)
        .map(|(id, event)| (id.clone(), auth_event(event)))
        .collect();
    let judged = tokio::task::spawn_blocking(move || judge(new, based_on))
        .await
        .map_err(|_panicked| RoomError::Lost)?;
    let (strings, numbers) = name(tools, &judged).await?;
    let mut decision = Decision::on(head, numbers, tools.clock.now_ms());
    let mut nids: HashMap<OwnedEventId, EventNid> =
        found.iter().map(|(id, event)| (id.clone(), event.nid)).collect();
    for (pdu, admission) in judged {
        let id = pdu.event_id().to_owned();
        let received = match &admission {
            Admission::Accept | Admission::SoftFail(_) => Received::Accepted,
            Admission::Reject(why) => Received::Rejected(why.clone()),
            Admission::Missing(missing) => Received::Missing(missing.clone()),
        };
        if !matches!(received, Received::Missing(_)) {
            let stored = found.get(&id).cloned();
            let reason = admission.reason().map(str::to_owned);
            let nid = add(&mut decision, &strings, pdu, stored, reason, &nids)?;
            nids.insert(id.clone(), nid);
        }
        verdicts.push((id, received));
    }
    let decision = decision.has_events().then_some(decision);
    Ok(Decided { answer: verdicts, decision })
}

/// The events themselves and what they are based on, as far as they are known in this room; and what they name of other
/// rooms, for which they are rejected.
async fn find(tools: &RoomTools, head: &Head, events: &[Pdu]) -> Result<(Known, Known), RoomError> {
    let wanted: HashSet<OwnedEventId> = events
        .iter()
        .flat_map(|pdu| admit::required_events(pdu).chain([pdu.event_id().to_owned()]))
        .collect();
    let wanted: Vec<OwnedEventId> = wanted.into_iter().collect();
    let found = lookup::find(tools, head, &wanted).await?;
    Ok(found.into_iter().partition(|(_, event)| event.room == head.nid))
}

/// The event was judged when it was stored. An invitation that came by itself was not: what it is based on was not
/// known.
fn is_judged(tools: &RoomTools, event: &StoredEvent) -> bool {
    event.admission != AdmissionCode::Outlier || !is_about_ours(event, &tools.signer.server_name)
}

fn is_about_ours(event: &StoredEvent, ours: &ServerName) -> bool {
    let user = event.pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
    event.type_nid == types::MEMBER && user.is_some_and(|user| user.server_name() == ours)
}

fn auth_event(event: &StoredEvent) -> AuthEvent {
    AuthEvent { pdu: event.pdu.clone(), rejected: event.admission == AdmissionCode::Rejected }
}

/// Judges the events in this order, each also on those before it.
fn judge(events: Vec<Pdu>, mut known: HashMap<OwnedEventId, AuthEvent>) -> Vec<(Pdu, Admission)> {
    let judge = |pdu: Pdu| {
        let admission = admit::admit_outlier(&pdu, |id| known.get(id).cloned());
        if !matches!(admission, Admission::Missing(_)) {
            let rejected = matches!(admission, Admission::Reject(_));
            known.insert(pdu.event_id().to_owned(), AuthEvent { pdu: pdu.clone(), rejected });
        }
        (pdu, admission)
    };
    events.into_iter().map(judge).collect()
}

async fn name(
    tools: &RoomTools,
    judged: &[(Pdu, Admission)],
) -> Result<(Strings, super::numbers::Numbers), RoomError> {
    let (mut types, mut keys) = (Vec::new(), Vec::new());
    for (pdu, _) in judged {
        types.push(pdu.event_type().to_owned());
        keys.push(pdu.sender().to_string());
        keys.extend(pdu.state_key().filter(|key| !key.is_empty()).map(str::to_owned));
    }
    for names in [&mut types, &mut keys] {
        names.sort_unstable();
        names.dedup();
    }
    send::name(tools, types, keys, judged.len(), 0).await
}

fn add(
    decision: &mut Decision,
    strings: &Strings,
    pdu: Pdu,
    stored: Option<Arc<StoredEvent>>,
    rejected: Option<String>,
    nids: &HashMap<OwnedEventId, EventNid>,
) -> Result<EventNid, RoomError> {
    let nid = match &stored {
        Some(stored) => stored.nid,
        None => decision.numbers.events.next().expect("an event NID was reserved for each event"),
    };
    if decision.head.room_id.is_none() {
        decision.head.room_id = Some(pdu.room_id().to_owned());
    }
    decision.add_event(Admitted {
        nid,
        type_nid: strings.type_nid(pdu.event_type()).ok_or(RoomError::Lost)?,
        state_key: pdu.state_key().and_then(|key| strings.key(key)),
        sender: strings.user(pdu.sender().as_str()).ok_or(RoomError::Lost)?,
        admission: if rejected.is_some() { AdmissionCode::Rejected } else { AdmissionCode::Outlier },
        reason: rejected,
        snapshot: None,
        prev_nids: Vec::new(),
        auth_nids: admit::required_events(&pdu).filter_map(|id| nids.get(&id).copied()).collect(),
        replaces: None,
        placement: Placement::Outside,
        stored,
        txn: None,
        relay: false,
        pdu,
    });
    Ok(nid)
}
