//! The server-server API: the table of its endpoints.
//!
//! Each file below has the address that ruma gives its endpoints. `req.origin()` is the server that asks.

pub mod discovery;

use super::routes::Routes;

/// All routes of the server-server API.
pub fn routes(routes: &mut Routes) {
    routes.add(discovery::get_server_version);
    routes.add(discovery::get_server_keys).also_at("/_matrix/key/v2/server/{key_id}");
    routes.add(discovery::get_remote_server_keys);
    routes.add(discovery::get_remote_server_keys_batch);
}
