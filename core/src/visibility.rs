//! History visibility: which events a user, or a server, may see.
//!
//! Decided by the room's state at the event, never by its state now. The caller looks that state up.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use serde::Deserialize;

use crate::membership::Membership;
use crate::pdu::Pdu;

/// The `m.room.history_visibility` of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HistoryVisibility {
    /// Everybody may see the events, also guests and users who never joined.
    WorldReadable,
    /// Members may see the events, also those from before they joined. What is assumed when nothing is said.
    #[default]
    Shared,
    /// Members may see the events from their invitation onwards.
    Invited,
    /// Members may see the events from their join onwards.
    Joined,
}

impl HistoryVisibility {
    /// The visibility with this word; a word that is not understood means `shared`.
    pub fn parse(word: &str) -> Self {
        match word {
            "world_readable" => Self::WorldReadable,
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            _ => Self::Shared,
        }
    }

    /// The specification's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorldReadable => "world_readable",
            Self::Shared => "shared",
            Self::Invited => "invited",
            Self::Joined => "joined",
        }
    }

    /// The visibility that the room's `m.room.history_visibility` event sets, if there is one.
    pub fn of_event(event: Option<&Pdu>) -> Self {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: String,
        }

        let content = event.and_then(Pdu::content_as::<Content>);
        content.map_or(Self::Shared, |content| Self::parse(&content.history_visibility))
    }
}

/// The room at an event, as far as it decides who may see that event.
#[derive(Clone, Copy, Debug)]
pub struct AtEvent {
    /// The visibility in the state before the event.
    pub visibility: HistoryVisibility,
    /// The visibility that the event sets, when it is an `m.room.history_visibility` event.
    pub new_visibility: Option<HistoryVisibility>,
    /// The user's membership in the state before the event. `None`: they had none.
    pub membership: Option<Membership>,
    /// The membership that the event sets, when it is the user's own `m.room.member` event.
    pub new_membership: Option<Membership>,
    /// The user joined at any point after the event. True for everybody who is in the room now and was not
    /// at the event.
    pub joined_later: bool,
}

/// Whether the user may see the event.
pub fn is_visible(at: &AtEvent) -> bool {
    let visibilities = [Some(at.visibility), at.new_visibility];
    let memberships = [Some(at.membership.unwrap_or(Membership::Leave)), at.new_membership];
    visibilities.into_iter().flatten().any(|visibility| {
        memberships.into_iter().flatten().any(|membership| allows(visibility, membership, at.joined_later))
    })
}

fn allows(visibility: HistoryVisibility, membership: Membership, joined_later: bool) -> bool {
    match visibility {
        _ if membership == Membership::Join => true,
        HistoryVisibility::WorldReadable => true,
        HistoryVisibility::Shared => joined_later,
        HistoryVisibility::Invited => membership == Membership::Invite,
        HistoryVisibility::Joined => false,
    }
}

/// Whether a server that takes part in the room may have the event: a user of it could see it, given the
/// memberships of the server's users in the state at the event.
///
/// Which of a server's users joined later is not asked: with `shared`, every server in the room may have it.
pub fn is_visible_to_server(
    visibility: HistoryVisibility,
    memberships: impl IntoIterator<Item = Membership>,
) -> bool {
    match visibility {
        HistoryVisibility::WorldReadable | HistoryVisibility::Shared => true,
        HistoryVisibility::Invited | HistoryVisibility::Joined => {
            memberships.into_iter().any(|membership| allows(visibility, membership, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
    use super::Membership::{Ban, Invite, Join, Knock, Leave};
    use super::*;

    fn at(visibility: HistoryVisibility, membership: Option<Membership>, joined_later: bool) -> AtEvent {
        AtEvent { visibility, new_visibility: None, membership, new_membership: None, joined_later }
    }

    #[test]
    fn visibility_and_membership_at_the_event_decide() {
        // (visibility, membership, for one who never joined later, for one who did)
        for (visibility, membership, stranger, newcomer) in [
            (WorldReadable, None, true, true),
            (WorldReadable, Some(Ban), true, true),
            (Shared, None, false, true),
            (Shared, Some(Leave), false, true),
            (Shared, Some(Ban), false, true),
            (Shared, Some(Knock), false, true),
            (Shared, Some(Invite), false, true),
            (Shared, Some(Join), true, true),
            (Invited, None, false, false),
            (Invited, Some(Leave), false, false),
            (Invited, Some(Invite), true, true),
            (Invited, Some(Join), true, true),
            (Joined, None, false, false),
            (Joined, Some(Invite), false, false),
            (Joined, Some(Join), true, true),
        ] {
            let case = format!("{visibility:?} {membership:?}");
            assert_eq!(is_visible(&at(visibility, membership, false)), stranger, "{case}");
            assert_eq!(is_visible(&at(visibility, membership, true)), newcomer, "{case}, joined later");
        }
    }

    #[test]
    fn a_change_of_visibility_is_seen_if_either_side_allows() {
        for (before, after, expected) in [
            (WorldReadable, Joined, true),
            (Joined, WorldReadable, true),
            (Joined, Invited, false),
            (Joined, Shared, false),
        ] {
            let event = AtEvent { new_visibility: Some(after), ..at(before, None, false) };
            assert_eq!(is_visible(&event), expected, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn own_membership_events_are_seen_if_either_side_allows() {
        for (visibility, before, after, expected) in [
            (Joined, None, Join, true),
            (Joined, Some(Join), Leave, true),
            (Joined, Some(Join), Ban, true),
            (Joined, Some(Invite), Leave, false),
            (Invited, None, Invite, true),
            (Invited, Some(Invite), Leave, true),
            (Shared, Some(Leave), Ban, false),
        ] {
            let event = AtEvent { new_membership: Some(after), ..at(visibility, before, false) };
            assert_eq!(is_visible(&event), expected, "{visibility:?}, {before:?} to {after:?}");
        }
    }

    #[test]
    fn words_that_are_not_understood_mean_shared() {
        for visibility in [WorldReadable, Shared, Invited, Joined] {
            assert_eq!(HistoryVisibility::parse(visibility.as_str()), visibility);
        }
        assert_eq!(HistoryVisibility::parse("nobody"), Shared);
        assert_eq!(HistoryVisibility::of_event(None), Shared);
    }

    #[test]
    fn a_server_sees_what_one_of_its_users_could() {
        assert!(is_visible_to_server(Shared, []));
        assert!(is_visible_to_server(Invited, [Leave, Invite]));
        assert!(!is_visible_to_server(Joined, [Leave, Invite]));
        assert!(is_visible_to_server(Joined, [Leave, Join]));
    }
}
