//! Tokens as clients hold them: where they are in everything (`s..`), and where they are in one room's timeline (`t..`).
//!
//! Clients treat both as opaque. Both survive restarts, and every endpoint that reads a room's timeline takes either.

use myelin_actors::sync::messages::SyncPoint;
use myelin_core::position::{Position, TimelinePlace};

/// The `next_batch` that stands for this point.
pub fn sync_token(point: SyncPoint) -> String {
    format!("s{}_{}", point.position, point.ephemeral)
}

/// The `next_batch` of an answer that had only the first of the messages for its device, up to there.
pub fn sync_token_with_messages(point: SyncPoint, messages: Position) -> String {
    format!("{}_{messages}", sync_token(point))
}

/// The point that a `since` names; `None` when it is no token of this server.
pub fn parse_sync_token(token: &str) -> Option<SyncPoint> {
    let (position, ephemeral) = token.strip_prefix('s')?.split_once('_')?;
    let ephemeral = ephemeral.split_once('_').map_or(ephemeral, |(ephemeral, _)| ephemeral);
    let point = SyncPoint { position: Position(position.parse().ok()?), ephemeral: ephemeral.parse().ok()? };
    (point.position >= Position::START).then_some(point)
}

/// Up to where the device that has this `since` has got the messages for it; `None` when it is no token of this server.
pub fn parse_messages_since(token: &str) -> Option<Position> {
    let point = parse_sync_token(token)?;
    match token.splitn(3, '_').nth(2) {
        None => Some(point.position),
        Some(messages) => {
            let messages = Position(messages.parse().ok()?);
            (Position::START..=point.position).contains(&messages).then_some(messages)
        }
    }
}

/// The token of the boundary right after this place: what stands at or before the place is on the older side.
pub fn timeline_token(place: TimelinePlace) -> String {
    format!("t{}_{}", place.anchor, place.offset)
}

/// The token of the boundary right before this place.
pub fn timeline_token_before(place: TimelinePlace) -> String {
    timeline_token(just_before(place))
}

/// The last place that an event before this one could have.
pub fn just_before(place: TimelinePlace) -> TimelinePlace {
    match place.offset.checked_sub(1) {
        Some(offset) => TimelinePlace { anchor: place.anchor, offset },
        None => TimelinePlace::live(Position(place.anchor.0.saturating_sub(1))),
    }
}

/// The boundary that a token of either kind names, as the last place on its older side; `None` when it is no token of
/// this server.
pub fn parse_boundary(token: &str) -> Option<TimelinePlace> {
    if let Some(point) = parse_sync_token(token) {
        return Some(TimelinePlace::live(point.position));
    }
    let (anchor, offset) = token.strip_prefix('t')?.split_once('_')?;
    Some(TimelinePlace { anchor: Position(anchor.parse().ok()?), offset: offset.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        let point = SyncPoint { position: Position(42), ephemeral: 1_700_000_000_000 };
        assert_eq!(parse_sync_token(&sync_token(point)), Some(point));
        let place = TimelinePlace { anchor: Position(42), offset: -3 };
        assert_eq!(parse_boundary(&timeline_token(place)), Some(place));
        assert_eq!(parse_boundary(&sync_token(point)), Some(TimelinePlace::live(Position(42))));
    }

    #[test]
    fn token_says_how_far_the_messages_went() {
        let point = SyncPoint { position: Position(42), ephemeral: 7 };
        assert_eq!(parse_messages_since(&sync_token(point)), Some(Position(42)));
        let token = sync_token_with_messages(point, Position(40));
        assert_eq!(parse_messages_since(&token), Some(Position(40)));
        assert_eq!(parse_sync_token(&token), Some(point));
        for token in ["s42_7_43", "s42_7_-1", "s42_7_x", "s42_7_", "s42_7_1_2"] {
            assert_eq!(parse_messages_since(token), None, "{token}");
        }
    }

    #[test]
    fn other_strings_are_no_tokens() {
        for token in ["", "s", "s1", "s-1_0", "s1_x", "x1_2", "1_2", "t1", "t_", "t99999999999999999999_0"] {
            assert_eq!(parse_sync_token(token), None, "{token}");
            assert_eq!(parse_boundary(token), None, "{token}");
        }
    }

    #[test]
    fn boundary_before_a_place_excludes_it() {
        let place = TimelinePlace::live(Position(7));
        let before = parse_boundary(&timeline_token_before(place)).expect("our token");
        assert!(before < place);
        assert!(before > TimelinePlace::live(Position(6)));
    }
}
