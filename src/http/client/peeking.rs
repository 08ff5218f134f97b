//! One room before `/sync`, for its members and for those who only look in: its events, and all of it at once.
//!
//! Deprecated, and served for old clients only.

use std::{sync::Arc, time::Duration};

use myelin_actors::{
    room::view::RoomView,
    sync::{asides::News, messages::SyncPoint},
};
use myelin_core::{
    membership::Membership,
    nid::UserNid,
    position::{Position, TimelinePlace},
};
use myelin_storage::{account_data, directory, events::StoredEvent, receipts, timeline};
use ruma::{OwnedUserId, RoomId, api::auth_scheme::AccessToken};
use serde_json::{Value, json};

use super::events::{DEFAULT_LIMIT, MAX_LIMIT, number, old_presence, old_style, visibility, with_room};
use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Extras, Reader},
    http::{auth::User, endpoint::Plain, response::JsonText},
    sync::{
        ephemeral::{receipt_events, typing_event},
        presence::{MAX_MET, known_or_offline},
        token::{sync_token, timeline_token, timeline_token_before},
    },
    visibility::visible_events,
    workflows::access,
};

/// After every position.
const EVER: Position = Position(i64::MAX);

/// `GET /_matrix/client/v3/events` with a room
///
/// What happens in the room after `since`, at once or when something does: its events, and to those who may read it as
/// it is also who reads, types and is there.
pub(super) async fn room_events(
    app: &App,
    user: &User,
    room_id: &RoomId,
    since: SyncPoint,
    timeout: Duration,
) -> Result<JsonText, MatrixError> {
    let mut published = app.actors.journal.watch();
    let mut happening = app.actors.syncers.watch_asides();
    let timeout = tokio::time::sleep(timeout);
    tokio::pin!(timeout);
    loop {
        // In this order: what comes after either of them was noted wakes.
        let position = *published.borrow_and_update();
        happening.mark_unchanged();
        let reading = access::reading(app, user.nid, room_id).await?;
        let asides = app.actors.syncers.asides(reading.view.nid, since.ephemeral);
        let is_open = reading.left.is_none();
        let end = reading.end().map_or(position, |end| end.anchor.min(position));
        let mut chunk = Vec::new();
        if reading.view.position > since.position && end > since.position {
            chunk = old_style(&events_between(app, user, &reading.view, since.position, end).await?);
        }
        if is_open {
            chunk.extend(beside_events(app, user, &reading.view, &asides, since.position).await?);
        }
        let is_over = tokio::select! {
            () = std::future::ready(()), if !chunk.is_empty() => true,
            changed = published.changed() => changed.is_err(),
            changed = happening.changed(), if is_open => changed.is_err(),
            () = &mut timeout => true,
            () = app.process.shutdown.begun() => true,
        };
        if is_over {
            let end = SyncPoint { position: end.max(since.position), ephemeral: asides.upto };
            let body = json!({ "start": sync_token(since), "end": sync_token(end), "chunk": chunk });
            return Ok(body.to_string().into());
        }
    }
}

/// What is new in the room beside its events.
async fn beside_events(
    app: &App,
    user: &User,
    view: &RoomView,
    asides: &News,
    after: Position,
) -> Result<Vec<Value>, MatrixError> {
    let changed = asides.presence.iter().copied().filter(|user| view.is_joined(*user)).collect();
    let mut found = presence_of(app, changed, false).await?;
    if let Some(first) = asides.receipts {
        let after = after.min(Position(first.0 - 1));
        let rows = receipts::list(&app.storage.get().await?, &[(view.nid, after)], EVER, user.nid).await?;
        let events = receipt_events(app, rows).await?;
        found.extend(events.iter().map(|event| with_room(event, view.room_id.as_str())));
    }
    if asides.typing {
        let users = app.actors.nids.user_ids(&app.actors.typing.in_room(view.nid)).await?;
        found.push(with_room(&typing_event(&users), view.room_id.as_str()));
    }
    Ok(found)
}

async fn events_between(
    app: &App,
    user: &User,
    view: &RoomView,
    after: Position,
    end: Position,
) -> Result<Vec<String>, MatrixError> {
    let (from, to) = (TimelinePlace::live(after), TimelinePlace::live(end));
    let db = app.storage.get().await?;
    let forward = timeline::Direction::Forward;
    let events = timeline::page(&db, view.nid, Some(from), forward, Some(to), MAX_LIMIT as usize).await?;
    drop(db);
    let events: Vec<Arc<StoredEvent>> = events.into_iter().map(Arc::new).collect();
    let seen = visible_events(app, view, user.nid, &events).await?;
    let reader = Reader::of(user);
    event_format::client_events(app, reader, &seen, false).await
}

