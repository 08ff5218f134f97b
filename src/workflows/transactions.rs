//! What other servers send: each transaction once, its events durable before it is answered.
//!
//! Here is decided what is taken in: what is an event at all, and whose room it is. What becomes of an event is
//! decided later, by its room: see `myelin_actors::inbound`. What comes of a room that one of our users is joining
//! waits until that has come to its end: others may have been told already that they are in it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    acl,
    nid::{RoomNid, types},
    pdu::{Pdu, format},
    version::RoomVersion,
};
use myelin_storage::{
    inbound::{self, Answer, NewPdu},
    rooms,
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::debug;

use super::{edus, withdrawn};
use crate::{app::App, error::MatrixError};

/// How many events a transaction may have.
const MAX_PDUS: usize = 50;
/// How many other things it may have.
const MAX_EDUS: usize = 100;
/// How long its id may be.
const MAX_TXN_ID: usize = 255;
/// How many events of one server may wait for a room. More are refused; they are fetched when others follow from them.
const MAX_QUEUED: usize = 2000;
/// Takes a transaction in, and says of each event whether there is an error. The same transaction again gets the same
/// answer. The number of database statements does not depend on the number of events.
pub async fn take(
    app: &App,
    origin: &ServerName,
    txn_id: &str,
    pdus: &[Box<RawValue>],
    edus: &[Box<RawValue>],
) -> Result<Answer, MatrixError> {
    if pdus.len() > MAX_PDUS || edus.len() > MAX_EDUS {
        return Err(MatrixError::invalid_param("a transaction has at most 50 PDUs and 100 EDUs"));
    }
    if txn_id.len() > MAX_TXN_ID {
        return Err(MatrixError::invalid_param("the transaction id is too long"));
    }
    let _turn = app.actors.inbound.turn(origin).await;
    if let Some(answer) = inbound::find_transaction(&app.storage.get().await?, origin, txn_id).await? {
        return Ok(answer);
    }
    withdrawn::take(app, origin, pdus).await?;
    let (events, mut answer) = sort(app, origin, pdus).await?;
    let events = without_excess(app, origin, events, &mut answer).await?;
    let client = app.storage.get().await?;
    if !events.is_empty() {
        let new: Vec<NewPdu<'_>> = events
            .iter()
            .map(|pdu| NewPdu { room_id: pdu.room_id(), event_id: pdu.event_id(), json: pdu.json() })
            .collect();
        inbound::add_pdus(&client, origin, app.process.clock.now_ms(), &new).await?;
    }
    drop(client);
    // The end of a join wakes its room, after it can no longer be seen here.
    let rooms: HashSet<&RoomId> = events.iter().map(Pdu::room_id).collect();
    let settled = rooms.into_iter().filter(|room| app.memory.others.joins.version_of(room).is_none());
    app.actors.inbound.wake(settled.map(ToOwned::to_owned));
    edus::take(app, origin, edus).await?;
    inbound::add_transaction(&app.storage.get().await?, origin, txn_id, app.process.clock.now_ms(), &answer)
        .await?;
    Ok(answer)
}

/// Those of the events that this server takes in, and what the sender is told of each that can be named.
async fn sort(
    app: &App,
    origin: &ServerName,
    pdus: &[Box<RawValue>],
) -> Result<(Vec<Pdu>, Answer), MatrixError> {
    let heads: Vec<Option<Head>> = pdus.iter().map(|json| serde_json::from_str(json.get()).ok()).collect();
    let rooms =
        find_rooms(app, origin, heads.iter().flatten().filter_map(|head| head.room_id.as_deref())).await?;
    let mut answer = Answer::new();
    let mut events = Vec::with_capacity(pdus.len());
    for (json, head) in pdus.iter().zip(heads) {
        match check(json, head, &rooms) {
            Ok(pdu) => {
                answer.insert(pdu.event_id().to_owned(), None);
                events.push(pdu);
            }
            Err((event_id, why)) => {
                debug!(server.name = %origin, why, "an event is not taken in");
                if let Some(event_id) = event_id {
                    answer.insert(event_id, Some(why));
                }
            }
        }
    }
    Ok((events, answer))
}

/// What is read of an event whose room version is not known yet.
#[derive(Deserialize)]
struct Head {
    room_id: Option<OwnedRoomId>,
    event_id: Option<OwnedEventId>,
}

/// What a room says to the transaction's sender.
struct Room {
    version: &'static RoomVersion,
    is_inside: bool,
    refusal: Option<&'static str>,
}

/// Those of the rooms that are known here, or being joined. At most one query, besides those for rooms that are not in
/// memory.
async fn find_rooms(
    app: &App,
    origin: &ServerName,
    wanted: impl Iterator<Item = &RoomId>,
) -> Result<HashMap<OwnedRoomId, Room>, MatrixError> {
    let wanted: HashSet<&RoomId> = wanted.collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    // Before it is looked what is known: a join that ends meanwhile has made it known then.
    let joining: Vec<(&RoomId, &'static RoomVersion)> =
        wanted.iter().filter_map(|room| Some((*room, app.memory.others.joins.version_of(room)?))).collect();
    let wanted: Vec<&RoomId> = wanted.into_iter().collect();
    let nids: Vec<RoomNid> =
        rooms::find_nids(&app.storage.get().await?, &wanted).await?.into_values().collect();
    let room = |view: Arc<RoomView>| {
        let is_inside = view.servers.contains_key(&app.config.server_name);
        let refusal = if !is_inside {
            Some("this server is not in the room")
        } else if acl::allows(view.essential(types::SERVER_ACL), origin) {
            None
        } else {
            Some("your server is denied access to this room")
        };
        (view.room_id.clone(), Room { version: view.version, is_inside, refusal })
    };
    let mut rooms: HashMap<OwnedRoomId, Room> =
        app.actors.rooms.views(&nids).await?.into_values().map(room).collect();
    for (room_id, version) in joining {
        let is_outside = rooms.get(room_id).is_none_or(|room| !room.is_inside);
        if is_outside {
            rooms.insert(room_id.to_owned(), Room { version, is_inside: false, refusal: None });
        }
    }
    Ok(rooms)
}

/// The event, or what is wrong with it, and its id where that can be told.
fn check(
    json: &RawValue,
    head: Option<Head>,
    rooms: &HashMap<OwnedRoomId, Room>,
) -> Result<Pdu, (Option<OwnedEventId>, String)> {
    let head = head.ok_or_else(|| (None, "this is not an event".to_owned()))?;
    // Without a room id it is the create event of a room, and nobody can be in a room before that.
    let room_id = head.room_id.ok_or_else(|| (head.event_id.clone(), "the event has no room".to_owned()))?;
    let Some(room) = rooms.get(&room_id) else {
        return Err((head.event_id, "this server does not know the room".to_owned()));
    };
    let pdu = format::parse_remote(room.version, json).map_err(|error| (head.event_id, error.to_string()))?;
    match room.refusal {
        Some(why) => Err((Some(pdu.event_id().to_owned()), why.to_owned())),
        None => Ok(pdu),
    }
}

/// Leaves out what is too much for a room's queue.
async fn without_excess(
    app: &App,
    origin: &ServerName,
    events: Vec<Pdu>,
    answer: &mut Answer,
) -> Result<Vec<Pdu>, MatrixError> {
    if events.is_empty() {
        return Ok(events);
    }
    let rooms: HashSet<&RoomId> = events.iter().map(Pdu::room_id).collect();
    let rooms: Vec<&RoomId> = rooms.into_iter().collect();
    let queued = inbound::count_by_room(&app.storage.get().await?, origin, &rooms, MAX_QUEUED).await?;
    let is_full = |room: &RoomId| queued.get(room).is_some_and(|queued| *queued >= MAX_QUEUED);
    let (refused, taken): (Vec<Pdu>, Vec<Pdu>) = events.into_iter().partition(|pdu| is_full(pdu.room_id()));
    let why = || Some("too many events of your server wait for this room".to_owned());
    answer.extend(refused.iter().map(|pdu| (EventId::to_owned(pdu.event_id()), why())));
    Ok(taken)
}
