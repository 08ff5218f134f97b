//! Spaces, as other servers may know them.

use ruma::api::federation::space::get_hierarchy;
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
    workflows::hierarchy,
};

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
pub async fn get_hierarchy(app: App, req: Ruma<get_hierarchy::v1::Request>) -> Result<JsonText, MatrixError> {
    let server = req.origin().to_owned();
    let found = hierarchy::for_server(&app, server, &req.room_id, req.suggested_only).await?;
    let found = found.ok_or_else(|| MatrixError::not_found("there is no such room, or it is hidden"))?;
    JsonText::of(&json!({
        "room": found.room,
        "children": found.children,
        "inaccessible_children": found.inaccessible,
    }))
}
