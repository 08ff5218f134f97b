//! Receipts: how far users have read. They are written by the journal, see `commit`.

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use ruma::OwnedEventId;
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LIST_RECEIPTS = "
        SELECT receipts.room_nid, user_nid, receipt_type, thread, event_id, ts, position
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[]) AS wanted (room_nid, after)
        JOIN   receipts ON receipts.room_nid = wanted.room_nid
                       AND receipts.position > wanted.after
                       AND receipts.position <= $3
        WHERE  receipt_type <> 'm.read.private'
           OR  user_nid = $4
    ",
    LIST_OWN_RECEIPTS = "
        SELECT room_nid, user_nid, receipt_type, thread, event_id, ts, position
        FROM   receipts
        WHERE  room_nid = ANY($1)
          AND  user_nid = $2
    ",
    FIND_READ_RECEIPTS = "
        SELECT receipts.room_nid, receipts.user_nid, receipt_type, thread, event_id, ts, position
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[]) AS wanted (room_nid, user_nid)
        JOIN   receipts ON receipts.room_nid = wanted.room_nid
                       AND receipts.user_nid = wanted.user_nid
                       AND receipt_type = 'm.read'
    ",
}

/// A user's last receipt of a type and thread in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// The room.
    pub room: RoomNid,
    /// Who has read.
    pub user: UserNid,
    /// `m.read` or `m.read.private`.
    pub receipt_type: String,
    /// `main` or a thread's root; `None`: the receipt is for all of the room.
    pub thread: Option<String>,
    /// The event that was read.
    pub event_id: OwnedEventId,
    /// Milliseconds since 1970, when it was read.
    pub ts: u64,
    /// When the receipt became durable.
    pub position: Position,
}

/// The receipts of rooms, each after a position of its own and all up to another, as `reader` may see them: private
/// ones only if they are the reader's.
pub async fn list(
    db: &impl GenericClient,
    rooms: &[(RoomNid, Position)],
    upto: Position,
    reader: UserNid,
) -> Result<Vec<ReceiptRow>, StorageError> {
    let (rooms, after): (Vec<i64>, Vec<i64>) =
        rooms.iter().map(|(room, after)| (room.get(), after.0)).unzip();
    let statement = db.prepare_cached(LIST_RECEIPTS).await?;
    let rows = db.query(&statement, &[&rooms, &after, &upto.0, &reader.get()]).await?;
    rows.iter().map(ReceiptRow::try_from).collect()
}

/// A user's own receipts in these rooms.
pub async fn list_own(
    db: &impl GenericClient,
    rooms: &[RoomNid],
    user: UserNid,
) -> Result<Vec<ReceiptRow>, StorageError> {
    let statement = db.prepare_cached(LIST_OWN_RECEIPTS).await?;
    let rows = db.query(&statement, &[&plain(rooms), &user.get()]).await?;
    rows.iter().map(ReceiptRow::try_from).collect()
}

/// The public receipts of users in rooms, of all their threads. One query.
pub async fn find_read(
    db: &impl GenericClient,
    wanted: &[(RoomNid, UserNid)],
) -> Result<Vec<ReceiptRow>, StorageError> {
    let (rooms, users): (Vec<i64>, Vec<i32>) =
        wanted.iter().map(|(room, user)| (room.get(), user.get())).unzip();
    let statement = db.prepare_cached(FIND_READ_RECEIPTS).await?;
    let rows = db.query(&statement, &[&rooms, &users]).await?;
    rows.iter().map(ReceiptRow::try_from).collect()
}

impl TryFrom<&Row> for ReceiptRow {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("receipts", row);
        let thread: String = columns.get("thread")?;
        Ok(Self {
            room: columns.nid("room_nid")?,
            user: columns.nid("user_nid")?,
            receipt_type: columns.get("receipt_type")?,
            thread: (!thread.is_empty()).then_some(thread),
            event_id: columns.parse("event_id")?,
            ts: u64::try_from(columns.get::<i64>("ts")?).unwrap_or(0),
            position: columns.position("position")?,
        })
    }
}
