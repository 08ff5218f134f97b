//! The event stream of Matrix before `/sync`: `/events`, `/initialSync` and a room's `/initialSync`.
//!
//! Deprecated, and served for old clients only, from the same parts as `/sync`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use myelin_actors::{
    room::view::RoomView,
    sync::messages::{SyncPoint, SyncUser},
};
use myelin_core::{
    membership::Membership,
    nid::RoomNid,
    position::{Position, TimelinePlace},
};
use myelin_storage::{account_data, directory, events::StoredEvent, receipts, timeline};
use ruma::{
    OwnedRoomId, UserId,
    api::{
        auth_scheme::AccessToken,
        client::{filter::FilterDefinition, peeking::get_current_state},
    },
    presence::PresenceState,
};
use serde_json::{Value, json};

use super::sync::note_presence;
use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Extras, Reader},
    http::{
        auth::User,
        endpoint::{Plain, Ruma},
        response::JsonText,
    },
    sync::{
        self, Ask,
        answer::{Answer, RoomPart, StateField},
        ephemeral::receipt_events,
        preferences::PUSH_RULES,
        presence::presence_event,
        token::{parse_sync_token, sync_token, timeline_token, timeline_token_before},
    },
    visibility::visible_events,
    workflows::access,
};

/// How many events a stream or a page has when the client does not say.
const DEFAULT_LIMIT: u32 = 10;
/// How many it has at most.
const MAX_LIMIT: u32 = 1000;
/// After every position.
const EVER: Position = Position(i64::MAX);
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
    note_presence(&app, user, &PresenceState::Online).await?;
    let since = match req.query("from").filter(|from| !from.is_empty() && from != "END") {
        Some(from) => parse_sync_token(&from)
            .ok_or_else(|| MatrixError::invalid_param("from is no token of this server"))?,
        None => now(&app, user).await?,
    };
    let ask = ask(user, Some(since), MAX_LIMIT, Duration::from_millis(timeout_ms));
    let answer = sync::sync(&app, &ask).await?;
    let end = sync_token(answer.upto);
    let body = json!({ "start": sync_token(since), "end": end, "chunk": stream(&answer) });
    Ok(body.to_string().into())
}

