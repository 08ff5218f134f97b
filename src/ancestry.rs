//! Walks back through a room's graph: from events to those that they follow, the deepest first.
//!
//! For other servers, which ask along the graph; clients ask along the timeline ([`pages`](crate::pages)). The walk
//! reads whole stretches of the timeline, since most parents stand right before their children. What is not stored
//! here, was rejected, or is of another room ends it.

use std::{
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use myelin_core::{admit::AdmissionCode, nid::RoomNid, position::TimelinePlace};
use myelin_storage::{
    events::{self, StoredEvent},
    timeline::{self, Direction},
};
use ruma::{EventId, OwnedEventId};

use crate::{app::App, error::MatrixError};

/// How often storage is asked at most, where parents are far from their children. Whoever asks gets fewer events then
/// and can go on from there.
const MAX_ROUNDS: usize = 20;

/// Where to walk.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    /// The room.
    pub room: RoomNid,
    /// Where to begin: these events are the first that are found.
    pub from: &'a [OwnedEventId],
    /// Where to stop: neither these events are found nor, by way of them, what they follow.
    pub stop: &'a [OwnedEventId],
    /// Events less deep are not found.
    pub min_depth: i64,
    /// At most so many.
    pub limit: usize,
}

/// The events on the walk, the deepest first.
pub async fn walk(app: &App, walk: &Walk<'_>) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    let mut known: HashMap<OwnedEventId, Arc<StoredEvent>> = HashMap::new();
    let mut seen: HashSet<OwnedEventId> = walk.stop.iter().cloned().collect();
    let mut found = Vec::new();
    let mut next = BinaryHeap::new();
    let mut wanted: Vec<OwnedEventId> = walk.from.to_vec();
    let mut before = None;
    let mut rounds = 0;
    while found.len() < walk.limit {
        wanted.retain(|id| seen.insert(id.clone()));
        if wanted.iter().any(|id| !known.contains_key(id)) {
            rounds += 1;
            if rounds > MAX_ROUNDS {
                break;
            }
            load(app, walk, &wanted, before, &mut known).await?;
        }
        let here = wanted.drain(..).filter_map(|id| known.get(&id).cloned());
        next.extend(here.filter(|event| is_found(walk, event)).map(Deepest));
        let Some(Deepest(event)) = next.pop() else { break };
        before = event.place.or(before);
        wanted.extend(event.pdu.prev_events().iter().cloned());
        found.push(event);
    }
    Ok(found)
}

fn is_found(walk: &Walk<'_>, event: &StoredEvent) -> bool {
    event.room == walk.room
        && matches!(event.admission, AdmissionCode::Accepted | AdmissionCode::SoftFailed)
        && event.pdu.depth() >= walk.min_depth
}

/// Loads these events, and the stretch of the timeline before a place, where their ancestors are likely to be.
async fn load(
    app: &App,
    walk: &Walk<'_>,
    wanted: &[OwnedEventId],
    before: Option<TimelinePlace>,
    known: &mut HashMap<OwnedEventId, Arc<StoredEvent>>,
) -> Result<(), MatrixError> {
    let client = app.storage.get().await?;
    if let Some(place) = before {
        let page = timeline::page(&client, walk.room, Some(place), Direction::Backward, None, walk.limit + 1)
            .await?;
        known.extend(page.into_iter().map(by_id));
    }
    let missing: Vec<&EventId> =
        wanted.iter().filter(|id| !known.contains_key(*id)).map(AsRef::as_ref).collect();
    if !missing.is_empty() {
        known.extend(events::find_events_by_id(&client, &missing).await?.into_iter().map(by_id));
    }
    Ok(())
}

fn by_id(event: StoredEvent) -> (OwnedEventId, Arc<StoredEvent>) {
    (event.pdu.event_id().to_owned(), Arc::new(event))
}

/// An event in the order of the walk: by depth, and among equals by its number here, so that the order is total.
struct Deepest(Arc<StoredEvent>);

impl Deepest {
    fn key(&self) -> (i64, i64) {
        (self.0.pdu.depth(), self.0.nid.get())
    }
}

impl PartialEq for Deepest {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Deepest {}

impl PartialOrd for Deepest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deepest {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
