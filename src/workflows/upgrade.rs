//! A room that takes another's place: made with what the old one had, and pointed to by the old one's tombstone.

pub mod plan;

use std::collections::HashSet;

use myelin_actors::{
    registry::CreateRoom,
    room::{error::RoomError, messages::SendEvent, view::RoomView},
};
use myelin_core::{
    membership::Membership,
    nid::{EventNid, types},
    version::RoomVersion,
};
use myelin_storage::directory::{self, OWN_NETWORK};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId};

use self::plan::Replacement;
use super::{
    content::{self, object},
    create_room, member, power,
    send::add_prepared,
    successor, summary,
};
use crate::{app::App, error::MatrixError, sessions::User};

/// Replaces the room by one of this version; the new room's id. Where that is under way already, this waits for it and
/// gives the same room.
pub async fn upgrade(
    app: &App,
    by: &User,
    old_id: &RoomId,
    version: &'static RoomVersion,
    additional_creators: Vec<OwnedUserId>,
) -> Result<OwnedRoomId, MatrixError> {
    let old = app.actors.rooms.view(old_id).await?;
    if !old.is_joined(by.nid) || !power::levels(&old).may_send(&by.id, "m.room.tombstone", true) {
        return Err(MatrixError::forbidden("you may not upgrade this room"));
    }
    let (app_of_work, by) = (app.clone(), by.clone());
    let work = async move { replace(&app_of_work, &by, &old, version, additional_creators).await };
    app.memory.upgrades.join(&app.process.io, old_id.to_owned(), work).await
}

async fn replace(
    app: &App,
    by: &User,
    old: &RoomView,
    version: &'static RoomVersion,
    additional_creators: Vec<OwnedUserId>,
) -> Result<OwnedRoomId, MatrixError> {
    let aliases = directory::list_aliases(&app.storage.get().await?, &[old.nid]).await?;
    let aliases = aliases.get(&old.nid).cloned().unwrap_or_default();
    let (kept_alias, moved_alias) = split_canonical(old, &aliases);
    let mut replacement = replacement(app, by, old, version).await?;
    replacement.additional_creators = additional_creators;
    replacement.canonical_alias = moved_alias.clone();
    let new_id = make(app, by, old, replacement).await?;
    move_directory(app, old, &new_id).await?;
    let kept_alias = moved_alias.and(kept_alias);
    restrict(app, by, old, kept_alias).await?;
    summary::refresh(app, &old.room_id).await?;
    let new = app.actors.rooms.view(&new_id).await?;
    successor::carry_over(app, by.nid, (old.nid, &old.room_id), (new.nid, &new_id)).await?;
    Ok(new_id)
}

/// What the new room takes over from the old one.
async fn replacement(
    app: &App,
    by: &User,
    old: &RoomView,
    version: &'static RoomVersion,
) -> Result<Replacement, MatrixError> {
    let content_of = |event_type| old.essential(event_type).and_then(|event| content::parse(event.content()));
    let old_create = content_of(types::CREATE).unwrap_or_default();
    let is_space = content::text(&old_create, "type") == Some("m.space");
    let wanted = app.actors.nids.find_types(plan::TRANSFERRED).await?;
    let wanted: HashSet<_> = wanted.into_iter().flatten().collect();
    let nids: Vec<EventNid> = old
        .state
        .iter()
        .filter(|((kind, _), _)| wanted.contains(kind) || (is_space && *kind == types::SPACE_CHILD))
        .map(|(_, event)| *event)
        .collect();
    let bans = old.members.values().filter(|member| member.membership == Membership::Ban);
    let bans: Vec<EventNid> = bans.map(|member| member.event).collect();
    let state = app.actors.events.load(&nids).await?;
    let bans = app.actors.events.load(&bans).await?;
    let parts = |pdu: &myelin_core::pdu::Pdu| {
        let content = content::parse(pdu.content()).filter(|content| !content.is_empty())?;
        Some((pdu.event_type().to_owned(), pdu.state_key()?.to_owned(), content))
    };
    let is_taken = |event_type: &str, key: &str| event_type == "m.space.child" || key.is_empty();
    Ok(Replacement {
        upgrader: by.id.clone(),
        profile: member::profile(app, &by.id).await?,
        old_room: old.room_id.clone(),
        old_version: old.version,
        old_create,
        tombstone: None,
        version,
        additional_creators: Vec::new(),
        state: state
            .iter()
            .filter_map(|event| parts(&event.pdu))
            .filter(|(event_type, key, _)| is_taken(event_type, key))
            .collect(),
        bans: bans
            .iter()
            .filter_map(|event| parts(&event.pdu))
            .map(|(_, user, content)| (user, content))
            .collect(),
        power_levels: content_of(types::POWER_LEVELS),
        canonical_alias: None,
    })
}

