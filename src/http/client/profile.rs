//! Global profiles: what users say about themselves.

use myelin_storage::profiles;
use ruma::{
    OwnedUserId, UserId,
    api::{
        auth_scheme::AccessToken,
        client::profile::{delete_profile_field, get_profile, get_profile_field},
    },
};
use serde_json::{Map, Value};

use crate::{
    accounts,
    app::App,
    error::MatrixError,
    http::{
        endpoint::{Plain, Ruma},
        response::JsonText,
    },
    sessions::User,
    workflows::{profile, remote_profile},
};

/// `GET /_matrix/client/v3/profile/{userId}`
pub async fn get_profile(app: App, req: Ruma<get_profile::v3::Request>) -> Result<JsonText, MatrixError> {
    JsonText::of(&load(&app, &req.user_id).await?)
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn get_profile_field(
    app: App,
    req: Ruma<get_profile_field::v3::Request>,
) -> Result<JsonText, MatrixError> {
    let field = req.field.as_str();
    match (load(&app, &req.user_id).await?.remove(field), field) {
        (Some(value), _) => JsonText::of(&Map::from_iter([(field.to_owned(), value)])),
        // Before Matrix 1.16 an absent name or avatar was no error, and clients of that time do not expect one.
        (None, "displayname" | "avatar_url") => Ok(JsonText::empty()),
        (None, _) => Err(MatrixError::not_found("the profile has no such field")),
    }
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
///
/// ruma's type does not take `null`, with which clients of all ages remove names and avatars.
pub async fn set_profile_field(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    let [user_id, field] = req.args.as_slice() else {
        return Err(MatrixError::internal("the path of a profile field has two arguments"));
    };
    let user_id = OwnedUserId::try_from(user_id.as_str())
        .map_err(|_| MatrixError::invalid_param("this is no user id"))?;
    require_own(&req.identity, &user_id)?;
    let mut body: Map<String, Value> = req.json()?;
    let value = body.remove(field);
    let value = value.ok_or_else(|| MatrixError::missing_param(format!("the body has no {field}")))?;
    profile::set_field(&app, &req.identity, field, &value).await?;
    Ok(JsonText::empty())
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn delete_profile_field(
    app: App,
    req: Ruma<delete_profile_field::v3::Request>,
) -> Result<delete_profile_field::v3::Response, MatrixError> {
    require_own(req.user(), &req.user_id)?;
    profile::delete_field(&app, req.user(), req.field.as_str()).await?;
    Ok(delete_profile_field::v3::Response::new())
}

fn require_own(user: &User, owner: &UserId) -> Result<(), MatrixError> {
    user.require_active()?;
    if user.id == owner { Ok(()) } else { Err(MatrixError::forbidden("this is another user's profile")) }
}

/// The profile, from the user's server.
async fn load(app: &App, user_id: &UserId) -> Result<Map<String, Value>, MatrixError> {
    if !app.is_ours(user_id.server_name()) {
        let profile = remote_profile::load(app, user_id).await?;
        return Ok(profile.iter().map(|(field, value)| (field.clone(), value.clone())).collect());
    }
    let account = accounts::find_active(app, user_id).await?;
    let account = account.ok_or_else(|| MatrixError::not_found("this user is not known here"))?;
    let profile = profiles::load(&app.storage.get().await?, account.nid).await?;
    profile.into_iter().map(|(field, json)| Ok((field, value(&json)?))).collect()
}

fn value(json: &str) -> Result<Value, MatrixError> {
    serde_json::from_str(json).map_err(MatrixError::internal)
}
