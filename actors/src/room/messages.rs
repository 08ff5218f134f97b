//! What a `RoomActor` can be asked, each with its answer.

use std::collections::HashMap;

use actix::Message;
use myelin_core::{nid::EventNid, pdu::Pdu, policy::PolicyServer, position::TimelinePlace};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedEventId, OwnedUserId};
use serde_json::value::RawValue;

use super::{error::RoomError, pending::Pending};

/// A client's transaction id, and what it is scoped to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Txn {
    /// The device that sent it.
    pub device_id: OwnedDeviceId,
    /// What else it is scoped to: endpoint and event type.
    pub scope: String,
    /// The id as the client made it.
    pub txn_id: String,
}

/// An event that a local user wants in the room.
#[derive(Clone, Debug)]
pub struct SendEvent {
    /// Who sends it.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its state key; `None`: not a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: CanonicalJsonObject,
    /// The event that it redacts.
    pub redacts: Option<OwnedEventId>,
    /// The client's transaction: the same one again is answered with the same event.
    pub txn: Option<Txn>,
    /// When it says that it was sent; `None`: now.
    pub origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl SendEvent {
    /// A state event.
    pub fn state(
        sender: OwnedUserId,
        event_type: impl Into<String>,
        state_key: impl Into<String>,
        content: CanonicalJsonObject,
    ) -> Self {
        Self {
            sender,
            event_type: event_type.into(),
            state_key: Some(state_key.into()),
            content,
            redacts: None,
            txn: None,
            origin_server_ts: None,
        }
    }

    /// An event that is not state.
    pub fn message(sender: OwnedUserId, event_type: impl Into<String>, content: CanonicalJsonObject) -> Self {
        Self {
            sender,
            event_type: event_type.into(),
            state_key: None,
            content,
            redacts: None,
            txn: None,
            origin_server_ts: None,
        }
    }
}

/// Sends events in this order, all or none.
pub(crate) struct SendEvents(pub Vec<SendEvent>);

impl Message for SendEvents {
    type Result = Result<Pending<Sending>, RoomError>;
}

/// What became of events to be sent.
pub(crate) enum Sending {
    /// They are in the room: their ids, in their order.
    Sent(Vec<OwnedEventId>),
    /// This server has to sign them first. Nothing was added.
    Unsigned(PolicyServer, Vec<Unsigned>),
}

/// One of the events that a policy server has to sign.
pub(crate) enum Unsigned {
    /// It is in the room already.
    Known(OwnedEventId),
    /// As it would be sent, for this transaction.
    New(Box<Pdu>, Option<Txn>),
}

/// Adds an event of this server that was built before, and that the room's policy server has signed since. Answered
/// with its id; that of another event when that was made by the same transaction meanwhile.
pub(crate) struct AddSigned {
    pub pdu: Pdu,
    pub txn: Option<Txn>,
}

impl Message for AddSigned {
    type Result = Result<Pending<OwnedEventId>, RoomError>;
}

/// What became of an event from another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is in the timeline.
    Accepted,
    /// It was here already.
    Known,
    /// It is stored, but not shown and not built upon.
    SoftFailed(String),
    /// It is stored, so that it is not asked for again, and otherwise ignored.
    Rejected(String),
    /// These events must come first. Nothing was stored.
    Missing(Vec<OwnedEventId>),
    /// It would be accepted, but the room's policy server has not signed it. Nothing was stored:
    /// [`RoomHandle::sign_by_policy`](super::handle::RoomHandle::sign_by_policy) asks for the signature.
    Unsigned(PolicyServer),
}

/// What is known of a policy server's opinion about an event that it has not signed.
#[derive(Clone, Debug, Default)]
pub enum Opinion {
    /// It was not asked.
    #[default]
    Unasked,
    /// It does not sign the event, for this reason.
    Refused(String),
}

