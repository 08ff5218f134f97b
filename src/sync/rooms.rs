//! Which rooms an answer tells about, and from where to where.

pub(crate) mod left;

use std::{collections::HashMap, sync::Arc};

use myelin_actors::{
    room::view::RoomView,
    sync::messages::{RoomMark, SyncPoint},
};
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, types},
    position::Position,
};
use myelin_storage::events::StoredEvent;

use self::left::Left;
use super::Context;
use crate::{error::MatrixError, filter};

/// Where in the answer a room stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Join,
    Leave,
    Invite,
    Knock,
}

/// A room with a timeline: the user is in it or has left it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// What the user's actor knows of it.
    pub(crate) mark: RoomMark,
    /// The room. It may be newer than `end`.
    pub(crate) view: Arc<RoomView>,
    /// The client has the room's state as of this position; `None`: it has none.
    pub(crate) known: Option<Position>,
    /// All of the state is wanted, although the client has some of it.
    pub(crate) all_state: bool,
    /// The timeline begins after this position.
    pub(crate) from: Position,
    /// The timeline ends with this position. What became of one who had left by then follows it.
    pub(crate) end: Position,
    /// How the user's stay ended, if they are not in the room any more.
    pub(crate) left: Option<Left>,
}

impl Room {
    /// The user is outside and was not inside either since the client knows the room: an invitation or a knock has
    /// come to nothing, or one who had left is banned. All that there is to tell is how it ended.
    pub(crate) fn stayed_outside(&self) -> bool {
        let Some(left) = &self.left else { return false };
        left.inside_until(&self.mark).is_none_or(|until| {
            // Who asks for all of the state gets it as it was when they went out.
            !self.all_state && self.known.is_some_and(|known| until <= known)
        })
    }

    /// The user has joined since the last answer.
    pub(crate) fn is_new(&self) -> bool {
        self.known.is_none()
    }

    /// The state as a whole goes into the answer.
    pub(crate) fn wants_all_state(&self) -> bool {
        self.all_state || self.is_new()
    }

    /// The view's recent events that the timeline may show, oldest first.
    pub(crate) fn window(&self) -> impl Iterator<Item = &Arc<StoredEvent>> {
        self.view.recent.iter().filter(|event| event.position > self.from && event.position <= self.end)
    }

    /// The window has every event between `from` and `end`.
    pub(crate) fn is_covered(&self) -> bool {
        let is_live_only = || self.from == Position::START && self.begins_later();
        self.from >= self.end || (self.from >= self.view.recent_from && !is_live_only())
    }

    /// This server came into the room later than the room began: what was fetched from before stands before the first
    /// event that the view may have.
    pub(crate) fn begins_later(&self) -> bool {
        self.view.recent_from == Position::START
            && self.view.recent.front().is_some_and(|first| first.type_nid != types::CREATE)
    }

    /// The room stands in the answer even when nothing else is to be told about it.
    pub(crate) fn must_be_told(&self, context: &Context<'_>) -> bool {
        let changed = context.since.is_none_or(|since| self.mark.membership_position > since.position);
        changed || context.ask.full_state
    }
}

/// A room that the user is invited to or knocks on.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) mark: RoomMark,
    pub(crate) view: Arc<RoomView>,
}

/// What an answer tells about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) rooms: Vec<Room>,
    pub(crate) outside: Vec<Outside>,
}

/// Sorts the news' rooms.
pub(crate) async fn plan(context: &Context<'_>) -> Result<Plan, MatrixError> {
    let filter = &context.ask.filter.room;
    let sections: Vec<(RoomNid, Section)> = context
        .news
        .rooms
        .iter()
        .filter_map(|(room, mark)| {
            let wants_left = filter.include_leave && (context.since.is_none() || context.ask.full_state);
            Some((*room, section(mark, context.since, context.ask.full_state, wants_left)?))
        })
        .collect();
    let views = views(context, &sections).await?;
    let is_left = |(room, section): &(RoomNid, Section)| {
        context.news.rooms.get(room).filter(|_| *section == Section::Leave)
    };
    let marks: Vec<&RoomMark> = sections.iter().filter_map(is_left).collect();
    let mut left = left::load(context.app, &marks).await?;
    let mut plan = Plan::default();
    for (nid, section) in sections {
        let (Some(mark), Some(view)) = (context.news.rooms.get(&nid), views.get(&nid)) else { continue };
        if !filter::allows_room(filter, &view.room_id) {
            continue;
        }
        let (mark, view) = (mark.clone(), Arc::clone(view));
        match section {
            Section::Invite | Section::Knock => plan.outside.push(Outside { mark, view }),
            Section::Join => plan.rooms.push(room(context, mark, view, None)),
            Section::Leave => {
                plan.rooms.extend(left.remove(&nid).map(|left| room(context, mark, view, Some(left))));
            }
        }
    }
    // The same news give the same answer.
    plan.rooms.sort_by_key(|room| room.view.nid);
    plan.outside.sort_by_key(|room| room.view.nid);
    Ok(plan)
}

