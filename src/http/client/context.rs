//! An event with what stands around it.

use std::{collections::HashSet, sync::Arc};

use myelin_core::nid::{EventNid, StateKeyNid, TypeNid, types};
use myelin_storage::{events::StoredEvent, timeline::Direction};
use ruma::{
    api::client::{context::get_context, filter::RoomEventFilter},
    events::{AnyStateEvent, AnyTimelineEvent},
    serde::Raw,
};
use serde::Serialize;

use super::message::limit_of;
use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Extras, Reader},
    filter::RoomEvents as _,
    http::{endpoint::Ruma, response::JsonText},
    pages::{self, Asked, Page},
    sync::{preferences, token},
    visibility::Seen,
    workflows::access,
};

/// The answer. Clients expect the lists even where they are empty.
#[derive(Serialize)]
struct Around {
    start: String,
    end: String,
    event: Option<Raw<AnyTimelineEvent>>,
    events_before: Vec<Raw<AnyTimelineEvent>>,
    events_after: Vec<Raw<AnyTimelineEvent>>,
    state: Vec<Raw<AnyStateEvent>>,
}

/// `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`
///
/// The event, the events before and after it, and the state at the last of them.
pub async fn get_context(app: App, req: Ruma<get_context::v3::Request>) -> Result<JsonText, MatrixError> {
    let user = req.user();
    let reading = access::reading(&app, user.nid, &req.room_id).await?;
    let seen = access::event_from_anywhere(&app, user.nid, &reading.view, &req.event_id).await?;
    let (seen, place) = seen
        .and_then(|seen| seen.event.place.map(|place| (seen, place)))
        .ok_or_else(|| MatrixError::not_found("there is no such event here"))?;
    let limit = limit_of(req.limit, &req.filter);
    let ignored = &preferences::read_ignored(&app, user.nid).await?;
    let side = |direction, from, limit| Asked {
        direction,
        from: Some(from),
        to: None,
        limit,
        filter: &req.filter,
        ignored,
    };
    let before = side(Direction::Backward, token::just_before(place), limit / 2);
    let after = side(Direction::Forward, place, limit - limit / 2);
    let before = pages::read(&app, &reading, user.nid, before).await?;
    let after = pages::read(&app, &reading, user.nid, after).await?;

    let start = token::timeline_token(before.reached.unwrap_or_else(|| token::just_before(place)));
    let end = token::timeline_token(after.reached.unwrap_or(place));
    let now_ms = app.process.clock.now_ms();
    let state = state_at_end(&app, &req.filter, &seen, &before, &after).await?;
    let state = state.iter().map(|event| event_format::client_event(event, &Extras::default(), now_ms));
    let state = state.map(event_format::raw).collect();
    let reader = Reader::of(user).ignoring(ignored);
    let all: Vec<Seen> =
        before.events.iter().chain(std::iter::once(&seen)).chain(&after.events).cloned().collect();
    let mut events = event_format::client_events(&app, reader, &all, true).await?.into_iter();
    let events_before = events.by_ref().take(before.events.len()).map(event_format::raw).collect();
    let event = events.next().map(event_format::raw);
    let events_after = events.map(event_format::raw).collect();
    JsonText::of(&Around { start, end, event, events_before, events_after, state })
}

/// The state at the newest of the events, of the members only the senders when members are loaded lazily.
async fn state_at_end(
    app: &App,
    filter: &RoomEventFilter,
    seen: &Seen,
    before: &Page,
    after: &Page,
) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    let newest = after.events.last().unwrap_or(seen);
    let state = access::state_after(app, &newest.event).await?;
    let is_lazy = !filter.lazy_load_options.is_disabled();
    let shown = before.events.iter().chain(std::iter::once(seen)).chain(&after.events);
    let senders: HashSet<StateKeyNid> = shown.map(|seen| seen.event.sender.into()).collect();
    let is_shown =
        |kind: TypeNid, key: StateKeyNid| !is_lazy || kind != types::MEMBER || senders.contains(&key);
    let nids: Vec<EventNid> =
        state.iter().filter(|((kind, key), _)| is_shown(*kind, *key)).map(|(_, event)| *event).collect();
    let mut events = app.actors.events.load(&nids).await?;
    events.retain(|event| filter.allows_room(event.pdu.room_id()) && filter.allows(&event.pdu));
    Ok(events)
}
