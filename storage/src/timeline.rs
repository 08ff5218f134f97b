//! Timelines: the accepted events of rooms in the one order in which every reader sees them.
//!
//! A [`TimelinePlace`] used as a bound is the gap right after the event that stands there. So reading backward from
//! a place begins with its event, reading forward begins after it, and the two never give the same event.

use std::collections::HashMap;

use myelin_core::{
    nid::{EventNid, RoomNid, UserNid},
    position::{Position, TimelinePlace},
};
use ruma::OwnedEventId;

use crate::{
    error::StorageError,
    events::{StoredEvent, select_events},
    pool::GenericClient,
    row::Columns,
    statements::statements,
};

statements! {
    PAGE_FORWARD = select_events!("events e", "
        WHERE  e.room_nid = $1
          AND  e.anchor IS NOT NULL
          AND  e.admission = 1
          AND  (e.anchor, e.anchor_offset) > ($2, $3)
          AND  (e.anchor, e.anchor_offset) <= ($4, $5)
        ORDER  BY e.anchor, e.anchor_offset
        LIMIT  $6
    "),
    PAGE_BACKWARD = select_events!("events e", "
        WHERE  e.room_nid = $1
          AND  e.anchor IS NOT NULL
          AND  e.admission = 1
          AND  (e.anchor, e.anchor_offset) <= ($2, $3)
          AND  (e.anchor, e.anchor_offset) > ($4, $5)
        ORDER  BY e.anchor DESC, e.anchor_offset DESC
        LIMIT  $6
    "),
    LATEST_FOR_ROOMS = select_events!("(
            SELECT latest.*
            FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[]) AS wanted (room_nid, after, upto)
            CROSS  JOIN LATERAL (
                SELECT *
                FROM   events
                WHERE  events.room_nid = wanted.room_nid
                  AND  events.anchor > wanted.after
                  AND  events.anchor <= wanted.upto
                  AND  events.admission = 1
                ORDER  BY events.anchor DESC, events.anchor_offset DESC
                LIMIT  $4
            ) latest
        ) e", "
        ORDER  BY e.anchor, e.anchor_offset
    "),
    LATEST_OF_OTHERS = "
        SELECT latest.event_nid
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[]) AS wanted (room_nid, after, upto)
        CROSS  JOIN LATERAL (
            SELECT event_nid, anchor
            FROM   events
            WHERE  events.room_nid = wanted.room_nid
              AND  events.anchor > wanted.after
              AND  events.anchor <= wanted.upto
              AND  events.anchor_offset = 0
              AND  events.admission = 1
              AND  events.sender_nid <> $4
            ORDER  BY events.anchor DESC
            LIMIT  $5
        ) latest
        ORDER  BY latest.anchor DESC
        LIMIT  $5
    ",
    COMMITTED_AFTER = select_events!("events e", "
        WHERE  e.position > $1
          AND  e.position <= $2
          AND  e.anchor IS NOT NULL
          AND  e.anchor_offset = 0
          AND  e.admission = 1
        ORDER  BY e.position
        LIMIT  $3
    "),
    FIRST_AT_OR_AFTER_TIME = "
        SELECT event_nid, event_id, origin_server_ts
        FROM   events
        WHERE  room_nid = $1
          AND  origin_server_ts >= $2
          AND  anchor IS NOT NULL
          AND  admission = 1
        ORDER  BY origin_server_ts, anchor, anchor_offset
        LIMIT  1
    ",
    LAST_AT_OR_BEFORE_TIME = "
        SELECT event_nid, event_id, origin_server_ts
        FROM   events
        WHERE  room_nid = $1
          AND  origin_server_ts <= $2
          AND  anchor IS NOT NULL
          AND  admission = 1
        ORDER  BY origin_server_ts DESC, anchor DESC, anchor_offset DESC
        LIMIT  1
    ",
    CURRENT_POSITION = "
        SELECT position
        FROM   journal
    ",
}

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From older to newer.
    Forward,
    /// From newer to older.
    Backward,
}

/// Before every place.
pub(crate) const BEGINNING: TimelinePlace = TimelinePlace { anchor: Position(i64::MIN), offset: i32::MIN };

/// After every place.
pub(crate) const END: TimelinePlace = TimelinePlace { anchor: Position(i64::MAX), offset: i32::MAX };

