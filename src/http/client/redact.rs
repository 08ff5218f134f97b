//! Redacting events.

use myelin_actors::room::messages::Txn;
use ruma::{
    EventId, OwnedEventId, RoomId,
    api::{auth_scheme::AccessToken, client::redact::redact_event},
};
use serde::Deserialize;

use crate::{
    app::App,
    error::MatrixError,
    http::{
        auth::User,
        endpoint::{Plain, Ruma},
    },
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
    let txn = Txn {
        device_id: user.device_id.clone(),
        scope: format!("redact {}", req.event_id),
        txn_id: req.txn_id.to_string(),
    };
    let event_id =
        send_redaction(&app, user, &req.room_id, &req.event_id, req.reason.as_deref(), Some(txn)).await?;
    Ok(redact_event::v3::Response::new(event_id))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/redact/{eventId}`
///
/// The form without a transaction: every request redacts. Not in the specification any more; old clients use it.
pub async fn redact_without_transaction(
    app: App,
    req: Plain<AccessToken>,
) -> Result<redact_event::v3::Response, MatrixError> {
    let [room_id, event_id] = req.args.as_slice() else {
        return Err(MatrixError::invalid_param("a room and an event are needed"));
    };
    let room_id = RoomId::parse(room_id).map_err(|_| MatrixError::invalid_param("this is no room id"))?;
    let event_id = EventId::parse(event_id).map_err(|_| MatrixError::invalid_param("this is no event id"))?;
    let given: Given = req.json()?;
    let sent =
        send_redaction(&app, &req.identity, &room_id, &event_id, given.reason.as_deref(), None).await?;
    Ok(redact_event::v3::Response::new(sent))
}

#[derive(Deserialize)]
struct Given {
    reason: Option<String>,
}

async fn send_redaction(
    app: &App,
    user: &User,
    room_id: &RoomId,
    target: &EventId,
    reason: Option<&str>,
    txn: Option<Txn>,
) -> Result<OwnedEventId, MatrixError> {
    if user.is_suspended {
        let event = app.actors.events.by_id(target).await?;
        if event.is_none_or(|event| event.sender != user.nid) {
            user.require_active()?;
        }
    }
    let mut content = object([("redacts", target.as_str().into())]);
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    let outgoing = Outgoing {
        event_type: "m.room.redaction".to_owned(),
        state_key: None,
        content,
        txn,
        origin_server_ts: None,
    };
    send::send(app, user, room_id, outgoing).await
}
