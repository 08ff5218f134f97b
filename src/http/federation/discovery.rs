//! Who this server is: its version, its keys, and as a notary the keys of others.

use std::collections::{BTreeMap, BTreeSet};

use myelin_storage::server_keys::ServerKey;
use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName,
    api::auth_scheme::NoAuthentication,
    api::federation::discovery::{
        ServerSigningKeys, get_remote_server_keys, get_remote_server_keys_batch, get_server_keys,
        get_server_version::{self, v1::Server},
    },
    serde::Raw,
};

use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{
        endpoint::{Plain, Ruma},
        response::JsonText,
    },
    remote::keys::Want,
};

/// Servers about whose keys one request may ask.
const MAX_SERVERS: usize = 200;
/// Keys that one request may name.
const MAX_KEYS: usize = 2000;

/// `GET /_matrix/federation/v1/version`
pub async fn get_server_version(
    _: App,
    _: Ruma<get_server_version::v1::Request>,
) -> Result<get_server_version::v1::Response, MatrixError> {
    let mut server = Server::new();
    server.name = Some("Myelin".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut answer = get_server_version::v1::Response::new();
    answer.server = Some(server);
    Ok(answer)
}

/// `GET /_matrix/key/v2/server`
pub async fn get_server_keys(
    app: App,
    _: Ruma<get_server_keys::v2::Request>,
) -> Result<get_server_keys::v2::Response, MatrixError> {
    Ok(get_server_keys::v2::Response::new(raw(&app.remote.our_keys().answer(app.process.clock.now_ms()))?))
}

/// `GET /_matrix/key/v2/query/{serverName}`
pub async fn get_remote_server_keys(
    app: App,
    req: Ruma<get_remote_server_keys::v2::Request>,
) -> Result<get_remote_server_keys::v2::Response, MatrixError> {
    let want = Want {
        server: req.server_name.clone(),
        key_ids: Vec::new(),
        at_ms: u64::from(req.minimum_valid_until_ts.0),
        is_current: false,
    };
    Ok(get_remote_server_keys::v2::Response::new(attest(&app, &[want]).await?))
}

/// `GET /_matrix/key/v2/query/{serverName}/{keyId}`: what old servers ask.
pub async fn get_remote_server_key(app: App, req: Plain<NoAuthentication>) -> Result<JsonText, MatrixError> {
    let [server, key_id] = req.args.as_slice() else {
        return Err(MatrixError::internal("the path has two arguments"));
    };
    let server = ServerName::parse(server).map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let until = req.query("minimum_valid_until_ts").and_then(|text| text.parse().ok());
    let want = Want {
        server,
        key_ids: vec![key_id.clone()],
        at_ms: until.unwrap_or_else(|| app.process.clock.now_ms()),
        is_current: false,
    };
    JsonText::of(&json!({ "server_keys": attest(&app, &[want]).await? }))
}

/// `POST /_matrix/key/v2/query`
pub async fn get_remote_server_keys_batch(
    app: App,
    req: Ruma<get_remote_server_keys_batch::v2::Request>,
) -> Result<get_remote_server_keys_batch::v2::Response, MatrixError> {
    let keys: usize = req.server_keys.values().map(BTreeMap::len).sum();
    if req.server_keys.len() > MAX_SERVERS || keys > MAX_KEYS {
        return Err(MatrixError::too_large("too many keys are asked for at once"));
    }
    let now_ms = app.process.clock.now_ms();
    let mut wants = Vec::new();
    for (server, keys) in &req.server_keys {
        let want = |key_ids, at_ms| Want { server: server.clone(), key_ids, at_ms, is_current: false };
        if keys.is_empty() {
            wants.push(want(Vec::new(), now_ms));
        }
        for (id, criteria) in keys {
            let at_ms = criteria.minimum_valid_until_ts.map_or(now_ms, |time| u64::from(time.0));
            wants.push(want(vec![id.to_string()], at_ms));
        }
    }
    Ok(get_remote_server_keys_batch::v2::Response::new(attest(&app, &wants).await?))
}

/// What the servers say of their keys, with our signature. What is known of a server that cannot be asked is better
/// than nothing.
async fn attest(app: &App, wants: &[Want]) -> Result<Vec<Raw<ServerSigningKeys>>, MatrixError> {
    let known = app.remote.keys_from_themselves(wants).await?;
    let mut answers = Vec::new();
    for server in wants.iter().map(|want| &want.server).collect::<BTreeSet<&OwnedServerName>>() {
        if app.is_ours(server) {
            answers.push(raw(&app.remote.our_keys().answer(app.process.clock.now_ms()))?);
            continue;
        }
        let is_wanted = |key: &&ServerKey| {
            let mut wants = wants.iter().filter(|want| want.server == *server);
            wants.any(|want| want.key_ids.is_empty() || want.key_ids.contains(&key.key_id))
        };
        let keys = known.get(server).map(|keys| &**keys).unwrap_or_default();
        // Several keys are named by one answer.
        let texts = keys.iter().filter(is_wanted).map(|key| key.answer.as_str());
        for text in texts.collect::<BTreeSet<_>>() {
            let object: Result<CanonicalJsonObject, _> = serde_json::from_str(text);
            let mut object = object.map_err(MatrixError::internal)?;
            app.remote.our_keys().sign(&mut object);
            answers.push(raw(&object)?);
        }
    }
    Ok(answers)
}

fn raw(object: &CanonicalJsonObject) -> Result<Raw<ServerSigningKeys>, MatrixError> {
    Raw::new(object).map(Raw::cast_unchecked).map_err(MatrixError::internal)
}
