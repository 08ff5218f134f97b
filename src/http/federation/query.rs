//! Queries: where an alias leads, and what a user's profile says.

use myelin_storage::profiles;
use ruma::{
    OwnedServerName,
    api::federation::query::{get_custom_information, get_profile_information, get_room_information},
};
use serde_json::{Map, Value};

use crate::{
    accounts,
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
    workflows::aliases,
};

/// How many servers of a room are named at most.
const MAX_SERVERS: usize = 100;

/// `GET /_matrix/federation/v1/query/directory`
pub async fn get_room_information(
    app: App,
    req: Ruma<get_room_information::v1::Request>,
) -> Result<get_room_information::v1::Response, MatrixError> {
    let found = aliases::find(&app, &req.room_alias).await?;
    let found = found.ok_or_else(|| MatrixError::not_found("there is no such alias"))?;
    let view = app.actors.rooms.view(&found.room_id).await?;
    let own = &app.config.server_name;
    // This server knows the alias, so it is named even when all its users have left.
    let others = view.servers.keys().filter(|server| *server != own).take(MAX_SERVERS - 1);
    let servers: Vec<OwnedServerName> = std::iter::once(own).chain(others).cloned().collect();
    Ok(get_room_information::v1::Response::new(found.room_id, servers))
}

/// `GET /_matrix/federation/v1/query/profile`
///
/// A field that is not set is left out.
pub async fn get_profile_information(
    app: App,
    req: Ruma<get_profile_information::v1::Request>,
) -> Result<JsonText, MatrixError> {
    if !app.is_ours(req.user_id.server_name()) {
        return Err(MatrixError::invalid_param("this is not a user of this server"));
    }
    let account = accounts::find_active(&app, &req.user_id).await?;
    let account = account.ok_or_else(|| MatrixError::not_found("this user is not known here"))?;
    let mut profile = profiles::load(&app.storage.get().await?, account.nid).await?;
    if let Some(field) = &req.field {
        profile.retain(|name, _| name == field.as_str());
    }
    let mut fields = Map::new();
    for (name, json) in profile {
        let value: Value = serde_json::from_str(&json).map_err(MatrixError::internal)?;
        fields.insert(name, value);
    }
    JsonText::of(&fields)
}

/// `GET /_matrix/federation/v1/query/{queryType}`
///
/// There are no others than the two above.
pub async fn get_custom_information(
    _: App,
    req: Ruma<get_custom_information::v1::Request>,
) -> Result<JsonText, MatrixError> {
    Err(MatrixError::not_found(format!("there are no queries for {}", req.query_type)))
}
