//! Ending sessions: a device goes with everything that is its own.

use myelin_core::nid::UserNid;
use myelin_storage::devices;
use ruma::{DeviceId, OwnedDeviceId};

use crate::{app::App, error::MatrixError, sessions::User};

/// Removes these devices of the user, as far as there are such, with their tokens.
pub async fn remove(app: &App, user: &User, device_ids: &[OwnedDeviceId]) -> Result<(), MatrixError> {
    let removed = devices::delete(&app.storage.get().await?, user.nid, device_ids).await?;
    forget(app, user.nid, &removed);
    Ok(())
}

/// Removes all devices of the user but one, or all, with their tokens.
pub async fn remove_all_but(app: &App, user: &User, keep: Option<&DeviceId>) -> Result<(), MatrixError> {
    let removed = devices::delete_all_but(&app.storage.get().await?, user.nid, keep).await?;
    forget(app, user.nid, &removed);
    Ok(())
}

fn forget(app: &App, user: UserNid, removed: &[OwnedDeviceId]) {
    for device_id in removed {
        app.sessions.forget_device(user, device_id);
    }
}
