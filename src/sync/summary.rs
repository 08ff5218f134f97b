//! Who is in a room, in short: what clients name and count it by.

use myelin_actors::room::view::{Member, RoomView};
use myelin_core::{
    membership::Membership,
    nid::{EMPTY_STATE_KEY, EventNid, TypeNid, UserNid, types},
    pdu::Pdu,
    state::StateKey,
};
use ruma::EventId;
use serde::Deserialize;

use super::{Context, answer::Summary, rooms::Room, state::RoomState};
use crate::error::MatrixError;

/// After how many members a room is called at most.
const MAX_HEROES: usize = 5;
/// The state that a room is called by, if there is something in it.
const NAMES: [TypeNid; 2] = [types::NAME, types::CANONICAL_ALIAS];

/// The summaries of those rooms whose members changed, or what they are called by, in the order of the rooms.
pub(crate) async fn summaries(
    context: &Context<'_>,
    rooms: &[Room],
    states: &[RoomState],
) -> Result<std::vec::IntoIter<Option<Summary>>, MatrixError> {
    let mut found = Vec::with_capacity(rooms.len());
    let mut wanted: Vec<UserNid> = Vec::new();
    for (room, state) in rooms.iter().zip(states) {
        if room.left.is_some() || !state.summary_changed {
            found.push(None);
            continue;
        }
        let heroes = heroes(&room.view, context.ask.user.nid);
        wanted.extend(heroes.iter().flatten());
        found.push(Some((room, heroes)));
    }
    let names = context.app.actors.nids.user_ids(&wanted).await?;
    let mut names = names.into_iter();
    let summary = |(room, heroes): (&Room, Option<Vec<UserNid>>)| Summary {
        heroes: heroes.map(|heroes| names.by_ref().take(heroes.len()).collect()),
        joined: room.view.joined,
        invited: room.view.invited,
    };
    let summaries: Vec<Option<Summary>> = {
        let mut summary = summary;
        found.into_iter().map(|found| found.map(&mut summary)).collect()
    };
    Ok(summaries.into_iter())
}

/// Those after whom the room is called: the first who joined or are invited, or if there are none, who were. `None`: it
/// has a name.
pub(crate) fn heroes(view: &RoomView, reader: UserNid) -> Option<Vec<UserNid>> {
    if is_named(view) {
        return None;
    }
    let first = |is_hero: fn(&Member) -> bool| {
        let mut members: Vec<_> = view
            .members
            .iter()
            .filter(|(user, member)| **user != reader && is_hero(member))
            .map(|(user, member)| (member.event, *user))
            .collect();
        if members.len() > MAX_HEROES {
            members.select_nth_unstable(MAX_HEROES);
            members.truncate(MAX_HEROES);
        }
        members.sort_unstable();
        members.into_iter().map(|(_, user)| user).collect::<Vec<_>>()
    };
    let present = first(|member| matches!(member.membership, Membership::Join | Membership::Invite));
    if present.is_empty() {
        return Some(first(|member| matches!(member.membership, Membership::Leave | Membership::Ban)));
    }
    Some(present)
}

/// The room has no name or address any more that it is called by, and may have had one until now: clients call it after
/// its members instead. `places` are those of its state that changed. A redaction changes none, and may be among what
/// is not at hand.
pub(crate) fn did_name_go(room: &Room, places: &[(StateKey, EventNid)]) -> bool {
    let is_name = |id: &EventId| {
        let current = NAMES.iter().filter_map(|name| room.view.essential(*name));
        current.map(Pdu::event_id).any(|name| name == id)
    };
    let may_have_gone = places.iter().any(|((kind, key), _)| NAMES.contains(kind) && *key == EMPTY_STATE_KEY)
        || room.window().any(|event| event.pdu.redacts().is_some_and(is_name))
        || !room.is_covered();
    may_have_gone && !is_named(&room.view)
}

/// The room has a name or an address that it is called by.
fn is_named(view: &RoomView) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(alias = "alias")]
        name: Option<String>,
    }
    let has_text = |event_type| {
        let content = view.essential(event_type).and_then(Pdu::content_as::<Content>);
        content.and_then(|content| content.name).is_some_and(|name| !name.is_empty())
    };
    NAMES.into_iter().any(has_text)
}
