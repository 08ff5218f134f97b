//! Events of a batch, and what belongs to an event: clients' transactions, relations.

use std::{borrow::Cow, collections::HashSet};

use myelin_core::{
    admit::AdmissionCode,
    nid::{EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid},
    pdu::Pdu,
    position::{Position, TimelinePlace},
};
use ruma::{OwnedDeviceId, OwnedEventId};

use super::RoomChange;
use crate::{
    error::StorageError,
    pool::Transaction,
    row::{array_literal, is_indexable, text},
    statements::statements,
};

statements! {
    ADD_EVENTS = "
        INSERT INTO events (event_nid, event_id, room_nid, type_nid, state_key_nid, sender_nid, depth,
                            origin_server_ts, admission, reason, snapshot_nid, position, anchor, anchor_offset,
                            prev_nids, auth_nids, replaces_nid, relay, pdu)
        SELECT event_nid, event_id, room_nid, type_nid, state_key_nid, sender_nid, depth,
               origin_server_ts, admission, reason, snapshot_nid, position, anchor, anchor_offset,
               prev_nids::BIGINT[], auth_nids::BIGINT[], replaces_nid, relay, pdu
        FROM   UNNEST($1::BIGINT[], $2::TEXT[], $3::BIGINT[], $4::INTEGER[], $5::INTEGER[], $6::INTEGER[],
                      $7::BIGINT[], $8::BIGINT[], $9::SMALLINT[], $10::TEXT[], $11::BIGINT[], $12::BIGINT[],
                      $13::BIGINT[], $14::INTEGER[], $15::TEXT[], $16::TEXT[], $17::BIGINT[], $18::BOOLEAN[],
                      $19::TEXT[])
               AS new (event_nid, event_id, room_nid, type_nid, state_key_nid, sender_nid, depth,
                       origin_server_ts, admission, reason, snapshot_nid, position, anchor, anchor_offset,
                       prev_nids, auth_nids, replaces_nid, relay, pdu)
        ON CONFLICT (event_nid) DO UPDATE
        SET    admission = EXCLUDED.admission,
               reason = EXCLUDED.reason,
               snapshot_nid = EXCLUDED.snapshot_nid,
               position = EXCLUDED.position,
               anchor = EXCLUDED.anchor,
               anchor_offset = EXCLUDED.anchor_offset,
               prev_nids = EXCLUDED.prev_nids,
               auth_nids = EXCLUDED.auth_nids,
               replaces_nid = EXCLUDED.replaces_nid,
               relay = EXCLUDED.relay
        WHERE  events.anchor IS NULL
    ",
    ADD_TRANSACTIONS = "
        INSERT INTO client_transactions (room_nid, user_nid, device_id, scope, txn_id, event_nid, created)
        SELECT room_nid, user_nid, device_id, scope, txn_id, event_nid, created
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[], $7::BIGINT[])
               AS new (room_nid, user_nid, device_id, scope, txn_id, event_nid, created)
        ON CONFLICT DO NOTHING
    ",
    ADD_RELATIONS = "
        INSERT INTO relations (room_nid, parent_id, child_nid, rel_type, type_nid, sender_nid, aggregation_key)
        SELECT room_nid, parent_id, child_nid, rel_type, type_nid, sender_nid, aggregation_key
        FROM   UNNEST($1::BIGINT[], $2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::INTEGER[], $6::INTEGER[], $7::TEXT[])
               AS new (room_nid, parent_id, child_nid, rel_type, type_nid, sender_nid, aggregation_key)
        ON CONFLICT DO NOTHING
    ",
}

/// Where an event stands in its room's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Not in the timeline: it was not accepted, or came as state only.
    Outside,
    /// At the position that the commit gives it.
    Live,
    /// Before a live event: it was fetched later.
    Before(TimelinePlace),
}

