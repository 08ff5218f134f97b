//! The state of an answer's rooms: what of it the client does not know and does not learn from the timelines.
//!
//! A client that applies the state first and then the timeline ends with the room's state at the timeline's end. So a
//! state event that a later one of the shown timeline replaces is told as it was before, and what changed without
//! being shown (it was filtered out, or fell into a gap) is told as it is at the end. With `use_state_after` the client
//! takes nothing from the timeline, and everything is told as it is at the end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, SnapshotNid, TypeNid, types},
    position::Position,
    state::{StateKey, StateMap},
};
use myelin_storage::{
    events::StoredEvent,
    gaps::{self, StateAt},
    state::load_snapshots,
};

use super::{
    Context,
    answer::StateField,
    members,
    rooms::{Room, left::Left},
    summary,
    timeline::Page,
};
use crate::{
    error::MatrixError,
    filter::RoomEvents,
    visibility::{is_linear, membership_in},
};

/// What is told of a room's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomState {
    /// The state events, already filtered.
    pub(crate) events: Vec<Arc<StoredEvent>>,
    /// What the summary says may have changed: whether that is told here, in the timeline, or not at all.
    pub(crate) summary_changed: bool,
}

/// Where a room's state at some position is found.
#[derive(Clone, Debug)]
enum Source {
    /// Here.
    Map(StateMap),
    /// In storage.
    Stored(StateAt),
    /// In storage, where the room's current state at this position has to be looked up.
    At(Position),
}

/// What changed in a room's state since the client knew it.
#[derive(Clone, Debug)]
enum Changes {
    /// At most these places.
    Places(Vec<StateKey>),
    /// What is different from this older state.
    From(Source),
    /// All of it: the client knows nothing.
    Everything,
}

/// A state event to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) key: StateKey,
    pub(crate) event: EventNid,
    /// The client knows it when it is older than this.
    pub(crate) unless_older: Option<Position>,
}

/// The rooms' states, in the same order. A constant number of queries, and none when the views tell all and the events
/// are in memory.
pub(crate) async fn states(
    context: &Context<'_>,
    rooms: &[Room],
    pages: &[Page],
) -> Result<Vec<RoomState>, MatrixError> {
    let sources: Vec<(Source, Changes)> =
        rooms.iter().map(|room| (state_at_end(room), changes(room))).collect();
    let stored = StoredStates::load(context, rooms, &sources).await?;
    let mut told: Vec<Vec<Told>> = Vec::with_capacity(rooms.len());
    let mut summary_changed = Vec::with_capacity(rooms.len());
    for ((room, page), (end, changes)) in rooms.iter().zip(pages).zip(&sources) {
        let mut end = stored.map(room.view.nid, end);
        end.extend(room.left.as_ref().and_then(Left::in_state));
        let changed = changed_places(room, &end, changes, &stored);
        let did_change = did_members_change(room, changes, &changed) || summary::did_name_go(room, &changed);
        summary_changed.push(did_change);
        let base = if room.wants_all_state() && !room.stayed_outside() {
            end.iter().map(|(key, event)| (*key, *event)).collect()
        } else {
            changed
        };
        let state_field = context.ask.state_field;
        let room_told = without_shown(room, page, base, state_field);
        let with_heroes = did_change && room.left.is_none();
        told.push(members::lazy(context, room, page, &end, room_told, with_heroes));
    }
    let events = load(context, rooms, told).await?;
    members::note_sent(context, rooms, pages, &events);
    Ok(events
        .into_iter()
        .zip(summary_changed)
        .map(|(events, summary_changed)| RoomState { events, summary_changed })
        .collect())
}

/// The state at the end of the room's timeline.
fn state_at_end(room: &Room) -> Source {
    let view = &room.view;
    if room.stayed_outside() {
        return Source::Map(StateMap::default());
    }
    if view.position <= room.end {
        return Source::Map(view.state.clone());
    }
    if view.recent_from <= room.end {
        let first_later = view.recent.iter().position(|event| event.position > room.end);
        let Some(first_later) = first_later else { return Source::Map(view.state.clone()) };
        if is_one_line(view, first_later) {
            return Source::Map(walk_back(room, first_later));
        }
        return Source::At(room.end);
    }
    match room.left.as_ref().and_then(|left| left.out.as_ref()) {
        Some(left) => match (left.snapshot, left.state_key) {
            (Some(_), Some(key)) => Source::Stored(StateAt {
                snapshot: left.snapshot,
                added: Some(((left.type_nid, key), left.nid)),
            }),
            _ => Source::Map(StateMap::default()),
        },
        None => Source::At(room.end),
    }
}

/// From this one of the recent events on, each follows the one before and nothing else, and there is no other branch:
/// the current state changed by them alone.
fn is_one_line(view: &RoomView, start: usize) -> bool {
    let is_end = |last: &StoredEvent| matches!(&*view.ends, [end] if end == last.pdu.event_id());
    start > 0 && view.recent.back().is_some_and(|last| is_end(last)) && is_linear(view, start)
}

