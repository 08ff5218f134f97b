//! The answer to a join: every event in it is read, its signatures are checked, and what remains has to prove the join.

use std::collections::HashMap;

use myelin_actors::remote::{Keys, RemoteError, RemoteServers};
use myelin_core::{
    auth,
    pdu::{Pdu, format},
    version::RoomVersion,
};
use ruma::{EventId, OwnedEventId, RoomId, api::federation::membership::create_join_event::v2::RoomState};
use serde_json::value::RawValue;
use tracing::{info, warn};

use super::progress::{Running, Stage};
use crate::{app::App, error::MatrixError};

/// How many events are read and checked at a time.
const CHUNK: usize = 500;

/// A join that the room's state allows, with that state.
#[derive(Debug)]
pub struct Proven {
    /// The join, with all signatures that it needs.
    pub join: Pdu,
    /// The state before it.
    pub state: Vec<OwnedEventId>,
    /// The state's events and their auth chain.
    pub events: Vec<Pdu>,
}

/// Checks the answer. Events that are not what they should be are left out; what remains has to prove the join.
pub async fn check(
    app: &App,
    room_id: &RoomId,
    join: Pdu,
    answer: RoomState,
    running: &Running,
) -> Result<Proven, MatrixError> {
    if answer.members_omitted {
        return Err(invalid("members were left out, which was not asked for"));
    }
    let version = join.version();
    let join = signed_join(app, join, answer.event).await?;
    let total = answer.auth_chain.len() + answer.state.len();
    let mut reading = Reading { app, version, room_id, running, total, done: 0, events: HashMap::new() };
    reading.take(answer.auth_chain).await?;
    let state = reading.take(answer.state).await?;
    let events = reading.events;
    info!(room.id = %room_id, given = total, good = events.len(), "events of a room to join are checked");
    let state = state_of(&events, state);
    prove(&join, &events, &state)?;
    let state = state.into_values().collect();
    Ok(Proven { join, state, events: events.into_values().collect() })
}

fn invalid(why: impl Into<String>) -> MatrixError {
    RemoteError::Invalid(why.into()).into()
}

/// The join as other servers will have it: where a user of another server lets ours in, signed by that one too.
async fn signed_join(app: &App, join: Pdu, returned: Option<Box<RawValue>>) -> Result<Pdu, MatrixError> {
    let needed = myelin_core::pdu::sign::required_servers(&join);
    if needed.iter().all(|server| app.is_ours(server)) {
        return Ok(join);
    }
    let returned = returned.ok_or_else(|| invalid("the signed join is missing"))?;
    let signed = format::parse_remote(join.version(), &returned)
        .map_err(|error| invalid(format!("the signed join is no event: {error}")))?;
    if signed.event_id() != join.event_id() || signed.content().get() != join.content().get() {
        return Err(invalid("the signed join is another event than ours"));
    }
    let verdict = app.remote.verify(vec![signed], Keys::Fetched).await.pop();
    verdict
        .ok_or_else(|| invalid("the signed join was not judged"))?
        .map_err(|error| invalid(format!("the join is not signed as it has to be: {error}")))
}

/// Events on their way in.
struct Reading<'a> {
    app: &'a App,
    version: &'static RoomVersion,
    room_id: &'a RoomId,
    running: &'a Running,
    total: usize,
    done: usize,
    /// The good ones.
    events: HashMap<OwnedEventId, Pdu>,
}

impl Reading<'_> {
    /// Reads and checks these events in pieces, so that neither a thread is held for long nor all of them are in
    /// memory in two forms. The ids of the good ones, in their order.
    async fn take(&mut self, given: Vec<Box<RawValue>>) -> Result<Vec<OwnedEventId>, MatrixError> {
        let mut ids = Vec::with_capacity(given.len());
        let mut given = given.into_iter();
        loop {
            let piece: Vec<Box<RawValue>> = given.by_ref().take(CHUNK).collect();
            if piece.is_empty() {
                return Ok(ids);
            }
            self.done += piece.len();
            let version = self.version;
            let room_id = self.room_id.to_owned();
            let parsed = self.app.process.io.spawn_blocking(move || parse(version, &room_id, &piece)).await;
            let parsed = parsed.map_err(MatrixError::internal)?;
            ids.extend(parsed.iter().map(|event| event.event_id().to_owned()));
            let new =
                parsed.into_iter().filter(|event| !self.events.contains_key(event.event_id())).collect();
            for verdict in self.app.remote.verify(new, Keys::Fetched).await {
                match verdict {
                    Ok(event) => drop(self.events.insert(event.event_id().to_owned(), event)),
                    Err(error) => {
                        warn!(room.id = %self.room_id, %error, "an event of a room to join is left out");
                    }
                }
            }
            self.running.at(Stage::Checking { done: self.done, total: self.total });
        }
    }
}

fn parse(version: &'static RoomVersion, room_id: &RoomId, given: &[Box<RawValue>]) -> Vec<Pdu> {
    let mut events = Vec::with_capacity(given.len());
    for event in given {
        match format::parse_remote(version, event) {
            Ok(event) if event.room_id() == room_id && event.is_state() => events.push(event),
            Ok(event) => {
                warn!(room.id = %room_id, event.id = %event.event_id(), "an event has no place here");
            }
            Err(error) => warn!(room.id = %room_id, %error, "an event of a room to join cannot be read"),
        }
    }
    events
}

type State = HashMap<(String, String), OwnedEventId>;

/// The state that these events make up. Of two for the same place the first counts.
fn state_of(events: &HashMap<OwnedEventId, Pdu>, ids: Vec<OwnedEventId>) -> State {
    let mut state = State::with_capacity(ids.len());
    for id in ids {
        let Some(event) = events.get(&id) else { continue };
        let key = (event.event_type().to_owned(), event.state_key().unwrap_or_default().to_owned());
        state.entry(key).or_insert(id);
    }
    state
}

/// The state has to be that of the room, and has to allow the join.
fn prove(join: &Pdu, events: &HashMap<OwnedEventId, Pdu>, state: &State) -> Result<(), MatrixError> {
    let find = |event_type: &str, key: &str| {
        let id = state.get(&(event_type.to_owned(), key.to_owned()))?;
        events.get(id).cloned()
    };
    let create = find("m.room.create", "").ok_or_else(|| invalid("the state has no create event"))?;
    // That a room of version 12 is this one follows from its id being that of the create event.
    auth::check_auth_events(&create, |_: &EventId| None)
        .map_err(|error| invalid(format!("the create event is no good: {error}")))?;
    auth::authorize(join, &create, find)
        .map_err(|error| invalid(format!("the state given does not allow the join: {error}")))
}
