//! Media: uploading files and downloading them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>
#![expect(deprecated, reason = "clients still download without a token")]

pub mod quarantine;
pub mod thumbnail;

use std::time::Duration;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedMxcUri, OwnedServerName, ServerName, UInt,
    api::{
        auth_scheme::AccessToken,
        client::{
            authenticated_media::{
                get_content as get_content_authed, get_content_as_filename as get_content_as_filename_authed,
                get_media_config as get_media_config_authed,
            },
            media::{create_mxc_uri, get_content, get_content_as_filename, get_media_config},
        },
    },
};
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{
        content,
        endpoint::Ruma,
        response::{JsonText, Raw},
        streamed::Streamed,
        with_headers::WithHeaders,
    },
    media::{
        download::{self, Wanted, not_found},
        id::MediaId,
        upload::{self, Description, too_large},
    },
};

/// `POST /_matrix/media/v3/upload`
///
/// The body is written to disk as it comes.
pub async fn create_content(app: App, req: Streamed<AccessToken>) -> Result<JsonText, MatrixError> {
    let description = describe(&app, &req)?;
    let media_id = upload::upload(&app, &req.identity, description, req.body).await?;
    JsonText::of(&json!({ "content_uri": address(&app, &media_id) }))
}

/// `POST /_matrix/media/v1/create`
///
/// An address to which the user may upload later.
pub async fn create_mxc_uri(
    app: App,
    req: Ruma<create_mxc_uri::v1::Request>,
) -> Result<create_mxc_uri::v1::Response, MatrixError> {
    req.user().require_active()?;
    let (media_id, expires) = upload::announce(&app, req.user()).await?;
    let mut response = create_mxc_uri::v1::Response::new(address(&app, &media_id));
    let expires = u64::try_from(expires).ok().and_then(|expires| UInt::try_from(expires).ok());
    response.unused_expires_at = expires.map(MilliSecondsSinceUnixEpoch);
    Ok(response)
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
///
/// Only whoever has asked for the address may upload there, and once.
pub async fn create_content_async(app: App, req: Streamed<AccessToken>) -> Result<JsonText, MatrixError> {
    let description = describe(&app, &req)?;
    let [server_name, media_id] = req.args.as_slice() else { return Err(not_found()) };
    let is_ours = ServerName::parse(server_name).is_ok_and(|server_name| app.is_ours(&server_name));
    let media_id = MediaId::parse(media_id).filter(|_| is_ours).ok_or_else(not_found)?;
    upload::upload_to(&app, &req.identity, &media_id, description, req.body).await?;
    Ok(JsonText::empty())
}

/// What the request says of the file, if it may be uploaded at all.
fn describe(app: &App, req: &Streamed<AccessToken>) -> Result<Description, MatrixError> {
    req.identity.require_active()?;
    let limit = app.config.media.max_upload_size;
    if req.announced_length().is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    Ok(Description::new(req.content_type(), req.query("filename")))
}

fn address(app: &App, media_id: &MediaId) -> OwnedMxcUri {
    format!("mxc://{}/{media_id}", app.config.server_name).into()
}

/// `GET /_matrix/client/v1/media/config`
pub async fn get_media_config_authed(
    app: App,
    _: Ruma<get_media_config_authed::v1::Request>,
) -> Result<get_media_config_authed::v1::Response, MatrixError> {
    Ok(get_media_config_authed::v1::Response::new(upload_size(&app)))
}

/// `GET /_matrix/media/v3/config`
pub async fn get_media_config(
    app: App,
    _: Ruma<get_media_config::v3::Request>,
) -> Result<get_media_config::v3::Response, MatrixError> {
    Ok(get_media_config::v3::Response::new(upload_size(&app)))
}

fn upload_size(app: &App) -> UInt {
    UInt::try_from(app.config.media.max_upload_size).unwrap_or(UInt::MAX)
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`
pub async fn get_content_authed(
    app: App,
    req: Ruma<WithHeaders<get_content_authed::v1::Request>>,
) -> Result<Raw, MatrixError> {
    let wanted = wanted(&req.server_name, &req.media_id, req.timeout_ms)?;
    content::answer(download::find(&app, &wanted).await?, &req.headers).await
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}`
pub async fn get_content_as_filename_authed(
    app: App,
    req: Ruma<WithHeaders<get_content_as_filename_authed::v1::Request>>,
) -> Result<Raw, MatrixError> {
    let wanted = wanted(&req.server_name, &req.media_id, req.timeout_ms)?;
    let mut found = download::find(&app, &wanted).await?;
    found.file_name = Some(req.filename.clone());
    content::answer(found, &req.headers).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`
///
/// Without a token, as long as that is not frozen. It never redirects, so `allow_redirect` changes nothing.
pub async fn get_content(
    app: App,
    req: Ruma<WithHeaders<get_content::v3::Request>>,
) -> Result<Raw, MatrixError> {
    let wanted = wanted(&req.server_name, &req.media_id, req.timeout_ms)?.by_anyone(req.allow_remote);
    content::answer(download::find(&app, &wanted).await?, &req.headers).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`
pub async fn get_content_as_filename(
    app: App,
    req: Ruma<WithHeaders<get_content_as_filename::v3::Request>>,
) -> Result<Raw, MatrixError> {
    let wanted = wanted(&req.server_name, &req.media_id, req.timeout_ms)?.by_anyone(req.allow_remote);
    let mut found = download::find(&app, &wanted).await?;
    found.file_name = Some(req.filename.clone());
    content::answer(found, &req.headers).await
}

fn wanted(server_name: &OwnedServerName, media_id: &str, patience: Duration) -> Result<Wanted, MatrixError> {
    Wanted::new(server_name.clone(), media_id, patience)
}
