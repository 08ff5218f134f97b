//! Strings to numbers and back.
//!
//! An interned string is durable before its number is given out: interning runs in statements of its own, which
//! are committed, so whatever refers to a number can rely on it, even when the caller's transaction is rolled
//! back. Strings are never forgotten, and what is known is kept in caches of a fixed size.
//!
//! User ids are interned as state keys: see [`UserNid`].

mod interner;
mod ranges;

use std::sync::Arc;

use myelin_core::nid::{BlockNid, EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid};
use ruma::OwnedUserId;

use self::{interner::Interner, ranges::Range};
use crate::{Storage, error::StorageError, statements::statements};

statements! {
    FIND_TYPES = "
        SELECT type_nid AS nid, event_type AS name
        FROM   event_types
        WHERE  event_type = ANY($1)
    ",
    NAME_TYPES = "
        SELECT type_nid AS nid, event_type AS name
        FROM   event_types
        WHERE  type_nid = ANY($1)
    ",
    ADD_TYPES = "
        INSERT INTO event_types (type_nid, event_type)
        SELECT nid, name
        FROM   UNNEST($1::INTEGER[], $2::BYTEA[]) AS new (nid, name)
        ON CONFLICT (event_type) DO NOTHING
    ",
    FIND_STATE_KEYS = "
        SELECT state_key_nid AS nid, state_key AS name
        FROM   state_keys
        WHERE  state_key = ANY($1)
    ",
    NAME_STATE_KEYS = "
        SELECT state_key_nid AS nid, state_key AS name
        FROM   state_keys
        WHERE  state_key_nid = ANY($1)
    ",
    ADD_STATE_KEYS = "
        INSERT INTO state_keys (state_key_nid, state_key)
        SELECT nid, name
        FROM   UNNEST($1::INTEGER[], $2::BYTEA[]) AS new (nid, name)
        ON CONFLICT (state_key) DO NOTHING
    ",
    RESERVE = "
        UPDATE nid_ranges
        SET    next = next + $2
        WHERE  kind = $1
        RETURNING next - $2 AS first
    ",
}

/// So many event types are remembered. Rooms can make up any number of them, so there must be a bound.
const KNOWN_TYPES: usize = 10_000;

/// So many state keys are remembered: about 100 bytes each, the members of a few large rooms.
const KNOWN_STATE_KEYS: usize = 300_000;

/// The numbers of this server. Cheap to clone; clones share caches and ranges.
#[derive(Clone)]
pub struct Nids(Arc<Shared>);

struct Shared {
    storage: Storage,
    types: Interner<TypeNid>,
    state_keys: Interner<StateKeyNid>,
    rooms: Range,
    events: Range,
    blocks: Range,
    snapshots: Range,
}

impl Nids {
    /// Nothing known and nothing reserved yet.
    pub fn new(storage: Storage) -> Self {
        let types = interner::Statements { kind: "type", find: FIND_TYPES, name: NAME_TYPES, add: ADD_TYPES };
        let state_keys = interner::Statements {
            kind: "state_key",
            find: FIND_STATE_KEYS,
            name: NAME_STATE_KEYS,
            add: ADD_STATE_KEYS,
        };
        Self(Arc::new(Shared {
            storage,
            types: Interner::new(types, "event_types", KNOWN_TYPES, 16),
            state_keys: Interner::new(state_keys, "state_keys", KNOWN_STATE_KEYS, 256),
            rooms: Range::new("room", 16),
            events: Range::new("event", 1024),
            blocks: Range::new("block", 1024),
            snapshots: Range::new("snapshot", 1024),
        }))
    }

    /// The numbers of these event types, in order; new ones are given a number, durably.
    pub async fn intern_types(&self, names: &[impl AsRef<str>]) -> Result<Vec<TypeNid>, StorageError> {
        self.0.types.intern(&self.0.storage, &as_strs(names)).await
    }

    /// The numbers of these state keys, in order; new ones are given a number, durably.
    pub async fn intern_state_keys(
        &self,
        names: &[impl AsRef<str>],
    ) -> Result<Vec<StateKeyNid>, StorageError> {
        self.0.state_keys.intern(&self.0.storage, &as_strs(names)).await
    }

    /// The numbers of these users, in order; new ones are given a number, durably.
    pub async fn intern_users(&self, users: &[impl AsRef<str>]) -> Result<Vec<UserNid>, StorageError> {
        let keys = self.intern_state_keys(users).await?;
        Ok(keys.into_iter().map(UserNid::from_state_key).collect())
    }

