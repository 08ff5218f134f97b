//! What counting needs to know of an event whoever reads it: found out once for all of a room's readers.

use std::sync::Arc;

use myelin_actors::room::view::RoomView;
use myelin_core::{
    auth::PowerLevels,
    nid::{EventNid, types},
    push_rules::{FlatEvent, SenderPower},
    relations::{Relation, relation_of},
};
use myelin_storage::events::StoredEvent;
use quick_cache::{Weighter, sync::Cache};

/// How many events are remembered, and how long their JSON may be together. An event is counted by all who are
/// connected within moments.
const MAX_EVENTS: usize = 2_000;
const MAX_BYTES: u64 = 4 << 20;

/// An event as counting looks at it.
#[derive(Debug)]
pub(crate) struct Considered {
    pub(crate) flat: FlatEvent,
    pub(crate) relation: Option<Relation>,
    /// As of the first time that it was counted. `None`: the room has no create event here.
    pub(crate) sender_power: Option<SenderPower>,
    bytes: u64,
}

impl Considered {
    fn new(event: &StoredEvent, view: &RoomView) -> Self {
        let levels = |create| PowerLevels::new(create, view.essential(types::POWER_LEVELS));
        let levels = view.essential(types::CREATE).map(levels);
        Self {
            flat: FlatEvent::new(&event.pdu),
            relation: relation_of(&event.pdu),
            sender_power: levels.map(|levels| SenderPower::new(&levels, event.pdu.sender())),
            bytes: event.pdu.json().len() as u64,
        }
    }
}

#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<EventNid, Arc<Considered>> for ByLength {
    fn weight(&self, _: &EventNid, considered: &Arc<Considered>) -> u64 {
        considered.bytes.max(1)
    }
}

/// Events that were counted not long ago.
#[derive(Debug)]
pub struct ConsideredCache(Cache<EventNid, Arc<Considered>, ByLength>);

impl Default for ConsideredCache {
    fn default() -> Self {
        Self(Cache::with_weighter(MAX_EVENTS, MAX_BYTES, ByLength))
    }
}

impl ConsideredCache {
    /// The event, which stands in that room.
    pub(crate) fn of(&self, event: &StoredEvent, view: &RoomView) -> Arc<Considered> {
        if let Some(known) = self.0.get(&event.nid) {
            return known;
        }
        let considered = Arc::new(Considered::new(event, view));
        self.0.insert(event.nid, Arc::clone(&considered));
        considered
    }
}