/// An event from another server, whose format, hash and signatures were checked.
pub(crate) struct ReceivePdu {
    pub pdu: Pdu,
    /// If it is accepted, this server tells the other servers in the room of it.
    pub relay: bool,
    pub opinion: Opinion,
    /// Whoever hands it over has just looked: it was not stored.
    pub is_new: bool,
}

impl Message for ReceivePdu {
    type Result = Result<Pending<Received>, RoomError>;
}

/// What another server told of the state before an event. All the events named are stored.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// All of it.
    Before(Vec<OwnedEventId>),
    /// The state after each of the event's parents that are not here. What the others make of it is known.
    AfterParents(Vec<Vec<OwnedEventId>>),
}

impl Told {
    /// The states that were told.
    pub fn states(&self) -> &[Vec<OwnedEventId>] {
        match self {
            Self::Before(state) => std::slice::from_ref(state),
            Self::AfterParents(states) => states,
        }
    }
}

/// An event from another server with what was told of the state before it.
pub(crate) struct ReceiveAt {
    pub pdu: Pdu,
    pub told: Told,
    pub opinion: Opinion,
}

impl Message for ReceiveAt {
    type Result = Result<Pending<Received>, RoomError>;
}

/// Events known only as the base of others, each after those among them that it is based on. Answered in their order.
pub(crate) struct ReceiveOutliers(pub Vec<Pdu>);

impl Message for ReceiveOutliers {
    type Result = Result<Pending<Vec<(OwnedEventId, Received)>>, RoomError>;
}

/// Events from before this place in the timeline, the oldest first. Of those whose prev events are unknown, the state
/// before them comes along. Answered in their order.
pub(crate) struct ReceiveHistory {
    pub events: Vec<Pdu>,
    pub state_before: HashMap<OwnedEventId, Vec<OwnedEventId>>,
    pub before: TimelinePlace,
}

impl Message for ReceiveHistory {
    type Result = Result<Pending<Vec<Received>>, RoomError>;
}

/// One of our users is invited, knocks, or does so no more, in a room that this server is not in.
pub(crate) struct ReceiveMembership {
    pub member: Pdu,
    /// What is told of the room to those outside.
    pub stripped: Vec<Box<RawValue>>,
}

impl Message for ReceiveMembership {
    type Result = Result<Pending<()>, RoomError>;
}

/// One of our users no longer is what they were in a room that this server is not in.
pub(crate) struct LeaveOutside(pub OwnedUserId);

impl Message for LeaveOutside {
    type Result = Result<Pending<()>, RoomError>;
}

/// Builds and authorises an event on the decided head, without adding it. Answered with the event, and with the policy
/// server that has to sign it, if the room uses one.
pub(crate) struct PrepareEvent(pub SendEvent);

impl Message for PrepareEvent {
    type Result = Result<Pending<(Pdu, Option<PolicyServer>)>, RoomError>;
}

/// The same for an event that another server is to complete: its template.
pub(crate) struct MakeTemplate(pub SendEvent);

impl Message for MakeTemplate {
    type Result = Result<Pending<CanonicalJsonObject>, RoomError>;
}

/// Takes their content from those of these events that name a time which is over.
pub(crate) struct Expire(pub Vec<EventNid>);

impl Message for Expire {
    type Result = Result<Pending<()>, RoomError>;
}

/// Asks for an event that joins the room's forks, if there are many.
pub(crate) struct JoinForks;

impl Message for JoinForks {
    type Result = ();
}

/// Asks the room to stop if nobody needs it, without waiting for its own next look.
pub(crate) struct RetireIfIdle;

impl Message for RetireIfIdle {
    type Result = ();
}

/// A fact from the journal: what was built on this decision is gone. The actor ends; the next caller gets a new one.
pub(crate) struct SubmissionLost;

impl Message for SubmissionLost {
    type Result = ();
}

/// A fact from the journal: the decision on this value of the fence is durable, with these events.
pub(crate) struct EventsCommitted {
    pub fence: i64,
    pub events: Vec<EventNid>,
}

impl Message for EventsCommitted {
    type Result = ();
}
