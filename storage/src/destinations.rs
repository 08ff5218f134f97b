//! What other servers have still to be sent, and how it went with them.
//!
//! A server that is up to date costs no row: the one cursor of the sender speaks for all of them. A server that is
//! behind has a row for each room of which it missed something, written once, however much it misses there. What is
//! written together with the journal's commit stands in `commit/outgoing.rs`; [`save`] writes what changes later.

pub mod save;

use myelin_core::{
    nid::{EventNid, RoomNid},
    position::Position,
};
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
    timeline::sql_limit,
};

statements! {
    LOAD_CURSOR = "
        SELECT position
        FROM   federation_sender
    ",
    LIST_DESTINATIONS = "
        SELECT server_name, failures, retry_at, last_success, failing_since
        FROM   destinations
    ",
    LIST_MISSED_ROOMS = "
        SELECT server_name, room_nid, after, upto
        FROM   destination_rooms
    ",
    LIST_EDU_SERVERS = "
        SELECT server_name, MAX(position) AS position
        FROM   outgoing_edu_servers
        GROUP  BY server_name
    ",
    /// Events without a place in the timeline included: servers are told of those too.
    LIST_RELAYED = "
        SELECT event_nid, room_nid, position, relay
        FROM   events
        WHERE  position > $1
          AND  position <= $2
          AND  (relay OR type_nid = 5)
          AND  admission = 1
          AND  anchor_offset = 0
        ORDER  BY position
        LIMIT  $3
    ",
    LIST_JOINS = "
        SELECT e.room_nid, e.position, k.state_key, e.pdu, replaced.pdu AS replaced_pdu
        FROM   events e
        JOIN   state_keys k ON k.state_key_nid = e.state_key_nid
        LEFT   JOIN events replaced ON replaced.event_nid = e.replaces_nid
        WHERE  e.room_nid = ANY($1)
          AND  e.position > $2
          AND  e.type_nid = 5
          AND  e.admission = 1
          AND  e.anchor IS NOT NULL
          AND  e.anchor_offset = 0
        ORDER  BY e.position
    ",
    /// After `upto` only what is about the server's own users.
    LIST_MISSED = "
        SELECT latest.event_nid, latest.room_nid, latest.position
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[])
               AS missed (room_nid, after, upto, last)
        CROSS  JOIN LATERAL (
            SELECT event_nid, room_nid, position
            FROM   events
            WHERE  events.room_nid = missed.room_nid
              AND  events.position > missed.after
              AND  events.position <= missed.last
              AND  events.relay
              AND  events.admission = 1
              AND  (events.position <= missed.upto OR events.type_nid = 5 AND EXISTS (
                       SELECT 1
                       FROM   state_keys k
                       WHERE  k.state_key_nid = events.state_key_nid
                         AND  substring(k.state_key FROM position(convert_to(':', 'UTF8') IN k.state_key) + 1) = $6
                   ))
            ORDER  BY events.position DESC
            LIMIT  $5
        ) latest
        ORDER  BY latest.position
    ",
    LIST_EDUS = "
        SELECT e.position, e.edu_type, e.content
        FROM   outgoing_edu_servers s
        JOIN   outgoing_edus e ON e.position = s.position
        WHERE  s.server_name = $1
          AND  s.position > $2
        ORDER  BY s.position
        LIMIT  $3
    ",
}

/// How it went with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRow {
    /// The server.
    pub server: OwnedServerName,
    /// Attempts that failed since the last one that did not.
    pub failures: u32,
    /// Not to be tried before, in milliseconds since 1970.
    pub retry_at_ms: u64,
    /// When it last acknowledged something, in milliseconds since 1970.
    pub last_success_ms: Option<u64>,
    /// When the first of these failures was, in milliseconds since 1970, if that is known.
    pub failing_since_ms: Option<u64>,
}

/// What a server has missed of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedRoom {
    /// The server.
    pub server: OwnedServerName,
    /// The room.
    pub room: RoomNid,
    /// It lacks nothing up to here.
    pub after: Position,
    /// It has no member in the room after this. `None`: it has.
    pub upto: Option<Position>,
}

