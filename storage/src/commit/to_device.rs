//! Messages to devices of a batch.

use std::borrow::Cow;

use myelin_core::{nid::UserNid, position::Position};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::value::RawValue;

use crate::{error::StorageError, pool::Transaction, row::text, statements::statements};

statements! {
    // A change is known by its position, so that the messages of a repeated request are left out.
    WRITE_TO_DEVICE = "
        WITH fresh AS (
                 INSERT INTO to_device_transactions (sender_nid, scope, txn_id, created, position)
                 SELECT sender_nid, scope, txn_id, created, position
                 FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::TEXT[], $4::BIGINT[], $5::BIGINT[])
                        AS new (sender_nid, scope, txn_id, created, position)
                 ON CONFLICT (sender_nid, scope, txn_id) DO NOTHING
                 RETURNING position
             )
        INSERT INTO to_device_messages (user_nid, device_id, position, sender, event_type, content)
        SELECT device.user_nid, device.device_id, new.position, new.sender, new.event_type, new.content
        FROM   UNNEST($6::INTEGER[], $7::TEXT[], $8::BIGINT[], $9::TEXT[], $10::TEXT[], $11::TEXT[])
               AS new (user_nid, device_id, position, sender, event_type, content)
        JOIN   devices AS device
        ON     device.user_nid = new.user_nid
        AND    (new.device_id IS NULL OR device.device_id = new.device_id)
        WHERE  new.position <> ALL ($5)
           OR  new.position IN (SELECT position FROM fresh)
        ORDER  BY new.position, new.device_id NULLS LAST
        ON CONFLICT (user_nid, device_id, position) DO NOTHING
    ",
}

/// A sender's name for a request, by which a repetition is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDeviceTransaction {
    /// Who sent.
    pub sender: UserNid,
    /// Device and event type of a local sender; empty for a message id of another server.
    pub scope: String,
    /// The id.
    pub txn_id: String,
    /// Now, in milliseconds since 1970.
    pub created: i64,
}

/// A message for a local device.
#[derive(Clone, Debug)]
pub struct ToDeviceMessage {
    /// Whose device.
    pub user: UserNid,
    /// The device; `None`: all that the user has.
    pub device_id: Option<OwnedDeviceId>,
    /// A JSON object.
    pub content: Box<RawValue>,
}

/// Messages of one type from one sender to local devices. A device gets at most one of them; devices that do not exist
/// get none. When the transaction was there before, nothing happens.
#[derive(Clone, Debug)]
pub struct ToDeviceChange {
    /// Who sent.
    pub sender: OwnedUserId,
    /// The type of the messages.
    pub event_type: String,
    /// What a repetition of the request is recognised by.
    pub transaction: ToDeviceTransaction,
    /// The messages.
    pub messages: Vec<ToDeviceMessage>,
}

/// The messages of the batch, each with its position.
#[derive(Default)]
pub(super) struct ToDeviceRows<'a>(Vec<(&'a ToDeviceChange, Position)>);

impl<'a> ToDeviceRows<'a> {
    pub(super) fn add(&mut self, change: &'a ToDeviceChange, position: Position) {
        self.0.push((change, position));
    }

    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let of = self.0.iter().map(|(change, _)| &change.transaction);
        let senders: Vec<i32> = of.clone().map(|of| of.sender.get()).collect();
        let scopes: Vec<Cow<'_, str>> = of.clone().map(|of| text(&of.scope)).collect();
        let txn_ids: Vec<Cow<'_, str>> = of.clone().map(|of| text(&of.txn_id)).collect();
        let created: Vec<i64> = of.map(|of| of.created).collect();
        let positions: Vec<i64> = self.0.iter().map(|(_, position)| position.0).collect();
        let messages = || {
            self.0.iter().flat_map(|(change, position)| {
                change.messages.iter().map(move |message| (*change, *position, message))
            })
        };
        let users: Vec<i32> = messages().map(|(.., message)| message.user.get()).collect();
        let device_ids: Vec<Option<Cow<'_, str>>> = messages()
            .map(|(.., message)| message.device_id.as_ref().map(|device_id| text(device_id.as_str())))
            .collect();
        let of_messages: Vec<i64> = messages().map(|(_, position, _)| position.0).collect();
        let from: Vec<&str> = messages().map(|(change, ..)| change.sender.as_str()).collect();
        let event_types: Vec<Cow<'_, str>> =
            messages().map(|(change, ..)| text(&change.event_type)).collect();
        let contents: Vec<&str> = messages().map(|(.., message)| message.content.get()).collect();
        let statement = transaction.prepare_cached(WRITE_TO_DEVICE).await?;
        transaction
            .execute(
                &statement,
                &[
                    &senders,
                    &scopes,
                    &txn_ids,
                    &created,
                    &positions,
                    &users,
                    &device_ids,
                    &of_messages,
                    &from,
                    &event_types,
                    &contents,
                ],
            )
            .await?;
        Ok(())
    }
}
