//! What a decision adds up to: one plain value for the journal.

use std::sync::Arc;

use futures::channel::oneshot;
use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EventNid, SnapshotNid, StateKeyNid, TypeNid, UserNid, types},
    pdu::Pdu,
    position::Position,
    relations,
    state::StateKey,
};
use myelin_storage::{
    commit::{
        AppliedRedaction, Change, MemberChange, NewBlock, NewEvent, NewHead, NewRelation, NewRoom,
        NewSnapshot, NewTransaction, Placement, RoomChange,
    },
    events::{Replaced, StoredEvent},
};
use ruma::OwnedDeviceId;

use super::{
    error::RoomError,
    head::{Extremity, Head, StateChange, UncommittedState},
    state_of::StoredState,
};
use crate::{
    journal::batch::{Decider, Effect, PendingEvent, Publication, Submission},
    registry::Published,
};

/// Numbers that were reserved for a decision.
pub(crate) struct Numbers {
    pub events: std::vec::IntoIter<EventNid>,
    pub blocks: std::vec::IntoIter<myelin_core::nid::BlockNid>,
    pub snapshots: std::vec::IntoIter<SnapshotNid>,
}

/// An event with what its row needs and the PDU does not say.
pub(crate) struct Admitted {
    pub nid: EventNid,
    pub pdu: Pdu,
    pub type_nid: TypeNid,
    pub state_key: Option<StateKeyNid>,
    pub sender: UserNid,
    pub admission: AdmissionCode,
    pub reason: Option<String>,
    pub snapshot: Option<SnapshotNid>,
    pub prev_nids: Vec<EventNid>,
    pub auth_nids: Vec<EventNid>,
    /// The state event that it takes the place of.
    pub replaces: Option<Arc<StoredEvent>>,
    pub txn: Option<(UserNid, OwnedDeviceId, String, String)>,
    /// The other servers in the room are told of it by this one.
    pub relay: bool,
}

