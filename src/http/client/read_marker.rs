//! Read markers: several receipts at once.

use ruma::{
    api::client::{read_marker::set_read_marker, receipt::create_receipt::v3::ReceiptType},
    events::receipt::ReceiptThread,
};

use super::receipt::{advance, advance_fully_read};
use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::access};

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
///
/// Moves the reader's markers forward. Never backward: a late request from another device changes nothing.
pub async fn set_read_marker(
    app: App,
    req: Ruma<set_read_marker::v3::Request>,
) -> Result<set_read_marker::v3::Response, MatrixError> {
    let view = access::joined(&app, req.user().nid, &req.room_id).await?;
    if let Some(event) = &req.fully_read {
        advance_fully_read(&app, req.user(), &view, event).await?;
    }
    let receipts =
        [(ReceiptType::Read, &req.read_receipt), (ReceiptType::ReadPrivate, &req.private_read_receipt)];
    for (receipt_type, event) in receipts {
        if let Some(event) = event {
            advance(&app, req.user(), &view, &receipt_type, &ReceiptThread::Unthreaded, event).await?;
        }
    }
    Ok(set_read_marker::v3::Response::new())
}
