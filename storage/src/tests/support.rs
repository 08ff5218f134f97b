//! A room that grows: users, state and messages in it, each step a change that the journal could have made.

use std::sync::atomic::{AtomicU64, Ordering};

use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EMPTY_STATE_KEY, EventNid, RoomNid, SnapshotNid, UserNid, types},
    pdu::{Pdu, hash, json},
    position::Position,
    state::{Layers, StateKey},
    version,
};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    Storage,
    commit::{
        self, Batch, Change, CommitError, MemberChange, NewBlock, NewEvent, NewHead, NewRoom, NewSnapshot,
        Placement, RoomChange,
    },
    nids::Nids,
};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no test has had before.
pub(super) fn unique() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The database, and a room as an actor would know it.
pub(super) struct World {
    pub(super) storage: Storage,
    pub(super) nids: Nids,
    pub(super) room: Room,
}

/// What an actor knows of its room.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) nid: RoomNid,
    pub(super) id: OwnedRoomId,
    pub(super) fence: i64,
    pub(super) layers: Layers,
    pub(super) snapshot: Option<SnapshotNid>,
    pub(super) last: Vec<(EventNid, OwnedEventId)>,
    pub(super) depth: i64,
}

/// The user of all tests.
pub(super) const ALICE: &str = "@alice:here";

impl World {
    pub(super) async fn new(storage: Storage) -> Self {
        let nids = Nids::new(storage.clone());
        let room = Room::new(&nids).await;
        Self { storage, nids, room }
    }

    pub(super) async fn user(&self, id: &str) -> UserNid {
        self.nids.intern_users(&[id]).await.expect("interned")[0]
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Vec<Position>>, CommitError> {
        self.commit_as(u128::from(unique()), changes).await
    }

    pub(super) async fn commit_as(
        &self,
        id: u128,
        changes: Vec<Change>,
    ) -> Result<Vec<Vec<Position>>, CommitError> {
        let mut client = self.storage.get().await.expect("connected");
        commit::commit(&mut client, &Batch { id, changes }).await
    }

    pub(super) async fn position(&self) -> Position {
        let client = self.storage.get().await.expect("connected");
        crate::timeline::current_position(&client).await.expect("there is a journal")
    }

    /// A message in the room, as a change that is not committed yet.
    pub(super) async fn message(&mut self, content: Value) -> RoomChange {
        let (nids, room) = (self.nids.clone(), &mut self.room);
        room.event(&nids, ALICE, "m.room.message", None, content).await
    }

    /// A state event in the room, as a change that is not committed yet.
    pub(super) async fn state(&mut self, sender: &str, kind: &str, key: &str, content: Value) -> RoomChange {
        let (nids, room) = (self.nids.clone(), &mut self.room);
        room.event(&nids, sender, kind, Some(key), content).await
    }
}

impl Room {
    pub(super) async fn new(nids: &Nids) -> Self {
        let nid = nids.next_room_nid().await.expect("a number");
        let id = OwnedRoomId::try_from(format!("!{}:here", unique())).expect("an id");
        let layers = Layers::default();
        Self { nid, id, fence: 0, layers, snapshot: None, last: Vec::new(), depth: 0 }
    }

