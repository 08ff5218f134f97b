//! Memberships of a room, with the numbers that stand for them in the database.

use serde::Deserialize;

use crate::pdu::Pdu;

/// What a user is to a room. A user without a membership event counts as having left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Membership {
    /// The user was invited.
    Invite = 1,
    /// The user is in the room.
    Join = 2,
    /// The user asked to be invited.
    Knock = 3,
    /// The user left, was kicked, was unbanned, or was never there.
    Leave = 4,
    /// The user is banned.
    Ban = 5,
}

impl Membership {
    /// Every membership.
    pub const ALL: [Self; 5] = [Self::Invite, Self::Join, Self::Knock, Self::Leave, Self::Ban];

    /// The number that stands for it in the database.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The membership that this number stands for.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|membership| membership.code() == code)
    }

    /// The specification's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Leave => "leave",
            Self::Ban => "ban",
        }
    }

    /// The membership with this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|membership| membership.as_str() == word)
    }

    /// The membership that an `m.room.member` event gives. `None` for other events and unknown words.
    pub fn of_event(event: &Pdu) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            membership: String,
        }

        if event.event_type() != "m.room.member" || !event.is_state() {
            return None;
        }
        event.content_as::<Content>().and_then(|content| Self::parse(&content.membership))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_lead_back() {
        for membership in Membership::ALL {
            assert_eq!(Membership::from_code(membership.code()), Some(membership));
            assert_eq!(Membership::parse(membership.as_str()), Some(membership));
        }
        assert_eq!(Membership::from_code(0), None);
        assert_eq!(Membership::parse("JOIN"), None);
    }
}
