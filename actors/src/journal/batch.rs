//! What waits for a commit, and what follows from it.

use std::sync::Arc;

use actix::Recipient;
use futures::channel::oneshot;
use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{
    commit::{Audience, Change, Placement},
    events::StoredEvent,
};
use ruma::OwnedDeviceId;

use crate::{
    events::Events,
    registry::{Published, WeakRooms},
    room::{
        error::RoomError,
        messages::{EventsCommitted, SubmissionLost},
        pending::Promise,
        pending_view::PendingView,
    },
    sync::messages::{EventOutput, MemberOutput, Output},
};

/// One change and what follows when it is durable.
pub(crate) struct Submission {
    /// What to write.
    pub change: Change,
    /// What follows.
    pub effect: Effect,
}

/// What follows from a commit.
pub(crate) enum Effect {
    /// A room's decision: its view is published, its events are told.
    Decided(Box<Publication>),
    /// Something else: whoever asked is told its position.
    Written(oneshot::Sender<Result<Position, RoomError>>),
}

/// What readers see once a room's decision is durable.
pub(crate) struct Publication {
    /// Where the view is shown.
    pub slot: Arc<Published>,
    /// The view, but for the positions that the commit gives.
    pub view: PendingView,
    /// The decision's events in order, as many as the change has.
    pub events: Vec<PendingEvent>,
    /// Users of this server who are something else now, by which event of those known before.
    pub members: Vec<(UserNid, Membership, EventNid)>,
    /// Somebody's event in the index of members is another.
    pub changes_members: bool,
    /// Events that the decision redacts, with their new form.
    pub redacted: Vec<StoredEvent>,
    /// The value of the fence that the decision was built on.
    pub fence: i64,
    /// Resolves every `Pending` that relies on the decision.
    pub promise: Promise,
    /// The room's actor, to be told what became of the decision.
    pub actor: Decider,
}

/// The incarnation of a room that made a decision.
pub(crate) struct Decider {
    pub rooms: WeakRooms,
    pub room: RoomNid,
    pub incarnation: u64,
    pub lost: Recipient<SubmissionLost>,
    pub committed: Recipient<EventsCommitted>,
}

/// An event whose position is not known yet.
pub(crate) struct PendingEvent {
    /// The event, with positions that do not count.
    pub event: StoredEvent,
    /// Where in the timeline it stands.
    pub placement: Placement,
    /// The client's transaction that made it.
    pub txn: Option<(UserNid, OwnedDeviceId, String)>,
    /// Whose membership it changed, to what.
    pub membership: Option<(UserNid, Membership)>,
    /// The other servers in the room are told of it by this one.
    pub relay: bool,
    /// It was stored before, outside the room's graph.
    pub is_known: bool,
}

/// What became of a submission.
pub(crate) enum Outcome {
    /// It is durable: one position for each event, or one.
    Committed(Submission, Vec<Position>),
    /// It is not.
    Lost(Submission),
}

/// Someone to be answered after everything has been published.
pub(crate) enum Answer {
    Decided(Promise),
    Written(oneshot::Sender<Result<Position, RoomError>>, Position),
}

impl Answer {
    /// Answers. Nobody may be listening any more.
    pub fn send(self) {
        match self {
            Self::Decided(promise) => promise.keep(),
            Self::Written(answer, position) => drop(answer.send(Ok(position))),
        }
    }
}

impl Submission {
    /// Shows what is durable now, adds to `outputs` what subscribers are to be told, and returns whom to answer.
    pub fn publish(self, positions: &[Position], events: &Events, outputs: &mut Vec<Output>) -> Answer {
        match self.effect {
            Effect::Decided(publication) => publication.publish(positions, events, outputs),
            Effect::Written(answer) => {
                let position = positions.last().copied().unwrap_or_default();
                add_outputs(self.change, position, outputs);
                Answer::Written(answer, position)
            }
        }
    }

