//! Room aliases.

use ruma::api::client::alias::{create_alias, delete_alias, get_alias};

use http::StatusCode;
use ruma::api::error::ErrorKind;

use crate::{
    app::App,
    error::MatrixError,
    http::endpoint::Ruma,
    workflows::{access, aliases},
};

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn get_alias(
    app: App,
    req: Ruma<get_alias::v3::Request>,
) -> Result<get_alias::v3::Response, MatrixError> {
    let found = aliases::resolve(&app, &req.room_alias).await?;
    Ok(get_alias::v3::Response::new(found.room_id, found.servers))
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
///
/// Makes an alias for a room that the user is in.
pub async fn create_alias(
    app: App,
    req: Ruma<create_alias::v3::Request>,
) -> Result<create_alias::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let alias = aliases::parse(req.room_alias.as_str())
        .filter(|alias| alias.server_name() == app.config.server_name)
        .ok_or_else(|| MatrixError::invalid_param("this is not an alias of this server"))?;
    let view = access::joined(&app, user.nid, &req.room_id).await?;
    let _held = app.memory.locks.aliases.lock(&alias).await;
    if !aliases::create(&app, &alias, view.nid, user.nid).await? {
        return Err(MatrixError::new(StatusCode::CONFLICT, ErrorKind::Unknown, "this alias is taken"));
    }
    Ok(create_alias::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
pub async fn delete_alias(
    app: App,
    req: Ruma<delete_alias::v3::Request>,
) -> Result<delete_alias::v3::Response, MatrixError> {
    aliases::delete(&app, req.user(), &req.room_alias).await?;
    Ok(delete_alias::v3::Response::new())
}
