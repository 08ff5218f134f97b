//! Numbers that were reserved for a decision, before it is made.

use std::vec::IntoIter;

use myelin_core::nid::{BlockNid, EventNid, SnapshotNid};

/// As many as the decision may need. Those that it leaves are never given again.
#[derive(Default)]
pub(crate) struct Numbers {
    pub events: IntoIter<EventNid>,
    pub blocks: IntoIter<BlockNid>,
    pub snapshots: IntoIter<SnapshotNid>,
}