/// A decision in the making: the head as it will be, and everything to be written for it.
pub(crate) struct Decision {
    pub head: Head,
    fence: i64,
    created: bool,
    change: Parts,
    pending: Vec<PendingEvent>,
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
            redacted: Vec::new(),
            numbers,
            now_ms,
        }
    }

    /// Adds the event: to the rows, and where it was accepted to the timeline.
    pub fn add_event(&mut self, admitted: Admitted) -> Arc<StoredEvent> {
        let in_timeline = admitted.admission == AdmissionCode::Accepted;
        let event = Arc::new(StoredEvent {
            nid: admitted.nid,
            room: self.head.nid,
            type_nid: admitted.type_nid,
            state_key: admitted.state_key,
            sender: admitted.sender,
            admission: admitted.admission,
            snapshot: admitted.snapshot,
            position: Position::START,
            place: None,
            replaces: admitted.replaces.as_ref().map(|replaced| replaced.nid),
            redacted_by: None,
            pdu: admitted.pdu.clone(),
            prev_content: admitted.replaces.as_ref().map(|replaced| Replaced {
                event_id: replaced.pdu.event_id().to_owned(),
                sender: replaced.pdu.sender().to_owned(),
                content: replaced.pdu.content().to_owned(),
            }),
            redacted_because: None,
        });
        if in_timeline && let Some(relation) = relations::relation_of(&admitted.pdu) {
            self.change.relations.push(NewRelation {
                parent_id: relation.parent,
                child: admitted.nid,
                rel_type: relation.rel_type,
                type_nid: admitted.type_nid,
                sender: admitted.sender,
                aggregation_key: relation.key,
            });
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
            in_timeline,
            txn: admitted.txn.map(|(user, device_id, _, txn_id)| (user, device_id, txn_id)),
            membership: None,
            relay: admitted.relay,
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
            placement: if in_timeline { Placement::Live } else { Placement::Outside },
            prev_nids: admitted.prev_nids,
            auth_nids: admitted.auth_nids,
            replaces: event.replaces,
            relay: admitted.relay,
        });
        self.head.decided.insert(event.nid, Arc::clone(&event));
        event
    }

    /// Changes the current state, and with it the members. One new block and snapshot for all changes together.
    pub fn change_state(&mut self, changes: &[StateChange]) {
        if changes.is_empty() {
            return;
        }
        let entries: Vec<(StateKey, EventNid)> =
            changes.iter().map(|change| (change.key, change.event)).collect();
        let snapshot = self.numbers.snapshots.next().expect("a snapshot NID was reserved for each change");
        let decided_by = changes.iter().map(|change| change.event).max().expect("there is a change");
        let (blocks, snapshot) =
            self.head.append_layers(decided_by, &entries, &mut self.numbers.blocks, snapshot);
        self.change.blocks.extend(blocks);
        self.change.snapshots.push(snapshot);
        for change in changes {
            self.note_change(change);
        }
    }

    /// Makes this the current state, because of an event that did not simply add to it.
    pub fn set_state(&mut self, decided_by: EventNid, stored: StoredState, changes: &[StateChange]) {
        self.store_state(decided_by, &stored);
        self.head.snapshot = Some(stored.snapshot);
        self.head.layers = stored.layers;
        for change in changes {
            self.note_change(change);
        }
    }

    fn note_change(&mut self, change: &StateChange) {
        let before = self.head.note_state(change);
        if change.key.0 != types::MEMBER {
            return;
        }
        let user = UserNid::from_state_key(change.key.1);
        let Some(member) = self.head.members.get(&user) else { return };
        let changed = before != Some(member.membership);
        self.change.members.push(MemberChange {
            user,
            membership: member.membership,
            event: change.event,
            is_local: change.is_local,
            changed,
        });
        if changed {
            self.tell_membership(change.event, user, member.membership);
        }
    }

    fn tell_membership(&mut self, event: EventNid, user: UserNid, membership: Membership) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.event.nid == event) {
            pending.membership = Some((user, membership));
        }
    }

    /// Stores state that no current state refers to: what an event on a fork was decided on.
    pub fn store_state(&mut self, decided_by: EventNid, stored: &StoredState) {
        let Some((blocks, snapshot)) = &stored.new else { return };
        self.change.blocks.extend(blocks.iter().cloned());
        self.change.snapshots.push(snapshot.clone());
        let state = UncommittedState { snapshot: stored.snapshot, layers: stored.layers.clone() };
        self.head.uncommitted.insert(decided_by, state);
    }

    /// There is something to be written.
    pub fn has_events(&self) -> bool {
        !self.change.events.is_empty()
    }

    /// Makes the event the only forward extremity, or one more of them in place of those that it refers to.
    pub fn extend(&mut self, nid: EventNid, pdu: &Pdu) {
        let prev_events = pdu.prev_events();
        self.head.extremities.retain(|extremity| !prev_events.contains(&extremity.id));
        self.head.extremities.push(Extremity { nid, id: pdu.event_id().to_owned() });
        self.head.depth = self.head.depth.max(pdu.depth());
    }

    /// Puts the redacted form of an event in its place.
    pub fn redact(&mut self, target: &StoredEvent, by: &Arc<StoredEvent>) -> Result<(), RoomError> {
        let redacted = myelin_core::pdu::redact::redact(&target.pdu)
            .map_err(|error| RoomError::Invalid(error.to_string()))?;
        self.change.redactions.push(AppliedRedaction {
            target: target.nid,
            by: by.nid,
            pdu_json: redacted.json().to_owned(),
        });
        for essential in self.head.essentials.iter_mut().map(|(_, essential)| essential) {
            if essential.nid == target.nid {
                essential.pdu = redacted.clone();
            }
        }
        let event = StoredEvent {
            redacted_by: Some(by.nid),
            redacted_because: Some(by.pdu.clone()),
            pdu: redacted,
            ..target.clone()
        };
        if self.head.decided.contains_key(&target.nid) {
            self.head.decided.insert(target.nid, Arc::new(event.clone()));
        }
        self.redacted.push(event);
        Ok(())
    }

    /// The submission that makes it durable, the head that the next decision builds on, and the end of the promise.
    pub fn finish(
        mut self,
        slot: Arc<Published>,
        actor: Decider,
    ) -> (Head, Submission, oneshot::Receiver<Result<(), RoomError>>) {
        let room_id =
            self.head.room_id.clone().expect("a decision has an event, and with it the room its id");
        self.head.fence = self.fence + 1;
        self.head.exists = true;
        let (answer, committed) = oneshot::channel();
        let publication = Publication {
            slot,
            view: self.head.pending_view(room_id.clone()),
            events: self.pending,
            redacted: self.redacted,
            answer,
            actor,
        };
        let create = self.created.then(|| NewRoom { room_id, version: self.head.version.id.clone() });
        let change = RoomChange {
            room: self.head.nid,
            create,
            fence: self.fence,
            events: self.change.events,
            blocks: self.change.blocks,
            snapshots: self.change.snapshots,
            head: NewHead {
                snapshot: self.head.snapshot,
                extremities: self.head.extremities.iter().map(|extremity| extremity.nid).collect(),
                depth: self.head.depth,
            },
            members: self.change.members,
            redactions: self.change.redactions,
            transactions: self.change.transactions,
            relations: self.change.relations,
        };
        let submission =
            Submission { change: Change::Room(change), effect: Effect::Decided(Box::new(publication)) };
        (self.head, submission, committed)
    }
}
