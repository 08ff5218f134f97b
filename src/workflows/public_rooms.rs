//! Lists of public rooms: that of this server, for its users and for other servers, and those of other servers.

use myelin_core::{nid::RoomNid, visibility::HistoryVisibility};
use myelin_storage::directory::{self, ListedRoom, OWN_NETWORK, PageFrom, PublicRoomsQuery};
use ruma::{
    RoomAliasId, ServerName, UInt,
    api::federation::directory::get_public_rooms_filtered::v1 as get_public_rooms_filtered,
    directory::{Filter, PublicRoomsChunk, PublicRoomsChunkInit, RoomNetwork, RoomTypeFilter},
};

use crate::{app::App, error::MatrixError};

/// The most rooms on a page, and how many there are when nobody asks for less.
const MAX_LIMIT: usize = 500;

/// A page of the list.
#[derive(Debug)]
pub struct Page {
    /// Its rooms, the largest first.
    pub rooms: Vec<PublicRoomsChunk>,
    /// Where the next page begins. `None`: there is none.
    pub next: Option<String>,
    /// Where the page before it ends. `None`: there is none.
    pub previous: Option<String>,
    /// How many rooms the list has.
    pub total: Option<UInt>,
}

/// A page of a network's list, from a token that an earlier page gave.
pub async fn page(
    app: &App,
    limit: Option<UInt>,
    since: Option<&str>,
    filter: &Filter,
    network: &RoomNetwork,
) -> Result<Page, MatrixError> {
    let from = since.filter(|since| !since.is_empty()).map_or(Ok(PageFrom::Start), |since| {
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

/// A page of another server's list. Tokens are that server's.
pub async fn remote_page(
    app: &App,
    server: &ServerName,
    limit: Option<UInt>,
    since: Option<&str>,
    filter: &Filter,
    network: &RoomNetwork,
) -> Result<Page, MatrixError> {
    let mut request = get_public_rooms_filtered::Request::new();
    request.limit = limit;
    request.since = since.map(ToOwned::to_owned);
    request.filter = filter.clone();
    request.room_network = network.clone();
    let told = app.remote.request(server, request).await?;
    Ok(Page {
        rooms: told.chunk,
        next: told.next_batch,
        previous: told.prev_batch,
        total: told.total_room_count_estimate,
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
