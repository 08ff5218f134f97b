//! Tags: account data of a room in small pieces.

use myelin_core::nid::{RoomNid, UserNid};
use myelin_storage::account_data;
use ruma::api::client::tag::{create_tag, delete_tag, get_tags};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::account_data::{require_self, room_nid, write};
use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
};

/// Type of the account data that holds a room's tags.
const TAG: &str = "m.tag";
/// How long the name of a tag may be.
const MAX_NAME: usize = 255;

#[derive(Default, Deserialize, Serialize)]
struct Content {
    #[serde(default)]
    tags: Map<String, Value>,
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
pub async fn get_tags(app: App, req: Ruma<get_tags::v3::Request>) -> Result<JsonText, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let room = room_nid(&app, &req.room_id).await?;
    JsonText::of(&load(&app, req.user().nid, room).await?)
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn create_tag(
    app: App,
    req: Ruma<create_tag::v3::Request>,
) -> Result<create_tag::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    if req.tag.len() > MAX_NAME {
        return Err(MatrixError::invalid_param(format!("a tag has at most {MAX_NAME} bytes")));
    }
    edit(&app, req.user().nid, room_nid(&app, &req.room_id).await?, |tags| {
        tags.insert(req.tag.clone(), json!(req.tag_info));
    })
    .await?;
    Ok(create_tag::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn delete_tag(
    app: App,
    req: Ruma<delete_tag::v3::Request>,
) -> Result<delete_tag::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    edit(&app, req.user().nid, room_nid(&app, &req.room_id).await?, |tags| {
        tags.remove(&req.tag);
    })
    .await?;
    Ok(delete_tag::v3::Response::new())
}

async fn load(app: &App, user: UserNid, room: RoomNid) -> Result<Content, MatrixError> {
    let stored = account_data::find(&app.storage.get().await?, user, Some(room), TAG).await?;
    Ok(stored.and_then(|stored| serde_json::from_str(stored.get()).ok()).unwrap_or_default())
}

async fn edit(
    app: &App,
    user: UserNid,
    room: RoomNid,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), MatrixError> {
    let _edit = app.memory.locks.account_data.lock(&user).await;
    let mut content = load(app, user, room).await?;
    change(&mut content.tags);
    let content = to_raw_value(&content).map_err(MatrixError::internal)?;
    write(app, user, Some(room), TAG.to_owned(), content).await
}