/// What a server is to have of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedRange {
    /// The room.
    pub room: RoomNid,
    /// What comes after this,
    pub after: Position,
    /// everything up to here,
    pub upto: Position,
    /// and from there up to here what is about the server's own users.
    pub last: Position,
}

/// An event as the sender follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedEvent {
    /// The event.
    pub nid: EventNid,
    /// Its room.
    pub room: RoomNid,
    /// When it became durable.
    pub position: Position,
    /// Other servers are to be told of it. Otherwise it only changes who is in the room.
    pub relay: bool,
}

/// A member of a room who was joined before an event and not after it, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinChange {
    /// The room.
    pub room: RoomNid,
    /// When the event became durable.
    pub position: Position,
    /// The member's server.
    pub server: OwnedServerName,
    /// They have joined. Otherwise they have left.
    pub joined: bool,
}

/// An EDU that waits for a server.
#[derive(Clone, Debug)]
pub struct WaitingEdu {
    /// When it became durable.
    pub position: Position,
    /// Its type.
    pub edu_type: String,
    /// Its content.
    pub content: Box<RawValue>,
}

/// Up to where the sender knows for whom events are.
pub async fn load_cursor(db: &impl GenericClient) -> Result<Position, StorageError> {
    let statement = db.prepare_cached(LOAD_CURSOR).await?;
    let row = db.query_one(&statement, &[]).await?;
    Columns::of("federation_sender", &row).position("position")
}

/// How it went with each server that was ever sent something.
pub async fn list_destinations(db: &impl GenericClient) -> Result<Vec<DestinationRow>, StorageError> {
    let statement = db.prepare_cached(LIST_DESTINATIONS).await?;
    let rows = db.query(&statement, &[]).await?;
    let destination = |row| {
        let columns = Columns::of("destinations", row);
        let time = |name| {
            Ok::<_, StorageError>(columns.get::<Option<i64>>(name)?.and_then(|time| u64::try_from(time).ok()))
        };
        let (failures, retry_at): (i32, i64) = (columns.get("failures")?, columns.get("retry_at")?);
        Ok(DestinationRow {
            server: columns.parse("server_name")?,
            failures: u32::try_from(failures).unwrap_or_default(),
            retry_at_ms: u64::try_from(retry_at).unwrap_or_default(),
            last_success_ms: time("last_success")?,
            failing_since_ms: time("failing_since")?,
        })
    };
    rows.iter().map(destination).collect()
}

/// What servers have missed of which rooms.
pub async fn list_missed_rooms(db: &impl GenericClient) -> Result<Vec<MissedRoom>, StorageError> {
    let statement = db.prepare_cached(LIST_MISSED_ROOMS).await?;
    let rows = db.query(&statement, &[]).await?;
    let missed = |row| {
        let columns = Columns::of("destination_rooms", row);
        Ok(MissedRoom {
            server: columns.parse("server_name")?,
            room: columns.nid("room_nid")?,
            after: columns.position("after")?,
            upto: columns.get::<Option<i64>>("upto")?.map(Position),
        })
    };
    rows.iter().map(missed).collect()
}

/// The servers for which EDUs wait, each with the last one's position.
pub async fn list_edu_servers(
    db: &impl GenericClient,
) -> Result<Vec<(OwnedServerName, Position)>, StorageError> {
    let statement = db.prepare_cached(LIST_EDU_SERVERS).await?;
    let rows = db.query(&statement, &[]).await?;
    let waiting = |row| {
        let columns = Columns::of("outgoing_edu_servers", row);
        Ok((columns.parse("server_name")?, columns.position("position")?))
    };
    rows.iter().map(waiting).collect()
}

