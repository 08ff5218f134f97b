//! Redactions and their targets, whichever of the two comes first.
//!
//! A redaction whose target is not known waits in storage, and is applied by the decision that brings the target.
//! Whether it may redact that is a matter of the power levels at the redaction, however long ago that was; where this
//! depends on the target, clients are not shown the redaction before.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use myelin_core::{
    admit::{AdmissionCode, required_events},
    auth::{self, power_levels::PowerLevels},
    nid::{EMPTY_STATE_KEY, EventNid, SnapshotNid, types},
    pdu::Pdu,
    state::{StateKey, StateMap},
};
use myelin_storage::{
    commit::Placement,
    events::{Replaced, StoredEvent},
};
use ruma::OwnedEventId;

use super::{
    RoomTools, admitted::Admitted, decision::Decision, error::RoomError, head::Head, lookup, state_of,
    store::EventsBy,
};

/// What has to do with the redaction of some events, or by them.
pub(crate) struct Involved {
    /// The targets of those among them that redact, as far as they are known.
    targets: HashMap<OwnedEventId, Arc<StoredEvent>>,
    /// Redactions that waited for some of them.
    waiting: Vec<Arc<StoredEvent>>,
    /// The power levels at each of the redactions.
    levels: HashMap<OwnedEventId, Arc<PowerLevels>>,
    /// Those that waited without being shown.
    unseen: Vec<Unseen>,
}

/// A redaction that clients were not shown, with what its row says of it besides the event.
struct Unseen {
    event: Arc<StoredEvent>,
    prev_nids: Vec<EventNid>,
    auth_nids: Vec<EventNid>,
    /// This server tells others of it.
    relay: bool,
}

/// Whether clients are shown the redaction while its target is unknown: in room versions 1 and 2 nothing else decides
/// whether it applies.
/// <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>
pub(crate) fn is_shown_alone(redaction: &Pdu) -> bool {
    redaction.version().rules.authorization.special_case_room_redaction
}

impl Involved {
    /// Finds what is involved in accepting these events, which are not known in the room yet, each with the state before
    /// it. `head` has the events among which those of that state are to be found, as far as they are not stored.
    pub async fn load(
        tools: &RoomTools,
        head: &Head,
        events: &[(&Pdu, &StateMap)],
    ) -> Result<Self, RoomError> {
        let ids: Vec<OwnedEventId> = events.iter().map(|(pdu, _)| pdu.event_id().to_owned()).collect();
        let redacted: Vec<OwnedEventId> =
            events.iter().filter_map(|(pdu, _)| pdu.redacts().map(ToOwned::to_owned)).collect();
        let targets =
            if redacted.is_empty() { HashMap::new() } else { lookup::find(tools, head, &redacted).await? };
        let stored = if head.has_waiting {
            tools.store.load_events(EventsBy::Redacting(&ids)).await?
        } else {
            Vec::new()
        };
        let mut waiting: Vec<Arc<StoredEvent>> = stored.into_iter().map(Arc::new).collect();
        let decided = head.decided.values().filter(|event| {
            event.admission == AdmissionCode::Accepted
                && event.pdu.redacts().is_some_and(|target| ids.iter().any(|id| *id == *target))
        });
        waiting.extend(decided.cloned());
        let mut seen = HashSet::new();
        waiting.retain(|redaction| redaction.room == head.nid && seen.insert(redaction.nid));
        let mut bases = bases_of(tools, head, &waiting).await?;
        bases.extend(events.iter().filter(|(pdu, _)| pdu.redacts().is_some()).map(|(pdu, before)| {
            let base = Base::in_state(|key| before.get(&key).copied());
            (pdu.event_id().to_owned(), base)
        }));
        let levels = load_levels(tools, head, bases).await?;
        let unseen = load_unseen(tools, head, &waiting).await?;
        Ok(Self { targets, waiting, levels, unseen })
    }

    /// The event redacts one that is known, and may not: servers keep it as part of the room's graph, clients are not
    /// shown it, since they would believe it.
    pub fn is_in_vain(&self, head: &Head, pdu: &Pdu) -> bool {
        self.target_of(head, pdu).is_some_and(|target| !self.applies(pdu, &target.pdu))
    }

