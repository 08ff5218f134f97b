//! Accounts: who one is, the password, and the end of the account. Making one is in [`register`] and
//! [`shared_secret`].

pub mod register;
pub mod shared_secret;

use std::time::Duration;

use myelin_storage::tokens::{self, TokenHash};
use ruma::{
    api::client::account::{
        ThirdPartyIdRemovalStatus, change_password, check_registration_token_validity, deactivate, get_3pids,
        get_username_availability, request_openid_token, whoami,
    },
    authentication::TokenType,
};
use serde_json::json;

use crate::{
    accounts::{self, after, names, secrets},
    app::App,
    error::MatrixError,
    http::{
        endpoint::Ruma,
        legacy_user::LegacyUser,
        uia::{self, Operation},
    },
    workflows,
};

/// How long an OpenID token is good.
const OPENID_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// `GET /_matrix/client/v3/account/whoami`
pub async fn whoami(_: App, req: Ruma<whoami::v3::Request>) -> Result<whoami::v3::Response, MatrixError> {
    let user = req.user();
    let mut response = whoami::v3::Response::new(user.id.clone(), user.is_guest);
    response.device_id = Some(user.device_id.clone());
    Ok(response)
}

/// `POST /_matrix/client/v3/account/password`
///
/// The requester's own session goes on; the others end, unless the client asks to keep them.
pub async fn change_password(
    app: App,
    req: Ruma<LegacyUser<change_password::v3::Request>>,
) -> Result<change_password::v3::Response, MatrixError> {
    let user = req.user().ok_or_else(MatrixError::missing_token)?;
    let parameters = json!({ "new_password": req.new_password, "logout_devices": req.logout_devices });
    let operation = Operation::new("change the password", &parameters);
    let passed = uia::user(&app, user, req.auth.as_ref(), &operation).await?;
    let hash = app.passwords.hash(&req.new_password).await?;
    myelin_storage::accounts::set_password(&app.storage.get().await?, user.nid, &hash).await?;
    if req.logout_devices {
        workflows::devices::remove_all_but(&app, user, Some(&user.device_id)).await?;
    }
    passed.finish(&app).await?;
    Ok(change_password::v3::Response::new())
}

/// `POST /_matrix/client/v3/account/deactivate`
pub async fn deactivate(
    app: App,
    req: Ruma<LegacyUser<deactivate::v3::Request>>,
) -> Result<deactivate::v3::Response, MatrixError> {
    let user = req.user().ok_or_else(MatrixError::missing_token)?;
    let operation = Operation::new("deactivate the account", &json!({ "erase": req.erase }));
    let passed = uia::user(&app, user, req.auth.as_ref(), &operation).await?;
    workflows::deactivate::deactivate(&app, user, req.erase).await?;
    passed.finish(&app).await?;
    // There are no third-party identifiers here that could be bound anywhere.
    Ok(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::Success))
}

/// `GET /_matrix/client/v3/account/3pid`
///
/// This server keeps none.
pub async fn get_3pids(
    _: App,
    _: Ruma<get_3pids::v3::Request>,
) -> Result<get_3pids::v3::Response, MatrixError> {
    Ok(get_3pids::v3::Response::new(Vec::new()))
}

/// `GET /_matrix/client/v3/register/available`
pub async fn get_username_availability(
    app: App,
    req: Ruma<get_username_availability::v3::Request>,
) -> Result<get_username_availability::v3::Response, MatrixError> {
    let user_id = names::wanted(&req.username, &app.config.server_name)?;
    accounts::require_free(&app, &user_id).await?;
    Ok(get_username_availability::v3::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
pub async fn check_registration_token_validity(
    app: App,
    req: Ruma<check_registration_token_validity::v1::Request>,
) -> Result<check_registration_token_validity::v1::Response, MatrixError> {
    if !app.config.registration.enabled {
        return Err(MatrixError::forbidden("nobody can register here"));
    }
    let is_valid = uia::is_registration_token_valid(&app, &req.token).await?;
    Ok(check_registration_token_validity::v1::Response::new(is_valid))
}

/// `POST /_matrix/client/v3/user/{userId}/openid/request_token`
pub async fn request_openid_token(
    app: App,
    req: Ruma<request_openid_token::v3::Request>,
) -> Result<request_openid_token::v3::Response, MatrixError> {
    if req.user_id != req.user().id {
        return Err(MatrixError::forbidden("this is another user"));
    }
    let token = secrets::token();
    let expires = after(&app, OPENID_TOKEN_LIFETIME);
    let client = app.storage.get().await?;
    tokens::insert_openid_token(&client, &TokenHash::of(&token), req.user().nid, expires).await?;
    Ok(request_openid_token::v3::Response::new(
        token,
        TokenType::Bearer,
        app.config.server_name.clone(),
        OPENID_TOKEN_LIFETIME,
    ))
}
