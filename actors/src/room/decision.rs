//! What a decision adds up to: one plain value for the journal.

use std::{collections::HashSet, sync::Arc};

use myelin_core::{
    extremities::{self, DUMMY_EVENT},
    membership::Membership,
    nid::{EventNid, SnapshotNid, UserNid},
    pdu::Pdu,
    relations, self_destruct,
    state::StateKey,
};
use myelin_storage::{
    commit::{
        AppliedRedaction, ExpiringEvent, MemberChange, NewBlock, NewEvent, NewHead, NewRelation, NewRoom,
        NewSnapshot, NewTransaction, Placement, RoomChange, StrippedState, WaitingRedaction, next_fence,
    },
    events::StoredEvent,
};
use ruma::OwnedEventId;

use super::{
    admitted::Admitted,
    error::RoomError,
    head::{ChangedMember, Extremity, Head, StateChange, UncommittedState},
    numbers::Numbers,
    pending::{Commit, Promise},
    pending_view::PendingView,
    state_of::StoredState,
};
use crate::{
    journal::batch::{Decider, Effect, PendingEvent, Publication, Submission},
    registry::Published,
};

/// An answer that holds when the decision is durable; where there is none, when all decided before it are.
pub(crate) struct Decided<T> {
    pub answer: T,
    pub decision: Option<Decision>,
}

impl<T> Decided<T> {
    /// Nothing is to be written.
    pub fn nothing(answer: T) -> Self {
        Self { answer, decision: None }
    }
}

/// A decision in the making: the head as it will be, and everything to be written for it.
pub(crate) struct Decision {
    pub head: Head,
    fence: i64,
    created: bool,
    change: Parts,
    pending: Vec<PendingEvent>,
    /// Users of this server who are something else now by events that were known before.
    changed_members: Vec<(UserNid, Membership, EventNid)>,
    /// At these, another event is the current state's.
    changed_places: Vec<StateKey>,
    redacted: Vec<StoredEvent>,
    pub numbers: Numbers,
    pub now_ms: u64,
}

#[derive(Default)]
struct Parts {
    events: Vec<NewEvent>,
    blocks: Vec<NewBlock>,
    snapshots: Vec<NewSnapshot>,
    members: Vec<MemberChange>,
    redactions: Vec<AppliedRedaction>,
    transactions: Vec<NewTransaction>,
    relations: Vec<NewRelation>,
    stripped: Vec<StrippedState>,
    waiting: Vec<WaitingRedaction>,
    ended_waiting: Vec<EventNid>,
    expiring: Vec<ExpiringEvent>,
}

impl Decision {
    /// Nothing decided yet on top of this head.
    pub fn on(head: Head, numbers: Numbers, now_ms: u64) -> Self {
        Self {
            fence: head.fence,
            created: !head.exists,
            head,
            change: Parts::default(),
            pending: Vec::new(),
            changed_members: Vec::new(),
            changed_places: Vec::new(),
            redacted: Vec::new(),
            numbers,
            now_ms,
        }
    }

    /// Adds the event to the rows, and to the timeline where it has a place there.
    pub fn add_event(&mut self, mut admitted: Admitted) -> Arc<StoredEvent> {
        if admitted.pdu.event_type() == DUMMY_EVENT {
            // It is for servers only: what has no place in the timeline no client is shown.
            admitted.placement = Placement::Outside;
        }
        let in_timeline = admitted.placement != Placement::Outside;
        let event = Arc::new(admitted.stored_form(self.head.nid));
        if in_timeline
            && event.redacted_by.is_none()
            && let Some(relation) = relations::relation_of(&admitted.pdu)
        {
            self.change.relations.push(NewRelation {
                parent_id: relation.parent,
                child: admitted.nid,
                rel_type: relation.rel_type,
                type_nid: admitted.type_nid,
                sender: admitted.sender,
                aggregation_key: relation.key,
            });
        }
        if in_timeline
            && event.redacted_by.is_none()
            && let Some(expires_ms) = self_destruct::expires_ms(&admitted.pdu)
        {
            self.change.expiring.push(ExpiringEvent { event: admitted.nid, expires_ms });
        }
        if let Some((user, device_id, scope, txn_id)) = &admitted.txn {
            self.change.transactions.push(NewTransaction {
                user: *user,
                device_id: device_id.clone(),
                scope: scope.clone(),
                txn_id: txn_id.clone(),
                event: admitted.nid,
                created_ms: self.now_ms,
            });
        }
        self.pending.push(PendingEvent {
            event: (*event).clone(),
            placement: admitted.placement,
            txn: admitted.txn.map(|(user, device_id, _, txn_id)| (user, device_id, txn_id)),
            membership: None,
            relay: admitted.relay,
            is_known: admitted.stored.is_some(),
        });
        self.change.events.push(NewEvent {
            nid: admitted.nid,
            pdu: admitted.pdu,
            type_nid: admitted.type_nid,
            state_key: admitted.state_key,
            sender: admitted.sender,
            admission: admitted.admission,
            reason: admitted.reason,
            snapshot: admitted.snapshot,
            placement: admitted.placement,
            prev_nids: admitted.prev_nids,
            auth_nids: admitted.auth_nids,
            replaces: event.replaces,
            relay: admitted.relay,
        });
        self.head.decided.insert(event.nid, Arc::clone(&event));
        self.head.decided_in.insert(event.nid, self.fence);
        event
    }

