//! Long polls that wait for something new.

use std::sync::Arc;

use futures::channel::oneshot;
use myelin_storage::error::StorageError;

use super::messages::{News, SyncPoint};

type Answer = oneshot::Sender<Result<News, Arc<StorageError>>>;

/// Questions without an answer yet.
#[derive(Default)]
pub(crate) struct Waiting(Vec<(SyncPoint, Answer)>);

impl Waiting {
    /// One more. Questions that nobody waits for any more make room for it.
    pub fn add(&mut self, since: SyncPoint, answer: Answer) {
        self.drop_closed();
        self.0.push((since, answer));
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those who have given up.
    pub fn drop_closed(&mut self) {
        self.0.retain(|(_, answer)| !answer.is_canceled());
    }

    /// Answers those for whom `news` has something; the others go on waiting.
    pub fn answer(&mut self, news: impl Fn(SyncPoint) -> Option<News>) {
        for (since, answer) in std::mem::take(&mut self.0) {
            if answer.is_canceled() {
                continue;
            }
            match news(since) {
                Some(news) => drop(answer.send(Ok(news))),
                None => self.0.push((since, answer)),
            }
        }
    }

    /// Tells everyone that there will be no answer.
    pub fn fail_all(&mut self, error: &Arc<StorageError>) {
        for (_, answer) in self.0.drain(..) {
            drop(answer.send(Err(Arc::clone(error))));
        }
    }
}
