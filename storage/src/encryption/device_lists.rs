//! Whose devices or cross-signing keys have changed, and who has to be told.

use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid},
    position::Position,
};
use ruma::OwnedDeviceId;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LIST_CHANGED = "
        SELECT DISTINCT change.user_nid
        FROM   device_list_changes AS change
        WHERE  change.position > $2
          AND  (change.viewer_nid = $1
                OR change.viewer_nid = 0
                   AND (change.user_nid = $1
                        OR EXISTS (
                               SELECT
                               FROM   memberships AS theirs
                               JOIN   memberships AS mine USING (room_nid)
                               WHERE  theirs.user_nid = change.user_nid
                                 AND  theirs.membership = 2
                                 AND  mine.user_nid = $1
                                 AND  mine.membership = 2
                           )))
    ",
    LIST_COME_AND_GONE = "
        SELECT room_nid, user_nid, membership
        FROM   memberships
        WHERE  room_nid = ANY($1)
          AND  position > $2
    ",
    LIST_SHARING = "
        SELECT DISTINCT theirs.user_nid
        FROM   memberships AS mine
        JOIN   memberships AS theirs USING (room_nid)
        WHERE  mine.user_nid = $1
          AND  mine.membership = 2
          AND  theirs.user_nid = ANY($2)
          AND  theirs.membership = 2
    ",
    LIST_SHARED_ROOMS = "
        SELECT room_nid
        FROM   memberships
        WHERE  user_nid = $1
          AND  membership = 2
    ",
    LIST_ROOMS_OF_USERS = "
        SELECT user_nid, room_nid
        FROM   memberships
        WHERE  user_nid = ANY($1)
          AND  membership = 2
    ",
    FIND_STREAM = "
        SELECT stream_id
        FROM   device_list_streams
        WHERE  user_nid = $1
    ",
    LIST_OUTBOX = "
        SELECT position, user_nid, device_id, prev_id
        FROM   device_list_outbox
        WHERE  position > $1
        ORDER  BY position
        LIMIT  $2
    ",
    REMOVE_FROM_OUTBOX = "
        DELETE FROM device_list_outbox
        WHERE  position = ANY($1)
    ",
}

/// A change that other servers have to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// When: the `stream_id` of its message.
    pub position: Position,
    /// Whose devices.
    pub user: UserNid,
    /// The device; `None`: the cross-signing keys.
    pub device_id: Option<OwnedDeviceId>,
    /// The user's update before.
    pub previous: Option<Position>,
}

/// The users whose devices or keys changed after `since` and who share a room with `viewer` now, `viewer` included.
pub async fn changed(
    db: &impl GenericClient,
    viewer: UserNid,
    since: Position,
) -> Result<Vec<UserNid>, StorageError> {
    let statement = db.prepare_cached(LIST_CHANGED).await?;
    let rows = db.query(&statement, &[&viewer.get(), &since.0]).await?;
    rows.iter().map(|row| Columns::of("device_list_changes", row).nid("user_nid")).collect()
}

/// Whose membership in these rooms changed after `since`, and what it is now.
pub async fn come_and_gone(
    db: &impl GenericClient,
    rooms: &[RoomNid],
    since: Position,
) -> Result<Vec<(RoomNid, UserNid, Membership)>, StorageError> {
    let statement = db.prepare_cached(LIST_COME_AND_GONE).await?;
    let rows = db.query(&statement, &[&plain(rooms), &since.0]).await?;
    let member = |row| {
        let columns = Columns::of("memberships", row);
        let code: i16 = columns.get("membership")?;
        let membership = Membership::from_code(code)
            .ok_or_else(|| columns.corrupt(format_args!("there is no membership {code}")))?;
        Ok((columns.nid("room_nid")?, columns.nid("user_nid")?, membership))
    };
    rows.iter().map(member).collect()
}

/// Those of the users who are in a room in which `viewer` is too.
pub async fn sharing(
    db: &impl GenericClient,
    viewer: UserNid,
    users: &[UserNid],
) -> Result<Vec<UserNid>, StorageError> {
    let statement = db.prepare_cached(LIST_SHARING).await?;
    let rows = db.query(&statement, &[&viewer.get(), &plain(users)]).await?;
    rows.iter().map(|row| Columns::of("memberships", row).nid("user_nid")).collect()
}

/// The rooms that the user, local or remote, is in.
pub async fn rooms_of(db: &impl GenericClient, user: UserNid) -> Result<Vec<RoomNid>, StorageError> {
    let statement = db.prepare_cached(LIST_SHARED_ROOMS).await?;
    let rows = db.query(&statement, &[&user.get()]).await?;
    rows.iter().map(|row| Columns::of("memberships", row).nid("room_nid")).collect()
}

/// The rooms that each of these users is in.
pub async fn rooms_of_users(
    db: &impl GenericClient,
    users: &[UserNid],
) -> Result<Vec<(UserNid, RoomNid)>, StorageError> {
    let statement = db.prepare_cached(LIST_ROOMS_OF_USERS).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    let room = |row| {
        let columns = Columns::of("memberships", row);
        Ok((columns.nid("user_nid")?, columns.nid("room_nid")?))
    };
    rows.iter().map(room).collect()
}

/// The `stream_id` of the last update of a local user's devices.
pub async fn stream_of(db: &impl GenericClient, user: UserNid) -> Result<Position, StorageError> {
    let statement = db.prepare_cached(FIND_STREAM).await?;
    let row = db.query_opt(&statement, &[&user.get()]).await?;
    row.map_or(Ok(Position::START), |row| Columns::of("device_list_streams", &row).position("stream_id"))
}

/// Changes after a position that other servers have to be told of, the oldest first.
pub async fn outbox(
    db: &impl GenericClient,
    after: Position,
    limit: usize,
) -> Result<Vec<OutboxEntry>, StorageError> {
    let statement = db.prepare_cached(LIST_OUTBOX).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db.query(&statement, &[&after.0, &limit]).await?;
    let entry = |row| {
        let columns = Columns::of("device_list_outbox", row);
        Ok(OutboxEntry {
            position: columns.position("position")?,
            user: columns.nid("user_nid")?,
            device_id: columns.get::<Option<String>>("device_id")?.map(Into::into),
            previous: columns.opt_position("prev_id")?,
        })
    };
    rows.iter().map(entry).collect()
}

/// Other servers will be told of these changes.
pub async fn remove_from_outbox(db: &impl GenericClient, positions: &[Position]) -> Result<(), StorageError> {
    let positions: Vec<i64> = positions.iter().map(|position| position.0).collect();
    let statement = db.prepare_cached(REMOVE_FROM_OUTBOX).await?;
    db.execute(&statement, &[&positions]).await?;
    Ok(())
}