/// `GET /_matrix/client/v3/rooms/{roomId}/initialSync`
///
/// For members, former members, and everybody where the history is open to the world.
pub async fn get_current_state(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    let user = &req.identity;
    let limit =
        number(&req, "limit")?.map_or(DEFAULT_LIMIT, |limit| u32::try_from(limit).unwrap_or(MAX_LIMIT));
    let room_id = req.args.first().map_or("", String::as_str);
    let room_id = RoomId::parse(room_id).map_err(|_| MatrixError::invalid_param("this is no room id"))?;
    let reading = access::reading(&app, user.nid, &room_id).await?;
    let view = &reading.view;
    let nids: Vec<_> = reading.state(&app).await?.values().copied().collect();
    let now_ms = app.process.clock.now_ms();
    let state = app.actors.events.load(&nids).await?;
    let state: Vec<String> =
        state.iter().map(|event| event_format::client_event(event, &Extras::default(), now_ms)).collect();
    let (receipts, presence) = if view.is_joined(user.nid) {
        let rows =
            receipts::list(&app.storage.get().await?, &[(view.nid, Position::START)], EVER, user.nid).await?;
        let receipts = receipt_events(&app, rows).await?;
        let receipts = receipts.iter().map(|event| with_room(event, room_id.as_str())).collect();
        (receipts, members_presence(&app, view).await?)
    } else {
        (Vec::new(), Vec::new())
    };
    let is_public =
        directory::is_published(&app.storage.get().await?, view.nid, directory::OWN_NETWORK).await?;
    let body = json!({
        "room_id": room_id,
        "membership": view.membership(user.nid).unwrap_or(Membership::Leave).as_str(),
        "visibility": visibility(is_public),
        "messages": last_messages(&app, user, &reading, limit.min(MAX_LIMIT)).await?,
        "state": old_style(&state),
        "account_data": room_account_data(&app, user, view).await?,
        "receipts": receipts,
        "presence": presence,
    });
    Ok(body.to_string().into())
}

/// The last events that the reader may see, as a page that `/messages` goes on from.
async fn last_messages(
    app: &App,
    user: &User,
    reading: &access::Reading,
    limit: u32,
) -> Result<Value, MatrixError> {
    let view = &reading.view;
    let end = reading.end().unwrap_or(TimelinePlace::live(view.position));
    let limit = limit as usize;
    let db = app.storage.get().await?;
    let page = timeline::page(&db, view.nid, Some(end), timeline::Direction::Backward, None, limit).await?;
    drop(db);
    let page: Vec<Arc<StoredEvent>> = page.into_iter().rev().map(Arc::new).collect();
    let first = page.first().and_then(|event| event.place);
    let start = first.map_or_else(|| timeline_token(end), timeline_token_before);
    let seen = visible_events(app, view, user.nid, &page).await?;
    let reader = Reader::of(user);
    let chunk = event_format::client_events(app, reader, &seen, false).await?;
    Ok(json!({ "chunk": old_style(&chunk), "start": start, "end": timeline_token(end) }))
}

async fn room_account_data(app: &App, user: &User, view: &RoomView) -> Result<Vec<Value>, MatrixError> {
    let rows = account_data::list(&app.storage.get().await?, user.nid, Position::START, EVER).await?;
    let rows = rows.into_iter().filter(|row| row.room == Some(view.nid));
    Ok(rows.filter_map(|row| Some(json!({ "type": row.event_type, "content": row.content? }))).collect())
}

async fn members_presence(app: &App, view: &RoomView) -> Result<Vec<Value>, MatrixError> {
    let joined = view.members.iter().filter(|(_, member)| member.membership == Membership::Join);
    let users: Vec<_> = joined.map(|(user, _)| *user).collect();
    presence_of(app, users, view.joined <= MAX_MET).await
}

/// The presence of users, and of those who are not known if it is `complete`.
async fn presence_of(app: &App, users: Vec<UserNid>, complete: bool) -> Result<Vec<Value>, MatrixError> {
    let known = app.actors.presences.of(&users);
    let is_told = |user: &UserNid| complete || known.contains_key(user);
    let users: Vec<_> = users.into_iter().filter(is_told).collect();
    let names = app.actors.nids.user_ids(&users).await?;
    let now_ms = app.process.clock.now_ms();
    let event =
        |(nid, id): (UserNid, OwnedUserId)| old_presence(&known_or_offline(&id, known.get(&nid), now_ms));
    Ok(users.into_iter().zip(names).map(event).collect())
}
