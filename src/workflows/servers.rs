//! Which other servers may ask about a room: those that take part in it, and that it has not shut out.
//!
//! Which of its events they may read is in [`visibility::servers`](crate::visibility::servers).

use std::sync::Arc;

use myelin_actors::room::view::RoomView;
use myelin_core::{acl, nid::types};
use ruma::{RoomId, ServerName};

use crate::{app::App, error::MatrixError};

/// A room that the server takes part in.
///
/// That this server does is not asked: one who has left a moment ago is still asked for what it said.
pub async fn room_of_member(
    app: &App,
    server: &ServerName,
    room_id: &RoomId,
) -> Result<Arc<RoomView>, MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    require_allowed(&view, server)?;
    if !view.servers.contains_key(server) {
        return Err(MatrixError::forbidden("your server is not in this room"));
    }
    Ok(view)
}

/// A room that this server takes part in, and can therefore speak for; the asking server need not be there.
pub async fn room_of_ours(
    app: &App,
    server: &ServerName,
    room_id: &RoomId,
) -> Result<Arc<RoomView>, MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    if !view.servers.contains_key(&app.config.server_name) {
        return Err(MatrixError::not_found("this server is not in this room"));
    }
    require_allowed(&view, server)?;
    Ok(view)
}

/// Refuses servers that the room's access control list shuts out.
pub fn require_allowed(view: &RoomView, server: &ServerName) -> Result<(), MatrixError> {
    if acl::allows(view.essential(types::SERVER_ACL), server) {
        Ok(())
    } else {
        Err(MatrixError::forbidden("your server is banned from this room"))
    }
}
