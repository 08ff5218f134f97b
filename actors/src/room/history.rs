//! Events from before what the room's timeline shows: each is judged on the state before it, and given a place before
//! everything that came later. They change nothing that is, and nobody is told.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_core::{
    admit::{self, Admission, AdmissionCode},
    pdu::Pdu,
    position::TimelinePlace,
    state::StateMap,
};
use myelin_storage::{commit::Placement, events::StoredEvent};
use ruma::OwnedEventId;

use super::{
    RoomTools,
    admitted::Admitted,
    changes,
    decision::{Decided, Decision},
    error::RoomError,
    head::Head,
    history_state::{self, StateAt},
    judge::{self, Case},
    lookup,
    messages::{ReceiveHistory, Received},
    redactions::Involved,
    send::{self, Strings},
    store::EventsBy,
};

/// So many events are taken at once, at most.
const MAX_EVENTS: usize = 1_000;

/// Events that follow each other, as far as they are judged.
struct Page {
    strings: Strings,
    /// What was known of them and of what they are based on.
    known: HashMap<OwnedEventId, Arc<StoredEvent>>,
    /// The head, with those among its decided events that were judged already.
    head: Head,
    judged: Vec<Judged>,
    /// Where each stands among those.
    index: HashMap<OwnedEventId, usize>,
}

struct Judged {
    admitted: Admitted,
    before: StateAt,
    after: StateAt,
}

/// Decides about events that stand before this place in the timeline, the oldest first.
pub(crate) async fn decide(
    tools: &RoomTools,
    mut head: Head,
    history: ReceiveHistory,
) -> Result<Decided<Vec<Received>>, RoomError> {
    let ReceiveHistory { events, state_before, before } = history;
    if head.snapshot.is_none() {
        return Err(RoomError::Forbidden("this server is not in the room".to_owned()));
    }
    if events.len() > MAX_EVENTS {
        return Err(RoomError::Invalid("so many events cannot be taken at once".to_owned()));
    }
    for pdu in &events {
        lookup::belongs(&mut head, pdu)?;
    }
    let (types, keys) = judge::names(&events);
    let (strings, numbers) =
        send::name(tools, types, keys, events.len(), history_state::blocks_for(events.len())).await?;
    let places = places(tools, &mut head, before, events.len()).await?;
    let known = find_known(tools, &head, &events).await?;
    let mut decision = Decision::on(head.clone(), numbers, tools.clock.now_ms());
    let mut page = Page { strings, known, head, judged: Vec::new(), index: HashMap::new() };
    let mut received = Vec::with_capacity(events.len());
    for (pdu, place) in events.into_iter().zip(places) {
        let handed = state_before.get(pdu.event_id()).map(Vec::as_slice);
        received.push(page.judge(tools, &mut decision, pdu, handed, place).await?);
    }
    if page.judged.is_empty() {
        return Ok(Decided::nothing(received));
    }
    page.add_to(tools, &mut decision).await?;
    Ok(Decided { answer: received, decision: Some(decision) })
}

/// Places for so many events, the oldest first, before everything that stands there already.
async fn places(
    tools: &RoomTools,
    head: &mut Head,
    before: TimelinePlace,
    count: usize,
) -> Result<Vec<TimelinePlace>, RoomError> {
    let first = tools.store.load_events(EventsBy::FirstAt(head.nid, before.anchor)).await?.pop();
    let stored = first.and_then(|event| event.place).map(|place| place.offset);
    let decided = head.placed.get(&before.anchor).copied();
    let end = [stored, decided, Some(before.offset), Some(0)].into_iter().flatten().min().unwrap_or(0);
    let full = || RoomError::Invalid("there is no place left in the timeline".to_owned());
    let count = i32::try_from(count).map_err(|_| full())?;
    let start = end.checked_sub(count).ok_or_else(full)?;
    head.placed.insert(before.anchor, start);
    Ok((start..end).map(|offset| TimelinePlace { anchor: before.anchor, offset }).collect())
}

