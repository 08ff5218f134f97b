//! A room's past, for servers that were not there.

use ruma::api::federation::backfill::get_backfill;
use serde_json::value::RawValue;

use crate::{
    ancestry::{self, Walk},
    app::App,
    error::MatrixError,
    http::endpoint::Ruma,
    visibility::servers as visibility,
    workflows::servers,
};

/// How many events are given at most.
const MAX_EVENTS: usize = 100;
/// How many events a server may begin at.
const MAX_FROM: usize = 100;

/// `GET /_matrix/federation/v1/backfill/{roomId}`
///
/// The events named and those before them, the deepest first. What the server may not read is redacted.
pub async fn get_backfill(
    app: App,
    req: Ruma<get_backfill::v1::Request>,
) -> Result<get_backfill::v1::Response, MatrixError> {
    let view = servers::room_of_member(&app, req.origin(), &req.room_id).await?;
    if req.v.len() > MAX_FROM {
        return Err(MatrixError::invalid_param("too many events are named"));
    }
    let limit = usize::try_from(u64::from(req.limit)).unwrap_or(MAX_EVENTS).min(MAX_EVENTS);
    let walk = Walk { room: view.nid, from: &req.v, stop: &[], min_depth: 0, limit };
    let found = ancestry::walk(&app, &walk).await?;
    let shown = visibility::redacted_for(&app, &view, req.origin(), &found).await?;
    let pdus = shown.iter().map(|pdu| RawValue::from_string(pdu.json().to_owned()));
    let pdus = pdus.collect::<Result<_, _>>().map_err(MatrixError::internal)?;
    Ok(get_backfill::v1::Response::new(app.config.server_name.clone(), app.process.clock.now(), pdus))
}
