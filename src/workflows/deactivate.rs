//! The end of an account.

use futures::{StreamExt, stream};
use myelin_core::{membership::Membership, nid::RoomNid};
use myelin_storage::{accounts, members, rooms};
use ruma::RoomId;
use tracing::warn;

use super::{devices, membership};
use crate::{app::App, error::MatrixError, sessions::User};

/// How many rooms are left at the same time.
const ROOMS_AT_ONCE: usize = 16;

/// Ends the user's account: they leave their rooms, reject invitations, and nobody can log in as them again. With
/// `erase`, who joins their rooms later gets redacted copies of their events.
///
/// Rooms come first: when the server stops in between, the user can still ask again. A room that cannot be left does
/// not keep the account alive.
pub async fn deactivate(app: &App, user: &User, erase: bool) -> Result<(), MatrixError> {
    let rooms = rooms_to_leave(app, user).await?;
    let leaving = stream::iter(&rooms).for_each_concurrent(ROOMS_AT_ONCE, async |room_id: &_| {
        let room_id: &RoomId = room_id;
        if let Err(error) = membership::leave(app, user, room_id, None).await {
            warn!(room.id = %room_id, %error, "a room could not be left by a deactivated user");
        }
    });
    leaving.await;
    devices::remove_all_but(app, user, None).await?;
    accounts::deactivate(&app.storage.get().await?, user.nid, erase).await?;
    app.memory.sessions.forget_user(user.nid);
    Ok(())
}

async fn rooms_to_leave(app: &App, user: &User) -> Result<Vec<ruma::OwnedRoomId>, MatrixError> {
    let client = app.storage.get().await?;
    let memberships = members::rooms_of(&client, user.nid).await?;
    let is_in = |membership: Membership| {
        matches!(membership, Membership::Join | Membership::Invite | Membership::Knock)
    };
    let present = memberships.rooms.iter().map(|room| &room.member).filter(|member| is_in(member.membership));
    let present: Vec<RoomNid> = present.map(|member| member.room).collect();
    Ok(rooms::room_ids(&client, &present).await?.into_values().collect())
}
