//! What this server can do.

use std::collections::BTreeMap;

use myelin_core::version;
use ruma::api::{
    auth_scheme::NoAuthentication,
    client::discovery::{get_capabilities, get_supported_versions},
};
use serde_json::{Value, json};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        endpoint::{Plain, Ruma},
        response::JsonText,
    },
};

/// Versions of the client-server API whose clients get along with this server.
const VERSIONS: &[&str] = &[
    "r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3",
    "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13", "v1.14", "v1.15",
    "v1.16", "v1.17", "v1.18", "v1.19",
];

/// Features that clients look for by these names, most of them in the specification by now.
const FEATURES: &[&str] = &[
    "org.matrix.e2e_cross_signing",
    "org.matrix.msc2285.stable",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3771",
    "org.matrix.msc3773",
    "org.matrix.msc3827.stable",
    "org.matrix.msc3882",
    "uk.tcpip.msc4133",
    "uk.tcpip.msc4133.stable",
];

/// `GET /_matrix/client/versions`
///
/// The same for everyone, so that a client whose token has expired can still ask.
pub async fn get_supported_versions(
    _: App,
    _: Plain<NoAuthentication>,
) -> Result<get_supported_versions::Response, MatrixError> {
    let versions = VERSIONS.iter().map(ToString::to_string).collect();
    let mut response = get_supported_versions::Response::new(versions);
    response.unstable_features = FEATURES.iter().map(|feature| (feature.to_string(), true)).collect();
    Ok(response)
}

/// `GET /_matrix/client/v3/capabilities`
///
/// Written by hand: ruma's type leaves out what is as clients may expect, and some look for it all the same.
pub async fn get_capabilities(
    app: App,
    req: Ruma<get_capabilities::v3::Request>,
) -> Result<JsonText, MatrixError> {
    let enabled = |is_enabled: bool| json!({ "enabled": is_enabled });
    let is_person = !req.user().is_guest;
    let capabilities: BTreeMap<&str, Value> = BTreeMap::from([
        ("m.change_password", enabled(is_person)),
        ("m.room_versions", room_versions(&app)),
        ("m.set_displayname", enabled(is_person)),
        ("m.set_avatar_url", enabled(is_person)),
        ("m.profile_fields", enabled(is_person)),
        ("uk.tcpip.msc4133.profile_fields", enabled(is_person)),
        ("m.3pid_changes", enabled(false)),
        ("m.get_login_token", enabled(is_person)),
    ]);
    JsonText::of(&json!({ "capabilities": capabilities }))
}

fn room_versions(app: &App) -> Value {
    let available: BTreeMap<&str, &str> =
        version::all().iter().map(|version| (version.id.as_str(), "stable")).collect();
    json!({ "default": app.config.rooms.default_version, "available": available })
}
