//! Notification counts as they were at some position. They are derived data: whoever needs them brings them forward
//! and may store what they found, so that the next one has less to do. Losing them costs only work.

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LOAD_UNREAD = "
        SELECT room_nid, position, notifications, highlights, threads
        FROM   unread_counts
        WHERE  user_nid = $1
          AND  room_nid = ANY($2)
    ",
    STORE_UNREAD = "
        INSERT INTO unread_counts (user_nid, room_nid, position, notifications, highlights, threads)
        SELECT $1, room_nid, position, notifications, highlights, threads
        FROM   UNNEST($2::BIGINT[], $3::BIGINT[], $4::INTEGER[], $5::INTEGER[], $6::TEXT[])
               AS new (room_nid, position, notifications, highlights, threads)
        ON CONFLICT (user_nid, room_nid) DO UPDATE
        SET    position = EXCLUDED.position,
               notifications = EXCLUDED.notifications,
               highlights = EXCLUDED.highlights,
               threads = EXCLUDED.threads
        WHERE  unread_counts.position < EXCLUDED.position
    ",
}

/// What a user has not read of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadCounts {
    /// The room.
    pub room: RoomNid,
    /// Events and receipts up to here are counted.
    pub position: Position,
    /// Unread events that notify, threads included.
    pub notifications: u32,
    /// Those of them that highlight.
    pub highlights: u32,
    /// JSON object from a thread's root to its own counts; `None`: no thread has any.
    pub threads: Option<String>,
}

/// The stored counts of a user in these rooms; rooms without are left out.
pub async fn load(
    db: &impl GenericClient,
    user: UserNid,
    rooms: &[RoomNid],
) -> Result<Vec<UnreadCounts>, StorageError> {
    let statement = db.prepare_cached(LOAD_UNREAD).await?;
    let rows = db.query(&statement, &[&user.get(), &plain(rooms)]).await?;
    rows.iter().map(UnreadCounts::try_from).collect()
}

/// Stores a user's counts, at most one for each room. Where the stored ones are of a later position, they stay.
pub async fn store(
    db: &impl GenericClient,
    user: UserNid,
    counts: &[UnreadCounts],
) -> Result<(), StorageError> {
    let rooms: Vec<i64> = counts.iter().map(|count| count.room.get()).collect();
    let positions: Vec<i64> = counts.iter().map(|count| count.position.0).collect();
    let notifications: Vec<i32> = counts.iter().map(|count| saturate(count.notifications)).collect();
    let highlights: Vec<i32> = counts.iter().map(|count| saturate(count.highlights)).collect();
    let threads: Vec<Option<&str>> = counts.iter().map(|count| count.threads.as_deref()).collect();
    let statement = db.prepare_cached(STORE_UNREAD).await?;
    db.execute(&statement, &[&user.get(), &rooms, &positions, &notifications, &highlights, &threads]).await?;
    Ok(())
}

fn saturate(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl TryFrom<&Row> for UnreadCounts {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("unread_counts", row);
        let count = |column| Ok::<_, StorageError>(u32::try_from(columns.get::<i32>(column)?).unwrap_or(0));
        Ok(Self {
            room: columns.nid("room_nid")?,
            position: columns.position("position")?,
            notifications: count("notifications")?,
            highlights: count("highlights")?,
            threads: columns.get("threads")?,
        })
    }
}
