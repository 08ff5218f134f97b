//! Columns to values and back: what every module does with rows, once.
//!
//! NID newtypes belong to the core, which knows no SQL, so they cross here as plain numbers. A value that
//! cannot be what its column promises becomes [`StorageError::Corrupt`].

use std::borrow::Cow;

use myelin_core::{
    nid::{BlockNid, EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid},
    position::{Position, TimelinePlace},
};
use tokio_postgres::{Row, types::FromSqlOwned};

use crate::error::StorageError;

/// A NID and the number that stands for it in the database.
pub(crate) trait Number: Sized + Copy {
    /// What the column holds.
    type Plain: FromSqlOwned + Copy + std::fmt::Display;

    /// The NID with this number, unless no NID has it.
    fn from_plain(plain: Self::Plain) -> Option<Self>;

    /// The number to store.
    fn plain(self) -> Self::Plain;
}

macro_rules! numbers {
    ($($name:ident: $plain:ty),* $(,)?) => {
        $(impl Number for $name {
            type Plain = $plain;

            fn from_plain(plain: $plain) -> Option<Self> {
                Self::new(plain)
            }

            fn plain(self) -> $plain {
                self.get()
            }
        })*
    };
}
numbers! {
    RoomNid: i64,
    EventNid: i64,
    BlockNid: i64,
    SnapshotNid: i64,
    TypeNid: i32,
    StateKeyNid: i32,
    UserNid: i32,
}

/// The numbers of these NIDs, to be bound as an array.
pub(crate) fn plain<N: Number>(nids: &[N]) -> Vec<N::Plain> {
    nids.iter().map(|nid| nid.plain()).collect()
}

/// A Postgres array literal of these NIDs, for columns that are arrays themselves: `UNNEST` would flatten them.
pub(crate) fn array_literal<N: Number>(nids: &[N]) -> String {
    let mut literal = String::with_capacity(2 + nids.len() * 8);
    literal.push('{');
    for (index, nid) in nids.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        literal.push_str(&nid.plain().to_string());
    }
    literal.push('}');
    literal
}

/// A string as a `TEXT` column can hold it: U+0000, which it cannot, becomes U+FFFD. To be used on every string
/// that a client or another server chose freely, when it is stored and when it is looked for.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

/// A pattern for `LIKE` that matches exactly this text: its special characters are escaped.
pub(crate) fn like_literal(literal: &str) -> String {
    let mut pattern = String::with_capacity(literal.len());
    for character in text(literal).chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Whether a string that a client or another server chose freely can be part of an index: an entry has its limit.
/// Everything that the specification calls an id is shorter.
pub(crate) fn is_indexable(text: &str) -> bool {
    text.len() <= 255
}

/// A row of a table, read column by column.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    table: &'static str,
}

impl<'r> Columns<'r> {
    /// The row, with the table that errors will name.
    pub(crate) fn of(table: &'static str, row: &'r Row) -> Self {
        Self { row, table }
    }

    /// The value of a column.
    pub(crate) fn get<T: FromSqlOwned>(&self, column: &str) -> Result<T, StorageError> {
        self.row.try_get(column).map_err(|error| self.corrupt(format_args!("{column}: {error}")))
    }

    /// A column that holds a NID.
    pub(crate) fn nid<N: Number>(&self, column: &str) -> Result<N, StorageError> {
        let plain = self.get(column)?;
        N::from_plain(plain).ok_or_else(|| self.corrupt(format_args!("{column}: {plain} is not a NID")))
    }

    /// A column that holds a NID or NULL.
    pub(crate) fn opt_nid<N: Number>(&self, column: &str) -> Result<Option<N>, StorageError> {
        let Some(plain) = self.get::<Option<N::Plain>>(column)? else { return Ok(None) };
        let nid = N::from_plain(plain);
        nid.map(Some).ok_or_else(|| self.corrupt(format_args!("{column}: {plain} is not a NID")))
    }

    /// A column that holds an array of NIDs.
    pub(crate) fn nids<N: Number>(&self, column: &str) -> Result<Vec<N>, StorageError>
    where
        Vec<N::Plain>: FromSqlOwned,
    {
        let plain: Vec<N::Plain> = self.get(column)?;
        let nids: Option<Vec<N>> = plain.into_iter().map(N::from_plain).collect();
        nids.ok_or_else(|| self.corrupt(format_args!("{column}: not all of its elements are NIDs")))
    }

    /// A column that holds a position.
    pub(crate) fn position(&self, column: &str) -> Result<Position, StorageError> {
        self.get(column).map(Position)
    }

    /// A column that holds a position or NULL.
    pub(crate) fn opt_position(&self, column: &str) -> Result<Option<Position>, StorageError> {
        Ok(self.get::<Option<i64>>(column)?.map(Position))
    }

    /// The columns `anchor` and `anchor_offset`.
    pub(crate) fn place(&self) -> Result<Option<TimelinePlace>, StorageError> {
        let Some(anchor) = self.opt_position("anchor")? else { return Ok(None) };
        Ok(Some(TimelinePlace { anchor, offset: self.get("anchor_offset")? }))
    }

    /// A column whose text must parse, as ids do.
    pub(crate) fn parse<T>(&self, column: &str) -> Result<T, StorageError>
    where
        T: for<'t> TryFrom<&'t str>,
    {
        let text: String = self.get(column)?;
        T::try_from(&text).map_err(|_| self.corrupt(format_args!("{column}: {text:?} does not parse")))
    }

    /// A column of bytes, where it stands.
    pub(crate) fn bytes(&self, column: &str) -> Result<&'r [u8], StorageError> {
        self.row.try_get(column).map_err(|error| self.corrupt(format_args!("{column}: {error}")))
    }

    /// A column of UTF-8 text that is stored as bytes, because it may hold U+0000.
    pub(crate) fn bytes_text(&self, column: &str) -> Result<String, StorageError> {
        String::from_utf8(self.get(column)?).map_err(|error| self.corrupt(format_args!("{column}: {error}")))
    }

    /// This row is not what it must be.
    pub(crate) fn corrupt(&self, what: impl std::fmt::Display) -> StorageError {
        StorageError::corrupt(self.table, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> EventNid {
        EventNid::new(number).expect("positive")
    }

    #[test]
    fn arrays_are_written_as_postgres_reads_them() {
        assert_eq!(array_literal::<EventNid>(&[]), "{}");
        assert_eq!(array_literal(&[event(7)]), "{7}");
        assert_eq!(array_literal(&[event(7), event(12)]), "{7,12}");
    }

    #[test]
    fn patterns_match_only_themselves() {
        assert_eq!(like_literal(r"50%_\"), r"50\%\_\\");
        assert_eq!(like_literal("änne"), "änne");
    }

    #[test]
    fn text_without_nul_is_left_alone() {
        assert!(matches!(text("häuser"), Cow::Borrowed("häuser")));
        assert_eq!(text("a\0b"), "a\u{FFFD}b");
    }
}