/// Makes the new room, then the old one's tombstone: if the room cannot be made, nothing leads to it. They name each other
/// where the new room's id can be chosen before it is made; else the new room names only the old one.
async fn make(
    app: &App,
    by: &User,
    old: &RoomView,
    mut replacement: Replacement,
) -> Result<OwnedRoomId, MatrixError> {
    let version = replacement.version;
    let grave = app.actors.rooms.get(&old.room_id).await?;
    let create = |room_id, replacement: &Replacement| {
        let events = replacement.events();
        app.actors.rooms.create(CreateRoom { version: version.id.clone(), room_id, events })
    };
    if version.room_id_is_create_id() {
        let new_id = create(None, &replacement).await?;
        grave.send(tombstone(by, &new_id)).await?;
        return Ok(new_id);
    }
    let new_id = RoomId::new_v1(&app.config.server_name);
    let tombstone = grave.prepare(tombstone(by, &new_id)).await?;
    replacement.tombstone = Some(tombstone.event_id().to_owned());
    create(Some(new_id.clone()), &replacement).await?;
    add_prepared(&grave, tombstone).await?;
    Ok(new_id)
}

fn tombstone(by: &User, new_id: &RoomId) -> SendEvent {
    let content = object([
        ("body", "This room has been replaced".into()),
        ("replacement_room", new_id.as_str().into()),
    ]);
    SendEvent::state(by.id.clone(), "m.room.tombstone", "", content)
}

/// Moves the old room's aliases and its place in the directory to the new one.
pub(super) async fn move_directory(app: &App, old: &RoomView, new_id: &RoomId) -> Result<(), MatrixError> {
    let new = app.actors.rooms.view(new_id).await?.nid;
    let client = app.storage.get().await?;
    directory::move_aliases(&client, old.nid, new).await?;
    let is_published = directory::is_published(&client, old.nid, OWN_NETWORK).await?;
    drop(client);
    if is_published {
        create_room::publish(app, new_id, true).await?;
        create_room::publish(app, &old.room_id, false).await
    } else {
        summary::refresh(app, new_id).await
    }
}

/// Keeps people from going on in the old room, as far as the upgrader may do that.
async fn restrict(
    app: &App,
    by: &User,
    old: &RoomView,
    canonical_alias: Option<CanonicalJsonObject>,
) -> Result<(), MatrixError> {
    let levels = old.essential(types::POWER_LEVELS).and_then(|event| content::parse(event.content()));
    let levels = levels.as_ref().and_then(plan::restricted_levels);
    let room = app.actors.rooms.get(&old.room_id).await?;
    for (event_type, content) in
        [("m.room.canonical_alias", canonical_alias), ("m.room.power_levels", levels)]
    {
        let Some(content) = content else { continue };
        match room.send(SendEvent::state(by.id.clone(), event_type, "", content)).await {
            // The new room is there: what the upgrader may not do to the old one does not undo that.
            Ok(_) | Err(RoomError::Forbidden(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The canonical alias event as it stays in the old room, and as it moves to the new one with these aliases.
/// Nothing moves: `None` there.
fn split_canonical(
    old: &RoomView,
    aliases: &[OwnedRoomAliasId],
) -> (Option<CanonicalJsonObject>, Option<CanonicalJsonObject>) {
    let content = old.essential(types::CANONICAL_ALIAS).and_then(|event| content::parse(event.content()));
    let Some(content) = content else { return (None, None) };
    let moves = |alias: &CanonicalJsonValue| {
        alias.as_str().is_some_and(|alias| aliases.iter().any(|moved| moved.as_str() == alias))
    };
    let (mut stays, mut goes) = (CanonicalJsonObject::new(), CanonicalJsonObject::new());
    if let Some(alias) = content.get("alias") {
        let side = if moves(alias) { &mut goes } else { &mut stays };
        side.insert("alias".to_owned(), alias.clone());
    }
    if let Some(others) = content.get("alt_aliases").and_then(CanonicalJsonValue::as_array) {
        let (going, staying): (Vec<_>, Vec<_>) = others.iter().cloned().partition(moves);
        for (side, others) in [(&mut goes, going), (&mut stays, staying)] {
            if !others.is_empty() {
                side.insert("alt_aliases".to_owned(), others.into());
            }
        }
    }
    (Some(stays), (!goes.is_empty()).then_some(goes))
}
