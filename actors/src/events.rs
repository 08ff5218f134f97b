//! Committed events by number, cached for everyone who reads.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use myelin_core::nid::EventNid;
use myelin_storage::{error::StorageError, events::StoredEvent};
use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId};

use crate::room::store::{EventsBy, RoomStore};

/// Committed events, by `Arc`: an event is read from storage and serialised for clients once while it is in use.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    store: Arc<dyn RoomStore>,
    by_nid: Cache<EventNid, Arc<StoredEvent>>,
    nids: Cache<OwnedEventId, EventNid>,
}

impl Events {
    /// A cache of at most `capacity` events over the store.
    pub fn new(store: Arc<dyn RoomStore>, capacity: usize) -> Self {
        Self(Arc::new(Inner { store, by_nid: Cache::new(capacity), nids: Cache::new(capacity) }))
    }

    /// The event, if it is in memory.
    pub fn cached(&self, nid: EventNid) -> Option<Arc<StoredEvent>> {
        self.0.by_nid.get(&nid)
    }

    /// The events in the order asked for; unknown ones are left out. At most one query.
    pub async fn load(&self, nids: &[EventNid]) -> Result<Vec<Arc<StoredEvent>>, StorageError> {
        let missing: Vec<EventNid> =
            nids.iter().copied().filter(|nid| self.0.by_nid.peek(nid).is_none()).collect();
        let mut loaded: HashMap<EventNid, Arc<StoredEvent>> = HashMap::new();
        if !missing.is_empty() {
            for event in self.0.store.load_events(EventsBy::Nids(&missing)).await? {
                let event = self.remember(event);
                loaded.insert(event.nid, event);
            }
        }
        Ok(nids
            .iter()
            .filter_map(|nid| loaded.get(nid).cloned().or_else(|| self.0.by_nid.get(nid)))
            .collect())
    }

    /// The event with this id, whatever became of it; `None`: not stored here.
    pub async fn by_id(&self, id: &EventId) -> Result<Option<Arc<StoredEvent>>, StorageError> {
        Ok(self.by_ids([id.to_owned()]).await?.into_values().next())
    }

    /// The event with this id, if it is in memory.
    pub(crate) fn cached_by_id(&self, id: &EventId) -> Option<Arc<StoredEvent>> {
        self.0.nids.get(id).and_then(|nid| self.0.by_nid.get(&nid))
    }

    /// Those of the events that are stored here, whatever became of them. At most one query.
    pub(crate) async fn by_ids(
        &self,
        ids: impl IntoIterator<Item = OwnedEventId>,
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, StorageError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for id in ids {
            match self.cached_by_id(&id) {
                Some(event) => drop(found.insert(id, event)),
                None => missing.push(id),
            }
        }
        if !missing.is_empty() {
            for event in self.0.store.load_events(EventsBy::Ids(&missing)).await? {
                let event = self.remember(event);
                found.insert(event.pdu.event_id().to_owned(), event);
            }
        }
        Ok(found)
    }

    /// Remembers an event as it was read. Meanwhile it may have been written, which is newer.
    fn remember(&self, event: StoredEvent) -> Arc<StoredEvent> {
        let event = Arc::new(event);
        self.0.nids.insert(event.pdu.event_id().to_owned(), event.nid);
        let read = || Ok::<_, Infallible>(Arc::clone(&event));
        match self.0.by_nid.get_or_insert_with(&event.nid, read) {
            Ok(event) => event,
            Err(never) => match never {},
        }
    }

    /// Remembers an event as it is now stored, in place of an older form of it.
    pub(crate) fn insert(&self, event: &Arc<StoredEvent>) {
        self.0.nids.insert(event.pdu.event_id().to_owned(), event.nid);
        self.0.by_nid.insert(event.nid, Arc::clone(event));
    }

    /// Forgets an event whose stored form has changed.
    pub(crate) fn forget(&self, nid: EventNid) {
        self.0.by_nid.remove(&nid);
    }
}
