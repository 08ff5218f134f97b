//! The index of members: who is what in the current state of each room.

use std::collections::HashMap;

use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::{Position, TimelinePlace},
};
use ruma::OwnedServerName;
use serde::Deserialize;
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    JOINED_ROOMS_OF = "
        SELECT user_nid, room_nid
        FROM   memberships
        WHERE  user_nid = ANY($1)
          AND  membership = 2
    ",
    JOINED_OF = "
        SELECT DISTINCT user_nid
        FROM   memberships
        WHERE  room_nid = ANY($1)
          AND  user_nid = ANY($2)
          AND  membership = 2
    ",
    LIST_MEMBERS = "
        SELECT room_nid, user_nid, membership, event_nid, position, is_local, joined_at, forgotten
        FROM   memberships
        WHERE  room_nid = ANY($1)
    ",
    FIND_MEMBER = "
        SELECT room_nid, user_nid, membership, event_nid, position, is_local, joined_at, forgotten
        FROM   memberships
        WHERE  room_nid = $1
          AND  user_nid = $2
    ",
    ROOMS_OF = "
        SELECT journal.position AS journal_position,
               mine.room_nid, mine.user_nid, mine.membership, mine.event_nid, mine.position, mine.is_local,
               mine.joined_at, mine.forgotten, mine.room_position, mine.receipt_position
        FROM   journal
        LEFT   JOIN (
                   SELECT memberships.*, rooms.position AS room_position, rooms.receipt_position
                   FROM   memberships
                   JOIN   rooms USING (room_nid)
                   WHERE  memberships.user_nid = $1
               ) mine ON TRUE
    ",
    OTHER_SERVERS = "
        SELECT memberships.room_nid,
               SUBSTRING(state_key FROM POSITION(':'::BYTEA IN state_key) + 1) AS server,
               COUNT(*) AS joined
        FROM   memberships
        JOIN   state_keys ON state_key_nid = user_nid
        WHERE  room_nid = ANY($1)
          AND  membership = 2
          AND  NOT is_local
        GROUP  BY 1, 2
    ",
    FORGET = "
        UPDATE memberships
        SET    forgotten = TRUE
        WHERE  room_nid = $1
          AND  user_nid = $2
          AND  membership IN (4, 5)
    ",
    HISTORY = "
        WITH RECURSIVE history (event_nid, depth) AS (
            SELECT event_nid, 1
            FROM   memberships
            WHERE  room_nid = $1
              AND  user_nid = $2
            UNION  ALL
            SELECT events.replaces_nid, history.depth + 1
            FROM   history
            JOIN   events USING (event_nid)
            WHERE  events.replaces_nid IS NOT NULL
              AND  history.depth < $3
        )
        SELECT events.event_nid, events.position, events.anchor, events.anchor_offset, events.pdu
        FROM   history
        JOIN   events USING (event_nid)
        ORDER  BY history.depth
    ",
}

/// What a user is in a room's current state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The room.
    pub room: RoomNid,
    /// The user.
    pub user: UserNid,
    /// What the user is.
    pub membership: Membership,
    /// The member event.
    pub event: EventNid,
    /// When the membership last changed; a new display name does not count.
    pub position: Position,
    /// Whether the user is of this server.
    pub is_local: bool,
    /// When the user last became joined, kept after leaving. `None`: never.
    pub joined_at: Option<Position>,
    /// Whether the user has forgotten the room since leaving it.
    pub forgotten: bool,
}

/// A room that a user has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomOfUser {
    /// What the user is there.
    pub member: MemberRow,
    /// Position of the last change to the room's timeline or state.
    pub room_position: Position,
    /// Position of the last receipt in the room.
    pub receipt_position: Position,
}

/// All rooms that a user has to do with, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomsOfUser {
    /// The moment: everything up to here is seen, nothing after.
    pub position: Position,
    /// The rooms, those left and forgotten ones included.
    pub rooms: Vec<RoomOfUser>,
}

/// A membership event of a user's past in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastMembership {
    /// The event.
    pub event: EventNid,
    /// What the user was from there on; `None` when the event does not say it in a known word.
    pub membership: Option<Membership>,
    /// When the event became durable.
    pub position: Position,
    /// Its place in the timeline.
    pub place: Option<TimelinePlace>,
}

/// The members of these rooms, whatever their membership.
pub async fn list(db: &impl GenericClient, rooms: &[RoomNid]) -> Result<Vec<MemberRow>, StorageError> {
    let statement = db.prepare_cached(LIST_MEMBERS).await?;
    let rows = db.query(&statement, &[&plain(rooms)]).await?;
    rows.iter().map(MemberRow::try_from).collect()
}

