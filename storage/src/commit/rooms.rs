//! The rooms of a batch, and the fence that keeps a second actor of a room from writing over the first.

use std::collections::HashMap;

use myelin_core::nid::{EventNid, RoomNid, SnapshotNid};
use ruma::{OwnedRoomId, RoomVersionId};

use super::{Change, CommitError, Given, RoomChange};
use crate::{
    error::StorageError,
    pool::Transaction,
    row::{Columns, Number, array_literal, text},
    statements::statements,
};

statements! {
    CREATE_ROOMS = "
        INSERT INTO rooms (room_nid, room_id, room_version, version, snapshot_nid, extremities, depth, position)
        SELECT room_nid, room_id, room_version, version, snapshot_nid, extremities::BIGINT[], depth, position
        FROM   UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[], $4::BIGINT[], $5::BIGINT[], $6::TEXT[],
                      $7::BIGINT[], $8::BIGINT[])
               AS new (room_nid, room_id, room_version, version, snapshot_nid, extremities, depth, position)
    ",
    ADVANCE_ROOMS = "
        UPDATE rooms
        SET    version = new.version,
               snapshot_nid = new.snapshot_nid,
               extremities = new.extremities::BIGINT[],
               depth = new.depth,
               position = GREATEST(rooms.position, new.position),
               room_version = new.room_version
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::TEXT[], $6::BIGINT[],
                      $7::BIGINT[], $8::TEXT[])
               AS new (room_nid, expected, version, snapshot_nid, extremities, depth, position, room_version)
        WHERE  rooms.room_nid = new.room_nid
          AND  rooms.version = new.expected
        RETURNING rooms.room_nid
    ",
}

/// A room that the server did not know.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The version that its create event names.
    pub version: RoomVersionId,
}

/// A room after a change.
#[derive(Clone, Debug)]
pub struct NewHead {
    /// Its current state.
    pub snapshot: Option<SnapshotNid>,
    /// Its forward extremities.
    pub extremities: Vec<EventNid>,
    /// The greatest depth among them.
    pub depth: i64,
    /// Its version. Of a room of which nothing but single events is stored, it is what whoever brought them said.
    pub version: RoomVersionId,
}

/// The value of the fence after a decision that was built on this one. Where two are built on the same, at most one
/// becomes durable, and what was built on the other must not fit: so each has a random number of its own. The upper
/// half counts, so that each value is greater than the one before.
pub fn next_fence(fence: i64, random: u32) -> i64 {
    (((fence >> 32) + 1) << 32) | i64::from(random)
}

/// Several changes of one room must each build on the one before. Where they do not, the batch cannot be committed,
/// and the database need not be asked.
pub(super) fn check_chains(changes: &[Change]) -> Result<(), CommitError> {
    let mut fences: HashMap<RoomNid, i64> = HashMap::new();
    let mut broken = Vec::new();
    for change in changes {
        let Change::Room(change) = change else { continue };
        let before = fences.insert(change.room, change.next_fence);
        let follows = before.is_none_or(|fence| fence == change.fence && change.create.is_none());
        if !follows && !broken.contains(&change.room) {
            broken.push(change.room);
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(CommitError::Fence(broken)) }
}

/// One row for each room, with what it is after its last change in the batch.
#[derive(Default)]
pub(super) struct RoomRows<'a> {
    created: Columnar<'a>,
    advanced: Columnar<'a>,
    place_of: HashMap<RoomNid, (bool, usize)>,
}

/// The rows, column by column.
#[derive(Default)]
struct Columnar<'a> {
    room: Vec<i64>,
    room_id: Vec<std::borrow::Cow<'a, str>>,
    room_version: Vec<&'a str>,
    expected: Vec<i64>,
    version: Vec<i64>,
    snapshot: Vec<Option<i64>>,
    extremities: Vec<String>,
    depth: Vec<i64>,
    position: Vec<i64>,
}

