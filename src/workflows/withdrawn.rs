//! Invitations that are taken back, and knocks that are refused, for rooms that this server takes no part in.
//!
//! The room's own rules cannot be asked here. So only the server from which the user was invited, or through which they
//! knock, is believed, and only of the invitation or knock that the user has now.

use myelin_core::{
    membership::Membership,
    pdu::{Pdu, format},
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{debug, info};

use super::{membership, outsiders};
use crate::{app::App, error::MatrixError};

/// What is read of an event to see whether it can be about a user outside.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    event_type: String,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    state_key: OwnedUserId,
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    membership: String,
}

impl Head {
    /// Somebody of the sending server puts out a user of ours.
    fn is_about_ours(&self, app: &App, origin: &ServerName) -> bool {
        self.event_type == "m.room.member"
            && matches!(self.content.membership.as_str(), "leave" | "ban")
            && self.sender.server_name() == origin
            && app.is_ours(self.state_key.server_name())
    }
}

/// Takes those of a transaction's events that end an invitation or a knock of a user of ours elsewhere.
pub async fn take(app: &App, origin: &ServerName, pdus: &[Box<RawValue>]) -> Result<(), MatrixError> {
    for json in pdus {
        let head = serde_json::from_str::<Head>(json.get()).ok();
        if let Some(head) = head.filter(|head| head.is_about_ours(app, origin)) {
            take_one(app, json, &head).await?;
        }
    }
    Ok(())
}

async fn take_one(app: &App, json: &RawValue, head: &Head) -> Result<(), MatrixError> {
    let room_id: &RoomId = &head.room_id;
    if outsiders::resident(app, room_id).await?.is_some() {
        return Ok(());
    }
    let user = app.actors.nids.find_users(&[&head.state_key]).await?.pop().flatten();
    let Some(user) = user else { return Ok(()) };
    let Some(row) = membership::outside(app, room_id, user).await? else { return Ok(()) };
    if !matches!(row.membership, Membership::Invite | Membership::Knock) {
        return Ok(());
    }
    let Some(now) = app.actors.events.load(&[row.event]).await?.pop() else { return Ok(()) };
    let Ok(event) = format::parse_remote(now.pdu.version(), json) else { return Ok(()) };
    if !ends(&event, &now.pdu) {
        return Ok(());
    }
    match app.remote.verify_events(vec![event]).await.pop() {
        Some(Ok(event)) => {
            let version = event.version().id.clone();
            app.actors.rooms.receive_membership(room_id, &version, event, Vec::new()).await?;
            info!(room.id = %room_id, "an invitation or a knock elsewhere was ended there");
        }
        Some(Err(error)) => debug!(room.id = %room_id, %error, "the end of an invitation is not signed"),
        None => {}
    }
    Ok(())
}

/// The event is built on the invitation or knock, and comes from the server that speaks for it.
fn ends(event: &Pdu, now: &Pdu) -> bool {
    let is_from_there = match Membership::of_event(now) {
        Some(Membership::Invite) => event.sender().server_name() == now.sender().server_name(),
        // Whoever answers a knock has seen it: it is among what allows their event.
        _ => true,
    };
    is_from_there && event.auth_events().iter().any(|id| id == now.event_id())
}