/// The events themselves, their parents and what they are based on, as far as they are known, in whatever room.
async fn find_known(
    tools: &RoomTools,
    head: &Head,
    events: &[Pdu],
) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, RoomError> {
    let wanted: HashSet<OwnedEventId> = events
        .iter()
        .flat_map(|pdu| {
            let itself = std::iter::once(pdu.event_id().to_owned());
            itself.chain(pdu.prev_events().iter().cloned()).chain(admit::required_events(pdu))
        })
        .collect();
    let wanted: Vec<OwnedEventId> = wanted.into_iter().collect();
    lookup::find(tools, head, &wanted).await
}

impl Page {
    async fn judge(
        &mut self,
        tools: &RoomTools,
        decision: &mut Decision,
        pdu: Pdu,
        handed: Option<&[OwnedEventId]>,
        place: TimelinePlace,
    ) -> Result<Received, RoomError> {
        let known = self.known.get(pdu.event_id()).cloned();
        if known.as_ref().is_some_and(|known| known.room != self.head.nid) {
            return Ok(Received::Rejected("the event is known in another room".to_owned()));
        }
        if self.index.contains_key(pdu.event_id()) || known.as_deref().is_some_and(lookup::is_settled) {
            return Ok(Received::Known);
        }
        let required: Vec<OwnedEventId> = admit::required_events(&pdu).collect();
        let auth = match self.all(&required, |_| true) {
            Ok(auth) => auth,
            Err(missing) => return Ok(Received::Missing(missing)),
        };
        let before = match handed {
            Some(ids) => {
                let handed = changes::load_handed(tools, &self.head, ids).await?;
                handed.map(|handed| StateAt::new(&self.head, handed.state))
            }
            None => self.state_before(tools, &pdu).await?,
        };
        let before: StateAt = match before {
            Ok(before) => before,
            Err(missing) => return Ok(Received::Missing(missing)),
        };
        let case = Case { pdu: &pdu, auth: &auth, before: &before.map, is_news: false };
        let (admission, received) = match judge::judge(tools, &self.head, &self.strings, &case).await? {
            Admission::Missing(missing) => return Ok(Received::Missing(missing)),
            Admission::Accept => (Admission::Accept, Received::Accepted),
            admission @ Admission::SoftFail(_) => {
                let why = admission.reason().unwrap_or_default().to_owned();
                (admission, Received::SoftFailed(why))
            }
            admission @ Admission::Reject(_) => {
                let why = admission.reason().unwrap_or_default().to_owned();
                (admission, Received::Rejected(why))
            }
        };
        let admitted = self.admitted(tools, decision, pdu, &admission, &auth, &before, known, place).await?;
        self.note(decision, admitted, before);
        Ok(received)
    }

    #[expect(clippy::too_many_arguments, reason = "each is another part of the event's row")]
    async fn admitted(
        &self,
        tools: &RoomTools,
        decision: &mut Decision,
        pdu: Pdu,
        admission: &Admission,
        auth: &[Arc<StoredEvent>],
        before: &StateAt,
        known: Option<Arc<StoredEvent>>,
        place: TimelinePlace,
    ) -> Result<Admitted, RoomError> {
        let nid = match &known {
            Some(known) => known.nid,
            None => decision.numbers.events.next().expect("an event NID was reserved for each event"),
        };
        let type_nid = self.strings.type_nid(pdu.event_type()).ok_or(RoomError::Lost)?;
        let state_key = pdu.state_key().and_then(|key| self.strings.key(key));
        let replaced = state_key.and_then(|key| before.map.get(&(type_nid, key)).copied());
        let replaces = match replaced {
            Some(replaced) => send::load_event(tools, &self.head, replaced).await?,
            None => None,
        };
        let accepted = matches!(admission, Admission::Accept);
        Ok(Admitted {
            nid,
            type_nid,
            state_key,
            sender: self.strings.user(pdu.sender().as_str()).ok_or(RoomError::Lost)?,
            admission: admission.code().ok_or(RoomError::Lost)?,
            reason: admission.reason().map(str::to_owned),
            snapshot: None,
            prev_nids: lookup::nids_in(
                self.head.nid,
                &pdu.prev_events().iter().filter_map(|id| self.find(id)).collect::<Vec<_>>(),
            ),
            auth_nids: lookup::nids_in(self.head.nid, auth),
            replaces,
            placement: if accepted { Placement::Before(place) } else { Placement::Outside },
            stored: known,
            txn: None,
            relay: false,
            pdu,
        })
    }