impl Placement {
    /// The place of an event that is committed at this position.
    pub fn at(self, position: Position) -> Option<TimelinePlace> {
        match self {
            Self::Outside => None,
            Self::Live => Some(TimelinePlace::live(position)),
            Self::Before(place) => Some(place),
        }
    }
}

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its number, which no other event ever had; or that of the same event, if it is stored outside the timeline.
    pub nid: EventNid,
    /// The event.
    pub pdu: Pdu,
    /// Its type.
    pub type_nid: TypeNid,
    /// Its state key, if it is a state event.
    pub state_key: Option<StateKeyNid>,
    /// Its sender.
    pub sender: UserNid,
    /// What was decided about it.
    pub admission: AdmissionCode,
    /// Why it was not accepted.
    pub reason: Option<String>,
    /// The state before it. `None`: unknown, or empty before a create event.
    pub snapshot: Option<SnapshotNid>,
    /// Its place in the timeline.
    pub placement: Placement,
    /// Its prev events, as far as they are stored.
    pub prev_nids: Vec<EventNid>,
    /// Its auth events.
    pub auth_nids: Vec<EventNid>,
    /// The event that had its type and state key before it.
    pub replaces: Option<EventNid>,
    /// This server tells the other servers in the room of it.
    pub relay: bool,
}

