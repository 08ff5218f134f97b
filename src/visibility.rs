//! Which of a room's events a user may see, and what the user was at each: for every endpoint that shows events.
//!
//! The rule is [`myelin_core::visibility`]; here the state at each event is found for it. Mostly the published view
//! knows it without a query: nothing that matters has changed since the events. Otherwise the events' snapshots are
//! asked, all in one query however many rooms and events there are.

mod branches;
pub mod erasure;
pub mod servers;

use std::{collections::HashMap, sync::Arc};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    nid::{EMPTY_STATE_KEY, EventNid, SnapshotNid, UserNid, types},
    position::Position,
    state::StateKey,
    visibility::{AtEvent, HistoryVisibility, is_visible},
};
use myelin_storage::{events::StoredEvent, members, state};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{app::App, error::MatrixError};

/// An event that the user may see.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The event; redacted, if the user is not to read what it said.
    pub event: Arc<StoredEvent>,
    /// What the user was in the room at the event, after it when it is about them.
    pub membership: Membership,
}

/// A user who looks at events of a room.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The room.
    pub view: &'a RoomView,
    /// The user.
    pub user: UserNid,
    /// When the user last joined; `None`: never, or they have forgotten the room since.
    pub joined_at: Option<Position>,
    /// They have forgotten the room: it does not count what they were there.
    pub forgotten: bool,
    /// Events that are the room's current state are seen whatever the visibility was: the user has them as state.
    pub with_current_state: bool,
}

impl Look<'_> {
    /// The user joined after this event, or is in the room now.
    fn joined_after(&self, event: &StoredEvent) -> bool {
        let stands_at = event.place.map_or(event.position, |place| place.anchor);
        self.view.is_joined(self.user) || self.joined_at.is_some_and(|joined_at| joined_at >= stands_at)
    }

    fn is_current(&self, event: &StoredEvent) -> bool {
        let key = event.state_key.map(|key| (event.type_nid, key));
        key.is_some_and(|key| self.view.state.get(&key) == Some(&event.nid))
    }

    fn see(&self, event: &Arc<StoredEvent>, before: Standing) -> Option<Seen> {
        let is_own = event.type_nid == types::MEMBER && event.state_key == Some(self.user.into());
        let new_membership = if is_own && !self.forgotten { Membership::of_event(&event.pdu) } else { None };
        let sets_visibility =
            event.type_nid == types::HISTORY_VISIBILITY && event.state_key == Some(EMPTY_STATE_KEY);
        let at = AtEvent {
            visibility: before.visibility,
            new_visibility: sets_visibility.then(|| HistoryVisibility::of_event(Some(&event.pdu))),
            membership: before.membership.filter(|_| !self.forgotten),
            new_membership,
            joined_later: self.joined_after(event),
        };
        let seen = is_visible(&at) || (self.with_current_state && self.is_current(event));
        let membership = new_membership.or(before.membership).unwrap_or(Membership::Leave);
        seen.then(|| Seen { event: Arc::clone(event), membership })
    }
}

/// The room before an event, as far as it decides who may see the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    visibility: HistoryVisibility,
    membership: Option<Membership>,
}

