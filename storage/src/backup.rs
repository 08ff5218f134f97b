//! Backups of room keys, which only their user's clients can read.
//!
//! Of two keys of one session the better one stays: verified before not, then the one that reads more messages, then
//! the one that was forwarded less often.

use myelin_core::nid::UserNid;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::{
    encryption::json,
    error::StorageError,
    pool::{Client, GenericClient, Transaction},
    row::{Columns, text},
    statements::statements,
};

statements! {
    CREATE_BACKUP = "
        INSERT INTO key_backups (user_nid, version, algorithm, auth_data)
        SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3
        FROM   key_backups
        WHERE  user_nid = $1
        ON CONFLICT (user_nid, version) DO NOTHING
        RETURNING version
    ",
    FIND_BACKUP = "
        SELECT backup.version, backup.algorithm, backup.auth_data, backup.etag,
               (SELECT COUNT(*)
                FROM   key_backup_keys AS key
                WHERE  key.user_nid = backup.user_nid
                  AND  key.version = backup.version) AS keys
        FROM   key_backups AS backup
        WHERE  backup.user_nid = $1
          AND  NOT backup.is_deleted
          AND  ($2::BIGINT IS NULL OR backup.version = $2)
        ORDER  BY backup.version DESC
        LIMIT  1
    ",
    LOCK_BACKUP = "
        SELECT version
        FROM   key_backups
        WHERE  user_nid = $1
          AND  version = $2
          AND  NOT is_deleted
        FOR UPDATE
    ",
    UPDATE_BACKUP = "
        UPDATE key_backups
        SET    auth_data = $3
        WHERE  user_nid = $1
          AND  version = $2
          AND  NOT is_deleted
    ",
    DELETE_BACKUP = "
        WITH gone AS (
                 DELETE FROM key_backup_keys
                 WHERE  user_nid = $1
                   AND  version = $2
             )
        UPDATE key_backups
        SET    is_deleted = TRUE
        WHERE  user_nid = $1
          AND  version = $2
          AND  NOT is_deleted
    ",
    PUT_KEYS = "
        INSERT INTO key_backup_keys AS old
               (user_nid, version, room_id, session_id, first_message_index, forwarded_count, is_verified, key_data)
        SELECT $1, $2, room_id, session_id, first_message_index, forwarded_count, is_verified, key_data
        FROM   UNNEST($3::TEXT[], $4::TEXT[], $5::BIGINT[], $6::BIGINT[], $7::BOOLEAN[], $8::TEXT[])
               AS new (room_id, session_id, first_message_index, forwarded_count, is_verified, key_data)
        ON CONFLICT (user_nid, version, room_id, session_id) DO UPDATE
        SET    first_message_index = EXCLUDED.first_message_index,
               forwarded_count = EXCLUDED.forwarded_count,
               is_verified = EXCLUDED.is_verified,
               key_data = EXCLUDED.key_data
        WHERE  (NOT EXCLUDED.is_verified, EXCLUDED.first_message_index, EXCLUDED.forwarded_count)
               < (NOT old.is_verified, old.first_message_index, old.forwarded_count)
    ",
    LIST_KEYS = "
        SELECT room_id, session_id, key_data
        FROM   key_backup_keys
        WHERE  user_nid = $1
          AND  version = $2
          AND  ($3::TEXT IS NULL OR room_id = $3)
          AND  ($4::TEXT IS NULL OR session_id = $4)
    ",
    DELETE_KEYS = "
        DELETE FROM key_backup_keys
        WHERE  user_nid = $1
          AND  version = $2
          AND  ($3::TEXT IS NULL OR room_id = $3)
          AND  ($4::TEXT IS NULL OR session_id = $4)
    ",
    ADVANCE_ETAG = "
        UPDATE key_backups
        SET    etag = etag + 1
        WHERE  user_nid = $1
          AND  version = $2
    ",
}

/// How often a version is made anew when somebody else makes one at the same time.
const ATTEMPTS: usize = 5;

/// A version of a user's backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its number.
    pub version: i64,
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What clients know it by, a JSON object.
    pub auth_data: Box<RawValue>,
    /// Changes whenever its keys do.
    pub etag: i64,
    /// How many keys it has.
    pub keys: i64,
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewBackupKey {
    /// The room whose messages it reads.
    pub room_id: String,
    /// The session whose key it is.
    pub session_id: String,
    /// The first message that it reads.
    pub first_message_index: i64,
    /// How often it was forwarded.
    pub forwarded_count: i64,
    /// The client trusts the device that it is from.
    pub is_verified: bool,
    /// The whole JSON object.
    pub key_data: Box<RawValue>,
}

/// A key that is stored.
#[derive(Clone, Debug)]
pub struct BackupKey {
    /// The room whose messages it reads.
    pub room_id: String,
    /// The session whose key it is.
    pub session_id: String,
    /// The whole JSON object.
    pub key_data: Box<RawValue>,
}

/// Which keys of a backup are meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which<'a> {
    /// Those of this room; `None`: of all.
    pub room_id: Option<&'a str>,
    /// That of this session; `None`: of all.
    pub session_id: Option<&'a str>,
}

impl TryFrom<&Row> for Backup {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("key_backups", row);
        Ok(Self {
            version: columns.get("version")?,
            algorithm: columns.get("algorithm")?,
            auth_data: json(&columns, "auth_data")?,
            etag: columns.get("etag")?,
            keys: columns.get("keys")?,
        })
    }
}

