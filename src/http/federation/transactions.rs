//! What other servers send of their own accord.

use ruma::api::federation::transactions::send_transaction_message;
use serde_json::value::RawValue;

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::transactions};

/// `PUT /_matrix/federation/v1/send/{txnId}`
///
/// Answered when the events are durable here; their rooms decide about them afterwards.
pub async fn send_transaction_message(
    app: App,
    req: Ruma<send_transaction_message::v1::Request>,
) -> Result<send_transaction_message::v1::Response, MatrixError> {
    if req.request.origin != req.origin() {
        return Err(MatrixError::forbidden(
            "the transaction is of another server than the one that sends it",
        ));
    }
    let edus: Vec<Box<RawValue>> = req.edus.iter().map(|edu| edu.json().to_owned()).collect();
    let answer =
        transactions::take(&app, req.origin(), req.transaction_id.as_str(), &req.pdus, &edus).await?;
    let results = answer.into_iter().map(|(event, error)| (event, error.map_or(Ok(()), Err))).collect();
    Ok(send_transaction_message::v1::Response::new(results))
}
