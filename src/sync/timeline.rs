//! The timelines of an answer: the last events of each room that the user may see and the filter lets through.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_core::{
    nid::{RoomNid, types},
    position::{Position, TimelinePlace},
};
use myelin_storage::{
    events::{self, Placed, StoredEvent},
    timeline,
};
use ruma::{EventId, OwnedEventId, UInt};

use super::{Context, rooms::Room, token};
use crate::{
    error::MatrixError,
    filter::RoomEvents,
    visibility::{self, Look, Seen},
};

/// How many events a timeline has when the filter does not say.
const DEFAULT_LIMIT: usize = 10;
/// How many it has at most.
const MAX_LIMIT: usize = 1000;
/// How many older events are looked through for each one that is wanted.
const LOOK_BACK: usize = 3;

/// A room's timeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// Its events, oldest first.
    pub(crate) shown: Vec<Seen>,
    /// There are more that the client does not have.
    pub(crate) limited: bool,
    /// Where `/messages` goes on backwards; empty where nothing comes before.
    pub(crate) prev_batch: String,
}

/// The rooms' timelines, in the same order. At most two queries for all of them, none when the views reach back far
/// enough.
pub(crate) async fn pages(context: &Context<'_>, rooms: &[Room]) -> Result<Vec<Page>, MatrixError> {
    let limit = limit(context);
    let candidates: Vec<Vec<Arc<StoredEvent>>> = rooms
        .iter()
        .map(|room| room.window().filter(|event| allows(context, room, event)).cloned().collect())
        .collect();
    let mut seen = see(context, rooms, &candidates).await?;
    let short: Vec<usize> =
        (0..rooms.len()).filter(|index| !rooms[*index].is_covered() && seen[*index].len() <= limit).collect();
    let mut reached = vec![true; rooms.len()];
    if !short.is_empty() {
        let short_rooms: Vec<Room> = short.iter().map(|index| rooms[*index].clone()).collect();
        let (older, complete) = load_older(context, &short_rooms, limit).await?;
        let older = see(context, &short_rooms, &older).await?;
        for ((index, mut older), complete) in short.into_iter().zip(older).zip(complete) {
            older.append(&mut seen[index]);
            seen[index] = older;
            reached[index] = complete;
        }
    }
    let mut pages: Vec<Page> = rooms
        .iter()
        .zip(seen)
        .zip(reached)
        .map(|((room, seen), reached)| page(context, room, seen, limit, reached))
        .collect();
    begin_after_gaps(context, rooms, &mut pages).await?;
    Ok(pages)
}

/// Lets timelines begin with the last event before which something is missing: what was sent while this server was not in
/// the room, or away for long. The client asks `/messages` for it, and other servers are asked then; or they were asked
/// before, and what they had stands right before the event, where only `/messages` finds it. One query when parents of
/// events are not among the recent ones, none in rooms where no other server ever was.
async fn begin_after_gaps(
    context: &Context<'_>,
    rooms: &[Room],
    pages: &mut [Page],
) -> Result<(), MatrixError> {
    let mut outside: HashSet<&EventId> = HashSet::new();
    for (room, page) in rooms.iter().zip(&*pages) {
        let parents = parents_outside(room, page);
        // Others may have left since; what they said while nobody of this server was there is missing still.
        if !parents.is_empty() && ever_had_others(room) {
            outside.extend(parents);
        }
    }
    if outside.is_empty() {
        return Ok(());
    }
    let outside: HashSet<OwnedEventId> = outside.into_iter().map(ToOwned::to_owned).collect();
    let ids: Vec<&EventId> = outside.iter().map(AsRef::as_ref).collect();
    let placed = events::list_placed(&context.app.storage.get().await?, &ids).await?;
    for page in pages.iter_mut() {
        let lacks = |seen: &Seen| {
            let event = &seen.event;
            let mut parents = event.pdu.prev_events().iter().filter(|id| outside.contains(*id));
            parents.any(|id| placed.get(id).is_none_or(|parent| was_fetched_for(event, parent)))
        };
        if let Some(gap) = page.shown.iter().rposition(lacks) {
            page.shown.drain(..gap);
            page.limited = true;
            if let Some(place) = page.shown.first().and_then(|seen| seen.event.place) {
                page.prev_batch = token::timeline_token_before(place);
            }
        }
    }
    Ok(())
}

/// The parent came later than the event, to stand right before it.
fn was_fetched_for(event: &StoredEvent, parent: &Placed) -> bool {
    let places = parent.place.zip(event.place);
    places.is_some_and(|(parent, event)| parent.anchor == event.anchor && parent.offset < event.offset)
}

/// What events of the page follow, as far as it is neither there nor among the recent events.
fn parents_outside<'a>(room: &'a Room, page: &'a Page) -> HashSet<&'a EventId> {
    let mut parents: HashSet<&EventId> =
        page.shown.iter().flat_map(|seen| seen.event.pdu.prev_events()).map(AsRef::as_ref).collect();
    let here = page.shown.iter().map(|seen| &seen.event).chain(room.view.recent.iter().rev());
    // Most events follow the one before them, so this is over soon.
    for event in here {
        if parents.is_empty() {
            break;
        }
        parents.remove(event.pdu.event_id());
    }
    parents
}

