//! The public room directory.

use http::StatusCode;
use myelin_core::{nid::RoomNid, visibility::HistoryVisibility};
use myelin_storage::directory::{self, ListedRoom, OWN_NETWORK, PageFrom, PublicRoomsQuery};
use ruma::{
    OwnedServerName, RoomAliasId, UInt,
    api::{
        client::{
            directory::{
                get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
            },
            room::Visibility,
        },
        error::ErrorKind,
    },
    directory::{Filter, PublicRoomsChunk, PublicRoomsChunkInit, RoomNetwork, RoomTypeFilter},
};

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, token_optional::TokenOptional},
    workflows::{create_room, power},
};

/// The most rooms on a page, and how many there are when nobody asks for less.
const MAX_LIMIT: usize = 500;

/// `GET /_matrix/client/v3/publicRooms`
///
/// Without an access token only where the operator allows that.
pub async fn get_public_rooms(
    app: App,
    req: Ruma<TokenOptional<get_public_rooms::v3::Request>>,
) -> Result<get_public_rooms::v3::Response, MatrixError> {
    if req.user().is_none() && !app.config.room_directory.allow_without_auth {
        return Err(MatrixError::missing_token());
    }
    require_own(&app, req.server.as_ref())?;
    let page = page(&app, req.limit, req.since.as_deref(), &Filter::new(), &RoomNetwork::Matrix).await?;
    let mut response = get_public_rooms::v3::Response::new(page.rooms);
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// `POST /_matrix/client/v3/publicRooms`
pub async fn get_public_rooms_filtered(
    app: App,
    req: Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<get_public_rooms_filtered::v3::Response, MatrixError> {
    require_own(&app, req.server.as_ref())?;
    let page = page(&app, req.limit, req.since.as_deref(), &req.filter, &req.room_network).await?;
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = page.rooms;
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    response.total_room_count_estimate = page.total;
    Ok(response)
}

/// Other servers' directories are theirs to show.
fn require_own(app: &App, server: Option<&OwnedServerName>) -> Result<(), MatrixError> {
    match server {
        Some(server) if *server != app.config.server_name => Err(MatrixError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::Unknown,
            format!("the directory of {server} cannot be reached"),
        )),
        _ => Ok(()),
    }
}

struct Page {
    rooms: Vec<PublicRoomsChunk>,
    next: Option<String>,
    previous: Option<String>,
    total: Option<UInt>,
}

async fn page(
    app: &App,
    limit: Option<UInt>,
    since: Option<&str>,
    filter: &Filter,
    network: &RoomNetwork,
) -> Result<Page, MatrixError> {
    let from = since.map_or(Ok(PageFrom::Start), |since| {
        parse_since(since).ok_or_else(|| MatrixError::invalid_param("since is no token of this server"))
    })?;
    let limit = limit.and_then(|limit| usize::try_from(u64::from(limit)).ok()).filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
    let network = match network {
        RoomNetwork::All => None,
        RoomNetwork::ThirdParty(network) => Some(network.as_str()),
        _ => Some(OWN_NETWORK),
    };
    let room_types: Vec<Option<&str>> = filter.room_types.iter().map(RoomTypeFilter::as_str).collect();
    let query = PublicRoomsQuery {
        network,
        search_term: filter.generic_search_term.as_deref().filter(|term| !term.is_empty()),
        room_types: (!room_types.is_empty()).then_some(room_types),
        from,
        // One more, to know whether there is more.
        limit: i64::try_from(limit + 1).unwrap_or(i64::MAX),
    };
    let client = app.storage.get().await?;
    let mut rooms = directory::public_rooms(&client, &query).await?;
    let total = directory::count_published(&client, network).await?;
    let has_more = rooms.len() > limit;
    let (has_next, has_previous) = match from {
        PageFrom::Start => (has_more, false),
        PageFrom::After(..) => (has_more, true),
        PageFrom::Before(..) => (true, has_more),
    };
    if has_more {
        if matches!(from, PageFrom::Before(..)) {
            rooms.remove(0);
        } else {
            rooms.truncate(limit);
        }
    }
    let token = |letter: char, room: &ListedRoom| {
        format!("{letter}{}_{}", room.summary.joined_members, room.summary.room)
    };
    Ok(Page {
        next: rooms.last().filter(|_| has_next).map(|room| token('n', room)),
        previous: rooms.first().filter(|_| has_previous).map(|room| token('p', room)),
        total: u64::try_from(total).ok().and_then(|total| UInt::try_from(total).ok()),
        rooms: rooms.into_iter().map(chunk).collect(),
    })
}

/// Reads `n<size>_<room>`, the rooms after that one, or `p<size>_<room>`, those before it.
fn parse_since(since: &str) -> Option<PageFrom> {
    let place = |rest: &str| -> Option<(i64, RoomNid)> {
        let (size, room) = rest.split_once('_')?;
        Some((size.parse().ok()?, RoomNid::new(room.parse().ok()?)?))
    };
    if let Some(rest) = since.strip_prefix('n') {
        return place(rest).map(|(size, room)| PageFrom::After(size, room));
    }
    place(since.strip_prefix('p')?).map(|(size, room)| PageFrom::Before(size, room))
}

fn chunk(listed: ListedRoom) -> PublicRoomsChunk {
    let summary = listed.summary;
    let mut chunk = PublicRoomsChunk::from(PublicRoomsChunkInit {
        num_joined_members: u64::try_from(summary.joined_members)
            .ok()
            .and_then(|members| UInt::try_from(members).ok())
            .unwrap_or_default(),
        room_id: listed.room_id,
        world_readable: summary.history_visibility == HistoryVisibility::WorldReadable.as_str(),
        guest_can_join: summary.guest_can_join,
    });
    chunk.canonical_alias = summary.canonical_alias.and_then(|alias| RoomAliasId::parse(&alias).ok());
    chunk.name = summary.name;
    chunk.topic = summary.topic;
    chunk.avatar_url = summary.avatar_url.map(Into::into);
    chunk.join_rule = summary.join_rule.as_str().into();
    chunk.room_type = summary.room_type.map(Into::into);
    chunk
}

/// `GET /_matrix/client/v3/directory/list/room/{roomId}`
pub async fn get_room_visibility(
    app: App,
    req: Ruma<get_room_visibility::v3::Request>,
) -> Result<get_room_visibility::v3::Response, MatrixError> {
    let view = app.actors.rooms.view(&req.room_id).await?;
    let client = app.storage.get().await?;
    let is_published = directory::is_published(&client, view.nid, OWN_NETWORK).await?;
    let visibility = if is_published { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response::new(visibility))
}

/// `PUT /_matrix/client/v3/directory/list/room/{roomId}`
///
/// For those who may set the room's canonical alias, and administrators.
pub async fn set_room_visibility(
    app: App,
    req: Ruma<set_room_visibility::v3::Request>,
) -> Result<set_room_visibility::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let view = app.actors.rooms.view(&req.room_id).await?;
    let may =
        view.is_joined(user.nid) && power::levels(&view).may_send(&user.id, "m.room.canonical_alias", true);
    if !may && !user.is_admin {
        return Err(MatrixError::forbidden("you may not change whether this room is listed"));
    }
    let is_published = match req.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(MatrixError::invalid_param("visibility is neither public nor private")),
    };
    create_room::publish(&app, &req.room_id, is_published).await?;
    Ok(set_room_visibility::v3::Response::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_names_a_place_in_the_list() {
        let room = RoomNid::new(7).expect("positive");
        assert_eq!(parse_since("n12_7"), Some(PageFrom::After(12, room)));
        assert_eq!(parse_since("p12_7"), Some(PageFrom::Before(12, room)));
        for bad in ["", "12_7", "n12", "n12_0", "nx_7", "s1_2"] {
            assert_eq!(parse_since(bad), None, "{bad}");
        }
    }
}
