//! Devices of our users, for other servers.

use ruma::api::federation::device::get_devices;

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
    workflows::keys::announce,
};

/// `GET /_matrix/federation/v1/user/devices/{userId}`
pub async fn get_devices(app: App, req: Ruma<get_devices::v1::Request>) -> Result<JsonText, MatrixError> {
    let list = if app.is_ours(req.user_id.server_name()) {
        announce::device_list(&app, &req.user_id).await?
    } else {
        None
    };
    JsonText::of(&list.ok_or_else(|| MatrixError::not_found("this server has no such user"))?)
}
