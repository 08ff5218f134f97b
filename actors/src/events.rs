//! Committed events by number, cached for everyone who reads.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use myelin_core::nid::EventNid;
use myelin_storage::{error::StorageError, events::StoredEvent};
use parking_lot::RwLock;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use ruma::{EventId, OwnedEventId};
use tracing::error;

use crate::room::store::{EventsBy, RoomStore};

/// How long an event's JSON usually is, roughly: so many events are expected.
const USUAL_LENGTH: u64 = 1024;
/// The parts of the cache that are locked by themselves. Each has its share of the bytes, which several of the largest
/// events have to fit into.
const SHARDS: usize = 16;

/// Committed events, by `Arc`: an event is read from storage and serialised for clients once while it is in use.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    store: Arc<dyn RoomStore>,
    by_nid: Cache<EventNid, Arc<StoredEvent>, ByLength>,
    nids: Cache<OwnedEventId, EventNid>,
    /// How often the stored form of an event has changed. Held while an event is put into the cache or taken out of it,
    /// so that nothing changes between the look at it and what follows from that.
    changes: RwLock<u64>,
}

/// An event weighs what it has of JSON: its own, and that of the events that it is shown with.
#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<EventNid, Arc<StoredEvent>> for ByLength {
    fn weight(&self, _: &EventNid, event: &Arc<StoredEvent>) -> u64 {
        let replaced = event.prev_content.as_ref().map_or(0, |replaced| replaced.content.get().len());
        let redaction = event.redacted_because.as_ref().map_or(0, |redaction| redaction.json().len());
        (event.pdu.json().len() + replaced + redaction) as u64
    }
}

/// When something was read: before it was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(u64);

impl Events {
    /// A cache over the store, of events whose JSON is at most so many bytes long together.
    pub fn new(store: Arc<dyn RoomStore>, bytes: u64) -> Self {
        let events = usize::try_from(bytes / USUAL_LENGTH).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(events)
            .weight_capacity(bytes)
            .shards(SHARDS)
            .build()
            .expect("all that is needed is given");
        let (hashes, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let by_nid = Cache::with_options(options, ByLength, hashes, lifecycle);
        let nids = Cache::new(events);
        Self(Arc::new(Inner { store, by_nid, nids, changes: RwLock::new(0) }))
    }

    /// The event, if it is in memory.
    pub fn cached(&self, nid: EventNid) -> Option<Arc<StoredEvent>> {
        self.0.by_nid.get(&nid)
    }

    /// The events in the order asked for; unknown ones are left out. At most one query.
    pub async fn load(&self, nids: &[EventNid]) -> Result<Vec<Arc<StoredEvent>>, StorageError> {
        // Held from here on: what is in the cache may have left it when the others have been read.
        let mut found: HashMap<EventNid, Arc<StoredEvent>> =
            nids.iter().filter_map(|nid| Some((*nid, self.cached(*nid)?))).collect();
        let missing: Vec<EventNid> = nids.iter().copied().filter(|nid| !found.contains_key(nid)).collect();
        if !missing.is_empty() {
            let read = self.read(EventsBy::Nids(&missing)).await?;
            found.extend(read.into_iter().map(|event| (event.nid, event)));
        }
        Ok(nids.iter().filter_map(|nid| found.get(nid).cloned()).collect())
    }

    /// The same for those who can do without some: events that cannot be read are left out, too, which is logged.
    pub async fn load_readable(&self, nids: &[EventNid]) -> Result<Vec<Arc<StoredEvent>>, StorageError> {
        match self.load(nids).await {
            Err(error) if error.is_corruption() => {}
            loaded => return loaded,
        }
        let mut readable = Vec::with_capacity(nids.len());
        for nid in nids {
            match self.load(&[*nid]).await {
                Ok(event) => readable.extend(event),
                Err(error) if error.is_corruption() => {
                    error!(event.nid = %nid, "an event cannot be read and is left out: see `myelin fsck`");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(readable)
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
            let read = self.read(EventsBy::Ids(&missing)).await?;
            found.extend(read.into_iter().map(|event| (event.pdu.event_id().to_owned(), event)));
        }
        Ok(found)
    }

    async fn read(&self, which: EventsBy<'_>) -> Result<Vec<Arc<StoredEvent>>, StorageError> {
        let moment = self.moment();
        let read = self.0.store.load_events(which).await?;
        Ok(read.into_iter().map(|event| self.remember(Arc::new(event), moment)).collect())
    }

    /// Now, for what is about to be read.
    pub(crate) fn moment(&self) -> Moment {
        Moment(*self.0.changes.read())
    }

    /// The event as it was read at that moment, or where it has been written since, as it was written. Remembered unless
    /// any event has changed since: this one may have, and then nobody would ever correct it.
    pub(crate) fn remember(&self, event: Arc<StoredEvent>, read: Moment) -> Arc<StoredEvent> {
        let changes = self.0.changes.read();
        if *changes != read.0 {
            return self.cached(event.nid).unwrap_or(event);
        }
        self.0.nids.insert(event.pdu.event_id().to_owned(), event.nid);
        match self.0.by_nid.get_or_insert_with(&event.nid, || Ok::<_, Infallible>(Arc::clone(&event))) {
            Ok(event) => event,
            Err(never) => match never {},
        }
    }

    /// Remembers an event as it is now stored.
    pub(crate) fn insert(&self, event: &Arc<StoredEvent>) {
        self.0.nids.insert(event.pdu.event_id().to_owned(), event.nid);
        self.0.by_nid.insert(event.nid, Arc::clone(event));
    }

    /// Forgets an event that was redacted, and those that are shown with what it said: the one that took its place in the
    /// state, and the one that it redacted.
    pub(crate) fn forget_redacted(&self, event: &StoredEvent) {
        self.forget(event.nid);
        // Looking at all of them is for what is rarely redacted.
        if event.state_key.is_some() || event.pdu.event_type() == "m.room.redaction" {
            let mut changes = self.0.changes.write();
            *changes += 1;
            self.0.by_nid.retain(|_, other| !shows(other, event.nid));
        }
    }

    /// Forgets an event whose stored form has changed, also for those who have read it and not remembered it yet.
    pub(crate) fn forget(&self, nid: EventNid) {
        let mut changes = self.0.changes.write();
        *changes += 1;
        self.0.by_nid.remove(&nid);
    }
}

fn shows(event: &StoredEvent, other: EventNid) -> bool {
    event.replaces == Some(other) || event.redacted_by == Some(other)
}
