//! Identity keys of local devices. The journal writes them.

use myelin_core::nid::UserNid;
use ruma::{DeviceId, OwnedDeviceId};
use serde_json::value::RawValue;

use super::json;
use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain, text},
    statements::statements,
};

statements! {
    FIND_KEYS = "
        SELECT keys
        FROM   device_keys
        WHERE  user_nid = $1
          AND  device_id = $2
    ",
    LIST_KEYS = "
        SELECT device_keys.user_nid, device_keys.device_id, device_keys.keys, devices.display_name
        FROM   device_keys
        JOIN   devices USING (user_nid, device_id)
        WHERE  device_keys.user_nid = ANY($1)
        ORDER  BY device_keys.user_nid, device_keys.device_id
    ",
}

/// The identity keys of a local device.
#[derive(Clone, Debug)]
pub struct StoredDeviceKeys {
    /// Whose device.
    pub user: UserNid,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The signed JSON object, as it was uploaded.
    pub keys: Box<RawValue>,
    /// The device's public name.
    pub display_name: Option<String>,
}

/// The identity keys of a local device, if it has any.
pub async fn find(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
) -> Result<Option<Box<RawValue>>, StorageError> {
    let statement = db.prepare_cached(FIND_KEYS).await?;
    let row = db.query_opt(&statement, &[&user.get(), &text(device_id.as_str())]).await?;
    row.map(|row| json(&Columns::of("device_keys", &row), "keys")).transpose()
}

/// The identity keys of all devices of these local users; devices without keys are left out.
pub async fn list(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<StoredDeviceKeys>, StorageError> {
    let statement = db.prepare_cached(LIST_KEYS).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    let keys = |row| {
        let columns = Columns::of("device_keys", row);
        Ok(StoredDeviceKeys {
            user: columns.nid("user_nid")?,
            device_id: columns.get::<String>("device_id")?.into(),
            keys: json(&columns, "keys")?,
            display_name: columns.get("display_name")?,
        })
    };
    rows.iter().map(keys).collect()
}
