//! Spaces: the tree of rooms below one, for users and for other servers, and the summary of a single room.
//!
//! A page of the tree is found by walking it again and passing over what earlier pages showed: the token holds the
//! place in the walk and nothing is kept for it. What other servers said is remembered for a while.

pub mod child;
pub mod elsewhere;
pub mod summary;

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedRoomId, OwnedServerName, RoomId};

use self::{
    child::Child,
    summary::{SpaceRoom, Summary},
};
use super::outsiders::{self, Outsider};
use crate::{app::App, error::MatrixError, sessions::User};

/// The most rooms on a page, and how many there are when nobody asks for less.
const MAX_PAGE: usize = 50;
/// How far down the tree is followed when nobody asks for less.
const MAX_DEPTH: u64 = 3;
/// How many rooms are looked at before the tree counts as walked.
const MAX_ROOMS: usize = 2000;

/// What part of the tree is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Only rooms that their space suggests.
    pub suggested_only: bool,
    /// How far down.
    pub max_depth: u64,
}

impl Wanted {
    /// With what is left open filled in, and bounded.
    pub fn new(suggested_only: bool, max_depth: Option<u64>) -> Self {
        Self { suggested_only, max_depth: max_depth.unwrap_or(MAX_DEPTH) }
    }
}

/// A page of the tree.
#[derive(Debug)]
pub struct Page {
    /// Its rooms.
    pub rooms: Vec<SpaceRoom>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<String>,
}

/// A room that the walk has still to look at.
struct Step {
    room_id: OwnedRoomId,
    depth: u64,
    via: Vec<OwnedServerName>,
    /// What the server that told of the space said of this room.
    told: Option<Arc<Summary>>,
}

/// A page of the tree below the room, depth first. Refused where the user may not know of the room.
pub async fn page(
    app: &App,
    by: &User,
    room_id: &RoomId,
    wanted: Wanted,
    from: Option<&str>,
    limit: Option<usize>,
) -> Result<Page, MatrixError> {
    let skip = match from.filter(|from| !from.is_empty()) {
        None => 0,
        Some(token) => parse_token(token, wanted)
            .ok_or_else(|| MatrixError::invalid_param("from is no token for this request"))?,
    };
    let limit = limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let outsider = Outsider::user(app, by.nid).await?;
    let mut rooms = Vec::new();
    let mut seen = HashSet::new();
    let mut steps = vec![Step { room_id: room_id.to_owned(), depth: 0, via: Vec::new(), told: None }];
    let mut found = 0;
    while let Some(step) = steps.pop() {
        if seen.len() >= MAX_ROOMS || !seen.insert(step.room_id.clone()) {
            continue;
        }
        let looked = look(app, &outsider, &step, wanted.suggested_only).await?;
        let Some((room, children)) = looked else {
            if step.depth == 0 {
                return Err(MatrixError::forbidden("you may not know of this room"));
            }
            continue;
        };
        if found == skip + limit {
            return Ok(Page { rooms, next: Some(token(found, wanted)) });
        }
        found += 1;
        if found > skip {
            rooms.push(room);
        }
        if step.depth < wanted.max_depth {
            // The last one pushed is looked at first.
            steps.extend(children.into_iter().rev().map(|(child, told)| Step {
                room_id: child.room_id,
                depth: step.depth + 1,
                via: child.via,
                told,
            }));
        }
    }
    Ok(Page { rooms, next: None })
}

type Looked = (SpaceRoom, Vec<(Child, Option<Arc<Summary>>)>);

/// What the outsider may know of the room, and its children. What this server knows itself counts before what others
/// say.
async fn look(
    app: &App,
    outsider: &Outsider,
    step: &Step,
    suggested_only: bool,
) -> Result<Option<Looked>, MatrixError> {
    if let Some(view) = outsiders::resident(app, &step.room_id).await? {
        if !outsiders::may_know_one(app, outsider, &view).await? {
            return Ok(None);
        }
        let children = child::of_view(app, &view).await?;
        let room = SpaceRoom::new(Summary::of_view(&view), &children);
        let children = children.into_iter().filter(|child| child.suggested || !suggested_only);
        return Ok(Some((room, children.map(|child| (child, None)).collect())));
    }
    elsewhere::look(app, outsider, &step.room_id, &step.via, step.told.as_ref(), suggested_only).await
}

/// The summary of one room, as this outsider may have it.
pub async fn summary(
    app: &App,
    outsider: &Outsider,
    room_id: &RoomId,
    via: &[OwnedServerName],
) -> Result<Summary, MatrixError> {
    let step = Step { room_id: room_id.to_owned(), depth: 0, via: via.to_vec(), told: None };
    let looked = look(app, outsider, &step, false).await?;
    let (room, _) = looked.ok_or_else(|| MatrixError::not_found("there is no such room, or it is hidden"))?;
    Ok(room.summary)
}

/// What another server may know of a room of ours and of its children that we know.
#[derive(Debug)]
pub struct ForServer {
    /// The room.
    pub room: SpaceRoom,
    /// Its children, as far as the server may know of them.
    pub children: Vec<Summary>,
    /// Those of which it may not.
    pub inaccessible: Vec<OwnedRoomId>,
}

/// The room and its children for another server. `None`: it may not know of the room, or we do not.
pub async fn for_server(
    app: &App,
    server: OwnedServerName,
    room_id: &RoomId,
    suggested_only: bool,
) -> Result<Option<ForServer>, MatrixError> {
    let outsider = Outsider::Server(server);
    let Some(view) = outsiders::resident(app, room_id).await? else { return Ok(None) };
    if !outsiders::may_know_one(app, &outsider, &view).await? {
        return Ok(None);
    }
    let mut children = child::of_view(app, &view).await?;
    let room = SpaceRoom::new(Summary::of_view(&view), &children);
    children.retain(|child| child.suggested || !suggested_only);
    let views = child::resident_views(app, &children).await?;
    let known = outsiders::may_know(app, &outsider, &views.iter().collect::<Vec<_>>()).await?;
    let mut answer = ForServer { room, children: Vec::new(), inaccessible: Vec::new() };
    for (view, known) in views.iter().zip(known) {
        if known {
            answer.children.push(Summary::of_view(view));
        } else {
            answer.inaccessible.push(view.room_id.clone());
        }
    }
    Ok(Some(answer))
}

fn token(place: usize, wanted: Wanted) -> String {
    format!("h{place}_{}_{}", wanted.max_depth, u8::from(wanted.suggested_only))
}

/// Reads a token that was made for the same request; the place in the walk.
fn parse_token(token: &str, wanted: Wanted) -> Option<usize> {
    let place = token.strip_prefix('h')?.split_once('_')?.0.parse().ok()?;
    (self::token(place, wanted) == token && place < MAX_ROOMS).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_one_kind_of_request() {
        let wanted = Wanted::new(true, Some(2));
        assert_eq!(parse_token(&token(17, wanted), wanted), Some(17));
        assert_eq!(parse_token(&token(17, wanted), Wanted::new(false, Some(2))), None);
        assert_eq!(parse_token(&token(17, wanted), Wanted::new(true, None)), None);
        for bad in ["", "h", "h_2_1", "h-1_2_1", "17", "h99999999_2_1", "h017_2_1"] {
            assert_eq!(parse_token(bad, wanted), None, "{bad}");
        }
    }
}
