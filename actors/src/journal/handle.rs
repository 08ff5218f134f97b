//! How others give the journal something to write.

use std::sync::Arc;

use actix::Addr;
use futures::channel::oneshot;
use myelin_core::position::Position;
use myelin_storage::commit::Change;
use tokio::sync::{Semaphore, watch};

use super::{
    Journal, Submit,
    batch::{Effect, Submission},
};
use crate::room::error::RoomError;

/// Changes that may wait for a commit, not counting those of rooms, which the registry bounds.
const MAX_WAITING: usize = 10_000;

/// The journal, as others see it.
#[derive(Clone)]
pub struct JournalHandle {
    journal: Addr<Journal>,
    permits: Arc<Semaphore>,
    published: watch::Receiver<Position>,
}

impl JournalHandle {
    pub(crate) fn new(journal: Addr<Journal>, published: watch::Receiver<Position>) -> Self {
        Self { journal, permits: Arc::new(Semaphore::new(MAX_WAITING)), published }
    }

    /// Makes a receipt or account data durable, and tells those whom it concerns; its position.
    ///
    /// [`RoomError::Busy`] when too much waits already. [`RoomError::Lost`] when the commit failed.
    pub async fn write(&self, change: Change) -> Result<Position, RoomError> {
        let _permit = self.permits.try_acquire().map_err(|_full| RoomError::Busy)?;
        let (answer, committed) = oneshot::channel();
        self.submit(Submission { change, effect: Effect::Written(answer) });
        committed.await.map_err(|oneshot::Canceled| RoomError::Lost)?
    }

    /// Hands over a submission. Its effect tells what follows.
    pub(crate) fn submit(&self, submission: Submission) {
        self.journal.do_send(Submit(submission));
    }

    /// Everything up to here is committed, published and told.
    pub fn position(&self) -> Position {
        *self.published.borrow()
    }

    /// Returns when everything up to `position` is published.
    pub async fn published(&self, position: Position) {
        // The journal lives as long as the program: when it is gone, there is nothing to wait for.
        let _ = self.published.clone().wait_for(|published| *published >= position).await;
    }

    /// A channel that shows the last published position: what followers of a cursor wait on.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.published.clone()
    }
}
