//! What is missing before an event, fetched from other servers and brought into the room in order.
//!
//! First the events between: `get_missing_events`, as far as they lead. Where they end before they meet what is here,
//! the room is told the state there, as other servers say: by its ids, and those of its events that are not here. Each
//! of those events is judged by its own auth events; a server can hold back or prefer forks, not make things up.
//!
//! Everything is bounded: the events between, the requests, the time for each. What is still missing then is a reason
//! to try again later, not to wait.

use std::collections::{HashMap, HashSet};

use myelin_core::pdu::Pdu;
use myelin_storage::{events, gaps};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use tracing::debug;

use super::{Inner, fetch::Asking, order};
use crate::{
    remote::{MissingEvents, RemoteError},
    room::{
        error::RoomError,
        handle::RoomHandle,
        messages::{Opinion, Received, Told},
    },
};

/// How many events are fetched between two that are here, before the state is asked for instead.
const MAX_BETWEEN: usize = 100;
/// How many events are asked for at a time.
const PAGE: u32 = 50;
/// How often it is asked for more events between.
const ROUNDS: usize = 10;
/// With more events of the state missing than that, the whole state is fetched.
const MANY: usize = 50;
/// How deep the auth chain of fetched events is followed, where it has to be asked for event by event.
const CHAIN: usize = 20;
/// How often a place is tried again with what was fetched for it.
const ATTEMPTS: usize = 4;

/// Why an event could not be brought into its room.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody answered.
    Unreachable(String),
    /// What was answered does not help.
    Useless(String),
    /// The room did not take it.
    Room(RoomError),
}

impl From<RoomError> for Failure {
    fn from(error: RoomError) -> Self {
        Self::Room(error)
    }
}

/// Hands the room an event whose signatures were checked, and before that, what it needs. `is_patient`: where the room's
/// policy server does not answer, that is a failure and not yet a refusal.
pub(super) async fn receive(
    inner: &Inner,
    room: &RoomId,
    origin: &OwnedServerName,
    pdu: Pdu,
    is_patient: bool,
) -> Result<Received, Failure> {
    let view = inner.rooms.view(room).await?;
    let first = vec![origin.clone(), pdu.sender().server_name().to_owned()];
    let gap = Gap { inner, asking: Asking::new(inner, room, &view, first), is_patient };
    let received = gap.hand_over(&pdu, None).await?;
    let Received::Missing(missing) = received else { return Ok(received) };
    if pdu.prev_events().iter().any(|id| missing.contains(id)) {
        let Between { events, earlier } = gap.walk_back(&pdu, view.ends.clone()).await?;
        debug!(room.id = %room, event.id = %pdu.event_id(), between = events.len(), "events between were fetched");
        gap.place_all(events).await?;
        gap.has_parents(&pdu, &earlier).await?;
    }
    gap.place(&pdu).await
}

/// Whoever did not answer so may answer otherwise later.
fn is_passing(error: &RemoteError) -> bool {
    match error {
        RemoteError::Unreachable(_) => true,
        RemoteError::Refused { status, .. } => *status == 429 || *status >= 500,
        RemoteError::Invalid(_) | RemoteError::NotAllowed(_) => false,
    }
}

/// What is missing before an event.
struct Between {
    /// Events that were sent while this server was in the room, oldest first.
    events: Vec<Pdu>,
    /// Those before them, which are history: another branch than that of our join goes back to them. They are not told as
    /// news, but fetched when somebody reads so far.
    earlier: HashSet<OwnedEventId>,
}

pub(super) struct Gap<'a> {
    pub inner: &'a Inner,
    pub asking: Asking<'a>,
    /// A policy server that does not answer has not refused.
    pub is_patient: bool,
}

