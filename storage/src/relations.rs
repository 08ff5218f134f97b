//! Relations between events: edits, threads, annotations, references. They are written together with the event
//! that relates.
//!
//! A redacted event relates to nothing any more, so redacted children are never among the answers.

use std::collections::HashMap;

use myelin_core::{
    nid::{EventNid, RoomNid, TypeNid, UserNid},
    position::{Position, TimelinePlace},
};
use ruma::{EventId, OwnedEventId};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    error::StorageError,
    events::{StoredEvent, ids, select_events},
    pool::GenericClient,
    row::{Columns, plain, text},
    statements::statements,
    timeline::{BEGINNING, Direction, END, sql_limit},
};

/// The children of an event in one direction, up to some depth of descent.
macro_rules! select_children {
    ($bounds:literal, $order:literal) => {
        select_events!(
            "relations JOIN events e ON e.event_nid = relations.child_nid",
            concat!(
                "
        WHERE  relations.parent_id IN (
                   WITH RECURSIVE tree (event_id, depth) AS (
                       SELECT UNNEST($1::TEXT[]), 1
                       UNION
                       SELECT child.event_id, tree.depth + 1
                       FROM   tree
                       JOIN   relations ON relations.parent_id = tree.event_id
                       JOIN   events child ON child.event_nid = relations.child_nid
                       WHERE  tree.depth < $2
                   )
                   SELECT event_id
                   FROM   tree
               )
          AND  relations.room_nid = $3
          AND  ($4::TEXT IS NULL OR relations.rel_type = $4)
          AND  ($5::INTEGER IS NULL OR relations.type_nid = $5)
          AND  e.anchor IS NOT NULL
          AND  e.admission = 1
          AND  e.redacted_by IS NULL
          AND  ",
                $bounds,
                "
        ORDER  BY ",
                $order,
                "
        LIMIT  $10
    "
            )
        )
    };
}

