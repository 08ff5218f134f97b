//! The list of public rooms, for other servers.

use ruma::{
    UInt,
    api::federation::directory::{get_public_rooms, get_public_rooms_filtered},
    directory::{Filter, RoomNetwork},
};

use crate::{
    app::App,
    error::MatrixError,
    http::endpoint::Ruma,
    workflows::public_rooms::{self, Page},
};

/// `GET /_matrix/federation/v1/publicRooms`
pub async fn get_public_rooms(
    app: App,
    req: Ruma<get_public_rooms::v1::Request>,
) -> Result<get_public_rooms::v1::Response, MatrixError> {
    let page = page(&app, req.limit, req.since.as_deref(), &Filter::new(), &req.room_network).await?;
    let mut response = get_public_rooms::v1::Response::new();
    response.chunk = page.rooms;
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// `POST /_matrix/federation/v1/publicRooms`
pub async fn get_public_rooms_filtered(
    app: App,
    req: Ruma<get_public_rooms_filtered::v1::Request>,
) -> Result<get_public_rooms_filtered::v1::Response, MatrixError> {
    let page = page(&app, req.limit, req.since.as_deref(), &req.filter, &req.room_network).await?;
    let mut response = get_public_rooms_filtered::v1::Response::new();
    response.chunk = page.rooms;
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// A page, where the operator lets other servers see the list.
async fn page(
    app: &App,
    limit: Option<UInt>,
    since: Option<&str>,
    filter: &Filter,
    network: &RoomNetwork,
) -> Result<Page, MatrixError> {
    if !app.config.room_directory.allow_over_federation {
        return Err(MatrixError::forbidden("the list of rooms of this server is not public"));
    }
    public_rooms::page(app, limit, since, filter, network).await
}
