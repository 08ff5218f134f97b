//! Whether this server can do its work, for those who watch over it.

use ruma::api::auth_scheme::NoAuthentication;

use super::{endpoint::Plain, response::JsonText, routes::Routes};
use crate::{app::App, error::MatrixError};

/// `GET /health`
///
/// 200 while the server has its database, 503 while it has not, and 503 when it is about to end.
async fn health(app: App, _: Plain<NoAuthentication>) -> Result<JsonText, MatrixError> {
    if app.process.shutdown.is_begun() {
        return Err(MatrixError::Unavailable("the server is about to end".into()));
    }
    drop(app.storage.get().await?);
    Ok(JsonText::empty())
}

/// The route that every listener has.
pub fn routes(routes: &mut Routes) {
    routes.plain(http::Method::GET, "/health", health);
}
