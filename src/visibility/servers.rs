//! Which of a room's events another server may have as they are; the others it gets redacted, if at all.
//!
//! The state at each event decides, as for users: a server sees what one of its users could. Mostly the visibility is
//! `shared`, and then nobody's membership has to be looked up.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    nid::{EMPTY_STATE_KEY, EventNid, SnapshotNid, UserNid, types},
    pdu::{Pdu, redact},
    state::StateKey,
    visibility::{HistoryVisibility, is_visible_to_server},
};
use myelin_storage::{events::StoredEvent, state};
use ruma::{ServerName, UserId};

use super::erasure::erased_senders;
use crate::{app::App, error::MatrixError};

/// The events as the server may have them, in the order given: what it may not read is redacted.
pub async fn redacted_for(
    app: &App,
    view: &RoomView,
    server: &ServerName,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Pdu>, MatrixError> {
    let visible = visible_to(app, view, server, events).await?;
    let erased = erased_senders(app, events.iter()).await?;
    let shown = events.iter().zip(visible).map(|(event, is_visible)| {
        if is_visible && !erased.contains(&event.sender) {
            return Ok(event.pdu.clone());
        }
        redact::redact(&event.pdu).map_err(MatrixError::internal)
    });
    shown.collect()
}

/// Whether the server may read each of these events of the room, in the order given.
pub async fn visible_to(
    app: &App,
    view: &RoomView,
    server: &ServerName,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<bool>, MatrixError> {
    let visibilities = visibilities(app, events).await?;
    let is_member = view.servers.contains_key(server);
    let is_open = |visibility| match visibility {
        HistoryVisibility::WorldReadable => true,
        HistoryVisibility::Shared => is_member,
        HistoryVisibility::Invited | HistoryVisibility::Joined => false,
    };
    let closed: Vec<&Arc<StoredEvent>> = events
        .iter()
        .zip(&visibilities)
        .filter(|(_, visibility)| !is_open(**visibility))
        .map(|(event, _)| event)
        .collect();
    let memberships = memberships(app, view, server, &closed).await?;
    let visible = events.iter().zip(visibilities).map(|(event, visibility)| {
        is_open(visibility) || {
            let before = event.snapshot.and_then(|snapshot| memberships.get(&snapshot));
            let before = before.into_iter().flatten().copied();
            let at = before.chain(new_membership(event, server));
            match visibility {
                // One who is not in the room now has what was said while they were.
                HistoryVisibility::Shared => at.into_iter().any(|membership| membership == Membership::Join),
                visibility => is_visible_to_server(visibility, at),
            }
        }
    });
    Ok(visible.collect())
}

/// What the event makes of a user of the server.
fn new_membership(event: &StoredEvent, server: &ServerName) -> Option<Membership> {
    let key = event.pdu.state_key().filter(|_| event.type_nid == types::MEMBER)?;
    let user = <&UserId>::try_from(key).ok()?;
    if user.server_name() == server { Membership::of_event(&event.pdu) } else { None }
}

/// The history visibility at each event: the wider one where the event itself changes it.
async fn visibilities(app: &App, events: &[Arc<StoredEvent>]) -> Result<Vec<HistoryVisibility>, MatrixError> {
    const KEY: StateKey = (types::HISTORY_VISIBILITY, EMPTY_STATE_KEY);
    let snapshots = snapshots_of(events.iter());
    let setting = lookup(app, &snapshots, &[KEY]).await?;
    let at = |event: &Arc<StoredEvent>| {
        let before = event.snapshot.and_then(|snapshot| setting.get(&(snapshot, KEY)));
        let before = HistoryVisibility::of_event(before.map(|event| &event.pdu));
        let is_change =
            event.type_nid == types::HISTORY_VISIBILITY && event.state_key == Some(EMPTY_STATE_KEY);
        let after = is_change.then(|| HistoryVisibility::of_event(Some(&event.pdu)));
        after.map_or(before, |after| wider(before, after))
    };
    Ok(events.iter().map(at).collect())
}

fn wider(one: HistoryVisibility, other: HistoryVisibility) -> HistoryVisibility {
    const FROM_WIDE: [HistoryVisibility; 3] =
        [HistoryVisibility::WorldReadable, HistoryVisibility::Shared, HistoryVisibility::Invited];
    let widest = FROM_WIDE.into_iter().find(|visibility| [one, other].contains(visibility));
    widest.unwrap_or(HistoryVisibility::Joined)
}

/// What the server's users were in the states before these events.
///
/// Who ever was in the room has a member event in the current state: only those are looked up.
async fn memberships(
    app: &App,
    view: &RoomView,
    server: &ServerName,
    events: &[&Arc<StoredEvent>],
) -> Result<HashMap<SnapshotNid, Vec<Membership>>, MatrixError> {
    let snapshots = snapshots_of(events.iter().copied());
    if snapshots.is_empty() {
        return Ok(HashMap::new());
    }
    let members: Vec<UserNid> = view.members.keys().copied().collect();
    let users = app.actors.nids.user_ids(&members).await?;
    let of_server = members.iter().zip(&users).filter(|(_, user)| user.server_name() == server);
    let keys: Vec<StateKey> = of_server.map(|(nid, _)| (types::MEMBER, (*nid).into())).collect();
    let mut memberships: HashMap<SnapshotNid, Vec<Membership>> = HashMap::new();
    for ((snapshot, _), event) in lookup(app, &snapshots, &keys).await? {
        memberships.entry(snapshot).or_default().extend(Membership::of_event(&event.pdu));
    }
    Ok(memberships)
}

fn snapshots_of<'a>(events: impl Iterator<Item = &'a Arc<StoredEvent>>) -> Vec<SnapshotNid> {
    let mut snapshots: Vec<SnapshotNid> = events.filter_map(|event| event.snapshot).collect();
    snapshots.sort_unstable();
    snapshots.dedup();
    snapshots
}

/// The events that fill these places of these snapshots.
async fn lookup(
    app: &App,
    snapshots: &[SnapshotNid],
    keys: &[StateKey],
) -> Result<HashMap<(SnapshotNid, StateKey), Arc<StoredEvent>>, MatrixError> {
    if snapshots.is_empty() || keys.is_empty() {
        return Ok(HashMap::new());
    }
    let found = state::lookup(&app.storage.get().await?, snapshots, keys).await?;
    let nids: HashSet<EventNid> = found.values().copied().collect();
    let nids: Vec<EventNid> = nids.into_iter().collect();
    let events: HashMap<EventNid, Arc<StoredEvent>> =
        app.actors.events.load(&nids).await?.into_iter().map(|event| (event.nid, event)).collect();
    let places = found.into_iter().filter_map(|(place, nid)| Some((place, Arc::clone(events.get(&nid)?))));
    Ok(places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wider_visibility_counts() {
        use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
        for (one, other, expected) in [
            (Joined, Joined, Joined),
            (Joined, Invited, Invited),
            (Shared, Invited, Shared),
            (Joined, WorldReadable, WorldReadable),
        ] {
            assert_eq!(wider(one, other), expected);
            assert_eq!(wider(other, one), expected);
        }
    }
}
