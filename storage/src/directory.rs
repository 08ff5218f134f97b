//! Finding rooms: aliases, the published list, and the summaries that the list shows.
//!
//! Summaries are derived from current state by whoever knows it; nothing here reads state.

use std::collections::{HashMap, HashSet};

use myelin_core::nid::{RoomNid, UserNid};
use ruma::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, like_literal, plain, text},
    statements::statements,
};

/// The summaries for which this holds, as [`ListedRoom`] reads them.
macro_rules! summaries_where {
    ($($condition:expr),+) => {
        concat!(
            "
                SELECT rooms.room_id, summary.room_nid, name, topic, avatar_url, canonical_alias, join_rule,
                       guest_can_join, history_visibility, room_type, encryption, joined_members
                FROM   room_summaries AS summary
                JOIN   rooms USING (room_nid)
                WHERE  ",
            $($condition),+
        )
    };
}

/// A page of those that are published and asked for, beyond a place and in an order.
macro_rules! public_rooms {
    ($beyond:literal, $order:literal) => {
        summaries_where!(
            "EXISTS (
                         SELECT 1
                         FROM   published_rooms AS published
                         WHERE  published.room_nid = summary.room_nid AND ($1::TEXT IS NULL OR network = $1)
                     )
                AND  ($2::TEXT IS NULL OR name ILIKE $2 OR topic ILIKE $2 OR canonical_alias ILIKE $2)
                AND  ($3::TEXT[] IS NULL OR COALESCE(room_type, '') = ANY($3))
                AND  ",
            $beyond,
            " ORDER BY ",
            $order,
            " LIMIT $6"
        )
    };
}

statements! {
    INSERT_ALIAS = "
        INSERT INTO room_aliases (alias, room_nid, creator_nid, created)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
    ",
    DELETE_ALIAS = "
        DELETE FROM room_aliases
        WHERE  alias = $1
    ",
    FIND_ALIAS = "
        SELECT alias, creator_nid, room_nid, rooms.room_id
        FROM   room_aliases
        JOIN   rooms USING (room_nid)
        WHERE  alias = $1
    ",
    LIST_ALIASES = "
        SELECT room_nid, alias
        FROM   room_aliases
        WHERE  room_nid = ANY($1)
        ORDER BY room_nid, created, alias
    ",
    MOVE_ALIASES = "
        UPDATE room_aliases
        SET    room_nid = $2
        WHERE  room_nid = $1
    ",
    PUBLISH = "
        INSERT INTO published_rooms (room_nid, network)
        VALUES ($1, $2)
        ON CONFLICT DO NOTHING
    ",
    WITHDRAW = "
        DELETE FROM published_rooms
        WHERE  room_nid = $1 AND network = $2
    ",
    PUBLISHED_AMONG = "
        SELECT room_nid
        FROM   published_rooms
        WHERE  room_nid = ANY($1)
          AND  network = $2
    ",
    IS_PUBLISHED = "
        SELECT 1
        FROM   published_rooms
        WHERE  room_nid = $1 AND network = $2
    ",
    UPSERT_SUMMARIES = "
        INSERT INTO room_summaries
               (room_nid, name, topic, avatar_url, canonical_alias, join_rule, guest_can_join, history_visibility,
                room_type, encryption, joined_members)
        SELECT *
        FROM   UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::BOOLEAN[],
                      $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::BIGINT[])
        ON CONFLICT (room_nid) DO UPDATE
        SET    name = EXCLUDED.name, topic = EXCLUDED.topic, avatar_url = EXCLUDED.avatar_url,
               canonical_alias = EXCLUDED.canonical_alias, join_rule = EXCLUDED.join_rule,
               guest_can_join = EXCLUDED.guest_can_join, history_visibility = EXCLUDED.history_visibility,
               room_type = EXCLUDED.room_type, encryption = EXCLUDED.encryption,
               joined_members = EXCLUDED.joined_members
    ",
    LIST_SUMMARIES = summaries_where!("summary.room_nid = ANY($1)"),
    // One statement for both directions would hide the order from the planner.
    PUBLIC_ROOMS_AFTER = public_rooms!(
        "($4::BIGINT IS NULL OR (joined_members, -summary.room_nid) < ($4, -($5::BIGINT))) AND joined_members > 0",
        "joined_members DESC, summary.room_nid"
    ),
    PUBLIC_ROOMS_BEFORE = public_rooms!(
        "(joined_members, -summary.room_nid) > ($4::BIGINT, -($5::BIGINT))",
        "joined_members, summary.room_nid DESC"
    ),
    COUNT_PUBLISHED = "
        SELECT COUNT(DISTINCT room_nid) AS rooms
        FROM   published_rooms
        WHERE  $1::TEXT IS NULL OR network = $1
    ",
}

/// The list of the server itself, as opposed to those of application services' networks.
pub const OWN_NETWORK: &str = "";

