//! History that other servers have: from before this server came into a room, or from while it was away.
//!
//! Where history is missing is not written down, it shows: an event of the timeline whose parents are not here. When a
//! reader comes to such an event, what comes before it is fetched from the servers in the room, some events at a time,
//! and put right before it. That changes no current state and wakes nobody.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use myelin_core::{
    nid::{RoomNid, types},
    pdu::Pdu,
    position::TimelinePlace,
};
use myelin_storage::{
    events::StoredEvent,
    timeline::{self, Direction},
};
use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName};
use tracing::debug;

use super::{
    Inbound,
    fetch::Asking,
    gap::{Failure, Gap},
    order,
};
use crate::room::{error::RoomError, messages::Received, view::RoomView};

/// How many events are fetched at a time.
const PAGE: u32 = 100;
/// At how many events of a page the state may have to be fetched.
const MAX_EDGES: usize = 10;
/// How long a reader waits for a page.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many pages are fetched to reach an event that somebody wants to see.
const PAGES_TO_REACH: usize = 10;
/// How long a reader waits for that.
const LONGEST_REACH: Duration = Duration::from_secs(30);
/// How long nobody is asked again for what comes before an event, when it could not be had.
const PAUSE_MS: u64 = 2 * 60 * 1000;
/// How many such events are remembered.
const REMEMBERED: usize = 10_000;

/// Until when nobody is asked for what belongs to these events.
type Failed = Mutex<HashMap<OwnedEventId, u64>>;

impl Inbound {
    /// Looks whether history is missing before one of these events of the room's timeline, and fetches some of it: how
    /// many events were put there. `0` also when it cannot be had now. At most one query where nothing is missing.
    pub async fn backfill(&self, view: &RoomView, events: &[Arc<StoredEvent>]) -> Result<usize, RoomError> {
        if !self.has_others(view) {
            return Ok(0);
        }
        let Some(after) = self.find_gap(view.nid, events).await? else { return Ok(0) };
        let _turn = self.0.backfilling.take(view.room_id.as_str()).await;
        // Somebody else may have fetched it in the meantime.
        if self.find_gap(view.nid, std::slice::from_ref(&after)).await?.is_none() {
            return Ok(1);
        }
        let placed = match tokio::time::timeout(PATIENCE, self.fetch_before(view, &after)).await {
            Ok(Ok(placed)) => placed,
            Ok(Err(Failure::Room(error))) => {
                self.remember_failure(after.pdu.event_id());
                return Err(error);
            }
            Ok(Err(Failure::Unreachable(why) | Failure::Useless(why))) => {
                debug!(room.id = %view.room_id, why, "history cannot be had");
                0
            }
            Err(_elapsed) => 0,
        };
        if placed == 0 {
            self.remember_failure(after.pdu.event_id());
        }
        Ok(placed)
    }

    /// Fetches history from before what is here until this event is among it, if another server in the room has it and
    /// it is not too far back. Whether it is here then.
    pub async fn reach(&self, view: &RoomView, event_id: &EventId) -> Result<bool, RoomError> {
        if !self.has_others(view) || self.is_remembered(&self.0.out_of_reach, event_id) {
            return Ok(false);
        }
        let reached = tokio::time::timeout(LONGEST_REACH, self.try_to_reach(view, event_id)).await;
        let reached = reached.unwrap_or(Ok(false));
        if !matches!(reached, Ok(true)) {
            self.remember(&self.0.out_of_reach, event_id);
        }
        reached
    }

