//! Redacting events.

use myelin_actors::room::messages::Txn;
use ruma::api::client::redact::redact_event;

use crate::{
    app::App,
    error::MatrixError,
    http::endpoint::Ruma,
    workflows::{
        content::object,
        send::{self, Outgoing},
    },
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`
///
/// A suspended user may redact their own events only.
pub async fn redact_event(
    app: App,
    req: Ruma<redact_event::v3::Request>,
) -> Result<redact_event::v3::Response, MatrixError> {
    let user = req.user();
    if user.is_suspended {
        let target = app.actors.events.by_id(&req.event_id).await?;
        if target.is_none_or(|target| target.sender != user.nid) {
            user.require_active()?;
        }
    }
    let mut content = object([("redacts", req.event_id.as_str().into())]);
    if let Some(reason) = &req.reason {
        content.insert("reason".to_owned(), reason.as_str().into());
    }
    let outgoing = Outgoing {
        event_type: "m.room.redaction".to_owned(),
        state_key: None,
        content,
        txn: Some(Txn {
            device_id: user.device_id.clone(),
            scope: format!("redact {}", req.event_id),
            txn_id: req.txn_id.to_string(),
        }),
        origin_server_ts: None,
    };
    let event_id = send::send(&app, user, &req.room_id, outgoing).await?;
    Ok(redact_event::v3::Response::new(event_id))
}
