//! Thumbnails of images.
#![expect(deprecated, reason = "clients still download without a token")]

use ruma::api::client::{
    authenticated_media::get_content_thumbnail as get_content_thumbnail_authed, media::get_content_thumbnail,
};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        content::{self, target},
        endpoint::Ruma,
        response::Raw,
        with_headers::WithHeaders,
    },
    media::{download::Wanted, thumbnail},
};

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`
pub async fn get_content_thumbnail_authed(
    app: App,
    req: Ruma<WithHeaders<get_content_thumbnail_authed::v1::Request>>,
) -> Result<Raw, MatrixError> {
    let wanted = Wanted::new(req.server_name.clone(), &req.media_id, req.timeout_ms)?;
    let target = target(req.width, req.height, req.method.as_ref())?;
    let found = thumbnail::find(&app, &wanted, target, req.animated == Some(true)).await?;
    content::answer(found, &req.headers).await
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`
pub async fn get_content_thumbnail(
    app: App,
    req: Ruma<WithHeaders<get_content_thumbnail::v3::Request>>,
) -> Result<Raw, MatrixError> {
    let wanted = Wanted::new(req.server_name.clone(), &req.media_id, req.timeout_ms)?;
    let target = target(req.width, req.height, req.method.as_ref())?;
    let wanted = wanted.by_anyone(req.allow_remote);
    let found = thumbnail::find(&app, &wanted, target, req.animated == Some(true)).await?;
    content::answer(found, &req.headers).await
}
