//! The event stream of Matrix before `/sync`: `/events` and `/initialSync`. What is of one room: see [`super::peeking`].
//!
//! Deprecated, and served for old clients only, from the same parts as `/sync`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use myelin_actors::sync::messages::{SyncPoint, SyncUser};
use myelin_core::nid::RoomNid;
use myelin_storage::directory;
use ruma::{
    OwnedRoomId, RoomId,
    api::{auth_scheme::AccessToken, client::filter::FilterDefinition},
    presence::PresenceState,
};
use serde_json::{Value, json};

use super::{peeking, sync::note_presence};
use crate::{
    app::App,
    error::MatrixError,
    http::{auth::User, endpoint::Plain, response::JsonText},
    sync::{
        self, Ask,
        answer::{Answer, RoomPart, StateField},
        preferences::PUSH_RULES,
        token::{parse_boundary, parse_sync_token, sync_token},
    },
};

/// How many events a stream or a page has when the client does not say.
pub(super) const DEFAULT_LIMIT: u32 = 10;
/// How many it has at most.
pub(super) const MAX_LIMIT: u32 = 1000;
/// How long `/events` waits when the client does not say.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;
/// How long it waits at most.
const MAX_TIMEOUT_MS: u64 = 300_000;

/// `GET /_matrix/client/v3/events`
///
/// Everything new in all rooms, in one list.
pub async fn listen_to_new_events(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    let user = &req.identity;
    let timeout_ms = number(&req, "timeout")?.unwrap_or(DEFAULT_TIMEOUT_MS).min(MAX_TIMEOUT_MS);
    number(&req, "limit")?;
    note_presence(&app, user, &PresenceState::Online, Duration::from_millis(timeout_ms)).await?;
    let from = req.query("from").filter(|from| !from.is_empty() && from != "END");
    let timeout = Duration::from_millis(timeout_ms);
    if let Some(room_id) = req.query("room_id") {
        let room_id =
            RoomId::parse(&room_id).map_err(|_| MatrixError::invalid_param("room_id is no room id"))?;
        let now = app.actors.syncers.now();
        let since = from.map_or(Ok(now), |from| point(&from, now))?;
        return peeking::room_events(&app, user, &room_id, since, timeout).await;
    }
    if user.is_guest {
        return Err(MatrixError::forbidden("guests must name a room"));
    }
    let now = now(&app, user).await?;
    let since = from.map_or(Ok(now), |from| point(&from, now))?;
    let ask = ask(user, Some(since), filter(MAX_LIMIT), timeout);
    let answer = sync::sync(&app, &ask).await?;
    let end = sync_token(answer.upto);
    let body = json!({ "start": sync_token(since), "end": end, "chunk": stream(&answer) });
    Ok(body.to_string().into())
}

/// Where a stream goes on: after a stream, or after a page of a room's history.
fn point(from: &str, now: SyncPoint) -> Result<SyncPoint, MatrixError> {
    if let Some(point) = parse_sync_token(from) {
        return Ok(point);
    }
    let place =
        parse_boundary(from).ok_or_else(|| MatrixError::invalid_param("from is no token of this server"))?;
    Ok(SyncPoint { position: place.anchor, ..now })
}

/// `GET /_matrix/client/v3/initialSync`
pub async fn initial_sync(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    let user = &req.identity;
    let limit =
        number(&req, "limit")?.map_or(DEFAULT_LIMIT, |limit| u32::try_from(limit).unwrap_or(MAX_LIMIT));
    note_presence(&app, user, &PresenceState::Online, Duration::ZERO).await?;
    let mut filter = filter(limit.min(MAX_LIMIT));
    filter.account_data.not_types = vec![PUSH_RULES.to_owned()];
    filter.room.include_leave = req.query("archived").is_some_and(|archived| archived == "true");
    let mut ask = ask(user, None, filter, Duration::ZERO);
    ask.state_field = StateField::After;
    let answer = sync::sync(&app, &ask).await?;
    let end = sync_token(answer.upto);
    let public = published(&app, &answer).await?;
    let mut rooms: Vec<Value> = Vec::new();
    for (membership, section) in [("join", &answer.join), ("leave", &answer.leave)] {
        rooms.extend(section.iter().map(|(room_id, part)| {
            json!({
                "room_id": room_id,
                "membership": membership,
                "visibility": visibility(public.contains(room_id)),
                "messages": { "chunk": old_style(&part.timeline.events), "start": part.timeline.prev_batch, "end": end },
                "state": old_style(&part.state),
                "account_data": parsed(&part.account_data),
            })
        }));
    }
    rooms.extend(answer.invite.iter().map(|(room_id, state)| {
        let invite = parsed(state).pop().unwrap_or_default();
        let inviter = invite["sender"].clone();
        json!({ "room_id": room_id, "membership": "invite", "inviter": inviter, "invite": invite })
    }));
    let receipts: Vec<Value> =
        answer.join.iter().flat_map(|(room_id, part)| receipts_of(room_id.as_str(), part)).collect();
    let body = json!({
        "end": end,
        "rooms": rooms,
        "presence": answer.presence.iter().map(|event| old_presence(event)).collect::<Vec<_>>(),
        "receipts": receipts,
        "account_data": parsed(&answer.account_data),
    });
    Ok(body.to_string().into())
}

