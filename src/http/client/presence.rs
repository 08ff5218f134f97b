//! Who is online.

use std::time::Duration;

use myelin_actors::presence::{MAX_STATUS_BYTES, PresenceUpdate};
use ruma::{
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};

use super::sync::joined_rooms;
use crate::{app::App, error::MatrixError, http::endpoint::Ruma};

/// How long somebody is there who says so, and whose client does not ask for news.
const SET_MS: u64 = 5 * 60 * 1000;

/// `GET /_matrix/client/v3/presence/{userId}/status`
///
/// Only for those who share a room with the user.
pub async fn get_presence(
    app: App,
    req: Ruma<get_presence::v3::Request>,
) -> Result<get_presence::v3::Response, MatrixError> {
    let unknown = || MatrixError::not_found("there is no such user");
    let user = app.actors.nids.find_users(&[&req.user_id]).await?.pop().flatten().ok_or_else(unknown)?;
    if user != req.user().nid {
        let rooms = joined_rooms(&app, req.user().nid).await?;
        let views = app.actors.rooms.views(&rooms).await?;
        if !views.values().any(|view| view.is_joined(user)) {
            return Err(MatrixError::forbidden("you share no room with this user"));
        }
    }
    let Some(presence) = app.actors.presences.of(&[user]).remove(&user) else {
        return Ok(get_presence::v3::Response::new(PresenceState::Offline));
    };
    let mut response = get_presence::v3::Response::new(presence.presence);
    response.status_msg = presence.status_msg;
    response.currently_active = Some(presence.currently_active);
    response.last_active_ago =
        Some(Duration::from_millis(app.process.clock.now_ms().saturating_sub(presence.last_active_ms)));
    Ok(response)
}

/// `PUT /_matrix/client/v3/presence/{userId}/status`
pub async fn set_presence(
    app: App,
    req: Ruma<set_presence::v3::Request>,
) -> Result<set_presence::v3::Response, MatrixError> {
    super::account_data::require_self(req.user(), &req.user_id)?;
    check_state(&req.presence)?;
    if req.status_msg.as_ref().is_some_and(|status| status.len() > MAX_STATUS_BYTES) {
        return Err(MatrixError::too_large(format!("a status has at most {MAX_STATUS_BYTES} bytes")));
    }
    let rooms = joined_rooms(&app, req.user().nid).await?;
    let update = PresenceUpdate { presence: req.presence.clone(), status_msg: Some(req.status_msg.clone()) };
    let presences = &app.actors.presences;
    presences.set(req.user().nid, &rooms, update);
    if req.presence != PresenceState::Offline {
        // Also who does not sync is not there for ever.
        presences.stay(req.user().nid, &rooms, req.presence.clone(), app.process.clock.now_ms() + SET_MS);
    }
    Ok(set_presence::v3::Response::new())
}

/// Refuses words that are no presence.
pub(super) fn check_state(presence: &PresenceState) -> Result<(), MatrixError> {
    match presence {
        PresenceState::Online | PresenceState::Offline | PresenceState::Unavailable => Ok(()),
        _ => Err(MatrixError::invalid_param("presence is online, offline or unavailable")),
    }
}
