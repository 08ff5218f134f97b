//! Devices of local users: names and when they were last seen.
//!
//! A device is made by [`tokens::start_session`](crate::tokens::start_session) and removed by a commit, see
//! `commit::device_lists`. Its keys and its to-device messages are other modules'; they go when it goes, and so do its
//! tokens.

use std::net::IpAddr;

use myelin_core::nid::UserNid;
use ruma::{DeviceId, OwnedDeviceId};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain, text},
    statements::statements,
};

statements! {
    FIND_DEVICE = "
        SELECT user_nid, device_id, display_name, created, last_seen_ts, last_seen_ip, last_seen_agent
        FROM   devices
        WHERE  user_nid = $1 AND device_id = $2
    ",
    LIST_DEVICES = "
        SELECT user_nid, device_id, display_name, created, last_seen_ts, last_seen_ip, last_seen_agent
        FROM   devices
        WHERE  user_nid = ANY($1)
        ORDER BY user_nid, created, device_id
    ",
    RENAME_DEVICE = "
        UPDATE devices
        SET    display_name = $3
        WHERE  user_nid = $1 AND device_id = $2
    ",
    UPSERT_DEVICE = "
        INSERT INTO devices (user_nid, device_id, display_name, created)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (user_nid, device_id) DO UPDATE
        SET    display_name = COALESCE(EXCLUDED.display_name, devices.display_name)
        RETURNING (xmax = 0) AS is_new
    ",
    LIST_SEEN_LAST = "
        SELECT user_nid, MAX(last_seen_ts) AS last_seen_ts
        FROM   devices
        GROUP  BY user_nid
        HAVING MAX(last_seen_ts) > (SELECT MAX(last_seen_ts) FROM devices) - $1
    ",
    UPDATE_LAST_SEEN = "
        UPDATE devices AS device
        SET    last_seen_ts = seen.ts, last_seen_ip = seen.ip, last_seen_agent = seen.agent
        FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[])
               AS seen (user_nid, device_id, ts, ip, agent)
        WHERE  device.user_nid = seen.user_nid
          AND  device.device_id = seen.device_id
          AND  COALESCE(device.last_seen_ts, 0) < seen.ts
    ",
}

/// A device of a local user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Whose it is.
    pub user: UserNid,
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// Its public name.
    pub display_name: Option<String>,
    /// When it first logged in, in milliseconds since 1970.
    pub created: i64,
    /// When it was last seen, in milliseconds since 1970, some minutes late.
    pub last_seen_ts: Option<i64>,
    /// From where it was last seen.
    pub last_seen_ip: Option<String>,
    /// What the client said then that it was.
    pub last_seen_agent: Option<String>,
}

impl TryFrom<&Row> for Device {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("devices", row);
        Ok(Self {
            user: columns.nid("user_nid")?,
            device_id: columns.get::<String>("device_id")?.into(),
            display_name: columns.get("display_name")?,
            created: columns.get("created")?,
            last_seen_ts: columns.get("last_seen_ts")?,
            last_seen_ip: columns.get("last_seen_ip")?,
            last_seen_agent: columns.get("last_seen_agent")?,
        })
    }
}

/// That a device made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose device.
    pub user: UserNid,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When, in milliseconds since 1970.
    pub ts: i64,
    /// From where.
    pub ip: Option<IpAddr>,
    /// What the client said it was.
    pub agent: Option<String>,
}

/// The user's device with this id.
pub async fn find(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
) -> Result<Option<Device>, StorageError> {
    let statement = db.prepare_cached(FIND_DEVICE).await?;
    let row = db.query_opt(&statement, &[&user.get(), &text(device_id.as_str()).as_ref()]).await?;
    row.as_ref().map(Device::try_from).transpose()
}

/// The devices of these users, oldest first within a user.
pub async fn list(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<Device>, StorageError> {
    let statement = db.prepare_cached(LIST_DEVICES).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    rows.iter().map(Device::try_from).collect()
}

/// Gives the device another name. `false`: there is no such device.
pub async fn rename(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    display_name: &str,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(RENAME_DEVICE).await?;
    let (device_id, display_name) = (text(device_id.as_str()), text(display_name));
    let renamed = db.execute(&statement, &[&user.get(), &device_id.as_ref(), &display_name.as_ref()]).await?;
    Ok(renamed == 1)
}

/// Makes the device without a token, as application services may; if it exists, gives it the name, if there is
/// one. `true`: it is new.
pub async fn upsert(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    display_name: Option<&str>,
    now: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(UPSERT_DEVICE).await?;
    let (device_id, display_name) = (text(device_id.as_str()), display_name.map(text));
    let row =
        db.query_one(&statement, &[&user.get(), &device_id.as_ref(), &display_name.as_deref(), &now]).await?;
    Columns::of("devices", &row).get("is_new")
}

/// The users whose devices were seen last of all, and when: not longer than `within_ms` before the very last.
pub async fn list_seen_last(
    db: &impl GenericClient,
    within_ms: i64,
) -> Result<Vec<(UserNid, i64)>, StorageError> {
    let statement = db.prepare_cached(LIST_SEEN_LAST).await?;
    let rows = db.query(&statement, &[&within_ms]).await?;
    let seen = |row| {
        let columns = Columns::of("devices", row);
        Ok((columns.nid("user_nid")?, columns.get("last_seen_ts")?))
    };
    rows.iter().map(seen).collect()
}

/// Notes when devices were last seen: one statement for as many as the caller has gathered, at most one entry a
/// device. Never moves a time back; devices that are gone are left out.
pub async fn update_last_seen(db: &impl GenericClient, seen: &[Seen]) -> Result<(), StorageError> {
    let users: Vec<i32> = seen.iter().map(|seen| seen.user.get()).collect();
    let device_ids: Vec<&str> = seen.iter().map(|seen| seen.device_id.as_str()).collect();
    let times: Vec<i64> = seen.iter().map(|seen| seen.ts).collect();
    let addresses: Vec<Option<String>> = seen.iter().map(|seen| seen.ip.map(|ip| ip.to_string())).collect();
    let agents: Vec<Option<&str>> = seen.iter().map(|seen| seen.agent.as_deref()).collect();
    let statement = db.prepare_cached(UPDATE_LAST_SEEN).await?;
    db.execute(&statement, &[&users, &device_ids, &times, &addresses, &agents]).await?;
    Ok(())
}
