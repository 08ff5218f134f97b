//! Smaller copies of images, each made for a size that somebody asked for.

use tokio_postgres::Row;

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    FIND_THUMBNAIL = "
        SELECT file_id, content_type, size
        FROM   thumbnails
        WHERE  source_file_id = $1 AND width = $2 AND height = $3 AND is_cropped = $4
    ",
    SET_THUMBNAIL = "
        WITH before AS (
            SELECT file_id
            FROM   thumbnails
            WHERE  source_file_id = $1 AND width = $2 AND height = $3 AND is_cropped = $4
        )
        INSERT INTO thumbnails (source_file_id, width, height, is_cropped, file_id, content_type, size)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (source_file_id, width, height, is_cropped) DO UPDATE
        SET    file_id = EXCLUDED.file_id, content_type = EXCLUDED.content_type, size = EXCLUDED.size
        RETURNING (SELECT file_id FROM before) AS replaced
    ",
    /// File names are random, so which ones go is chance.
    TAKE_SURPLUS = "
        DELETE FROM thumbnails
        WHERE  file_id IN (
            SELECT file_id
            FROM   thumbnails
            WHERE  source_file_id = $1
            ORDER  BY file_id <> $2, file_id
            OFFSET $3
        )
        RETURNING file_id
    ",
    TAKE_THUMBNAILS = "
        DELETE FROM thumbnails
        WHERE  source_file_id = ANY($1)
        RETURNING file_id
    ",
}

/// For which image, and for which size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ThumbnailKey {
    /// The file of the image.
    pub source_file_id: String,
    /// At least so wide.
    pub width: i32,
    /// At least so high.
    pub height: i32,
    /// Exactly of this size; otherwise in the proportions of the image.
    pub is_cropped: bool,
}

/// A smaller copy of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// The name of its file.
    pub file_id: String,
    /// Its format.
    pub content_type: String,
    /// Bytes.
    pub size: i64,
}

impl TryFrom<&Row> for Thumbnail {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("thumbnails", row);
        Ok(Self {
            file_id: columns.get("file_id")?,
            content_type: columns.get("content_type")?,
            size: columns.get("size")?,
        })
    }
}

/// The copy that was made for this size.
pub async fn find(db: &impl GenericClient, key: &ThumbnailKey) -> Result<Option<Thumbnail>, StorageError> {
    let statement = db.prepare_cached(FIND_THUMBNAIL).await?;
    let row =
        db.query_opt(&statement, &[&key.source_file_id, &key.width, &key.height, &key.is_cropped]).await?;
    row.as_ref().map(Thumbnail::try_from).transpose()
}

/// Keeps a copy, whose file is on disk. Returns the file of the copy that it replaces.
pub async fn set(
    db: &impl GenericClient,
    key: &ThumbnailKey,
    thumbnail: &Thumbnail,
) -> Result<Option<String>, StorageError> {
    let statement = db.prepare_cached(SET_THUMBNAIL).await?;
    let row = db
        .query_one(
            &statement,
            &[
                &key.source_file_id,
                &key.width,
                &key.height,
                &key.is_cropped,
                &thumbnail.file_id,
                &thumbnail.content_type,
                &thumbnail.size,
            ],
        )
        .await?;
    Columns::of("thumbnails", &row).get("replaced")
}

/// Forgets some copies of the image when there are more than `most`, but not the one in this file. Returns their files.
pub async fn take_surplus(
    db: &impl GenericClient,
    source_file_id: &str,
    except: &str,
    most: i64,
) -> Result<Vec<String>, StorageError> {
    let statement = db.prepare_cached(TAKE_SURPLUS).await?;
    let rows = db.query(&statement, &[&source_file_id, &except, &most]).await?;
    rows.iter().map(|row| Columns::of("thumbnails", row).get("file_id")).collect()
}

/// Forgets the copies of these images. Returns their files.
pub async fn take_of(
    db: &impl GenericClient,
    source_file_ids: &[String],
) -> Result<Vec<String>, StorageError> {
    let statement = db.prepare_cached(TAKE_THUMBNAILS).await?;
    let rows = db.query(&statement, &[&source_file_ids]).await?;
    rows.iter().map(|row| Columns::of("thumbnails", row).get("file_id")).collect()
}
