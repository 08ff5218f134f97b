//! Messages from device to device.

use ruma::api::client::to_device::send_event_to_device;

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows};

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
pub async fn send_event_to_device(
    app: App,
    req: Ruma<send_event_to_device::v3::Request>,
) -> Result<send_event_to_device::v3::Response, MatrixError> {
    let event_type = req.event_type.to_string();
    let messages = req.messages.clone().into_iter().map(|(recipient, devices)| {
        (recipient, devices.into_iter().map(|(device, content)| (device, content.into_json())).collect())
    });
    let messages = messages.collect();
    workflows::to_device::send(&app, req.user(), &event_type, req.txn_id.as_str(), messages).await?;
    Ok(send_event_to_device::v3::Response::new())
}
