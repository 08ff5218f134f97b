//! The events that relate to an event.

use std::sync::Arc;

use myelin_core::{nid::TypeNid, position::TimelinePlace};
use myelin_storage::{
    events::StoredEvent,
    relations::{self, Children},
    timeline::Direction,
};
use ruma::{
    EventId, RoomId, UInt,
    api::client::relations::{
        get_relating_events, get_relating_events_with_rel_type,
        get_relating_events_with_rel_type_and_event_type,
    },
    events::AnyMessageLikeEvent,
    serde::Raw,
};

use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Reader},
    http::{auth::User, endpoint::Ruma},
    pages,
    sync::token,
    visibility::{self, Seen},
    workflows::access::{self, Reading},
};

/// How many events a page has when the client does not say.
const DEFAULT_LIMIT: usize = 50;
/// The most events that a page has.
const MAX_LIMIT: usize = 100;
/// After so many batches a page is answered as it is, be it empty: the client asks on.
const MAX_BATCHES: usize = 10;
/// How many relations are followed when those of children are asked for too.
const RECURSION: u8 = 3;

/// Answers one of the requests, of the module of ruma's that is named: they differ only in what they are narrowed to.
macro_rules! answer {
    ($app:ident, $req:ident, $module:ident, $rel_type:expr, $event_type:expr) => {{
        let asked = Asked {
            room_id: &$req.room_id,
            parent: &$req.event_id,
            rel_type: $rel_type,
            event_type: $event_type,
            from: $req.from.as_deref(),
            to: $req.to.as_deref(),
            direction: $req.dir,
            limit: $req.limit,
            recurse: $req.recurse,
        };
        let found = asked.answer(&$app, $req.user()).await?;
        let mut response = $module::v1::Response::new(found.chunk);
        response.next_batch = found.next_batch;
        response.prev_batch = found.prev_batch;
        response.recursion_depth = found.recursion_depth;
        Ok(response)
    }};
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
pub async fn get_relating_events(
    app: App,
    req: Ruma<get_relating_events::v1::Request>,
) -> Result<get_relating_events::v1::Response, MatrixError> {
    answer!(app, req, get_relating_events, None, None)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
pub async fn get_relating_events_with_rel_type(
    app: App,
    req: Ruma<get_relating_events_with_rel_type::v1::Request>,
) -> Result<get_relating_events_with_rel_type::v1::Response, MatrixError> {
    answer!(app, req, get_relating_events_with_rel_type, Some(req.rel_type.as_str()), None)
}

/// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
pub async fn get_relating_events_with_rel_type_and_event_type(
    app: App,
    req: Ruma<get_relating_events_with_rel_type_and_event_type::v1::Request>,
) -> Result<get_relating_events_with_rel_type_and_event_type::v1::Response, MatrixError> {
    let (rel_type, event_type) = (Some(req.rel_type.as_str()), Some(req.event_type.to_string()));
    answer!(app, req, get_relating_events_with_rel_type_and_event_type, rel_type, event_type)
}

/// What any of the requests asks for.
struct Asked<'a> {
    room_id: &'a RoomId,
    parent: &'a EventId,
    rel_type: Option<&'a str>,
    event_type: Option<String>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    direction: ruma::api::Direction,
    limit: Option<UInt>,
    recurse: bool,
}

/// What any of them is answered with.
#[derive(Default)]
struct Found {
    chunk: Vec<Raw<AnyMessageLikeEvent>>,
    next_batch: Option<String>,
    prev_batch: Option<String>,
    recursion_depth: Option<UInt>,
}

impl Asked<'_> {
    async fn answer(&self, app: &App, user: &User) -> Result<Found, MatrixError> {
        let from = pages::boundary(self.from)?;
        let to = pages::boundary(self.to)?;
        let reading = access::reading(app, user.nid, self.room_id).await?;
        access::event(app, user.nid, &reading.view, self.parent)
            .await?
            .ok_or_else(|| MatrixError::not_found("there is no such event that you may see"))?;
        let mut found = Found {
            prev_batch: self.from.map(ToOwned::to_owned),
            recursion_depth: self.recurse.then(|| UInt::from(RECURSION)),
            ..Found::default()
        };
        let type_nid = match &self.event_type {
            None => None,
            Some(event_type) => match app.actors.nids.find_types(&[event_type]).await?.pop().flatten() {
                None => return Ok(found),
                known => known,
            },
        };
        let (seen, next) = self.read(app, user, &reading, type_nid, (from, to)).await?;
        let reader = Reader::of(user);
        let chunk = event_format::client_events(app, reader, &seen, true).await?;
        found.chunk = chunk.into_iter().map(event_format::raw).collect();
        found.next_batch = next.map(token::timeline_token);
        Ok(found)
    }

    /// The children that the reader may see, and the boundary to read on from if there are more. Queries: two for
    /// each of a bounded number of batches, mostly one batch.
    async fn read(
        &self,
        app: &App,
        user: &User,
        reading: &Reading,
        type_nid: Option<TypeNid>,
        (from, to): (Option<TimelinePlace>, Option<TimelinePlace>),
    ) -> Result<(Vec<Seen>, Option<TimelinePlace>), MatrixError> {
        let children = Children {
            room: reading.view.nid,
            parent: self.parent,
            rel_type: self.rel_type,
            type_nid,
            depth: if self.recurse { RECURSION } else { 1 },
        };
        let direction = match self.direction {
            ruma::api::Direction::Forward => Direction::Forward,
            ruma::api::Direction::Backward => Direction::Backward,
        };
        let (mut at, to) = pages::bounds(reading, direction, from, to);
        let limit = limit_of(self.limit);
        let mut seen: Vec<Seen> = Vec::new();
        for _ in 0..MAX_BATCHES {
            let wanted = limit - seen.len();
            let client = app.storage.get().await?;
            // One more than wanted tells whether there are more.
            let mut events = relations::list(&client, children, at, direction, to, wanted + 1).await?;
            drop(client);
            let has_more = events.len() > wanted;
            events.truncate(wanted);
            let events: Vec<Arc<StoredEvent>> = events.into_iter().map(Arc::new).collect();
            if let Some(place) = events.last().and_then(|event| event.place) {
                at = Some(match direction {
                    Direction::Forward => place,
                    Direction::Backward => token::just_before(place),
                });
            }
            seen.append(&mut visibility::visible_events(app, &reading.view, user.nid, &events).await?);
            if !has_more {
                return Ok((seen, None));
            }
            if seen.len() >= limit {
                break;
            }
        }
        Ok((seen, at))
    }
}

/// How many events are asked for.
pub fn limit_of(limit: Option<UInt>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(u64::from(limit)).ok());
    limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
}