    /// An event after the last one, with what it changes of the state.
    pub(super) async fn event(
        &mut self,
        nids: &Nids,
        sender: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> RoomChange {
        let pdu = self.pdu(sender, kind, state_key, &content);
        let event = self.new_event(nids, pdu).await;
        let mut change = self.change(event.clone());
        if let (Some(name), Some(state_key)) = (state_key, event.state_key) {
            self.set_state(nids, (event.type_nid, state_key), event.nid, &mut change).await;
            if kind == "m.room.member" {
                let membership = content["membership"].as_str().and_then(Membership::parse).expect("known");
                change.members.push(MemberChange {
                    user: UserNid::from_state_key(state_key),
                    membership,
                    event: event.nid,
                    is_local: name.ends_with(":here"),
                    changed: event.replaces.is_none(),
                    display_name: content["displayname"].as_str().map(str::to_owned),
                });
            }
        }
        self.last = vec![(event.nid, event.pdu.event_id().to_owned())];
        change.head.snapshot = self.snapshot;
        change.head.extremities = vec![event.nid];
        change
    }

    pub(super) fn pdu(&mut self, sender: &str, kind: &str, state_key: Option<&str>, content: &Value) -> Pdu {
        self.depth += 1;
        let mut json = json!({
            "auth_events": [],
            "content": content,
            "depth": self.depth,
            "hashes": {"sha256": format!("{:043}", unique())},
            "origin_server_ts": self.depth * 1000,
            "prev_events": self.last.iter().map(|(_, id)| id).collect::<Vec<_>>(),
            "room_id": self.id,
            "sender": sender,
            "type": kind,
        });
        if let Some(state_key) = state_key {
            json["state_key"] = state_key.into();
        }
        let version = version::find(&RoomVersionId::V11).expect("known");
        let text = json.to_string();
        let object = json::parse(version, &text).expect("canonical");
        let id = hash::event_id(version, &object).expect("an id");
        Pdu::from_stored(version, id, text).expect("an event")
    }

    pub(super) async fn new_event(&self, nids: &Nids, pdu: Pdu) -> NewEvent {
        let type_nid = nids.intern_types(&[pdu.event_type()]).await.expect("interned")[0];
        let state_key = match pdu.state_key() {
            Some(key) => Some(nids.intern_state_keys(&[key]).await.expect("interned")[0]),
            None => None,
        };
        NewEvent {
            nid: nids.next_event_nid().await.expect("a number"),
            sender: nids.intern_users(&[pdu.sender()]).await.expect("interned")[0],
            type_nid,
            state_key,
            admission: AdmissionCode::Accepted,
            reason: None,
            snapshot: self.snapshot,
            placement: Placement::Live,
            prev_nids: self.last.iter().map(|(nid, _)| *nid).collect(),
            auth_nids: self.layers.get((types::CREATE, EMPTY_STATE_KEY)).into_iter().collect(),
            replaces: state_key.and_then(|key| self.layers.get((type_nid, key))),
            relay: false,
            pdu,
        }
    }

    pub(super) fn change(&mut self, event: NewEvent) -> RoomChange {
        let create =
            (self.fence == 0).then(|| NewRoom { room_id: self.id.clone(), version: RoomVersionId::V11 });
        let fence = self.fence;
        self.fence = commit::next_fence(fence, u32::try_from(unique()).expect("not that many"));
        RoomChange {
            room: self.nid,
            create,
            fence,
            next_fence: self.fence,
            head: NewHead {
                snapshot: self.snapshot,
                extremities: self.last.iter().map(|(nid, _)| *nid).collect(),
                depth: self.depth,
                version: RoomVersionId::V11,
            },
            events: vec![event],
            blocks: Vec::new(),
            snapshots: Vec::new(),
            members: Vec::new(),
            redactions: Vec::new(),
            transactions: Vec::new(),
            relations: Vec::new(),
            stripped: Vec::new(),
            waiting: Vec::new(),
            ended_waiting: Vec::new(),
            resolved: None,
            expiring: Vec::new(),
        }
    }

    async fn set_state(&mut self, nids: &Nids, key: StateKey, event: EventNid, change: &mut RoomChange) {
        self.layers = self.layers.append(&[(key, event)]);
        let nid = nids.next_block_nid().await.expect("a number");
        self.layers.name_new(|block| {
            change.blocks.push(NewBlock { nid, block: block.clone() });
            nid
        });
        let snapshot = nids.next_snapshot_nid().await.expect("a number");
        let blocks = self.layers.snapshot().expect("all blocks have numbers");
        change.snapshots.push(NewSnapshot { nid: snapshot, blocks });
        self.snapshot = Some(snapshot);
    }
}
