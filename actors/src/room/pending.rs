//! The promise of a commit.

use futures::channel::oneshot;

use super::error::RoomError;

/// An answer that holds once the journal has made it durable. A room hands it out and goes on.
pub struct Pending<T> {
    answer: T,
    commit: Option<oneshot::Receiver<Result<(), RoomError>>>,
}

impl<T> Pending<T> {
    /// Nothing had to be written: the answer holds already.
    pub(crate) fn done(answer: T) -> Self {
        Self { answer, commit: None }
    }

    /// The answer holds when `commit` says so.
    pub(crate) fn new(answer: T, commit: oneshot::Receiver<Result<(), RoomError>>) -> Self {
        Self { answer, commit: Some(commit) }
    }

    /// The answer, once it is durable. [`RoomError::Lost`] when the commit failed.
    pub async fn committed(self) -> Result<T, RoomError> {
        match self.commit {
            None => Ok(self.answer),
            Some(commit) => match commit.await {
                Ok(Ok(())) => Ok(self.answer),
                Ok(Err(error)) => Err(error),
                Err(oneshot::Canceled) => Err(RoomError::Lost),
            },
        }
    }
}