pub(super) const fn visibility(is_public: bool) -> &'static str {
    if is_public { "public" } else { "private" }
}

/// Those of the answer's rooms that are in the room directory.
async fn published(app: &App, answer: &Answer) -> Result<HashSet<OwnedRoomId>, MatrixError> {
    let mut rooms: HashMap<RoomNid, OwnedRoomId> = HashMap::new();
    for (room_id, _) in answer.join.iter().chain(&answer.leave) {
        // In memory: the answer was just made from the room.
        if let Some(nid) = app.actors.rooms.find(room_id).await? {
            rooms.insert(nid, room_id.clone());
        }
    }
    let nids: Vec<RoomNid> = rooms.keys().copied().collect();
    let db = app.storage.get().await?;
    let published = directory::published_among(&db, &nids, directory::OWN_NETWORK).await?;
    Ok(published.into_iter().filter_map(|nid| rooms.remove(&nid)).collect())
}

/// Everything, with timelines of this length.
fn filter(limit: u32) -> FilterDefinition {
    let mut filter = FilterDefinition::default();
    filter.room.timeline.limit = Some(limit.into());
    filter
}

fn ask(user: &User, since: Option<SyncPoint>, filter: FilterDefinition, timeout: Duration) -> Ask {
    Ask {
        user: SyncUser { nid: user.nid, id: user.id.clone() },
        device: Some(user.device_id.clone()),
        since,
        messages_since: None,
        filter: Arc::new(filter),
        full_state: false,
        state_field: StateField::Before,
        timeout,
    }
}

/// A query parameter that is a number.
pub(super) fn number(req: &Plain<AccessToken>, name: &str) -> Result<Option<u64>, MatrixError> {
    let parse =
        |value: String| value.parse().map_err(|_| MatrixError::invalid_param(format!("{name} is no number")));
    req.query(name).map(parse).transpose()
}

/// Where the user's own news stand now.
async fn now(app: &App, user: &User) -> Result<SyncPoint, MatrixError> {
    let handle = app.actors.syncers.user(user.nid);
    Ok(handle.news(None).await.map_err(sync::unread)?.upto)
}

/// All that is new, in one list.
fn stream(answer: &Answer) -> Vec<Value> {
    let mut chunk: Vec<Value> = answer.presence.iter().map(|event| old_presence(event)).collect();
    chunk.extend(parsed(&answer.account_data));
    for (room_id, part) in answer.join.iter().chain(&answer.leave) {
        chunk.extend(old_style(&part.timeline.events));
        for event in part.ephemeral.iter().chain(&part.account_data) {
            chunk.push(with_room(event, room_id.as_str()));
        }
    }
    for (room_id, state) in &answer.invite {
        chunk.extend(state.last().map(|event| with_room(event, room_id.as_str())));
    }
    chunk
}

fn parsed(events: &[String]) -> Vec<Value> {
    events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect()
}

/// Events as they were in the first version of the API, which named the sender twice.
pub(super) fn old_style(events: &[String]) -> Vec<Value> {
    let mut events = parsed(events);
    for event in &mut events {
        event["user_id"] = event["sender"].clone();
    }
    events
}

pub(super) fn old_presence(event: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    event["content"]["user_id"] = event["sender"].clone();
    event
}

pub(super) fn with_room(event: &str, room_id: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    event["room_id"] = room_id.into();
    event
}

fn receipts_of(room_id: &str, part: &RoomPart) -> Vec<Value> {
    let events = part.ephemeral.iter().map(|event| with_room(event, room_id));
    events.filter(|event| event["type"] == "m.receipt").collect()
}
