//! Numbers in reserve.
//!
//! A range is reserved by a committed statement before any of its numbers is given out. What is left of it when the
//! process ends is never used: numbers are plenty.

use tokio::sync::Mutex;

use super::RESERVE;
use crate::{Storage, error::StorageError, row::Number};

/// The numbers of one kind that this process may give out.
pub(super) struct Range {
    kind: &'static str,
    /// How many are reserved at a time.
    step: i64,
    /// Held while the database is asked, so that not every waiting caller reserves a range.
    free: Mutex<std::ops::Range<i64>>,
}

impl Range {
    pub(super) fn new(kind: &'static str, step: i64) -> Self {
        Self { kind, step, free: Mutex::new(0..0) }
    }

    /// So many numbers, ascending.
    pub(super) async fn take<N>(&self, storage: &Storage, count: usize) -> Result<Vec<N>, StorageError>
    where
        N: Number<Plain: TryFrom<i64>>,
    {
        let wanted = i64::try_from(count).map_err(|_| self.exhausted())?;
        let mut free = self.free.lock().await;
        if free.end - free.start < wanted {
            let size = wanted.max(self.step);
            let first = self.reserve(storage, size).await?;
            *free = first..first + size;
        }
        let taken = free.start..free.start + wanted;
        free.start = taken.end;
        drop(free);
        let nid = |number: i64| N::Plain::try_from(number).ok().and_then(N::from_plain);
        taken.map(|number| nid(number).ok_or_else(|| self.exhausted())).collect()
    }

    async fn reserve(&self, storage: &Storage, size: i64) -> Result<i64, StorageError> {
        let db = storage.get().await?;
        let statement = db.prepare_cached(RESERVE).await?;
        let row = db.query_opt(&statement, &[&self.kind, &size]).await?;
        let row =
            row.ok_or_else(|| StorageError::corrupt("nid_ranges", format_args!("{} is missing", self.kind)))?;
        Ok(row.try_get("first")?)
    }

    fn exhausted(&self) -> StorageError {
        StorageError::corrupt("nid_ranges", format_args!("no numbers are left for {}", self.kind))
    }
}