/// An alias of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The alias.
    pub alias: OwnedRoomAliasId,
    /// NID of the room it leads to.
    pub room: RoomNid,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who made it.
    pub creator: UserNid,
}

/// What the directory shows of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSummary {
    /// NID of the room.
    pub room: RoomNid,
    /// Its name.
    pub name: Option<String>,
    /// Its topic, as plain text.
    pub topic: Option<String>,
    /// Its avatar.
    pub avatar_url: Option<String>,
    /// Its canonical alias.
    pub canonical_alias: Option<String>,
    /// Its join rule, as the event has it.
    pub join_rule: String,
    /// Guests may join.
    pub guest_can_join: bool,
    /// Its history visibility, as the event has it; `shared` when there is none.
    pub history_visibility: String,
    /// Its type, as `m.space`. `None`: an ordinary room.
    pub room_type: Option<String>,
    /// Algorithm of its encryption. `None`: not encrypted.
    pub encryption: Option<String>,
    /// How many users are joined.
    pub joined_members: i64,
}

/// A room of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRoom {
    /// The room.
    pub room_id: OwnedRoomId,
    /// What is shown of it.
    pub summary: RoomSummary,
}

/// A place between rooms in the list, which is ordered by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFrom {
    /// The beginning.
    Start,
    /// After the room of this size and number.
    After(i64, RoomNid),
    /// Before the room of this size and number.
    Before(i64, RoomNid),
}

/// Which published rooms are asked for.
#[derive(Clone, Debug)]
pub struct PublicRoomsQuery<'a> {
    /// Whose list: [`OWN_NETWORK`] or an application service's network. `None`: all together.
    pub network: Option<&'a str>,
    /// To be found in the name, topic or canonical alias.
    pub search_term: Option<&'a str>,
    /// Which room types; `None` among them stands for ordinary rooms. No list: any type.
    pub room_types: Option<Vec<Option<&'a str>>>,
    /// Where the page begins.
    pub from: PageFrom,
    /// How many rooms at most.
    pub limit: i64,
}

impl TryFrom<&Row> for ListedRoom {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("room_summaries", row);
        Ok(Self {
            room_id: columns.parse("room_id")?,
            summary: RoomSummary {
                room: columns.nid("room_nid")?,
                name: columns.get("name")?,
                topic: columns.get("topic")?,
                avatar_url: columns.get("avatar_url")?,
                canonical_alias: columns.get("canonical_alias")?,
                join_rule: columns.get("join_rule")?,
                guest_can_join: columns.get("guest_can_join")?,
                history_visibility: columns.get("history_visibility")?,
                room_type: columns.get("room_type")?,
                encryption: columns.get("encryption")?,
                joined_members: columns.get("joined_members")?,
            },
        })
    }
}

/// Makes an alias. `false`: it is taken.
pub async fn create_alias(
    db: &impl GenericClient,
    alias: &RoomAliasId,
    room: RoomNid,
    creator: UserNid,
    now: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(INSERT_ALIAS).await?;
    let alias = text(alias.as_str());
    let made = db.execute(&statement, &[&alias.as_ref(), &room.get(), &creator.get(), &now]).await?;
    Ok(made == 1)
}

/// Removes an alias. `false`: there is none such.
pub async fn delete_alias(db: &impl GenericClient, alias: &RoomAliasId) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(DELETE_ALIAS).await?;
    Ok(db.execute(&statement, &[&text(alias.as_str()).as_ref()]).await? == 1)
}

/// Where an alias of this server leads.
pub async fn find_alias(db: &impl GenericClient, alias: &RoomAliasId) -> Result<Option<Alias>, StorageError> {
    let statement = db.prepare_cached(FIND_ALIAS).await?;
    let row = db.query_opt(&statement, &[&text(alias.as_str()).as_ref()]).await?;
    let Some(row) = row else { return Ok(None) };
    let columns = Columns::of("room_aliases", &row);
    Ok(Some(Alias {
        alias: columns.parse("alias")?,
        room: columns.nid("room_nid")?,
        room_id: columns.parse("room_id")?,
        creator: columns.nid("creator_nid")?,
    }))
}

/// The aliases of this server that lead to each of these rooms, oldest first.
pub async fn list_aliases(
    db: &impl GenericClient,
    rooms: &[RoomNid],
) -> Result<HashMap<RoomNid, Vec<OwnedRoomAliasId>>, StorageError> {
    let statement = db.prepare_cached(LIST_ALIASES).await?;
    let mut aliases: HashMap<RoomNid, Vec<OwnedRoomAliasId>> = HashMap::new();
    for row in db.query(&statement, &[&plain(rooms)]).await? {
        let columns = Columns::of("room_aliases", &row);
        aliases.entry(columns.nid("room_nid")?).or_default().push(columns.parse("alias")?);
    }
    Ok(aliases)
}