/// Makes a new version of the user's backup; its number.
pub async fn create(
    db: &impl GenericClient,
    user: UserNid,
    algorithm: &str,
    auth_data: &RawValue,
) -> Result<i64, StorageError> {
    let statement = db.prepare_cached(CREATE_BACKUP).await?;
    for _ in 0..ATTEMPTS {
        let row = db.query_opt(&statement, &[&user.get(), &text(algorithm), &auth_data.get()]).await?;
        if let Some(row) = row {
            return Columns::of("key_backups", &row).get("version");
        }
    }
    Err(StorageError::Unavailable("many versions of a backup are made at the same time".into()))
}

/// This version of the user's backup, or the last one.
pub async fn find(
    db: &impl GenericClient,
    user: UserNid,
    version: Option<i64>,
) -> Result<Option<Backup>, StorageError> {
    let statement = db.prepare_cached(FIND_BACKUP).await?;
    let row = db.query_opt(&statement, &[&user.get(), &version]).await?;
    row.as_ref().map(Backup::try_from).transpose()
}

/// Changes what clients know the version by. `false`: there is no such version.
pub async fn update(
    db: &impl GenericClient,
    user: UserNid,
    version: i64,
    auth_data: &RawValue,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(UPDATE_BACKUP).await?;
    Ok(db.execute(&statement, &[&user.get(), &version, &auth_data.get()]).await? == 1)
}

/// Deletes the version with its keys. `false`: there is no such version.
pub async fn delete(db: &impl GenericClient, user: UserNid, version: i64) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(DELETE_BACKUP).await?;
    Ok(db.execute(&statement, &[&user.get(), &version]).await? == 1)
}

/// Adds keys to the version, unless better ones are there; the version afterwards. `None`: there is no such version.
pub async fn put_keys(
    client: &mut Client,
    user: UserNid,
    version: i64,
    keys: &[NewBackupKey],
) -> Result<Option<Backup>, StorageError> {
    let transaction = client.transaction().await?;
    if !lock(&transaction, user, version).await? {
        return Ok(None);
    }
    let rooms: Vec<_> = keys.iter().map(|key| text(&key.room_id)).collect();
    let sessions: Vec<_> = keys.iter().map(|key| text(&key.session_id)).collect();
    let indexes: Vec<i64> = keys.iter().map(|key| key.first_message_index).collect();
    let counts: Vec<i64> = keys.iter().map(|key| key.forwarded_count).collect();
    let verified: Vec<bool> = keys.iter().map(|key| key.is_verified).collect();
    let data: Vec<&str> = keys.iter().map(|key| key.key_data.get()).collect();
    let statement = transaction.prepare_cached(PUT_KEYS).await?;
    let changed = transaction
        .execute(&statement, &[&user.get(), &version, &rooms, &sessions, &indexes, &counts, &verified, &data])
        .await?;
    finish(transaction, user, version, changed > 0).await
}

/// The keys of the version.
pub async fn keys(
    db: &impl GenericClient,
    user: UserNid,
    version: i64,
    which: Which<'_>,
) -> Result<Vec<BackupKey>, StorageError> {
    let statement = db.prepare_cached(LIST_KEYS).await?;
    let (room_id, session_id) = (which.room_id.map(text), which.session_id.map(text));
    let rows = db.query(&statement, &[&user.get(), &version, &room_id, &session_id]).await?;
    let key = |row| {
        let columns = Columns::of("key_backup_keys", row);
        Ok(BackupKey {
            room_id: columns.get("room_id")?,
            session_id: columns.get("session_id")?,
            key_data: json(&columns, "key_data")?,
        })
    };
    rows.iter().map(key).collect()
}

/// Deletes keys of the version; the version afterwards. `None`: there is no such version.
pub async fn delete_keys(
    client: &mut Client,
    user: UserNid,
    version: i64,
    which: Which<'_>,
) -> Result<Option<Backup>, StorageError> {
    let transaction = client.transaction().await?;
    if !lock(&transaction, user, version).await? {
        return Ok(None);
    }
    let statement = transaction.prepare_cached(DELETE_KEYS).await?;
    let (room_id, session_id) = (which.room_id.map(text), which.session_id.map(text));
    let changed = transaction.execute(&statement, &[&user.get(), &version, &room_id, &session_id]).await?;
    finish(transaction, user, version, changed > 0).await
}

/// One at a time changes a version's keys. `false`: there is no such version.
async fn lock(transaction: &Transaction<'_>, user: UserNid, version: i64) -> Result<bool, StorageError> {
    let statement = transaction.prepare_cached(LOCK_BACKUP).await?;
    Ok(transaction.query_opt(&statement, &[&user.get(), &version]).await?.is_some())
}

async fn finish(
    transaction: Transaction<'_>,
    user: UserNid,
    version: i64,
    is_changed: bool,
) -> Result<Option<Backup>, StorageError> {
    if is_changed {
        let statement = transaction.prepare_cached(ADVANCE_ETAG).await?;
        transaction.execute(&statement, &[&user.get(), &version]).await?;
    }
    let backup = find(&transaction, user, Some(version)).await?;
    transaction.commit().await?;
    Ok(backup)
}