impl Gap<'_> {
    async fn handle(&self) -> Result<RoomHandle, RoomError> {
        self.inner.rooms.get(self.asking.room).await
    }

    /// Hands the event to the room, with what others told of the state before it. Where the room's policy server has not
    /// signed it, that is asked to.
    async fn hand_over(&self, pdu: &Pdu, told: Option<Told>) -> Result<Received, Failure> {
        let room = self.handle().await?;
        let received = room.receive_as(pdu.clone(), told.clone(), Opinion::Unasked).await?;
        let Received::Unsigned(server) = received else { return Ok(received) };
        let signed = {
            let _permit = self.inner.asking.acquire().await;
            room.sign_by_policy(&server, pdu).await
        };
        let received = match signed {
            Ok(signed) => room.receive_as(signed, told, Opinion::Unasked).await?,
            Err(error) if self.is_patient && is_passing(&error) => {
                return Err(Failure::Unreachable(format!("policy server {}: {error}", server.name)));
            }
            Err(error) => {
                let refused = Opinion::Refused(format!("policy server {}: {error}", server.name));
                room.receive_as(pdu.clone(), told, refused).await?
            }
        };
        match received {
            Received::Unsigned(_) => {
                Err(Failure::Unreachable("the room has got another policy server".to_owned()))
            }
            received => Ok(received),
        }
    }

    pub fn failure(&self, why: impl Into<String>) -> Failure {
        if self.asking.has_answer() { Failure::Useless(why.into()) } else { Failure::Unreachable(why.into()) }
    }

    /// Ancestors of the event that are not here, as far back as it is worth while.
    async fn walk_back(&self, pdu: &Pdu, earliest: Vec<OwnedEventId>) -> Result<Between, Failure> {
        let since = self.depth_of_stay().await?;
        let mut between: Vec<Pdu> = Vec::new();
        let mut earlier: HashSet<OwnedEventId> = HashSet::new();
        let mut latest = vec![pdu.event_id().to_owned()];
        for _ in 0..ROUNDS {
            let which = MissingEvents { earliest: earliest.clone(), latest, limit: PAGE };
            let before = between.len();
            for server in self.asking.servers() {
                let found = self.asking.missing_events(server, &which).await;
                let (found, history): (Vec<Pdu>, Vec<Pdu>) =
                    found.into_iter().partition(|pdu| pdu.depth() >= since);
                earlier.extend(history.iter().map(|pdu| pdu.event_id().to_owned()));
                between = order::ancestors(pdu, between.into_iter().chain(found).collect());
                if between.len() > before {
                    break;
                }
            }
            latest = self.loose_ends(pdu, &between, &earlier).await?;
            if between.len() == before || between.len() >= MAX_BETWEEN || latest.is_empty() {
                break;
            }
        }
        Ok(Between { events: order::oldest_first(&between), earlier })
    }

    /// From which depth on events may have been sent while this server was in the room.
    async fn depth_of_stay(&self) -> Result<i64, Failure> {
        let client = self.inner.storage.get().await.map_err(RoomError::from)?;
        let depth = gaps::depth_of_stay(&client, self.asking.room_nid).await.map_err(RoomError::from)?;
        Ok(depth.unwrap_or_default())
    }

    /// Those of the events whose parents are neither among them nor here, nor history.
    async fn loose_ends(
        &self,
        pdu: &Pdu,
        between: &[Pdu],
        earlier: &HashSet<OwnedEventId>,
    ) -> Result<Vec<OwnedEventId>, Failure> {
        let fetched: HashSet<&EventId> =
            between.iter().map(Pdu::event_id).chain(earlier.iter().map(AsRef::as_ref)).collect();
        let all = || between.iter().chain([pdu]);
        let outside: HashSet<OwnedEventId> =
            all().flat_map(Pdu::prev_events).filter(|id| !fetched.contains(&***id)).cloned().collect();
        let known = self.inner.placed(self.asking.room_nid, outside.into_iter().collect()).await?;
        let is_loose =
            |pdu: &&Pdu| pdu.prev_events().iter().any(|id| !fetched.contains(&**id) && !known.contains(id));
        Ok(all().filter(is_loose).map(|pdu| pdu.event_id().to_owned()).collect())
    }

    /// Brings these into the room in this order. What follows from one that could not be, is left out.
    async fn place_all(&self, events: Vec<Pdu>) -> Result<(), Failure> {
        let mut failed: HashSet<OwnedEventId> = HashSet::new();
        for pdu in events {
            let follows = pdu.prev_events().iter().any(|id| failed.contains(id));
            let placed = if follows { None } else { Some(self.place(&pdu).await) };
            match placed {
                Some(Ok(_)) => {}
                Some(Err(Failure::Room(error))) => return Err(Failure::Room(error)),
                Some(Err(_)) | None => drop(failed.insert(pdu.event_id().to_owned())),
            }
        }
        Ok(())
    }

    /// Refuses an event that was sent to this server without its parents. Whoever sends an event has them: if nobody
    /// gives them, nothing is taken on trust for it. How things were before the parents may have to be, and after those
    /// that are history.
    async fn has_parents(&self, pdu: &Pdu, earlier: &HashSet<OwnedEventId>) -> Result<(), Failure> {
        let wanted: Vec<OwnedEventId> =
            pdu.prev_events().iter().filter(|id| !earlier.contains(*id)).cloned().collect();
        let known = self.inner.placed(self.asking.room_nid, wanted.clone()).await?;
        if wanted.iter().all(|id| known.contains(id)) {
            return Ok(());
        }
        Err(self.failure("its parents cannot be had"))
    }

    /// Brings the event into the room, with its auth events, and with the state before it if its parents are not here.
    async fn place(&self, pdu: &Pdu) -> Result<Received, Failure> {
        for _ in 0..ATTEMPTS {
            let received = self.hand_over(pdu, None).await?;
            let Received::Missing(missing) = received else { return Ok(received) };
            if pdu.prev_events().iter().any(|id| missing.contains(id)) {
                return self.place_by_state(pdu, &missing).await;
            }
            self.fetch_auth_chain(pdu, &missing).await?;
        }
        Err(self.failure("its auth events cannot be had"))
    }

    /// Fetches the event's auth events, and theirs.
    pub async fn fetch_auth_chain(&self, pdu: &Pdu, missing: &[OwnedEventId]) -> Result<(), Failure> {
        for server in self.asking.servers() {
            let chain = self.asking.event_auth(server, pdu.event_id()).await;
            let found: HashSet<_> = chain.iter().map(|pdu| pdu.event_id().to_owned()).collect();
            self.outliers(chain).await?;
            if missing.iter().all(|id| found.contains(id)) {
                return Ok(());
            }
        }
        let events = self.asking.events(missing).await;
        if events.is_empty() {
            return Err(self.failure("its auth events cannot be had"));
        }
        self.outliers(events).await
    }

    /// Brings the event into the room by the states after those of its parents that are not here, as others tell them.
    /// The room resolves them with what it knows, so that nobody can make it forget the state of the other parents.
    async fn place_by_state(&self, pdu: &Pdu, missing: &[OwnedEventId]) -> Result<Received, Failure> {
        let mut states = Vec::new();
        for parent in pdu.prev_events().iter().filter(|id| missing.contains(id)) {
            states.push(self.state_after(parent, pdu.auth_events()).await?);
        }
        let received = self.hand_over(pdu, Some(Told::AfterParents(states))).await?;
        match received {
            Received::Missing(_) => Err(self.failure("the state before it cannot be had")),
            received => Ok(received),
        }
    }

    /// The state after an event that is not here, as one of the servers tells it, with all of it fetched.
    async fn state_after(&self, id: &EventId, also: &[OwnedEventId]) -> Result<Vec<OwnedEventId>, Failure> {
        for server in self.asking.servers() {
            let Some(mut state) = self.state_before(server, id, also).await? else { continue };
            let Some(event) = self.asking.events(&[id.to_owned()]).await.pop() else { continue };
            let is_state = event.state_key().is_some();
            self.outliers(vec![event]).await?;
            if is_state && self.unknown(vec![id.to_owned()]).await?.is_empty() {
                state.push(id.to_owned());
            }
            return Ok(state);
        }
        Err(self.failure("the state before it cannot be had"))
    }

    /// The state before the event, as this server says, with all of it and those others fetched.
    pub async fn state_before(
        &self,
        server: &ServerName,
        id: &EventId,
        also: &[OwnedEventId],
    ) -> Result<Option<Vec<OwnedEventId>>, Failure> {
        let Some(ids) = self.asking.state_ids(server, id).await else { return Ok(None) };
        let wanted: Vec<OwnedEventId> =
            ids.state.iter().chain(also).cloned().collect::<HashSet<_>>().into_iter().collect();
        let missing = self.unknown(wanted).await?;
        if missing.len() > MANY {
            self.outliers(self.asking.state(server, id).await).await?;
        } else if !missing.is_empty() {
            self.outliers(self.asking.events(&missing).await).await?;
        }
        // What nobody has any more cannot be checked, and is as if it were not there.
        let lost = self.unknown(missing).await?;
        let told = ids.state.len();
        let state: Vec<_> = ids.state.into_iter().filter(|id| !lost.contains(id)).collect();
        Ok(((told - state.len()) * 10 <= told).then_some(state))
    }

    /// Those of the events that are not stored here at all.
    pub async fn unknown(&self, ids: Vec<OwnedEventId>) -> Result<Vec<OwnedEventId>, Failure> {
        let client = self.inner.storage.get().await.map_err(RoomError::from)?;
        let wanted: Vec<&EventId> = ids.iter().map(AsRef::as_ref).collect();
        let found = events::find_nids(&client, &wanted).await.map_err(RoomError::from)?;
        Ok(ids.into_iter().filter(|id| !found.contains_key(id)).collect())
    }

    /// Stores events outside the room's graph, with those that they follow from by their auth events.
    async fn outliers(&self, events: Vec<Pdu>) -> Result<(), Failure> {
        let mut events: HashMap<OwnedEventId, Pdu> =
            events.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
        for _ in 0..CHAIN {
            if events.is_empty() {
                return Ok(());
            }
            let all = events.values().cloned().collect();
            let received = self.handle().await?.receive_outliers(all).await?;
            let missing: HashSet<OwnedEventId> = received
                .into_values()
                .filter_map(|received| match received {
                    Received::Missing(missing) => Some(missing),
                    _ => None,
                })
                .flatten()
                .filter(|id| !events.contains_key(id))
                .collect();
            let more = self.asking.events(&missing.into_iter().collect::<Vec<_>>()).await;
            if more.is_empty() {
                return Ok(());
            }
            events.extend(more.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)));
        }
        Ok(())
    }
}
