//! What is done one after the other, where something is looked at first and then changed.
//!
//! Only for this process: what must hold whoever writes is the database's to see to.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard};

/// How many can do something at the same time without waiting for one another.
const STRIPES: usize = 256;

/// Locks, by what they are about.
#[derive(Debug, Default)]
pub struct Locks {
    /// Users whose account data is being changed.
    pub account_data: KeyedLocks,
    /// What users are saying of which event.
    pub annotations: KeyedLocks,
    /// Aliases that are being made.
    pub aliases: KeyedLocks,
}

/// Locks, each for many keys.
#[derive(Debug)]
pub struct KeyedLocks(Vec<Mutex<()>>);

impl Default for KeyedLocks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }
}

impl KeyedLocks {
    /// Waits until nobody else has this key. Whoever holds a key must not wait for another of the same locks.
    pub async fn lock(&self, key: &(impl Hash + ?Sized)) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let stripe = hasher.finish() % STRIPES as u64;
        self.0[usize::try_from(stripe).unwrap_or_default()].lock().await
    }
}
