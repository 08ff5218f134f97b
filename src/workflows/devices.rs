//! Ending sessions: a device goes with everything that is its own.

use myelin_core::nid::UserNid;
use myelin_storage::{
    commit::{Announcement, KeyWrite},
    devices,
};
use ruma::{DeviceId, OwnedDeviceId};

use super::keys;
use crate::{app::App, error::MatrixError, sessions::User};

/// Removes these devices of the user, as far as there are such, with their tokens and keys.
pub async fn remove(app: &App, user: &User, device_ids: &[OwnedDeviceId]) -> Result<(), MatrixError> {
    remove_those(app, user.nid, |device_id| device_ids.iter().any(|gone| gone == device_id)).await
}

/// Removes all devices of the user but one, or all, with their tokens and keys.
pub async fn remove_all_but(app: &App, user: &User, keep: Option<&DeviceId>) -> Result<(), MatrixError> {
    remove_those(app, user.nid, |device_id| Some(device_id) != keep).await
}

async fn remove_those(
    app: &App,
    user: UserNid,
    is_gone: impl Fn(&DeviceId) -> bool,
) -> Result<(), MatrixError> {
    let all = devices::list(&app.storage.get().await?, &[user]).await?;
    let gone: Vec<OwnedDeviceId> =
        all.into_iter().map(|device| device.device_id).filter(|device_id| is_gone(device_id)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let writes = gone.iter().cloned().map(KeyWrite::DeleteDevice).collect();
    let announcements = gone.iter().cloned().map(Announcement::Device).collect();
    keys::change(app, user, writes, announcements).await?;
    for device_id in &gone {
        app.memory.sessions.forget_device(user, device_id);
        app.memory.sync.key_counts.forget(user, device_id);
        app.memory.sync.lazy.forget(user, Some(device_id));
    }
    Ok(())
}
