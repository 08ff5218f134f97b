//! What a room's next decision builds on, and what readers will see of it.
//!
//! The decided head runs ahead of the commits. It cannot be shown: readers get a [`RoomView`], which only
//! [`PendingView::commit`] makes, from the position that a commit has given.

use std::sync::Arc;

use imbl::{HashMap, OrdMap, Vector};
use myelin_core::{
    auth::power_levels::PowerLevels,
    membership::Membership,
    nid::{BlockNid, EMPTY_STATE_KEY, EventNid, RoomNid, SnapshotNid, UserNid, types},
    pdu::Pdu,
    position::Position,
    state::{StateKey, StateMap, tiers::Layers},
    version::RoomVersion,
};
use myelin_storage::{
    commit::{NewBlock, NewSnapshot},
    events::StoredEvent,
};
use ruma::{OwnedEventId, OwnedRoomId};

use super::{
    load::TRANSACTION_MS,
    messages::Txn,
    view::{ESSENTIAL, Essential, Member, RECENT, RoomView},
};

/// A forward extremity: an event that nothing refers to yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extremity {
    pub nid: EventNid,
    pub id: OwnedEventId,
}

/// An event that a client's transaction made.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub id: OwnedEventId,
    pub created_ms: u64,
}

/// The decided head. A clone costs little: maps and blocks are shared.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub nid: RoomNid,
    /// `None`: a room of a version whose id is made from its create event, before there is one.
    pub room_id: Option<OwnedRoomId>,
    pub version: &'static RoomVersion,
    /// The value that `rooms.version` will have when everything decided so far is committed.
    pub fence: i64,
    /// The room has a row in storage, or a decision on its way that makes one.
    pub exists: bool,
    pub snapshot: Option<SnapshotNid>,
    pub layers: Layers,
    pub state: StateMap,
    pub members: HashMap<UserNid, Member>,
    pub joined: usize,
    pub invited: usize,
    pub essentials: HashMap<myelin_core::nid::TypeNid, Essential>,
    pub extremities: Vec<Extremity>,
    pub depth: i64,
    /// Decided and not yet known to be committed: not in any cache.
    pub decided: HashMap<EventNid, Arc<StoredEvent>>,
    /// States that decided events made and that may not be stored yet, by the decision's last event.
    pub uncommitted: OrdMap<EventNid, UncommittedState>,
    pub transactions: HashMap<(UserNid, Txn), Sent>,
}

/// A state on its way to storage.
#[derive(Clone, Debug)]
pub(crate) struct UncommittedState {
    pub snapshot: SnapshotNid,
    pub layers: Layers,
}

/// A change of the room's current state under one key.
pub(crate) struct StateChange {
    pub key: StateKey,
    pub event: EventNid,
    pub pdu: Pdu,
    pub is_local: bool,
}

impl Head {
    /// A room without events.
    pub fn new(nid: RoomNid, room_id: Option<OwnedRoomId>, version: &'static RoomVersion) -> Self {
        Self {
            nid,
            room_id,
            version,
            fence: 0,
            exists: false,
            snapshot: None,
            layers: Layers::default(),
            state: StateMap::default(),
            members: HashMap::default(),
            joined: 0,
            invited: 0,
            essentials: HashMap::default(),
            extremities: Vec::new(),
            depth: 0,
            decided: HashMap::default(),
            uncommitted: OrdMap::default(),
            transactions: HashMap::default(),
        }
    }

    /// Decisions are on their way to storage.
    pub fn has_uncommitted(&self) -> bool {
        !self.decided.is_empty()
    }

    /// These events are durable, and with them every state decided before them.
    pub fn committed(&mut self, events: &[EventNid]) {
        for nid in events {
            self.decided.remove(nid);
        }
        if let Some(last) = events.last() {
            let (_, later) = self.uncommitted.split(last);
            self.uncommitted = later;
        }
    }

    /// Forgets transactions that clients will not repeat any more.
    pub fn forget_transactions(&mut self, now_ms: u64) {
        self.transactions.retain(|_, sent| sent.created_ms + TRANSACTION_MS > now_ms);
    }

    /// The layers of a snapshot that is the head's or on its way to storage.
    pub fn layers_of(&self, snapshot: SnapshotNid) -> Option<&Layers> {
        if self.snapshot == Some(snapshot) {
            return Some(&self.layers);
        }
        self.uncommitted.values().find(|state| state.snapshot == snapshot).map(|state| &state.layers)
    }

    /// The room's power levels; `None` before its create event.
    pub fn power_levels(&self) -> Option<PowerLevels> {
        let pdu = |event_type| self.essentials.get(&event_type).map(|essential: &Essential| &essential.pdu);
        Some(PowerLevels::new(pdu(types::CREATE)?, pdu(types::POWER_LEVELS)))
    }

