//! One's own devices.

use myelin_storage::devices;
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::device::{Device, delete_device, delete_devices, get_device, get_devices, update_device},
};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        endpoint::Ruma,
        legacy_user::LegacyUser,
        uia::{self, Operation},
    },
    workflows,
};

/// How many bytes a device's name may have.
const MAX_DISPLAY_NAME: usize = 100 * 4;

/// `GET /_matrix/client/v3/devices`
pub async fn get_devices(
    app: App,
    req: Ruma<get_devices::v3::Request>,
) -> Result<get_devices::v3::Response, MatrixError> {
    let mut stored = devices::list(&app.storage.get().await?, &[req.user().nid]).await?;
    app.memory.sessions.freshen(&mut stored);
    Ok(get_devices::v3::Response::new(stored.into_iter().map(shown).collect()))
}

/// `GET /_matrix/client/v3/devices/{deviceId}`
pub async fn get_device(
    app: App,
    req: Ruma<get_device::v3::Request>,
) -> Result<get_device::v3::Response, MatrixError> {
    let mut stored = devices::find(&app.storage.get().await?, req.user().nid, &req.device_id).await?;
    app.memory.sessions.freshen(stored.as_mut_slice());
    stored.map(|device| get_device::v3::Response::new(shown(device))).ok_or_else(unknown)
}

/// `PUT /_matrix/client/v3/devices/{deviceId}`
pub async fn update_device(
    app: App,
    req: Ruma<update_device::v3::Request>,
) -> Result<update_device::v3::Response, MatrixError> {
    let client = app.storage.get().await?;
    let is_known = match &req.display_name {
        Some(name) if name.len() > MAX_DISPLAY_NAME => {
            return Err(MatrixError::invalid_param("the name is too long"));
        }
        Some(name) => devices::rename(&client, req.user().nid, &req.device_id, name).await?,
        None => devices::find(&client, req.user().nid, &req.device_id).await?.is_some(),
    };
    drop(client);
    if !is_known {
        return Err(unknown());
    }
    if req.display_name.is_some() {
        workflows::keys::announce_device(&app, req.user().nid, req.device_id.clone()).await?;
    }
    Ok(update_device::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/devices/{deviceId}`
pub async fn delete_device(
    app: App,
    req: Ruma<LegacyUser<delete_device::v3::Request>>,
) -> Result<delete_device::v3::Response, MatrixError> {
    let operation = Operation::new(format!("delete the device {}", req.device_id), &());
    let passed = uia::user(&app, req.user(), req.auth.as_ref(), &operation).await?;
    workflows::devices::remove(&app, req.user(), std::slice::from_ref(&req.device_id)).await?;
    passed.finish(&app).await?;
    Ok(delete_device::v3::Response::new())
}

/// `POST /_matrix/client/v3/delete_devices`
pub async fn delete_devices(
    app: App,
    req: Ruma<LegacyUser<delete_devices::v3::Request>>,
) -> Result<delete_devices::v3::Response, MatrixError> {
    let operation = Operation::new("delete devices", &req.devices);
    let passed = uia::user(&app, req.user(), req.auth.as_ref(), &operation).await?;
    workflows::devices::remove(&app, req.user(), &req.devices).await?;
    passed.finish(&app).await?;
    Ok(delete_devices::v3::Response::new())
}

fn unknown() -> MatrixError {
    MatrixError::not_found("you have no such device")
}

fn shown(stored: devices::Device) -> Device {
    let mut device = Device::new(stored.device_id);
    device.display_name = stored.display_name;
    device.last_seen_ip = stored.last_seen_ip;
    let seen = stored.last_seen_ts.and_then(|ts| UInt::try_from(ts).ok());
    device.last_seen_ts = seen.map(MilliSecondsSinceUnixEpoch);
    device
}
