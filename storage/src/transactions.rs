//! Transaction ids of clients: which event each made. They are written together with the event.

use std::collections::HashMap;

use myelin_core::nid::{EventNid, RoomNid, UserNid};
use ruma::{OwnedDeviceId, OwnedEventId};

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain, text},
    statements::statements,
};

statements! {
    RECENT = "
        SELECT client_transactions.room_nid, client_transactions.user_nid, device_id, scope, txn_id, created,
               events.event_id
        FROM   client_transactions
        JOIN   events USING (event_nid)
        WHERE  client_transactions.room_nid = ANY($1)
          AND  created >= $2
    ",
    OF_DEVICE = "
        SELECT event_nid, txn_id
        FROM   client_transactions
        WHERE  event_nid = ANY($1)
          AND  user_nid = $2
          AND  device_id = $3
    ",
    FORGET_OLD = "
        DELETE FROM client_transactions
        WHERE  created < $1
    ",
}

/// A client's transaction id and the event that it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRow {
    /// Who sent the event.
    pub user: UserNid,
    /// From which device.
    pub device_id: OwnedDeviceId,
    /// What else the id is scoped to.
    pub scope: String,
    /// The id.
    pub txn_id: String,
    /// The event.
    pub event_id: OwnedEventId,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// The transactions of these rooms since a time, each with its room.
pub async fn recent(
    db: &impl GenericClient,
    rooms: &[RoomNid],
    since_ms: u64,
) -> Result<Vec<(RoomNid, TransactionRow)>, StorageError> {
    let statement = db.prepare_cached(RECENT).await?;
    let rows = db.query(&statement, &[&plain(rooms), &milliseconds(since_ms)]).await?;
    let transaction = |row| {
        let columns = Columns::of("client_transactions", row);
        let device_id: String = columns.get("device_id")?;
        let transaction = TransactionRow {
            user: columns.nid("user_nid")?,
            device_id: device_id.into(),
            scope: columns.get("scope")?,
            txn_id: columns.get("txn_id")?,
            event_id: columns.parse("event_id")?,
            created_ms: u64::try_from(columns.get::<i64>("created")?).unwrap_or(0),
        };
        Ok((columns.nid("room_nid")?, transaction))
    };
    rows.iter().map(transaction).collect()
}

/// The transaction ids by which this device made some of these events.
pub async fn of_device(
    db: &impl GenericClient,
    events: &[EventNid],
    user: UserNid,
    device_id: &str,
) -> Result<HashMap<EventNid, String>, StorageError> {
    let statement = db.prepare_cached(OF_DEVICE).await?;
    let rows = db.query(&statement, &[&plain(events), &user.get(), &text(device_id)]).await?;
    let transaction = |row| {
        let columns = Columns::of("client_transactions", row);
        Ok((columns.nid("event_nid")?, columns.get("txn_id")?))
    };
    rows.iter().map(transaction).collect()
}

/// Forgets transactions from before a time. Returns how many.
pub async fn forget_before(db: &impl GenericClient, before_ms: u64) -> Result<u64, StorageError> {
    let statement = db.prepare_cached(FORGET_OLD).await?;
    Ok(db.execute(&statement, &[&milliseconds(before_ms)]).await?)
}

fn milliseconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
