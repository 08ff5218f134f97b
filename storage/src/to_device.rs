//! Messages that wait for a device. The journal writes them, in `commit::to_device`.

use myelin_core::{nid::UserNid, position::Position};
use ruma::DeviceId;
use serde_json::value::RawValue;

use crate::{
    encryption::json,
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    TAKE_MESSAGES = "
        WITH acknowledged AS (
                 DELETE FROM to_device_messages
                 WHERE  user_nid = $1
                   AND  device_id = $2
                   AND  position <= $3
             )
        SELECT position, sender, event_type, content
        FROM   to_device_messages
        WHERE  user_nid = $1
          AND  device_id = $2
          AND  position > $3
          AND  position <= $4
        ORDER  BY position
        LIMIT  $5
    ",
    ACKNOWLEDGE = "
        DELETE FROM to_device_messages
        WHERE  user_nid = $1
          AND  device_id = $2
          AND  position <= $3
    ",
    // Of all devices at once: looking at each message as it is written would cost the journal time for those that
    // nobody reads.
    DROP_OLDEST = "
        WITH full_devices AS (
                 SELECT user_nid, device_id
                 FROM   to_device_messages
                 GROUP  BY user_nid, device_id
                 HAVING COUNT(*) > $1
             ),
             dropped AS (
                 DELETE FROM to_device_messages AS old
                 USING  full_devices AS device
                 WHERE  old.user_nid = device.user_nid
                   AND  old.device_id = device.device_id
                   AND  old.position <= (SELECT position
                                         FROM   to_device_messages AS kept
                                         WHERE  kept.user_nid = device.user_nid
                                           AND  kept.device_id = device.device_id
                                         ORDER  BY position DESC
                                         OFFSET $1
                                         LIMIT  1)
                 RETURNING old.user_nid, old.device_id
             )
        SELECT users.user_id, dropped.device_id, COUNT(*) AS messages
        FROM   dropped
        JOIN   users USING (user_nid)
        GROUP  BY users.user_id, dropped.device_id
    ",
    IS_DONE = "
        SELECT
        FROM   to_device_transactions
        WHERE  sender_nid = $1
          AND  scope = $2
          AND  txn_id = $3
    ",
    FORGET_TRANSACTIONS = "
        DELETE FROM to_device_transactions
        WHERE  created < $1
    ",
}

/// A message that waits for a device.
#[derive(Clone, Debug)]
pub struct WaitingMessage {
    /// When it came.
    pub position: Position,
    /// User id of the sender.
    pub sender: String,
    /// Its type.
    pub event_type: String,
    /// Its content, a JSON object.
    pub content: Box<RawValue>,
}

/// The first messages for a device after the position that it has acknowledged, up to another, in order. Those up to
/// `acknowledged` are deleted.
pub async fn take(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    acknowledged: Position,
    upto: Position,
    limit: usize,
) -> Result<Vec<WaitingMessage>, StorageError> {
    let statement = db.prepare_cached(TAKE_MESSAGES).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let device_id = text(device_id.as_str());
    let rows = db.query(&statement, &[&user.get(), &device_id, &acknowledged.0, &upto.0, &limit]).await?;
    let message = |row| {
        let columns = Columns::of("to_device_messages", row);
        Ok(WaitingMessage {
            position: columns.position("position")?,
            sender: columns.get("sender")?,
            event_type: columns.get("event_type")?,
            content: json(&columns, "content")?,
        })
    };
    rows.iter().map(message).collect()
}

/// The device has got all messages up to this position: they are deleted.
pub async fn acknowledge(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    acknowledged: Position,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(ACKNOWLEDGE).await?;
    db.execute(&statement, &[&user.get(), &text(device_id.as_str()), &acknowledged.0]).await?;
    Ok(())
}

/// Messages that were dropped unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// User id of whose device.
    pub user_id: String,
    /// The device.
    pub device_id: String,
    /// So many.
    pub messages: i64,
}

/// Leaves no more than the newest `keep` messages for each device. One scan of an index over all messages.
pub async fn drop_oldest(db: &impl GenericClient, keep: i64) -> Result<Vec<Dropped>, StorageError> {
    let statement = db.prepare_cached(DROP_OLDEST).await?;
    let rows = db.query(&statement, &[&keep]).await?;
    let dropped = |row| {
        let columns = Columns::of("to_device_messages", row);
        Ok(Dropped {
            user_id: columns.get("user_id")?,
            device_id: columns.get("device_id")?,
            messages: columns.get("messages")?,
        })
    };
    rows.iter().map(dropped).collect()
}

/// Whether this request to send was fulfilled before.
pub async fn is_done(
    db: &impl GenericClient,
    sender: UserNid,
    scope: &str,
    txn_id: &str,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(IS_DONE).await?;
    let row = db.query_opt(&statement, &[&sender.get(), &text(scope), &text(txn_id)]).await?;
    Ok(row.is_some())
}

/// Forgets requests from before a time, in milliseconds since 1970.
pub async fn forget_transactions(db: &impl GenericClient, before: i64) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FORGET_TRANSACTIONS).await?;
    db.execute(&statement, &[&before]).await?;
    Ok(())
}