/// Up to `limit` events of a room's timeline between two places, in the order of reading. Without `from`, begins at
/// the end of the timeline that the direction leads away from.
pub async fn page(
    db: &impl GenericClient,
    room: RoomNid,
    from: Option<TimelinePlace>,
    direction: Direction,
    to: Option<TimelinePlace>,
    limit: usize,
) -> Result<Vec<StoredEvent>, StorageError> {
    let (sql, first, last) = match direction {
        Direction::Forward => (PAGE_FORWARD, BEGINNING, END),
        Direction::Backward => (PAGE_BACKWARD, END, BEGINNING),
    };
    let (from, to) = (from.unwrap_or(first), to.unwrap_or(last));
    let statement = db.prepare_cached(sql).await?;
    let rows = db
        .query(
            &statement,
            &[&room.get(), &from.anchor.0, &from.offset, &to.anchor.0, &to.offset, &sql_limit(limit)],
        )
        .await?;
    rows.iter().map(StoredEvent::try_from).collect()
}

/// The first event of the room's timeline among those that stand at this position or before it because they were
/// fetched later.
pub async fn first_at(
    db: &impl GenericClient,
    room: RoomNid,
    anchor: Position,
) -> Result<Option<StoredEvent>, StorageError> {
    let from = TimelinePlace { anchor, offset: i32::MIN };
    let to = TimelinePlace::live(anchor);
    Ok(page(db, room, Some(from), Direction::Forward, Some(to), 1).await?.pop())
}

/// For each room the last `limit` events after one position and up to another, oldest first, in one query. Rooms
/// without any are left out. Events that were fetched later are among them where they stand before an event in
/// that range.
pub async fn latest_for_rooms(
    db: &impl GenericClient,
    ranges: &[(RoomNid, Position, Position)],
    limit: usize,
) -> Result<HashMap<RoomNid, Vec<StoredEvent>>, StorageError> {
    let (rooms, after, upto) = columns_of(ranges);
    let statement = db.prepare_cached(LATEST_FOR_ROOMS).await?;
    let rows = db.query(&statement, &[&rooms, &after, &upto, &sql_limit(limit)]).await?;
    let mut found: HashMap<RoomNid, Vec<StoredEvent>> = HashMap::new();
    for row in &rows {
        let event = StoredEvent::try_from(row)?;
        found.entry(event.room).or_default().push(event);
    }
    Ok(found)
}

/// The last `limit` live events of these rooms together, each after one position and up to another, that the user did
/// not send; the newest first.
pub async fn latest_of_others(
    db: &impl GenericClient,
    ranges: &[(RoomNid, Position, Position)],
    user: UserNid,
    limit: usize,
) -> Result<Vec<EventNid>, StorageError> {
    let (rooms, after, upto) = columns_of(ranges);
    let statement = db.prepare_cached(LATEST_OF_OTHERS).await?;
    let rows = db.query(&statement, &[&rooms, &after, &upto, &user.get(), &sql_limit(limit)]).await?;
    rows.iter().map(|row| Columns::of("events", row).nid("event_nid")).collect()
}

fn columns_of(ranges: &[(RoomNid, Position, Position)]) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
    ranges.iter().map(|(room, after, upto)| (room.get(), after.0, upto.0)).collect()
}

/// Up to `limit` live events of all rooms after one position and up to another, in the order of their commit: what a
/// reader with a cursor of its own follows.
pub async fn committed_after(
    db: &impl GenericClient,
    after: Position,
    upto: Position,
    limit: usize,
) -> Result<Vec<StoredEvent>, StorageError> {
    let statement = db.prepare_cached(COMMITTED_AFTER).await?;
    let rows = db.query(&statement, &[&after.0, &upto.0, &sql_limit(limit)]).await?;
    rows.iter().map(StoredEvent::try_from).collect()
}

/// An event found by its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventAtTime {
    /// Its number.
    pub nid: EventNid,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its time, in milliseconds since 1970.
    pub origin_server_ts: i64,
}

/// The event of a room's timeline that is closest to a time, at or after it when looking forward, at or before it when
/// looking backward.
pub async fn find_by_time(
    db: &impl GenericClient,
    room: RoomNid,
    origin_server_ts: i64,
    direction: Direction,
) -> Result<Option<EventAtTime>, StorageError> {
    let sql = match direction {
        Direction::Forward => FIRST_AT_OR_AFTER_TIME,
        Direction::Backward => LAST_AT_OR_BEFORE_TIME,
    };
    let statement = db.prepare_cached(sql).await?;
    let Some(row) = db.query_opt(&statement, &[&room.get(), &origin_server_ts]).await? else {
        return Ok(None);
    };
    let columns = Columns::of("events", &row);
    Ok(Some(EventAtTime {
        nid: columns.nid("event_nid")?,
        event_id: columns.parse("event_id")?,
        origin_server_ts: columns.get("origin_server_ts")?,
    }))
}

/// The last position that was given to a durable change.
pub async fn current_position(db: &impl GenericClient) -> Result<Position, StorageError> {
    let statement = db.prepare_cached(CURRENT_POSITION).await?;
    let row = db.query_one(&statement, &[]).await?;
    Columns::of("journal", &row).position("position")
}

/// A number of rows as Postgres takes it.
pub(crate) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
