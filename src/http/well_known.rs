//! `/.well-known/matrix`: where clients and other servers find this one.

use ruma::api::{
    client::discovery::discover_homeserver::{self, HomeserverInfo},
    federation::discovery::discover_homeserver as discover_server,
};

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

/// `GET /.well-known/matrix/server`
///
/// 404 unless the configuration says under which name other servers reach this server.
async fn discover_server(
    app: App,
    _: Ruma<discover_server::Request>,
) -> Result<discover_server::Response, MatrixError> {
    let server = app.config.federation.advertise.clone();
    let server = server.ok_or_else(|| MatrixError::not_found("this server is where its name says"))?;
    Ok(discover_server::Response::new(server))
}

/// The routes below `/.well-known/matrix` for clients.
pub fn client_routes(routes: &mut Routes) {
    routes.add(discover_homeserver);
}

/// The routes below `/.well-known/matrix` for servers.
pub fn server_routes(routes: &mut Routes) {
    routes.add(discover_server);
}
