//! The inbound queue: what other servers have sent and been told that it arrived.
//!
//! A row is written before the sender is answered, and removed when its room has decided about the event. What is in
//! here is otherwise nowhere: a restart goes on with it. Deliberately absent: deciding when to try again.

use std::{borrow::Cow, collections::HashMap};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
    timeline::sql_limit,
};

statements! {
    FIND_TRANSACTION = "
        SELECT answer
        FROM   inbound_transactions
        WHERE  origin = $1
          AND  txn_id = $2
    ",
    ADD_TRANSACTION = "
        INSERT INTO inbound_transactions (origin, txn_id, received_ms, answer)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (origin, txn_id) DO NOTHING
    ",
    COUNT_BY_ROOM = "
        SELECT wanted.room_id, count(queued.*) AS queued
        FROM   UNNEST($2::TEXT[]) AS wanted (room_id)
        CROSS  JOIN LATERAL (
            SELECT 1
            FROM   inbound_pdus
            WHERE  inbound_pdus.room_id = wanted.room_id
              AND  origin = $1
              AND  status < 3
            LIMIT  $3
        ) queued
        GROUP  BY wanted.room_id
    ",
    ADD_PDUS = "
        INSERT INTO inbound_pdus (room_id, event_id, origin, received_ms, pdu)
        SELECT room_id, event_id, $1, $2, pdu
        FROM   UNNEST($3::TEXT[], $4::TEXT[], $5::TEXT[]) WITH ORDINALITY AS new (room_id, event_id, pdu, place)
        ORDER  BY place
        ON CONFLICT (room_id, event_id, origin) DO UPDATE
        SET    status = 1, attempts = 0, failures = 0, retry_ms = 0, reason = NULL,
               received_ms = EXCLUDED.received_ms, pdu = EXCLUDED.pdu
        WHERE  inbound_pdus.status = 3
    ",
    LIST_ROOMS = "
        SELECT DISTINCT room_id
        FROM   inbound_pdus
        WHERE  status < 3
    ",
    LIST_WAITING = "
        SELECT inbound_nid, room_id, event_id, origin, attempts, failures, pdu
        FROM   inbound_pdus
        WHERE  room_id = $1
          AND  status = 1
        ORDER  BY inbound_nid
        LIMIT  $2
    ",
    LIST_PARKED = "
        SELECT inbound_nid, room_id, event_id, origin, attempts, failures, pdu
        FROM   inbound_pdus
        WHERE  room_id = $1
          AND  status = 2
          AND  origin = $2
          AND  retry_ms <= $3
        ORDER  BY attempts, inbound_nid
        LIMIT  $4
    ",
    NEXT_PARKED = "
        SELECT origin, MIN(retry_ms) AS retry_ms
        FROM   inbound_pdus
        WHERE  room_id = $1
          AND  status = 2
        GROUP  BY origin
    ",
    PARK = "
        UPDATE inbound_pdus
        SET    status = 2,
               reason = new.reason,
               attempts = new.attempts,
               failures = new.failures,
               retry_ms = new.retry_ms
        FROM   UNNEST($1::BIGINT[], $2::TEXT[], $3::INTEGER[], $4::INTEGER[], $5::BIGINT[])
               AS new (inbound_nid, reason, attempts, failures, retry_ms)
        WHERE  inbound_pdus.inbound_nid = new.inbound_nid
    ",
    QUARANTINE = "
        UPDATE inbound_pdus
        SET    status = 3,
               reason = new.reason
        FROM   UNNEST($1::BIGINT[], $2::TEXT[]) AS new (inbound_nid, reason)
        WHERE  inbound_pdus.inbound_nid = new.inbound_nid
    ",
    REMOVE = "
        DELETE FROM inbound_pdus
        WHERE  inbound_nid = ANY($1)
    ",
    FORGET_TRANSACTIONS = "
        DELETE FROM inbound_transactions
        WHERE  received_ms < $1
    ",
    FORGET_QUARANTINED = "
        DELETE FROM inbound_pdus
        USING  (
            SELECT inbound_nid, row_number() OVER (PARTITION BY origin ORDER BY inbound_nid DESC) AS place
            FROM   inbound_pdus
            WHERE  status = 3
        ) old
        WHERE  inbound_pdus.inbound_nid = old.inbound_nid
          AND  (old.place > $2 OR inbound_pdus.received_ms < $1)
    ",
}

/// What became of each event of a transaction: an error, or none.
pub type Answer = std::collections::BTreeMap<OwnedEventId, Option<String>>;

