//! Pages of a room's timeline, as one reader sees it: for every endpoint that goes through a room's history.

use std::{collections::HashSet, sync::Arc};

use myelin_core::{
    nid::{EventNid, UserNid, types},
    position::TimelinePlace,
    state::StateKey,
};
use myelin_storage::{
    events::StoredEvent,
    state,
    timeline::{self, Direction},
};
use ruma::{OwnedUserId, api::client::filter::RoomEventFilter};
use tracing::warn;

use crate::{
    app::App,
    error::MatrixError,
    filter::RoomEvents as _,
    sync::token,
    visibility::{self, Seen},
    workflows::access::Reading,
};

/// The most events that a client can ask for.
pub const MAX_LIMIT: usize = 1000;
/// At least so many events are read at a time when many of them may not be shown.
const MIN_BATCH: usize = 100;
/// After so many batches a page is answered as it is, be it empty: the client asks on.
const MAX_BATCHES: usize = 10;

/// So often other servers are asked for history, for one page.
const MAX_FILLS: usize = 2;

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Which way.
    pub direction: Direction,
    /// The boundary to begin at. `None`: the end of the timeline that the direction leads away from.
    pub from: Option<TimelinePlace>,
    /// The boundary to end at.
    pub to: Option<TimelinePlace>,
    /// So many events at most.
    pub limit: usize,
    /// Which events.
    pub filter: &'a RoomEventFilter,
    /// Whom the reader ignores: of them only state is shown.
    pub ignored: &'a HashSet<OwnedUserId>,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events in the order of reading.
    pub events: Vec<Seen>,
    /// The boundary that was reached. `None`: nothing was passed.
    pub reached: Option<TimelinePlace>,
    /// There is no more to read in this direction, for now.
    pub is_exhausted: bool,
}

/// Reads a page. Queries: two for each of a bounded number of batches, mostly one batch.
pub async fn read(
    app: &App,
    reading: &Reading,
    user: UserNid,
    asked: Asked<'_>,
) -> Result<Page, MatrixError> {
    if !asked.filter.allows_room(&reading.view.room_id) {
        return Ok(Page { is_exhausted: true, ..Page::default() });
    }
    let (mut at, to) = bounds(reading, asked.direction, asked.from, asked.to);
    let is_selective = !asked.filter.allows_everything() || !asked.ignored.is_empty();
    let mut page = Page { is_exhausted: asked.limit == 0, ..Page::default() };
    let above = match asked.direction {
        Direction::Backward => right_after(app, reading, at).await?,
        Direction::Forward => None,
    };
    let mut fills = 0;
    for _ in 0..MAX_BATCHES {
        let wanted = asked.limit.min(MAX_LIMIT) - page.events.len();
        if wanted == 0 {
            break;
        }
        let batch = if is_selective || !page.events.is_empty() { wanted.max(MIN_BATCH) } else { wanted };
        let client = app.storage.get().await?;
        let events = timeline::page(&client, reading.view.nid, at, asked.direction, to, batch).await?;
        drop(client);
        page.is_exhausted = events.len() < batch;
        let events: Vec<Arc<StoredEvent>> = events.into_iter().map(Arc::new).collect();
        if fills < MAX_FILLS && fill_history(app, reading, above.iter().chain(&events)).await {
            // The same once more, with what has been put between.
            fills += 1;
            continue;
        }
        let allowed: Vec<Arc<StoredEvent>> = events
            .iter()
            .filter(|event| is_wanted(asked.ignored, event) && asked.filter.allows(&event.pdu))
            .cloned()
            .collect();
        let mut seen = visibility::visible_events(app, &reading.view, user, &allowed).await?;
        if seen.len() > wanted {
            seen.truncate(wanted);
            page.is_exhausted = false;
        }
        // Up to the last event that is shown, or past all that were read when there is room for more.
        let last = if seen.len() == wanted { seen.last().map(|seen| &seen.event) } else { events.last() };
        page.is_exhausted &= last.map(|event| event.nid) == events.last().map(|event| event.nid);
        if let Some(place) = last.and_then(|event| event.place) {
            at = Some(match asked.direction {
                Direction::Forward => place,
                Direction::Backward => token::just_before(place),
            });
            page.reached = at;
        }
        page.events.append(&mut seen);
        if page.is_exhausted {
            break;
        }
    }
    Ok(page)
}

/// Of those whom the reader ignores only state is shown, as in `/sync`.
fn is_wanted(ignored: &HashSet<OwnedUserId>, event: &StoredEvent) -> bool {
    event.state_key.is_some() || !ignored.contains(event.pdu.sender())
}

/// The event right after this boundary: what others have from before it stands right before the boundary. It is not
/// looked for where nobody has more.
async fn right_after(
    app: &App,
    reading: &Reading,
    at: Option<TimelinePlace>,
) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
    if at.is_none() || reading.view.servers.len() < 2 {
        return Ok(None);
    }
    let client = app.storage.get().await?;
    let mut events = timeline::page(&client, reading.view.nid, at, Direction::Forward, None, 1).await?;
    Ok(events.pop().map(Arc::new))
}

/// Fetches history that other servers have from before one of the events: whether there is more now. When it cannot be
/// had, the reader gets what is here.
async fn fill_history<'a>(
    app: &App,
    reading: &Reading,
    events: impl Iterator<Item = &'a Arc<StoredEvent>>,
) -> bool {
    let events: Vec<Arc<StoredEvent>> = events.cloned().collect();
    match app.actors.inbound.backfill(&reading.view, &events).await {
        Ok(placed) => placed > 0,
        Err(error) => {
            warn!(%error, room.id = %reading.view.room_id, "history could not be added to a room");
            false
        }
    }
}

/// Where to begin and to end, for a reader who may have left.
pub fn bounds(
    reading: &Reading,
    direction: Direction,
    from: Option<TimelinePlace>,
    to: Option<TimelinePlace>,
) -> (Option<TimelinePlace>, Option<TimelinePlace>) {
    let earlier = |place: Option<TimelinePlace>| match (place, reading.end()) {
        (Some(place), Some(end)) => Some(place.min(end)),
        (place, end) => place.or(end),
    };
    match direction {
        Direction::Backward => (earlier(from), to),
        Direction::Forward => (from, earlier(to)),
    }
}

/// The boundary that a client's token names, if there is one: some clients begin with an empty token.
pub fn boundary(token: Option<&str>) -> Result<Option<TimelinePlace>, MatrixError> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    let place = token::parse_boundary(token);
    place.map(Some).ok_or_else(|| MatrixError::invalid_param("this is not a token of this server"))
}

/// The member events of those who sent the events, as of the newest of them. At most one query, besides those
/// for the member events.
pub async fn senders(app: &App, events: &[Seen]) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    let Some(newest) = events.iter().map(|seen| &seen.event).max_by_key(|event| event.place) else {
        return Ok(Vec::new());
    };
    let Some(snapshot) = newest.snapshot else { return Ok(Vec::new()) };
    let keys: HashSet<StateKey> =
        events.iter().map(|seen| (types::MEMBER, seen.event.sender.into())).collect();
    let keys: Vec<StateKey> = keys.into_iter().collect();
    let found = state::lookup(&app.storage.get().await?, &[snapshot], &keys).await?;
    let mut nids: Vec<EventNid> = found.into_values().collect();
    nids.sort_unstable();
    Ok(app.actors.events.load(&nids).await?)
}
