//! The index of members: who is what in each room's current state.

use std::collections::HashMap;

use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};

use super::{Given, RoomChange};
use crate::{error::StorageError, pool::Transaction, statements::statements};

statements! {
    CHANGE_MEMBERS = "
        INSERT INTO memberships (room_nid, user_nid, membership, event_nid, is_local, position, joined_at)
        SELECT room_nid, user_nid, membership, event_nid, is_local, position, joined_at
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[], $3::SMALLINT[], $4::BIGINT[], $5::BOOLEAN[], $6::BIGINT[],
                      $7::BIGINT[])
               AS new (room_nid, user_nid, membership, event_nid, is_local, position, joined_at)
        ON CONFLICT (room_nid, user_nid) DO UPDATE
        SET    membership = EXCLUDED.membership,
               event_nid = EXCLUDED.event_nid,
               is_local = EXCLUDED.is_local,
               position = EXCLUDED.position,
               forgotten = FALSE,
               joined_at = COALESCE(EXCLUDED.joined_at, memberships.joined_at)
    ",
    REFRESH_MEMBERS = "
        INSERT INTO memberships (room_nid, user_nid, membership, event_nid, is_local, position, joined_at)
        SELECT room_nid, user_nid, membership, event_nid, is_local, position, joined_at
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[], $3::SMALLINT[], $4::BIGINT[], $5::BOOLEAN[], $6::BIGINT[],
                      $7::BIGINT[])
               AS new (room_nid, user_nid, membership, event_nid, is_local, position, joined_at)
        ON CONFLICT (room_nid, user_nid) DO UPDATE
        SET    membership = EXCLUDED.membership,
               event_nid = EXCLUDED.event_nid
    ",
}

/// A user whose member event in a room's current state is another than before.
#[derive(Clone, Debug)]
pub struct MemberChange {
    /// The user.
    pub user: UserNid,
    /// What the user is now. For a user whose member event vanished from the state: `Leave`.
    pub membership: Membership,
    /// The member event.
    pub event: EventNid,
    /// Whether the user is of this server.
    pub is_local: bool,
    /// Whether the membership changed, not only the display name or avatar.
    pub changed: bool,
}

struct Row {
    membership: Membership,
    event: EventNid,
    is_local: bool,
    changed: bool,
    position: Position,
    joined_at: Option<Position>,
}

/// One row for each member, with what they are after the last change in the batch.
#[derive(Default)]
pub(super) struct MemberRows(HashMap<(RoomNid, UserNid), Row>);

impl MemberRows {
    pub(super) fn add(&mut self, change: &RoomChange, given: &Given<'_>) {
        for member in &change.members {
            let position = given.of(member.event);
            let joins = member.membership == Membership::Join;
            let before = self.0.get(&(change.room, member.user));
            let row = Row {
                membership: member.membership,
                event: member.event,
                is_local: member.is_local,
                changed: member.changed || before.is_some_and(|row| row.changed),
                position: match before {
                    Some(row) if !member.changed => row.position,
                    _ => position,
                },
                joined_at: match before {
                    Some(row) if !(member.changed && joins) => row.joined_at,
                    _ => joins.then_some(position),
                },
            };
            self.0.insert((change.room, member.user), row);
        }
    }

    /// Writes members whose membership changed.
    pub(super) async fn change(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        self.write(transaction, true, CHANGE_MEMBERS).await
    }

    /// Writes members who are what they were, by another event.
    pub(super) async fn refresh(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        self.write(transaction, false, REFRESH_MEMBERS).await
    }

    async fn write(
        &self,
        transaction: &Transaction<'_>,
        changed: bool,
        sql: &'static str,
    ) -> Result<(), StorageError> {
        let rows = || self.0.iter().filter(|(_, row)| row.changed == changed);
        if rows().next().is_none() {
            return Ok(());
        }
        let room: Vec<i64> = rows().map(|((room, _), _)| room.get()).collect();
        let user: Vec<i32> = rows().map(|((_, user), _)| user.get()).collect();
        let membership: Vec<i16> = rows().map(|(_, row)| row.membership.code()).collect();
        let event: Vec<i64> = rows().map(|(_, row)| row.event.get()).collect();
        let is_local: Vec<bool> = rows().map(|(_, row)| row.is_local).collect();
        let position: Vec<i64> = rows().map(|(_, row)| row.position.0).collect();
        let joined_at: Vec<Option<i64>> =
            rows().map(|(_, row)| row.joined_at.map(|position| position.0)).collect();
        let statement = transaction.prepare_cached(sql).await?;
        transaction
            .execute(&statement, &[&room, &user, &membership, &event, &is_local, &position, &joined_at])
            .await?;
        Ok(())
    }
}
