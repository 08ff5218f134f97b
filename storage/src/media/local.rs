//! Media of this server: uploaded at once, or announced first and uploaded later.

use myelin_core::nid::UserNid;
use tokio_postgres::Row;

use super::StoredFile;
use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    INSERT_UPLOADED = "
        INSERT INTO local_media
               (media_id, user_nid, created, needs_token, file_id, content_type, file_name, size)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ",
    INSERT_ANNOUNCED = "
        INSERT INTO local_media (media_id, user_nid, created, needs_token, unused_expires)
        SELECT $1, $2, $3, $4, $5
        WHERE  (SELECT COUNT(*)
                FROM   local_media
                WHERE  user_nid = $2 AND file_id IS NULL AND unused_expires > $3) < $6
    ",
    SET_FILE = "
        UPDATE local_media
        SET    file_id = $2, content_type = $3, file_name = $4, size = $5, needs_token = $6
        WHERE  media_id = $1 AND file_id IS NULL
    ",
    FIND_LOCAL = "
        SELECT user_nid, unused_expires, needs_token, quarantined_by IS NOT NULL AS is_quarantined,
               file_id, content_type, file_name, size
        FROM   local_media
        WHERE  media_id = $1
    ",
    DELETE_UNUSED = "
        DELETE FROM local_media
        WHERE  file_id IS NULL AND unused_expires < $1
    ",
}

/// Media of this server.
#[derive(Clone, Debug)]
pub struct LocalMedia {
    /// Who uploads it.
    pub user: UserNid,
    /// Until when an upload has to begin, in milliseconds since 1970, if it was announced.
    pub unused_expires: Option<i64>,
    /// Only who is logged in may download it.
    pub needs_token: bool,
    /// An administrator took it out of sight.
    pub is_quarantined: bool,
    /// Its file. `None`: it is not uploaded yet.
    pub file: Option<StoredFile>,
}

impl LocalMedia {
    /// Whether it was announced and not uploaded in time.
    pub fn is_expired(&self, now: i64) -> bool {
        self.file.is_none() && self.unused_expires.is_some_and(|expires| expires <= now)
    }
}

impl TryFrom<&Row> for LocalMedia {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("local_media", row);
        Ok(Self {
            user: columns.nid("user_nid")?,
            unused_expires: columns.get("unused_expires")?,
            needs_token: columns.get("needs_token")?,
            is_quarantined: columns.get("is_quarantined")?,
            file: StoredFile::find("local_media", row)?,
        })
    }
}

/// An address that is given out.
#[derive(Clone, Copy, Debug)]
pub struct NewMedia<'a> {
    /// What follows the server name in it.
    pub media_id: &'a str,
    /// Who uploads.
    pub user: UserNid,
    /// Now, in milliseconds since 1970.
    pub created: i64,
    /// Only who is logged in may download it.
    pub needs_token: bool,
}

/// Adds media whose file is on disk.
pub async fn insert_uploaded(
    db: &impl GenericClient,
    new: NewMedia<'_>,
    file: &StoredFile,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(INSERT_UPLOADED).await?;
    let file_name = file.file_name.as_deref().map(text);
    db.execute(
        &statement,
        &[
            &new.media_id,
            &new.user.get(),
            &new.created,
            &new.needs_token,
            &file.file_id,
            &text(&file.content_type).as_ref(),
            &file_name.as_deref(),
            &file.size,
        ],
    )
    .await?;
    Ok(())
}

/// Adds media whose upload has to begin before `expires`. False, and nothing is added, when the user has `most` such
/// media already. Requests at the same moment may exceed that by their number.
pub async fn insert_announced(
    db: &impl GenericClient,
    new: NewMedia<'_>,
    expires: i64,
    most: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(INSERT_ANNOUNCED).await?;
    let added = db
        .execute(
            &statement,
            &[&new.media_id, &new.user.get(), &new.created, &new.needs_token, &expires, &most],
        )
        .await?;
    Ok(added == 1)
}

/// Gives announced media its file, which is on disk. False when it has one already, or does not exist any more.
pub async fn set_file(
    db: &impl GenericClient,
    media_id: &str,
    file: &StoredFile,
    needs_token: bool,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(SET_FILE).await?;
    let file_name = file.file_name.as_deref().map(text);
    let content_type = text(&file.content_type);
    let updated = db
        .execute(
            &statement,
            &[
                &media_id,
                &file.file_id,
                &content_type.as_ref(),
                &file_name.as_deref(),
                &file.size,
                &needs_token,
            ],
        )
        .await?;
    Ok(updated == 1)
}

/// What is known of the media with this id.
pub async fn find(db: &impl GenericClient, media_id: &str) -> Result<Option<LocalMedia>, StorageError> {
    let statement = db.prepare_cached(FIND_LOCAL).await?;
    db.query_opt(&statement, &[&media_id]).await?.as_ref().map(LocalMedia::try_from).transpose()
}

/// Forgets media whose upload had to begin before this time and did not come.
pub async fn delete_unused(db: &impl GenericClient, before: i64) -> Result<u64, StorageError> {
    let statement = db.prepare_cached(DELETE_UNUSED).await?;
    Ok(db.execute(&statement, &[&before]).await?)
}