    /// Changes the current state, and with it the members. One new block and snapshot for all changes together.
    /// No change takes an event away.
    pub fn change_state(&mut self, changes: &[StateChange]) {
        if changes.is_empty() {
            return;
        }
        let entries: Vec<(StateKey, EventNid)> =
            changes.iter().map(|change| (change.key, change.event)).collect();
        let snapshot = self.numbers.snapshots.next().expect("a snapshot NID was reserved for each change");
        let (blocks, snapshot) =
            self.head.append_layers(self.fence, &entries, &mut self.numbers.blocks, snapshot);
        self.change.blocks.extend(blocks);
        self.change.snapshots.push(snapshot);
        for change in changes {
            self.note_change(change);
        }
    }

    /// Makes this the current state, because of an event that did not simply add to it.
    pub fn set_state(&mut self, stored: StoredState, changes: &[StateChange]) {
        self.store_state(&stored);
        self.head.snapshot = Some(stored.snapshot);
        self.head.layers = stored.layers;
        for change in changes {
            self.note_change(change);
        }
    }

    /// Makes the user something else in a room whose state does not say it.
    pub fn set_member(&mut self, user: UserNid, event: EventNid, changed: &ChangedMember) {
        let before = self.head.note_member(user, event, changed);
        self.note_member(user, event, changed, before);
    }

    /// Keeps what is told of the room to the user, who is outside.
    pub fn keep_stripped(&mut self, user: UserNid, events: String) {
        self.change.stripped.push(StrippedState { user, events });
    }

    /// The redaction is applied when its target comes.
    pub fn wait_for(&mut self, target: OwnedEventId, redaction: EventNid) {
        self.change.waiting.push(WaitingRedaction { target, redaction });
        self.head.has_waiting = true;
    }

    /// The target of these redactions has come.
    pub fn end_waiting(&mut self, redactions: impl Iterator<Item = EventNid>) {
        self.change.ended_waiting.extend(redactions);
    }

    fn note_change(&mut self, change: &StateChange) {
        self.changed_places.push(change.key);
        let before = self.head.note_state(change);
        if let Some(changed) = &change.member {
            self.note_member(UserNid::from_state_key(change.key.1), change.event, changed, before);
        }
    }

    fn note_member(
        &mut self,
        user: UserNid,
        event: EventNid,
        member: &ChangedMember,
        before: Option<Membership>,
    ) {
        let &ChangedMember { membership, is_local, .. } = member;
        let changed = before != Some(membership);
        let display_name = member.display_name.clone();
        self.change.members.push(MemberChange { user, membership, event, is_local, changed, display_name });
        if !changed {
            return;
        }
        let told =
            |pending: &&mut PendingEvent| pending.event.nid == event && pending.placement == Placement::Live;
        match self.pending.iter_mut().find(told) {
            Some(pending) => pending.membership = Some((user, membership)),
            None if is_local => self.changed_members.push((user, membership, event)),
            None => {}
        }
    }

    /// Stores state that no current state refers to: what an event on a fork was decided on.
    pub fn store_state(&mut self, stored: &StoredState) {
        let Some((blocks, snapshot)) = &stored.new else { return };
        self.change.blocks.extend(blocks.iter().cloned());
        self.change.snapshots.push(snapshot.clone());
        let state = UncommittedState { snapshot: stored.snapshot, layers: stored.layers.clone() };
        self.head.uncommitted.insert((self.fence, stored.snapshot), state);
    }

    /// The events that are to be written.
    pub fn new_events(&self) -> impl Iterator<Item = &Pdu> {
        self.change.events.iter().map(|event| &event.pdu)
    }

    /// There is something to be written.
    pub fn has_events(&self) -> bool {
        !self.change.events.is_empty()
    }

    /// Makes the event the only forward extremity, or one more of them in place of those that it refers to.
    pub fn extend(&mut self, nid: EventNid, pdu: &Pdu) {
        let ends = &mut self.head.extremities;
        ends.push(Extremity { nid, id: pdu.event_id().to_owned() });
        let old: Vec<EventNid> = ends.iter().map(|end| end.nid).filter(|end| *end != nid).collect();
        let followed = ends.iter().filter(|end| pdu.prev_events().contains(&end.id));
        let followed: Vec<EventNid> = followed.map(|end| end.nid).collect();
        let next = extremities::advance(&old, nid, &followed);
        ends.retain(|end| next.contains(&end.nid));
        self.head.depth = self.head.depth.max(pdu.depth());
    }

