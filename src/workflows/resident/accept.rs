//! Events that other servers have signed on our template: `send_join`, `send_knock` and `send_leave`.

use std::sync::Arc;

use myelin_actors::room::messages::Received;
use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    pdu::{Pdu, sign},
};
use myelin_storage::events::StoredEvent;
use ruma::{RoomId, ServerName};
use serde_json::value::RawValue;

use super::{Expected, refuse, restricted};
use crate::{
    app::App,
    error::MatrixError,
    workflows::{servers, summary},
};

/// An event of another server that is now in its room.
#[derive(Debug)]
pub struct Accepted {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// It has our signature besides its own: by our authority the user came in.
    pub is_authorised: bool,
}

/// Puts the event into its room; the others there are told. One that was handed over before is fine.
pub async fn accept(
    app: &App,
    server: &ServerName,
    (room_id, event_id): (&RoomId, &str),
    json: &RawValue,
    membership: Membership,
) -> Result<Accepted, MatrixError> {
    let view = servers::room_of_ours(app, server, room_id).await?;
    let expected = Expected { server, room_id, event_id, version: view.version, membership };
    let mut event = expected.parse(json)?;
    if event.state_key() != Some(event.sender().as_str()) {
        return Err(MatrixError::invalid_param("the event is about another user than its sender"));
    }
    let is_authorised = membership == Membership::Join && restricted::is_by_ours(app, &event);
    if is_authorised {
        restricted::check(app, &view, &event).await?;
        event = sign::add_signature(&event, app.remote.signer()).map_err(|error| refuse(&error))?;
    }
    let event = expected.verify(app, event).await?;
    let event = receive(app, event).await?;
    summary::refresh(app, room_id).await?;
    Ok(Accepted { event, is_authorised })
}

async fn receive(app: &App, event: Pdu) -> Result<Arc<StoredEvent>, MatrixError> {
    let id = event.event_id().to_owned();
    let received = app.actors.rooms.get(event.room_id()).await?.relay(event).await?;
    match received {
        Received::Accepted | Received::Known => {}
        Received::SoftFailed(why) | Received::Rejected(why) => return Err(MatrixError::forbidden(why)),
        // Signed by a policy server that the room no longer uses.
        Received::Unsigned(_) => {
            return Err(MatrixError::forbidden("the room's policy server has not signed it"));
        }
        Received::Missing(_) => {
            return Err(MatrixError::invalid_param("the event follows events that are not known here"));
        }
    }
    let stored = app.actors.events.by_id(&id).await?;
    stored
        .filter(|event| event.admission == AdmissionCode::Accepted)
        .ok_or_else(|| MatrixError::forbidden("the event was refused before"))
}