/// An event to be queued.
#[derive(Clone, Copy, Debug)]
pub struct NewPdu<'a> {
    /// Its room.
    pub room_id: &'a RoomId,
    /// Its id.
    pub event_id: &'a EventId,
    /// Canonical JSON.
    pub json: &'a str,
}

/// A queued event.
#[derive(Clone, Debug)]
pub struct QueuedPdu {
    /// Its number in the queue.
    pub nid: i64,
    /// Its room.
    pub room_id: OwnedRoomId,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Who sent it here.
    pub origin: OwnedServerName,
    /// How often it was tried.
    pub attempts: u32,
    /// How often servers did answer, in vain.
    pub failures: u32,
    /// Canonical JSON.
    pub json: String,
}

/// Why an event is not decided yet, and when it is to be tried again.
#[derive(Clone, Debug)]
pub struct Parking {
    /// The event's number in the queue.
    pub nid: i64,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How often servers did answer, in vain.
    pub failures: u32,
    /// Not before, in milliseconds since 1970.
    pub retry_ms: u64,
}

/// What the transaction was answered with, if it was.
pub async fn find_transaction(
    db: &impl GenericClient,
    origin: &ServerName,
    txn_id: &str,
) -> Result<Option<Answer>, StorageError> {
    let statement = db.prepare_cached(FIND_TRANSACTION).await?;
    let Some(row) = db.query_opt(&statement, &[&origin.as_str(), &text(txn_id)]).await? else {
        return Ok(None);
    };
    let columns = Columns::of("inbound_transactions", &row);
    let answer: String = columns.get("answer")?;
    serde_json::from_str(&answer).map(Some).map_err(|error| columns.corrupt(format_args!("answer: {error}")))
}

/// Remembers what a transaction was answered with.
pub async fn add_transaction(
    db: &impl GenericClient,
    origin: &ServerName,
    txn_id: &str,
    now_ms: u64,
    answer: &Answer,
) -> Result<(), StorageError> {
    let answer = serde_json::to_string(answer).expect("a map of strings is JSON");
    let statement = db.prepare_cached(ADD_TRANSACTION).await?;
    db.execute(&statement, &[&origin.as_str(), &text(txn_id), &millis(now_ms), &text(&answer)]).await?;
    Ok(())
}

/// How many events of that server wait in each of the rooms, counted up to a limit; rooms without any are left out.
pub async fn count_by_room(
    db: &impl GenericClient,
    origin: &ServerName,
    rooms: &[&RoomId],
    limit: usize,
) -> Result<HashMap<OwnedRoomId, usize>, StorageError> {
    let rooms: Vec<Cow<'_, str>> = rooms.iter().map(|room| text(room.as_str())).collect();
    let statement = db.prepare_cached(COUNT_BY_ROOM).await?;
    let rows = db.query(&statement, &[&origin.as_str(), &rooms, &sql_limit(limit)]).await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("inbound_pdus", row);
            let queued: i64 = columns.get("queued")?;
            Ok((columns.parse("room_id")?, usize::try_from(queued).unwrap_or(usize::MAX)))
        })
        .collect()
}

