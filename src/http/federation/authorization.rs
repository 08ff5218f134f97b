//! What allows an event.

use ruma::api::federation::authorization::get_event_authorization;

use super::{
    pdus::{self, Part},
    state::{auth_chain, event_of_room},
};
use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::Raw},
    workflows::servers,
};

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
///
/// The event's auth chain, without the event.
pub async fn get_event_authorization(
    app: App,
    req: Ruma<get_event_authorization::v1::Request>,
) -> Result<Raw, MatrixError> {
    let view = servers::room_of_member(&app, req.origin(), &req.room_id).await?;
    let event = event_of_room(&app, &view, &req.event_id).await?;
    let chain = auth_chain(&app, &[event.nid]).await?;
    let parts = vec![Part::text(r#"{"auth_chain":["#), Part::Events(chain), Part::text("]}")];
    pdus::answer(app, parts).await
}