/// The view's state without its recent events from this one on.
fn walk_back(room: &Room, first_later: usize) -> StateMap {
    let mut state = room.view.state.clone();
    for event in room.view.recent.iter().skip(first_later).rev() {
        let Some(key) = event.state_key else { continue };
        match event.replaces {
            Some(replaced) => drop(state.insert((event.type_nid, key), replaced)),
            None => drop(state.remove(&(event.type_nid, key))),
        }
    }
    state
}

fn changes(room: &Room) -> Changes {
    let mut changes = changes_inside(room);
    if let (Changes::Places(places), Some(left)) = (&mut changes, &room.left) {
        places.extend(left.in_state().map(|(key, _)| key));
    }
    changes
}

/// What changed while the user was in the room.
fn changes_inside(room: &Room) -> Changes {
    if room.stayed_outside() {
        return Changes::Places(Vec::new());
    }
    let Some(known) = room.known else { return Changes::Everything };
    let view = &room.view;
    if known >= room.end || room.mark.events <= known {
        return Changes::Places(Vec::new());
    }
    if known < view.recent_from {
        return Changes::From(Source::At(known));
    }
    let shown = || room.window().filter_map(|event| Some((event.type_nid, event.state_key?)));
    if let Some(resolved) = view.resolved_after(known) {
        return Changes::Places(shown().chain(resolved).collect());
    }
    // The room was read from storage since.
    let Some(first) = view.recent.iter().position(|event| event.position > known) else {
        return Changes::Places(Vec::new());
    };
    if is_one_line(view, first) {
        Changes::Places(shown().collect())
    } else {
        Changes::From(Source::At(known))
    }
}

fn changed_places(
    room: &Room,
    end: &StateMap,
    changes: &Changes,
    stored: &StoredStates,
) -> Vec<(StateKey, EventNid)> {
    let all = || end.iter().map(|(key, event)| (*key, *event));
    match changes {
        Changes::Everything => all().collect(),
        Changes::From(source) => {
            let old = stored.map(room.view.nid, source);
            all().filter(|(key, event)| old.get(key) != Some(event)).collect()
        }
        Changes::Places(keys) => {
            let keys: HashSet<&StateKey> = keys.iter().collect();
            let mut places: Vec<(StateKey, EventNid)> =
                keys.into_iter().filter_map(|key| Some((*key, *end.get(key)?))).collect();
            places.sort_unstable();
            places
        }
    }
}

/// Somebody's membership is another one. A new display name does not count, as far as the view can tell them apart.
fn did_members_change(room: &Room, changes: &Changes, places: &[(StateKey, EventNid)]) -> bool {
    if room.is_new() {
        return true;
    }
    let has_member_event = places.iter().any(|((kind, _), _)| *kind == types::MEMBER);
    if !has_member_event || !matches!(changes, Changes::Places(_)) {
        return has_member_event;
    }
    let mut resolved = room.known.and_then(|known| room.view.resolved_after(known)).into_iter().flatten();
    if resolved.any(|(kind, _)| kind == types::MEMBER) {
        return true;
    }
    room.window().filter(|event| event.type_nid == types::MEMBER).any(|event| {
        let before = event.prev_content.as_ref().and_then(|replaced| membership_in(&replaced.content));
        before != Membership::of_event(&event.pdu)
    })
}

/// States that had to be read from storage.
#[derive(Default)]
struct StoredStates {
    snapshots: HashMap<SnapshotNid, StateMap>,
    at: HashMap<(RoomNid, Position), StateAt>,
}

impl StoredStates {
    async fn load(
        context: &Context<'_>,
        rooms: &[Room],
        sources: &[(Source, Changes)],
    ) -> Result<Self, MatrixError> {
        let mut stored = Self::default();
        let (mut states, mut gaps) = (Vec::new(), Vec::new());
        for (room, (end, changes)) in rooms.iter().zip(sources) {
            let changed_from = if let Changes::From(source) = changes { Some(source) } else { None };
            for source in std::iter::once(end).chain(changed_from) {
                match source {
                    Source::Map(_) => {}
                    Source::Stored(state) => states.push(*state),
                    Source::At(position) => gaps.push((room.view.nid, *position)),
                }
            }
        }
        if states.is_empty() && gaps.is_empty() {
            return Ok(stored);
        }
        let db = context.app.storage.get().await?;
        if !gaps.is_empty() {
            // A room may be asked about at two positions, and a query answers one for each room.
            let (first, second) = once_each(gaps);
            for gaps in [first, second].into_iter().filter(|gaps| !gaps.is_empty()) {
                let found = gaps::states_at(&db, &gaps).await?;
                states.extend(found.values());
                let of_gap =
                    |(room, position): (RoomNid, Position)| Some(((room, position), *found.get(&room)?));
                stored.at.extend(gaps.into_iter().filter_map(of_gap));
            }
        }
        let mut snapshots: Vec<SnapshotNid> = states.iter().filter_map(|state| state.snapshot).collect();
        snapshots.sort_unstable();
        snapshots.dedup();
        let layers = load_snapshots(&db, &snapshots).await?;
        stored.snapshots = layers.into_iter().map(|(nid, layers)| (nid, layers.to_map())).collect();
        Ok(stored)
    }

