//! How much a user has not read: derived from the events after where they have read to, when it is asked for.
//!
//! Nothing is written when an event comes. What was counted once is remembered with the position up to which it is
//! right, in memory and now and then in storage, and brought forward over the events that came after. Only when one of
//! the user's own receipts moved, or something was redacted, is a room counted anew, from where they have read to.

mod considered;
mod known;
mod read;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use myelin_core::{
    nid::{EventNid, RoomNid, types},
    position::Position,
    push_rules::Ctx,
    relations::{Relation, relation_of, thread_of},
};
use myelin_storage::{events::StoredEvent, timeline, unread};
use ruma::{EventId, OwnedEventId};
use serde::Deserialize;

pub(crate) use self::read::ReadTo;
pub use self::{considered::ConsideredCache, known::CountCache};
use self::{
    known::{known_counts, to_row},
    read::read_to,
};
use super::{
    Context,
    answer::{RoomPart, Unread},
    preferences::Preferences,
    rooms::Room,
};
use crate::{app::App, error::MatrixError};

/// How many events all rooms of an answer together are counted over, when they are not in memory.
const MAX_EVENTS: usize = 20_000;
/// How many of them each room may have at least, and at most.
const EVENTS_A_ROOM: (usize, usize) = (50, 1_000);
/// After counting that many events the counts are worth storing.
const WORTH_STORING: usize = 20;

/// What a user has not read of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Events and the user's own receipts up to here are counted.
    position: Position,
    /// Outside of threads.
    main: Unread,
    /// In each thread, by its root.
    threads: BTreeMap<OwnedEventId, Unread>,
}

/// Puts the counts into the parts of those rooms that will be told of. A constant number of queries, none when what
/// came since the last count is in memory.
pub(crate) async fn fill(
    context: &Context<'_>,
    rooms: &[Room],
    parts: &mut [RoomPart],
) -> Result<(), MatrixError> {
    let told: Vec<usize> = (0..rooms.len())
        .filter(|index| rooms[*index].left.is_none())
        .filter(|index| !parts[*index].is_empty() || rooms[*index].must_be_told(context))
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let wanted: Vec<&Room> = told.iter().map(|index| &rooms[*index]).collect();
    let by_thread = context.ask.filter.room.timeline.unread_thread_notifications;
    for (index, counts) in told.into_iter().zip(count(context, &wanted).await?) {
        let part = &mut parts[index];
        if by_thread {
            part.unread = Some(counts.main);
            part.unread_threads =
                counts.threads.into_iter().filter(|(_, unread)| *unread != Unread::default()).collect();
        } else {
            part.unread = Some(counts.total());
        }
    }
    Ok(())
}

impl Counts {
    fn total(&self) -> Unread {
        self.threads.values().fold(self.main, |total, thread| Unread {
            notifications: total.notifications + thread.notifications,
            highlights: total.highlights + thread.highlights,
        })
    }

    fn of(&mut self, thread: Option<&EventId>) -> &mut Unread {
        match thread {
            Some(root) => self.threads.entry(root.to_owned()).or_default(),
            None => &mut self.main,
        }
    }
}

/// A room on the way to being counted.
struct Counting<'a> {
    room: &'a Room,
    counts: Counts,
    /// Where the user has read to, when the room is counted anew.
    read: Option<ReadTo>,
    events: Vec<Arc<StoredEvent>>,
    /// The events had to be read from storage.
    from_storage: bool,
}

/// Something was redacted since that may have been counted.
fn may_be_less(room: &Room, counts: &Counts) -> bool {
    let mut since = room.view.recent.iter().rev().take_while(|event| event.position > counts.position);
    counts.total() != Unread::default() && since.any(|event| event.type_nid == types::REDACTION)
}

async fn count(context: &Context<'_>, rooms: &[&Room]) -> Result<Vec<Counts>, MatrixError> {
    let user = context.ask.user.nid;
    let mut known = known_counts(context, rooms).await?;
    for room in rooms {
        if known.get(&room.view.nid).is_some_and(|counts| may_be_less(room, counts)) {
            known.remove(&room.view.nid);
        }
    }
    let moved: Vec<&Room> = rooms
        .iter()
        .copied()
        .filter(|room| known.get(&room.view.nid).is_none_or(|counts| room.mark.receipts > counts.position))
        .collect();
    let mut read = read_to(context, &moved, &known).await?;
    let mut countings: Vec<Counting<'_>> = rooms
        .iter()
        .map(|room| {
            let read = read.remove(&room.view.nid);
            let counts = match &read {
                // Whoever has not read since they joined has not missed what came before.
                Some(read) => {
                    let from = read.all.map(|place| place.anchor).max(room.mark.joined_at);
                    Counts { position: from.unwrap_or_default(), ..Counts::default() }
                }
                None => known.remove(&room.view.nid).unwrap_or_default(),
            };
            Counting { room, counts, read, events: Vec::new(), from_storage: false }
        })
        .collect();
    gather_events(context, &mut countings).await?;
    let counted = countings.iter().filter(|counting| !counting.events.is_empty());
    let members: Vec<EventNid> = counted.map(|counting| counting.room.mark.member_event).collect();
    let names = display_names(context.app, &context.preferences, &members).await?;
    let mut stored = Vec::new();
    let mut results = Vec::with_capacity(countings.len());
    for counting in countings {
        let is_worth_storing = counting.from_storage || counting.events.len() >= WORTH_STORING;
        let name = names.get(&counting.room.view.nid).map(String::as_str);
        let (nid, counts) = (counting.room.view.nid, bring_forward(context, counting, name));
        context.app.memory.sync.counts.put(user, nid, &counts);
        if is_worth_storing {
            stored.push(to_row(nid, &counts));
        }
        results.push(counts);
    }
    if !stored.is_empty() {
        unread::store(&context.app.storage.get().await?, user, &stored).await?;
    }
    Ok(results)
}

