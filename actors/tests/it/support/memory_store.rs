//! A store in memory, with faults on demand: whole servers' rooms in one test, without a database.

mod holds;
mod write;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures::future::BoxFuture;
use myelin_actors::room::store::{EventsBy, FoundState, LoadedRoom, Named, Names, RoomStore, RoomsBy};
use myelin_core::{
    membership::Membership,
    nid::{BlockNid, EMPTY_STATE_KEY, EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid, types},
    position::Position,
    resolve::{AuthNode, Lookup},
    state::{block::Block, snapshot::SnapshotBlocks, tiers::Layers},
};
use myelin_storage::{
    commit::{Batch, CommitError, next_fence},
    error::StorageError,
    events::StoredEvent,
    members::MemberRow,
    rooms::RoomRow,
    transactions::TransactionRow,
};
use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, UserId};

use self::holds::Holds;
use super::auth_index::AuthIndex;

/// What the next commit does instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before anything is durable.
    LostBefore,
    /// The connection breaks after everything is durable.
    LostAfter,
    /// The database refuses, for good.
    Refused,
}

#[derive(Clone, Default)]
struct Inner {
    position: i64,
    next: i64,
    types: HashMap<String, TypeNid>,
    keys: HashMap<String, StateKeyNid>,
    rooms: HashMap<RoomNid, RoomRow>,
    members: HashMap<(RoomNid, UserNid), MemberRow>,
    events: HashMap<EventNid, StoredEvent>,
    ids: HashMap<OwnedEventId, EventNid>,
    blocks: HashMap<BlockNid, (RoomNid, Block)>,
    snapshots: HashMap<SnapshotNid, (RoomNid, SnapshotBlocks)>,
    transactions: Vec<(RoomNid, TransactionRow)>,
    waiting: HashMap<EventNid, OwnedEventId>,
    stripped: HashMap<(RoomNid, UserNid), String>,
    batches: HashMap<u128, Position>,
    faults: VecDeque<Fault>,
    commits: usize,
    reserved_events: usize,
    index: AuthIndex,
    looked_up: usize,
    loaded_events: usize,
    reads: usize,
    holds: Holds,
    damaged: HashSet<RoomNid>,
    is_away: bool,
    room_reads: usize,
    panics: bool,
}

/// The store. Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

fn unavailable() -> StorageError {
    StorageError::Unavailable("the connection is gone".into())
}

