//! The media repository: files that users upload, and copies of other servers' files.
//!
//! In reading order:
//!
//! - [`id`]: what media and files are called. [`files`]: the files themselves; [`flights`]: one work for all who ask.
//! - [`upload`]: files come in, at once or to an address that was asked for first. [`download`]: they are found again.
//!
//! A file is written under another name, made durable and renamed, and only then the row that names it is committed:
//! what was acknowledged is there, and what is there is whole. A crash in between leaves a file that no row names,
//! which harms nobody. Deliberately absent: HTTP, and what media is part of which room.

pub mod download;
pub mod files;
pub mod flights;
pub mod id;
pub mod upload;

use std::{io, path::PathBuf};

use tokio::sync::broadcast;

use self::{files::Files, id::MediaId};

/// Uploads that those who wait for one may be behind.
const NEWS: usize = 64;

/// The files, and what is under way with them.
pub struct Media {
    /// The files.
    pub files: Files,
    /// Names what was uploaded to an address that existed before. Who waits and misses some looks again.
    uploaded: broadcast::Sender<MediaId>,
}

impl Media {
    /// Media whose files are below this directory, which is made if it is not there.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        Ok(Self { files: Files::open(directory)?, uploaded: broadcast::Sender::new(NEWS) })
    }
}