statements! {
    LIST_FORWARD = select_children!(
        "(e.anchor, e.anchor_offset) > ($6, $7) AND (e.anchor, e.anchor_offset) <= ($8, $9)",
        "e.anchor, e.anchor_offset"
    ),
    LIST_BACKWARD = select_children!(
        "(e.anchor, e.anchor_offset) <= ($6, $7) AND (e.anchor, e.anchor_offset) > ($8, $9)",
        "e.anchor DESC, e.anchor_offset DESC"
    ),
    /// In canonical JSON the pattern cannot stand within a string: there its quotes would be escaped. What an encrypted
    /// edit says cannot be seen.
    FIND_REPLACEMENTS = "
        SELECT DISTINCT ON (parent.event_nid) parent.event_nid AS parent_nid, child.event_nid AS child_nid
        FROM   events parent
        JOIN   relations ON relations.parent_id = parent.event_id
                        AND relations.rel_type = 'm.replace'
                        AND relations.room_nid = parent.room_nid
                        AND relations.type_nid = parent.type_nid
                        AND relations.sender_nid = parent.sender_nid
        JOIN   events child ON child.event_nid = relations.child_nid
        WHERE  parent.event_nid = ANY($1)
          AND  parent.state_key_nid IS NULL
          AND  parent.redacted_by IS NULL
          AND  NOT EXISTS (
                   SELECT 1
                   FROM   relations own
                   WHERE  own.child_nid = parent.event_nid
                     AND  own.rel_type = 'm.replace'
               )
          AND  child.state_key_nid IS NULL
          AND  child.admission = 1
          AND  child.redacted_by IS NULL
          AND  (child.type_nid = 18 OR position('\"m.new_content\":{' IN child.pdu) > 0)
        ORDER  BY parent.event_nid, child.origin_server_ts DESC, child.event_id DESC
    ",
    SUMMARISE_THREADS = "
        SELECT parent.event_nid AS parent_nid,
               COUNT(*) AS replies,
               (ARRAY_AGG(child.event_nid ORDER BY child.anchor DESC, child.anchor_offset DESC))[1] AS latest_nid,
               BOOL_OR(child.sender_nid = $2 OR parent.sender_nid = $2) AS participated
        FROM   events parent
        JOIN   relations ON relations.parent_id = parent.event_id
                        AND relations.rel_type = 'm.thread'
                        AND relations.room_nid = parent.room_nid
        JOIN   events child ON child.event_nid = relations.child_nid
        WHERE  parent.event_nid = ANY($1)
          AND  child.anchor IS NOT NULL
          AND  child.admission = 1
          AND  child.redacted_by IS NULL
          AND  child.sender_nid <> ALL($3)
        GROUP  BY parent.event_nid
    ",
    LIST_REFERENCES = "
        SELECT parent.event_nid AS parent_nid, child.event_id
        FROM   events parent
        JOIN   relations ON relations.parent_id = parent.event_id
                        AND relations.rel_type = 'm.reference'
                        AND relations.room_nid = parent.room_nid
        JOIN   events child ON child.event_nid = relations.child_nid
        WHERE  parent.event_nid = ANY($1)
          AND  child.admission = 1
          AND  child.redacted_by IS NULL
          AND  child.sender_nid <> ALL($2)
        ORDER  BY child.anchor, child.anchor_offset
    ",
    LIST_THREADS = "
        SELECT root.event_nid, MAX(child.anchor) AS latest
        FROM   relations
        JOIN   events root ON root.event_id = relations.parent_id
                          AND root.room_nid = relations.room_nid
        JOIN   events child ON child.event_nid = relations.child_nid
        WHERE  relations.room_nid = $1
          AND  relations.rel_type = 'm.thread'
          AND  child.anchor IS NOT NULL
          AND  child.admission = 1
          AND  child.redacted_by IS NULL
        GROUP  BY root.event_nid, root.sender_nid
        HAVING ($2::INTEGER IS NULL OR root.sender_nid = $2 OR BOOL_OR(child.sender_nid = $2))
           AND MAX(child.anchor) < $3
        ORDER  BY latest DESC
        LIMIT  $4
    ",
    FIND_ANNOTATION = "
        SELECT relations.child_nid
        FROM   relations
        JOIN   events ON events.event_nid = relations.child_nid
        WHERE  relations.parent_id = $1
          AND  relations.rel_type = 'm.annotation'
          AND  relations.sender_nid = $2
          AND  relations.type_nid = $3
          AND  relations.aggregation_key = $4
          AND  events.admission = 1
          AND  events.redacted_by IS NULL
        LIMIT  1
    ",
}

/// Which children of an event are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Children<'a> {
    /// The room that all are in.
    pub room: RoomNid,
    /// The event.
    pub parent: &'a EventId,
    /// Only children that relate in this way.
    pub rel_type: Option<&'a str>,
    /// Only children of this type.
    pub type_nid: Option<TypeNid>,
    /// 1: the event's own children; more: children of children too.
    pub depth: u8,
}

/// A thread, as the event that it starts from shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadSummary {
    /// How many replies it has.
    pub replies: u64,
    /// The last of them.
    pub latest: EventNid,
    /// Whether the user who asks has started it or replied.
    pub participated: bool,
}

/// Up to `limit` children between two places in the timeline, in the order of reading. Places are gaps, as in
/// [`timeline`](crate::timeline).
pub async fn list(
    db: &impl GenericClient,
    children: Children<'_>,
    from: Option<TimelinePlace>,
    direction: Direction,
    to: Option<TimelinePlace>,
    limit: usize,
) -> Result<Vec<StoredEvent>, StorageError> {
    let (sql, first, last) = match direction {
        Direction::Forward => (LIST_FORWARD, BEGINNING, END),
        Direction::Backward => (LIST_BACKWARD, END, BEGINNING),
    };
    let (from, to) = (from.unwrap_or(first), to.unwrap_or(last));
    let parents = ids(&[children.parent]);
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &parents,
        &i32::from(children.depth),
        &children.room.get(),
        &children.rel_type.map(text),
        &children.type_nid.map(TypeNid::get),
        &from.anchor.0,
        &from.offset,
        &to.anchor.0,
        &to.offset,
        &sql_limit(limit),
    ];
    let statement = db.prepare_cached(sql).await?;
    let rows = db.query(&statement, &parameters).await?;
    rows.iter().map(StoredEvent::try_from).collect()
}

