//! `/.well-known/matrix`: where clients and other servers find this one.

use ruma::api::client::discovery::discover_homeserver::{self, HomeserverInfo};

use super::{endpoint::Ruma, routes::Routes};
use crate::{app::App, error::MatrixError};

/// `GET /.well-known/matrix/client`
///
/// 404 unless the configuration says under which address clients reach this server.
async fn discover_homeserver(
    app: App,
    _: Ruma<discover_homeserver::Request>,
) -> Result<discover_homeserver::Response, MatrixError> {
    let base_url = app.config.public_baseurl.clone();
    let base_url = base_url.ok_or_else(|| MatrixError::not_found("this server has no public address"))?;
    Ok(discover_homeserver::Response::new(HomeserverInfo::new(base_url)))
}

/// The routes below `/.well-known/matrix`.
pub fn routes(routes: &mut Routes) {
    routes.add(discover_homeserver);
}
