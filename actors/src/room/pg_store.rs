//! The store of rooms in Postgres.

use std::{collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use myelin_core::{
    nid::{EMPTY_STATE_KEY, EventNid, RoomNid, SnapshotNid},
    position::Position,
    resolve::{AuthNode, Lookup},
    state::tiers::Layers,
};
use myelin_storage::{
    Storage, auth_chains,
    commit::{self, Batch, CommitError},
    error::StorageError,
    events::{self, StoredEvent},
    members,
    nids::Nids,
    rooms, state, timeline, transactions,
};

use ruma::{EventId, OwnedEventId};

use super::{
    store::{EventsBy, FoundState, LoadedRoom, Named, Names, RoomStore, RoomsBy},
    view::{ESSENTIAL, RECENT},
};

/// Rooms in Postgres.
#[derive(Clone)]
pub struct PgStore {
    storage: Storage,
    /// What commits go through: the journal makes one at a time.
    commits: Storage,
    nids: Arc<Nids>,
}

impl PgStore {
    /// The store behind these connections: those that everybody uses, and the journal's own.
    pub fn new(storage: Storage, commits: Storage, nids: Arc<Nids>) -> Self {
        Self { storage, commits, nids }
    }
}

fn refs(ids: &[OwnedEventId]) -> Vec<&EventId> {
    ids.iter().map(AsRef::as_ref).collect()
}

impl RoomStore for PgStore {
    fn load_rooms<'a>(
        &'a self,
        which: RoomsBy<'a>,
        since_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<LoadedRoom>, StorageError>> {
        Box::pin(async move {
            let db = self.storage.get().await?;
            let rows = match which {
                RoomsBy::Nids(nids) => rooms::load_rooms(&db, nids).await?,
                RoomsBy::Id(id) => {
                    let nids: Vec<RoomNid> = rooms::find_nids(&db, &[id]).await?.into_values().collect();
                    rooms::load_rooms(&db, &nids).await?
                }
            };
            let nids: Vec<RoomNid> = rows.iter().map(|row| row.nid).collect();
            if nids.is_empty() {
                return Ok(Vec::new());
            }
            let snapshots: Vec<SnapshotNid> = rows.iter().filter_map(|row| row.snapshot).collect();
            let ranges: Vec<_> =
                rows.iter().map(|row| (row.nid, Position::START, Position(i64::MAX))).collect();
            let (mut layers, members, mut servers, mut recent, transactions) = futures::try_join!(
                state::load_snapshots(&db, &snapshots),
                members::list(&db, &nids),
                members::other_servers(&db, &nids),
                timeline::latest_for_rooms(&db, &ranges, RECENT),
                transactions::recent(&db, &nids, since_ms),
            )?;
            let mut wanted: Vec<EventNid> = rows.iter().flat_map(|row| row.extremities.clone()).collect();
            for layers in layers.values() {
                wanted.extend(ESSENTIAL.iter().filter_map(|kind| layers.get((*kind, EMPTY_STATE_KEY))));
            }
            let loaded = events::load_events(&db, &wanted).await?;
            let mut by_room: HashMap<RoomNid, LoadedRoom> = rows
                .into_iter()
                .map(|row| {
                    let room = LoadedRoom {
                        layers: row.snapshot.and_then(|nid| layers.remove(&nid)).unwrap_or_default(),
                        recent: recent.remove(&row.nid).unwrap_or_default(),
                        members: Vec::new(),
                        servers: servers.remove(&row.nid).unwrap_or_default(),
                        events: Vec::new(),
                        transactions: Vec::new(),
                        row,
                    };
                    (room.row.nid, room)
                })
                .collect();
            for member in members {
                if let Some(room) = by_room.get_mut(&member.room) {
                    room.members.push(member);
                }
            }
            for event in loaded {
                if let Some(room) = by_room.get_mut(&event.room) {
                    room.events.push(event);
                }
            }
            for (room, transaction) in transactions {
                if let Some(room) = by_room.get_mut(&room) {
                    room.transactions.push(transaction);
                }
            }
            Ok(by_room.into_values().collect())
        })
    }

    fn load_events<'a>(
        &'a self,
        which: EventsBy<'a>,
    ) -> BoxFuture<'a, Result<Vec<StoredEvent>, StorageError>> {
        Box::pin(async move {
            let db = self.storage.get().await?;
            match which {
                EventsBy::Nids(nids) => events::load_events(&db, nids).await,
                EventsBy::Ids(ids) => events::find_events_by_id(&db, &refs(ids)).await,
                EventsBy::Redacting(ids) => events::find_waiting_redactions(&db, &refs(ids)).await,
                EventsBy::FirstAt(room, anchor) => {
                    Ok(timeline::first_at(&db, room, anchor).await?.into_iter().collect())
                }
            }
        })
    }

    fn load_layers<'a>(
        &'a self,
        snapshots: &'a [SnapshotNid],
    ) -> BoxFuture<'a, Result<HashMap<SnapshotNid, Layers>, StorageError>> {
        Box::pin(async move { state::load_snapshots(&self.storage.get().await?, snapshots).await })
    }

    fn find_by_hash<'a>(
        &'a self,
        blocks: &'a [[u8; 32]],
        snapshots: &'a [[u8; 32]],
    ) -> BoxFuture<'a, Result<FoundState, StorageError>> {
        Box::pin(async move {
            let db = self.storage.get().await?;
            let mut found = FoundState::default();
            if !blocks.is_empty() {
                found.blocks = state::find_blocks_by_hash(&db, blocks).await?;
            }
            if !snapshots.is_empty() {
                found.snapshots = state::find_snapshots_by_hash(&db, snapshots).await?;
            }
            Ok(found)
        })
    }

    fn look<'a>(
        &'a self,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Vec<(EventNid, AuthNode)>, StorageError>> {
        Box::pin(async move { auth_chains::look(&self.storage.get().await?, lookup).await })
    }

    fn name(&self, names: Names) -> BoxFuture<'_, Result<Named, StorageError>> {
        Box::pin(async move {
            let types: Vec<&str> = names.types.iter().map(String::as_str).collect();
            let keys: Vec<&str> = names.keys.iter().map(String::as_str).collect();
            Ok(Named {
                types: self.nids.intern_types(&types).await?,
                keys: self.nids.intern_state_keys(&keys).await?,
                rooms: self.nids.take_rooms(names.rooms).await?,
                events: self.nids.take_events(names.events).await?,
                blocks: self.nids.take_blocks(names.blocks).await?,
                snapshots: self.nids.take_snapshots(names.snapshots).await?,
            })
        })
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Vec<Position>>, CommitError>> {
        Box::pin(async move {
            let mut db = self.commits.get().await.map_err(CommitError::Storage)?;
            commit::commit(&mut db, batch).await
        })
    }

    fn find_batch(&self, id: u128) -> BoxFuture<'_, Result<Option<Position>, StorageError>> {
        Box::pin(async move { commit::find_batch(&self.storage.get().await?, id).await })
    }
}
