//! What a room's next decision builds on. It runs ahead of the commits, so it cannot be shown: readers get a view, which
//! only [`PendingView::commit`](super::pending_view::PendingView::commit) makes of it.

use std::sync::Arc;

use imbl::{HashMap, OrdMap};
use myelin_core::{
    auth::power_levels::PowerLevels,
    membership::Membership,
    nid::{BlockNid, EMPTY_STATE_KEY, EventNid, RoomNid, SnapshotNid, TypeNid, UserNid, types},
    pdu::Pdu,
    policy::PolicyServer,
    position::Position,
    state::{StateKey, StateMap, tiers::Layers},
    version::RoomVersion,
};
use myelin_storage::{
    commit::{NewBlock, NewSnapshot},
    events::StoredEvent,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, ServerName, UserId};
use serde::Deserialize;

use super::{
    load::TRANSACTION_MS,
    messages::Txn,
    state_of::RecentStates,
    view::{ESSENTIAL, Essential, Member},
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
    /// How many joined members each server has.
    pub servers: HashMap<OwnedServerName, usize>,
    pub essentials: HashMap<TypeNid, Essential>,
    pub extremities: Vec<Extremity>,
    pub depth: i64,
    /// Decided and not yet known to be committed: not in any cache.
    pub decided: HashMap<EventNid, Arc<StoredEvent>>,
    /// The fence of the decision that made each decided event what it is. An outlier may be given its place before
    /// it is durable as an outlier.
    pub decided_in: HashMap<EventNid, i64>,
    /// The lowest places that were given out before live events and that may not be stored yet.
    pub placed: HashMap<Position, i32>,
    /// States that decisions made and that may not be stored yet, by the decision's fence.
    pub uncommitted: OrdMap<(i64, SnapshotNid), UncommittedState>,
    pub transactions: HashMap<(UserNid, Txn), Sent>,
    /// Redactions may wait in the room for what they redact. Where none ever did, nobody has to look for them.
    pub has_waiting: bool,
    /// What was found out lately about states other than this.
    pub recent_states: RecentStates,
}

/// A state on its way to storage.
#[derive(Clone, Debug)]
pub(crate) struct UncommittedState {
    pub snapshot: SnapshotNid,
    pub layers: Layers,
}

/// A change of the room's current state under one key.
#[derive(Clone, Debug)]
pub(crate) struct StateChange {
    pub key: StateKey,
    /// The event that is there now; the one that was there, where now is none.
    pub event: EventNid,
    /// There is no event any more.
    pub is_gone: bool,
    /// The event's content, for types whose content every view holds.
    pub essential: Option<Pdu>,
    /// Whom a member event is about.
    pub member: Option<ChangedMember>,
}

/// The user whom a change of state is about.
#[derive(Clone, Debug)]
pub(crate) struct ChangedMember {
    pub membership: Membership,
    pub is_local: bool,
    /// `None`: the state key is no user id.
    pub server: Option<OwnedServerName>,
    /// What a user of another server is called.
    pub display_name: Option<String>,
}

impl StateChange {
    /// This event fills the place now. `ours` is this server.
    pub fn to(key: StateKey, event: EventNid, pdu: &Pdu, ours: &ServerName) -> Self {
        let is_essential = key.1 == EMPTY_STATE_KEY && ESSENTIAL.contains(&key.0);
        let member = (key.0 == types::MEMBER).then(|| {
            let user = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
            let is_local = user.is_some_and(|user| user.server_name() == ours);
            ChangedMember {
                membership: Membership::of_event(pdu).unwrap_or(Membership::Leave),
                is_local,
                server: user.map(|user| user.server_name().to_owned()),
                display_name: if is_local { None } else { display_name(pdu) },
            }
        });
        Self { key, event, is_gone: false, essential: is_essential.then(|| pdu.clone()), member }
    }

    /// No event fills the place any more in which this one was. A member whose event is gone has left.
    pub fn gone(key: StateKey, event: EventNid, pdu: &Pdu, ours: &ServerName) -> Self {
        let change = Self::to(key, event, pdu, ours);
        let member = change.member.map(|member| ChangedMember { membership: Membership::Leave, ..member });
        Self { is_gone: true, essential: None, member, ..change }
    }
}

