//! What a commit does to the store.

use std::collections::{HashMap, HashSet};

use myelin_core::{nid::RoomNid, position::Position};
use myelin_storage::{
    commit::{Batch, Change, CommitError, NewEvent, ROOM_IDS, RoomChange},
    error::StorageError,
    events::{Replaced, StoredEvent},
    members::MemberRow,
    rooms::RoomRow,
    transactions::TransactionRow,
};
use ruma::OwnedRoomId;

use super::Inner;

impl Inner {
    /// Whether the batch's decisions were built on what is stored.
    pub fn check(&self, batch: &Batch) -> Result<(), CommitError> {
        let mut fences: HashMap<RoomNid, i64> = HashMap::new();
        for change in &batch.changes {
            let Change::Room(room) = change else { continue };
            let stored = self.rooms.get(&room.room).map_or(0, |row| row.fence);
            let fence = fences.entry(room.room).or_insert(stored);
            if *fence != room.fence
                || room.create.is_some() == self.rooms.contains_key(&room.room) && room.fence == stored
            {
                return Err(CommitError::Fence(vec![room.room]));
            }
            *fence = room.next_fence;
        }
        let mut ids: HashSet<&OwnedRoomId> = self.rooms.values().map(|row| &row.room_id).collect();
        let mut created = batch.changes.iter().filter_map(|change| match change {
            Change::Room(room) => room.create.as_ref(),
            _ => None,
        });
        if created.any(|new| !ids.insert(&new.room_id)) {
            return Err(CommitError::Storage(StorageError::Conflict(ROOM_IDS.to_owned())));
        }
        Ok(())
    }

    /// Stores the batch: the positions of each change.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Vec<Position>> {
        let mut given = Vec::new();
        for change in &batch.changes {
            let positions: Vec<Position> = (0..change.positions())
                .map(|_| {
                    self.position += 1;
                    Position(self.position)
                })
                .collect();
            if let Change::Room(room) = change {
                self.apply_room(room, &positions);
            }
            given.push(positions);
        }
        self.batches.insert(batch.id, Position(self.position));
        self.commits += 1;
        given
    }

    fn store_event(&mut self, room: RoomNid, event: &NewEvent, position: Position) {
        let replaced = event.replaces.and_then(|nid| self.events.get(&nid)).map(|event| Replaced {
            event_id: event.pdu.event_id().to_owned(),
            sender: event.pdu.sender().to_owned(),
            content: event.pdu.content().to_owned(),
        });
        let stored = StoredEvent {
            nid: event.nid,
            room,
            type_nid: event.type_nid,
            state_key: event.state_key,
            sender: event.sender,
            admission: event.admission,
            snapshot: event.snapshot,
            position,
            place: event.placement.at(position),
            replaces: event.replaces,
            redacted_by: None,
            pdu: event.pdu.clone(),
            prev_content: replaced,
            redacted_because: None,
        };
        let before = self.events.remove(&event.nid);
        assert!(
            before
                .as_ref()
                .is_none_or(|before| before.place.is_none() && before.pdu.event_id() == event.pdu.event_id()),
            "an event in the timeline was written again"
        );
        let same = self.ids.insert(event.pdu.event_id().to_owned(), event.nid);
        assert!(same.is_none_or(|same| same == event.nid), "an event was stored twice");
        let stored = match before {
            // What is redacted stays so.
            Some(before) if before.redacted_by.is_some() => StoredEvent {
                redacted_by: before.redacted_by,
                pdu: before.pdu,
                redacted_because: before.redacted_because,
                ..stored
            },
            _ => stored,
        };
        self.events.insert(event.nid, stored);
    }

    fn apply_room(&mut self, change: &RoomChange, positions: &[Position]) {
        for (event, position) in change.events.iter().zip(positions) {
            self.index.add(event, *position);
            self.store_event(change.room, event, *position);
        }
        self.waiting.extend(change.waiting.iter().map(|waiting| (waiting.redaction, waiting.target.clone())));
        self.apply_redactions(change);
        self.apply_state(change);
        let position = positions.last().copied().unwrap_or_default();
        self.apply_head(change, position);
        self.apply_members(change, position);
        for txn in &change.transactions {
            let row = TransactionRow {
                user: txn.user,
                device_id: txn.device_id.clone(),
                scope: txn.scope.clone(),
                txn_id: txn.txn_id.clone(),
                event_id: self.events[&txn.event].pdu.event_id().to_owned(),
                created_ms: txn.created_ms,
            };
            self.transactions.push((change.room, row));
        }
    }

    fn apply_redactions(&mut self, change: &RoomChange) {
        for redaction in &change.ended_waiting {
            self.waiting.remove(redaction);
        }
        for redaction in &change.redactions {
            let by = self.events[&redaction.by].pdu.clone();
            let target = self.events.get_mut(&redaction.target).expect("what is redacted is stored");
            target.pdu = myelin_core::pdu::redact::redact(&target.pdu).unwrap();
            target.redacted_by = Some(redaction.by);
            target.redacted_because = Some(by);
        }
    }

    fn apply_state(&mut self, change: &RoomChange) {
        for block in &change.blocks {
            assert!(
                self.blocks.insert(block.nid, (change.room, block.block.clone())).is_none(),
                "a block NID was used twice"
            );
        }
        for snapshot in &change.snapshots {
            for block in snapshot.blocks.blocks() {
                assert!(self.blocks.contains_key(block), "a snapshot refers to a block that is not stored");
            }
            self.snapshots.insert(snapshot.nid, (change.room, snapshot.blocks.clone()));
        }
    }

    fn apply_head(&mut self, change: &RoomChange, position: Position) {
        if let Some(create) = &change.create {
            let row = RoomRow {
                nid: change.room,
                room_id: create.room_id.clone(),
                room_version: create.version.clone(),
                fence: 0,
                snapshot: None,
                extremities: Vec::new(),
                depth: 0,
                position,
                receipt_position: Position::START,
                has_waiting: false,
            };
            self.rooms.insert(change.room, row);
        }
        let row = self.rooms.get_mut(&change.room).expect("the fence was checked");
        row.fence = change.next_fence;
        row.snapshot = change.head.snapshot;
        row.extremities.clone_from(&change.head.extremities);
        row.depth = change.head.depth;
        if change.create.is_some() || change.shows() {
            row.position = position;
        }
        row.room_version = change.head.version.clone();
    }

    fn apply_members(&mut self, change: &RoomChange, position: Position) {
        for member in change.members.iter().filter(|member| member.is_local && member.changed) {
            self.stripped.remove(&(change.room, member.user));
        }
        for kept in &change.stripped {
            self.stripped.insert((change.room, kept.user), kept.events.clone());
        }
        for member in &change.members {
            let row = MemberRow {
                room: change.room,
                user: member.user,
                membership: member.membership,
                event: member.event,
                position,
                is_local: member.is_local,
                joined_at: None,
                forgotten: false,
            };
            self.members.insert((change.room, member.user), row);
        }
    }
}
