//! Devices of remote users, as their servers told them. The journal writes them.
//!
//! A list is believed as long as its user has been in one room with a user of ours since it was fetched: their server
//! tells us of changes then, and only then. So nothing has to be done when a room is no longer shared.

use myelin_core::nid::UserNid;
use ruma::OwnedDeviceId;
use serde_json::value::RawValue;

use super::opt_json;
use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LIST_LISTS = "
        SELECT list.user_nid, list.stream_id, list.is_stale,
               (list.fetched > 0 AND EXISTS (
                    SELECT
                    FROM   memberships AS theirs
                    JOIN   memberships AS ours USING (room_nid)
                    WHERE  theirs.user_nid = list.user_nid
                      AND  theirs.membership = 2
                      AND  theirs.position <= list.fetched
                      AND  ours.is_local
                      AND  ours.membership = 2
                      AND  ours.position <= list.fetched
                )) AS is_followed
        FROM   remote_device_lists AS list
        WHERE  list.user_nid = ANY($1)
    ",
    LIST_SHARED = "
        SELECT DISTINCT theirs.user_nid
        FROM   memberships AS theirs
        WHERE  theirs.user_nid = ANY($1)
          AND  theirs.membership = 2
          AND  EXISTS (
                   SELECT
                   FROM   memberships AS ours
                   WHERE  ours.room_nid = theirs.room_nid
                     AND  ours.is_local
                     AND  ours.membership = 2
               )
    ",
    LIST_STALE = "
        SELECT list.user_nid
        FROM   remote_device_lists AS list
        WHERE  list.is_stale
          AND  list.user_nid > $1
          AND  EXISTS (
                   SELECT
                   FROM   memberships AS theirs
                   JOIN   memberships AS ours USING (room_nid)
                   WHERE  theirs.user_nid = list.user_nid
                     AND  theirs.membership = 2
                     AND  ours.is_local
                     AND  ours.membership = 2
               )
        ORDER  BY list.user_nid
        LIMIT  $2
    ",
    LIST_REMOTE_DEVICES = "
        SELECT user_nid, device_id, display_name, keys
        FROM   remote_devices
        WHERE  user_nid = ANY($1)
        ORDER  BY user_nid, device_id
    ",
}

/// How much is known of a remote user's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteList {
    /// Whose.
    pub user: UserNid,
    /// The last update that is in the list.
    pub stream_id: i64,
    /// An update was missed.
    pub is_stale: bool,
    /// A room has been shared since the list was fetched, so that its changes were told.
    pub is_followed: bool,
}

impl RemoteList {
    /// The list is what the user's server would answer.
    pub fn is_current(&self) -> bool {
        self.is_followed && !self.is_stale
    }
}

/// A device of a remote user.
#[derive(Clone, Debug)]
pub struct RemoteDevice {
    /// Whose.
    pub user: UserNid,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Its public name.
    pub display_name: Option<String>,
    /// Its identity keys, a JSON object.
    pub keys: Option<Box<RawValue>>,
}

/// What is known of these users' devices; users of whom nothing is known are left out.
pub async fn lists(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<RemoteList>, StorageError> {
    let statement = db.prepare_cached(LIST_LISTS).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    let list = |row| {
        let columns = Columns::of("remote_device_lists", row);
        Ok(RemoteList {
            user: columns.nid("user_nid")?,
            stream_id: columns.get("stream_id")?,
            is_stale: columns.get("is_stale")?,
            is_followed: columns.get("is_followed")?,
        })
    };
    rows.iter().map(list).collect()
}

/// Those of the users who are in a room with a user of this server.
pub async fn shared(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<UserNid>, StorageError> {
    let statement = db.prepare_cached(LIST_SHARED).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    rows.iter().map(|row| Columns::of("memberships", row).nid("user_nid")).collect()
}

/// Users in rooms with ours whose list has to be fetched again, from the one after `after` on.
pub async fn stale(
    db: &impl GenericClient,
    after: Option<UserNid>,
    limit: usize,
) -> Result<Vec<UserNid>, StorageError> {
    let statement = db.prepare_cached(LIST_STALE).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db.query(&statement, &[&after.map_or(0, UserNid::get), &limit]).await?;
    rows.iter().map(|row| Columns::of("remote_device_lists", row).nid("user_nid")).collect()
}

/// The devices that are known of these users.
pub async fn devices(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<RemoteDevice>, StorageError> {
    let statement = db.prepare_cached(LIST_REMOTE_DEVICES).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    let device = |row| {
        let columns = Columns::of("remote_devices", row);
        Ok(RemoteDevice {
            user: columns.nid("user_nid")?,
            device_id: columns.get::<String>("device_id")?.into(),
            display_name: columns.get("display_name")?,
            keys: opt_json(&columns, "keys")?,
        })
    };
    rows.iter().map(device).collect()
}
