//! Media of this server, for other servers. What others have they ask them for, so that nobody asks in circles.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use ruma::api::federation::authenticated_media::{get_content, get_content_thumbnail};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        content::{self, target},
        endpoint::Ruma,
        response::Raw,
    },
    media::{
        download::{self, Wanted},
        thumbnail,
    },
};

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
pub async fn get_content(app: App, req: Ruma<get_content::v1::Request>) -> Result<Raw, MatrixError> {
    let wanted = Wanted::new(app.config.server_name.clone(), &req.media_id, req.timeout_ms)?;
    Ok(content::parts(download::find_local(&app, &wanted).await?))
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
pub async fn get_content_thumbnail(
    app: App,
    req: Ruma<get_content_thumbnail::v1::Request>,
) -> Result<Raw, MatrixError> {
    let wanted = Wanted::new(app.config.server_name.clone(), &req.media_id, req.timeout_ms)?;
    let target = target(req.width, req.height, req.method.as_ref())?;
    Ok(content::parts(thumbnail::find(&app, &wanted, target, req.animated == Some(true)).await?))
}