    /// Puts the change into the state maps, not into the layers. What the user's membership was before, where the
    /// change is of a member event.
    pub fn note_state(&mut self, change: &StateChange) -> Option<Membership> {
        self.state.insert(change.key, change.event);
        let (event_type, state_key) = change.key;
        if state_key == EMPTY_STATE_KEY && ESSENTIAL.contains(&event_type) {
            self.essentials.insert(event_type, Essential { nid: change.event, pdu: change.pdu.clone() });
        }
        if event_type != types::MEMBER {
            return None;
        }
        let user = UserNid::from_state_key(state_key);
        let membership = Membership::of_event(&change.pdu).unwrap_or(Membership::Leave);
        let member = Member { membership, event: change.event, is_local: change.is_local };
        let before = self.members.insert(user, member).map(|member| member.membership);
        for (counted, total) in
            [(Membership::Join, &mut self.joined), (Membership::Invite, &mut self.invited)]
        {
            *total += usize::from(membership == counted);
            *total -= usize::from(before == Some(counted));
        }
        before
    }

    /// Puts changes into the layers, as one new block. The block and snapshot to be stored.
    pub fn append_layers(
        &mut self,
        decided_by: EventNid,
        changes: &[(StateKey, EventNid)],
        block_nids: &mut impl Iterator<Item = BlockNid>,
        snapshot_nid: SnapshotNid,
    ) -> (Vec<NewBlock>, NewSnapshot) {
        self.layers = self.layers.append(changes);
        let mut blocks = Vec::new();
        self.layers.name_new(|block| {
            let nid = block_nids.next().expect("a block NID was reserved for each change");
            blocks.push(NewBlock { nid, block: block.clone() });
            nid
        });
        self.snapshot = Some(snapshot_nid);
        self.uncommitted
            .insert(decided_by, UncommittedState { snapshot: snapshot_nid, layers: self.layers.clone() });
        let named = self.layers.snapshot().expect("all layers have just been named");
        let snapshot = NewSnapshot { nid: snapshot_nid, blocks: named };
        (blocks, snapshot)
    }

    /// The event if it is decided but perhaps not committed.
    pub fn decided_by_id(&self, id: &ruma::EventId) -> Option<&Arc<StoredEvent>> {
        self.decided.values().find(|event| event.pdu.event_id() == id)
    }

    /// What readers will see.
    pub fn pending_view(&self, room_id: OwnedRoomId) -> PendingView {
        PendingView {
            nid: self.nid,
            room_id,
            version: self.version,
            snapshot: self.snapshot,
            state: self.state.clone(),
            members: self.members.clone(),
            joined: self.joined,
            invited: self.invited,
            essentials: self.essentials.clone(),
        }
    }
}

/// A view that lacks only what the commit gives.
#[derive(Debug)]
pub(crate) struct PendingView {
    nid: RoomNid,
    room_id: OwnedRoomId,
    version: &'static RoomVersion,
    snapshot: Option<SnapshotNid>,
    state: StateMap,
    members: HashMap<UserNid, Member>,
    joined: usize,
    invited: usize,
    essentials: HashMap<myelin_core::nid::TypeNid, Essential>,
}

impl PendingView {
    /// The view, now that it is durable: `timeline` follows what `previous` showed, and `redacted` events take the
    /// place of their older forms.
    pub fn commit(
        self,
        position: Position,
        previous: Option<&RoomView>,
        timeline: Vec<Arc<StoredEvent>>,
        redacted: &[Arc<StoredEvent>],
    ) -> RoomView {
        let (mut recent, mut recent_from) = previous
            .map_or_else(|| (Vector::new(), Position::START), |view| (view.recent.clone(), view.recent_from));
        recent.extend(timeline);
        for event in redacted {
            if let Some(index) = recent.iter().position(|shown| shown.nid == event.nid) {
                let shown = &recent[index];
                let replaced =
                    StoredEvent { position: shown.position, place: shown.place, ..(**event).clone() };
                recent.set(index, Arc::new(replaced));
            }
        }
        while recent.len() > RECENT {
            if let Some(oldest) = recent.pop_front() {
                recent_from = oldest.position;
            }
        }
        RoomView {
            nid: self.nid,
            room_id: self.room_id,
            version: self.version,
            position,
            snapshot: self.snapshot,
            state: self.state,
            members: self.members,
            joined: self.joined,
            invited: self.invited,
            essentials: self.essentials,
            recent,
            recent_from,
        }
    }
}
