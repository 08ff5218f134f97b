//! Rooms as a whole: their rows, found by number or id.

use std::{borrow::Cow, collections::HashMap};

use myelin_core::{
    nid::{EventNid, RoomNid, SnapshotNid},
    position::Position,
};
use ruma::{OwnedRoomId, RoomId, RoomVersionId};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain, text},
    statements::statements,
};

statements! {
    LOAD_ROOMS = "
        SELECT room_nid, room_id, room_version, version, snapshot_nid, extremities, depth, position,
               receipt_position,
               EXISTS (SELECT FROM waiting_redactions WHERE room_nid = rooms.room_nid) AS has_waiting
        FROM   rooms
        WHERE  room_nid = ANY($1)
    ",
    FIND_ROOMS = "
        SELECT room_nid, room_id
        FROM   rooms
        WHERE  room_id = ANY($1)
    ",
    NAME_ROOMS = "
        SELECT room_nid, room_id
        FROM   rooms
        WHERE  room_nid = ANY($1)
    ",
    LIST_ROOMS = "
        SELECT room_nid
        FROM   rooms
        WHERE  room_nid > $1
        ORDER  BY room_nid
        LIMIT  $2
    ",
}

/// A room's own row.
#[derive(Clone, Debug)]
pub struct RoomRow {
    /// Its number.
    pub nid: RoomNid,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The version that its create event names.
    pub room_version: RoomVersionId,
    /// The fence: what the next change must expect.
    pub fence: i64,
    /// Its current state.
    pub snapshot: Option<SnapshotNid>,
    /// Its forward extremities.
    pub extremities: Vec<EventNid>,
    /// The greatest depth among them.
    pub depth: i64,
    /// Position of the last change to its timeline or state.
    pub position: Position,
    /// Position of the last receipt in it; 0: there is none.
    pub receipt_position: Position,
    /// Redactions wait in it for what they redact.
    pub has_waiting: bool,
}

/// The rooms with these numbers, in no certain order; unknown ones are left out.
pub async fn load_rooms(db: &impl GenericClient, rooms: &[RoomNid]) -> Result<Vec<RoomRow>, StorageError> {
    let statement = db.prepare_cached(LOAD_ROOMS).await?;
    let rows = db.query(&statement, &[&plain(rooms)]).await?;
    rows.iter().map(RoomRow::try_from).collect()
}

/// The numbers of these rooms; unknown ones are left out.
pub async fn find_nids(
    db: &impl GenericClient,
    rooms: &[&RoomId],
) -> Result<HashMap<OwnedRoomId, RoomNid>, StorageError> {
    let ids: Vec<Cow<'_, str>> = rooms.iter().map(|room| text(room.as_str())).collect();
    let statement = db.prepare_cached(FIND_ROOMS).await?;
    let rows = db.query(&statement, &[&ids]).await?;
    rows.iter().map(|row| name(row).map(|(nid, id)| (id, nid))).collect()
}

/// The ids of these rooms; unknown ones are left out.
pub async fn room_ids(
    db: &impl GenericClient,
    rooms: &[RoomNid],
) -> Result<HashMap<RoomNid, OwnedRoomId>, StorageError> {
    let statement = db.prepare_cached(NAME_ROOMS).await?;
    let rows = db.query(&statement, &[&plain(rooms)]).await?;
    rows.iter().map(name).collect()
}

/// A page of all rooms in the order of their numbers, after this one.
pub async fn list(
    db: &impl GenericClient,
    after: Option<RoomNid>,
    limit: usize,
) -> Result<Vec<RoomNid>, StorageError> {
    let statement = db.prepare_cached(LIST_ROOMS).await?;
    let after = after.map_or(0, RoomNid::get);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db.query(&statement, &[&after, &limit]).await?;
    rows.iter().map(|row| Columns::of("rooms", row).nid("room_nid")).collect()
}

fn name(row: &Row) -> Result<(RoomNid, OwnedRoomId), StorageError> {
    let columns = Columns::of("rooms", row);
    Ok((columns.nid("room_nid")?, columns.parse("room_id")?))
}

impl TryFrom<&Row> for RoomRow {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("rooms", row);
        Ok(Self {
            nid: columns.nid("room_nid")?,
            room_id: columns.parse("room_id")?,
            room_version: columns.parse("room_version")?,
            fence: columns.get("version")?,
            snapshot: columns.opt_nid("snapshot_nid")?,
            extremities: columns.nids("extremities")?,
            depth: columns.get("depth")?,
            position: columns.position("position")?,
            receipt_position: columns.position("receipt_position")?,
            has_waiting: columns.get("has_waiting")?,
        })
    }
}
