//! OpenID: whom a token that a user gave away names.

use myelin_storage::tokens::{self, TokenHash};
use ruma::api::{auth_scheme::NoAuthentication, federation::openid::get_openid_userinfo};

use crate::{accounts, app::App, error::MatrixError, http::endpoint::Plain};

/// `GET /_matrix/federation/v1/openid/userinfo`
///
/// ruma's type would answer a missing token as a missing parameter.
pub async fn get_openid_userinfo(
    app: App,
    req: Plain<NoAuthentication>,
) -> Result<get_openid_userinfo::v1::Response, MatrixError> {
    let token = req.query("access_token").ok_or_else(MatrixError::missing_token)?;
    let client = app.storage.get().await?;
    let user = tokens::find_openid_user(&client, &TokenHash::of(&token), accounts::now(&app)).await?;
    user.map(get_openid_userinfo::v1::Response::new).ok_or_else(|| MatrixError::unknown_token(false))
}