impl MemoryStore {
    /// The next commits fail like this, in this order.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().faults.extend(faults);
    }

    /// How many transactions were committed.
    pub fn commits(&self) -> usize {
        self.0.lock().commits
    }

    /// The next room that wants numbers panics.
    pub fn panic_next(&self) {
        self.0.lock().panics = true;
    }

    /// What is stored of this room alone cannot be read; or can be, again.
    pub fn damage(&self, room: RoomNid, is_damaged: bool) {
        let mut inner = self.0.lock();
        if is_damaged {
            inner.damaged.insert(room)
        } else {
            inner.damaged.remove(&room)
        };
    }

    /// Nothing can be read.
    pub fn go_away(&self) {
        self.0.lock().is_away = true;
    }

    /// How often rooms were asked for.
    pub fn room_reads(&self) -> usize {
        self.0.lock().room_reads
    }

    fn read_rooms(&self, which: RoomsBy<'_>, since_ms: u64) -> Result<Vec<LoadedRoom>, StorageError> {
        let mut inner = self.0.lock();
        inner.room_reads += 1;
        let inner = &*inner;
        let rows: Vec<&RoomRow> = match which {
            RoomsBy::Nids(nids) => nids.iter().filter_map(|nid| inner.rooms.get(nid)).collect(),
            RoomsBy::Id(id) => inner.rooms.values().filter(|row| row.room_id == id).collect(),
        };
        if inner.is_away {
            return Err(unavailable());
        }
        if rows.iter().any(|row| inner.damaged.contains(&row.nid)) {
            return Err(StorageError::Corrupt { table: "state_snapshots", row: "secret".to_owned() });
        }
        Ok(rows.into_iter().map(|row| inner.load(row, since_ms)).collect())
    }

    fn read_events(&self, which: EventsBy<'_>) -> Vec<StoredEvent> {
        let mut inner = self.0.lock();
        let events: Vec<StoredEvent> = match which {
            EventsBy::Nids(nids) => nids.iter().filter_map(|nid| inner.events.get(nid)).cloned().collect(),
            EventsBy::Redacting(ids) => {
                let waiting = inner.waiting.iter().filter(|(_, target)| ids.contains(target));
                waiting.map(|(nid, _)| inner.events[nid].clone()).collect()
            }
            EventsBy::FirstAt(room, anchor) => {
                let place = |event: &&StoredEvent| event.place.filter(|place| place.anchor == anchor);
                let here = inner.events.values().filter(|event| event.room == room);
                here.filter(|event| place(event).is_some()).min_by_key(place).into_iter().cloned().collect()
            }
            EventsBy::Ids(ids) => {
                let nids = ids.iter().filter_map(|id| inner.ids.get(id));
                nids.map(|nid| inner.events[nid].clone()).collect()
            }
        };
        inner.loaded_events += events.len();
        inner.reads += 1;
        events
    }

    /// How many event NIDs were reserved: how many events rooms have begun to decide about.
    pub fn reserved_events(&self) -> usize {
        self.0.lock().reserved_events
    }

    /// Another store with the same content, as another server that knows the same would have; but for who is local.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// How many events were loaded, and how many rows of the index of auth events.
    pub fn loaded(&self) -> (usize, usize) {
        let inner = self.0.lock();
        (inner.loaded_events, inner.looked_up)
    }

    /// How often events were asked for.
    pub fn reads(&self) -> usize {
        self.0.lock().reads
    }

    /// Changes the fence behind the room's back, as another process would.
    pub fn disturb(&self, room: RoomNid) {
        if let Some(row) = self.0.lock().rooms.get_mut(&room) {
            row.fence = next_fence(row.fence, rand::random());
        }
    }

    /// The room's number.
    pub fn room(&self, room_id: &RoomId) -> Option<RoomNid> {
        self.0.lock().rooms.values().find(|row| row.room_id == room_id).map(|row| row.nid)
    }

    /// The event as it is stored.
    pub fn event(&self, id: &EventId) -> Option<StoredEvent> {
        let inner = self.0.lock();
        inner.ids.get(id).map(|nid| inner.events[nid].clone())
    }

    /// What the user is in the room, as the index of members says.
    pub fn membership(&self, room: RoomNid, user: &UserId) -> Option<Membership> {
        let inner = self.0.lock();
        let user = *inner.keys.get(user.as_str())?;
        inner.members.get(&(room, UserNid::from_state_key(user))).map(|member| member.membership)
    }

    /// What the user was told of the room from outside.
    pub fn stripped(&self, room: RoomNid, user: &UserId) -> Option<String> {
        let inner = self.0.lock();
        let user = UserNid::from_state_key(*inner.keys.get(user.as_str())?);
        inner.stripped.get(&(room, user)).cloned()
    }

    /// The ids of the room's timeline, in order.
    pub fn timeline(&self, room: RoomNid) -> Vec<OwnedEventId> {
        let inner = self.0.lock();
        let mut events: Vec<&StoredEvent> =
            inner.events.values().filter(|event| event.room == room && event.place.is_some()).collect();
        events.sort_by_key(|event| event.place);
        events.iter().map(|event| event.pdu.event_id().to_owned()).collect()
    }
}

impl Inner {
    fn take(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn layers(&self, snapshot: SnapshotNid) -> Layers {
        let list = &self.snapshots[&snapshot].1;
        Layers::from_stored(list, |nid| self.blocks.get(&nid).map(|(_, block)| block.clone())).unwrap()
    }

    fn load(&self, row: &RoomRow, since_ms: u64) -> LoadedRoom {
        let layers = row.snapshot.map(|snapshot| self.layers(snapshot)).unwrap_or_default();
        let state = layers.to_map();
        let wanted: HashSet<EventNid> = row
            .extremities
            .iter()
            .copied()
            .chain(
                types::WELL_KNOWN_TYPES
                    .iter()
                    .filter_map(|(kind, _)| state.get(&(*kind, EMPTY_STATE_KEY)).copied()),
            )
            .collect();
        let mut recent: Vec<StoredEvent> = self
            .events
            .values()
            .filter(|event| event.room == row.nid && event.place.is_some())
            .cloned()
            .collect();
        recent.sort_by_key(|event| event.place);
        let keep = recent.len().saturating_sub(myelin_actors::room::view::RECENT);
        LoadedRoom {
            row: RoomRow { has_waiting: self.has_waiting(row.nid), ..row.clone() },
            members: self.members.values().filter(|member| member.room == row.nid).cloned().collect(),
            servers: self.other_servers(row.nid),
            layers,
            events: wanted.iter().map(|nid| self.events[nid].clone()).collect(),
            recent: recent.split_off(keep),
            transactions: self
                .transactions
                .iter()
                .filter(|(room, txn)| *room == row.nid && txn.created_ms >= since_ms)
                .map(|(_, txn)| txn.clone())
                .collect(),
        }
    }

    fn has_waiting(&self, room: RoomNid) -> bool {
        self.waiting.keys().any(|redaction| self.events[redaction].room == room)
    }

    fn other_servers(&self, room: RoomNid) -> Vec<(OwnedServerName, usize)> {
        let names: HashMap<StateKeyNid, &str> =
            self.keys.iter().map(|(name, nid)| (*nid, name.as_str())).collect();
        let mut servers: HashMap<OwnedServerName, usize> = HashMap::new();
        for member in self.members.values() {
            if member.room == room && !member.is_local && member.membership == Membership::Join {
                let user: &UserId = names[&member.user.into()].try_into().unwrap();
                *servers.entry(user.server_name().to_owned()).or_default() += 1;
            }
        }
        servers.into_iter().collect()
    }
}

impl RoomStore for MemoryStore {
    fn load_rooms<'a>(
        &'a self,
        which: RoomsBy<'a>,
        since_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<LoadedRoom>, StorageError>> {
        Box::pin(async move {
            let rooms = self.read_rooms(which, since_ms);
            self.return_read().await;
            rooms
        })
    }

