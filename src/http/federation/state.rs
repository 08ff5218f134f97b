//! A room's state before one of its events, and what events follow from.

use std::sync::Arc;

use myelin_actors::room::view::RoomView;
use myelin_core::{admit::AdmissionCode, nid::EventNid, state::StateKey};
use myelin_storage::{
    events::{self, StoredEvent},
    state,
};
use ruma::EventId;

use crate::{app::App, error::MatrixError};

/// The state before an event of the room, which must have a place there.
pub async fn state_at(app: &App, view: &RoomView, event: &EventId) -> Result<Vec<EventNid>, MatrixError> {
    let event = event_of_room(app, view, event).await?;
    if !matches!(event.admission, AdmissionCode::Accepted | AdmissionCode::SoftFailed) {
        return Err(MatrixError::not_found("the room's state at this event is not known here"));
    }
    state_before(app, &event, |_| true).await
}

/// Those places of the state before an event that are wanted.
pub async fn state_before(
    app: &App,
    event: &StoredEvent,
    is_wanted: impl Fn(StateKey) -> bool,
) -> Result<Vec<EventNid>, MatrixError> {
    // A create event has nothing before it.
    let Some(snapshot) = event.snapshot else { return Ok(Vec::new()) };
    let layers = state::load_snapshots(&app.storage.get().await?, &[snapshot]).await?.remove(&snapshot);
    let state = layers.map(|layers| layers.to_map()).unwrap_or_default();
    Ok(state.iter().filter(|(key, _)| is_wanted(**key)).map(|(_, nid)| *nid).collect())
}

/// The events that these follow from by their auth events, oldest first. Of themselves only those that others follow
/// from.
pub async fn auth_chain(app: &App, of: &[EventNid]) -> Result<Vec<EventNid>, MatrixError> {
    let client = app.storage.get().await?;
    let parents = events::auth_events_of(&client, of).await?;
    let mut chain: Vec<EventNid> = state::auth_chain(&client, &parents).await?.into_iter().collect();
    chain.sort_unstable();
    Ok(chain)
}

/// An event that the path or query names, which must be the room's.
pub async fn event_of_room(
    app: &App,
    view: &RoomView,
    event: &EventId,
) -> Result<Arc<StoredEvent>, MatrixError> {
    let found = app.actors.events.by_id(event).await?.filter(|event| event.room == view.nid);
    found.ok_or_else(|| MatrixError::not_found("this room has no such event"))
}
