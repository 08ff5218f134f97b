//! The threads of a room.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    nid::EventNid,
    position::{Position, TimelinePlace},
};
use myelin_storage::{events::StoredEvent, relations};
use ruma::api::client::threads::get_threads::{self, v1::IncludeThreads};

use super::relations::limit_of;
use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Reader},
    http::endpoint::Ruma,
    pages,
    sync::token,
    visibility::{self, Seen},
    workflows::access,
};

/// After so many batches a page is answered as it is, be it empty: the client asks on.
const MAX_BATCHES: usize = 10;

/// `GET /_matrix/client/v1/rooms/{roomId}/threads`
///
/// The roots of the threads whose roots the reader may see, those with the latest replies first.
pub async fn get_threads(
    app: App,
    req: Ruma<get_threads::v1::Request>,
) -> Result<get_threads::v1::Response, MatrixError> {
    let user = req.user();
    let mut before = pages::boundary(req.from.as_deref())?.map(first_excluded);
    let reading = access::reading(&app, user.nid, &req.room_id).await?;
    let participant = (req.include == IncludeThreads::Participated).then_some(user.nid);
    let limit = limit_of(req.limit);
    let (mut seen, mut has_more): (Vec<Seen>, bool) = (Vec::new(), true);
    for _ in 0..MAX_BATCHES {
        let wanted = limit - seen.len();
        let client = app.storage.get().await?;
        // One more than wanted tells whether there are more.
        let mut threads =
            relations::list_threads(&client, reading.view.nid, participant, before, wanted + 1).await?;
        drop(client);
        has_more = threads.len() > wanted;
        threads.truncate(wanted);
        before = threads.last().map(|(_, latest)| *latest).or(before);
        let roots = load(&app, threads.iter().map(|(root, _)| *root).collect()).await?;
        seen.append(&mut visibility::visible_events(&app, &reading.view, user.nid, &roots).await?);
        if !has_more || seen.len() >= limit {
            break;
        }
    }
    let reader = Reader::of(user);
    let chunk = event_format::client_events(&app, reader, &seen, true).await?;
    let mut response = get_threads::v1::Response::new(chunk.into_iter().map(event_format::raw).collect());
    response.next_batch =
        before.filter(|_| has_more).map(|latest| token::timeline_token_before(TimelinePlace::live(latest)));
    Ok(response)
}

/// The events, in the order of their numbers here.
async fn load(app: &App, roots: Vec<EventNid>) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
    let loaded = app.actors.events.load(&roots).await?;
    let mut loaded: HashMap<EventNid, Arc<StoredEvent>> =
        loaded.into_iter().map(|event| (event.nid, event)).collect();
    Ok(roots.iter().filter_map(|root| loaded.remove(root)).collect())
}

/// The first position whose live event is not on the older side of the boundary.
fn first_excluded(boundary: TimelinePlace) -> Position {
    if boundary < TimelinePlace::live(boundary.anchor) { boundary.anchor } else { boundary.anchor.next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_exclude_what_is_after_them() {
        let place = TimelinePlace::live(Position(7));
        assert_eq!(first_excluded(place), Position(8));
        assert_eq!(first_excluded(token::just_before(place)), Position(7));
    }
}
