//! Filters that clients keep here, to name them later.

use myelin_storage::filters;
use ruma::{
    UserId,
    api::client::filter::{create_filter, get_filter},
};

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText, with_body::WithBody},
    sessions::User,
};

/// `POST /_matrix/client/v3/user/{userId}/filter`
///
/// Kept as the client wrote it, so that it gets back also what this server does not know.
pub async fn create_filter(
    app: App,
    req: Ruma<WithBody<create_filter::v3::Request>>,
) -> Result<create_filter::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let json = if req.body.is_empty() {
        serde_json::to_string(&req.filter).map_err(MatrixError::internal)?
    } else {
        serde_json::to_string(&req.body).map_err(MatrixError::internal)?
    };
    let number = filters::intern(&app.storage.get().await?, req.user().nid, &json).await?;
    Ok(create_filter::v3::Response::new(number.to_string()))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
pub async fn get_filter(app: App, req: Ruma<get_filter::v3::Request>) -> Result<JsonText, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let filter = match req.filter_id.parse() {
        Ok(number) => filters::find(&app.storage.get().await?, req.user().nid, number).await?,
        Err(_) => None,
    };
    filter.map(JsonText::from).ok_or_else(|| MatrixError::not_found("you have no such filter"))
}

fn require_self(user: &User, owner: &UserId) -> Result<(), MatrixError> {
    if user.id == owner { Ok(()) } else { Err(MatrixError::forbidden("this is another user")) }
}