/// Where the room stands in an answer to one who knows everything up to `since`, and wants all rooms that they are in,
/// or were in, whether or not something changed; `None`: nowhere.
fn section(mark: &RoomMark, since: Option<SyncPoint>, wants_all: bool, wants_left: bool) -> Option<Section> {
    let is_new = since.is_some_and(|since| mark.membership_position > since.position);
    let is_told = is_new || since.is_none() || wants_all;
    match mark.membership {
        Membership::Join => Some(Section::Join),
        Membership::Invite => is_told.then_some(Section::Invite),
        Membership::Knock => is_told.then_some(Section::Knock),
        // The user's other devices are told that a room was left before it was forgotten.
        Membership::Leave | Membership::Ban => {
            (is_new || (wants_left && !mark.forgotten)).then_some(Section::Leave)
        }
    }
}

async fn views(
    context: &Context<'_>,
    sections: &[(RoomNid, Section)],
) -> Result<HashMap<RoomNid, Arc<RoomView>>, MatrixError> {
    let told = |room: &RoomNid| context.news.rooms.get(room).and_then(|mark| mark.view.clone());
    let (mut views, mut missing) = (HashMap::with_capacity(sections.len()), Vec::new());
    for (room, _) in sections {
        match told(room) {
            Some(view) => drop(views.insert(*room, view)),
            None => missing.push(*room),
        }
    }
    if !missing.is_empty() {
        views.extend(context.app.actors.rooms.views(&missing).await?);
    }
    Ok(views)
}

fn room(context: &Context<'_>, mark: RoomMark, view: Arc<RoomView>, left: Option<Left>) -> Room {
    let known = known(&mark, context.since);
    let (begin, upto) = (known.unwrap_or(Position::START), context.news.upto.position);
    let (from, end) = match left.as_ref().map(|left| left.inside_until(&mark)) {
        None => (begin, upto),
        Some(Some(until)) => (begin, upto.min(until)),
        // One who never joined sees nothing but how it ended.
        Some(None) => (mark.membership_position, mark.membership_position),
    };
    Room { mark, view, known, all_state: context.ask.full_state, from, end, left }
}

/// As of when a client that knows everything up to `since` has the room's state: it has none when the user joined
/// later, or never.
fn known(mark: &RoomMark, since: Option<SyncPoint>) -> Option<Position> {
    let since = since?.position;
    mark.joined_at.filter(|joined_at| *joined_at <= since).map(|_| since)
}

#[cfg(test)]
mod tests {
    use myelin_core::nid::EventNid;

    use super::*;

    fn mark(membership: Membership, at: i64, joined_at: Option<i64>) -> RoomMark {
        RoomMark {
            membership,
            membership_position: Position(at),
            member_event: EventNid::new(1).expect("positive"),
            joined_at: joined_at.map(Position),
            forgotten: false,
            events: Position(at),
            receipts: Position::START,
            account_data: Position::START,
            typing: 0,
            view: None,
        }
    }

    fn at(position: i64) -> SyncPoint {
        SyncPoint { position: Position(position), ephemeral: 0 }
    }

    #[test]
    fn rooms_stand_where_their_membership_says() {
        use Membership::{Ban, Invite, Join, Knock, Leave};
        for (membership, since, wants_left, expected) in [
            (Join, None, false, Some(Section::Join)),
            (Join, Some(at(20)), false, Some(Section::Join)),
            (Invite, None, false, Some(Section::Invite)),
            (Invite, Some(at(9)), false, Some(Section::Invite)),
            (Invite, Some(at(10)), false, None),
            (Knock, Some(at(9)), false, Some(Section::Knock)),
            (Leave, None, false, None),
            (Leave, None, true, Some(Section::Leave)),
            (Leave, Some(at(9)), false, Some(Section::Leave)),
            (Ban, Some(at(9)), false, Some(Section::Leave)),
            (Leave, Some(at(10)), false, None),
        ] {
            let case = format!("{membership:?} {since:?} {wants_left}");
            assert_eq!(section(&mark(membership, 10, None), since, false, wants_left), expected, "{case}");
        }
        assert_eq!(section(&mark(Invite, 10, None), Some(at(10)), true, false), Some(Section::Invite));
        assert_eq!(section(&mark(Leave, 10, None), Some(at(9)), true, false), Some(Section::Leave));
        assert_eq!(section(&mark(Leave, 10, None), Some(at(10)), true, false), None);
    }

    #[test]
    fn forgotten_rooms_stand_nowhere_once_their_end_was_told() {
        let mark = RoomMark { forgotten: true, ..mark(Membership::Leave, 10, Some(5)) };
        assert_eq!(section(&mark, Some(at(9)), false, false), Some(Section::Leave));
        assert_eq!(section(&mark, Some(at(10)), true, true), None);
        assert_eq!(section(&mark, None, false, true), None);
    }

    #[test]
    fn state_is_known_since_the_join_was() {
        assert_eq!(known(&mark(Membership::Join, 10, Some(10)), Some(at(10))), Some(Position(10)));
        assert_eq!(known(&mark(Membership::Join, 10, Some(10)), Some(at(9))), None);
        assert_eq!(known(&mark(Membership::Join, 10, Some(10)), None), None);
        assert_eq!(known(&mark(Membership::Leave, 10, None), Some(at(20))), None);
    }
}