    async fn try_to_reach(&self, view: &RoomView, event_id: &EventId) -> Result<bool, RoomError> {
        // Only for what exists, so that made-up ids cost one question.
        if self.gap(view, Vec::new()).asking.events(&[event_id.to_owned()]).await.is_empty() {
            return Ok(false);
        }
        for _ in 0..PAGES_TO_REACH {
            if !self.0.placed(view.nid, vec![event_id.to_owned()]).await?.is_empty() {
                return Ok(true);
            }
            let first = {
                let client = self.0.storage.get().await?;
                timeline::page(&client, view.nid, None, Direction::Forward, None, 1).await?
            };
            let first: Vec<_> = first.into_iter().map(Arc::new).collect();
            if self.backfill(view, &first).await? == 0 {
                break;
            }
        }
        Ok(!self.0.placed(view.nid, vec![event_id.to_owned()]).await?.is_empty())
    }

    /// Other servers are in the room, and this one is.
    fn has_others(&self, view: &RoomView) -> bool {
        view.servers.len() > 1 && view.servers.contains_key(&self.0.server_name)
    }

    fn gap<'a>(&'a self, view: &'a RoomView, first: Vec<OwnedServerName>) -> Gap<'a> {
        let creator = view.essential(types::CREATE).map(|create| create.sender().server_name().to_owned());
        let first =
            first.into_iter().chain(creator).filter(|server| view.servers.contains_key(server)).collect();
        let asking = Asking::new(&self.0, &view.room_id, view, first);
        // What is history already is not asked about.
        Gap { inner: &self.0, asking, is_patient: false }
    }

    /// The newest of the events whose parents are not all here, unless it was asked for in vain a moment ago.
    async fn find_gap(
        &self,
        room: RoomNid,
        events: &[Arc<StoredEvent>],
    ) -> Result<Option<Arc<StoredEvent>>, RoomError> {
        let here: HashSet<&EventId> = events.iter().map(|event| event.pdu.event_id()).collect();
        let outside: HashSet<OwnedEventId> = events
            .iter()
            .flat_map(|event| event.pdu.prev_events())
            .filter(|id| !here.contains(&***id))
            .cloned()
            .collect();
        if outside.is_empty() {
            return Ok(None);
        }
        let placed = self.0.placed(room, outside.into_iter().collect()).await?;
        let is_here = |id: &OwnedEventId| here.contains(&**id) || placed.contains(id);
        let gaps = events.iter().filter(|event| !event.pdu.prev_events().iter().all(is_here));
        let newest =
            gaps.filter(|event| !self.has_failed(event.pdu.event_id())).max_by_key(|event| event.place);
        Ok(newest.cloned())
    }

    async fn fetch_before(&self, view: &RoomView, after: &StoredEvent) -> Result<usize, Failure> {
        let Some(place) = after.place else { return Ok(0) };
        let gap = self.gap(view, vec![after.pdu.sender().server_name().to_owned()]);
        let from = [after.pdu.event_id().to_owned()];
        let servers: Vec<OwnedServerName> = gap.asking.servers().map(ServerName::to_owned).collect();
        for server in servers {
            let found = gap.asking.backfill(&server, &from, PAGE).await;
            let ids = found.iter().map(|pdu| pdu.event_id().to_owned()).collect();
            let placed = self.0.placed(view.nid, ids).await?;
            let new = found.into_iter().filter(|pdu| !placed.contains(pdu.event_id())).collect();
            // Not those beyond what is here: their place is before another event.
            let new: Vec<Pdu> = order::ancestors(&after.pdu, new);
            if new.is_empty() {
                continue;
            }
            match gap.place_history(new, place).await {
                Ok(0) => {}
                Err(Failure::Room(error)) => return Err(Failure::Room(error)),
                Ok(placed) => return Ok(placed),
                Err(error) => debug!(?error, server.name = %server, "a page of history cannot be used"),
            }
        }
        Err(gap.failure("nobody has what comes before the event"))
    }

    fn has_failed(&self, event: &EventId) -> bool {
        self.is_remembered(&self.0.no_history, event)
    }

    fn remember_failure(&self, event: &EventId) {
        self.remember(&self.0.no_history, event);
    }

    fn is_remembered(&self, failed: &Failed, event: &EventId) -> bool {
        let now_ms = self.0.clock.now_ms();
        failed.lock().get(event).is_some_and(|until| *until > now_ms)
    }

