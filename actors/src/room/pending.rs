//! The promise of a commit.

use std::sync::Arc;

use tokio::sync::SetOnce;

use super::error::RoomError;

/// An answer that holds once the journal has made it durable. A room hands it out and goes on.
pub struct Pending<T> {
    answer: T,
    commit: Option<Commit>,
}

impl<T> Pending<T> {
    /// The answer holds when `commit` says so; `None`: it does already.
    pub(crate) fn new(answer: T, commit: Option<Commit>) -> Self {
        Self { answer, commit }
    }

    /// The answer, once it is durable. [`RoomError::Lost`] when the commit failed.
    pub async fn committed(self) -> Result<T, RoomError> {
        match self.commit {
            Some(Commit(is_durable)) if !*is_durable.wait().await => Err(RoomError::Lost),
            _ => Ok(self.answer),
        }
    }
}

/// What becomes of a decision, for as many as wait for it.
#[derive(Clone)]
pub(crate) struct Commit(Arc<SetOnce<bool>>);

/// The journal's end of it. Dropped without being kept, it is broken: the decision is lost.
pub(crate) struct Promise(Arc<SetOnce<bool>>);

impl Promise {
    /// A promise, and where those wait who rely on it.
    pub fn new() -> (Self, Commit) {
        let is_durable = Arc::new(SetOnce::new());
        (Self(Arc::clone(&is_durable)), Commit(is_durable))
    }

    /// The decision is durable.
    pub fn keep(self) {
        let _ = self.0.set(true);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        // Without effect on one that was kept.
        let _ = self.0.set(false);
    }
}
