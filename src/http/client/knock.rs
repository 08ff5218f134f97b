//! Knocking: asking to be let into a room.

use ruma::api::client::knock::knock_room;

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::join};

/// `POST /_matrix/client/v3/knock/{roomIdOrAlias}`
pub async fn knock_room(
    app: App,
    req: Ruma<knock_room::v3::Request>,
) -> Result<knock_room::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let (room_id, via) = join::find_room(&app, &req.room_id_or_alias, &req.via).await?;
    join::knock(&app, user, &room_id, &via, req.reason.as_deref()).await?;
    Ok(knock_room::v3::Response::new(room_id))
}
