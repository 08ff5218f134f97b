//! The public room directory.

use http::StatusCode;
use myelin_storage::directory::{self, OWN_NETWORK};
use ruma::{
    OwnedServerName,
    api::{
        client::{
            directory::{
                get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
            },
            room::Visibility,
        },
        error::ErrorKind,
    },
    directory::{Filter, RoomNetwork},
};

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, token_optional::TokenOptional},
    workflows::{create_room, power, public_rooms},
};

/// `GET /_matrix/client/v3/publicRooms`
///
/// Without an access token only where the operator allows that.
pub async fn get_public_rooms(
    app: App,
    req: Ruma<TokenOptional<get_public_rooms::v3::Request>>,
) -> Result<get_public_rooms::v3::Response, MatrixError> {
    if req.user().is_none() && !app.config.room_directory.allow_without_auth {
        return Err(MatrixError::missing_token());
    }
    require_own(&app, req.server.as_ref())?;
    let (since, network) = (req.since.as_deref(), RoomNetwork::Matrix);
    let page = public_rooms::page(&app, req.limit, since, &Filter::new(), &network).await?;
    let mut response = get_public_rooms::v3::Response::new(page.rooms);
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
pub async fn get_public_rooms_filtered(
    app: App,
    req: Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<get_public_rooms_filtered::v3::Response, MatrixError> {
    require_own(&app, req.server.as_ref())?;
    let since = req.since.as_deref();
    let page = public_rooms::page(&app, req.limit, since, &req.filter, &req.room_network).await?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = page.rooms;
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// Other servers' directories are theirs to show.
fn require_own(app: &App, server: Option<&OwnedServerName>) -> Result<(), MatrixError> {
    match server {
        Some(server) if *server != app.config.server_name => Err(MatrixError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::Unknown,
            format!("the directory of {server} cannot be reached"),
        )),
        _ => Ok(()),
    }
}

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
pub async fn get_room_visibility(
    app: App,
    req: Ruma<get_room_visibility::v3::Request>,
) -> Result<get_room_visibility::v3::Response, MatrixError> {
    let view = app.actors.rooms.view(&req.room_id).await?;
    let client = app.storage.get().await?;
    let is_published = directory::is_published(&client, view.nid, OWN_NETWORK).await?;
    let visibility = if is_published { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response::new(visibility))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
///
/// For those who may set the room's canonical alias, and administrators.
pub async fn set_room_visibility(
    app: App,
    req: Ruma<set_room_visibility::v3::Request>,
) -> Result<set_room_visibility::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let view = app.actors.rooms.view(&req.room_id).await?;
    let may =
        view.is_joined(user.nid) && power::levels(&view).may_send(&user.id, "m.room.canonical_alias", true);
    if !may && !user.is_admin {
        return Err(MatrixError::forbidden("you may not change whether this room is listed"));
    }
    let is_published = match req.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(MatrixError::invalid_param("visibility is neither public nor private")),
    };
    create_room::publish(&app, &req.room_id, is_published).await?;
    Ok(set_room_visibility::v3::Response::new())
}