    /// Tells those who wait that it did not happen.
    pub fn lose(self) {
        match self.effect {
            Effect::Decided(publication) => {
                // Nobody finds the actor any more before the caller learns of it: who tries again gets a new one.
                let Decider { rooms, room, incarnation, lost, .. } = &publication.actor;
                rooms.discard(*room, *incarnation);
                lost.do_send(SubmissionLost);
                drop(publication.promise);
            }
            Effect::Written(answer) => drop(answer.send(Err(RoomError::Lost))),
        }
    }
}

/// What subscribers are to be told of a change that is no room's.
fn add_outputs(change: Change, position: Position, outputs: &mut Vec<Output>) {
    match change {
        Change::Room(_) => {}
        Change::Receipt(receipt) => {
            outputs.push(Output::Receipt { room: receipt.room, position, receipt: Arc::new(receipt) });
        }
        Change::AccountData(data) => {
            outputs.push(Output::AccountData { user: data.user, room: data.room, position });
        }
        Change::Outgoing(edu) => outputs.push(Output::Outgoing { servers: edu.servers.into(), position }),
        Change::ToDevice(change) => {
            outputs.extend(change.messages.into_iter().map(|message| Output::ToDevice {
                user: message.user,
                device_id: message.device_id,
                position,
            }));
        }
        Change::DeviceList(change) => {
            let (user, rooms, as_of) = match change.audience {
                Audience::Rooms { rooms, as_of } => (change.user, rooms.into(), as_of),
                Audience::Only(viewer) => (viewer, Arc::default(), position),
                Audience::Nobody => return,
            };
            outputs.push(Output::DeviceLists { user, rooms, as_of, position });
        }
    }
}

impl Publication {
    fn publish(self, positions: &[Position], events: &Events, outputs: &mut Vec<Output>) -> Answer {
        let mut nids: Vec<EventNid> = Vec::with_capacity(self.events.len());
        let (mut timeline, mut told) = (Vec::new(), Vec::new());
        for (mut pending, position) in self.events.into_iter().zip(positions) {
            pending.event.position = *position;
            pending.event.place = pending.placement.at(*position);
            let event = Arc::new(pending.event);
            nids.push(event.nid);
            if pending.is_known || event.place.is_none() {
                events.forget(event.nid);
            }
            // Few ever ask for what has no place.
            if event.place.is_some() {
                events.insert(&event);
            }
            if pending.placement == Placement::Live {
                timeline.push(Arc::clone(&event));
                told.push((event, pending.txn, pending.membership, pending.relay));
            } else if pending.relay && event.admission == AdmissionCode::Accepted {
                // Other servers are told of it, clients are not.
                told.push((event, None, None, true));
            }
        }
        let redacted: Vec<Arc<StoredEvent>> = self.redacted.into_iter().map(Arc::new).collect();
        for event in &redacted {
            // Its bundled form may be in the cache already; what is stored is what counts.
            events.forget_redacted(event);
        }
        let before = self.slot.view();
        let last = positions.last().copied().unwrap_or_default();
        let is_quiet = timeline.is_empty() && !self.changes_members;
        let position = before.as_ref().filter(|_| is_quiet).map_or(last, |view| view.position);
        let view = Arc::new(self.view.commit(position, before.as_deref(), timeline, &redacted));
        self.slot.publish(&view);
        outputs.extend(self.members.into_iter().map(|(user, membership, member_event)| {
            let view = Arc::clone(&view);
            Output::Member(Arc::new(MemberOutput { view, user, membership, member_event, position: last }))
        }));
        outputs.extend(told.into_iter().map(|(event, txn, membership, relay)| {
            Output::Event(Arc::new(EventOutput { event, view: Arc::clone(&view), txn, membership, relay }))
        }));
        if is_quiet && !redacted.is_empty() {
            outputs.push(Output::Redacted(view));
        }
        self.actor.committed.do_send(EventsCommitted { fence: self.fence, events: nids });
        Answer::Decided(self.promise)
    }
}