    /// The event, which was accepted and is new, is to be shown to clients: what it redacts, if it does, is known, and it
    /// may.
    pub fn is_shown(&self, head: &Head, pdu: &Pdu) -> bool {
        pdu.redacts().is_none()
            || match self.target_of(head, pdu) {
                Some(target) => self.applies(pdu, &target.pdu),
                None => is_shown_alone(pdu),
            }
    }

    fn target_of<'a>(&'a self, head: &'a Head, pdu: &Pdu) -> Option<&'a Arc<StoredEvent>> {
        pdu.redacts().and_then(|id| head.decided_by_id(id).or_else(|| self.targets.get(id)))
    }

    /// Redacts what the event, which was accepted, redacts; and the event, if a redaction waited for it.
    pub fn apply(&self, decision: &mut Decision, event: &Arc<StoredEvent>) -> Result<(), RoomError> {
        if let Some(target) = event.pdu.redacts() {
            let here = |target: &&Arc<StoredEvent>| target.room == decision.head.nid;
            // It may have been brought by the same decision.
            match self.target_of(&decision.head, &event.pdu).filter(here).cloned() {
                Some(target) => self.redact(decision, &target, event)?,
                None if self.targets.contains_key(target) => {}
                None => decision.wait_for(target.to_owned(), event.nid),
            }
        }
        let is_of_event = |redaction: &Pdu| redaction.redacts() == Some(event.pdu.event_id());
        let applies = |redaction: &Pdu| is_of_event(redaction) && self.applies(redaction, &event.pdu);
        if let Some(first) = self.waiting.iter().find(|redaction| applies(&redaction.pdu)) {
            self.redact(decision, event, first)?;
        }
        for unseen in self.unseen.iter().filter(|unseen| applies(&unseen.event.pdu)) {
            unseen.show(decision);
        }
        let ended = self.waiting.iter().filter(|redaction| is_of_event(&redaction.pdu));
        decision.end_waiting(ended.map(|redaction| redaction.nid));
        Ok(())
    }

    fn redact(
        &self,
        decision: &mut Decision,
        target: &StoredEvent,
        redaction: &Arc<StoredEvent>,
    ) -> Result<(), RoomError> {
        let applies = target.redacted_by.is_none() && self.applies(&redaction.pdu, &target.pdu);
        if applies { decision.redact(target, Some(redaction)) } else { Ok(()) }
    }

    fn applies(&self, redaction: &Pdu, target: &Pdu) -> bool {
        let levels = self.levels.get(redaction.event_id());
        levels.is_some_and(|levels| auth::redaction_applies(redaction, target, levels))
    }
}

impl Unseen {
    /// Gives it a place at the end of the timeline.
    fn show(&self, decision: &mut Decision) {
        decision.add_event(Admitted {
            nid: self.event.nid,
            pdu: self.event.pdu.clone(),
            type_nid: self.event.type_nid,
            state_key: self.event.state_key,
            sender: self.event.sender,
            admission: self.event.admission,
            reason: None,
            snapshot: self.event.snapshot,
            prev_nids: self.prev_nids.clone(),
            auth_nids: self.auth_nids.clone(),
            replaces: None,
            placement: Placement::Live,
            stored: Some(Arc::clone(&self.event)),
            txn: None,
            relay: self.relay,
        });
    }
}

/// Those of the redactions that clients were not shown.
async fn load_unseen(
    tools: &RoomTools,
    head: &Head,
    waiting: &[Arc<StoredEvent>],
) -> Result<Vec<Unseen>, RoomError> {
    let is_unseen =
        |redaction: &&Arc<StoredEvent>| redaction.place.is_none() && !is_shown_alone(&redaction.pdu);
    let unseen = || waiting.iter().filter(is_unseen);
    let ids: Vec<OwnedEventId> = unseen()
        .flat_map(|event| event.pdu.prev_events().iter().cloned().chain(required_events(&event.pdu)))
        .collect();
    let found = if ids.is_empty() { HashMap::new() } else { lookup::find(tools, head, &ids).await? };
    let nids = |ids: &mut dyn Iterator<Item = OwnedEventId>| {
        let found: Vec<Arc<StoredEvent>> = ids.filter_map(|id| found.get(&id).cloned()).collect();
        lookup::nids_in(head.nid, &found)
    };
    let unseen = unseen().map(|event| Unseen {
        prev_nids: nids(&mut event.pdu.prev_events().iter().cloned()),
        auth_nids: nids(&mut required_events(&event.pdu)),
        relay: event.pdu.sender().server_name() == tools.signer.server_name,
        event: Arc::clone(event),
    });
    Ok(unseen.collect())
}