    fn remember(&self, failed: &Failed, event: &EventId) {
        let now_ms = self.0.clock.now_ms();
        let mut failed = failed.lock();
        if failed.len() >= REMEMBERED {
            failed.retain(|_, until| *until > now_ms);
        }
        if failed.len() < REMEMBERED {
            failed.insert(event.to_owned(), now_ms + PAUSE_MS);
        }
    }
}

impl Gap<'_> {
    /// Puts events of the past before this place, as far as the state before them can be had.
    async fn place_history(&self, events: Vec<Pdu>, before: TimelinePlace) -> Result<usize, Failure> {
        let mut events = order::oldest_first(&events);
        let states = self.states_at_edges(&mut events).await?;
        self.require_auth_events(&events).await?;
        if events.is_empty() {
            return Ok(0);
        }
        let handle = self.inner.rooms.get(self.asking.room).await?;
        let received = handle.receive_history(events, states, before).await?;
        let is_new = |received: &&Received| !matches!(received, Received::Missing(_) | Received::Known);
        Ok(received.iter().filter(is_new).count())
    }

    /// The state before those of the events whose parents are neither among them nor here. Events for which it cannot
    /// be had are taken out, with those that follow from them.
    async fn states_at_edges(
        &self,
        events: &mut Vec<Pdu>,
    ) -> Result<HashMap<OwnedEventId, Vec<OwnedEventId>>, Failure> {
        let fetched: HashSet<OwnedEventId> = events.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        let outside: HashSet<OwnedEventId> =
            events.iter().flat_map(Pdu::prev_events).filter(|id| !fetched.contains(*id)).cloned().collect();
        let known = self.inner.placed(self.asking.room_nid, outside.into_iter().collect()).await?;
        let mut states = HashMap::new();
        let mut lost: HashSet<OwnedEventId> = HashSet::new();
        for pdu in events.iter() {
            if pdu.prev_events().iter().any(|id| lost.contains(id)) {
                lost.insert(pdu.event_id().to_owned());
                continue;
            }
            if pdu.prev_events().iter().all(|id| fetched.contains(id) || known.contains(id)) {
                continue;
            }
            let state = if states.len() < MAX_EDGES { self.any_state_before(pdu).await? } else { None };
            match state {
                Some(state) => drop(states.insert(pdu.event_id().to_owned(), state)),
                None => drop(lost.insert(pdu.event_id().to_owned())),
            }
        }
        events.retain(|pdu| !lost.contains(pdu.event_id()));
        Ok(states)
    }

    async fn any_state_before(&self, pdu: &Pdu) -> Result<Option<Vec<OwnedEventId>>, Failure> {
        for server in self.asking.servers() {
            if let Some(state) = self.state_before(server, pdu.event_id(), pdu.auth_events()).await? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// Sees to it that the auth events of these events are here or among them.
    async fn require_auth_events(&self, events: &[Pdu]) -> Result<(), Failure> {
        let among: HashSet<&EventId> = events.iter().map(Pdu::event_id).collect();
        let wanted = events.iter().flat_map(Pdu::auth_events).filter(|id| !among.contains(&***id));
        let wanted: HashSet<OwnedEventId> = wanted.cloned().collect();
        let mut missing = self.unknown(wanted.into_iter().collect()).await?;
        while let Some(first) = missing.first() {
            let Some(pdu) = events.iter().find(|pdu| pdu.auth_events().contains(first)) else { break };
            let lacks: Vec<OwnedEventId> =
                pdu.auth_events().iter().filter(|id| missing.contains(id)).cloned().collect();
            self.fetch_auth_chain(pdu, &lacks).await?;
            // What was not brought was asked for, and shows when the events are judged.
            let others = missing.into_iter().filter(|id| !lacks.contains(id)).collect();
            missing = self.unknown(others).await?;
        }
        Ok(())
    }
}
