//! Keys for end-to-end encryption: publishing one's own, and asking for those of others.

use std::time::Duration;

use ruma::{
    UInt,
    api::client::keys::{
        claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys,
    },
};
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{
        endpoint::Ruma,
        legacy_user::LegacyUser,
        response::JsonText,
        uia::{self, Operation},
    },
    sync::{device_lists, devices::key_counts, token::parse_sync_token, unread},
    workflows::keys::{claim, cross_signing, query, signatures, upload},
};

/// How long other servers are waited for when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long they are waited for at most.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// `POST /_matrix/client/v3/keys/upload`
pub async fn upload_keys(
    app: App,
    req: Ruma<upload_keys::v3::Request>,
) -> Result<upload_keys::v3::Response, MatrixError> {
    let user = req.user();
    let named = |keys: &std::collections::BTreeMap<ruma::OwnedOneTimeKeyId, ruma::serde::Raw<_>>| {
        let keys = keys.iter();
        keys.map(|(name, key)| upload::named_key(name.as_str(), key.json().to_owned())).collect()
    };
    let one_time: Result<Vec<_>, MatrixError> = named(&req.one_time_keys);
    let fallback: Result<Vec<_>, MatrixError> = named(&req.fallback_keys);
    let (one_time, fallback) = (one_time?, fallback?);
    if let Some(keys) = &req.device_keys {
        upload::set_device_keys(&app, user, keys).await?;
    }
    upload::add_keys(&app, user, one_time, &fallback).await?;
    let counts = key_counts(&app, user.nid, &user.device_id).await?;
    let counts = counts.one_time.iter();
    let counts = counts.map(|(algorithm, count)| (algorithm.as_str().into(), UInt::new_saturating(*count)));
    Ok(upload_keys::v3::Response::new(counts.collect()))
}

/// `POST /_matrix/client/v3/keys/query`
pub async fn get_keys(app: App, req: Ruma<get_keys::v3::Request>) -> Result<JsonText, MatrixError> {
    let timeout = req.timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    let answered = query::query(&app, req.user(), &req.device_keys, timeout).await?;
    JsonText::of(&answered)
}

/// `POST /_matrix/client/v3/keys/claim`
pub async fn claim_keys(app: App, req: Ruma<claim_keys::v3::Request>) -> Result<JsonText, MatrixError> {
    let timeout = req.timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    let answered = claim::claim(&app, &req.one_time_keys, timeout).await?;
    JsonText::of(&answered)
}

/// `GET /_matrix/client/v3/keys/changes`
///
/// `to` may be anything: what changed after it is told too, and again by the next `/sync`.
pub async fn get_key_changes(
    app: App,
    req: Ruma<get_key_changes::v3::Request>,
) -> Result<get_key_changes::v3::Response, MatrixError> {
    let from = parse_sync_token(&req.from);
    let from = from.ok_or_else(|| MatrixError::invalid_param("from is no token of this server"))?;
    let handle = app.actors.syncers.user(req.user().nid);
    let news = handle.news(Some(from)).await.map_err(unread)?;
    let lists = device_lists::since(&app, req.user().nid, from.position, &news).await?;
    Ok(get_key_changes::v3::Response::new(lists.changed, lists.left))
}

/// `POST /_matrix/client/v3/keys/device_signing/upload`
pub async fn upload_signing_keys(
    app: App,
    req: Ruma<LegacyUser<upload_signing_keys::v3::Request>>,
) -> Result<upload_signing_keys::v3::Response, MatrixError> {
    let user = req.user();
    let checked = cross_signing::check(&app, user, &req).await?;
    if checked.needs_proof() {
        let parameters = json!([req.master_key, req.self_signing_key, req.user_signing_key]);
        let operation = Operation::new("replace the cross-signing keys", &parameters);
        let passed = uia::user(&app, user, req.auth.as_ref(), &operation).await?;
        cross_signing::publish(&app, user, checked).await?;
        passed.finish(&app).await?;
    } else {
        cross_signing::publish(&app, user, checked).await?;
    }
    Ok(upload_signing_keys::v3::Response::new())
}

/// `POST /_matrix/client/v3/keys/signatures/upload`
pub async fn upload_signatures(
    app: App,
    req: Ruma<upload_signatures::v3::Request>,
) -> Result<JsonText, MatrixError> {
    let failures = signatures::add(&app, req.user(), &req.signed_keys).await?;
    JsonText::of(&json!({ "failures": failures }))
}
