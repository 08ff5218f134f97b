//! A room's state, as numbers: which event holds each (event type, state key).
//!
//! In memory it is a [`StateMap`]. At rest it is a snapshot: an ordered list of blocks, of which later ones win.
//!
//! - [`block`]: a sorted, packed list of entries.
//! - [`snapshot`]: the packed list of a snapshot's blocks.
//! - [`tiers`]: a snapshot as it grows, so that each change writes little and no snapshot has many blocks.
//!
//! Deliberately absent: what the entries mean. Nothing here looks at an event.

pub mod block;
pub mod snapshot;
pub mod tiers;
mod varint;

pub use block::Block;
pub use snapshot::SnapshotBlocks;
pub use tiers::{Layer, Layers};

use crate::nid::{EventNid, StateKeyNid, TypeNid};

/// The place in a room's state that a state event fills.
pub type StateKey = (TypeNid, StateKeyNid);

/// A place in the state and the event that fills it.
pub type Entry = (StateKey, EventNid);

/// A room's whole state. Cheap to clone: copies share what they have in common.
pub type StateMap = imbl::OrdMap<StateKey, EventNid>;

/// Packed state that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptState {
    /// The bytes end inside an entry.
    #[error("packed state ends inside an entry")]
    Truncated,
    /// A number is out of its range, or written longer than it needs to be.
    #[error("packed state has a number that is out of range")]
    OutOfRange,
    /// The entries are not in ascending order, or one is there twice.
    #[error("packed state is not sorted")]
    Unsorted,
    /// A snapshot has more than [`snapshot::MAX_BLOCKS`] blocks.
    #[error("a snapshot has too many blocks")]
    TooManyBlocks,
    /// A snapshot names a block that was not given.
    #[error("a snapshot's block {0} is missing")]
    MissingBlock(crate::nid::BlockNid),
}
