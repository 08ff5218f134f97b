//! The index of members: who is what in each room's current state.

use std::collections::HashMap;

use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};

use super::{Given, RoomChange};
use crate::{error::StorageError, pool::Transaction, row::text, statements::statements};

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
    NAME_REMOTE_USERS = "
        INSERT INTO remote_users (user_nid, user_id, display_name)
        SELECT user_nid, CONVERT_FROM(state_key, 'UTF8'), display_name
        FROM   UNNEST($1::INTEGER[], $2::TEXT[]) AS new (user_nid, display_name)
        JOIN   state_keys ON state_key_nid = user_nid
        WHERE  POSITION('\\x00'::BYTEA IN state_key) = 0
        ON CONFLICT (user_nid) DO UPDATE
        SET    display_name = EXCLUDED.display_name
        WHERE  remote_users.display_name IS DISTINCT FROM EXCLUDED.display_name
    ",
}

/// So much of a display name is looked at when users are searched.
const MAX_NAME_CHARS: usize = 255;

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
    /// What the member event calls the user. Nobody asks for a local user's.
    pub display_name: Option<String>,
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
pub(super) struct MemberRows {
    members: HashMap<(RoomNid, UserNid), Row>,
    /// What joined users of other servers are called.
    names: HashMap<UserNid, Option<String>>,
}

impl MemberRows {
    pub(super) fn add(&mut self, change: &RoomChange, given: &Given<'_>) {
        for member in &change.members {
            if !member.is_local && member.membership == Membership::Join {
                let shorten = |name: &String| text(name).chars().take(MAX_NAME_CHARS).collect();
                self.names.insert(member.user, member.display_name.as_ref().map(shorten));
            }
            let position = given.of(member.event);
            let joins = member.membership == Membership::Join;
            let before = self.members.get(&(change.room, member.user));
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
            self.members.insert((change.room, member.user), row);
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

    /// Notes what users of other servers are called, so that they can be found.
    pub(super) async fn name(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.names.is_empty() {
            return Ok(());
        }
        let (users, names): (Vec<i32>, Vec<Option<&str>>) =
            self.names.iter().map(|(user, name)| (user.get(), name.as_deref())).unzip();
        let statement = transaction.prepare_cached(NAME_REMOTE_USERS).await?;
        transaction.execute(&statement, &[&users, &names]).await?;
        Ok(())
    }

    async fn write(
        &self,
        transaction: &Transaction<'_>,
        changed: bool,
        sql: &'static str,
    ) -> Result<(), StorageError> {
        let rows = || self.members.iter().filter(|(_, row)| row.changed == changed);
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
