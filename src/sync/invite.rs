//! Rooms that the user is invited to or knocks on: what may be shown of them to one outside.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EventNid, RoomNid, TypeNid, UserNid, types},
};
use myelin_storage::{events::StoredEvent, outside};
use ruma::OwnedRoomId;
use serde_json::value::RawValue;

use super::{Context, rooms::Outside};
use crate::{error::MatrixError, event_format::stripped_event};

/// The state that is shown, besides member events.
const STRIPPED: &[TypeNid] = &[
    types::CREATE,
    types::JOIN_RULES,
    types::NAME,
    types::AVATAR,
    types::TOPIC,
    types::CANONICAL_ALIAS,
    types::ENCRYPTION,
];

type Stripped = Vec<(OwnedRoomId, Vec<String>)>;

/// Invites and knocks with their stripped state. Invites from those whom the user ignores, and all of them when the
/// user takes none, are left out.
pub(crate) async fn stripped(
    context: &Context<'_>,
    rooms: &[Outside],
) -> Result<(Stripped, Stripped), MatrixError> {
    let (mut invited, mut knocked) = (Vec::new(), Vec::new());
    if rooms.is_empty() {
        return Ok((invited, knocked));
    }
    let own: Vec<EventNid> = rooms.iter().map(|room| room.mark.member_event).collect();
    let own = by_nid(context.app.actors.events.load(&own).await?);
    let inviters = inviters(context, rooms, &own).await?;
    let mut told = told_from_outside(context, rooms, &own).await?;
    for room in rooms {
        let Some(own) = own.get(&room.mark.member_event) else { continue };
        let is_invite = room.mark.membership == Membership::Invite;
        if is_invite
            && (context.preferences.blocks_invites || context.preferences.ignored.contains(own.pdu.sender()))
        {
            continue;
        }
        let mut events: Vec<String> = if is_outside(own) {
            let told = told.remove(&room.view.nid).unwrap_or_default();
            told.into_iter().map(|event| event.get().to_owned()).collect()
        } else {
            let essentials = STRIPPED.iter().filter_map(|kind| room.view.essential(*kind));
            let inviter = inviters.get(&own.nid).filter(|inviter| inviter.nid != own.nid);
            essentials.chain(inviter.map(|inviter| &inviter.pdu)).map(stripped_event).collect()
        };
        events.push(stripped_event(&own.pdu));
        let section = if is_invite { &mut invited } else { &mut knocked };
        section.push((room.view.room_id.clone(), events));
    }
    Ok((invited, knocked))
}

/// The event came by itself: this server is not in the room, and knows of it what it was told with the event.
fn is_outside(own: &StoredEvent) -> bool {
    own.admission == AdmissionCode::Outlier
}

/// What the user was told of rooms that this server is not in.
async fn told_from_outside(
    context: &Context<'_>,
    rooms: &[Outside],
    own: &HashMap<EventNid, Arc<StoredEvent>>,
) -> Result<HashMap<RoomNid, Vec<Box<RawValue>>>, MatrixError> {
    let nids: Vec<RoomNid> = rooms
        .iter()
        .filter(|room| own.get(&room.mark.member_event).is_some_and(|own| is_outside(own)))
        .map(|room| room.view.nid)
        .collect();
    if nids.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(outside::load_stripped(&context.app.storage.get().await?, context.ask.user.nid, &nids).await?)
}

/// The member events of those who sent the user's member events, by the latter: clients show who invites.
async fn inviters(
    context: &Context<'_>,
    rooms: &[Outside],
    own: &HashMap<EventNid, Arc<StoredEvent>>,
) -> Result<HashMap<EventNid, Arc<StoredEvent>>, MatrixError> {
    let member = |room: &Outside, user: UserNid| room.view.members.get(&user).map(|member| member.event);
    let pairs: Vec<(EventNid, EventNid)> = rooms
        .iter()
        .filter_map(|room| {
            let own = own.get(&room.mark.member_event)?;
            Some((own.nid, member(room, own.sender)?))
        })
        .collect();
    let wanted: HashSet<EventNid> = pairs.iter().map(|(_, inviter)| *inviter).collect();
    let wanted: Vec<EventNid> = wanted.into_iter().collect();
    let events = by_nid(context.app.actors.events.load(&wanted).await?);
    Ok(pairs
        .into_iter()
        .filter_map(|(own, inviter)| Some((own, Arc::clone(events.get(&inviter)?))))
        .collect())
}

fn by_nid(events: Vec<Arc<StoredEvent>>) -> HashMap<EventNid, Arc<StoredEvent>> {
    events.into_iter().map(|event| (event.nid, event)).collect()
}
