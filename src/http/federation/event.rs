//! Single events, a room's state, and what lies between events.

use myelin_core::{admit::AdmissionCode, nid::EventNid};
use myelin_storage::{
    events,
    timeline::{self, Direction as Reading},
};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, UInt,
    api::{
        Direction,
        federation::{
            authentication::ServerSignatures,
            event::{get_event, get_event_by_timestamp, get_room_state, get_room_state_ids},
        },
    },
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{
    path,
    pdus::{self, Part},
    state::{auth_chain, state_at},
};
use crate::{
    ancestry::{self, Walk},
    app::App,
    error::MatrixError,
    http::{
        endpoint::{Plain, Ruma},
        response::{JsonText, Raw},
    },
    visibility::servers as visibility,
    workflows::servers,
};

/// How many missing events are given at most.
const MAX_MISSING: usize = 20;
/// How many when nothing is asked for.
const DEFAULT_MISSING: usize = 10;
/// How many events a server may name at once.
const MAX_NAMED: usize = 100;

/// `GET /_matrix/federation/v1/event/{eventId}`
///
/// For servers in the event's room, and those that could read it there.
pub async fn get_event(
    app: App,
    req: Ruma<get_event::v1::Request>,
) -> Result<get_event::v1::Response, MatrixError> {
    let missing = || MatrixError::not_found("there is no such event");
    let event = app.actors.events.by_id(&req.event_id).await?.ok_or_else(missing)?;
    if event.admission == AdmissionCode::Rejected {
        return Err(missing());
    }
    let view = app.actors.rooms.view(event.pdu.room_id()).await?;
    servers::require_allowed(&view, req.origin())?;
    let event = std::slice::from_ref(&event);
    let is_member = view.servers.contains_key(req.origin());
    if !is_member && visibility::visible_to(&app, &view, req.origin(), event).await? != [true] {
        return Err(MatrixError::forbidden("your server is not in the event's room"));
    }
    let shown = visibility::redacted_for(&app, &view, req.origin(), event).await?;
    let pdu = shown.first().ok_or_else(missing)?.json();
    let pdu = RawValue::from_string(pdu.to_owned()).map_err(MatrixError::internal)?;
    Ok(get_event::v1::Response::new(app.config.server_name.clone(), app.process.clock.now(), pdu))
}

/// `GET /_matrix/federation/v1/state/{roomId}`
///
/// The state before the event.
pub async fn get_room_state(app: App, req: Ruma<get_room_state::v1::Request>) -> Result<Raw, MatrixError> {
    let view = servers::room_of_member(&app, req.origin(), &req.room_id).await?;
    let state = state_at(&app, &view, &req.event_id).await?;
    let parts = vec![
        Part::text(r#"{"auth_chain":["#),
        Part::Events(auth_chain(&app, &state).await?),
        Part::text(r#"],"pdus":["#),
        Part::Events(state),
        Part::text("]}"),
    ];
    pdus::answer(app, parts).await
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
///
/// The same, as ids.
pub async fn get_room_state_ids(
    app: App,
    req: Ruma<get_room_state_ids::v1::Request>,
) -> Result<get_room_state_ids::v1::Response, MatrixError> {
    let view = servers::room_of_member(&app, req.origin(), &req.room_id).await?;
    let state = state_at(&app, &view, &req.event_id).await?;
    let chain = auth_chain(&app, &state).await?;
    let ids = async |nids: &[EventNid]| -> Result<Vec<OwnedEventId>, MatrixError> {
        let ids = events::event_ids(&app.storage.get().await?, nids).await?;
        Ok(nids.iter().filter_map(|nid| ids.get(nid).cloned()).collect())
    };
    Ok(get_room_state_ids::v1::Response::new(ids(&chain).await?, ids(&state).await?))
}

/// What a server misses. Servers of all ages leave out what they do not care about.
#[derive(Deserialize)]
struct Missing {
    #[serde(default)]
    limit: Option<UInt>,
    #[serde(default)]
    min_depth: Option<UInt>,
    #[serde(default)]
    earliest_events: Vec<OwnedEventId>,
    #[serde(default)]
    latest_events: Vec<OwnedEventId>,
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
///
/// Events before the latest ones, back to the earliest ones and without both, the oldest first. What the server may
/// not read is redacted.
pub async fn get_missing_events(app: App, req: Plain<ServerSignatures>) -> Result<JsonText, MatrixError> {
    let room_id: OwnedRoomId = path::argument(&req.args, 0)?;
    let missing: Missing = req.json()?;
    let view = servers::room_of_member(&app, req.origin(), &room_id).await?;
    if missing.latest_events.len() > MAX_NAMED || missing.earliest_events.len() > MAX_NAMED {
        return Err(MatrixError::invalid_param("too many events are named"));
    }
    let limit = missing.limit.map_or(DEFAULT_MISSING, |limit| {
        usize::try_from(u64::from(limit)).unwrap_or(MAX_MISSING).min(MAX_MISSING)
    });
    let min_depth = missing.min_depth.map_or(0, i64::from);
    let walk = Walk {
        room: view.nid,
        from: &missing.latest_events,
        stop: &missing.earliest_events,
        min_depth,
        // The latest ones themselves are not wanted.
        limit: limit + missing.latest_events.len(),
    };
    let mut found = ancestry::walk(&app, &walk).await?;
    found.retain(|event| missing.latest_events.iter().all(|latest| latest != event.pdu.event_id()));
    found.truncate(limit);
    found.reverse();
    let shown = visibility::redacted_for(&app, &view, req.origin(), &found).await?;
    let events: Vec<&RawValue> = shown
        .iter()
        .map(|pdu| serde_json::from_str(pdu.json()))
        .collect::<Result<_, _>>()
        .map_err(MatrixError::internal)?;
    JsonText::of(&json!({ "events": events }))
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
pub async fn get_event_by_timestamp(
    app: App,
    req: Ruma<get_event_by_timestamp::v1::Request>,
) -> Result<get_event_by_timestamp::v1::Response, MatrixError> {
    let view = servers::room_of_member(&app, req.origin(), &req.room_id).await?;
    let direction = match req.dir {
        Direction::Forward => Reading::Forward,
        Direction::Backward => Reading::Backward,
    };
    let client = app.storage.get().await?;
    let found = timeline::find_by_time(&client, view.nid, i64::from(req.ts.0), direction).await?;
    let found = found.ok_or_else(|| MatrixError::not_found("there is no event on that side of that time"))?;
    let ts = UInt::try_from(found.origin_server_ts).unwrap_or_default();
    Ok(get_event_by_timestamp::v1::Response::new(found.event_id, MilliSecondsSinceUnixEpoch(ts)))
}
