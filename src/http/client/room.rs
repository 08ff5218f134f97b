//! Rooms as a whole: making and upgrading them, their aliases, and single events of them.

use std::collections::HashMap;

use myelin_actors::room::error::RoomError;
use myelin_core::membership::Membership;
use myelin_storage::directory;
use ruma::{
    CanonicalJsonObject,
    api::client::room::{
        Visibility, aliases, create_room, get_event_by_timestamp, get_room_event, get_summary, upgrade_room,
    },
    events::AnyInitialStateEvent,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Reader},
    http::{endpoint::Ruma, response::JsonText},
    workflows::{
        access, by_time,
        create_room::{
            self as rooms,
            plan::{InitialState, Plan},
        },
        hierarchy, join, membership,
        outsiders::{self, Outsider},
        send::parse_content,
        third_party::addresses,
        upgrade,
    },
};

/// `POST /_matrix/client/v3/createRoom`
///
/// Makes a room with all its first events in one commit: after an error there is no room.
pub async fn create_room(
    app: App,
    req: Ruma<create_room::v3::Request>,
) -> Result<create_room::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let addresses = addresses::sort(&app, &req.invite_3pid).await?;
    let held = match &req.room_alias_name {
        Some(local_part) => Some(rooms::free_alias(&app, local_part).await?),
        None => None,
    };
    let is_published = match &req.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(MatrixError::invalid_param("visibility is neither public nor private")),
    };
    let mut invite = [req.invite.clone(), addresses.users].concat();
    invite.sort_unstable();
    invite.dedup();
    let plan = Plan {
        creator: user.id.clone(),
        version: rooms::version(&app, req.room_version.as_ref())?,
        preset: rooms::preset(req.preset.as_ref(), is_published)?,
        creation_content: parse_optional(req.creation_content.as_ref().map(Raw::json))?,
        power_levels: parse_optional(req.power_level_content_override.as_ref().map(Raw::json))?,
        initial_state: req.initial_state.iter().map(initial_state).collect::<Result<_, _>>()?,
        alias: held.as_ref().map(|held| held.alias.clone()),
        name: req.name.clone(),
        topic: req.topic.clone(),
        invite,
        server: app.config.server_name.clone(),
        is_direct: req.is_direct,
        profiles: HashMap::new(),
    };
    let room_id = rooms::create(&app, user, plan, is_published).await?;
    addresses::invite_unknown(&app, user, &room_id, &addresses.unknown).await;
    Ok(create_room::v3::Response::new(room_id))
}

fn parse_optional(json: Option<&RawValue>) -> Result<CanonicalJsonObject, MatrixError> {
    json.map_or_else(|| Ok(CanonicalJsonObject::new()), parse_content)
}

fn initial_state(event: &Raw<AnyInitialStateEvent>) -> Result<InitialState, MatrixError> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "type")]
        event_type: String,
        #[serde(default)]
        state_key: String,
        content: Box<RawValue>,
    }
    let fields: Fields = event
        .deserialize_as_unchecked()
        .map_err(|_| MatrixError::bad_json("initial_state is not a list of state events"))?;
    Ok(InitialState {
        event_type: fields.event_type,
        state_key: fields.state_key,
        content: parse_content(&fields.content)?,
    })
}

/// `POST /_matrix/client/v3/rooms/{roomId}/upgrade`
///
/// Replaces the room by one of another version that has its state and its aliases.
pub async fn upgrade_room(
    app: App,
    req: Ruma<upgrade_room::v3::Request>,
) -> Result<upgrade_room::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let version = rooms::version(&app, Some(&req.new_version))?;
    let creators = req.additional_creators.clone();
    let new_room = upgrade::upgrade(&app, user, &req.room_id, version, creators).await?;
    Ok(upgrade_room::v3::Response::new(new_room))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
///
/// This server's aliases of the room, for its members and whoever may read it without being one.
pub async fn aliases(
    app: App,
    req: Ruma<aliases::v3::Request>,
) -> Result<aliases::v3::Response, MatrixError> {
    let reading = access::reading(&app, req.user().nid, &req.room_id).await?;
    if !reading.is_current() {
        return Err(MatrixError::forbidden("you are no longer in this room"));
    }
    let client = app.storage.get().await?;
    let mut aliases = directory::list_aliases(&client, &[reading.view.nid]).await?;
    Ok(aliases::v3::Response::new(aliases.remove(&reading.view.nid).unwrap_or_default()))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`
///
/// One event, if the reader may see it; whether it exists is not told to others.
pub async fn get_room_event(
    app: App,
    req: Ruma<get_room_event::v3::Request>,
) -> Result<get_room_event::v3::Response, MatrixError> {
    let user = req.user();
    let found = match app.actors.rooms.view(&req.room_id).await {
        Ok(view) => access::event(&app, user.nid, &view, &req.event_id).await?,
        Err(RoomError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let seen = found.ok_or_else(|| MatrixError::not_found("there is no such event here"))?;
    let reader = Reader::of(user);
    let event = event_format::client_event_for(&app, reader, &seen).await?;
    Ok(get_room_event::v3::Response::new(event_format::raw(event)))
}

/// `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`
///
/// What a room looks like to one outside, for those who may join it or look in. Also without an access token, then
/// only of rooms that are open to everybody.
pub async fn get_summary(app: App, req: Ruma<get_summary::v1::Request>) -> Result<JsonText, MatrixError> {
    let (room_id, via) = join::find_room(&app, &req.room_id_or_alias, &req.via).await?;
    let outsider = match req.user() {
        Some(user) => Outsider::user(&app, user.nid).await?,
        None => Outsider::Anyone,
    };
    let summary = hierarchy::summary(&app, &outsider, &room_id, &via).await?;
    let Some(user) = req.user() else { return JsonText::of(&summary) };
    let membership = match outsiders::resident(&app, &room_id).await? {
        Some(view) => view.membership(user.nid),
        None => membership::outside(&app, &room_id, user.nid).await?.map(|row| row.membership),
    };
    let mut answer = serde_json::to_value(&summary).map_err(MatrixError::internal)?;
    answer["membership"] = membership.unwrap_or(Membership::Leave).as_str().into();
    JsonText::of(&answer)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`
///
/// The event closest to a time, among those that the reader may see.
pub async fn get_event_by_timestamp(
    app: App,
    req: Ruma<get_event_by_timestamp::v1::Request>,
) -> Result<get_event_by_timestamp::v1::Response, MatrixError> {
    let user = req.user().nid;
    let reading = access::reading(&app, user, &req.room_id).await?;
    let found = by_time::find(&app, user, &reading, req.ts, req.dir).await?;
    let (event_id, ts) = found.ok_or_else(|| MatrixError::not_found("there is no event near that time"))?;
    Ok(get_event_by_timestamp::v1::Response::new(event_id, ts))
}