fn display_name(pdu: &Pdu) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        displayname: String,
    }
    pdu.content_as().map(|content: Content| content.displayname)
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
            servers: HashMap::default(),
            essentials: HashMap::default(),
            extremities: Vec::new(),
            depth: 0,
            decided: HashMap::default(),
            decided_in: HashMap::default(),
            placed: HashMap::default(),
            uncommitted: OrdMap::default(),
            transactions: HashMap::default(),
            has_waiting: false,
            recent_states: RecentStates::default(),
        }
    }

    /// Decisions are on their way to storage.
    pub fn has_uncommitted(&self) -> bool {
        !self.decided.is_empty()
    }

    /// The decision on this fence is durable, with its events and with every state decided up to it.
    pub fn committed(&mut self, fence: i64, events: &[EventNid]) {
        for nid in events {
            if self.decided_in.get(nid).is_none_or(|decided| *decided <= fence) {
                self.decided.remove(nid);
                self.decided_in.remove(nid);
            }
        }
        self.uncommitted = self
            .uncommitted
            .iter()
            .filter(|((decided, _), _)| *decided > fence)
            .map(|(key, state)| (*key, state.clone()))
            .collect();
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

    /// The policy server that the room uses: the current state names it, and a user of it has joined.
    pub fn policy_server(&self) -> Option<PolicyServer> {
        let server = PolicyServer::of_event(&self.essentials.get(&types::POLICY)?.pdu)?;
        self.servers.contains_key(&server.name).then_some(server)
    }

    /// The room's power levels; `None` before its create event.
    pub fn power_levels(&self) -> Option<PowerLevels> {
        let pdu = |event_type: TypeNid| {
            self.essentials.get(&event_type).map(|essential: &Essential| &essential.pdu)
        };
        Some(PowerLevels::new(pdu(types::CREATE)?, pdu(types::POWER_LEVELS)))
    }

    /// Puts the change into the state maps, not into the layers. What the user's membership was before, where the
    /// change is of a member event.
    pub fn note_state(&mut self, change: &StateChange) -> Option<Membership> {
        if change.is_gone {
            self.state.remove(&change.key);
        } else {
            self.state.insert(change.key, change.event);
        }
        let (event_type, state_key) = change.key;
        if state_key == EMPTY_STATE_KEY && ESSENTIAL.contains(&event_type) {
            match &change.essential {
                Some(pdu) => {
                    drop(
                        self.essentials.insert(event_type, Essential { nid: change.event, pdu: pdu.clone() }),
                    );
                }
                None => drop(self.essentials.remove(&event_type)),
            }
        }
        self.note_member(UserNid::from_state_key(state_key), change.event, change.member.as_ref()?)
    }

    /// Puts the member into the maps of members. What the membership was before.
    pub fn note_member(
        &mut self,
        user: UserNid,
        event: EventNid,
        changed: &ChangedMember,
    ) -> Option<Membership> {
        let &ChangedMember { membership, is_local, .. } = changed;
        let before = self.members.insert(user, Member { membership, event, is_local });
        let before = before.map(|member| member.membership);
        for (counted, total) in
            [(Membership::Join, &mut self.joined), (Membership::Invite, &mut self.invited)]
        {
            *total += usize::from(membership == counted);
            *total -= usize::from(before == Some(counted));
        }
        if let Some(server) = &changed.server {
            self.note_server(server, before == Some(Membership::Join), membership == Membership::Join);
        }
        before
    }

    fn note_server(&mut self, server: &OwnedServerName, was_joined: bool, is_joined: bool) {
        if was_joined == is_joined {
            return;
        }
        let count = self.servers.get(server).copied().unwrap_or_default();
        let count = if is_joined { count + 1 } else { count.saturating_sub(1) };
        if count == 0 {
            self.servers.remove(server);
        } else {
            self.servers.insert(server.clone(), count);
        }
    }

    /// A user of this server is in the room.
    pub fn has_joined(&self, server: &ServerName) -> bool {
        self.servers.contains_key(server)
    }

    /// Puts changes into the layers, as one new block. The block and snapshot to be stored.
    pub fn append_layers(
        &mut self,
        fence: i64,
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
        let state = UncommittedState { snapshot: snapshot_nid, layers: self.layers.clone() };
        self.uncommitted.insert((fence, snapshot_nid), state);
        let named = self.layers.snapshot().expect("all layers have just been named");
        let snapshot = NewSnapshot { nid: snapshot_nid, blocks: named };
        (blocks, snapshot)
    }

    /// The event if it is decided but perhaps not committed.
    pub fn decided_by_id(&self, id: &ruma::EventId) -> Option<&Arc<StoredEvent>> {
        self.decided.values().find(|event| event.pdu.event_id() == id)
    }
}
