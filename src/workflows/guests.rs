//! Guests: which rooms they may join, and that they leave when that ends.

use myelin_actors::room::view::RoomView;
use myelin_core::{
    membership::Membership,
    nid::{UserNid, types},
};
use myelin_storage::accounts;
use ruma::RoomId;

use super::{member, membership, summary};
use crate::{app::App, error::MatrixError};

/// Guests may join this room.
pub fn may_join(view: &RoomView) -> bool {
    summary::text_of(view, types::GUEST_ACCESS, "/guest_access").as_deref() == Some("can_join")
}

/// Takes our guests out of a room that guests may no longer be in. To be called when its guest access has changed.
pub async fn leave_if_unwelcome(app: &App, room_id: &RoomId) -> Result<(), MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    if may_join(&view) {
        return Ok(());
    }
    let local: Vec<UserNid> = view
        .members
        .iter()
        .filter(|(_, member)| member.is_local && member.membership == Membership::Join)
        .map(|(user, _)| *user)
        .collect();
    let accounts = accounts::list(&app.storage.get().await?, &local).await?;
    for guest in accounts.into_iter().filter(|account| account.marks.is_guest) {
        let content = member::plain(Membership::Leave, None);
        membership::send(app, &guest.user_id, room_id, &guest.user_id, content).await?;
    }
    Ok(())
}