/// What power levels follow from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Base {
    create: Option<EventNid>,
    levels: Option<EventNid>,
}

impl Base {
    fn in_state(find: impl Fn(StateKey) -> Option<EventNid>) -> Self {
        let of_type = |event_type| find((event_type, EMPTY_STATE_KEY));
        Self { create: of_type(types::CREATE), levels: of_type(types::POWER_LEVELS) }
    }
}

/// The same of redactions that were accepted before, by the states that are stored as those before them.
async fn bases_of(
    tools: &RoomTools,
    head: &Head,
    redactions: &[Arc<StoredEvent>],
) -> Result<Vec<(OwnedEventId, Base)>, RoomError> {
    let snapshots: BTreeSet<SnapshotNid> = redactions
        .iter()
        .filter_map(|redaction| redaction.snapshot)
        .filter(|snapshot| head.layers_of(*snapshot).is_none())
        .collect();
    let snapshots: Vec<SnapshotNid> = snapshots.into_iter().collect();
    let stored =
        if snapshots.is_empty() { HashMap::new() } else { tools.store.load_layers(&snapshots).await? };
    let base_of = |redaction: &Arc<StoredEvent>| {
        let snapshot = redaction.snapshot?;
        let layers = head.layers_of(snapshot).or_else(|| stored.get(&snapshot))?;
        Some((redaction.pdu.event_id().to_owned(), Base::in_state(|key| layers.get(key))))
    };
    Ok(redactions.iter().filter_map(base_of).collect())
}

async fn load_levels(
    tools: &RoomTools,
    head: &Head,
    bases: Vec<(OwnedEventId, Base)>,
) -> Result<HashMap<OwnedEventId, Arc<PowerLevels>>, RoomError> {
    let nids: BTreeSet<EventNid> =
        bases.iter().flat_map(|(_, base)| [base.create, base.levels]).flatten().collect();
    let nids: Vec<EventNid> = nids.into_iter().collect();
    let pdus: HashMap<EventNid, Pdu> = state_of::load(tools, head, &nids).await?.into_iter().collect();
    let find = |nid: Option<EventNid>| nid.and_then(|nid| pdus.get(&nid));
    let mut known: HashMap<Base, Arc<PowerLevels>> = HashMap::new();
    let mut levels = HashMap::with_capacity(bases.len());
    for (redaction, base) in bases {
        let Some(create) = find(base.create) else { continue };
        let of_base =
            known.entry(base).or_insert_with(|| Arc::new(PowerLevels::new(create, find(base.levels))));
        levels.insert(redaction, Arc::clone(of_base));
    }
    Ok(levels)
}

/// How an event is shown after the redaction of that one, if differently: as what was redacted, or with what was.
pub(crate) fn after_redaction(shown: &StoredEvent, redacted: &StoredEvent) -> Option<StoredEvent> {
    if shown.nid == redacted.nid {
        Some(StoredEvent { position: shown.position, place: shown.place, ..redacted.clone() })
    } else if shown.replaces == Some(redacted.nid) {
        let content = redacted.pdu.content().to_owned();
        let replaced = shown.prev_content.clone().map(|replaced| Replaced { content, ..replaced });
        Some(StoredEvent { prev_content: replaced, ..shown.clone() })
    } else if shown.redacted_by == Some(redacted.nid) {
        Some(StoredEvent { redacted_because: Some(redacted.pdu.clone()), ..shown.clone() })
    } else {
        None
    }
}