/// Queues events in this order. One that the same server has queued before stays as it is; if it was quarantined, it
/// gets another chance. One statement.
pub async fn add_pdus(
    db: &impl GenericClient,
    origin: &ServerName,
    now_ms: u64,
    pdus: &[NewPdu<'_>],
) -> Result<(), StorageError> {
    let mut seen = std::collections::HashSet::new();
    let pdus: Vec<&NewPdu<'_>> = pdus.iter().filter(|pdu| seen.insert((pdu.room_id, pdu.event_id))).collect();
    let rooms: Vec<Cow<'_, str>> = pdus.iter().map(|pdu| text(pdu.room_id.as_str())).collect();
    let ids: Vec<Cow<'_, str>> = pdus.iter().map(|pdu| text(pdu.event_id.as_str())).collect();
    let json: Vec<&str> = pdus.iter().map(|pdu| pdu.json).collect();
    let statement = db.prepare_cached(ADD_PDUS).await?;
    db.execute(&statement, &[&origin.as_str(), &millis(now_ms), &rooms, &ids, &json]).await?;
    Ok(())
}

/// The rooms for which something is queued that may still be decided.
pub async fn list_rooms(db: &impl GenericClient) -> Result<Vec<OwnedRoomId>, StorageError> {
    let statement = db.prepare_cached(LIST_ROOMS).await?;
    let rows = db.query(&statement, &[]).await?;
    rows.iter().map(|row| Columns::of("inbound_pdus", row).parse("room_id")).collect()
}

/// The first events that wait for the room, in the order of their arrival.
pub async fn list_waiting(
    db: &impl GenericClient,
    room: &RoomId,
    limit: usize,
) -> Result<Vec<QueuedPdu>, StorageError> {
    let statement = db.prepare_cached(LIST_WAITING).await?;
    let rows = db.query(&statement, &[&text(room.as_str()), &sql_limit(limit)]).await?;
    rows.iter().map(QueuedPdu::try_from).collect()
}

/// Parked events of the room from that server which may be tried again now, those first that were tried least.
pub async fn list_parked(
    db: &impl GenericClient,
    room: &RoomId,
    origin: &ServerName,
    now_ms: u64,
    limit: usize,
) -> Result<Vec<QueuedPdu>, StorageError> {
    let statement = db.prepare_cached(LIST_PARKED).await?;
    let rows = db
        .query(&statement, &[&text(room.as_str()), &origin.as_str(), &millis(now_ms), &sql_limit(limit)])
        .await?;
    rows.iter().map(QueuedPdu::try_from).collect()
}

/// When parked events of the room are to be tried again: the first of each server, in milliseconds since 1970.
pub async fn next_parked(
    db: &impl GenericClient,
    room: &RoomId,
) -> Result<HashMap<OwnedServerName, u64>, StorageError> {
    let statement = db.prepare_cached(NEXT_PARKED).await?;
    let rows = db.query(&statement, &[&text(room.as_str())]).await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("inbound_pdus", row);
            let retry_ms: i64 = columns.get("retry_ms")?;
            Ok((columns.parse("origin")?, u64::try_from(retry_ms).unwrap_or(0)))
        })
        .collect()
}

/// Sets events aside until something is fetched for them.
pub async fn park(db: &impl GenericClient, parked: &[Parking]) -> Result<(), StorageError> {
    if parked.is_empty() {
        return Ok(());
    }
    let nids: Vec<i64> = parked.iter().map(|parking| parking.nid).collect();
    let reasons: Vec<Cow<'_, str>> = parked.iter().map(|parking| text(&parking.reason)).collect();
    let attempts: Vec<i32> = parked.iter().map(|parking| small(parking.attempts)).collect();
    let failures: Vec<i32> = parked.iter().map(|parking| small(parking.failures)).collect();
    let retry: Vec<i64> = parked.iter().map(|parking| millis(parking.retry_ms)).collect();
    let statement = db.prepare_cached(PARK).await?;
    db.execute(&statement, &[&nids, &reasons, &attempts, &failures, &retry]).await?;
    Ok(())
}

/// Sets events aside for good, each with its reason.
pub async fn quarantine(db: &impl GenericClient, events: &[(i64, String)]) -> Result<(), StorageError> {
    if events.is_empty() {
        return Ok(());
    }
    let nids: Vec<i64> = events.iter().map(|(nid, _)| *nid).collect();
    let reasons: Vec<Cow<'_, str>> = events.iter().map(|(_, reason)| text(reason)).collect();
    let statement = db.prepare_cached(QUARANTINE).await?;
    db.execute(&statement, &[&nids, &reasons]).await?;
    Ok(())
}

/// Takes events out of the queue: their rooms have decided.
pub async fn remove(db: &impl GenericClient, events: &[i64]) -> Result<(), StorageError> {
    if events.is_empty() {
        return Ok(());
    }
    let statement = db.prepare_cached(REMOVE).await?;
    db.execute(&statement, &[&events]).await?;
    Ok(())
}

/// Forgets transactions that were answered before that time, and quarantined events that came before it or that are
/// not among the last `keep` of their server.
pub async fn forget(db: &impl GenericClient, before_ms: u64, keep: usize) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FORGET_TRANSACTIONS).await?;
    db.execute(&statement, &[&millis(before_ms)]).await?;
    let statement = db.prepare_cached(FORGET_QUARANTINED).await?;
    db.execute(&statement, &[&millis(before_ms), &sql_limit(keep)]).await?;
    Ok(())
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn small(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl TryFrom<&Row> for QueuedPdu {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("inbound_pdus", row);
        let count = |column| columns.get::<i32>(column).map(|count| u32::try_from(count).unwrap_or(0));
        Ok(Self {
            nid: columns.get("inbound_nid")?,
            room_id: columns.parse("room_id")?,
            event_id: columns.parse("event_id")?,
            origin: columns.parse("origin")?,
            attempts: count("attempts")?,
            failures: count("failures")?,
            json: columns.get("pdu")?,
        })
    }
}
