//! Quarantine: media that administrators took out of sight. Its files stay, for whoever has to look into it.

use myelin_core::nid::{RoomNid, UserNid};

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    /// Parsing is left to the caller: Postgres refuses an escaped U+0000.
    LIST_EVENTS_WITH_MEDIA = "
        SELECT pdu
        FROM   events
        WHERE  room_nid = $1 AND pdu LIKE '%mxc://%'
    ",
    QUARANTINE_LOCAL = "
        UPDATE local_media
        SET    quarantined_by = $2
        WHERE  media_id = ANY($1) AND quarantined_by IS NULL
    ",
    QUARANTINE_OF_USER = "
        UPDATE local_media
        SET    quarantined_by = $2
        WHERE  user_nid = $1 AND file_id IS NOT NULL AND quarantined_by IS NULL
    ",
    QUARANTINE_REMOTE = "
        INSERT INTO remote_media (server_name, media_id, needs_token, quarantined_by)
        SELECT server_name, media_id, TRUE, $3
        FROM   UNNEST($1::TEXT[], $2::TEXT[]) AS named (server_name, media_id)
        ON CONFLICT (server_name, media_id) DO UPDATE
        SET    quarantined_by = EXCLUDED.quarantined_by
        WHERE  remote_media.quarantined_by IS NULL
    ",
    RELEASE_LOCAL = "
        UPDATE local_media
        SET    quarantined_by = NULL
        WHERE  media_id = $1 AND quarantined_by IS NOT NULL
    ",
    RELEASE_REMOTE = "
        WITH forgotten AS (
            DELETE FROM remote_media
            WHERE  server_name = $1 AND media_id = $2 AND file_id IS NULL
            RETURNING 1
        ), released AS (
            UPDATE remote_media
            SET    quarantined_by = NULL
            WHERE  server_name = $1 AND media_id = $2 AND file_id IS NOT NULL AND quarantined_by IS NOT NULL
            RETURNING 1
        )
        SELECT 1 FROM forgotten UNION ALL SELECT 1 FROM released
    ",
}

/// The events of the room that may show media, as JSON.
pub async fn list_events_with_media(
    db: &impl GenericClient,
    room: RoomNid,
) -> Result<Vec<String>, StorageError> {
    let statement = db.prepare_cached(LIST_EVENTS_WITH_MEDIA).await?;
    let rows = db.query(&statement, &[&room.get()]).await?;
    rows.iter().map(|row| Columns::of("events", row).get("pdu")).collect()
}

/// Takes media of this server out of sight. Returns how many of them were in sight.
pub async fn add_local(db: &impl GenericClient, media_ids: &[&str], by: &str) -> Result<u64, StorageError> {
    let statement = db.prepare_cached(QUARANTINE_LOCAL).await?;
    Ok(db.execute(&statement, &[&media_ids, &by]).await?)
}

/// Takes everything that a user of this server has uploaded out of sight. Returns how many of them were in sight.
pub async fn add_of_user(db: &impl GenericClient, user: UserNid, by: &str) -> Result<u64, StorageError> {
    let statement = db.prepare_cached(QUARANTINE_OF_USER).await?;
    Ok(db.execute(&statement, &[&user.get(), &by]).await?)
}

/// Takes media of other servers out of sight, given as two lists of the same length, also what there is no copy of.
/// Returns how many of them were in sight.
pub async fn add_remote(
    db: &impl GenericClient,
    server_names: &[&str],
    media_ids: &[&str],
    by: &str,
) -> Result<u64, StorageError> {
    let statement = db.prepare_cached(QUARANTINE_REMOTE).await?;
    Ok(db.execute(&statement, &[&server_names, &media_ids, &by]).await?)
}

/// Shows media of this server again. False when it was in sight.
pub async fn remove_local(db: &impl GenericClient, media_id: &str) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(RELEASE_LOCAL).await?;
    Ok(db.execute(&statement, &[&media_id]).await? > 0)
}

/// Shows media of another server again. False when it was in sight.
pub async fn remove_remote(
    db: &impl GenericClient,
    server_name: &str,
    media_id: &str,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(RELEASE_REMOTE).await?;
    Ok(!db.query(&statement, &[&server_name, &media_id]).await?.is_empty())
}
