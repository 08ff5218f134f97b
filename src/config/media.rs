//! Media: what users upload, and what is fetched for them from other servers.

use std::time::Duration;

use super::section::section;

section! {
    /// Media: what users upload, and what is fetched for them from other servers. Sizes are bytes.
    pub struct MediaConfig {
        /// The largest upload.
        max_upload_size: u64 = 50 * 1024 * 1024;
        /// The largest file that is fetched from another server.
        max_remote_size: u64 = 100 * 1024 * 1024;
        /// How much space copies of other servers' files may take. Above it, those that nobody has asked for the longest
        /// are deleted, and fetched again when somebody does.
        remote_cache_size: u64 = 10 * 1024 * 1024 * 1024;
        /// Seconds until a file has to have been fetched from another server.
        fetch_timeout_seconds: u64 = 300;
        /// Whether what is uploaded or fetched from now on can only be downloaded by those who are logged in. What is
        /// there already stays as it is.
        freeze_unauthenticated: bool = false;
        /// Addresses for files that a user may have asked for without having uploaded the files.
        max_pending_uploads: u32 = 100;
        /// Hours in which the upload to such an address has to begin.
        pending_hours: u64 = 24;
        /// The largest image, in pixels, of which thumbnails are made. Each takes four bytes of memory meanwhile.
        max_thumbnail_pixels: u64 = 50_000_000;
        /// How many images are made smaller at the same time.
        thumbnail_threads: usize = 2;
    }
}

impl MediaConfig {
    /// How long fetching a file may take.
    pub fn fetch_timeout(&self) -> Duration {
        Duration::from_secs(self.fetch_timeout_seconds.max(1))
    }

    /// How long an address is kept to which nothing is uploaded.
    pub fn pending_lifetime(&self) -> Duration {
        Duration::from_secs(self.pending_hours.saturating_mul(3600).max(60))
    }
}