/// How many joined members each other server has in these rooms. What is not the name of a server is left out.
pub async fn other_servers(
    db: &impl GenericClient,
    rooms: &[RoomNid],
) -> Result<HashMap<RoomNid, Vec<(OwnedServerName, usize)>>, StorageError> {
    let statement = db.prepare_cached(OTHER_SERVERS).await?;
    let mut found: HashMap<RoomNid, Vec<(OwnedServerName, usize)>> = HashMap::new();
    for row in &db.query(&statement, &[&plain(rooms)]).await? {
        let columns = Columns::of("memberships", row);
        let joined: i64 = columns.get("joined")?;
        let server = std::str::from_utf8(columns.bytes("server")?).ok();
        if let Some(server) = server.and_then(|name| OwnedServerName::try_from(name).ok()) {
            let joined = usize::try_from(joined).unwrap_or_default();
            found.entry(columns.nid("room_nid")?).or_default().push((server, joined));
        }
    }
    Ok(found)
}

/// What a user is in a room. `None`: they were never there.
pub async fn find(
    db: &impl GenericClient,
    room: RoomNid,
    user: UserNid,
) -> Result<Option<MemberRow>, StorageError> {
    let statement = db.prepare_cached(FIND_MEMBER).await?;
    let row = db.query_opt(&statement, &[&room.get(), &user.get()]).await?;
    row.as_ref().map(MemberRow::try_from).transpose()
}

/// The rooms that a user has to do with, and the position at which that was so, in one statement.
pub async fn rooms_of(db: &impl GenericClient, user: UserNid) -> Result<RoomsOfUser, StorageError> {
    let statement = db.prepare_cached(ROOMS_OF).await?;
    let rows = db.query(&statement, &[&user.get()]).await?;
    let mut found = RoomsOfUser { position: Position::START, rooms: Vec::with_capacity(rows.len()) };
    for row in &rows {
        let columns = Columns::of("memberships", row);
        found.position = columns.position("journal_position")?;
        // Without any room there is one row all the same, for the position.
        if columns.get::<Option<i64>>("room_nid")?.is_some() {
            found.rooms.push(RoomOfUser {
                member: MemberRow::try_from(row)?,
                room_position: columns.position("room_position")?,
                receipt_position: columns.position("receipt_position")?,
            });
        }
    }
    Ok(found)
}

/// The rooms that each of these users has joined. One query.
pub async fn joined_rooms_of(
    db: &impl GenericClient,
    users: &[UserNid],
) -> Result<HashMap<UserNid, Vec<RoomNid>>, StorageError> {
    let statement = db.prepare_cached(JOINED_ROOMS_OF).await?;
    let mut joined: HashMap<UserNid, Vec<RoomNid>> = HashMap::new();
    for row in &db.query(&statement, &[&plain(users)]).await? {
        let columns = Columns::of("memberships", row);
        joined.entry(columns.nid("user_nid")?).or_default().push(columns.nid("room_nid")?);
    }
    Ok(joined)
}

/// Those of these users who have joined one of the rooms. One query.
pub async fn joined_of(
    db: &impl GenericClient,
    rooms: &[RoomNid],
    users: &[UserNid],
) -> Result<Vec<UserNid>, StorageError> {
    let statement = db.prepare_cached(JOINED_OF).await?;
    let rows = db.query(&statement, &[&plain(rooms), &plain(users)]).await?;
    rows.iter().map(|row| Columns::of("memberships", row).nid("user_nid")).collect()
}

/// Lets a user forget a room that they have left or are banned from. Returns whether they had.
pub async fn forget(db: &impl GenericClient, room: RoomNid, user: UserNid) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(FORGET).await?;
    Ok(db.execute(&statement, &[&room.get(), &user.get()]).await? > 0)
}

/// The last `limit` changes of a user's member event in a room, the newest first, each the one that the next replaced.
pub async fn history(
    db: &impl GenericClient,
    room: RoomNid,
    user: UserNid,
    limit: usize,
) -> Result<Vec<PastMembership>, StorageError> {
    let statement = db.prepare_cached(HISTORY).await?;
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let rows = db.query(&statement, &[&room.get(), &user.get(), &limit]).await?;
    rows.iter().map(PastMembership::try_from).collect()
}

impl TryFrom<&Row> for MemberRow {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("memberships", row);
        let code: i16 = columns.get("membership")?;
        Ok(Self {
            room: columns.nid("room_nid")?,
            user: columns.nid("user_nid")?,
            membership: Membership::from_code(code)
                .ok_or_else(|| columns.corrupt(format_args!("there is no membership {code}")))?,
            event: columns.nid("event_nid")?,
            position: columns.position("position")?,
            is_local: columns.get("is_local")?,
            joined_at: columns.opt_position("joined_at")?,
            forgotten: columns.get("forgotten")?,
        })
    }
}

impl TryFrom<&Row> for PastMembership {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        #[derive(Deserialize)]
        struct Event {
            content: Content,
        }
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }

        let columns = Columns::of("events", row);
        let pdu: String = columns.get("pdu")?;
        let event: Option<Event> = serde_json::from_str(&pdu).ok();
        Ok(Self {
            event: columns.nid("event_nid")?,
            membership: event.and_then(|event| Membership::parse(&event.content.membership)),
            position: columns.position("position")?,
            place: columns.place()?,
        })
    }
}
