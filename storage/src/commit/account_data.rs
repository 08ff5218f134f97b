//! Account data of a batch.

use std::{borrow::Cow, collections::HashMap};

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use serde_json::value::RawValue;

use crate::{error::StorageError, pool::Transaction, row::text, statements::statements};

statements! {
    WRITE_ACCOUNT_DATA = "
        INSERT INTO account_data (user_nid, room_nid, event_type, content, position)
        SELECT user_nid, room_nid, event_type, content, position
        FROM   UNNEST($1::INTEGER[], $2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[])
               AS new (user_nid, room_nid, event_type, content, position)
        ON CONFLICT (user_nid, room_nid, event_type) DO UPDATE
        SET    content = EXCLUDED.content,
               position = EXCLUDED.position
    ",
}

/// A user's client has stored or deleted account data.
#[derive(Clone, Debug)]
pub struct AccountDataChange {
    /// Whose it is.
    pub user: UserNid,
    /// The room that it is about; `None`: the account as a whole.
    pub room: Option<RoomNid>,
    /// Its type.
    pub event_type: String,
    /// A JSON object; `None` deletes it.
    pub content: Option<Box<RawValue>>,
}

/// The number that stands for the account as a whole where rooms stand.
pub(crate) const NO_ROOM: i64 = 0;

type Key<'a> = (UserNid, i64, Cow<'a, str>);

/// The last change of the batch for each key.
#[derive(Default)]
pub(super) struct AccountDataRows<'a>(HashMap<Key<'a>, (Option<&'a str>, Position)>);

impl<'a> AccountDataRows<'a> {
    pub(super) fn add(&mut self, data: &'a AccountDataChange, position: Position) {
        let room = data.room.map_or(NO_ROOM, RoomNid::get);
        let content = data.content.as_deref().map(RawValue::get);
        self.0.insert((data.user, room, text(&data.event_type)), (content, position));
    }

    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let user: Vec<i32> = self.0.keys().map(|(user, ..)| user.get()).collect();
        let room: Vec<i64> = self.0.keys().map(|(_, room, _)| *room).collect();
        let event_type: Vec<&str> = self.0.keys().map(|(.., event_type)| &**event_type).collect();
        let content: Vec<Option<&str>> = self.0.values().map(|(content, _)| *content).collect();
        let position: Vec<i64> = self.0.values().map(|(_, position)| position.0).collect();
        let statement = transaction.prepare_cached(WRITE_ACCOUNT_DATA).await?;
        transaction.execute(&statement, &[&user, &room, &event_type, &content, &position]).await?;
        Ok(())
    }
}
