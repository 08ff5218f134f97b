//! What other servers send beside events: who types, what was read, who is online; devices and keys are taken in
//! [`keys::edus`].
//!
//! A server speaks for its own users only, and about rooms only for members whom the room's ACL lets speak. What it
//! may not say, what nobody here can use, and what cannot be read is dropped without a word: EDUs have no answers.

pub mod presence;

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::future::join_all;
use myelin_actors::room::{error::RoomError, view::RoomView};
use myelin_core::{
    acl,
    nid::{RoomNid, UserNid, types},
    pdu::format::MAX_ID_BYTES,
    position::TimelinePlace,
};
use myelin_storage::{
    commit::{Change, ReceiptChange},
    events, receipts,
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::transactions::edu::TypingContent,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::debug;

use super::keys;
use crate::{app::App, error::MatrixError};

/// How long somebody types whose server does not say that they have stopped.
const TYPING_MS: u64 = 45_000;
/// How many receipts one EDU may bring.
const MAX_RECEIPTS: usize = 1000;

#[derive(Deserialize)]
struct Edu {
    edu_type: String,
    content: Box<RawValue>,
}

/// Takes in what a server sends beside events, in its order. An error is one of this server: then the transaction
/// comes again.
pub async fn take(app: &App, origin: &ServerName, edus: &[Box<RawValue>]) -> Result<(), MatrixError> {
    for edu in edus {
        let Ok(edu) = serde_json::from_str::<Edu>(edu.get()) else { continue };
        let content = edu.content.get();
        match edu.edu_type.as_str() {
            "m.typing" => take_typing(app, origin, content).await?,
            "m.receipt" => take_receipts(app, origin, content).await?,
            "m.presence" => presence::take(app, origin, content).await?,
            other => {
                if !keys::edus::take(app, origin, other, content).await? {
                    debug!(server.name = %origin, edu.r#type = other, "an EDU of this type is of no use here");
                }
            }
        }
    }
    Ok(())
}

/// The room, if this server is in it and the room listens to the other one.
async fn room(
    app: &App,
    origin: &ServerName,
    room: &RoomId,
) -> Result<Option<std::sync::Arc<RoomView>>, MatrixError> {
    let view = match app.actors.rooms.view(room).await {
        Ok(view) => view,
        Err(RoomError::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_open = view.servers.contains_key(&app.config.server_name)
        && acl::allows(view.essential(types::SERVER_ACL), origin);
    Ok(is_open.then_some(view))
}

async fn take_typing(app: &App, origin: &ServerName, content: &str) -> Result<(), MatrixError> {
    let Ok(content) = serde_json::from_str::<TypingContent>(content) else { return Ok(()) };
    if content.user_id.server_name() != origin {
        return Ok(());
    }
    let Some(view) = room(app, origin, &content.room_id).await? else { return Ok(()) };
    let Some(user) = find_users(app, std::iter::once(&*content.user_id)).await?.remove(&content.user_id)
    else {
        return Ok(());
    };
    if view.is_joined(user) {
        let until_ms = content.typing.then(|| app.process.clock.now_ms() + TYPING_MS);
        app.actors.typing.set(view.nid, user, until_ms);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Reader {
    data: ReadData,
    event_ids: Vec<OwnedEventId>,
}

#[derive(Deserialize)]
struct ReadData {
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    thread_id: Option<String>,
}

/// A receipt as the other server says it, before it is known what is read here already.
struct Heard {
    room: RoomNid,
    user: OwnedUserId,
    ts: u64,
    thread: Option<String>,
    event_ids: Vec<OwnedEventId>,
}

async fn take_receipts(app: &App, origin: &ServerName, content: &str) -> Result<(), MatrixError> {
    let Ok(content) = serde_json::from_str::<BTreeMap<OwnedRoomId, BTreeMap<String, Box<RawValue>>>>(content)
    else {
        return Ok(());
    };
    let mut heard = Vec::new();
    let mut views = HashMap::new();
    for (room_id, mut types) in content {
        let Some(Ok(readers)) = types
            .remove("m.read")
            .map(|readers| serde_json::from_str::<BTreeMap<OwnedUserId, Box<RawValue>>>(readers.get()))
        else {
            continue;
        };
        let Some(view) = room(app, origin, &room_id).await? else { continue };
        for (user, reader) in readers {
            let Ok(reader) = serde_json::from_str::<Reader>(reader.get()) else { continue };
            let is_id = |thread: &str| thread.len() <= MAX_ID_BYTES && EventId::parse(thread).is_ok();
            let is_thread = |thread: &str| thread == "main" || is_id(thread);
            if user.server_name() != origin || !reader.data.thread_id.as_deref().is_none_or(is_thread) {
                continue;
            }
            heard.push(Heard {
                room: view.nid,
                user,
                ts: reader.data.ts.min(app.process.clock.now_ms()),
                thread: reader.data.thread_id,
                event_ids: reader.event_ids,
            });
        }
        views.insert(view.nid, view);
    }
    heard.truncate(MAX_RECEIPTS);
    let users = find_users(app, heard.iter().map(|heard| &*heard.user)).await?;
    let is_member = |heard: &Heard| {
        let user = users.get(&heard.user);
        user.is_some_and(|user| views.get(&heard.room).is_some_and(|view| view.is_joined(*user)))
    };
    heard.retain(is_member);
    advance(app, &heard, &users).await
}

/// Writes the receipts that move forward. Where it is not known here which of two events is later, the newer receipt
/// counts: an event may still be on its way.
async fn advance(
    app: &App,
    heard: &[Heard],
    users: &HashMap<OwnedUserId, UserNid>,
) -> Result<(), MatrixError> {
    if heard.is_empty() {
        return Ok(());
    }
    let wanted: HashSet<(RoomNid, UserNid)> =
        heard.iter().filter_map(|heard| Some((heard.room, *users.get(&heard.user)?))).collect();
    let client = app.storage.get().await?;
    let read = receipts::find_read(&client, &wanted.into_iter().collect::<Vec<_>>()).await?;
    let ids: HashSet<&EventId> = heard
        .iter()
        .filter_map(|heard| heard.event_ids.last())
        .chain(read.iter().map(|row| &row.event_id))
        .map(AsRef::as_ref)
        .collect();
    let found = events::find_events_by_id(&client, &ids.into_iter().collect::<Vec<_>>()).await?;
    drop(client);
    let places: HashMap<&EventId, (RoomNid, Option<TimelinePlace>)> =
        found.iter().map(|event| (event.pdu.event_id(), (event.room, event.place))).collect();
    let place = |id: &EventId| places.get(id).and_then(|(_, place)| *place);
    let changes = heard.iter().filter_map(|heard| {
        let (user, event_id) = (*users.get(&heard.user)?, heard.event_ids.last()?);
        if places.get(&**event_id).is_some_and(|(room, _)| *room != heard.room) {
            return None;
        }
        let last = read
            .iter()
            .find(|row| (row.room, row.user) == (heard.room, user) && row.thread == heard.thread)
            .map(|row| &row.event_id);
        let is_late = match (place(event_id), last.and_then(|last| place(last))) {
            (Some(new), Some(last)) => new <= last,
            _ => last == Some(event_id),
        };
        (!is_late).then(|| {
            Change::Receipt(ReceiptChange {
                room: heard.room,
                user,
                receipt_type: "m.read".to_owned(),
                thread: heard.thread.clone(),
                event_id: event_id.clone(),
                ts: heard.ts,
            })
        })
    });
    // All together, so that they share commits.
    for written in join_all(changes.map(|change| app.actors.journal.write(change))).await {
        written?;
    }
    Ok(())
}

/// The numbers of those of the users who are known here.
async fn find_users(
    app: &App,
    users: impl Iterator<Item = &UserId>,
) -> Result<HashMap<OwnedUserId, UserNid>, MatrixError> {
    let users: Vec<&UserId> = users.collect::<HashSet<_>>().into_iter().collect();
    let nids = app.actors.nids.find_users(&users).await?;
    Ok(users.into_iter().zip(nids).filter_map(|(user, nid)| Some((user.to_owned(), nid?))).collect())
}
