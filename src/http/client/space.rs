//! Spaces: the tree of rooms below one.

use ruma::{UInt, api::client::space::get_hierarchy};
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
    workflows::hierarchy::{self, Wanted},
};

/// `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`
///
/// A page of the tree, depth first. Rooms that this server takes no part in are described by those that do.
pub async fn get_hierarchy(app: App, req: Ruma<get_hierarchy::v1::Request>) -> Result<JsonText, MatrixError> {
    let limit = match req.limit.map(u64::from) {
        Some(0) => return Err(MatrixError::invalid_param("limit is not greater than 0")),
        limit => limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
    };
    let wanted = Wanted::new(req.suggested_only, req.max_depth.map(UInt::into));
    let page = hierarchy::page(&app, req.user(), &req.room_id, wanted, req.from.as_deref(), limit).await?;
    let mut answer = json!({ "rooms": page.rooms });
    if let Some(next) = page.next {
        answer["next_batch"] = next.into();
    }
    JsonText::of(&answer)
}
