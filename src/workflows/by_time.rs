//! The event closest to a time, asked of other servers where this one lacks that part of the room's history.

use myelin_core::nid::{UserNid, types};
use myelin_storage::timeline;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId,
    api::{Direction, federation::event::get_event_by_timestamp::v1 as get_event_by_timestamp},
};
use tracing::debug;

use super::{access::Reading, candidates, outsiders};
use crate::{app::App, error::MatrixError, visibility};

/// So many events that the reader may not see are passed over before there is none near a time.
const MAX_TRIES: usize = 20;
/// How many servers are asked.
const MAX_ASKED: usize = 3;

/// An event and when it says that it was sent.
pub type AtTime = (OwnedEventId, MilliSecondsSinceUnixEpoch);

/// The event closest to the time in this direction, among those that the reader may see.
pub async fn find(
    app: &App,
    user: UserNid,
    reading: &Reading,
    ts: MilliSecondsSinceUnixEpoch,
    dir: Direction,
) -> Result<Option<AtTime>, MatrixError> {
    let here = find_here(app, user, reading, ts, dir).await?;
    if !may_be_elsewhere(app, reading, here.as_ref(), dir).await? {
        return Ok(here);
    }
    let elsewhere = find_elsewhere(app, reading, ts, dir).await?;
    Ok(match (here, elsewhere) {
        (Some(here), Some(elsewhere)) => Some(closer(here, elsewhere, dir)),
        (here, elsewhere) => here.or(elsewhere),
    })
}

fn closer(one: AtTime, other: AtTime, dir: Direction) -> AtTime {
    let other_is_closer = match dir {
        Direction::Forward => other.1 < one.1,
        Direction::Backward => other.1 > one.1,
    };
    if other_is_closer { other } else { one }
}

async fn find_here(
    app: &App,
    user: UserNid,
    reading: &Reading,
    ts: MilliSecondsSinceUnixEpoch,
    dir: Direction,
) -> Result<Option<AtTime>, MatrixError> {
    let (direction, step) = match dir {
        Direction::Forward => (timeline::Direction::Forward, 1),
        Direction::Backward => (timeline::Direction::Backward, -1),
    };
    let mut ts = i64::from(ts.get());
    for _ in 0..MAX_TRIES {
        let client = app.storage.get().await?;
        let found = timeline::find_by_time(&client, reading.view.nid, ts, direction).await?;
        drop(client);
        let Some(found) = found else { return Ok(None) };
        let events = app.actors.events.load(&[found.nid]).await?;
        if let [seen] = &*visibility::visible_events(app, &reading.view, user, &events).await? {
            let pdu = &seen.event.pdu;
            return Ok(Some((pdu.event_id().to_owned(), pdu.origin_server_ts())));
        }
        ts = found.origin_server_ts.saturating_add(step);
    }
    Ok(None)
}

/// What this server lacks of a room is its beginning: whether the event could be in there.
async fn may_be_elsewhere(
    app: &App,
    reading: &Reading,
    here: Option<&AtTime>,
    dir: Direction,
) -> Result<bool, MatrixError> {
    let view = &reading.view;
    let is_shared = view.servers.keys().any(|server| !app.is_ours(server));
    if reading.left.is_some() || !is_shared || !outsiders::is_resident(app, view) {
        return Ok(false);
    }
    let client = app.storage.get().await?;
    let first = timeline::page(&client, view.nid, None, timeline::Direction::Forward, None, 1).await?;
    let Some(first) = first.first().filter(|first| first.type_nid != types::CREATE) else {
        return Ok(false);
    };
    Ok(match (here, dir) {
        (None, _) => true,
        (Some(_), Direction::Backward) => false,
        (Some((event_id, _)), Direction::Forward) => *event_id == first.pdu.event_id(),
    })
}

/// The answer of the first server that has one on the right side of the time.
async fn find_elsewhere(
    app: &App,
    reading: &Reading,
    ts: MilliSecondsSinceUnixEpoch,
    dir: Direction,
) -> Result<Option<AtTime>, MatrixError> {
    let room_id = &reading.view.room_id;
    for server in candidates::list(app, room_id, &[]).await?.into_iter().take(MAX_ASKED) {
        let request = get_event_by_timestamp::Request::new(room_id.clone(), ts, dir);
        match app.remote.request(&server, request).await {
            Ok(told) => {
                let is_right = match dir {
                    Direction::Forward => told.origin_server_ts >= ts,
                    Direction::Backward => told.origin_server_ts <= ts,
                };
                if is_right {
                    return Ok(Some((told.event_id, told.origin_server_ts)));
                }
            }
            Err(error) => debug!(%server, room.id = %room_id, %error, "a server found no event near a time"),
        }
    }
    Ok(None)
}
