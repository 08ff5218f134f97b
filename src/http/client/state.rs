//! A room's state: reading all of it or one event of it, and setting one.

use ruma::api::client::state::{
    get_state_event_for_key::{self, v3::StateEventFormat},
    get_state_events, send_state_event,
};

use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Extras},
    http::endpoint::Ruma,
    workflows::{
        access,
        send::{self, Outgoing, parse_content},
    },
};

/// `GET /_matrix/client/v3/rooms/{roomId}/state`
///
/// The state now, or as of the reader's leave.
pub async fn get_state_events(
    app: App,
    req: Ruma<get_state_events::v3::Request>,
) -> Result<get_state_events::v3::Response, MatrixError> {
    let reading = access::reading(&app, req.user().nid, &req.room_id).await?;
    let nids: Vec<_> = reading.state(&app).await?.values().copied().collect();
    let events = app.actors.events.load(&nids).await?;
    let now_ms = app.process.clock.now_ms();
    let state = events
        .iter()
        .map(|event| event_format::raw(event_format::client_event(event, &Extras::default(), now_ms)))
        .collect();
    Ok(get_state_events::v3::Response::new(state))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
///
/// One state event or its content, now or as of the reader's leave.
pub async fn get_state_event_for_key(
    app: App,
    req: Ruma<get_state_event_for_key::v3::Request>,
) -> Result<get_state_event_for_key::v3::Response, MatrixError> {
    let reading = access::reading(&app, req.user().nid, &req.room_id).await?;
    let key = access::find_key(&app, &req.event_type.to_string(), &req.state_key).await?;
    let event = match key {
        Some(key) => reading.state_event(&app, key).await?,
        None => None,
    };
    let event = event.ok_or_else(|| MatrixError::not_found("the room has no such state"))?;
    let json = match req.format {
        StateEventFormat::Event => {
            let event = event_format::client_event(&event, &Extras::default(), app.process.clock.now_ms());
            event_format::raw::<ruma::events::AnyStateEvent>(event).into_json()
        }
        _ => event.pdu.content().to_owned(),
    };
    Ok(get_state_event_for_key::v3::Response::new(json))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
///
/// Setting what is set already by the same user is answered with the event that did.
pub async fn send_state_event(
    app: App,
    req: Ruma<send_state_event::v3::Request>,
) -> Result<send_state_event::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let outgoing = Outgoing {
        event_type: req.event_type.to_string(),
        state_key: Some(req.state_key.clone()),
        content: parse_content(req.body.json())?,
        txn: None,
        origin_server_ts: None,
    };
    let event_id = send::send(&app, user, &req.room_id, outgoing).await?;
    Ok(send_state_event::v3::Response::new(event_id))
}
