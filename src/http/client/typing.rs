//! Who is typing.

use std::time::Duration;

use ruma::api::client::typing::create_typing_event::{self, v3::Typing};

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::access};

/// The longest that a client may say in advance that its user types.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub async fn create_typing_event(
    app: App,
    req: Ruma<create_typing_event::v3::Request>,
) -> Result<create_typing_event::v3::Response, MatrixError> {
    super::account_data::require_self(req.user(), &req.user_id)?;
    let view = access::joined(&app, req.user().nid, &req.room_id).await?;
    let until_ms = match req.state {
        Typing::No => None,
        Typing::Yes(info) => {
            let timeout = info.timeout.min(MAX_TIMEOUT).as_millis();
            Some(app.clock.now_ms() + u64::try_from(timeout).unwrap_or_default())
        }
    };
    app.actors.typing.set(view.nid, req.user().nid, until_ms);
    Ok(create_typing_event::v3::Response::new())
}
