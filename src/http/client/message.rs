//! Messages: sending them, and reading a room's history.

use myelin_actors::room::messages::Txn;
use myelin_core::position::{Position, TimelinePlace};
use myelin_storage::timeline::Direction;
use ruma::{
    RoomId,
    api::{
        auth_scheme::AccessToken,
        client::{
            filter::LazyLoadOptions,
            message::{get_message_events, send_message_event},
        },
    },
};
use serde_json::value::RawValue;

use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Extras, Reader},
    http::endpoint::{Plain, Ruma},
    pages::{self, Asked},
    sync::{preferences, token},
    workflows::{
        access,
        send::{self, Outgoing, parse_content},
    },
};

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
///
/// The same transaction id again is answered with the event that it made.
pub async fn send_message_event(
    app: App,
    req: Ruma<send_message_event::v3::Request>,
) -> Result<send_message_event::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let event_type = req.event_type.to_string();
    let outgoing = Outgoing {
        txn: Some(Txn {
            device_id: user.device_id.clone(),
            scope: format!("send {event_type}"),
            txn_id: req.txn_id.to_string(),
        }),
        event_type,
        state_key: None,
        content: parse_content(req.body.json())?,
        origin_server_ts: None,
    };
    let event_id = send::send(&app, user, &req.room_id, outgoing).await?;
    Ok(send_message_event::v3::Response::new(event_id))
}

/// `POST /_matrix/client/v3/rooms/{roomId}/send/{eventType}`
///
/// How clients sent before there were transactions: sent again, it is another event.
pub async fn send_without_transaction(
    app: App,
    req: Plain<AccessToken>,
) -> Result<send_message_event::v3::Response, MatrixError> {
    let user = &req.identity;
    user.require_active()?;
    let [room_id, event_type] = req.args.as_slice() else {
        return Err(MatrixError::invalid_param("a room and a type are needed"));
    };
    let room_id = RoomId::parse(room_id).map_err(|_| MatrixError::invalid_param("this is no room id"))?;
    let outgoing = Outgoing {
        txn: None,
        event_type: event_type.clone(),
        state_key: None,
        content: parse_content(&req.json::<Box<RawValue>>()?)?,
        origin_server_ts: None,
    };
    let event_id = send::send(&app, user, &room_id, outgoing).await?;
    Ok(send_message_event::v3::Response::new(event_id))
}

/// `GET /_matrix/client/v3/rooms/{roomId}/messages`
///
/// A page of the room's history, as far as the reader may see it.
pub async fn get_message_events(
    app: App,
    req: Ruma<get_message_events::v3::Request>,
) -> Result<get_message_events::v3::Response, MatrixError> {
    let user = req.user();
    let from = pages::boundary(req.from.as_deref())?;
    let to = pages::boundary(req.to.as_deref())?;
    let reading = access::reading(&app, user.nid, &req.room_id).await?;
    let direction = match req.dir {
        ruma::api::Direction::Forward => Direction::Forward,
        ruma::api::Direction::Backward => Direction::Backward,
    };
    let limit = limit_of(req.limit, &req.filter);
    let ignored = &preferences::read_ignored(&app, user.nid).await?;
    let asked = Asked { direction, from, to, limit, filter: &req.filter, ignored };
    let page = pages::read(&app, &reading, user.nid, asked).await?;

    let reader = Reader::of(user).ignoring(ignored);
    let chunk = event_format::client_events(&app, reader, &page.events, true).await?;
    let mut response = get_message_events::v3::Response::new();
    response.start = req.from.clone().unwrap_or_else(|| {
        let first = page.events.first().and_then(|seen| seen.event.place);
        token::timeline_token(match direction {
            Direction::Backward => first.unwrap_or_else(|| TimelinePlace::live(reading.view.position)),
            Direction::Forward => TimelinePlace::live(Position::START),
        })
    });
    // Whoever got something may ask once more, and learns from an empty page that there is nothing: other servers do
    // the same, so clients count on it, and other servers may have what was not to be had now.
    let may_be_more = !page.is_exhausted || (to.is_none() && !page.events.is_empty());
    let goes_on = direction == Direction::Forward || may_be_more;
    response.end = page.reached.filter(|_| goes_on).map(token::timeline_token);
    response.chunk = chunk.into_iter().map(event_format::raw).collect();
    if let LazyLoadOptions::Enabled { .. } = req.filter.lazy_load_options {
        let now_ms = app.process.clock.now_ms();
        let members = pages::senders(&app, &page.events).await?;
        let format =
            |event: &_| event_format::raw(event_format::client_event(event, &Extras::default(), now_ms));
        response.state = members.iter().map(|event| format(event)).collect();
    }
    Ok(response)
}

/// How many events are asked for: by the request, and by the filter.
pub fn limit_of(limit: ruma::UInt, filter: &ruma::api::client::filter::RoomEventFilter) -> usize {
    let limit = filter.limit.map_or(limit, |of_filter| of_filter.min(limit));
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX).min(pages::MAX_LIMIT)
}
