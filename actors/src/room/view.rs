//! What readers see of a room: its committed state, immutable and shared.

use std::sync::Arc;

use imbl::{HashMap, Vector};
use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid, types},
    pdu::Pdu,
    position::Position,
    state::{StateKey, StateMap},
    version::RoomVersion,
};
use myelin_storage::events::StoredEvent;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, ServerName};

/// How many of a room's last timeline events a view holds.
pub const RECENT: usize = 100;
/// At how many places at once branches may differ for a view to name them.
pub(super) const MAX_RESOLVED: usize = 1_000;

/// State event types whose content every view holds, for the empty state key.
pub const ESSENTIAL: &[TypeNid] = &[
    types::CREATE,
    types::POWER_LEVELS,
    types::JOIN_RULES,
    types::HISTORY_VISIBILITY,
    types::GUEST_ACCESS,
    types::NAME,
    types::TOPIC,
    types::AVATAR,
    types::CANONICAL_ALIAS,
    types::ENCRYPTION,
    types::SERVER_ACL,
    types::TOMBSTONE,
    types::POLICY,
];

/// A member of the room in its current state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What they are.
    pub membership: Membership,
    /// The member event that says so.
    pub event: EventNid,
    /// They are a user of this server.
    pub is_local: bool,
}

/// A state event that is kept with its content.
#[derive(Clone, Debug)]
pub struct Essential {
    /// The event's number.
    pub nid: EventNid,
    /// The event.
    pub pdu: Pdu,
}

/// A room as of one commit. Cloning parts of it is cheap: maps share their structure from view to view.
#[derive(Clone, Debug)]
pub struct RoomView {
    /// The room's number.
    pub nid: RoomNid,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: &'static RoomVersion,
    /// When its timeline or state last changed.
    pub position: Position,
    /// The current state's snapshot.
    pub snapshot: Option<SnapshotNid>,
    /// The current state.
    pub state: StateMap,
    /// Everyone with a member event in the current state.
    pub members: HashMap<UserNid, Member>,
    /// How many of them have joined.
    pub joined: usize,
    /// How many of them are invited.
    pub invited: usize,
    /// How many joined members each server has, this one too. Servers without any are not there.
    pub servers: HashMap<OwnedServerName, usize>,
    /// The [`ESSENTIAL`] state events.
    pub essentials: HashMap<TypeNid, Essential>,
    /// The forward extremities: the events that the next one follows.
    pub ends: Vec<OwnedEventId>,
    /// The last timeline events, oldest first, at most [`RECENT`].
    pub recent: Vector<Arc<StoredEvent>>,
    /// `recent` holds every live timeline event after this position.
    pub recent_from: Position,
    /// Where the current state changed without an event of that place in the timeline: branches met, and another event
    /// counts than before. Oldest first.
    pub resolved: Vector<Resolved>,
    /// `resolved` holds every such change after this position.
    pub resolved_from: Position,
}

/// Places in the state at which something else stands since that position than the timeline says.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Of the commit.
    pub position: Position,
    /// The places.
    pub places: Arc<[StateKey]>,
}

impl RoomView {
    /// The state event's number under this key in the current state.
    pub fn state_event(&self, event_type: TypeNid, key: StateKeyNid) -> Option<EventNid> {
        let key: StateKey = (event_type, key);
        self.state.get(&key).copied()
    }

    /// One of the [`ESSENTIAL`] state events.
    pub fn essential(&self, event_type: TypeNid) -> Option<&Pdu> {
        self.essentials.get(&event_type).map(|essential| &essential.pdu)
    }

    /// What the user is in the current state; `None`: they were never there.
    pub fn membership(&self, user: UserNid) -> Option<Membership> {
        self.members.get(&user).map(|member| member.membership)
    }

    /// The user has joined.
    pub fn is_joined(&self, user: UserNid) -> bool {
        self.membership(user) == Some(Membership::Join)
    }

    /// This server, whose name is `ours`, takes part in the room: what is decided here is the room's. Otherwise what
    /// is known is old, or nothing but what users were told when they were invited.
    pub fn is_resident(&self, ours: &ServerName) -> bool {
        let has_state = self.essentials.contains_key(&types::CREATE);
        has_state && (self.servers.contains_key(ours) || self.servers.is_empty())
    }

    /// The places at which the current state changed after this position without an event of theirs in the timeline.
    /// `None`: not known from there on.
    pub fn resolved_after(&self, since: Position) -> Option<impl Iterator<Item = StateKey> + '_> {
        let later = self.resolved.iter().rev().take_while(move |resolved| resolved.position > since);
        (since >= self.resolved_from).then(|| later.flat_map(|resolved| resolved.places.iter().copied()))
    }

    /// Live timeline events after `since` up to `upto`, oldest first; `None` when the view does not reach back so far.
    pub fn timeline(&self, since: Position, upto: Position) -> Option<Vec<Arc<StoredEvent>>> {
        if since < self.recent_from {
            return None;
        }
        let start = self.recent.partition_point(|event| event.position <= since);
        Some(self.recent.iter().skip(start).take_while(|event| event.position <= upto).cloned().collect())
    }
}

trait PartitionPoint<T> {
    fn partition_point(&self, before: impl FnMut(&T) -> bool) -> usize;
}

impl<T: Clone> PartitionPoint<T> for Vector<T> {
    fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if before(&self[middle]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}
