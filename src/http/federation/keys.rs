//! Keys of our users, for other servers.

use ruma::api::federation::keys::{claim_keys, get_keys};

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
    workflows::keys::{claim, query},
};

/// `POST /_matrix/federation/v1/user/keys/query`
///
/// Users of other servers are left out.
pub async fn get_keys(app: App, req: Ruma<get_keys::v1::Request>) -> Result<JsonText, MatrixError> {
    let mut wanted = req.request.device_keys;
    wanted.retain(|user, _| app.is_ours(user.server_name()));
    JsonText::of(&query::local(&app, None, &wanted).await?)
}

/// `POST /_matrix/federation/v1/user/keys/claim`
pub async fn claim_keys(app: App, req: Ruma<claim_keys::v1::Request>) -> Result<JsonText, MatrixError> {
    let mut wanted = req.request.one_time_keys;
    wanted.retain(|user, _| app.is_ours(user.server_name()));
    JsonText::of(&serde_json::json!({ "one_time_keys": claim::local(&app, &wanted).await? }))
}
