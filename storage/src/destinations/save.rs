//! Writing down how far other servers are.

use myelin_core::{nid::RoomNid, position::Position};
use ruma::OwnedServerName;

use super::{DestinationRow, MissedRoom};
use crate::{error::StorageError, pool::Transaction, statements::statements};

statements! {
    SAVE_CURSOR = "
        UPDATE federation_sender
        SET    position = $1
    ",
    SAVE_DESTINATIONS = "
        INSERT INTO destinations (server_name, failures, retry_at, last_success, failing_since)
        SELECT server_name, failures, retry_at, last_success, failing_since
        FROM   UNNEST($1::TEXT[], $2::INTEGER[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[])
               AS new (server_name, failures, retry_at, last_success, failing_since)
        ON CONFLICT (server_name) DO UPDATE
        SET    failures = EXCLUDED.failures,
               retry_at = EXCLUDED.retry_at,
               last_success = EXCLUDED.last_success,
               failing_since = EXCLUDED.failing_since
    ",
    SAVE_MISSED_ROOMS = "
        INSERT INTO destination_rooms (server_name, room_nid, after, upto)
        SELECT server_name, room_nid, after, upto
        FROM   UNNEST($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[])
               AS new (server_name, room_nid, after, upto)
        ON CONFLICT (server_name, room_nid) DO UPDATE
        SET    after = EXCLUDED.after,
               upto = EXCLUDED.upto
    ",
    FORGET_MISSED_ROOMS = "
        DELETE FROM destination_rooms
        USING  UNNEST($1::TEXT[], $2::BIGINT[]) AS done (server_name, room_nid)
        WHERE  destination_rooms.server_name = done.server_name
          AND  destination_rooms.room_nid = done.room_nid
    ",
    FORGET_EDU_SERVERS = "
        DELETE FROM outgoing_edu_servers
        USING  UNNEST($1::TEXT[], $2::BIGINT[]) AS done (server_name, upto)
        WHERE  outgoing_edu_servers.server_name = done.server_name
          AND  outgoing_edu_servers.position <= done.upto
        RETURNING outgoing_edu_servers.position
    ",
    FORGET_EDUS = "
        DELETE FROM outgoing_edus
        WHERE  position = ANY($1)
          AND  NOT EXISTS (
              SELECT 1
              FROM   outgoing_edu_servers
              WHERE  outgoing_edu_servers.position = outgoing_edus.position
          )
    ",
}

/// What has changed since it was saved last.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The sender's cursor.
    pub cursor: Position,
    /// How it went with these servers.
    pub destinations: Vec<DestinationRow>,
    /// What is missing now.
    pub missed: Vec<MissedRoom>,
    /// Of what nothing is missing any more.
    pub caught_up: Vec<(OwnedServerName, RoomNid)>,
    /// Up to where the servers have acknowledged their EDUs.
    pub edus: Vec<(OwnedServerName, Position)>,
}

/// Writes down how far the sender has come: atomic, so that the cursor never passes an event for a server that is
/// said to lack nothing.
pub async fn save(transaction: &Transaction<'_>, progress: &Progress) -> Result<(), StorageError> {
    let statement = transaction.prepare_cached(SAVE_CURSOR).await?;
    transaction.execute(&statement, &[&progress.cursor.0]).await?;
    save_destinations(transaction, &progress.destinations).await?;
    save_missed(transaction, &progress.missed).await?;
    if !progress.caught_up.is_empty() {
        let server: Vec<&str> = progress.caught_up.iter().map(|(server, _)| server.as_str()).collect();
        let room: Vec<i64> = progress.caught_up.iter().map(|(_, room)| room.get()).collect();
        let statement = transaction.prepare_cached(FORGET_MISSED_ROOMS).await?;
        transaction.execute(&statement, &[&server, &room]).await?;
    }
    forget_edus(transaction, &progress.edus).await
}

async fn save_destinations(
    transaction: &Transaction<'_>,
    destinations: &[DestinationRow],
) -> Result<(), StorageError> {
    if destinations.is_empty() {
        return Ok(());
    }
    let time = |time_ms: u64| i64::try_from(time_ms).unwrap_or(i64::MAX);
    let server: Vec<&str> = destinations.iter().map(|row| row.server.as_str()).collect();
    let failures: Vec<i32> =
        destinations.iter().map(|row| i32::try_from(row.failures).unwrap_or(i32::MAX)).collect();
    let retry_at: Vec<i64> = destinations.iter().map(|row| time(row.retry_at_ms)).collect();
    let last_success: Vec<Option<i64>> =
        destinations.iter().map(|row| row.last_success_ms.map(time)).collect();
    let failing_since: Vec<Option<i64>> =
        destinations.iter().map(|row| row.failing_since_ms.map(time)).collect();
    let statement = transaction.prepare_cached(SAVE_DESTINATIONS).await?;
    transaction.execute(&statement, &[&server, &failures, &retry_at, &last_success, &failing_since]).await?;
    Ok(())
}

async fn save_missed(transaction: &Transaction<'_>, missed: &[MissedRoom]) -> Result<(), StorageError> {
    if missed.is_empty() {
        return Ok(());
    }
    let server: Vec<&str> = missed.iter().map(|row| row.server.as_str()).collect();
    let room: Vec<i64> = missed.iter().map(|row| row.room.get()).collect();
    let after: Vec<i64> = missed.iter().map(|row| row.after.0).collect();
    let upto: Vec<Option<i64>> = missed.iter().map(|row| row.upto.map(|upto| upto.0)).collect();
    let statement = transaction.prepare_cached(SAVE_MISSED_ROOMS).await?;
    transaction.execute(&statement, &[&server, &room, &after, &upto]).await?;
    Ok(())
}

/// Forgets which servers an EDU was for as they acknowledge it, and with the last of them the EDU.
async fn forget_edus(
    transaction: &Transaction<'_>,
    acknowledged: &[(OwnedServerName, Position)],
) -> Result<(), StorageError> {
    if acknowledged.is_empty() {
        return Ok(());
    }
    let server: Vec<&str> = acknowledged.iter().map(|(server, _)| server.as_str()).collect();
    let upto: Vec<i64> = acknowledged.iter().map(|(_, upto)| upto.0).collect();
    let statement = transaction.prepare_cached(FORGET_EDU_SERVERS).await?;
    let rows = transaction.query(&statement, &[&server, &upto]).await?;
    let position: Vec<i64> =
        rows.iter().map(|row| row.try_get("position")).collect::<Result<_, tokio_postgres::Error>>()?;
    let statement = transaction.prepare_cached(FORGET_EDUS).await?;
    transaction.execute(&statement, &[&position]).await?;
    Ok(())
}
