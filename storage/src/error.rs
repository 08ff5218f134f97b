//! What can go wrong between the server and its database, as callers need to tell it apart.
//!
//! Absence is not an error: functions that may find nothing return `Option`.

use std::{error::Error, fmt};

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, SqlState};

/// Why a statement or transaction was not done.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database cannot be reached, is starting or stopping, or gave up because of another transaction.
    /// Trying again may help; whether an interrupted commit happened is not known.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A stored row does not mean what it must: a fault of this program, or of someone who edited the database.
    #[error("a row of {table} is corrupt: {row}")]
    Corrupt {
        /// The table that holds the row.
        table: &'static str,
        /// Which row, and what is wrong with it.
        row: String,
    },
    /// A row with the same unique value exists; the name of the violated constraint.
    #[error("the row exists already ({0})")]
    Conflict(String),
    /// Postgres refused the statement.
    #[error("the database refused a statement")]
    Database(#[source] tokio_postgres::Error),
}

impl StorageError {
    /// A row of `table` that cannot be understood.
    pub(crate) fn corrupt(table: &'static str, row: impl std::fmt::Display) -> Self {
        Self::Corrupt { table, row: row.to_string() }
    }

    /// Whether what is stored cannot be read, however often it is tried.
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Database(error) => error.code().is_some_and(is_damage),
            Self::Unavailable(_) | Self::Conflict(_) => false,
        }
    }

    /// Whether this is a second row for one value of the named constraint.
    pub fn is_conflict_on(&self, constraint: &str) -> bool {
        matches!(self, Self::Conflict(name) if name == constraint)
    }
}

impl From<tokio_postgres::Error> for StorageError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            // Without an answer of the database's own, either the connection broke or we sent or read nonsense.
            let is_io = error.source().is_some_and(<dyn Error>::is::<std::io::Error>);
            return if error.is_closed() || is_io {
                Self::Unavailable(Box::new(error))
            } else {
                Self::Database(error)
            };
        };
        if *refusal.code() == SqlState::UNIQUE_VIOLATION {
            return Self::Conflict(refusal.constraint().unwrap_or_default().to_owned());
        }
        if is_passing(refusal.code()) { Self::Unavailable(Box::new(error)) } else { Self::Database(error) }
    }
}

impl From<PoolError> for StorageError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

/// An error with its causes, in one line. Of what Postgres says there is the reason, but not the detail, which may hold
/// rows.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut next, mut between) = (Some(self.0), "");
        while let Some(error) = next {
            f.write_str(between)?;
            match error.downcast_ref::<DbError>() {
                Some(refusal) => {
                    write!(f, "{}: {} ({})", refusal.severity(), refusal.message(), refusal.code().code())?;
                }
                None => write!(f, "{error}")?,
            }
            (next, between) = (error.source(), ": ");
        }
        Ok(())
    }
}

/// Whether Postgres has found its own files damaged.
fn is_damage(code: &SqlState) -> bool {
    [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code)
}

/// Whether the same statement may succeed later: no connection, no room for one, starting or stopping, or
/// chosen as a deadlock's victim.
fn is_passing(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") || code.starts_with("40")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_pass_are_told_from_those_that_do_not() {
        assert!(is_passing(&SqlState::ADMIN_SHUTDOWN));
        assert!(is_passing(&SqlState::CANNOT_CONNECT_NOW));
        assert!(is_passing(&SqlState::TOO_MANY_CONNECTIONS));
        assert!(is_passing(&SqlState::T_R_DEADLOCK_DETECTED));
        assert!(!is_passing(&SqlState::UNDEFINED_TABLE));
        assert!(!is_passing(&SqlState::QUERY_CANCELED));
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_cannot_be_reached() {
        assert!(StorageError::corrupt("rooms", "7").is_corruption());
        assert!(!StorageError::Unavailable("gone".into()).is_corruption());
        assert!(is_damage(&SqlState::DATA_CORRUPTED));
        assert!(!is_damage(&SqlState::UNDEFINED_TABLE));
    }

    #[test]
    fn conflict_is_recognised_by_its_constraint() {
        let conflict = StorageError::Conflict("events_event_id_key".to_owned());
        assert!(conflict.is_conflict_on("events_event_id_key"));
        assert!(!conflict.is_conflict_on("rooms_room_id_key"));
    }
}