/// Users of other servers are or were in the room.
fn ever_had_others(room: &Room) -> bool {
    room.view.servers.len() > 1 || room.view.members.values().any(|member| !member.is_local)
}

fn limit(context: &Context<'_>) -> usize {
    let asked = context.ask.filter.room.timeline.limit.map(UInt::try_into);
    asked.map_or(DEFAULT_LIMIT, |asked| asked.unwrap_or(MAX_LIMIT).min(MAX_LIMIT))
}

fn page(context: &Context<'_>, room: &Room, mut seen: Vec<Seen>, limit: usize, reached: bool) -> Page {
    seen.extend(last_word(context, room, &seen));
    let is_cut = seen.len() > limit || !reached;
    let shown = seen.split_off(seen.len().saturating_sub(limit));
    let is_whole = shown.first().is_some_and(|seen| seen.event.type_nid == types::CREATE);
    // One who comes back may have a timeline of the room that does not go on with this one.
    let may_be_partial = context.since.is_some() || room.begins_later();
    let limited = is_cut || (room.left.is_none() && room.is_new() && may_be_partial && !is_whole);
    let prev_batch = match shown.first().and_then(|seen| seen.event.place) {
        // Clients take it for the beginning, and need not ask to learn that there is nothing. But they expect the field.
        Some(_) if is_whole => String::new(),
        Some(first) => token::timeline_token_before(first),
        None => token::timeline_token(TimelinePlace::live(room.end)),
    };
    Page { shown, limited, prev_batch }
}

/// The client's filter and the user's list of those they ignore let the event through.
fn allows(context: &Context<'_>, room: &Room, event: &StoredEvent) -> bool {
    let filter = &context.ask.filter.room.timeline;
    let ignored = event.state_key.is_none() && context.preferences.ignored.contains(event.pdu.sender());
    !ignored && filter.allows_room(&room.view.room_id) && filter.allows(&event.pdu)
}

/// Events from before the views' recent ones, oldest first, and for each room whether they reach back to where its
/// timeline begins.
async fn load_older(
    context: &Context<'_>,
    rooms: &[Room],
    limit: usize,
) -> Result<(Vec<Vec<Arc<StoredEvent>>>, Vec<bool>), MatrixError> {
    // One more for the oldest event of the view, which is found again.
    let look_back = (limit + 1) * LOOK_BACK + 1;
    let ranges: Vec<(RoomNid, Position, Position)> = rooms
        .iter()
        .map(|room| {
            // What was fetched later may stand at the position of the oldest, right before it.
            let oldest = room.view.recent.front().map_or(Position(i64::MAX), |event| event.position);
            (room.view.nid, room.from, room.end.min(oldest))
        })
        .collect();
    let db = context.app.storage.get().await?;
    let mut found: HashMap<RoomNid, Vec<StoredEvent>> =
        timeline::latest_for_rooms(&db, &ranges, look_back).await?;
    let found: Vec<Vec<StoredEvent>> =
        rooms.iter().map(|room| found.remove(&room.view.nid).unwrap_or_default()).collect();
    let complete = found.iter().map(|events| events.len() < look_back).collect();
    let allowed = |(room, events): (&Room, Vec<StoredEvent>)| {
        let oldest = room.view.recent.front().and_then(|event| event.place);
        let is_older = |event: &StoredEvent| oldest.is_none_or(|oldest| event.place < Some(oldest));
        events
            .into_iter()
            .filter(|event| is_older(event) && allows(context, room, event))
            .map(Arc::new)
            .collect()
    };
    Ok((rooms.iter().zip(found).map(allowed).collect(), complete))
}

/// Which of the candidates the user may see.
async fn see(
    context: &Context<'_>,
    rooms: &[Room],
    candidates: &[Vec<Arc<StoredEvent>>],
) -> Result<Vec<Vec<Seen>>, MatrixError> {
    let pages: Vec<(Look<'_>, &[Arc<StoredEvent>])> = rooms
        .iter()
        .zip(candidates)
        .map(|(room, candidates)| {
            let look = Look {
                view: &room.view,
                user: context.ask.user.nid,
                joined_at: room.mark.joined_at,
                forgotten: false,
                with_current_state: room.left.is_none(),
            };
            (look, candidates.as_slice())
        })
        .collect();
    visibility::see_pages(context.app, &pages).await
}

/// How the user's membership ended, where the rest of the timeline does not show it: however the room's history may be
/// hidden, that is for them to know. It may have come after they went out, or where this server is not in the room; then
/// it stands in no timeline.
fn last_word(context: &Context<'_>, room: &Room, seen: &[Seen]) -> Option<Seen> {
    let left = room.left.as_ref().filter(|left| left.says_so())?;
    let event = &left.event;
    let is_new = context.since.is_none_or(|since| event.position > since.position);
    let is_shown = seen.iter().any(|seen| seen.event.nid == event.nid);
    let word = || Seen { event: Arc::clone(event), membership: room.mark.membership };
    (is_new && !is_shown && allows(context, room, event)).then(word)
}