/// Which of these events of the room the user may see, in the order given.
///
/// For one who is not in the room this asks storage whether they ever were.
pub async fn visible_events(
    app: &App,
    view: &RoomView,
    user: UserNid,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Seen>, MatrixError> {
    let row = match view.membership(user) {
        // Of one who is there now it need not be asked.
        None | Some(Membership::Join) => None,
        Some(_) => members::find(&app.storage.get().await?, view.nid, user).await?,
    };
    let forgotten = row.as_ref().is_some_and(|row| row.forgotten);
    let joined_at = row.and_then(|row| row.joined_at).filter(|_| !forgotten);
    let look = Look { view, user, joined_at, forgotten, with_current_state: false };
    Ok(see_pages(app, &[(look, events)]).await?.pop().unwrap_or_default())
}

/// The same for many pages at once, each of one room: at most one query for all of them, besides the events that
/// hold the state asked for, and one about [`erasure`] when there are events from before the user came.
pub async fn see_pages(
    app: &App,
    pages: &[(Look<'_>, &[Arc<StoredEvent>])],
) -> Result<Vec<Vec<Seen>>, MatrixError> {
    let walked: Vec<Option<HashMap<EventNid, Standing>>> =
        pages.iter().map(|(look, events)| walk_back(look, events)).collect();
    let mut snapshots: Vec<SnapshotNid> = Vec::new();
    let mut keys: Vec<StateKey> = vec![(types::HISTORY_VISIBILITY, EMPTY_STATE_KEY)];
    for ((look, events), walked) in pages.iter().zip(&walked) {
        if walked.is_none() {
            snapshots.extend(events.iter().filter_map(|event| event.snapshot));
            keys.push((types::MEMBER, look.user.into()));
        }
    }
    let looked_up = LookedUp::load(app, snapshots, keys).await?;
    let mut seen = Vec::with_capacity(pages.len());
    for ((look, events), walked) in pages.iter().zip(walked) {
        let standing = |event: &StoredEvent| match &walked {
            Some(walked) => walked.get(&event.nid).copied(),
            None => Some(looked_up.standing(event.snapshot, look.user)),
        };
        seen.push(events.iter().filter_map(|event| look.see(event, standing(event)?)).collect());
    }
    erasure::hide(app, &mut seen).await?;
    Ok(seen)
}

/// The standing before each event, from the view alone: back from what is true now, over the recent events. `None`
/// when that cannot tell: the events are older, or what matters changed while the room's history had branches, or on
/// one that an event does not follow.
fn walk_back(look: &Look<'_>, events: &[Arc<StoredEvent>]) -> Option<HashMap<EventNid, Standing>> {
    let Some(oldest) = events.iter().min_by_key(|event| event.place) else { return Some(HashMap::new()) };
    let recent = &look.view.recent;
    let start = recent.iter().rposition(|event| event.nid == oldest.nid)?;
    let meeting = branches::meeting_before(look.view, start)?;
    let mut standing = Standing {
        visibility: HistoryVisibility::of_event(look.view.essential(types::HISTORY_VISIBILITY)),
        membership: look.view.membership(look.user),
    };
    let mut standings = HashMap::with_capacity(events.len());
    let mut changed = false;
    for index in ((meeting + 1).min(start)..recent.len()).rev() {
        let event = &recent[index];
        if event.state_key == Some(look.user.into()) && event.type_nid == types::MEMBER {
            standing.membership = previous_content(event).and_then(membership_in);
            changed = true;
        } else if event.state_key == Some(EMPTY_STATE_KEY) && event.type_nid == types::HISTORY_VISIBILITY {
            standing.visibility = previous_content(event).map_or(HistoryVisibility::default(), visibility_in);
            changed = true;
        }
        standings.insert(event.nid, standing);
    }
    let known = events.iter().all(|event| standings.contains_key(&event.nid));
    (known && (!changed || branches::is_one_line_after(look.view, start))).then_some(standings)
}

/// From this one of the recent events on, each has exactly the one before it as its parent: then the state before
/// each is the state after the one before.
pub fn is_linear(view: &RoomView, start: usize) -> bool {
    (start.max(1)..view.recent.len()).all(|index| {
        let parents = view.recent[index].pdu.prev_events();
        matches!(parents, [parent] if parent == view.recent[index - 1].pdu.event_id())
    })
}

fn previous_content(event: &StoredEvent) -> Option<&RawValue> {
    event.prev_content.as_ref().map(|replaced| &*replaced.content)
}

/// The membership that the content of a member event gives.
pub(crate) fn membership_in(content: &RawValue) -> Option<Membership> {
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    serde_json::from_str::<Content>(content.get())
        .ok()
        .and_then(|content| Membership::parse(&content.membership))
}

fn visibility_in(content: &RawValue) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: String,
    }
    serde_json::from_str::<Content>(content.get())
        .map_or(HistoryVisibility::default(), |content| HistoryVisibility::parse(&content.history_visibility))
}

/// What the snapshots before events say.
#[derive(Default)]
struct LookedUp {
    found: HashMap<(SnapshotNid, StateKey), EventNid>,
    events: HashMap<EventNid, Arc<StoredEvent>>,
}

impl LookedUp {
    async fn load(
        app: &App,
        mut snapshots: Vec<SnapshotNid>,
        mut keys: Vec<StateKey>,
    ) -> Result<Self, MatrixError> {
        snapshots.sort_unstable();
        snapshots.dedup();
        keys.sort_unstable();
        keys.dedup();
        if snapshots.is_empty() {
            return Ok(Self::default());
        }
        let found = state::lookup(&app.storage.get().await?, &snapshots, &keys).await?;
        let mut nids: Vec<EventNid> = found.values().copied().collect();
        nids.sort_unstable();
        nids.dedup();
        let events = app.actors.events.load(&nids).await?;
        Ok(Self { found, events: events.into_iter().map(|event| (event.nid, event)).collect() })
    }

    fn event(&self, snapshot: SnapshotNid, key: StateKey) -> Option<&StoredEvent> {
        self.events.get(self.found.get(&(snapshot, key))?).map(|event| &**event)
    }

    fn standing(&self, snapshot: Option<SnapshotNid>, user: UserNid) -> Standing {
        let event = |key| snapshot.and_then(|snapshot| self.event(snapshot, key));
        let visibility = event((types::HISTORY_VISIBILITY, EMPTY_STATE_KEY));
        let membership = event((types::MEMBER, user.into()));
        Standing {
            visibility: HistoryVisibility::of_event(visibility.map(|event| &event.pdu)),
            membership: membership.and_then(|event| Membership::of_event(&event.pdu)),
        }
    }
}
