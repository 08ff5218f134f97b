//! The public room directory.

use myelin_storage::directory::{self, OWN_NETWORK};
use ruma::{
    OwnedServerName, UInt,
    api::client::{
        directory::{get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility},
        room::Visibility,
    },
    directory::{Filter, RoomNetwork},
};

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, token_optional::TokenOptional},
    workflows::{
        create_room, power,
        public_rooms::{self, Page},
    },
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
    let (filter, network) = (Filter::new(), RoomNetwork::Matrix);
    let page = page(&app, req.server.as_ref(), req.limit, req.since.as_deref(), &filter, &network).await?;
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
    let (since, server) = (req.since.as_deref(), req.server.as_ref());
    let page = page(&app, server, req.limit, since, &req.filter, &req.room_network).await?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = page.rooms;
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// A page of this server's list, or of another's.
async fn page(
    app: &App,
    server: Option<&OwnedServerName>,
    limit: Option<UInt>,
    since: Option<&str>,
    filter: &Filter,
    network: &RoomNetwork,
) -> Result<Page, MatrixError> {
    match server.filter(|server| !app.is_ours(server)) {
        Some(server) => public_rooms::remote_page(app, server, limit, since, filter, network).await,
        None => public_rooms::page(app, limit, since, filter, network).await,
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