/// Up to `limit` events after one position and up to another of which other servers are to be told, or which change
/// who is in a room, in the order of their commit.
pub async fn list_relayed(
    db: &impl GenericClient,
    after: Position,
    upto: Position,
    limit: usize,
) -> Result<Vec<RelayedEvent>, StorageError> {
    let statement = db.prepare_cached(LIST_RELAYED).await?;
    let rows = db.query(&statement, &[&after.0, &upto.0, &sql_limit(limit)]).await?;
    let relayed = |row| {
        let columns = Columns::of("events", row);
        Ok(RelayedEvent {
            nid: columns.nid("event_nid")?,
            room: columns.nid("room_nid")?,
            position: columns.position("position")?,
            relay: columns.get("relay")?,
        })
    };
    rows.iter().map(relayed).collect()
}

/// Who joined these rooms and who left them after that position, in the order of the events' commit.
pub async fn list_joins(
    db: &impl GenericClient,
    rooms: &[RoomNid],
    after: Position,
) -> Result<Vec<JoinChange>, StorageError> {
    #[derive(Deserialize)]
    struct Parts {
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let is_join =
        |pdu: &str| serde_json::from_str::<Parts>(pdu).is_ok_and(|parts| parts.content.membership == "join");
    let statement = db.prepare_cached(LIST_JOINS).await?;
    let mut changes = Vec::new();
    for row in &db.query(&statement, &[&plain(rooms), &after.0]).await? {
        let columns = Columns::of("events", row);
        let replaced: Option<String> = columns.get("replaced_pdu")?;
        let joined = is_join(&columns.get::<String>("pdu")?);
        if joined == replaced.is_some_and(|pdu| is_join(&pdu)) {
            continue;
        }
        // A state key that is no user id has no server, and so has no say.
        if let Ok(user) = OwnedUserId::try_from(columns.bytes_text("state_key")?) {
            let server = user.server_name().to_owned();
            changes.push(JoinChange {
                room: columns.nid("room_nid")?,
                position: columns.position("position")?,
                server,
                joined,
            });
        }
    }
    Ok(changes)
}

/// Of each room the last `limit` events after one position and up to another of which other servers are to be told,
/// all rooms' together in the order of their commit. In one query.
pub async fn list_missed(
    db: &impl GenericClient,
    server: &ServerName,
    rooms: &[MissedRange],
    limit: usize,
) -> Result<Vec<RelayedEvent>, StorageError> {
    let room: Vec<i64> = rooms.iter().map(|range| range.room.get()).collect();
    let after: Vec<i64> = rooms.iter().map(|range| range.after.0).collect();
    let upto: Vec<i64> = rooms.iter().map(|range| range.upto.0).collect();
    let last: Vec<i64> = rooms.iter().map(|range| range.last.0).collect();
    let statement = db.prepare_cached(LIST_MISSED).await?;
    let rows =
        db.query(&statement, &[&room, &after, &upto, &last, &sql_limit(limit), &server.as_bytes()]).await?;
    let missed = |row| {
        let columns = Columns::of("events", row);
        Ok(RelayedEvent {
            nid: columns.nid("event_nid")?,
            room: columns.nid("room_nid")?,
            position: columns.position("position")?,
            relay: true,
        })
    };
    rows.iter().map(missed).collect()
}

/// Up to `limit` EDUs after that position that wait for the server, in the order of their commit.
pub async fn list_edus(
    db: &impl GenericClient,
    server: &ServerName,
    after: Position,
    limit: usize,
) -> Result<Vec<WaitingEdu>, StorageError> {
    let statement = db.prepare_cached(LIST_EDUS).await?;
    let rows = db.query(&statement, &[&server.as_str(), &after.0, &sql_limit(limit)]).await?;
    let waiting = |row| {
        let columns = Columns::of("outgoing_edus", row);
        let content: String = columns.get("content")?;
        Ok(WaitingEdu {
            position: columns.position("position")?,
            edu_type: columns.get("edu_type")?,
            content: RawValue::from_string(content)
                .map_err(|error| columns.corrupt(format_args!("content: {error}")))?,
        })
    };
    rows.iter().map(waiting).collect()
}
