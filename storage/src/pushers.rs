//! Pushers: where users' devices want to be told of what notifies them.
//!
//! A pusher belongs to the device that set it, and goes when the device goes.

use myelin_core::nid::UserNid;
use ruma::DeviceId;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    SET_PUSHER = "
        WITH moved AS (
            DELETE FROM pushers
            WHERE  app_id = $2 AND pushkey = $3 AND user_nid <> $1 AND NOT $6
        )
        INSERT INTO pushers (user_nid, app_id, pushkey, device_id, pusher)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_nid, app_id, pushkey) DO UPDATE
        SET    device_id = EXCLUDED.device_id, pusher = EXCLUDED.pusher
    ",
    DELETE_PUSHER = "
        DELETE FROM pushers
        WHERE  user_nid = $1 AND app_id = $2 AND pushkey = $3
    ",
    LIST_PUSHERS = "
        SELECT pusher
        FROM   pushers
        WHERE  user_nid = $1
        ORDER  BY app_id, pushkey
    ",
}

/// What a pusher is known by, for each user.
#[derive(Clone, Copy, Debug)]
pub struct PusherKey<'a> {
    /// The application that it is for.
    pub app_id: &'a str,
    /// What names the device to its push gateway.
    pub pushkey: &'a str,
}

/// Sets a pusher of the user's device, instead of the one that the user had under this key. Unless it is to be
/// appended, other users lose theirs under this key. The pusher is a JSON object.
pub async fn set(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    key: PusherKey<'_>,
    pusher: &str,
    append: bool,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(SET_PUSHER).await?;
    let (app_id, pushkey) = (text(key.app_id), text(key.pushkey));
    let device_id = text(device_id.as_str());
    db.execute(
        &statement,
        &[&user.get(), &app_id.as_ref(), &pushkey.as_ref(), &device_id.as_ref(), &pusher, &append],
    )
    .await?;
    Ok(())
}

/// Removes the user's pusher with this key, if there is one.
pub async fn delete(db: &impl GenericClient, user: UserNid, key: PusherKey<'_>) -> Result<(), StorageError> {
    let statement = db.prepare_cached(DELETE_PUSHER).await?;
    let (app_id, pushkey) = (text(key.app_id), text(key.pushkey));
    db.execute(&statement, &[&user.get(), &app_id.as_ref(), &pushkey.as_ref()]).await?;
    Ok(())
}

/// The user's pushers, as JSON objects.
pub async fn list(db: &impl GenericClient, user: UserNid) -> Result<Vec<String>, StorageError> {
    let statement = db.prepare_cached(LIST_PUSHERS).await?;
    let rows = db.query(&statement, &[&user.get()]).await?;
    rows.iter().map(|row| Columns::of("pushers", row).get("pusher")).collect()
}
