//! Redactions and their targets, whichever of the two comes first.
//!
//! A redaction whose target is not known waits in storage, and is applied by the decision that brings the target.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{admit::AdmissionCode, auth, pdu::Pdu};
use myelin_storage::events::{Replaced, StoredEvent};
use ruma::OwnedEventId;

use super::{RoomTools, decision::Decision, error::RoomError, head::Head, lookup, store::EventsBy};

/// What has to do with the redaction of some events, or by them.
pub(crate) struct Involved {
    /// The targets of those among them that redact, as far as they are known.
    targets: HashMap<OwnedEventId, Arc<StoredEvent>>,
    /// Redactions that waited for some of them.
    waiting: Vec<Arc<StoredEvent>>,
}

impl Involved {
    /// Finds what is involved in accepting these events, which are not known in the room yet.
    pub async fn load(
        tools: &RoomTools,
        head: &Head,
        events: &[(OwnedEventId, Option<OwnedEventId>)],
    ) -> Result<Self, RoomError> {
        let ids: Vec<OwnedEventId> = events.iter().map(|(id, _)| id.clone()).collect();
        let redacted: Vec<OwnedEventId> = events.iter().filter_map(|(_, target)| target.clone()).collect();
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
        waiting.retain(|redaction| redaction.room == head.nid);
        Ok(Self { targets, waiting })
    }

    /// The event redacts one that is known, and may not: servers keep it as part of the room's graph, clients are not
    /// shown it, since they would believe it.
    pub fn is_in_vain(&self, head: &Head, pdu: &Pdu) -> bool {
        let target = pdu.redacts().and_then(|id| head.decided_by_id(id).or_else(|| self.targets.get(id)));
        target.is_some_and(|target| !applies(head, pdu, &target.pdu))
    }

    /// Redacts what the event, which was accepted, redacts; and the event, if a redaction waited for it.
    pub fn apply(&self, decision: &mut Decision, event: &Arc<StoredEvent>) -> Result<(), RoomError> {
        if let Some(target) = event.pdu.redacts() {
            let here = |target: &&Arc<StoredEvent>| target.room == decision.head.nid;
            // It may have been brought by the same decision.
            let found = decision.head.decided_by_id(target).or_else(|| self.targets.get(target));
            match found.filter(here).cloned() {
                Some(target) => redact(decision, &target, event)?,
                None if self.targets.contains_key(target) => {}
                None => decision.wait_for(target.to_owned(), event.nid),
            }
        }
        let by = self.waiting.iter().find(|redaction| redaction.pdu.redacts() == Some(event.pdu.event_id()));
        match by {
            Some(redaction) => redact(decision, event, redaction),
            None => Ok(()),
        }
    }
}

fn redact(
    decision: &mut Decision,
    target: &StoredEvent,
    redaction: &Arc<StoredEvent>,
) -> Result<(), RoomError> {
    let applies = applies(&decision.head, &redaction.pdu, &target.pdu);
    if applies && target.redacted_by.is_none() { decision.redact(target, Some(redaction)) } else { Ok(()) }
}

fn applies(head: &Head, redaction: &Pdu, target: &Pdu) -> bool {
    head.power_levels().is_some_and(|levels| auth::redaction_applies(redaction, target, &levels))
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