/// Gives each room the events that it is to be counted over: from its view, else all from storage in one query.
async fn gather_events(context: &Context<'_>, countings: &mut [Counting<'_>]) -> Result<(), MatrixError> {
    let mut missing = Vec::new();
    for counting in countings.iter_mut() {
        let (room, after) = (counting.room, counting.counts.position);
        if let Some(events) = room.view.timeline(after, room.end) {
            counting.events = events;
        } else {
            counting.from_storage = true;
            missing.push((room.view.nid, after, room.end));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let limit = (MAX_EVENTS / missing.len()).clamp(EVENTS_A_ROOM.0, EVENTS_A_ROOM.1);
    let db = context.app.storage.get().await?;
    let mut found = timeline::latest_for_rooms(&db, &missing, limit).await?;
    for counting in countings.iter_mut().filter(|counting| counting.from_storage) {
        let events = found.remove(&counting.room.view.nid).unwrap_or_default();
        counting.events = events.into_iter().map(Arc::new).collect();
    }
    Ok(())
}

/// The user's display names in rooms by these member events of theirs, if the user's rules look for them.
pub(crate) async fn display_names(
    app: &App,
    preferences: &Preferences,
    members: &[EventNid],
) -> Result<HashMap<RoomNid, String>, MatrixError> {
    #[derive(Deserialize)]
    struct Content {
        displayname: Option<String>,
    }
    if members.is_empty() || !preferences.look_for_display_name() {
        return Ok(HashMap::new());
    }
    let events = app.actors.events.load(members).await?;
    let name =
        |event: &Arc<StoredEvent>| event.pdu.content_as::<Content>().and_then(|content| content.displayname);
    Ok(events.iter().filter_map(|event| Some((event.room, name(event)?))).collect())
}

/// The room's counts with its new events counted in.
fn bring_forward(context: &Context<'_>, counting: Counting<'_>, display_name: Option<&str>) -> Counts {
    let Counting { room, mut counts, read, events, .. } = counting;
    let view = &room.view;
    let mut relations = Relations { room, events: &events };
    let counted = counts.position;
    for event in events.iter().filter(|event| event.position > counted) {
        let considered = context.app.memory.sync.considered.of(event, view);
        let relation = considered.relation.as_ref();
        let thread = relation.and_then(|relation| thread_of(relation, |parent| relations.of(parent)));
        if read.as_ref().is_some_and(|read| read.has_read(event.place, thread.as_deref())) {
            continue;
        }
        if event.sender == context.ask.user.nid {
            // Who writes has read. A new name or avatar is told to all rooms without looking at any.
            let is_about_self =
                event.type_nid == types::MEMBER && event.state_key == Some(event.sender.into());
            if !is_about_self {
                *counts.of(thread.as_deref()) = Unread::default();
            }
            continue;
        }
        if context.preferences.ignored.contains(event.pdu.sender()) || event.redacted_by.is_some() {
            continue;
        }
        let Some(sender_power) = &considered.sender_power else { continue };
        let ctx = Ctx {
            user_id: &context.ask.user.id,
            display_name,
            member_count: view.joined as u64,
            sender_power,
        };
        let outcome = context.preferences.evaluate(&considered.flat, &ctx);
        let unread = counts.of(thread.as_deref());
        unread.notifications += u64::from(outcome.notify);
        unread.highlights += u64::from(outcome.highlight);
    }
    counts.threads.retain(|_, unread| *unread != Unread::default());
    counts.position = counts.position.max(room.end);
    counts
}

/// Relations of events in memory, by which an event's thread is found.
struct Relations<'a> {
    room: &'a Room,
    events: &'a [Arc<StoredEvent>],
}

impl Relations<'_> {
    fn of(&mut self, event: &EventId) -> Option<Relation> {
        let is_it = |candidate: &&Arc<StoredEvent>| candidate.pdu.event_id() == event;
        let recent = || self.room.view.recent.iter().rev().find(is_it);
        let found = self.events.iter().rev().find(is_it).or_else(recent)?;
        relation_of(&found.pdu)
    }
}
