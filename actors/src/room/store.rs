//! What a room needs from storage while it decides, and what the journal needs to make it durable.
//!
//! A seam for tests: with a store in memory, whole servers' rooms run in one test. [`PgStore`](super::PgStore) is the real one.

use std::collections::HashMap;

use futures::future::BoxFuture;
use myelin_core::{
    nid::{BlockNid, EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid},
    position::Position,
    resolve::{AuthNode, Lookup},
    state::tiers::Layers,
};
use myelin_storage::{
    commit::{Batch, CommitError},
    error::StorageError,
    events::StoredEvent,
    members::MemberRow,
    rooms::RoomRow,
    transactions::TransactionRow,
};
use ruma::{OwnedEventId, OwnedServerName, RoomId};

/// A room as it stands in storage.
#[derive(Clone, Debug)]
pub struct LoadedRoom {
    /// The room's own row.
    pub row: RoomRow,
    /// Everyone with a member event in its current state.
    pub members: Vec<MemberRow>,
    /// How many joined members each other server has.
    pub servers: Vec<(OwnedServerName, usize)>,
    /// The current state.
    pub layers: Layers,
    /// The essential state events and the forward extremities.
    pub events: Vec<StoredEvent>,
    /// The last [`RECENT`](super::view::RECENT) timeline events, oldest first.
    pub recent: Vec<StoredEvent>,
    /// Transactions of clients in the last day.
    pub transactions: Vec<TransactionRow>,
}

/// How rooms are asked for.
#[derive(Clone, Copy, Debug)]
pub enum RoomsBy<'a> {
    /// By number.
    Nids(&'a [RoomNid]),
    /// By id.
    Id(&'a RoomId),
}

/// How events are asked for.
#[derive(Clone, Copy, Debug)]
pub enum EventsBy<'a> {
    /// By number.
    Nids(&'a [EventNid]),
    /// By id.
    Ids(&'a [OwnedEventId]),
    /// Redactions that wait for events with these ids.
    Redacting(&'a [OwnedEventId]),
    /// The first in the room's timeline among those that stand at this position or were fetched later and stand before
    /// it. At most one.
    FirstAt(RoomNid, Position),
}

/// Strings to be interned and numbers to be reserved.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Event types.
    pub types: Vec<String>,
    /// State keys and user ids.
    pub keys: Vec<String>,
    /// How many room NIDs.
    pub rooms: usize,
    /// How many event NIDs.
    pub events: usize,
    /// How many block NIDs.
    pub blocks: usize,
    /// How many snapshot NIDs.
    pub snapshots: usize,
}

/// The numbers for [`Names`], in the same order.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Event types.
    pub types: Vec<TypeNid>,
    /// State keys.
    pub keys: Vec<StateKeyNid>,
    /// Room NIDs that nobody had before.
    pub rooms: Vec<RoomNid>,
    /// Event NIDs that nobody had before.
    pub events: Vec<EventNid>,
    /// Block NIDs that nobody had before.
    pub blocks: Vec<BlockNid>,
    /// Snapshot NIDs that nobody had before.
    pub snapshots: Vec<SnapshotNid>,
}

/// State by hash, as far as it is stored.
#[derive(Clone, Debug, Default)]
pub struct FoundState {
    /// Blocks.
    pub blocks: HashMap<[u8; 32], BlockNid>,
    /// Snapshots.
    pub snapshots: HashMap<[u8; 32], SnapshotNid>,
}

/// What rooms and the journal need from storage.
pub trait RoomStore: Send + Sync + 'static {
    /// The rooms asked for; unknown ones are left out. A constant number of queries. `since_ms` bounds how
    /// old the transactions are that come along.
    fn load_rooms<'a>(
        &'a self,
        which: RoomsBy<'a>,
        since_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<LoadedRoom>, StorageError>>;

    /// The events that are stored, outliers and rejected ones included; in no certain order.
    fn load_events<'a>(
        &'a self,
        which: EventsBy<'a>,
    ) -> BoxFuture<'a, Result<Vec<StoredEvent>, StorageError>>;

    /// The states with these numbers.
    fn load_layers<'a>(
        &'a self,
        snapshots: &'a [SnapshotNid],
    ) -> BoxFuture<'a, Result<HashMap<SnapshotNid, Layers>, StorageError>>;

    /// Which blocks and snapshots with these hashes are stored.
    fn find_by_hash<'a>(
        &'a self,
        blocks: &'a [[u8; 32]],
        snapshots: &'a [[u8; 32]],
    ) -> BoxFuture<'a, Result<FoundState, StorageError>>;

    /// Rows of the index of what state events are based on, each with the event that it was found for.
    fn look<'a>(
        &'a self,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Vec<(EventNid, AuthNode)>, StorageError>>;

    /// Interns and reserves. What it returns is durable.
    fn name(&self, names: Names) -> BoxFuture<'_, Result<Named, StorageError>>;

    /// Makes the batch durable, all or nothing; the positions of each change.
    fn commit<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Vec<Position>>, CommitError>>;

    /// The last position of that batch, if it was committed.
    fn find_batch(&self, id: u128) -> BoxFuture<'_, Result<Option<Position>, StorageError>>;
}
