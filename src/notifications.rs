//! The events that a user was notified about, or would have been: found by their push rules when they ask.
//!
//! Nothing is written when an event comes, as for [counts](crate::sync::counts). So rules that changed since count as
//! they are now, and only what happened since the user last joined a room is looked at, like what is unread.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, types},
    position::Position,
    push_rules::Ctx,
    relations::{Relation, relation_of, thread_of},
};
use myelin_storage::{events::StoredEvent, members, timeline};
use ruma::{EventId, push::Action};

use crate::{
    app::App,
    error::MatrixError,
    sessions::User,
    sync::{
        counts::{ReadTo, display_names},
        preferences::{self, Preferences},
    },
    visibility::{self, Look, Seen},
};

/// So many events are looked at at a time.
const BATCH: usize = 200;
/// After so many batches a page is answered as it is, be it empty: the client asks on.
const MAX_BATCHES: usize = 5;

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Up to this position. `None`: up to now.
    pub upto: Option<Position>,
    /// So many at most.
    pub limit: usize,
    /// Only highlights.
    pub only_highlights: bool,
}

/// An event that notifies.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The event.
    pub seen: Seen,
    /// What the rule that matched does.
    pub actions: Vec<Action>,
    /// The user has sent a receipt for it or something later.
    pub is_read: bool,
}

/// What was found, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events.
    pub notifications: Vec<Notification>,
    /// Where to go on. `None`: there are no more.
    pub next: Option<Position>,
}

/// Lists the user's notifications. A constant number of queries for each of a bounded number of batches.
pub async fn list(app: &App, user: &User, asked: Asked) -> Result<Page, MatrixError> {
    let preferences = preferences::read(app, user.nid).await?;
    let rooms = stretches(app, user).await?;
    let mut upto = asked.upto.unwrap_or(Position(i64::MAX));
    let mut page = Page::default();
    for _ in 0..MAX_BATCHES {
        let bounded: Vec<_> =
            rooms.iter().map(|(room, after, last)| (*room, *after, upto.min(*last))).collect();
        let db = app.storage.get().await?;
        let nids = timeline::latest_of_others(&db, &bounded, user.nid, BATCH).await?;
        drop(db);
        let mut events = app.actors.events.load(&nids).await?;
        events.sort_by_key(|event| std::cmp::Reverse(event.position));
        let wanted = asked.limit - page.notifications.len();
        let found = judge(app, user, &preferences, &events).await?;
        let mut found: Vec<Notification> = found
            .into_iter()
            .filter(|found| !asked.only_highlights || found.actions.iter().any(Action::is_highlight))
            .collect();
        let is_full = found.len() >= wanted;
        found.truncate(wanted);
        let last = if is_full { found.last().map(|found| &found.seen.event) } else { events.last() };
        let last = last.map(|event| event.position);
        page.notifications.append(&mut found);
        page.next = last.map(|last| Position(last.0 - 1)).filter(|_| is_full || nids.len() == BATCH);
        match page.next {
            Some(next) if !is_full => upto = next,
            _ => break,
        }
    }
    Ok(page)
}

/// In which rooms to look, after which position and up to which: since the user joined, and where they are invited at
/// the invitation.
async fn stretches(app: &App, user: &User) -> Result<Vec<(RoomNid, Position, Position)>, MatrixError> {
    let known = members::rooms_of(&app.storage.get().await?, user.nid).await?;
    let stretch = |room: &members::RoomOfUser| {
        let member = &room.member;
        let (after, upto) = match member.membership {
            Membership::Join => (member.joined_at?, room.room_position),
            Membership::Invite => (Position(member.position.0 - 1), member.position),
            _ => return None,
        };
        Some((member.room, after, upto))
    };
    Ok(known.rooms.iter().filter_map(stretch).collect())
}

/// Those of the events that notify the user, in the same order.
async fn judge(
    app: &App,
    user: &User,
    preferences: &Preferences,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Notification>, MatrixError> {
    let rooms: HashSet<RoomNid> = events.iter().map(|event| event.room).collect();
    let rooms: Vec<RoomNid> = rooms.into_iter().collect();
    let views = app.actors.rooms.views(&rooms).await?;
    let mut visible = see(app, user, &views, events).await?;
    let all: Vec<Arc<RoomView>> = views.values().cloned().collect();
    let read = ReadTo::load(app, user.nid, &all).await?;
    let members: Vec<EventNid> = views
        .values()
        .filter_map(|view| view.state.get(&(types::MEMBER, user.nid.into())).copied())
        .collect();
    let names = display_names(app, preferences, &members).await?;
    let notification = |event: &Arc<StoredEvent>| {
        let seen = visible.remove(&event.nid)?;
        let view = views.get(&event.room)?;
        if preferences.ignored.contains(event.pdu.sender()) || event.redacted_by.is_some() {
            return None;
        }
        let considered = app.memory.sync.considered.of(event, view);
        let ctx = Ctx {
            user_id: &user.id,
            display_name: names.get(&event.room).map(String::as_str),
            member_count: view.joined as u64,
            sender_power: considered.sender_power.as_ref()?,
        };
        let actions = preferences.actions(&considered.flat, &ctx)?;
        let thread = considered
            .relation
            .as_ref()
            .and_then(|relation| thread_of(relation, |parent| relation_among(events, view, parent)));
        let read = read.get(&event.room);
        let is_read = read.is_some_and(|read| read.has_read(event.place, thread.as_deref()));
        Some(Notification { seen, actions, is_read })
    };
    Ok(events.iter().filter_map(notification).collect())
}

/// Those of the events that the user may see. At most one query, however many rooms they are of.
async fn see(
    app: &App,
    user: &User,
    views: &HashMap<RoomNid, Arc<RoomView>>,
    events: &[Arc<StoredEvent>],
) -> Result<HashMap<EventNid, Seen>, MatrixError> {
    let mut by_room: HashMap<RoomNid, Vec<Arc<StoredEvent>>> = HashMap::new();
    for event in events.iter().rev() {
        by_room.entry(event.room).or_default().push(Arc::clone(event));
    }
    let pages: Vec<(Look<'_>, &[Arc<StoredEvent>])> = by_room
        .iter()
        .filter_map(|(room, events)| {
            let view = views.get(room)?;
            // An invitation is shown to who is invited, whatever the room shows of its history.
            let with_current_state = true;
            let look = Look { view, user: user.nid, joined_at: None, forgotten: false, with_current_state };
            Some((look, events.as_slice()))
        })
        .collect();
    let seen = visibility::see_pages(app, &pages).await?;
    Ok(seen.into_iter().flatten().map(|seen| (seen.event.nid, seen)).collect())
}

/// The relation of an event that is in memory.
fn relation_among(events: &[Arc<StoredEvent>], view: &RoomView, id: &EventId) -> Option<Relation> {
    let found = events.iter().chain(&view.recent).find(|event| event.pdu.event_id() == id)?;
    relation_of(&found.pdu)
}