/// `GET /_matrix/client/v3/initialSync`
pub async fn initial_sync(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    let user = &req.identity;
    let limit =
        number(&req, "limit")?.map_or(DEFAULT_LIMIT, |limit| u32::try_from(limit).unwrap_or(MAX_LIMIT));
    note_presence(&app, user, &PresenceState::Online).await?;
    let mut ask = ask(user, None, limit.min(MAX_LIMIT), Duration::ZERO);
    ask.state_field = StateField::After;
    ask.filter.account_data.not_types = vec![PUSH_RULES.to_owned()];
    ask.filter.room.include_leave = req.query("archived").is_some_and(|archived| archived == "true");
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

/// `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
///
/// For members, former members, and everybody where the history is open to the world.
pub async fn get_current_state(
    app: App,
    req: Ruma<get_current_state::v3::Request>,
) -> Result<JsonText, MatrixError> {
    let user = req.user();
    let reading = access::reading(&app, user.nid, &req.room_id).await?;
    let view = &reading.view;
    let nids: Vec<_> = reading.state(&app).await?.values().copied().collect();
    let now_ms = app.clock.now_ms();
    let state = app.actors.events.load(&nids).await?;
    let state: Vec<String> =
        state.iter().map(|event| event_format::client_event(event, &Extras::default(), now_ms)).collect();
    let (receipts, presence) = if view.is_joined(user.nid) {
        let rows =
            receipts::list(&app.storage.get().await?, &[(view.nid, Position::START)], EVER, user.nid).await?;
        let receipts = receipt_events(&app, rows).await?;
        let receipts = receipts.iter().map(|event| with_room(event, req.room_id.as_str())).collect();
        (receipts, members_presence(&app, view).await?)
    } else {
        (Vec::new(), Vec::new())
    };
    let is_public =
        directory::is_published(&app.storage.get().await?, view.nid, directory::OWN_NETWORK).await?;
    let body = json!({
        "room_id": req.room_id,
        "membership": view.membership(user.nid).unwrap_or(Membership::Leave).as_str(),
        "visibility": visibility(is_public),
        "messages": last_messages(&app, user, &reading).await?,
        "state": old_style(&state),
        "account_data": room_account_data(&app, user, view).await?,
        "receipts": receipts,
        "presence": presence,
    });
    Ok(body.to_string().into())
}

/// The last events that the reader may see, as a page that `/messages` goes on from.
async fn last_messages(app: &App, user: &User, reading: &access::Reading) -> Result<Value, MatrixError> {
    let view = &reading.view;
    let end = reading.end().unwrap_or(TimelinePlace::live(view.position));
    let limit = DEFAULT_LIMIT as usize;
    let db = app.storage.get().await?;
    let page = timeline::page(&db, view.nid, Some(end), timeline::Direction::Backward, None, limit).await?;
    drop(db);
    let page: Vec<Arc<StoredEvent>> = page.into_iter().rev().map(Arc::new).collect();
    let first = page.first().and_then(|event| event.place);
    let start = first.map_or_else(|| timeline_token(end), timeline_token_before);
    let seen = visible_events(app, view, user.nid, &page).await?;
    let reader = Reader { user: user.nid, device: Some(&user.device_id) };
    let chunk = event_format::client_events(app, reader, &seen, false).await?;
    Ok(json!({ "chunk": old_style(&chunk), "start": start, "end": timeline_token(end) }))
}

async fn room_account_data(app: &App, user: &User, view: &RoomView) -> Result<Vec<Value>, MatrixError> {
    let rows = account_data::list(&app.storage.get().await?, user.nid, Position::START, EVER).await?;
    let rows = rows.into_iter().filter(|row| row.room == Some(view.nid));
    Ok(rows.filter_map(|row| Some(json!({ "type": row.event_type, "content": row.content? }))).collect())
}

const fn visibility(is_public: bool) -> &'static str {
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

fn ask(user: &User, since: Option<SyncPoint>, limit: u32, timeout: Duration) -> Ask {
    let mut filter = FilterDefinition::default();
    filter.room.timeline.limit = Some(limit.into());
    Ask {
        user: SyncUser { nid: user.nid, id: user.id.clone() },
        device: Some(user.device_id.clone()),
        since,
        filter,
        full_state: false,
        state_field: StateField::Before,
        timeout,
    }
}

/// A query parameter that is a number.
fn number(req: &Plain<AccessToken>, name: &str) -> Result<Option<u64>, MatrixError> {
    let parse =
        |value: String| value.parse().map_err(|_| MatrixError::invalid_param(format!("{name} is no number")));
    req.query(name).map(parse).transpose()
}

/// Where the user's news stand now.
async fn now(app: &App, user: &User) -> Result<SyncPoint, MatrixError> {
    let handle = app.actors.syncers.user(SyncUser { nid: user.nid, id: user.id.clone() });
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
fn old_style(events: &[String]) -> Vec<Value> {
    let mut events = parsed(events);
    for event in &mut events {
        event["user_id"] = event["sender"].clone();
    }
    events
}

fn old_presence(event: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    event["content"]["user_id"] = event["sender"].clone();
    event
}

fn with_room(event: &str, room_id: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    event["room_id"] = room_id.into();
    event
}

fn receipts_of(room_id: &str, part: &RoomPart) -> Vec<Value> {
    let events = part.ephemeral.iter().map(|event| with_room(event, room_id));
    events.filter(|event| event["type"] == "m.receipt").collect()
}

async fn members_presence(app: &App, view: &RoomView) -> Result<Vec<Value>, MatrixError> {
    let joined = view.members.iter().filter(|(_, member)| member.membership == Membership::Join);
    let users: Vec<_> = joined.map(|(user, _)| *user).collect();
    let known = app.actors.presences.of(&users);
    let users: Vec<_> = users.into_iter().filter(|user| known.contains_key(user)).collect();
    let names = app.nids.user_ids(&users).await?;
    let now_ms = app.clock.now_ms();
    let event = |(nid, id): (_, ruma::OwnedUserId)| {
        let id: &UserId = &id;
        known.get(&nid).map(|presence| old_presence(&presence_event(id, presence, now_ms)))
    };
    Ok(users.into_iter().zip(names).filter_map(event).collect())
}