/// The last valid edit of each of these events; those without one are left out.
pub async fn find_replacements(
    db: &impl GenericClient,
    events: &[EventNid],
) -> Result<HashMap<EventNid, EventNid>, StorageError> {
    let statement = db.prepare_cached(FIND_REPLACEMENTS).await?;
    let rows = db.query(&statement, &[&plain(events)]).await?;
    let pair = |row: &Row| {
        let columns = Columns::of("relations", row);
        Ok((columns.nid("parent_nid")?, columns.nid("child_nid")?))
    };
    rows.iter().map(pair).collect()
}

/// The threads that start from these events, as this user sees them, without what those say whom they ignore; events
/// that start none are left out.
pub async fn summarise_threads(
    db: &impl GenericClient,
    events: &[EventNid],
    user: UserNid,
    ignored: &[UserNid],
) -> Result<HashMap<EventNid, ThreadSummary>, StorageError> {
    let statement = db.prepare_cached(SUMMARISE_THREADS).await?;
    let rows = db.query(&statement, &[&plain(events), &user.get(), &plain(ignored)]).await?;
    let summary = |row: &Row| {
        let columns = Columns::of("relations", row);
        let summary = ThreadSummary {
            replies: columns.get::<i64>("replies")?.unsigned_abs(),
            latest: columns.nid("latest_nid")?,
            participated: columns.get("participated")?,
        };
        Ok((columns.nid("parent_nid")?, summary))
    };
    rows.iter().map(summary).collect()
}

/// The events that refer to each of these by `m.reference`, oldest first, without those of ignored users; events that
/// none refers to are left out.
pub async fn list_references(
    db: &impl GenericClient,
    events: &[EventNid],
    ignored: &[UserNid],
) -> Result<HashMap<EventNid, Vec<OwnedEventId>>, StorageError> {
    let statement = db.prepare_cached(LIST_REFERENCES).await?;
    let mut found: HashMap<EventNid, Vec<OwnedEventId>> = HashMap::new();
    for row in &db.query(&statement, &[&plain(events), &plain(ignored)]).await? {
        let columns = Columns::of("relations", row);
        found.entry(columns.nid("parent_nid")?).or_default().push(columns.parse("event_id")?);
    }
    Ok(found)
}

/// Up to `limit` threads of a room, each by its first event and the position of its last reply, those with the latest
/// replies first, beginning before a position. With a participant: only threads that they started or replied in.
pub async fn list_threads(
    db: &impl GenericClient,
    room: RoomNid,
    participant: Option<UserNid>,
    before: Option<Position>,
    limit: usize,
) -> Result<Vec<(EventNid, Position)>, StorageError> {
    let before = before.map_or(i64::MAX, |before| before.0);
    let statement = db.prepare_cached(LIST_THREADS).await?;
    let rows = db
        .query(&statement, &[&room.get(), &participant.map(UserNid::get), &before, &sql_limit(limit)])
        .await?;
    let thread = |row: &Row| {
        let columns = Columns::of("relations", row);
        Ok((columns.nid("event_nid")?, columns.position("latest")?))
    };
    rows.iter().map(thread).collect()
}

/// The event by which a user has annotated an event with this key, if there is one of this type.
pub async fn find_annotation(
    db: &impl GenericClient,
    parent: &EventId,
    sender: UserNid,
    type_nid: TypeNid,
    key: &str,
) -> Result<Option<EventNid>, StorageError> {
    let statement = db.prepare_cached(FIND_ANNOTATION).await?;
    let row = db
        .query_opt(&statement, &[&text(parent.as_str()), &sender.get(), &type_nid.get(), &text(key)])
        .await?;
    row.map(|row| Columns::of("relations", &row).nid("child_nid")).transpose()
}
