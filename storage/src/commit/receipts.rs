//! Receipts of a batch.

use std::{borrow::Cow, collections::HashMap};

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use ruma::OwnedEventId;

use crate::{
    error::StorageError,
    pool::Transaction,
    row::{is_indexable, text},
    statements::statements,
};

statements! {
    WRITE_RECEIPTS = "
        INSERT INTO receipts (room_nid, user_nid, receipt_type, thread, event_id, ts, position)
        SELECT room_nid, user_nid, receipt_type, thread, event_id, ts, position
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[],
                      $7::BIGINT[])
               AS new (room_nid, user_nid, receipt_type, thread, event_id, ts, position)
        ON CONFLICT (room_nid, user_nid, receipt_type, thread) DO UPDATE
        SET    event_id = EXCLUDED.event_id,
               ts = EXCLUDED.ts,
               position = EXCLUDED.position
    ",
    ADVANCE_RECEIPT_POSITIONS = "
        UPDATE rooms
        SET    receipt_position = new.position
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[]) AS new (room_nid, position)
        WHERE  rooms.room_nid = new.room_nid
    ",
}

/// A user has read a room up to an event. It replaces the user's last receipt of that type and thread, whether it
/// is older or not: that it moves forward is for the caller to see to.
#[derive(Clone, Debug)]
pub struct ReceiptChange {
    /// The room.
    pub room: RoomNid,
    /// Who has read.
    pub user: UserNid,
    /// `m.read` or `m.read.private`.
    pub receipt_type: String,
    /// `main` or a thread's root; `None`: the receipt is for all of the room.
    pub thread: Option<String>,
    /// The event.
    pub event_id: OwnedEventId,
    /// Milliseconds since 1970, when it was read.
    pub ts: u64,
}

type Key<'a> = (RoomNid, UserNid, Cow<'a, str>, Cow<'a, str>);

/// The last receipt of the batch for each key.
#[derive(Default)]
pub(super) struct ReceiptRows<'a>(HashMap<Key<'a>, (&'a ReceiptChange, Position)>);

impl<'a> ReceiptRows<'a> {
    pub(super) fn add(&mut self, receipt: &'a ReceiptChange, position: Position) {
        let thread = text(receipt.thread.as_deref().unwrap_or_default());
        // Longer than an id can be: it marks nothing as read.
        if !is_indexable(&thread) || !is_indexable(&receipt.receipt_type) {
            return;
        }
        let key = (receipt.room, receipt.user, text(&receipt.receipt_type), thread);
        self.0.insert(key, (receipt, position));
    }

    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let room: Vec<i64> = self.0.keys().map(|(room, ..)| room.get()).collect();
        let user: Vec<i32> = self.0.keys().map(|(_, user, ..)| user.get()).collect();
        let receipt_type: Vec<&str> = self.0.keys().map(|(_, _, receipt_type, _)| &**receipt_type).collect();
        let thread: Vec<&str> = self.0.keys().map(|(.., thread)| &**thread).collect();
        let event_id: Vec<Cow<'_, str>> =
            self.0.values().map(|(receipt, _)| text(receipt.event_id.as_str())).collect();
        let ts: Vec<i64> =
            self.0.values().map(|(receipt, _)| i64::try_from(receipt.ts).unwrap_or(i64::MAX)).collect();
        let position: Vec<i64> = self.0.values().map(|(_, position)| position.0).collect();
        let statement = transaction.prepare_cached(WRITE_RECEIPTS).await?;
        transaction
            .execute(&statement, &[&room, &user, &receipt_type, &thread, &event_id, &ts, &position])
            .await?;
        Ok(())
    }

    pub(super) async fn advance_rooms(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut last: HashMap<RoomNid, Position> = HashMap::new();
        for ((room, ..), (_, position)) in &self.0 {
            let last = last.entry(*room).or_default();
            *last = (*last).max(*position);
        }
        let (room, position): (Vec<i64>, Vec<i64>) =
            last.into_iter().map(|(room, position)| (room.get(), position.0)).unzip();
        let statement = transaction.prepare_cached(ADVANCE_RECEIPT_POSITIONS).await?;
        transaction.execute(&statement, &[&room, &position]).await?;
        Ok(())
    }
}