    fn map(&self, room: RoomNid, source: &Source) -> StateMap {
        match source {
            Source::Map(map) => map.clone(),
            Source::Stored(state) => self.state(*state),
            Source::At(position) => {
                self.at.get(&(room, *position)).map(|state| self.state(*state)).unwrap_or_default()
            }
        }
    }

    fn state(&self, state: StateAt) -> StateMap {
        let mut map = state.snapshot.and_then(|nid| self.snapshots.get(&nid)).cloned().unwrap_or_default();
        map.extend(state.added);
        map
    }
}

type Gaps = Vec<(RoomNid, Position)>;

fn once_each(gaps: Gaps) -> (Gaps, Gaps) {
    let mut rooms = HashSet::new();
    gaps.into_iter().partition(|(room, _)| rooms.insert(*room))
}

/// The places' events for a client that sees the page as well: what the page shows is told as it was before.
fn without_shown(room: &Room, page: &Page, base: Vec<(StateKey, EventNid)>, field: StateField) -> Vec<Told> {
    let told = |(key, event)| Told { key, event, unless_older: None };
    if field != StateField::Before {
        return base.into_iter().map(told).collect();
    }
    let shown = shown_first(page);
    let unless_older = if room.wants_all_state() { None } else { room.known };
    let told = |(key, event): (StateKey, EventNid)| match shown.get(&key) {
        None => Some(told((key, event))),
        // What they were before is nothing that the client needs to learn.
        Some(_) if room.stayed_outside() => None,
        Some(first) => first.replaces.map(|event| Told { key, event, unless_older }),
    };
    base.into_iter().filter_map(told).collect()
}

/// The first event that the page shows for each place in the state.
fn shown_first(page: &Page) -> HashMap<StateKey, &StoredEvent> {
    let mut shown = HashMap::new();
    for event in page.shown.iter().map(|seen| &*seen.event) {
        if let Some(key) = event.state_key {
            shown.entry((event.type_nid, key)).or_insert(event);
        }
    }
    shown
}

/// The events that are told, as far as the filter lets them through.
async fn load(
    context: &Context<'_>,
    rooms: &[Room],
    told: Vec<Vec<Told>>,
) -> Result<Vec<Vec<Arc<StoredEvent>>>, MatrixError> {
    let filter = &context.ask.filter.room.state;
    let names = type_names(context, &told).await?;
    let wants = |told: &Told| names.as_ref().is_none_or(|names| names.contains(&told.key.0));
    let told: Vec<Vec<Told>> = rooms
        .iter()
        .zip(told)
        .map(|(room, told)| {
            let allowed = filter.allows_room(&room.view.room_id);
            told.into_iter().filter(|told| allowed && wants(told)).collect()
        })
        .collect();
    let mut nids: Vec<EventNid> = told.iter().flatten().map(|told| told.event).collect();
    if nids.is_empty() {
        return Ok(vec![Vec::new(); rooms.len()]);
    }
    nids.sort_unstable();
    nids.dedup();
    let events = context.app.actors.events.load(&nids).await?;
    let events: HashMap<EventNid, Arc<StoredEvent>> =
        events.into_iter().map(|event| (event.nid, event)).collect();
    let pick = |told: Told| {
        let event = events.get(&told.event)?;
        let is_known = told.unless_older.is_some_and(|known| event.position <= known);
        (!is_known && filter.allows(&event.pdu)).then(|| Arc::clone(event))
    };
    Ok(told.into_iter().map(|told| told.into_iter().filter_map(pick).collect()).collect())
}

/// The types among these that the filter lets through; `None`: all, since it does not look at types.
async fn type_names(
    context: &Context<'_>,
    told: &[Vec<Told>],
) -> Result<Option<HashSet<TypeNid>>, MatrixError> {
    let filter = &context.ask.filter.room.state;
    if filter.types.is_none() && filter.not_types.is_empty() {
        return Ok(None);
    }
    let nids: HashSet<TypeNid> = told.iter().flatten().map(|told| told.key.0).collect();
    let nids: Vec<TypeNid> = nids.into_iter().collect();
    let names = context.app.actors.nids.type_names(&nids).await?;
    let wanted = nids.into_iter().zip(names).filter(|(_, name)| filter.allows_type(name));
    Ok(Some(wanted.map(|(nid, _)| nid).collect()))
}
