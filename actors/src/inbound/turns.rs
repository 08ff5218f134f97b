//! One after the other: locks for more names than there are locks.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use tokio::sync::{Mutex, MutexGuard};

/// How many names can have their turn at the same time without waiting for one another.
const STRIPES: usize = 256;

/// Locks, each for many names.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    /// Waits until it is this name's turn.
    pub async fn take(&self, name: &str) -> MutexGuard<'_, ()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        self.0[usize::try_from(hash % STRIPES as u64).unwrap_or_default()].lock().await
    }
}