    /// What follows may be based on the event.
    fn note(&mut self, decision: &Decision, admitted: Admitted, before: StateAt) {
        let id = admitted.pdu.event_id().to_owned();
        let event = Arc::new(admitted.stored_form(decision.head.nid));
        let after = match admitted.state_key {
            Some(key) if admitted.admission != AdmissionCode::Rejected => {
                before.with((admitted.type_nid, key), admitted.nid)
            }
            _ => before.clone(),
        };
        self.head.decided.insert(event.nid, event);
        self.index.insert(id, self.judged.len());
        self.judged.push(Judged { admitted, before, after });
    }

    fn find(&self, id: &OwnedEventId) -> Option<Arc<StoredEvent>> {
        let judged = self.index.get(id).map(|index| self.judged[*index].admitted.nid);
        judged.and_then(|nid| self.head.decided.get(&nid)).or_else(|| self.known.get(id)).cloned()
    }

    /// All of these events, or the ids of those that are missing.
    fn all(
        &self,
        ids: &[OwnedEventId],
        suffices: impl Fn(&StoredEvent) -> bool,
    ) -> Result<Vec<Arc<StoredEvent>>, Vec<OwnedEventId>> {
        let find = |id: &OwnedEventId| {
            self.find(id).filter(|event| self.index.contains_key(id) || suffices(event)).ok_or(id.clone())
        };
        let (found, missing): (Vec<_>, Vec<_>) = ids.iter().map(find).partition(Result::is_ok);
        if missing.is_empty() {
            Ok(found.into_iter().filter_map(Result::ok).collect())
        } else {
            Err(missing.into_iter().filter_map(Result::err).collect())
        }
    }

    /// The state before an event, as its prev events say.
    async fn state_before(
        &self,
        tools: &RoomTools,
        pdu: &Pdu,
    ) -> Result<Result<StateAt, Vec<OwnedEventId>>, RoomError> {
        let is_here = |event: &StoredEvent| event.room == self.head.nid && lookup::is_settled(event);
        let prev = match self.all(pdu.prev_events(), is_here) {
            Ok(prev) => prev,
            Err(missing) => return Ok(Err(missing)),
        };
        let mut states = Vec::with_capacity(prev.len());
        for event in prev {
            let after = match self.index.get(event.pdu.event_id()) {
                Some(index) => self.judged[*index].after.clone(),
                None => history_state::after(tools, &self.head, &event).await?,
            };
            states.push((event.nid, after));
        }
        history_state::resolve(tools, &self.head, states).await.map(Ok)
    }

    /// Puts everything into the decision, with the states that it needs.
    async fn add_to(self, tools: &RoomTools, decision: &mut Decision) -> Result<(), RoomError> {
        let befores: Vec<StateAt> = self.judged.iter().map(|judged| judged.before.clone()).collect();
        let snapshots = history_state::store(tools, decision, befores).await?;
        let accepted: Vec<(&Pdu, &StateMap)> = self
            .judged
            .iter()
            .filter(|judged| judged.admitted.admission == AdmissionCode::Accepted)
            .map(|judged| (&judged.admitted.pdu, &judged.before.map))
            .collect();
        let involved = Involved::load(tools, &self.head, &accepted).await?;
        for (judged, snapshot) in self.judged.into_iter().zip(snapshots) {
            let mut admitted = Admitted { snapshot, ..judged.admitted };
            if involved.is_in_vain(&decision.head, &admitted.pdu) {
                admitted.placement = Placement::Outside;
            }
            let event = decision.add_event(admitted);
            if event.admission == AdmissionCode::Accepted {
                involved.apply(decision, &event)?;
            }
        }
        Ok(())
    }
}
