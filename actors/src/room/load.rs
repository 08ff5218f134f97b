//! A room out of storage: for its actor, and for those who only read.

use std::sync::Arc;

use imbl::{HashMap, Vector};
use myelin_core::{
    membership::Membership,
    nid::{EMPTY_STATE_KEY, EventNid, RoomNid, TypeNid, UserNid},
    position::Position,
    version::RoomVersion,
};
use myelin_storage::{error::StorageError, events::StoredEvent};
use ruma::{OwnedRoomId, OwnedServerName};

use super::{
    RoomTools,
    error::RoomError,
    head::{Extremity, Head, Sent},
    messages::Txn,
    state_of::RecentStates,
    store::{LoadedRoom, RoomsBy},
    view::{ESSENTIAL, Essential, Member, RECENT, RoomView},
};
use crate::events::Moment;

/// How long a client's transaction is remembered.
pub(crate) const TRANSACTION_MS: u64 = 24 * 60 * 60 * 1000;

/// What a room's actor begins with.
#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    /// What is stored.
    Stored(RoomNid),
    /// Nothing: the room is made by what it is asked first. `None`: its id follows from its create event.
    New(RoomNid, &'static RoomVersion, Option<OwnedRoomId>),
}

/// The rooms asked for, as they stood in storage at that moment.
pub(crate) async fn load_rooms(
    tools: &RoomTools,
    which: RoomsBy<'_>,
) -> Result<(Vec<LoadedRoom>, Moment), StorageError> {
    let since_ms = tools.clock.now_ms().saturating_sub(TRANSACTION_MS);
    let moment = tools.events.moment();
    Ok((tools.store.load_rooms(which, since_ms).await?, moment))
}

/// What readers see of a room that was read at that moment.
pub(crate) fn view_of(tools: &RoomTools, room: &LoadedRoom, read: Moment) -> Result<RoomView, RoomError> {
    let head = head_of(tools, room)?;
    let recent_from = match room.recent.first().and_then(|oldest| oldest.place) {
        Some(oldest) if room.recent.len() >= RECENT => Position(oldest.anchor.0 - 1),
        _ => Position::START,
    };
    // What was fetched later stands among them, and is no news to anybody.
    let is_live = |event: &&StoredEvent| event.place.is_some_and(|place| place.offset == 0);
    let recent: Vector<_> = room.recent.iter().filter(is_live).cloned().map(Arc::new).collect();
    for event in &recent {
        tools.events.remember(Arc::clone(event), read);
    }
    Ok(RoomView {
        nid: head.nid,
        room_id: room.row.room_id.clone(),
        version: head.version,
        position: room.row.position,
        snapshot: head.snapshot,
        state: head.state,
        members: head.members,
        joined: head.joined,
        invited: head.invited,
        servers: head.servers,
        essentials: head.essentials,
        ends: head.extremities.into_iter().map(|extremity| extremity.id).collect(),
        recent,
        recent_from,
        resolved: Vector::new(),
        resolved_from: room.row.position,
    })
}

/// What its next decision builds on.
pub(crate) fn head_of(tools: &RoomTools, room: &LoadedRoom) -> Result<Head, RoomError> {
    let row = &room.row;
    let version =
        myelin_core::version::find(&row.room_version).ok_or_else(|| corrupt("rooms", row.nid.get()))?;
    let state = room.layers.to_map();
    let by_nid: std::collections::HashMap<EventNid, _> =
        room.events.iter().map(|event| (event.nid, event)).collect();
    let essentials: HashMap<TypeNid, Essential> = ESSENTIAL
        .iter()
        .filter_map(|event_type| {
            let nid = *state.get(&(*event_type, EMPTY_STATE_KEY))?;
            let event = by_nid.get(&nid)?;
            Some((*event_type, Essential { nid, pdu: event.pdu.clone() }))
        })
        .collect();
    let extremities = row
        .extremities
        .iter()
        .map(|nid| {
            let event = by_nid.get(nid).ok_or_else(|| corrupt("rooms", row.nid.get()))?;
            Ok(Extremity { nid: *nid, id: event.pdu.event_id().to_owned() })
        })
        .collect::<Result<_, RoomError>>()?;
    let members: HashMap<UserNid, Member> = room
        .members
        .iter()
        .map(|member| {
            let is_local = member.is_local;
            (member.user, Member { membership: member.membership, event: member.event, is_local })
        })
        .collect();
    let here = room.members.iter().filter(|row| row.is_local && row.membership == Membership::Join).count();
    let mut servers: HashMap<OwnedServerName, usize> = room.servers.iter().cloned().collect();
    if here > 0 {
        servers.insert(tools.signer.server_name.clone(), here);
    }
    let count = |membership| members.values().filter(|member| member.membership == membership).count();
    let transactions = room
        .transactions
        .iter()
        .map(|row| {
            let txn = Txn {
                device_id: row.device_id.clone(),
                scope: row.scope.clone(),
                txn_id: row.txn_id.clone(),
            };
            ((row.user, txn), Sent { id: row.event_id.clone(), created_ms: row.created_ms })
        })
        .collect();
    Ok(Head {
        nid: row.nid,
        room_id: Some(row.room_id.clone()),
        version,
        fence: row.fence,
        exists: true,
        snapshot: row.snapshot,
        layers: room.layers.clone(),
        state,
        joined: count(Membership::Join),
        invited: count(Membership::Invite),
        members,
        servers,
        essentials,
        extremities,
        depth: row.depth,
        decided: HashMap::default(),
        decided_in: HashMap::default(),
        placed: HashMap::default(),
        uncommitted: imbl::OrdMap::default(),
        transactions,
        has_waiting: row.has_waiting,
        recent_states: RecentStates::default(),
    })
}

fn corrupt(table: &'static str, row: i64) -> RoomError {
    RoomError::Storage(StorageError::Corrupt { table, row: row.to_string() })
}
