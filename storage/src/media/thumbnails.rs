//! Smaller copies of images, each made for a size that somebody asked for.

use tokio_postgres::Row;

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    FIND_THUMBNAIL = "
        SELECT file_id, content_type, size
        FROM   thumbnails
        WHERE  source_file_id = $1 AND width = $2 AND height = $3 AND is_cropped = $4
    ",
    INSERT_THUMBNAIL = "
        INSERT INTO thumbnails (source_file_id, width, height, is_cropped, file_id, content_type, size)
        SELECT $1, $2, $3, $4, $5, $6, $7
        WHERE  (SELECT COUNT(*) FROM thumbnails WHERE source_file_id = $1) < $8
        ON CONFLICT DO NOTHING
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

/// Keeps a copy, whose file is on disk. False when there is one for this size, or so many of the image as `most`.
pub async fn insert(
    db: &impl GenericClient,
    key: &ThumbnailKey,
    thumbnail: &Thumbnail,
    most: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(INSERT_THUMBNAIL).await?;
    let added = db
        .execute(
            &statement,
            &[
                &key.source_file_id,
                &key.width,
                &key.height,
                &key.is_cropped,
                &thumbnail.file_id,
                &thumbnail.content_type,
                &thumbnail.size,
                &most,
            ],
        )
        .await?;
    Ok(added == 1)
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
