//! What can go wrong when a room is asked for something.

use myelin_storage::error::StorageError;

use crate::remote::RemoteError;

/// Why a room did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// This server does not know the room.
    #[error("room is not known here")]
    NotFound,
    /// The room's rules do not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// What was asked for is not an event, or not a room.
    #[error("{0}")]
    Invalid(String),
    /// The room's policy server has not signed the event.
    #[error("the room's policy server has not signed it: {0}")]
    Policy(#[source] RemoteError),
    /// The event would be larger than events may be.
    #[error("event is too large: {0}")]
    TooLarge(String),
    /// Too much is waiting for this room already.
    #[error("too many requests wait for this room")]
    Busy,
    /// The room's actor or its commit failed. Nothing was promised; the caller may try again.
    #[error("the room lost this request")]
    Lost,
    /// Storage could not be read.
    #[error("room could not be loaded")]
    Storage(#[from] StorageError),
}

impl RoomError {
    /// Whether what is stored of the room, or of several rooms asked for, cannot be read, however often it is tried.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_corruption())
    }
}
