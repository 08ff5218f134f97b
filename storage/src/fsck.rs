//! Checks what must hold in the database, for `myelin fsck`.
//!
//! It changes nothing and repairs nothing. What it reads is one moment's: the caller gives a transaction, which is
//! made repeatable. Rows are compared within the database where that can be said in SQL; packed state is decoded
//! here, a batch of rooms at a time.

mod events;
mod rooms;

use myelin_core::nid::RoomNid;

use crate::{
    Storage,
    error::StorageError,
    pool::{GenericClient, Transaction},
    row::Columns,
    statements::statements,
};

/// So many findings of one kind are listed: a broken table has as many as rows.
const LISTED: i64 = 100;

statements! {
    JOURNAL = "
        SELECT NULL::BIGINT AS room_nid, FORMAT('the journal has %s rows, and needs one', rows) AS what
        FROM   (SELECT COUNT(*) AS rows FROM journal) counted
        WHERE  rows <> 1
        LIMIT  $1
    ",
    /// Positions are given by the journal's row and by nothing else.
    POSITIONS = "
        SELECT NULL::BIGINT AS room_nid, FORMAT('position %s of %s is after the journal''s', last, name) AS what
        FROM   journal,
               (SELECT 'events' AS name, MAX(position) AS last FROM events
                UNION ALL SELECT 'timeline', MAX(anchor) FROM events
                UNION ALL SELECT 'rooms', MAX(GREATEST(position, receipt_position)) FROM rooms
                UNION ALL SELECT 'memberships', MAX(GREATEST(position, joined_at)) FROM memberships
                UNION ALL SELECT 'receipts', MAX(position) FROM receipts
                UNION ALL SELECT 'account_data', MAX(position) FROM account_data) used
        WHERE  used.last > journal.position
        LIMIT  $1
    ",
    RANGES = "
        SELECT NULL::BIGINT AS room_nid, FORMAT('the %s number %s was not reserved', kind, last) AS what
        FROM   nid_ranges
        JOIN   (SELECT 'event' AS kind, MAX(event_nid) AS last FROM events
                UNION ALL SELECT 'room', MAX(room_nid) FROM rooms
                UNION ALL SELECT 'type', MAX(type_nid) FROM event_types WHERE type_nid >= 1000
                UNION ALL SELECT 'state_key', MAX(state_key_nid) FROM state_keys WHERE state_key_nid > 1
                UNION ALL SELECT 'block', MAX(block_nid) FROM state_blocks
                UNION ALL SELECT 'snapshot', MAX(snapshot_nid) FROM state_snapshots) used USING (kind)
        WHERE  used.last >= nid_ranges.next
        LIMIT  $1
    ",
    EVENT_NAMES = "
        SELECT e.room_nid, FORMAT('event %s refers to a room, type, state key or sender without a row', e.event_nid) AS what
        FROM   events e
        LEFT   JOIN rooms USING (room_nid)
        LEFT   JOIN event_types USING (type_nid)
        LEFT   JOIN state_keys AS key ON key.state_key_nid = e.state_key_nid
        LEFT   JOIN state_keys AS sender ON sender.state_key_nid = e.sender_nid
        WHERE  rooms.room_nid IS NULL
           OR  event_types.type_nid IS NULL
           OR  (e.state_key_nid IS NOT NULL AND key.state_key_nid IS NULL)
           OR  sender.state_key_nid IS NULL
        LIMIT  $1
    ",
    EVENT_SNAPSHOTS = "
        SELECT e.room_nid, FORMAT('event %s has the snapshot %s, which is not its room''s', e.event_nid, e.snapshot_nid) AS what
        FROM   events e
        LEFT   JOIN state_snapshots s USING (snapshot_nid)
        WHERE  e.snapshot_nid IS NOT NULL
          AND  s.room_nid IS DISTINCT FROM e.room_nid
        LIMIT  $1
    ",
    RESOLVED_STATES = "
        SELECT r.room_nid, FORMAT('its state at position %s is the snapshot %s, which is not its own', r.position, r.snapshot_nid) AS what
        FROM   resolved_states r
        LEFT   JOIN state_snapshots s USING (snapshot_nid)
        WHERE  s.room_nid IS DISTINCT FROM r.room_nid
        LIMIT  $1
    ",
    EVENT_REFERENCES = "
        SELECT e.room_nid, FORMAT('event %s refers to the event %s, which is not in its room', e.event_nid, other.nid) AS what
        FROM   events e
        CROSS  JOIN LATERAL UNNEST(e.prev_nids || e.auth_nids || e.replaces_nid || e.redacted_by) AS other (nid)
        LEFT   JOIN events target ON target.event_nid = other.nid
        WHERE  other.nid IS NOT NULL
          AND  target.room_nid IS DISTINCT FROM e.room_nid
        LIMIT  $1
    ",
    EXTREMITIES = "
        SELECT r.room_nid, FORMAT('the forward extremity %s is no accepted event of the room', other.nid) AS what
        FROM   rooms r
        CROSS  JOIN LATERAL UNNEST(r.extremities) AS other (nid)
        LEFT   JOIN events target ON target.event_nid = other.nid
        WHERE  target.room_nid IS DISTINCT FROM r.room_nid
           OR  target.admission <> 1
        LIMIT  $1
    ",
    TIMELINE = "
        SELECT room_nid, FORMAT('the timeline has two events at %s/%s', anchor, anchor_offset) AS what
        FROM   events
        WHERE  anchor IS NOT NULL
        GROUP  BY room_nid, anchor, anchor_offset
        HAVING COUNT(*) > 1
        LIMIT  $1
    ",
    MEMBERSHIPS = "
        SELECT m.room_nid, FORMAT('the index of members has another membership than event %s of user %s', m.event_nid, m.user_nid) AS what
        FROM   memberships m
        LEFT   JOIN events e USING (event_nid)
        WHERE  m.membership <> 4
          AND  (ARRAY['invite', 'join', 'knock', 'leave', 'ban'])[m.membership]
               IS DISTINCT FROM e.pdu::JSON #>> '{content,membership}'
        LIMIT  $1
    ",
    RELATIONS = "
        SELECT x.room_nid, FORMAT('a relation, transaction, redaction or expiry belongs to the event %s, which is not in its room', x.event_nid) AS what
        FROM   (SELECT room_nid, child_nid AS event_nid FROM relations
                UNION ALL SELECT room_nid, event_nid FROM client_transactions
                UNION ALL SELECT room_nid, event_nid FROM waiting_redactions
                UNION ALL SELECT room_nid, event_nid FROM expiring_events) x
        LEFT   JOIN events e USING (event_nid)
        WHERE  e.room_nid IS DISTINCT FROM x.room_nid
        LIMIT  $1
    ",
    AUTH_CHAINS = "
        SELECT e.room_nid, FORMAT('the index of auth events lacks the event %s', e.event_nid) AS what
        FROM   events e
        LEFT   JOIN auth_chains USING (event_nid)
        WHERE  e.state_key_nid IS NOT NULL
          AND  e.admission IN (1, 2)
          AND  auth_chains.event_nid IS NULL
        LIMIT  $1
    ",
    OUTSIDE = "
        SELECT o.room_nid, FORMAT('user %s is told of the room without being invited or knocking', o.user_nid) AS what
        FROM   outside_memberships o
        LEFT   JOIN memberships m USING (room_nid, user_nid)
        WHERE  COALESCE(m.membership, 0) NOT IN (1, 3)
        LIMIT  $1
    ",
    LIST_EVENTS = "
        SELECT e.event_nid, e.room_nid, e.event_id, e.pdu, r.room_id, r.room_version, event_types.event_type,
               key.state_key, sender.state_key AS sender
        FROM   events e
        JOIN   rooms r USING (room_nid)
        LEFT   JOIN event_types USING (type_nid)
        LEFT   JOIN state_keys AS key ON key.state_key_nid = e.state_key_nid
        LEFT   JOIN state_keys AS sender ON sender.state_key_nid = e.sender_nid
        WHERE  e.event_nid > $1
        ORDER  BY e.event_nid
        LIMIT  $2
    ",
    LIST_BLOCKS = "
        SELECT block_nid, room_nid, entries
        FROM   state_blocks
        WHERE  room_nid = ANY($1)
    ",
    LIST_SNAPSHOTS = "
        SELECT snapshot_nid, room_nid, blocks
        FROM   state_snapshots
        WHERE  room_nid = ANY($1)
    ",
    LIST_STATE_EVENTS = "
        SELECT event_nid, room_nid, type_nid, state_key_nid, snapshot_nid, admission
        FROM   events
        WHERE  event_nid = ANY($1)
    ",
    REPEATABLE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The room that it is about.
    pub room: Option<RoomNid>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    fn in_room(room: RoomNid, what: impl std::fmt::Display) -> Self {
        Self { room: Some(room), what: what.to_string() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.room {
            Some(room) => write!(f, "room {room}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Storage {
    /// Checks everything, at one moment, while the server may run. Empty: all is well.
    pub async fn fsck(&self) -> Result<Vec<Finding>, StorageError> {
        let mut client = self.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(REPEATABLE).await?;
        let events = events::check(&transaction).await?;
        let mut findings = events.findings;
        findings.extend(check_tables(&transaction, events.are_unreadable).await?);
        findings.extend(rooms::check(&transaction).await?);
        Ok(findings)
    }
}

/// What can be said in SQL: not what is in events, if some of them are no JSON.
async fn check_tables(
    transaction: &Transaction<'_>,
    are_unreadable: bool,
) -> Result<Vec<Finding>, StorageError> {
    let checks = [
        JOURNAL,
        POSITIONS,
        RANGES,
        EVENT_NAMES,
        EVENT_SNAPSHOTS,
        RESOLVED_STATES,
        EVENT_REFERENCES,
        EXTREMITIES,
        TIMELINE,
        MEMBERSHIPS,
        RELATIONS,
        AUTH_CHAINS,
        OUTSIDE,
    ];
    let mut findings = Vec::new();
    for sql in checks.into_iter().filter(|sql| !are_unreadable || *sql != MEMBERSHIPS) {
        let statement = transaction.prepare_cached(sql).await?;
        for row in &transaction.query(&statement, &[&LISTED]).await? {
            let columns = Columns::of("fsck", row);
            findings.push(Finding { room: columns.opt_nid("room_nid")?, what: columns.get("what")? });
        }
    }
    Ok(findings)
}
