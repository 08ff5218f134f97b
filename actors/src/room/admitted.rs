//! An event on which is decided, before it has a row.

use std::sync::Arc;

use myelin_core::{
    admit::AdmissionCode,
    nid::{EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid},
    pdu::Pdu,
    position::Position,
};
use myelin_storage::{
    commit::Placement,
    events::{Replaced, StoredEvent},
};
use ruma::OwnedDeviceId;

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
    /// Where in the timeline it stands.
    pub placement: Placement,
    /// The event as it was stored before, outside the room's graph.
    pub stored: Option<Arc<StoredEvent>>,
    pub txn: Option<(UserNid, OwnedDeviceId, String, String)>,
    /// The other servers in the room are told of it by this one.
    pub relay: bool,
}

impl Admitted {
    /// What storage will say of the event, but for its position. What was redacted stays so.
    pub fn stored_form(&self, room: RoomNid) -> StoredEvent {
        let redacted = self.stored.as_ref().filter(|stored| stored.redacted_by.is_some());
        StoredEvent {
            nid: self.nid,
            room,
            type_nid: self.type_nid,
            state_key: self.state_key,
            sender: self.sender,
            admission: self.admission,
            snapshot: self.snapshot,
            position: Position::START,
            place: match self.placement {
                Placement::Before(place) => Some(place),
                Placement::Live | Placement::Outside => None,
            },
            replaces: self.replaces.as_ref().map(|replaced| replaced.nid),
            redacted_by: redacted.and_then(|stored| stored.redacted_by),
            pdu: redacted.map_or(&self.pdu, |stored| &stored.pdu).clone(),
            prev_content: self.replaces.as_ref().map(|replaced| Replaced {
                event_id: replaced.pdu.event_id().to_owned(),
                sender: replaced.pdu.sender().to_owned(),
                content: replaced.pdu.content().to_owned(),
            }),
            redacted_because: redacted.and_then(|stored| stored.redacted_because.clone()),
        }
    }
}
