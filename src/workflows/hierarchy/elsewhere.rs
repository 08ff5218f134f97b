//! Rooms of a space's tree that this server takes no part in: as other servers tell of them.
//!
//! What they told is remembered for a while. Whether a user may know of a room is judged here again, as far as can be
//! told from outside: the other server has only judged for all our users together.

use std::{sync::Arc, time::Duration};

use myelin_core::membership::Membership;
use myelin_storage::members;
use quick_cache::sync::Cache;
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, api::federation::space::get_hierarchy::v1 as get_hierarchy,
    room::RoomSummary,
};
use tracing::debug;

use super::{
    Looked,
    child::{self, Child},
    summary::{SpaceRoom, Summary},
};
use crate::{
    app::App,
    error::MatrixError,
    workflows::{candidates, outsiders::Outsider},
};

/// How many rooms are remembered.
const MAX_REMEMBERED: usize = 1000;
/// How long a room is remembered.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// How many servers are asked about one room.
const MAX_ASKED: usize = 3;
/// How many children of one room are looked at.
const MAX_CHILDREN: usize = 1000;

/// A room with its children, as another server told it.
#[derive(Debug)]
struct Told {
    summary: Arc<Summary>,
    children: Vec<(Child, Option<Arc<Summary>>)>,
}

/// Until when an answer counts, and the answer. Nothing: nobody knew the room.
type Answer = (u64, Option<Arc<Told>>);

/// What other servers told of rooms, with all their children or only those that are suggested.
pub struct Remembered(Cache<(OwnedRoomId, bool), Answer>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Cache::new(MAX_REMEMBERED))
    }
}

/// What the outsider may know of a room that this server takes no part in, and its children.
pub async fn look(
    app: &App,
    outsider: &Outsider,
    room_id: &RoomId,
    via: &[OwnedServerName],
    told: Option<&Arc<Summary>>,
    suggested_only: bool,
) -> Result<Option<Looked>, MatrixError> {
    if let Some(summary) = told.filter(|summary| !summary.is_space()) {
        // A room without children: there is nothing to ask for.
        let known = may_know(app, outsider, summary).await?;
        return Ok(known.then(|| (SpaceRoom::new(Summary::clone(summary), &[]), Vec::new())));
    }
    let Some(found) = find(app, room_id, via, suggested_only).await? else { return Ok(None) };
    if !may_know(app, outsider, &found.summary).await? {
        return Ok(None);
    }
    let children: Vec<Child> = found.children.iter().map(|(child, _)| child.clone()).collect();
    let mut room = SpaceRoom::new(Summary::clone(&found.summary), &children);
    if !found.summary.is_space() {
        room.children_state.clear();
    }
    let steps = found.children.iter().filter(|(child, _)| child.suggested || !suggested_only);
    Ok(Some((room, steps.cloned().collect())))
}

async fn find(
    app: &App,
    room_id: &RoomId,
    via: &[OwnedServerName],
    suggested_only: bool,
) -> Result<Option<Arc<Told>>, MatrixError> {
    let key = (room_id.to_owned(), suggested_only);
    let now_ms = app.process.clock.now_ms();
    if let Some((until_ms, told)) = app.memory.others.hierarchies.0.get(&key)
        && until_ms > now_ms
    {
        return Ok(told);
    }
    let told = ask(app, room_id, via, suggested_only).await?.map(Arc::new);
    let until_ms = now_ms.saturating_add(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
    app.memory.others.hierarchies.0.insert(key, (until_ms, told.clone()));
    Ok(told)
}

async fn ask(
    app: &App,
    room_id: &RoomId,
    via: &[OwnedServerName],
    suggested_only: bool,
) -> Result<Option<Told>, MatrixError> {
    for server in candidates::list(app, room_id, via).await?.into_iter().take(MAX_ASKED) {
        let mut request = get_hierarchy::Request::new(room_id.to_owned());
        request.suggested_only = suggested_only;
        match app.remote.request(&server, request).await {
            Ok(answer) if answer.room.summary.room_id == *room_id => return Ok(Some(read(&answer))),
            Ok(_) => debug!(%server, room.id = %room_id, "a server told of another room than asked for"),
            Err(error) => debug!(%server, room.id = %room_id, %error, "a server did not tell of a room"),
        }
    }
    Ok(None)
}

fn read(answer: &get_hierarchy::Response) -> Told {
    let events = answer.room.children_state.iter().take(MAX_CHILDREN);
    let mut children: Vec<Child> = events.filter_map(|event| Child::of_remote(event.json())).collect();
    child::sort(&mut children);
    let summary = |child: &Child| -> Option<&RoomSummary> {
        answer.children.iter().find(|summary| summary.room_id == child.room_id)
    };
    let children = children
        .into_iter()
        .map(|child| {
            let told = summary(&child).map(|summary| Arc::new(Summary::of_remote(summary)));
            (child, told)
        })
        .collect();
    Told { summary: Arc::new(Summary::of_remote(&answer.room.summary)), children }
}

/// As [`super::super::outsiders::may_know`], from a summary.
async fn may_know(app: &App, outsider: &Outsider, summary: &Summary) -> Result<bool, MatrixError> {
    if matches!(summary.join_rule.as_str(), "public" | "knock" | "knock_restricted") || summary.world_readable
    {
        return Ok(true);
    }
    let Outsider::User { nid, joined } = outsider else { return Ok(false) };
    if summary.allowed_room_ids.iter().any(|room| joined.contains(room)) {
        return Ok(true);
    }
    let Some(room) = app.actors.rooms.find(&summary.room_id).await? else { return Ok(false) };
    let row = members::find(&app.storage.get().await?, room, *nid).await?;
    Ok(row.is_some_and(|row| row.membership == Membership::Invite))
}
