//! Positions: numbers in commit order.
//!
//! A reader that has seen position P has seen every durable change up to P. Positions are given by the
//! journal's transaction and by nothing else; this module only keeps them apart from other numbers.

use serde::{Deserialize, Serialize};

/// A place in the order of commits. 0 is before the first change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub i64);

impl Position {
    /// Before everything.
    pub const START: Self = Self(0);

    /// The position that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a room's timeline, the one order in which every reader sees its events.
///
/// A live event stands at `(its position, 0)`. Events fetched later because they came before it stand at
/// `(its position, -1)`, `(its position, -2)` and so on, the older the lower: so a gap anywhere in a room's
/// history can be filled without moving anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimelinePlace {
    /// The position of the live event that this event is, or came before.
    pub anchor: Position,
    /// 0 for a live event, negative for one that was fetched later.
    pub offset: i32,
}

impl TimelinePlace {
    /// The place of the live event that was committed at this position.
    pub const fn live(position: Position) -> Self {
        Self { anchor: position, offset: 0 }
    }
}
