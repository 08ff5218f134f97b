//! Whether this server can do its work, for those who watch over it.

use std::time::Duration;

use myelin_storage::ownership;
use ruma::api::auth_scheme::NoAuthentication;
use tokio::time::timeout;

use super::{endpoint::Plain, response::JsonText, routes::Routes};
use crate::{app::App, error::MatrixError};

/// How long the database may think. Who watches over the server has little more patience.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /health`
///
/// 200 while the database answers and takes writes; 503 when it does not, or not soon, and when the server is about to
/// end.
async fn health(app: App, _: Plain<NoAuthentication>) -> Result<JsonText, MatrixError> {
    if app.process.shutdown.is_begun() {
        return Err(MatrixError::Unavailable("the server is about to end".into()));
    }
    let asked = timeout(PATIENCE, async { ownership::is_read_only(&app.storage.get().await?).await }).await;
    match asked {
        Ok(Ok(false)) => Ok(JsonText::empty()),
        Ok(Ok(true)) => Err(MatrixError::Unavailable("the database takes no writes".into())),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(MatrixError::Unavailable("the database does not answer".into())),
    }
}

/// The route that every listener has.
pub fn routes(routes: &mut Routes) {
    routes.plain(http::Method::GET, "/health", health);
}
