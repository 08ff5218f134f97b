//! The media repository: files that users upload, and copies of other servers' files.
//!
//! In reading order:
//!
//! - [`id`]: what media and files are called. [`files`]: the files themselves.
//! - [`upload`]: files come in, at once or to an address that was asked for first. [`download`]: they are found again.
//! - [`remote`]: files of other servers. [`thumbnail`]: smaller images, which [`shrink`] makes.
//! - [`quarantine`]: what administrators take out of sight. [`housekeeping`]: what is done now and then.
//!
//! A file is written under another name, made durable and renamed, and only then the row that names it is committed:
//! what was acknowledged is there, and what is there is whole. A crash in between leaves a file that no row names,
//! which harms nobody. Deliberately absent: HTTP, and what media is part of which room.

pub mod download;
pub mod files;
pub mod housekeeping;
pub mod id;
pub mod quarantine;
pub mod remote;
pub mod shrink;
pub mod thumbnail;
pub mod upload;

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use myelin_storage::media::thumbnails::ThumbnailKey;
use ruma::OwnedServerName;
use tokio::sync::{Semaphore, broadcast};

use self::{files::Files, id::MediaId};
use crate::{config::MediaConfig, flights::Flights};

/// Uploads that those who wait for one may be behind.
const NEWS: usize = 64;
/// How many files are fetched at the same time.
const FETCHES: usize = 64;

/// The files, and what is under way with them.
pub struct Media {
    /// The files.
    pub files: Files,
    /// Names what was uploaded to an address that existed before. Who waits and misses some looks again.
    uploaded: broadcast::Sender<MediaId>,
    fetches: Flights<(OwnedServerName, MediaId), ()>,
    /// Permits to fetch.
    fetching: Semaphore,
    shrinking: Flights<ThumbnailKey, ()>,
    /// Permits to make thumbnails.
    threads: Semaphore,
    /// Something was fetched since somebody looked.
    grown: AtomicBool,
}

impl Media {
    /// Media whose files are below this directory, which is made if it is not there.
    pub fn open(directory: PathBuf, config: &MediaConfig) -> io::Result<Self> {
        Ok(Self {
            files: Files::open(directory)?,
            uploaded: broadcast::Sender::new(NEWS),
            fetches: Flights::default(),
            fetching: Semaphore::new(FETCHES),
            shrinking: Flights::default(),
            threads: Semaphore::new(config.thumbnail_threads.max(1)),
            grown: AtomicBool::new(true),
        })
    }

    fn has_grown(&self) {
        self.grown.store(true, Ordering::Relaxed);
    }

    fn take_grown(&self) -> bool {
        self.grown.swap(false, Ordering::Relaxed)
    }
}