    fn load_events<'a>(
        &'a self,
        which: EventsBy<'a>,
    ) -> BoxFuture<'a, Result<Vec<StoredEvent>, StorageError>> {
        Box::pin(async move {
            let events = self.read_events(which);
            self.return_read().await;
            Ok(events)
        })
    }

    fn load_layers<'a>(
        &'a self,
        snapshots: &'a [SnapshotNid],
    ) -> BoxFuture<'a, Result<HashMap<SnapshotNid, Layers>, StorageError>> {
        Box::pin(async move {
            let inner = self.0.lock();
            Ok(snapshots
                .iter()
                .filter(|nid| inner.snapshots.contains_key(nid))
                .map(|nid| (*nid, inner.layers(*nid)))
                .collect())
        })
    }

    fn find_by_hash<'a>(
        &'a self,
        blocks: &'a [[u8; 32]],
        snapshots: &'a [[u8; 32]],
    ) -> BoxFuture<'a, Result<FoundState, StorageError>> {
        Box::pin(async move {
            let inner = self.0.lock();
            Ok(FoundState {
                blocks: inner
                    .blocks
                    .iter()
                    .map(|(nid, (room, block))| (block.hash(*room), *nid))
                    .filter(|(hash, _)| blocks.contains(hash))
                    .collect(),
                snapshots: inner
                    .snapshots
                    .iter()
                    .map(|(nid, (room, blocks))| (blocks.hash(*room), *nid))
                    .filter(|(hash, _)| snapshots.contains(hash))
                    .collect(),
            })
        })
    }

    fn look<'a>(
        &'a self,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Vec<(EventNid, AuthNode)>, StorageError>> {
        Box::pin(async move {
            let mut inner = self.0.lock();
            let rows = inner.index.look(lookup);
            inner.looked_up += rows.len();
            Ok(rows)
        })
    }

    fn name(&self, names: Names) -> BoxFuture<'_, Result<Named, StorageError>> {
        Box::pin(async move {
            self.wait_to_name(&names).await;
            let mut inner = self.0.lock();
            let mut given = Named::default();
            assert!(!std::mem::take(&mut inner.panics), "a panic was asked for");
            for name in names.types {
                let nid =
                    types::WELL_KNOWN_TYPES.iter().find(|(_, known)| *known == name).map(|(nid, _)| *nid);
                let next = TypeNid::new(1000 + i32::try_from(inner.types.len()).unwrap()).unwrap();
                given.types.push(nid.unwrap_or_else(|| *inner.types.entry(name).or_insert(next)));
            }
            for key in names.keys {
                let next = StateKeyNid::new(2 + i32::try_from(inner.keys.len()).unwrap()).unwrap();
                let nid =
                    if key.is_empty() { EMPTY_STATE_KEY } else { *inner.keys.entry(key).or_insert(next) };
                given.keys.push(nid);
            }
            inner.reserved_events += names.events;
            given.rooms = (0..names.rooms).map(|_| RoomNid::new(inner.take()).unwrap()).collect();
            given.events = (0..names.events).map(|_| EventNid::new(inner.take()).unwrap()).collect();
            given.blocks = (0..names.blocks).map(|_| BlockNid::new(inner.take()).unwrap()).collect();
            given.snapshots = (0..names.snapshots).map(|_| SnapshotNid::new(inner.take()).unwrap()).collect();
            Ok(given)
        })
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Vec<Position>>, CommitError>> {
        Box::pin(async move {
            self.wait_to_commit().await;
            let mut inner = self.0.lock();
            match inner.faults.pop_front() {
                Some(Fault::LostBefore) => return Err(CommitError::Storage(unavailable())),
                Some(Fault::Refused) => {
                    return Err(CommitError::Storage(StorageError::Conflict(
                        "events_event_id_key".to_owned(),
                    )));
                }
                Some(Fault::LostAfter) => {
                    inner.check(batch)?;
                    inner.apply(batch);
                    return Err(CommitError::Storage(unavailable()));
                }
                None => {}
            }
            inner.check(batch)?;
            Ok(inner.apply(batch))
        })
    }

    fn find_batch(&self, id: u128) -> BoxFuture<'_, Result<Option<Position>, StorageError>> {
        Box::pin(async move { Ok(self.0.lock().batches.get(&id).copied()) })
    }
}
