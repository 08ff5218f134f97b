//! What users are told of rooms that this server is not in, as a batch changes it.

use std::collections::HashMap;

use myelin_core::nid::{RoomNid, UserNid};

use super::RoomChange;
use crate::{error::StorageError, pool::Transaction, statements::statements};

statements! {
    FORGET_STRIPPED = "
        DELETE FROM outside_memberships
        USING  UNNEST($1::BIGINT[], $2::INTEGER[]) AS old (room_nid, user_nid)
        WHERE  outside_memberships.room_nid = old.room_nid
          AND  outside_memberships.user_nid = old.user_nid
    ",
    KEEP_STRIPPED = "
        INSERT INTO outside_memberships (room_nid, user_nid, stripped)
        SELECT room_nid, user_nid, stripped
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[], $3::TEXT[]) AS new (room_nid, user_nid, stripped)
        ON CONFLICT (room_nid, user_nid) DO UPDATE
        SET    stripped = EXCLUDED.stripped
    ",
}

/// What a user is told of a room that this server is not in, until their membership changes.
#[derive(Clone, Debug)]
pub struct StrippedState {
    /// The user.
    pub user: UserNid,
    /// A JSON array of stripped state events.
    pub events: String,
}

/// For each user of this server whose membership changes, what they are told of the room then.
#[derive(Default)]
pub(super) struct OutsideRows<'a>(HashMap<(RoomNid, UserNid), Option<&'a str>>);

impl<'a> OutsideRows<'a> {
    pub(super) fn add(&mut self, change: &'a RoomChange) {
        let changed = change.members.iter().filter(|member| member.is_local && member.changed);
        self.0.extend(changed.map(|member| ((change.room, member.user), None)));
        let kept = change.stripped.iter();
        self.0.extend(kept.map(|kept| ((change.room, kept.user), Some(kept.events.as_str()))));
    }

    pub(super) async fn forget(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let gone = || self.0.iter().filter(|(_, kept)| kept.is_none()).map(|(key, _)| key);
        if gone().next().is_none() {
            return Ok(());
        }
        let room: Vec<i64> = gone().map(|(room, _)| room.get()).collect();
        let user: Vec<i32> = gone().map(|(_, user)| user.get()).collect();
        let statement = transaction.prepare_cached(FORGET_STRIPPED).await?;
        transaction.execute(&statement, &[&room, &user]).await?;
        Ok(())
    }

    pub(super) async fn keep(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let kept = || self.0.iter().filter_map(|(key, kept)| Some((key, (*kept)?)));
        if kept().next().is_none() {
            return Ok(());
        }
        let room: Vec<i64> = kept().map(|((room, _), _)| room.get()).collect();
        let user: Vec<i32> = kept().map(|((_, user), _)| user.get()).collect();
        let stripped: Vec<&str> = kept().map(|(_, stripped)| stripped).collect();
        let statement = transaction.prepare_cached(KEEP_STRIPPED).await?;
        transaction.execute(&statement, &[&room, &user, &stripped]).await?;
        Ok(())
    }
}
