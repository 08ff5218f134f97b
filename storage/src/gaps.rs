//! What is missing: to a reader between two looks at a room, as far as its timeline alone does not say; and to this
//! server, of what was sent before it came.

use std::collections::HashMap;

use myelin_core::{
    nid::{RoomNid, SnapshotNid},
    position::Position,
};

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    SNAPSHOTS_AFTER = "
        SELECT wanted.room_nid, first.snapshot_nid
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[]) AS wanted (room_nid, after)
        CROSS  JOIN LATERAL (
            SELECT events.snapshot_nid
            FROM   events
            WHERE  events.room_nid = wanted.room_nid
              AND  events.anchor > wanted.after
              AND  events.anchor_offset = 0
              AND  events.admission = 1
              AND  events.snapshot_nid IS NOT NULL
            ORDER  BY events.anchor, events.anchor_offset
            LIMIT  1
        ) first
    ",
    DEPTH_OF_STAY = "
        SELECT e.depth
        FROM   memberships m
        JOIN   events e
          ON   e.room_nid = m.room_nid
         AND   e.anchor = m.joined_at
         AND   e.anchor_offset = 0
        WHERE  m.room_nid = $1
          AND  m.is_local
          AND  m.membership = 2
        ORDER  BY m.joined_at
        LIMIT  1
    ",
}

/// For each room the state before its first live event after a position: the state as it was at that position. Rooms
/// without such an event are left out.
pub async fn snapshots_after(
    db: &impl GenericClient,
    rooms: &[(RoomNid, Position)],
) -> Result<HashMap<RoomNid, SnapshotNid>, StorageError> {
    let (nids, after): (Vec<i64>, Vec<i64>) = rooms.iter().map(|(room, after)| (room.get(), after.0)).unzip();
    let statement = db.prepare_cached(SNAPSHOTS_AFTER).await?;
    let rows = db.query(&statement, &[&nids, &after]).await?;
    let snapshot = |row| {
        let columns = Columns::of("events", row);
        Ok((columns.nid("room_nid")?, columns.nid("snapshot_nid")?))
    };
    rows.iter().map(snapshot).collect()
}

/// How deep in the room's graph the join stands of the local user who has been there for the longest: what is less deep,
/// and not here, was sent before. `None`: no local user is there.
pub async fn depth_of_stay(db: &impl GenericClient, room: RoomNid) -> Result<Option<i64>, StorageError> {
    let statement = db.prepare_cached(DEPTH_OF_STAY).await?;
    let row = db.query_opt(&statement, &[&room.get()]).await?;
    row.map(|row| Columns::of("events", &row).get("depth")).transpose()
}
