//! Who may read a room's state, and as of when: members as it is, former members as it was when they left. Those who
//! are banned may not, on this server as on others: clients find out by it that they are.
//!
//! Which events someone may see is another question, answered event by event in [`crate::visibility`].

use std::sync::Arc;

use myelin_actors::room::{error::RoomError, view::RoomView};
use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EventNid, StateKeyNid, TypeNid, UserNid, types},
    position::TimelinePlace,
    state::{StateKey, StateMap},
    visibility::HistoryVisibility,
};
use myelin_storage::{events::StoredEvent, members, state};
use ruma::{EventId, RoomId};

use crate::{
    app::App,
    error::MatrixError,
    visibility::{self, Seen},
};

/// How many changes from one way of not being in the room to another are followed back to the leave.
const MAX_STEPS_BACK: usize = 16;

/// A room as one reader may read it.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The room.
    pub view: Arc<RoomView>,
    /// The event by which the reader left. `None`: they read the room as it is.
    pub left: Option<Arc<StoredEvent>>,
}

impl Reading {
    /// The last place in the timeline that the reader can get to. `None`: there is no end.
    pub fn end(&self) -> Option<TimelinePlace> {
        let left = self.left.as_ref().filter(|_| !is_world_readable(&self.view));
        left.and_then(|left| left.place)
    }

    /// The reader may read the room as it is now.
    pub fn is_current(&self) -> bool {
        self.left.is_none() || is_world_readable(&self.view)
    }

    /// The whole state.
    pub async fn state(&self, app: &App) -> Result<StateMap, MatrixError> {
        match &self.left {
            None => Ok(self.view.state.clone()),
            Some(left) => state_after(app, left).await,
        }
    }

    /// One state event.
    pub async fn state_event(
        &self,
        app: &App,
        key: StateKey,
    ) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let nid = match &self.left {
            None => self.view.state.get(&key).copied(),
            Some(left) if key_of(left) == Some(key) => return Ok(Some(Arc::clone(left))),
            Some(left) => look_up(app, left, key).await?,
        };
        let Some(nid) = nid else { return Ok(None) };
        Ok(app.actors.events.load(&[nid]).await?.pop())
    }
}

/// The room as this user may read it. Refused for those who have nothing to read there, whether or not it exists.
pub async fn reading(app: &App, user: UserNid, room_id: &RoomId) -> Result<Reading, MatrixError> {
    let view = match app.actors.rooms.view(room_id).await {
        Err(RoomError::NotFound) => return Err(outsider()),
        view => view?,
    };
    if view.is_joined(user) {
        return Ok(Reading { view, left: None });
    }
    if view.membership(user) == Some(Membership::Leave)
        && let Some(left) = leave_of(app, &view, user).await?
    {
        return Ok(Reading { view, left: Some(left) });
    }
    if is_world_readable(&view) {
        return Ok(Reading { view, left: None });
    }
    Err(outsider())
}

fn is_world_readable(view: &RoomView) -> bool {
    let visibility = HistoryVisibility::of_event(view.essential(types::HISTORY_VISIBILITY));
    visibility == HistoryVisibility::WorldReadable
}

/// The room, if the user is in it.
pub async fn joined(app: &App, user: UserNid, room_id: &RoomId) -> Result<Arc<RoomView>, MatrixError> {
    match app.actors.rooms.view(room_id).await {
        Ok(view) if view.is_joined(user) => Ok(view),
        Ok(_) | Err(RoomError::NotFound) => Err(outsider()),
        Err(error) => Err(error.into()),
    }
}

fn outsider() -> MatrixError {
    MatrixError::forbidden("you are not in this room")
}

/// The event by which the user last went out of the room. `None`: they were never in it, or have forgotten it.
async fn leave_of(
    app: &App,
    view: &RoomView,
    user: UserNid,
) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
    let client = app.storage.get().await?;
    let row = members::find(&client, view.nid, user).await?;
    if row.is_none_or(|row| row.forgotten || row.joined_at.is_none()) {
        return Ok(None);
    }
    // Who left and was banned later has seen the room up to the leave, not up to the ban.
    let past = members::history(&client, view.nid, user, MAX_STEPS_BACK).await?;
    drop(client);
    let left = past.windows(2).find(|pair| {
        pair[0].membership != Some(Membership::Join) && pair[1].membership == Some(Membership::Join)
    });
    let Some(left) = left else { return Ok(None) };
    Ok(app.actors.events.load(&[left[0].event]).await?.pop())
}

/// The key of a state event.
pub fn key_of(event: &StoredEvent) -> Option<StateKey> {
    event.state_key.map(|key| (event.type_nid, key))
}

/// The room's whole state right after the event.
pub async fn state_after(app: &App, event: &StoredEvent) -> Result<StateMap, MatrixError> {
    let mut map = match event.snapshot {
        None => StateMap::new(),
        Some(snapshot) => {
            let mut layers = state::load_snapshots(&app.storage.get().await?, &[snapshot]).await?;
            layers.remove(&snapshot).map(|layers| layers.to_map()).unwrap_or_default()
        }
    };
    if let Some(key) = key_of(event) {
        map.insert(key, event.nid);
    }
    Ok(map)
}

async fn look_up(app: &App, event: &StoredEvent, key: StateKey) -> Result<Option<EventNid>, MatrixError> {
    let Some(snapshot) = event.snapshot else { return Ok(None) };
    let found = state::lookup(&app.storage.get().await?, &[snapshot], &[key]).await?;
    Ok(found.get(&(snapshot, key)).copied())
}

/// One event of the room, if this user may see it. What this server lacks it fetches from others, if the user is in the
/// room.
pub async fn event_from_anywhere(
    app: &App,
    user: UserNid,
    view: &RoomView,
    event_id: &EventId,
) -> Result<Option<Seen>, MatrixError> {
    if let Some(found) = event(app, user, view, event_id).await? {
        return Ok(Some(found));
    }
    let is_known = app.actors.events.by_id(event_id).await?.is_some_and(|event| event.place.is_some());
    if is_known || !view.is_joined(user) || !app.actors.inbound.reach(view, event_id).await? {
        return Ok(None);
    }
    event(app, user, view, event_id).await
}

/// One event of the room that is here, if this user may see it.
pub async fn event(
    app: &App,
    user: UserNid,
    view: &RoomView,
    event_id: &EventId,
) -> Result<Option<Seen>, MatrixError> {
    let event = app.actors.events.by_id(event_id).await?;
    // What has no place in the timeline is for servers only.
    let event = event.filter(|event| {
        event.room == view.nid && event.admission == AdmissionCode::Accepted && event.place.is_some()
    });
    let Some(event) = event else { return Ok(None) };
    Ok(visibility::visible_events(app, view, user, &[event]).await?.pop())
}

/// The numbers of an event type and a state key. `None`: no room has such an event.
pub async fn find_key(
    app: &App,
    event_type: &str,
    state_key: &str,
) -> Result<Option<(TypeNid, StateKeyNid)>, MatrixError> {
    let type_nid = app.actors.nids.find_types(&[event_type]).await?.pop().flatten();
    let Some(type_nid) = type_nid else { return Ok(None) };
    let key_nid = app.actors.nids.find_state_keys(&[state_key]).await?.pop().flatten();
    Ok(key_nid.map(|key_nid| (type_nid, key_nid)))
}
