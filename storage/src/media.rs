//! The media repository: what is known of files that users uploaded or that were fetched from other servers.
//!
//! - [`local`]: media of this server. [`remote`]: copies of others' media. [`thumbnails`]: smaller copies of both.
//! - [`quarantine`]: what administrators took out of sight.
//!
//! The files themselves are not here: a row names a file that is complete on disk when the row is committed.

pub mod local;
pub mod quarantine;
pub mod remote;
pub mod thumbnails;

use tokio_postgres::Row;

use crate::{error::StorageError, row::Columns};

/// What is known of a file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name.
    pub file_id: String,
    /// What it is, as whoever brought it says.
    pub content_type: String,
    /// What it is called, if it has a name.
    pub file_name: Option<String>,
    /// Bytes.
    pub size: i64,
}

impl StoredFile {
    /// The columns `file_id`, `content_type`, `file_name` and `size`; `None` when there is no file.
    fn find(table: &'static str, row: &Row) -> Result<Option<Self>, StorageError> {
        let columns = Columns::of(table, row);
        let Some(file_id) = columns.get("file_id")? else { return Ok(None) };
        Ok(Some(Self {
            file_id,
            content_type: columns.get("content_type")?,
            file_name: columns.get("file_name")?,
            size: columns.get("size")?,
        }))
    }
}
