//! What is missing: to a reader between two looks at a room, as far as its timeline alone does not say; and to this
//! server, of what was sent before it came.

use std::collections::HashMap;

use myelin_core::{
    nid::{EventNid, RoomNid, SnapshotNid},
    position::Position,
    state::StateKey,
};

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    STATES_AT = "
        SELECT wanted.room_nid, last.event_nid, last.type_nid, last.state_key_nid, last.snapshot_nid,
               resolved.snapshot_nid AS resolved_nid
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[]) AS wanted (room_nid, position)
        CROSS  JOIN LATERAL (
            SELECT e.anchor, e.event_nid, e.type_nid, e.state_key_nid, e.snapshot_nid
            FROM   events e
            WHERE  e.room_nid = wanted.room_nid
              AND  e.anchor <= wanted.position
              AND  e.anchor_offset = 0
            ORDER  BY e.anchor DESC, e.anchor_offset DESC
            LIMIT  1
        ) last
        LEFT   JOIN LATERAL (
            SELECT s.snapshot_nid
            FROM   resolved_states s
            WHERE  s.room_nid = wanted.room_nid
              AND  s.position BETWEEN last.anchor AND wanted.position
            ORDER  BY s.position DESC
            LIMIT  1
        ) resolved ON TRUE
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

/// A state in storage: a snapshot, with one event on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateAt {
    /// The snapshot. `None`: there is nothing before the event.
    pub snapshot: Option<SnapshotNid>,
    /// The event that was added to it.
    pub added: Option<(StateKey, EventNid)>,
}

/// For each room what its current state was at a position. Rooms that had no event in their timeline by then are left
/// out.
pub async fn states_at(
    db: &impl GenericClient,
    rooms: &[(RoomNid, Position)],
) -> Result<HashMap<RoomNid, StateAt>, StorageError> {
    let (nids, positions): (Vec<i64>, Vec<i64>) =
        rooms.iter().map(|(room, position)| (room.get(), position.0)).unzip();
    let statement = db.prepare_cached(STATES_AT).await?;
    let rows = db.query(&statement, &[&nids, &positions]).await?;
    let state = |row| {
        let columns = Columns::of("events", row);
        let resolved = columns.opt_nid("resolved_nid")?;
        let (type_nid, event) = (columns.nid("type_nid")?, columns.nid("event_nid")?);
        let added = columns.opt_nid("state_key_nid")?.map(|key| ((type_nid, key), event));
        let state = match resolved {
            Some(_) => StateAt { snapshot: resolved, added: None },
            None => StateAt { snapshot: columns.opt_nid("snapshot_nid")?, added },
        };
        Ok((columns.nid("room_nid")?, state))
    };
    rows.iter().map(state).collect()
}

/// How deep in the room's graph the join stands of the local user who has been there for the longest: what is less deep,
/// and not here, was sent before. `None`: no local user is there.
pub async fn depth_of_stay(db: &impl GenericClient, room: RoomNid) -> Result<Option<i64>, StorageError> {
    let statement = db.prepare_cached(DEPTH_OF_STAY).await?;
    let row = db.query_opt(&statement, &[&room.get()]).await?;
    row.map(|row| Columns::of("events", &row).get("depth")).transpose()
}