/// Lets all aliases of a room lead to another, as when a room is upgraded.
pub async fn move_aliases(db: &impl GenericClient, from: RoomNid, to: RoomNid) -> Result<(), StorageError> {
    let statement = db.prepare_cached(MOVE_ALIASES).await?;
    db.execute(&statement, &[&from.get(), &to.get()]).await?;
    Ok(())
}

/// Puts the room on a list, or takes it off. The list is [`OWN_NETWORK`] or an application service's network.
pub async fn set_published(
    db: &impl GenericClient,
    room: RoomNid,
    network: &str,
    is_published: bool,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(if is_published { PUBLISH } else { WITHDRAW }).await?;
    db.execute(&statement, &[&room.get(), &text(network).as_ref()]).await?;
    Ok(())
}

/// Whether the room is on a list.
pub async fn is_published(
    db: &impl GenericClient,
    room: RoomNid,
    network: &str,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(IS_PUBLISHED).await?;
    Ok(db.query_opt(&statement, &[&room.get(), &text(network).as_ref()]).await?.is_some())
}

/// Which of these rooms are on a list.
pub async fn published_among(
    db: &impl GenericClient,
    rooms: &[RoomNid],
    network: &str,
) -> Result<HashSet<RoomNid>, StorageError> {
    let statement = db.prepare_cached(PUBLISHED_AMONG).await?;
    let rows = db.query(&statement, &[&plain(rooms), &text(network).as_ref()]).await?;
    rows.iter().map(|row| Columns::of("published_rooms", row).nid("room_nid")).collect()
}

/// Replaces the summaries of these rooms, at most one entry a room.
pub async fn upsert_room_summaries(
    db: &impl GenericClient,
    summaries: &[RoomSummary],
) -> Result<(), StorageError> {
    fn column<T>(summaries: &[RoomSummary], get: impl Fn(&RoomSummary) -> T) -> Vec<T> {
        summaries.iter().map(get).collect()
    }
    fn optional(value: Option<&String>) -> Option<String> {
        value.map(|value| text(value).into_owned())
    }
    let statement = db.prepare_cached(UPSERT_SUMMARIES).await?;
    db.execute(
        &statement,
        &[
            &column(summaries, |room| room.room.get()),
            &column(summaries, |room| optional(room.name.as_ref())),
            &column(summaries, |room| optional(room.topic.as_ref())),
            &column(summaries, |room| optional(room.avatar_url.as_ref())),
            &column(summaries, |room| optional(room.canonical_alias.as_ref())),
            &column(summaries, |room| text(&room.join_rule).into_owned()),
            &column(summaries, |room| room.guest_can_join),
            &column(summaries, |room| text(&room.history_visibility).into_owned()),
            &column(summaries, |room| optional(room.room_type.as_ref())),
            &column(summaries, |room| optional(room.encryption.as_ref())),
            &column(summaries, |room| room.joined_members),
        ],
    )
    .await?;
    Ok(())
}

/// The summaries of these rooms, in no order, published or not; rooms without one are left out.
pub async fn list_room_summaries(
    db: &impl GenericClient,
    rooms: &[RoomNid],
) -> Result<Vec<ListedRoom>, StorageError> {
    let statement = db.prepare_cached(LIST_SUMMARIES).await?;
    let rows = db.query(&statement, &[&plain(rooms)]).await?;
    rows.iter().map(ListedRoom::try_from).collect()
}

/// A page of the public room directory, the largest rooms first. Empty rooms are left out.
pub async fn public_rooms(
    db: &impl GenericClient,
    query: &PublicRoomsQuery<'_>,
) -> Result<Vec<ListedRoom>, StorageError> {
    let pattern = query.search_term.map(|term| format!("%{}%", like_literal(term)));
    let room_types: Option<Vec<String>> = query
        .room_types
        .as_ref()
        .map(|types| types.iter().map(|kind| text(kind.unwrap_or_default()).into_owned()).collect());
    let (sql, size, room) = match query.from {
        PageFrom::Start => (PUBLIC_ROOMS_AFTER, None, None),
        PageFrom::After(size, room) => (PUBLIC_ROOMS_AFTER, Some(size), Some(room.get())),
        PageFrom::Before(size, room) => (PUBLIC_ROOMS_BEFORE, Some(size), Some(room.get())),
    };
    let statement = db.prepare_cached(sql).await?;
    let rows =
        db.query(&statement, &[&query.network, &pattern, &room_types, &size, &room, &query.limit]).await?;
    let mut rooms: Vec<ListedRoom> = rows.iter().map(ListedRoom::try_from).collect::<Result<_, _>>()?;
    if matches!(query.from, PageFrom::Before(..)) {
        rooms.reverse();
    }
    Ok(rooms)
}

/// How many rooms a list has. `None`: all lists together.
pub async fn count_published(db: &impl GenericClient, network: Option<&str>) -> Result<i64, StorageError> {
    let statement = db.prepare_cached(COUNT_PUBLISHED).await?;
    let row = db.query_one(&statement, &[&network]).await?;
    Columns::of("published_rooms", &row).get("rooms")
}