/// Which event answers a client's transaction id.
#[derive(Clone, Debug)]
pub struct NewTransaction {
    /// Who sent it.
    pub user: UserNid,
    /// From which device.
    pub device_id: OwnedDeviceId,
    /// What else the id is scoped to.
    pub scope: String,
    /// The id.
    pub txn_id: String,
    /// The event.
    pub event: EventNid,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// That an event relates to another.
#[derive(Clone, Debug)]
pub struct NewRelation {
    /// The event related to; it may be unknown here.
    pub parent_id: OwnedEventId,
    /// The event that relates.
    pub child: EventNid,
    /// How.
    pub rel_type: String,
    /// Type of the child.
    pub type_nid: TypeNid,
    /// Sender of the child.
    pub sender: UserNid,
    /// Key of an annotation.
    pub aggregation_key: Option<String>,
}

#[derive(Default)]
pub(super) struct EventRows<'a> {
    events: Vec<(RoomNid, &'a NewEvent, Position)>,
    transactions: Vec<(RoomNid, &'a NewTransaction)>,
    relations: Vec<(RoomNid, &'a NewRelation)>,
}

impl<'a> EventRows<'a> {
    pub(super) fn add(&mut self, change: &'a RoomChange, positions: &[Position]) {
        let room = change.room;
        self.events.extend(change.events.iter().zip(positions).map(|(event, at)| (room, event, *at)));
        self.transactions.extend(change.transactions.iter().map(|transaction| (room, transaction)));
        // Longer than an id can be: there is no such parent, and no client asks for such a type.
        let relations = change
            .relations
            .iter()
            .filter(|relation| is_indexable(relation.parent_id.as_str()) && is_indexable(&relation.rel_type));
        self.relations.extend(relations.map(|relation| (room, relation)));
    }

    pub(super) async fn add_events(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.events.is_empty() {
            return Ok(());
        }
        // An outlier and the same event in its place may be in one batch. One statement cannot write a row twice,
        // so the last one counts.
        let mut seen = HashSet::new();
        let mut columns = EventColumns::default();
        for (room, event, position) in self.events.iter().rev() {
            if seen.insert(event.nid) {
                columns.push(*room, event, *position);
            }
        }
        let added = columns.insert(transaction).await?;
        if added == u64::try_from(seen.len()).unwrap_or(u64::MAX) {
            return Ok(());
        }
        // Only an event that stands in the timeline already is not written.
        Err(StorageError::Conflict(super::EVENT_IDS.to_owned()))
    }

    pub(super) async fn add_transactions(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.transactions.is_empty() {
            return Ok(());
        }
        let rows = || self.transactions.iter();
        let room: Vec<i64> = rows().map(|(room, _)| room.get()).collect();
        let user: Vec<i32> = rows().map(|(_, row)| row.user.get()).collect();
        let device_id: Vec<Cow<'_, str>> = rows().map(|(_, row)| text(row.device_id.as_str())).collect();
        let scope: Vec<Cow<'_, str>> = rows().map(|(_, row)| text(&row.scope)).collect();
        let txn_id: Vec<Cow<'_, str>> = rows().map(|(_, row)| text(&row.txn_id)).collect();
        let event: Vec<i64> = rows().map(|(_, row)| row.event.get()).collect();
        let created: Vec<i64> =
            rows().map(|(_, row)| i64::try_from(row.created_ms).unwrap_or(i64::MAX)).collect();
        let statement = transaction.prepare_cached(ADD_TRANSACTIONS).await?;
        transaction
            .execute(&statement, &[&room, &user, &device_id, &scope, &txn_id, &event, &created])
            .await?;
        Ok(())
    }

    pub(super) async fn add_relations(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.relations.is_empty() {
            return Ok(());
        }
        let rows = || self.relations.iter();
        let room: Vec<i64> = rows().map(|(room, _)| room.get()).collect();
        let parent: Vec<Cow<'_, str>> = rows().map(|(_, row)| text(row.parent_id.as_str())).collect();
        let child: Vec<i64> = rows().map(|(_, row)| row.child.get()).collect();
        let rel_type: Vec<Cow<'_, str>> = rows().map(|(_, row)| text(&row.rel_type)).collect();
        let type_nid: Vec<i32> = rows().map(|(_, row)| row.type_nid.get()).collect();
        let sender: Vec<i32> = rows().map(|(_, row)| row.sender.get()).collect();
        let key: Vec<Option<Cow<'_, str>>> =
            rows().map(|(_, row)| row.aggregation_key.as_deref().map(text)).collect();
        let statement = transaction.prepare_cached(ADD_RELATIONS).await?;
        transaction
            .execute(&statement, &[&room, &parent, &child, &rel_type, &type_nid, &sender, &key])
            .await?;
        Ok(())
    }
}

/// Event rows, column by column.
#[derive(Default)]
struct EventColumns<'a> {
    nid: Vec<i64>,
    event_id: Vec<Cow<'a, str>>,
    room: Vec<i64>,
    type_nid: Vec<i32>,
    state_key: Vec<Option<i32>>,
    sender: Vec<i32>,
    depth: Vec<i64>,
    origin_server_ts: Vec<i64>,
    admission: Vec<i16>,
    reason: Vec<Option<Cow<'a, str>>>,
    snapshot: Vec<Option<i64>>,
    position: Vec<i64>,
    anchor: Vec<Option<i64>>,
    anchor_offset: Vec<i32>,
    prev_nids: Vec<String>,
    auth_nids: Vec<String>,
    replaces: Vec<Option<i64>>,
    relay: Vec<bool>,
    pdu: Vec<&'a str>,
}

impl<'a> EventColumns<'a> {
    fn push(&mut self, room: RoomNid, event: &'a NewEvent, position: Position) {
        let place = event.placement.at(position);
        self.nid.push(event.nid.get());
        self.event_id.push(text(event.pdu.event_id().as_str()));
        self.room.push(room.get());
        self.type_nid.push(event.type_nid.get());
        self.state_key.push(event.state_key.map(StateKeyNid::get));
        self.sender.push(event.sender.get());
        self.depth.push(event.pdu.depth());
        self.origin_server_ts.push(event.pdu.origin_server_ts().get().into());
        self.admission.push(event.admission.code());
        self.reason.push(event.reason.as_deref().map(text));
        self.snapshot.push(event.snapshot.map(SnapshotNid::get));
        self.position.push(position.0);
        self.anchor.push(place.map(|place| place.anchor.0));
        self.anchor_offset.push(place.map_or(0, |place| place.offset));
        self.prev_nids.push(array_literal(&event.prev_nids));
        self.auth_nids.push(array_literal(&event.auth_nids));
        self.replaces.push(event.replaces.map(EventNid::get));
        self.relay.push(event.relay);
        self.pdu.push(event.pdu.json());
    }

    async fn insert(&self, transaction: &Transaction<'_>) -> Result<u64, StorageError> {
        let statement = transaction.prepare_cached(ADD_EVENTS).await?;
        let added = transaction
            .execute(
                &statement,
                &[
                    &self.nid,
                    &self.event_id,
                    &self.room,
                    &self.type_nid,
                    &self.state_key,
                    &self.sender,
                    &self.depth,
                    &self.origin_server_ts,
                    &self.admission,
                    &self.reason,
                    &self.snapshot,
                    &self.position,
                    &self.anchor,
                    &self.anchor_offset,
                    &self.prev_nids,
                    &self.auth_nids,
                    &self.replaces,
                    &self.relay,
                    &self.pdu,
                ],
            )
            .await?;
        Ok(added)
    }
}