    /// The numbers of these event types, in order, `None` for those that no event ever had.
    pub async fn find_types(&self, names: &[impl AsRef<str>]) -> Result<Vec<Option<TypeNid>>, StorageError> {
        self.0.types.find(&self.0.storage, &as_strs(names)).await
    }

    /// The numbers of these state keys, in order, `None` for those that no event ever had.
    pub async fn find_state_keys(
        &self,
        names: &[impl AsRef<str>],
    ) -> Result<Vec<Option<StateKeyNid>>, StorageError> {
        self.0.state_keys.find(&self.0.storage, &as_strs(names)).await
    }

    /// The numbers of these users, in order, `None` for those that are unknown here.
    pub async fn find_users(&self, users: &[impl AsRef<str>]) -> Result<Vec<Option<UserNid>>, StorageError> {
        let keys = self.find_state_keys(users).await?;
        Ok(keys.into_iter().map(|key| key.map(UserNid::from_state_key)).collect())
    }

    /// The event types with these numbers, in order.
    pub async fn type_names(&self, nids: &[TypeNid]) -> Result<Vec<Arc<str>>, StorageError> {
        self.0.types.names(&self.0.storage, nids).await
    }

    /// The event type with this number.
    pub async fn type_name(&self, nid: TypeNid) -> Result<Arc<str>, StorageError> {
        self.type_names(&[nid]).await.map(only)
    }

    /// The state keys with these numbers, in order.
    pub async fn state_keys(&self, nids: &[StateKeyNid]) -> Result<Vec<Arc<str>>, StorageError> {
        self.0.state_keys.names(&self.0.storage, nids).await
    }

    /// The state key with this number.
    pub async fn state_key(&self, nid: StateKeyNid) -> Result<Arc<str>, StorageError> {
        self.state_keys(&[nid]).await.map(only)
    }

    /// The users with these numbers, in order. A number that is a state key but no user id is corrupt.
    pub async fn user_ids(&self, nids: &[UserNid]) -> Result<Vec<OwnedUserId>, StorageError> {
        let keys: Vec<StateKeyNid> = nids.iter().map(|nid| StateKeyNid::from(*nid)).collect();
        let names = self.state_keys(&keys).await?;
        let parse = |name: &Arc<str>| {
            OwnedUserId::try_from(&**name)
                .map_err(|_| StorageError::corrupt("state_keys", format_args!("{name:?} is no user id")))
        };
        names.iter().map(parse).collect()
    }

    /// The user with this number.
    pub async fn user_id(&self, nid: UserNid) -> Result<OwnedUserId, StorageError> {
        self.user_ids(&[nid]).await.map(only)
    }

    /// So many numbers for rooms, never given out before.
    pub async fn take_rooms(&self, count: usize) -> Result<Vec<RoomNid>, StorageError> {
        self.0.rooms.take(&self.0.storage, count).await
    }

    /// So many numbers for events, ascending, never given out before. Asks the database only when the reserved
    /// range is used up.
    pub async fn take_events(&self, count: usize) -> Result<Vec<EventNid>, StorageError> {
        self.0.events.take(&self.0.storage, count).await
    }

    /// So many numbers for state blocks, never given out before.
    pub async fn take_blocks(&self, count: usize) -> Result<Vec<BlockNid>, StorageError> {
        self.0.blocks.take(&self.0.storage, count).await
    }

    /// So many numbers for state snapshots, never given out before.
    pub async fn take_snapshots(&self, count: usize) -> Result<Vec<SnapshotNid>, StorageError> {
        self.0.snapshots.take(&self.0.storage, count).await
    }

    /// A number for a room.
    pub async fn next_room_nid(&self) -> Result<RoomNid, StorageError> {
        self.take_rooms(1).await.map(only)
    }

    /// A number for an event.
    pub async fn next_event_nid(&self) -> Result<EventNid, StorageError> {
        self.take_events(1).await.map(only)
    }

    /// A number for a state block.
    pub async fn next_block_nid(&self) -> Result<BlockNid, StorageError> {
        self.take_blocks(1).await.map(only)
    }

    /// A number for a state snapshot.
    pub async fn next_snapshot_nid(&self) -> Result<SnapshotNid, StorageError> {
        self.take_snapshots(1).await.map(only)
    }
}

fn as_strs(names: &[impl AsRef<str>]) -> Vec<&str> {
    names.iter().map(AsRef::as_ref).collect()
}

fn only<T>(list: Vec<T>) -> T {
    list.into_iter().next().expect("one was asked for, and the answer has as many as were asked for")
}
