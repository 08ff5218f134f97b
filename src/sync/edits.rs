//! One change of a user's account data after the other, where a change reads what it replaces.

use myelin_core::nid::UserNid;
use tokio::sync::{Mutex, MutexGuard};

/// How many users can change something at the same time without waiting for one another.
const STRIPES: usize = 256;

/// Locks, each for many users.
#[derive(Debug)]
pub struct EditLocks(Vec<Mutex<()>>);

impl Default for EditLocks {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }
}

impl EditLocks {
    /// Waits until nobody else changes something of this user.
    pub async fn lock(&self, user: UserNid) -> MutexGuard<'_, ()> {
        let index = usize::try_from(user.get()).unwrap_or_default() % STRIPES;
        self.0[index].lock().await
    }
}