impl<'a> RoomRows<'a> {
    pub(super) fn add(&mut self, change: &'a RoomChange, given: &Given<'_>) {
        if let Some((is_created, index)) = self.place_of.get(&change.room).copied() {
            let rows = if is_created { &mut self.created } else { &mut self.advanced };
            rows.set_head(index, change, given);
            return;
        }
        let rows = match &change.create {
            Some(new) => {
                self.created.room_id.push(text(new.room_id.as_str()));
                &mut self.created
            }
            None => &mut self.advanced,
        };
        let index = rows.room.len();
        rows.room.push(change.room.get());
        rows.room_version.push(change.head.version.as_str());
        rows.expected.push(change.fence);
        rows.version.push(0);
        rows.snapshot.push(None);
        rows.extremities.push(String::new());
        rows.depth.push(0);
        rows.position.push(0);
        rows.set_head(index, change, given);
        self.place_of.insert(change.room, (change.create.is_some(), index));
    }

    pub(super) async fn create(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let rows = &self.created;
        if rows.room.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(CREATE_ROOMS).await?;
        transaction
            .execute(
                &statement,
                &[
                    &rows.room,
                    &rows.room_id,
                    &rows.room_version,
                    &rows.version,
                    &rows.snapshot,
                    &rows.extremities,
                    &rows.depth,
                    &rows.position,
                ],
            )
            .await?;
        Ok(())
    }

    /// Moves the rooms on. Returns those that were not at the expected version, which are as they were.
    pub(super) async fn advance(&self, transaction: &Transaction<'_>) -> Result<Vec<RoomNid>, StorageError> {
        let rows = &self.advanced;
        if rows.room.is_empty() {
            return Ok(Vec::new());
        }
        let statement = transaction.prepare_cached(ADVANCE_ROOMS).await?;
        let answer = transaction
            .query(
                &statement,
                &[
                    &rows.room,
                    &rows.expected,
                    &rows.version,
                    &rows.snapshot,
                    &rows.extremities,
                    &rows.depth,
                    &rows.position,
                    &rows.room_version,
                ],
            )
            .await?;
        let advanced: Vec<RoomNid> =
            answer.iter().map(|row| Columns::of("rooms", row).nid("room_nid")).collect::<Result<_, _>>()?;
        let rooms = rows.room.iter().filter_map(|room| RoomNid::from_plain(*room));
        Ok(rooms.filter(|room| !advanced.contains(room)).collect())
    }
}

impl<'a> Columnar<'a> {
    fn set_head(&mut self, index: usize, change: &'a RoomChange, given: &Given<'_>) {
        self.version[index] = change.next_fence;
        self.snapshot[index] = change.head.snapshot.map(SnapshotNid::get);
        self.extremities[index] = array_literal(&change.head.extremities);
        self.depth[index] = change.head.depth;
        self.room_version[index] = change.head.version.as_str();
        // What neither the timeline nor the members show is no news of the room.
        let is_news = change.create.is_some() || change.shows();
        if is_news {
            self.position[index] = given.last().0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(room: i64, fence: i64, next_fence: i64) -> Change {
        Change::from(RoomChange {
            room: RoomNid::new(room).expect("positive"),
            create: None,
            fence,
            next_fence,
            events: Vec::new(),
            blocks: Vec::new(),
            snapshots: Vec::new(),
            head: NewHead { snapshot: None, extremities: Vec::new(), depth: 0, version: RoomVersionId::V11 },
            members: Vec::new(),
            redactions: Vec::new(),
            transactions: Vec::new(),
            relations: Vec::new(),
            stripped: Vec::new(),
            waiting: Vec::new(),
            ended_waiting: Vec::new(),
            resolved: None,
            expiring: Vec::new(),
        })
    }

    #[test]
    fn changes_of_one_room_must_follow_each_other() {
        assert!(check_chains(&[change(1, 4, 70), change(2, 9, 80), change(1, 70, 75)]).is_ok());
        for again in [4, 5, 71] {
            let broken = check_chains(&[change(1, 4, 70), change(2, 9, 80), change(1, again, 75)]);
            assert!(
                matches!(broken, Err(CommitError::Fence(rooms)) if rooms == [RoomNid::new(1).expect("positive")])
            );
        }
    }

    #[test]
    fn no_two_decisions_lead_to_the_same_fence() {
        // What rooms had when the fence only counted.
        for old in [0, 1, 12_345, i64::from(u32::MAX)] {
            let (one, other) = (next_fence(old, 0), next_fence(old, u32::MAX));
            assert!(old < one && one < other);
            assert!(other < next_fence(one, 0), "it counts, whatever is random");
        }
    }
}
