//! Who is online, among those with whom the user shares a room.

use std::collections::BTreeSet;

use myelin_actors::presence::Presence;
use myelin_core::{
    membership::Membership,
    nid::{UserNid, types},
};
use ruma::{OwnedUserId, UserId};
use serde_json::json;

use super::{Context, rooms::Room, timeline::Page};
use crate::{error::MatrixError, filter::allows_plain};

/// In rooms up to this size, everyone's presence is told to one who joins, also of those who are not there.
pub(crate) const MAX_MET: usize = 100;

/// Presence that is new to the client: what changed, and that of everyone in a room that the user or they have just
/// joined.
pub(crate) async fn events(
    context: &Context<'_>,
    rooms: &[Room],
    pages: &[Page],
) -> Result<Vec<String>, MatrixError> {
    let filter = &context.ask.filter.presence;
    if !crate::filter::allows_type(filter.types.as_deref(), &filter.not_types, "m.presence") {
        return Ok(Vec::new());
    }
    let mut users: BTreeSet<UserNid> = context.news.presence.iter().copied().collect();
    // Those whom the client meets for the first time are told of even when nothing is known of them.
    let mut met: BTreeSet<UserNid> = BTreeSet::new();
    for (room, page) in rooms.iter().zip(pages).filter(|(room, _)| room.left.is_none()) {
        if room.is_new() {
            let joined = room.view.members.iter().filter(|(_, member)| member.membership == Membership::Join);
            let is_meeting = context.since.is_some() && room.view.joined <= MAX_MET;
            if is_meeting { &mut met } else { &mut users }.extend(joined.map(|(user, _)| *user));
        } else {
            met.extend(page.shown.iter().filter_map(|seen| newly_joined(&seen.event)));
        }
    }
    if context.since.is_none() {
        users.insert(context.ask.user.nid);
    }
    users.extend(&met);
    let users: Vec<UserNid> = users.into_iter().collect();
    let known = context.app.actors.presences.of(&users);
    let users: Vec<UserNid> =
        users.into_iter().filter(|user| known.contains_key(user) || met.contains(user)).collect();
    let names = context.app.actors.nids.user_ids(&users).await?;
    let now_ms = context.app.process.clock.now_ms();
    let event = |(nid, id): (UserNid, OwnedUserId)| {
        let event = known_or_offline(&id, known.get(&nid), now_ms);
        allows_plain(filter, "m.presence", &id).then_some(event)
    };
    Ok(users.into_iter().zip(names).filter_map(event).collect())
}

fn newly_joined(event: &myelin_storage::events::StoredEvent) -> Option<UserNid> {
    let joined =
        event.type_nid == types::MEMBER && Membership::of_event(&event.pdu) == Some(Membership::Join);
    event.state_key.filter(|_| joined).map(UserNid::from_state_key)
}

fn presence_event(user: &UserId, presence: &Presence, now_ms: u64) -> String {
    let mut content = json!({
        "presence": presence.presence,
        "currently_active": presence.currently_active,
        "last_active_ago": now_ms.saturating_sub(presence.last_active_ms),
    });
    if let Some(status) = &presence.status_msg {
        content["status_msg"] = status.as_str().into();
    }
    json!({ "type": "m.presence", "sender": user, "content": content }).to_string()
}

/// The presence as an event; of whom nothing is known is offline.
pub fn known_or_offline(user: &UserId, presence: Option<&Presence>, now_ms: u64) -> String {
    match presence {
        Some(presence) => presence_event(user, presence, now_ms),
        None => {
            json!({ "type": "m.presence", "sender": user, "content": { "presence": "offline" } }).to_string()
        }
    }
}
