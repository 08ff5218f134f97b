//! What administrators do with media. The paths are those that administration tools know.

use myelin_storage::{accounts, rooms};
use ruma::{RoomId, ServerName, UserId, api::auth_scheme::AccessToken};
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Plain, response::JsonText},
    media::{download::not_found, id::MediaId, quarantine},
};

/// `POST /_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}`
///
/// Nobody sees it any more; also what is not here yet.
pub async fn quarantine_media(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    set(&app, &req, true).await
}

/// `POST /_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}`
pub async fn unquarantine_media(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    set(&app, &req, false).await
}

async fn set(app: &App, req: &Plain<AccessToken>, is_hidden: bool) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    let [server_name, media_id] = req.args.as_slice() else { return Err(not_found()) };
    let server_name =
        ServerName::parse(server_name).map_err(|_| MatrixError::invalid_param("this is no server's name"))?;
    let media_id = MediaId::parse(media_id).ok_or_else(not_found)?;
    quarantine::set(app, &req.identity.id, &server_name, &media_id, is_hidden).await?;
    Ok(JsonText::empty())
}

/// `POST /_synapse/admin/v1/room/{roomId}/media/quarantine`
///
/// All that events of the room show.
pub async fn quarantine_room(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    let room_id = req.args.first().and_then(|room_id| RoomId::parse(room_id).ok());
    let room_id = room_id.ok_or_else(|| MatrixError::invalid_param("this is no room id"))?;
    let found = rooms::find_nids(&app.storage.get().await?, &[&room_id]).await?;
    let room =
        found.get(&room_id).ok_or_else(|| MatrixError::not_found("this server does not know the room"))?;
    let count = quarantine::add_in_room(&app, &req.identity.id, *room).await?;
    JsonText::of(&json!({ "num_quarantined": count }))
}

/// `POST /_synapse/admin/v1/user/{userId}/media/quarantine`
///
/// All that a user of this server has uploaded.
pub async fn quarantine_user(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    req.identity.require_admin()?;
    let user_id = req.args.first().and_then(|user_id| UserId::parse(user_id).ok());
    let user_id = user_id.ok_or_else(|| MatrixError::invalid_param("this is no user id"))?;
    let account = accounts::find(&app.storage.get().await?, &user_id).await?;
    let account = account.ok_or_else(|| MatrixError::not_found("there is no such user"))?;
    let count = quarantine::add_of_user(&app, &req.identity.id, account.nid).await?;
    JsonText::of(&json!({ "num_quarantined": count }))
}
