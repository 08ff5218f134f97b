//! Copies of other servers' media, of which those that nobody asks for go first.

use tokio_postgres::Row;

use super::StoredFile;
use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    FIND_REMOTE = "
        SELECT last_access, needs_token, quarantined_by IS NOT NULL AS is_quarantined,
               file_id, content_type, file_name, size
        FROM   remote_media
        WHERE  server_name = $1 AND media_id = $2
    ",
    SET_COPY = "
        WITH before AS (
            SELECT file_id
            FROM   remote_media
            WHERE  server_name = $1 AND media_id = $2
        )
        INSERT INTO remote_media
               (server_name, media_id, fetched, last_access, needs_token, file_id, content_type, file_name, size)
        VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (server_name, media_id) DO UPDATE
        SET    fetched = EXCLUDED.fetched, last_access = EXCLUDED.last_access,
               needs_token = EXCLUDED.needs_token, file_id = EXCLUDED.file_id,
               content_type = EXCLUDED.content_type, file_name = EXCLUDED.file_name, size = EXCLUDED.size
        RETURNING (SELECT file_id FROM before) AS replaced
    ",
    NOTE_ACCESS = "
        UPDATE remote_media
        SET    last_access = $3
        WHERE  server_name = $1 AND media_id = $2 AND last_access < $3
    ",
    SUM_COPIES = "
        SELECT COALESCE(SUM(size), 0)::BIGINT AS bytes
        FROM   remote_media
        WHERE  file_id IS NOT NULL
    ",
    TAKE_OLDEST = "
        WITH summed AS (
            SELECT server_name, media_id, last_access, file_id,
                   SUM(size) OVER (ORDER BY last_access, file_id) - size AS before
            FROM   remote_media
            WHERE  file_id IS NOT NULL AND quarantined_by IS NULL
        )
        DELETE FROM remote_media gone
        USING  summed
        WHERE  gone.server_name = summed.server_name AND gone.media_id = summed.media_id
        AND    gone.last_access = summed.last_access AND summed.before < $1::BIGINT
        RETURNING gone.file_id
    ",
}

/// A copy of another server's media.
#[derive(Clone, Debug)]
pub struct RemoteMedia {
    /// When it was last asked for, in milliseconds since 1970. `None` without a file.
    pub last_access: Option<i64>,
    /// Only who is logged in may download it.
    pub needs_token: bool,
    /// An administrator took it out of sight.
    pub is_quarantined: bool,
    /// Its file. `None`: there is no copy.
    pub file: Option<StoredFile>,
}

impl TryFrom<&Row> for RemoteMedia {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("remote_media", row);
        Ok(Self {
            last_access: columns.get("last_access")?,
            needs_token: columns.get("needs_token")?,
            is_quarantined: columns.get("is_quarantined")?,
            file: StoredFile::find("remote_media", row)?,
        })
    }
}

/// What is known of another server's media.
pub async fn find(
    db: &impl GenericClient,
    server_name: &str,
    media_id: &str,
) -> Result<Option<RemoteMedia>, StorageError> {
    let statement = db.prepare_cached(FIND_REMOTE).await?;
    let row = db.query_opt(&statement, &[&server_name, &media_id]).await?;
    row.as_ref().map(RemoteMedia::try_from).transpose()
}

/// Notes a copy that was fetched now, and is on disk. Returns the file of the copy that it replaces.
pub async fn set_copy(
    db: &impl GenericClient,
    server_name: &str,
    media_id: &str,
    file: &StoredFile,
    now: i64,
    needs_token: bool,
) -> Result<Option<String>, StorageError> {
    let statement = db.prepare_cached(SET_COPY).await?;
    let file_name = file.file_name.as_deref().map(text);
    let row = db
        .query_one(
            &statement,
            &[
                &server_name,
                &media_id,
                &now,
                &needs_token,
                &file.file_id,
                &text(&file.content_type).as_ref(),
                &file_name.as_deref(),
                &file.size,
            ],
        )
        .await?;
    Columns::of("remote_media", &row).get("replaced")
}

/// Notes that a copy was asked for now.
pub async fn note_access(
    db: &impl GenericClient,
    server_name: &str,
    media_id: &str,
    now: i64,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(NOTE_ACCESS).await?;
    db.execute(&statement, &[&server_name, &media_id, &now]).await?;
    Ok(())
}

/// How many bytes all copies have.
pub async fn total_size(db: &impl GenericClient) -> Result<i64, StorageError> {
    let statement = db.prepare_cached(SUM_COPIES).await?;
    let row = db.query_one(&statement, &[]).await?;
    Columns::of("remote_media", &row).get("bytes")
}

/// Forgets the copies that nobody has asked for the longest, so many that this frees at least these bytes. Returns
/// their files. What is quarantined stays.
pub async fn take_oldest(db: &impl GenericClient, bytes: i64) -> Result<Vec<String>, StorageError> {
    let statement = db.prepare_cached(TAKE_OLDEST).await?;
    let rows = db.query(&statement, &[&bytes]).await?;
    rows.iter().map(|row| Columns::of("remote_media", row).get("file_id")).collect()
}