    /// Makes the event the only forward extremity, whatever it refers to.
    pub fn begin_again(&mut self, nid: EventNid, pdu: &Pdu) {
        self.head.extremities = vec![Extremity { nid, id: pdu.event_id().to_owned() }];
        self.head.depth = pdu.depth();
    }

    /// Puts the redacted form of an event in its place. `by`: the event that redacts it; `None`: its time is over.
    pub fn redact(&mut self, target: &StoredEvent, by: Option<&StoredEvent>) -> Result<(), RoomError> {
        let redacted = myelin_core::pdu::redact::redact(&target.pdu)
            .map_err(|error| RoomError::Invalid(error.to_string()))?;
        self.change.redactions.push(AppliedRedaction {
            target: target.nid,
            by: by.map_or(target.nid, |by| by.nid),
            pdu_json: redacted.json().to_owned(),
        });
        for essential in self.head.essentials.iter_mut().map(|(_, essential)| essential) {
            if essential.nid == target.nid {
                essential.pdu = redacted.clone();
            }
        }
        let event = StoredEvent {
            redacted_by: Some(by.map_or(target.nid, |by| by.nid)),
            redacted_because: by.map(|by| by.pdu.clone()),
            pdu: redacted,
            ..target.clone()
        };
        if self.head.decided.contains_key(&target.nid) {
            self.head.decided.insert(target.nid, Arc::new(event.clone()));
            self.head.decided_in.insert(target.nid, self.fence);
        }
        match self.pending.iter_mut().find(|pending| pending.event.nid == target.nid) {
            Some(pending) => pending.event = event,
            None => self.redacted.push(event),
        }
        Ok(())
    }

    /// The current state, unless it is the state after the last event of the timeline. To be asked before the
    /// changed places are taken.
    fn resolved_state(&self) -> Option<SnapshotNid> {
        let last = self.pending.iter().rev().find(|pending| pending.placement == Placement::Live);
        let follows = match &*self.head.extremities {
            [end] => last.is_some_and(|last| last.event.nid == end.nid),
            _ => false,
        };
        let has_changed = last.is_some() || !self.changed_places.is_empty();
        self.head.snapshot.filter(|_| has_changed && !follows)
    }

    /// The places that changed in the current state without an event of theirs that is shown.
    fn take_resolved(&mut self) -> Vec<StateKey> {
        let mut places = std::mem::take(&mut self.changed_places);
        if !places.is_empty() {
            let shown = self.pending.iter().filter(|pending| pending.placement == Placement::Live);
            let shown: HashSet<StateKey> =
                shown.filter_map(|shown| Some((shown.event.type_nid, shown.event.state_key?))).collect();
            places.retain(|place| !shown.contains(place));
        }
        places
    }

    /// The submission that makes it durable, the head that the next decision builds on, and the end of the promise.
    pub fn finish(mut self, slot: Arc<Published>, actor: Decider) -> (Head, Submission, Commit) {
        let room_id =
            self.head.room_id.clone().expect("a decision has an event, and with it the room its id");
        self.head.fence = next_fence(self.fence, rand::random());
        self.head.exists = true;
        self.head.recent_states.adopt(&self.head);
        let resolved_state = self.resolved_state();
        let resolved = self.take_resolved();
        let (promise, commit) = Promise::new();
        let publication = Publication {
            slot,
            view: PendingView::of(&self.head, room_id.clone(), resolved),
            events: self.pending,
            members: self.changed_members,
            changes_members: !self.change.members.is_empty(),
            redacted: self.redacted,
            fence: self.fence,
            promise,
            actor,
        };
        let create = self.created.then(|| NewRoom { room_id, version: self.head.version.id.clone() });
        let change = RoomChange {
            room: self.head.nid,
            create,
            fence: self.fence,
            next_fence: self.head.fence,
            events: self.change.events,
            blocks: self.change.blocks,
            snapshots: self.change.snapshots,
            resolved: resolved_state,
            head: NewHead {
                snapshot: self.head.snapshot,
                extremities: self.head.extremities.iter().map(|extremity| extremity.nid).collect(),
                depth: self.head.depth,
                version: self.head.version.id.clone(),
            },
            members: self.change.members,
            redactions: self.change.redactions,
            transactions: self.change.transactions,
            relations: self.change.relations,
            stripped: self.change.stripped,
            waiting: self.change.waiting,
            ended_waiting: self.change.ended_waiting,
            expiring: self.change.expiring,
        };
        let submission = Submission { change: change.into(), effect: Effect::Decided(Box::new(publication)) };
        (self.head, submission, commit)
    }
}
