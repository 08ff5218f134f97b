//! What has to wait in the store until a test lets it go on.

use myelin_actors::room::store::Names;

use super::MemoryStore;

/// What waits, and for what.
#[derive(Clone, Default)]
pub struct Holds {
    commits: bool,
    waiting_commits: usize,
    /// The event type that gets no number.
    naming: Option<String>,
    waiting_names: usize,
    read: HeldRead,
}

/// Whether a read is kept from returning what it has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeldRead {
    #[default]
    None,
    /// The next one will be.
    Next,
    /// One is.
    Held,
}

impl MemoryStore {
    /// Lets no commit end until they are released.
    pub fn hold_commits(&self) {
        self.0.lock().holds.commits = true;
    }

    /// Lets held commits go on.
    pub fn release_commits(&self) {
        self.0.lock().holds.commits = false;
    }

    /// Returns when a commit is held.
    pub async fn until_commit_waits(&self) {
        while self.0.lock().holds.waiting_commits == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets nobody have numbers for an event of that type until they are released.
    pub fn hold_naming(&self, event_type: &str) {
        self.0.lock().holds.naming = Some(event_type.to_owned());
    }

    /// Gives out the numbers that were held back.
    pub fn release_naming(&self) {
        self.0.lock().holds.naming = None;
    }

    /// Returns when a room waits for numbers that are held back.
    pub async fn until_naming_waits(&self) {
        while self.0.lock().holds.waiting_names == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// The next read, of events or of rooms, finds what is stored and does not return it until it is released.
    pub fn hold_next_read(&self) {
        self.0.lock().holds.read = HeldRead::Next;
    }

    /// Resolves when the read is held.
    pub async fn read_held(&self) {
        while self.0.lock().holds.read != HeldRead::Held {
            tokio::task::yield_now().await;
        }
    }

    /// Lets the held read return.
    pub fn release_read(&self) {
        self.0.lock().holds.read = HeldRead::None;
    }

    pub(super) async fn return_read(&self) {
        {
            let mut inner = self.0.lock();
            if inner.holds.read != HeldRead::Next {
                return;
            }
            inner.holds.read = HeldRead::Held;
        }
        while self.0.lock().holds.read == HeldRead::Held {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn wait_to_commit(&self) {
        // Others run between a commit's start and its end, as with a real database.
        tokio::task::yield_now().await;
        self.0.lock().holds.waiting_commits += 1;
        while self.0.lock().holds.commits {
            tokio::task::yield_now().await;
        }
        self.0.lock().holds.waiting_commits -= 1;
    }

    pub(super) async fn wait_to_name(&self, names: &Names) {
        let is_held = || self.0.lock().holds.naming.as_ref().is_some_and(|held| names.types.contains(held));
        if !is_held() {
            return;
        }
        self.0.lock().holds.waiting_names += 1;
        while is_held() {
            tokio::task::yield_now().await;
        }
        self.0.lock().holds.waiting_names -= 1;
    }
}
