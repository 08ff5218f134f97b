//! Whose devices or cross-signing keys a client has to look at again, and of whom it need not know any more: for
//! `/sync` and `/keys/changes`.
//!
//! `changed` has those whose keys changed, and those with whom the user has come to share a room: in rooms that they
//! were in, whoever came or was invited; in rooms that they have joined since, everybody. `left` has those with whom
//! they share no room any more. Whether a room is encrypted does not matter, because it may become so; only a large
//! room that is not encrypted is left out when one joins or leaves it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::{
    room::view::RoomView,
    sync::messages::{News, RoomMark},
};
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid, types},
    position::Position,
};
use myelin_storage::encryption::device_lists;
use ruma::OwnedUserId;

use crate::{app::App, error::MatrixError, visibility::membership_in};

/// A room that is not encrypted is left out when it has more members than this, and one joins or leaves it.
const LARGE: usize = 1_000;

/// What is told of others' devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// Those whose keys are to be asked for again.
    pub changed: Vec<OwnedUserId>,
    /// Those who share no room with the user any more.
    pub left: Vec<OwnedUserId>,
}

impl DeviceLists {
    /// There is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}

/// Users, by what may have become of them.
#[derive(Debug, Default)]
struct Candidates {
    come: BTreeSet<UserNid>,
    gone: BTreeSet<UserNid>,
}

impl Candidates {
    fn note(&mut self, user: UserNid, membership: Membership) {
        match membership {
            Membership::Join | Membership::Invite | Membership::Knock => self.come.insert(user),
            Membership::Leave | Membership::Ban => self.gone.insert(user),
        };
    }
}

/// What has changed for the user after `since`; `news` are those of their actor for the same time. No query for new
/// events in which nobody comes or goes.
pub(crate) async fn since(
    app: &App,
    user: UserNid,
    since: Position,
    news: &News,
) -> Result<DeviceLists, MatrixError> {
    let mut candidates = come_and_gone(app, user, since, news).await?;
    if news.device_lists {
        let db = app.storage.get().await?;
        candidates.come.extend(device_lists::changed(&db, user, since).await?);
    }
    // Who is in a shared room has not left, whatever they left.
    candidates.gone.remove(&user);
    if !candidates.gone.is_empty() {
        let gone: Vec<UserNid> = candidates.gone.iter().copied().collect();
        for sharing in device_lists::sharing(&app.storage.get().await?, user, &gone).await? {
            candidates.gone.remove(&sharing);
        }
    }
    candidates.come.retain(|user| !candidates.gone.contains(user));
    let (come, gone): (Vec<UserNid>, Vec<UserNid>) =
        (candidates.come.into_iter().collect(), candidates.gone.into_iter().collect());
    Ok(DeviceLists {
        changed: if come.is_empty() { Vec::new() } else { app.actors.nids.user_ids(&come).await? },
        left: if gone.is_empty() { Vec::new() } else { app.actors.nids.user_ids(&gone).await? },
    })
}

/// Who has come to the user's rooms or gone from them, by rooms that the user has entered or left included.
async fn come_and_gone(
    app: &App,
    user: UserNid,
    since: Position,
    news: &News,
) -> Result<Candidates, MatrixError> {
    let rooms: Vec<(RoomNid, &RoomMark)> = news
        .rooms
        .iter()
        .map(|(room, mark)| (*room, mark))
        .filter(|(_, mark)| matters(mark, since))
        .collect();
    let mut candidates = Candidates::default();
    if rooms.is_empty() {
        return Ok(candidates);
    }
    let views = views(app, &rooms).await?;
    let mut unknown = Vec::new();
    for (room, mark) in rooms {
        let Some(view) = views.get(&room) else { continue };
        let was_in = mark.joined_at.is_some_and(|joined_at| joined_at <= since);
        match (mark.membership == Membership::Join, was_in) {
            (true, true) if view.recent_from <= since => note_recent(view, since, &mut candidates),
            (true, true) => unknown.push(room),
            (true, false) => candidates.come.extend(members(view)),
            (false, _) => candidates.gone.extend(members(view)),
        }
    }
    if !unknown.is_empty() {
        let db = app.storage.get().await?;
        for (_, member, membership) in device_lists::come_and_gone(&db, &unknown, since).await? {
            candidates.note(member, membership);
        }
    }
    candidates.come.remove(&user);
    Ok(candidates)
}

/// Members of the room may have come or gone, or the user has.
fn matters(mark: &RoomMark, since: Position) -> bool {
    match mark.membership {
        Membership::Join => mark.events > since,
        Membership::Leave | Membership::Ban => mark.joined_at.is_some() && mark.membership_position > since,
        Membership::Invite | Membership::Knock => false,
    }
}

async fn views(
    app: &App,
    rooms: &[(RoomNid, &RoomMark)],
) -> Result<HashMap<RoomNid, Arc<RoomView>>, MatrixError> {
    let (mut views, mut missing) = (HashMap::with_capacity(rooms.len()), Vec::new());
    for (room, mark) in rooms {
        match &mark.view {
            Some(view) => drop(views.insert(*room, Arc::clone(view))),
            None => missing.push(*room),
        }
    }
    if !missing.is_empty() {
        views.extend(app.actors.rooms.views(&missing).await?);
    }
    Ok(views)
}

/// Who came and went in the last events, which reach back far enough. Those who only changed their name did not.
fn note_recent(view: &RoomView, since: Position, candidates: &mut Candidates) {
    let mut seen: HashSet<UserNid> = HashSet::new();
    let recent = view.recent.iter().rev().take_while(|event| event.position > since);
    for event in recent.filter(|event| event.type_nid == types::MEMBER) {
        let Some(member) = event.state_key.map(UserNid::from_state_key) else { continue };
        let before = event.prev_content.as_ref().and_then(|replaced| membership_in(&replaced.content));
        let Some(now) = view.membership(member) else { continue };
        if before != Some(now) && seen.insert(member) {
            candidates.note(member, now);
        }
    }
}

/// The room is encrypted, or small enough that everybody in it is told of.
pub(crate) fn is_told_whole(view: &RoomView) -> bool {
    view.joined <= LARGE || view.essential(types::ENCRYPTION).is_some()
}

fn members(view: &RoomView) -> impl Iterator<Item = UserNid> {
    let is_told = is_told_whole(view);
    let joined = view.members.iter().filter(|(_, member)| member.membership == Membership::Join);
    joined.map(|(user, _)| *user).filter(move |_| is_told)
}
