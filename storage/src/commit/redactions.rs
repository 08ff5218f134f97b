//! What events lose: redactions that were applied, those that wait for their target, and events whose time will be over.

use std::{borrow::Cow, collections::HashMap};

use myelin_core::nid::{EventNid, RoomNid};
use ruma::OwnedEventId;

use super::RoomChange;
use crate::{
    error::StorageError,
    pool::Transaction,
    row::{is_indexable, text},
    statements::statements,
};

statements! {
    REDACT_EVENTS = "
        UPDATE events
        SET    pdu = new.pdu,
               redacted_by = new.redacted_by
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::TEXT[]) AS new (event_nid, redacted_by, pdu)
        WHERE  events.event_nid = new.event_nid
    ",
    ADD_WAITING = "
        INSERT INTO waiting_redactions (event_nid, room_nid, target_id)
        SELECT event_nid, room_nid, target_id
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::TEXT[]) AS new (event_nid, room_nid, target_id)
        ON CONFLICT DO NOTHING
    ",
    END_WAITING = "
        DELETE FROM waiting_redactions
        WHERE  event_nid = ANY($1)
    ",
    ADD_EXPIRING = "
        INSERT INTO expiring_events (event_nid, room_nid, expires)
        SELECT event_nid, room_nid, expires
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[]) AS new (event_nid, room_nid, expires)
        ON CONFLICT DO NOTHING
    ",
}

/// An event whose content is removed.
#[derive(Clone, Debug)]
pub struct AppliedRedaction {
    /// The event.
    pub target: EventNid,
    /// The redaction; the event itself, if its time was over.
    pub by: EventNid,
    /// What is left of the event: its redacted form as canonical JSON.
    pub pdu_json: String,
}

/// A redaction whose target is not known: it is found again when the target comes.
#[derive(Clone, Debug)]
pub struct WaitingRedaction {
    /// The event that it redacts.
    pub target: OwnedEventId,
    /// The redaction.
    pub redaction: EventNid,
}

/// An event that is to lose its content.
#[derive(Clone, Copy, Debug)]
pub struct ExpiringEvent {
    /// The event.
    pub event: EventNid,
    /// When; milliseconds since 1970.
    pub expires_ms: u64,
}

#[derive(Default)]
pub(super) struct RedactionRows<'a> {
    applied: HashMap<EventNid, &'a AppliedRedaction>,
    waiting: Vec<(RoomNid, &'a WaitingRedaction)>,
    ended_waiting: Vec<i64>,
    expiring: Vec<(RoomNid, ExpiringEvent)>,
}

impl<'a> RedactionRows<'a> {
    pub(super) fn add(&mut self, change: &'a RoomChange) {
        let room = change.room;
        self.applied.extend(change.redactions.iter().map(|redaction| (redaction.target, redaction)));
        let waiting = change.waiting.iter().filter(|waiting| is_indexable(waiting.target.as_str()));
        self.waiting.extend(waiting.map(|waiting| (room, waiting)));
        self.ended_waiting.extend(change.ended_waiting.iter().map(|redaction| redaction.get()));
        self.expiring.extend(change.expiring.iter().map(|expiring| (room, *expiring)));
    }

    pub(super) async fn apply(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.applied.is_empty() {
            return Ok(());
        }
        let target: Vec<i64> = self.applied.keys().map(|target| target.get()).collect();
        let by: Vec<i64> = self.applied.values().map(|redaction| redaction.by.get()).collect();
        let pdu: Vec<&str> = self.applied.values().map(|redaction| redaction.pdu_json.as_str()).collect();
        let statement = transaction.prepare_cached(REDACT_EVENTS).await?;
        transaction.execute(&statement, &[&target, &by, &pdu]).await?;
        Ok(())
    }

    pub(super) async fn add_waiting(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let event: Vec<i64> = self.waiting.iter().map(|(_, row)| row.redaction.get()).collect();
        let room: Vec<i64> = self.waiting.iter().map(|(room, _)| room.get()).collect();
        let target: Vec<Cow<'_, str>> =
            self.waiting.iter().map(|(_, row)| text(row.target.as_str())).collect();
        let statement = transaction.prepare_cached(ADD_WAITING).await?;
        transaction.execute(&statement, &[&event, &room, &target]).await?;
        Ok(())
    }

    pub(super) async fn end_waiting(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.ended_waiting.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(END_WAITING).await?;
        transaction.execute(&statement, &[&self.ended_waiting]).await?;
        Ok(())
    }

    pub(super) async fn add_expiring(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.expiring.is_empty() {
            return Ok(());
        }
        let event: Vec<i64> = self.expiring.iter().map(|(_, row)| row.event.get()).collect();
        let room: Vec<i64> = self.expiring.iter().map(|(room, _)| room.get()).collect();
        let expires = |row: ExpiringEvent| i64::try_from(row.expires_ms).unwrap_or(i64::MAX);
        let expires: Vec<i64> = self.expiring.iter().map(|(_, row)| expires(*row)).collect();
        let statement = transaction.prepare_cached(ADD_EXPIRING).await?;
        transaction.execute(&statement, &[&event, &room, &expires]).await?;
        Ok(())
    }
}
