//! The events that a user was notified about.

use myelin_core::position::Position;
use ruma::{
    MilliSecondsSinceUnixEpoch,
    api::client::push::get_notifications::v3::{Notification, Request, Response},
};

use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Reader},
    http::endpoint::Ruma,
    notifications::{self, Asked},
};

/// How many are listed when it is not said, and at most.
const USUAL: usize = 20;
const MAX: usize = 200;

/// `GET /_matrix/client/v3/notifications`
pub async fn get_notifications(app: App, req: Ruma<Request>) -> Result<Response, MatrixError> {
    let user = req.user();
    let limit = req.limit.map_or(USUAL, |limit| usize::try_from(u64::from(limit)).unwrap_or(MAX));
    let asked = Asked {
        upto: req.from.as_deref().filter(|from| !from.is_empty()).map(position).transpose()?,
        limit: limit.clamp(1, MAX),
        only_highlights: req.only.as_deref() == Some("highlight"),
    };
    let page = notifications::list(&app, user, asked).await?;
    let seen: Vec<_> = page.notifications.iter().map(|notification| notification.seen.clone()).collect();
    let reader = Reader::of(user);
    let events = event_format::client_events(&app, reader, &seen, false).await?;
    let listed = page.notifications.into_iter().zip(events).map(|(notification, event)| {
        let pdu = &notification.seen.event.pdu;
        let mut listed = Notification::new(
            notification.actions,
            event_format::raw(event),
            notification.is_read,
            pdu.room_id().to_owned(),
            MilliSecondsSinceUnixEpoch(pdu.origin_server_ts().get()),
        );
        // Rules are for all devices: there is one profile, which has no name.
        listed.profile_tag = Some(String::new());
        listed
    });
    let mut response = Response::new(listed.collect());
    response.next_token = page.next.map(|next| next.0.to_string());
    Ok(response)
}

fn position(token: &str) -> Result<Position, MatrixError> {
    let position = token.parse().map(Position);
    position.map_err(|_| MatrixError::invalid_param("from is no token of this server"))
}
