//! Events that name a time at which they lose their content. They are noted when they are added.

use myelin_core::nid::EventNid;
use ruma::OwnedRoomId;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LIST_DUE = "
        SELECT expiring_events.event_nid, rooms.room_id
        FROM   expiring_events
        JOIN   rooms USING (room_nid)
        WHERE  expires <= $1
        ORDER  BY expires
        LIMIT  $2
    ",
    FORGET = "
        DELETE FROM expiring_events
        WHERE  event_nid = ANY($1)
    ",
    POSTPONE = "
        UPDATE expiring_events
        SET    expires = $2
        WHERE  event_nid = ANY($1)
    ",
}

/// The first `limit` events whose time is over, each with its room.
pub async fn list_due(
    db: &impl GenericClient,
    now_ms: u64,
    limit: i64,
) -> Result<Vec<(EventNid, OwnedRoomId)>, StorageError> {
    let statement = db.prepare_cached(LIST_DUE).await?;
    let rows = db.query(&statement, &[&i64::try_from(now_ms).unwrap_or(i64::MAX), &limit]).await?;
    let read = |row| {
        let columns = Columns::of("expiring_events", row);
        Ok((columns.nid("event_nid")?, columns.parse("room_id")?))
    };
    rows.iter().map(read).collect()
}

/// These have lost their content.
pub async fn forget(db: &impl GenericClient, events: &[EventNid]) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FORGET).await?;
    db.execute(&statement, &[&plain(events)]).await?;
    Ok(())
}

/// These are due again at that time.
pub async fn postpone(db: &impl GenericClient, events: &[EventNid], to_ms: u64) -> Result<(), StorageError> {
    let statement = db.prepare_cached(POSTPONE).await?;
    db.execute(&statement, &[&plain(events), &i64::try_from(to_ms).unwrap_or(i64::MAX)]).await?;
    Ok(())
}
